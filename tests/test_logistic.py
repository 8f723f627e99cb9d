"""What the logistic head promises beyond the contract of all heads."""

import math

import numpy as np
import pytest
from head_data import make, make_data
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from birdemb.classify import logistic_choice
from birdemb.classify.head import Columns
from birdemb.classify.heads import make_head
from birdemb.classify.logistic import USUAL_STRENGTH
from birdemb.classify.logistic_choice import (
    SCALES,
    choose_penalties,
    held_out_losses,
    plan_folds,
    sort_columns,
    thin_out,
    usual_path,
)
from birdemb.classify.logistic_solver import SharedMatrix
from birdemb.classify.transform import signed_square_root
from birdemb.errors import InputError


@pytest.fixture
def data():
    return make_data(0)


@pytest.mark.slow
@given(seed=st.integers(0, 2**32 - 1), weighted=st.booleans(), C=st.sampled_from([1e-4, 1e-2, 1.0]))
@settings(max_examples=8, deadline=None)
def test_lr_is_scikit_learns_own_one_by_one(seed, weighted, C):
    X, y = make_data(seed)
    X = X.astype(np.float64)
    weights = np.random.default_rng(seed).uniform(0.5, 2, size=len(X)) if weighted else np.ones(len(X))
    probabilities = make_head("lr", C=C, class_weight="balanced").fit(X, y, weights).predict_proba(X)
    for column in range(y.shape[1]):
        pipeline = make_pipeline(
            FunctionTransformer(signed_square_root),
            StandardScaler(),
            LogisticRegression(C=C, class_weight="balanced", max_iter=10_000, tol=1e-9),
        )
        own = {"standardscaler__sample_weight": weights, "logisticregression__sample_weight": weights}
        expected = pipeline.fit(X, y[:, column], **own).predict_proba(X)[:, 1]
        np.testing.assert_allclose(probabilities[:, column], expected, rtol=1e-4)


def test_lr_does_not_depend_on_jobs(data):
    X, y = data
    for C in (1e-3, "cv"):
        first, second = (make("lr", C=C, n_jobs=jobs).fit(X, y) for jobs in (1, 2))
        assert np.array_equal(first.coef_, second.coef_)
        assert np.array_equal(first.C_, second.C_)


def make_recordings(seed, recordings=40, each=6, dim=30, classes=4, noise=1.0):
    """Recordings of one class each, whose windows have a background in common that says nothing of the class."""
    rng = np.random.default_rng(seed)
    label = np.arange(recordings) % classes
    groups = np.repeat(np.arange(recordings), each)
    y = (label[groups][:, None] == np.arange(classes)).astype(int)
    X = rng.normal(size=(len(groups), dim)) + noise * rng.normal(size=(recordings, dim))[groups]
    X[:, :classes] += 1.5 * y
    return X.astype(np.float32), y, groups


@pytest.mark.parametrize("kind", ["none", "sqrt+unit", "power:0.3+pca:5"])
def test_chains_of_steps(data, kind):
    X, y = data
    head = make("lr", input_transform=kind).fit(X, y)
    again = type(head).from_state(head.get_params(), head.get_state())
    assert np.array_equal(again.decision_function(X), head.decision_function(X))


def test_a_penalty_for_each_class(data):
    X, y = data
    y = y.copy()
    y[:, 1] = 0  # cannot be fitted
    Cs = [1e-4, 1e-3, 1e-2, 1e-1]
    head = make("lr", C=Cs).fit(X, y)
    assert head.C_.tolist() == [1e-4, 1e-2, 1e-1]
    for column in (0, 2, 3):
        alone = make("lr", C=Cs[column]).fit(X, y).decision_function(X)[:, column]
        np.testing.assert_allclose(head.decision_function(X)[:, column], alone, rtol=0.02, atol=1e-4)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"C": "best"}, "'cv'"),
        ({"C": 0}, "C is 0"),
        ({"C": [1.0, -1.0, 1.0, 1.0]}, "C is -1"),
        ({"C": [1.0, 2.0]}, "2 numbers"),
        ({"C": []}, "empty"),
        ({"C": True}, "True"),
        ({"Cs": [1.0, "x"]}, "Cs"),
        ({"Cs": []}, "empty"),
        ({"inner_folds": 1}, "inner_folds"),
        ({"max_iter": 0}, "max_iter"),
    ],
)
def test_bad_parameters(data, params, message):
    with pytest.raises(InputError, match=message):
        make("lr", **params).fit(*data)


def test_too_few_iterations_are_a_warning(data):
    with pytest.warns(ConvergenceWarning, match="4 of 4 classes"):
        make("lr", C=10.0, max_iter=1).fit(*data)


class TestOffset:
    def test_a_strong_penalty_leaves_the_ranking_to_the_offset(self, data):
        X, y = data
        offset = np.random.default_rng(0).normal(size=y.shape) * 3
        scores = make("lr", C=1e-12).fit(X, y, offset=offset).decision_function(X, offset)
        assert np.array_equal(scores.argsort(axis=0), offset.argsort(axis=0))
        shift = scores - offset
        np.testing.assert_allclose(shift, np.broadcast_to(shift[:1], shift.shape), atol=1e-3)

    def test_with_many_windows_and_a_weak_penalty_it_is_forgotten(self):
        rng = np.random.default_rng(1)
        X = rng.normal(size=(4000, 6)).astype(np.float32)
        y = (rng.random((4000, 2)) < expit(X[:, :2] * 2)).astype(int)
        # What the offset says can be said by the features as well, and so be taken back.
        offset = X[:, 2:4].astype(np.float64) * 3
        options = {"C": 10.0, "input_transform": "none", "class_weight": None}
        corrected = make("lr", **options).fit(X, y, offset=offset).decision_function(X, offset)
        plain = make("lr", **options).fit(X, y).decision_function(X)
        np.testing.assert_allclose(corrected, plain, atol=0.03)

    def test_a_good_offset_leaves_little_to_correct(self):
        X, y, groups = make_recordings(0, noise=2.0)
        good = 8.0 * y - 4
        kept = make("lr", C="cv").fit(X, y, offset=good, groups=groups)
        plain = make("lr", C="cv").fit(X, y, offset=np.zeros(y.shape), groups=groups)
        assert np.abs(kept.coef_).max() < 0.5 * np.abs(plain.coef_).max()


class TestChoice:
    def test_chooses_from_the_given(self, data):
        X, y = data
        head = make("lr", C="cv", Cs=[0.1, 1e-4, 1e-2]).fit(X, y)
        assert set(head.C_) <= {1e-4, 1e-2, 0.1}
        fixed = make("lr", C=list(head.C_)).fit(X, y)
        np.testing.assert_allclose(head.decision_function(X), fixed.decision_function(X), rtol=0.02, atol=1e-3)

    def test_held_out_losses_are_those_of_fits_to_the_rest(self):
        X, y, groups = make_recordings(3)
        X, targets = X.astype(np.float64), y.astype(bool)
        ones = np.ones(len(X))
        columns = Columns(targets, np.ones(y.shape), ones, None, groups.astype(np.int64))
        plan = plan_folds(X, columns, 4, 0)
        columns, X = sort_columns(columns, plan.order), X[plan.order]
        path = np.repeat([[0.01], [1.0]], 4, axis=1)
        losses = held_out_losses(SharedMatrix(X, ones), X, columns, plan, path, 500)
        assert losses.shape == (4, len(SCALES), 2, 4)
        for fold, part in enumerate(plan.parts):
            assert not set(columns.groups[part]) & set(np.delete(columns.groups, part))
            for step, C in enumerate((0.01, 1.0)):
                seen = np.delete(columns.targets, part, axis=0)[:, 0]
                every = columns.targets[:, 0]
                weights = np.where(seen, every.sum() / seen.sum(), (~every).sum() / (~seen).sum())
                own = LogisticRegression(C=C, tol=1e-8, max_iter=5000).fit(np.delete(X, part, axis=0), seen, weights)
                scores = own.decision_function(X[part])
                for place, scale in enumerate(SCALES[:3]):  # larger ones blow up what is left to converge
                    expected = log_loss(every[part], expit(scale * scores), labels=[0, 1], normalize=False)
                    assert losses[fold, place, step, 0] == pytest.approx(expected, rel=0.05)

    @pytest.mark.slow
    @pytest.mark.parametrize("with_offset", [False, True])
    @pytest.mark.parametrize("seed", range(4))
    def test_the_strongest_penalty_within_a_standard_error(self, seed, with_offset):
        X, y, groups = make_recordings(seed, noise=2.0)
        X, targets = X.astype(np.float64), y[:, :1].astype(bool)  # with one class there is nobody to pool with
        offset = np.full(targets.shape, 0.1) if with_offset else None
        columns = Columns(targets, np.ones(targets.shape), np.ones(len(X)), offset, groups.astype(np.int64))
        plan = plan_folds(X, columns, 5, 0)
        columns, X = sort_columns(columns, plan.order), X[plan.order]
        path = np.logspace(-5, 1, 13)[:, np.newaxis]
        matrix = SharedMatrix(X, np.ones(len(X)))
        losses = held_out_losses(matrix, X, columns, plan, path, 500)[..., 0]
        of_folds = np.array([losses[:, losses[:, :, step].sum(axis=0).argmin(), step] for step in range(13)])
        best = of_folds.sum(axis=1).argmin()
        error = 0.0 if with_offset else math.sqrt(5) * np.std(of_folds[best], ddof=1)
        (chosen,) = choose_penalties(matrix, X, columns, plan, path, 500)
        assert of_folds[chosen].sum() <= of_folds[best].sum() + error
        assert (of_folds[:chosen].sum(axis=1) > of_folds[best].sum() + error).all()
        assert chosen == best if with_offset else chosen <= best

    def test_a_class_in_one_recording_takes_the_choice_for_all(self):
        X, y, groups = make_recordings(0)
        rare = np.zeros((len(y), 1), int)
        rare[:6] = 1
        head = make("lr", C="cv", Cs=[1e-5, 1e-3, 1e-1]).fit(X, np.hstack([y, rare]), groups=groups)
        assert head.C_[4] in {1e-5, 1e-3, 1e-1}
        assert np.isfinite(head.coef_).all()

    @pytest.mark.parametrize("groups", [np.zeros(80, int), np.r_[np.zeros(40, int), np.ones(40, int)]])
    def test_without_folds_that_tell_anything_the_usual_penalty(self, groups):
        X, y = make_data(0)
        y = y[:, :1].copy()
        y[40:] = 0
        head = make("lr", C="cv").fit(X, y, groups=groups)
        assert head.C_.tolist() == pytest.approx([USUAL_STRENGTH / 80])

    def test_masked_entries_are_ignored(self):
        X, y, groups = make_recordings(1)
        weights = np.ones(y.shape)
        weights[::5, 0] = 0
        other = y.copy()
        other[::5, 0] = 1 - other[::5, 0]
        first, second = (make("lr", C="cv").fit(X, given, weights, groups=groups) for given in (y, other))
        assert np.array_equal(first.C_, second.C_)
        np.testing.assert_allclose(first.coef_, second.coef_, rtol=1e-3, atol=1e-5)

    def test_of_equal_losses_the_strongest_penalty(self):
        X, y, groups = make_recordings(0)
        head = make("lr", C="cv", Cs=[1e-9, 1e-10]).fit(np.zeros_like(X), y, groups=groups)
        assert set(head.C_) == {1e-10}

    def test_is_the_default(self):
        X, y, groups = make_recordings(2)
        first, second = make("lr").fit(X, y, groups=groups), make("lr", C="cv").fit(X, y, groups=groups)
        assert np.array_equal(first.C_, second.C_)
        assert np.array_equal(first.coef_, second.coef_)

    def test_a_window_twice_is_one_of_twice_the_weight(self):
        X, y, _ = make_recordings(4)
        X, twice = X.astype(np.float64), np.random.default_rng(4).random(len(X)) < 0.3
        weighed = make("lr", C="cv").fit(X, y, 1.0 + twice)
        order = np.random.default_rng(5).permutation(len(X) + twice.sum())
        repeated = make("lr", C="cv").fit(np.vstack([X, X[twice]])[order], np.vstack([y, y[twice]])[order])
        np.testing.assert_allclose(repeated.C_, weighed.C_, rtol=1e-12)
        np.testing.assert_allclose(repeated.coef_, weighed.coef_, rtol=1e-6, atol=1e-9)

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", range(3))
    def test_many_recordings_move_away_from_the_offset_and_few_stay(self, seed):
        rng = np.random.default_rng(seed)
        counts = np.array([40] * 3 + [3] * 6)  # recordings of each class, of 6 windows each
        label = np.repeat(np.arange(9), counts)
        groups = np.repeat(np.arange(len(label)), 6)
        y = (label[groups][:, None] == np.arange(9)).astype(int)
        X = rng.normal(size=(len(y), 60)) + rng.normal(size=(len(label), 60))[groups]
        X[:, :9] += 2.0 * y
        offset = 4.0 * y - 2 + 2 * rng.normal(size=y.shape)
        options = {"C": "cv", "input_transform": "none"}
        head = make("lr", **options).fit(X.astype(np.float32), y, offset=offset, groups=groups)
        assert head.C_[counts == 40].min() > 3 * head.C_[counts == 3].max()

    def test_the_path_begins_where_nothing_is_corrected(self):
        weights = np.full((50, 2), 2.0)
        assert usual_path(weights, corrects=True)[0] * 100 == pytest.approx([10**-4.5] * 2)
        for corrects in (True, False):
            path = usual_path(weights, corrects=corrects)
            assert (np.diff(path, axis=0) > 0).all()
            assert path[-1] * 100 == pytest.approx([10.0] * 2)


def test_a_part_of_the_windows_stands_for_all_of_them(monkeypatch):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(600), 5)
    targets = (rng.random((600, 4)) < [0.005, 0.02, 0.2, 0.5])[groups]
    weights = rng.uniform(0.5, 2, targets.shape) * (rng.random(targets.shape) < 0.9)
    columns = Columns(targets, weights, weights.mean(axis=1), None, groups.astype(np.int64))
    assert thin_out(columns, 0) is None
    monkeypatch.setattr(logistic_choice, "MOST_WINDOWS", 500)
    rows, part = thin_out(columns, 0)
    assert 400 <= len(rows) <= 600
    assert set(groups[rows]).isdisjoint(groups[np.setdiff1d(np.arange(3000), rows)])
    for column in range(4):
        known = weights[:, column] > 0
        all_groups = np.unique(groups[targets[:, column] & known])
        kept = np.intersect1d(all_groups, groups[rows])
        assert len(kept) >= min(5, len(all_groups))
        for side in (targets[:, column], ~targets[:, column]):
            np.testing.assert_allclose(part.weights[side[rows], column].sum(), weights[side, column].sum(), rtol=1e-9)
    again = thin_out(columns, 0)
    assert np.array_equal(again[0], rows)


def test_penalties_chosen_on_a_part_are_near_those_of_all(monkeypatch):
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(200), 4)
    y = (rng.random((200, 3)) < 0.3)[groups].astype(int)
    X = (rng.exponential(size=(800, 12)) + 0.7 * np.repeat(y, 4, axis=1)).astype(np.float32)
    whole = make("lr", C="cv").fit(X, y, groups=groups)
    monkeypatch.setattr(logistic_choice, "MOST_WINDOWS", 300)
    part = make("lr", C="cv").fit(X, y, groups=groups)
    assert np.abs(np.log10(part.C_ / whole.C_)).max() <= 1.51
    assert roc_auc_score(y, part.predict_proba(X)) == pytest.approx(roc_auc_score(y, whole.predict_proba(X)), abs=0.03)
