"""A folder in BirdCLEF's layout, filled with invented animals whose every song is known."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import soundfile

from birdemb.errors import InputError
from birdemb.storage import read_json, write_json
from birdemb.synthesis.scenes import Scene, mix_focal, mix_soundscape
from birdemb.synthesis.songs import SAMPLE_RATE, SPECIES, Species

__all__ = ["Size", "World", "make_world"]

Size = Literal["small", "full", "imbalanced"]

# Raised whenever the same seed would no longer give the same audio and tables.
_VERSION = 1
_MARKER = "world.json"
_SOUNDSCAPE_S = 60
_WINDOW_S = 5
_LEAST_SONG_S = 0.5
_TABLE_COLUMNS = (
    "primary_label",
    "secondary_labels",
    "type",
    "filename",
    "collection",
    "rating",
    "url",
    "latitude",
    "longitude",
    "scientific_name",
    "common_name",
    "author",
    "license",
)


@dataclass(frozen=True)
class World:
    """Where the parts of a world lie, and how many there are."""

    data: Path
    """Folder of ``train.csv`` and ``train_audio/``."""
    train_table: Path
    soundscapes: Path
    """Folder of the soundscapes."""
    truth: Path
    """Table of ``row_id`` and one 0/1 column per class."""
    sample_submission: Path
    classes: tuple[str, ...]
    """Sorted."""
    n_recordings: int
    n_soundscapes: int


@dataclass(frozen=True)
class _Plan:
    """How many recordings each class gets, from the commonest to the rarest, and how long they are."""

    recordings: tuple[int, ...]
    shortest_s: float
    longest_s: float
    soundscapes: int
    singers: tuple[int, int]
    """Fewest and most species of a soundscape."""


_PLANS: dict[str, _Plan] = {
    "full": _Plan((14, 11, 9, 8, 6, 5, 5, 4, 3, 3, 2, 2), 3.0, 30.0, 12, (3, 5)),
    "small": _Plan((4, 3, 2, 2), 3.0, 9.0, 2, (3, 3)),
    "imbalanced": _Plan((150, 90, 60, 40, 25, 15, 10, 6, 4, 3, 2, 2), 3.0, 30.0, 36, (3, 5)),
}


def make_world(folder: Path, *, seed: int = 0, size: Size = "full") -> World:
    """Write focal recordings, soundscapes and their tables, all synthetic.

    The same seed and size always give the same tables and the same decoded samples. (The bytes of
    the audio files differ: libsndfile draws the serial number of each Ogg stream from the clock.)
    A folder that holds this very world already is left as it is; one whose making was interrupted
    is made again.

    Parameters
    ----------
    folder : Path
        A new or empty folder, or one that an earlier call with the same `seed` and `size` filled.
    seed : int
        Not negative.
    size : {"small", "full", "imbalanced"}
        ``"small"`` for tests: 4 classes, 11 recordings, 2 soundscapes. ``"full"``: 12 classes,
        72 recordings, 12 soundscapes. ``"imbalanced"``: 12 classes, 407 recordings, from 2 to 150 of a
        class, and 36 soundscapes.

    Returns
    -------
    World
        The paths and counts.

    Raises
    ------
    InputError
        If `seed` or `size` is not allowed, if the folder holds anything but this world, or if it
        cannot be written to.

    Examples
    --------
    >>> import tempfile
    >>> world = make_world(Path(tempfile.mkdtemp()), size="small")
    >>> world.classes
    ('buzgra1', 'grtril1', 'podfro1', 'twowhi1')
    """
    if size not in get_args(Size):
        raise InputError(f"The size of a world is one of {', '.join(map(repr, get_args(Size)))}, not {size!r}.")
    if seed < 0:
        raise InputError(f"The seed of a world is 0 or more, not {seed}.")
    plan = _PLANS[size]
    species = SPECIES[: len(plan.recordings)]
    world = World(
        data=folder / "data",
        train_table=folder / "data" / "train.csv",
        soundscapes=folder / "soundscapes",
        truth=folder / "truth.csv",
        sample_submission=folder / "sample_submission.csv",
        classes=tuple(sorted(animal.label for animal in species)),
        n_recordings=sum(plan.recordings),
        n_soundscapes=plan.soundscapes,
    )
    identity = {"kind": "birdemb synthetic world", "version": _VERSION, "seed": seed, "size": size}
    if _is_complete(folder, identity):
        return world
    # The marker claims the folder first: whatever lies in it after an interruption is ours to replace.
    write_json(folder / _MARKER, identity | {"complete": False})
    try:
        _write_recordings(world, plan, species, seed)
        _write_soundscapes(world, plan, species, seed)
    except OSError as error:
        raise InputError(f"Cannot write the world in {folder}: {error}. Choose another folder.") from error
    write_json(folder / _MARKER, identity | {"complete": True})
    return world


def _is_complete(folder: Path, identity: dict[str, object]) -> bool:
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise InputError(f"{folder} is a file. Choose a new or empty folder for the world.")
    marker = folder / _MARKER
    if marker.is_file():
        found = read_json(marker, "Choose a new or empty folder for the world.")
        if isinstance(found, dict) and {key: found.get(key) for key in identity} == identity:
            return found.get("complete") is True
        raise InputError(
            f"{marker} belongs to another world (wanted: seed {identity['seed']}, size {identity['size']}, "
            f"version {identity['version']}). Choose a new or empty folder, or delete that world first."
        )
    if any(folder.iterdir()):
        raise InputError(f"{folder} holds other files. Choose a new or empty folder for the world.")
    return False


def _write_recordings(world: World, plan: _Plan, species: tuple[Species, ...], seed: int) -> None:
    rows: list[list[object]] = []
    for animal, count in zip(species, plan.recordings, strict=True):
        for _ in range(count):
            number = len(rows) + 1
            rng = np.random.default_rng([seed, 0, number])
            others = [other for other in species if other is not animal]
            listed = rng.random() < 0.25
            neighbours = (others[rng.integers(len(others))],) if listed else ()
            scene = mix_focal(animal, neighbours, _draw_length(plan, rng), rng)
            filename = f"{animal.label}/SYN{number:06d}.ogg"
            _write_ogg(world.data / "train_audio" / filename, scene)
            sung = {label for label, _, _ in scene.songs}
            secondary = [other.label for other in neighbours if other.label in sung]
            latitude, longitude = rng.uniform([-4.0, -74.0], [6.0, -62.0])
            rows.append(
                [
                    animal.label,
                    str(secondary),
                    animal.sound,
                    filename,
                    "SYN",
                    rng.integers(5, 11) / 2,
                    "",
                    f"{latitude:.4f}",
                    f"{longitude:.4f}",
                    animal.scientific_name,
                    animal.common_name,
                    f"Recordist {rng.integers(1, 9)}",
                    "CC0 1.0",
                ]
            )
    rows.sort(key=lambda row: str(row[3]))
    _write_table(world.train_table, _TABLE_COLUMNS, rows)


def _write_soundscapes(world: World, plan: _Plan, species: tuple[Species, ...], seed: int) -> None:
    rng = np.random.default_rng([seed, 1])
    truth: list[list[object]] = []
    waiting: list[Species] = []
    for number in range(1, plan.soundscapes + 1):
        singers: list[Species] = []
        for _ in range(rng.integers(plan.singers[0], plan.singers[1] + 1)):
            # Everybody sings once before anybody sings again: each class gets into the truth.
            if not any(animal not in singers for animal in waiting):
                waiting += [species[index] for index in rng.permutation(len(species))]
            chosen = next(animal for animal in waiting if animal not in singers)
            waiting.remove(chosen)
            singers.append(chosen)
        scene = mix_soundscape(tuple(singers), _SOUNDSCAPE_S, np.random.default_rng([seed, 2, number]))
        name = f"soundscape_{1_000_000 + number}"
        _write_ogg(world.soundscapes / f"{name}.ogg", scene)
        for end, present in _label_windows(scene, world.classes):
            truth.append([f"{name}_{end}", *present])
    columns = ("row_id", *world.classes)
    _write_table(world.truth, columns, truth)
    even = [repr(1 / len(world.classes))] * len(world.classes)
    _write_table(world.sample_submission, columns, [[row[0], *even] for row in truth])


def _label_windows(scene: Scene, classes: tuple[str, ...]) -> list[tuple[int, list[int]]]:
    per_second = 100
    sung = np.zeros((len(classes), _SOUNDSCAPE_S * per_second), dtype=bool)
    for label, start, end in scene.songs:
        sung[classes.index(label), round(start * per_second) : round(end * per_second)] = True
    sums = sung.reshape(len(classes), -1, _WINDOW_S * per_second).sum(axis=2)
    present = (sums >= _LEAST_SONG_S * per_second).astype(int)
    return [((window + 1) * _WINDOW_S, column.tolist()) for window, column in enumerate(present.T)]


def _draw_length(plan: _Plan, rng: np.random.Generator) -> float:
    seconds = float(np.exp(rng.uniform(np.log(plan.shortest_s), np.log(plan.longest_s))))
    # A recording that ends with a window would hide what happens to tails.
    return seconds - 0.4 if min(seconds % _WINDOW_S, -seconds % _WINDOW_S) < 0.2 else seconds


def _write_ogg(path: Path, scene: Scene) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, format="OGG", subtype="VORBIS") as file:
        # libvorbis keeps a whole write on its stack: a long one crashes it.
        for start in range(0, len(scene.audio), SAMPLE_RATE):
            file.write(scene.audio[start : start + SAMPLE_RATE])


def _write_table(path: Path, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
