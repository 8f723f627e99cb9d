"""How much memory the probabilities of many windows take while they are made, and when they are processed."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from bundle_files import make_small_head

from birdemb import inference
from birdemb.classify.blending import Blend
from birdemb.classify.ensemble import Ensemble, Member
from birdemb.classify.postprocessing import Postprocessing, Smooth
from birdemb.errors import InputError
from birdemb.listing import EmbeddedRecording

WINDOWS, CLASSES, RECORDINGS = 100, 50, 200
SHAPE = (RECORDINGS * WINDOWS, CLASSES)
SIZE = 8 * SHAPE[0] * SHAPE[1]


class Run:
    """A run whose cache holds the same windows for every recording."""

    def __init__(self):
        self.cache = self
        self.windows = np.random.default_rng(0).normal(size=(WINDOWS, 8)).astype(np.float32)

    def read(self, contents):
        return np.tile(self.windows, (len(contents), 1))


@pytest.fixture(scope="module")
def head():
    rng = np.random.default_rng(0)
    targets = np.arange(100)[:, None] % CLASSES == np.arange(CLASSES)
    return make_small_head("lr").fit(rng.normal(size=(100, 8)).astype(np.float32), targets)


def measure(function, *args, **settings):
    """Give the result, and the most that was allocated on the way to it, in tables of probabilities."""
    tracemalloc.start()
    try:
        result = function(*args, **settings)
        return result, tracemalloc.get_traced_memory()[1] / SIZE
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize(("method", "most"), [("mean", 1.6), ("ranks", 5.0)])  # ranks need the logits of both heads
def test_probabilities_are_in_memory_once(head, monkeypatch, method, most):
    monkeypatch.setattr(inference, "_WINDOWS_AT_ONCE", 10 * WINDOWS)
    ensemble = Ensemble((Member(head), Member(head)), (None,), Blend.equal(method, 2, CLASSES))
    entries = [EmbeddedRecording(str(number), "00", WINDOWS, 5.0 * WINDOWS) for number in range(RECORDINGS)]
    probabilities, peak = measure(
        inference._predict_probabilities, SimpleNamespace(ensemble=ensemble), [Run()], entries
    )
    assert probabilities.shape == SHAPE
    assert peak < most
    # Logits of the same window differ by rounding, and so do their ranks.
    np.testing.assert_allclose(probabilities[-WINDOWS:], probabilities[:WINDOWS], atol=0.02)


def test_post_processing_can_take_the_place_of_what_it_was_given(monkeypatch):
    monkeypatch.setattr("birdemb.classify.postprocessing.context._ROWS_AT_ONCE", 10 * WINDOWS)
    steps = Postprocessing((Smooth(),))
    probabilities = np.random.default_rng(0).random(SHAPE)
    numbers = np.repeat(np.arange(RECORDINGS), WINDOWS)[::-1].copy()
    starts = np.tile(5.0 * np.arange(WINDOWS), RECORDINGS)
    expected = steps.apply(probabilities, numbers, starts)
    processed, peak = measure(steps.apply, probabilities, numbers, starts, out=probabilities)
    assert processed is probabilities
    assert peak < 0.8
    np.testing.assert_array_equal(processed, expected)
    assert Postprocessing().apply(probabilities, numbers, starts, out=np.empty(SHAPE)) is not probabilities
    with pytest.raises(InputError, match=r"expected float64 of shape \(20000, 50\)"):
        steps.apply(probabilities, numbers, starts, out=np.empty(SHAPE, np.float32))
