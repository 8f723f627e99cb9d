"""A network that is an ONNX model of its own, called in a larger graph: with all frames, or with some at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from birdemb.embed.network_encoder import NetworkEncoder
from birdemb.embed.onnx_network_graph import Shape
from birdemb.embed.onnx_part import bypass_sigmoid, keep_outputs, raise_opset, rename_with_prefix
from birdemb.onnx_building import GraphBuilder, import_optional

if TYPE_CHECKING:
    import onnx

__all__ = ["add_calls", "cut_network"]

_PREFIX = "network/"


def cut_network(
    model: onnx.ModelProto, outputs: Sequence[str], encoder: NetworkEncoder
) -> tuple[onnx.ModelProto, bool]:
    """Leave of an encoder's network what leads to some outputs, under names that nothing else has.

    Parameters
    ----------
    model : onnx.ModelProto
        May be changed.
    outputs : sequence of str
        The embedding and, where they are wanted, the logits.
    encoder : NetworkEncoder

    Returns
    -------
    onnx.ModelProto
    is_logit : bool
        Whether these logits are such though the card calls them probabilities. They are where the sigmoid could be left
        out: engines compute it by approximations that are off by a tenth where it is as small as 1e-6, as most of an
        encoder's classes are.

    Raises
    ------
    InputError
        If it cannot be brought to the graph's opset.
    """
    is_logit = False
    if len(outputs) > 1 and encoder.tensors.values == "probabilities":
        is_logit = bypass_sigmoid(model, outputs[1], outputs[:1])
    keep_outputs(model, list(dict.fromkeys(outputs)))  # one output may be both
    model = raise_opset(model, encoder.weights_path)
    rename_with_prefix(model.graph, _PREFIX)
    return model, is_logit


def add_calls(
    graph: GraphBuilder,
    encoder: NetworkEncoder,
    network: onnx.ModelProto,
    frames: str,
    shapes: Sequence[Shape],
    *,
    fixed: bool = False,
) -> list[str]:
    """Let a network hear frames. One that hears one at a time, or a number of its own, does so in a loop.

    Parameters
    ----------
    graph : GraphBuilder
    encoder : NetworkEncoder
    network : onnx.ModelProto
        As `cut_network` leaves it.
    frames : str
        Shape (n, frame_samples), float32.
    shapes : sequence of Shape
        Of its outputs, as `birdemb.embed.onnx_network_graph.hear_shapes` gives them.
    fixed : bool
        Whether it hears `frames_at_once` frames at a time, and no other number.

    Returns
    -------
    list of str
        Names of the embedding and, if they are among its outputs, the logits: float32, with n as their first axis. The
        same name twice where one output is both.
    """
    layout, at_once = encoder.tensors.layout, encoder.frames_at_once
    one_by_one = fixed or at_once == 1
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
