"""The metric against scikit-learn's own macro averages."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from birdemb.errors import InputError
from birdemb.metrics import score_submission


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


@settings(max_examples=60, deadline=None)
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
