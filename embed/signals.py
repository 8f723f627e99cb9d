"""Sounds that are computed, the same on every machine, to try encoders with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["make_signals"]

_SEED = 20_240_101


def make_signals(samples: int, sample_rate: int) -> dict[str, NDArray[np.float32]]:
    """Make sounds that an encoder ought to tell apart.

    Parameters
    ----------
    samples : int
        Length of each.
    sample_rate : int
        In Hz.

    Returns
    -------
    dict of ndarray of shape (samples,), float32
        By their names: a rising sweep without any noise, a trill, noise, silence, a click, a falling sweep, a tone,
        and noise that swells. Full scale is 1.

    Examples
    --------
    >>> {name: sound.shape for name, sound in make_signals(3, 16_000).items() if name in ("sweep", "click")}
    {'sweep': (3,), 'click': (3,)}
    """
    time = np.arange(samples) / sample_rate
    noise = _make_noise(4 * samples).reshape(4, samples)
    click = np.zeros(samples)
    click[samples // 2] = 1
    sounds = {
        "sweep": 0.3 * np.sin(2 * np.pi * (2000 * time + 800 * time**2)),
        "trill": 0.2 * np.sin(2 * np.pi * 4500 * time) * (np.sin(2 * np.pi * 12 * time) > 0) + 0.02 * noise[0],
        "noise": 0.2 * noise[1],
        "silence": np.zeros(samples),
        "click": click,
        "fall": 0.3 * np.sin(2 * np.pi * (7000 * time - 600 * time**2)) + 0.02 * noise[2],
        "tone": 0.3 * np.sin(2 * np.pi * 3000 * time) + 0.02 * noise[3],
        "swell": 0.5 * noise[2] * time / time[-1],
    }
    return {name: sound.astype(np.float32) for name, sound in sounds.items()}


def _make_noise(count: int) -> NDArray[np.float64]:
    """Draw numbers evenly between -1 and 1, from the bits themselves: NumPy promises these for all its versions."""
    bits = np.random.PCG64(_SEED).random_raw(count)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1
