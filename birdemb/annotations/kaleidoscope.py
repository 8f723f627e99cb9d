"""Results of Kaleidoscope, Wildlife Acoustics' program, and of all that write them for it.

A row is a stretch from OFFSET, for DURATION seconds, of INDIR/FOLDER/IN FILE. MANUAL ID is what a person has found;
AUTO ID (bats) and TOP1MATCH (clusters) are what the program has. Names of columns that may be edited end in an
asterisk in some versions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from birdemb.annotations.rows import Draft, Labels, doubt, make_annotations, split_labels, split_list
from birdemb.annotations.table import Annotations
from birdemb.annotations.text_files import Cells
from birdemb.annotations.times import measure_stretches
from birdemb.errors import InputError

__all__ = ["has_kaleidoscope_columns", "read_kaleidoscope"]

_AUTOMATIC = ("AUTO ID", "TOP1MATCH", "scientific_name", "common_name")
"""What a program has found, in this order; the names in small letters are BirdNET-Analyzer's."""

_NOT_IDENTIFIED = ("noid", "no id")


def has_kaleidoscope_columns(table: Cells) -> bool:
    """Say whether a table names its recordings as Kaleidoscope does."""
    return table.find("IN FILE") is not None and table.find("OFFSET") is not None


def read_kaleidoscope(table: Cells, *, class_column: str | None = None, minimum_confidence: float = 0.0) -> Annotations:
    """Read Kaleidoscope's ``id.csv``, ``cluster.csv`` or ``meta.csv``.

    Parameters
    ----------
    table : Cells
    class_column : str, optional
        The column that has the class, and no other then.
    minimum_confidence : float
        Below it in the column ``confidence``, which BirdNET-Analyzer writes, a class is unknown.

    Returns
    -------
    Annotations
        If anybody has written a MANUAL ID, rows without one have what the program found as unknown, as nobody has
        confirmed it; else what the program found counts as present. ``NoID`` is left out.

    Raises
    ------
    InputError
        If no column can be the class.
    """
    manual = None if class_column else table.find("MANUAL ID")
    automatic = class_column or table.find(*_AUTOMATIC)
    if manual is None and automatic is None:
        raise InputError(
            f"The Kaleidoscope table {table.source} has no column MANUAL ID, AUTO ID or TOP1MATCH; its columns are "
            f"{', '.join(table.columns)}. Name the one that has the class."
        )
    file = table.find("IN FILE") or ""
    offset, duration = table.find("OFFSET"), table.find("DURATION")
    stretches = measure_stretches(table, offset, None, duration)
    filename = table.take(file)
    stretches.reasons[(filename == "") & (stretches.reasons == "")] = f"{file} is empty"
    state, notes = doubt(table, table.find("confidence"), minimum_confidence, stretches.reasons)
    by_hand, labels = np.zeros(len(filename), bool), []
    if manual is not None:
        by_hand = table.take(manual) != ""
        labels.append(split_labels(table.take(manual), _split_identity))
    if automatic is not None:
        states: NDArray[np.object_] = np.full(len(filename), state, object) if isinstance(state, str) else state
        if by_hand.any():
            states[:] = "unknown"
            notes += (f"What nobody has confirmed in {manual} is unknown, not present.",)
        found = split_labels(table.take(automatic), _split_identity, states)
        alone = ~by_hand[found.row]
        labels.append(Labels(found.row[alone], found.name[alone], states[found.row[alone]]))
    draft = Draft(
        form="Kaleidoscope table",
        filename=_name_recordings(table, filename),
        stretches=stretches,
        labels=labels,
        used=(file, table.find("FOLDER"), offset, duration, manual, automatic),
        notes=notes,
        class_column=" or ".join(filter(None, (manual, automatic))),
        may_be_empty=True,
    )
    return make_annotations(table, draft)


def _split_identity(cell: str) -> list[str]:
    return [name for name in split_list(cell) if name.casefold() not in _NOT_IDENTIFIED]


def _name_recordings(table: Cells, files: NDArray[np.object_]) -> NDArray[np.object_]:
    """Put FOLDER before IN FILE; and INDIR before both, where one path in several of these is several recordings."""
    folder, top = table.find("FOLDER"), table.find("INDIR")
    paths = files if folder is None else _join(table.take(folder), files)
    if top is None:
        return paths
    whole = _join(table.take(top), paths)
    return whole if len(set(whole)) > len(set(paths)) else paths


def _join(folders: NDArray[np.object_], files: NDArray[np.object_]) -> NDArray[np.object_]:
    starts = (folder.replace("\\", "/").strip("/") for folder in folders)
    paths = [f"{start}/{file}" if start else file for start, file in zip(starts, files, strict=True)]
    return np.array(paths, object)
