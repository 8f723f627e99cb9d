"""Encoders whose network is an ONNX file or an OpenVINO IR, run in OpenVINO."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from birdemb.embed.network_encoder import Heard, NetworkEncoder
from birdemb.embed.openvino_models import compile_model, find_output, read_model
from birdemb.errors import InputError

__all__ = ["OpenVinoEncoder"]


class OpenVinoEncoder(NetworkEncoder):
    """A network that OpenVINO reads: an ONNX file, or an IR (.xml with its .bin).

    The network is read and compiled when it is first used. One encoder serves one thread at a time.
    """

    @cached_property
    def _model(self) -> ov.Model:
        model = read_model(self.weights_path, self.card)
        names = [self.tensors.input] if self.tensors.input else []
        if len(model.inputs) != 1 or not set(names) <= model.inputs[0].names:
            shown = ", ".join(sorted(name for port in model.inputs for name in port.names))
            raise InputError(
                f"{self.weights_path.name} has the inputs {shown}; expected one"
                + (f", {names[0]!r}" if names else "")
                + f", as the card of {self.card.name} says."
            )
        return model

    @cached_property
    def _request(self) -> ov.InferRequest:
        samples = self.frame_samples
        shape = {"batch": [-1, samples], "channel": [-1, 1, samples], "single": [samples]}[self.tensors.layout]
        try:
            self._model.reshape(shape)
            return compile_model(self._model, self.precision).create_infer_request()
        except RuntimeError as error:  # what OpenVINO raises
            raise InputError(
                f"The network of {self.card.name} cannot hear {self.tensors.layout} input of shape {shape}: "
                f"{str(error).strip().splitlines()[-1]}. Correct tensors.layout, sample_rate or frame_seconds in "
                "its card."
            ) from error

    @cached_property
    def _outputs(self) -> list[int]:
        names = [self.tensors.embedding, *([self.tensors.logits] if self.logits_width else [])]
        return [find_output(self._model, name, self.card) for name in names]

    def _run(self, frames: NDArray[np.float32]) -> Heard:
        layout = self.tensors.layout
        given = frames[0] if layout == "single" else frames[:, None] if layout == "channel" else frames
        rows = np.ascontiguousarray(given)  # named, as a tensor that shares memory does not keep it alive
        request = self._request
        request.set_input_tensor(0, ov.Tensor(rows, shared_memory=True))
        request.infer()
        # Copied, as OpenVINO reuses the memory of its results.
        found = [request.get_output_tensor(index).data.astype(np.float32, copy=True) for index in self._outputs]
        if layout == "single":
            found = [output[None] for output in found]
        return Heard(found[0], found[1] if len(found) > 1 else None)
