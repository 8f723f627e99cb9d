"""Weights on disk in fewer bits than they compute with: 8-bit integers with a scale, or half precision.

Packed weights are turned back into float32 when a network is read. OpenVINO would do so by itself while it compiles,
but in 2026.4 fails at the 1x1 convolutions of squeeze-and-excite whose weights are 8-bit integers
(`ConvertWeightCompressedConv1x1ToMatmul` expects an input of four axes in front of a reshaping). What computes with
integers, as NNCF made it, is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from numpy.typing import NDArray

__all__ = ["pack", "unpack"]

_PREFIX = "packed_"
_LARGEST_INTEGER = 127
_FEWEST = 256  # values; of less, the names in the graph take more than is saved


def pack(layers: Sequence[ov.Node], bits: int) -> None:
    """Replace the weights of layers, in place, by ones that take fewer bits on disk.

    Parameters
    ----------
    layers : sequence of openvino.Node
        Convolutions and matrix products; those without float32 weights of their own stay as they are.
    bits : {8, 16}
        8 for integers from -127 to 127 and a scale for each channel that the layer gives, 16 for half precision.
    """
    for layer in layers:
        weights = layer.input_value(1).get_node()
        if weights.get_type_name() != "Constant" or weights.get_element_type() != ov.Type.f32:
            continue
        values = weights.data
        if values.size < _FEWEST:
            continue
        name = layer.get_friendly_name()
        if bits == 16:
            packed = _convert(values.astype(np.float16), name)
        else:
            axes = tuple(axis for axis in range(values.ndim) if axis != _output_axis(layer))
            scale = np.abs(values).max(axis=axes, keepdims=True) / np.float32(_LARGEST_INTEGER)
            scale[scale == 0] = 1
            integers = np.round(values / scale).astype(np.int8)
            packed = ops.multiply(_convert(integers, name), _name(ops.constant(scale), f"scale_{name}"))
        _name(packed, f"{_PREFIX}{name}")
        layer.input(1).replace_source_output(packed.output(0))


def _convert(values: NDArray[Any], name: str) -> ov.Node:
    return _name(ops.convert(_name(ops.constant(values), f"stored_{name}"), np.float32), f"converted_{name}")


def _name(node: ov.Node, name: str) -> ov.Node:
    """Name a node: OpenVINO counts up within a process, so that the files would differ each time."""
    node.set_friendly_name(name)
    return node


def unpack(model: ov.Model) -> None:
    """Turn all packed weights of a model that was read back into float32, in place."""
    for node in model.get_ops():
        if not node.get_friendly_name().startswith(_PREFIX):
            continue
        scale = np.float32(1)
        stored = node
        if node.get_type_name() == "Multiply":
            stored, scale = node.input_value(0).get_node(), node.input_value(1).get_node().data
        values = stored.input_value(0).get_node().data.astype(np.float32) * scale
        weights = ops.constant(values).output(0)
        for reader in list(node.output(0).get_target_inputs()):
            reader.replace_source_output(weights)


def _output_axis(layer: ov.Node) -> int:
    """Tell which axis of a layer's weights runs over what it gives: each of these gets a scale of its own."""
    if layer.get_type_name() != "MatMul":
        return 0
    return 0 if layer.get_attributes()["transpose_b"] else 1
