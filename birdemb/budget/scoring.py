"""Scoring: what is in the cache and was not scored yet goes through the heads."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import numpy as np
from numpy.typing import NDArray

from birdemb.budget.scores import Scores
from birdemb.cache import EmbeddingCache
from birdemb.cache.chains import Placed
from birdemb.classify.ensemble import Ensemble, Heard, score_member

__all__ = ["Scorer"]

_WINDOWS_AT_ONCE = 2048  # as many as are scored without a look at the clock
_TRUST = 0.5  # of a new measurement of what a head costs

_New = dict[str, tuple[list[Placed], bool]]


class Scorer:
    """Scores recordings by heads, as far as they are embedded.

    Parameters
    ----------
    ensemble : Ensemble
    scores : Scores
        Where the scores go.
    costs : dict of int to float
        Seconds that a window costs in each head; kept up to date.

    Attributes
    ----------
    lengths : dict of str to float
        Length in seconds of the recordings that are embedded to their end, by content.
    """

    def __init__(self, ensemble: Ensemble, scores: Scores, costs: dict[int, float]) -> None:
        self._ensemble = ensemble
        self._scores = scores
        self.costs = costs
        self.lengths: dict[str, float] = {}
        self._finished: defaultdict[tuple[int, bool], set[str]] = defaultdict(set)
        self._counts: defaultdict[tuple[int, bool], int] = defaultdict(int)

    def count(self, member: int, *, between: bool) -> int:
        """Count the windows that a head has scored."""
        return self._counts[member, between]

    def score(
        self,
        cache: EmbeddingCache,
        members: Sequence[int],
        recordings: Iterable[str],
        *,
        between: bool,
        until: float,
        lock: AbstractContextManager[object] | None = None,
    ) -> bool:
        """Score what the cache holds of recordings and the heads have not scored.

        Parameters
        ----------
        cache : EmbeddingCache
            With the embeddings that these heads take.
        members : sequence of int
        recordings : iterable of str
            By content.
        between : bool
            Whether these are the windows in between.
        until : float
            By `time.monotonic`: what would take longer is not begun.
        lock : context manager, optional
            To be held while the cache is asked.

        Returns
        -------
        bool
            False where time ran out.
        """
        wanted, lock = list(dict.fromkeys(recordings)), lock or nullcontext()
        for member in members:
            waiting = [sha256 for sha256 in wanted if sha256 not in self._finished[member, between]]
            with lock:
                new = self._find_new(cache, waiting, member, between=between)
            for some, windows in _split(new):
                if time.monotonic() + windows * self.costs[member] > until:
                    return False
                with lock:
                    # Found once more each time, as somebody may join the cache's shards meanwhile.
                    found, heard = cache.again(partial(self._read, cache, some, member, between=between))
                self._score(found, heard, member, between=between)
        return True

    def _find_new(self, cache: EmbeddingCache, recordings: Sequence[str], member: int, *, between: bool) -> _New:
        """Give the parts that a head has not scored, and whether the last of them is the recording's last."""
        new = {}
        for sha256, chain in cache.place_begun(recordings).items():
            scored = self._scores.count(sha256, member, between=between)
            parts = [placed for placed in chain if placed.part.first_window >= scored]
            if parts and parts[0].part.first_window != scored:
                # It was cut into other parts before.
                self._scores.restart(sha256, member, between=between)
                self._counts[member, between] -= scored
                parts = chain
            if parts:
                new[sha256] = (parts, parts[-1].part.last)
        return new

    def _read(
        self, cache: EmbeddingCache, recordings: Sequence[str], member: int, *, between: bool
    ) -> tuple[_New, Heard]:
        new = self._find_new(cache, recordings, member, between=between)
        parts = [placed for some, _ in new.values() for placed in some]
        prior = self._ensemble.priors[self._ensemble.members[member].encoder]
        own = cache.read_parts(parts, "logits") if prior is not None and prior.uses_logits else None
        return new, Heard(cache.read_parts(parts, "embeddings"), own)

    def _score(self, new: _New, heard: Heard, member: int, *, between: bool) -> None:
        started = time.monotonic()
        count = len(heard.embeddings)
        rows: NDArray[np.float64] = np.empty((0, self._ensemble.classes))
        if count:
            chosen = self._ensemble.members[member]
            rows = score_member(chosen, heard, self._ensemble.priors[chosen.encoder])
            cost = (time.monotonic() - started) / count
            if count >= _WINDOWS_AT_ONCE / 8:
                self.costs[member] += _TRUST * (cost - self.costs[member])
        begin = 0
        for sha256, (parts, last) in new.items():
            end = begin + sum(placed.part.windows for placed in parts)
            self._scores.add(sha256, member, rows[begin:end], between=between)
            begin = end
            if last:
                self._finished[member, between].add(sha256)
                if not between:
                    self.lengths[sha256] = parts[-1].part.seconds
        self._counts[member, between] += count


def _split(new: _New) -> Iterator[tuple[list[str], int]]:
    """Give recordings of about so many windows at a time, and how many these are."""
    some: list[str] = []
    windows = 0
    for sha256, (parts, _) in new.items():
        some.append(sha256)
        windows += sum(placed.part.windows for placed in parts)
        if windows >= _WINDOWS_AT_ONCE:
            yield some, windows
            some, windows = [], 0
    if some:
        yield some, windows
