"""Encoders as nodes of an ONNX graph: samples in, embeddings and logits out."""

from __future__ import annotations

from birdemb.embed.birdnet import BirdNetEncoder
from birdemb.embed.encoder import Encoder
from birdemb.embed.onnx_birdnet_graph import add_birdnet
from birdemb.embed.onnx_network_graph import add_network
from birdemb.embed.openvino_encoder import OpenVinoEncoder
from birdemb.errors import InputError
from birdemb.onnx_building import GraphBuilder

__all__ = ["add_encoder"]


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
    InputError
        If this encoder or its precision cannot be exported.
    """
    name = encoder.card.name
    if not isinstance(encoder, BirdNetEncoder | OpenVinoEncoder):
        raise InputError(
            f"The encoder {name} cannot be exported to ONNX: expected birdnet-2.4, or one whose network is an ONNX "
            "file. Export the heads alone with --heads-only."
        )
    if encoder.precision != "f32":
        raise InputError(
            f"{name} in {encoder.precision} cannot be exported to ONNX, in f32 it can. Embed and fit with "
            "--precision f32, or export the heads alone with --heads-only."
        )
    if isinstance(encoder, BirdNetEncoder):
        return add_birdnet(graph, encoder, waveform, logits=logits)
    return add_network(graph, encoder, waveform, logits=logits)
