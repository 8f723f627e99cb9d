"""Text files of tables: replaced whole, in UTF-8, whatever the names of recordings hold."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

from birdemb.storage import replace_atomically

__all__ = ["CsvRows", "make_csv", "plain", "replace_csv", "replace_text", "tell_number", "tell_probability"]

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


class CsvRows(Protocol):
    """What writes rows of CSV."""

    def writerow(self, row: Iterable[Any], /) -> object:
        """Write a row."""

    def writerows(self, rows: Iterable[Iterable[Any]], /) -> object:
        """Write rows."""


def make_csv(file: TextIO) -> CsvRows:
    r"""Make what writes rows of CSV, with the line ends of Unix, to an open file.

    Examples
    --------
    >>> import io
    >>> file = io.StringIO(newline="")
    >>> _ = make_csv(file).writerow(["one\rcell", 2])
    >>> file.getvalue()
    '"one\rcell",2\n'
    """
    # Python before 3.13 quotes a carriage return in a name, at which readers end a line, only where lines end in one.
    return csv.writer(_UnixLines(file), lineterminator="\r\n")


@contextmanager
def replace_csv(path: Path) -> Iterator[CsvRows]:
    """Write rows of CSV to a file that takes the place of `path` once the block has ended well.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    with replace_text(path) as file:
        yield make_csv(file)


class _UnixLines:
    def __init__(self, file: TextIO) -> None:
        self._write = file.write

    def write(self, line: str) -> None:
        self._write(line[:-2] + "\n")


def tell_number(value: float) -> str:
    """Write seconds or hertz, to a millionth and never with an exponent, which not every program reads.

    Examples
    --------
    >>> tell_number(3 * 0.1), tell_number(604_799.04), tell_number(1 / 44_100), tell_number(10)
    ('0.3', '604799.04', '0.000023', '10')
    """
    return f"{value:.6f}".rstrip("0").rstrip(".")


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
