"""BirdNET 2.4's official TFLite file, parted without TensorFlow: front end, trunk and classifier.

The front end becomes what `birdemb.embed.birdnet_front_end` tells of, with constants that are read from the file
itself. The network behind is kept as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from numpy.typing import NDArray
from openvino.frontend import ConversionExtension

from birdemb.embed.birdnet_front_end import FrontEnd, MelBranch, halve_rate
from birdemb.embed.openvino_models import write_graph
from birdemb.errors import InputError

__all__ = ["StoredTrunk", "make_classifier", "part_weights", "read_classifier"]

_SPECTROGRAM_SHAPE = "[?,511,96,2]"  # frames of 3 s: time steps, mel bands, the two spectrograms


@dataclass(frozen=True)
class StoredTrunk:
    """All behind the spectrograms, in the two files of OpenVINO's own format.

    It takes frames of shape (n, 2, mel bands, steps) and gives embeddings of shape (n, dim): the mean over time of the
    last feature map. Stored are 511 steps, those of 3 s.

    Parameters
    ----------
    graph, tensors : bytes
    """

    graph: bytes = field(repr=False)
    tensors: bytes = field(repr=False)


def part_weights(weights: Path, dim: int) -> tuple[FrontEnd, StoredTrunk]:
    """Part the TFLite file into front end and trunk.

    Parameters
    ----------
    weights : Path
        The official FP32 file.
    dim : int
        Width of an embedding.

    Returns
    -------
    FrontEnd, StoredTrunk

    Raises
    ------
    InputError
        If this version of OpenVINO reads the file into another graph.
    """
    nodes, constants = _read_file(weights)
    spectrograms = _find_only(nodes, "Concat", _SPECTROGRAM_SHAPE)
    embedding = _find_only(nodes, "ReduceMean", f"[?,{dim}]")
    branches = [_read_branch(constants, f"model/MEL_SPEC{number}") for number in (1, 2)]

    # Behind the spectrograms stand a factor and a summand for each, and a transposition into the trunk's layout.
    factor = _only_reader(spectrograms, "Multiply")
    summand = _only_reader(factor, "Add")
    turned = _only_reader(summand, "Transpose")
    spectrogram = ops.parameter(turned.output(0).get_partial_shape(), np.float32)
    for reader in list(turned.output(0).get_target_inputs()):
        reader.replace_source_output(spectrogram.output(0))
    trunk = ov.Model([ops.result(embedding.output(0))], [spectrogram], "birdnet-2.4-trunk")
    # Copied, as the model that owns their memory ends here.
    factors, summands = (_constant_of(node).ravel().copy() for node in (factor, summand))
    return FrontEnd(branches, factors, summands), StoredTrunk(*write_graph(trunk))


def read_classifier(weights: Path, dim: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Read the last layer of the TFLite file, which turns embeddings into logits; nothing is compiled.

    Parameters
    ----------
    weights : Path
        The official FP32 file.
    dim : int
        Width of an embedding.

    Returns
    -------
    weights : ndarray of shape (dim, classes), float32
    intercepts : ndarray of shape (classes,), float32

    Raises
    ------
    InputError
        If this version of OpenVINO reads the file into another graph.
    """
    matrix, bias = _classifier_of(_read_file(weights)[1], dim)
    # Copied, as the model that owns their memory ends here.
    return np.ascontiguousarray(matrix.T), bias.copy()


def make_classifier(weights: NDArray[np.float32], intercepts: NDArray[np.float32]) -> ov.Model:
    """Make the last layer as a model: embeddings of shape (n, dim) in, logits of shape (n, classes) out.

    Parameters
    ----------
    weights : ndarray of shape (dim, classes), float32
    intercepts : ndarray of shape (classes,), float32
        Both as `read_classifier` gives them.

    Returns
    -------
    openvino.Model
    """
    embeddings = ops.parameter([-1, len(weights)], np.float32, "embeddings")
    logits = ops.add(ops.matmul(embeddings, ops.constant(weights), False, False), ops.constant(intercepts))
    return ov.Model([ops.result(logits.output(0))], [embeddings], "birdnet-2.4-classifier")


def _read_file(weights: Path) -> tuple[list[ov.Node], dict[str, Any]]:
    core = ov.Core()
    # OpenVINO's reader knows no RFFT2D; as the node is cut away later, anything may stand in for it.
    core.add_extension(ConversionExtension("RFFT2D", lambda node: [ops.relu(node.get_input(0)).output(0)]))
    try:
        nodes = core.read_model(weights).get_ordered_ops()
    except RuntimeError as error:  # what OpenVINO raises
        if "KeyboardInterrupt" in str(error):  # of the function above, which OpenVINO makes an error of its own
            raise KeyboardInterrupt from error
        raise InputError(
            f"OpenVINO {ov.__version__} cannot read {weights}: it is no TFLite file, or a damaged one. Expected the "
            "official file of BirdNET 2.4; get it again with `birdemb encoders fetch birdnet-2.4 --force`."
        ) from error
    constants = {node.get_friendly_name(): node for node in nodes if node.get_type_name() == "Constant"}
    return nodes, constants


def _refuse_graph(what: str) -> InputError:
    return InputError(
        f"OpenVINO {ov.__version__} reads BirdNET's file into another graph than expected: {what}. "
        "Install the version of OpenVINO that constraints.txt names."
    )


def _find_only(nodes: Sequence[ov.Node], kind: str, shape: str) -> ov.Node:
    """Find the one node of a kind and an output shape; anything else means that OpenVINO reads the file otherwise."""
    found = [node for node in nodes if node.get_type_name() == kind and str(node.get_output_partial_shape(0)) == shape]
    if len(found) != 1:
        raise _refuse_graph(f"{len(found)} nodes {kind} of shape {shape}, expected 1")
    return found[0]


def _only_reader(node: ov.Node, kind: str) -> ov.Node:
    readers = [reader.get_node() for reader in node.output(0).get_target_inputs()]
    if [reader.get_type_name() for reader in readers] != [kind]:
        kinds = ", ".join(reader.get_type_name() for reader in readers)
        raise _refuse_graph(f"{node.get_type_name()} is followed by {kinds}, expected {kind}")
    return readers[0]


def _constant_of(node: ov.Node) -> NDArray[np.float32]:
    value: NDArray[np.float32] = node.input_value(1).get_node().data
    return value


def _read_branch(constants: dict[str, Any], name: str) -> MelBranch:
    hann = constants[f"{name}/stft/hann_window/sub_2"].data.astype(np.float64)
    mel = constants[f"{name}/Tensordot/MatMul"].data.astype(np.float64)
    n = np.arange(len(hann))
    k = np.arange(mel.shape[1])[:, None]
    cosines = np.cos(2 * np.pi * (k * n % len(hann)) / len(hann))
    # The graph turns the mel axis upside down.
    kernel = ((mel @ cosines) * hann)[::-1]
    half = len(hann) // 2
    # The window is symmetric up to the rounding of its float32 values.
    folded = (kernel[:, 1 : half + 1] + kernel[:, : half - 1 : -1]) / 2
    folded[:, -1] /= 2
    none = np.empty(0, np.float32)
    branch = MelBranch(
        hop=int(constants[f"{name}/stft/frame_step"].data),
        weights=np.ascontiguousarray(folded.T, np.float32),
        of_a_constant=kernel.sum(axis=1).astype(np.float32),
        # The graph squares and then raises to the exponent; a power of the magnitude is the same.
        exponent=2 * float(constants[f"{name}/truediv_1"].data),
        low_pass=none,
        halved=none,
    )
    return halve_rate(branch)


def _classifier_of(constants: dict[str, Any], dim: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give the matrix of shape (classes, dim) and the bias of the last layer, in the memory of their model."""
    names = [f"model/CLASS_DENSE_LAYER/{name}" for name in ("MatMul", "BiasAdd/ReadVariableOp/resource")]
    shapes = [list(constants[name].data.shape) if name in constants else None for name in names]
    if not shapes[1] or shapes[0] != [*shapes[1], dim]:
        raise _refuse_graph(
            f"its classifier has arrays of shape {shapes[0]} and {shapes[1]}, expected (classes, {dim})"
        )
    return constants[names[0]].data, constants[names[1]].data
