"""The one form that every file of labels is read into, before it meets the recordings there are.

A row says that a class is, may be, or is not in a stretch of a recording:

    filename   the recording as the file names it, with or without folders and suffix; "" where the file names none and
               is about the recording that it lies beside
    start      seconds from the recording's start; NaN for its very start
    end        seconds from the recording's start; NaN for its very end
    class      a label; "" where the row says that nothing of interest is in this stretch ("nocall", "noise", ...), so
               that every class is absent from it
    state      "present", "unknown" or "absent"
    weight     how much the row counts, above 0; 1 where the file says nothing
    line       of the file, counted from 1 as editors count, for messages
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["COLUMNS", "NOTHING", "STATES", "Annotations", "make_frame"]

COLUMNS: dict[str, type | str] = {
    "filename": object,
    "start": "float64",
    "end": "float64",
    "class": object,
    "state": object,
    "weight": "float64",
    "line": "int64",
}
"""Columns of a table of annotations, and their types; texts are objects, as a name of a file need not be valid text."""

STATES = ("present", "unknown", "absent")

NOTHING = frozenset({"background", "nocall", "noise", "silence"})
"""Names that are no class, but say that none of them is there; in lower case, as capitals do not matter in them."""


@dataclass(frozen=True)
class Annotations:
    """What one file says.

    Parameters
    ----------
    columns : mapping of str to ndarray of shape (rows,)
        Those of the module's text, in this order; in the order of the file.
    source : Path
        The file.
    form : str
        What it is, for people, such as ``"Raven selection table"``.
    extras : mapping of str to ndarray of shape (rows,), object
        Its other columns as text.
    left_out : tuple of (int, str)
        Lines that became no row, and why.
    complete : bool
        Whether somebody has listed every class of interest in each stretch (or recording, where a row has no times)
        that has a row here, so that a class that no row names there is absent. Otherwise a row speaks of its own
        class alone, as the labels of a focal recording or a single Raven selection do.
    only_found : bool
        Whether a complete file leaves out the stretches in which nobody found anything, so that every class is absent
        from what lies between its rows of a recording, too. Otherwise nobody has listened there.
    beside : bool
        Whether the file names no recording, so that `filename` is the beginning of its own name, and is meant to be
        looked for in its own folder first.
    notes : tuple of str
        What a reader should know about how the file was understood, each a sentence.
    """

    columns: Mapping[str, NDArray[Any]]
    source: Path
    form: str
    extras: Mapping[str, NDArray[np.object_]]
    left_out: tuple[tuple[int, str], ...] = ()
    complete: bool = False
    only_found: bool = False
    beside: bool = False
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.columns["line"])

    @cached_property
    def table(self) -> pd.DataFrame:
        """The rows as a data frame with the columns of the module's text."""
        return make_frame(self.columns)


def make_frame(columns: Mapping[str, NDArray[Any]]) -> pd.DataFrame:
    """Make a data frame of columns, whose texts stay objects."""
    # Texts that pandas would make its own strings of could not hold every name of a file.
    return pd.DataFrame({name: pd.Series(column, dtype=column.dtype) for name, column in columns.items()})
