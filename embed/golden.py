"""Golden embeddings: what an encoder made of known sounds when it was known to be right.

They lie in files ``<encoder>.golden.toml``: among birdemb's cards, of the weights that its authors had, and in the
folder of weights, of those that users have recorded.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.embed.card import Card
from birdemb.embed.encoder import Encoder
from birdemb.embed.places import user_folder, weights_folder
from birdemb.embed.weights import name_in_commands
from birdemb.errors import InputError
from birdemb.storage import replace_atomically

__all__ = ["Golden", "GoldenRecord", "find_differences", "make_record", "read_golden", "write_golden"]

FORMAT = 1
_FIRST = 8
_DECIMALS = 5

_MOST_DIFFERENCE = 1e-2
"""Of a golden value, in units of the embedding's root mean square. Other processors and versions of a framework round
otherwise: BirdNET's answer to the sweep, in most bands of which there is nothing but rounding, by up to 0.007 of it in
LiteRT (0.005 of 0.74, the limit in tests/test_birdnet.py)."""


@dataclass(frozen=True)
class Golden:
    """What is kept of an embedding.

    Parameters
    ----------
    norm : float
        Its Euclidean norm.
    first : tuple of float
        Its first values.
    """

    norm: float
    first: tuple[float, ...]


@dataclass(frozen=True)
class GoldenRecord:
    """What an encoder with certain weights made of each sound.

    Parameters
    ----------
    weights_sha256 : str
        Empty for an encoder without weights.
    identity : dict
        The encoder's, but for what is None in it.
    signals : dict of Golden
        By the names of the sounds of `birdemb.embed.signals.make_signals`.
    place : Path, optional
        The file that it was read from; None for one that birdemb brings.
    """

    weights_sha256: str
    identity: dict[str, Any]
    signals: dict[str, Golden]
    place: Path | None = None


def make_record(encoder: Encoder, rows: Mapping[str, NDArray[np.float32]]) -> GoldenRecord:
    """Make a record of embeddings by the names of the sounds, each of shape (dim,)."""
    signals = {}
    for name, row in rows.items():
        first = tuple(round(float(value), _DECIMALS) for value in row[:_FIRST])
        signals[name] = Golden(round(float(np.linalg.norm(row)), _DECIMALS), first)
    return GoldenRecord(encoder.weights_sha256 or "", _known(encoder.identity), signals)


def find_differences(record: GoldenRecord, encoder: Encoder, rows: Mapping[str, NDArray[np.float32]]) -> str:
    """Say how embeddings differ from those that were recorded.

    Parameters
    ----------
    record : GoldenRecord
        Of the same weights.
    encoder : Encoder
    rows : mapping of ndarray of shape (dim,), float32
        What it makes of each sound.

    Returns
    -------
    str
        Empty if they do not, beyond rounding.
    """
    identity = _known(encoder.identity)
    for key, value in record.identity.items():
        if identity.get(key) != value:
            return f"they were recorded with {key} = {value!r}, and the encoder has {identity.get(key)!r}"
    for name, golden in record.signals.items():
        row = rows.get(name)
        if row is None:
            return f"they were recorded of a sound {name!r} that this version does not make"
        scale = golden.norm / np.sqrt(len(row)) or 1.0
        got = make_record(encoder, {name: row}).signals[name]
        worst = np.abs(np.subtract(got.first, golden.first)).max() / scale
        if worst > _MOST_DIFFERENCE or abs(got.norm - golden.norm) > _MOST_DIFFERENCE * golden.norm:
            return (
                f"of the sound {name!r} it gives {_list(got.first[:4])} ... with a norm of {got.norm:.4f}, "
                f"expected {_list(golden.first[:4])} ... with a norm of {golden.norm:.4f}"
            )
    return ""


def read_golden(card: Card, weights_sha256: str) -> GoldenRecord | None:
    """Read what was recorded of an encoder with certain weights: by birdemb's authors, else on this machine.

    Raises
    ------
    InputError
        If a file is not what was written.
    """
    brought = files("birdemb.models") / _file_name(card)
    places: list[Any] = [folder / _file_name(card) for folder in dict.fromkeys((weights_folder(), user_folder()))]
    if card.place is None:
        places.insert(0, brought)
    for place in places:
        if not place.is_file():
            continue
        for record in _parse(place.read_text(encoding="utf-8"), place, card):
            if record.weights_sha256 == weights_sha256:
                return record if place is not brought else replace(record, place=None)
    return None


def write_golden(card: Card, record: GoldenRecord) -> Path:
    """Write a record into the folder of weights; those of other weights are kept.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If it cannot be written, or what is there is not what was written.
    """
    path = weights_folder() / _file_name(card)
    kept = _parse(path.read_text(encoding="utf-8"), path, card) if path.is_file() else []
    records = [old for old in kept if old.weights_sha256 != record.weights_sha256] + [record]
    with replace_atomically(path) as temporary:
        temporary.write_text(_format(card, records), encoding="utf-8")
    return path


def _file_name(card: Card) -> str:
    return f"{card.name}.golden.toml"


def _known(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in identity.items() if value is not None}


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def _format(card: Card, records: list[GoldenRecord]) -> str:
    lines = [
        f"# Embeddings of known sounds. Written by: birdemb encoders verify {card.name} --record",
        f"format = {FORMAT}",
        f"encoder = {json.dumps(card.name)}",
    ]
    for record in records:
        lines += ["", "[[records]]", f"weights_sha256 = {json.dumps(record.weights_sha256)}", "", "[records.identity]"]
        lines += [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in record.identity.items()]
        for name, golden in record.signals.items():
            lines += ["", f"[records.signals.{json.dumps(name)}]", f"norm = {golden.norm}"]
            lines.append(f"first = {json.dumps(golden.first)}")
    return "\n".join(lines) + "\n"


def _parse(text: str, place: Any, card: Card) -> list[GoldenRecord]:  # noqa: ANN401 - a path, or one in the package
    try:
        entries = tomllib.loads(text)
        if entries["format"] != FORMAT or entries["encoder"] != card.name:
            raise ValueError(f"format {entries['format']!r} of {entries['encoder']!r}")
        return [
            GoldenRecord(
                str(record["weights_sha256"]),
                dict(record["identity"]),
                {
                    name: Golden(float(golden["norm"]), tuple(map(float, golden["first"])))
                    for name, golden in record["signals"].items()
                },
                Path(str(place)),
            )
            for record in entries["records"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # ValueError: of TOML, too
        raise InputError(
            f"{place} holds no golden embeddings of {card.name} in format {FORMAT} ({error}). Delete it and record "
            f"them again: birdemb encoders verify {name_in_commands(card)} --record"
        ) from error
