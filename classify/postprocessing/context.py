"""What is known of where and when recordings were made, for the steps that ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from birdemb.errors import InputError

__all__ = ["Context", "Windows"]

_RANGES = {
    "hour": (0.0, 24.0),
    "day": (1.0, 367.0),  # a leap year has 366 days, and the last of them lasts until 367
    "latitude": (-90.0, 90.0),
    "longitude": (-180.0, 180.0),
    "week": (1.0, 48.0),
}
_ROWS_AT_ONCE = 32_768


@dataclass(frozen=True, eq=False)
class Context:
    """Where and when each recording was made.

    Parameters
    ----------
    site : ndarray of shape (recordings,), str
        What the place is called; empty where that is not known.
    hour : ndarray of shape (recordings,), float64
        Hour of the day, local time, 0 to 24, at which the recording begins; NaN where that is not known, as below.
    day : ndarray of shape (recordings,), float64
        Day of the year, from 1.
    latitude, longitude : ndarray of shape (recordings,), float64
        Degrees.
    week : ndarray of shape (recordings,), float64
        Week of the year as BirdNET counts them, four a month, 1 to 48.
    occurrence : ndarray of shape (recordings, classes), float64, optional
        Chance, in 0 to 1, that a class is met with at the place of a recording in its week; NaN where that is not
        known.

    Raises
    ------
    InputError
        If a number is out of range, or there is not one of each for each recording.
    """

    site: NDArray[np.str_]
    hour: NDArray[np.float64]
    day: NDArray[np.float64]
    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]
    week: NDArray[np.float64]
    occurrence: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.site.ndim != 1 or self.site.dtype.kind != "U":
            raise InputError(
                f"The sites are {self.site.dtype} of shape {self.site.shape}; expected text, one for each recording."
            )
        for name, (low, high) in _RANGES.items():
            values = getattr(self, name)
            if values.shape != self.site.shape or values.dtype != np.float64:
                raise InputError(
                    f"{name} is {values.dtype} of shape {values.shape}; expected float64 of shape {self.site.shape}."
                )
            wrong = ~(np.isnan(values) | ((values >= low) & (values <= high)))
            if wrong.any():
                raise InputError(
                    f"{name} of recording {int(wrong.argmax())} is {values[wrong][0]:g}; "
                    f"expected {low:g} to {high:g}, or NaN where it is not known."
                )
        if self.occurrence is not None and (self.occurrence.ndim != 2 or len(self.occurrence) != len(self)):
            raise InputError(
                f"The occurrences have the shape {self.occurrence.shape}; expected ({len(self)}, classes)."
            )

    @classmethod
    def of(
        cls,
        recordings: int,
        *,
        site: ArrayLike | None = None,
        hour: ArrayLike | None = None,
        day: ArrayLike | None = None,
        latitude: ArrayLike | None = None,
        longitude: ArrayLike | None = None,
        week: ArrayLike | None = None,
        occurrence: NDArray[np.float64] | None = None,
    ) -> Context:
        """Put together what is known; the rest is not.

        Parameters
        ----------
        recordings : int
        site, hour, day, latitude, longitude, week : array-like of shape (recordings,), optional
        occurrence : ndarray of shape (recordings, classes), float64, optional

        Returns
        -------
        Context

        Raises
        ------
        InputError
            As the class itself.

        Examples
        --------
        >>> Context.of(2, site=["lake", ""], hour=[4.5, np.nan]).day
        array([nan, nan])
        """
        numbers = {
            name: np.full(recordings, np.nan) if values is None else np.asarray(values, np.float64)
            for name, values in (
                ("hour", hour),
                ("day", day),
                ("latitude", latitude),
                ("longitude", longitude),
                ("week", week),
            )
        }
        names = np.full(recordings, "") if site is None else np.asarray(site, np.str_)
        return cls(names, **numbers, occurrence=occurrence)

    def __len__(self) -> int:
        return len(self.site)


@dataclass(frozen=True, eq=False)
class Windows:
    """Which window is whose, and when.

    Parameters
    ----------
    recording_numbers : ndarray of shape (n,), integers
        Index of each window's recording in `context`; in any order.
    starts : ndarray of shape (n,), float
        Seconds from its recording's start at which each window begins.
    context : Context

    Raises
    ------
    InputError
        If there is not one of each for each window, a recording is none of the context's, or a start is not finite.
    """

    recording_numbers: NDArray[np.int64]
    starts: NDArray[np.float64]
    context: Context

    def __post_init__(self) -> None:
        numbers, starts = self.recording_numbers, self.starts
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or starts.shape != numbers.shape:
            raise InputError(
                f"The numbers of the windows' recordings are {numbers.dtype} of shape {numbers.shape}, and the starts "
                f"have the shape {starts.shape}; expected a whole number and a start for each window."
            )
        if len(numbers) and (numbers.min() < 0 or numbers.max() >= len(self.context)):
            raise InputError(
                f"Windows are of recordings {numbers.min()} to {numbers.max()}; "
                f"there are {len(self.context)}, counted from 0."
            )
        if not np.isfinite(starts).all():
            raise InputError("A window has a start that is no finite number of seconds.")

    def __len__(self) -> int:
        return len(self.starts)

    def blocks(self) -> Iterator[NDArray[np.int64]]:
        """Give the windows of recordings of the same number of windows: arrays of shape (recordings, windows).

        Each row holds the windows of one recording, by their indices, in the order of their starts.
        """
        order = np.lexsort((self.starts, self.recording_numbers))
        _, first, counts = np.unique(self.recording_numbers[order], return_index=True, return_counts=True)
        for count in np.unique(counts):
            some = first[counts == count]
            step = max(1, _ROWS_AT_ONCE // int(count))
            for start in range(0, len(some), step):
                yield order[some[start : start + step, None] + np.arange(count)]

    def parts(self) -> Iterator[NDArray[np.int64]]:
        """Give whole recordings, about so many windows at a time, by the windows' indices in the order of starts."""
        order = np.lexsort((self.starts, self.recording_numbers))
        _, first = np.unique(self.recording_numbers[order], return_index=True)
        begin = 0
        for end in [*first[1:].tolist(), len(order)]:
            if end - begin >= _ROWS_AT_ONCE or end == len(order):
                yield order[begin:end]
                begin = end

    def take(self, rows: NDArray[np.int64]) -> Windows:
        """Give some of the windows, by their indices."""
        return Windows(self.recording_numbers[rows], self.starts[rows], self.context)

    @property
    def hours(self) -> NDArray[np.float64]:
        """Give the hour of the day at which each window begins, 0 to below 24; NaN where it is not known."""
        hours: NDArray[np.float64] = (self.context.hour[self.recording_numbers] + self.starts / 3600) % 24
        return np.where(hours >= 24, 0.0, hours)  # what is just below 0 becomes 24 by rounding
