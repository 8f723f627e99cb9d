"""Durations as people write them: 90m, 1h30m."""

from __future__ import annotations

import math
import re

from birdemb.errors import InputError

__all__ = ["parse_duration"]

_NUMBER = r"\d+(?:\.\d+)?"
# A number without a letter is seconds where it stands alone; behind hours, many would mean minutes.
_DURATION = re.compile(rf"(?:({_NUMBER}) ?h)? ?(?:({_NUMBER}) ?m(?:in)?)? ?(?:({_NUMBER}) ?s)?|({_NUMBER})", re.ASCII)


def parse_duration(text: str) -> float:
    """Read a duration.

    Parameters
    ----------
    text : str
        Hours, minutes and seconds, each with its letter, small or capital, and none of them needed; a number alone is
        seconds.

    Returns
    -------
    float
        In seconds.

    Raises
    ------
    InputError
        If it is something else, or not above 0.

    Examples
    --------
    >>> [parse_duration(text) for text in ("90m", "1h30m", "5400", "5400s", "1.5h")]
    [5400.0, 5400.0, 5400.0, 5400.0, 5400.0]
    """
    found = _DURATION.fullmatch(text.strip().lower())
    parts = [float(part or 0) for part in found.groups()] if found else []
    seconds = sum(part * unit for part, unit in zip(parts, (3600, 60, 1, 1), strict=bool(parts)))
    if not 0 < seconds < math.inf:
        raise InputError(f"{text!r} is no duration; expected one such as 90m, 1h30m or 5400s.")
    return seconds
