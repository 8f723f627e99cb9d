"""PANNs as nodes of an ONNX graph: samples in, embeddings and logits out."""

from __future__ import annotations

from birdemb.embed.onnx_log_mels import add_log_mels
from birdemb.embed.onnx_network_graph import add_network_frames, add_network_results, hear_shapes
from birdemb.embed.openvino_onnx import translate_model
from birdemb.embed.panns import PannsEncoder
from birdemb.embed.panns_front_end import HOP, SMALLEST_POWER, WINDOW, make_window
from birdemb.onnx_building import GraphBuilder

__all__ = ["add_panns"]


def add_panns(
    graph: GraphBuilder, encoder: PannsEncoder, waveform: str, *, logits: bool = False
) -> tuple[str, str | None]:
    """Add one of PANNs' networks to a graph, as `birdemb.embed.onnx_graph.add_encoder` adds any encoder.

    What stands behind the spectrograms is translated from the converted network, so that neither torch nor the
    checkpoint is needed.
    """
    shapes = hear_shapes(encoder)  # first, as it refuses what disagrees with the card
    mels = _add_log_mels(graph, encoder, add_network_frames(graph, encoder, waveform))
    source = encoder.model.inputs[0].get_node().get_name()
    names = translate_model(encoder.model, graph, {source: mels}, encoder.outputs[: 2 if logits else 1])
    return add_network_results(graph, encoder, names, shapes)


def _add_log_mels(graph: GraphBuilder, encoder: PannsEncoder, frames: str) -> str:
    """Add what `birdemb.embed.panns_front_end.make_log_mels` does."""
    ends = graph.add_integers(0, WINDOW // 2, 0, WINDOW // 2)
    padded = graph.add("Pad", frames, ends, mode="reflect")
    mels = add_log_mels(
        graph,
        padded,
        encoder.frame_samples + WINDOW,
        window=make_window(),
        hop=HOP,
        filters=encoder.filters,
        floor=SMALLEST_POWER,
    )
    return graph.add("Unsqueeze", mels, graph.add_integers(1))
