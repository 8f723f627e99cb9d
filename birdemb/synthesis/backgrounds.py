"""The noises of a place without its animals: wind, rain, a hum, far insects, thumps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.fft

from birdemb.synthesis.songs import SAMPLE_RATE

__all__ = ["draw_background", "shape_noise"]

FloatArray = npt.NDArray[np.float32]


def draw_background(samples: int, rng: np.random.Generator, *, layers: int) -> FloatArray:
    """Compute wind and a few other noises over it.

    Parameters
    ----------
    samples : int
        Length at `SAMPLE_RATE`.
    rng : numpy.random.Generator
        Draws which noises, their levels and their courses.
    layers : int
        How many noises come over the wind, at most 4.

    Returns
    -------
    numpy.ndarray of float32, shape (samples,)
        The sum, with a root mean square of about 1.
    """
    others = (_rain, _hum, _far_insects, _thumps)
    background = _wind(samples, rng)
    for layer in rng.permutation(len(others))[:layers]:
        background += np.float32(10 ** rng.uniform(-1.6, -0.7)) * others[layer](samples, rng)
    background /= np.sqrt(np.mean(background**2))
    return background


def shape_noise(samples: int, gain: Callable[[FloatArray], FloatArray], rng: np.random.Generator) -> FloatArray:
    """Compute noise with a given spectrum.

    Parameters
    ----------
    samples : int
        Length at `SAMPLE_RATE`.
    gain : callable
        Takes frequencies in Hz and returns their amplitudes, both float32, shape (bins,).
    rng : numpy.random.Generator
        Draws the noise.

    Returns
    -------
    numpy.ndarray of float32, shape (samples,)
        The noise, with a root mean square of 1.
    """
    size = scipy.fft.next_fast_len(samples, real=True)
    spectrum = scipy.fft.rfft(rng.standard_normal(size, dtype=np.float32))
    spectrum *= gain(np.linspace(0, SAMPLE_RATE / 2, len(spectrum), dtype=np.float32))
    noise: FloatArray = scipy.fft.irfft(spectrum, size)[:samples]
    noise /= np.sqrt(np.mean(noise**2))
    return noise


def _drift(samples: int, step_s: float, decibels: float, rng: np.random.Generator) -> FloatArray:
    # A level that wanders, with one new value in each step.
    knots = 2 + int(samples / SAMPLE_RATE / step_s)
    levels = 10 ** (rng.normal(0, decibels, knots) / 20)
    return np.interp(np.linspace(0, knots - 1, samples), np.arange(knots), levels).astype(np.float32)


def _wind(samples: int, rng: np.random.Generator) -> FloatArray:
    corner = np.float32(rng.uniform(200, 700))
    noise = shape_noise(
        samples,
        lambda hertz: 1 / (np.sqrt(hertz + 20) * (1 + (hertz / corner) ** 1.5)) + np.float32(2e-3),
        rng,
    )
    return noise * _drift(samples, rng.uniform(0.5, 2.0), 3.0, rng)


def _rain(samples: int, rng: np.random.Generator) -> FloatArray:
    corner = np.float32(rng.uniform(1500, 4000))
    hiss = shape_noise(samples, lambda hertz: hertz / (hertz + corner), rng)
    hiss *= _drift(samples, 3.0, 2.0, rng)
    drops = rng.integers(0, samples, int(rng.uniform(0, 25) * samples / SAMPLE_RATE))
    fall = np.exp(-np.arange(160) / 25).astype(np.float32)
    for drop in drops[drops < samples - len(fall)]:
        hiss[drop : drop + len(fall)] *= 1 + rng.uniform(1, 6) * fall
    return hiss


def _hum(samples: int, rng: np.random.Generator) -> FloatArray:
    mains = float(rng.choice([50.0, 60.0])) * rng.uniform(0.995, 1.005)
    grid = np.linspace(0, 1, 4097)
    cycle = np.zeros(len(grid))
    for harmonic in range(1, 13, 2 if rng.random() < 0.5 else 1):
        cycle += np.sin(2 * np.pi * harmonic * grid) * rng.uniform(0.3, 1) / harmonic
    hum: npt.NDArray[np.float64] = np.interp(np.arange(samples) * (mains / SAMPLE_RATE) % 1.0, grid, cycle)
    return hum.astype(np.float32)


def _far_insects(samples: int, rng: np.random.Generator) -> FloatArray:
    centre, width = np.float32(rng.uniform(3500, 8500)), np.float32(rng.uniform(300, 1800))
    chorus = shape_noise(samples, lambda hertz: np.exp(-(((hertz - centre) / width) ** 2)), rng)
    time = np.arange(samples, dtype=np.float32) / SAMPLE_RATE
    beat = 1 + np.float32(rng.uniform(0, 0.9)) * np.sin(2 * np.pi * rng.uniform(1, 25) * time)
    chorus *= beat.astype(np.float32) * _drift(samples, 5.0, 2.0, rng)
    # Through the trees, far weaker than the wind.
    chorus *= np.float32(0.2)
    return chorus


def _thumps(samples: int, rng: np.random.Generator) -> FloatArray:
    sound = np.zeros(samples, dtype=np.float32)
    length = min(samples, SAMPLE_RATE // 3)
    time = np.arange(length) / SAMPLE_RATE
    for start in rng.integers(0, samples - length + 1, 1 + rng.poisson(samples / SAMPLE_RATE / 6)):
        thump = np.sin(2 * np.pi * rng.uniform(50, 180) * time) * np.exp(-time / rng.uniform(0.02, 0.08))
        sound[start : start + length] += (rng.uniform(1, 5) * thump).astype(np.float32)
    return sound
