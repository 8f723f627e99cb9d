"""SavedModels: loading them from a folder, finding what to call in them, and naming what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.embed.card import Card, Tensors
from birdemb.embed.tensorflow_runtime import start_tensorflow
from birdemb.errors import InputError, MissingDependencyError

__all__ = ["Network", "find_function", "load_network", "name_outputs", "show_outputs"]

_GPU_PLATFORMS = ("CUDA", "ROCM")
_NO_NEWS = ("Graph execution error", "Detected at node", "<stack traces", "[[")
"""How lines of TensorFlow's messages begin that say nothing about what is wrong."""

_OF_LOADING = (AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What TensorFlow raises of files that are not whole, besides errors of its own."""


@dataclass(frozen=True)
class Network:
    """A SavedModel in memory.

    Parameters
    ----------
    loaded : object
        What tensorflow_hub gives.
    device : str or None
        Where it has to run; None for where TensorFlow likes it to.
    """

    loaded: Any
    device: str | None

    def make_tensor(self, rows: NDArray[np.float32]) -> Any:  # noqa: ANN401 - a tensor
        """Copy rows to where the network runs."""
        tensorflow, _ = start_tensorflow()
        with tensorflow.device(self.device):
            return tensorflow.constant(rows)

    def run(self, function: Callable[..., Any], card: Card, *given: Any, **named: Any) -> Any:  # noqa: ANN401 - tensors
        """Call one of its functions.

        Raises
        ------
        InputError
            If TensorFlow cannot run it.
        MissingDependencyError
            If it needs a newer TensorFlow.
        """
        tensorflow, _ = start_tensorflow()
        try:
            with tensorflow.device(self.device):
                return function(*given, **named)
        except (tensorflow.errors.OpError, TypeError, ValueError) as error:
            said = _pick_news(error)
            if "XlaCallModule" in said and "version" in said:
                raise MissingDependencyError(
                    f"TensorFlow {tensorflow.__version__} is too old for the network of {card.name}: {said}. "
                    "Expected a newer one. Run: pip install --upgrade tensorflow"
                ) from error
            raise InputError(
                f"TensorFlow {tensorflow.__version__} cannot run the network of {card.name}: {said}. Correct "
                "sample_rate, frame_seconds or the table [tensors] in its card, or get the weights again."
            ) from error


def load_network(path: Path, card: Card) -> Network:
    """Load a SavedModel from its folder.

    Parameters
    ----------
    path : Path
    card : Card
        Whose weights it holds.

    Returns
    -------
    Network

    Raises
    ------
    MissingDependencyError
        If TensorFlow or tensorflow_hub is missing or too old.
    InputError
        If it is not whole, or was compiled for another device than this machine has.
    """
    tensorflow, hub = start_tensorflow()
    device = _choose_device(_read_platforms(path, card), path, card)
    try:
        with tensorflow.device(device):
            return Network(hub.load(str(path)), device)
    except (tensorflow.errors.OpError, *_OF_LOADING) as error:
        raise InputError(
            f"TensorFlow {tensorflow.__version__} cannot load {path}, the weights of {card.name}: {_pick_news(error)}. "
            "It was cut short, or needs operations that this TensorFlow does not have; delete it and get it again."
        ) from error


def _read_platforms(path: Path, card: Card) -> set[str] | None:
    """Tell for which platforms all compiled parts of a graph were made; None where it has no such parts."""
    form = import_module("tensorflow.core.protobuf.saved_model_pb2").SavedModel
    not_whole = import_module("google.protobuf.message").DecodeError  # of protobuf, which TensorFlow brings
    try:
        graphs = form.FromString((path / "saved_model.pb").read_bytes()).meta_graphs
    except (not_whole, OSError) as error:
        raise InputError(
            f"{path / 'saved_model.pb'} cannot be read ({error}): it was cut short or is something else. "
            f"Delete {path} and get the weights of {card.name} again."
        ) from error
    made_for = [
        {platform.decode() for platform in node.attr["platforms"].list.s}
        for graph in graphs
        for function in graph.graph_def.library.function
        for node in function.node_def
        if node.op == "XlaCallModule" and node.attr["platforms"].list.s
    ]
    return set.intersection(*made_for) if made_for else None


def _choose_device(platforms: set[str] | None, path: Path, card: Card) -> str | None:
    """Choose a device that a network can run on: what was compiled for one platform runs on no other."""
    tensorflow, _ = start_tensorflow()
    if platforms is None:
        return None
    has_gpu = bool(tensorflow.config.list_physical_devices("GPU"))
    if has_gpu and platforms.intersection(_GPU_PLATFORMS):
        return None
    if "CPU" in platforms:
        return "/CPU:0"
    raise InputError(
        f"{path}, the weights of {card.name}, was compiled for {' and '.join(sorted(platforms)) or 'no platform'} "
        f"alone, and TensorFlow {tensorflow.__version__} sees {'a GPU' if has_gpu else 'no GPU'} here. Choose the "
        "variant that was compiled for CPUs (of Perch 2: --encoder perch-2), or a machine that has such a device."
    )


def find_function(
    network: Network, tensors: Tensors, shapes: list[tuple[int, ...]], card: Card
) -> tuple[Callable[..., Any], str | None]:
    """Find what a card calls of a network, and make sure that it takes what it will be given.

    Parameters
    ----------
    network : Network
    tensors : Tensors
        What the card says of it.
    shapes : list of tuple of int
        Of the input.
    card : Card

    Returns
    -------
    function : callable
    keyword : str or None
        By which it takes its input; None for its only argument.

    Raises
    ------
    InputError
        If there is no such signature or method, or it takes something else.
    """
    call, wanted, loaded = tensors.call, tensors.input, network.loaded
    if call in loaded.signatures:
        signature = loaded.signatures[call]
        inputs = signature.structured_input_signature[1]
        keyword = wanted or (next(iter(inputs)) if len(inputs) == 1 else "")
        if keyword not in inputs:
            raise InputError(
                f"The network of {card.name} takes {', '.join(sorted(inputs)) or 'nothing'} with its signature {call}; "
                f"expected {keyword or 'one input'!r}. Correct tensors.input in its card, or use the weights that it "
                "was written for."
            )
        _check_input([inputs[keyword]], shapes, card)
        return signature, keyword
    function: Any = getattr(loaded, call or "__call__", None)
    if not hasattr(function, "concrete_functions"):
        raise InputError(
            f"The network of {card.name} has no signature and no method {call!r}, which its card calls. "
            f"Signatures: {', '.join(sorted(loaded.signatures)) or 'none'}; methods: "
            f"{', '.join(_list_methods(loaded)) or 'none'}. Correct tensors.call in its card, or use the weights that "
            "it was written for."
        )
    tensorflow, _ = start_tensorflow()
    taken = [tensorflow.nest.flatten(concrete.structured_input_signature) for concrete in function.concrete_functions]
    specs = [next((spec for spec in flat if isinstance(spec, tensorflow.TensorSpec)), None) for flat in taken]
    _check_input([spec for spec in specs if spec is not None], shapes, card)
    return function, wanted or None


def _list_methods(loaded: Any) -> list[str]:  # noqa: ANN401 - what TensorFlow makes of a SavedModel
    names = [name for name, value in vars(loaded).items() if hasattr(value, "concrete_functions")]
    return sorted("the model itself" if name == "__call__" else name for name in names)


def _check_input(specs: list[Any], shapes: list[tuple[int, ...]], card: Card) -> None:
    """Raise unless one of some specifications takes all shapes: TensorFlow itself does not look at a signature's."""
    if any(spec.dtype.is_floating and all(spec.shape.is_compatible_with(shape) for shape in shapes) for spec in specs):
        return
    taken = " or ".join(sorted({f"{spec.dtype.name} of shape {_show_shape(spec.shape)}" for spec in specs}))
    raise InputError(
        f"The network of {card.name} takes {taken or 'no tensor'}; it would be given float32 of shape "
        f"{' and '.join(map(str, shapes))}, as its card says. Correct sample_rate, frame_seconds, tensors.layout or "
        "tensors.at_once in the card, or use the weights that it was written for."
    )


def name_outputs(result: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever a network gives
    """Give what comes out of a network by name: a dictionary's own, else the numbers from 0.

    Parameters
    ----------
    result : mapping, sequence, or tensor

    Returns
    -------
    dict
        Of tensors.
    """
    if isinstance(result, Mapping):
        return dict(result)
    several = result if isinstance(result, list | tuple) else [result]
    return {str(number): tensor for number, tensor in enumerate(several)}


def show_outputs(outputs: dict[str, Any]) -> str:
    """Name outputs and their shapes, for a message."""
    return ", ".join(f"{name!r} {_show_shape(getattr(tensor, 'shape', ()))}" for name, tensor in outputs.items())


def _show_shape(shape: Any) -> str:  # noqa: ANN401 - a TensorShape
    if getattr(shape, "rank", 0) is None:
        return "(any)"
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def _pick_news(error: Exception) -> str:
    """Give the line of a message that says what is wrong: TensorFlow's have many."""
    lines = [line.strip() for line in str(getattr(error, "message", None) or error).splitlines()]
    news = [line for line in lines if line and not line.startswith(_NO_NEWS)]
    return news[0].rstrip(".") if news else type(error).__name__
