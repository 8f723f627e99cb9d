"""The scores so far: of each head in each recording, and the probabilities that all of them give together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from birdemb.budget.overlap import average_overlapping
from birdemb.classify.ensemble import Ensemble

__all__ = ["Scores"]

_WINDOWS_AT_ONCE = 8192  # as many as are combined together, where the blend lets them be

_Rows = NDArray[np.float64]
_Key = tuple[bool, str]  # whether in between, and the recording
_Combined = dict[str, tuple[tuple[int, ...], _Rows]]  # recording -> the heads, and its rows


class Scores:
    """Gathers scores, in whatever order they come, and combines what there is.

    Recordings are known by their content. The windows of one are scored from its first on. Scores are kept in float32,
    which is as much as embeddings tell, as those of all heads have to fit into memory together.

    Parameters
    ----------
    ensemble : Ensemble
    weight : float
        Share of a window that one in between covers.
    """

    def __init__(self, ensemble: Ensemble, weight: float) -> None:
        self._ensemble = ensemble
        self._weight = weight
        self._rows: defaultdict[_Key, dict[int, list[NDArray[np.float32]]]] = defaultdict(dict)

    def add(self, sha256: str, member: int, rows: _Rows, *, between: bool) -> None:
        """Add the logits of a head, of shape (n, classes), for the next windows of a recording."""
        self._rows[between, sha256].setdefault(member, []).append(rows.astype(np.float32))

    def count(self, sha256: str, member: int, *, between: bool) -> int:
        """Count the windows of a recording that a head has scored."""
        return sum(map(len, self._rows.get((between, sha256), {}).get(member, ())))

    def restart(self, sha256: str, member: int, *, between: bool) -> None:
        """Forget what a head made of a recording."""
        self._rows[between, sha256].pop(member, None)

    def combine(self, recordings: Iterable[str]) -> tuple[dict[str, _Rows], int]:
        """Give the probabilities in recordings, of those heads that have scored the most windows of each.

        Those of the windows in between are averaged in where the same heads have scored them, too. A blend by ranks
        compares windows of all recordings, and so takes the same heads in each: those that have scored all that any
        head has, or, where there are none, the one that has scored the most.

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
        if self._ensemble.needs_whole_table:
            combined, others = self._combine_whole(wanted)
        else:
            combined, others = (self._combine_windows(wanted, between=between) for between in (False, True))
        averaged = 0
        result = {}
        for sha256, (members, rows) in combined.items():
            its_members, between = others.get(sha256, ((), rows[:0]))
            if its_members == members and len(between):
                rows = average_overlapping(rows, between, self._weight)
                averaged += min(len(between) + 1, len(rows))
            result[sha256] = rows
        return result, averaged

    def _find_members(self, sha256: str, *, between: bool) -> tuple[int, ...]:
        scored = self._rows.get((between, sha256), {})
        counts = {member: sum(map(len, rows)) for member, rows in scored.items()}
        most = max(counts.values(), default=0)
        return tuple(sorted(member for member, count in counts.items() if count == most > 0))

    def _combine_windows(self, recordings: Sequence[str], *, between: bool) -> _Combined:
        """Combine windows of each recording by itself; a few recordings at a time, as memory goes."""
        groups: defaultdict[tuple[int, ...], list[str]] = defaultdict(list)
        for sha256 in recordings:
            if members := self._find_members(sha256, between=between):
                groups[members].append(sha256)
        result: _Combined = {}
        for members, group in groups.items():
            some: list[_Key] = []
            windows = 0
            for sha256 in group:
                some.append((between, sha256))
                windows += self.count(sha256, members[0], between=between)
                if windows >= _WINDOWS_AT_ONCE or sha256 == group[-1]:
                    result |= {one: (members, rows) for (_, one), rows in self._combine_table(members, some).items()}
                    some, windows = [], 0
        return result

    def _combine_whole(self, recordings: Sequence[str]) -> tuple[_Combined, _Combined]:
        """Combine all windows as one table, with those in between that the same heads have scored."""
        members = self._find_common_members(recordings)
        keys = [(False, sha256) for sha256 in recordings if members and self.count(sha256, members[0], between=False)]
        keys += [(True, sha256) for _, sha256 in keys if self._find_members(sha256, between=True) == members]
        combined: tuple[_Combined, _Combined] = ({}, {})
        for (between, sha256), rows in self._combine_table(members, keys).items():
            combined[between][sha256] = (members, rows)
        return combined

    def _find_common_members(self, recordings: Sequence[str]) -> tuple[int, ...]:
        """Give the heads that have scored all windows that any has; else the one that has scored the most."""
        counts = np.zeros((len(recordings), len(self._ensemble.members)), np.int64)
        for place, sha256 in enumerate(recordings):
            for member in range(counts.shape[1]):
                counts[place, member] = self.count(sha256, member, between=False)
        if not counts.any():
            return ()
        common = (counts == counts.max(axis=1, keepdims=True)).all(axis=0)
        return tuple(np.flatnonzero(common).tolist()) or (int(counts.sum(axis=0).argmax()),)

    def _combine_table(self, members: tuple[int, ...], keys: Sequence[_Key]) -> dict[_Key, _Rows]:
        """Combine the scores of heads as one table, and give each recording its rows."""
        if not keys:
            return {}
        counts = [self.count(sha256, members[0], between=between) for between, sha256 in keys]
        scores = np.empty((len(members), sum(counts), self._ensemble.classes))
        for place, member in enumerate(members):
            np.concatenate([rows for key in keys for rows in self._rows[key][member]], out=scores[place])
        probabilities = self._ensemble.keep(members).combine(scores)
        return dict(zip(keys, np.split(probabilities, np.cumsum(counts)[:-1]), strict=True))
