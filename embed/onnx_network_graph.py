"""What is around every network that a card describes, as nodes of an ONNX graph: frames, level, pooling and scale."""

from __future__ import annotations

import numpy as np

from birdemb.embed.card import Tensors
from birdemb.embed.network_encoder import SMALLEST_PROBABILITY, NetworkEncoder
from birdemb.embed.onnx_frames import add_frames, add_level, add_pooling
from birdemb.onnx_building import GraphBuilder, import_optional

__all__ = ["Shape", "add_network_frames", "add_network_results", "hear_shapes"]

Shape = tuple[int, ...]


def hear_shapes(encoder: NetworkEncoder) -> list[Shape]:
    """Give the shapes of what a network gives for a few frames: of the embedding, and of the logits it was made with.

    Raises
    ------
    InputError
        If the network disagrees with its card.
    """
    encoder.prepare()
    heard = encoder.hear_noise()
    return [values.shape for values in (heard.embeddings, heard.logits) if values is not None]


def add_network_frames(graph: GraphBuilder, encoder: NetworkEncoder, waveform: str) -> str:
    """Add what cuts frames out of windows, and brings them to the card's level.

    Parameters
    ----------
    graph : GraphBuilder
    encoder : NetworkEncoder
    waveform : str
        Shape (n, window_samples), float32.

    Returns
    -------
    str
        Name of the frames, shape (n * frames of a window, frame_samples), float32.
    """
    card = encoder.card
    starts = [round(start * card.sample_rate) for start in encoder.frame_starts]
    frames = add_frames(graph, waveform, encoder.window_samples, starts, encoder.frame_samples)
    return add_level(graph, frames, card.level, card.level_peak)


def add_network_results(
    graph: GraphBuilder,
    encoder: NetworkEncoder,
    names: list[str],
    shapes: list[Shape],
    *,
    is_logit: bool = False,
) -> tuple[str, str | None]:
    """Add what makes embeddings and logits of windows of what a network gives for their frames.

    Parameters
    ----------
    graph : GraphBuilder
    encoder : NetworkEncoder
    names : list of str
        Of what it gives, float32, with frames along the first axis: the embedding and, where they are wanted, logits.
    shapes : list of Shape
        As `hear_shapes` gives them; how many frames they are of does not matter.
    is_logit : bool
        Whether the logits are such though the card calls them probabilities.

    Returns
    -------
    embeddings : str
        Shape (n, dim), float32.
    logits : str or None
        Shape (n, own classes), float32; None where they are not wanted.
    """
    card, tensors, count = encoder.card, encoder.tensors, len(encoder.frame_starts)
    embeddings, shape = names[0], shapes[0]
    axis = tensors.embedding_axis % len(shape)
    if axis != len(shape) - 1:
        order = [*(index for index in range(len(shape)) if index != axis), axis]
        embeddings = graph.add("Transpose", embeddings, perm=order)
    rows = count * int(np.prod(shape[1:])) // card.network_dim
    pooled = add_pooling(graph, embeddings, rows, card.network_dim, card.pooling)
    if len(names) == 1:
        return pooled, None
    rows = count * int(np.prod(shapes[1][1:-1]))
    scaled = _add_scale(graph, tensors, names[1], is_logit=is_logit)
    return pooled, add_pooling(graph, scaled, rows, encoder.logits_width, "max")


def _add_scale(graph: GraphBuilder, tensors: Tensors, logits: str, *, is_logit: bool) -> str:
    """Make logits, for a sigmoid, of what the card says that an output holds."""
    if tensors.values == "probabilities":
        least = np.float64(SMALLEST_PROBABILITY)
        if is_logit:
            limit = float(np.log(1 - least) - np.log(least))
            logits = graph.add("Clip", logits, graph.add_number(-limit), graph.add_number(limit))
        else:
            types = import_optional("onnx").TensorProto
            limits = [graph.add_constant(np.array(value)) for value in (least, 1 - least)]
            inside = graph.add("Clip", graph.add("Cast", logits, to=types.DOUBLE), *limits)
            absent = graph.add("Sub", graph.add_constant(np.array(1.0)), inside)
            difference = graph.add("Sub", graph.add("Log", inside), graph.add("Log", absent))
            logits = graph.add("Cast", difference, to=types.FLOAT)
    if tensors.scale != 1:
        logits = graph.add("Mul", logits, graph.add_number(tensors.scale))
    return graph.add("Add", logits, graph.add_number(tensors.shift)) if tensors.shift else logits
