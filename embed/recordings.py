"""Recordings: where they lie, what they are called, and what they hold, on this machine or at a URL."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.request import url2pathname

from birdemb.embed.remote import hide_secrets, is_url, list_remote, name_of_url, open_remote, stamp_remote
from birdemb.errors import InputError, RecordingError

__all__ = ["AUDIO_SUFFIXES", "OTHER_SUFFIXES", "FoundRecordings", "Recording", "Stamp", "find_recordings"]

AUDIO_SUFFIXES = frozenset(
    {".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".w64", ".wav", ".wave"}
)
"""File name endings, in lower case, of recordings that libsndfile reads."""

OTHER_SUFFIXES = frozenset({".3gp", ".aac", ".amr", ".ape", ".m4a", ".wac", ".wma", ".wv"})
"""Endings of recordings that it does not read: they are found too, so that they are reported."""

_EDGE = 4096


@dataclass(frozen=True)
class Stamp:
    """What tells, without reading a recording, that its content is no longer what it was.

    Parameters
    ----------
    size : int
        In bytes.
    tag : str
        Of a file: the times of its last change, to the nanosecond, and its inode. Of a URL: a hash of the etag,
        the time or whatever else its filesystem tells; empty where it tells nothing but the size.
    """

    size: int
    tag: str


@dataclass(frozen=True)
class Recording:
    """One recording: small, and the same in every process that can reach it.

    Parameters
    ----------
    location : str
        Its absolute path, or its URL. A URL may hold a password, so that messages and reports use the name.
    name : str
        Its path below the folder that was given, with forward slashes.

    Examples
    --------
    >>> Recording("/data/wren/A.WAV", "wren/A.WAV").suffix
    '.wav'
    """

    location: str
    name: str

    def __repr__(self) -> str:
        return f"Recording({hide_secrets(self.location)!r}, {self.name!r})"

    @property
    def suffix(self) -> str:
        """The ending of its name, in lower case."""
        return PurePosixPath(self.name).suffix.lower()

    @property
    def is_remote(self) -> bool:
        """Whether it lies at a URL."""
        return is_url(self.location)

    def open(self) -> io.RawIOBase:
        """Open its bytes, unbuffered; where it is a file on this machine, as an `io.FileIO` with a descriptor.

        Raises
        ------
        RecordingError
            If it cannot be opened, or is a folder, a pipe or a device; for a URL on reading, too.
        """
        if self.is_remote:
            return open_remote(self.location)
        self._look()
        try:
            return io.FileIO(self.location)
        except OSError as error:
            raise _cannot_open(error) from error

    def stamp(self) -> Stamp:
        """Look at its size and its times.

        Raises
        ------
        RecordingError
            As of `open`.
        """
        if self.is_remote:
            return Stamp(*stamp_remote(self.location))
        status = self._look()
        return Stamp(status.st_size, f"{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}")

    def hash(self) -> str:
        """Compute the sha256 of its content, as 64 hexadecimal digits; it is read to its end.

        Raises
        ------
        RecordingError
            If it cannot be read.
        """
        with self.open() as file:
            try:
                return hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise _cannot_read(error) from error

    def hash_edges(self) -> str:
        """Compute the sha256 of its first and its last 4 KiB: a cheap check that a remembered hash still fits.

        Raises
        ------
        RecordingError
            If it cannot be read.
        """
        with self.open() as file:
            try:
                first = _read(file, _EDGE)
                file.seek(max(0, file.seek(0, os.SEEK_END) - _EDGE))
                return hashlib.sha256(first + _read(file, _EDGE)).hexdigest()
            except OSError as error:
                raise _cannot_read(error) from error

    def _look(self) -> os.stat_result:
        """Look at a file of this machine, and refuse what is none: a pipe would be waited for without end."""
        try:
            self.location.encode()
        except UnicodeEncodeError as error:
            raise RecordingError("read", "its path is not valid UTF-8; rename it") from error
        try:
            status = os.stat(self.location)  # noqa: PTH116 - many thousands of them
        except OSError as error:
            raise _cannot_open(error) from error
        if stat.S_ISREG(status.st_mode):
            return status
        if not stat.S_ISDIR(status.st_mode):
            raise RecordingError("read", "it is a pipe or device, not a file")
        locked = not os.access(self.location, os.R_OK | os.X_OK)
        raise RecordingError("read", "it is a folder that may not be read" if locked else "it is a folder, not a file")


@dataclass(frozen=True)
class FoundRecordings:
    """The recordings at a place.

    Parameters
    ----------
    folder : str
        Absolute path or URL of the folder that was given, or of the one recording's folder. Without the password
        that a URL may hold.
    recordings : list of Recording
        At least one; sorted by name, folder by folder.
    """

    folder: str
    recordings: list[Recording]


def find_recordings(location: str | Path | FoundRecordings) -> FoundRecordings:
    """List the recordings at a place: itself if it is a file, else those in the folder and below.

    Links to folders are followed, each folder once. Names that begin with a dot are left out: they are
    other programs' notes, such as macOS's ``._x.wav``. Recordings in a form that cannot be read, folders whose
    name is a recording's, and folders that may not be read are listed too, so that a run reports them.

    Parameters
    ----------
    location : str, Path or FoundRecordings
        A folder or one recording: a path, or the URL of a place that fsspec reads (``s3://``, ``gs://`` ...), or
        of a file on this machine (``file://``, with ``%20`` for a blank). What was found before is given back.

    Returns
    -------
    FoundRecordings

    Raises
    ------
    InputError
        If there is no such place, or no recording in it.
    MissingDependencyError
        If it is a URL and a package to read it with is missing.
    """
    if isinstance(location, FoundRecordings):
        return location
    protocol, _, place = str(location).partition("://")
    if is_url(str(location)) and protocol.lower() not in ("file", "local"):
        return _find_remote(str(location))
    try:
        path = Path(url2pathname(place) if is_url(str(location)) else location)
    except OSError as error:
        raise InputError(f"{location} names no file ({error}). Give its path instead.") from error
    try:
        if path.is_file():
            if not _is_audio(path.name):
                raise _not_audio(str(path))
            folder = path.parent.resolve()
            return FoundRecordings(str(folder), [Recording(str(folder / path.name), path.name)])
        is_folder = path.is_dir()
    except OSError as error:
        raise InputError(f"{path} cannot be looked at: {error.strerror or error}. Check the path.") from error
    if not is_folder:
        raise InputError(f"There is no folder or file {path} (looked from {Path.cwd()}). Check the path.")
    folder = path.resolve()
    found = [Recording(str(entry), entry.relative_to(folder).as_posix()) for entry in _walk(folder)]
    if not found:
        raise _none_found(str(path))
    return FoundRecordings(str(folder), _sort(found))


def _walk(top: Path) -> set[Path]:
    found: set[Path] = set()
    seen: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(
        top, followlinks=True, onerror=lambda error: found.add(Path(error.filename))
    ):
        try:
            status = Path(folder).stat()
        except OSError:  # removed at this moment
            found.add(Path(folder))
            continue
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        named_like_audio = [name for name in subfolders if _is_audio(name)]
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        found.update(
            Path(folder, name) for name in names + named_like_audio if not name.startswith(".") and _is_audio(name)
        )
    return found


def _find_remote(url: str) -> FoundRecordings:
    listed = list_remote(url)
    if "" in listed:
        name = name_of_url(url)
        if not _is_audio(name):
            raise _not_audio(hide_secrets(url))
        shown = hide_secrets(url)
        return FoundRecordings(shown[: shown.rindex("/")], [Recording(url, name)])
    found = [
        Recording(location, name)
        for name, location in listed.items()
        if _is_audio(name) and not any(part.startswith(".") for part in name.split("/"))
    ]
    if not found:
        raise _none_found(hide_secrets(url))
    return FoundRecordings(hide_secrets(url).rstrip("/"), _sort(found))


def _sort(recordings: list[Recording]) -> list[Recording]:
    return sorted(recordings, key=lambda recording: recording.name.split("/"))


def _is_audio(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in AUDIO_SUFFIXES | OTHER_SUFFIXES


def _not_audio(shown: str) -> InputError:
    return InputError(f"{shown} is no recording by its name; expected one of {_suffixes()}.")


def _none_found(shown: str) -> InputError:
    return InputError(f"No recording in {shown}: no file there or below ends in one of {_suffixes()}.")


def _suffixes() -> str:
    return ", ".join(sorted(AUDIO_SUFFIXES))


def _read(file: io.RawIOBase, count: int) -> bytes:
    parts = []
    while count and (part := file.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _cannot_open(error: OSError) -> RecordingError:
    return RecordingError("read", f"it cannot be opened: {error.strerror or error}")


def _cannot_read(error: OSError) -> RecordingError:
    return RecordingError("read", f"it cannot be read: {error.strerror or error}")
