"""The spectrograms that PANNs hear, against librosa's."""

import librosa
import numpy as np
import pytest

from birdemb.embed.panns_front_end import make_log_mels

FILTERS = librosa.filters.mel(sr=32_000, n_fft=1024, n_mels=64, fmin=50, fmax=14_000).T


@pytest.mark.slow
@pytest.mark.parametrize("samples", [32_000, 160_000, 54_321])
def test_log_mels_agree_with_librosa(samples):
    rng = np.random.default_rng(samples)
    rising = 0.3 * np.sin(2 * np.pi * np.cumsum(np.linspace(100, 12_000, samples)) / 32_000)
    frames = np.stack([rng.normal(0, 0.05, samples), rising + rng.normal(0, 1e-3, samples)]).astype(np.float32)
    powers = librosa.feature.melspectrogram(
        y=frames, sr=32_000, n_fft=1024, hop_length=320, n_mels=64, fmin=50, fmax=14_000, pad_mode="reflect"
    )
    wanted = 10 * np.log10(np.maximum(powers, 1e-10)).transpose(0, 2, 1)[:, None]
    mels = make_log_mels(frames, FILTERS)
    assert mels.dtype == np.float32
    assert mels.flags.c_contiguous
    assert mels.shape == (2, 1, samples // 320 + 1, 64)
    np.testing.assert_allclose(mels, wanted, atol=0.01)  # dB, of some 90 below the loudest


def test_silence_is_the_floor():
    np.testing.assert_array_equal(make_log_mels(np.zeros((1, 32_000), np.float32), FILTERS), -100)
