"""Shards: immutable NumPy arrays, each with a JSON sidecar that says which rows belong to which recording.

The arrays are written first, the sidecar last, and each is renamed into place once it has reached the disk: a sidecar
never speaks of rows that are not there. Names never collide and shards are never changed, so that any number of
processes and machines may write into one folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from birdemb.cache.form import Form
from birdemb.errors import InputError
from birdemb.storage import read_json, replace_atomically, sync_folder

__all__ = [
    "BLOCK_BYTES",
    "DamagedShardError",
    "Kind",
    "Part",
    "Shard",
    "ShardSizes",
    "check_blocks",
    "delete_shards",
    "hash_of",
    "hash_rows",
    "list_sidecars",
    "logits_of",
    "map_rows",
    "measure_shard",
    "read_shard",
    "rows_of",
    "write_array",
    "write_shard",
]

BLOCK_BYTES = 8 << 20
"""The most that is read at once where a whole cache is gone through."""

Kind = Literal["embeddings", "logits"]


class DamagedShardError(InputError):
    """A shard's files are not what its sidecar, or the index, says."""


class Part(NamedTuple):
    """Consecutive windows of one recording in a shard.

    Parameters
    ----------
    sha256 : str
        Of the recording's content.
    first_window : int
        Its first window within the recording.
    windows : int
    first_row : int
        Of these windows in the shard.
    last : bool
        Whether the recording ends with it.
    seconds : float
        Length of the whole recording; only the last part knows it.
    rows_sha256 : str
        Of the bytes of its embeddings.
    logits_sha256 : str or None
        Of the bytes of its logits, where the cache has these.
    """

    sha256: str
    first_window: int
    windows: int
    first_row: int
    last: bool
    seconds: float
    rows_sha256: str
    logits_sha256: str | None = None


class ShardSizes(NamedTuple):
    """Bytes of a shard's files, which tell cheaply whether they are still the ones that were checked."""

    sidecar: int
    rows: int
    logits: int


@dataclass(frozen=True)
class Shard:
    """A shard whose files are as its sidecar says.

    Parameters
    ----------
    sidecar : Path
    rows : int
    parts : tuple of Part
        In the order of their rows.
    sizes : ShardSizes
    offset, logits_offset : int
        Where the values begin in the arrays' files, in bytes; 0 for logits that there are none of.
    """

    sidecar: Path
    rows: int
    parts: tuple[Part, ...]
    sizes: ShardSizes
    offset: int
    logits_offset: int

    @property
    def name(self) -> str:
        """Give its name, which is unique."""
        return self.sidecar.stem


def rows_of(sidecar: Path) -> Path:
    """Give the file of a shard's embeddings."""
    return sidecar.with_suffix(".npy")


def logits_of(sidecar: Path) -> Path:
    """Give the file of a shard's logits."""
    return sidecar.with_suffix(".logits.npy")


def hash_rows(rows: NDArray[Any]) -> str:
    """Compute the sha256 of the bytes of rows, as 64 hexadecimal digits."""
    return hashlib.sha256(_bytes_of(rows)).hexdigest()


def _bytes_of(rows: NDArray[Any]) -> memoryview:
    # A memoryview of an array without elements is not one that can be hashed or written.
    return np.ascontiguousarray(rows).data.cast("B") if rows.size else memoryview(b"")


def hash_of(part: Part, kind: Kind) -> str | None:
    """Give the sha256 that a part's rows were written with."""
    return part.rows_sha256 if kind == "embeddings" else part.logits_sha256


def list_sidecars(folder: Path) -> list[Path]:
    """List the sidecars of an identity's folder, by name."""
    try:
        with os.scandir(folder / "shards") as entries:
            names = [entry.name for entry in entries if entry.name.endswith(".json") and not entry.name.startswith(".")]
    except FileNotFoundError:
        return []
    return [folder / "shards" / name for name in sorted(names)]


def measure_shard(sidecar: Path, form: Form) -> ShardSizes | None:
    """Give the sizes of a shard's files, or None where one is missing."""
    try:
        return ShardSizes(
            sidecar.stat().st_size,
            rows_of(sidecar).stat().st_size,
            logits_of(sidecar).stat().st_size if form.logits else 0,
        )
    except OSError:
        return None


def map_rows(path: Path, rows: int | None, width: int, dtype: np.dtype[Any]) -> np.memmap[Any, Any]:
    """Map an array of a shard into memory, read-only.

    Parameters
    ----------
    path : Path
    rows : int or None
        How many it has to have; None where what is read of it is checked by its hash.
    width : int
    dtype : numpy dtype

    Raises
    ------
    DamagedShardError
        If it is not there or not of this form. Where it is not there, the cause is a FileNotFoundError.
    """
    try:
        # Not np.load, which would take an archive too.
        found = np.lib.format.open_memmap(path, mode="r")
        length = path.stat().st_size
    except (OSError, EOFError, ValueError, OverflowError, TypeError, MemoryError) as error:
        raise DamagedShardError(f"{path} is damaged: {error}. {_MEND}") from error
    mapped = cast("np.memmap[Any, Any]", found)
    expected = (len(mapped) if rows is None and mapped.ndim else rows, width)
    whole = mapped.offset + mapped.size * dtype.itemsize == length
    if mapped.shape != expected or mapped.dtype != dtype or not mapped.flags.c_contiguous or not whole:
        raise DamagedShardError(
            f"{path} is damaged: it holds {mapped.shape} {mapped.dtype} in {length} bytes, "
            f"expected {expected} {dtype}. {_MEND}"
        )
    return mapped


_MEND = "Run `birdemb cache gc`, which removes what is damaged, and `birdemb embed` again, which embeds it anew."


def read_shard(sidecar: Path, form: Form) -> Shard | None:
    """Read a sidecar and check the headers of its arrays.

    Returns
    -------
    Shard or None
        None if somebody has deleted it meanwhile.

    Raises
    ------
    DamagedShardError
        If its files are not what the sidecar says.
    InputError
        If they cannot be read, for want of rights or as the disk or the network fails.
    """
    try:
        content = read_json(sidecar, _MEND)
        parts = tuple(_read_part(entry, form) for entry in content["parts"])
        rows = content["rows"]
        ends = list(accumulate((part.windows for part in parts), initial=0))
        if [part.first_row for part in parts] != ends[:-1] or ends[-1] != rows:
            raise ValueError("its parts do not follow each other")
        embeddings = map_rows(rows_of(sidecar), rows, form.dim, form.dtype)
        logits = map_rows(logits_of(sidecar), rows, form.logits, form.dtype) if form.logits else None
        sizes = measure_shard(sidecar, form)
    except (InputError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
            # Nothing is known to be wrong with it, and what counts as damaged may be deleted.
            raise InputError(f"{sidecar} or its arrays cannot be read: {cause}. Make the cache readable.") from error
        if not sidecar.exists():
            return None
        if isinstance(error, InputError):
            raise DamagedShardError(str(error)) from error
        raise DamagedShardError(f"{sidecar} is damaged: {error!r}. {_MEND}") from error
    if sizes is None:
        return None
    return Shard(sidecar, rows, parts, sizes, embeddings.offset, logits.offset if logits is not None else 0)


def _read_part(entry: dict[str, Any], form: Form) -> Part:
    part = Part(**entry)
    if (
        type(part.windows) is not int
        or type(part.first_window) is not int
        or type(part.last) is not bool
        or not isinstance(part.seconds, float | int)
        or not isinstance(part.sha256, str)
        or not isinstance(part.rows_sha256, str)
        or isinstance(part.logits_sha256, str) != bool(form.logits)
        or part.first_window < 0
        or part.windows < (0 if part.last else 1)
    ):
        raise ValueError(f"it lists {entry}")
    return part


def check_blocks(rows: NDArray[Any], part: Part, expected: str | None, path: Path) -> Iterator[NDArray[Any]]:
    """Give the rows of a part block by block, and make sure at the end that they are the ones that were written.

    Parameters
    ----------
    rows : ndarray of shape (rows of the shard, width)
    part : Part
    expected : str
        The sha256 of its bytes.
    path : Path
        Where they lie, for messages.

    Raises
    ------
    DamagedShardError
        After the last block, if they are others.
    """
    digest = hashlib.sha256()
    step = max(1, BLOCK_BYTES // max(1, rows.shape[1] * rows.itemsize))
    end = part.first_row + part.windows
    for start in range(part.first_row, end, step):
        block = rows[start : min(start + step, end)]
        digest.update(_bytes_of(block))
        yield block
    if digest.hexdigest() != expected:
        raise DamagedShardError(f"{path} is damaged: its rows are not the ones that were written. {_MEND}")


def write_array(path: Path, rows: int, width: int, dtype: np.dtype[Any], blocks: Iterable[NDArray[Any]]) -> None:
    """Write blocks of rows as one ``.npy`` file, atomically.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows, width)}
    # Written by hand: np.save wants all rows at once, and does not say why a write failed.
    with replace_atomically(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(_bytes_of(block))


def write_shard(
    folder: Path,
    form: Form,
    parts: Sequence[Part],
    embeddings: Iterable[NDArray[Any]],
    logits: Iterable[NDArray[Any]] = (),
) -> Path:
    """Write a shard: it is there, and safe from a power cut, once this returns, and not at all before.

    Parameters
    ----------
    folder : Path
        Of the identity.
    form : Form
    parts : sequence of Part
        In the order of their rows.
    embeddings, logits : iterable of ndarray
        Blocks of rows, in that order; no logits where the form has none.

    Returns
    -------
    Path
        The sidecar.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    sidecar = folder / "shards" / f"{uuid.uuid4().hex}.json"
    rows = sum(part.windows for part in parts)
    with ExitStack() as undo:
        undo.callback(rows_of(sidecar).unlink, missing_ok=True)
        write_array(rows_of(sidecar), rows, form.dim, form.dtype, embeddings)
        if form.logits:
            undo.callback(logits_of(sidecar).unlink, missing_ok=True)
            write_array(logits_of(sidecar), rows, form.logits, form.dtype, logits)
        lines = ",\n".join(json.dumps(part._asdict()) for part in parts)
        with replace_atomically(sidecar) as temporary:
            temporary.write_text(f'{{"rows": {rows}, "parts": [\n{lines}\n]}}\n', encoding="utf-8")
        arrays = [rows_of(sidecar), *([logits_of(sidecar)] if form.logits else [])]
        if not all(array.exists() for array in arrays):
            # Another process took an array that waited long for its sidecar for a leftover.
            sidecar.unlink(missing_ok=True)
            raise InputError(
                f"{rows_of(sidecar)} was removed while it was written, by `birdemb cache gc` in another process. "
                "Run the same command again, and one gc at a time."
            )
        undo.pop_all()
    return sidecar


def delete_shards(sidecars: Sequence[Path]) -> None:
    """Delete shards, in such an order that no sidecar ever speaks of rows that are gone."""
    for sidecar in sidecars:
        sidecar.unlink(missing_ok=True)
    if sidecars:
        sync_folder(sidecars[0].parent)
    for sidecar in sidecars:
        rows_of(sidecar).unlink(missing_ok=True)
        logits_of(sidecar).unlink(missing_ok=True)
