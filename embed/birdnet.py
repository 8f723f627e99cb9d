"""BirdNET 2.4 on the processor's own arithmetic: folding in NumPy, everything else in OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import openvino as ov
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from birdemb.embed.birdnet_graph import MelBranch, Network, fit_trunk, make_classifier, make_network, read_classifier
from birdemb.embed.birdnet_parts import read_parts
from birdemb.embed.card import Card
from birdemb.embed.convolution_kernels import takes_slower_kernels
from birdemb.embed.encoder import Encoder
from birdemb.embed.frames import cut_frames, pool_rows
from birdemb.embed.openvino_models import compile_model
from birdemb.embed.quantized import QuantizedNetwork
from birdemb.embed.trunk import Rows, Trunk
from birdemb.embed.windows import place_frames
from birdemb.errors import InputError

if TYPE_CHECKING:
    from birdemb.embed.weights import FoundWeights

__all__ = ["PASSES_AT_ONCE", "BirdNetEncoder", "Passes"]

PASSES_AT_ONCE = 4
"""How many passes go through the trunk together: more gain nothing on a CPU and cost memory."""

_LONGEST_PASS = 60.0  # seconds: memory grows with the pass


class BirdNetEncoder(Encoder):
    """BirdNET 2.4: at least 3 s at 48 kHz, embeddings of width 1024, non-negative.

    With the pooling ``"whole"`` the network hears a window in one pass, its own mean over time going over all of it;
    with ``"mean"`` it hears frames of 3 s that cover the window evenly, and their embeddings are averaged. The
    front end always runs in float32: in bfloat16 it would lose the quiet bands. In int8 and f16 the trunk is the one
    that `birdemb.embed.quantization.quantize_encoder` wrote, and the identity names it.

    The network is read and compiled when it is first used. One encoder serves one thread at a time.
    """

    revision = 2

    def __init__(
        self,
        card: Card,
        *,
        window: float = 5.0,
        weights: FoundWeights | None = None,
        precision: str = "f32",
        logits: bool = False,
    ) -> None:
        super().__init__(card, window=window, weights=weights, precision=precision, logits=logits)
        if weights is None:
            raise InputError(f"{card.name} was given no weights.")
        if window > _LONGEST_PASS and card.pooling == "whole":
            raise InputError(
                f"{card.name} hears a window in one pass, for which {window:g} s are too long; "
                f"expected {_LONGEST_PASS:g} s or less."
            )
        self._found = weights

    def read_classifier(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """As of every encoder: BirdNET's logits are linear in the embedding of a pass, and in a mean of such."""
        if self.card.pooling not in ("mean", "whole"):
            return None
        return read_classifier(self._found.path, self.card.dim)

    def read_trunk(self) -> Trunk:
        """As of every encoder: all that stands behind the spectrograms."""
        passes = self._passes
        model = self.make_network(passes.samples).trunk
        model.input(0).get_tensor().set_names({"spectrograms"})
        model.output(0).get_tensor().set_names({"embeddings"})
        return Trunk(
            model=model,
            seconds=self.frame_seconds,
            samples=passes.samples,
            look=passes.look_at_all,
            at_once=PASSES_AT_ONCE,
            compile=lambda: compile_model(passes.make_network().trunk, "f32"),
        )

    def make_network(self, samples: int) -> Network:
        """Make the network for passes of so many samples: not what is compiled, but the same for every processor."""
        return make_network(read_parts(self._found, self.card.network_dim), samples)

    @cached_property
    def _passes(self) -> Passes:
        return self._make_passes(self.frame_seconds)

    @cached_property
    def _frames(self) -> Passes:
        same = self.frame_seconds == self.card.frame_seconds
        return self._passes if same else self._make_passes(self.card.frame_seconds)

    def _make_passes(self, seconds: float) -> Passes:
        samples = round(seconds * self.card.sample_rate)
        return Passes(self._found, samples, self.card.network_dim, self.arithmetic, self.quantized)

    def _encode(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        return pool_rows(self._hear(windows, self._passes, self.frame_starts), self.card.pooling)

    def _encode_with_logits(self, windows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        # Of frames of 3 s always, as its authors meant them; the largest tells best what is heard anywhere.
        heard = self._hear(windows, self._frames, place_frames(self.window, self.card.frame_seconds))
        logits = (
            self._frames.classify(heard.reshape(-1, self.card.network_dim)).reshape(*heard.shape[:2], -1).max(axis=1)
        )
        if self._frames is not self._passes:
            return self._encode(windows), logits
        return pool_rows(heard, self.card.pooling), logits

    def _hear(self, windows: NDArray[np.float32], passes: Passes, starts: Sequence[float]) -> NDArray[np.float32]:
        """Give the embeddings of the passes over each window, shape (windows, passes, dim)."""
        first = [round(start * self.card.sample_rate) for start in starts]
        return passes.run(cut_frames(windows, first, passes.samples)).reshape(len(windows), len(first), -1)


class Passes:
    """The compiled network for one length of frame, with the memory that it works in.

    Parameters
    ----------
    weights : FoundWeights
        The official FP32 file.
    samples : int
        Length of what is heard in one pass.
    dim : int
        Width of an embedding.
    precision : str
        Of the trunk.
    quantized : QuantizedNetwork, optional
        The trunk, where it was stored in fewer bits.

    Attributes
    ----------
    samples : int
        As given.
    """

    def __init__(
        self, weights: FoundWeights, samples: int, dim: int, precision: str, quantized: QuantizedNetwork | None = None
    ) -> None:
        self.samples = samples
        self._weights, self._dim = weights, dim
        network = self.make_network()
        self._branches, steps = network.branches, network.steps
        self._folded = [np.empty((1, steps, len(branch.weights)), np.float32) for branch in self._branches]
        self._offset = np.empty((1, 1, 1), np.float32)
        self._spectrograms = np.empty((PASSES_AT_ONCE, *list(network.front_end.output(0).shape)[1:]), np.float32)
        self._front_end = compile_model(network.front_end, "f32").create_infer_request()
        for index, array in enumerate([*self._folded, self._offset]):
            self._front_end.set_input_tensor(index, ov.Tensor(array, shared_memory=True))
        if quantized is None:
            trunk = compile_model(network.trunk, precision)
        else:
            # What is not quantized in it stays in float32.
            trunk = compile_model(fit_trunk(quantized.read(), steps), "f32")
        self._trunk = trunk.create_infer_request()

    def make_network(self) -> Network:
        """Make the network that is compiled, whose trunk asks for the fastest kernels that this processor has."""
        parts = read_parts(self._weights, self._dim)
        return make_network(parts, self.samples, asking=takes_slower_kernels())

    @cached_property
    def _classifier(self) -> ov.InferRequest:
        classifier = make_classifier(*read_classifier(self._weights.path, self._dim))
        return compile_model(classifier, "f32").create_infer_request()

    def run(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn frames of shape (n, samples) into embeddings of shape (n, dim)."""
        parts = []
        for start in range(0, len(frames), PASSES_AT_ONCE):
            part = frames[start : start + PASSES_AT_ONCE]
            for index, frame in enumerate(part):
                self.look(frame, self._spectrograms[index])
            self._trunk.set_input_tensor(0, ov.Tensor(self._spectrograms[: len(part)], shared_memory=True))
            self._trunk.infer()
            # Copied, as OpenVINO reuses the memory of its results.
            parts.append(self._trunk.get_output_tensor(0).data.copy())
        return np.concatenate(parts)

    def classify(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn embeddings of shape (n, dim) into logits of shape (n, classes)."""
        rows = np.ascontiguousarray(embeddings)  # named, as a tensor that shares memory does not keep it alive
        self._classifier.set_input_tensor(0, ov.Tensor(rows, shared_memory=True))
        self._classifier.infer()
        logits: NDArray[np.float32] = self._classifier.get_output_tensor(0).data.copy()
        return logits

    def look(self, frame: NDArray[np.float32], spectrograms: NDArray[np.float32]) -> None:
        """Compute the spectrograms of one frame of shape (samples,), into an array of shape (2, mel bands, steps)."""
        scaled, self._offset[:] = _scale(frame)
        for branch, folded in zip(self._branches, self._folded, strict=True):
            _fold(scaled, branch, folded[0])
        self._front_end.infer()
        spectrograms[:] = self._front_end.get_output_tensor(0).data[0]

    def look_at_all(self, frames: Rows) -> Rows:
        """Compute the spectrograms of frames of shape (n, samples)."""
        spectrograms = np.empty((len(frames), *self._spectrograms.shape[1:]), np.float32)
        for frame, own in zip(frames, spectrograms, strict=True):
            self.look(frame, own)
        return spectrograms


def _scale(frame: NDArray[np.float32]) -> tuple[NDArray[np.float32], np.float32]:
    """Bring a frame to -1..1 by its own smallest and largest sample, as the graph does, but as a sum of two parts.

    The graph computes ``2 (x - min) / (max - min + 1e-6) - 1``. In a frame that is partly silent, as a padded one,
    this is a constant far from 0, and the rounding errors of its spectrum, raised to a small power, are large
    enough to be seen in the embedding. Here the part that varies is 0 where the recording is, and the constant goes
    its own way, exactly.

    Returns
    -------
    scaled : ndarray of shape (samples,), float32
        ``2 (x - c) / (max - min + 1e-6)``, c being the value nearest to 0 between min and max.
    offset : float32
        What has to be added to it.
    """
    lowest, highest = frame.min(), frame.max()
    centre = min(max(lowest, np.float32(0)), highest)
    gain = np.float32(2) / (highest - lowest + np.float32(1e-6))
    return (frame - centre) * gain, (centre - lowest) * gain - np.float32(1)


def _fold(samples: NDArray[np.float32], branch: MelBranch, folded: NDArray[np.float32]) -> None:
    """Add the second half of each short frame, turned round, to its first: ``x[n] + x[N - n]`` for n = 1 ... N/2.

    The samples are turned round once, so that both summands lie in memory in the order in which they are added.
    """
    half, steps = folded.shape[1], folded.shape[0]
    backwards = np.ascontiguousarray(samples[::-1])
    first = sliding_window_view(samples[1:], half)[:: branch.hop][:steps]
    second = sliding_window_view(backwards, half)[len(samples) - branch.short_frame :: -branch.hop][:steps]
    np.add(first, second, out=folded)
