"""Identities of embeddings: equal where two embeddings may be compared, and different everywhere else."""

from __future__ import annotations

import re
from typing import Any

from birdemb.errors import InputError

__all__ = ["ENCODER_NAME", "refuse_other_identity"]

ENCODER_NAME = re.compile(r"(?!.*\.(?i:toml)$)[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Matches, as a whole, the names that encoders may have: files are named after them, and what ends in ``.toml`` is the
path of a card."""


def refuse_other_identity(expected: dict[str, Any], found: object, *, who: str, advice: str) -> None:
    """Raise unless two identities are equal.

    Parameters
    ----------
    expected : dict
        An identity, as JSON.
    found : dict, or whatever a file held in its place
    who : str
        Whose identity was expected and whose was found: the beginning of the message.
    advice : str
        What to do: its end.

    Raises
    ------
    InputError
        Names the first difference with both values.

    Examples
    --------
    >>> refuse_other_identity({"hop": 5.0}, {"hop": 2.5}, who="the cache", advice="Embed again.")
    Traceback (most recent call last):
    birdemb.errors.InputError: the cache: hop is 2.5, expected 5.0. Embed again.
    """
    if not isinstance(found, dict):
        raise InputError(f"{who}: no identity at all. {advice}")
    for key in sorted(expected.keys() | found.keys()):
        if (key in expected, expected.get(key)) != (key in found, found.get(key)):
            raise InputError(f"{who}: {key} is {_show(found, key)}, expected {_show(expected, key)}. {advice}")


def _show(identity: dict[str, Any], key: str) -> str:
    return repr(identity[key]) if key in identity else "absent"
