"""Chains of parts: those that cover a recording, chosen of all that a cache holds of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from birdemb.cache.shards import Part

__all__ = ["Placed", "choose_first_parts", "choose_parts"]


class Placed(NamedTuple):
    """A part and the name of the shard that holds it."""

    part: Part
    shard: str


def choose_parts(parts: Iterable[Placed]) -> list[Placed] | None:
    """Choose parts that cover a recording from its first window to its end, each window once.

    Parameters
    ----------
    parts : iterable of Placed
        All that there are of one recording; some may be there more than once.

    Returns
    -------
    list of Placed, or None
        In the recording's order, and the same whatever the order of `parts`; None if some are missing.
    """
    reached: dict[int, Placed | None] = {0: None}
    # Ascending, so that whatever leads to a window has been seen when a part begins there.
    for placed in sorted(parts, key=_order):
        part = placed.part
        if part.first_window not in reached:
            continue
        if part.last:
            chain = [placed]
            while (before := reached[chain[-1].part.first_window]) is not None:
                chain.append(before)
            return chain[::-1]
        reached.setdefault(part.first_window + part.windows, placed)
    return None


def choose_first_parts(parts: Iterable[Placed]) -> list[Placed]:
    """Choose parts that follow each other from a recording's first window on, for as long as there is one that does."""
    chosen: list[Placed] = []
    reached = 0
    for placed in sorted(parts, key=_order):
        if placed.part.first_window == reached and not (chosen and chosen[-1].part.last):
            chosen.append(placed)
            reached += placed.part.windows
    return chosen


def _order(placed: Placed) -> tuple[int, str, int, int, bool]:
    part = placed.part
    return part.first_window, placed.shard, part.first_row, part.windows, part.last
