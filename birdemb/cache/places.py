"""Where the rows of a cache lie: in which order a view has them, and reading them in that order or any other."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.cache.chains import Placed
from birdemb.cache.index import IndexedShard
from birdemb.cache.shards import DamagedShardError, Kind, Part, check_blocks, hash_of, logits_of, rows_of
from birdemb.cache.store import EmbeddingCache
from birdemb.errors import InputError

__all__ = ["Places", "find_again", "gather_rows", "load_places", "stream_rows"]

_RECORDINGS_AT_ONCE = 1000
_READERS = 16  # threads: so many questions to the disk at the same time; they wait, and cost no processor
_APART = 32 << 10  # bytes: rows further apart are asked for one by one, and nearer ones with what lies between


@dataclass(frozen=True)
class Places:
    """Where the rows of a view lie: its parts, in the view's order."""

    starts: NDArray[np.int64]  # of each part in the view
    windows: NDArray[np.int64]
    shards: NDArray[np.int64]  # numbers that point into names
    first_rows: NDArray[np.int64]
    names: Sequence[str]

    @property
    def digest(self) -> str:
        """Name the order of the rows."""
        digest = hashlib.sha256("\n".join(self.names).encode())
        for array in (self.windows, self.shards, self.first_rows):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]


def load_places(cache: EmbeddingCache) -> tuple[Places, pd.DataFrame]:
    """Read the parts of all complete recordings from the index, and order them as they lie on disk."""
    asked = "SELECT sha256, windows, last, seconds, shard, first_row FROM parts WHERE used"
    rows = cache.ask(f"{asked} ORDER BY sha256, first_window")
    sha256s, *numbers = zip(*rows, strict=True) if rows else ((),) * 6
    windows, last, seconds, shards, first_rows = (np.array(column) for column in numbers)
    order_of, names = _order_shards(cache)
    ranks = order_of[shards.astype(np.int64)]
    last = last.astype(bool)
    # Recordings by where their first part lies; their other parts follow it.
    recording = np.concatenate([[0], np.cumsum(last)[:-1]]).astype(np.int64) if len(rows) else np.zeros(0, np.int64)
    begins = np.flatnonzero(np.diff(recording, prepend=-1))
    order = np.lexsort((np.arange(len(begins)), first_rows[begins], ranks[begins]))
    rank_of = np.empty(len(order), np.int64)
    rank_of[order] = np.arange(len(order))
    moved = np.argsort(rank_of[recording], kind="stable")
    places = _make_places(windows[moved], ranks[moved], first_rows[moved], names)
    counts = np.add.reduceat(windows, begins).astype(np.int64)[order] if len(rows) else np.zeros(0, np.int64)
    return places, pd.DataFrame(
        {
            "sha256": pd.Series(list(sha256s), dtype="str").to_numpy()[np.flatnonzero(last)[order]],
            "windows": counts,
            "seconds": seconds[last][order].astype(np.float64),
            "first_row": np.cumsum(counts) - counts,
        }
    )


def _order_shards(cache: EmbeddingCache) -> tuple[NDArray[np.int64], list[str]]:
    """Give the rank of each shard by its name, looked up by its number, and the names by rank."""
    shards = cache.shards()
    names = sorted(shards)
    order_of = np.zeros(max((shard.number for shard in shards.values()), default=0) + 1, np.int64)
    for rank, name in enumerate(names):
        order_of[shards[name].number] = rank
    return order_of, names


def find_again(cache: EmbeddingCache, recordings: pd.DataFrame) -> Places:
    """Find the parts of the same recordings, in the same order."""
    sha256s = recordings["sha256"].tolist()
    placed = cache.place_all(sha256s)
    if [sum(one.part.windows for one in placed[sha256]) for sha256 in sha256s] != recordings["windows"].tolist():
        raise InputError(f"The recordings in {cache.folder} have other windows than before. Open the cache again.")
    names = sorted({one.shard for chain in placed.values() for one in chain})
    rank_of = {name: rank for rank, name in enumerate(names)}
    parts = [(one.part.windows, rank_of[one.shard], one.part.first_row) for key in sha256s for one in placed[key]]
    windows, ranks, first_rows = np.array(parts, np.int64).reshape(-1, 3).T
    return _make_places(windows, ranks, first_rows, names)


def _make_places(
    windows: NDArray[Any], ranks: NDArray[np.int64], first_rows: NDArray[Any], names: Sequence[str]
) -> Places:
    # Parts without windows would stand in the way of finding a row's part, and shards that nothing is taken from are
    # none of the view.
    kept = windows > 0
    used, ranks = np.unique(ranks[kept], return_inverse=True)
    windows, first_rows = windows[kept].astype(np.int64), first_rows[kept].astype(np.int64)
    return Places(np.cumsum(windows) - windows, windows, ranks, first_rows, [names[rank] for rank in used])


def stream_rows(cache: EmbeddingCache, recordings: Sequence[str], kind: Kind) -> Iterator[NDArray[Any]]:
    """Give the rows of recordings block by block, a few megabytes each, in the cache's dtype.

    Parameters
    ----------
    cache : EmbeddingCache
    recordings : sequence of str
        The sha256 of each one's content.
    kind : {"embeddings", "logits"}

    Yields
    ------
    ndarray of shape (rows, width)

    Raises
    ------
    InputError
        If a recording is not complete, or rows are not the ones that were written: after the last of these.
    """
    reader = _PartReader(cache, kind)
    for start in range(0, len(recordings), _RECORDINGS_AT_ONCE):
        batch = recordings[start : start + _RECORDINGS_AT_ONCE]
        reader.take(batch)
        for sha256 in batch:
            window = 0
            while window < reader.count_windows(sha256):
                part = cache.again(partial(reader.open_part, sha256, window), partial(reader.take, batch))
                yield from check_blocks(reader.rows, part, hash_of(part, kind), reader.path)
                window = part.first_window + part.windows


class _PartReader:
    """Finds parts and keeps the array open that the last of them lies in, as the next most often does too."""

    def __init__(self, cache: EmbeddingCache, kind: Kind) -> None:
        self._cache = cache
        self._kind = kind
        self._placed: dict[str, list[Placed]] = {}
        self._opened = ""
        self.path = Path()
        self.rows: NDArray[Any] = np.empty((0, 0))

    def take(self, recordings: Sequence[str]) -> None:
        self._placed = self._cache.place_all(recordings)

    def count_windows(self, sha256: str) -> int:
        return sum(placed.part.windows for placed in self._placed[sha256])

    def open_part(self, sha256: str, window: int) -> Part:
        part, shard = next(one for one in self._placed[sha256] if _holds(one.part, window))
        if shard != self._opened:
            self.path, self.rows = self._cache.map_shard(shard, self._kind)
            self._opened = shard
        return part


def _holds(part: Part, window: int) -> bool:
    return part.first_window <= window < part.first_window + part.windows


def gather_rows(cache: EmbeddingCache, places: Places, rows: NDArray[np.int64], kind: Kind) -> NDArray[Any]:
    """Read single rows, in the order asked for.

    Parameters
    ----------
    cache : EmbeddingCache
    places : Places
        Where the rows lie.
    rows : ndarray of int64
        Within 0 and the number of rows in `places`.
    kind : {"embeddings", "logits"}

    Returns
    -------
    ndarray of shape (rows, width), in the cache's dtype

    Raises
    ------
    DamagedShardError
        If a shard is not there any more, with a FileNotFoundError as its cause, or not as the index says.
    """
    result = np.empty((len(rows), cache.width_of(kind)), cache.dtype)
    parts = np.searchsorted(places.starts, rows, side="right") - 1
    positions = places.first_rows[parts] + rows - places.starts[parts]
    shards = places.shards[parts]
    order = np.lexsort((positions, shards))
    sorted_shards = shards[order]
    begins = np.flatnonzero(np.diff(sorted_shards, prepend=-1))
    ends = np.append(begins[1:], len(order))
    known = cache.shards()

    def read(begin: int, end: int) -> None:
        name = places.names[sorted_shards[begin]]
        shard = known.get(name)
        sidecar = cache.folder / "shards" / f"{name}.json"
        if shard is None:
            raise DamagedShardError(f"{sidecar} is gone. Open the cache again.") from FileNotFoundError(str(sidecar))
        wanted = order[begin:end]
        _read_rows(shard, sidecar, kind, positions[wanted], result, wanted.tolist())

    if len(begins) == 1:
        read(0, len(order))
    elif len(begins):
        with ThreadPoolExecutor(_READERS) as readers:
            for _ in readers.map(read, begins, ends):
                pass
    return result


def _read_rows(
    shard: IndexedShard, sidecar: Path, kind: Kind, positions: NDArray[np.int64], result: NDArray[Any], into: list[int]
) -> None:
    """Read rows at some positions of a shard into some rows of the result."""
    is_logits = kind == "logits"
    path = logits_of(sidecar) if is_logits else rows_of(sidecar)
    size, offset = (shard.sizes.logits, shard.logits_offset) if is_logits else (shard.sizes.rows, shard.offset)
    try:
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            if length != size:
                raise DamagedShardError(f"{path} is damaged: it has {length} bytes, expected {size}.")
            if size > _APART * len(positions) and hasattr(os, "preadv"):
                # Each question leaves other threads free to ask too, and the disk reads nothing that is not wanted.
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                memory, width = result.data.cast("B"), result.shape[1] * result.itemsize
                for row, start in zip(into, (offset + positions * width).tolist(), strict=True):
                    os.preadv(file.fileno(), [memory[row * width : (row + 1) * width]], start)
                return
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise DamagedShardError(f"{path} cannot be read: {error}. Open the cache again.") from error
    rows = np.frombuffer(mapped, result.dtype, shard.rows * result.shape[1], offset).reshape(shard.rows, -1)
    result[into] = rows.take(positions, axis=0)
