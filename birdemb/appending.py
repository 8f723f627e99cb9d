"""A table that grows at its end: rows are there whole or not at all, and what others wrote is never overwritten."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from birdemb.errors import InputError
from birdemb.storage import sync_folder
from birdemb.watch_journal import TableState

__all__ = ["NOTHING", "AppendedTable"]

NOTHING = TableState(0, hashlib.sha256().hexdigest())
"""Of a table that is not there yet."""

_READ_AT_ONCE = 1 << 20


class AppendedTable:
    """A table of which a journal says how far it was written.

    Parameters
    ----------
    path : Path
    state : TableState
        What the journal says.
    unfinished : int
        How many bytes were being appended when the watch ended: as many that the journal does not know may be there.

    Raises
    ------
    InputError
        If the table is not what the journal says. It is left alone.
    OSError
        If it cannot be read.
    """

    def __init__(self, path: Path, state: TableState, unfinished: int = 0) -> None:
        self.path = path.resolve()
        self._digest = hashlib.sha256()
        self._size = 0
        self._signature: tuple[int, ...] | None = None
        self._verify(state, unfinished)
        self._unfinished = unfinished
        self.cut_back(state)

    def append(self, rows: bytes) -> TableState:
        """Append rows and bring them to the disk.

        What was appended is to be confirmed with `confirm` or taken back with `cut_back`.

        Raises
        ------
        InputError
            If the table was changed by somebody else. It is left alone.
        OSError
            If it is gone, or the rows cannot be written, as the disk is full.
        """
        if self._size and _sign(self.path.stat()) != self._signature:
            self._verify(TableState(self._size, self._digest.hexdigest()), 0)
        is_new = not self._size
        with self.path.open("ab") as file:
            self._unfinished = len(rows)
            file.write(rows)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_folder(self.path.parent)
        digest = self._digest.copy()
        digest.update(rows)
        return TableState(self._size + len(rows), digest.hexdigest())

    def confirm(self, rows: bytes) -> None:
        """Take note that the journal knows of the rows."""
        self._digest.update(rows)
        self._size += len(rows)
        self._unfinished = 0
        try:
            self._signature = _sign(self.path.stat())
        except OSError:  # a drive that is gone now: the rows are there all the same
            self._signature = None

    def recover(self, state: TableState) -> None:
        """Cut off what could not be cut off when it should have been, as the drive was gone.

        Raises
        ------
        InputError
            If the table is not what the journal says. It is left alone.
        OSError
            If it cannot be done.
        """
        if self._unfinished and self.path.exists():
            self._verify(state, self._unfinished)
            self.cut_back(state)

    def cut_back(self, state: TableState) -> None:
        """Cut off what was being appended and the journal does not know; never what somebody else has added.

        While the table is gone, it stays known as unfinished; see `recover`.

        Raises
        ------
        OSError
            If it cannot be done.
        """
        if not self._unfinished or not self.path.exists():
            return
        with self.path.open("rb+") as file:
            if state.size < file.seek(0, os.SEEK_END) <= state.size + self._unfinished:
                file.truncate(state.size)
                os.fsync(file.fileno())
                self._signature = _sign(os.fstat(file.fileno()))
        self._unfinished = 0

    def _verify(self, state: TableState, unfinished: int) -> None:
        """Raise unless the table begins with what the journal says, and has no more behind it than was unfinished."""
        try:
            status = self.path.stat()
        except FileNotFoundError as error:
            if not state.size:
                return
            raise InputError(
                f"{self.path} is gone, and {state.size:,} bytes had been written to it. Put it back, or name another "
                "table with -o."
            ) from error
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{self.path} is no file that could be appended to. Name another table with -o.")
        if status.st_size < state.size:
            raise _other_content(
                self.path, f"it is shorter: {status.st_size:,} bytes, and {state.size:,} had been written"
            )
        digest = _hash_beginning(self.path, state.size)
        if digest.hexdigest() != state.sha256:
            raise _other_content(self.path, f"its first {state.size:,} bytes are others than those that were written")
        if status.st_size > state.size + unfinished:
            more = status.st_size - state.size
            raise _other_content(
                self.path,
                f"it has {more:,} bytes more than the {state.size:,} that were written"
                if state.size
                else "it was there before the watch",
            )
        self._digest, self._size, self._signature = digest, state.size, _sign(status)


def _hash_beginning(path: Path, size: int) -> hashlib._Hash:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size and (block := file.read(min(size, _READ_AT_ONCE))):
            digest.update(block)
            size -= len(block)
    return digest


def _sign(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _other_content(path: Path, what: str) -> InputError:
    return InputError(
        f"{path} is not what the watch has written: {what}. It was left as it is; put the written one back, or name "
        "another table with -o."
    )
