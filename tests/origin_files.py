"""Chunks and files as recorders write them, made byte by byte."""

from __future__ import annotations

import struct
from pathlib import Path

from birdemb.embed.origins import read_origin
from birdemb.embed.recordings import Recording
from birdemb.origin import Origin

FORMAT = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 32_000, 64_000, 2, 16)
SOUND = bytes(2000)
AUDIOMOTH = (
    "Recorded at 06:30:00 22/05/2019 (UTC+1) by AudioMoth 24391D0A5C5E4B3F at medium gain while battery was 4.1V and "
    "temperature was 12.3C."
)


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def wav(*before: bytes, after: bytes = b"", sound: bytes = SOUND, form: bytes = b"RIFF") -> bytes:
    """Make a WAV file with chunks before and after its sound."""
    body = b"WAVE" + FORMAT + b"".join(before) + chunk(b"data", sound) + after
    return form + struct.pack("<I", len(body)) + body


def guano(**fields: str) -> bytes:
    """Make a GUANO chunk; an underscore in a field's name is a blank."""
    lines = ["GUANO|Version: 1.0", *(f"{name.replace('_', ' ')}: {value}" for name, value in fields.items())]
    return chunk(b"guan", "\n".join(lines).encode())


def wamd(items: dict[int, str | bytes], version: int = 1) -> bytes:
    content = struct.pack("<HIH", 0, 2, version)
    for number, value in items.items():
        coded = value.encode() if isinstance(value, str) else value
        content += struct.pack("<HI", number, len(coded)) + coded
    return chunk(b"wamd", content)


def info(**texts: str) -> bytes:
    return chunk(
        b"LIST", b"INFO" + b"".join(chunk(name.encode(), text.encode() + b"\0") for name, text in texts.items())
    )


def bext(day: str, time: str) -> bytes:
    return chunk(b"bext", bytes(320) + day.encode() + time.encode() + bytes(264))


def vorbis_comments(*comments: str) -> bytes:
    texts = [comment.encode() for comment in comments]
    vendor = b"Frontier Labs"
    content = struct.pack("<I", len(vendor)) + vendor + struct.pack("<I", len(texts))
    return content + b"".join(struct.pack("<I", len(text)) + text for text in texts)


def flac(*blocks: tuple[int, bytes]) -> bytes:
    """Make the metadata blocks of a FLAC file, and what might be its sound."""
    every = [(0, bytes(34)), *blocks]
    coded = [
        bytes([kind | (0x80 if index == len(every) - 1 else 0)]) + len(content).to_bytes(3, "big") + content
        for index, (kind, content) in enumerate(every)
    ]
    return b"fLaC" + b"".join(coded) + SOUND


def origin_of(folder: Path, name: str, content: bytes) -> Origin:
    """Write a file, and read its origin."""
    path = folder / name
    path.write_bytes(content)
    return read_origin(Recording(str(path), name))
