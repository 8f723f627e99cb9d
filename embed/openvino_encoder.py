"""Encoders whose network is an ONNX file or an OpenVINO IR, run in OpenVINO."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino.preprocess import PrePostProcessor

from birdemb.embed.frames import set_level
from birdemb.embed.network_encoder import Heard, NetworkEncoder
from birdemb.embed.openvino_models import compile_model, find_output, read_model, reason_of
from birdemb.embed.trunk import Trunk
from birdemb.errors import InputError

__all__ = ["OpenVinoEncoder"]


class OpenVinoEncoder(NetworkEncoder):
    """A network that OpenVINO reads: an ONNX file, or an IR (.xml with its .bin).

    The network is read and compiled when it is first used. One encoder serves one thread at a time. A network made for
    a number of frames of its own is given that many, the last ones silent.
    """

    @property
    def frames_at_once(self) -> int:
        """As many as the network was made for, else as the card says."""
        return self.batch or super().frames_at_once

    @cached_property
    def _model(self) -> ov.Model:
        if self.quantized is not None:
            return self.quantized.read()
        model = read_model(self.weights_path, self.card)
        name = self.tensors.input
        if len(model.inputs) != 1 or (name and name not in model.inputs[0].names):
            shown = ", ".join(
                f"{min(port.names, default='one without a name')} {port.partial_shape}" for port in model.inputs
            )
            raise InputError(
                f"{self.weights_path.name} has the inputs {shown or 'none'}; expected one alone"
                + (f", {name!r}, as the card of {self.card.name} says. Correct tensors.input in it." if name else ".")
            )
        if not model.inputs[0].element_type.is_real():
            raise InputError(
                f"{self.weights_path.name} has an input of {model.inputs[0].element_type.get_type_name()}; expected "
                "samples as floating point numbers."
            )
        return model

    @cached_property
    def batch(self) -> int:
        """How many frames the network was made for; 0 for any number."""
        first = self._model.inputs[0].partial_shape
        if self.tensors.layout == "single" or first.rank.is_dynamic or not len(first) or first[0].is_dynamic:
            return 0
        batch: int = first[0].get_length()
        return batch

    def read_trunk(self) -> Trunk | None:
        """As of every encoder: the whole network; none where it hears a fixed number of frames, or one alone."""
        if self.tensors.layout == "single" or self.batch > 1:
            return None
        self.prepare()  # refuses what disagrees with the card
        embedding = self.outputs[0]  # before the model is fitted, which has other ones
        return Trunk(
            model=self._fit(),
            seconds=self.frame_samples / self.card.sample_rate,
            samples=self.frame_samples,
            look=self._look,
            embedding=embedding,
            pool=self._pool,
            at_once=self.frames_at_once,
        )

    def _look(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        levelled = set_level(frames, self.card.level, self.card.level_peak)
        return levelled[:, None] if self.tensors.layout == "channel" else levelled

    @cached_property
    def _request(self) -> ov.InferRequest:
        try:
            return compile_model(self._fit(), self.arithmetic).create_infer_request()
        except RuntimeError as error:  # what OpenVINO raises
            raise self._refuse(error) from error

    def _fit(self) -> ov.Model:
        """Give the model for frames of this length, which takes float32 samples."""
        shape, own = self._shape, self._model.inputs[0].partial_shape
        if self.quantized is not None and not own.compatible(shape):
            # It has the length that it was calibrated with; which others it can hear the network itself says.
            own = read_model(self.weights_path, self.card).inputs[0].partial_shape
        if not own.compatible(shape):
            raise InputError(
                f"{self.weights_path.name} has an input of shape {own}; the card of {self.card.name} gives "
                f"{shape}: {self._describe_frame()}. Correct tensors.layout, frame_seconds, "
                "sample_rate or pooling in it."
            )
        try:
            self._model.reshape(shape)
            processor = PrePostProcessor(self._model)
            # Networks with weights of half precision often want such samples too.
            processor.input().tensor().set_element_type(ov.Type.f32)
            return processor.build()
        except RuntimeError as error:  # what OpenVINO raises
            raise self._refuse(error) from error

    @property
    def _shape(self) -> ov.PartialShape:
        samples, batch = self.frame_samples, self.batch or -1
        return ov.PartialShape(
            {"batch": [batch, samples], "channel": [batch, 1, samples], "single": [samples]}[self.tensors.layout]
        )

    def _refuse(self, error: RuntimeError) -> InputError:
        return InputError(
            f"The network of {self.card.name} cannot hear input of shape {self._shape}: "
            f"{self._describe_frame()} ({reason_of(error)}). Correct tensors.layout, sample_rate, frame_seconds or "
            "shortest_seconds in its card."
        )

    def _describe_frame(self) -> str:
        seconds = self.frame_samples / self.card.sample_rate
        return f'layout "{self.tensors.layout}", {seconds:g} s at {self.card.sample_rate:,} Hz'

    @cached_property
    def outputs(self) -> list[int]:
        """Numbers of the outputs that the card names: of the embedding, and of the logits where they are wanted."""
        names = [self.tensors.embedding, *([self.tensors.logits] if self.logits_width else [])]
        return [find_output(self._model, name, self.card) for name in names]

    def _run(self, frames: NDArray[np.float32]) -> Heard:
        layout, count = self.tensors.layout, len(frames)
        if count < self.batch:
            frames = np.pad(frames, ((0, self.batch - count), (0, 0)))
        given = frames[0] if layout == "single" else frames[:, None] if layout == "channel" else frames
        rows = np.ascontiguousarray(given)  # named, as a tensor that shares memory does not keep it alive
        outputs = self.outputs  # before the request, whose model has other ones
        request = self._request
        request.set_input_tensor(0, ov.Tensor(rows, shared_memory=True))
        request.infer()
        # Copied, as OpenVINO reuses the memory of its results.
        found = [request.get_output_tensor(index).data.astype(np.float32, copy=True) for index in outputs]
        if layout == "single":
            found = [output[None] for output in found]
        elif len(frames) > count:
            found = [self._leave_filling_out(output, count) for output in found]
        return Heard(found[0], found[1] if len(found) > 1 else None)

    def _leave_filling_out(self, output: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        """Cut off what the network gives for the silent frames that filled its batch up."""
        if output.shape[:1] != (self.batch,):
            raise InputError(
                f"The network of {self.card.name} gives an output of shape {output.shape} for {self.batch} frames; "
                f"expected {self.batch} along the first axis. Name another output in the table [tensors] of its card."
            )
        return output[:count]
