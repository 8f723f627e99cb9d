"""What the ratings of recordings are for: to weigh them, and to choose between them."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from birdemb.errors import InputError
from birdemb.label_table import BEST_RATING
from birdemb.listing import SkippedRecording

if TYPE_CHECKING:
    from birdemb.labels import Labels

__all__ = ["LEAST_WEIGHT", "limit_recordings", "weigh_recordings", "weight_by_rating"]

LEAST_WEIGHT = 0.2
"""That a rating can give: a bad recording of a rare species is still one."""


def weight_by_rating(rating: ArrayLike) -> NDArray[np.float64]:
    """Turn ratings into weights: a fifth of the rating, at least 0.2.

    The second place of BirdCLEF 2021 weighed recordings by ``clip(rating / max(rating), 0.1, 1)``, and so did others
    since. Two things differ here: the least weight is the one of a rating of 1; and a recording that nobody rated,
    whose rating is 0 in BirdCLEF's tables, is taken for an ordinary one and not for the worst.

    Parameters
    ----------
    rating : array-like of shape (recordings,)
        0.5 to 5, the best; NaN or 0 where there is none.

    Returns
    -------
    ndarray of shape (recordings,), float64
        From 0.2 to 1. Without a rating, the weight of the median of all ratings, and 1 if there is none at all.

    Raises
    ------
    InputError
        If a rating is below 0 or above 5.

    Examples
    --------
    >>> weight_by_rating([5, 4, 0.5, 0])
    array([1. , 0.8, 0.2, 0.8])
    """
    return np.clip(_fill_ratings(rating) / BEST_RATING, LEAST_WEIGHT, 1.0)


def weigh_recordings(labels: Labels) -> dict[str, float]:
    """Give the weight of each labelled recording by its rating: see `weight_by_rating`.

    Raises
    ------
    InputError
        If the labels tell no ratings.
    """
    if "rating" not in labels.recordings:
        have = f"its other columns are {', '.join(labels.columns)}" if labels.columns else "it has no other columns"
        raise InputError(
            f"Recordings cannot be weighed by their rating: {labels.source} has no column rating; {have}. "
            "Leave ratings out, or add such a column."
        )
    weights = weight_by_rating(labels.recordings["rating"].to_numpy(np.float64)).tolist()
    return dict(zip(labels.recordings["recording"], weights, strict=True))


def _fill_ratings(rating: ArrayLike) -> NDArray[np.float64]:
    """Give those without a rating the median of the others, or the best where there are no others."""
    given = np.nan_to_num(np.asarray(rating, np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
    wrong = given[~((given >= 0) & (given <= BEST_RATING))]
    if wrong.size:
        raise InputError(f"A rating is {wrong[0]:g}. Expected 0 to {BEST_RATING:g}, or NaN where there is none.")
    rated = given > 0
    return np.where(rated, given, np.median(given[rated]) if rated.any() else BEST_RATING)


def limit_recordings(labels: Labels, most: int, seed: int = 0) -> Labels:
    """Keep no more than some recordings of each class, the best rated.

    From the worst rated to the best, a recording is left out if each of its classes has more than `most` left. So a
    recording of several classes stays as long as one of them needs it, and a class has more than `most` in the end
    only where other classes need its recordings.

    Parameters
    ----------
    labels : Labels
    most : int
        Recordings of a class, at least 1.
    seed : int
        0 or more; decides between recordings that are rated alike. Each recording is drawn by its name alone, so
        that others may come and go without changing the choice between those that stay.

    Returns
    -------
    Labels
        Without the others, which are listed in its `problems` with the stage ``"limit"``. Every class keeps at least
        `most` recordings or all it had. Recordings in which no class is present are untouched.

    Raises
    ------
    InputError
        If `most` or `seed` is too small.
    """
    if most < 1:
        raise InputError(f"At most {most} recordings of a class were asked for; expected 1 or more.")
    if seed < 0:
        raise InputError(f"The seed is {seed}; expected 0 or more.")
    present = labels.table[labels.table["state"] == "present"]
    classes_of: defaultdict[str, set[str]] = defaultdict(set)
    for name, label in zip(present["recording"], present["class"], strict=True):
        classes_of[name].add(label)
    left = Counter(label for classes in classes_of.values() for label in classes)
    left_out: set[str] = set()
    for name in reversed(_rank(labels, sorted(classes_of), seed)):
        if all(left[label] > most for label in classes_of[name]):
            left_out.add(name)
            left.subtract(classes_of[name])
    if not left_out:
        return labels
    problems = tuple(
        SkippedRecording(name, "limit", f"{', '.join(sorted(classes_of[name]))}: {most} or more others are kept")
        for name in sorted(left_out)
    )
    return replace(
        labels,
        table=_leave_out(labels.table, left_out),
        recordings=_leave_out(labels.recordings, left_out),
        problems=labels.problems + problems,
    )


def _leave_out(frame: pd.DataFrame, recordings: set[str]) -> pd.DataFrame:
    return frame[[name not in recordings for name in frame["recording"]]].reset_index(drop=True)


def _rank(labels: Labels, names: list[str], seed: int) -> list[str]:
    """Sort recordings from the best rated to the worst, and by lot where they are rated alike."""
    given: dict[str, float] = {}
    if "rating" in labels.recordings:
        given = dict(zip(labels.recordings["recording"], labels.recordings["rating"], strict=True))
    filled = _fill_ratings([given.get(name, np.nan) for name in names])
    rating_of = dict(zip(names, filled.tolist(), strict=True))

    def order(name: str) -> tuple[float, bytes]:
        lot = hashlib.blake2b(f"{seed} {name}".encode(errors="surrogateescape"), digest_size=16)
        return -rating_of[name], lot.digest()

    return sorted(names, key=order)
