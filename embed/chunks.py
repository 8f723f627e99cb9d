"""The small chunks of WAV files: RIFF, RF64, BW64 and Sony's Wave64, read without their sound and without trust."""

from __future__ import annotations

import io
import struct
from collections.abc import Collection

__all__ = ["LONGEST_CHUNK", "MOST_BYTES", "BoundedFile", "read_chunks"]

MOST_BYTES = 1 << 20
"""How much of a file is read at the most."""

LONGEST_CHUNK = 1 << 18
"""How much of one chunk or block is read at the most."""

_HEAD = 4096
_MOST_CHUNKS = 1000
# Wave64: what follows the four letters in the chunks' GUIDs.
_W64_ENDS = (bytes.fromhex("2e91cf11a5d628db04c10000"), bytes.fromhex("f3acd3118cd100c04f8edb8a"))
_W64_LIST = (b"list", bytes.fromhex("2f91cf11a5d628db04c10000"))
_UNKNOWN_SIZE = 0xFFFF_FFFF


class BoundedFile:
    """A file of which no more than a bound is ever read.

    Parameters
    ----------
    raw : RawIOBase
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._left = MOST_BYTES
        self._head = self._read(0, _HEAD)
        self.size = raw.seek(0, io.SEEK_END)

    def read_at(self, start: int, count: int) -> bytes:
        """Read bytes from a place; fewer where the file ends, or the bound is reached."""
        if start + count <= len(self._head):
            return self._head[start : start + count]
        return self._read(start, count) if start < self.size else b""

    def _read(self, start: int, count: int) -> bytes:
        count = min(count, self._left)
        self._raw.seek(start)
        parts = []
        while count > 0 and (part := self._raw.read(count)):
            parts.append(part)
            count -= len(part)
            self._left -= len(part)
        return b"".join(parts)


def read_chunks(file: BoundedFile, wanted: Collection[bytes]) -> dict[bytes, bytes]:
    """Read some chunks of a WAV file; sound and all others are seeked over.

    Parameters
    ----------
    file : BoundedFile
    wanted : collection of bytes
        Four letters each. Of ``LIST`` chunks only those of the kind ``INFO`` are given.

    Returns
    -------
    dict of bytes
        The content of the first chunk of each kind, cut off after `LONGEST_CHUNK` bytes. Empty where the file is no
        WAV.
    """
    head = file.read_at(0, 16)
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _read_riff(file, wanted)
    if head[:4] == b"riff" and head[4:] == _W64_ENDS[0]:
        return _read_w64(file, wanted)
    return {}


def _read_riff(file: BoundedFile, wanted: Collection[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    position, data_size = 12, _UNKNOWN_SIZE
    for _ in range(_MOST_CHUNKS):
        header = file.read_at(position, 8)
        # What is no name is sound, or whatever else lies behind a size that was wrong.
        if len(header) < 8 or not all(32 <= letter < 127 for letter in header[:4]):
            break
        name, size = header[:4], struct.unpack_from("<I", header, 4)[0]
        if name == b"ds64":
            # EBU Tech 3306: the sizes of the file and of its data, in 64 bits.
            sizes = file.read_at(position + 8, 16)
            data_size = struct.unpack_from("<Q", sizes, 8)[0] if len(sizes) == 16 else _UNKNOWN_SIZE
        elif name == b"data" and size == _UNKNOWN_SIZE:
            size = data_size
        _keep(file, found, wanted, name, position + 8, size)
        position += 8 + size + size % 2
    return found


def _read_w64(file: BoundedFile, wanted: Collection[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    position = 40  # the GUID and size of riff, the GUID of wave
    for _ in range(_MOST_CHUNKS):
        header = file.read_at(position, 24)
        if len(header) < 24:
            break
        name, end, size = header[:4], header[4:16], struct.unpack_from("<Q", header, 16)[0]
        if size < 24:  # it counts its own header
            break
        if (name, end) == _W64_LIST:
            name = b"LIST"
        if name == b"LIST" or end == _W64_ENDS[1]:
            _keep(file, found, wanted, name, position + 24, size - 24)
        position += size + -size % 8
    return found


def _keep(
    file: BoundedFile, found: dict[bytes, bytes], wanted: Collection[bytes], name: bytes, start: int, size: int
) -> None:
    if name not in wanted or name in found:
        return
    if name == b"LIST" and file.read_at(start, 4) != b"INFO":
        return
    found[name] = file.read_at(start, min(size, LONGEST_CHUNK))
