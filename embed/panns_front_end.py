"""The log-mel spectrogram that PANNs' networks hear, in NumPy and SciPy."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.signal
from numpy.typing import NDArray

__all__ = [
    "HIGHEST",
    "HOP",
    "LOWEST",
    "MEL_BANDS",
    "SAMPLE_RATE",
    "SMALLEST_POWER",
    "WINDOW",
    "make_log_mels",
    "make_window",
]

SAMPLE_RATE = 32_000  # Hz
WINDOW, HOP = 1024, 320  # samples
MEL_BANDS, LOWEST, HIGHEST = 64, 50, 14_000  # the last two in Hz
SMALLEST_POWER = 1e-10


def make_log_mels(frames: NDArray[np.float32], filters: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn samples into log-mel spectrograms, as ``torchlibrosa.stft`` does for PANNs.

    There the Fourier transform is a convolution, which takes several times as long. Both are exact but for the rounding
    of float32.

    Parameters
    ----------
    frames : ndarray of shape (n, samples), float32
        At 32 kHz; more than 512 samples.
    filters : ndarray of shape (513, 64), float32
        Weights of the frequencies in each mel band: a checkpoint's ``logmel_extractor.melW``.

    Returns
    -------
    ndarray of shape (n, 1, samples // 320 + 1, 64), float32
        In dB, for steps of 10 ms that are centred on multiples of these.
    """
    padded = np.pad(frames, ((0, 0), (WINDOW // 2, WINDOW // 2)), mode="reflect")
    steps = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=1)[:, ::HOP]
    spectra = scipy.fft.rfft(steps * make_window(), overwrite_x=True)
    power = spectra.real**2 + spectra.imag**2
    mels: NDArray[np.float32] = 10 * np.log10(np.maximum(power @ filters, np.float32(SMALLEST_POWER)))
    return mels[:, None]


@lru_cache(maxsize=1)
def make_window() -> NDArray[np.float32]:
    """Make a periodic Hann window of 1,024 samples."""
    window: NDArray[np.float32] = scipy.signal.get_window("hann", WINDOW).astype(np.float32)
    return window
