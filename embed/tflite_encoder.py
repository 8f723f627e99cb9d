"""Encoders whose network is a TensorFlow Lite file, run in LiteRT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.embed.network_encoder import Heard, NetworkEncoder
from birdemb.embed.tflite_files import add_outputs
from birdemb.errors import InputError, MissingDependencyError

__all__ = ["TfliteEncoder"]

Details = Mapping[str, Any]
"""What LiteRT says of a tensor."""


class TfliteEncoder(NetworkEncoder):
    """A network that LiteRT reads.

    The embedding may be any tensor of the graph, also one in its midst: a number in the card is that of a tensor of the
    file, as LiteRT and Netron count them. Frames go through one at a time, which is as fast as together here. The
    network is read when it is first used. One encoder serves one thread at a time.
    """

    @property
    def frames_at_once(self) -> int:
        """One."""
        return 1

    @cached_property
    def _interpreter(self) -> Any:  # noqa: ANN401 - LiteRT has no types
        content = self._read_file()
        interpreter = self._open(content)
        entry = self._find_input(interpreter)
        ends = {end["index"] for end in interpreter.get_output_details()}
        inside = {wanted["index"] for wanted in self._find_outputs(interpreter)} - ends
        if inside:
            interpreter = self._open(add_outputs(content, sorted(inside)))
        try:
            interpreter.resize_tensor_input(entry["index"], self._shape)
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:  # what LiteRT raises
            raise InputError(
                f"The network of {self.card.name} cannot hear input of shape {self._shape} ({_reason_of(error)}). "
                "Correct tensors.layout, sample_rate or frame_seconds in its card."
            ) from error
        return interpreter

    @cached_property
    def _input(self) -> int:
        index: int = self._find_input(self._interpreter)["index"]
        return index

    @cached_property
    def _outputs(self) -> list[Details]:
        return self._find_outputs(self._interpreter)

    @property
    def _shape(self) -> list[int]:
        samples = self.frame_samples
        return {"batch": [1, samples], "channel": [1, 1, samples], "single": [samples]}[self.tensors.layout]

    def _read_file(self) -> bytes:
        try:
            return self.weights_path.read_bytes()
        except OSError as error:
            raise InputError(f"{self.weights_path} cannot be read: {error.strerror or error}. Get it again.") from error

    def _open(self, content: bytes) -> Any:  # noqa: ANN401 - LiteRT has no types
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingDependencyError(
                f"LiteRT, which runs {self.card.name}, is not installed. Run: pip install 'birdemb[tflite]'"
            ) from error
        try:
            return Interpreter(model_content=content, num_threads=1)
        except (RuntimeError, ValueError) as error:  # what LiteRT raises
            raise InputError(
                f"LiteRT cannot read {self.weights_path}, the weights of {self.card.name}: {_reason_of(error)}. "
                "Expected a whole TensorFlow Lite file of which it knows every operation; get it again."
            ) from error

    def _find_input(self, interpreter: Any) -> Details:  # noqa: ANN401 - LiteRT has no types
        entries: Sequence[Details] = interpreter.get_input_details()
        name = self.tensors.input
        if len(entries) != 1 or (name and name != entries[0]["name"]):
            shown = ", ".join(f"{entry['name']} {entry['shape_signature'].tolist()}" for entry in entries)
            raise InputError(
                f"{self.weights_path.name} has the inputs {shown or 'none'}; expected one alone"
                + (f", {name!r}, as the card of {self.card.name} says. Correct tensors.input in it." if name else ".")
            )
        (entry,) = entries
        if entry["dtype"] != np.float32:
            raise InputError(
                f"{self.weights_path.name} has an input of {np.dtype(entry['dtype'])}; expected float32. Convert it "
                "so that input and output stay in float32."
            )
        own, given = entry["shape_signature"].tolist(), self._shape
        if len(own) != len(given) or any(size not in (-1, wanted) for size, wanted in zip(own, given, strict=True)):
            raise InputError(
                f"{self.weights_path.name} has an input of shape {own}; the card of {self.card.name} gives {given}: "
                f'layout "{self.tensors.layout}", {self.frame_samples / self.card.sample_rate:g} s at '
                f"{self.card.sample_rate:,} Hz. Correct tensors.layout, frame_seconds, sample_rate or pooling in it."
            )
        return entry

    def _find_outputs(self, interpreter: Any) -> list[Details]:  # noqa: ANN401 - LiteRT has no types
        ends: Sequence[Details] = interpreter.get_output_details()
        everything: Sequence[Details] = interpreter.get_tensor_details()
        names = [self.tensors.embedding, *([self.tensors.logits] if self.logits_width else [])]
        return [self._find_output(name, ends, everything) for name in names]

    def _find_output(self, name: str, ends: Sequence[Details], everything: Sequence[Details]) -> Details:
        if not name and len(ends) == 1:
            return ends[0]
        for entries in (ends, everything):
            found = [entry for entry in entries if name and entry["name"] == name]
            if len(found) == 1:
                return found[0]
        numbered = [entry for entry in everything if name.isdecimal() and entry["index"] == int(name)]
        if numbered and not found:
            return numbered[0]
        shown = ", ".join(f"{entry['index']}: {entry['name']} {entry['shape_signature'].tolist()}" for entry in ends)
        what = f"has {len(found)} tensors" if found else f"with {len(everything):,} tensors has none"
        raise InputError(
            f"{self.weights_path.name} {what} {name!r}, which the card of {self.card.name} asks for. Outputs: {shown}. "
            "Write the name or the number of the right tensor into its table [tensors]."
        )

    def _run(self, frames: NDArray[np.float32]) -> Heard:
        interpreter = self._interpreter
        interpreter.set_tensor(self._input, np.ascontiguousarray(frames.reshape(self._shape)))
        interpreter.invoke()
        found = [self._read_tensor(interpreter, entry) for entry in self._outputs]
        if self.tensors.layout == "single":
            found = [output[None] for output in found]
        return Heard(found[0], found[1] if len(found) > 1 else None)

    def _read_tensor(self, interpreter: Any, entry: Details) -> NDArray[np.float32]:  # noqa: ANN401 - LiteRT has no types
        # A copy, as all results would otherwise share the memory of the last.
        values: NDArray[Any] = interpreter.get_tensor(entry["index"]).copy()
        scale, zero = entry["quantization"]
        if np.issubdtype(values.dtype, np.integer) and scale:
            # https://ai.google.dev/edge/litert/models/quantization_spec: real = scale * (stored - zero point)
            return np.float32(scale) * (values.astype(np.float32) - np.float32(zero))
        return values.astype(np.float32)


def _reason_of(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip(" .")
