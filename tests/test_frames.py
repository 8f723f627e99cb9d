"""Frames: cutting, level and pooling, against the definitions in plain Python."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from birdemb.embed.frames import cut_frames, pool_rows, set_level
from birdemb.embed.windows import place_frames

SAMPLES = st.floats(-4, 4, width=32)
FRAMES = arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=SAMPLES)
ROWS = arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3)), elements=SAMPLES)


def normalize_audio(frame, target_peak):
    """What perch-hoplite's function of this name does to one frame, in exact arithmetic as far as Python has it."""
    values = [float(value) for value in frame]
    mean = sum(values) / len(values)
    centred = [value - mean for value in values]
    peak = max(abs(value) for value in centred)
    return [value / peak * target_peak if peak else 0.0 for value in centred]


@given(
    arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 12)), elements=SAMPLES),
    st.lists(st.integers(0, 11), min_size=1, max_size=4),
    st.integers(1, 20),
)
def test_frames_are_the_window_s_samples_and_zeros_behind_its_end(windows, starts, samples):
    before = windows.copy()
    frames = cut_frames(windows, starts, samples)
    assert frames.shape == (len(windows) * len(starts), samples)
    for number, frame in enumerate(frames):
        window, start = windows[number // len(starts)], starts[number % len(starts)]
        for place, value in enumerate(frame):
            assert value == (window[start + place] if start + place < len(window) else 0)
    np.testing.assert_array_equal(windows, before)


@given(st.floats(0.1, 20), st.floats(0.1, 20))
def test_placed_frames_leave_nothing_unheard(window, frame):
    starts = place_frames(window, frame)
    assert starts[0] == 0
    assert all(later - earlier <= frame + 1e-9 for earlier, later in itertools.pairwise(starts))
    assert starts[-1] + frame >= window - 1e-9
    assert len(starts) == 1 or starts[-1] + frame == pytest.approx(window)


@given(FRAMES, st.floats(0.01, 1))
def test_peak_is_reached_and_the_form_kept(frames, peak):
    levelled = set_level(frames, "peak", peak)
    assert levelled.dtype == np.float32
    for frame, result in zip(frames, levelled, strict=True):
        largest = np.abs(frame).max()
        expected = frame.astype(np.float64) / largest * peak if largest else np.zeros(len(frame))
        np.testing.assert_allclose(result, expected, atol=1e-6)


@given(FRAMES, st.floats(0.01, 1))
@example(np.full((1, 3), 0.1, np.float32), 0.25)
@example(np.array([[1e-30, 3e-30, 2e-30]], np.float32), 0.25)
def test_centred_peak_is_hoplite_s_rule(frames, peak):
    before = frames.copy()
    levelled = set_level(frames, "centred-peak", peak)
    np.testing.assert_array_equal(frames, before)
    assert np.isfinite(levelled).all()
    for frame, result in zip(frames, levelled, strict=True):
        spread = float(frame.max()) - float(frame.min())
        # Where all samples are all but equal, what is left of them is rounding, in whatever arithmetic.
        if spread == 0 or spread > 1e-3 * np.abs(frame).max():
            np.testing.assert_allclose(result, normalize_audio(frame, peak), atol=2e-3 * peak)


@given(FRAMES, st.sampled_from([2.0**-10, 0.5, 4.0]))
def test_gain_changes_nothing_behind_a_level(frames, gain):
    # Powers of 2 are exact, but for the smallest of numbers, of which bits are lost.
    smallest = 2.0**20 * np.finfo(np.float32).tiny
    for values in (frames, frames * np.float32(gain)):
        assume((np.abs(values[values != 0]) > smallest).all())
    for level in ("peak", "centred-peak"):
        np.testing.assert_allclose(
            set_level(frames * np.float32(gain), level, 0.25), set_level(frames, level, 0.25), atol=1e-5
        )
    np.testing.assert_array_equal(set_level(frames, "none", 0.0), frames)


@given(ROWS)
def test_pooling_is_what_its_name_says(rows):
    mean = [[np.mean(column, dtype=np.float64) for column in window.T] for window in rows]
    largest = [[max(column) for column in window.T] for window in rows]
    for pooling in ("mean", "whole"):
        np.testing.assert_allclose(pool_rows(rows, pooling), mean, atol=1e-5)
    np.testing.assert_array_equal(pool_rows(rows, "max"), largest)
    both = pool_rows(rows, "mean+max")
    width = rows.shape[2]
    np.testing.assert_allclose(both[:, :width], mean, atol=1e-5)
    np.testing.assert_array_equal(both[:, width:], largest)
