"""Locks that processes of one machine hold on files, which end with the process that holds them."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["hold_lock"]

_SECONDS_BETWEEN_LOOKS = 0.2


@contextmanager
def hold_lock(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[bool]:
    """Hold a lock for as long as the block runs; wait for it as long as another process holds it.

    Parameters
    ----------
    path : Path
        The file that stands for the lock. It is made with its folder, and deleted at the end.
    waiting : callable
        Called once before waiting begins; where it raises, the lock is not waited for.

    Yields
    ------
    bool
        Whether it is held: False on a filesystem without locks, as some network drives are.

    Raises
    ------
    OSError
        If the file cannot be made.
    """
    descriptor, held = _open(path, waiting)
    try:
        yield held
    finally:
        if held and os.name == "posix":  # Windows deletes no open file
            path.unlink(missing_ok=True)
        os.close(descriptor)  # and the lock with it


def _open(path: Path, waiting: Callable[[], None]) -> tuple[int, bool]:
    told = False
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            while (held := _try(descriptor)) is None:
                if not told:
                    waiting()
                    told = True
                time.sleep(_SECONDS_BETWEEN_LOOKS)
        except BaseException:
            os.close(descriptor)
            raise
        # Who held it before has deleted the file: a third process may hold the lock of a new one.
        if not held or os.name != "posix" or os.fstat(descriptor).st_nlink:
            return descriptor, held
        os.close(descriptor)


def _try(descriptor: int) -> bool | None:
    """Take the lock; False where there are no locks, None where another process holds it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK) else False
    return True
