"""All regressions at once reach the optimum of scikit-learn's, one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from birdemb.classify import logistic_solver
from birdemb.classify.logistic_curvature import Preconditioner, find_axes, find_axes_of_few
from birdemb.classify.logistic_loss import balance_sides, find_loss, sum_log_loss
from birdemb.classify.logistic_solver import SharedMatrix
from birdemb.classify.logistic_task import ROWS_AT_ONCE, Task


def make_problem(seed, n=300, dim=20, columns=5, dtype=np.float32, offset=False, masked=False):
    """Correlated features and classes from common to rare, with uneven weights."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, dim)) @ (rng.normal(size=(dim, dim)) / np.sqrt(dim) + np.eye(dim))
    shares = 0.5 / np.arange(1, columns + 1)
    targets = rng.random((n, columns)) < expit(X[:, :columns] + np.log(shares / (1 - shares)))
    targets[0], targets[1] = True, False
    weights = rng.uniform(0.2, 3, (n, columns))
    if masked:
        weights *= rng.random((n, columns)) < 0.7
        weights[:2] = 1
    return X.astype(dtype), targets, weights, rng.normal(size=(n, columns)) * 2 if offset else None


def find_objective(X, targets, weights, offset, C, coef, intercept):
    scores = X.astype(np.float64) @ coef.T + intercept + (0 if offset is None else offset)
    return sum_log_loss(scores, targets, weights) + (coef**2).sum(axis=1) / (2 * C)


def fit_one_by_one(X, targets, weights, C):
    fitted = [
        LogisticRegression(C=C, tol=1e-10, max_iter=1000, solver="newton-cholesky").fit(
            X.astype(np.float64), targets[:, k], weights[:, k]
        )
        for k in range(targets.shape[1])
    ]
    return np.array([one.coef_[0] for one in fitted]), np.array([one.intercept_[0] for one in fitted])


def fit(X, targets, weights, offset, C, n_jobs=1, **task):
    path = np.repeat(np.atleast_1d(C)[:, None], targets.shape[1], axis=1)
    return SharedMatrix(X, np.ones(len(X)), n_jobs).fit(Task(targets, weights, offset, **task), path, 500)


@pytest.mark.slow
@given(
    seed=st.integers(0, 2**32 - 1),
    C=st.sampled_from([1e-4, 1e-2, 1.0, 30.0]),
    n=st.sampled_from([12, 60, 300]),
    dtype=st.sampled_from([np.float32, np.float64]),
    masked=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_every_column_reaches_the_optimum(seed, C, n, dtype, masked):
    X, targets, weights, _ = make_problem(seed, n=n, dtype=dtype, masked=masked)
    found = fit(X, targets, weights, None, C)
    coef, intercept = fit_one_by_one(X, targets, weights, C)
    best = find_objective(X, targets, weights, None, C, coef, intercept)
    own = find_objective(X, targets, weights, None, C, found.coef[0], found.intercept[0])
    assert found.converged.all()
    # Without a difference between its sides, a class has coefficients of next to nothing, in any direction.
    told = np.linalg.norm(coef, axis=1) > 1e-3 * np.linalg.norm(coef, axis=1).max()
    cosines = (found.coef[0] * coef).sum(axis=1) / np.linalg.norm(found.coef[0], axis=1) / np.linalg.norm(coef, axis=1)
    assert (own <= best * (1 + 1e-5)).all()
    assert (cosines[told] > 0.9999).all()
    np.testing.assert_allclose(found.objective[0], own, rtol=1e-4 if dtype is np.float32 else 1e-10)


@pytest.mark.parametrize("n", [15, 300])
def test_double_precision_is_exact(n):
    X, targets, weights, _ = make_problem(3, n=n, dtype=np.float64)
    found = fit(X, targets, weights, None, 0.1)
    coef, intercept = fit_one_by_one(X, targets, weights, 0.1)
    np.testing.assert_allclose(found.coef[0], coef, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.intercept[0], intercept, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_with_an_offset_the_gradient_vanishes(dtype):
    X, targets, weights, offset = make_problem(1, dtype=dtype, offset=True)
    found = fit(X, targets, weights, offset, 0.05)
    scores = X @ found.coef[0].T + found.intercept[0] + offset
    residual = weights * (expit(scores) - targets)
    gradient = residual.T @ X + found.coef[0] / 0.05
    size = np.abs(residual).sum(axis=0)
    assert (np.abs(gradient).max(axis=1) < (1e-2 if dtype is np.float32 else 1e-6) * size).all()
    assert (np.abs(residual.sum(axis=0)) < (1e-2 if dtype is np.float32 else 1e-6) * size).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shift", [-60.0, -35.0, 35.0])
def test_an_offset_far_from_0_is_no_obstacle(dtype, shift):
    X, targets, weights, offset = make_problem(13, dtype=dtype, offset=True)
    for spread in (1.0, 10.0):
        found = fit(X, targets, weights, spread * offset + shift, 1e-3)
        near = fit(X.astype(np.float64), targets, weights, spread * offset, 1e-3)
        assert found.converged.all()
        np.testing.assert_allclose(found.objective, near.objective, rtol=2e-5)
        np.testing.assert_allclose(found.coef, near.coef, rtol=0.02, atol=0.02 * np.abs(near.coef).max())


@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-500, 500), times=st.floats(0, 50))
@settings(max_examples=30, deadline=None)
def test_sides_are_balanced(seed, shift, times):
    rng = np.random.default_rng(seed)
    signed = rng.uniform(0.1, 5, 30) * np.where(np.arange(30) < 4, 1, -1)
    offset = times * rng.normal(size=30) + shift
    found = balance_sides(signed, offset)
    residual = np.abs(signed) * (expit(offset + found) - (signed > 0))
    assert residual.sum() == pytest.approx(0, abs=1e-4 * np.abs(signed).sum())
    assert balance_sides(np.abs(signed), offset) == 0


def test_each_step_of_a_path_is_as_good_as_alone():
    X, targets, weights, offset = make_problem(2, n=500, dtype=np.float64, offset=True)
    Cs = 10.0 ** np.linspace(-4, 1, 7)
    path = fit(X, targets, weights, offset, Cs)
    assert path.converged.all()
    for step, C in enumerate(Cs):
        alone = fit(X, targets, weights, offset, C)
        np.testing.assert_allclose(path.coef[step], alone.coef[0], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(path.objective[step], alone.objective[0], rtol=1e-10)


def test_a_path_takes_less_than_twice_the_iterations_of_its_weakest_penalty():
    rng = np.random.default_rng(4)
    y = rng.random((1500, 8)) < 0.02  # as in real embeddings, penalties decide: all classes are separable
    X = rng.normal(size=(1500, 40)) @ (rng.normal(size=(40, 300)) / np.arange(1, 41)[:, None])
    X += y @ rng.normal(size=(8, 300)) + 0.3 * rng.normal(size=X.shape)
    weights = np.where(y, 0.5 / y.mean(axis=0), 0.5 / (1 - y.mean(axis=0)))
    Cs = 10.0 ** np.linspace(-5, -2, 8)
    path = fit(X.astype(np.float32), y, weights, None, Cs)
    alone = fit(X.astype(np.float32), y, weights, None, Cs[-1])
    assert path.converged.all()
    assert path.n_iter.sum() < 2 * alone.n_iter.sum()


@pytest.mark.parametrize("Cs", [[1.0, 0.1, 0.01, 1e-3], [0.01, 0.01, 0.1, 0.1], [1e-6, 1e-5, 1e3]])
def test_steps_of_any_size_and_order(Cs):
    X, targets, weights, _ = make_problem(12, dtype=np.float64)
    path = fit(X, targets, weights, None, Cs)
    assert path.converged.all()
    for step, C in enumerate(Cs):
        alone = fit(X, targets, weights, None, C)
        np.testing.assert_allclose(path.objective[step], alone.objective[0], rtol=1e-9)


def test_each_column_has_a_penalty_of_its_own():
    X, targets, weights, _ = make_problem(5, dtype=np.float64)
    Cs = np.array([[1e-3, 1e-2, 0.1, 1.0, 10.0]])
    found = SharedMatrix(X, np.ones(len(X))).fit(Task(targets, weights), Cs, 500)
    for column, C in enumerate(Cs[0]):
        alone = fit(X, targets[:, [column]], weights[:, [column]], None, C)
        np.testing.assert_allclose(found.coef[0, column], alone.coef[0, 0], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("n", [100, 2 * ROWS_AT_ONCE + 700])
def test_threads_change_nothing(n):
    X, targets, weights, offset = make_problem(6, n=n, offset=True)
    first, second = (fit(X, targets, weights, offset, 0.01, n_jobs=jobs) for jobs in (1, 3))
    assert np.array_equal(first.coef, second.coef)
    assert np.array_equal(first.intercept, second.intercept)


def test_columns_a_few_at_a_time(monkeypatch):
    X, targets, weights, offset = make_problem(7, columns=9, dtype=np.float64, offset=True)
    together = fit(X, targets, weights, offset, [0.01, 0.1])
    monkeypatch.setattr(logistic_solver, "_MOST_ENTRIES", 1)
    monkeypatch.setattr(logistic_solver, "_FEWEST_COLUMNS", 2)
    apart = fit(X, targets, weights, offset, [0.01, 0.1])
    np.testing.assert_allclose(apart.coef, together.coef, rtol=1e-6, atol=1e-8)


def test_rows_that_do_not_count_are_as_good_as_absent():
    X, targets, weights, offset = make_problem(8, dtype=np.float64, offset=True)
    rows = [slice(0, 90), slice(160, 300)]
    kept = np.concatenate([np.arange(part.start, part.stop) for part in rows])
    some = fit(X, targets, weights, offset, 0.1, rows=rows)
    absent = fit(X[kept], targets[kept], weights[kept], offset[kept], 0.1)
    np.testing.assert_allclose(some.coef, absent.coef, rtol=1e-5, atol=1e-8)


def test_factors_of_the_sides_are_weights():
    X, targets, weights, _ = make_problem(9, dtype=np.float64)
    up, down = np.linspace(1, 5, 5), np.linspace(0.3, 1, 5)
    factors = fit(X, targets, weights, None, 0.1, positive_factor=up, negative_factor=down)
    weighed = fit(X, targets, weights * np.where(targets, up, down), None, 0.1)
    np.testing.assert_allclose(factors.coef, weighed.coef, rtol=1e-6, atol=1e-9)


def test_features_that_say_nothing():
    targets = np.array([[True], [False], [True], [False]])
    found = fit(np.zeros((4, 3), np.float32), targets, np.array([[3.0], [1], [3], [1]]), None, 1.0)
    assert found.converged.all()
    assert not found.coef.any()
    assert found.intercept[0, 0] == pytest.approx(np.log(3), rel=1e-3)


def test_too_few_iterations_are_told():
    X, targets, weights, _ = make_problem(10)
    found = SharedMatrix(X, np.ones(len(X))).fit(Task(targets, weights), np.full((1, 5), 1.0), 1)
    assert not found.converged.all()
    assert (found.n_iter <= 1).all()


def test_rough_is_near():
    X, targets, weights, _ = make_problem(11)
    path = np.full((1, 5), 0.1)
    matrix = SharedMatrix(X, np.ones(len(X)))
    rough, full = (matrix.fit(Task(targets, weights), path, 500, rough=flag) for flag in (True, False))
    assert (rough.objective < full.objective * (1 + 1e-3)).all()
    assert rough.n_iter.sum() < full.n_iter.sum()


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_gradient_and_curvature_are_differences(seed):
    X, targets, weights, offset = make_problem(seed, n=40, dim=6, columns=3, dtype=np.float64, offset=True)
    rng = np.random.default_rng(seed)
    coef, intercept = rng.normal(size=(6, 3)), rng.normal(size=3)
    signed, step = np.where(targets, weights, -weights), 1e-5
    loss = find_loss(X, signed, offset, coef, intercept)
    expected = sum_log_loss(X @ coef + intercept + offset, targets, weights)
    np.testing.assert_allclose(loss.value, expected, rtol=1e-10)
    for feature in range(7):
        ahead, behind = (
            find_loss(X, signed, offset, coef + sign * step * (np.arange(6) == feature)[:, None],
                      intercept + sign * step * (feature == 6))
            for sign in (1, -1)
        )  # fmt: skip
        slope = (ahead.value - behind.value) / (2 * step)
        np.testing.assert_allclose(loss.gradient[:, feature], slope, rtol=1e-5, atol=1e-6)
    bend = (ahead.gradient[:, -1] - behind.gradient[:, -1]) / (2 * step)
    np.testing.assert_allclose(loss.curvature, bend, rtol=1e-5, atol=1e-8)


def test_loss_of_enormous_scores_is_finite():
    X = np.full((2, 1), 1e4, np.float32)
    signed = np.array([[1.0], [-1.0]], np.float32)
    loss = find_loss(X, signed, None, np.full((1, 1), 1e4, np.float32), np.zeros(1, np.float32))
    assert loss.value[0] == pytest.approx(1e8)
    assert np.isfinite(loss.gradient).all()


@pytest.mark.parametrize("n", [8, 40])
def test_preconditioner_is_the_inverse_of_what_it_says(n):
    rng = np.random.default_rng(n)
    X = rng.normal(size=(n, 12))
    axes = find_axes_of_few(X, np.ones(n)) if n < 12 else find_axes(X.T @ X)
    directions = axes.directions
    np.testing.assert_allclose(directions.T @ directions, np.eye(directions.shape[1]), atol=1e-10)
    np.testing.assert_allclose(axes.spread, ((X @ directions) ** 2).sum(axis=0), rtol=1e-8)
    rows = np.column_stack([X[:3] @ directions, np.ones(3)])
    preconditioner = Preconditioner(axes.spread, float(n), [rows])
    weights = np.array([5.0, 0.0, 2.0])
    preconditioner.update(0, weights, altogether=10.0, strength=0.7)
    share = (10.0 - 7.0) / n
    expected = np.diag(np.append(share * axes.spread + 0.7, share * n)) + (rows.T * weights) @ rows
    vector = rng.normal(size=(1, len(expected)))
    product = preconditioner.apply(vector, np.array([0]))
    np.testing.assert_allclose(product[0] @ expected, vector[0], rtol=1e-8, atol=1e-10)
