"""Taking embeddings out of a cache: one NumPy archive, one Parquet file, or a folder that pandas opens in one line.

Each window comes with its recording's name and sha256 and its start and end in seconds, and every row is compared with
its hash on the way. Whatever the size of the cache, only some megabytes of its rows are in memory at a time; writing
Parquet takes about a hundred more.
"""

from __future__ import annotations

import shutil
import uuid
import zipfile
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.cache.places import stream_rows
from birdemb.cache.shards import BLOCK_BYTES, Kind
from birdemb.cache.view import CacheView
from birdemb.errors import InputError, MissingDependencyError
from birdemb.storage import replace_atomically

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["export"]

_ROWS_A_FILE = 1 << 16  # of a folder
_ROWS_AT_ONCE = 1 << 16
_LISTS = ("embedding", "logits")  # columns of one file


def export(view: CacheView, output: Path) -> int:
    """Write all windows of a cache in another form.

    Parameters
    ----------
    view : CacheView
    output : Path
        ``*.npz``: arrays ``embeddings`` (in the cache's dtype), ``logits`` where there are any, ``start``, ``end``, and
        ``recording``, which points into the arrays ``names`` and ``sha256``.

        ``*.parquet``: one file with the columns recording, sha256, start, end, embedding and perhaps logits, these two
        as lists of fixed size: compact, and what DuckDB, Polars and Arrow like best.

        Any other name without a suffix: a folder of Parquet files with the columns recording, sha256, start, end,
        e0000, e0001, ... and perhaps l0000, ...: pandas makes an object of each list, but a table of numbers of these.

        In Parquet, values are float32, which every reader knows; compressed, they take little more room than float16.
        Recordings without a name have their sha256 in its place.

    Returns
    -------
    int
        How many windows were written.

    Raises
    ------
    InputError
        If the name says no form, the folder is there already, rows are damaged, or it cannot be written.
    MissingDependencyError
        If pyarrow is not there, for Parquet.
    """
    if output.suffix == ".npz":
        _export_archive(view, output)
    elif output.suffix == ".parquet":
        _refuse_without_pyarrow()
        _export_file(view, output)
    elif not output.suffix or output.is_dir():
        _refuse_without_pyarrow()
        _export_folder(view, output)
    else:
        raise InputError(f"{output} has the suffix {output.suffix}; expected .npz, .parquet, or none for a folder.")
    return len(view)


def _refuse_without_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "pyarrow, which writes Parquet, is not installed. Run: pip install 'birdemb[parquet]', or export to .npz"
        ) from error


def _names(view: CacheView) -> pd.Series[str]:
    recordings = view.recordings
    if "recording" not in recordings:
        return recordings["sha256"]
    return recordings["recording"].where(recordings["recording"].notna(), recordings["sha256"])


class _Times:
    """Which recording each window belongs to, and when it starts and ends, for any range of rows."""

    def __init__(self, view: CacheView) -> None:
        if "window" not in view.identity or "hop" not in view.identity:
            raise InputError(
                f"{view.folder / 'identity.json'} does not say window and hop, so times cannot be told. "
                "Read it with birdemb.open_cache."
            )
        self._window, self._hop = float(view.identity["window"]), float(view.identity["hop"])
        counts = view.recordings["windows"].to_numpy()
        self._starts = np.cumsum(counts) - counts
        # Recordings without windows would stand in the way of finding a row's.
        self._kept = np.flatnonzero(counts)

    def of(self, first: int, end: int) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]:
        rows = np.arange(first, end)
        number = self._kept[np.searchsorted(self._starts[self._kept], rows, side="right") - 1]
        start = (rows - self._starts[number]) * self._hop
        return number.astype(np.int32), start, start + self._window


def _stream(view: CacheView, kind: Kind) -> Iterator[NDArray[Any]]:
    return stream_rows(view.cache, view.recordings["sha256"].tolist(), kind)


def _export_archive(view: CacheView, output: Path) -> None:
    times, names, rows = _Times(view), _names(view), len(view)
    longest = max((len(name) for name in names), default=1)
    sha256s = view.recordings["sha256"]

    def slices() -> Iterator[tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]]:
        return (times.of(first, min(first + _ROWS_AT_ONCE, rows)) for first in range(0, rows, _ROWS_AT_ONCE))

    def texts(values: pd.Series[str], dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
        return (
            values.iloc[first : first + _ROWS_AT_ONCE].to_numpy().astype(dtype)
            for first in range(0, len(values), _ROWS_AT_ONCE)
        )

    with (
        replace_atomically(output) as temporary,
        # An export must be readable by whatever reads .npz files, so it is not compressed: embeddings hardly are.
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        name_type, sha256_type = np.dtype(f"U{longest}"), np.dtype("U64")
        _write_member(archive, "names", (len(names),), name_type, texts(names, name_type))
        _write_member(archive, "sha256", (len(names),), sha256_type, texts(sha256s, sha256_type))
        _write_member(archive, "recording", (rows,), np.dtype(np.int32), (number for number, _, _ in slices()))
        _write_member(archive, "start", (rows,), np.dtype(np.float64), (start for _, start, _ in slices()))
        _write_member(archive, "end", (rows,), np.dtype(np.float64), (end for _, _, end in slices()))
        for kind in _kinds(view):
            shape = (rows, view.cache.width_of(kind))
            _write_member(archive, kind, shape, view.cache.dtype, _stream(view, kind))


def _kinds(view: CacheView) -> tuple[Kind, ...]:
    return ("embeddings", "logits") if view.cache.logits_width else ("embeddings",)


def _write_member(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], blocks: Iterable[NDArray[Any]]
) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block).tobytes())


def _export_file(view: CacheView, output: Path) -> None:
    with replace_atomically(output) as temporary:
        _write_parquet(temporary, _tables(view, wide=False))


def _export_folder(view: CacheView, output: Path) -> None:
    temporary = output.absolute().with_name(f".{uuid.uuid4().hex}.partial")
    try:
        if output.is_dir() and not any(output.iterdir()):
            output.rmdir()
        if output.exists():
            raise InputError(f"{output} is there already. Delete it, or choose another name.")
        temporary.mkdir(parents=True)
        tables = _tables(view, wide=True)
        for number, first in enumerate(tables):
            following = islice(tables, max(1, _ROWS_A_FILE // max(1, len(first))) - 1)
            with replace_atomically(temporary / f"windows-{number:05}.parquet") as file:
                _write_parquet(file, chain([first], following))
        temporary.rename(output)
    except OSError as error:
        raise InputError(
            f"Cannot write {output}: {error.strerror or error}. Choose a name in a folder that you may write to."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_parquet(path: Path, tables: Iterator[pa.Table]) -> None:
    import pyarrow.parquet as pq

    first = next(tables)
    repeated = [name for name in ("recording", "sha256", "start", "end") if name in first.column_names]
    values = [name for name in first.column_names if name not in repeated]
    with (
        path.open("wb") as file,
        # float16 widened to float32 has bytes that are nearly all zero: put beside each other, they compress well.
        pq.ParquetWriter(
            file,
            first.schema,
            compression="zstd",
            use_dictionary=repeated,
            use_byte_stream_split=[f"{name}.list.element" if name in _LISTS else name for name in values],
        ) as writer,
    ):
        for table in chain([first], tables):
            writer.write_table(table)


def _tables(view: CacheView, *, wide: bool) -> Iterator[pa.Table]:
    """Give the windows table by table, each of some tens of megabytes at most, and at least one."""
    times, names, sha256s = _Times(view), _names(view).to_numpy(), view.recordings["sha256"].to_numpy()
    kinds = _kinds(view)
    widths = [view.cache.width_of(kind) for kind in kinds]
    step = max(1, min(_ROWS_AT_ONCE, BLOCK_BYTES // (4 * sum(widths))))
    first = 0
    for blocks in zip(*(_regroup(_stream(view, kind), step) for kind in kinds), strict=True):
        number, start, end = times.of(first, first + len(blocks[0]))
        yield _table(names[number], sha256s[number], start, end, dict(zip(kinds, blocks, strict=True)), wide=wide)
        first += len(blocks[0])
    if not first:
        nothing = [np.empty((0, width), np.float32) for width in widths]
        yield _table(
            names[:0], sha256s[:0], np.empty(0), np.empty(0), dict(zip(kinds, nothing, strict=True)), wide=wide
        )


def _table(
    names: NDArray[Any],
    sha256s: NDArray[Any],
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    values: dict[Kind, NDArray[Any]],
    *,
    wide: bool,
) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, Any] = {
        "recording": pa.array(names.tolist(), pa.string()),
        "sha256": pa.array(sha256s.tolist(), pa.string()),
        "start": pa.array(start),
        "end": pa.array(end),
    }
    for kind, narrow in values.items():
        block = narrow.astype(np.float32)
        if wide:
            columns |= {f"{kind[0]}{column:04}": pa.array(block[:, column]) for column in range(block.shape[1])}
        else:
            lists = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), block.shape[1])
            columns["embedding" if kind == "embeddings" else "logits"] = lists
    return pa.table(columns)


def _regroup(blocks: Iterable[NDArray[Any]], rows: int) -> Iterator[NDArray[Any]]:
    """Give the same rows in blocks of equal length, but for the last."""
    waiting: list[NDArray[Any]] = []
    count = 0
    for block in blocks:
        rest = block
        while len(rest):
            waiting.append(rest[: rows - count])
            count += len(waiting[-1])
            rest = rest[len(waiting[-1]) :]
            if count == rows:
                yield np.concatenate(waiting)
                waiting, count = [], 0
    if waiting:
        yield np.concatenate(waiting)
