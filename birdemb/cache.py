"""The cache of embeddings: plain NumPy files, each with a small JSON index beside it.

    <cache>/<encoder>-<key>/identity.json       all that the embeddings depend on; the key is its hash
    <cache>/<encoder>-<key>/shards/<id>.npy     embeddings, float32, one row a window
    <cache>/<encoder>-<key>/shards/<id>.json    which rows belong to which recording, by the hash of its content

A shard's array is written before its index and both are renamed into place, so that an index never speaks of rows that
are not there: after a kill at any moment, what can be read is whole. Shards are never changed, and their names never
collide, so that several processes may write into one cache.
"""

from __future__ import annotations

import hashlib
import io
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from birdemb.errors import InputError
from birdemb.identity import refuse_other_identity
from birdemb.storage import hash_json, read_json, replace_atomically, write_json

__all__ = ["CACHE_FORMAT", "CacheEntry", "CacheWriter", "EmbeddingCache"]

CACHE_FORMAT = 1
"""Part of every identity; raised when the files' form changes."""

_ROWS_A_SHARD = 8192
_SECONDS_A_SHARD = 30.0  # the most work that a kill can cost


@dataclass(frozen=True)
class CacheEntry:
    """The embeddings of one recording.

    Parameters
    ----------
    sha256 : str
        Of the recording's content.
    first_row, windows : int
        Its rows in the shard.
    seconds : float
        The recording's length.
    rows_sha256 : str
        Of the bytes of its rows.
    """

    sha256: str
    first_row: int
    windows: int
    seconds: float
    rows_sha256: str


class EmbeddingCache:
    """Embeddings of one identity.

    Parameters
    ----------
    root : Path
        The cache's folder; holds a folder for each identity.
    identity : dict
        All that the embeddings depend on, as JSON; has ``"encoder"`` and ``"dim"``.

    Attributes
    ----------
    damaged : list of Path
        Shards that were passed over, as their array is missing or not as their index says. Their recordings count as
        not embedded.

    Raises
    ------
    InputError
        If the folder of this identity names another one.

    Examples
    --------
    >>> import tempfile
    >>> cache = EmbeddingCache(Path(tempfile.mkdtemp()), {"encoder": "melspec", "dim": 2})
    >>> with cache.writer() as writer:
    ...     writer.add("ab" * 32, np.ones((3, 2), np.float32), seconds=12.5)
    >>> cache.read(["ab" * 32]).shape
    (3, 2)
    """

    def __init__(self, root: Path, identity: dict[str, Any]) -> None:
        self.identity = identity
        self.dim = int(identity["dim"])
        self.folder = root / f"{identity['encoder']}-{hash_json(identity)[:16]}"
        self.damaged: list[Path] = []
        self._entries: dict[str, tuple[Path, CacheEntry]] = {}
        self._claim()
        for index in sorted(self._shards.glob("*.json")):
            self._read_index(index)

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._entries

    def __getitem__(self, sha256: str) -> CacheEntry:
        return self._entries[sha256][1]

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def _shards(self) -> Path:
        return self.folder / "shards"

    def _claim(self) -> None:
        path = self.folder / "identity.json"
        if not path.exists():
            write_json(path, self.identity)
            return
        refuse_other_identity(
            self.identity,
            read_json(path, "Delete its folder and run `birdemb embed` again."),
            who=f"{self.folder} holds other embeddings",
            advice="Delete that folder and run `birdemb embed` again.",
        )

    def _read_index(self, index: Path) -> None:
        array = index.with_suffix(".npy")
        try:
            content = read_json(index, "")
            entries = [CacheEntry(**entry) for entry in content["recordings"]]
            rows = np.load(array, mmap_mode="r", allow_pickle=False)
            ends = list(accumulate((entry.windows for entry in entries), initial=0))
            whole = (
                rows.dtype == np.float32
                and rows.shape == (content["rows"], self.dim) == (ends[-1], self.dim)
                and [entry.first_row for entry in entries] == ends[:-1]
            )
        except (InputError, OSError, EOFError, ValueError, KeyError, TypeError):
            whole = False
        if whole:
            self._entries.update({entry.sha256: (array, entry) for entry in entries})
        else:
            self.damaged.append(index)

    def read(self, recordings: Sequence[str]) -> NDArray[np.float32]:
        """Gather the embeddings of recordings.

        Parameters
        ----------
        recordings : sequence of str
            The sha256 of each one's content.

        Returns
        -------
        ndarray of shape (windows of all, dim), float32
            In the order asked for.

        Raises
        ------
        InputError
            If one is not in the cache, or its rows are no longer what was written.
        """
        missing = [sha256 for sha256 in recordings if sha256 not in self]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(recordings)} recordings are not in the cache {self.folder}. "
                "Run `birdemb embed` again."
            )
        ends = list(accumulate((self[sha256].windows for sha256 in recordings), initial=0))
        result = np.empty((ends[-1], self.dim), np.float32)
        by_shard: defaultdict[Path, list[tuple[int, CacheEntry]]] = defaultdict(list)
        for sha256, row in zip(recordings, ends[:-1], strict=True):
            shard, entry = self._entries[sha256]
            by_shard[shard].append((row, entry))
        # One shard open at a time: there may be more of them than a process may open.
        for shard, wanted in by_shard.items():
            rows = np.load(shard, mmap_mode="r", allow_pickle=False)
            for row, entry in wanted:
                found = rows[entry.first_row : entry.first_row + entry.windows]
                if _hash_rows(found) != entry.rows_sha256:
                    raise InputError(
                        f"{shard} is damaged: its rows are not the ones that were written. "
                        f"Delete it and run `birdemb embed` again, which embeds its {len(wanted)} recordings anew."
                    )
                result[row : row + entry.windows] = found
        return result

    def discard_damaged(self) -> None:
        """Delete the shards in `damaged`: nothing in them can be used, and their recordings count as not embedded."""
        for index in self.damaged:
            index.with_suffix(".npy").unlink(missing_ok=True)
            index.unlink(missing_ok=True)

    def writer(self) -> CacheWriter:
        """Give a writer, to be used in a ``with`` block: what was added is safe once the block has ended."""
        return CacheWriter(self.dim, self._write_shard)

    def _write_shard(self, arrays: Sequence[NDArray[np.float32]], entries: Sequence[CacheEntry]) -> None:
        array = self._shards / f"{uuid.uuid4().hex}.npy"
        rows = np.concatenate(arrays)
        written = io.BytesIO()
        # np.save straight into a file does not say why it failed.
        np.save(written, rows, allow_pickle=False)
        with replace_atomically(array) as temporary:
            temporary.write_bytes(written.getbuffer())
        # Only now, so that no index ever speaks of rows that are not there.
        index = {"rows": len(rows), "recordings": [asdict(entry) for entry in entries]}
        write_json(array.with_suffix(".json"), index)
        self._entries.update({entry.sha256: (array, entry) for entry in entries})


def _hash_rows(rows: NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).data).hexdigest()


class CacheWriter:
    """Gathers embeddings into shards, and writes one whenever it is large or old enough."""

    def __init__(self, dim: int, write: Callable[[Sequence[NDArray[np.float32]], Sequence[CacheEntry]], None]) -> None:
        self._dim = dim
        self._write = write
        self._arrays: list[NDArray[np.float32]] = []
        self._entries: list[CacheEntry] = []
        self._rows = 0
        self._written = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Also after an error or Ctrl-C: what is finished is kept.
        self.flush()

    def add(self, sha256: str, embeddings: NDArray[np.float32], seconds: float) -> None:
        """Add a recording's embeddings.

        Parameters
        ----------
        sha256 : str
            Of the recording's content.
        embeddings : ndarray of shape (windows, dim), float32
        seconds : float
            The recording's length.

        Raises
        ------
        InputError
            If the embeddings are not finite or have another width or type.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self._dim or embeddings.dtype != np.float32:
            raise InputError(
                f"Embeddings of shape {embeddings.shape} and type {embeddings.dtype}; "
                f"expected (windows, {self._dim}) float32."
            )
        if not np.isfinite(embeddings).all():
            raise InputError("Embeddings that are not finite (NaN or infinite) are not kept.")
        self._entries.append(CacheEntry(sha256, self._rows, len(embeddings), seconds, _hash_rows(embeddings)))
        # Copied, as the caller may use its memory again.
        self._arrays.append(embeddings.copy())
        self._rows += len(embeddings)
        if self._rows >= _ROWS_A_SHARD or time.monotonic() - self._written > _SECONDS_A_SHARD:
            self.flush()

    def flush(self) -> None:
        """Write what has been gathered."""
        if self._entries:
            self._write(self._arrays, self._entries)
        self._arrays, self._entries, self._rows = [], [], 0
        self._written = time.monotonic()
