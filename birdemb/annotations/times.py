"""Numbers and times in tables of labels: decimal points and commas, seconds and hours:minutes:seconds.

Nothing is guessed: a table in which a number may be two is refused, and a cell that is none gets a reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.annotations.text_files import Cells, show
from birdemb.errors import InputError

__all__ = ["Stretches", "explain_times", "measure_stretches", "read_numbers"]

_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
_POINT = re.compile(r"\d\.|\.\d")
_MAY_BE_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_CLOCK = re.compile(r"(\d{1,6}):([0-5]?\d):([0-5]?\d(?:[.,]\d+)?)")
_DIGITS = 9
"""Decimals kept of sums of times, which hides the last bits that adding leaves; a nanosecond is no sample."""


@dataclass(frozen=True)
class Stretches:
    """Where in their recordings the rows of a table are.

    Parameters
    ----------
    start, end : ndarray of shape (rows,), float64
        Seconds from the recording's start, NaN for its very start and its very end.
    reasons : ndarray of shape (rows,), object
        Why a row cannot be used; "" where it can.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    reasons: NDArray[np.object_]


def read_numbers(table: Cells, columns: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Read columns of numbers or times.

    Parameters
    ----------
    table : Cells
    columns : sequence of str
        Those that are written alike.

    Returns
    -------
    dict of str to ndarray of shape (rows,), float64
        Hours:minutes:seconds as seconds; NaN where a cell is no number; infinities stay.

    Raises
    ------
    InputError
        If numbers have decimal points and commas, or may have either commas for thousands or decimal commas.
    """
    texts = {name: table.take(name) for name in columns}
    values = {name: np.array(pd.to_numeric(text, errors="coerce"), np.float64) for name, text in texts.items()}
    commas: list[str] = []
    for name, text in texts.items():
        odd = np.isnan(values[name]) & (text != "")
        if odd.any():
            codes, unique = pd.factorize(text[odd])
            found = [_read_odd(cell) for cell in unique]
            values[name][odd] = np.array(found, np.float64)[codes]
            commas += [cell for cell in unique if _COMMA.fullmatch(cell)]
    if commas:
        _check_commas(table, texts, commas)
    return values


def _read_odd(cell: str) -> float:
    """Read what is no plain number."""
    if _COMMA.fullmatch(cell):
        return float(cell.replace(",", "."))
    clock = _CLOCK.fullmatch(cell)
    if clock is None:
        return np.nan
    hours, minutes, seconds = clock.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds.replace(",", "."))


def _check_commas(table: Cells, texts: dict[str, NDArray[np.object_]], commas: list[str]) -> None:
    places = f"The labels {table.source} have the number {show(commas[0])} in {' or '.join(map(repr, texts))}"
    for text in texts.values():
        row = next((row for row, cell in enumerate(text) if _POINT.search(cell)), None)
        if row is not None:
            raise InputError(
                f"{places} and {show(text[row])} in line {table.lines[row]}: a decimal comma and a point do not go "
                "together. Write all numbers with a point."
            )
    # Semicolons between the cells are what a place with decimal commas writes.
    if table.separator != ";" and all(map(_MAY_BE_THOUSANDS.fullmatch, commas)):
        raise InputError(f"{places}, whose comma may part thousands or decimals. Write all numbers with a point.")


def measure_stretches(
    table: Cells, start: str | None, end: str | None, duration: str | None = None, *, whole: bool = False
) -> Stretches:
    """Find out where in their recordings the rows of a table are.

    Parameters
    ----------
    table : Cells
    start, end, duration : str or None
        Columns; without `end` the stretch ends `duration` after its start.
    whole : bool
        Whether a row without any time is about its whole recording; otherwise it cannot be used.

    Returns
    -------
    Stretches

    Raises
    ------
    InputError
        If there is a start or an end alone, or numbers may be read in two ways: see `read_numbers`.
    """
    used = [name for name in (start, end, duration) if name is not None]
    _check_both(table, start, end or duration)
    values = read_numbers(table, used)
    unknown = np.full(table.rows, np.nan)
    first = values[start] if start is not None else unknown
    last = values[end] if end is not None else unknown
    reasons = np.full(table.rows, "", object)
    empty = np.ones(table.rows, bool)
    for name in used:
        empty &= table.take(name) == ""
        explain_times(table, name, values[name], reasons)
    if end is None and duration is not None:
        last = np.round(first + values[duration], _DIGITS)
    before = last < first
    if start is not None and end is not None:
        for row in np.flatnonzero(before & (reasons == "")):
            reasons[row] = f"{end} {show(table.take(end)[row])} is before {start} {show(table.take(start)[row])}"
    if whole:
        reasons[empty] = ""
    return Stretches(np.where(empty, np.nan, first), np.where(empty, np.nan, last), reasons)


def _check_both(table: Cells, start: str | None, end: str | None) -> None:
    """Refuse times without another: nobody could tell how long the annotations are."""
    alone = start or end
    if alone is not None and not (start and end) and (table.take(alone) != "").any():
        which, lacking = ("start", "end or duration") if start else ("end", "start")
        raise InputError(
            f"The labels {table.source} tell the {which} of annotations in {alone!r}, but have no column for the "
            f"{lacking}. Add one, or rename {alone!r} if it is something else."
        )


def explain_times(table: Cells, name: str, values: NDArray[np.float64], reasons: NDArray[np.object_]) -> None:
    """Tell of times that are no numbers, or before the recording's beginning.

    Parameters
    ----------
    table : Cells
    name : str
        The column.
    values : ndarray of shape (rows,), float64
        Its numbers, NaN where there is none.
    reasons : ndarray of shape (rows,), object
        Why rows cannot be used; those that have no reason yet may get one.
    """
    text = table.take(name)
    for wrong, why in (
        (~np.isfinite(values), "which is no number of seconds and no hours:minutes:seconds"),
        (values < 0, "before the recording begins"),
    ):
        for row in np.flatnonzero(wrong & (reasons == "")):
            reasons[row] = f"{name} is {show(text[row])}, {why}"
