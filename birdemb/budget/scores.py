"""The scores so far: of each head in each recording, and the probabilities that all of them give together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from birdemb.budget.overlap import average_overlapping
from birdemb.classify.ensemble import Ensemble

__all__ = ["Scores"]

_Rows = NDArray[np.float64]


class Scores:
    """Gathers scores, in whatever order they come, and combines what there is.

    Recordings are known by their content. The windows of one are scored from its first on.

    Parameters
    ----------
    ensemble : Ensemble
    weight : float
        Share of a window that one in between covers.
    """

    def __init__(self, ensemble: Ensemble, weight: float) -> None:
        self._ensemble = ensemble
        self._weight = weight
        self._rows: defaultdict[tuple[bool, str], dict[int, list[_Rows]]] = defaultdict(dict)

    def add(self, sha256: str, member: int, rows: _Rows, *, between: bool) -> None:
        """Add the logits of a head, of shape (n, classes), for the next windows of a recording."""
        self._rows[between, sha256].setdefault(member, []).append(rows)

    def count(self, sha256: str, member: int, *, between: bool) -> int:
        """Count the windows of a recording that a head has scored."""
        return sum(map(len, self._rows[between, sha256].get(member, ())))

    def restart(self, sha256: str, member: int, *, between: bool) -> None:
        """Forget what a head made of a recording."""
        self._rows[between, sha256].pop(member, None)

    def combine(self, recordings: Iterable[str]) -> tuple[dict[str, _Rows], int]:
        """Give the probabilities in recordings, of those heads that have scored the most windows of each.

        Those of the windows in between are averaged in where the same heads have scored them, too.

        Parameters
        ----------
        recordings : iterable of str

        Returns
        -------
        probabilities : dict of str to ndarray of shape (windows, classes), float64
            Of each recording of which a window was scored.
        averaged : int
            How many of these windows have been averaged with ones in between.
        """
        wanted = list(dict.fromkeys(recordings))
        combined = self._combine_windows(wanted, between=False)
        others = self._combine_windows(wanted, between=True)
        averaged = 0
        result = {}
        for sha256, (members, rows) in combined.items():
            its_members, between = others.get(sha256, ((), rows[:0]))
            if its_members == members and len(between):
                rows = average_overlapping(rows, between, self._weight)
                averaged += min(len(between) + 1, len(rows))
            result[sha256] = rows
        return result, averaged

    def members_of(self, sha256: str) -> tuple[int, ...]:
        """Give the heads that have scored the most windows of a recording; none where there are none."""
        return self._find_members(sha256, between=False)

    def _find_members(self, sha256: str, *, between: bool) -> tuple[int, ...]:
        scored = self._rows.get((between, sha256), {})
        counts = {member: sum(map(len, rows)) for member, rows in scored.items()}
        most = max(counts.values(), default=0)
        return tuple(sorted(member for member, count in counts.items() if count == most > 0))

    def _combine_windows(self, recordings: Sequence[str], *, between: bool) -> dict[str, tuple[tuple[int, ...], _Rows]]:
        groups: defaultdict[tuple[int, ...], list[str]] = defaultdict(list)
        for sha256 in recordings:
            if members := self._find_members(sha256, between=between):
                groups[members].append(sha256)
        result = {}
        for members, group in groups.items():
            scores = np.stack(
                [
                    np.concatenate([rows for sha256 in group for rows in self._rows[between, sha256][member]])
                    for member in members
                ]
            )
            probabilities = self._ensemble.keep(members).combine(scores)
            ends = np.cumsum([self.count(sha256, members[0], between=between) for sha256 in group])
            for sha256, rows in zip(group, np.split(probabilities, ends[:-1]), strict=True):
                result[sha256] = (members, rows)
        return result
