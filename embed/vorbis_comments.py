"""The comments in FLAC and Ogg files, read without their sound and without trust."""

from __future__ import annotations

import struct

from birdemb.embed.chunks import LONGEST_CHUNK, BoundedFile

__all__ = ["read_flac", "read_ogg_comments"]

_MOST_BLOCKS = 128
_APPLICATION, _VORBIS_COMMENT = 2, 4
_LONGEST_OGG_COMMENTS = 1 << 16
_MOST_COMMENTS = 1000
_MOST_PAGES = 256
_OGG_STARTS = (b"\x03vorbis", b"OpusTags")


def read_flac(file: BoundedFile) -> tuple[dict[str, str], dict[bytes, bytes]]:
    """Read what the metadata blocks of a FLAC file tell (RFC 9639, section 8).

    Parameters
    ----------
    file : BoundedFile

    Returns
    -------
    comments : dict of str
        By their names in upper case. Empty where the file is no FLAC.
    chunks : dict of bytes
        The chunks of the WAV file that it was made from, where ``flac --keep-foreign-metadata`` has kept them.
    """
    comments: dict[str, str] = {}
    chunks: dict[bytes, bytes] = {}
    if file.read_at(0, 4) != b"fLaC":
        return comments, chunks
    position = 4
    for _ in range(_MOST_BLOCKS):
        header = file.read_at(position, 4)
        if len(header) < 4:
            break
        kind, size = header[0] & 0x7F, int.from_bytes(header[1:])
        if kind == _VORBIS_COMMENT:
            comments = _parse(file.read_at(position + 4, min(size, LONGEST_CHUNK))) | comments
        elif kind == _APPLICATION and file.read_at(position + 4, 4) == b"riff":
            # One chunk in each block: its name, its size and its content.
            content = file.read_at(position + 8, min(max(size - 4, 0), LONGEST_CHUNK))
            if len(content) > 8:
                length = struct.unpack_from("<I", content, 4)[0]
                chunks.setdefault(content[:4], content[8 : 8 + length])
        if header[0] & 0x80:
            break
        position += 4 + size
    return comments, chunks


def read_ogg_comments(file: BoundedFile) -> dict[str, str]:
    """Read the comments of an Ogg file that holds Vorbis or Opus.

    They are the second packet (Vorbis I specification, section 4.2; RFC 7845, section 5), in pages of RFC 3533.

    Parameters
    ----------
    file : BoundedFile

    Returns
    -------
    dict of str
        By their names in upper case. Empty where the file is no such Ogg.
    """
    packet = _second_packet(file)
    for start in _OGG_STARTS:
        if packet.startswith(start):
            return _parse(packet[len(start) :])
    return {}


def _second_packet(file: BoundedFile) -> bytes:
    """Put the second packet together out of the pages; what there is of it where it is very long or cut short."""
    packet, ended, position, serial = b"", 0, 0, None
    for _ in range(_MOST_PAGES):
        header = file.read_at(position, 27)
        if len(header) < 27 or header[:4] != b"OggS" or len(packet) > _LONGEST_OGG_COMMENTS:
            break
        lengths = file.read_at(position + 27, header[26])
        content = file.read_at(position + 27 + header[26], sum(lengths))
        position += 27 + header[26] + sum(lengths)
        serial = header[14:18] if serial is None else serial
        if header[14:18] != serial:
            continue
        start = 0
        for length in lengths:
            if ended == 1:
                packet += content[start : start + length]
            start += length
            ended += length < 255
            if ended == 2:
                return packet
    return packet


def _parse(content: bytes) -> dict[str, str]:
    """Read comments (Vorbis I specification, section 5): little-endian lengths, each before its text."""
    found: dict[str, str] = {}
    if len(content) < 8:
        return found
    position = 4 + struct.unpack_from("<I", content)[0]  # who has written them
    if position + 4 > len(content):
        return found
    count = struct.unpack_from("<I", content, position)[0]
    position += 4
    for _ in range(min(count, _MOST_COMMENTS)):
        if position + 4 > len(content):
            break
        length = struct.unpack_from("<I", content, position)[0]
        text = content[position + 4 : position + 4 + length].decode(errors="replace")
        name, _, value = text.partition("=")
        found.setdefault(name.upper(), value)
        position += 4 + length
    return found
