"""The quantization of a trunk to 8-bit integers, with NNCF.

The convolutions that mix channels, where nearly all of the arithmetic is, compute with integers, and so do dense
layers behind them. Everything else computes in float32: what stands before them, as spectrograms do that are part of
the network; the first of them, which hears the spectrograms and loses most; depthwise convolutions, whose cost is
memory and not arithmetic; and the small ones that squeeze and excite, in which an error would reach whole channels.

Weights that compute with integers get 7 of the 8 bits. Without VNNI a processor adds pairs of products in 16 bits, in
which two full products do not fit: the network would be worse there, and another one than elsewhere. Those that compute
in float32 are stored in 8 bits too, which costs nothing there, but for the few of the depthwise ones: see
`birdemb.embed.packing`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as ops

from birdemb.embed.fast_trunks import make_fast_trunk
from birdemb.embed.openvino_models import compile_model, write_graph
from birdemb.embed.packing import pack, unpack
from birdemb.embed.trunk import Rows, Trunk
from birdemb.errors import InputError, MissingDependencyError

__all__ = ["Quantizer", "cosines_of", "import_nncf"]

_NEARLY_ZERO = 1e-6


class Quantizer:
    """A float32 trunk in the form that is quantized, and what runs it.

    Parameters
    ----------
    trunk : Trunk
        Its model is renamed and changed where NNCF or OpenVINO need it, not in what it computes.
    name : str
        Of the encoder, for messages.

    Attributes
    ----------
    trunk : Trunk
    convolutions : list of openvino.Node
        All that mix channels of a map, or are dense layers, in the order in which they are computed.
    quantizable : list of int
        The numbers of those that can compute in int8.
    exact : openvino.InferRequest
        The trunk in float32.

    Raises
    ------
    InputError
        If there is nothing in it that can be quantized.
    """

    def __init__(self, trunk: Trunk, name: str) -> None:
        self.trunk = trunk
        self.model = trunk.model
        for node in self.model.get_ordered_ops():
            if _mixes_map(node) and not _squeezes(node):
                _keep_summand(node)
        nodes = _rename(self.model)
        heard = _names_before(self.model.output(trunk.embedding).get_node())
        self.convolutions = [
            node for node in nodes if node.get_friendly_name() in heard and (_mixes_map(node) or _is_dense(node))
        ]
        self.quantizable = [number for number, node in enumerate(self.convolutions) if number and not _squeezes(node)]
        if not self.quantizable:
            raise InputError(
                f"The network of {name} has no convolution over a map and no dense layer, which is what is quantized "
                "here. Embed with --precision f32."
            )
        found = {node.get_friendly_name() for node in self.convolutions}
        self._others = [
            node.get_friendly_name()
            for node in nodes
            if node.get_friendly_name() not in found and node.get_type_name() not in ("Constant", "Parameter", "Result")
        ]
        self._halved = [
            node.get_friendly_name() for node in nodes if node.get_type_name() == "GroupConvolution" or _is_dense(node)
        ]
        self.exact = self.compile(self.model)

    def look(self, windows: Rows) -> Rows:
        """Turn windows into what the trunk is given."""
        return self.trunk.look(windows)

    def compile(self, model: ov.Model, precision: str = "f32") -> ov.InferRequest:
        """Make a model ready to run in one thread, without the form in which its weights are stored."""
        ready = model.clone()
        unpack(ready)
        return compile_model(ready, precision).create_infer_request()

    def compile_for_run(self, model: ov.Model, precision: str = "f32") -> ov.InferRequest:
        """Make a model ready as a real run does, for as many windows at once."""
        if not self.trunk.fast:
            return self.compile(model, precision)
        shape = (self.trunk.at_once, *(axis.get_length() for axis in list(model.input(0).partial_shape)[1:]))
        return compile_model(make_fast_trunk(*write_graph(model), shape, precision), precision).create_infer_request()

    def run(self, request: ov.InferRequest, inputs: Rows) -> Rows:
        """Turn what the trunk is given into embeddings, as many at once as in a real run."""
        rows = []
        for start in range(0, len(inputs), self.trunk.at_once):
            request.infer([inputs[start : start + self.trunk.at_once]])
            rows.append(self.trunk.pool(request.get_output_tensor(self.trunk.embedding).data.copy()))
        return np.concatenate(rows)

    def compare(self, model: ov.Model, inputs: Rows) -> Rows:
        """Give the cosine of each embedding to that of the float32 trunk."""
        return cosines_of(self.run(self.compile(model), inputs), self.run(self.exact, inputs))

    def halve(self) -> ov.Model:
        """Store all weights of convolutions and dense layers in half precision; computed is in float32."""
        model = self.model.clone()
        found = {node.get_friendly_name() for node in self.convolutions}
        pack([node for node in model.get_ordered_ops() if node.get_friendly_name() in {*found, *self._halved}], 16)
        return model

    def ignored(self, numbers: Sequence[int]) -> list[str]:
        """Name all nodes but the convolutions of these numbers."""
        return self._others + [node.get_friendly_name() for n, node in enumerate(self.convolutions) if n not in numbers]

    def quantize(self, numbers: Sequence[int], inputs: Rows, *, correct_bias: bool = True) -> ov.Model:
        """Quantize the convolutions of these numbers, and store the weights of all others in fewer bits."""
        nncf = import_nncf()
        left_out = [node.get_friendly_name() for n, node in enumerate(self.convolutions) if n not in numbers]
        with contextlib.redirect_stdout(io.StringIO()):  # bars of progress, of each of its many steps
            model = nncf.quantize(
                self.model.clone(),
                nncf.Dataset([each[None] for each in inputs]),
                subset_size=len(inputs),
                # Zero points for activations, which reach from -0.28 far up; compared, it is nearer to float32.
                preset=nncf.QuantizationPreset.MIXED,
                ignored_scope=nncf.IgnoredScope(names=self.ignored(numbers), validate=False),
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    overflow_fix=nncf.OverflowFix.ENABLE, disable_bias_correction=not correct_bias
                ),
            )
        nodes = {node.get_friendly_name(): node for node in model.get_ordered_ops()}
        _rename(model)
        integers = {self.convolutions[number].get_friendly_name() for number in numbers}
        in_eight = sorted(set(left_out) & nodes.keys())
        in_sixteen = sorted((set(self._halved) - set(left_out) - integers) & nodes.keys())
        pack([nodes[name] for name in in_eight], 8)
        pack([nodes[name] for name in in_sixteen], 16)
        return model


def cosines_of(ours: Rows, exact: Rows) -> Rows:
    """Give the cosine of each embedding to the one in the same row; 0 where one of them is 0."""
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(exact, axis=1)
    cosines: Rows = (ours * exact).sum(axis=1) / np.maximum(lengths, np.finfo(np.float32).tiny)
    return cosines


def _rename(model: ov.Model) -> list[ov.Node]:
    """Name all nodes by their order. OpenVINO counts up within a process, so that the files would differ each time."""
    nodes: list[ov.Node] = model.get_ordered_ops()
    for number, node in enumerate(nodes):
        node.set_friendly_name(f"{node.get_type_name()}_{number}")
    return nodes


def _names_before(node: ov.Node) -> set[str]:
    """Give the names of all nodes that one depends on."""
    names: set[str] = set()
    waiting = [node]
    while waiting:
        for port in waiting.pop().input_values():
            before = port.get_node()
            if before.get_friendly_name() not in names:
                names.add(before.get_friendly_name())
                waiting.append(before)
    return names


def _mixes_map(node: ov.Node) -> bool:
    """Tell whether a node is a convolution over a map; one over samples is the front end of a network."""
    return bool(node.get_type_name() == "Convolution" and _count_axes(node.get_input_partial_shape(0)) == 4)


def _is_dense(node: ov.Node) -> bool:
    """Tell whether a node is a dense layer: a product of rows and weights, where spectrograms have a further axis."""
    return bool(
        node.get_type_name() == "MatMul"
        and _count_axes(node.get_input_partial_shape(0)) == 2
        and node.input_value(1).get_node().get_type_name() == "Constant"
    )


def _squeezes(convolution: ov.Node) -> bool:
    """Tell whether a convolution sees means over the whole feature map, and not the map."""
    shape = convolution.get_output_partial_shape(0)
    return bool(_count_axes(shape) == 4 and shape[2] == 1 and shape[3] == 1)


def _count_axes(shape: ov.PartialShape) -> int:
    return int(shape.rank.get_length()) if shape.rank.is_static else 0


def _keep_summand(convolution: ov.Node) -> None:
    """Put next to nothing in the place of zeros that are added behind a convolution whose result is read twice.

    OpenVINO (2026.4) drops a summand of zeros. The scale that turns integers back into numbers then directly follows
    the convolution, once for each reader, and is applied as many times: the cosine falls below 0.5.
    """
    readers = [target.get_node() for target in convolution.output(0).get_target_inputs()]
    if len(readers) != 1 or readers[0].get_type_name() != "Add":
        return
    reader = readers[0]
    if len(reader.output(0).get_target_inputs()) < 2:
        return
    summand = reader.input_value(1).get_node()
    if summand.get_type_name() == "Constant" and not summand.data.any():
        reader.input(1).replace_source_output(ops.constant(np.full_like(summand.data, _NEARLY_ZERO)).output(0))


def import_nncf() -> Any:  # noqa: ANN401 - a module
    """Import NNCF, which only making a network needs.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    # Otherwise it would tell its makers of each use, over the network.
    os.environ.setdefault("NNCF_CI", "1")
    try:
        import nncf
    except ImportError as error:
        raise MissingDependencyError(
            "`birdemb quantize` needs the package nncf, which is not installed. Run: pip install 'birdemb[quantize]'"
        ) from error
    nncf.set_log_level(logging.ERROR)
    return nncf
