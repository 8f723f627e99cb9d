"""Which form a file of labels has, by what is in it; and its annotations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from birdemb.annotations import audacity, birdclef, birdnet, huggingface, kaleidoscope, plain, raven
from birdemb.annotations.plain import NO_COLUMNS
from birdemb.annotations.table import Annotations
from birdemb.annotations.text_files import Cells, Text, is_parquet, read_cells, read_parquet, read_text
from birdemb.errors import InputError

__all__ = ["COLUMN_KEYS", "read_annotations", "recognise"]

COLUMN_KEYS = tuple(plain.CANDIDATES)
"""What columns can be named for."""

_AUDACITY = "Audacity label track"
_ONE_HOT = "table of 0 and 1"
_SHOWN = 20
"""Columns that a message lists at most."""


@dataclass(frozen=True)
class _Form:
    """A form of table.

    Parameters
    ----------
    name : str
        For people.
    wanted : str
        The columns by which it is known.
    fits : callable
        Says whether a table has them.
    read : callable
        Reads such a table, by the column that has the class or None, and the least confidence.
    """

    name: str
    wanted: str
    fits: Callable[[Cells], bool]
    read: Callable[[Cells, str | None, float], Annotations]


_FORMS = (
    _Form(
        "Kaleidoscope table",
        "IN FILE, OFFSET",
        kaleidoscope.has_kaleidoscope_columns,
        lambda table, column, least: kaleidoscope.read_kaleidoscope(
            table, class_column=column, minimum_confidence=least
        ),
    ),
    _Form(
        "BirdNET results",
        "Start (s), End (s), Scientific name",
        birdnet.has_birdnet_columns,
        lambda table, column, least: birdnet.read_birdnet(table, class_column=column, minimum_confidence=least),
    ),
    _Form(
        "Raven selection table",
        "Begin Time (s), End Time (s)",
        raven.has_raven_columns,
        lambda table, column, least: raven.read_raven(table, class_column=column, minimum_confidence=least),
    ),
    _Form(
        "BirdCLEF table of soundscapes",
        "row_id, birds or filename, start, end, primary_label",
        birdclef.has_soundscape_columns,
        lambda table, column, _: birdclef.read_soundscape_labels(table, class_column=column),
    ),
    _Form(
        "BirdCLEF table of focal recordings",
        "filename, primary_label",
        birdclef.has_focal_columns,
        lambda table, column, _: birdclef.read_focal_recordings(table, class_column=column),
    ),
    _Form(
        "Hugging Face metadata",
        "file_name and a class such as label, or columns of 0 and 1",
        huggingface.has_hugging_face_columns,
        lambda table, column, least: huggingface.read_hugging_face(
            table, class_column=column, minimum_confidence=least
        ),
    ),
    _Form(
        "BirdNET-Pi's BirdDB.txt",
        "",
        birdnet.has_birdnet_pi_columns,
        lambda table, *_: birdnet.refuse_birdnet_pi(table),
    ),
    _Form(
        "plain table",
        "a recording such as filename and a class such as label or species",
        plain.has_plain_columns,
        lambda table, column, least: plain.read_plain(
            table, columns={"class": column} if column else {}, minimum_confidence=least
        ),
    ),
    _Form(
        _ONE_HOT,
        "filename or row_id and a column of 0 and 1 for each class",
        plain.has_one_hot_columns,
        lambda table, _, least: plain.read_one_hot(table, minimum_confidence=least),
    ),
)
"""In the order in which they are tried: the first that fits is it."""


def recognise(path: Path) -> str:
    """Say which form a file of labels has, by what is in it.

    Parameters
    ----------
    path : Path

    Returns
    -------
    str
        For people, such as ``"Raven selection table"``.

    Raises
    ------
    InputError
        If it cannot be opened, or has none of the known forms.
    MissingDependencyError
        If it is Parquet, and pyarrow is not installed.
    """
    opened = _open(path)
    if not isinstance(opened, Cells):
        return _AUDACITY
    form = next((form for form in _FORMS if form.fits(opened)), None)
    if form is None:
        raise _explain_unknown(opened)
    return form.name


def read_annotations(
    path: Path, *, columns: Mapping[str, str] = NO_COLUMNS, minimum_confidence: float = 0.0
) -> Annotations:
    """Read a file of labels of any known form.

    Parameters
    ----------
    path : Path
    columns : mapping of str to str
        Names of columns, by what they have: "filename", "start", "end", "duration", "class", "state", "weight" or
        "confidence". If "class" alone is named, the form is recognised and that column has its classes; with any
        other the file is read as a plain table, where columns that are not named are looked for under the usual names.
    minimum_confidence : float
        From 0 to 1. A class that a detector has found with less confidence is unknown: neither present nor absent.

    Returns
    -------
    Annotations

    Raises
    ------
    InputError
        If it cannot be opened, has none of the known forms, or no row of it can be used.
    MissingDependencyError
        If it is Parquet, and pyarrow is not installed.
    """
    unknown = sorted(set(columns) - set(COLUMN_KEYS))
    if unknown:
        raise InputError(f"Columns cannot be named for {unknown[0]!r}. Use {', '.join(COLUMN_KEYS)}.")
    if not 0 <= minimum_confidence <= 1:
        raise InputError(f"The least confidence is {minimum_confidence}. Expected a number from 0 to 1.")
    opened = _open(path)
    if not isinstance(opened, Cells):
        if columns:
            raise InputError(f"{path} is an {_AUDACITY}, which has no columns to be named. Leave their names out.")
        return audacity.read_audacity(opened, minimum_confidence=minimum_confidence)
    missing = next((name for name in columns.values() if name not in opened.columns), None)
    if missing is not None:
        raise InputError(
            f"The labels {path} have no column {missing!r}; their columns are {', '.join(opened.columns)}."
        )
    form = next((form for form in _FORMS if form.fits(opened)), None)
    if not columns and form is None:
        raise _explain_unknown(opened)
    if form is not None and form.name != _ONE_HOT and set(columns) <= {"class"}:
        return form.read(opened, columns.get("class"), minimum_confidence)
    if "class" in columns or not plain.has_one_hot_columns(opened, columns):
        return plain.read_plain(opened, columns=columns, minimum_confidence=minimum_confidence)
    return plain.read_one_hot(opened, columns=columns, minimum_confidence=minimum_confidence)


def _open(path: Path) -> Cells | Text:
    """Open a file: the cells of a table, or the text of a label track."""
    if is_parquet(path):
        return read_parquet(path)
    text = read_text(path)
    return text if audacity.is_audacity(text) else read_cells(text)


def _explain_unknown(table: Cells) -> InputError:
    wanted = "; ".join(f"{form.wanted} ({form.name})" for form in _FORMS if form.wanted)
    shown = ", ".join(table.columns[:_SHOWN]) + (", ..." if len(table.columns) > _SHOWN else "")
    return InputError(
        f"The labels {table.source} have no form that is known: their columns are {shown}. Looked for were: {wanted}; "
        "and lines of start, end and label between tabs (Audacity label track). Name the columns that have the "
        "recording and the class."
    )
