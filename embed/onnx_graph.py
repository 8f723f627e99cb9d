"""Encoders as nodes of an ONNX graph: samples in, embeddings and logits out."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

from birdemb.embed.encoder import Encoder
from birdemb.errors import InputError
from birdemb.onnx_building import GraphBuilder

__all__ = ["add_encoder", "require_graph"]

_MODULES = {
    "birdnet": "birdemb.embed.onnx_birdnet_graph:add_birdnet",
    "melspec": "birdemb.embed.onnx_melspec_graph:add_melspec",
    "openvino": "birdemb.embed.onnx_file_graph:add_onnx_file",
    "panns": "birdemb.embed.onnx_panns_graph:add_panns",
    "torchscript": "birdemb.embed.onnx_torchscript_graph:add_torchscript",
}
"""Of each kind of encoder that can be part of a graph, what adds it."""


class _Add(Protocol):
    def __call__(
        self, graph: GraphBuilder, encoder: Encoder, waveform: str, *, logits: bool = False
    ) -> tuple[str, str | None]: ...


def require_graph(name: str, kind: str) -> None:
    """Refuse an encoder of a kind that cannot be part of a graph.

    Parameters
    ----------
    name : str
        Of the encoder.
    kind : str
        As its card says.

    Raises
    ------
    InputError
        If it cannot.
    """
    if kind not in _MODULES:
        raise InputError(
            f"The encoder {name} cannot be exported to ONNX: its network is of the kind {kind}; expected one of the "
            f"kinds {', '.join(_MODULES)}. Some networks are to be had as ONNX files, too: `birdemb encoders` lists "
            "them. Export the heads alone with --heads-only."
        )


def add_encoder(
    graph: GraphBuilder, encoder: Encoder, waveform: str, *, logits: bool = False
) -> tuple[str, str | None]:
    """Add an encoder to a graph.

    Parameters
    ----------
    graph : GraphBuilder
    encoder : Encoder
        In float32.
    waveform : str
        Name of the windows in the graph, shape (n, window_samples), float32: mono samples at the card's rate, full
        scale 1.
    logits : bool
        Whether to add the logits of its own classes, too; the encoder was then made with logits.

    Returns
    -------
    embeddings : str
        Shape (n, dim), float32: those of `Encoder.encode`.
    logits : str or None
        Shape (n, own classes), float32: those of `Encoder.encode_with_logits`.

    Raises
    ------
    BirdembError
        If this encoder or its precision cannot be exported, or a package that this takes is not installed.
    """
    card = encoder.card
    require_graph(card.name, card.kind)
    if encoder.precision != "f32":
        raise InputError(
            f"{card.name} in {encoder.precision} cannot be exported to ONNX, in f32 it can. Embed and fit with "
            "--precision f32, or export the heads alone with --heads-only."
        )
    module, _, name = _MODULES[card.kind].partition(":")
    add: _Add = getattr(import_module(module), name)
    return add(graph, encoder, waveform, logits=logits)
