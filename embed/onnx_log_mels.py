"""Log-mel spectrograms as nodes of an ONNX graph: short frames, and their Fourier transform as a matrix product.

ONNX has an operation for that, DFT, but few engines know it, and OpenVINO 2026.4 misreads it where it is one-sided.
"""

from __future__ import annotations

from math import gcd

import numpy as np
from numpy.typing import NDArray

from birdemb.embed.onnx_frames import add_cut
from birdemb.onnx_building import GraphBuilder

__all__ = ["add_decibels", "add_log_mels", "add_powers"]


def add_log_mels(
    graph: GraphBuilder,
    samples: str,
    length: int,
    *,
    window: NDArray[np.float32],
    hop: int,
    filters: NDArray[np.floating],
    floor: float,
) -> str:
    """Add what makes log-mel spectrograms of samples.

    Parameters
    ----------
    graph : GraphBuilder
    samples : str
        Shape (n, length), float32; padded already, where frames are to be centred.
    length : int
        In samples.
    window : ndarray of shape (size,), float32
        That weighs a short frame: an even number of samples, the first of which is 0, and the others the same from
        behind, as those of a periodic Hann window are.
    hop : int
        From one short frame to the next, in samples.
    filters : ndarray of shape (1 + size // 2, bands)
        Weight of each frequency in each band.
    floor : float
        What a band holds at least.

    Returns
    -------
    str
        Shape (n, 1 + (length - size) // hop, bands), float32, in dB relative to 1.
    """
    frames = _add_short_frames(graph, samples, length, len(window), hop)
    heard = np.flatnonzero(filters.any(axis=1))
    power = _add_spectra(graph, frames, window, heard)
    mels = graph.add("MatMul", power, graph.add_constant(filters[heard].astype(np.float32)))
    return add_decibels(graph, graph.add("Max", mels, graph.add_number(floor)))


def add_decibels(graph: GraphBuilder, powers: str) -> str:
    """Add what brings powers to dB relative to 1; gives its name."""
    return graph.add("Mul", graph.add("Log", powers), graph.add_number(10 / np.log(10)))


def add_powers(graph: GraphBuilder, real: str, imaginary: str) -> str:
    """Add the squared magnitudes of complex numbers; gives their name."""
    return graph.add("Add", *(graph.add("Mul", part, part) for part in (real, imaginary)))


def _add_short_frames(graph: GraphBuilder, samples: str, length: int, size: int, hop: int) -> str:
    """Cut all short frames out of samples, shape (n, frames, size), block by block: size and hop are whole blocks."""
    count = 1 + (length - size) // hop
    block = gcd(size, hop)
    blocks = ((count - 1) * hop + size) // block
    whole = add_cut(graph, samples, 0, blocks * block) if blocks * block < length else samples
    rows = graph.add("Reshape", whole, graph.add_integers(-1, blocks, block))
    step = hop // block
    parts = [
        graph.add(
            "Slice", rows, *(graph.add_integers(value) for value in (first, first + (count - 1) * step + 1, 1, step))
        )
        for first in range(size // block)
    ]
    return graph.add("Concat", *parts, axis=2)


def _add_spectra(graph: GraphBuilder, frames: str, window: NDArray[np.float32], heard: NDArray[np.intp]) -> str:
    """Give the power of chosen frequencies in each short frame, shape (n, frames, frequencies).

    Cosines are the same from behind, and sines but for their sign, as the window is, so that samples are added to those
    at the same place from behind, and subtracted from them, before they are multiplied: half the work.
    """
    size = len(window)
    half = size // 2
    ahead, behind = (
        graph.add("Slice", frames, *(graph.add_integers(value) for value in bounds))
        for bounds in ((1, half + 1, 2, 1), (-1, half - 1, 2, -1))
    )
    places = np.arange(1, half + 1)
    turns = 2 * np.pi / size * (np.outer(places, heard) % size)
    weights = window[1 : half + 1, None].astype(np.float64)
    weights[-1] /= 2  # of the sample in the middle, which is added to itself
    parts = [
        graph.add("MatMul", graph.add(join, ahead, behind), graph.add_constant((weights * waves).astype(np.float32)))
        for join, waves in (("Add", np.cos(turns)), ("Sub", np.sin(turns)))
    ]
    return add_powers(graph, *parts)
