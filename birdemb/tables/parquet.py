"""Parquet: the long table, or the detections, with the types of their columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from birdemb.errors import MissingDependencyError
from birdemb.storage import replace_atomically
from birdemb.tables.source import TableSource, WindowPart

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["refuse_without_pyarrow", "write_parquet", "write_parquet_detections"]


def refuse_without_pyarrow() -> None:
    """Make sure that Parquet can be written.

    Raises
    ------
    MissingDependencyError
        If pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "pyarrow, which writes Parquet, is not installed. Run: pip install 'birdemb[parquet]', or write CSV"
        ) from error


def write_parquet(path: Path, source: TableSource) -> int:
    """Write a row for each class in each window.

    Parameters
    ----------
    path : Path
        Gets the columns of `birdemb.tables.long.LONG_COLUMNS`. Texts that come again and again are dictionaries, which
        pandas reads as categories; start, end and probability are float64, detected is a truth value or null, and
        unknown times are null.
    source : TableSource

    Returns
    -------
    int
        How many rows there are.

    Raises
    ------
    InputError
        If it cannot be written.
    MissingDependencyError
        If pyarrow is not installed.
    """
    refuse_without_pyarrow()
    _write(path, _schema("detected"), (_lay_out(part, source) for part in source.windows()))
    return source.prediction.probabilities.size


def write_parquet_detections(path: Path, source: TableSource) -> int:
    """Write a row for each detection.

    Parameters
    ----------
    path : Path
        Gets the same columns as `write_parquet` makes, but for the last, which is the threshold.
    source : TableSource

    Returns
    -------
    int
        How many rows there are.

    Raises
    ------
    InputError
        If it cannot be written.
    MissingDependencyError
        If pyarrow is not installed.
    """
    refuse_without_pyarrow()
    schema = _schema("threshold")
    rows = 0

    def columns() -> Iterator[dict[str, Any]]:
        nonlocal rows
        for _, table in source.detections():
            rows += len(table)
            yield {name: table[name].tolist() for name in schema.names}

    _write(path, schema, columns())
    return rows


def _schema(last: str) -> pa.Schema:
    import pyarrow as pa

    repeated = pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        [
            ("recording", repeated),
            ("start", pa.float64()),
            ("end", pa.float64()),
            ("start_time", pa.string()),
            ("end_time", pa.string()),
            ("class", repeated),
            ("scientific_name", repeated),
            ("common_name", repeated),
            ("probability", pa.float64()),
            (last, pa.bool_() if last == "detected" else pa.float64()),
        ]
    )


def _write(path: Path, schema: pa.Schema, parts: Iterable[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with (
        replace_atomically(path) as temporary,
        temporary.open("wb") as file,
        pq.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for columns in parts:
            arrays = [_to_arrow(columns[field.name], field.type) for field in schema]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _to_arrow(values: Any, kind: pa.DataType) -> pa.Array:  # noqa: ANN401 - a list, or a pair of places and texts
    import pyarrow as pa

    if isinstance(values, tuple):
        places, texts = values
        numbers, different = pd.factorize(np.array(texts, dtype=object))  # -1 for None
        indices = numbers[places]
        taken = pa.DictionaryArray.from_arrays(
            pa.array(indices.astype(np.int32), mask=indices < 0), pa.array(map(_clean, different), pa.string())
        )
        return taken if pa.types.is_dictionary(kind) else taken.cast(kind)
    if pa.types.is_dictionary(kind):
        return pa.array(map(_clean, values), pa.string()).dictionary_encode().cast(kind)
    return pa.array(values, kind)


def _clean(text: str | None) -> str | None:
    # Names of files need not be valid text.
    return text.encode(errors="backslashreplace").decode() if text is not None else None


def _lay_out(part: WindowPart, source: TableSource) -> dict[str, Any]:
    """Give the columns of a part: texts as places in a list of them, so that none is made more than once."""
    classes = source.prediction.classes
    windows, width = part.probabilities.shape
    window = np.repeat(np.arange(windows, dtype=np.int32), width)
    label = np.tile(np.arange(width, dtype=np.int32), windows)
    columns: dict[str, Any] = {
        "recording": (window, part.recordings),
        "start": np.repeat(part.start, width),
        "end": np.repeat(part.end, width),
        "start_time": (window, part.start_time),
        "end_time": (window, part.end_time),
        "class": (label, [name.label for name in classes]),
        "scientific_name": (label, [name.scientific for name in classes]),
        "common_name": (label, [name.common for name in classes]),
        "probability": part.probabilities.ravel(),
        "detected": [None] * part.probabilities.size,
    }
    if source.thresholds is not None:
        columns["detected"] = (part.probabilities >= source.thresholds).ravel()
    return columns
