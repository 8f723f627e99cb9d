"""Encoders as nodes of an ONNX graph: samples in, embeddings out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino as ov

from birdemb.embed.birdnet import BirdNetEncoder
from birdemb.embed.birdnet_graph import MelBranch, Network, read_classifier, read_network
from birdemb.embed.encoder import Encoder
from birdemb.embed.openvino_onnx import translate_model
from birdemb.embed.windows import place_frames
from birdemb.errors import InputError
from birdemb.onnx_building import GraphBuilder

__all__ = ["add_encoder", "add_own_logits"]


def add_encoder(graph: GraphBuilder, encoder: Encoder, waveform: str) -> str:
    """Add an encoder to a graph.

    Parameters
    ----------
    graph : GraphBuilder
    encoder : Encoder
        In float32.
    waveform : str
        Name of the windows in the graph, shape (n, window_samples), float32: mono samples at the card's rate, full
        scale 1.

    Returns
    -------
    str
        Name of the embeddings, shape (n, dim), float32.

    Raises
    ------
    InputError
        If this encoder or its precision cannot be exported.
    """
    if encoder.card.pooling not in ("mean", "whole"):
        raise InputError(
            f"{encoder.card.name} with the pooling {encoder.card.pooling} cannot be exported to ONNX, with the mean it "
            "can. Export the heads alone with --heads-only."
        )
    starts = encoder.frame_starts
    embeddings = _hear(graph, encoder, waveform, encoder.frame_seconds, starts)
    if len(starts) == 1:
        return embeddings
    heard = graph.add("Reshape", embeddings, graph.add_integers(-1, len(starts), encoder.card.dim))
    return graph.add("ReduceMean", heard, axes=[1], keepdims=0)


def add_own_logits(graph: GraphBuilder, encoder: Encoder, waveform: str) -> str:
    """Add the logits of an encoder's own classes to a graph, as `Encoder.encode_with_logits` gives them.

    Parameters
    ----------
    graph, encoder, waveform
        As for `add_encoder`.

    Returns
    -------
    str
        Name of the logits, shape (n, own classes), float32.

    Raises
    ------
    InputError
        As `add_encoder`.
    """
    card = encoder.card
    starts = place_frames(encoder.window, card.frame_seconds)
    embeddings = _hear(graph, encoder, waveform, card.frame_seconds, starts)
    weights, intercepts = read_classifier(_weights_of(encoder), card.dim)
    logits = graph.add("Gemm", embeddings, graph.add_constant(weights), graph.add_constant(intercepts))
    of_frames = graph.add("Reshape", logits, graph.add_integers(-1, len(starts), len(intercepts)))
    return graph.add("ReduceMax", of_frames, axes=[1], keepdims=0)


def _weights_of(encoder: Encoder) -> Path:
    """Give the weights of an encoder that can be exported."""
    name = encoder.card.name
    if not isinstance(encoder, BirdNetEncoder) or encoder.weights is None:
        raise InputError(f"The encoder {name} cannot be exported to ONNX. Export the heads alone with --heads-only.")
    if encoder.precision != "f32":
        raise InputError(
            f"{name} in {encoder.precision} cannot be exported to ONNX, in f32 it can. Embed and fit with "
            "--precision f32, or export the heads alone with --heads-only."
        )
    return encoder.weights


def _hear(graph: GraphBuilder, encoder: Encoder, waveform: str, seconds: float, starts: Sequence[float]) -> str:
    """Give the embeddings of all frames of each window, one after the other, shape (n * frames, dim)."""
    rate = encoder.card.sample_rate
    samples = round(seconds * rate)
    network = read_network(_weights_of(encoder), samples, encoder.card.dim)
    first = [round(start * rate) for start in starts]
    frames = _cut_frames(graph, waveform, encoder.window_samples, samples, first)
    return translate_model(network.trunk, graph, {_parameter(network.trunk, 0): _look(graph, network, frames)})


def _parameter(model: ov.Model, index: int) -> str:
    name: str = model.inputs[index].get_node().get_name()
    return name


def _cut_frames(graph: GraphBuilder, waveform: str, window: int, frame: int, starts: Sequence[int]) -> str:
    """Give the frames of each window one after the other, shape (n * frames, frame samples)."""
    if frame > window:
        pads = graph.add_integers(0, 0, 0, frame - window)
        waveform, window = graph.add("Pad", waveform, pads, graph.add_number(0)), frame
    if frame == window:
        return waveform
    cuts = [_cut(graph, waveform, start, frame) for start in starts]
    side_by_side = graph.add("Concat", *cuts, axis=1)
    return graph.add("Reshape", side_by_side, graph.add_integers(-1, frame))


def _cut(graph: GraphBuilder, samples: str, start: int, length: int) -> str:
    bounds = (graph.add_integers(value) for value in (start, start + length, 1))
    return graph.add("Slice", samples, *bounds)


def _look(graph: GraphBuilder, network: Network, frames: str) -> str:
    """Compute the spectrograms of frames, shape (n, 2, mel bands, steps), as `birdemb.embed.birdnet` does."""
    scaled, offset = _scale(graph, frames)
    known = {_parameter(network.front_end, len(network.branches)): offset}
    for index, branch in enumerate(network.branches):
        (product,) = network.front_end.inputs[index].get_target_inputs()
        known[product.get_node().get_name()] = _multiply_short_frames(graph, scaled, branch, network.steps)
    return translate_model(network.front_end, graph, known)


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
    half = len(branch.weights)
    kernel = np.zeros((branch.weights.shape[1], 1, branch.short_frame), np.float32)
    kernel[:, 0, 1 : half + 1] = branch.weights.T
    kernel[:, 0, half] *= 2
    kernel[:, 0, half + 1 :] = branch.weights[-2::-1].T
    heard = _cut(
        graph,
        samples,
        0,
        (steps - 1) * branch.hop + branch.short_frame,
    )
    rows = graph.add("Unsqueeze", heard, graph.add_integers(1))
    bands = graph.add("Conv", rows, graph.add_constant(kernel), strides=[branch.hop])
    return graph.add("Transpose", bands, perm=[0, 2, 1])
