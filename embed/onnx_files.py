"""What an ONNX file says of itself, read without any package: the files it draws on, and the operations it uses.

An ONNX file is a message of Protocol Buffers; only the few fields below are looked at, and no tensor is read.
The numbers are those of onnx.proto, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from birdemb.errors import InputError

__all__ = ["OnnxContents", "read_onnx_contents"]

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_LONGEST_VARINT = 10  # bytes, of a number of 64 bits
_NAMES = 1_000  # characters that a name may have to be looked at

_PARTS = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}
"""Of each kind of message, the fields that hold a message of another."""

_GRAPH_OF_MODEL = 7
_OPERATION_OF_NODE = 4
_NAME_OF_ATTRIBUTE, _INTEGER_OF_ATTRIBUTE = 1, 3
_KEY_OF_ENTRY, _VALUE_OF_ENTRY = 1, 2


@dataclass
class OnnxContents:
    """What an ONNX file says of itself.

    Parameters
    ----------
    outside : set of str
        The files that hold tensors of it, as it names them: from its own folder on.
    operations : set of str
        The operations it uses; of those with an attribute ``onesided`` that is set, ``"DFT (one-sided)"`` and so on.
    """

    outside: set[str] = field(default_factory=set)
    operations: set[str] = field(default_factory=set)


def read_onnx_contents(path: Path) -> OnnxContents:
    """Read what an ONNX file says of itself.

    Parameters
    ----------
    path : Path

    Returns
    -------
    OnnxContents

    Raises
    ------
    InputError
        If it is no ONNX file, or was cut short.
    """
    found = OnnxContents()
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            view = memoryview(content)
            try:
                graphs = _walk(view, found)
            finally:
                view.release()
    except (ValueError, OSError) as error:  # an empty file cannot be mapped
        raise InputError(
            f"{path} is no whole ONNX file: {getattr(error, 'strerror', None) or error}. It was cut short or is of "
            "another kind; get it again, or correct kind in the card."
        ) from error
    if not graphs:
        raise InputError(f"{path} is no ONNX file: it holds no graph. Correct weights.file or kind in the card.")
    return found


def _walk(view: memoryview, found: OnnxContents) -> int:
    """Go through all messages that matter; gives the number of graphs of the model itself."""
    graphs = 0
    waiting = [("model", 0, len(view))]
    while waiting:
        kind, start, end = waiting.pop()
        texts: dict[int, str] = {}
        onesided = False
        for number, wire, first, last in _fields(view, start, end):
            part = _PARTS[kind].get(number) if wire == _LENGTH else None
            if part is not None:
                graphs += kind == "model" and number == _GRAPH_OF_MODEL
                waiting.append((part, first, last))
                if kind == "node":
                    onesided |= _is_set(view, first, last, "onesided")
            elif wire == _LENGTH and kind in ("node", "entry") and last - first <= _NAMES:
                texts[number] = bytes(view[first:last]).decode("utf-8", "replace")
        if kind == "node" and _OPERATION_OF_NODE in texts:
            found.operations.add(texts[_OPERATION_OF_NODE] + (" (one-sided)" if onesided else ""))
        if kind == "entry" and texts.get(_KEY_OF_ENTRY) == "location":
            found.outside.add(texts.get(_VALUE_OF_ENTRY, ""))
    return graphs


def _is_set(view: memoryview, start: int, end: int, name: str) -> bool:
    """Tell whether an attribute of a node has this name and an integer that is not 0."""
    given, value = "", 0
    for number, wire, first, last in _fields(view, start, end):
        if number == _NAME_OF_ATTRIBUTE and wire == _LENGTH and last - first <= _NAMES:
            given = bytes(view[first:last]).decode("utf-8", "replace")
        elif number == _INTEGER_OF_ATTRIBUTE and wire == _VARINT:
            value, _ = _read_varint(view, first, last)
    return given == name and value != 0


def _fields(view: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Give number, wire type, first byte and end of each field of a message."""
    place = start
    while place < end:
        key, place = _read_varint(view, place, end)
        number, wire = key >> 3, key & 7
        first = place
        if wire == _VARINT:
            _, place = _read_varint(view, place, end)
        elif wire == _LENGTH:
            length, first = _read_varint(view, place, end)
            place = first + length
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            place += 8 if wire == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"no field can begin at byte {first:,}")
        if place > end:
            raise ValueError(f"it ends in the middle of what begins at byte {first:,}")
        yield number, wire, first, place


def _read_varint(view: memoryview, start: int, end: int) -> tuple[int, int]:
    """Give a number that is written seven bits a byte, and where the next thing begins."""
    value = 0
    for place in range(start, min(end, start + _LONGEST_VARINT)):
        value |= (view[place] & 0x7F) << (7 * (place - start))
        if view[place] < 0x80:
            return value, place + 1
    raise ValueError(f"it ends in the middle of what begins at byte {start:,}")
