"""OpenVINO's models as nodes of an ONNX graph, operation by operation.

Only what the encoders' networks are made of is known here; anything else is refused by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from birdemb.errors import InputError
from birdemb.onnx_building import GraphBuilder

__all__ = ["translate_model"]


def translate_model(
    model: ov.Model, graph: GraphBuilder, known: Mapping[str, str], outputs: Sequence[int] = (0,)
) -> list[str]:
    """Add a model to a graph.

    Sizes that are open in the model stay open in the graph. A reshape takes its shape from what OpenVINO knows of
    its output, so that the nodes that compute shapes have no counterpart.

    Parameters
    ----------
    model : openvino.Model
    graph : GraphBuilder
    known : mapping of str to str
        Values that are in the graph already, by the unique names (`get_name`) of the nodes that give them: all
        parameters that the outputs depend on, or what lies between them and these.
    outputs : sequence of int
        Which of the model's outputs are wanted. What leads to none of them is left out.

    Returns
    -------
    list of str
        Their names.

    Raises
    ------
    InputError
        If the model has an operation that has no translation here.
    """
    results = [model.get_results()[output].input_value(0).get_node() for output in outputs]
    names, needed = dict(known), _find_needed(results, known)
    for node in model.get_ordered_ops():
        if node.get_name() in needed:
            names[node.get_name()] = _translate(node, graph, names)
    return [names[result.get_name()] for result in results]


def _find_needed(results: Sequence[ov.Node], known: Mapping[str, str]) -> set[str]:
    """List the nodes that have to be translated for results."""
    needed: set[str] = set()
    waiting = list(results)
    while waiting:
        node = waiting.pop()
        if node.get_name() in needed or node.get_name() in known:
            continue
        needed.add(node.get_name())
        waiting += [node.input_value(port).get_node() for port in range(_count_inputs(node))]
    return needed


def _count_inputs(node: ov.Node) -> int:
    """Count the inputs whose values are nodes of the ONNX graph; the others are read when the node is translated."""
    kind = node.get_type_name()
    return 1 if kind in _READS_ONE_INPUT else len(node.inputs())


def _translate(node: ov.Node, graph: GraphBuilder, names: Mapping[str, str]) -> str:
    kind = node.get_type_name()
    sources = [node.input_value(port) for port in range(_count_inputs(node))]
    if any(source.get_index() for source in sources):
        raise _refuse(node, "of another operation's second output")
    inputs = [names[source.get_node().get_name()] for source in sources]
    if kind == "Constant":
        return graph.add_constant(node.data)
    if kind in _SAME_NAMES:
        if node.get_attributes().get("auto_broadcast", "numpy") != "numpy":
            raise _refuse(node, "with an unusual broadcast")
        return graph.add(_SAME_NAMES[kind], *inputs)
    if kind not in _TRANSLATIONS:
        raise _refuse(node)
    return _TRANSLATIONS[kind](node, graph, inputs)


def _refuse(node: ov.Node, what: str = "") -> InputError:
    return InputError(
        f"The network cannot be exported to ONNX: its operation {' '.join([node.get_type_name(), what]).strip()} "
        f"({node.get_friendly_name()}) has no translation. Export the heads alone with --heads-only."
    )


def _constant_input(node: ov.Node, port: int) -> NDArray[Any]:
    source = node.input_value(port).get_node()
    if source.get_type_name() != "Constant":
        raise _refuse(node, f"whose input {port} is computed")
    values: NDArray[Any] = source.data
    return values


def _spatial_sizes(node: ov.Node, partial_shape: ov.PartialShape) -> list[int]:
    sizes = [partial_shape[axis] for axis in range(2, partial_shape.rank.get_length())]
    if any(size.is_dynamic for size in sizes):
        raise _refuse(node, "on images of open size")
    return [size.get_length() for size in sizes]


def _paddings(node: ov.Node, kernel: list[int]) -> list[int]:
    """Give the zeros before each spatial axis and then those behind, as ONNX wants them."""
    attributes = node.get_attributes()
    if attributes["auto_pad"] == "valid":
        return [0] * (2 * len(kernel))
    if attributes["auto_pad"] == "explicit":
        return [*attributes["pads_begin"], *attributes["pads_end"]]
    if attributes["auto_pad"] != "same_upper":
        raise _refuse(node, f"with padding {attributes['auto_pad']}")
    before = _spatial_sizes(node, node.get_input_partial_shape(0))
    after = _spatial_sizes(node, node.get_output_partial_shape(0))
    geometry = zip(before, after, kernel, attributes["strides"], attributes["dilations"], strict=True)
    total = [
        max(0, (out - 1) * stride + (size - 1) * dilation + 1 - into) for into, out, size, stride, dilation in geometry
    ]
    return [zeros // 2 for zeros in total] + [zeros - zeros // 2 for zeros in total]


def _convolve(node: ov.Node, graph: GraphBuilder, inputs: list[str]) -> str:
    weights, groups = _constant_input(node, 1), 1
    if node.get_type_name() == "GroupConvolution":
        groups = weights.shape[0]
        weights = weights.reshape(groups * weights.shape[1], *weights.shape[2:])
    attributes, kernel = node.get_attributes(), list(weights.shape[2:])
    return graph.add(
        "Conv",
        inputs[0],
        graph.add_constant(weights),
        dilations=list(attributes["dilations"]),
        group=groups,
        kernel_shape=kernel,
        pads=_paddings(node, kernel),
        strides=list(attributes["strides"]),
    )


def _pool(node: ov.Node, graph: GraphBuilder, inputs: list[str]) -> str:
    attributes = node.get_attributes()
    zeros = [*attributes["pads_begin"], *attributes["pads_end"]]
    if attributes["auto_pad"] not in ("valid", "explicit") or any(zeros) or attributes["rounding_type"] != "floor":
        raise _refuse(node, "with padding")
    if any(dilation != 1 for dilation in attributes.get("dilations", [])):
        raise _refuse(node, "with dilation")
    kind = {"MaxPool": "MaxPool", "AvgPool": "AveragePool"}[node.get_type_name()]
    return graph.add(kind, inputs[0], kernel_shape=list(attributes["kernel"]), strides=list(attributes["strides"]))


def _pad(node: ov.Node, graph: GraphBuilder, inputs: list[str]) -> str:
    if node.get_attributes()["pad_mode"] != "constant":
        raise _refuse(node, f"of mode {node.get_attributes()['pad_mode']}")
    pads = np.concatenate([_constant_input(node, 1), _constant_input(node, 2)]).astype(np.int64)
    return graph.add("Pad", inputs[0], graph.add_constant(pads), graph.add_constant(_constant_input(node, 3)))


def _reshape(node: ov.Node, graph: GraphBuilder, inputs: list[str]) -> str:
    shape = node.get_output_partial_shape(0)
    sizes = [-1 if size.is_dynamic else size.get_length() for size in shape]
    if sizes.count(-1) > 1:
        raise _refuse(node, f"to the shape {shape}")
    return graph.add("Reshape", inputs[0], graph.add_integers(*sizes))


def _reduce(node: ov.Node, graph: GraphBuilder, inputs: list[str]) -> str:
    axes = [int(axis) for axis in _constant_input(node, 1).ravel()]
    return graph.add(node.get_type_name(), inputs[0], axes=axes, keepdims=int(node.get_attributes()["keep_dims"]))


def _clip(node: ov.Node, graph: GraphBuilder, inputs: list[str]) -> str:
    limits = [graph.add_number(node.get_attributes()[key]) for key in ("min", "max")]
    return graph.add("Clip", inputs[0], *limits)


def _transpose(node: ov.Node, graph: GraphBuilder, inputs: list[str]) -> str:
    return graph.add("Transpose", inputs[0], perm=[int(axis) for axis in _constant_input(node, 1)])


def _unsqueeze(node: ov.Node, graph: GraphBuilder, inputs: list[str]) -> str:
    return graph.add("Unsqueeze", inputs[0], graph.add_integers(*map(int, _constant_input(node, 1).ravel())))


def _concatenate(node: ov.Node, graph: GraphBuilder, inputs: list[str]) -> str:
    return graph.add("Concat", *inputs, axis=int(node.get_attributes()["axis"]))


def _multiply_matrices(node: ov.Node, graph: GraphBuilder, inputs: list[str]) -> str:
    attributes = node.get_attributes()
    for port, key in enumerate(("transpose_a", "transpose_b")):
        if attributes[key]:
            axes = list(range(node.get_input_partial_shape(port).rank.get_length()))
            inputs[port] = graph.add("Transpose", inputs[port], perm=[*axes[:-2], axes[-1], axes[-2]])
    return graph.add("MatMul", *inputs)


_SAME_NAMES = {
    kind: kind for kind in ("Abs", "Add", "Divide", "Exp", "Log", "Multiply", "Power", "Relu", "Sigmoid", "Subtract")
} | {"Divide": "Div", "Multiply": "Mul", "Power": "Pow", "Subtract": "Sub"}
"""OpenVINO's name -> ONNX's, where the operation is the same for numbers of float32."""

_TRANSLATIONS: dict[str, Callable[[ov.Node, GraphBuilder, list[str]], str]] = {
    "AvgPool": _pool,
    "Clamp": _clip,
    "Concat": _concatenate,
    "Convolution": _convolve,
    "GroupConvolution": _convolve,
    "MatMul": _multiply_matrices,
    "MaxPool": _pool,
    "Pad": _pad,
    "ReduceMax": _reduce,
    "ReduceMean": _reduce,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}

_READS_ONE_INPUT = {
    "AvgPool", "Convolution", "GroupConvolution", "MaxPool", "Pad", "ReduceMax", "ReduceMean", "Reshape", "Transpose",
    "Unsqueeze",
}  # fmt: skip
