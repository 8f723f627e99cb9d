"""OpenVINO's models: reading them from files, finding their outputs, compiling them for one thread."""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import openvino as ov

from birdemb.embed.card import Card
from birdemb.embed.onnx_files import read_onnx_contents
from birdemb.embed.weights import weights_of
from birdemb.errors import InputError

__all__ = ["compile_model", "find_output", "read_compiled", "read_graph", "read_model", "reason_of", "write_graph"]

_MISREAD = frozenset({"DFT (one-sided)"})
"""Operations of ONNX that OpenVINO reads without a word and gets wrong: seen in 2026.4, whose result has an axis too
many, so that what follows may add up the wrong numbers."""


def read_model(path: Path, card: Card) -> ov.Model:
    """Read an ONNX file, or an OpenVINO IR by its ``.xml``.

    Parameters
    ----------
    path : Path
    card : Card
        Whose weights they are. All files that hold a part of them have to be named in it, as only these are hashed.

    Returns
    -------
    openvino.Model

    Raises
    ------
    InputError
        If OpenVINO cannot read it as it is meant, or it draws on files that the card does not name.
    """
    if path.suffix != ".xml":
        _check_onnx_file(path, card)
    try:
        return ov.Core().read_model(path)
    except RuntimeError as error:  # what OpenVINO raises
        raise InputError(
            f"OpenVINO {ov.__version__} cannot read {path}, the weights of {card.name}: {reason_of(error)}. "
            "Expected an ONNX file or an OpenVINO IR (.xml with its .bin) of which it knows every operation."
        ) from error


def read_graph(graph: bytes, tensors: bytes) -> ov.Model:
    """Read a model in OpenVINO's own format from memory, so that it is what was hashed.

    Parameters
    ----------
    graph, tensors : bytes
        The contents of its ``.xml`` and its ``.bin``.

    Returns
    -------
    openvino.Model
    """
    return ov.Core().read_model(graph, ov.Tensor(np.frombuffer(tensors, np.uint8)))


def write_graph(model: ov.Model) -> tuple[bytes, bytes]:
    """Write a model in OpenVINO's own format into memory: what `read_graph` reads."""
    with tempfile.TemporaryDirectory() as folder:  # as OpenVINO writes it to files alone
        graph, tensors = Path(folder, "graph.xml"), Path(folder, "graph.bin")
        ov.serialize(model, graph, tensors)
        return graph.read_bytes(), tensors.read_bytes()


def _check_onnx_file(path: Path, card: Card) -> None:
    contents = read_onnx_contents(path)
    named = {PurePosixPath(name) for name in weights_of(card).also}
    for name in sorted(contents.outside):
        place = PurePosixPath(name)
        if not name or place.is_absolute() or ".." in place.parts or "\\" in name or ":" in name:
            raise InputError(
                f"{path} draws on the file {name!r}, outside its own folder, which is refused. Save it again with all "
                "its tensors inside, or in a file beside it."
            )
        if place not in named:
            raise InputError(
                f"{path} keeps tensors in {name!r}, which the card of {card.name} does not name, so that they would "
                f"not be checked. Write also = {sorted(contents.outside)} into its table [weights]."
            )
    misread = sorted(contents.operations & _MISREAD)
    if misread:
        raise InputError(
            f"{path} uses the operation {misread[0]}, which OpenVINO {ov.__version__} reads otherwise than ONNX means "
            "it. Use a conversion that computes the spectrum by a matrix product or a convolution."
        )


def find_output(model: ov.Model, name: str, card: Card) -> int:
    """Find an output by what a card calls it.

    Parameters
    ----------
    model : openvino.Model
    name : str
        Its name, its number counted from 0, or empty for the only one. Where a name is a number, it is a name.
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
    for number, output in enumerate(model.outputs):
        if name in output.names:
            return number
    if name.isdecimal() and int(name) < len(model.outputs):
        return int(name)
    shown = ", ".join(
        f"{number}: {min(output.names, default='without a name')} {output.partial_shape}"
        for number, output in enumerate(model.outputs)
    )
    raise InputError(
        f"The network of {card.name} has no output {name!r}, which its card asks for. Outputs: {shown}. Write the "
        "name or the number of the right one into its table [tensors]."
        if name
        else f"The network of {card.name} has {len(model.outputs)} outputs, and its card does not say which one is the "
        f"embedding. Outputs: {shown}. Write tensors.embedding into it."
    )


def compile_model(model: ov.Model, precision: str) -> ov.CompiledModel:
    """Compile a model for one thread.

    Parameters
    ----------
    model : openvino.Model
    precision : {"f32", "bf16"}

    Returns
    -------
    openvino.CompiledModel
    """
    return ov.Core().compile_model(model, "CPU", _settings(precision))


def read_compiled(content: bytes, precision: str) -> ov.CompiledModel:
    """Read a model that was compiled by `compile_model` and exported, with the same version on such a processor.

    Parameters
    ----------
    content : bytes
    precision : {"f32", "bf16"}

    Returns
    -------
    openvino.CompiledModel

    Raises
    ------
    RuntimeError
        If OpenVINO cannot read it.
    """
    return ov.Core().import_model(content, "CPU", _settings(precision))


def _settings(precision: str) -> dict[str, Any]:
    return {
        # Work is spread over processes, which scales better than threads.
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        # Said outright, as OpenVINO would choose bf16 by itself on processors that have it.
        "INFERENCE_PRECISION_HINT": precision,
        # Pinned, the threads of all worker processes would share the same first core.
        "ENABLE_CPU_PINNING": False,
    }


def reason_of(error: RuntimeError) -> str:
    """Give what is of use to people in a message of OpenVINO's: its last line."""
    return str(error).strip().splitlines()[-1].strip(" -.")
