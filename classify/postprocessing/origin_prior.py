"""Priors by site, hour and season: what is usual there and then, learnt from labelled soundscapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.checks import check_number
from birdemb.classify.postprocessing.context import Context, Windows
from birdemb.classify.postprocessing.step import Step, raise_odds
from birdemb.classify.state import StateReader
from birdemb.errors import InputError

__all__ = ["HOURS", "SEASONS", "OriginPrior", "learn_origin_prior"]

HOURS = 24
SEASONS = 12
"""Parts of the year, each as long as a month."""

_DAYS = 366
_LARGEST = 20.0  # log-odds
_MOST_SITES = 100_000


@dataclass(frozen=True, eq=False)
class OriginPrior(Step):
    """Add to the log-odds of each class what its site, its hour and its season speak for or against it.

    The three are learnt each by itself and added, as if they were independent. What is not known of a recording, or was
    not there to learn from, adds nothing: with none of them, the probabilities stay to the bit.

    Parameters
    ----------
    strength : float
        By which the log-odds are multiplied, 0 to 2.
    sites : tuple of str
        Those that were learnt from; sorted.
    site_odds : ndarray of shape (sites, classes), float64
        Log-odds of each class there, less those everywhere.
    hour_odds : ndarray of shape (24, classes), float64
        The same of each hour, local time.
    season_odds : ndarray of shape (12, classes), float64
        The same of each twelfth of the year.

    Raises
    ------
    InputError
        If one of these is something else.
    """

    name: ClassVar[str] = "origin"
    main: ClassVar[str] = "strength"
    learnt: ClassVar[bool] = True
    asks: ClassVar[frozenset[str]] = frozenset({"site", "hour", "day"})

    strength: float
    sites: tuple[str, ...]
    site_odds: NDArray[np.float64]
    hour_odds: NDArray[np.float64]
    season_odds: NDArray[np.float64]

    def __post_init__(self) -> None:
        check_number("strength of origin", self.strength, at_least=0, at_most=2)
        if not all(isinstance(site, str) and site for site in self.sites) or list(self.sites) != sorted(
            set(self.sites)
        ):
            raise InputError("The sites of origin are not names in their order, each once.")
        classes = self.hour_odds.shape[-1]
        for name, rows in (("site_odds", len(self.sites)), ("hour_odds", HOURS), ("season_odds", SEASONS)):
            odds = getattr(self, name)
            if odds.shape != (rows, classes):
                raise InputError(f"{name} of origin has the shape {odds.shape}; expected ({rows}, {classes}).")
            if not (np.abs(odds) <= _LARGEST).all():
                raise InputError(f"{name} of origin holds a number farther from 0 than {_LARGEST:g}.")

    @property
    def classes(self) -> int:
        """How many classes it was learnt for."""
        return int(self.hour_odds.shape[1])

    def explain_unused(self, context: Context) -> str:
        """Say that no site that was learnt from is known, no hour and no day."""
        known = np.isin(context.site, self.sites).any()
        if known or not (np.isnan(context.hour) & np.isnan(context.day)).all():
            return ""
        return "origin changes nothing, as no recording tells a site that it was learnt from, its hour or its day."

    def change(self, probabilities: NDArray[np.float64], windows: Windows) -> NDArray[np.float64]:
        """Add the log-odds."""
        odds = np.zeros(probabilities.shape)
        for places, of_place in zip(
            _find_places(windows, self.sites), (self.site_odds, self.hour_odds, self.season_odds), strict=True
        ):
            known = places >= 0
            odds[known] += of_place[places[known]]
        return raise_odds(probabilities, self.strength * odds)

    @classmethod
    def read_arrays(cls, params: Mapping[str, Any], reader: StateReader, classes: int) -> dict[str, NDArray[Any]]:
        """Read the log-odds."""
        sites = params.get("sites")
        if not isinstance(sites, list) or len(sites) > _MOST_SITES:
            raise InputError("The priors by site of a bundle have no list of sites.")
        return {
            name: reader.array(f"post_origin_{name}", (rows, classes)).astype(np.float64)
            for name, rows in (("site_odds", len(sites)), ("hour_odds", HOURS), ("season_odds", SEASONS))
        }


def learn_origin_prior(
    present: NDArray[np.bool_], windows: Windows, *, strength: float = 1.0, shrinkage: float = 60.0
) -> OriginPrior:
    """Learn how usual each class is at each site, hour and season.

    The rate of a class at a place of one of the three, among its n windows with k positives, is taken as
    (k + m r) / (n + m), with r the class's rate in all windows of which that is known: as if m more windows had been
    heard there that are like all others. That rate is of one more window, in half of which the class is, so that it is
    never 0; each place has its share of that window. Hours and seasons lend a quarter of their windows to either
    neighbour. Their log-odds less those of r are what `OriginPrior` adds: nothing for a class in none of the windows,
    as labels may not speak of it, and all places would say the same.

    Parameters
    ----------
    present : ndarray of shape (n, classes), bool
    windows : Windows
        The same, labelled.
    strength : float
        Of the step.
    shrinkage : float
        m, in windows. Windows of one recording say nearly the same, so that it has to be far above 1.

    Returns
    -------
    OriginPrior
    """
    check_number("shrinkage of origin", shrinkage, above=0)
    known = np.unique(windows.context.site[windows.recording_numbers])
    sites = tuple(known[known != ""].tolist())
    odds = [
        _learn_odds(present, places, count, shrinkage, circular)
        for places, count, circular in zip(
            _find_places(windows, sites), (len(sites), HOURS, SEASONS), (False, True, True), strict=True
        )
    ]
    return OriginPrior(strength, sites, *odds)


def _learn_odds(
    present: NDArray[np.bool_], places: NDArray[np.int64], count: int, shrinkage: float, circular: bool
) -> NDArray[np.float64]:
    """Give the log-odds at each place less those at all places; 0 where nothing is known."""
    known = places >= 0
    heard = np.bincount(places[known], minlength=count).astype(np.float64)[:, None]
    found = np.zeros((count, present.shape[1]))
    np.add.at(found, places[known], present[known])
    total = heard.sum()
    rate = (found.sum(axis=0) + 0.5) / (total + 1)
    if circular:
        heard, found = (
            (np.roll(counts, 1, axis=0) + 2 * counts + np.roll(counts, -1, axis=0)) / 4 for counts in (heard, found)
        )
    share = heard / max(total, 1)
    here = (found + share / 2 + shrinkage * rate) / (heard + share + shrinkage)
    odds: NDArray[np.float64] = np.log(here) - np.log1p(-here) - (np.log(rate) - np.log1p(-rate))
    return np.clip(np.where((heard > 0) & found.any(axis=0), odds, 0.0), -_LARGEST, _LARGEST)


def _find_places(windows: Windows, sites: tuple[str, ...]) -> tuple[NDArray[np.int64], ...]:
    """Give each window's place among the sites, the hours and the seasons; -1 where it is not known."""
    numbers, context = windows.recording_numbers, windows.context
    by_name = {site: place for place, site in enumerate(sites)}
    site = np.array([by_name.get(name, -1) for name in context.site.tolist()], np.int64)[numbers]
    hours = windows.hours
    seasons = (context.day[numbers] - 1) / _DAYS * SEASONS
    return (
        site,
        np.where(np.isnan(hours), -1, np.nan_to_num(hours)).astype(np.int64),
        np.where(np.isnan(seasons), -1, np.minimum(np.nan_to_num(seasons), SEASONS - 1)).astype(np.int64),
    )
