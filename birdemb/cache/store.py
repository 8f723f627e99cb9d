"""The cache itself: look up, read and write embeddings of one identity."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from birdemb.cache.chains import Placed, choose_first_parts, choose_parts
from birdemb.cache.form import Form, read_identity
from birdemb.cache.index import Index, IndexedShard, open_index
from birdemb.cache.shards import (
    DamagedShardError,
    Kind,
    Part,
    check_blocks,
    delete_shards,
    hash_of,
    logits_of,
    map_rows,
    rows_of,
    write_shard,
)
from birdemb.cache.writer import CacheWriter
from birdemb.errors import InputError
from birdemb.identity import refuse_other_identity
from birdemb.storage import hash_json, read_json, write_json

__all__ = ["CachedRecording", "EmbeddingCache"]

_ATTEMPTS = 5  # to read what is being joined at the same time
_RECORDINGS_IN_MEMORY = 50_000  # of this run, before they go into the index

_T = TypeVar("_T")


@dataclass(frozen=True)
class CachedRecording:
    """A recording all of whose windows are in the cache.

    Parameters
    ----------
    sha256 : str
        Of its content.
    windows : int
    seconds : float
        Its length.
    """

    sha256: str
    windows: int
    seconds: float


class EmbeddingCache:
    """Embeddings of one identity.

    Parameters
    ----------
    root : Path
        The cache's folder; holds a folder for each identity.
    identity : dict
        All that the embeddings depend on, as JSON; has ``"encoder"`` and ``"dim"``, and may have ``"dtype"``
        (``"float16"`` or ``"float32"``, the default) and ``"logits"`` (width of the encoder's own logits, which are
        then kept beside the embeddings).

    Attributes
    ----------
    identity : dict
    folder : Path
        Of this identity.
    dim, logits_width : int
    dtype : numpy dtype
        Of the files; what is read is float32.
    damaged : list of Path
        Sidecars of shards that were passed over, as their files are missing or not as the sidecar says. Their
        recordings count as not embedded.

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
        folder = self.place_of(root, identity)
        form = Form.of(identity)
        path = folder / "identity.json"
        if not path.exists():
            write_json(path, identity)
        else:
            refuse_other_identity(
                identity,
                read_json(path, "Delete its folder and run `birdemb embed` again."),
                who=f"{folder} holds other embeddings",
                advice="Delete that folder and run `birdemb embed` again.",
            )
        self._open(folder, identity, form)

    @staticmethod
    def place_of(root: Path, identity: dict[str, Any]) -> Path:
        """Give the folder of an identity, whether or not it is there."""
        return root / f"{identity['encoder']}-{hash_json(identity)[:16]}"

    @classmethod
    def at(cls, folder: Path) -> Self:
        """Open the cache in the folder of an identity, whatever identity that is.

        Raises
        ------
        InputError
            If the folder is none, or of another format.
        """
        identity = read_identity(folder)
        cache = cls.__new__(cls)
        cache._open(folder, identity, Form.of(identity))
        return cache

    def _open(self, folder: Path, identity: dict[str, Any], form: Form) -> None:
        self.folder = folder
        self.identity = identity
        self.form = form
        self.dim, self.dtype, self.logits_width = form.dim, form.dtype, form.logits
        self._fresh: dict[str, list[Placed]] = {}
        self._index = open_index(folder, form, hash_json(identity))
        self.damaged = list(self._index.damaged)

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process opens it anew.
        return type(self).at, (self.folder,)

    def refresh(self, *, rebuild: bool = False) -> None:
        """Look again at which shards are there: those of other processes are seen from now on.

        Parameters
        ----------
        rebuild : bool
            Whether to make the index anew whatever it says.
        """
        index = open_index(self.folder, self.form, hash_json(self.identity), rebuild=rebuild)
        # Once the index is up to date it has the fresh ones too: they were on disk before it was opened.
        before, self._index, self._fresh = self._index, index, {}
        before.close()
        self.damaged += [sidecar for sidecar in index.damaged if sidecar not in self.damaged]

    def _ask(self, question: Callable[[Index], _T]) -> _T:
        """Ask the index, and once more of a new one if it turns out to be damaged."""
        try:
            return question(self._index)
        except sqlite3.DatabaseError:
            self.refresh(rebuild=True)
            return question(self._index)

    def __len__(self) -> int:
        fresh = [sha256 for sha256, parts in self._fresh.items() if choose_parts(parts)]
        ((stored,),) = self._ask(lambda index: index.ask("SELECT count(*) FROM parts WHERE used AND last"))
        return int(stored) + len(fresh) - len(self._ask(lambda index: index.recordings(fresh)))

    def __contains__(self, sha256: str) -> bool:
        return bool(self.find([sha256]))

    def __getitem__(self, sha256: str) -> CachedRecording:
        return self.find([sha256])[sha256]

    def find(self, sha256s: Iterable[str]) -> dict[str, CachedRecording]:
        """Look up many recordings at once.

        Parameters
        ----------
        sha256s : iterable of str

        Returns
        -------
        dict
            Those that are complete, by their sha256.
        """
        wanted = list(dict.fromkeys(sha256s))
        stored = [sha256 for sha256 in wanted if sha256 not in self._fresh]
        found = {row[0]: CachedRecording(*row) for row in self._ask(lambda index: index.recordings(stored))}
        for sha256 in wanted:
            if sha256 in self._fresh and (chain := choose_parts(self._fresh[sha256])) is not None:
                windows = sum(placed.part.windows for placed in chain)
                found[sha256] = CachedRecording(sha256, windows, chain[-1].part.seconds)
        return found

    def find_parts(self, sha256s: Iterable[str]) -> dict[str, set[int]]:
        """Look up what is there of recordings that are not complete.

        Parameters
        ----------
        sha256s : iterable of str

        Returns
        -------
        dict
            For each recording of which there is a part but not all: the first window of every part.
        """
        wanted = set(sha256s)
        found: dict[str, set[int]] = {}
        for sha256, first_window, *_ in self.list_parts(wanted - self.find(wanted).keys()):
            found.setdefault(sha256, set()).add(first_window)
        return found

    def list_parts(self, sha256s: Iterable[str]) -> set[tuple[str, int, int, bool]]:
        """List all parts of recordings, complete or not: sha256, first window, number of windows, whether the last."""
        return {
            (sha256, one.part.first_window, one.part.windows, one.part.last)
            for sha256, parts in self._parts_of(sha256s).items()
            for one in parts
        }

    def _parts_of(self, sha256s: Iterable[str]) -> dict[str, list[Placed]]:
        wanted = set(sha256s)
        known = self._ask(lambda index: index.parts(wanted - self._fresh.keys()))
        return known | {sha256: self._fresh[sha256] for sha256 in wanted & self._fresh.keys()}

    def place_begun(self, sha256s: Iterable[str]) -> dict[str, list[Placed]]:
        """Give the parts that cover each recording from its first window on, as far as there are any, in its order."""
        return {sha256: choose_first_parts(parts) for sha256, parts in self._parts_of(sha256s).items()}

    def place(self, sha256s: Iterable[str]) -> dict[str, list[Placed]]:
        """Give, for each recording that is complete, the parts that cover it, in its order."""
        wanted = list(dict.fromkeys(sha256s))
        stored = [sha256 for sha256 in wanted if sha256 not in self._fresh]
        placed = self._ask(lambda index: index.chosen(stored))
        for sha256 in wanted:
            if sha256 in self._fresh and (chain := choose_parts(self._fresh[sha256])) is not None:
                placed[sha256] = chain
        return placed

    def ask(self, question: str) -> list[Any]:
        """Ask the index a question in SQL that touches most of it."""
        return self._ask(lambda index: index.ask(question))

    def shards(self) -> dict[str, IndexedShard]:
        """Give the shards that the index covers, by name."""
        return self._ask(lambda index: index.shards())

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
            If one is not in the cache or not complete, or its rows are no longer what was written.
        """
        return self.again(lambda: self._read(recordings, "embeddings"))

    def read_logits(self, recordings: Sequence[str]) -> NDArray[np.float32]:
        """Gather the encoder's own logits for recordings.

        Parameters
        ----------
        recordings : sequence of str
            The sha256 of each one's content.

        Returns
        -------
        ndarray of shape (windows of all, logits_width), float32
            In the order asked for.

        Raises
        ------
        InputError
            As `read`, and if this cache holds no logits.
        """
        self.refuse_without_logits()
        return self.again(lambda: self._read(recordings, "logits"))

    def refuse_without_logits(self) -> None:
        """Raise an InputError if this cache holds no logits."""
        if not self.logits_width:
            raise InputError(f"{self.folder} holds no logits. Run `birdemb embed` with --logits.")

    def again(self, work: Callable[[], _T], renew: Callable[[], None] = lambda: None) -> _T:
        """Do `work`, and again if shards were not where the index says, as somebody has joined them meanwhile.

        Parameters
        ----------
        work : callable
        renew : callable
            Called before each new attempt, once the index has been renewed.

        Raises
        ------
        DamagedShardError
            If a shard is really damaged.
        """
        for _ in range(_ATTEMPTS):
            try:
                return work()
            except DamagedShardError as error:
                moved = isinstance(error.__cause__, FileNotFoundError)
                self.refresh(rebuild=not moved)
                renew()
                if not moved:
                    break
        return work()

    def _read(self, recordings: Sequence[str], kind: Kind) -> NDArray[np.float32]:
        placed = self.place_all(recordings)
        return self.read_parts([one for sha256 in recordings for one in placed[sha256]], kind)

    def read_parts(self, parts: Sequence[Placed], kind: Kind) -> NDArray[np.float32]:
        """Read embeddings or logits of parts, one below the other, once; see `again`."""
        starts = list(accumulate((one.part.windows for one in parts), initial=0))
        result = np.empty((starts[-1], self.width_of(kind)), np.float32)
        by_shard: defaultdict[str, list[tuple[int, Part]]] = defaultdict(list)
        for (part, shard), start in zip(parts, starts[:-1], strict=True):
            by_shard[shard].append((start, part))
        # One shard open at a time: there may be more of them than a process may open.
        for shard, wanted in by_shard.items():
            path, rows = self.map_shard(shard, kind)
            for row, part in sorted(wanted, key=lambda each: each[1].first_row):
                for block in check_blocks(rows, part, hash_of(part, kind), path):
                    result[row : row + len(block)] = block
                    row += len(block)
        return result

    def place_all(self, recordings: Sequence[str]) -> dict[str, list[Placed]]:
        """Give the parts of recordings as `place` does.

        Raises
        ------
        InputError
            If one is not complete.
        """
        placed = self.place(recordings)
        missing = [sha256 for sha256 in recordings if sha256 not in placed]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(recordings)} recordings are not in the cache {self.folder}, or not all of "
                "their windows are. Run `birdemb embed` again."
            )
        return placed

    def width_of(self, kind: Kind) -> int:
        """Give the width of embeddings or logits."""
        return self.dim if kind == "embeddings" else self.logits_width

    def map_shard(self, shard: str, kind: Kind) -> tuple[Path, NDArray[Any]]:
        """Map an array of a shard into memory, read-only.

        Raises
        ------
        DamagedShardError
            If it is not there or of another form.
        """
        sidecar = self.folder / "shards" / f"{shard}.json"
        path = rows_of(sidecar) if kind == "embeddings" else logits_of(sidecar)
        return path, map_rows(path, None, self.width_of(kind), self.dtype)

    def discard_damaged(self) -> None:
        """Delete the shards in `damaged`: nothing in them can be used, and their recordings count as not embedded."""
        delete_shards(self.damaged)

    def writer(self) -> CacheWriter:
        """Give a writer, to be used in a ``with`` block: what was added is safe once the block has ended."""
        return CacheWriter(self.form, self._write, self.refresh)

    def _write(self, parts: Sequence[Part], embeddings: Sequence[NDArray[Any]], logits: Sequence[NDArray[Any]]) -> None:
        shard = write_shard(self.folder, self.form, parts, embeddings, logits).stem
        new = {part.sha256 for part in parts} - self._fresh.keys()
        self._fresh |= {sha256: [] for sha256 in new} | self._ask(lambda index: index.parts(new))
        for part in parts:
            self._fresh[part.sha256].append(Placed(part, shard))
        if len(self._fresh) > _RECORDINGS_IN_MEMORY:
            self.refresh()
