"""Wide tables: a row for each window, and a column for each class, as CSV or as a pandas table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.errors import InputError
from birdemb.tables.source import TableSource
from birdemb.tables.text import replace_csv, tell_number

__all__ = ["WIDE_COLUMNS", "frame_windows", "refuse_names_of_columns", "write_wide"]

WIDE_COLUMNS = ("recording", "start", "end", "start_time", "end_time")
"""Those before the classes."""


def refuse_names_of_columns(labels: Iterable[str], columns: Iterable[str]) -> None:
    """Make sure that no class has the name of one of a table's other columns.

    Parameters
    ----------
    labels : iterable of str
        Of the classes.
    columns : iterable of str
        The other columns.

    Raises
    ------
    InputError
        If one has.
    """
    taken = set(columns)
    for label in labels:
        if label in taken:
            raise InputError(
                f"The class {label!r} has the name of another column of the table. Give it another name in the labels "
                "and fit again, or write a table without a column for each class, such as --format long."
            )


def frame_windows(
    columns: Mapping[str, Any], labels: Iterable[str], probabilities: NDArray[np.float64]
) -> pd.DataFrame:
    """Make a pandas table with a row for each window.

    Parameters
    ----------
    columns : mapping of str to array-like of shape (windows,)
        What the windows are, in front of the classes.
    labels : iterable of str
        Of the classes.
    probabilities : ndarray of shape (windows, classes)

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    InputError
        If a class has the name of one of `columns`.
    """
    labels = list(labels)
    refuse_names_of_columns(labels, columns)
    return pd.concat([pd.DataFrame(columns), pd.DataFrame(probabilities, columns=labels)], axis=1)


def write_wide(path: Path, source: TableSource) -> int:
    """Write a row for each window, with all digits of the probabilities.

    Parameters
    ----------
    path : Path
        Gets the columns of `WIDE_COLUMNS`, seconds and times in ISO 8601 or empty, and one for each class.
    source : TableSource

    Returns
    -------
    int
        How many rows there are.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    with replace_csv(path) as table:
        table.writerow((*WIDE_COLUMNS, *source.prediction.labels))
        for part in source.windows():
            table.writerows(
                [recording, tell_number(start), tell_number(end), start_time, end_time, *values]
                for recording, start, end, start_time, end_time, values in zip(
                    part.recordings,
                    part.start.tolist(),
                    part.end.tolist(),
                    part.start_time,
                    part.end_time,
                    part.probabilities.tolist(),
                    strict=True,
                )
            )
    return len(source.prediction.probabilities)
