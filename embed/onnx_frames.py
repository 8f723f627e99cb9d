"""What `birdemb.embed.frames` does, as nodes of an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence

from birdemb.onnx_building import GraphBuilder, import_optional

__all__ = ["add_cut", "add_frames", "add_level", "add_pooling"]


def add_frames(graph: GraphBuilder, windows: str, window: int, starts: Sequence[int], frame: int) -> str:
    """Add what cuts frames out of windows, as `birdemb.embed.frames.cut_frames` does.

    Parameters
    ----------
    graph : GraphBuilder
    windows : str
        Shape (n, window), float32.
    window : int
        Samples of a window.
    starts : sequence of int
        Where the frames begin in a window, in samples.
    frame : int
        Samples of a frame.

    Returns
    -------
    str
        Name of the frames, shape (n * len(starts), frame), those of a window one after the other.
    """
    short = max(starts) + frame - window
    if short > 0:
        windows = graph.add("Pad", windows, graph.add_integers(0, 0, 0, short), graph.add_number(0))
        window += short
    if len(starts) == 1 and frame == window:
        return windows
    side_by_side = graph.add("Concat", *(add_cut(graph, windows, start, frame) for start in starts), axis=1)
    return graph.add("Reshape", side_by_side, graph.add_integers(-1, frame))


def add_cut(graph: GraphBuilder, rows: str, start: int, length: int, axis: int = 1) -> str:
    """Add what cuts a piece out of each row.

    Parameters
    ----------
    graph : GraphBuilder
    rows : str
        Shape (n, samples), float32; or another one, with what is cut along `axis`.
    start, length : int
        In samples.
    axis : int

    Returns
    -------
    str
        Name of the pieces, shape (n, length), float32.
    """
    bounds = (graph.add_integers(value) for value in (start, start + length, axis))
    return graph.add("Slice", rows, *bounds)


def add_level(graph: GraphBuilder, frames: str, level: str, peak: float) -> str:
    """Add what brings each frame to a level, as `birdemb.embed.frames.set_level` does.

    Parameters
    ----------
    graph : GraphBuilder
    frames : str
        Shape (n, samples), float32.
    level, peak
        As of that function.

    Returns
    -------
    str
        Shape (n, samples), float32.
    """
    if level == "none":
        return frames
    if level == "centred-peak":
        types = import_optional("onnx").TensorProto
        mean = graph.add("ReduceMean", graph.add("Cast", frames, to=types.DOUBLE), axes=[1], keepdims=1)
        frames = graph.add("Sub", frames, graph.add("Cast", mean, to=types.FLOAT))
    largest = graph.add("ReduceMax", graph.add("Abs", frames), axes=[1], keepdims=1)
    has_sound = graph.add("Greater", largest, graph.add_number(0))
    divisor = graph.add("Where", has_sound, largest, graph.add_number(1))
    return graph.add("Mul", graph.add("Div", frames, divisor), graph.add_number(peak))


def add_pooling(graph: GraphBuilder, rows: str, count: int, width: int, pooling: str) -> str:
    """Add what makes one row of the rows of each window, as `birdemb.embed.frames.pool_rows` does.

    Parameters
    ----------
    graph : GraphBuilder
    rows : str
        Those of a window one after the other, whatever the axes: n * count * width values.
    count, width : int
        How many rows a window has, and how many values a row.
    pooling : str
        As of that function.

    Returns
    -------
    str
        Shape (n, width), or (n, 2 * width) with ``"mean+max"``.
    """
    if count == 1 and pooling != "mean+max":
        return graph.add("Reshape", rows, graph.add_integers(-1, width))
    of_windows = graph.add("Reshape", rows, graph.add_integers(-1, count, width))
    pooled = []
    if pooling != "max":
        pooled.append(graph.add("ReduceMean", of_windows, axes=[1], keepdims=0))
    if pooling in ("max", "mean+max"):
        pooled.append(graph.add("ReduceMax", of_windows, axes=[1], keepdims=0))
    return pooled[0] if len(pooled) == 1 else graph.add("Concat", *pooled, axis=1)
