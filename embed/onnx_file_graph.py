"""Encoders whose network is an ONNX file as nodes of an ONNX graph, around the graph of that file."""

from __future__ import annotations

from birdemb.embed.onnx_model_calls import add_calls, cut_network
from birdemb.embed.onnx_network_graph import add_network_frames, add_network_results, hear_shapes
from birdemb.embed.onnx_part import read_onnx_model
from birdemb.embed.openvino_encoder import OpenVinoEncoder
from birdemb.errors import InputError
from birdemb.onnx_building import GraphBuilder

__all__ = ["add_onnx_file"]


def add_onnx_file(
    graph: GraphBuilder, encoder: OpenVinoEncoder, waveform: str, *, logits: bool = False
) -> tuple[str, str | None]:
    """Add an encoder whose network is an ONNX file to a graph, as `birdemb.embed.onnx_graph.add_encoder` adds any.

    Of the file's graph there is only what leads to what is asked for. Where the network hears one frame at a time, or
    a number of its own, so does it in the graph, in a loop.

    Raises
    ------
    InputError
        If the network is no ONNX file, disagrees with its card, or cannot be brought to the graph's opset.
    """
    shapes = hear_shapes(encoder)  # first, as it refuses what disagrees with the card
    path = encoder.weights_path
    if path.suffix == ".xml":
        raise InputError(
            f"The encoder {encoder.card.name} cannot be exported to ONNX: {path.name} is an OpenVINO IR; expected an "
            "ONNX file. Embed and fit with the ONNX file that it was made of, or export the heads alone with "
            "--heads-only."
        )
    model = read_onnx_model(path)
    # The order of the outputs is that of the file in OpenVINO, too.
    outputs = [model.graph.output[number].name for number in encoder.outputs[: 2 if logits else 1]]
    network, is_logit = cut_network(model, outputs, encoder)
    frames = add_network_frames(graph, encoder, waveform)
    calls = add_calls(graph, encoder, network, frames, shapes, fixed=encoder.batch > 0)
    names = [calls[0], calls[-1]] if logits else calls[:1]  # one output may be both
    return add_network_results(graph, encoder, names, shapes, is_logit=is_logit)
