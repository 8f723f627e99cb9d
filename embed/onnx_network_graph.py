"""Networks that a card describes as nodes of an ONNX graph, around the graph of their own ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from birdemb.embed.card import Tensors
from birdemb.embed.network_encoder import SMALLEST_PROBABILITY
from birdemb.embed.onnx_frames import add_frames, add_level, add_pooling
from birdemb.embed.onnx_part import bypass_sigmoid, keep_outputs, raise_opset, read_onnx_model, rename_with_prefix
from birdemb.embed.openvino_encoder import OpenVinoEncoder
from birdemb.errors import InputError
from birdemb.onnx_building import GraphBuilder, import_optional

if TYPE_CHECKING:
    import onnx

__all__ = ["add_network"]

_PREFIX = "network/"

Shape = tuple[int, ...]


def add_network(
    graph: GraphBuilder, encoder: OpenVinoEncoder, waveform: str, *, logits: bool = False
) -> tuple[str, str | None]:
    """Add an encoder whose network is an ONNX file to a graph, as `birdemb.embed.onnx_graph.add_encoder` adds any.

    Of the file's graph there is only what leads to what is asked for. Where the network hears one frame at a time, or
    a number of its own, so does it in the graph, in a loop.

    Parameters
    ----------
    graph : GraphBuilder
    encoder : OpenVinoEncoder
        In float32.
    waveform : str
        Name of the windows in the graph, shape (n, window_samples), float32: mono samples at the card's rate, full
        scale 1.
    logits : bool
        Whether the logits of the encoder's own classes are wanted, too.

    Returns
    -------
    embeddings : str
        Name of the embeddings, shape (n, dim), float32.
    logits : str or None
        Name of the logits, shape (n, own classes), float32; None where they are not wanted.

    Raises
    ------
    InputError
        If the network is no ONNX file, disagrees with its card, or cannot be brought to the graph's opset.
    """
    card, tensors = encoder.card, encoder.tensors
    encoder.prepare()  # first, as it refuses what disagrees with the card
    heard = encoder.hear_noise()
    shapes = [values.shape for values in (heard.embeddings, heard.logits) if values is not None]
    network, is_logit = _read_network(encoder, logits=logits)
    starts = [round(start * card.sample_rate) for start in encoder.frame_starts]
    frames = add_frames(graph, waveform, encoder.window_samples, starts, encoder.frame_samples)
    frames = add_level(graph, frames, card.level, card.level_peak)
    calls = _add_calls(graph, encoder, network, frames, shapes)
    embeddings, own, shape = calls[0], calls[-1], shapes[0]
    axis = tensors.embedding_axis % len(shape)
    if axis != len(shape) - 1:
        order = [*(index for index in range(len(shape)) if index != axis), axis]
        embeddings = graph.add("Transpose", embeddings, perm=order)
    rows = len(starts) * int(np.prod(shape[1:])) // card.network_dim
    pooled = add_pooling(graph, embeddings, rows, card.network_dim, card.pooling)
    if not logits:
        return pooled, None
    rows = len(starts) * int(np.prod(shapes[1][1:-1]))
    scaled = _add_scale(graph, tensors, own, is_logit=is_logit)
    return pooled, add_pooling(graph, scaled, rows, encoder.logits_width, "max")


def _read_network(encoder: OpenVinoEncoder, *, logits: bool) -> tuple[onnx.ModelProto, bool]:
    """Read the part of the file that is wanted, and tell whether its logits are such even if the card says otherwise.

    They are where the sigmoid could be left out: engines compute it by approximations that are off by a tenth where it
    is as small as 1e-6, as most of an encoder's classes are.
    """
    path, tensors = encoder.weights_path, encoder.tensors
    if path.suffix == ".xml":
        raise InputError(
            f"The encoder {encoder.card.name} cannot be exported to ONNX: {path.name} is an OpenVINO IR; expected an "
            "ONNX file. Embed and fit with the ONNX file that it was made of, or export the heads alone with "
            "--heads-only."
        )
    model = read_onnx_model(path)
    # The order of the outputs is that of the file in OpenVINO, too.
    names = [model.graph.output[number].name for number in encoder.outputs[: 2 if logits else 1]]
    is_logit = tensors.values == "logits"
    if logits and not is_logit:
        is_logit = bypass_sigmoid(model, names[1], names[:1])
    keep_outputs(model, list(dict.fromkeys(names)))  # one output may be both
    model = raise_opset(model, path)
    rename_with_prefix(model.graph, _PREFIX)
    return model, is_logit


def _add_calls(
    graph: GraphBuilder, encoder: OpenVinoEncoder, network: onnx.ModelProto, frames: str, shapes: Sequence[Shape]
) -> list[str]:
    """Let the network hear frames of shape (n, samples); gives its outputs, float32, with n as their first axis."""
    layout, at_once = encoder.tensors.layout, encoder.frames_at_once
    one_by_one = encoder.batch > 0 or at_once == 1
    count = _count_rows(graph, frames) if one_by_one and at_once > 1 else None
    if count is not None:
        frames = _fill_up(graph, frames, count, at_once)
    axes = [*([at_once] if one_by_one else []), *([1] if layout == "channel" else [])]
    if axes and layout != "single":
        frames = graph.add("Reshape", frames, graph.add_integers(-1, *axes, encoder.frame_samples))
    types = import_optional("onnx").TensorProto
    frames = _cast(graph, frames, types.FLOAT, network.graph.input[0].type.tensor_type.elem_type)
    kinds = [output.type.tensor_type.elem_type for output in network.graph.output]
    found = []
    names = graph.add_model(network, frames, one_by_one=one_by_one)
    for name, kind, shape in zip(names, kinds, shapes, strict=False):
        rows = _cast(graph, name, kind, types.FLOAT)
        if one_by_one:
            rows = graph.add("Reshape", rows, graph.add_integers(-1, *shape[1:]))
        if count is not None:
            rows = graph.add("Slice", rows, graph.add_integers(0), count, graph.add_integers(0))
        found.append(rows)
    return found


def _cast(graph: GraphBuilder, value: str, kind: int, wanted: int) -> str:
    return value if kind == wanted else graph.add("Cast", value, to=wanted)


def _count_rows(graph: GraphBuilder, values: str) -> str:
    first = graph.add_integers(0), graph.add_integers(1)
    return graph.add("Slice", graph.add("Shape", values), *first)


def _fill_up(graph: GraphBuilder, frames: str, count: str, at_once: int) -> str:
    """Add silent frames, until the network can hear all in calls of as many as it was made for."""
    whole = graph.add_integers(at_once)
    lacking = graph.add("Mod", graph.add("Neg", count), whole)
    none = graph.add_integers(0)
    pads = graph.add("Concat", none, none, lacking, none, axis=0)
    return graph.add("Pad", frames, pads, graph.add_number(0))


def _add_scale(graph: GraphBuilder, tensors: Tensors, logits: str, *, is_logit: bool) -> str:
    """Make logits, for a sigmoid, of what the card says that an output holds."""
    if tensors.values == "probabilities":
        least = np.float64(SMALLEST_PROBABILITY)
        if is_logit:
            limit = float(np.log(1 - least) - np.log(least))
            logits = graph.add("Clip", logits, graph.add_number(-limit), graph.add_number(limit))
        else:
            types = import_optional("onnx").TensorProto
            limits = [graph.add_constant(np.array(value)) for value in (least, 1 - least)]
            inside = graph.add("Clip", graph.add("Cast", logits, to=types.DOUBLE), *limits)
            absent = graph.add("Sub", graph.add_constant(np.array(1.0)), inside)
            difference = graph.add("Sub", graph.add("Log", inside), graph.add("Log", absent))
            logits = graph.add("Cast", difference, to=types.FLOAT)
    if tensors.scale != 1:
        logits = graph.add("Mul", logits, graph.add_number(tensors.scale))
    return graph.add("Add", logits, graph.add_number(tensors.shift)) if tensors.shift else logits
