"""The species range filter: what it does to probabilities, and what it never does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.metrics import roc_auc_score

from birdemb.classify.range_filter import HARD_FACTOR, RangeFilter, filter_by_range
from birdemb.errors import InputError

SETTINGS = st.builds(
    RangeFilter,
    mode=st.sampled_from(["soft", "hard"]),
    threshold=st.floats(1e-3, 1),
    strength=st.floats(0, 10),
    floor=st.floats(1e-6, 1e-3),
)


@st.composite
def tables(draw):
    """Probabilities of shape (windows, classes), occurrences of shape (recordings, classes), and each window's row."""
    windows, recordings, classes = draw(st.integers(0, 12)), draw(st.integers(1, 4)), draw(st.integers(1, 5))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    width = np.dtype(dtype).itemsize * 8
    probabilities = draw(npst.arrays(dtype, (windows, classes), elements=st.floats(0, 1, width=width)))
    occurrence = draw(
        npst.arrays(np.float32, (recordings, classes), elements=st.floats(0, 1, width=32) | st.just(np.nan))
    )
    owners = draw(npst.arrays(np.int64, windows, elements=st.integers(0, recordings - 1)))
    return probabilities, occurrence, owners


@given(tables(), SETTINGS)
def test_it_never_raises_and_stays_within_0_and_1(table, settings):
    probabilities, occurrence, owners = table
    given_before = probabilities.copy()
    result = filter_by_range(probabilities, occurrence, owners, settings).probabilities
    np.testing.assert_array_equal(probabilities, given_before)
    assert result.dtype == probabilities.dtype
    assert result.shape == probabilities.shape
    assert ((result >= 0) & (result <= probabilities)).all()


@given(tables(), SETTINGS)
def test_nothing_is_touched_where_the_occurrence_is_not_known_or_high_enough(table, settings):
    probabilities, occurrence, owners = table
    result = filter_by_range(probabilities, occurrence, owners, settings)
    kept = (np.isnan(occurrence) | (occurrence >= settings.threshold))[owners]
    np.testing.assert_array_equal(result.probabilities[kept], probabilities[kept])
    assert result.untouched == sum(np.isnan(row).all() for row in occurrence)
    assert (result.lowered <= (occurrence < settings.threshold).sum(axis=0)).all()


@given(tables(), SETTINGS)
def test_order_of_a_class_within_a_recording_is_kept(table, settings):
    probabilities, occurrence, owners = table
    result = filter_by_range(probabilities, occurrence, owners, settings).probabilities
    for recording in np.unique(owners):
        rows = owners == recording
        for column in range(probabilities.shape[1]):
            order = np.argsort(probabilities[rows, column], kind="stable")
            assert (np.diff(result[rows, column][order]) >= 0).all()


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), SETTINGS)
def test_likelier_species_keep_more(probability, one, other, settings):
    occurrence = np.array([[min(one, other)], [max(one, other)]])
    result = filter_by_range(np.full((2, 1), probability), occurrence, np.array([0, 1]), settings).probabilities
    assert result[0, 0] <= result[1, 0]


@given(st.floats(1e-6, 1 - 1e-6), st.floats(0, 1), st.floats(0, 3))
def test_soft_filter_adds_to_the_logit_what_its_formula_says(probability, occurrence, strength):
    settings = RangeFilter(strength=strength)
    row = filter_by_range(np.array([[probability]]), np.array([[occurrence]]), np.zeros(1, int), settings)
    expected = np.log(probability / (1 - probability)) + strength * np.log(np.clip(occurrence, 1e-4, 0.03) / 0.03)
    assert row.probabilities[0, 0] == pytest.approx(1 / (1 + np.exp(-expected)), rel=1e-6)


def test_hard_filter_leaves_nothing_to_detect_but_the_order():
    probabilities = np.array([[0.9, 0.9], [0.2, 0.2], [0.5, 0.5]], np.float32)
    occurrence = np.array([[0.0299, 0.03]])
    result = filter_by_range(probabilities, occurrence, np.zeros(3, int), RangeFilter(mode="hard"))
    np.testing.assert_allclose(result.probabilities[:, 0], probabilities[:, 0] * HARD_FACTOR, rtol=1e-6)
    np.testing.assert_array_equal(result.probabilities[:, 1], probabilities[:, 1])
    assert result.lowered.tolist() == [1, 0]


def test_recordings_have_places_of_their_own():
    probabilities = np.full((4, 3), 0.5)
    occurrence = np.array([[0.9, 0.0, np.nan], [0.0, 0.9, np.nan], [np.nan, np.nan, np.nan]])
    result = filter_by_range(probabilities, occurrence, np.array([1, 0, 2, 1]), RangeFilter())
    low = 1 / (1 + 300)
    np.testing.assert_allclose(
        result.probabilities, [[low, 0.5, 0.5], [0.5, low, 0.5], [0.5, 0.5, 0.5], [low, 0.5, 0.5]]
    )
    assert (result.untouched, result.lowered.tolist()) == (1, [1, 1, 0])


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_confusion_with_a_species_of_elsewhere_is_undone(mode):
    """Two places, each with one of two species that sound alike: ROC-AUC rises, and is 1 behind the hard filter."""
    rng = np.random.default_rng(0)
    owners = np.repeat([0, 1], 200)
    heard = rng.random(400) < 0.3
    truth = np.stack([heard & (owners == 0), heard & (owners == 1)], axis=1)
    alike = np.where(heard, rng.beta(4, 2, 400), rng.beta(2, 6, 400))
    probabilities = np.stack([alike, alike], axis=1)
    occurrence = np.array([[0.5, 0.0], [0.0, 0.5]])
    result = filter_by_range(probabilities, occurrence, owners, RangeFilter(mode=mode)).probabilities
    before, after = (roc_auc_score(truth, scores, average="macro") for scores in (probabilities, result))
    assert before < 0.9 < 0.95 < after


def test_long_table_is_filtered_as_its_parts_are(monkeypatch):
    rng = np.random.default_rng(3)
    probabilities, occurrence = rng.random((50, 4)), rng.random((5, 4)) * 0.05
    owners = rng.integers(0, 5, 50)
    whole = filter_by_range(probabilities, occurrence, owners, RangeFilter()).probabilities
    monkeypatch.setattr("birdemb.classify.range_filter._ROWS_AT_ONCE", 7)
    np.testing.assert_array_equal(
        filter_by_range(probabilities, occurrence, owners, RangeFilter()).probabilities, whole
    )


def test_no_window_and_a_probability_of_nan_are_no_harm():
    empty = filter_by_range(np.empty((0, 2)), np.array([[0.0, 1.0]]), np.empty(0, int), RangeFilter())
    assert empty.probabilities.shape == (0, 2)
    result = filter_by_range(np.array([[np.nan, 1.0]]), np.array([[0.0, 0.0]]), np.zeros(1, int), RangeFilter())
    assert np.isnan(result.probabilities[0, 0])
    assert result.probabilities[0, 1] == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mode": "off"}, "The range filter's mode is 'off'. Use 'soft' or 'hard'."),
        ({"threshold": 0}, "The range filter's threshold is 0. It has to be a number above 0 and at most 1."),
        ({"threshold": float("nan")}, "The range filter's threshold is nan."),
        ({"strength": -1}, "The range filter's strength is -1. It has to be a number at least 0 and at most 10."),
        ({"floor": 0.04}, "The range filter's floor is 0.04. It has to be a number above 0 and at most 0.03."),
    ],
)
def test_settings_out_of_range_are_refused(settings, said):
    with pytest.raises(InputError) as caught:
        RangeFilter(**settings)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("probabilities", "occurrence", "owners", "said"),
    [
        (np.ones((2, 3)), np.ones((1, 2)), np.zeros(2, int), "shape (2, 3) and occurrences of shape (1, 2) do not go"),
        (np.ones((2, 3)), np.ones(3), np.zeros(2, int), "shape (3,) do not go together"),
        (np.ones((2, 3)), np.ones((1, 3)), np.zeros(1, int), "a whole number for each of the 2 windows"),
        (np.ones((2, 3)), np.ones((1, 3)), np.zeros(2), "type float64. Expected a whole number"),
        (np.ones((2, 3)), np.ones((1, 3)), np.array([0, 1]), "name recordings 0 to 1; there are occurrences of 1"),
        (np.ones((2, 3)), np.ones((1, 3)), np.array([0, -1]), "name recordings -1 to 0"),
        (np.ones((2, 3)), np.full((1, 3), 1.5), np.zeros(2, int), "go from 1.5 to 1.5. Expected numbers from 0 to 1"),
        (np.ones((2, 3), int), np.ones((1, 3)), np.zeros(2, int), "of the type int64. Expected float32 or float64"),
    ],
)
def test_tables_that_do_not_go_together_are_refused(probabilities, occurrence, owners, said):
    with pytest.raises(InputError) as caught:
        filter_by_range(probabilities, occurrence, owners, RangeFilter())
    assert said in str(caught.value)
