"""A trunk in the form in which this processor computes it fastest, compiled, and kept compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import openvino as ov

from birdemb.embed.activations import replace_silus
from birdemb.embed.convolution_kernels import ask_for_kernels, name_own_kernel, takes_slower_kernels
from birdemb.embed.kept_files import get_kept, locate_kept
from birdemb.embed.openvino_models import compile_model, read_compiled, read_graph
from birdemb.embed.packing import unpack
from birdemb.storage import hash_json

__all__ = ["compile_fast_trunk", "make_fast_trunk"]

_FORMAT = 1  # raised where another model is made of the same trunk
_COMPILED = "trunk.blob"


def make_fast_trunk(graph: bytes, tensors: bytes, shape: Sequence[int], precision: str = "f32") -> ov.Model:
    """Read a trunk for inputs of one shape, in the form in which this processor computes it fastest.

    With AVX2 alone and in float32 that is another than the one it is stored in: other kernels are asked for, and SiLU
    is computed otherwise (`birdemb.embed.activations`). What it gives is the same to the rounding of float32; where
    layers compute with integers, some of these round the other way.

    Parameters
    ----------
    graph, tensors : bytes
        In OpenVINO's own format, with one input. Weights may be packed.
    shape : sequence of int
        Of the input.
    precision : {"f32", "bf16"}
        Of what does not compute with integers.

    Returns
    -------
    openvino.Model
    """
    faster = takes_slower_kernels() and precision == "f32"
    trunk = read_graph(ask_for_kernels(graph) if faster else graph, tensors)
    unpack(trunk)
    trunk.reshape(list(shape))
    if faster:
        replace_silus(trunk)
    return trunk


def compile_fast_trunk(
    read: Callable[[], tuple[bytes, bytes]], shape: Sequence[int], precision: str, hashes: Mapping[str, str]
) -> ov.CompiledModel:
    """Compile what `make_fast_trunk` makes, or read what was kept of that: it takes a third of the time.

    Parameters
    ----------
    read : callable
        Gives the trunk's graph and tensors; only called where it has to be compiled.
    shape : sequence of int
        Of its input.
    precision : {"f32", "bf16"}
        Of its arithmetic.
    hashes : mapping of str to str
        Of all that the trunk comes from.

    Returns
    -------
    openvino.CompiledModel
    """
    processor = {
        "name": ov.Core().get_property("CPU", "FULL_DEVICE_NAME"),
        "capabilities": sorted(ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
        "kernel": name_own_kernel(),
    }
    trunk = {"hashes": dict(hashes), "shape": list(shape), "precision": precision, "processor": processor}
    # Others beside it are of use, too; but not those of another version of OpenVINO.
    folder = locate_kept(f"compiled-{hash_json(trunk)[:16]}")
    made_of: dict[str, Any] = trunk | {"format": _FORMAT, "openvino": ov.__version__}
    compiled: list[ov.CompiledModel] = []

    def compile_it() -> ov.CompiledModel:
        return compile_model(make_fast_trunk(*read(), shape, precision), precision)

    def make() -> dict[str, bytes]:
        compiled.append(compile_it())
        return {_COMPILED: compiled[0].export_model().getvalue()}

    kept = get_kept(folder, [_COMPILED], made_of, make)
    if compiled:
        return compiled[0]
    try:
        return read_compiled(kept[_COMPILED], precision)
    except RuntimeError:  # what OpenVINO raises; nobody has seen it of a file that is what was written
        return compile_it()
