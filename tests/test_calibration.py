"""Probabilities that mean what they say."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import rankdata
from sklearn.metrics import brier_score_loss, roc_auc_score

from birdemb.classify.calibration import CALIBRATIONS, Calibration
from birdemb.classify.entries import count_positive_groups
from birdemb.classify.platt import BINS
from birdemb.classify.reliability import brier_scores, calibration_error, reliability_table
from birdemb.classify.state import StateReader
from birdemb.errors import InputError

WINDOWS = 4


def make_scores(seed, groups=500, rates=(0.3, 0.1, 0.05), slope=2.0, spread=0.0):
    """Windows that come in groups; the heads' scores lack the classes' rates, as with balanced weights.

    The truth is drawn from ``expit(slope * score + intercept)``, the same for the windows of a group.
    """
    rng = np.random.default_rng(seed)
    slopes = slope * np.exp(spread * rng.normal(size=len(rates)))
    of_groups = rng.normal(size=(groups, len(rates))) * 1.5 / slopes * slope
    likely = expit(slopes * of_groups + logit(rates))
    of_groups_present = rng.random(likely.shape) < likely
    codes = np.repeat(np.arange(groups), WINDOWS)
    return (
        of_groups[codes],
        of_groups_present[codes],
        np.ones((len(codes), len(rates))),
        codes,
        likely[codes],
    )


def test_finds_the_curve_that_the_truth_was_drawn_from():
    scores, targets, weights, groups, likely = make_scores(0, groups=5000)
    calibration = Calibration.learn(scores, targets, weights, groups)
    assert calibration.slope == pytest.approx([2, 2, 2], rel=0.15)
    assert calibration.intercept == pytest.approx(logit([0.3, 0.1, 0.05]), abs=0.3)
    assert np.abs(calibration.apply(scores) - likely).mean() < 0.02
    np.testing.assert_allclose(calibration.apply_logits(scores), logit(calibration.apply(scores)), atol=1e-6)


@pytest.mark.parametrize("groups", [100, 800])
def test_the_slope_minimises_platts_misfit_and_its_distance_from_the_shared_one(groups):
    """Against scipy's optimiser on all windows; 800 groups are more windows than there are bins."""
    scores, targets, weights, codes, _ = make_scores(1, groups=groups, spread=0.4)
    weights = weights * np.random.default_rng(0).choice([0.0, 0.5, 1.5], weights.shape)
    assert (len(scores) > BINS) == (groups == 800)
    calibration = Calibration.learn(scores, targets, weights, codes)
    shared = fit_reference(scores, targets, weights, codes)
    for column in range(3):
        slope, intercept = fit_reference(
            scores[:, [column]], targets[:, [column]], weights[:, [column]], codes, centre=shared[0]
        )
        assert calibration.slope[column] == pytest.approx(slope, rel=2e-3)
        assert calibration.intercept[column] == pytest.approx(intercept, abs=5e-3)


def fit_reference(scores, targets, weights, groups, centre=None):
    weights = weights * ((weights > 0).sum(axis=0) / weights.sum(axis=0))
    positives, negatives = (weights * targets).sum(axis=0), (weights * ~targets).sum(axis=0)
    aims = np.where(targets, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    say = np.minimum(count_positive_groups(targets, weights, groups) / positives, 1)

    def misfit(values):
        lines = values[0] * scores + values[1:]
        loss = np.sum(say * weights * (np.logaddexp(0, lines) - aims * lines))
        return loss + (0 if centre is None else 2 * (values[0] / centre - 1) ** 2)

    start = np.concatenate([[1.0], np.full(scores.shape[1], -2.0)])
    return minimize(misfit, start, method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-8, "maxfun": 10**5}).x


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_heads_with_balanced_weights_become_honest(method):
    fitted, fresh = (make_scores(seed, groups=2000, rates=(0.02,) * 8) for seed in (2, 3))
    calibration = Calibration.learn(*fitted[:4], method)
    scores, targets, weights = fresh[:3]
    before, after = expit(2 * scores), calibration.apply(scores)
    assert brier_scores(after, targets, weights).mean() < 0.3 * brier_scores(before, targets, weights).mean()
    assert calibration_error(reliability_table(after, targets, weights)) < 0.01
    assert calibration_error(reliability_table(before, targets, weights)) > 0.3


def test_rare_classes_gain_by_what_is_shared():
    """Twenty classes with few positive groups each, whose slopes differ: log loss on fresh windows."""

    def loss(slope, intercept):
        lines = scores * slope + intercept
        return (np.logaddexp(0, lines) - targets * lines).mean()

    gains = []
    for seed in range(5):
        rates = np.full(20, 0.01)
        scores, targets, weights, groups, likely = make_scores(seed, groups=1500, rates=rates, spread=0.3)
        train = groups < 500
        shrunk = Calibration.learn(scores[train], targets[train], weights[train], groups[train])
        alone = [
            Calibration.learn(*(array[train][:, [c]] for array in (scores, targets, weights)), groups[train])
            for c in range(20)
        ]
        scores, targets = scores[~train], likely[~train]
        own = np.array([(each.slope[0], each.intercept[0]) for each in alone]).T
        gains.append(loss(*own) - loss(shrunk.slope, shrunk.intercept))
    assert np.mean(gains) > 0


@pytest.mark.parametrize("method", ["platt", "isotonic"])
@pytest.mark.parametrize("worth", [2.0, -1.0])
def test_the_ranking_inside_a_class_stays(method, worth):
    scores, targets, weights, groups, _ = make_scores(4)
    calibration = Calibration.learn(worth * scores, targets, weights, groups, method)
    assert (len(calibration.curves) > 0) == (method == "isotonic")
    assert (calibration.slope > 0).all()
    for probabilities in (calibration.apply(worth * scores), calibration.apply_logits(worth * scores)):
        for column in range(3):
            assert roc_auc_score(targets[:, column], probabilities[:, column]) == pytest.approx(
                roc_auc_score(targets[:, column], worth * scores[:, column]), abs=1e-12
            )
            assert np.array_equal(rankdata(probabilities[:, column]), rankdata(worth * scores[:, column]))


@pytest.mark.parametrize("method", ["platt", "isotonic"])
@pytest.mark.parametrize("positive", ["none", "one group", "all", "masked"])
def test_classes_without_evidence_get_something_sensible(method, positive):
    scores, targets, weights, groups, _ = make_scores(5)
    targets[:, 2] = {"none": False, "one group": groups == 7, "all": True, "masked": True}[positive]
    if positive == "masked":
        weights[:, 2] = 0
    calibration = Calibration.learn(scores, targets, weights, groups, method)
    probabilities = calibration.apply(scores)[:, 2]
    shared = calibration.slope[:2].mean()
    assert calibration.slope[2] == pytest.approx(shared, rel=0.5)
    expected = {
        "none": 1 / (len(scores) + 2),
        "one group": (4 * 5 / 6 + 1) / len(scores),
        "all": 1 - 1 / (len(scores) + 2),
        "masked": targets[:, :2].mean(),
    }[positive]
    assert probabilities.mean() == pytest.approx(expected, rel=0.05)
    assert probabilities.min() > 0
    assert probabilities.max() < 1
    assert 2 not in calibration.curves


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_a_class_that_cannot_be_assessed_gets_its_share_and_the_shared_slope(method):
    scores, targets, weights, groups, _ = make_scores(5)
    misleading = np.where(targets, -13.8, scores) * [0, 0, 1] + scores * [1, 1, 0]
    assessable = np.array([True, True, False])
    calibration = Calibration.learn(misleading, targets, weights, groups, method, assessable=assessable)
    alone = Calibration.learn(scores[:, :2], targets[:, :2], weights[:, :2], groups, method)
    assert calibration.slope[:2] == pytest.approx(alone.slope, rel=1e-6)
    assert alone.slope.min() < calibration.slope[2] < alone.slope.max()
    assert calibration.apply(misleading)[:, 2].mean() == pytest.approx(targets[:, 2].mean(), rel=0.02)
    assert 2 not in calibration.curves


def test_a_class_with_constant_scores_gets_its_share():
    scores, targets, weights, groups, _ = make_scores(6)
    scores[:, 1] = -13.8
    calibration = Calibration.learn(scores, targets, weights, groups, "isotonic")
    assert calibration.apply(scores)[:, 1] == pytest.approx(targets[:, 1].mean(), rel=0.02)


def test_a_shared_slope_needs_evidence():
    scores, targets, weights, groups, _ = make_scores(7)
    calibration = Calibration.learn(scores, np.zeros_like(targets), weights, groups)
    assert calibration.slope == pytest.approx([1, 1, 1])


def test_one_recording_does_not_count_as_many():
    """A class with ten thousand windows of two recordings keeps close to the others; one with as many groups not."""
    rng = np.random.default_rng(8)
    common, targets, _, groups, _ = make_scores(8, groups=1000, rates=(0.2,) * 6)
    slopes = []
    for alike in (True, False):
        flat = rng.normal(size=len(common)) * 3
        codes = groups.copy()
        present = rng.random(len(common)) < expit(0.3 * flat - 2)
        codes[present] = (codes[present] % 2 if alike else np.arange(present.sum())) + 10_000
        both = np.column_stack([common, flat]), np.column_stack([targets, present])
        slopes.append(Calibration.learn(*both, np.ones((len(common), 7)), codes).slope[-1])
    assert slopes[1] == pytest.approx(0.3, rel=0.2)
    assert slopes[0] > 1.3 * slopes[1]


def test_unknown_entries_and_the_scale_of_weights_make_no_difference():
    scores, targets, weights, groups, _ = make_scores(9)
    rng = np.random.default_rng(9)
    weights *= rng.random(weights.shape) < 0.8
    before = Calibration.learn(scores, targets, weights, groups, "isotonic")
    hidden = weights == 0
    other = np.where(hidden, rng.normal(size=scores.shape), scores)
    after = Calibration.learn(other, targets ^ hidden, weights * [1, 7, 0.1], groups, "isotonic")
    np.testing.assert_allclose(after.apply(scores), before.apply(scores), rtol=1e-6)


@given(st.integers(0, 10**6), st.sampled_from(CALIBRATIONS), st.floats(0.01, 1e4), st.floats(-1e3, 1e3))
def test_always_rising_and_never_certain(seed, method, scale, shift):
    rng = np.random.default_rng(seed)
    n, classes = rng.integers(1, 60), rng.integers(1, 4)
    scores = rng.normal(size=(n, classes)).round(1) * scale + shift
    targets = rng.random((n, classes)) < rng.random()
    weights = rng.choice([0.0, 0.3, 1.0], (n, classes))
    weights[0, 0] = 1.0
    calibration = Calibration.learn(scores, targets, weights, rng.integers(0, 9, n), method)
    assert np.isfinite(calibration.apply_logits(scores)).all()
    probabilities = calibration.apply(np.sort(scores, axis=0))
    assert (np.diff(probabilities, axis=0) >= 0).all()
    if method != "none":
        # Of what it has seen: smoothed targets are below 1, and so is the mean that follows them.
        seen = np.where(weights.any(axis=0), weights, 1.0)
        assert (np.average(calibration.apply(scores), axis=0, weights=seen) < 1).all()


@pytest.mark.parametrize("method", CALIBRATIONS)
def test_state_comes_back_bit_for_bit(method):
    scores, targets, weights, groups, _ = make_scores(10)
    targets[:, 2] = False
    calibration = Calibration.learn(scores, targets, weights, groups, method)
    state = calibration.get_state()
    reader = StateReader(state)
    again = Calibration.read_state(reader, 3)
    reader.refuse_rest()
    assert np.array_equal(again.apply(scores), calibration.apply(scores))
    if method == "none":
        assert np.array_equal(calibration.apply(scores), expit(scores))


@pytest.mark.parametrize(
    "change",
    [
        {"calibration_method": "magic"},
        {"calibration_slope": np.array([1.0, 0.0, 1.0])},
        {"calibration_slope": np.array([1.0, np.nan, 1.0])},
        {"calibration_intercept": np.zeros(2)},
        {"calibration_points": np.array([-1, 1, 0])},
        {"calibration_points": np.array([2**62, 2**62, 2**62])},
        {"calibration_points": np.array([1, 2, 0])},
        {"calibration_scores": np.array([0.0, 0.0])},
        {"calibration_shares": np.array([0.7, 0.2])},
        {"calibration_shares": np.array([0.0, 0.2])},
        {"calibration_shares": np.array([0.7, 1.0])},
    ],
)
def test_hostile_state_is_refused(change):
    state = {
        "calibration_method": "isotonic",
        "calibration_slope": np.ones(3),
        "calibration_intercept": np.zeros(3),
        "calibration_points": np.array([0, 2, 0]),
        "calibration_scores": np.array([0.0, 1.0]),
        "calibration_shares": np.array([0.2, 0.7]),
    }
    Calibration.read_state(StateReader(state), 3)
    with pytest.raises(InputError):
        Calibration.read_state(StateReader(state | change), 3)


def test_what_cannot_be_learnt_from_is_refused():
    scores, targets, weights, groups, _ = make_scores(11)
    for given_arrays, words in (
        ((scores[:-1], targets, weights, groups), "shapes"),
        ((scores, targets, weights, groups[1:]), "groups"),
        ((np.where(targets, np.inf, scores), targets, weights, groups), "finite"),
        ((scores, targets, weights * 0, groups), "weights"),
        ((scores, targets, -weights, groups), "weights"),
    ):
        with pytest.raises(InputError, match=words):
            Calibration.learn(*given_arrays)
    with pytest.raises(InputError, match="'isotonic'"):
        Calibration.learn(scores, targets, weights, groups, "beta")
    with pytest.raises(InputError, match="expected"):
        Calibration.learn(scores, targets, weights, groups).apply(scores[:, :2])


def test_brier_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(12)
    probabilities, weights = rng.random((50, 3)), rng.choice([0.0, 1.0, 2.5], (50, 3))
    targets = rng.random((50, 3)) < 0.4
    weights[:, 2] = 0
    scores = brier_scores(probabilities, targets, weights)
    for column in range(2):
        assert scores[column] == pytest.approx(
            brier_score_loss(targets[:, column], probabilities[:, column], sample_weight=weights[:, column])
        )
    assert np.isnan(scores[2])


def test_reliability_by_hand():
    probabilities = np.array([[0.0, 0.5], [0.2, 0.9], [0.5, 1.0], [0.99, 0.3]])
    targets = np.array([[0, 1], [1, 1], [0, 1], [1, 0]], bool)
    weights = np.array([[1.0, 2.0], [1.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    table = reliability_table(probabilities, targets, weights, [0, 0.5, 1])
    expected = pd.DataFrame(
        {
            "bin": [0, 1],
            "low": [0.0, 0.5],
            "high": [0.5, 1.0],
            "count": [2, 5],
            "weight": [2.0, 6.0],
            "mean_predicted": [0.1, (0.5 + 0.99 + 1.0 + 0.9 + 1.0) / 6],
            "share_positive": [0.5, 5 / 6],
        }
    )
    pd.testing.assert_frame_equal(table, expected)
    assert calibration_error(table) == pytest.approx((2 * 0.4 + 6 * (5 - 4.39) / 6) / 8)
    by_class = reliability_table(probabilities, targets, weights, 2, per_class=True)
    assert by_class[["class", "bin", "count"]].to_numpy().tolist() == [[0, 0, 2], [0, 1, 2], [1, 1, 3]]
    for wrong in (0, [0.0, 0.5], [0.0, 0.5, 0.5, 1.0]):
        with pytest.raises(InputError, match="bins"):
            reliability_table(probabilities, targets, weights, wrong)
