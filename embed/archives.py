"""Archives from the network, of which nothing is trusted: neither names, nor kinds of entries, nor sizes."""

from __future__ import annotations

import gzip
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path, PurePosixPath
from typing import IO, ParamSpec, TypeVar

from birdemb.errors import InputError

__all__ = ["MOST_BYTES", "Entry", "choose_folder", "choose_members", "list_entries", "unpack"]

MOST_BYTES = 4 << 30
"""Unpacked, of any archive: ten times what the largest encoder has."""

_MOST_ENTRIES = 10_000
_MOST_TIMES = 100  # larger than its archive: weights hardly shrink
_FREE_BYTES = 64 << 20  # up to which an archive may shrink as much as it can
_CHUNK = 1 << 20

_SAVED_MODEL = "saved_model.pb"

Given = ParamSpec("Given")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Entry:
    """A file in an archive.

    Parameters
    ----------
    path : PurePosixPath
        Below the archive's top, never out of it.
    bytes : int
        Its size, unpacked.
    """

    path: PurePosixPath
    bytes: int


def _say_what_is_damaged(read: Callable[Given, Result]) -> Callable[Given, Result]:
    """Say in one way what the modules of the standard library say of a damaged archive in many."""

    @wraps(read)
    def read_and_say(*args: Given.args, **settings: Given.kwargs) -> Result:
        try:
            return read(*args, **settings)
        except (
            zipfile.BadZipFile,
            tarfile.TarError,
            gzip.BadGzipFile,
            zlib.error,
            EOFError,
            NotImplementedError,  # a compression that zipfile does not know
        ) as error:
            raise InputError(f"what came is no whole archive ({error})") from error

    return read_and_say


@_say_what_is_damaged
def list_entries(archive: Path, form: str) -> list[Entry]:
    """List the files in an archive, and refuse one that is not as harmless as weights are.

    Parameters
    ----------
    archive : Path
    form : {"zip", "tar.gz"}

    Returns
    -------
    list of Entry

    Raises
    ------
    InputError
        If it is no whole archive of this form; holds a path that leads out of it, a link, a device, or a name twice;
        or has too many entries or bytes.
    """
    entries: dict[str, Entry] = {}
    total, count = 0, 0
    most = min(MOST_BYTES, max(_FREE_BYTES, _MOST_TIMES * archive.stat().st_size))
    for path, size, kind, _ in _read(archive, form):
        count += 1
        total += size
        if count > _MOST_ENTRIES:
            raise InputError(f"the archive has more than {_MOST_ENTRIES:,} entries")
        if total > most:
            raise InputError(f"the archive would unpack to more than {most:,} bytes")
        if kind == "folder":
            continue
        if kind != "file" or not path.parts:
            raise InputError(f"the archive holds {str(path)!r}, which is {kind} and no file")
        # Two names that some filesystems take for one would overwrite each other.
        known = str(path).casefold()
        if known in entries:
            raise InputError(f"the archive holds {str(path)!r} twice")
        entries[known] = Entry(path, size)
    for entry in entries.values():
        if any(str(parent).casefold() in entries for parent in entry.path.parents):
            raise InputError(f"the archive holds {str(entry.path)!r} below a file")
    return list(entries.values())


def choose_members(entries: list[Entry], names: Mapping[str, int]) -> dict[PurePosixPath, str]:
    """Find single files in an archive, anywhere in it.

    Parameters
    ----------
    entries : list of Entry
    names : mapping
        The path of each, or the end of it, and its size; 0 where that is not known.

    Returns
    -------
    dict
        The path in the archive of each, and the name it was asked for by.

    Raises
    ------
    InputError
        If one is not there, is there more than once, or has another size.
    """
    chosen = {}
    for name, size in names.items():
        found = [entry for entry in entries if f"/{entry.path}".endswith(f"/{name}")]
        if len(found) != 1:
            raise InputError(f"the archive holds {len(found)} files {name}, expected one")
        if size and found[0].bytes != size:
            raise InputError(f"the archive's {name} has {found[0].bytes:,} bytes, expected {size:,}")
        chosen[found[0].path] = name
    return chosen


def choose_folder(entries: list[Entry], name: str) -> dict[PurePosixPath, str]:
    """Find a folder in an archive.

    Parameters
    ----------
    entries : list of Entry
    name : str
        Its path, or the end of it; empty for the one that holds the only SavedModel.

    Returns
    -------
    dict
        The path in the archive of each file in it, and its path in the folder.

    Raises
    ------
    InputError
        If it is not there, or there more than once.
    """
    parents = {parent for entry in entries for parent in entry.path.parents}
    if name:
        found = {parent for parent in parents if f"/{parent}".endswith(f"/{name}")}
    else:
        found = {entry.path.parent for entry in entries if entry.path.name == _SAVED_MODEL}
    if len(found) != 1:
        what = f"folders {name}" if name else f"folders with a {_SAVED_MODEL}"
        raise InputError(f"the archive holds {len(found)} {what}, expected one")
    (folder,) = found
    return {entry.path: str(entry.path.relative_to(folder)) for entry in entries if entry.path.is_relative_to(folder)}


@_say_what_is_damaged
def unpack(archive: Path, form: str, targets: Mapping[PurePosixPath, Path], entries: list[Entry]) -> None:
    """Copy files out of an archive, never more bytes than its list of entries says.

    Nothing of an archive but content is taken over: no owner, no rights, no times.

    Parameters
    ----------
    archive : Path
    form : {"zip", "tar.gz"}
    targets : mapping
        Path in the archive, and the file to write. Folders are made.
    entries : list of Entry
        As `list_entries` gave them.

    Raises
    ------
    InputError
        If the archive is damaged.
    OSError
        If a file cannot be written.
    """
    sizes = {entry.path: entry.bytes for entry in entries}
    for path, _, kind, content in _read(archive, form):
        if kind != "file" or path not in targets:
            continue
        targets[path].parent.mkdir(parents=True, exist_ok=True)
        with targets[path].open("xb") as copy:
            left = sizes[path]
            while chunk := _read_chunk(content):
                left -= len(chunk)
                if left < 0:
                    break
                copy.write(chunk)
        if left:
            raise InputError(f"the archive's {path} has another size than its list says")


def _read(archive: Path, form: str) -> Iterator[tuple[PurePosixPath, int, str, IO[bytes] | None]]:
    """Give each entry: path, size, kind, and its content, which is to be read before the next is asked for."""
    yield from _read_zip(archive) if form == "zip" else _read_tar(archive)


def _read_zip(archive: Path) -> Iterator[tuple[PurePosixPath, int, str, IO[bytes] | None]]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            form = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                kind = "folder"
            elif form in (0, stat.S_IFREG):
                kind = "file"
            else:
                kind = "a link" if form == stat.S_IFLNK else "a device"
            if kind != "file":
                yield _check_name(info.filename), 0, kind, None
                continue
            if info.flag_bits & 1:
                raise InputError(f"the archive's {info.filename!r} is encrypted")
            with opened.open(info) as content:
                yield _check_name(info.filename), info.file_size, kind, content


def _read_tar(archive: Path) -> Iterator[tuple[PurePosixPath, int, str, IO[bytes] | None]]:
    # As a stream: nothing is looked for at an offset that the archive itself names.
    with tarfile.open(archive, "r|gz") as opened:
        for info in opened:
            if info.isdir():
                kind = "folder"
            elif info.isreg():
                kind = "file"
            else:
                kind = "a link" if info.issym() or info.islnk() else "a device"
            content = opened.extractfile(info) if kind == "file" else None
            yield _check_name(info.name), info.size if kind == "file" else 0, kind, content


def _check_name(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or any(sign in name for sign in ("\\", ":", "\0")):
        raise InputError(f"the archive holds {name!r}, a path that may lead out of it")
    return path


def _read_chunk(content: IO[bytes] | None) -> bytes:
    return content.read(_CHUNK) if content is not None else b""
