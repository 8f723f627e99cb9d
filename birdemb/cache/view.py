"""Reading a cache as tables and arrays: a pandas frame of windows, and their embeddings mapped into memory."""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from birdemb.cache.folders import choose_folder, find_paths
from birdemb.cache.places import Places, find_again, gather_rows, load_places, stream_rows
from birdemb.cache.shards import DamagedShardError, Kind, map_rows, write_array
from birdemb.cache.store import EmbeddingCache
from birdemb.errors import InputError

__all__ = ["CacheView", "consolidated_names", "open_cache"]


def open_cache(path: str | Path, *, encoder: str | None = None) -> CacheView:
    """Open a cache for reading.

    Parameters
    ----------
    path : path
        A working folder (``.birdemb``), its cache, or the folder of one identity in that.
    encoder : str, optional
        Which encoder's embeddings, where the cache holds several.

    Returns
    -------
    CacheView

    Raises
    ------
    InputError
        If there is no cache, or it is not plain which of several identities is meant.

    Examples
    --------
    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> identity = {"encoder": "melspec", "dim": 2, "window": 5.0, "hop": 5.0}
    >>> with EmbeddingCache(root, identity).writer() as writer:
    ...     writer.add("ab" * 32, np.ones((3, 2), np.float32), seconds=12.5)
    >>> view = open_cache(root)
    >>> view.embeddings.shape
    (3, 2)
    >>> view.windows[["start", "end"]].to_numpy().tolist()
    [[0.0, 5.0], [5.0, 10.0], [10.0, 15.0]]
    """
    return CacheView(EmbeddingCache.at(choose_folder(Path(path), encoder)))


class CacheView:
    """The complete recordings of a cache as it was when first looked at, as tables and arrays.

    Parameters
    ----------
    cache : EmbeddingCache

    Attributes
    ----------
    identity : dict
        All that the embeddings depend on.
    folder : Path
        Of this identity.
    """

    def __init__(self, cache: EmbeddingCache) -> None:
        self.cache = cache
        self.identity = cache.identity
        self.folder = cache.folder
        self._loaded: tuple[Places, pd.DataFrame] | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def __len__(self) -> int:
        return int(self.places.windows.sum())

    @property
    def places(self) -> Places:
        """Where the rows lie."""
        return self._load()[0]

    @property
    def _recordings(self) -> pd.DataFrame:
        return self._load()[1]

    def _load(self) -> tuple[Places, pd.DataFrame]:
        # When it is first asked for, so that opening takes no time, however large the cache.
        if self._loaded is None:
            self._loaded = load_places(self.cache)
        return self._loaded

    @cached_property
    def _paths(self) -> NDArray[np.object_] | None:
        paths = find_paths(self.folder)
        return np.array([paths.get(sha256) for sha256 in self._recordings["sha256"]], object) if paths else None

    @cached_property
    def recordings(self) -> pd.DataFrame:
        """The complete recordings: sha256, windows, seconds and first_row, in the order of the rows.

        Where a working folder's listing names some of them, ``recording`` holds their paths below the folder that was
        embedded.
        """
        table = self._recordings.copy()
        if self._paths is not None:
            table.insert(1, "recording", self._paths)
        return table

    @cached_property
    def windows(self) -> pd.DataFrame:
        """The windows, one row each in the order of `embeddings`: sha256 (categorical), start and end in seconds.

        Where a working folder's listing names some of the recordings, ``recording`` (categorical) holds their paths.

        Raises
        ------
        InputError
            If the identity does not say how long windows are.
        """
        window, hop = (self.identity.get(key) for key in ("window", "hop"))
        if window is None or hop is None:
            raise InputError(f"{self.folder / 'identity.json'} does not say window and hop, so times cannot be told.")
        counts = self._recordings["windows"].to_numpy()
        number = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        columns: dict[str, Any] = {
            "sha256": pd.Categorical.from_codes(number, categories=pd.Index(self._recordings["sha256"]))
        }
        if self._paths is not None:
            codes, names = pd.factorize(self._paths)
            columns["recording"] = pd.Categorical.from_codes(codes.astype(np.int32)[number], categories=pd.Index(names))
        start = (np.arange(len(number)) - self._recordings["first_row"].to_numpy()[number]) * float(hop)
        return pd.DataFrame(columns | {"start": start, "end": start + float(window)}, copy=False)

    @cached_property
    def embeddings(self) -> NDArray[Any]:
        """The embeddings, shape (windows, dim), in the cache's dtype, mapped into memory and read-only.

        The one shard itself where there is only one and nothing else is in it (`birdemb cache gc` joins shards); else
        one array of all shards, which is written beside them when it is asked for, and used again until shards are
        added.

        Raises
        ------
        InputError
            If rows are damaged, or there is no room.
        """
        return self._map("embeddings")

    @cached_property
    def logits(self) -> NDArray[Any] | None:
        """The encoder's own logits, shape (windows, width), as `embeddings`; None where the cache has none."""
        return self._map("logits") if self.cache.logits_width else None

    def _map(self, kind: Kind) -> NDArray[Any]:
        places, rows = self.places, len(self)
        if not rows:
            return np.empty((0, self.cache.width_of(kind)), self.cache.dtype)
        if len(places.names) == 1 and np.array_equal(places.first_rows, places.first_rows[:1] + places.starts):
            try:
                _, mapped = self.cache.map_shard(places.names[0], kind)
                return mapped[places.first_rows[0] :][:rows]
            except DamagedShardError:
                pass  # it has been joined with others meanwhile, or what follows tells what is wrong
        name = _consolidated_name(places, kind)
        width, dtype = self.cache.width_of(kind), self.cache.dtype
        try:
            return map_rows(self.folder / name, rows, width, dtype)
        except DamagedShardError:
            pass  # not there yet
        recordings = self._recordings["sha256"].tolist()
        try:
            write_array(self.folder / name, rows, width, dtype, stream_rows(self.cache, recordings, kind))
        except DamagedShardError:
            raise
        except InputError:
            # A cache that is not to be written to.
            self._temporary = self._temporary or tempfile.TemporaryDirectory(
                prefix="birdemb-", ignore_cleanup_errors=True
            )
            path = Path(self._temporary.name) / name
            write_array(path, rows, width, dtype, stream_rows(self.cache, recordings, kind))
            return map_rows(path, rows, width, dtype)
        for older in self.folder.glob("consolidated-*.npy"):
            if older.name not in consolidated_names(self):
                older.unlink(missing_ok=True)
        return map_rows(self.folder / name, rows, width, dtype)

    def gather(self, rows: ArrayLike, *, logits: bool = False) -> NDArray[Any]:
        """Read rows straight from the shards, each shard once and by ascending position.

        Parameters
        ----------
        rows : array of int
            Rows of `windows`; any order, more than once if need be.
        logits : bool
            Whether to read logits and not embeddings.

        Returns
        -------
        ndarray of shape (rows, dim or logits), in the cache's dtype
            In the order asked for. Single rows are not compared with their hashes, which are of whole parts.

        Raises
        ------
        InputError
            If a row is out of range, or a shard is damaged or gone.
        """
        wanted = np.asarray(rows)
        if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in "iu"):
            raise InputError(f"Rows of shape {wanted.shape} and type {wanted.dtype}; expected a list of whole numbers.")
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise InputError(f"Rows {wanted.min()} to {wanted.max()}; expected 0 to {len(self) - 1}.")
        if logits:
            self.cache.refuse_without_logits()
        kind: Kind = "logits" if logits else "embeddings"

        def renew() -> None:
            # The rows stay the same, they only lie elsewhere.
            self._loaded = find_again(self.cache, self._recordings), self._recordings

        return self.cache.again(lambda: gather_rows(self.cache, self.places, wanted.astype(np.int64), kind), renew)


def _consolidated_name(places: Places, kind: Kind) -> str:
    return f"consolidated-{places.digest}{'.logits' if kind == 'logits' else ''}.npy"


def consolidated_names(view: CacheView) -> set[str]:
    """Give the names of the arrays of all rows that fit the shards as they are; others of that kind are outdated."""
    kinds: tuple[Kind, ...] = ("embeddings", "logits")
    return {_consolidated_name(view.places, kind) for kind in kinds}
