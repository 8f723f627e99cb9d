"""Which recordings a table of labels means, and what it says of each beside its labels."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.errors import InputError

__all__ = ["BEST_RATING", "DESCRIPTIONS", "RecordingFinder", "describe_recordings", "split_secondary"]

BEST_RATING = 5.0
"""Of BirdCLEF's ratings, which come from xeno-canto."""

_Cell = TypeVar("_Cell", str, float)
_QUOTED = re.compile("\"([^\"]*)\"|'([^']*)'")
_NOT_RATED = ("", "nan", "na", "none", "null")
_DATED = re.compile(r"(\d+_[A-Z]+)_\d{8}")
"""The stem of a soundscape of BirdCLEF 2021, such as 7019_COR_20190904; its row ids begin with 7019_COR."""
_TEXTS = {
    "author": ("author", "recordist"),
    "site": ("site", "location"),
    "collection": ("collection",),
    "license": ("license",),
    "url": ("url",),
}
"""What is kept of a recording, and from which columns, the first that says something before the others."""

DESCRIPTIONS = frozenset({"latitude", "longitude", "rating"}.union(*_TEXTS.values()))
"""The columns of tables of labels that `describe_recordings` reads."""


class RecordingFinder:
    """Finds the recording that a table means.

    A table may name more folders than were embedded, or fewer: one path has to be the end of the other, by whole
    folders. Where no recording has such a name, one without the recording's suffix is as good; and so is the
    number and site of a soundscape of BirdCLEF 2021, whose name goes on with the date. At last, capitals are taken for
    small letters, as recorders write ``X.WAV`` and their tables ``x.wav``, and an accent is the same as a mark of its
    own and as a part of its letter, as Macs keep names of files in one way and tables are written in the other.

    Parameters
    ----------
    names : sequence of str
        The recordings there are.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)

    @cached_property
    def _whole(self) -> _Index:
        return _Index((name, name) for name in self._names)

    @cached_property
    def _stems(self) -> _Index:
        return _Index((_cut_suffix(name), name) for name in self._names)

    @cached_property
    def _sites(self) -> _Index:
        dated = ((_DATED.fullmatch(_cut_suffix(name).rpartition("/")[2]), name) for name in self._names)
        return _Index((match[1], name) for match, name in dated if match)

    @cached_property
    def _folded(self) -> _Index:
        return _Index((_fold(name), name) for name in self._names)

    @cached_property
    def _folded_stems(self) -> _Index:
        return _Index((_fold(_cut_suffix(name)), name) for name in self._names)

    def __call__(self, filename: str) -> str | None:
        """Give the recording that a cell of the table means, None if there is none.

        Raises
        ------
        InputError
            If it may be two of them.
        """
        matches = self.matches(filename)
        if len(matches) > 1:
            raise InputError(
                f"{filename!r} may be {matches[0]!r} or {matches[1]!r}: write as much of the folder into the "
                "table as makes the recording plain."
            )
        return matches[0] if matches else None

    def matches(self, filename: str) -> list[str]:
        """Give all recordings that a cell of the table may mean."""
        filename = filename.replace("\\", "/").removeprefix("./")
        # Most tables need the first index alone.
        return (
            self._whole.find(filename)
            or self._stems.find(filename)
            or self._sites.find(filename)
            or self._folded.find(_fold(filename))
            or self._folded_stems.find(_fold(filename))
        )


class _Index:
    """Recordings by what they are called, and by all ends of that."""

    def __init__(self, names: Iterable[tuple[str, str]]) -> None:
        self._whole: defaultdict[str, list[str]] = defaultdict(list)
        self._by_end: defaultdict[str, list[str]] = defaultdict(list)
        for called, name in names:
            self._whole[called].append(name)
            for end in _ends(called):
                self._by_end[end].append(name)

    def find(self, filename: str) -> list[str]:
        if found := self._whole.get(filename) or self._by_end.get(filename):
            return found
        return next((self._whole[end] for end in _ends(filename) if end in self._whole), [])


def _cut_suffix(name: str) -> str:
    dot = name.rfind(".")
    return name[:dot] if dot > name.rfind("/") + 1 else name


def _fold(name: str) -> str:
    """Give what names have in common that differ by capitals, or by how Unicode writes their accents."""
    return unicodedata.normalize("NFC", name.casefold())


def _ends(path: str) -> list[str]:
    """List the ends of a path by whole folders, the longest first."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def split_secondary(text: str) -> list[str]:
    """Read BirdCLEF's column of secondary labels: a Python list, or names separated by blanks or semicolons.

    Examples
    --------
    >>> split_secondary("['amered', 'norcar']")
    ['amered', 'norcar']
    >>> split_secondary("['']")
    []
    >>> split_secondary("['amered' 'norcar']")
    ['amered', 'norcar']
    >>> split_secondary("amered norcar")
    ['amered', 'norcar']
    >>> split_secondary("nan")
    []
    """
    if text.strip().lower() == "nan":  # so pandas calls what is missing
        return []
    quoted = _QUOTED.findall(text) if text.strip().startswith("[") else []
    names = [double or single for double, single in quoted] or re.split(r"[;,\s]+", text.strip().strip("[]"))
    return [name.strip() for name in names if name.strip()]


def describe_recordings(table: pd.DataFrame, recordings: Sequence[str | None]) -> pd.DataFrame:
    """Gather what a table says of each recording beside its labels.

    Parameters
    ----------
    table : pandas.DataFrame
        Its cells as text; and the columns filename, line and source, which say where each row comes from.
    recordings : sequence of str or None
        The recording that each row is about; None leaves the row out.

    Returns
    -------
    pandas.DataFrame
        One row for each recording, sorted by the column ``recording``; and of the columns author, site, collection,
        license, url and rating those that the table has, where missing values say that it has none for that
        recording:

        - author: from ``author``, else ``recordist``.
        - site: from ``site``, else ``location``, else ``latitude`` and ``longitude``, both rounded to 0.01 degrees:
          cells of at most 1.1 km, whose edges may part two recordings that are nearer to each other. Coordinates
          that are no place on earth are missing.
        - rating: 0.5 to 5, as float64; 0 and empty cells are missing.

        Where several rows of a recording disagree, the smallest value counts, in each column for itself.

    Raises
    ------
    InputError
        If a rating is no number from 0 to 5; the message names its line and recording.
    """
    columns = {
        name: _first_filled([table[origin] for origin in origins if origin in table], len(table))
        for name, origins in _TEXTS.items()
        if any(origin in table for origin in origins)
    }
    if {"latitude", "longitude"} <= set(table.columns):
        places = _read_places(table)
        named = columns.get("site", [""] * len(table))
        columns["site"] = [name or place for name, place in zip(named, places, strict=True)]
    known = sorted({name for name in recordings if name is not None})
    # As objects: a name of a file need not be valid text, which columns of strings cannot hold.
    described = pd.DataFrame({"recording": known}, dtype=object)
    for name in (name for name in _TEXTS if name in columns):
        texts = _smallest(recordings, columns[name], "")
        described[name] = pd.Series([texts.get(key) for key in known], dtype=object)
    if "rating" in table:
        ratings = _smallest(recordings, _read_ratings(table).tolist(), 0.0)
        described["rating"] = [ratings.get(key, np.nan) for key in known]
    return described


def _first_filled(columns: Sequence[pd.Series], rows: int) -> list[str]:
    """Take each row's first cell that is not empty, with single blanks between its words."""
    filled = [""] * rows
    for column in columns:
        filled = [first or " ".join(cell.split()) for first, cell in zip(filled, column.tolist(), strict=True)]
    return filled


def _smallest(recordings: Sequence[str | None], values: Sequence[_Cell], missing: _Cell) -> dict[str, _Cell]:
    smallest: dict[str, _Cell] = {}
    for name, value in zip(recordings, values, strict=True):
        if name is not None and value != missing:
            smallest[name] = min(smallest.get(name, value), value)
    return smallest


def _read_places(table: pd.DataFrame) -> list[str]:
    """Name the cell of 0.01 degrees that each row's coordinates lie in; empty where there are none."""
    latitude, longitude = (
        pd.to_numeric(table[name].str.strip(), errors="coerce").to_numpy(np.float64)
        for name in ("latitude", "longitude")
    )
    on_earth = (np.abs(latitude) <= 90) & (np.abs(longitude) <= 180)
    # Adding 0 makes 0 of -0.
    north = np.round(np.where(on_earth, latitude, 0.0), 2) + 0.0
    east = np.round(np.where(on_earth, longitude, 0.0), 2) + 0.0
    east[east == -180] = 180
    return [
        f"{here_north:.2f} {here_east:.2f}" if known else ""
        for known, here_north, here_east in zip(on_earth, north, east, strict=True)
    ]


def _read_ratings(table: pd.DataFrame) -> NDArray[np.float64]:
    """Read the ratings, 0 where there is none."""
    text = table["rating"].str.strip()
    unrated = text.str.lower().isin(_NOT_RATED).to_numpy()
    rating = np.where(unrated, 0.0, pd.to_numeric(text, errors="coerce").to_numpy(np.float64))
    wrong = ~((rating >= 0) & (rating <= BEST_RATING))
    if wrong.any():
        row = int(np.argmax(wrong))
        source, line, filename = (table[name].iloc[row] for name in ("source", "line", "filename"))
        raise InputError(
            f"The labels {source} have the rating {text.iloc[row]!r} in line {line}, of {filename!r}. "
            f"Expected a number from 0 to {BEST_RATING:g}, where {BEST_RATING:g} is best and "
            "0 or an empty cell says that nobody rated the recording."
        )
    return rating
