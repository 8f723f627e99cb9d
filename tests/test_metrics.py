"""The metrics against scikit-learn's own, and what a bootstrap makes of them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    label_ranking_average_precision_score,
    roc_auc_score,
)

from birdemb.errors import InputError
from birdemb.metrics import (
    METRICS,
    average_precision_by_class,
    bootstrap_interval,
    measure,
    roc_auc_by_class,
    score_submission,
    score_windows,
)
from birdemb.resampled import Evaluation


def make_table(values, row_ids=None, classes=None):
    row_ids = row_ids or [f"a_{5 * index + 5}" for index in range(len(values))]
    table = pd.DataFrame(values, columns=classes or [f"class{index}" for index in range(values.shape[1])])
    table.insert(0, "row_id", row_ids)
    return table


@st.composite
def predictions(draw):
    """Truth with at least one class to be scored, and scores with ties."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, classes = draw(st.integers(2, 60)), draw(st.integers(1, 8))
    truth = (rng.random((rows, classes)) < draw(st.sampled_from([0.05, 0.3, 0.9]))).astype(np.float64)
    truth[:2, 0] = [0, 1]
    return truth, np.round(rng.random((rows, classes)), draw(st.sampled_from([1, 2, 12])))


@settings(max_examples=min(40, settings().max_examples))
@given(predictions(), st.integers(0, 2**32 - 1))
def test_scores_are_scikit_learns_macro_averages(case, seed):
    truth, guess = case
    shuffled = make_table(guess).sample(frac=1, random_state=np.random.default_rng(seed))
    got = score_submission(shuffled, make_table(truth))
    positives = truth.sum(axis=0)
    scorable = (positives > 0) & (positives < len(truth))
    truth, guess = truth[:, scorable], guess[:, scorable]
    assert got.macro_roc_auc == pytest.approx(roc_auc_score(truth, guess, average="macro"))
    assert got.macro_average_precision == pytest.approx(average_precision_score(truth, guess, average="macro"))
    assert got.scored == scorable.sum()
    assert got.rows == len(truth)
    np.testing.assert_array_equal(got.classes["positives"], positives)
    np.testing.assert_array_equal(got.classes["roc_auc"].notna(), scorable)


def test_classes_without_a_positive_or_a_negative_are_left_out():
    truth = make_table(np.array([[1, 0, 1], [0, 0, 1]]), classes=["wren", "owl", "crow"])
    guess = make_table(np.array([[0.9, 0.1, 0.1], [0.2, 0.9, 0.2]]), classes=["wren", "owl", "crow"])
    got = score_submission(guess, truth)
    assert got.macro_roc_auc == 1.0
    assert got.scored == 1
    assert list(got.classes["class"]) == ["wren", "owl", "crow"]
    assert list(got.classes["positives"]) == [1, 0, 2]
    np.testing.assert_array_equal(got.classes["average_precision"], [1.0, np.nan, np.nan])


def test_ties_count_half():
    truth = make_table(np.array([[1], [0], [0], [1]]))
    assert score_submission(make_table(np.full((4, 1), 0.5)), truth).macro_roc_auc == 0.5
    assert score_submission(make_table(np.array([[0.5], [0.5], [0.1], [0.9]])), truth).macro_roc_auc == 0.875


def test_the_wrong_way_round_is_0():
    truth = make_table(np.array([[1], [0]]))
    assert score_submission(make_table(np.array([[0.1], [0.9]])), truth).macro_roc_auc == 0.0


def test_more_rows_and_classes_than_the_truth_change_nothing():
    truth = make_table(np.array([[1], [0]]), ["a_5", "a_10"], ["wren"])
    guess = make_table(np.array([[0.1, 9], [0.9, 9], [0.2, 9]]), ["z_5", "a_5", "a_10"], ["wren", "owl"])
    got = score_submission(guess, truth)
    assert got.macro_roc_auc == 1.0
    assert got.rows == 2
    assert list(got.classes["class"]) == ["wren"]


def test_a_missing_row_is_told():
    truth = make_table(np.array([[1], [0], [0]]), ["a_5", "a_10", "a_15"])
    with pytest.raises(InputError, match="lacks 1 of the 3 rows of the truth, such as 'a_10'"):
        score_submission(make_table(np.ones((2, 1)), ["a_5", "a_15"]), truth)


def test_a_missing_class_is_told():
    truth = make_table(np.array([[1, 0], [0, 1]]), classes=["wren", "owl"])
    with pytest.raises(InputError, match="no column for 1 classes of the truth, such as 'owl'"):
        score_submission(make_table(np.ones((2, 1)), classes=["wren"]), truth)


@pytest.mark.parametrize("value", [0.5, 2, -1, np.nan])
def test_a_truth_that_is_not_0_or_1_is_refused(value):
    with pytest.raises(InputError, match="0 or 1"):
        score_submission(make_table(np.ones((2, 1))), make_table(np.array([[1], [value]])))


@pytest.mark.parametrize("value", [0, 1])
def test_where_nothing_can_be_scored_the_error_says_so(value):
    with pytest.raises(InputError, match="nothing can be scored"):
        score_submission(make_table(np.ones((3, 1))), make_table(np.full((3, 1), value)))


@st.composite
def cases(draw):
    """Truth, scores with ties and constant columns, what is known, and groups."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    windows, classes = draw(st.integers(1, 40)), draw(st.integers(1, 6))
    truth = rng.random((windows, classes)) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    scores = np.round(rng.random((windows, classes)), draw(st.sampled_from([0, 1, 12])))
    scores[:, rng.random(classes) < 0.2] = 0.5
    known = rng.random((windows, classes)) < draw(st.sampled_from([0.6, 1.0]))
    return truth, scores, known, rng.integers(0, draw(st.integers(1, 8)), windows)


def measure_by_scikit_learn(truth, scores, known, thresholds, weight):
    """Each metric with a weight for each window, entry by entry."""
    areas, precisions, padded, f1 = [], [], [], []
    for column in range(truth.shape[1]):
        kept = known[:, column] & (weight > 0)
        y, score, w = truth[kept, column], scores[kept, column], weight[kept]
        if y.any() and not y.all():
            areas.append(roc_auc_score(y, score, sample_weight=w))
        if y.any():
            precisions.append(average_precision_score(y, score, sample_weight=w))
            f1.append(f1_score(y, score >= thresholds[column], sample_weight=w))
        added = np.ones(5)
        if known[:, column].any():
            padded.append(average_precision_score(np.r_[y, added], np.r_[score, added], sample_weight=np.r_[w, added]))
    ranked, ranked_weight = [], []
    for row in np.flatnonzero(weight > 0):
        y, score = truth[row, known[row]], scores[row, known[row]]
        if y.any():
            # scikit-learn refuses a single class; there is only one answer then.
            ranked.append(1.0 if y.all() else label_ranking_average_precision_score([y], [score]))
            ranked_weight.append(weight[row])
    entries = known & (weight > 0)[:, None]
    of_entry = np.broadcast_to(weight[:, None], known.shape)[entries]
    guess = (scores >= thresholds)[entries]
    counted = truth[entries].any() or guess.any()
    return {
        "macro_roc_auc": np.mean(areas) if areas else np.nan,
        "cmap": np.mean(precisions) if precisions else np.nan,
        "padded_cmap": np.mean(padded) if padded else np.nan,
        "lrap": np.average(ranked, weights=ranked_weight) if ranked else np.nan,
        "macro_f1": np.mean(f1) if f1 else np.nan,
        "micro_f1": f1_score(truth[entries], guess, sample_weight=of_entry) if counted else np.nan,
    }


@pytest.mark.slow
@settings(max_examples=min(40, settings().max_examples))
@given(cases(), st.sampled_from([0.5, 0.3]))
def test_every_metric_is_scikit_learns(case, threshold):
    truth, scores, known, _ = case
    thresholds = np.linspace(threshold, 0.8, truth.shape[1])
    expected = measure_by_scikit_learn(truth, scores, known, thresholds, np.ones(len(truth)))
    got = measure(truth, scores, known, thresholds)
    assert tuple(got) == METRICS
    assert got == pytest.approx(expected, nan_ok=True)


@pytest.mark.slow
@settings(max_examples=30)
@given(cases(), st.integers(0, 2**32 - 1))
def test_a_draw_is_scikit_learns_metric_with_groups_counted_several_times(case, seed):
    truth, scores, known, groups = case
    evaluation = Evaluation(truth, scores, known, 0.5, groups)
    drawn = evaluation.draw(3, seed)
    assert (drawn.sum(axis=0) == evaluation.groups).all()
    got = evaluation.macro(evaluation.rank(drawn)) | evaluation.lrap(drawn) | evaluation.f1(drawn)[1]
    thresholds = np.full(truth.shape[1], 0.5)
    for number, draw in enumerate(drawn.T):
        expected = measure_by_scikit_learn(
            truth, scores, known, thresholds, draw[np.unique(groups, return_inverse=True)[1]]
        )
        assert {name: values[number] for name, values in got.items()} == pytest.approx(expected, nan_ok=True)


@given(cases())
def test_metrics_by_class(case):
    truth, scores, known, _ = case
    areas, precisions = roc_auc_by_class(truth, scores, known), average_precision_by_class(truth, scores, known)
    for column in range(truth.shape[1]):
        y, score = truth[known[:, column], column], scores[known[:, column], column]
        area = roc_auc_score(y, score) if y.any() and not y.all() else np.nan
        precision = average_precision_score(y, score) if y.any() else np.nan
        assert areas[column] == pytest.approx(area, nan_ok=True)
        assert precisions[column] == pytest.approx(precision, nan_ok=True)


def test_logits_are_ranked_as_probabilities_are_but_cannot_be_padded():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 4)) * 3
    truth = rng.random((50, 4)) < 0.3
    of_logits, of_probabilities = measure(truth, logits, thresholds=0), measure(truth, 1 / (1 + np.exp(-logits)))
    assert np.isnan(of_logits.pop("padded_cmap"))
    assert of_probabilities.pop("padded_cmap") > of_probabilities["cmap"]
    assert of_logits == pytest.approx(of_probabilities)


def make_windows(rng, recordings, windows=6, classes=5):
    """Windows of recordings in which presence and mistakes last."""
    groups = np.repeat(np.arange(recordings), windows)
    truth = (rng.random((recordings, classes)) < 0.3)[groups] & (rng.random((len(groups), classes)) < 0.7)
    noise = rng.normal(size=(recordings, classes))[groups] + 0.5 * rng.normal(size=truth.shape)
    return truth, 1 / (1 + np.exp(-noise - 1.5 * truth)), groups


@pytest.mark.parametrize("metric", METRICS)
def test_an_interval_holds_the_value_and_narrows_with_more_recordings(metric):
    widths = []
    for recordings in (20, 320):
        truth, scores, groups = make_windows(np.random.default_rng(1), recordings)
        low, high = bootstrap_interval(metric, truth, scores, groups)
        assert 0 <= low < measure(truth, scores)[metric] < high <= 1
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_the_interval_is_the_middle_of_the_draws_moved_to_the_value():
    case = Evaluation(np.eye(2, dtype=bool), np.eye(2), groups=[0, 1])
    draws = np.array([[0.6, 0.7, 0.8, 0.9, 1.0], [0.1, 0.2, 0.3, np.nan, np.nan], [np.nan] * 5])
    low, high = case.interval(np.array([0.5, 0.05, np.nan]), draws, 0.5)
    np.testing.assert_allclose(low, [0.4, 0.0, np.nan])
    np.testing.assert_allclose(high, [0.6, 0.1, np.nan])


def test_copies_in_a_draw_do_not_lift_the_interval_off_the_value():
    rng = np.random.default_rng(8)
    truth = rng.random((2000, 200)) < 0.01
    scores = rng.beta(0.5, 8, truth.shape) + 0.3 * truth * rng.random(truth.shape)
    low, high = bootstrap_interval("cmap", truth, scores, np.arange(2000), draws=50)
    assert low < measure(truth, scores)["cmap"] < high


def test_an_interval_over_recordings_is_wider_than_one_over_windows():
    truth, scores, groups = make_windows(np.random.default_rng(2), 60)
    low, high = bootstrap_interval("macro_roc_auc", truth, scores, groups)
    too_low, too_high = bootstrap_interval("macro_roc_auc", truth, scores, np.arange(len(groups)))
    assert high - low > 1.3 * (too_high - too_low)


def test_an_interval_depends_on_the_seed_and_the_confidence_alone():
    truth, scores, groups = make_windows(np.random.default_rng(3), 30)
    first = bootstrap_interval("cmap", truth, scores, groups)
    assert bootstrap_interval("cmap", truth, scores, groups * 7 + 3) == first
    assert bootstrap_interval("cmap", truth, scores, groups, seed=1) != first
    low, high = bootstrap_interval("cmap", truth, scores, groups, confidence=0.5)
    assert first[0] < low < high < first[1]


def test_the_interval_covers_what_other_recordings_give():
    # Values of fresh tables lie in the interval of one table nearly as often as they should, each being uncertain too.
    rng = np.random.default_rng(4)
    usual = np.mean([measure(*make_windows(rng, 40)[:2])["macro_roc_auc"] for _ in range(60)])
    hits = 0
    for seed in range(60):
        low, high = bootstrap_interval("macro_roc_auc", *make_windows(rng, 40), seed=seed)
        hits += low <= usual <= high
    assert hits >= 48


def test_one_recording_has_no_interval():
    truth, scores, groups = make_windows(np.random.default_rng(5), 1, windows=40)
    assert np.isnan(bootstrap_interval("macro_roc_auc", truth, scores, groups)).all()


def test_the_table_holds_what_the_single_functions_give():
    truth, scores, groups = make_windows(np.random.default_rng(6), 25)
    truth[:, 2] = False
    names = ["owl", "wren", "none", "frog", "crow"]
    table = score_windows(truth, scores, names, groups, thresholds=0.4)
    assert table.metrics["metric"].tolist() == list(METRICS)
    values = measure(truth, scores, thresholds=0.4)
    np.testing.assert_allclose(table.metrics["value"], [values[name] for name in METRICS])
    for row in table.metrics.itertuples():
        expected = bootstrap_interval(row.metric, truth, scores, groups, thresholds=0.4)
        assert (row.low, row.high) == pytest.approx(expected)
    classes = table.classes.set_index("class")
    assert list(classes.index) == names
    np.testing.assert_allclose(classes["roc_auc"], roc_auc_by_class(truth, scores))
    np.testing.assert_allclose(classes["average_precision"], average_precision_by_class(truth, scores))
    assert classes.loc["none"].drop("positives").isna().all()
    measured = classes.drop(index="none")
    for name in ("roc_auc", "average_precision", "f1"):
        assert (measured[f"{name}_low"] < measured[name]).all()
        assert (measured[f"{name}_high"] > measured[name]).all()


def test_a_submission_may_be_scored_with_intervals_over_its_soundscapes():
    truth, scores, groups = make_windows(np.random.default_rng(7), 12)
    rows = [f"site_{group}_{5 * index + 5}" for index, group in enumerate(groups)]
    got = score_submission(make_table(scores, rows), make_table(truth.astype(int), rows), intervals=True)
    expected = score_windows(truth, scores, got.classes["class"].tolist(), [f"site_{group}" for group in groups])
    pd.testing.assert_frame_equal(got.table.metrics, expected.metrics)
    assert got.table.metrics["low"].notna().all()
    plain = score_submission(make_table(scores, rows), make_table(truth.astype(int), rows))
    assert plain.table.metrics["low"].isna().all()
    np.testing.assert_allclose(plain.table.metrics["value"], expected.metrics["value"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "accuracy"}, "no metric 'accuracy'. Metrics: macro_roc_auc, cmap"),
        ({"truth": np.zeros((3, 2), bool)}, r"the scores \(4, 2\); expected the same"),
        ({"truth": np.zeros((0, 2), bool), "scores": np.zeros((0, 2))}, "at least one"),
        ({"scores": np.array([[0.1, 0.2], [0.3, np.nan], [0, 0], [0, 0]])}, "window 1 for class 1 is NaN"),
        ({"groups": np.arange(3)}, r"groups has the shape \(3,\)"),
        ({"known": np.ones((4, 1))}, r"known has the shape \(4, 1\)"),
        ({"thresholds": [0.1, 0.2, 0.3]}, "expected one number, or 2"),
        ({"draws": 0}, "draws is 0"),
        ({"confidence": 1}, "confidence 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(change, message):
    given = {"metric": "cmap", "truth": np.eye(4, 2, dtype=bool), "scores": np.ones((4, 2)), "groups": np.arange(4)}
    with pytest.raises(InputError, match=message):
        bootstrap_interval(**(given | change))


def test_names_for_other_classes_are_refused():
    with pytest.raises(InputError, match="1 names of classes for 2 columns"):
        score_windows(np.eye(4, 2, dtype=bool), np.ones((4, 2)), ["owl"], np.arange(4))
