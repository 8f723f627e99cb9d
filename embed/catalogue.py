"""The encoders that can be chosen: the cards that birdemb brings, and those that users add."""

from __future__ import annotations

import difflib
import functools
from importlib.resources import files
from pathlib import Path

from birdemb.embed.card import Card, parse_card
from birdemb.embed.places import weights_folder
from birdemb.errors import InputError

__all__ = ["find_card", "list_cards", "load_card", "name_encoder", "read_cards"]

_NO_CARDS = ("synonyms.toml", ".golden.toml", ".range.toml")
"""Ends of the names of what else lies beside the cards."""

_SUFFIX = ".toml"


def list_cards() -> list[Card]:
    """Read every card that birdemb brings, and those in the folder of weights.

    Returns
    -------
    list of Card
        Sorted by name.

    Raises
    ------
    InputError
        If a card is not as it has to be, or two have the same name.
    """
    cards, problems = read_cards()
    if problems:
        raise InputError(problems[0])
    return cards


def read_cards() -> tuple[list[Card], list[str]]:
    """Read every card that birdemb brings, and those in the folder of weights that are as they have to be.

    Returns
    -------
    cards : list of Card
        Sorted by name.
    problems : list of str
        A sentence for each card that cannot be used.
    """
    cards, problems = dict(_read_own_cards()), []
    for path in sorted(weights_folder().glob(f"*{_SUFFIX}")):
        if path.name.endswith(_NO_CARDS):
            continue
        try:
            card = _read_file(path)
        except InputError as error:
            problems.append(str(error))
            continue
        if card.name in cards:
            other = cards[card.name].place or "birdemb itself"
            problems.append(f"The card {path} has the name {card.name!r}, as one of {other}. Give it another name.")
        else:
            cards[card.name] = card
    return [cards[name] for name in sorted(cards)], problems


def load_card(name: str) -> Card:
    """Read the card of one encoder.

    Parameters
    ----------
    name : str
        Of an encoder, or the path of a user's own card, which ends in ``.toml``.

    Returns
    -------
    Card

    Raises
    ------
    InputError
        If there is no encoder of that name; the message gives those whose names are nearest.

    Examples
    --------
    >>> load_card("birdnet-2.4").dim
    1024
    """
    if name.endswith(_SUFFIX):
        card = _read_file(Path(name))
        if card.name in _read_own_cards():
            raise InputError(f"The card {name} has the name of an encoder of birdemb's own, {card.name!r}. Change it.")
        return card
    own = _read_own_cards()
    if name in own:
        return own[name]
    found, problems = read_cards()
    cards = {card.name: card for card in found}
    if name not in cards:
        near = difflib.get_close_matches(name, cards)
        hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
        broken = " ".join(["", *problems])
        raise InputError(
            f"There is no encoder {name!r}. {hint}Encoders: {', '.join(cards)}; or the path of a card of your own, "
            f"ending in {_SUFFIX}.{broken}"
        )
    return cards[name]


def name_encoder(chosen: str) -> str:
    """Give the name of an encoder that is chosen by it, or by the path of its card.

    Raises
    ------
    InputError
        If it is a path, and the card there is none.

    Examples
    --------
    >>> name_encoder("melspec")
    'melspec'
    """
    return load_card(chosen).name if chosen.endswith(_SUFFIX) else chosen


def find_card(name: str, last_at: Path | None = None) -> str:
    """Find the card of an encoder that was used before, and give what it is chosen by: its path or its name.

    Parameters
    ----------
    name : str
    last_at : Path, optional
        Where it lay when it was used last, if it was a user's own.

    Returns
    -------
    str
        The path, while the card lies there; else the name, for `load_card` to look for.

    Raises
    ------
    InputError
        If it was moved or deleted, and no card in the folder of weights has its name.

    Examples
    --------
    >>> find_card("melspec")
    'melspec'
    """
    if last_at is None:
        return name
    if last_at.is_file():
        return str(last_at)
    if name not in {card.name for card in read_cards()[0]}:
        raise InputError(
            f"The card of {name!r} was at {last_at} when it was used last, and is not there now. Put it and its "
            f"weights back, or into the folder that BIRDEMB_MODELS names, or run `birdemb embed FOLDER --encoder "
            f"PATH{_SUFFIX}` with its new path once."
        )
    return name


@functools.cache  # asked for in each batch of a watch, and never changed while birdemb runs
def _read_own_cards() -> dict[str, Card]:
    found = [
        parse_card(entry.read_text(encoding="utf-8"), entry.name)
        for entry in files("birdemb.models").iterdir()
        if entry.name.endswith(_SUFFIX) and not entry.name.endswith(_NO_CARDS)
    ]
    return {card.name: card for card in found}


def _read_file(path: Path) -> Card:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"The card {path} cannot be read: {error.strerror or error}. Check the path.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"The card {path} is no text in UTF-8 ({error}).") from error
    # Absolute, as worker processes may run in another folder.
    return parse_card(text, str(path), path.absolute())
