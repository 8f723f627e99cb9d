"""Labels in: from files of labels or from class folders to one internal table, and from there to windows.

The internal table has one row for each class of each recording, or of each stretch of one, sorted by recording, class
and time:

    recording  its path below the embedded folder
    start      seconds from the recording's start, NaN for its very start
    end        seconds from the recording's start, NaN for its very end
    class      a label; "" for all of them, where nothing of interest is in the recording or the stretch
    state      "present"; "unknown" where the class may be in some of the windows (a secondary label); or "absent"
               where somebody has made sure of it
    weight     how much that counts, 1 if the file says nothing

Of several rows of the same stretch for the same class "present" beats "absent", and that beats "unknown". What no row
tells of a recording is absent where a row is about all of the recording, and else unknown; `read_labels` adds
rows that say so where files of labels mean it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.annotations.rows import name_recording
from birdemb.annotations.table import COLUMNS, NOTHING, Annotations
from birdemb.errors import InputError
from birdemb.groups import RecordingGroups, group_recordings
from birdemb.label_files import LabelFiles, collect_labels, find_labels, read_files
from birdemb.label_rows import MISSING, UNUSABLE, LabelRows, match_rows
from birdemb.label_table import DESCRIPTIONS, describe_recordings
from birdemb.label_windows import MINIMUM_OVERLAP, SECONDARY_RULES, WindowLabels, label_windows
from birdemb.listing import EmbeddedRecording, SkippedRecording
from birdemb.ratings import limit_recordings, weight_by_rating

__all__ = [
    "MINIMUM_OVERLAP",
    "SECONDARY_RULES",
    "UNANNOTATED",
    "LabelFiles",
    "Labels",
    "RecordingGroups",
    "WindowLabels",
    "collect_labels",
    "find_labels",
    "group_recordings",
    "label_windows",
    "limit_recordings",
    "read_labels",
    "weight_by_rating",
]

UNANNOTATED = ("absent", "unknown")
"""What can be in a window without annotation, of a recording whose annotations have times."""

_COLUMNS = ["recording", "start", "end", "class", "state", "weight"]
_STRENGTH = {"unknown": 0, "absent": 1, "present": 2}


@dataclass(frozen=True)
class Labels:
    """Labels of recordings in the one internal form.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns recording, start, end, class, state, weight: see the module.
    classes : tuple of str
        Sorted; every class that is present in some recording.
    source : str
        Where they come from, for people.
    problems : tuple of SkippedRecording
        Recordings without a label, labels without a recording, rows that cannot be, and what a limit left out.
    recordings : pandas.DataFrame
        One row for each labelled recording, sorted by the column recording; and of author, site, collection, license,
        url and rating (0.5 to 5) those columns that the source tells, with missing values where it does not.
    columns : tuple of str
        Of the first file, those that tell no labels, for people; class folders have none.
    files : tuple of Path
        Where they come from; class folders are none.
    passed_over : tuple of str
        Other labels that were found and not used, for people.
    rows : LabelRows, optional
        What became of each row of the files; class folders have none.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    source: str
    problems: tuple[SkippedRecording, ...]
    recordings: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({"recording": []}, dtype=object))
    columns: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    passed_over: tuple[str, ...] = ()
    rows: LabelRows | None = None

    @property
    def name(self) -> str:
        """Where they come from, without folders."""
        if not self.files:
            return self.source
        first = self.files[0].name
        return first if len(self.files) == 1 else f"{len(self.files)} files such as {first}"

    def count_recordings(self) -> dict[str, int]:
        """Count the recordings in which each class is present."""
        present = self.table[self.table["state"] == "present"]
        # Not by pandas' groupby, which takes no name that is not valid text.
        counts = Counter(label for _, label in set(zip(present["recording"], present["class"], strict=True)))
        return {name: counts[name] for name in self.classes}


def read_labels(
    source: Path | Sequence[Path] | LabelFiles | None,
    recordings: Sequence[EmbeddedRecording],
    skipped: Iterable[SkippedRecording] = (),
    *,
    columns: Mapping[str, str] | None = None,
    minimum_confidence: float = 0.0,
    unannotated: str = "absent",
    folder: str = "",
) -> Labels:
    """Read the labels of recordings.

    Parameters
    ----------
    source : Path, sequence of Path, LabelFiles or None
        Files of labels, or folders of them, in any form that `birdemb.annotations` reads; they add up. None takes the
        name of each recording's folder for its class, several separated by commas; ``noise``, ``background``,
        ``silence`` and ``nocall`` say that there is none.
    recordings : sequence of EmbeddedRecording
        The recordings that can be labelled.
    skipped : iterable of SkippedRecording
        Recordings that are known to be unusable, so that their labels are no surprise.
    columns : mapping of str to str, optional
        What the columns of plain tables are called: see `birdemb.annotations.recognition.read_annotations`.
    minimum_confidence : float
        Labels below it are unknown, where a file tells how sure they are.
    unannotated : "absent" or "unknown"
        What is said of a window that no annotation reaches, in a recording whose annotations have times and are not
        known to be complete. Within the annotated parts of complete ones every class that is not named is absent, and
        beyond them unknown.
    folder : str
        Where the recordings are, which tells recordings of one name in different folders apart.

    Returns
    -------
    Labels
        The same in whatever order the rows of a table come, but for the order of its problems.

    Raises
    ------
    InputError
        If a file cannot be read and there is no other, has an impossible rating, or no recording gets a label.
    """
    if unannotated not in UNANNOTATED:
        raise InputError(f"Unannotated windows cannot be {unannotated!r}. Use 'absent' or 'unknown'.")
    names = [entry.recording for entry in recordings]
    if isinstance(source, Path):
        source = [source]
    if source is not None and not isinstance(source, LabelFiles):
        source = collect_labels(source)
    if source is None or not source.paths:
        return _read_folders(names, source.passed_over if source is not None else ())
    files, source, problems = read_files(source, columns or {}, minimum_confidence)
    if not files:
        return _read_folders(names, source.passed_over)
    if unannotated == "absent":
        files = [_say_nothing(file) for file in files]
    rows = match_rows(
        files,
        [source.folders[annotations.source] for annotations in files],
        {entry.recording: entry.seconds for entry in recordings},
        [entry.recording for entry in skipped],
        top=folder,
    )
    problems += _list_problems(rows)
    used = rows.used
    labelled = set(used["recording"])
    what = source.describe()
    if not labelled:
        raise _nothing_labelled(rows, names, what)
    short = source.paths[0].name if len(source.paths) == 1 else what
    problems += [
        SkippedRecording(name, "label", f"there is no row for it in {short}") for name in names if name not in labelled
    ]
    table, classes = _settle(
        pd.concat([used[_COLUMNS], _complete(used, rows.files, unannotated)], ignore_index=True), what
    )
    return Labels(
        table,
        classes,
        what,
        tuple(problems),
        _describe(rows),
        columns=tuple(map(str, rows.files[0].extras)),
        files=source.paths,
        passed_over=source.passed_over,
        rows=rows,
    )


def _read_folders(names: Sequence[str], passed_over: tuple[str, ...]) -> Labels:
    rows, problems = [], []
    for name in names:
        classes = [part.strip() for part in PurePosixPath(name).parent.name.split(",") if part.strip()]
        empty = [label for label in classes if label.casefold() in NOTHING]
        rows += [(name, np.nan, np.nan, label, "present", 1.0) for label in classes if label not in empty]
        rows += [(name, np.nan, np.nan, "", "absent", 1.0)] if empty else []
        if not classes:
            problems.append(SkippedRecording(name, "label", "it lies in no class folder"))
    if not any(label for *_, label, _, _ in rows):
        raise InputError(
            "There are no labels: no train.csv or train_metadata.csv in or beside the folder of recordings, no files "
            "of labels beside them, and no class folders in it. Put a table there, give one with --labels, or sort "
            "the recordings into one folder for each class."
        )
    described = pd.DataFrame({"recording": sorted({row[0] for row in rows})}, dtype=object)
    # As objects: a name of a file need not be valid text, which columns of strings cannot hold.
    table, labels = _settle(pd.DataFrame(rows, columns=_COLUMNS, dtype=object), "class folders")
    return Labels(table, labels, "class folders", tuple(problems), described, passed_over=passed_over)


def _say_nothing(file: Annotations) -> Annotations:
    """Let a file about one recording, in which nothing was found, say that nothing is there."""
    if file.rows or file.left_out or not (file.beside or file.form.startswith("Raven")):
        return file
    row = (name_recording(file.source), np.nan, np.nan, "", "absent", 1.0, 1)
    columns = {name: np.array([cell], kind) for (name, kind), cell in zip(COLUMNS.items(), row, strict=True)}
    extras = {name: np.array([""], object) for name in file.extras}
    return replace(file, columns=columns, extras=extras, beside=True)


def _list_problems(rows: LabelRows) -> list[SkippedRecording]:
    """List the rows that are not used, those without a recording once for each name."""
    problems = []
    for file in rows.files:
        name = file.source.name
        problems += [SkippedRecording(name, "label", f"line {line}: {why}") for line, why in file.left_out]
    wrong = rows.table[(rows.table["left_out"] != "").to_numpy()]
    told = set()
    columns = ("file", "line", "filename", "recording", "left_out")
    for index, line, filename, recording, why in zip(*(wrong[column] for column in columns), strict=True):
        if why == UNUSABLE or (recording is None and (index, filename) in told):
            continue
        told.add((index, filename))
        name, verb = rows.files[index].source.name, "is called as" if rows.files[index].beside else "names"
        reason = f"{name}, line {line}: {why}" if recording is not None else f"{name} {verb} it, but {why}"
        problems.append(SkippedRecording(recording or filename, "label", reason))
    return problems


def _nothing_labelled(rows: LabelRows, names: Sequence[str], what: str) -> InputError:
    """Say why no recording got a label."""
    table = rows.table
    if table.empty:
        return InputError(
            f"{what} has no labels that can be used. Expected rows, each about a recording or a part of one."
        )
    unmatched = table[table["recording"].isna().to_numpy()]
    reasons = [why for why in unmatched["left_out"] if why != MISSING]
    if reasons:
        return InputError(f"{reasons[0]}.")
    if unmatched.empty:
        first = table.iloc[0]
        return InputError(
            f"{what} labels none of the {len(names)} recordings: all {len(table)} rows were left out. The first, of "
            f"{first['recording']}, line {first['line']}: {first['left_out']}."
        )
    example = f"a recording is {names[0]!r}" if names else "and there is no recording"
    return InputError(
        f"{what} labels none of the {len(names)} recordings. Its column filename has "
        f"{unmatched['filename'].iloc[0]!r}, {example}; the first has to be the second or its last parts."
        if not rows.files[0].beside
        else f"{what} labels none of the {len(names)} recordings. The first belongs to "
        f"{unmatched['filename'].iloc[0]!r} by its name, {example}; name each file of labels as its recording."
    )


def _complete(used: pd.DataFrame, files: Sequence[Annotations], unannotated: str) -> pd.DataFrame:
    """Make the rows that say what is in windows of which annotations say nothing.

    Where a file is complete, nothing else is in the stretches of its annotations, nor between them where it has only
    what was found; where it is not, nothing is in the recording, if `unannotated` says so.
    """
    timed = used[(used["start"].notna() | used["end"].notna()).to_numpy()]
    spans: dict[tuple[int, str, int], tuple[float, float]] = {}
    others: dict[str, None] = {}
    for row, (file, name, start, end) in enumerate(
        zip(timed["file"], timed["recording"], timed["start"], timed["end"], strict=True)
    ):
        if files[file].complete:
            # One span for all annotations of a recording, or one for each.
            key = (file, name, 0 if files[file].only_found else row)
            first, last = spans.get(key, (start, end))
            # A missing time is the recording's very start or very end, and so comes before and behind all others.
            spans[key] = (
                start if np.isnan(start) else first if np.isnan(first) else min(first, start),
                end if np.isnan(end) else last if np.isnan(last) else max(last, end),
            )
        elif unannotated == "absent":
            others[name] = None
    rows = [(name, start, end) for (_, name, _), (start, end) in spans.items()]
    rows += [(name, np.nan, np.nan) for name in others]
    return pd.DataFrame(
        [(name, start, end, "", "absent", 1.0) for name, start, end in rows], columns=_COLUMNS, dtype=object
    )


def _describe(rows: LabelRows) -> pd.DataFrame:
    """Gather what files of labels say of each recording beside its labels."""
    # A row of a file may be several here: its primary and its secondary labels.
    first = ~rows.table.duplicated(["file", "line"]).to_numpy()
    told = {name: None for file in rows.files for name in file.extras if name in DESCRIPTIONS}
    described = rows.table[["filename", "line", "file", "recording", "left_out"]].assign(
        **{
            name: np.concatenate([file.extras.get(name, np.full(file.rows, "", object)) for file in rows.files])
            for name in told
        }
    )[first]
    described["source"] = [str(rows.files[index].source) for index in described["file"]]
    of_rows = zip(described["recording"], described["left_out"], strict=True)
    return describe_recordings(described, [name if left_out == "" else None for name, left_out in of_rows])


def _settle(table: pd.DataFrame, source: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Bring rows into order, keep of several about the same the strongest, and give the classes."""
    present = (table["state"] == "present").to_numpy()
    classes = tuple(sorted({label for label in table["class"][present] if label}))
    if not classes:
        raise InputError(f"{source} has no class: no row says that one is present in a recording.")
    if "row_id" in classes:
        raise InputError(f"{source} has a class row_id, which is the name of a submission's first column. Rename it.")
    wanted = {"", *classes}
    table = table[np.array([label in wanted for label in table["class"]], np.bool_)]
    recording, label = _rank(table["recording"]), _rank(table["class"])
    start = table["start"].to_numpy(np.float64, na_value=np.nan)
    end = table["end"].to_numpy(np.float64, na_value=np.nan)
    start, end = np.nan_to_num(start, nan=-np.inf), np.nan_to_num(end, nan=np.inf)
    strength = np.array([_STRENGTH[state] for state in table["state"]], np.int64)
    weight = table["weight"].to_numpy(np.float64)
    order = np.lexsort((-weight, -strength, end, start, label, recording))
    keys = np.stack([recording, label, start, end])[:, order]
    kept = np.ones(len(order), np.bool_)
    kept[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    table = table.iloc[order[kept]].reset_index(drop=True)
    return table.astype({"start": np.float64, "end": np.float64, "weight": np.float64}), classes


def _rank(texts: pd.Series) -> NDArray[np.int64]:
    """Give each text its place in the order of all."""
    # Not by pandas, which takes no name that is not valid text.
    number = {text: index for index, text in enumerate(sorted(set(texts)))}
    return np.array([number[text] for text in texts], np.int64)
