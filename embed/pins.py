"""Hashes that were recorded on this machine, of weights whose hash nobody publishes.

The first hash that is met is written to ``<encoder>.pinned.json`` in the folder of weights, and expected from there on:
a file that is altered or replaced later does not go unseen.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from birdemb.embed.card import Card
from birdemb.embed.places import user_folder, weights_folder
from birdemb.errors import InputError
from birdemb.storage import read_json, write_json

__all__ = ["Pin", "may_pin", "read_pin", "write_pin"]

FORMAT = 1


@dataclass(frozen=True)
class Pin:
    """A hash that was recorded.

    Parameters
    ----------
    path : Path
        The file that holds it.
    sha256 : str
        As `birdemb.embed.weights.hash_weights` gives it.
    found_at : str
        Where the weights were.
    recorded : str
        The day, ``YYYY-MM-DD``.
    """

    path: Path
    sha256: str
    found_at: str
    recorded: str


def may_pin(card: Card) -> bool:
    """Tell whether the hash of an encoder's weights is to be recorded: where none is published of other people's.

    Those that a user's own card is about, without a place to get them from, are the user's own, to be fitted anew at
    will. Their hash is a part of the encoder's identity all the same, so that embeddings of two are never mixed.
    """
    weights = card.weights
    return weights is not None and not weights.sha256 and (card.place is None or bool(weights.sources))


def read_pin(card: Card, folders: Sequence[Path] | None = None) -> Pin | None:
    """Read what was recorded of an encoder's weights; None if nothing was, or if it was of another file.

    Parameters
    ----------
    card : Card
    folders : sequence of Path, optional
        Where to look; by default in the folders of weights.

    Raises
    ------
    InputError
        If the file is not what was written.
    """
    if card.weights is None or not may_pin(card):
        return None
    path = next((place for place in _places(card, folders) if place.is_file()), None)
    if path is None:
        return None
    advice = "Delete it; the next hash that is met is recorded then."
    entries = read_json(path, advice)
    keys = ("encoder", "file", "sha256", "found_at", "recorded")
    if (
        not isinstance(entries, dict)
        or entries.get("format") != FORMAT
        or not all(isinstance(entries.get(key), str) for key in keys)
        or entries["encoder"] != card.name
    ):
        raise InputError(f"{path} is no record of the hash of {card.name}'s weights of format {FORMAT}. {advice}")
    if entries["file"] != card.weights.file:
        return None  # an older card's
    return Pin(path, entries["sha256"], entries["found_at"], entries["recorded"])


def write_pin(card: Card, found_at: Path | str, sha256: str, folders: Sequence[Path] | None = None) -> bool:
    """Record the hash of an encoder's weights.

    Parameters
    ----------
    card : Card
    found_at : Path or str
        Where the weights are, or where they came from.
    sha256 : str
    folders : sequence of Path, optional
        The first of them that can be written to gets it; by default one of the folders of weights.

    Returns
    -------
    bool
        Whether it could be: the folders of weights may be mounted for reading alone.
    """
    if card.weights is None:
        return False
    entries = {
        "format": FORMAT,
        "encoder": card.name,
        "file": card.weights.file,
        "sha256": sha256,
        "found_at": str(found_at),
        "recorded": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    for place in _places(card, folders):
        try:
            write_json(place, entries)
        except InputError:
            continue
        return True
    return False


def _places(card: Card, folders: Sequence[Path] | None) -> list[Path]:
    searched = (weights_folder(), user_folder()) if folders is None else folders
    return [folder / f"{card.name}.pinned.json" for folder in dict.fromkeys(searched)]
