"""Metadata of Hugging Face's audio folders: ``metadata.csv``, ``.jsonl`` or ``.parquet`` with ``file_name``."""

from __future__ import annotations

from birdemb.annotations.plain import has_one_hot_columns, has_plain_columns, read_one_hot, read_plain
from birdemb.annotations.table import Annotations
from birdemb.annotations.text_files import Cells

__all__ = ["has_hugging_face_columns", "read_hugging_face"]

_FILE_COLUMNS = ("file_name", "audio_file_name")
_FORM = "Hugging Face metadata"


def has_hugging_face_columns(table: Cells) -> bool:
    """Say whether a table has ``file_name``, and a column of classes or columns of 0 and 1."""
    column = table.find(*_FILE_COLUMNS)
    if column is None:
        return False
    columns = {"filename": column}
    return has_plain_columns(table, columns) or has_one_hot_columns(table, columns)


def read_hugging_face(table: Cells, *, class_column: str | None = None, minimum_confidence: float = 0.0) -> Annotations:
    """Read Hugging Face's metadata.

    Parameters
    ----------
    table : Cells
    class_column : str, optional
        The column that has the class or a list of classes; by default one of the usual names such as ``label``.
    minimum_confidence : float
        Below it in the column ``confidence`` or ``score`` a class is unknown.

    Returns
    -------
    Annotations
        See `read_plain` and `read_one_hot`. Classes that are numbers stay numbers, as their names are not in the file.
    """
    columns = {"filename": table.find(*_FILE_COLUMNS) or ""}
    if class_column is not None:
        columns["class"] = class_column
    read = read_plain if has_plain_columns(table, columns) else read_one_hot
    return read(table, columns=columns, minimum_confidence=minimum_confidence, form=_FORM)
