"""An encoder without weights: statistics of a mel spectrogram and of cepstral coefficients.

The spectrogram and the coefficients are those of librosa with the settings usual in BirdCLEF solutions; what is
made of them over time is plain statistics. It is weaker than a learned encoder, and needs nothing.
"""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
import scipy.fft
import scipy.signal
from numpy.typing import NDArray

from birdemb.embed.encoder import Encoder

__all__ = [
    "BANDS",
    "DIFFERENCE_FRAMES",
    "DIFFERENCE_ORDERS",
    "FLOOR",
    "HOP",
    "MODULATION_FLOOR",
    "MODULATION_GROUPS",
    "N_FFT",
    "PERCENTILES",
    "MelspecEncoder",
    "compute_cepstra",
    "compute_differences",
    "compute_log_mel",
    "compute_mfcc",
    "make_mel_filters",
    "make_window",
    "select_rates",
]

N_FFT = 2048
HOP = 512
BANDS = 128
LOWEST_HZ = 50.0
HIGHEST_HZ = 14_000.0
COEFFICIENTS = 20
DIFFERENCE_FRAMES = 9
DIFFERENCE_ORDERS = (1, 2)
FLOOR = 1e-10  # librosa's `amin`: -100 dB
PERCENTILES = (10, 50, 90)
# Own choice, in octave-like steps: phrases, notes, trills, buzzes.
_MODULATION_HZ = ((0.4, 2.0), (2.0, 6.0), (6.0, 14.0), (14.0, 30.0))
MODULATION_GROUPS = 16
MODULATION_FLOOR = 1e-6  # -60 dB
_AT_ONCE = 8  # windows: keeps the temporary arrays within a processor's cache and memory


class MelspecEncoder(Encoder):
    """Mean, deviation, percentiles and modulation of a log-mel spectrogram, and mean and deviation of cepstra.

    An embedding consists of, in this order: 128 means, 128 standard deviations and 3 x 128 percentiles (10, 50, 90)
    of the log-mel bands in dB; 16 x 4 modulation energies (groups of 8 bands, four rates) in dB; 60 means and 60
    standard deviations of 20 cepstral coefficients with their first and second differences.
    """

    poolings = ("mean",)  # of a window heard whole there is but one row

    shortest_samples = (DIFFERENCE_FRAMES - 1) * HOP  # as many short frames as the differences are taken over

    def _encode(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        # Samples of absurd size overflow; what is not finite is refused by the caller.
        with np.errstate(over="ignore", invalid="ignore"):
            rows = [self._describe(windows[i : i + _AT_ONCE]) for i in range(0, len(windows), _AT_ONCE)]
        return np.concatenate(rows).astype(np.float32)

    def _describe(self, windows: NDArray[np.float32]) -> NDArray[np.float64]:
        rate = self.card.sample_rate
        log_mel = compute_log_mel(windows, rate)
        cepstra = compute_mfcc(log_mel)
        percentiles = np.percentile(log_mel, PERCENTILES, axis=2)
        return np.concatenate(
            [
                log_mel.mean(axis=2),
                log_mel.std(axis=2),
                *percentiles,
                _measure_modulation(log_mel, rate / HOP),
                cepstra.mean(axis=2),
                cepstra.std(axis=2),
            ],
            axis=1,
        )


def compute_log_mel(windows: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Compute log-mel spectrograms, as librosa's ``power_to_db(melspectrogram(...), top_db=None)``.

    Centred frames with zero padding, a periodic Hann window, squared magnitudes, Slaney's mel scale with
    bands of equal area.

    Parameters
    ----------
    windows : ndarray of shape (n, samples), float32
    sample_rate : int
        In Hz.

    Returns
    -------
    ndarray of shape (n, 128, 1 + samples // 512), float64
        In dB relative to 1.
    """
    padded = np.pad(windows, ((0, 0), (N_FFT // 2, N_FFT // 2)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT, axis=1)[:, ::HOP]
    spectrum = scipy.fft.rfft(frames * make_window(), axis=2)
    power = spectrum.real**2 + spectrum.imag**2
    mel = np.maximum(power @ make_mel_filters(sample_rate).T, FLOOR)
    return np.ascontiguousarray(10.0 * np.log10(mel).transpose(0, 2, 1))


def compute_mfcc(log_mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute cepstral coefficients with their first and second differences, as librosa's ``mfcc`` and ``delta``.

    Parameters
    ----------
    log_mel : ndarray of shape (n, bands, frames), float64
        In dB.

    Returns
    -------
    ndarray of shape (n, 60, frames), float64
        20 coefficients (orthonormal DCT-II over the bands), then their first, then their second differences over time
        (Savitzky-Golay, 9 frames).
    """
    cepstra = compute_cepstra(log_mel)
    return np.concatenate([cepstra, *(compute_differences(cepstra, order) for order in DIFFERENCE_ORDERS)], axis=1)


def compute_cepstra(log_mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute cepstral coefficients, as librosa's ``mfcc``: the first 20 of an orthonormal DCT-II over the bands.

    Parameters
    ----------
    log_mel : ndarray of shape (n, bands, frames), float64
        In dB.

    Returns
    -------
    ndarray of shape (n, 20, frames), float64
    """
    cepstra: NDArray[np.float64] = scipy.fft.dct(log_mel, axis=1, norm="ortho")[:, :COEFFICIENTS]
    return cepstra


def compute_differences(cepstra: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """Compute differences over time, as librosa's ``delta``: Savitzky and Golay's, over 9 frames.

    Parameters
    ----------
    cepstra : ndarray of shape (n, coefficients, frames), float64
    order : int
        1 for first differences, 2 for second ones.

    Returns
    -------
    ndarray of shape (n, coefficients, frames), float64
        Those of the first and the last four frames are of the polynomials through the first and the last nine.
    """
    differences: NDArray[np.float64] = scipy.signal.savgol_filter(
        cepstra, DIFFERENCE_FRAMES, polyorder=order, deriv=order, axis=2, mode="interp"
    )
    return differences


@cache
def make_window() -> NDArray[np.float32]:
    """Make a periodic Hann window of 2,048 samples."""
    return scipy.signal.get_window("hann", N_FFT, fftbins=True).astype(np.float32)


@lru_cache(maxsize=4)
def make_mel_filters(sample_rate: int) -> NDArray[np.float64]:
    """Make triangular filters on Slaney's mel scale, as in his Auditory Toolbox (1998) and in librosa.

    Linear below 1 kHz (3 mels every 200 Hz), logarithmic above (27 steps from 1 to 6.4 kHz).

    Parameters
    ----------
    sample_rate : int
        In Hz.

    Returns
    -------
    ndarray of shape (128, 1025), float64
        Weight of each frequency bin in each band; each band has unit area over Hz.
    """
    lowest, highest = _hz_to_mel(np.array([LOWEST_HZ, HIGHEST_HZ]))
    edges = _mel_to_hz(np.linspace(float(lowest), float(highest), BANDS + 2))
    bins = np.fft.rfftfreq(N_FFT, 1 / sample_rate)
    widths = np.diff(edges)
    ramps = edges[:, None] - bins
    rising = -ramps[:-2] / widths[:-1, None]
    falling = ramps[2:] / widths[1:, None]
    filters: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return filters * (2.0 / (edges[2:] - edges[:-2]))[:, None]


_MELS_PER_HZ = 3 / 200
_KNEE_HZ = 1000.0
_KNEE_MEL = _KNEE_HZ * _MELS_PER_HZ
_LOG_STEP = np.log(6.4) / 27


def _hz_to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    logarithmic = _KNEE_MEL + np.log(np.maximum(hz, _KNEE_HZ) / _KNEE_HZ) / _LOG_STEP
    return np.where(hz < _KNEE_HZ, hz * _MELS_PER_HZ, logarithmic)


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    logarithmic = _KNEE_HZ * np.exp(_LOG_STEP * (np.maximum(mel, _KNEE_MEL) - _KNEE_MEL))
    return np.where(mel < _KNEE_MEL, mel / _MELS_PER_HZ, logarithmic)


def _measure_modulation(log_mel: NDArray[np.float64], frames_per_second: float) -> NDArray[np.float64]:
    """Measure how strongly groups of bands rise and fall at the rates of phrases, notes, trills and buzzes.

    Parameters
    ----------
    log_mel : ndarray of shape (n, 128, frames), float64
        In dB.
    frames_per_second : float

    Returns
    -------
    ndarray of shape (n, 64), float64
        Power of the modulation in each group and range of rates, in dB.
    """
    count, bands, frames = log_mel.shape
    groups = log_mel.reshape(count, MODULATION_GROUPS, bands // MODULATION_GROUPS, frames).mean(axis=2)
    centred = groups - groups.mean(axis=2, keepdims=True)
    power = np.abs(scipy.fft.rfft(centred, axis=2) / frames) ** 2
    energies = [power[:, :, chosen].sum(axis=2) for chosen in select_rates(frames, frames_per_second)]
    return 10.0 * np.log10(np.stack(energies, axis=2) + MODULATION_FLOOR).reshape(count, -1)


def select_rates(frames: int, frames_per_second: float) -> NDArray[np.bool_]:
    """Select the frequencies of a Fourier transform over time that belong to each of the four ranges of rates.

    Parameters
    ----------
    frames : int
        How many are transformed.
    frames_per_second : float

    Returns
    -------
    ndarray of shape (4, 1 + frames // 2), bool
    """
    rates = np.fft.rfftfreq(frames, 1 / frames_per_second)
    return np.stack([(low <= rates) & (rates < high) for low, high in _MODULATION_HZ])
