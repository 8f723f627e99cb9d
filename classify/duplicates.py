"""Near-duplicate recordings, which must share a fold: a head that has heard one of them knows the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from birdemb.classify.checks import check_number
from birdemb.classify.transform import signed_square_root
from birdemb.errors import InputError

__all__ = ["DUPLICATE_SIMILARITY", "DuplicatePair", "NearDuplicates", "find_near_duplicates", "keep_exceptional"]

DUPLICATE_SIMILARITY = 0.65
"""From which similarity on two recordings are taken for the same: see `find_near_duplicates`."""

_ONE_WINDOW = 0.8  # where a single window is all there is to compare
_MOST_STRANGERS = 1 / 3
_CERTAIN = 0.98
_NEIGHBOURS = 20
_MANY = 4_096  # recordings, from which on neighbours are looked for in fewer directions
_DIRECTIONS = 128
_SLACK = 0.1  # how far below the threshold the means of two recordings may be
_ROWS = 16_384  # windows that are transformed at a time


class DuplicatePair(NamedTuple):
    """Two recordings that are nearly the same.

    Parameters
    ----------
    first, second : int
        The recordings, as in `find_near_duplicates`; `first` is the smaller number.
    similarity : float
        1 is the same.
    windows : int
        How many were compared.
    """

    first: int
    second: int
    similarity: float
    windows: int


@dataclass(frozen=True)
class NearDuplicates:
    """Recordings that are nearly the same.

    Parameters
    ----------
    groups : ndarray of shape (recordings,), int64
        The group of each recording, ``groups[recordings]`` that of each window. Recordings that are near-duplicates of
        each other, directly or by others between them, are one group; every other recording is one by itself.
    pairs : tuple of DuplicatePair
        The pairs that were joined, the most similar first.
    """

    groups: NDArray[np.int64]
    pairs: tuple[DuplicatePair, ...]


def find_near_duplicates(
    embeddings: NDArray[Any], recordings: NDArray[np.int64], threshold: float = DUPLICATE_SIMILARITY
) -> NearDuplicates:
    """Find recordings that are the same but for the encoding, the level, some noise, or a few seconds.

    The signed square roots of the embeddings are standardised over all windows. Each window of the shorter recording
    is compared with each of the longer one, and with the mean of each two neighbours there, which stands for the
    window between them: two copies of which one begins some seconds later have different windows. The similarity
    is the mean over the shorter recording of the best cosines. Its last window takes no part where it has others,
    since that is mostly padding, and all padding is alike.

    Parameters
    ----------
    embeddings : ndarray of shape (n, dim), float
        May be mapped into memory: it is read in parts.
    recordings : ndarray of shape (n,), int64
        The number of each window's recording, 0 or more. The windows of a recording are in the order of time.
    threshold : float
        Similarity from which on two recordings are joined, above 0 and at most 1. Where only one window can be
        compared it is 0.8 at least.

    Returns
    -------
    NearDuplicates

    Raises
    ------
    InputError
        If the lengths differ, there is no window, a recording has a negative number, an embedding is not finite, or
        the threshold is out of range.

    Notes
    -----
    Only the 20 recordings whose mean embedding is nearest are compared window by window, so that 30,000 recordings
    take no table of all pairs, and only where these means are within 0.1 of the threshold. An excerpt that is much
    shorter than its source may therefore be missed.

    The threshold comes from 30 recordings of 14 species and a soundscape (5 s windows, BirdNET 2.4). Two windows or
    more of different recordings of one species reach .62 at most, of one recordist .25, of two following minutes of
    the soundscape .62. All copies at a lower bit rate, another level or sample rate, with noise 40 dB below, or
    without their first .7 s are found; so are 29 of 30 without the first 2.3 s, 28 of 30 without the first 2.5 s and
    at a lower bit rate, and 21 of 21 without the first 21.2 s. Of copies as MP3 at 35 kbit/s, most of whose treble is
    gone, 24 of 30 are found. Single windows of one species reach .77, hence the 0.8. Seconds of quiet from one place
    can be as similar as copies are.
    """
    check_number("threshold", threshold, above=0, at_most=1)
    if embeddings.ndim != 2 or not len(embeddings) or recordings.shape != embeddings.shape[:1]:
        raise InputError(
            f"The embeddings have the shape {embeddings.shape} and the recordings {recordings.shape}; "
            "expected (windows, dim), with at least one window, and (windows,)."
        )
    if recordings.min() < 0:
        raise InputError(f"A window is of recording {recordings.min()}; expected 0 or more.")
    names, codes = np.unique(recordings, return_inverse=True)
    compared = _Recordings(embeddings, codes)
    pairs = []
    # The matrices are small: more threads would mostly wait for each other.
    with threadpool_limits(1, user_api="blas"):
        for one, other in compared.find_candidates(threshold - _SLACK):
            similarity, windows = compared.compare(one, other)
            if similarity >= (threshold if windows > 1 else max(threshold, _ONE_WINDOW)):
                pairs.append(DuplicatePair(int(names[one]), int(names[other]), similarity, windows))
    pairs.sort(key=lambda pair: -pair.similarity)
    return NearDuplicates(_join(pairs, int(names[-1]) + 1), tuple(pairs))


def keep_exceptional(found: NearDuplicates, present: NDArray[np.bool_]) -> NearDuplicates:
    """Leave out pairs that are no more alike than recordings of different classes are.

    What similarity speaks of a copy depends on the encoder. Recordings without a common class are hardly ever copies:
    where more than a third of the pairs are such, similarity means little in these embeddings, and only pairs that
    are more similar than all of those count, or 0.98 and more.

    Parameters
    ----------
    found : NearDuplicates
    present : ndarray of shape (recordings, classes), bool
        Which classes are in each recording.

    Returns
    -------
    NearDuplicates
    """
    strangers = [pair.similarity for pair in found.pairs if not (present[pair.first] & present[pair.second]).any()]
    if len(strangers) <= _MOST_STRANGERS * len(found.pairs):
        return found
    pairs = [pair for pair in found.pairs if pair.similarity > min(max(strangers), _CERTAIN)]
    return NearDuplicates(_join(pairs, len(found.groups)), tuple(pairs))


def _join(pairs: Sequence[DuplicatePair], count: int) -> NDArray[np.int64]:
    """Give the group of each of `count` recordings, of which pairs are one."""
    edges = np.array([pair[:2] for pair in pairs], np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


class _Recordings:
    """The windows of each recording in the form in which they are compared."""

    def __init__(self, embeddings: NDArray[Any], codes: NDArray[np.int64]) -> None:
        self._embeddings = embeddings
        self._order = np.argsort(codes, kind="stable")
        counts = np.bincount(codes)
        self._starts = np.cumsum(counts) - counts
        self.windows = np.maximum(counts - 1, 1)
        self._taken = -1, np.empty((0, embeddings.shape[1]), np.float32)
        self._learn()

    def _learn(self) -> None:
        total, squares = np.zeros((2, self._embeddings.shape[1]))
        means = np.empty((len(self.windows), self._embeddings.shape[1]), np.float32)
        for part in self._parts():
            ends = self._starts[part] + self.windows[part]
            rows = np.concatenate([np.arange(*span) for span in zip(self._starts[part], ends, strict=True)])
            roots = self._read(rows)
            total += roots.sum(axis=0, dtype=np.float64)
            squares += np.square(roots, dtype=np.float64).sum(axis=0)
            inner = np.cumsum(self.windows[part]) - self.windows[part]
            means[part] = np.add.reduceat(roots, inner, axis=0) / self.windows[part][:, None]
        if not np.isfinite(squares).all():
            raise InputError("Some embeddings are not finite. Embed the recordings again.")
        count = self.windows.sum()
        mean = total / count
        spread = np.sqrt(np.maximum(squares / count - mean**2, 0))
        # A direction that is constant tells nothing; rounding must not blow it up.
        scale = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 1e-6 * spread.max())
        self._mean, self._scale = mean.astype(np.float32), scale.astype(np.float32)
        self._means = _to_unit(self._standardise(means))

    def find_candidates(self, least: float) -> list[tuple[int, int]]:
        """List the pairs of recordings with means of at least this cosine, each among the other's nearest."""
        count = len(self._means)
        if count < 2:
            return []
        means = self._means
        if count > _MANY:
            means = PCA(min(_DIRECTIONS, means.shape[1]), svd_solver="covariance_eigh").fit_transform(means)
        nearest = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, count - 1), algorithm="brute").fit(means)
        neighbours = nearest.kneighbors(return_distance=False)
        ends = np.stack([np.repeat(np.arange(count), neighbours.shape[1]), neighbours.ravel()], axis=1)
        pairs = np.unique(np.sort(ends, axis=1), axis=0)
        return [
            (int(one), int(other))
            for part in np.array_split(pairs, len(pairs) // _ROWS + 1)
            for one, other in part[(self._means[part[:, 0]] * self._means[part[:, 1]]).sum(axis=1) >= least]
        ]

    def compare(self, one: int, other: int) -> tuple[float, int]:
        """Give the similarity of two recordings, and how many windows were compared."""
        if one != self._taken[0]:
            self._taken = one, self._take(one)
        short, long = sorted((self._taken[1], self._take(other)), key=len)
        similarity = _find_in(short, long)
        if len(short) == len(long):
            similarity = max(similarity, _find_in(long, short))
        return similarity, len(short)

    def _take(self, recording: int) -> NDArray[np.float32]:
        start = self._starts[recording]
        return self._standardise(self._read(np.arange(start, start + self.windows[recording])))

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        roots: NDArray[np.float32] = signed_square_root(self._embeddings[self._order[rows]].astype(np.float32))
        return roots

    def _standardise(self, roots: NDArray[np.float32]) -> NDArray[np.float32]:
        standardised: NDArray[np.float32] = (roots - self._mean) * self._scale
        return standardised

    def _parts(self) -> Iterator[slice]:
        """Divide the recordings into runs of few windows."""
        run = np.cumsum(self.windows) // _ROWS
        edges = [0, *(np.flatnonzero(np.diff(run)) + 1).tolist(), len(run)]
        return (slice(first, last) for first, last in pairwise(edges))


def _find_in(short: NDArray[np.float32], long: NDArray[np.float32]) -> float:
    between = (long[:-1] + long[1:]) / 2
    return float((_to_unit(short) @ _to_unit(np.vstack([long, between])).T).max(axis=1).mean())


def _to_unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float32)
    unit: NDArray[np.float32] = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    return unit
