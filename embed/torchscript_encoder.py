"""Encoders whose network is a TorchScript file, run in PyTorch on the CPU."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.embed.network_encoder import Heard, NetworkEncoder
from birdemb.errors import InputError, MissingDependencyError

__all__ = ["TorchScriptEncoder", "reason_of"]


class TorchScriptEncoder(NetworkEncoder):
    """A network that `torch.jit.save` wrote, after `torch.jit.trace` or `torch.jit.script`.

    Such a file holds code, which runs here: it has to come from somebody who is trusted. What it gives may be a tensor,
    a tuple, whose members a card calls by number, or a dictionary or named tuple, whose members have names.
    The network is read when it is first used. One encoder serves one thread at a time.
    """

    @cached_property
    def _torch(self) -> Any:  # noqa: ANN401 - an optional package
        try:
            import torch
        except ImportError as error:
            raise MissingDependencyError(
                f"PyTorch, which runs {self.card.name}, is not installed. Run: pip install 'birdemb[torch]'"
            ) from error
        return torch

    @cached_property
    def module(self) -> Any:  # noqa: ANN401 - of an optional package
        """The network, a `torch.jit.ScriptModule`.

        Raises
        ------
        MissingDependencyError
            If torch is not installed.
        InputError
            If the file is no TorchScript file, or PyTorch cannot read it.
        """
        torch = self._torch
        self._require_torchscript()
        try:
            with warnings.catch_warnings():
                # PyTorch means to give TorchScript up some day; its users have the files all the same.
                warnings.filterwarnings("ignore", ".*torch.jit", DeprecationWarning)
                return torch.jit.load(str(self.weights_path), map_location="cpu").eval()
        except (RuntimeError, ValueError) as error:  # what PyTorch raises
            raise InputError(
                f"PyTorch {torch.__version__} cannot read {self.weights_path}, the weights of {self.card.name}: "
                f"{reason_of(error)}. Write it again with torch.jit.save."
            ) from error

    def _require_torchscript(self) -> None:
        """Refuse what only unpickling could read, before anything of it is read."""
        try:
            with zipfile.ZipFile(self.weights_path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(
                f"{self.weights_path} is no whole TorchScript file ({error}). It was cut short or is of another kind; "
                "expected what torch.jit.save writes."
            ) from error
        if not any(name.endswith("/constants.pkl") for name in names):
            raise InputError(
                f"{self.weights_path} is no TorchScript file but a pickled module, a state_dict or an exported "
                "program, none of which is loaded here: a pickle can run anything. Make the network in Python, load "
                "its weights there, and write it with torch.jit.save(torch.jit.trace(network, example), path)."
            )

    def _run(self, frames: NDArray[np.float32]) -> Heard:
        torch, layout = self._torch, self.tensors.layout
        given = frames[0] if layout == "single" else frames[:, None] if layout == "channel" else frames
        module = self.module
        with _one_thread(torch), torch.inference_mode():
            try:
                result = module(torch.from_numpy(np.array(given)))  # a copy: a network may write into its input
            except RuntimeError as error:  # what PyTorch raises
                raise InputError(
                    f'The network of {self.card.name} cannot hear input of shape {given.shape}: layout "{layout}", '
                    f"{self.frame_samples / self.card.sample_rate:g} s at {self.card.sample_rate:,} Hz "
                    f"({reason_of(error)}). Correct tensors.layout, frame_seconds or sample_rate in its card, or set "
                    "tensors.at_once = 1, where it was traced with one frame."
                ) from error
            names = [self.tensors.embedding, *([self.tensors.logits] if self.logits_width else [])]
            found = [self.find_output(result, name).float().numpy().copy() for name in names]
        if layout == "single":
            found = [output[None] for output in found]
        return Heard(found[0], found[1] if len(found) > 1 else None)

    def find_output(self, result: Any, name: str) -> Any:  # noqa: ANN401 - tensors of an optional package
        """Find a tensor in what the network gives by what a card calls it.

        Raises
        ------
        InputError
            If there is none.
        """
        members: Mapping[str, Any]
        if isinstance(result, Mapping):
            members = {str(key): value for key, value in result.items()}
        elif isinstance(result, Sequence):
            members = {str(number): value for number, value in enumerate(result)}
            members |= dict(zip(getattr(result, "_fields", ()), result, strict=False))
        else:
            members = {"0": result}
        chosen = members.get(name) if name else next(iter(members.values()), None) if len(members) == 1 else None
        if not isinstance(chosen, self._torch.Tensor):
            shown = ", ".join(
                f"{key} {list(value.shape) if isinstance(value, self._torch.Tensor) else type(value).__name__}"
                for key, value in members.items()
            )
            raise InputError(
                f"The network of {self.card.name} gives no tensor {name!r}, which its card asks for. It gives: "
                f"{shown}. Write the name or the number of the right one into its table [tensors]."
            )
        return chosen


@contextmanager
def _one_thread(torch: Any) -> Iterator[None]:  # noqa: ANN401 - an optional package
    """Compute on one thread, as work is spread over processes, and leave the setting as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def reason_of(error: Exception) -> str:
    """Give what is of use to people in a message of PyTorch's: its last line."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip(" .") if lines else type(error).__name__
