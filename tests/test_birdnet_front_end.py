"""BirdNET's front end: what it leaves out changes nothing that float32 could tell."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import oaconvolve

from birdemb.embed import birdnet_front_end
from birdemb.embed.birdnet_front_end import MelBranch, Spectrograms, halve_rate
from birdemb.embed.birdnet_parts import read_front_end
from birdemb.embed.catalogue import load_card
from birdemb.embed.weights import find_weights

RATE = 48_000
NONE = np.empty(0, np.float32)


@pytest.fixture(scope="module")
def parts(birdnet_weights):
    return read_front_end(find_weights(load_card("birdnet-2.4"), birdnet_weights), 1024)


def make_branch(highest, *, short_frame=2048, hop=278, bands=8):
    """Build a branch of some bands from 100 Hz to `highest`."""
    half = short_frame // 2
    n = np.arange(1, half + 1)
    hann = 0.5 - 0.5 * np.cos(np.pi * n / half)
    hertz = np.linspace(100, highest, bands)
    weights = hann[:, None] * np.cos(2 * np.pi * hertz * (n - half)[:, None] / RATE)
    weights[-1] /= 2
    return MelBranch(hop, weights.astype(np.float32), 2 * weights.sum(0).astype(np.float32), 0.5, NONE, NONE)


def unfold(branch):
    half = len(branch.weights)
    kernel = np.zeros((2 * half, branch.weights.shape[1]))
    kernel[1 : half + 1] = branch.weights
    kernel[half] *= 2
    kernel[half + 1 :] = branch.weights[-2::-1]
    return kernel


def hear(branch, frame, steps):
    """Multiply with the whole kernel, in float64."""
    starts = branch.hop * np.arange(steps)
    return np.stack([frame[start : start + branch.short_frame] for start in starts]).astype(float) @ unfold(branch)


def test_the_lower_spectrogram_alone_is_heard_at_half_the_rate(parts):
    lower, higher = parts.branches
    assert (lower.short_frame, len(lower.heard_weights)) == (2048, 512)
    assert (higher.short_frame, len(higher.heard_weights)) == (1024, 512)
    assert len(higher.low_pass) == 0


def test_bands_that_reach_too_high_and_odd_hops_are_left_alone():
    low = make_branch(2500)
    assert len(halve_rate(low).heard_weights) == len(low.weights) // 2
    for branch in (make_branch(6000), make_branch(2500, hop=277)):
        assert halve_rate(branch) is branch


SOUNDS = {
    "noise": lambda t, rng: rng.normal(0, 0.3, len(t)),
    "in the bands": lambda t, rng: np.sin(2 * np.pi * 1200 * t) + 0.01 * rng.normal(size=len(t)),
    "above the bands": lambda t, rng: np.sin(2 * np.pi * 11_900 * t) + 0.01 * rng.normal(size=len(t)),
    "mirrored from": lambda t, rng: np.sin(2 * np.pi * 22_700 * t) + 0.01 * rng.normal(size=len(t)),
    "click": lambda t, _: np.where(np.arange(len(t)) == 70_001, 1.0, 0.0),
    "ends loud": lambda t, rng: np.where(t < 2.9, 0.0, rng.normal(0, 0.3, len(t))),
}


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("seconds", [3.0, 3.00002, 5.0])
def test_spectrograms_are_those_of_all_samples(parts, sound, seconds):
    frame = SOUNDS[sound](np.arange(round(seconds * RATE)) / RATE, np.random.default_rng(7)).astype(np.float32)
    spectrograms = Spectrograms(parts, len(frame))
    found = np.empty(spectrograms.shape, np.float32)
    spectrograms.compute(frame, found)
    steps = parts.count_steps(len(frame))
    lowest, highest = float(frame.min()), float(frame.max())
    scaled = 2 * (frame.astype(float) - lowest) / (highest - lowest + 1e-6) - 1
    for number, branch in enumerate(parts.branches):
        # Back to what the matrix product gave, whose error is what can be told apart from rounding.
        power = (found[number] - parts.summands.ravel()[number]) / parts.factors.ravel()[number]
        magnitude = np.maximum(power, 0) ** (1 / branch.exponent)
        expected = np.abs(hear(branch, scaled, steps)).T
        assert np.abs(magnitude - expected).max() < 5e-5 + 2e-6 * expected.max()


@given(st.integers(0, 40), st.integers(1, 6), st.randoms(use_true_random=False))
def test_every_second_sample_behind_a_low_pass_is_what_a_convolution_gives(length, reach, random):
    rng = np.random.default_rng(random.getrandbits(32))
    samples = rng.normal(0, 1, length).astype(np.float32)
    half = rng.normal(0, 1, reach + 1)
    low_pass = np.concatenate([half[:0:-1], half]).astype(np.float32)
    taken = birdnet_front_end._take_every_second(samples, low_pass)
    if not length // 2:
        assert len(taken) == 0
        return
    # The last one of an odd number is behind the last that is taken.
    given_samples = samples[: length // 2 * 2].astype(float)
    expected = oaconvolve(given_samples, low_pass.astype(float))[reach : reach + len(given_samples) : 2]
    np.testing.assert_allclose(taken, expected, atol=1e-5)
