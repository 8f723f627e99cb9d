"""The index of an identity's folder: one SQLite file, made from the shards' sidecars and never the truth itself.

SQLite and not Parquet: a look-up of a few thousand recordings touches a few pages of it, whatever the size of the
cache, where Parquet would be read whole; a shard is added without writing everything else anew; and Python and every
table tool open it without an extra package.

It is written beside its place, renamed onto it, and only ever opened as a file that cannot change: nobody locks
anything, which shared folders do badly. Two processes that end together may each leave an index without the other's
newest shard; whoever opens the cache next compares the index with the folder and adds what is missing. Where it cannot
be written, it is made in memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from birdemb.cache.chains import Placed, choose_parts
from birdemb.cache.form import Form
from birdemb.cache.shards import (
    DamagedShardError,
    Part,
    Shard,
    ShardSizes,
    list_sidecars,
    measure_shard,
    read_shard,
)
from birdemb.errors import InputError
from birdemb.storage import replace_atomically

__all__ = ["INDEX_NAME", "Index", "IndexedShard", "open_index"]

INDEX_NAME = "index.sqlite"

_APPLICATION = 0x62656D62  # SQLite's own field for whose file it is: "bemb"
_LAYOUT = 1
_LOOKED_UP_AT_ONCE = 900  # older builds of SQLite take no more values than 999 in one question
_MEMORY_KIB = 256 << 10  # of pages while an index is made: recordings come in no order
_ATTEMPTS = 4

_SCHEMA = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE shards (
    shard INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    rows INTEGER NOT NULL,
    sidecar_bytes INTEGER NOT NULL,
    rows_bytes INTEGER NOT NULL,
    logits_bytes INTEGER NOT NULL,
    rows_offset INTEGER NOT NULL,
    logits_offset INTEGER NOT NULL
);
CREATE TABLE parts (
    sha256 TEXT NOT NULL,
    first_window INTEGER NOT NULL,
    windows INTEGER NOT NULL,
    shard INTEGER NOT NULL REFERENCES shards,
    first_row INTEGER NOT NULL,
    last INTEGER NOT NULL,
    seconds REAL NOT NULL,
    rows_sha256 TEXT NOT NULL,
    logits_sha256 TEXT,
    used INTEGER NOT NULL,
    PRIMARY KEY (sha256, first_window, windows, shard, first_row)
) WITHOUT ROWID;
CREATE VIEW recordings AS
    SELECT sha256, sum(windows) AS windows, max(last * seconds) AS seconds FROM parts WHERE used GROUP BY sha256;
"""

_PLACED = (
    "SELECT sha256, first_window, windows, first_row, last, seconds, rows_sha256, logits_sha256, name, rows "
    "FROM parts JOIN shards USING (shard)"
)


class IndexedShard(NamedTuple):
    """What the index knows of a shard: its rows, its files' sizes, and where the values begin in them, in bytes."""

    number: int
    name: str
    rows: int
    sizes: ShardSizes
    offset: int
    logits_offset: int


class Index:
    """An open index, which does not change any more.

    Parameters
    ----------
    database : sqlite3.Connection

    Attributes
    ----------
    damaged : list of Path
        Sidecars of shards that it passes over.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._lock = Lock()
        self.damaged: list[Path] = []

    def close(self) -> None:
        """Close its file."""
        with self._lock:
            self._database.close()

    def ask(self, question: str, values: Sequence[Any] = ()) -> list[Any]:
        """Give the rows that answer a question in SQL.

        Raises
        ------
        sqlite3.DatabaseError
            If the file is damaged.
        """
        try:
            with self._lock:
                return self._database.execute(question, values).fetchall()
        except UnicodeDecodeError as error:
            raise sqlite3.DatabaseError(f"text that is none: {error}") from error

    def copy_into(self, target: sqlite3.Connection) -> None:
        """Copy all of it into an empty database."""
        with self._lock:
            self._database.backup(target)

    def shards(self) -> dict[str, IndexedShard]:
        """Give the shards that it covers, by name."""
        asked = "shard, name, rows, sidecar_bytes, rows_bytes, logits_bytes, rows_offset, logits_offset"
        return {
            name: IndexedShard(number, name, rows, ShardSizes(*sizes), offset, logits_offset)
            for number, name, rows, *sizes, offset, logits_offset in self.ask(f"SELECT {asked} FROM shards")  # noqa: S608
        }

    def recordings(self, sha256s: Iterable[str]) -> list[tuple[str, int, float]]:
        """Give those recordings that are complete: sha256, windows, seconds."""
        asked = "SELECT sha256, sum(windows), max(last * seconds) FROM parts WHERE used"
        found: list[tuple[str, int, float]] = []
        for some in _by_the_hundred(sha256s):
            found += self.ask(f"{asked} AND sha256 IN ({','.join('?' * len(some))}) GROUP BY sha256", some)
        if not all(type(windows) is int and isinstance(seconds, float | int) for _, windows, seconds in found):
            raise sqlite3.DatabaseError("counts of windows that are no numbers")
        return found

    def chosen(self, sha256s: Iterable[str]) -> dict[str, list[Placed]]:
        """Give the parts of those recordings that are complete, in their order."""
        found = self._look_up(sha256s, "AND used")
        if any(choose_parts(parts) != parts for parts in found.values()):
            raise sqlite3.DatabaseError("parts that do not follow each other")
        return found

    def parts(self, sha256s: Iterable[str]) -> dict[str, list[Placed]]:
        """Give all parts of recordings, complete or not."""
        return self._look_up(sha256s, "")

    def _look_up(self, sha256s: Iterable[str], condition: str) -> dict[str, list[Placed]]:
        found: dict[str, list[Placed]] = {}
        for some in _by_the_hundred(sha256s):
            marks = ",".join("?" * len(some))
            asked = f"{_PLACED} WHERE sha256 IN ({marks}) {condition} ORDER BY sha256, first_window"
            for row in self.ask(asked, some):
                found.setdefault(row[0], []).append(_place(row))
        return found


def _place(row: Sequence[Any]) -> Placed:
    sha256, first_window, windows, first_row, last, seconds, rows_sha256, logits_sha256, shard, rows = row
    # SQLite does not check what it reads: a damaged value must be found before memory is asked for it.
    whole = all(type(value) is int for value in (first_window, windows, first_row, rows))
    if not whole or first_window < 0 or not 0 <= windows <= rows - first_row <= rows:
        raise sqlite3.DatabaseError(f"a part that no shard holds: {row}")
    part = Part(sha256, first_window, windows, first_row, bool(last), seconds, rows_sha256, logits_sha256)
    return Placed(part, shard)


def _by_the_hundred(sha256s: Iterable[str]) -> Iterator[list[str]]:
    wanted = list(dict.fromkeys(sha256s))
    for start in range(0, len(wanted), _LOOKED_UP_AT_ONCE):
        yield wanted[start : start + _LOOKED_UP_AT_ONCE]


def open_index(folder: Path, form: Form, key: str, *, rebuild: bool = False) -> Index:
    """Open the index of an identity's folder, after bringing it up to date with the shards that are there.

    Parameters
    ----------
    folder : Path
        Of the identity.
    form : Form
    key : str
        Hash of the identity: an index of another one is not used.
    rebuild : bool
        Whether to make it anew whatever it says.

    Returns
    -------
    Index
        Covers every whole shard; lists the others as damaged.
    """
    path = folder / INDEX_NAME
    for attempt in range(_ATTEMPTS):
        index = None if rebuild else _open(path, key)
        rebuild = False
        covered = index.shards() if index is not None else {}
        sidecars = list_sidecars(folder)
        sizes = {sidecar: measure_shard(sidecar, form) for sidecar in sidecars}
        kept = {path.stem for path, size in sizes.items() if path.stem in covered and covered[path.stem].sizes == size}
        fresh, damaged = _read_shards([sidecar for sidecar in sidecars if sidecar.stem not in kept], form)
        gone = [shard for name, shard in covered.items() if name not in kept]
        if index is not None and not gone and not fresh:
            index.damaged = damaged
            return index
        # An empty cache needs no file; and where others write all the time, this has to end.
        if (index is None and not fresh) or attempt == _ATTEMPTS - 1:
            break
        try:
            with replace_atomically(path) as temporary, closing(_connect(str(temporary))) as database:
                _make(database, key, index, gone, fresh)
            if index is not None:
                index.close()
        except sqlite3.DatabaseError:
            if index is None:
                break  # no room
            rebuild = True  # the old one is damaged further down than is seen on opening it
        except (InputError, OSError):
            break  # a folder that is not to be written to, or is full
    database = _connect(":memory:")
    try:
        _make(database, key, index, gone, fresh)
    except sqlite3.DatabaseError:
        fresh, damaged = _read_shards(sidecars, form)
        database = _connect(":memory:")
        _make(database, key, None, [], fresh)
    made = Index(database)
    made.damaged = damaged
    return made


def _read_shards(sidecars: Sequence[Path], form: Form) -> tuple[list[Shard], list[Path]]:
    shards, damaged = [], []
    for sidecar in sidecars:
        try:
            shard = read_shard(sidecar, form)
        except DamagedShardError:
            damaged.append(sidecar)
        else:
            if shard is not None:
                shards.append(shard)
    return shards, damaged


def _connect(name: str, *, uri: bool = False) -> sqlite3.Connection:
    # Threads may share it: every question is asked under a lock.
    return sqlite3.connect(name, uri=uri, check_same_thread=False, isolation_level=None)


def _open(path: Path, key: str) -> Index | None:
    """Open an index if it is there and this identity's."""
    if not path.is_file():
        return None
    index = Index(_connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True))
    try:
        marks = index.ask("PRAGMA application_id") + index.ask("PRAGMA user_version")
        ours = marks == [(_APPLICATION,), (_LAYOUT,)]
        if ours and index.ask("SELECT value FROM about WHERE key = 'key'") == [(key,)] and index.shards() is not None:
            return index
    except sqlite3.DatabaseError:
        pass  # no database, or a damaged one: made anew
    index.close()
    return None


def _make(
    database: sqlite3.Connection,
    key: str,
    old: Index | None,
    gone: Sequence[IndexedShard],
    fresh: Sequence[Shard],
) -> None:
    """Fill an empty database from an old index, less the shards that are gone, and with the fresh ones."""
    for setting in ("journal_mode = OFF", "synchronous = OFF", "temp_store = MEMORY", f"cache_size = -{_MEMORY_KIB}"):
        database.execute(f"PRAGMA {setting}")
    if old is not None:
        old.copy_into(database)
    else:
        database.executescript(_SCHEMA)
        database.execute(f"PRAGMA application_id = {_APPLICATION}")
        database.execute(f"PRAGMA user_version = {_LAYOUT}")
        database.execute("INSERT INTO about VALUES ('key', ?)", (key,))
    database.execute("BEGIN")
    changed: set[str] = set()
    numbers = [(shard.number,) for shard in gone]
    if numbers:
        database.execute("CREATE TEMPORARY TABLE gone (shard INTEGER PRIMARY KEY)")
        database.executemany("INSERT INTO gone VALUES (?)", numbers)
        lost = database.execute("SELECT DISTINCT sha256 FROM parts WHERE shard IN (SELECT shard FROM gone)")
        changed.update(sha256 for (sha256,) in lost)
        database.execute("DELETE FROM parts WHERE shard IN (SELECT shard FROM gone)")
        database.execute("DELETE FROM shards WHERE shard IN (SELECT shard FROM gone)")
    added: list[tuple[Any, ...]] = []
    for shard in fresh:
        number = database.execute(
            "INSERT INTO shards VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)",
            (shard.name, shard.rows, *shard.sizes, shard.offset, shard.logits_offset),
        ).lastrowid
        added += [
            (
                *(part.sha256, part.first_window, part.windows, number, part.first_row, part.last, part.seconds),
                *(part.rows_sha256, part.logits_sha256, _is_whole(part)),
            )
            for part in shard.parts
        ]
    # In the order in which the table is kept, which takes a third of the time of any other.
    added.sort(key=lambda row: row[:5])
    database.executemany("INSERT OR IGNORE INTO parts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", added)
    changed.update(row[0] for row in added)
    _mark_used(database, changed)
    database.execute("COMMIT")


def _is_whole(part: Part) -> bool:
    return part.last and part.first_window == 0


def _mark_used(database: sqlite3.Connection, changed: Iterable[str]) -> None:
    """Mark, for each recording, the parts that cover it, or none if some are missing."""
    several: list[str] = []
    for some in _by_the_hundred(sorted(changed)):
        # Most recordings are in one part, which was marked as it was added.
        asked = f"SELECT sha256 FROM parts WHERE sha256 IN ({','.join('?' * len(some))}) GROUP BY sha256"  # noqa: S608
        asked += " HAVING count(*) > 1 OR max(used) <> max(last AND first_window = 0)"
        several += [sha256 for (sha256,) in database.execute(asked, some)]
    for some in _by_the_hundred(several):
        marks = ",".join("?" * len(some))
        database.execute(f"UPDATE parts SET used = 0 WHERE used AND sha256 IN ({marks})", some)  # noqa: S608 - marks
        rows = database.execute(f"{_PLACED} WHERE sha256 IN ({marks}) ORDER BY sha256", some).fetchall()
        used = [
            placed
            for _, group in groupby(rows, key=lambda row: row[0])
            for placed in choose_parts(_place(row) for row in group) or ()
        ]
        database.executemany(
            "UPDATE parts SET used = 1 WHERE sha256 = ? AND first_window = ? AND windows = ? "
            "AND shard = (SELECT shard FROM shards WHERE name = ?) AND first_row = ?",
            [
                (placed.part.sha256, placed.part.first_window, placed.part.windows, placed.shard, placed.part.first_row)
                for placed in used
            ],
        )
