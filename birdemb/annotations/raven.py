"""Selection tables of Raven, Cornell's program for looking at sounds, and of all that write them for it.

A selection's times count from the beginning of what Raven had opened. That is one recording or a sequence of many;
Begin File tells in which of them the selection begins, and File Offset (s) where. A selection has a row for each view
it was made in (waveform, spectrogram); it is one annotation all the same.
"""

from __future__ import annotations

import numpy as np

from birdemb.annotations.rows import Draft, doubt, make_annotations, name_recording, split_labels, split_list
from birdemb.annotations.table import Annotations
from birdemb.annotations.text_files import Cells
from birdemb.annotations.times import Stretches, explain_times, measure_stretches, read_numbers
from birdemb.errors import InputError

__all__ = ["CLASS_COLUMNS", "has_raven_columns", "read_raven"]

CLASS_COLUMNS = (
    "Species",
    "Species Code",
    "Scientific Name",
    "Common Name",
    "Class",
    "Annotation",
    "Annotations",
    "Label",
    "Labels",
    "Tag",
    "Tag 1",
    "ID",
    "Call Type",
    "Type",
)
"""Columns that may have the class, the first that is there and not empty throughout; Raven's users name them freely."""


def has_raven_columns(table: Cells) -> bool:
    """Say whether a table has the times of a selection table."""
    return table.find("Begin Time (s)") is not None and table.find("End Time (s)") is not None


def read_raven(table: Cells, *, class_column: str | None = None, minimum_confidence: float = 0.0) -> Annotations:
    """Read a selection table.

    Parameters
    ----------
    table : Cells
    class_column : str, optional
        The column that has the class; by default the first of `CLASS_COLUMNS`.
    minimum_confidence : float
        Below it in the column Confidence or Score, which detectors write, a class is unknown.

    Returns
    -------
    Annotations
        Of the recording in Begin File, else in Begin Path, else of the table's own name.

    Raises
    ------
    InputError
        If no column can be the class, or selections are from several recordings and nothing tells where in each.
    """
    column = class_column or _find_class_column(table)
    begin, end = table.find("Begin Time (s)"), table.find("End Time (s)")
    stretches = measure_stretches(table, begin, end)
    file, offset = _find_file_column(table), table.find("File Offset (s)")
    if file is not None and offset is not None:
        stretches = _count_from_file(table, stretches, offset)
    elif file is not None and len(set(table.take(file))) > 1:
        raise InputError(
            f"The selection table {table.source} has selections from {len(set(table.take(file)))} recordings in "
            f"{file!r} but no column 'File Offset (s)', so that nobody can tell where in each they are. Add that "
            "measurement in Raven and save the table again."
        )
    state, notes = doubt(table, table.find("Confidence", "Score"), minimum_confidence, stretches.reasons)
    own_name = np.full(table.rows, name_recording(table.source), object)
    filename = own_name if file is None else np.where(table.take(file) == "", own_name, table.take(file))
    draft = Draft(
        form="Raven selection table",
        filename=filename.astype(object),
        stretches=stretches,
        labels=[split_labels(table.take(column), split_list, state)],
        used=(begin, end, file, column),
        beside=file is None,
        notes=notes,
        class_column=column,
        views=True,
        may_be_empty=True,
    )
    return make_annotations(table, draft)


def _find_class_column(table: Cells) -> str:
    there = [column for name in CLASS_COLUMNS if (column := table.find(name)) is not None]
    filled = [column for column in there if (table.take(column) != "").any()]
    if not there and table.rows:
        raise InputError(
            f"The selection table {table.source} has no column that is known to have the class, such as "
            f"{', '.join(CLASS_COLUMNS[:6])}; its columns are {', '.join(table.columns)}. Name the one that has it."
        )
    # A table without selections need not have such a column.
    return (filled or there or list(table.columns))[0]


def _find_file_column(table: Cells) -> str | None:
    """Give the column that names recordings: Begin File, unless it calls two recordings by one name."""
    file, path = table.find("Begin File"), table.find("Begin Path")
    if file is None or path is None:
        return file or path
    pairs = set(zip(table.take(file), table.take(path), strict=True))
    return path if len(pairs) > len(set(table.take(file))) else file


def _count_from_file(table: Cells, stretches: Stretches, offset: str) -> Stretches:
    """Move times, which count from the beginning of what Raven had opened, to count from that of the recording."""
    start = read_numbers(table, [offset])[offset]
    reasons = stretches.reasons.copy()
    # An empty offset is no zero: nobody knows where in its recording that selection is.
    explain_times(table, offset, start, reasons)
    return Stretches(start, np.round(start + (stretches.end - stretches.start), 9), reasons)
