"""BirdNET 2.4 as nodes of an ONNX graph: samples in, embeddings and logits out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino as ov

from birdemb.embed.birdnet import BirdNetEncoder
from birdemb.embed.birdnet_front_end import FrontEnd, MelBranch
from birdemb.embed.birdnet_graph import read_classifier
from birdemb.embed.onnx_frames import add_cut, add_frames, add_pooling
from birdemb.embed.openvino_onnx import translate_model
from birdemb.embed.windows import place_frames
from birdemb.errors import InputError
from birdemb.onnx_building import GraphBuilder

__all__ = ["add_birdnet"]


def add_birdnet(
    graph: GraphBuilder, encoder: BirdNetEncoder, waveform: str, *, logits: bool = False
) -> tuple[str, str | None]:
    """Add BirdNET 2.4 to a graph, as `birdemb.embed.onnx_graph.add_encoder` adds any encoder."""
    card = encoder.card
    rows = _hear(graph, encoder, waveform, encoder.frame_seconds, encoder.frame_starts)
    embeddings = add_pooling(graph, rows, len(encoder.frame_starts), card.network_dim, card.pooling)
    if not logits:
        return embeddings, None
    starts = place_frames(encoder.window, card.frame_seconds)
    if encoder.frame_seconds != card.frame_seconds:
        rows = _hear(graph, encoder, waveform, card.frame_seconds, starts)
    weights, intercepts = read_classifier(_weights_of(encoder), card.network_dim)
    own = graph.add("Gemm", rows, graph.add_constant(weights), graph.add_constant(intercepts))
    return embeddings, add_pooling(graph, own, len(starts), len(intercepts), "max")


def _weights_of(encoder: BirdNetEncoder) -> Path:
    """Give the weights of an encoder that can be exported."""
    name = encoder.card.name
    if encoder.weights is None:
        raise InputError(f"The encoder {name} cannot be exported to ONNX. Export the heads alone with --heads-only.")
    return encoder.weights


def _hear(graph: GraphBuilder, encoder: BirdNetEncoder, waveform: str, seconds: float, starts: Sequence[float]) -> str:
    """Give the embeddings of all frames of each window, one after the other, shape (n * frames, dim)."""
    rate = encoder.card.sample_rate
    samples = round(seconds * rate)
    trunk = encoder.read_plain_trunk(samples)
    frames = add_frames(graph, waveform, encoder.window_samples, [round(start * rate) for start in starts], samples)
    looks = _look(graph, encoder.read_front_end(), samples, frames)
    (rows,) = translate_model(trunk, graph, {_parameter(trunk): looks})
    return rows


def _parameter(model: ov.Model) -> str:
    name: str = model.input(0).get_node().get_name()
    return name


def _look(graph: GraphBuilder, front_end: FrontEnd, samples: int, frames: str) -> str:
    """Compute the spectrograms of frames, shape (n, 2, mel bands, steps), as `BirdNetEncoder` does."""
    scaled, offset = _scale(graph, frames)
    steps = front_end.count_steps(samples)
    looks = []
    for branch, factor, summand in zip(front_end.branches, front_end.factors, front_end.summands, strict=True):
        product = _multiply_short_frames(graph, scaled, branch, steps)
        constant = graph.add("Mul", offset, graph.add_constant(branch.of_a_constant[None, None]))
        magnitudes = graph.add("Abs", graph.add("Add", product, constant))
        powers = graph.add("Pow", magnitudes, graph.add_number(branch.exponent))
        shown = graph.add("Add", graph.add("Mul", powers, graph.add_number(factor)), graph.add_number(summand))
        turned = graph.add("Transpose", shown, perm=[0, 2, 1])
        looks.append(graph.add("Unsqueeze", turned, graph.add_integers(1)))
    return graph.add("Concat", *looks, axis=1)


def _scale(graph: GraphBuilder, frames: str) -> tuple[str, str]:
    """Scale each frame as `BirdNetEncoder` does: what varies, shape (n, samples), and a constant, shape (n, 1, 1)."""
    lowest = graph.add("ReduceMin", frames, axes=[1], keepdims=1)
    highest = graph.add("ReduceMax", frames, axes=[1], keepdims=1)
    centre = graph.add("Min", graph.add("Max", lowest, graph.add_number(0)), highest)
    width = graph.add("Add", graph.add("Sub", highest, lowest), graph.add_number(1e-6))
    gain = graph.add("Div", graph.add_number(2), width)
    scaled = graph.add("Mul", graph.add("Sub", frames, centre), gain)
    offset = graph.add("Mul", graph.add("Sub", centre, lowest), gain)
    offset = graph.add("Sub", offset, graph.add_number(1))
    return scaled, graph.add("Unsqueeze", offset, graph.add_integers(2))


def _multiply_short_frames(graph: GraphBuilder, samples: str, branch: MelBranch, steps: int) -> str:
    """Give what the front end makes of its folded frames by a matrix product, shape (n, steps, mel bands).

    Here it is a convolution with the whole kernel. Folding would halve its work, but the folded frames would have to
    be gathered sample by sample.
    """
    kernel = np.ascontiguousarray(branch.kernel[:-1].T[:, None])
    heard = add_cut(graph, samples, 0, (steps - 1) * branch.hop + branch.short_frame)
    rows = graph.add("Unsqueeze", heard, graph.add_integers(1))
    bands = graph.add("Conv", rows, graph.add_constant(kernel), strides=[branch.hop])
    return graph.add("Transpose", bands, perm=[0, 2, 1])
