"""TensorFlow Lite files with one more output: a tensor in the midst of the graph.

LiteRT gives the memory of what is in the midst to other tensors, and XNNPACK never fills it: what is read there is
none, or stale. The interpreter's flag that keeps all tensors costs a quarter of the speed, and seconds at the start. An
output is always kept, and to make one of a tensor changes one list in the file.

A file is a FlatBuffer, https://flatbuffers.dev/internals/: a table begins with the distance back to the list of where
its fields lie; strings, vectors and tables are reached by distances ahead. The numbers of the fields are those of
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

__all__ = ["add_outputs"]

_IDENTIFIER = b"TFL3"
_GRAPHS_OF_MODEL = 2
_OUTPUTS_OF_GRAPH = 2


def add_outputs(content: bytes, tensors: Sequence[int]) -> bytes:
    """Make tensors outputs of the first graph of a TensorFlow Lite file, behind those that it has.

    Parameters
    ----------
    content : bytes
        Of the file.
    tensors : sequence of int
        Their numbers.

    Returns
    -------
    bytes
        The content with a longer list of outputs behind its end.

    Raises
    ------
    ValueError
        If it is no TensorFlow Lite file.
    """
    try:
        if content[4:8] != _IDENTIFIER:
            raise ValueError("it does not begin as a TensorFlow Lite file")
        model = _follow(content, 0)
        graphs = _follow(content, _find_field(content, model, _GRAPHS_OF_MODEL))
        graph = _follow(content, graphs + 4)
        field = _find_field(content, graph, _OUTPUTS_OF_GRAPH)
        outputs = _follow(content, field)
        (count,) = struct.unpack_from("<I", content, outputs)
        numbers = [*struct.unpack_from(f"<{count}i", content, outputs + 4), *tensors]
    except struct.error as error:
        raise ValueError(f"it ends too early: {error}") from error
    longer = bytearray(content)
    longer += bytes(-len(longer) % 4)
    struct.pack_into("<I", longer, field, len(longer) - field)
    return bytes(longer) + struct.pack(f"<I{len(numbers)}i", len(numbers), *numbers)


def _follow(content: bytes, place: int) -> int:
    """Go as far ahead as the number at a place says."""
    (distance,) = struct.unpack_from("<I", content, place)
    return place + int(distance)


def _find_field(content: bytes, table: int, number: int) -> int:
    """Find where a field of a table lies."""
    (back,) = struct.unpack_from("<i", content, table)
    listed = table - back
    (size,) = struct.unpack_from("<H", content, listed)
    entry = 4 + 2 * number  # behind the sizes of list and table
    (offset,) = struct.unpack_from("<H", content, listed + entry) if entry < size else (0,)
    if not offset:
        raise ValueError(f"it lacks the field {number} of a table at byte {table:,}")
    return table + int(offset)
