"""Tables out: `submission.csv` as the BirdCLEF competitions want it, and the same table read back."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.errors import InputError
from birdemb.listing import EmbeddedRecording
from birdemb.tables.text import replace_csv

__all__ = [
    "SampleMatch",
    "make_submission",
    "match_sample",
    "name_soundscape",
    "read_scores",
    "refuse_other_classes",
    "refuse_other_soundscapes",
    "refuse_shared_stems",
    "write_submission",
]

_ROWS_AT_ONCE = 4096


def refuse_shared_stems(recordings: Iterable[str]) -> None:
    """Make sure that no two recordings would get the same row ids.

    Raises
    ------
    InputError
        If two have the same file name but for folder and suffix.
    """
    by_stem: defaultdict[str, list[str]] = defaultdict(list)
    for recording in recordings:
        by_stem[PurePosixPath(recording).stem].append(recording)
    for stem, names in by_stem.items():
        if len(names) > 1:
            raise InputError(
                f"{names[0]} and {names[1]} would both have the row ids {stem}_5, ...: "
                "rename one of them, or predict their folders one after the other."
            )


def name_soundscape(recording: str) -> str:
    """Give what the row ids of a recording begin with: its file stem, as text that can be written.

    Parameters
    ----------
    recording : str
        Its path, with forward slashes; names of files need not be valid text.

    Returns
    -------
    str
    """
    return PurePosixPath(recording).stem.encode(errors="backslashreplace").decode()


def make_submission(
    recordings: Sequence[EmbeddedRecording],
    probabilities: NDArray[np.float64],
    classes: Sequence[str],
    *,
    window: float = 5.0,
    hop: float = 5.0,
) -> pd.DataFrame:
    r"""Make the table of row ids and classes.

    Parameters
    ----------
    recordings : sequence of EmbeddedRecording
    probabilities : ndarray of shape (windows of all recordings, classes)
        In 0 to 1.
    classes : sequence of str
        In the order of the columns.
    window, hop : float
        In seconds.

    Returns
    -------
    pandas.DataFrame
        The column row_id, ``<file stem>_<end second>``, and one column for each class.

    Examples
    --------
    >>> lake = EmbeddedRecording("north/lake.ogg", "00", windows=2, seconds=8.0)
    >>> make_submission([lake], np.array([[0.25], [0.75]]), ["bittern"]).to_csv(index=False)
    'row_id,bittern\nlake_5,0.25\nlake_10,0.75\n'
    """
    row_ids = [
        f"{stem}_{index * hop + window:.10g}"
        for stem, entry in ((name_soundscape(entry.recording), entry) for entry in recordings)
        for index in range(entry.windows)
    ]
    # Of a year of recordings a copy would not fit into memory; nobody writes into this table.
    table = pd.DataFrame(probabilities, columns=list(classes), copy=False)
    table.insert(0, "row_id", row_ids)
    return table


@dataclass(frozen=True)
class SampleMatch:
    """A submission in the form of a sample, and what did not match.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows and columns as in the sample.
    unknown_classes : tuple of str
        Classes of the sample that the bundle does not know; 0 everywhere.
    dropped_classes : tuple of str
        Classes of the bundle that the sample does not ask for.
    filled_rows : tuple of str
        Rows of the sample that were not predicted; they hold the classes' priors.
    dropped_rows : int
        Predicted rows that the sample does not ask for.
    """

    table: pd.DataFrame
    unknown_classes: tuple[str, ...]
    dropped_classes: tuple[str, ...]
    filled_rows: tuple[str, ...]
    dropped_rows: int

    @property
    def complete(self) -> bool:
        """Whether every value that the sample asks for was predicted."""
        return not self.unknown_classes and not self.filled_rows


def refuse_other_classes(sample: pd.DataFrame, classes: Sequence[str]) -> None:
    """Make sure that a sample asks for some of the classes.

    Parameters
    ----------
    sample : pandas.DataFrame
        As `read_scores` gives it.
    classes : sequence of str
        The bundle's.

    Raises
    ------
    InputError
        If it has none of them.
    """
    wanted = [name for name in sample.columns if name != "row_id"]
    if not set(classes) & set(wanted):
        raise InputError(
            f"The sample submission has none of the bundle's classes: it has {', '.join(wanted[:3])}, ...; "
            f"the bundle has {', '.join(classes[:3])}, ..."
        )


def refuse_other_soundscapes(sample: pd.DataFrame, recordings: Iterable[str]) -> None:
    """Make sure that a sample asks for rows of some of the soundscapes.

    Parameters
    ----------
    sample : pandas.DataFrame
        As `read_scores` gives it.
    recordings : iterable of str
        Their paths, with forward slashes.

    Raises
    ------
    InputError
        If it has none of them, and there are some.
    """
    stems = [name_soundscape(recording) for recording in recordings]
    wanted = sample["row_id"].str.rpartition("_")[0]
    if stems and not wanted.isin(stems).any():
        raise InputError(
            f"The sample submission asks for none of the soundscapes: it has {sample['row_id'].iloc[0]!r}, and the "
            f"first of them is {stems[0]!r}. Are these its soundscapes?"
        )


def match_sample(table: pd.DataFrame, sample: pd.DataFrame, priors: Sequence[float]) -> SampleMatch:
    """Bring a submission to exactly the rows and columns of a sample.

    Parameters
    ----------
    table : pandas.DataFrame
        As `make_submission` gives it.
    sample : pandas.DataFrame
        As `read_scores` gives it.
    priors : sequence of float
        Share of training windows with each class of `table`, for rows that were not predicted.

    Returns
    -------
    SampleMatch

    Raises
    ------
    InputError
        If the sample has none of the classes, or none of the rows although some were predicted.
    """
    classes = [name for name in table.columns if name != "row_id"]
    wanted = [name for name in sample.columns if name != "row_id"]
    refuse_other_classes(sample, classes)
    places = pd.Index(table["row_id"]).get_indexer(pd.Index(sample["row_id"]))
    missing = places < 0
    if missing.all() and len(table):
        raise InputError(
            f"The sample submission asks for none of the predicted rows: it has {sample['row_id'].iloc[0]!r}, "
            f"the prediction {table['row_id'].iloc[0]!r}. Are these its soundscapes?"
        )
    values = np.zeros((len(sample), len(wanted)))
    shares, asked = dict(zip(classes, priors, strict=True)), set(wanted)
    # A column at a time, so that there is one table more in memory and not several.
    for column, name in enumerate(wanted):
        if name in shares:
            values[missing, column] = shares[name]
            values[~missing, column] = table[name].to_numpy()[places[~missing]]
    result = pd.DataFrame(values, columns=wanted, copy=False)
    result.insert(0, "row_id", sample["row_id"].tolist())
    return SampleMatch(
        table=result,
        unknown_classes=tuple(name for name in wanted if name not in shares),
        dropped_classes=tuple(name for name in classes if name not in asked),
        filled_rows=tuple(sample["row_id"].to_numpy()[missing].tolist()),
        dropped_rows=len(table) - len(np.unique(places[~missing])),
    )


def write_submission(path: Path, table: pd.DataFrame) -> None:
    """Write a submission, atomically, with as many digits as tell each value from every other.

    What is scored is the order of the values in each class, and any fixed number of digits makes ties, first of all
    among probabilities near 1.

    Parameters
    ----------
    path : Path
    table : pandas.DataFrame
        The column row_id first, and then float64 in 0 to 1.

    Raises
    ------
    InputError
        If a value is not in 0 to 1, or the path cannot be written.
    """
    _refuse_improbable(table)
    with replace_csv(path) as rows:
        rows.writerow(table.columns)
        # pandas writes such a table in twice the time.
        for first in range(0, len(table), _ROWS_AT_ONCE):
            part = table.iloc[first : first + _ROWS_AT_ONCE]
            values = part.iloc[:, 1:].to_numpy(dtype=np.float64).tolist()
            rows.writerows([row_id, *row] for row_id, row in zip(part["row_id"].tolist(), values, strict=True))


def _refuse_improbable(table: pd.DataFrame) -> None:
    for name in table.columns[1:]:
        values = table[name].to_numpy(dtype=np.float64)
        wrong = ~((values >= 0) & (values <= 1))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(
                f"The score of {name} in the row {table['row_id'].iloc[row]!r} is {values[row]}; expected 0 to 1. "
                "Fit the bundle again: what it holds cannot be right."
            )


def read_scores(path: Path) -> pd.DataFrame:
    """Read a submission, a sample submission or a truth table: row_id and a number for each class.

    Parameters
    ----------
    path : Path
        A CSV file.

    Returns
    -------
    pandas.DataFrame
        The column row_id as text, the others as float64.

    Raises
    ------
    InputError
        If it is no such table: no row_id, a row or a column twice, a row of another length, no rows, or something
        that is no number.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read_rows(path, csv.reader(file, strict=True))
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror or error}.") from error
    except (csv.Error, UnicodeError) as error:
        raise InputError(f"{path} is no CSV table in UTF-8 ({error}).") from error


def _read_rows(path: Path, lines: Iterator[list[str]]) -> pd.DataFrame:
    # Not pandas, which takes the row ids for an index, and the next column for row_id, where rows have a cell too many.
    filled = filter(None, lines)
    header = next(filled, [])
    column, columns = Counter(header).most_common(1)[0] if header else ("", 0)
    if columns > 1:
        raise InputError(f"{path} has the column {column!r} twice. Leave one of them.")
    first = next(filled, None)
    if "row_id" not in header or len(header) < 2 or first is None:
        raise InputError(f"{path} has to have a column row_id, one column for each class, and rows.")
    place = header.index("row_id")
    names = [name for name in header if name != "row_id"]
    parts: list[NDArray[np.float64]] = []
    row_ids: list[str] = []
    seen: set[str] = set()
    rows = chain([first], filled)
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        for row in some:
            if len(row) != len(header):
                raise InputError(
                    f"{path} has {len(row)} cells in the row {row[min(place, len(row) - 1)]!r}, and {len(header)} "
                    "columns. Expected a cell for each column."
                )
            row_ids.append(row.pop(place))
            if row_ids[-1] in seen:
                raise InputError(f"{path} has the row {row_ids[-1]!r} twice.")
            seen.add(row_ids[-1])
        parts.append(_read_numbers(path, some, row_ids[-len(some) :], names))
    table = pd.DataFrame(np.concatenate(parts), columns=names, copy=False)
    table.insert(place, "row_id", row_ids)
    return table


def _read_numbers(path: Path, rows: list[list[str]], row_ids: list[str], names: list[str]) -> NDArray[np.float64]:
    try:
        numbers = np.array(rows, dtype=np.float64)
    except ValueError:
        numbers = pd.DataFrame(rows, dtype=object).apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.argwhere(~np.isfinite(numbers))
    if len(wrong):
        row, column = wrong[0].tolist()
        raise InputError(
            f"{path} has {rows[row][column]!r} for {names[column]} in the row {row_ids[row]!r}; expected a number."
        )
    return numbers
