"""The encoder melspec as nodes of an ONNX graph: samples in, embeddings out."""

from __future__ import annotations

import numpy as np

from birdemb.embed.melspec import (
    BANDS,
    DIFFERENCE_FRAMES,
    DIFFERENCE_ORDERS,
    FLOOR,
    HOP,
    MODULATION_FLOOR,
    MODULATION_GROUPS,
    N_FFT,
    PERCENTILES,
    MelspecEncoder,
    compute_cepstra,
    compute_differences,
    make_mel_filters,
    make_window,
    select_rates,
)
from birdemb.embed.onnx_frames import add_cut
from birdemb.embed.onnx_log_mels import add_decibels, add_log_mels, add_powers
from birdemb.onnx_building import GraphBuilder

__all__ = ["add_melspec"]


def add_melspec(
    graph: GraphBuilder,
    encoder: MelspecEncoder,
    waveform: str,
    *,
    logits: bool = False,  # noqa: ARG001 - it knows no classes
) -> tuple[str, None]:
    """Add melspec to a graph, as `birdemb.embed.onnx_graph.add_encoder` adds any encoder; it has no logits."""
    samples, rate = encoder.window_samples, encoder.card.sample_rate
    frames = 1 + samples // HOP
    ends = graph.add_integers(0, N_FFT // 2, 0, N_FFT // 2)
    padded = graph.add("Pad", waveform, ends, graph.add_number(0))
    filters = make_mel_filters(rate).T
    steps = add_log_mels(graph, padded, samples + N_FFT, window=make_window(), hop=HOP, filters=filters, floor=FLOOR)
    log_mel = graph.add("Transpose", steps, perm=[0, 2, 1])
    parts = [
        *_add_mean_and_deviation(graph, log_mel),
        _add_percentiles(graph, log_mel, frames),
        _add_modulation(graph, log_mel, frames, rate / HOP),
        *_add_mean_and_deviation(graph, _add_mfcc(graph, log_mel, frames)),
    ]
    return graph.add("Concat", *parts, axis=1), None


def _add_mean_and_deviation(graph: GraphBuilder, rows: str) -> tuple[str, str]:
    """Give both over time, each of shape (n, rows)."""
    centred = _centre(graph, rows)
    variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes=[2], keepdims=0)
    return graph.add("ReduceMean", rows, axes=[2], keepdims=0), graph.add("Sqrt", variance)


def _centre(graph: GraphBuilder, rows: str) -> str:
    return graph.add("Sub", rows, graph.add("ReduceMean", rows, axes=[2], keepdims=1))


def _add_percentiles(graph: GraphBuilder, log_mel: str, frames: int) -> str:
    """Give the percentiles of each band over time, shape (n, 3 * bands), between frames by a straight line."""
    ordered, _ = graph.add_several("TopK", 2, log_mel, graph.add_integers(frames), axis=2, largest=0)
    weights = np.zeros((frames, len(PERCENTILES)), np.float32)
    for column, percentile in enumerate(PERCENTILES):
        share, below = np.modf(percentile / 100 * (frames - 1))
        weights[int(below), column] += 1 - share
        weights[min(int(below) + 1, frames - 1), column] += share
    of_bands = graph.add("MatMul", ordered, graph.add_constant(weights))
    rows = graph.add("Transpose", of_bands, perm=[0, 2, 1])
    return graph.add("Reshape", rows, graph.add_integers(-1, len(PERCENTILES) * BANDS))


def _add_mfcc(graph: GraphBuilder, log_mel: str, frames: int) -> str:
    """Give cepstral coefficients with their differences over time, shape (n, 60, frames)."""
    cosines = compute_cepstra(np.eye(BANDS)[None])[0].astype(np.float32)
    cepstra = graph.add("MatMul", graph.add_constant(cosines), log_mel)
    differences = [_add_differences(graph, cepstra, frames, len(cosines), order) for order in DIFFERENCE_ORDERS]
    return graph.add("Concat", cepstra, *differences, axis=1)


def _add_differences(graph: GraphBuilder, cepstra: str, frames: int, coefficients: int, order: int) -> str:
    """Give differences over time, each a weighted sum: of nine frames around, and at both ends of the last nine."""
    weights = compute_differences(np.eye(DIFFERENCE_FRAMES)[None], order)[0].astype(np.float32)
    middle = DIFFERENCE_FRAMES // 2
    kernel = np.broadcast_to(weights[:, middle], (coefficients, 1, DIFFERENCE_FRAMES))
    inside = graph.add("Conv", cepstra, graph.add_constant(kernel), group=coefficients)
    ends = [
        graph.add(
            "MatMul", add_cut(graph, cepstra, start, DIFFERENCE_FRAMES, axis=2), graph.add_constant(weights[:, columns])
        )
        for start, columns in ((0, slice(middle)), (frames - DIFFERENCE_FRAMES, slice(middle + 1, None)))
    ]
    return graph.add("Concat", ends[0], inside, ends[1], axis=2)


def _add_modulation(graph: GraphBuilder, log_mel: str, frames: int, frames_per_second: float) -> str:
    """Give how strongly groups of bands rise and fall, shape (n, 4 * groups), in dB."""
    shape = graph.add_integers(-1, MODULATION_GROUPS, BANDS // MODULATION_GROUPS, frames)
    groups = graph.add("ReduceMean", graph.add("Reshape", log_mel, shape), axes=[2], keepdims=0)
    centred = _centre(graph, groups)
    selected = select_rates(frames, frames_per_second)
    wanted = np.flatnonzero(selected.any(axis=0))
    turns = 2 * np.pi / frames * (np.outer(np.arange(frames), wanted) % frames)
    parts = [
        graph.add("MatMul", centred, graph.add_constant((waves / frames).astype(np.float32)))
        for waves in (np.cos(turns), np.sin(turns))
    ]
    ranges = graph.add_constant(selected[:, wanted].T.astype(np.float32))
    energies = graph.add("MatMul", add_powers(graph, *parts), ranges)
    rows = add_decibels(graph, graph.add("Add", energies, graph.add_number(MODULATION_FLOOR)))
    return graph.add("Reshape", rows, graph.add_integers(-1, len(selected) * MODULATION_GROUPS))
