"""Plain tables: a row for each stretch or recording with its class, or a column of 0 and 1 for each class.

Columns are known by name, or named by the user.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.annotations.birdclef import read_row_ids
from birdemb.annotations.rows import Draft, Labels, doubt, make_annotations, name_recording, split_labels, split_list
from birdemb.annotations.table import STATES, Annotations
from birdemb.annotations.text_files import Cells, key_of, show
from birdemb.annotations.times import Stretches, measure_stretches, read_numbers
from birdemb.errors import InputError

__all__ = ["CANDIDATES", "NO_COLUMNS", "has_one_hot_columns", "has_plain_columns", "read_one_hot", "read_plain"]

CANDIDATES: dict[str, tuple[str, ...]] = {
    "filename": (
        *("filename", "file_name", "file", "filepath", "file_path", "path", "recording", "audio_file", "audiofile"),
        *("audiofilename", "audio_filename", "audio_path", "audio", "sound_file", "sound.files", "notated_path"),
    ),
    "start": (
        *("start", "start_time", "start_s", "start_sec", "start_seconds", "start (s)", "start_time (s)", "begin"),
        *("begin_time", "begin_time (s)", "onset", "onset_s"),
    ),
    "end": (
        *("end", "end_time", "end_s", "end_sec", "end_seconds", "end (s)", "end_time (s)", "stop", "stop_time"),
        "offset_s",
    ),
    "duration": ("duration", "duration_s", "duration (s)"),
    "class": (
        *("class", "label", "labels", "classes", "class_name", "species", "primary_label", "species_code"),
        *("ebird_code", "scientific_name", "common_name", "annotation", "annotations", "birds", "tag", "tags"),
    ),
    "state": ("state", "detected"),
    "weight": ("weight",),
    "confidence": ("confidence", "score", "probability"),
}
"""Columns that are taken for what the key says, the first that is there."""

NO_COLUMNS: Mapping[str, str] = MappingProxyType({})
"""No column is named by the user."""

_PLURALS = frozenset({"labels", "classes", "annotations", "birds", "tags"})
"""Names of columns that promise several classes, so that commas part them too; elsewhere a comma is in a name."""

_STATES = {
    **dict.fromkeys(("present", "1", "1.0", "yes", "true", "positive"), "present"),
    **dict.fromkeys(("absent", "0", "0.0", "no", "false", "negative"), "absent"),
    **dict.fromkeys(("unknown", "?", "maybe", "unsure", "uncertain"), "unknown"),
}
_ONES, _ZEROS = frozenset({"1", "1.0", "true"}), frozenset({"0", "0.0", "false"})
_NO_CLASSES = frozenset(
    {
        *("author", "channel", "collection", "confidence", "date", "day", "duration", "fold", "hour", "id", "index"),
        *("lat", "latitude", "license", "location", "lon", "long", "longitude", "minute", "month", "quality", "rating"),
        *("recordist", "row id", "sample rate", "score", "site", "split", "subset", "time", "type", "url", "weight"),
        "year",
    }
)
"""Columns beside those of 0 and 1 that are known to be no classes."""


def has_plain_columns(table: Cells, columns: Mapping[str, str] = NO_COLUMNS) -> bool:
    """Say whether a table has columns for a class and for what it is about."""
    found = _find_columns(table, columns)
    return "class" in found and ("filename" in found or "start" in found or table.find("row_id") is not None)


def read_plain(
    table: Cells, *, columns: Mapping[str, str] = NO_COLUMNS, minimum_confidence: float = 0.0, form: str = "plain table"
) -> Annotations:
    """Read a table with a column of classes.

    Parameters
    ----------
    table : Cells
    columns : mapping of str to str
        Columns by the keys of `CANDIDATES`; those that are not named are looked for under the usual names.
    minimum_confidence : float
        Below it a class that would be present is unknown.
    form : str
        What the table is, for people.

    Returns
    -------
    Annotations
        A cell may have several classes: a list as JSON or Python writes it, or names between semicolons or ``|``; and
        between commas, where the column's name is a plural. Rows without times are about whole recordings. Without
        column for recordings it is about the recording that it is named after.

    Raises
    ------
    InputError
        If a named column is missing, or no column can be the class.
    """
    found = _find_columns(table, columns)
    if "class" not in found:
        raise InputError(
            f"The labels {table.source} have no column that is known to have the class, such as "
            f"{', '.join(CANDIDATES['class'][:6])}; their columns are {', '.join(table.columns)}. Name the one."
        )
    filename, stretches, beside = _locate(table, found)
    confidence, notes = doubt(table, found.get("confidence"), minimum_confidence, stretches.reasons)
    state = _read_states(table, found.get("state"), confidence, stretches.reasons)
    separators = ";|," if found["class"].casefold() in _PLURALS else ";|"
    draft = Draft(
        form=form,
        filename=filename,
        stretches=stretches,
        labels=[split_labels(table.take(found["class"]), lambda cell: split_list(cell, separators), state)],
        used=[name for key, name in found.items() if key != "confidence"],
        weight=_read_weights(table, found.get("weight"), stretches.reasons),
        beside=beside,
        notes=notes,
        class_column=found["class"],
    )
    return make_annotations(table, draft)


def has_one_hot_columns(table: Cells, columns: Mapping[str, str] = NO_COLUMNS) -> bool:
    """Say whether a table names recordings or row ids, and has but columns of numbers from 0 to 1 beside them."""
    found = _find_columns(table, columns)
    named = "filename" in found or table.find("row_id") is not None
    return named and "class" not in found and bool(_find_classes(table, found))


def read_one_hot(
    table: Cells,
    *,
    columns: Mapping[str, str] = NO_COLUMNS,
    minimum_confidence: float = 0.0,
    form: str = "table of 0 and 1",
) -> Annotations:
    """Read a table with a column of 0 and 1 for each class.

    Parameters
    ----------
    table : Cells
        Recordings in a column ``filename``, or row ids in ``row_id``.
    columns : mapping of str to str
        As for `read_plain`.
    minimum_confidence : float
        Has no meaning here, as nothing but 0 and 1 is read.
    form : str
        What the table is, for people.

    Returns
    -------
    Annotations
        Complete; empty cells are unknown.

    Raises
    ------
    InputError
        If a column has other numbers, as a table of scores.
    """
    found = _find_columns(table, columns)
    classes = _find_classes(table, found)
    filename, stretches, beside = _locate(table, found)
    labels, silent = [], np.ones(table.rows, bool)
    for name in classes:
        values = table.take(name)
        different = set(values)
        for state, words in (("present", _ONES), ("unknown", {""})):
            rows = np.flatnonzero(np.isin(values, [cell for cell in different if cell.casefold() in words]))
            labels.append(Labels(rows, np.full(len(rows), name, np.object_), state))
            silent[rows] = False
        if any(cell.casefold() not in _ONES | _ZEROS | {""} for cell in different):
            row = next(row for row, cell in enumerate(values) if cell.casefold() not in _ONES | _ZEROS | {""})
            raise InputError(
                f"The labels {table.source} have {show(values[row])} for the class {name!r} in line "
                f"{table.lines[row]}: this is a table of scores. Labels are 0 or 1, or empty where nobody knows."
            )
    rows = np.flatnonzero(silent)
    labels.append(Labels(rows, np.full(len(rows), "nocall", np.object_)))
    notes = () if minimum_confidence <= 0 else ("It has no confidences, so that the least confidence changes nothing.",)
    draft = Draft(
        form=form,
        filename=filename,
        stretches=stretches,
        labels=labels,
        used=[*found.values(), *classes],
        weight=_read_weights(table, found.get("weight"), stretches.reasons),
        complete=True,
        beside=beside,
        notes=(f"Its columns of 0 and 1 are taken for {len(classes)} classes.", *notes),
    )
    return make_annotations(table, draft)


def _find_columns(table: Cells, columns: Mapping[str, str]) -> dict[str, str]:
    """Give the column for each key of `CANDIDATES` that has one."""
    for key, name in columns.items():
        if name not in table.columns:
            raise InputError(
                f"The labels {table.source} have no column {name!r}, which was named for the {key}; their columns are "
                f"{', '.join(table.columns)}."
            )
    taken = set(columns.values())
    found = dict(columns)
    for key, names in CANDIDATES.items():
        column = table.find(*names)
        if key not in found and column is not None and column not in taken:
            found[key] = column
    # In crowsetta's tables offset is where a sound ends; elsewhere it may be where it begins.
    if "end" not in columns and found.get("end") == "offset_s" and found.get("start") != "onset_s":
        del found["end"]
    # Beside a class it tells of this one, as in birdemb's own tables of all windows; elsewhere it may be one itself.
    if "class" not in found and "state" not in columns and key_of(found.get("state", "")) == "detected":
        del found["state"]
    return found


def _find_classes(table: Cells, found: Mapping[str, str]) -> list[str]:
    """Give the columns that are numbers from 0 to 1; none if there are others that nobody knows."""
    known = {*found.values(), table.find("row_id")}
    rest = [name for name in table.columns if name not in known and key_of(name) not in _NO_CLASSES]
    for name in rest:
        cells = {cell.casefold() for cell in set(table.take(name))} - _ONES - _ZEROS - {""}
        if cells:
            numbers = pd.to_numeric(pd.Series(list(cells), dtype=object), errors="coerce").to_numpy(np.float64)
            if not ((numbers >= 0) & (numbers <= 1)).all():
                return []
    return rest


def _locate(table: Cells, found: Mapping[str, str]) -> tuple[NDArray[np.object_], Stretches, bool]:
    """Find recordings and stretches, and say whether the recording is that which the file is named after."""
    start, end, duration = found.get("start"), found.get("end"), found.get("duration")
    row_id = table.find("row_id") if start is None and end is None else None
    if row_id is not None:
        stems, stretches = read_row_ids(table, row_id)
        if "filename" not in found:
            return stems, stretches, False
        if not (stretches.reasons != "").any():
            return table.take(found["filename"]), stretches, False
    # Without a start, a duration is that of the recording.
    stretches = measure_stretches(table, start, end, duration if start and not end else None, whole=True)
    if "filename" in found:
        filename = table.take(found["filename"])
        stretches.reasons[(filename == "") & (stretches.reasons == "")] = f"{found['filename']} is empty"
        return filename, stretches, False
    if start is None:
        raise InputError(
            f"The labels {table.source} have no column that names recordings, such as "
            f"{', '.join(CANDIDATES['filename'][:6])}; their columns are {', '.join(table.columns)}. Name the one."
        )
    return np.full(table.rows, name_recording(table.source), object), stretches, True


def _read_states(
    table: Cells, column: str | None, confidence: str | NDArray[np.object_], reasons: NDArray[np.object_]
) -> str | NDArray[np.object_]:
    if column is None:
        return confidence
    states = np.array([_STATES.get(cell.casefold(), "") for cell in table.take(column)], object)
    wrong = states == ""
    for row in np.flatnonzero(wrong & (reasons == "")):
        reasons[row] = f"{column} is {show(table.take(column)[row])}; expected {', '.join(STATES)}, 1 or 0"
    states[wrong] = "unknown"
    return np.where((states == "present") & (np.asarray(confidence) == "unknown"), "unknown", states).astype(object)


def _read_weights(table: Cells, column: str | None, reasons: NDArray[np.object_]) -> NDArray[np.float64] | None:
    if column is None:
        return None
    weights = read_numbers(table, [column])[column]
    for row in np.flatnonzero(~(np.isfinite(weights) & (weights > 0)) & (reasons == "")):
        reasons[row] = f"{column} is {show(table.take(column)[row])}; expected a number above 0"
    return weights
