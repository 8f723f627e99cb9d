"""The journal of a watch: which recordings it is done with, and how far its tables were written.

One SQLite file. What was appended to the tables counts only once the journal says so, in the same transaction as the
recordings that it is about; so each recording has its rows once, whatever was killed in between.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from birdemb.errors import InputError
from birdemb.listing import SkippedRecording
from birdemb.storage import sync_folder

__all__ = ["DoneRecording", "TableState", "WatchJournal"]

_FORMAT = 1
_SCHEMA = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tables (name TEXT PRIMARY KEY, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE batches (batch INTEGER, name TEXT, first_byte INTEGER NOT NULL, bytes INTEGER NOT NULL, time TEXT NOT NULL,
    PRIMARY KEY (batch, name)) WITHOUT ROWID;
CREATE TABLE recordings (number INTEGER PRIMARY KEY, recording TEXT NOT NULL, stamp TEXT NOT NULL, sha256 TEXT NOT NULL,
    windows INTEGER NOT NULL, seconds REAL NOT NULL, batch INTEGER NOT NULL, replaced INTEGER NOT NULL DEFAULT 0,
    place TEXT);
CREATE INDEX recordings_by_name ON recordings (recording);
CREATE INDEX recordings_by_place ON recordings (place);
CREATE TABLE skipped (recording TEXT PRIMARY KEY, stamp TEXT NOT NULL, stage TEXT NOT NULL, reason TEXT NOT NULL,
    time TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class TableState:
    """How far a table was written.

    Parameters
    ----------
    size : int
        In bytes.
    sha256 : str
        Of these.
    """

    size: int
    sha256: str


@dataclass(frozen=True)
class DoneRecording:
    """A recording whose rows are in the tables.

    Parameters
    ----------
    recording : str
    stamp : str
        What it looked like.
    sha256 : str
        Of its content.
    windows : int
    seconds : float
    place : str or None
        What no other recording's rows may be found under, where a table has such a thing: the stem in row ids, or the
        name of a file of its own.
    """

    recording: str
    stamp: str
    sha256: str
    windows: int
    seconds: float
    place: str | None = None


class WatchJournal:
    """The journal in a file, which is made if there is none.

    Parameters
    ----------
    path : Path
        In a folder that is there.

    Raises
    ------
    InputError
        If it is none, or of another version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = sqlite3.connect(path, isolation_level=None)
        try:
            # To the disk before a commit is over, whatever SQLite was built with; the name of the file, too.
            self._database.execute("PRAGMA synchronous = FULL")
            found = int(self._ask("PRAGMA user_version")[0][0])
            if found == 0 and not self._ask("SELECT 1 FROM sqlite_master"):
                self._database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_FORMAT}; COMMIT;")
                sync_folder(path.parent)
            elif found != _FORMAT:
                raise InputError(
                    f"{path} is the journal of another version of birdemb ({found}, expected {_FORMAT}). Use that one, "
                    f"or move the table away and delete {path.parent} to begin anew."
                )
            self.about: dict[str, Any] = {
                key: json.loads(value) for key, value in self._ask("SELECT key, value FROM about")
            }
        except sqlite3.DatabaseError as error:
            self.close()
            if isinstance(error, sqlite3.OperationalError):
                raise
            raise InputError(
                f"{path} is damaged ({error}), so that nobody knows which recordings are in the table. Move the table "
                f"away and delete {path.parent} to begin anew."
            ) from error
        except InputError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def begin(self, about: Mapping[str, Any], tables: Mapping[str, TableState]) -> None:
        """Note what a new watch is about, and its tables."""
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            rows = [(key, json.dumps(value)) for key, value in about.items()]
            self._database.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", rows)
            self._write_tables(tables)
        self.about = dict(about)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written yet."""
        return not self._ask("SELECT 1 FROM recordings LIMIT 1") and not any(
            state.size for state in self.tables().values()
        )

    def tables(self) -> dict[str, TableState]:
        """Say how far each table was written."""
        return {name: TableState(size, sha256) for name, size, sha256 in self._ask("SELECT * FROM tables")}

    def knows(self, recording: str, stamp: str) -> bool:
        """Tell whether a recording that looked like this is done with.

        What could not be read may be readable today, and does not count.
        """
        name = _text(recording)
        done = "SELECT 1 FROM recordings WHERE recording = ? AND stamp = ? AND NOT replaced"
        skipped = "SELECT 1 FROM skipped WHERE recording = ? AND stamp = ? AND stage <> 'read'"
        return bool(self._ask(done, (name, stamp)) or self._ask(skipped, (name, stamp)))

    def content_of(self, recording: str) -> str | None:
        """Give the sha256 of what was predicted last under a name."""
        found = self._ask("SELECT sha256 FROM recordings WHERE recording = ? AND NOT replaced", (_text(recording),))
        return str(found[0][0]) if found else None

    def other_owner_of(self, place: str, recording: str) -> str | None:
        """Give the recording whose rows are found under a place, if it is another one."""
        owner = "SELECT recording FROM recordings WHERE place = ? AND recording <> ? LIMIT 1"
        found = self._ask(owner, (_text(place), _text(recording)))
        return str(found[0][0]) if found else None

    def add(self, recordings: Sequence[DoneRecording], tables: Mapping[str, TableState]) -> None:
        """Note that the rows of recordings are in the tables. Those of an older content are flagged as replaced.

        Parameters
        ----------
        recordings : sequence of DoneRecording
        tables : mapping of str to TableState
            How far each table is written now.
        """
        before, now = self.tables(), _now()
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            last = "SELECT max(batch) FROM (SELECT batch FROM batches UNION ALL SELECT batch FROM recordings)"
            batch = 1 + (self._ask(last)[0][0] or 0)
            names = [(_text(done.recording),) for done in recordings]
            self._database.executemany("UPDATE recordings SET replaced = 1 WHERE recording = ?", names)
            self._database.executemany("DELETE FROM skipped WHERE recording = ?", names)
            self._database.executemany(
                "INSERT INTO recordings (recording, stamp, sha256, windows, seconds, place, batch) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        *(_text(done.recording), done.stamp, done.sha256, done.windows, done.seconds),
                        *(_text(done.place) if done.place is not None else None, batch),
                    )
                    for done in recordings
                ],
            )
            self._write_tables(tables)
            self._database.executemany(
                "INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?, ?)",
                [
                    (batch, name, before[name].size, state.size - before[name].size, now)
                    for name, state in tables.items()
                ],
            )

    def restamp(self, recording: str, stamp: str) -> None:
        """Note that a recording that is done looks otherwise and holds the same."""
        self._database.execute(
            "UPDATE recordings SET stamp = ? WHERE recording = ? AND NOT replaced", (stamp, _text(recording))
        )

    def skip(self, entry: SkippedRecording, stamp: str) -> None:
        """Note that a recording cannot be used."""
        row = (_text(entry.recording), stamp, entry.stage, _text(entry.reason), _now())
        self._database.execute("INSERT OR REPLACE INTO skipped VALUES (?, ?, ?, ?, ?)", row)

    def skipped(self) -> list[SkippedRecording]:
        """Give what could not be used."""
        return [SkippedRecording(*row) for row in self._ask("SELECT recording, stage, reason FROM skipped")]

    def _write_tables(self, tables: Mapping[str, TableState]) -> None:
        rows = [(name, state.size, state.sha256) for name, state in tables.items()]
        self._database.executemany("INSERT OR REPLACE INTO tables VALUES (?, ?, ?)", rows)

    def _ask(self, question: str, values: Iterable[Any] = ()) -> list[Any]:
        with closing(self._database.execute(question, tuple(values))) as cursor:
            return cursor.fetchall()


def _text(name: str) -> str:
    # Names of files need not be valid text.
    return name.encode(errors="backslashreplace").decode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
