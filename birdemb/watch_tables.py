"""The tables of a watch: rows of a few recordings at a time, in the forms that can grow."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from birdemb.appending import NOTHING, AppendedTable
from birdemb.errors import InputError
from birdemb.prediction import Prediction
from birdemb.storage import replace_atomically
from birdemb.submission import make_submission, write_submission
from birdemb.tables.forms import SUBMISSION, Output
from birdemb.tables.source import TableSource
from birdemb.watch_journal import DoneRecording, TableState, WatchJournal

__all__ = ["WatchedTables", "refuse_other_forms", "select_recordings"]

_GROWING = frozenset({SUBMISSION, "wide", "long", "detections", "kaleidoscope", "birdnet", "jsonl"})
"""Forms in one file whose rows do not depend on each other."""


def refuse_other_forms(output: Output) -> None:
    """Raise unless a table is of a form that rows can be appended to.

    Raises
    ------
    InputError
    """
    if output.is_folder or output.form in _GROWING:
        return
    why = {
        "parquet": "a Parquet file ends with its index, so that nothing can be appended to it",
        "raven": "one selection table about many recordings counts its times through all of them, in their order",
        "audacity": "one label file is about one recording",
    }[output.form]
    advice = f"Name one of {', '.join(sorted(_GROWING))} with --format"
    folder = "" if output.form == "parquet" else ", or a folder, which gets a file for each recording"
    raise InputError(f"{output.path} cannot grow while recordings come: {why}. {advice}{folder}.")


def select_recordings(prediction: Prediction, names: Sequence[str]) -> Prediction:
    """Give the prediction of some of its recordings, in their order there."""
    wanted = frozenset(names)
    kept = [entry.recording in wanted for entry in prediction.recordings]
    rows = np.array(kept, dtype=np.bool_)[prediction.recording_numbers]
    return replace(
        prediction,
        recordings=tuple(entry for entry, keep in zip(prediction.recordings, kept, strict=True) if keep),
        probabilities=prediction.probabilities[rows],
    )


@dataclass
class _Table:
    """One table of the watch: a file that grows, or a folder where each recording has its own."""

    output: Output
    rows: Path  # what is being appended, so that it is known again after a power cut
    header: bytes = b""
    appended: AppendedTable | None = None

    def render(self, source: TableSource) -> tuple[bytes, int]:
        """Write rows to their own file, and give all bytes of it and the number of rows."""
        if self.output.form == SUBMISSION:
            prediction = source.prediction
            table = make_submission(
                prediction.recordings,
                prediction.probabilities,
                prediction.labels,
                window=prediction.window,
                hop=prediction.hop,
            )
            write_submission(self.rows, table)
            count = len(table)
        else:
            count = replace(self.output, path=self.rows).write(source)
        return self.rows.read_bytes(), count

    def write_files(self, source: TableSource) -> int:
        """Write a file for each recording: one at a time, as its name must not depend on what else came."""
        count = 0
        for entry in source.prediction.recordings:
            one = select_recordings(source.prediction, [entry.recording])
            count += self.output.write(replace(source, prediction=one))
        return count


class WatchedTables:
    """The tables of a watch.

    Parameters
    ----------
    outputs : sequence of Output
        None of them of a form that `refuse_other_forms` refuses.
    folder : Path
        Of the journal; rows wait there while they are appended.
    empty : TableSource
        Without any recording: gives the headers.

    Raises
    ------
    InputError
        If a header cannot be written.
    """

    def __init__(self, outputs: Sequence[Output], folder: Path, empty: TableSource) -> None:
        self._tables = [_Table(output, folder / f"rows-{number}") for number, output in enumerate(outputs)]
        self._unfinished = [table.rows.stat().st_size if table.rows.exists() else 0 for table in self._tables]
        for table in self._tables:
            if not table.output.is_folder:
                header = replace(table, rows=folder / f"header-{table.rows.name}")
                table.header = header.render(empty)[0]
                header.rows.unlink()

    @property
    def headers(self) -> dict[str, str]:
        """What each table begins with, by its name in the journal."""
        return {table.rows.name: table.header.decode() for table in self._growing}

    def place_of(self, recording: str) -> str | None:
        """Tell under what a recording's rows are found, where it is not its whole name; two must not have the same."""
        is_submission = any(table.output.form == SUBMISSION for table in self._tables)
        is_folder = any(table.output.is_folder for table in self._tables)
        if not is_submission:
            return str(PurePosixPath(recording).with_suffix("")).casefold() if is_folder else None
        stem = PurePosixPath(recording).stem
        return stem.casefold() if is_folder else stem

    @property
    def beginning(self) -> dict[str, TableState]:
        """What the journal says of tables that are not there yet."""
        return {table.rows.name: NOTHING for table in self._growing}

    def open(self, journal: WatchJournal) -> None:
        """Make sure that the tables are what the journal says, cut off what was unfinished, and begin new ones.

        Raises
        ------
        InputError
            If a table is something else; it is left alone.
        OSError
            If a table cannot be read or written.
        """
        states = journal.tables()
        for table, unfinished in zip(self._tables, self._unfinished, strict=True):
            if not table.output.is_folder:
                table.appended = AppendedTable(table.output.path, states[table.rows.name], unfinished)
        self._remove_rows()
        if any(not states[table.rows.name].size and table.header for table in self._growing):
            for table in self._growing:
                with replace_atomically(table.rows) as temporary:  # known as unfinished, as rows are
                    temporary.write_bytes(table.header)
            self._append(journal, {table.rows.name: table.header for table in self._growing}, ())

    def write(
        self, journal: WatchJournal, windows: TableSource, detections: TableSource, done: Sequence[DoneRecording]
    ) -> dict[Path, int]:
        """Write the rows of recordings, all or none, and give how many each table got.

        Parameters
        ----------
        journal : WatchJournal
        windows, detections : TableSource
            What tables of windows and of detections are written from.
        done : sequence of DoneRecording

        Raises
        ------
        InputError
            If a table was changed by somebody else, or a file of a recording cannot be written.
        OSError, sqlite3.OperationalError
            If the disk is full or a table is gone.
        """
        counts, rows = {}, {}
        for table in self._tables:
            source = windows if table.output.of_windows else detections
            if table.output.is_folder:
                counts[table.output.path] = table.write_files(source)
            else:
                whole, counts[table.output.path] = table.render(source)
                rows[table.rows.name] = whole[len(table.header) :]
        self._append(journal, rows, done)
        return counts

    def cut_back(self, journal: WatchJournal) -> None:
        """Cut off what the journal does not know.

        Raises
        ------
        OSError
            If it cannot be done.
        """
        states = journal.tables()
        for table in self._growing:
            if table.appended is not None:
                table.appended.cut_back(states[table.rows.name])

    @property
    def _growing(self) -> list[_Table]:
        return [table for table in self._tables if not table.output.is_folder]

    def _append(self, journal: WatchJournal, rows: Mapping[str, bytes], done: Sequence[DoneRecording]) -> None:
        written = [
            (table.appended, rows[table.rows.name], table.rows.name) for table in self._growing if table.appended
        ]
        known = journal.tables()
        for appended, _, name in written:
            appended.recover(known[name])
        try:
            journal.add(done, {name: appended.append(some) for appended, some, name in written})
        except BaseException:
            with contextlib.suppress(OSError):  # the next start does it
                self.cut_back(journal)
            raise
        for appended, some, _ in written:
            appended.confirm(some)
        self._remove_rows()

    def _remove_rows(self) -> None:
        for table in self._tables:
            table.rows.unlink(missing_ok=True)
