"""The species range filter: a class that is not to be expected at a recording's place and week loses probability.

What is to be expected is an *occurrence*: for each recording and class a number from 0 to 1, the chance that somebody
who looks for birds there in that week reports it. NaN is what nobody knows: a class that the range model was not
trained on, or a recording without a place or a date. There nothing is changed.

Two ways, both class by class, neither of which ever raises a probability or changes the order of the windows of one
recording:

``"hard"``, as BirdNET-Analyzer filters, which leaves out a species whose occurrence is below a threshold:

    p' = p                  where occurrence >= threshold
    p' = p * HARD_FACTOR    elsewhere

BirdNET-Analyzer writes nothing there; a factor so small comes to the same for every threshold of detection, but keeps
the order of the windows, of which ROC-AUC and average precision are made.

``"soft"``, a change of the prior odds (Saerens, Latinne and Decaestecker 2002, "Adjusting the outputs of a classifier
to new a priori probabilities"; with place and date as the prior: Mac Aodha, Cole and Perona 2019, "Presence-only
geographical priors for fine-grained image classification"):

    logit(p') = logit(p) + strength * log(min(max(occurrence, floor), threshold) / threshold)

With r = (min(max(occurrence, floor), threshold) / threshold) ** strength this is, without any logarithm of p,

    p' = r p / (1 - p + r p)

It begins where the hard filter does, at the threshold, but a species that is rare there, or that the range model knows
badly, is still found where it is loud and clear: occurrence is a share of checklists, which is small for all that is
nocturnal or shy. It never raises, as a filter takes away; a probability of exactly 1 stays 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.checks import check_number
from birdemb.errors import InputError

__all__ = ["HARD_FACTOR", "RANGE_MODES", "RangeFilter", "RangeFiltered", "filter_by_range"]

RANGE_MODES = ("soft", "hard")

_ROWS_AT_ONCE = 16_384  # float64 copies of a long table must not fill the memory

HARD_FACTOR = 1e-6
"""What the hard filter multiplies by: far below any threshold of detection, and with digits left in float32."""


@dataclass(frozen=True)
class RangeFilter:
    """How probabilities are filtered by occurrence.

    Parameters
    ----------
    mode : {"soft", "hard"}
    threshold : float
        Occurrence from which on nothing is changed, above 0 and at most 1. The default is BirdNET-Analyzer's
        (``--sf_thresh``).
    strength : float
        Of the soft way: 1 for the change of prior odds as it is, less for a part of it, 0 for none; at most 10.
    floor : float
        Of the soft way: an occurrence below counts as this, above 0 and at most the threshold, so that no class loses
        more than ``strength * log(threshold / floor)`` of its logit (5.7 by default).

    Raises
    ------
    InputError
        If one of them is out of range.
    """

    mode: str = "soft"
    threshold: float = 0.03
    strength: float = 1.0
    floor: float = 1e-4

    def __post_init__(self) -> None:
        if self.mode not in RANGE_MODES:
            raise InputError(f"The range filter's mode is {self.mode!r}. Use {' or '.join(map(repr, RANGE_MODES))}.")
        check_number("The range filter's threshold", self.threshold, above=0, at_most=1)
        check_number("The range filter's strength", self.strength, at_least=0, at_most=10)
        check_number("The range filter's floor", self.floor, above=0, at_most=self.threshold)

    def factor(self, occurrence: NDArray[Any]) -> NDArray[np.float64]:
        """Give what the odds (soft) or the probability (hard) is multiplied by.

        Parameters
        ----------
        occurrence : ndarray of any shape, any float
            From 0 to 1, or NaN.

        Returns
        -------
        ndarray of the same shape, float64
            Above 0 and at most 1; 1 where the occurrence is NaN.
        """
        # Compared in the type of the occurrence, where the threshold may be a little more or less; false for NaN.
        below = occurrence < self.threshold
        if self.mode == "hard":
            return np.where(below, HARD_FACTOR, 1.0)
        counted = np.clip(occurrence.astype(np.float64), self.floor, self.threshold)
        return np.where(below, (counted / self.threshold) ** self.strength, 1.0)


@dataclass(frozen=True, eq=False)
class RangeFiltered:
    """Probabilities behind the range filter, and what it did.

    Parameters
    ----------
    probabilities : ndarray of shape (windows, classes), float
    untouched : int
        Recordings of which no class has an occurrence: without a place or a date.
    lowered : ndarray of shape (classes,), int64
        For each class, in how many recordings it was lowered.
    """

    probabilities: NDArray[Any]
    untouched: int
    lowered: NDArray[np.int64]


def filter_by_range(
    probabilities: NDArray[Any], occurrence: NDArray[Any], recordings: NDArray[Any], settings: RangeFilter
) -> RangeFiltered:
    """Lower the probabilities of classes that are not to be expected where and when a recording was made.

    Parameters
    ----------
    probabilities : ndarray of shape (windows, classes), float32 or float64
        From 0 to 1; NaN stays.
    occurrence : ndarray of shape (recordings, classes), any float
        From 0 to 1; NaN where it is not known.
    recordings : ndarray of shape (windows,), int
        Of each window the row of its recording in `occurrence`.
    settings : RangeFilter

    Returns
    -------
    RangeFiltered
        With new probabilities of the same dtype.

    Raises
    ------
    InputError
        If the shapes or types do not go together, or an occurrence is no number from 0 to 1.

    Examples
    --------
    >>> occurrence = np.array([[0.0001, np.nan]])
    >>> filter_by_range(np.array([[0.9, 0.9]]), occurrence, np.zeros(1, int), RangeFilter()).probabilities.round(3)
    array([[0.029, 0.9  ]])
    """
    _check(probabilities, occurrence, recordings)
    factor = settings.factor(occurrence)
    result = probabilities.copy()
    for start in range(0, len(result), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        given, by = result[part].astype(np.float64), factor[recordings[part]]
        scaled = given * by
        if settings.mode == "soft":
            scaled /= 1 - given + scaled
        # What has no factor keeps its bits.
        result[part] = np.where(by < 1, np.minimum(scaled, given), given)
    return RangeFiltered(
        probabilities=result,
        untouched=int(np.isnan(occurrence).all(axis=1).sum()),
        lowered=(factor < 1).sum(axis=0).astype(np.int64),
    )


def _check(probabilities: NDArray[Any], occurrence: NDArray[Any], recordings: NDArray[Any]) -> None:
    if probabilities.dtype not in (np.float32, np.float64):
        raise InputError(f"The probabilities are of the type {probabilities.dtype}. Expected float32 or float64.")
    if probabilities.ndim != 2 or occurrence.ndim != 2 or probabilities.shape[1] != occurrence.shape[1]:
        raise InputError(
            f"Probabilities of shape {probabilities.shape} and occurrences of shape {occurrence.shape} do not go "
            "together. Expected (windows, classes) and (recordings, classes)."
        )
    if recordings.shape != probabilities.shape[:1] or not np.issubdtype(recordings.dtype, np.integer):
        raise InputError(
            f"The windows' recordings have the shape {recordings.shape} and the type {recordings.dtype}. Expected a "
            f"whole number for each of the {len(probabilities):,} windows."
        )
    if len(recordings) and not 0 <= recordings.min() <= recordings.max() < len(occurrence):
        raise InputError(
            f"The windows name recordings {recordings.min()} to {recordings.max()}; there are occurrences of "
            f"{len(occurrence):,}, counted from 0."
        )
    known = occurrence[~np.isnan(occurrence)]
    if len(known) and not 0 <= known.min() <= known.max() <= 1:
        raise InputError(
            f"The occurrences go from {known.min():g} to {known.max():g}. Expected numbers from 0 to 1, and NaN where "
            "they are not known."
        )
