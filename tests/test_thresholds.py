"""Thresholds against a search through all of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

from birdemb.classify import thresholds as module
from birdemb.classify.state import StateReader
from birdemb.classify.thresholds import Thresholds, check_aim, choose_thresholds
from birdemb.errors import InputError


@st.composite
def entries(draw):
    """Few distinct values, so that ties and equally good thresholds are common; weights that add up exactly."""
    n, classes = draw(st.integers(1, 25)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    probabilities = rng.integers(0, draw(st.integers(1, 12)) + 1, (n, classes)) / 12
    targets = rng.random((n, classes)) < draw(st.sampled_from([0.0, 0.2, 0.5, 1.0]))
    weights = rng.choice([0.0, 0.5, 1.0, 2.0], (n, classes))
    weights[0, 0] = 1.0
    return probabilities, targets, weights, rng.integers(0, 6, n)


def search(probabilities, targets, weights, aim):
    """Try every threshold there is, from the highest down; NaN where none will do."""
    best, best_value = np.nan, 0.0
    for threshold in np.unique(probabilities)[::-1]:
        hits = probabilities >= threshold
        right, detected, present = (weights[flags].sum() for flags in (hits & targets, hits, targets))
        if aim == "f1":
            value = 2 * right / (detected + present) if present else 0.0
        else:
            value = right if detected and right / detected >= aim - 1e-12 else 0.0
        if value > best_value:
            best, best_value = threshold, value
    return best


@given(entries(), st.sampled_from(["f1", 0.5, 0.75, 0.9, 1.0]))
def test_as_a_search_through_all_thresholds(given_entries, aim):
    probabilities, targets, weights, _ = given_entries
    own = choose_thresholds(*given_entries, aim, fewest_groups=0, resamples=0)
    pool = choose_thresholds(*given_entries, aim, fewest_groups=100, resamples=0)
    known = weights > 0
    for column in range(probabilities.shape[1]):
        rows = known[:, column]
        expected = search(*(array[rows, column] for array in (probabilities, targets, weights)), aim)
        assert own.threshold[column] == pytest.approx(expected, nan_ok=True, abs=0)
        hits = own.apply(probabilities)[rows, column]
        truth, weight = targets[rows, column], weights[rows, column]
        for name, metric in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
            value = getattr(own, name)[column]
            if not np.isnan(value):
                assert value == pytest.approx(metric(truth, hits, sample_weight=weight, zero_division=0.0))
        if aim != "f1" and not np.isnan(expected):
            assert own.precision[column] >= aim - 1e-9
    expected = search(probabilities[known], targets[known], weights[known], aim)
    assert pool.threshold == pytest.approx(np.full(probabilities.shape[1], expected), nan_ok=True, abs=0)
    assert pool.pooled.all()
    assert not own.pooled.any()


def make_entries(seed, groups=300):
    """Three classes with 300, about 30 and 2 positive groups of four windows; probabilities are true."""
    rng = np.random.default_rng(seed)
    likely = rng.beta([1.0, 0.1, 0.1], [1.0, 0.9, 0.9], (groups, 3))
    present = rng.random((groups, 3)) < likely
    present[:, 2] = False
    present[:2, 2] = True
    codes = np.repeat(np.arange(groups), 4)
    return likely[codes], present[codes], np.ones((4 * groups, 3)), codes


def test_rare_classes_take_the_threshold_of_all():
    given_entries = make_entries(0)
    chosen = choose_thresholds(*given_entries)
    table = chosen.table(["robin", "rook", "rail"])
    assert table["class"].tolist() == ["robin", "rook", "rail"]
    assert table["source"].tolist() == ["class", "class", "pool"]
    assert table["positive_groups"].tolist()[2] == 2
    assert table["reached"].all()
    everything = choose_thresholds(*given_entries, fewest_groups=1000)
    assert chosen.threshold[2] == everything.threshold[0]
    assert (chosen.low[2], chosen.high[2]) == (everything.low[0], everything.high[0])
    assert chosen.table()["class"].tolist() == [0, 1, 2]


def test_a_precision_that_is_never_reached_gives_no_detections():
    probabilities, targets, weights, groups = make_entries(1)
    targets[:, 1] &= probabilities[:, 1] < 0.5
    probabilities[0, 1] = 0.99
    targets[:4, 1] = False
    chosen = choose_thresholds(probabilities, targets, weights, groups, 0.95, fewest_groups=1)
    assert chosen.table()["reached"].tolist()[:2] == [True, False]
    assert not chosen.apply(probabilities)[:, 1].any()
    assert np.isnan([chosen.threshold[1], chosen.low[1], chosen.precision[1]]).all()
    assert chosen.recall[1] == 0
    assert chosen.precision[0] >= 0.95


@pytest.mark.parametrize("aim", ["f1", 0.7])
def test_the_interval_is_that_of_resampled_groups(aim):
    """Against drawing the windows of the groups one resampling at a time."""
    probabilities, targets, weights, groups = make_entries(2, groups=60)
    resamples = 300
    chosen = choose_thresholds(
        probabilities, targets, weights, groups, aim, resamples=resamples, seed=5, fewest_groups=1
    )
    draws = np.random.default_rng(5).multinomial(60, np.full(60, 1 / 60), resamples)
    for column in range(2):
        found = []
        for draw in draws:
            times = draw[groups]
            rows = np.repeat(np.arange(len(groups)), times)
            found.append(search(*(array[rows, column] for array in (probabilities, targets, weights)), aim))
        low, high = np.nanquantile(found, [0.05, 0.95])
        assert (chosen.low[column], chosen.high[column]) == pytest.approx((low, high))
        assert low < high


def test_windows_of_one_recording_do_not_make_the_interval_narrower():
    wider = []
    for seed in range(5):
        probabilities, targets, weights, groups = make_entries(seed, groups=400)
        by_group = choose_thresholds(probabilities, targets, weights, groups)
        by_window = choose_thresholds(probabilities, targets, weights, np.arange(len(groups)))
        wider.append(((by_group.high - by_group.low) - (by_window.high - by_window.low))[0])
        assert np.array_equal(by_group.threshold[:2], by_window.threshold[:2])
    assert np.mean(wider) > 0.02
    alone = choose_thresholds(probabilities, targets, weights, np.zeros(len(groups), int), fewest_groups=1)
    assert np.isnan(alone.low).all()
    assert np.array_equal(alone.threshold[:2], by_group.threshold[:2])


def test_few_candidates_change_the_interval_little(monkeypatch):
    given_entries = make_entries(4, groups=1000)
    coarse = choose_thresholds(*given_entries)
    monkeypatch.setattr(module, "BOOTSTRAP_POINTS", 10**6)
    monkeypatch.setattr(module, "SLACK", 10**6)
    exact = choose_thresholds(*given_entries)
    assert np.array_equal(coarse.threshold, exact.threshold)
    np.testing.assert_allclose(coarse.low, exact.low, atol=0.02)
    np.testing.assert_allclose(coarse.high, exact.high, atol=0.02)


@pytest.mark.parametrize("aim", ["f1", 0.97])
def test_state_comes_back(aim):
    probabilities, targets, weights, groups = make_entries(5)
    targets[:, 1] = False
    chosen = choose_thresholds(probabilities, targets, weights, groups, aim, fewest_groups=0)
    assert np.isnan(chosen.threshold[1])
    state = chosen.get_state()
    assert all(isinstance(part, str) or np.isfinite(part).all() for part in state.values())
    reader = StateReader(state)
    again = Thresholds.read_state(reader, 3)
    reader.refuse_rest()
    assert again.table().equals(chosen.table())
    assert again.aim == chosen.aim
    assert np.array_equal(again.apply(probabilities), chosen.apply(probabilities))


@pytest.mark.parametrize(
    "change",
    [
        {"thresholds_aim": "f2"},
        {"thresholds_aim": "nan"},
        {"thresholds_threshold": np.array([0.5, 1.5, 0.5])},
        {"thresholds_threshold": np.array([0.5, -0.5, 0.5])},
        {"thresholds_low": np.array([0.5, np.nan, 0.5])},
        {"thresholds_recall": np.array([0.5, 0.5])},
        {"thresholds_positive_groups": np.array([0, -1, 0])},
        {"thresholds_positive_groups": np.array([0.0, 1.0, 0.0])},
        {"thresholds_pooled": np.array([0, 1, 0])},
    ],
)
def test_hostile_state_is_refused(change):
    state = choose_thresholds(*make_entries(6), resamples=0).get_state()
    Thresholds.read_state(StateReader(state), 3)
    with pytest.raises(InputError):
        Thresholds.read_state(StateReader(state | change), 3)


@pytest.mark.parametrize("aim", ["F1", "", 0, 0.0, 1.01, -0.5, float("nan"), None, True, "much"])
def test_aims_that_do_not_exist(aim):
    with pytest.raises(InputError, match="aim"):
        check_aim(aim)
    with pytest.raises(InputError, match="aim"):
        choose_thresholds(*make_entries(7), aim)


def test_what_does_not_fit_is_refused():
    probabilities, targets, weights, groups = make_entries(8)
    check_aim("0.9")
    with pytest.raises(InputError, match="Calibrate"):
        choose_thresholds(probabilities * 2, targets, weights, groups)
    with pytest.raises(InputError, match="groups"):
        choose_thresholds(probabilities, targets, weights, groups[1:])
    for wrong in ({"fewest_groups": -1}, {"resamples": 1.5}, {"confidence": 1.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            choose_thresholds(probabilities, targets, weights, groups, **wrong)
    with pytest.raises(InputError, match="expected"):
        choose_thresholds(probabilities, targets, weights, groups, resamples=0).apply(probabilities[:, :2])


def test_the_threshold_of_all_classes_keeps_the_precision_among_very_many_windows():
    rng = np.random.default_rng(0)
    n = 60_000
    share = rng.beta(0.5, 1, size=(n, 2)) * (np.arange(n)[:, np.newaxis] % 2)
    targets = rng.random((n, 2)) < share
    groups = np.arange(n) // n  # one group: both classes take the threshold of all
    thresholds = choose_thresholds(share, targets, np.ones((n, 2)), groups, 0.9, resamples=0)
    hits = share >= thresholds.threshold
    assert targets[hits].mean() == pytest.approx(0.9, abs=0.02)
