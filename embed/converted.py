"""Networks that were converted to OpenVINO, on disk: found and checked.

A converted network is a folder beside the weights that it was made of, ``<encoder>-openvino``: the mel filters of its
front end; its trunk, which makes embeddings of log-mels, in OpenVINO's two files; and a JSON file that says which
weights it was made of and holds the hashes of the others. With it neither these weights nor the framework that they are
for is needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from birdemb.embed.card import Card
from birdemb.embed.pins import Pin, read_pin
from birdemb.embed.places import user_folder, weights_folder
from birdemb.embed.weights import FoundWeights, locate_weights, weights_of
from birdemb.errors import InputError
from birdemb.storage import hash_file, read_json, write_json

__all__ = [
    "FILTERS_FILE",
    "FORMAT",
    "TRUNK_FILE",
    "find_converted",
    "is_converted",
    "locate_converted",
    "name_folder",
    "write_record",
]

FILTERS_FILE = "mel_filters.npy"
TRUNK_FILE = "trunk.xml"

FORMAT = 1
"""Raised when a conversion gives other numbers, too: it is part of the identity of the embeddings."""

_FILES = (FILTERS_FILE, TRUNK_FILE, "trunk.bin")
_RECORD_FILE = "conversion.json"


def name_folder(card: Card, place: Path) -> Path:
    """Give where an encoder's converted network lies in a folder of weights."""
    return place / f"{card.name}-openvino"


def is_converted(folder: Path) -> bool:
    """Tell whether a folder is a converted network."""
    return (folder / _RECORD_FILE).is_file()


def locate_converted(card: Card) -> Path | None:
    """Tell where an encoder's converted network lies on this machine, without reading it; None if nowhere."""
    weights = locate_weights(card)
    beside = [weights.parent] if weights is not None else []
    beside += [card.place.parent] if card.place is not None else []
    folders = (name_folder(card, place) for place in (*beside, weights_folder(), user_folder()))
    return next((folder for folder in folders if is_converted(folder)), None)


def find_converted(card: Card, folders: Iterable[Path], source_sha256: str = "") -> FoundWeights | None:
    """Find an encoder's converted network, and check it.

    Parameters
    ----------
    card : Card
    folders : iterable of Path
        Where it may lie.
    source_sha256 : str
        Of the weights that it has to be made of; empty for those that the card names or that were recorded, if any
        were.

    Returns
    -------
    FoundWeights or None
        Its folder, with the hash of the weights that it was made of; the first, if there are several. None if there is
        none of these weights.

    Raises
    ------
    InputError
        If one was altered or damaged.
    """
    pin = read_pin(card)
    wanted = source_sha256 or weights_of(card).sha256 or (pin.sha256 if pin is not None else "")
    for folder in folders:
        if is_converted(folder):
            source, hashes = _read_record(folder)
            if not wanted or source == wanted:
                for name, expected in hashes.items():
                    _check_file(folder, name, expected)
                return FoundWeights(folder, source, _name_origin(source, card, pin))
    return None


def _name_origin(source: str, card: Card, pin: Pin | None) -> str:
    """Say what vouches for the weights that a network was made of, as `FoundWeights` does."""
    if source == weights_of(card).sha256:
        return "published"
    return "recorded" if pin is not None and source == pin.sha256 else "none"


def write_record(folder: Path, source_sha256: str, facts: dict[str, Any]) -> None:
    """Write what a converted network is, once its files are in a folder.

    Parameters
    ----------
    folder : Path
    source_sha256 : str
        Of the weights that it was made of.
    facts : dict
        What else is worth knowing of it.
    """
    hashes = {name: hash_file(folder / name) for name in _FILES}
    write_json(
        folder / _RECORD_FILE, {"format": FORMAT, "weights_sha256": source_sha256, "files": hashes, "facts": facts}
    )


def _read_record(folder: Path) -> tuple[str, dict[str, str]]:
    """Give the hash of the weights that a network was made of, and those of its files; nothing is certain before."""
    record = read_json(folder / _RECORD_FILE, _make_again(folder))
    entries = record if isinstance(record, dict) else {}
    source, hashes = entries.get("weights_sha256"), entries.get("files")
    if (
        entries.get("format") != FORMAT
        or not isinstance(source, str)
        or not isinstance(hashes, dict)
        or not all(isinstance(hashes.get(name), str) for name in _FILES)
    ):
        raise InputError(
            f"{folder / _RECORD_FILE} does not describe a converted network of format {FORMAT}: it was altered, or "
            f"is of another version of birdemb. {_make_again(folder)}"
        )
    return source, {name: hashes[name] for name in _FILES}


def _check_file(folder: Path, name: str, expected: str) -> None:
    path = folder / name
    try:
        got = hash_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}. {_make_again(folder)}") from error
    if got != expected:
        raise InputError(
            f"{path} is not what was written: its sha256 is {got}, expected {expected}. It was altered or damaged. "
            f"{_make_again(folder)}"
        )


def _make_again(folder: Path) -> str:
    return (
        f"Delete the folder {folder} and run the same command again where birdemb[torch] is installed: "
        "it is made of the weights once more."
    )
