"""Where files of labels are: those that were given, and those that lie by themselves in or beside a folder."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from birdemb.annotations.recognition import read_annotations, recognise
from birdemb.annotations.table import Annotations
from birdemb.errors import InputError
from birdemb.label_table import RecordingFinder
from birdemb.listing import SkippedRecording

__all__ = ["TABLES", "LabelFiles", "collect_labels", "find_labels", "read_files"]

TABLES = (
    "train.csv",
    "train_metadata.csv",
    "train_soundscape_labels.csv",
    "train_soundscapes_labels.csv",
)
"""Names of BirdCLEF's tables, looked for in and beside the folder of recordings, in this order."""

TABLES_INSIDE = ("metadata.csv", "metadata.jsonl", "metadata.parquet", "labels.csv", "annotations.csv")
"""Names of other tables, looked for in the folder alone: beside it they may be about anything."""

BESIDE = (
    re.compile(r"\.table\.\d+\.selections\.txt", re.IGNORECASE),
    re.compile(r"\.selections?\.txt", re.IGNORECASE),
    re.compile(r"\.txt", re.IGNORECASE),
    re.compile(r"\.birdnet\.selection\.table\.txt", re.IGNORECASE),
    re.compile(r"\.birdnet\.results\.(?:csv|txt)", re.IGNORECASE),
)
"""What follows the stem of a recording in the name of a file of labels beside it, those of people before BirdNET's."""

_SUFFIXES = frozenset({".csv", ".jsonl", ".parquet", ".tsv", ".txt"})


@dataclass(frozen=True)
class LabelFiles:
    """Files of labels.

    Parameters
    ----------
    paths : tuple of Path
        None of them where folders are the classes.
    folders : mapping of Path to str
        For those that are about a single recording, its folder below that of all recordings.
    guessed : bool
        Whether they were taken for files of labels by their names alone, so that one that is something else is no
        problem.
    passed_over : tuple of str
        Other labels that were found and are not used, for people.
    """

    paths: tuple[Path, ...]
    folders: Mapping[Path, str]
    guessed: bool = False
    passed_over: tuple[str, ...] = ()

    def describe(self) -> str:
        """Say which they are."""
        if len(self.paths) <= _NAMED:
            return " and ".join(map(str, self.paths))
        return f"{len(self.paths):,} files in {os.path.commonpath([path.parent for path in self.paths])}"


_NAMED = 2  # beyond, files are counted


def collect_labels(given: Sequence[Path]) -> LabelFiles:
    """Gather files of labels that were given, and what is in folders of them.

    Parameters
    ----------
    given : sequence of Path
        Files, or folders whose files and those below them are all taken, but for hidden ones and those with other
        suffixes than labels have.

    Returns
    -------
    LabelFiles

    Raises
    ------
    InputError
        If a folder has no such file.
    """
    paths: dict[Path, str] = {}
    for place in given:
        if not place.is_dir():
            paths[place] = ""
            continue
        inside = sorted(
            path
            for path in place.rglob("*")
            if path.suffix.lower() in _SUFFIXES
            and path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(place).parts)
        )
        if not inside:
            raise InputError(
                f"There are no files of labels in the folder {place}: none there or below ends in "
                f"{', '.join(sorted(_SUFFIXES))}."
            )
        paths |= {path: _name_folder(path.parent, place) for path in inside}
    return LabelFiles(tuple(paths), paths)


def find_labels(folder: Path, recordings: Sequence[str]) -> LabelFiles:
    """Look for labels in a folder of recordings.

    In this order, and what is found first is used alone: a table in the folder or beside it (`TABLES` and
    `TABLES_INSIDE`), if there are several the first that names one of the recordings; files beside recordings, with
    their stems (`BESIDE`); else the folders are the classes.

    Parameters
    ----------
    folder : Path
    recordings : sequence of str
        Their paths below it.

    Returns
    -------
    LabelFiles
    """
    tables, beside = _find_tables(folder), _find_beside(folder, recordings)
    chosen = _choose_table(tables, recordings)
    others = tuple(_show(path, folder) for path in tables if path != chosen)
    if chosen is not None:
        return LabelFiles((chosen,), {chosen: ""}, passed_over=others + _count_beside(list(beside)))
    found = _choose_beside(beside)
    return replace(found, guessed=True, passed_over=others + found.passed_over)


def _find_tables(folder: Path) -> list[Path]:
    parent = folder.resolve().parent
    places = [folder / name for name in (*TABLES, *TABLES_INSIDE)] + [parent / name for name in TABLES]
    return [place for place in places if place.is_file()]


def _choose_table(tables: Sequence[Path], recordings: Sequence[str]) -> Path | None:
    """Choose the first table that names a recording: beside train_soundscapes/ there is a train.csv of others.

    Where none does, BirdCLEF's are labels nevertheless, so that it is told what is wrong with the first of them.
    """
    of_birdclef = [table for table in tables if table.name in TABLES]
    if tables == of_birdclef[:1]:
        return next(iter(of_birdclef), None)
    find = RecordingFinder(recordings)
    for table in tables:
        try:
            names = dict.fromkeys(read_annotations(table).columns["filename"])
        except InputError:
            continue
        if any(find.matches(name) for name in names):
            return table
    return next(iter(of_birdclef), None)


def _find_beside(folder: Path, recordings: Sequence[str]) -> dict[Path, tuple[str, int]]:
    """Find the files whose names begin as those of recordings: the recording, and the place of the form in `BESIDE`."""
    found: dict[Path, tuple[str, int]] = {}
    by_folder: defaultdict[str, list[str]] = defaultdict(list)
    for name in recordings:
        by_folder[str(PurePosixPath(name).parent)].append(name)
    for place, names in by_folder.items():
        try:
            texts = [entry.name for entry in os.scandir(folder / place) if _may_be_labels(entry)]
        except (OSError, ValueError):
            continue
        # A name of a file of labels is that of a recording with or without its suffix, and something more.
        stems = {stem: name for name in names for stem in (PurePosixPath(name).stem, PurePosixPath(name).name)}
        for text in sorted(texts):
            for kind, ending in enumerate(BESIDE):
                match = re.search(ending.pattern + "$", text, re.IGNORECASE)
                if match and text[: match.start()] in stems:
                    found[folder / place / text] = (stems[text[: match.start()]], kind)
                    break
    return found


def _may_be_labels(entry: os.DirEntry[str]) -> bool:
    return entry.name.lower().endswith((".txt", ".csv")) and not entry.name.startswith(".") and entry.is_file()


def _choose_beside(found: Mapping[Path, tuple[str, int]]) -> LabelFiles:
    """Choose one file for each recording: of several forms the first in `BESIDE`."""
    best: dict[str, int] = {}
    for name, kind in found.values():
        best[name] = min(kind, best.get(name, kind))
    paths = {path: str(PurePosixPath(name).parent) for path, (name, kind) in found.items() if best[name] == kind}
    others = [path for path in found if path not in paths]
    return LabelFiles(tuple(paths), paths, passed_over=_count_beside(others))


def _count_beside(paths: Sequence[Path], why: str = "") -> tuple[str, ...]:
    if not paths:
        return ()
    shown = paths[0].name if len(paths) == 1 else f"{len(paths):,} files such as {paths[0].name}"
    return (f"{shown} beside the recordings{why}",)


def _show(path: Path, folder: Path) -> str:
    return str(path) if path.parent != folder else path.name


def _name_folder(folder: Path, top: Path) -> str:
    return folder.relative_to(top).as_posix()


def read_files(
    files: LabelFiles, columns: Mapping[str, str], minimum_confidence: float
) -> tuple[list[Annotations], LabelFiles, list[SkippedRecording]]:
    """Read files of labels.

    Parameters
    ----------
    files : LabelFiles
    columns : mapping of str to str
    minimum_confidence : float
        As of `birdemb.annotations.recognition.read_annotations`.

    Returns
    -------
    annotations : list of Annotations
    read : LabelFiles
        The files that they are of.
    problems : list of SkippedRecording
        The files that cannot be read, where others can.

    Raises
    ------
    InputError
        If none can be read.
    """
    read, problems, errors = [], [], []
    for path in files.paths:
        try:
            read.append(read_annotations(path, columns=columns, minimum_confidence=minimum_confidence))
        except InputError as error:
            errors.append(error)
            problems.append(SkippedRecording(_show(path, path.parent), "label", str(error).rstrip(".")))
    paths = tuple(annotations.source for annotations in read)
    passed_over = files.passed_over
    if errors and not read:
        known = next((place for place, path in enumerate(files.paths) if _is_of_labels(path)), None)
        if not files.guessed or known is not None:
            raise errors[known or 0]
        passed_over, problems = passed_over + _count_beside(files.paths, ", which are no labels"), []
    return read, replace(files, paths=paths, passed_over=passed_over), problems


def _is_of_labels(path: Path) -> bool:
    """Say whether a file has one of the known forms, even if nothing in it can be used."""
    try:
        return bool(recognise(path))
    except InputError:
        return False
