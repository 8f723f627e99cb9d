"""From what a form's reader found to rows of annotations: one for each class, what cannot be used beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.annotations.table import NOTHING, Annotations
from birdemb.annotations.text_files import Cells, show
from birdemb.annotations.times import Stretches, read_numbers
from birdemb.errors import InputError
from birdemb.label_table import split_secondary

__all__ = ["Draft", "Labels", "doubt", "make_annotations", "name_recording", "split_labels", "split_list"]

_ENDINGS = re.compile(
    r"(?:\.table\.\d+|\.selections?|\.birdnet|\.hawkears|\.results?|\.table|\.labels?|\.annotations?|\.audacity"
    r"|\.raven|\.kaleidoscope|\.r|_scores)$",
    re.IGNORECASE,
)
"""What tools append to the stem of a recording; Raven: .Table.1.selections; BirdNET: .BirdNET.selection.table."""


@dataclass(frozen=True)
class Labels:
    """Names that a column has, in the order of its rows.

    Parameters
    ----------
    row : ndarray of shape (labels,), int64
        The row of the table that each is in.
    name : ndarray of shape (labels,), object
        As the table has it.
    state : str or ndarray of shape (labels,), object
        What is said of it.
    """

    row: NDArray[np.int64]
    name: NDArray[np.object_]
    state: str | NDArray[np.object_] = "present"


@dataclass(frozen=True)
class Draft:
    """What a reader found in a table.

    Parameters
    ----------
    form : str
        What the table is, for people.
    filename : ndarray of shape (rows,), object
    stretches : Stretches
    labels : sequence of Labels
        The classes of each row, the first column's first.
    used : collection of str
        Columns that are told by the annotations themselves, and so are no extras.
    weight : ndarray of shape (rows,), float64, optional
    complete, only_found, beside : bool
        As in `Annotations`.
    notes : tuple of str
    class_column : str
        For the reason of rows without a class.
    views : bool
        Whether rows that differ in other columns alone are one annotation all the same.
    may_be_empty : bool
        Whether a table without rows says something: that its recording has nothing of interest.
    """

    form: str
    filename: NDArray[np.object_]
    stretches: Stretches
    labels: Sequence[Labels]
    used: Sequence[str | None]
    weight: NDArray[np.float64] | None = None
    complete: bool = False
    only_found: bool = False
    beside: bool = False
    notes: tuple[str, ...] = ()
    class_column: str = ""
    views: bool = False
    may_be_empty: bool = False


def make_annotations(table: Cells, draft: Draft) -> Annotations:
    """Make annotations of what a reader found.

    Names such as ``nocall`` become the class "", absent; beside a class in the same row they say nothing. Of rows that
    say the same, also in the other columns, the first is kept.

    Raises
    ------
    InputError
        If no row can be used.
    """
    rows = table.rows
    if not rows and not draft.may_be_empty:
        raise InputError(f"The labels {table.source} have no rows ({draft.form}).")
    row, name, state, reasons = _settle_nothing(draft, rows)
    unlabelled = np.ones(rows, bool)
    unlabelled[row] = False
    for index in np.flatnonzero(unlabelled & (reasons == "")):
        reasons[index] = f"{draft.class_column} names no class" if draft.class_column else "it names no class"
    usable = reasons[row] == ""
    row, name, state = row[usable], name[usable], state[usable]
    weight = draft.weight if draft.weight is not None else np.ones(rows)
    found: dict[str, NDArray[Any]] = {
        "filename": draft.filename[row],
        "start": draft.stretches.start[row],
        "end": draft.stretches.end[row],
        "class": name,
        "state": state,
        "weight": weight[row],
        "line": table.lines[row],
    }
    extras = {column: cells[row] for column, cells in table.cells.items() if column not in draft.used}
    first = ~_find_repeated(found, {} if draft.views else extras)
    left_out = tuple((int(table.lines[index]), str(reasons[index])) for index in np.flatnonzero(reasons != ""))
    if rows and not len(row):
        line, reason = left_out[0]
        raise InputError(
            f"None of the {rows} rows of {table.source} ({draft.form}) can be used; in line {line}, {reason}."
        )
    return Annotations(
        columns={column: values[first] for column, values in found.items()},
        source=table.source,
        form=draft.form,
        extras={column: values[first] for column, values in extras.items()},
        left_out=left_out,
        complete=draft.complete,
        only_found=draft.only_found,
        beside=draft.beside,
        notes=table.notes + draft.notes + (() if first.all() else (f"{_count(~first)} the same as another.",)),
    )


def _find_repeated(found: Mapping[str, NDArray[Any]], extras: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Find the rows that say, but for their line, what one before them says."""
    said = [np.nan_to_num(found[name], nan=-1.0).tolist() for name in ("start", "end", "weight")]
    said += [found[name].tolist() for name in ("filename", "class", "state")]
    keys = list(zip(*said, strict=True))
    repeated = np.zeros(len(keys), bool)
    if len(set(keys)) == len(keys):
        return repeated
    beside = zip(*(values.tolist() for values in extras.values()), strict=True) if extras else iter([()] * len(keys))
    known = set()
    for row, key in enumerate(zip(keys, beside, strict=True)):
        repeated[row] = key in known
        known.add(key)
    return repeated


def _count(rows: NDArray[np.bool_]) -> str:
    number = int(rows.sum())
    return "1 annotation was" if number == 1 else f"{number} annotations were"


def _settle_nothing(
    draft: Draft, rows: int
) -> tuple[NDArray[np.int64], NDArray[np.object_], NDArray[np.object_], NDArray[np.object_]]:
    """Give rows, classes and states of all labels in the order of the rows, and the reasons of rows without use."""
    row = np.concatenate([labels.row for labels in draft.labels])
    order = np.argsort(row, kind="stable")
    row = row[order]
    name = np.concatenate([labels.name for labels in draft.labels])[order]
    state = np.concatenate([np.full(len(labels.row), labels.state, object) for labels in draft.labels])[order]
    codes, unique = pd.factorize(name)
    nothing = np.array([label.casefold() in NOTHING for label in unique], bool)[codes]
    reasons = draft.stretches.reasons.copy()
    with_class = np.zeros(rows, bool)
    with_class[row[~nothing]] = True
    alone = nothing & ~with_class[row]
    for index in np.flatnonzero(alone & (state != "present")):
        reasons[row[index]] = (
            reasons[row[index]] or f"that {show(name[index])} is {state[index]} says nothing of any class"
        )
    name[nothing], state[nothing] = "", "absent"
    kept = ~nothing | alone
    return row[kept], name[kept], state[kept], reasons


def split_labels(
    texts: NDArray[np.object_], split: Callable[[str], list[str]], state: str | NDArray[np.object_] = "present"
) -> Labels:
    """Split the cells of a column into names, each different cell once.

    Parameters
    ----------
    texts : ndarray of shape (rows,), object
    split : callable
        Gives the names in a cell.
    state : str or ndarray of shape (rows,), object
        What is said of all, or of those in each row.
    """
    codes, unique = pd.factorize(texts)
    parts = [list(dict.fromkeys(filter(None, map(str.strip, split(cell))))) for cell in unique]
    counts = np.array([len(names) for names in parts], np.int64)[codes]
    row = np.repeat(np.arange(len(texts)), counts)
    name = np.array([label for code in codes for label in parts[code]], object)
    return Labels(row, name, state if isinstance(state, str) else state[row])


def split_list(cell: str, separators: str = ";|") -> list[str]:
    """Split a cell into names: a list as JSON or Python writes it, or names between separators.

    Examples
    --------
    >>> split_list("['wren', 'robin']"), split_list("wren; robin"), split_list("Great Tit")
    (['wren', 'robin'], ['wren', 'robin'], ['Great Tit'])
    """
    if not cell.startswith("["):
        return [part.strip() for part in re.split(f"[{re.escape(separators)}]", cell) if part.strip()]
    try:
        values = json.loads(cell, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return split_secondary(cell)
    return [str(value) for value in values if value is not None]


def name_recording(source: Path) -> str:
    """Give the recording that a file of labels is about by its own name, without what tools append.

    Examples
    --------
    >>> name_recording(Path("dawn.Table.1.selections.txt")), name_recording(Path("dawn.BirdNET.results.csv"))
    ('dawn', 'dawn')
    """
    stem = source.name[: -len(source.suffix)] if source.suffix else source.name
    while (shorter := _ENDINGS.sub("", stem)) not in ("", stem):
        stem = shorter
    return stem


def doubt(
    table: Cells, column: str | None, minimum_confidence: float, reasons: NDArray[np.object_]
) -> tuple[str | NDArray[np.object_], tuple[str, ...]]:
    """Say which rows are too little sure: a class that is found with less confidence may be there, and may not.

    Parameters
    ----------
    table : Cells
    column : str or None
        Of confidences; None if the table has none.
    minimum_confidence : float
    reasons : ndarray of shape (rows,), object
        Of rows that cannot be used; those whose confidence is no number are added where the minimum is above 0.

    Returns
    -------
    state : str or ndarray of shape (rows,), object
        "present", or "unknown" below the minimum.
    notes : tuple of str
    """
    if minimum_confidence <= 0:
        return "present", ()
    if column is None:
        return "present", ("It has no column of confidences, so that the least confidence changes nothing.",)
    confidence = read_numbers(table, [column])[column]
    for row in np.flatnonzero(np.isnan(confidence) & (reasons == "")):
        reasons[row] = f"{column} is {show(table.take(column)[row])}, which is no number"
    return np.where(confidence < minimum_confidence, "unknown", "present").astype(object), ()
