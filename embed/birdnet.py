"""BirdNET 2.4 on the processor's own arithmetic: the front end in NumPy, everything else in OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from birdemb.embed.birdnet_front_end import FrontEnd, Spectrograms
from birdemb.embed.birdnet_graph import make_classifier, read_classifier
from birdemb.embed.birdnet_parts import read_front_end, read_stored_trunk
from birdemb.embed.card import Card
from birdemb.embed.encoder import Encoder
from birdemb.embed.fast_trunks import compile_fast_trunk
from birdemb.embed.frames import cut_frames, pool_rows
from birdemb.embed.openvino_models import compile_model, read_graph
from birdemb.embed.quantized import QuantizedNetwork
from birdemb.embed.trunk import Rows, Trunk
from birdemb.embed.windows import place_frames
from birdemb.errors import InputError

if TYPE_CHECKING:
    from birdemb.embed.weights import FoundWeights

__all__ = ["BirdNetEncoder", "Passes"]

_TOGETHER = 12.0  # seconds of sound in one go through the trunk: more gain nothing, as they leave the cache
_IDLE = 100.0  # seconds of sound in idle passes, which cost about as much as a trunk for single passes
_RATE = 48_000
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
        model = self.read_plain_trunk(passes.samples)
        model.input(0).get_tensor().set_names({"spectrograms"})
        model.output(0).get_tensor().set_names({"embeddings"})
        return Trunk(
            model=model,
            seconds=self.frame_seconds,
            samples=passes.samples,
            look=passes.look_at_all,
            at_once=passes.at_once,
            fast=True,
        )

    def read_front_end(self) -> FrontEnd:
        """Read what stands before the trunk."""
        return read_front_end(self._found, self.card.network_dim)

    def read_plain_trunk(self, samples: int) -> ov.Model:
        """Read the trunk for passes of so many samples: not what is compiled, but the same for every processor.

        Takes spectrograms of shape (n, 2, mel bands, steps), and gives embeddings of shape (n, dim).
        """
        stored = read_stored_trunk(self._found, self.card.network_dim)
        trunk = read_graph(stored.graph, stored.tensors)
        shape = trunk.input(0).partial_shape
        shape[3] = self.read_front_end().count_steps(samples)
        trunk.reshape(shape)
        return trunk

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
    at_once : int
        How many passes go through the trunk together, where there are as many.
    """

    def __init__(
        self, weights: FoundWeights, samples: int, dim: int, precision: str, quantized: QuantizedNetwork | None = None
    ) -> None:
        self.samples = samples
        self.at_once = max(1, int(_TOGETHER * _RATE / samples))
        self._weights, self._dim = weights, dim
        self._precision, self._quantized = precision, quantized
        self._idle = 0.0
        self._front_end = Spectrograms(read_front_end(weights, dim), samples)
        # Zeros where no pass was yet: what memory happens to hold may be denormal numbers, which take long.
        self._spectrograms = np.zeros((self.at_once, *self._front_end.shape), np.float32)

    @cached_property
    def _many(self) -> ov.InferRequest:
        return self._compile_trunk(self.at_once)

    @cached_property
    def _one(self) -> ov.InferRequest:
        return self._compile_trunk(1)

    def _compile_trunk(self, passes: int) -> ov.InferRequest:
        """Make the trunk ready for so many passes at a time, as it is faster where it knows their number."""
        hashes = {"weights": self._weights.sha256}
        if self._quantized is not None:
            hashes["quantized"] = self._quantized.sha256
        shape = (passes, *self._spectrograms.shape[1:])
        trunk = compile_fast_trunk(self._read_trunk, shape, self._precision, hashes)
        request = trunk.create_infer_request()
        request.set_input_tensor(0, ov.Tensor(self._spectrograms[:passes], shared_memory=True))
        return request

    def _read_trunk(self) -> tuple[bytes, bytes]:
        stored = self._quantized or read_stored_trunk(self._weights, self._dim)
        return stored.graph, stored.tensors

    @cached_property
    def _classifier(self) -> ov.InferRequest:
        classifier = make_classifier(*read_classifier(self._weights.path, self._dim))
        return compile_model(classifier, "f32").create_infer_request()

    def run(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn frames of shape (n, samples) into embeddings of shape (n, dim)."""
        embeddings = np.empty((len(frames), self._dim), np.float32)
        start = 0
        while start < len(frames):
            trunk, passes = self._choose_trunk(len(frames) - start)
            for index, frame in enumerate(frames[start : start + passes]):
                self._front_end.compute(frame, self._spectrograms[index])
            trunk.infer()
            embeddings[start : start + passes] = trunk.get_output_tensor(0).data[:passes]
            start += passes
        return embeddings

    def _choose_trunk(self, left: int) -> tuple[ov.InferRequest, int]:
        """Choose what the next of the passes that are left go through, and tell how many that takes.

        The last few go through the trunk for many, some of its passes idle, until a trunk for single ones has paid.
        """
        if left >= self.at_once:
            return self._many, self.at_once
        self._idle += (self.at_once - left) * self.samples / _RATE
        return (self._many, left) if self._idle < _IDLE else (self._one, 1)

    def classify(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn embeddings of shape (n, dim) into logits of shape (n, classes)."""
        rows = np.ascontiguousarray(embeddings)  # named, as a tensor that shares memory does not keep it alive
        self._classifier.set_input_tensor(0, ov.Tensor(rows, shared_memory=True))
        self._classifier.infer()
        logits: NDArray[np.float32] = self._classifier.get_output_tensor(0).data.copy()
        return logits

    def look_at_all(self, frames: Rows) -> Rows:
        """Compute the spectrograms of frames of shape (n, samples)."""
        spectrograms = np.empty((len(frames), *self._spectrograms.shape[1:]), np.float32)
        for frame, own in zip(frames, spectrograms, strict=True):
            self._front_end.compute(frame, own)
        return spectrograms
