"""What there is to say of labels before heads are fitted on them: classes by count, overlaps, what each row became."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.label_names import SimilarNames, find_similar_names
from birdemb.label_windows import reach_windows
from birdemb.labels import Labels
from birdemb.listing import EmbeddedRecording
from birdemb.taxonomy import ClassName

__all__ = ["LabelReport", "report_labels"]

_ROUNDING = 1e-6  # of times, in seconds


@dataclass(frozen=True, eq=False)
class LabelReport:
    """What was found in labels.

    Parameters
    ----------
    labels : Labels
    names : tuple of ClassName
        Of its classes.
    classes : pandas.DataFrame
        The most common first: rank, class, recordings, annotations, seconds (of its annotations, or of recordings that
        have it as a whole), scientific_name, common_name.
    similar : list of SimilarNames
        Classes that may be one, without those that are known to be two species.
    overlaps : pandas.DataFrame
        Annotations that begin before another one of the same class and recording has ended: recording, class, start,
        end, before (where that other one ends).
    rows : pandas.DataFrame
        What became of each row: file, line, filename, recording, start, end, class, state, weight, became.
    windows, with_class : int
        How many windows the labelled recordings have, and how many of these have a class.
    """

    labels: Labels
    names: tuple[ClassName, ...]
    classes: pd.DataFrame
    similar: list[SimilarNames]
    overlaps: pd.DataFrame
    rows: pd.DataFrame
    windows: int
    with_class: int


def report_labels(
    labels: Labels,
    names: Sequence[ClassName],
    recordings: Sequence[EmbeddedRecording],
    *,
    window: float,
    hop: float,
    minimum_overlap: float,
) -> LabelReport:
    """Look at labels.

    Parameters
    ----------
    labels : Labels
    names : sequence of ClassName
        Of its classes, in their order.
    recordings : sequence of EmbeddedRecording
        Those that can be labelled.
    window, hop, minimum_overlap : float
        In seconds; as of `birdemb.label_windows.label_windows`.

    Returns
    -------
    LabelReport
    """
    labelled = set(labels.table["recording"])
    known = {entry.recording: entry for entry in recordings if entry.recording in labelled}
    rows = _list_rows(labels)
    reach = _Reached(rows, known, window, hop, minimum_overlap)
    rows["became"] = pd.Series(reach.tell(labels), dtype=object, index=rows.index)
    of_class = {name.label: name for name in names}
    similar = [
        pair
        for pair in find_similar_names(labels.classes)
        if not _are_two_species(of_class[pair.first], of_class[pair.second])
    ]
    return LabelReport(
        labels=labels,
        names=tuple(names),
        classes=_count_classes(labels, known, of_class),
        similar=similar,
        overlaps=_find_overlaps(labels.table),
        rows=rows.drop(columns=["left_out", "note"]),
        windows=sum(entry.windows for entry in known.values()),
        with_class=reach.with_class,
    )


def _are_two_species(first: ClassName, second: ClassName) -> bool:
    return all(map(_is_named_elsewhere, (first, second))) and first.scientific != second.scientific


def _is_named_elsewhere(name: ClassName) -> bool:
    """Say whether a table tells the scientific name, and not the class itself, which may be misspelt."""
    return bool(name.scientific) and not name.label.replace("_", " ").startswith(name.scientific)


def _list_rows(labels: Labels) -> pd.DataFrame:
    """List the rows of all files, with those that could not be read; or of class folders, what was made of them."""
    columns = ["file", "line", "filename", "recording", "start", "end", "class", "state", "weight", "left_out", "note"]
    if labels.rows is None:
        table = labels.table.assign(
            file=labels.source, line=0, filename=labels.table["recording"], left_out="", note=""
        )
        return table[columns]
    files = labels.rows.files
    table = labels.rows.table.assign(file=[files[index].source.name for index in labels.rows.table["file"]])
    unread = [
        (file.source.name, line, "", None, np.nan, np.nan, "", "", np.nan, why, "")
        for file in files
        for line, why in file.left_out
    ]
    if not unread:
        return table[columns].reset_index(drop=True)
    both = pd.concat([table[columns], pd.DataFrame(unread, columns=columns).astype(table[columns].dtypes)])
    order = {file.source.name: index for index, file in enumerate(files)}
    places = np.array([order[name] for name in both["file"]], np.int64)
    return both.iloc[np.lexsort((both["line"].to_numpy(), places))].reset_index(drop=True)


class _Reached:
    """How many windows each row reaches."""

    def __init__(
        self,
        rows: pd.DataFrame,
        known: dict[str, EmbeddedRecording],
        window: float,
        hop: float,
        minimum_overlap: float,
    ) -> None:
        self._rows = rows
        names = {name: index for index, name in enumerate(known)}
        used = np.array([name in names for name in rows["recording"]], np.bool_) & (rows["left_out"] == "").to_numpy()
        places = np.flatnonzero(used)
        recording = np.array([names[name] for name in rows["recording"].iloc[places]], np.int64)
        counts = np.array([entry.windows for entry in known.values()], np.int64)
        seconds = np.array([entry.seconds for entry in known.values()], np.float64)[recording]
        start, end = (rows[name].to_numpy(np.float64)[places] for name in ("start", "end"))
        reach = reach_windows(
            np.nan_to_num(start, nan=0.0),
            np.where(np.isnan(end), seconds, end),
            seconds,
            counts[recording],
            window=window,
            hop=hop,
            minimum_overlap=minimum_overlap,
        )
        self._touched, self._enough, self._covered = (
            np.bincount(places[reach.row[chosen]], minlength=len(rows))
            for chosen in (np.ones_like(reach.enough), reach.enough, reach.covered)
        )
        self._all = np.zeros(len(rows), np.int64)
        self._all[places] = counts[recording]
        first = np.cumsum(counts) - counts
        present = (rows["state"] == "present").to_numpy()[places][reach.row] & reach.enough
        self.with_class = len(np.unique((first[recording[reach.row]] + reach.window)[present]))

    def tell(self, labels: Labels) -> list[str]:
        """Say what became of each row."""
        classes = {"", *labels.classes}
        cells = (self._rows[name] for name in ("class", "state", "left_out", "note"))
        return [
            f"left out: {left_out}"
            if left_out
            else "not used: its class is present nowhere"
            if label not in classes
            else "; ".join(filter(None, (self._tell_windows(index, state), note)))
            for index, (label, state, left_out, note) in enumerate(zip(*cells, strict=True))
        ]

    def _tell_windows(self, row: int, state: str) -> str:
        """Say what it says of windows: a row is absent from those that it covers, as one of several perhaps."""
        counts = self._covered if state == "absent" else self._enough
        told = f"{state} in {counts[row]} of {self._all[row]} windows"
        masked = self._touched[row] - counts[row]
        return told + (f", unknown in {masked}" if masked and state != "absent" else "")


def _count_classes(labels: Labels, known: dict[str, EmbeddedRecording], of_class: dict[str, ClassName]) -> pd.DataFrame:
    present = labels.table[(labels.table["state"] == "present").to_numpy()]
    place = {name: index for index, name in enumerate(labels.classes)}
    codes = np.array([place[name] for name in present["class"]], np.int64)
    length = np.array([known[name].seconds for name in present["recording"]], np.float64)
    start = np.nan_to_num(present["start"].to_numpy(np.float64), nan=0.0)
    end = np.minimum(present["end"].fillna(np.inf).to_numpy(np.float64), length)
    recordings = labels.count_recordings()
    table = pd.DataFrame(
        {
            "class": pd.Series(labels.classes, dtype=object),
            "recordings": [recordings[name] for name in labels.classes],
            "annotations": np.bincount(codes, minlength=len(place)),
            "seconds": np.bincount(codes, np.maximum(end - start, 0.0), minlength=len(place)),
            "scientific_name": pd.Series([of_class[name].scientific for name in labels.classes], dtype=object),
            "common_name": pd.Series([of_class[name].common for name in labels.classes], dtype=object),
        }
    )
    order = np.lexsort((np.arange(len(table)), -table["annotations"], -table["recordings"]))
    table = table.iloc[order].reset_index(drop=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table


def _find_overlaps(table: pd.DataFrame) -> pd.DataFrame:
    """Find the annotations that begin before one of the same recording and class has ended.

    The table is sorted by recording, class and time.
    """
    timed = table["start"].notna() | table["end"].notna()
    rows = table[((table["state"] == "present") & timed).to_numpy()].reset_index(drop=True)
    if rows.empty:
        return rows[["recording", "class", "start", "end"]].assign(before=pd.Series(dtype=np.float64))
    keys = list(zip(rows["recording"], rows["class"], strict=True))
    opens: NDArray[np.bool_] = np.ones(len(rows), np.bool_)
    opens[1:] = [here != there for here, there in zip(keys[1:], keys[:-1], strict=True)]
    farthest = rows["end"].fillna(np.inf).groupby(np.cumsum(opens)).cummax().to_numpy()
    before = np.concatenate([[-np.inf], farthest[:-1]])
    found = ~opens & (rows["start"].fillna(0.0).to_numpy() < before - _ROUNDING)
    return rows[["recording", "class", "start", "end"]].assign(before=before)[found].reset_index(drop=True)
