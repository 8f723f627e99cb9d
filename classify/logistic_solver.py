"""All one-against-the-rest ridge logistic regressions on one matrix, together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from scipy.special import expit
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from birdemb.classify.logistic_curvature import MOST_POSITIVES, Preconditioner, find_axes, find_axes_of_few
from birdemb.classify.logistic_loss import Loss, balance_sides, find_loss
from birdemb.classify.logistic_task import FULL, ROUGH, ROWS_AT_ONCE, Path, Precision, Task

_T = TypeVar("_T")

__all__ = ["SharedMatrix"]

_Floats = NDArray[np.float64]

_MOST_ENTRIES = 2**26  # of the signed weights that are held at once, 256 MiB in float32
_FEWEST_COLUMNS = 16  # that are fitted at once, however many rows there are
_REPACKED = 0.75  # share of the columns that is left when the finished ones are taken out of the arrays
_MEMORY = 10  # steps that L-BFGS remembers
_REFRESHED = (2, 5, 10, 20, 40, 80)  # iterations after which the preconditioner is brought up to date
_SAMPLED = 2048  # rows that the first intercept is found with, beside the positives
_SUFFICIENT = 1e-4  # share of the promised descent that a step has to bring
_EXTRAPOLATED = 3  # solutions of a path through which the next is guessed: a parabola
_MOST_REFUSALS = 12  # of steps in a row, each at most half of the one before, until rounding is to blame


class SharedMatrix:
    """A matrix on which many regressions are fitted.

    Parameters
    ----------
    X : ndarray of shape (n, dim), float32 or float64
        Any, but the fit is quick where the features have mean 0.
    weights : ndarray of shape (n,), float64
        Weight of each row in the curvature that the columns share; this changes the speed alone.
    n_jobs : int or None
        Threads. The solutions don't depend on it, not even in the last bit.

    Notes
    -----
    Along the principal axes of the matrix, the curvature that all columns share is diagonal. A column's own is near a
    multiple of it, plus what its positives add, which weigh much more each: a matrix of low rank. The inverse
    is where L-BFGS starts from (J. Nocedal, "Updating Quasi-Newton Matrices with Limited Storage", Mathematics of
    Computation 35, 1980), and is brought up to date as the scores change. An iteration is two
    matrix products for all columns that are left, block by block: for an entry, nothing is kept but its weight.

    A solution is a smooth function of log C. From the third penalty of a path on, each starts where the parabola
    through the three before it leads, or the line through two: what is left to gain there is about a
    thousandth of what is left at the solution before.
    """

    def __init__(self, X: NDArray[Any], weights: _Floats, n_jobs: int | None = None) -> None:
        self._n_jobs = n_jobs
        self._total = float(weights.sum())
        # Pieces of work in threads, with one thread each: their products would wait for each other's.
        with threadpool_limits(1, user_api="blas"):
            if len(X) < X.shape[1]:
                self._axes = find_axes_of_few(X, weights)
                self._X = X @ self._axes.directions.astype(X.dtype)
                self._rotated = True
            else:
                self._axes = find_axes(self._gram(X, weights))
                self._X = X
                self._rotated = False

    def fit(self, task: Task, penalties: _Floats, max_iter: int, *, rough: bool = False) -> Path:
        """Fit every column with every penalty.

        Parameters
        ----------
        task : Task
        penalties : ndarray of shape (penalties, columns), float64
            C, from the strongest (smallest) to the weakest: each starts from those before.
        max_iter : int
            Most iterations for each penalty.
        rough : bool
            Whether to stop at a ten-thousandth of the objective, which is enough to compare penalties.

        Returns
        -------
        Path
            The objective is within 1e-5 of the optimum, relative, and in float64 as exact as rounding allows.
        """
        precision = ROUGH if rough else FULL[self._X.dtype.char]
        columns = task.targets.shape[1]
        together = max(_FEWEST_COLUMNS, _MOST_ENTRIES // max(1, len(self._X)))
        shape = (len(penalties), columns)
        found = Path(
            np.zeros((*shape, len(self._axes.directions))),
            np.zeros(shape),
            np.zeros(shape),
            np.zeros(shape, np.int64),
            np.zeros(shape, np.bool_),
        )
        with threadpool_limits(1, user_api="blas"):
            for start in range(0, columns, together):
                part = slice(start, start + together)
                batch = _Batch(self, task.take(part), precision, max_iter)
                for step, strength in enumerate(1 / penalties[:, part]):
                    found.n_iter[step, part] = batch.solve(strength)
                    found.coef[step, part] = batch.place[:, :-1] @ self._axes.directions.T
                    found.intercept[step, part] = batch.place[:, -1]
                    found.objective[step, part] = batch.value
                    found.converged[step, part] = batch.converged
        return found

    @property
    def axes(self) -> int:
        """Count the principal axes."""
        return len(self._axes.spread)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the matrix."""
        dtype: np.dtype[Any] = self._X.dtype
        return dtype

    def curvature(self, positives: list[NDArray[Any]]) -> Preconditioner:
        """Make the preconditioner of columns with these positives, as `along_axes` gives them."""
        return Preconditioner(self._axes.spread, self._total, positives)

    def along_axes(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """Give rows along the axes, with a 1 for the intercept."""
        taken = self._X[rows]
        if not self._rotated:
            taken = taken @ self._axes.directions.astype(self.dtype)
        return np.column_stack([taken, np.ones(len(rows), self.dtype)])

    def find_loss(
        self,
        chunks: Sequence[slice],
        signed: Sequence[NDArray[Any]],
        offsets: Sequence[NDArray[Any] | None],
        place: _Floats,
    ) -> Loss:
        """Find the loss at a place of shape (columns, axes + 1), over some chunks of rows."""
        axes = place[:, :-1]
        coef = np.ascontiguousarray((axes if self._rotated else axes @ self._axes.directions.T).T, self.dtype)
        intercept = place[:, -1].astype(self.dtype)
        losses = self._in_threads(
            lambda rows, weights, offset: find_loss(self._X[rows], weights, offset, coef, intercept),
            chunks,
            signed,
            offsets,
        )
        total: Loss = next(losses)
        for loss in losses:
            total += loss
        if not self._rotated:
            total.gradient[:, :-1] = total.gradient[:, :-1] @ self._axes.directions
        return total

    def _gram(self, X: NDArray[Any], weights: _Floats) -> _Floats:
        chunks = [slice(start, start + ROWS_AT_ONCE) for start in range(0, len(X), ROWS_AT_ONCE)]
        products = self._in_threads(lambda rows: _weighted_gram(X[rows], weights[rows]), chunks)
        total = np.zeros((X.shape[1], X.shape[1]))
        for product in products:
            total += product
        return total

    def _in_threads(self, work: Callable[..., _T], *parts: Sequence[Any]) -> Iterator[_T]:
        """Do the work on each of the parts, and give the results in their order: sums then do not depend on threads."""
        threads = min(effective_n_jobs(self._n_jobs), len(parts[0]))
        if threads == 1:
            yield from map(work, *parts)
            return
        # Not joblib's Parallel, which takes some ten milliseconds to begin: as long as the work on a few recordings.
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(work, *parts)


def _weighted_gram(X: NDArray[Any], weights: _Floats) -> NDArray[Any]:
    gram: NDArray[Any] = (X.T * weights.astype(X.dtype)) @ X
    return gram


class _Batch:
    """Columns that are fitted together, each with a step and a stop of its own.

    Attributes
    ----------
    place : ndarray of shape (columns, axes + 1), float64
        Coefficients along the axes, and the intercept.
    value : ndarray of shape (columns,), float64
        The objective there.
    converged : ndarray of shape (columns,), bool
    """

    def __init__(self, matrix: SharedMatrix, task: Task, precision: Precision, max_iter: int) -> None:
        self._matrix, self._precision, self._max_iter = matrix, precision, max_iter
        self._chunks = task.chunks()
        self._signed = [task.signed_weights(rows).astype(matrix.dtype) for rows in self._chunks]
        self._offsets: list[NDArray[Any] | None] = [
            None if task.offset is None else task.offset[rows].astype(matrix.dtype) for rows in self._chunks
        ]
        self._all = np.arange(task.targets.shape[1])
        self._held, self._packed = self._all, (self._signed, self._offsets)
        axes = matrix.axes + 1
        self.place = np.zeros((len(self._all), axes))
        parts = [np.arange(rows.start, rows.stop) for rows in self._chunks]
        numbers, signed = np.concatenate(parts), np.concatenate(self._signed)
        self._find_positives(task, numbers, signed)
        self.place[:, -1] = _find_intercepts(task, numbers, signed)
        self._steps = np.zeros((_MEMORY, *self.place.shape))
        self._changes = np.zeros_like(self._steps)
        self._inverse_products = np.zeros((_MEMORY, len(self._all)))
        self._newest = 0
        self._scale = np.ones(len(self._all))
        self._strength = np.zeros(len(self._all))
        self._solved: list[tuple[_Floats, _Floats]] = []
        self.value, self._gradient, self._altogether = self._evaluate(self.place, self._all)
        self.converged = np.zeros(len(self._all), np.bool_)

    def solve(self, strength: _Floats) -> NDArray[np.int64]:
        """Go from where it is to the optimum for a ridge of this strength (1 / C); give the iterations."""
        self._change_strength(strength)
        iterations = np.zeros(len(self._all), np.int64)
        logs = [*(log for log, _ in self._solved), np.log(strength)]
        if len(logs) > 2 and (np.diff(logs, axis=0) < 0).all():
            self._jump(self._extrapolate(logs))
            iterations += 1
        else:
            self._refresh(self._all)
        refusals = np.zeros(len(self._all), np.int64)
        length = np.ones(len(self._all))
        direction, slope = np.zeros_like(self.place), np.zeros(len(self._all))
        direction[:], slope[:] = self._choose_direction(self._all)
        self.converged = self._is_optimal(slope)
        left = np.flatnonzero(~self.converged)
        rounds = 0
        while len(left):
            trial = self.place[left] + length[left, np.newaxis] * direction[left]
            value, gradient, altogether = self._evaluate(trial, left)
            allowed = self.value[left] + _SUFFICIENT * length[left] * slope[left]
            accepted = value <= allowed + self._precision.rounding * np.abs(self.value[left])
            refused = left[~accepted]
            # Where the slope would be 0, were it to change evenly.
            trial_slope = (gradient * direction[left]).sum(axis=1)[~accepted]
            most = np.where(refusals[refused] < 2, 0.5, 0.1)
            length[refused] *= np.clip(slope[refused] / (slope[refused] - trial_slope), 0.1, most)
            refusals[refused] += 1
            moved = left[accepted]
            self._remember(moved, trial[accepted] - self.place[moved], gradient[accepted] - self._gradient[moved])
            self.place[moved], self.value[moved] = trial[accepted], value[accepted]
            self._gradient[moved], self._altogether[moved] = gradient[accepted], altogether[accepted]
            iterations[moved] += 1
            length[moved], refusals[moved] = 1.0, 0
            rounds += 1
            if rounds in _REFRESHED:
                self._refresh(left)
            direction[moved], slope[moved] = self._choose_direction(moved)
            self.converged |= self._is_optimal(slope)
            left = np.flatnonzero(~self.converged & (iterations < self._max_iter) & (refusals < _MOST_REFUSALS))
        self._solved = [*self._solved[1 - _EXTRAPOLATED :], (logs[-1], self.place.copy())]
        # Where rounding hides what is left to gain, there is nothing more to do.
        self.converged |= (refusals >= _MOST_REFUSALS) & (-slope <= 40 * self._precision.rounding * self.value)
        return iterations

    def _find_positives(self, task: Task, numbers: NDArray[np.intp], signed: NDArray[Any]) -> None:
        taken = []
        for column in self._all:
            positives = np.flatnonzero(signed[:, column] > 0)
            if len(positives) > MOST_POSITIVES:
                positives = positives[np.linspace(0, len(positives) - 1, MOST_POSITIVES).astype(np.intp)]
            taken.append(positives)
        self._weights_of_positives = [signed[rows, column] for column, rows in enumerate(taken)]
        self._offsets_of_positives = [
            np.zeros(len(rows)) if task.offset is None else task.offset[numbers[rows], column]
            for column, rows in enumerate(taken)
        ]
        self._preconditioner = self._matrix.curvature([self._matrix.along_axes(numbers[rows]) for rows in taken])

    def _change_strength(self, strength: _Floats) -> None:
        """Have what is known of the objective speak of another ridge, without another pass."""
        more = (strength - self._strength)[:, np.newaxis]
        self._strength = strength
        self.value = self.value + 0.5 * more[:, 0] * (self.place[:, :-1] ** 2).sum(axis=1)
        self._gradient[:, :-1] += more * self.place[:, :-1]
        self._changes[..., :-1] += more * self._steps[..., :-1]
        self._inverse_products = _invert((self._steps * self._changes).sum(axis=2))

    def _extrapolate(self, logs: list[_Floats]) -> _Floats:
        """Give the place at the last of some log strengths, on the polynomial through what was solved before."""
        *known, target = logs
        guess = np.zeros_like(self.place)
        for own, place in self._solved:
            share = np.ones_like(target)
            for other in known:
                if other is not own:
                    share *= (target - other) / (own - other)
            guess += share[:, np.newaxis] * place
        return guess

    def _jump(self, trial: _Floats) -> None:
        """Go to a place where that is better, at the price of one pass."""
        value, gradient, altogether = self._evaluate(trial, self._all)
        moved = np.flatnonzero(value < self.value)
        step, change = trial[moved] - self.place[moved], gradient[moved] - self._gradient[moved]
        self.place[moved], self.value[moved] = trial[moved], value[moved]
        self._gradient[moved], self._altogether[moved] = gradient[moved], altogether[moved]
        self._refresh(self._all)
        self._remember(moved, step, change)

    def _evaluate(self, place: _Floats, columns: NDArray[np.intp]) -> tuple[_Floats, _Floats, _Floats]:
        """Give the objective, its gradient, and the weight of all rows in the Hessian."""
        if len(columns) <= _REPACKED * len(self._held) or not np.isin(columns, self._held).all():
            self._held = columns
            everything = len(columns) == len(self._all)
            self._packed = (
                self._signed if everything else [part[:, columns] for part in self._signed],
                self._offsets if everything else [None if part is None else part[:, columns] for part in self._offsets],
            )
        inside = np.zeros((len(self._held), place.shape[1]))
        where = np.searchsorted(self._held, columns)
        inside[where] = place
        loss = self._matrix.find_loss(self._chunks, *self._packed, inside)
        strength = self._strength[columns]
        value = loss.value[where] + 0.5 * strength * (place[:, :-1] ** 2).sum(axis=1)
        gradient = loss.gradient[where]
        gradient[:, :-1] += strength[:, np.newaxis] * place[:, :-1]
        return value, gradient, loss.curvature[where]

    def _refresh(self, columns: NDArray[np.intp]) -> None:
        for column in columns:
            rows = self._preconditioner.positives[column]
            probabilities = expit(rows @ self.place[column] + self._offsets_of_positives[column])
            weights = self._weights_of_positives[column] * probabilities * (1 - probabilities)
            self._preconditioner.update(
                column, weights.astype(np.float64), self._altogether[column], self._strength[column]
            )

    def _remember(self, columns: NDArray[np.intp], step: _Floats, change: _Floats) -> None:
        newest = self._newest = (self._newest + 1) % _MEMORY
        for kept, new in ((self._steps, step), (self._changes, change)):
            kept[newest] = 0
            kept[newest, columns] = new
        product = (step * change).sum(axis=1)
        self._inverse_products[newest] = 0
        self._inverse_products[newest, columns] = _invert(product)
        # How much too small or large the preconditioner was along the last step.
        expected = (change * self._preconditioner.apply(change, columns)).sum(axis=1)
        self._scale[columns] = np.where((product > 0) & (expected > 0), product * _invert(expected), 1.0)

    def _choose_direction(self, columns: NDArray[np.intp]) -> tuple[_Floats, _Floats]:
        """Give the direction of L-BFGS and the slope along it, which is negative."""
        vectors = self._gradient[columns].copy()
        ages = [(self._newest - age) % _MEMORY for age in range(_MEMORY)]
        taken = []
        for age in ages:
            share = self._inverse_products[age, columns] * (self._steps[age, columns] * vectors).sum(axis=1)
            vectors -= share[:, np.newaxis] * self._changes[age, columns]
            taken.append(share)
        vectors = self._preconditioner.apply(vectors, columns) * self._scale[columns, np.newaxis]
        for age, share in zip(reversed(ages), reversed(taken), strict=True):
            back = self._inverse_products[age, columns] * (self._changes[age, columns] * vectors).sum(axis=1)
            vectors += self._steps[age, columns] * (share - back)[:, np.newaxis]
        direction = -vectors
        return direction, (direction * self._gradient[columns]).sum(axis=1)

    def _is_optimal(self, slope: _Floats) -> NDArray[np.bool_]:
        left = -0.5 * slope
        penalty = 0.5 * self._strength * (self.place[:, :-1] ** 2).sum(axis=1)
        enough = np.maximum(self._precision.penalty * penalty, self._precision.floor * self.value)
        optimal: NDArray[np.bool_] = (left <= self._precision.objective * self.value) & (left <= enough)
        return optimal


def _invert(products: _Floats) -> _Floats:
    """Give 1 / x, and 0 where x is not above 0: such a step is left out."""
    inverse: _Floats = np.divide(1.0, products, out=np.zeros_like(products), where=products > 0)
    return inverse


def _find_intercepts(task: Task, numbers: NDArray[np.intp], signed: NDArray[Any]) -> _Floats:
    """Give what to begin with, about: far from there an offset has no curvature, and a step no end."""
    some = np.unique(np.linspace(0, len(numbers) - 1, _SAMPLED).astype(np.intp))
    intercepts = np.zeros(signed.shape[1])
    for column, weights in enumerate(signed.T):
        negatives = some[weights[some] < 0]
        sample = np.concatenate([np.flatnonzero(weights > 0), negatives])
        taken = weights[sample].astype(np.float64)
        if len(negatives):
            of_all = np.minimum(weights, 0).sum(dtype=np.float64)
            taken[taken < 0] *= of_all / weights[negatives].sum(dtype=np.float64)
        offset = np.zeros(len(sample)) if task.offset is None else task.offset[numbers[sample], column]
        intercepts[column] = balance_sides(taken, offset)
    return intercepts
