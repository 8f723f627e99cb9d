"""BirdNET 2.4 on the processor's own arithmetic: spectrograms, then the trunk, several passes at a time."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from birdemb.embed.birdnet_front_end import Spectrograms
from birdemb.embed.birdnet_graph import make_classifier, read_classifier
from birdemb.embed.birdnet_parts import read_front_end, read_stored_trunk
from birdemb.embed.convolution_kernels import takes_slower_kernels
from birdemb.embed.fast_trunks import compile_fast_trunk
from birdemb.embed.openvino_models import compile_model
from birdemb.embed.quantized import QuantizedNetwork
from birdemb.embed.trunk import Rows

if TYPE_CHECKING:
    from birdemb.embed.weights import FoundWeights

__all__ = ["Passes"]

_TOGETHER = 12.0  # seconds of sound in one go through the trunk: more gain nothing, as they leave the cache
_MOST_IDLE = 100.0  # seconds of sound in idle passes, which cost about as much as a trunk for single passes
_RATE = 48_000


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
        # Results must not depend on what was heard before: with these kernels both trunks give the same to the bit.
        self._most_idle = _MOST_IDLE if takes_slower_kernels() else 0.0
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
        return (self._many, left) if self._idle < self._most_idle else (self._one, 1)

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
