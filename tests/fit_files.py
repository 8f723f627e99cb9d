"""Commands, and working folders for them: of a small world, or without any audio, a table of labels and caches."""

import hashlib
import json
import shutil
import zlib

import numpy as np
import pandas as pd
import soundfile
from click.testing import CliRunner

from birdemb.cache import EmbeddingCache
from birdemb.cli import main
from birdemb.fitting import fit
from birdemb.listing import EmbeddedRecording, Listing, SkippedRecording
from birdemb.workspace import Workspace

CLASSES = ("amecro", "norcar", "wooduc")
DIM = 48
# No such encoder is known to this version, so that nobody asks what it knows by itself.
IDENTITY = {"encoder": "first", "dim": DIM, "window": 5.0, "hop": 5.0}
FAST = {"lgbm": {"n_estimators": 8, "num_leaves": 4, "feature_fraction": 1.0}, "lr": {"C": 1e-3}}


def run(*arguments, status=0):
    """Run a command; an error that is none of birdemb's own fails the test."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return result.output


def refuse(*arguments, status=1):
    """Run a command that cannot be done, and give the one line that says why."""
    said = run(*arguments, status=status)
    (line,) = [line for line in said.splitlines() if line.startswith("Error: ")]
    assert line.endswith((".", "?")), line
    return line


def embed(*arguments, status=0):
    return run("embed", *arguments, "--encoder", "melspec", "--jobs", 1, status=status)


def write_noise(path, seconds, seed=0, rate=32_000):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.1, round(seconds * rate))
    soundfile.write(path, noise, rate)


def copy_world(world, place):
    """An empty folder but for data/, soundscapes/ and truth.csv, as the README has it."""
    place.mkdir()
    shutil.copytree(world.data, place / "data")
    shutil.copytree(world.soundscapes, place / "soundscapes")
    shutil.copy(world.truth, place / "truth.csv")
    return place


def table_of(per_class=4, classes=CLASSES, **columns):
    """A table of recordings, some of each class; `columns` are values for each row, or one for all."""
    names = [f"{label}/{number}.ogg" for label in classes for number in range(per_class)]
    labels = [label for label in classes for _ in range(per_class)]
    return pd.DataFrame({"filename": names, "primary_label": labels, "secondary_labels": "[]"}).assign(**columns)


def content_of(name):
    return hashlib.sha256(name.encode()).hexdigest()


def hear(name, label, encoder="first", windows=3, dim=DIM, strength=1.5):
    """What an encoder hears: noise of its own for each recording, and four features that its class raises."""
    X = np.random.default_rng(zlib.crc32(f"{encoder} {name}".encode())).exponential(size=(windows, dim))
    place = 4 * (zlib.crc32(label.encode()) % max(1, dim // 4))
    X[:, place : place + 4] += strength
    return X.astype(np.float32)


def write_workspace(folder, table, identities=(IDENTITY,), *, windows=3, heard=None, skipped=None, logits=hear):
    """Write train.csv, and for each encoder a cache and a listing.

    `heard` has the embeddings of some recordings, instead of `hear`; `skipped` the names of those that an encoder left
    out, by its name.
    """
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    table.to_csv(data / "train.csv", index=False)
    place = Workspace(folder / ".birdemb")
    for identity in identities:
        encoder = identity["encoder"]
        left_out = (skipped or {}).get(encoder, ())
        entries = []
        with EmbeddingCache(place.cache, identity).writer() as writer:
            for name, label in zip(table["filename"], table["primary_label"], strict=True):
                if name in left_out:
                    continue
                X = (heard or {}).get(name)
                X = hear(name, label, encoder, windows, identity["dim"]) if X is None else X
                own = logits(name, label, encoder, len(X), identity["logits"]) if identity.get("logits") else None
                writer.add(content_of(name), X, seconds=5.0 * len(X), logits=own)
                entries.append(EmbeddedRecording(name, content_of(name), len(X), 5.0 * len(X)))
        entries.sort(key=lambda entry: entry.recording)
        problems = [SkippedRecording(name, "encode", "too loud") for name in left_out]
        place.remember_listing(Listing(str(data), identity, entries, problems, str(data / "train.csv")))
    return place


def fit_quickly(place, head="lr", **settings):
    """Fit small heads on a working folder."""
    names = head.split(",") if isinstance(head, str) else head
    parameters = {name: {**FAST.get(name, {})} for name in names}
    for name, own in settings.pop("parameters", {}).items():
        parameters[name] = {**parameters.get(name, {}), **own}
    return fit(head, workspace=place.folder, jobs=1, **{"parameters": parameters, **settings})


def strict_json(text):
    """Read JSON that has no NaN or infinity."""

    def refuse_constant(name):
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse_constant)
