"""Log-mel spectrograms in ONNX graphs, against NumPy's Fourier transform in float64."""

import numpy as np
import pytest
import scipy.signal
from onnx_graphs import start

from birdemb.embed.onnx_log_mels import add_log_mels
from birdemb.onnx_building import GraphBuilder


@pytest.mark.parametrize(("size", "hop"), [(2048, 512), (1024, 320), (256, 100), (256, 256), (128, 200)])
@pytest.mark.parametrize("length", [5000, 5120])
def test_log_mels_are_those_of_numpy(size, hop, length):
    rng = np.random.default_rng(0)
    window = scipy.signal.get_window("hann", size).astype(np.float32)
    filters = rng.uniform(0, 1, (1 + size // 2, 7)) * (rng.random((1 + size // 2, 7)) > 0.8)
    filters[:3] = 0  # frequencies that nobody hears
    graph = GraphBuilder("log-mels")
    samples = graph.add_input("samples", ("n", length))
    mels = add_log_mels(graph, samples, length, window=window, hop=hop, filters=filters, floor=1e-10)
    graph.add_output("mels", mels, ("n", "steps", 7))
    given = rng.normal(0, 0.1, (3, length)).astype(np.float32)
    given[1] = 0
    frames = np.lib.stride_tricks.sliding_window_view(given, size, axis=1)[:, ::hop]
    powers = np.abs(np.fft.rfft(frames.astype(np.float64) * window)) ** 2
    expected = 10 * np.log10(np.maximum(powers @ filters, 1e-10))
    np.testing.assert_allclose(start(graph)(given), expected, atol=1e-3)
