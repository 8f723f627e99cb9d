"""The quantization of a trunk to 8-bit integers, with NNCF.

The convolutions that mix channels, where nearly all of the arithmetic is, compute with integers. Everything else stays
in float32: depthwise convolutions, whose cost is memory and not arithmetic, and the small ones that squeeze and excite,
in which an error would reach whole channels.

Weights get 7 of the 8 bits. Without VNNI a processor adds pairs of products in 16 bits, in which two full products
do not fit: the network would be worse there, and another one than elsewhere.
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
from numpy.typing import NDArray

from birdemb.embed.birdnet import PASSES_AT_ONCE, Passes
from birdemb.embed.openvino_models import compile_model
from birdemb.errors import MissingDependencyError

__all__ = ["Quantizer", "Rows", "import_nncf"]

_NEARLY_ZERO = 1e-6

Rows = NDArray[np.float32]


class Quantizer:
    """The float32 trunk in the form that is quantized, and what runs it.

    Parameters
    ----------
    passes : Passes
        For windows of 5 s, in float32.

    Attributes
    ----------
    samples : int
        Length of a window.
    model : openvino.Model
        The trunk.
    convolutions : list of openvino.Node
        All of it, in the order in which they are computed.
    quantizable : list of int
        The numbers of those that can compute in int8.
    exact : openvino.InferRequest
        The trunk in float32.

    Raises
    ------
    MissingDependencyError
        If NNCF is not installed.
    """

    def __init__(self, passes: Passes) -> None:
        self._nncf = import_nncf()
        self._passes = passes
        self.samples = passes.samples
        self.model = passes.network.trunk
        for node in self.model.get_ordered_ops():
            if node.get_type_name() == "Convolution" and not _squeezes(node):
                _keep_summand(node)
        nodes = _rename(self.model)
        self.convolutions = [node for node in nodes if node.get_type_name() == "Convolution"]
        self.quantizable = [number for number, node in enumerate(self.convolutions) if not _squeezes(node)]
        self._others = [
            node.get_friendly_name()
            for node in nodes
            if node.get_type_name() not in ("Convolution", "Constant", "Parameter", "Result")
        ]
        self.exact = self.compile(self.model)

    def look(self, windows: Rows) -> Rows:
        """Turn windows into spectrograms."""
        spectrograms = np.empty((len(windows), *list(self._passes.network.front_end.output(0).shape)[1:]), np.float32)
        for window, spectrogram in zip(windows, spectrograms, strict=True):
            self._passes.look(window, spectrogram)
        return spectrograms

    def compile(self, model: ov.Model) -> ov.InferRequest:
        """Make a model ready to run in one thread."""
        return compile_model(model, "f32", self._passes.network.core).create_infer_request()

    def run(self, request: ov.InferRequest, spectrograms: Rows) -> Rows:
        """Turn spectrograms into embeddings, as many at once as in a real run."""
        rows = []
        for start in range(0, len(spectrograms), PASSES_AT_ONCE):
            request.infer([spectrograms[start : start + PASSES_AT_ONCE]])
            rows.append(request.get_output_tensor(0).data.copy())
        return np.concatenate(rows)

    def compare(self, model: ov.Model, spectrograms: Rows) -> Rows:
        """Give the cosine of each embedding to that of the float32 trunk."""
        ours, exact = self.run(self.compile(model), spectrograms), self.run(self.exact, spectrograms)
        lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(exact, axis=1)
        cosines: Rows = (ours * exact).sum(axis=1) / np.maximum(lengths, np.finfo(np.float32).tiny)
        return cosines

    def quantize(self, numbers: Sequence[int], inputs: Rows, *, correct_bias: bool = True) -> ov.Model:
        """Quantize the convolutions of these numbers, and nothing else."""
        left_out = [node.get_friendly_name() for n, node in enumerate(self.convolutions) if n not in numbers]
        with contextlib.redirect_stdout(io.StringIO()):  # bars of progress, of each of its many steps
            model = self._nncf.quantize(
                self.model.clone(),
                self._nncf.Dataset([spectrogram[None] for spectrogram in inputs]),
                subset_size=len(inputs),
                # Zero points for activations, which reach from -0.28 far up; compared, it is nearer to float32.
                preset=self._nncf.QuantizationPreset.MIXED,
                ignored_scope=self._nncf.IgnoredScope(names=self._others + left_out, validate=False),
                advanced_parameters=self._nncf.AdvancedQuantizationParameters(
                    overflow_fix=self._nncf.OverflowFix.ENABLE, disable_bias_correction=not correct_bias
                ),
            )
        _rename(model)
        return model


def _rename(model: ov.Model) -> list[ov.Node]:
    """Name all nodes by their order. OpenVINO counts up within a process, so that the files would differ each time."""
    nodes: list[ov.Node] = model.get_ordered_ops()
    for number, node in enumerate(nodes):
        node.set_friendly_name(f"{node.get_type_name()}_{number}")
    model.input(0).get_tensor().set_names({"spectrograms"})
    model.output(0).get_tensor().set_names({"embeddings"})
    return nodes


def _squeezes(convolution: ov.Node) -> bool:
    """Tell whether a convolution sees means over the whole feature map, and not the map."""
    shape = convolution.get_output_partial_shape(0)
    return bool(shape[2] == 1 and shape[3] == 1)


def _keep_summand(convolution: ov.Node) -> None:
    """Put next to nothing in the place of zeros that are added behind a convolution whose result is read twice.

    OpenVINO (2026.4) drops a summand of zeros. The scale that turns integers back into numbers then directly follows
    the convolution, once for each reader, and is applied as many times: the cosine falls below 0.5.
    """
    (reader,) = (target.get_node() for target in convolution.output(0).get_target_inputs())
    if reader.get_type_name() != "Add" or len(reader.output(0).get_target_inputs()) < 2:
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
