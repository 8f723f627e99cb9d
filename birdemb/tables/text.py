"""Text files of tables: replaced whole, in UTF-8, whatever the names of recordings hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from birdemb.storage import replace_atomically

__all__ = ["plain", "replace_text", "tell_number", "tell_probability"]

_BREAKS = re.compile("[\t\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


@contextmanager
def replace_text(path: Path) -> Iterator[TextIO]:
    """Open a text file that takes the place of `path` once the block has ended well.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    with (
        replace_atomically(path) as temporary,
        # Names of files need not be valid text.
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        yield file


def tell_number(value: float) -> str:
    """Write seconds or hertz: a recording of a day needs eight digits for its hundredths of a second.

    Examples
    --------
    >>> tell_number(3 * 0.1), tell_number(604_799.04)
    ('0.3', '604799.04')
    """
    return f"{value:.10g}"


def tell_probability(value: float) -> str:
    """Write a probability for people, with four decimals as BirdNET-Analyzer does."""
    return f"{value:.4f}"


def plain(text: str) -> str:
    r"""Give a text for tables that know no quotes: every tab and line end in it becomes a blank.

    Examples
    --------
    >>> plain("Wood\tDuck")
    'Wood Duck'
    """
    return _BREAKS.sub(" ", text)
