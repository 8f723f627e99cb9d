"""BirdNET 2.4's official TFLite file as OpenVINO models, without TensorFlow.

The TFLite graph spends most of its time in two short-time Fourier transforms. It casts their complex result to
float, which keeps the real part alone, so that framing, window, transform and mel matrix are one linear map:

    frame -> mel @ real(rfft(hann * frame)) = (mel @ cos(2 pi k n / N) * hann) @ frame

Each row of this matrix is symmetric, ``kernel[n] = kernel[N - n]``, since the cosines and the window are, and
``kernel[0]`` is 0. Adding the second half of a frame, turned round, to its first therefore halves the matrix
product and changes nothing:

    kernel @ frame = sum over n = 1 ... N/2 of kernel[n] (frame[n] + frame[N - n])    (half of kernel[N/2])

The constants are read from the file itself. The network behind is kept as it is.
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

from birdemb.embed.convolution_kernels import ask_for_kernels
from birdemb.embed.openvino_models import read_graph
from birdemb.errors import InputError

__all__ = [
    "MelBranch",
    "Network",
    "Parts",
    "fit_trunk",
    "make_classifier",
    "make_network",
    "part_weights",
    "read_classifier",
]

_SPECTROGRAM_SHAPE = "[?,511,96,2]"  # frames of 3 s: time steps, mel bands, the two spectrograms


@dataclass(frozen=True)
class MelBranch:
    """One of the two spectrograms, as a linear map of folded frames.

    Parameters
    ----------
    hop : int
        Samples between the short frames of its Fourier transform.
    weights : ndarray of shape (half a short frame, mel bands), float32
        Of the folded samples 1 ... N/2.
    of_a_constant : ndarray of shape (mel bands,), float32
        What a frame of ones gives.
    exponent : float
        To which the magnitude is raised.
    """

    hop: int
    weights: NDArray[np.float32]
    of_a_constant: NDArray[np.float32]
    exponent: float

    @property
    def short_frame(self) -> int:
        """Samples that one Fourier transform sees."""
        return 2 * len(self.weights)

    def count(self, samples: int) -> int:
        """Count the time steps of a frame of so many samples."""
        return 1 + (samples - self.short_frame) // self.hop


@dataclass(frozen=True)
class Parts:
    """What the file is parted into. Nothing of it depends on how much is to be heard in one pass.

    Parameters
    ----------
    branches : sequence of MelBranch
        The two spectrograms.
    factors, summands : ndarray of shape (branches,), float32
        What each spectrogram is multiplied by, and what is then added.
    graph, tensors : bytes
        The trunk, for frames of 3 s, in the two files of OpenVINO's own format.
    asking : bytes
        The same graph, which asks for the kernels that `birdemb.embed.convolution_kernels` tells of.
    """

    branches: Sequence[MelBranch]
    factors: NDArray[np.float32]
    summands: NDArray[np.float32]
    graph: bytes = field(repr=False)
    tensors: bytes = field(repr=False)
    asking: bytes = field(repr=False)


@dataclass(frozen=True)
class Network:
    """BirdNET for frames of one length, not yet compiled.

    Parameters
    ----------
    branches : sequence of MelBranch
        The two spectrograms.
    steps : int
        Time steps of a spectrogram.
    front_end : openvino.Model
        One frame: the folded samples of each branch, shapes (1, steps, half a short frame), and the constant
        offset, shape (1, 1, 1); gives shape (1, 2, mel bands, steps).
    trunk : openvino.Model
        Frames of shape (n, 2, mel bands, steps); gives embeddings of shape (n, dim): the mean over time of the last
        feature map.
    """

    branches: Sequence[MelBranch]
    steps: int
    front_end: ov.Model
    trunk: ov.Model


def part_weights(weights: Path, dim: int, folder: Path) -> Parts:
    """Part the TFLite file into front end and trunk.

    Parameters
    ----------
    weights : Path
        The official FP32 file.
    dim : int
        Width of an embedding.
    folder : Path
        For files of no further use, as OpenVINO writes its format to nothing else.

    Returns
    -------
    Parts

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
    graph, tensors = folder / "trunk.xml", folder / "trunk.bin"
    ov.serialize(trunk, graph, tensors)
    written = graph.read_bytes()
    # Copied, as the model that owns their memory ends here.
    factors, summands = (_constant_of(node).ravel().copy() for node in (factor, summand))
    return Parts(branches, factors, summands, written, tensors.read_bytes(), ask_for_kernels(written))


def make_network(parts: Parts, frame_samples: int, *, asking: bool = False) -> Network:
    """Put the parts together for frames of one length.

    Parameters
    ----------
    parts : Parts
    frame_samples : int
        Length at 48 kHz of what is to be heard in one pass, 3 s or more.
    asking : bool
        Whether its trunk asks for the kernels that `birdemb.embed.convolution_kernels` tells of.

    Returns
    -------
    Network
    """
    steps = min(branch.count(frame_samples) for branch in parts.branches)
    trunk = fit_trunk(read_graph(parts.asking if asking else parts.graph, parts.tensors), steps)
    front_end = _make_front_end(parts.branches, steps, parts.factors, parts.summands)
    return Network(parts.branches, steps, front_end, trunk)


def fit_trunk(trunk: ov.Model, steps: int) -> ov.Model:
    """Let a trunk, in place, take spectrograms of so many time steps, shape (n, 2, mel bands, steps); gives it back."""
    shape = trunk.input(0).partial_shape
    shape[3] = steps
    trunk.reshape(shape)
    return trunk


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


def _integers(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


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
    return MelBranch(
        hop=int(constants[f"{name}/stft/frame_step"].data),
        weights=np.ascontiguousarray(folded.T, np.float32),
        of_a_constant=kernel.sum(axis=1).astype(np.float32),
        # The graph squares and then raises to the exponent; a power of the magnitude is the same.
        exponent=2 * float(constants[f"{name}/truediv_1"].data),
    )


def _make_front_end(
    branches: Sequence[MelBranch], steps: int, factors: NDArray[np.float32], summands: NDArray[np.float32]
) -> ov.Model:
    offset = ops.parameter([1, 1, 1], np.float32, "offset")
    folded = [ops.parameter([1, steps, len(branch.weights)], np.float32) for branch in branches]
    bands = []
    for samples, branch, factor, summand in zip(folded, branches, factors, summands, strict=True):
        frames = ops.matmul(samples, ops.constant(branch.weights), False, False)
        frames = ops.add(frames, ops.multiply(offset, ops.constant(branch.of_a_constant[None, None])))
        # A power through the logarithm, as OpenVINO computes both of these in vectors and a power one by one; 0
        # stays 0 by way of minus infinity.
        powers = ops.exp(ops.multiply(ops.log(ops.absolute(frames)), np.float32(branch.exponent)))
        scaled = ops.add(ops.multiply(powers, factor), summand)
        bands.append(ops.unsqueeze(ops.transpose(scaled, _integers(0, 2, 1)), _integers(1)))
    joined = ops.concat(bands, 1)
    return ov.Model([ops.result(joined.output(0))], [*folded, offset], "birdnet-2.4-front-end")


def _classifier_of(constants: dict[str, Any], dim: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give the matrix of shape (classes, dim) and the bias of the last layer, in the memory of their model."""
    names = [f"model/CLASS_DENSE_LAYER/{name}" for name in ("MatMul", "BiasAdd/ReadVariableOp/resource")]
    shapes = [list(constants[name].data.shape) if name in constants else None for name in names]
    if not shapes[1] or shapes[0] != [*shapes[1], dim]:
        raise _refuse_graph(
            f"its classifier has arrays of shape {shapes[0]} and {shapes[1]}, expected (classes, {dim})"
        )
    return constants[names[0]].data, constants[names[1]].data
