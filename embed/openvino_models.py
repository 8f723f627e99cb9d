"""OpenVINO's models: reading them from files, finding their outputs, compiling them for one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino as ov

from birdemb.embed.card import Card
from birdemb.errors import InputError

__all__ = ["compile_model", "find_output", "read_model"]


def read_model(path: Path, card: Card) -> ov.Model:
    """Read an ONNX file, or an OpenVINO IR by its ``.xml``.

    Parameters
    ----------
    path : Path
    card : Card
        Whose weights they are.

    Returns
    -------
    openvino.Model

    Raises
    ------
    InputError
        If OpenVINO cannot read it.
    """
    try:
        return ov.Core().read_model(path)
    except RuntimeError as error:  # what OpenVINO raises
        raise InputError(
            f"OpenVINO {ov.__version__} cannot read {path}, the weights of {card.name}: "
            f"{str(error).strip().splitlines()[-1]}. Expected an ONNX file or an OpenVINO IR."
        ) from error


def find_output(model: ov.Model, name: str, card: Card) -> int:
    """Find an output by what a card calls it.

    Parameters
    ----------
    model : openvino.Model
    name : str
        Its name, its number counted from 0, or empty for the only one.
    card : Card

    Returns
    -------
    int
        Its number.

    Raises
    ------
    InputError
        If there is none, or there are several to choose from.
    """
    if not name and len(model.outputs) == 1:
        return 0
    if name.isdecimal() and int(name) < len(model.outputs):
        return int(name)
    for number, output in enumerate(model.outputs):
        if name in output.names:
            return number
    shown = ", ".join(min(output.names, default=str(number)) for number, output in enumerate(model.outputs))
    raise InputError(f"The network of {card.name} has no output {name!r}, which its card names. Outputs: {shown}.")


def compile_model(model: ov.Model, precision: str, core: ov.Core | None = None) -> ov.CompiledModel:
    """Compile a model for one thread.

    Parameters
    ----------
    model : openvino.Model
    precision : {"f32", "bf16"}
    core : openvino.Core, optional
        One with extensions that the model needs.

    Returns
    -------
    openvino.CompiledModel
    """
    settings: dict[str, Any] = {
        # Work is spread over processes, which scales better than threads.
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        # Said outright, as OpenVINO would choose bf16 by itself on processors that have it.
        "INFERENCE_PRECISION_HINT": precision,
        # Pinned, the threads of all worker processes would share the same first core.
        "ENABLE_CPU_PINNING": False,
    }
    return (core or ov.Core()).compile_model(model, "CPU", settings)
