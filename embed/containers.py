"""Whether an audio file is whole, told by its container: libsndfile reads what is there and says nothing.

A recorder whose battery died, a copy that broke off, a disk that was full: such a file decodes without an error and
is shorter than the recording was.
"""

from __future__ import annotations

import io
import math
import re

import soundfile

from birdemb.errors import RecordingError

__all__ = ["can_be_split", "leaves_length_open", "refuse_missing_end", "refuse_short_container"]

_MISSING_SECONDS = 0.1  # MP3 headers count a little more than decoders give
# What programs that stream into a pipe write as the length: sox 0x7FFFF000, ffmpeg 0xFFFFFFFF, arecord 0x80000000.
# A few kilobytes less, as they round it down to whole samples or leave room for the header.
_UNKNOWN_LENGTHS = (range(1), range(0x7FFF_F000, 0x8000_0001), range(0xFFFF_F000, 0x1_0000_0000))
_UNKNOWN_FRAMES = 2**63 - 1  # libsndfile's, of a FLAC that was written into a pipe
# libsndfile reads on to the end of a file that is shorter than its header says, and notes it in its log.
_SHORTER_THAN_HEADER = re.compile(
    r"^\s*(?:data|SSND|Data Size|[Rr]iff(?: size)?) *: (\d+) \(should be (\d+)\)", re.MULTILINE
)
_LONGEST_OGG_PAGE = 27 + 255 + 255 * 255
# Bytes of a sample, of the codings that libsndfile seeks in to the sample, with the same sound as without seeking.
_PLAIN_CODINGS = {
    "PCM_S8": 1,
    "PCM_U8": 1,
    "PCM_16": 2,
    "PCM_24": 3,
    "PCM_32": 4,
    "FLOAT": 4,
    "DOUBLE": 8,
    "ULAW": 1,
    "ALAW": 1,
}
_LONGEST_FLAC_BLOCK, _SHORTEST_FLAC_FRAME = 65_535, 9
_LENGTH_TAGS = (b"Xing", b"Info", b"VBRI")  # of MP3: in the first frame, where there is one


def refuse_short_container(file: soundfile.SoundFile, raw: io.RawIOBase) -> None:
    """Refuse a file that is shorter than its container says, as far as that can be seen before decoding.

    Parameters
    ----------
    file : SoundFile
        Opened on `raw`, nothing decoded yet.
    raw : RawIOBase
        The file's bytes. Its position is left as it was.

    Raises
    ------
    RecordingError
        If bytes are missing at the end.
    """
    for declared, present in _SHORTER_THAN_HEADER.findall(file.extra_info):
        if int(declared) > int(present) and not any(int(declared) in lengths for lengths in _UNKNOWN_LENGTHS):
            raise RecordingError("decode", f"cut short: {present} of the {declared} bytes that its header promises")
    if file.format == "OGG" and not _has_last_page(raw):
        raise RecordingError("decode", "cut short: its Ogg stream has no last page")


def leaves_length_open(file: soundfile.SoundFile) -> bool:
    """Tell whether a header does not say how long the file is: it came through a pipe, or is still being written.

    Parameters
    ----------
    file : SoundFile
        Opened, nothing decoded yet.
    """
    return int(file.frames) in (0, _UNKNOWN_FRAMES) or any(
        int(declared) in lengths
        for declared, _ in _SHORTER_THAN_HEADER.findall(file.extra_info)
        for lengths in _UNKNOWN_LENGTHS
    )


def can_be_split(file: soundfile.SoundFile, raw: io.RawIOBase, size: int) -> bool:
    """Tell whether the length in a header can be trusted, and seeking in it gives the same sound as reading on.

    Parameters
    ----------
    file : SoundFile
        Opened on `raw`, nothing decoded yet.
    raw : RawIOBase
        The file's bytes. Its position is left as it was.
    size : int
        Of the file, in bytes.
    """
    if _SHORTER_THAN_HEADER.search(file.extra_info):
        return False
    if file.format == "FLAC":
        return int(file.frames) <= size * _LONGEST_FLAC_BLOCK // _SHORTEST_FLAC_FRAME
    if file.format == "OGG":
        return file.subtype in ("VORBIS", "OPUS") and _has_last_page(raw)
    if file.format == "MP3":
        return _tells_length(raw)
    return bool(file.frames * file.channels * _PLAIN_CODINGS.get(file.subtype, math.inf) <= size)


def refuse_missing_end(file: soundfile.SoundFile, raw: io.RawIOBase, samples: int) -> None:
    """Refuse a file of which less could be decoded than there is or was.

    Parameters
    ----------
    file : SoundFile
        Opened on `raw`, decoded to its end.
    raw : RawIOBase
        The file's bytes. Its position is changed.
    samples : int
        Samples per channel that were decoded.

    Raises
    ------
    RecordingError
        If the header promises more, or audio follows behind the place where libsndfile stopped.
    """
    if file.format == "MP3" and not _tells_length(raw):
        # libsndfile guesses the length from the first frame's bit rate and stops there, right or wrong.
        file.seek(samples)  # back to the frame behind the last one: it has read ahead
        following = raw.read(2)
        if len(following) == 2 and following[0] == 0xFF and following[1] & 0xE0 == 0xE0:
            raise RecordingError(
                "decode",
                f"libsndfile stops after {samples / file.samplerate:.1f} s, as the MP3's header does not tell its "
                "length and its bit rate varies; convert it to FLAC",
            )
        return
    if file.frames == _UNKNOWN_FRAMES:
        return
    promised = file.frames / file.samplerate
    missing = promised - samples / file.samplerate
    if missing > (0 if file.format == "FLAC" else _MISSING_SECONDS):
        raise RecordingError(
            "decode", f"cut short: {missing:.1f} s of the {promised:.1f} s that its header promises are missing"
        )


def _has_last_page(raw: io.RawIOBase) -> bool:
    """Tell whether the last page of an Ogg file is whole and carries the end-of-stream flag (RFC 3533, section 6)."""
    tail = _read_at(raw, -_LONGEST_OGG_PAGE, _LONGEST_OGG_PAGE)
    start = tail.rfind(b"OggS")
    if start < 0 or len(tail) < start + 27:
        return False
    flags, segments = tail[start + 5], tail[start + 26]
    page = 27 + segments + sum(tail[start + 27 : start + 27 + segments])
    return bool(flags & 4) and len(tail) >= start + page


def _tells_length(raw: io.RawIOBase) -> bool:
    """Tell whether the first frame of an MP3 file says how many frames there are."""
    head = _read_at(raw, 0, 10)
    # An ID3v2 tag in front (id3.org, ID3v2.4 section 3.1): its size is in four bytes of seven bits.
    tag = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))
    first_frame = _read_at(raw, tag if head.startswith(b"ID3") else 0, 4096)
    return any(name in first_frame for name in _LENGTH_TAGS)


def _read_at(raw: io.RawIOBase, start: int, count: int) -> bytes:
    """Read bytes from a place, counted from the end where it is negative."""
    position = raw.tell()
    try:
        raw.seek(start if start >= 0 else max(0, raw.seek(0, io.SEEK_END) + start))
        return raw.read(count) or b""
    finally:
        raw.seek(position)
