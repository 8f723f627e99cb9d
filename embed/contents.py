"""What recordings hold, by the hash of their content, and the memory that spares hashing them again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from birdemb.embed.recordings import Recording, Stamp
from birdemb.embed.remote import hide_secrets
from birdemb.errors import InputError, RecordingError
from birdemb.storage import replace_atomically

__all__ = ["Content", "ContentMemory", "changed_while_read", "identify_content"]

_FORMAT = 2
_HASHED_AT_ONCE = 1 << 18
_LOCK_SECONDS = 2.0  # waited for another run that writes; hashing again is no harm
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CREATE = (
    "CREATE TABLE recordings (key TEXT PRIMARY KEY, stamp TEXT, edges TEXT, sha256 TEXT, checksum TEXT) WITHOUT ROWID"
)
# What says that a file will never be of use, unlike one that is locked or protected, or a disk that is full.
_UNUSABLE = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT}

_RACY_SECONDS = 2.0
"""How long a file must have been left alone when it is hashed, for its times to tell of every later change.

A file that is changed twice within one step of its filesystem's clock has the same times after the second change. The
coarsest clock in use, that of FAT, goes in steps of 2 s; git does the same for its index.
"""

_NO_STAMP = Stamp(0, "")


@dataclass(frozen=True)
class Content:
    """What a recording holds, or why that cannot be told.

    Parameters
    ----------
    recording : Recording
    sha256 : str
        Of its content; empty where that cannot be told.
    stamp : Stamp
        What it looked like before it was hashed.
    error : RecordingError or None
    """

    recording: Recording
    sha256: str = ""
    stamp: Stamp = _NO_STAMP
    error: RecordingError | None = None


class _Remembered(NamedTuple):
    stamp: str
    edges: str
    sha256: str


class ContentMemory:
    """Remembers the hashes of recordings from run to run, in one SQLite file that may be deleted at any time.

    A remembered hash is only taken where the recording's size, times and inode (or, at a URL, its tag) are what they
    were, its first and last 4 KiB as well, and it had been left alone for a while when it was hashed. What cannot be
    read from the file counts as not remembered. May be used by several threads.

    Parameters
    ----------
    path : Path or None
        Where to keep it; None remembers nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = Lock()
        self._looked_up: dict[str, _Remembered | None] = {}
        self._fresh: dict[str, _Remembered] = {}

    def look_up(self, recordings: Iterable[Recording]) -> None:
        """Fetch what is remembered of several recordings at once, each for the next time that it is recalled.

        Parameters
        ----------
        recordings : iterable of Recording
            Some hundred at the most: what is fetched is held until it is recalled.
        """
        found = self._fetch([_key(recording) for recording in recordings])
        with self._lock:
            self._looked_up |= found

    def recall(self, recording: Recording, stamp: Stamp) -> str | None:
        """Give the sha256 of a recording if it is remembered and still fits.

        Raises
        ------
        RecordingError
            If the recording cannot be read.
        """
        key = _key(recording)
        with self._lock:
            waiting = key in self._looked_up
            known = self._looked_up.pop(key, None)
            known = self._fresh.get(key, known)
        if known is None and not waiting:
            known = self._fetch([key])[key]
        if known is None or known.stamp != _write_stamp(stamp):
            return None
        # A URL's tag stands for its content by itself, and each look at it costs a request.
        if not recording.is_remote and recording.hash_edges() != known.edges:
            return None
        return known.sha256

    def keep(self, recording: Recording, stamp: Stamp, sha256: str, hashed_at: float) -> None:
        """Remember a hash, if the recording's stamp can be relied on.

        Parameters
        ----------
        recording : Recording
        stamp : Stamp
            The same before and after the recording was hashed.
        sha256 : str
        hashed_at : float
            When that began, in seconds since the epoch.

        Raises
        ------
        RecordingError
            If the recording cannot be read.
        """
        if self._path is None or (recording.is_remote and not stamp.tag):
            return
        if not recording.is_remote and _last_change(recording) > hashed_at - _RACY_SECONDS:
            return
        edges = "" if recording.is_remote else recording.hash_edges()
        with self._lock:
            self._fresh[_key(recording)] = _Remembered(_write_stamp(stamp), edges, sha256)

    def save(self, folder: str = "", present: Iterable[Recording] = ()) -> None:
        """Write what was learnt since the last time, beside what other runs have written.

        A memory that cannot be written is no error: what was learnt is written the next time that it can be, and
        otherwise the next run hashes again.

        Parameters
        ----------
        folder : str
            Forget the recordings that were below it,
        present : iterable of Recording
            but for these. Nothing is forgotten where there are none.
        """
        kept = {_key(recording) for recording in present}
        with self._lock:
            fresh = self._fresh.copy()
        if self._path is None or not (fresh or kept):
            return
        if _write(self._path, fresh, _encodable(folder.rstrip(os.sep)), kept):
            with self._lock:
                # Not those that were learnt anew meanwhile.
                self._fresh = {key: known for key, known in self._fresh.items() if fresh.get(key) is not known}

    def _fetch(self, keys: Iterable[str]) -> dict[str, _Remembered | None]:
        found: dict[str, _Remembered | None] = dict.fromkeys(keys)
        if self._path is None:
            return found
        with contextlib.suppress(sqlite3.Error, OSError), closing(_connect(self._path, "rw")) as connection:
            connection.execute("BEGIN")  # one lock for all of them
            if _format_of(connection) == _FORMAT:
                for key in found:
                    query = "SELECT stamp, edges, sha256, checksum FROM recordings WHERE key = ?"
                    found[key] = _trust(key, connection.execute(query, (key,)).fetchone())
        return found


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open a memory. The mode is SQLite's own: ``rw``, which also opens what is protected, or ``rwc`` to make it."""
    # An address, as only that can say that no file is to be made. SQLite takes none with the name of a server.
    address = re.sub("^file://(?!/)", "file:////", path.absolute().as_uri())
    connection = sqlite3.connect(f"{address}?mode={mode}", uri=True, timeout=_LOCK_SECONDS, isolation_level=None)
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    return connection


def _format_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _trust(key: str, row: tuple[object, ...] | None) -> _Remembered | None:
    if row is None:
        return None
    stamp, edges, sha256, checksum = row
    if not (isinstance(stamp, str) and isinstance(edges, str) and isinstance(sha256, str)):
        return None
    known = _Remembered(stamp, edges, sha256)
    return known if _SHA256.fullmatch(sha256) and checksum == _checksum(key, known) else None


def _checksum(key: str, known: _Remembered) -> str:
    # SQLite has none of its own, and a wrong hash would give a recording another's embeddings.
    return hashlib.sha256("\0".join((key, *known)).encode()).hexdigest()[:16]


def _write(path: Path, fresh: Mapping[str, _Remembered], folder: str, kept: set[str]) -> bool:
    """Write rows, and remove those below a folder that are not kept; gives whether that went well."""
    try:
        if fresh:
            path.parent.mkdir(parents=True, exist_ok=True)
        with closing(_connect(path, "rwc" if fresh else "rw")) as connection:
            connection.execute("BEGIN IMMEDIATE")
            is_new = connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
            if is_new:
                _create(connection)
            if is_new or _format_of(connection) == _FORMAT:
                _forget(connection, folder, kept)
                _insert(connection, fresh)
                connection.execute("COMMIT")
                return True
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _UNUSABLE:
            return False
    except OSError:
        return False
    return _replace(path, fresh)


def _create(connection: sqlite3.Connection) -> None:
    connection.execute(_CREATE)
    connection.execute(f"PRAGMA user_version = {_FORMAT}")


def _insert(connection: sqlite3.Connection, fresh: Mapping[str, _Remembered]) -> None:
    rows = ((key, *known, _checksum(key, known)) for key, known in fresh.items())
    connection.executemany("INSERT OR REPLACE INTO recordings VALUES (?, ?, ?, ?, ?)", rows)


def _forget(connection: sqlite3.Connection, folder: str, kept: set[str]) -> None:
    if not kept:
        return
    # All that begins with the folder and a separator comes before the folder and the character after that.
    below = (folder + os.sep, folder + chr(ord(os.sep) + 1))
    found = connection.execute("SELECT key FROM recordings WHERE key >= ? AND key < ?", below)
    gone = [key for key in found if key[0] not in kept]
    connection.executemany("DELETE FROM recordings WHERE key = ?", gone)


def _replace(path: Path, fresh: Mapping[str, _Remembered]) -> bool:
    """Make a memory anew, in place of a file that is none; gives whether that went well."""
    try:
        with replace_atomically(path) as temporary:
            with closing(_connect(temporary, "rw")) as connection:
                connection.execute("PRAGMA journal_mode = OFF")
                connection.execute("BEGIN")
                _create(connection)
                _insert(connection, fresh)
                connection.execute("COMMIT")
            for ending in ("-journal", "-wal", "-shm"):
                # SQLite would write what is left of the old file into the new one.
                Path(f"{path.resolve()}{ending}").unlink(missing_ok=True)
    except (InputError, OSError, sqlite3.Error):
        return False
    return True


def identify_content(
    recording: Recording, memory: ContentMemory, stopped: Callable[[], bool] = lambda: False
) -> Content:
    """Tell what a recording holds, from memory where that can be relied on.

    Parameters
    ----------
    recording : Recording
    memory : ContentMemory
        Learns what was hashed.
    stopped : callable
        Asked now and then; once it says True, hashing ends with an error.

    Returns
    -------
    Content
        With an error, where the recording cannot be read.
    """
    try:
        stamp = recording.stamp()
        sha256 = memory.recall(recording, stamp)
        if sha256 is None:
            hashed_at = time.time()
            sha256 = _hash(recording, stopped)
            if recording.stamp() != stamp:
                raise changed_while_read()
            memory.keep(recording, stamp, sha256, hashed_at)
    except RecordingError as error:
        return Content(recording, error=error)
    return Content(recording, sha256, stamp)


def changed_while_read() -> RecordingError:
    """Make the error for a recording whose content is not what it was a moment ago."""
    return RecordingError("read", "it changed while it was read; run the command again")


def _hash(recording: Recording, stopped: Callable[[], bool]) -> str:
    # Not recording.hash(): a recording of a day takes many seconds, which nobody waits for after Ctrl-C.
    digest = hashlib.sha256()
    buffer = bytearray(_HASHED_AT_ONCE)
    with recording.open() as file:
        try:
            while count := file.readinto(buffer):
                digest.update(memoryview(buffer)[:count])
                if stopped():
                    raise RecordingError("read", "the run was stopped")
        except OSError as error:
            raise RecordingError("read", f"it cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def _key(recording: Recording) -> str:
    location = recording.location
    if not recording.is_remote:
        return _encodable(location)
    # Without what must not be written down, but still each URL's own.
    digest = hashlib.sha256(location.encode("utf-8", "surrogatepass")).hexdigest()
    return _encodable(f"{hide_secrets(location)}#{digest[:16]}")


def _encodable(text: str) -> str:
    # A path that is not valid UTF-8 is refused before it is hashed, but may be looked up.
    return text.encode("utf-8", "backslashreplace").decode()


def _write_stamp(stamp: Stamp) -> str:
    return f"{stamp.size} {stamp.tag}"


def _last_change(recording: Recording) -> float:
    try:
        status = Path(recording.location).stat()
    except OSError as error:
        raise RecordingError("read", f"it cannot be opened: {error.strerror or error}") from error
    return max(status.st_mtime, status.st_ctime)
