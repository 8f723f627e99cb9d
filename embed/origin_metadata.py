"""When and where a recording was made, as what recorders write into its file tells."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator

from birdemb.embed.chunks import BoundedFile, read_chunks
from birdemb.embed.clues import Clue, clean_text, make_position, make_time, parse_time
from birdemb.embed.vorbis_comments import read_flac, read_ogg_comments
from birdemb.origin import parse_offset

__all__ = ["read_metadata"]

_WANTED = frozenset({b"guan", b"wamd", b"LIST", b"bext"})
_AUDIOMOTH = re.compile(
    r"Recorded at (?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d) (?P<day>\d\d)/(?P<month>\d\d)/(?P<year>\d{4})"
    r"(?: \(UTC(?P<offset>[+-]\d{1,2}(?:: ?\d{1,2})?)?(?P<stated>\)))?"
    r"(?: by AudioMoth (?P<serial>[0-9A-Fa-f]{16}))?"
)
_WAMD_VERSION, _WAMD_MODEL, _WAMD_SERIAL, _WAMD_NAME = 0, 1, 2, 4
_WAMD_START, _WAMD_FIRST_POSITION, _WAMD_LAST_POSITION = 5, 6, 0x14
_WAMD_TEXTS = (_WAMD_MODEL, _WAMD_SERIAL, _WAMD_NAME, _WAMD_START, _WAMD_FIRST_POSITION, _WAMD_LAST_POSITION)
_MOST_ITEMS = 1000
_FREE_TEXTS = ("ICMT", "COMMENT", "DESCRIPTION")
_DATES = ("RECORDED_AT", "DATE", "ICRD")


def read_metadata(raw: io.RawIOBase) -> list[Clue]:
    """Read what a recording's file tells of when and where it was made.

    Of WAV files (RIFF, RF64, Wave64) the chunks of GUANO, WAMD and broadcast extension and the comments; of FLAC and
    Ogg the comments. No more than 1 MiB is read, and never the sound; what is damaged tells nothing.

    Parameters
    ----------
    raw : RawIOBase
        The file's bytes; its position is changed.

    Returns
    -------
    list of Clue
        The most trustworthy first; without those that tell nothing.
    """
    file = BoundedFile(raw)
    chunks = read_chunks(file, _WANTED)
    comments, kept = read_flac(file)
    chunks = chunks or kept
    comments = _read_info(chunks.get(b"LIST", b"")) | comments | read_ogg_comments(file)
    return [clue for clue in _read(chunks, comments) if _tells(clue)]


def _read(chunks: dict[bytes, bytes], comments: dict[str, str]) -> Iterator[Clue]:
    if b"guan" in chunks:
        yield _read_guano(chunks[b"guan"])
    if b"wamd" in chunks:
        yield _read_wamd(chunks[b"wamd"])
    yield from (_read_audiomoth(comments[name]) for name in _FREE_TEXTS if name in comments)
    if comments:
        yield _read_frontier_labs(comments)
    for name in _DATES:
        if name in comments:
            yield Clue(f"comment {name}", start=parse_time(comments[name]), any_program=True)
    if b"bext" in chunks:
        yield _read_bext(chunks[b"bext"])


def _tells(clue: Clue) -> bool:
    return any(part is not None for part in (clue.start, clue.position, clue.site, clue.recorder))


def _read_guano(content: bytes) -> Clue:
    """Read a GUANO chunk: lines of UTF-8, each a key, a colon and a value (guano-md.org, version 1.0)."""
    fields: dict[str, str] = {}
    for line in content.decode(errors="replace").strip("\0").split("\n", _MOST_ITEMS)[:_MOST_ITEMS]:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip(" \t\r\0"))
    return Clue(
        "GUANO",
        start=parse_time(fields.get("Timestamp", "")),
        position=_read_pair(fields.get("Loc Position", "")),
        site=_name_site(fields.get("WA|Song Meter|Prefix", ""), fields.get("Serial", "")),
        recorder=_join(fields.get("Model"), fields.get("Serial")),
    )


def _read_wamd(content: bytes) -> Clue:
    """Read a WAMD chunk (Wildlife Acoustics' wa_meta.h, version 1): items of a number, a length and a value."""
    items: dict[int, bytes] = {}
    position = 0
    for _ in range(_MOST_ITEMS):
        if position + 6 > len(content):
            break
        number, length = struct.unpack_from("<HI", content, position)
        items.setdefault(number, content[position + 6 : position + 6 + length])
        position += 6 + length
    if items.get(_WAMD_VERSION) != b"\x01\x00":
        return Clue("WAMD")
    texts = {number: items.get(number, b"").decode(errors="replace").strip(" \0") for number in _WAMD_TEXTS}
    position_told = _read_waypoint(texts[_WAMD_FIRST_POSITION]) or _read_waypoint(texts[_WAMD_LAST_POSITION])
    return Clue(
        "WAMD",
        start=parse_time(texts[_WAMD_START]),
        position=position_told,
        site=_name_site(texts[_WAMD_NAME], texts[_WAMD_SERIAL]),
        recorder=_join(texts[_WAMD_MODEL], texts[_WAMD_SERIAL]),
    )


def _name_site(prefix: str, serial: str) -> str | None:
    """Give what a Song Meter puts in front of its files' names; unless somebody sets it, its serial number."""
    return clean_text(prefix) if clean_text(prefix) != clean_text(serial) else None


def _read_waypoint(text: str) -> tuple[float, float] | None:
    """Read ``WGS84,41.5,N,121.25,W,4200``, or ``WGS84,41.5,-121.25`` as Echo Meter Touch writes it."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) >= 5 and parts[2] in ("N", "S") and parts[4] in ("E", "W"):
        south, west = "-" * (parts[2] == "S"), "-" * (parts[4] == "W")
        return make_position(south + parts[1], west + parts[3])
    return make_position(parts[1], parts[2]) if len(parts) >= 3 else None


def _read_audiomoth(text: str) -> Clue:
    """Read the comment that AudioMoth's firmware writes, from 1.0 on; many programs that convert sound keep it."""
    match = _AUDIOMOTH.search(text[:4096])
    if match is None:
        return Clue("AudioMoth comment")
    # Firmware 1.0 does not say of which zone its time is.
    offset = (match["offset"] or "UTC").replace(" ", "") if match["stated"] else None
    start = make_time(
        *(int(match[part]) for part in ("year", "month", "day", "hour", "minute", "second")),
        zone=parse_offset(offset) if offset else None,
    )
    return Clue("AudioMoth comment", start=start, recorder=_join("AudioMoth", match["serial"]))


def _read_frontier_labs(comments: dict[str, str]) -> Clue:
    """Read the comments that Frontier Labs' recorders write into FLAC files."""
    return Clue(
        "Frontier Labs comments",
        start=parse_time(comments.get("RECORDINGSTART", "")),
        position=_read_pair(comments.get("SENSORLOCATION", "")),
        recorder=clean_text(comments.get("SENSORUID", "")),
    )


def _read_bext(content: bytes) -> Clue:
    """Read a broadcast extension (EBU Tech 3285): a day and a time of day at fixed places, between any separators."""
    day = re.fullmatch(rb"(\d{4}).(\d\d).(\d\d)", content[320:330], re.DOTALL)
    time = re.fullmatch(rb"(\d\d).(\d\d).(\d\d)", content[330:338], re.DOTALL)
    if day is None or time is None:
        return Clue("bext")
    return Clue("bext", start=make_time(*map(int, (*day.groups(), *time.groups()))), any_program=True)


def _read_info(content: bytes) -> dict[str, str]:
    """Read the comments in a LIST chunk of the kind INFO."""
    found: dict[str, str] = {}
    position = 4
    for _ in range(_MOST_ITEMS):
        if position + 8 > len(content):
            break
        name, length = struct.unpack_from("<4sI", content, position)
        text = content[position + 8 : position + 8 + length].decode(errors="replace").partition("\0")[0]
        found.setdefault(name.decode("latin-1"), text)
        position += 8 + length + length % 2
    return found


def _read_pair(text: str) -> tuple[float, float] | None:
    """Read two numbers: parted by a blank or a comma, or by the sign of the second."""
    numbers = re.findall(r"[+-]?\d+(?:\.\d+)?", text[:200])
    return make_position(numbers[0], numbers[1]) if len(numbers) >= 2 else None


def _join(*parts: str | None) -> str | None:
    return clean_text(" ".join(filter(None, parts)))
