"""BirdNET 2.4 in OpenVINO, rebuilt from its official TFLite file, without TensorFlow.

The TFLite graph spends most of its time in two short-time Fourier transforms. It casts their complex result to
float, which keeps the real part alone, so that framing, window, transform and mel matrix are one linear map:

    frame -> mel @ real(rfft(hann * frame)) = (mel @ cos(2 pi k n / N) * hann) @ frame

This is a convolution, and exactly the same function. The constants are read from the file itself. The network behind
is kept as it is, up to the global mean that BirdNET's authors call the embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from numpy.typing import NDArray
from openvino.frontend import ConversionExtension

from birdemb.embed.card import Card
from birdemb.embed.encoder import Encoder
from birdemb.embed.windows import place_frames
from birdemb.errors import InputError

__all__ = ["BirdNetEncoder", "Network", "build_network"]

_SPECTROGRAM_SHAPE = "[?,511,96,2]"  # frames, mel bands, the two spectrograms
_FRAMES_AT_ONCE = 4  # more gain nothing on a CPU and cost memory


class BirdNetEncoder(Encoder):
    """BirdNET 2.4: frames of 3 s at 48 kHz, embeddings of width 1024, non-negative.

    A longer window is covered evenly by frames whose embeddings are averaged.
    """

    def __init__(self, card: Card, *, window: float = 5.0, weights: Path | None = None) -> None:
        super().__init__(card, window=window, weights=weights)
        if weights is None:
            raise InputError(f"{card.name} was given no weights.")
        self._frame_samples = round(card.frame_seconds * card.sample_rate)
        self._frame_starts = [round(s * card.sample_rate) for s in place_frames(window, card.frame_seconds)]
        network = build_network(weights, self._frame_samples, card.dim)
        settings = {
            # Work is spread over processes, which scales better than threads.
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            # Said outright, as OpenVINO would choose bf16 by itself on processors that have it.
            "INFERENCE_PRECISION_HINT": "f32",
            # Pinned, the threads of all worker processes would share the same first core.
            "ENABLE_CPU_PINNING": False,
        }
        self._network = network.core.compile_model(network.embeddings, "CPU", settings)

    def _encode(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        short = self._frame_samples - windows.shape[1]
        if short > 0:
            windows = np.pad(windows, ((0, 0), (0, short)))
        frames = np.stack([windows[:, s : s + self._frame_samples] for s in self._frame_starts], axis=1)
        frames = frames.reshape(-1, self._frame_samples)
        rows = np.concatenate(
            # Copied, as OpenVINO reuses the memory of its results.
            [self._network(frames[i : i + _FRAMES_AT_ONCE])[0].copy() for i in range(0, len(frames), _FRAMES_AT_ONCE)]
        )
        pooled: NDArray[np.float32] = rows.reshape(len(windows), len(self._frame_starts), -1).mean(axis=1)
        return pooled


def _integers(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


@dataclass(frozen=True)
class Network:
    """BirdNET, not yet compiled: each model takes frames of shape (n, samples), float32.

    Parameters
    ----------
    core : openvino.Core
        Compiles them.
    spectrograms : openvino.Model
        Gives the two mel spectrograms, shape (n, 511, 96, 2), float32: the front end alone.
    embeddings : openvino.Model
        Gives the embeddings, shape (n, dim), float32: the whole.
    """

    core: ov.Core
    spectrograms: ov.Model
    embeddings: ov.Model


def build_network(weights: Path, frame_samples: int, dim: int) -> Network:
    """Read the TFLite file and put the convolutions in the place of its spectrograms.

    Parameters
    ----------
    weights : Path
        The official FP32 file.
    frame_samples : int
        Length of a frame at 48 kHz.
    dim : int
        Width of an embedding.

    Returns
    -------
    Network

    Raises
    ------
    InputError
        If this version of OpenVINO reads the file into another graph.
    """
    core = ov.Core()
    # OpenVINO's reader knows no RFFT2D; as the node is cut away below, anything may stand in for it.
    core.add_extension(ConversionExtension("RFFT2D", lambda node: [ops.relu(node.get_input(0)).output(0)]))
    graph = core.read_model(weights)
    nodes = graph.get_ordered_ops()
    constants = {node.get_friendly_name(): node for node in nodes if node.get_type_name() == "Constant"}
    spectrograms = _find_only(nodes, "Concat", _SPECTROGRAM_SHAPE)
    embedding = _find_only(nodes, "ReduceMean", f"[?,{dim}]")

    waveform = ops.parameter([-1, frame_samples], np.float32, name="waveform")
    scaled, offset = _scale(waveform)
    bands = [_mel_spectrogram(scaled, offset, constants, f"model/MEL_SPEC{number}") for number in (1, 2)]
    stacked = ops.transpose(ops.concat(bands, 3), _integers(0, 2, 1, 3))
    for reader in list(spectrograms.output(0).get_target_inputs()):
        reader.replace_source_output(stacked.output(0))
    return Network(
        core,
        ov.Model([ops.result(stacked.output(0))], [waveform], "birdnet-2.4-spectrograms"),
        ov.Model([ops.result(embedding.output(0))], [waveform], "birdnet-2.4"),
    )


def _find_only(nodes: Sequence[ov.Node], kind: str, shape: str) -> ov.Node:
    """Find the one node of a kind and an output shape; anything else means that OpenVINO reads the file otherwise."""
    found = [node for node in nodes if node.get_type_name() == kind and str(node.get_output_partial_shape(0)) == shape]
    if len(found) != 1:
        raise InputError(
            f"OpenVINO {ov.__version__} reads BirdNET's file into another graph than expected: {len(found)} nodes "
            f"{kind} of shape {shape}, expected 1. Install the version of OpenVINO that constraints.txt names."
        )
    return found[0]


def _scale(waveform: ov.Node) -> tuple[ov.Node, ov.Node]:
    """Bring each frame to -1..1 by its own smallest and largest sample, as the graph does, but as a sum of two parts.

    The graph computes ``2 (x - min) / (max - min + 1e-6) - 1``. In a frame that is partly silent, as a padded one,
    this is a constant far from 0, and the rounding errors of its spectrum, raised to a small power, are large
    enough to be seen in the embedding. Here the part that varies is 0 where the recording is, and the constant goes
    its own way, exactly.

    Returns
    -------
    scaled : Node of shape (n, 1, samples)
        ``2 (x - c) / (max - min + 1e-6)``, c being the value nearest to 0 between min and max.
    offset : Node of shape (n, 1, 1)
        What has to be added to it.
    """
    axis = _integers(1)
    lowest = ops.reduce_min(waveform, axis, True)
    highest = ops.reduce_max(waveform, axis, True)
    centre = ops.minimum(ops.maximum(lowest, np.float32(0)), highest)
    span = ops.add(ops.reduce_max(ops.subtract(waveform, lowest), axis, True), np.float32(1e-6))
    gain = ops.divide(np.float32(2), span)
    scaled = ops.multiply(ops.subtract(waveform, centre), gain)
    offset = ops.subtract(ops.multiply(ops.subtract(centre, lowest), gain), np.float32(1))
    return ops.unsqueeze(scaled, axis), ops.unsqueeze(offset, axis)


def _mel_spectrogram(scaled: ov.Node, offset: ov.Node, constants: dict[str, Any], branch: str) -> ov.Node:
    hann = constants[f"{branch}/stft/hann_window/sub_2"].data.astype(np.float64)
    mel = constants[f"{branch}/Tensordot/MatMul"].data.astype(np.float64)
    hop = int(constants[f"{branch}/stft/frame_step"].data)
    exponent = constants[f"{branch}/truediv_1"].data
    n = np.arange(len(hann))
    k = np.arange(mel.shape[1])[:, None]
    cosines = np.cos(2 * np.pi * (k * n % len(hann)) / len(hann))
    # The graph turns the mel axis upside down.
    kernel = ((mel @ cosines) * hann)[::-1]
    frames = ops.convolution(scaled, kernel[:, None, :].astype(np.float32), [hop], [0], [0], [1])
    of_a_constant = kernel.sum(axis=1)[None, :, None].astype(np.float32)
    frames = ops.add(frames, ops.multiply(offset, ops.constant(of_a_constant)))
    # The graph squares and then raises to the exponent; a power of the magnitude is the same.
    return ops.unsqueeze(ops.power(ops.absolute(frames), np.float32(2 * exponent)), np.int64(3))
