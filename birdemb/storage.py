"""Files that are never half-written, and the hashes that name them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from birdemb.errors import BirdembError, InputError

__all__ = [
    "check_writable",
    "hash_file",
    "hash_json",
    "move_atomically",
    "read_json",
    "replace_atomically",
    "replace_folder_atomically",
    "sync_folder",
    "write_json",
]


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, and move it onto `path` once the block has ended well.

    The file reaches the disk before it gets its name, so that a kill or a power cut leaves the
    old file or the new one and never a part of either.

    Parameters
    ----------
    path : Path
        The file to write. Its folder is made if need be.

    Yields
    ------
    Path
        Where to write.

    Raises
    ------
    InputError
        If the folder cannot be made or written to, or the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "figures" / "answer.txt"
    >>> with replace_atomically(target) as temporary:
    ...     _ = temporary.write_text("42")
    >>> target.read_text()
    '42'
    """
    target, temporary = _make_temporary(path)
    try:
        yield temporary
        with temporary.open("rb+") as written:  # Windows syncs no file that is open for reading alone
            os.fsync(written.fileno())
        temporary.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        if isinstance(error, BirdembError):
            raise
        raise _cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replace_folder_atomically(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside `folder`, and move it to where that is once the block has ended well.

    An older one is replaced whole. The files reach the disk before the folder gets its name.

    Parameters
    ----------
    folder : Path
        Its parents are made if need be.

    Yields
    ------
    Path
        Where to write files.

    Raises
    ------
    InputError
        If it cannot be made or written to, or the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "network"
    >>> with replace_folder_atomically(target) as temporary:
    ...     _ = (temporary / "answer.txt").write_text("42")
    >>> [path.name for path in target.iterdir()]
    ['answer.txt']
    """
    temporary = folder.parent / f".{uuid.uuid4().hex}.partial"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        move_atomically(temporary, folder)
    except OSError as error:
        if isinstance(error, BirdembError):
            raise
        raise _cannot_write(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_writable(path: Path, advice: str = "") -> None:
    """Make sure, before long work, that its result can be written.

    Parameters
    ----------
    path : Path
    advice : str
        What to do if it cannot, where that is not to choose another file.

    Raises
    ------
    InputError
        If it cannot.
    """
    # os.access, as Path.exists raises where a name is too long.
    if os.access(path, os.F_OK) and not os.access(path, os.W_OK):
        raise InputError(f"Cannot write {path}: it is protected. {advice or 'Choose another file.'}")
    _make_temporary(path, advice)[1].unlink()


def _make_temporary(path: Path, advice: str = "") -> tuple[Path, Path]:
    """Give the file that is to be replaced, which a link may stand for, and a new empty one beside it."""
    try:
        target = path.resolve()
        temporary = target.parent / f".{uuid.uuid4().hex}.partial"
        _make_folder(target.parent)
        if target.exists() and not target.is_file():
            raise OSError(errno.EINVAL, "it is a folder" if target.is_dir() else "it is a device or a pipe, not a file")
        temporary.touch(exist_ok=False)
    except RuntimeError as error:  # a loop of links
        raise _cannot_write(path, OSError(errno.ELOOP, str(error)), advice) from error
    except OSError as error:
        raise _cannot_write(path, error, advice) from error
    return target, temporary


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, safe from a power cut: what lies in them would go with their names."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)


def _cannot_write(path: Path, error: OSError, advice: str = "") -> InputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "Make room and run the same command again; what was finished before is kept."
    advice = advice or "Choose a file in a folder that you may write to."
    return InputError(f"Cannot write {path}: {error.strerror or error}. {advice}")


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, so that what was renamed or deleted stays so after a power cut."""
    # Windows cannot open a folder; there the rename is durable by itself.
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def move_atomically(source: Path, target: Path) -> None:
    """Give a file or a folder, with all in it, another name, once all of it has reached the disk.

    A file that has the name is replaced. A folder that has it is moved aside first and then deleted, so that at no
    moment anything of both is there.

    Parameters
    ----------
    source, target : Path
        On the same filesystem.

    Raises
    ------
    OSError
        If it cannot be done.
    """
    for path in (source, *source.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb+") as written:
                os.fsync(written.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = None
    if target.is_dir():
        aside = target.parent / f".{uuid.uuid4().hex}.partial"
        target.rename(aside)
    try:
        source.replace(target)
    except OSError:
        if aside is not None:
            aside.rename(target)
        raise
    sync_folder(target.parent)
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    """Write `content` as readable JSON, atomically."""
    with replace_atomically(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Path, advice: str = "Delete it and run the command again.") -> Any:  # noqa: ANN401 - whatever JSON can hold
    """Read a JSON file.

    Parameters
    ----------
    path : Path
    advice : str
        What to do if it is none: the end of the message.

    Raises
    ------
    InputError
        If the file cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}. {advice}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no valid JSON ({error}). {advice}") from error


def hash_file(path: Path) -> str:
    """Compute the sha256 of a file's content, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_json(content: Any) -> str:  # noqa: ANN401 - whatever JSON can hold
    """Compute the sha256 of `content` in a canonical JSON form: keys sorted, no blanks.

    Examples
    --------
    >>> hash_json({"b": 1, "a": 2}) == hash_json({"a": 2, "b": 1})
    True
    """
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
