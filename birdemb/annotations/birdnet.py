"""Results of BirdNET: the CSV or Parquet of BirdNET-Analyzer, and the same without File of BirdNET-Go and others.

Its selection tables, labels for Audacity and tables for Kaleidoscope are read as what they are.
"""

from __future__ import annotations

import numpy as np

from birdemb.annotations.rows import Draft, doubt, make_annotations, name_recording, split_labels
from birdemb.annotations.table import Annotations
from birdemb.annotations.text_files import Cells
from birdemb.annotations.times import measure_stretches
from birdemb.errors import InputError

__all__ = ["has_birdnet_columns", "has_birdnet_pi_columns", "read_birdnet", "refuse_birdnet_pi"]


def has_birdnet_columns(table: Cells) -> bool:
    """Say whether a table has the columns of BirdNET-Analyzer's results."""
    names = ("Start (s)", "End (s)", "Scientific name")
    return all(table.find(name) is not None for name in names)


def read_birdnet(table: Cells, *, class_column: str | None = None, minimum_confidence: float = 0.0) -> Annotations:
    """Read results of BirdNET.

    Parameters
    ----------
    table : Cells
    class_column : str, optional
        The column that has the class, for ``Scientific name``.
    minimum_confidence : float
        Below it a class is unknown: BirdNET has heard it, but nobody would swear that it is there, or that it is not.

    Returns
    -------
    Annotations
        Of the recording in File, else of the table's own name. A table without rows has none either.
    """
    column = class_column or table.find("Scientific name") or ""
    start, end, file = table.find("Start (s)"), table.find("End (s)"), table.find("File")
    stretches = measure_stretches(table, start, end)
    confidence = table.find("Confidence")
    state, notes = doubt(table, confidence, minimum_confidence, stretches.reasons)
    own_name = np.full(table.rows, name_recording(table.source), object)
    draft = Draft(
        form="BirdNET results",
        filename=own_name if file is None else table.take(file),
        stretches=stretches,
        labels=[split_labels(table.take(column), lambda cell: [cell], state)],
        used=(start, end, file, column),
        beside=file is None,
        notes=notes,
        class_column=column,
        may_be_empty=True,
    )
    return make_annotations(table, draft)


def has_birdnet_pi_columns(table: Cells) -> bool:
    """Say whether a table has the columns of BirdNET-Pi's ``BirdDB.txt``."""
    return all(table.find(name) is not None for name in ("Date", "Time", "Sci_Name", "Com_Name"))


def refuse_birdnet_pi(table: Cells) -> Annotations:
    """Say why ``BirdDB.txt`` cannot be read.

    Raises
    ------
    InputError
        Always.
    """
    raise InputError(
        f"{table.source} is BirdNET-Pi's list of detections, which tells dates and times but no recordings. Sort the "
        "clips in its folder Extracted into a folder for each class, or analyse the recordings with BirdNET-Analyzer."
    )
