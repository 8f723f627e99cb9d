"""Labels of the BirdCLEF competitions: tables of focal recordings, and of stretches of soundscapes.

Focal recordings (``train.csv``, ``train_metadata.csv``) have one class that is present and others that may be.
Soundscapes (``train_soundscape_labels.csv``) are labelled in full, five seconds at a time: what a row does not name is
not there. In 2021 a row is ``row_id`` (``7019_COR_5``), ``site``, ``audio_id``, ``seconds`` and ``birds``; in 2026 it
is ``filename``, ``start``, ``end`` and ``primary_label`` with times such as ``00:00:05``.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.annotations.rows import Draft, Labels, make_annotations, split_labels, split_list
from birdemb.annotations.table import NOTHING, Annotations
from birdemb.annotations.text_files import Cells, show
from birdemb.annotations.times import Stretches, measure_stretches
from birdemb.label_table import split_secondary

__all__ = [
    "ROW_SECONDS",
    "has_focal_columns",
    "has_soundscape_columns",
    "read_focal_recordings",
    "read_row_ids",
    "read_soundscape_labels",
]

ROW_SECONDS = 5.0
"""What a row id ends: the competitions' stretches are of five seconds."""

_ROW_ID = re.compile(r"(?P<stem>.+)_(?P<end>\d+(?:\.\d+)?)")
_CODE = re.compile(r"[a-z0-9]+")
"""What the competitions call classes: eBird's codes, iNaturalist's numbers, 47158son01; and nocall."""


def has_focal_columns(table: Cells) -> bool:
    """Say whether a table has the columns of ``train.csv``."""
    return table.find("filename") is not None and table.find("primary_label") is not None


def read_focal_recordings(table: Cells, *, class_column: str | None = None) -> Annotations:
    """Read ``train.csv`` or ``train_metadata.csv``: primary labels are present, secondary labels are unknown.

    Parameters
    ----------
    table : Cells
    class_column : str, optional
        The column that has the class, for ``primary_label``.

    Returns
    -------
    Annotations
        Of whole recordings, unless the table has the columns start and end.
    """
    filename, primary = table.find("filename") or "", class_column or table.find("primary_label") or ""
    secondary = table.find("secondary_labels")
    labels = [split_labels(table.take(primary), lambda cell: [cell])]
    if secondary is not None:
        labels.append(split_labels(table.take(secondary), split_secondary, "unknown"))
    start, end = table.find("start"), table.find("end")
    stretches = measure_stretches(table, start, end, whole=True)
    for column in (filename, primary):
        stretches.reasons[(table.take(column) == "") & (stretches.reasons == "")] = f"{column} is empty"
    draft = Draft(
        form="BirdCLEF table of focal recordings",
        filename=table.take(filename),
        stretches=stretches,
        labels=labels,
        used=(filename, primary, secondary, start, end),
        class_column=primary,
    )
    return make_annotations(table, draft)


def has_soundscape_columns(table: Cells) -> bool:
    """Say whether a table has the columns of ``train_soundscape_labels.csv`` of any year."""
    return _has_row_ids(table) or (
        has_focal_columns(table)
        and table.find("start") is not None
        and table.find("end") is not None
        and table.find("secondary_labels") is None
    )


def _has_row_ids(table: Cells) -> bool:
    return table.find("row_id") is not None and table.find("birds", "labels", "primary_label") is not None


def read_soundscape_labels(table: Cells, *, class_column: str | None = None) -> Annotations:
    """Read ``train_soundscape_labels.csv`` of any year.

    Parameters
    ----------
    table : Cells
    class_column : str, optional
        The column that has the classes, for ``birds`` or ``primary_label``.

    Returns
    -------
    Annotations
        Complete: what a stretch does not name is absent from it; and where none is labelled as ``nocall``, stretches
        without a call are left out. Recordings of row ids are named by what is before
        the second, which in 2021 is the beginning of a file's name (``7019_COR`` for ``7019_COR_20190904.ogg``).
    """
    column = class_column or table.find("birds", "primary_label", "labels") or ""
    notes: tuple[str, ...] = ()
    if _has_row_ids(table) and table.find("start") is None:
        row_id = table.find("row_id")
        filename, stretches = read_row_ids(table, row_id or "")
        used = [row_id, column]
        if table.find("audio_id") is not None and table.find("site") is not None:
            notes = ("Its row ids name recordings by the beginning of their names, up to an underscore.",)
    else:
        name, start, end = (table.find(name) for name in ("filename", "start", "end"))
        filename, stretches = table.take(name or ""), measure_stretches(table, start, end)
        stretches.reasons[(filename == "") & (stretches.reasons == "")] = f"{name} is empty"
        used = [name, start, end, column]
    labels = _split_codes(table.take(column))
    draft = Draft(
        form="BirdCLEF table of soundscapes",
        filename=filename,
        stretches=stretches,
        labels=[labels],
        used=used,
        complete=True,
        only_found=NOTHING.isdisjoint(label.casefold() for label in set(labels.name)),
        notes=notes,
        class_column=column,
    )
    return make_annotations(table, draft)


def _split_codes(texts: NDArray[np.object_]) -> Labels:
    """Split at semicolons; at blanks only where every name of the column is a code, which has none in it."""
    unique = pd.unique(texts)
    words = [word for cell in unique if not cell.startswith("[") for word in re.split(r"[;\s]+", cell) if word]
    separators = "; \t" if all(_CODE.fullmatch(word) or word.casefold() in NOTHING for word in words) else ";"
    return split_labels(texts, lambda cell: split_list(cell, separators))


def read_row_ids(table: Cells, column: str) -> tuple[NDArray[np.object_], Stretches]:
    """Read row ids, ``<file stem>_<end second>``.

    Parameters
    ----------
    table : Cells
    column : str

    Returns
    -------
    filename : ndarray of shape (rows,), object
        File stems.
    stretches : Stretches
        The five seconds that end there.
    """
    parts = [_ROW_ID.fullmatch(cell) for cell in table.take(column)]
    end = np.array([float(part["end"]) if part else np.nan for part in parts], np.float64)
    reasons = np.full(len(end), "", object)
    for row in np.flatnonzero(~((end >= ROW_SECONDS) & np.isfinite(end))):
        reasons[row] = (
            f"{column} is {show(table.take(column)[row])}; expected a file stem, an underscore and the second in "
            f"which its {ROW_SECONDS:g} seconds end"
        )
    return np.array([part["stem"] if part else "" for part in parts], object), Stretches(
        end - ROW_SECONDS, end, reasons
    )
