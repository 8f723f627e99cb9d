"""One logistic regression for each class."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from birdemb.classify.checks import check_number, check_whole_number
from birdemb.classify.head import Columns, MultiLabelHead
from birdemb.classify.logistic_choice import choose_penalties, plan_folds, sort_columns, thin_out, usual_path
from birdemb.classify.logistic_solver import SharedMatrix
from birdemb.classify.logistic_task import Task
from birdemb.classify.state import StateReader, StateValue
from birdemb.classify.transform import InputTransform, read_steps
from birdemb.errors import InputError

__all__ = ["LogisticHead"]

USUAL_STRENGTH = 0.2
"""C times the total weight of a class, where no class can be assessed: good for 14 species with a recording each."""


class LogisticHead(MultiLabelHead):
    """Ridge logistic regression on standardised embeddings, one for each class.

    Parameters
    ----------
    C : float, sequence of float, or "cv", default="cv"
        Inverse of the strength of the ridge, as in scikit-learn's ``LogisticRegression``; one for all classes or one
        for each. An embedding has a thousand features, most classes have a few dozen windows, and all of a recording's
        windows are alike: the classes are separable many times over and the ridge alone chooses among the
        solutions, so that it is much stronger here than scikit-learn's own default. A strong ridge also pulls
        probabilities towards 0.5, which calibration undoes. ``"cv"`` chooses for each class by inner folds: the
        smallest `C` whose weighted log loss on groups that the fit has not seen is within a standard error of the
        smallest loss (the `C` of that loss itself where the offset is not 0), at the scale of the scores that is best
        for all classes, since calibration follows. The mean loss of all classes is mixed in as if it were ten more
        groups of the class, since a rare class cannot tell by itself, and where nothing can be told of a class
        it decides alone. Where nothing can be told of any class, `C` times the total weight of the class is 0.2.
    Cs : sequence of float or None, default=None
        What ``C="cv"`` chooses from. None: 8 values with which `C` times the total weight of the class is from 0.003
        to 10, or with an offset 12 from 0.00003, where next to nothing is corrected, to 10.
    inner_folds : int, default=5
        Folds of ``C="cv"``; fewer where there are fewer groups.
    input_transform : str, default="sqrt"
        What is done to the embeddings before they are standardised: a chain such as ``"sqrt"``, ``"power:0.3+unit"``
        or ``"none"``, as `birdemb.classify.transform.read_steps` reads it.
    class_weight : "sqrt", "balanced", "effective", dict or None, default="sqrt"
        See `birdemb.classify.reweighting.reweight`. A dict maps labels to weights, for a 1-D `y` alone.
    positive_weight : float or sequence of float, default=1.0
        What the positives of every class, or of each class, are multiplied by after that.
    max_iter : int, default=200
        Most iterations for each class.
    n_jobs : int or None, default=None
        Threads of the fit and of a prediction. None is one thread in the fit, or what ``joblib.parallel_config``
        says, and as many as NumPy uses by itself in a prediction. The fit is the same, bit for bit, for any number.
    random_state : int, RandomState or None, default=None
        Seed of the inner folds; None is always the same one. Nothing else here is random.

    Attributes
    ----------
    coef_ : ndarray of shape (fitted columns, features behind the transform)
        Weights of the standardised features.
    intercept_ : ndarray of shape (fitted columns,)
        No penalty holds it: where the ridge is so strong that `coef_` vanishes, the scores are the offset, moved
        for each class until the weighted positives and negatives are met.
    C_ : ndarray of shape (fitted columns,), float64
        The penalty of each class; not in the state.
    n_iter_ : ndarray of shape (fitted columns,), int64
        Iterations that each class took; not in the state.

    Notes
    -----
    The optimum is that of scikit-learn's ``LogisticRegression``, class by class; all classes are fitted together,
    see `birdemb.classify.logistic_solver`. What ``C="cv"`` holds out is unknown to the regressions, while the mean and
    scale of the features are those of all windows. A class that does not converge is told of with scikit-learn's
    ``ConvergenceWarning``.

    ``"cv"`` is the default because of measurements on 14 real species and in seven synthetic worlds, these heard by two
    encoders: its mean macro ROC-AUC in soundscapes was 0.888, and that of 0.01, 0.001 and 0.0001 was 0.884, 0.887 and
    0.881 (``tests/benchmarks/choices.py``). It hears the recordings of the table alone: where an offset does better in
    soundscapes than on those, as one of an encoder that was trained on soundscapes, it corrects more than is good.
    """

    name: ClassVar[str] = "lr"

    def __init__(
        self,
        C: float | Sequence[float] | str = "cv",
        Cs: Sequence[float] | None = None,
        inner_folds: int = 5,
        input_transform: str = "sqrt",
        class_weight: str | Mapping[Any, float] | None = "sqrt",
        positive_weight: float | Sequence[float] = 1.0,
        max_iter: int = 200,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.C = C
        self.Cs = Cs
        self.inner_folds = inner_folds
        self.input_transform = input_transform
        self.class_weight = class_weight
        self.positive_weight = positive_weight
        self.max_iter = max_iter
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _check_params(self) -> None:
        super()._check_params()
        if isinstance(self.C, str):
            if self.C != "cv":
                raise InputError(f"C is {self.C!r}. It has to be a number above 0, one for each class, or 'cv'.")
        else:
            _check_numbers("C", self.C)
        if self.Cs is not None:
            _check_numbers("Cs", self.Cs)
        check_whole_number("inner_folds", self.inner_folds, at_least=2)
        read_steps(self.input_transform)
        check_whole_number("max_iter", self.max_iter, at_least=1)

    def _fit_columns(self, X: NDArray[Any], columns: Columns) -> None:
        thinned = plan = None
        if isinstance(self.C, str):
            thinned = thin_out(columns, self._read_seed())
            if thinned is None:
                plan = plan_folds(X, columns, self.inner_folds, self._read_seed())
        if plan is not None:
            X, columns = X[plan.order], sort_columns(columns, plan.order)
        self._transform_ = InputTransform.learn(X, columns.of_windows, self.input_transform)
        standardised = self._transform_.apply(X)
        count = columns.targets.shape[1]
        self.coef_ = np.zeros((count, standardised.shape[1]), dtype=X.dtype)
        self.intercept_ = np.zeros(count, dtype=X.dtype)
        self.n_iter_ = np.zeros(count, dtype=np.int64)
        self.C_ = np.zeros(count)
        if not count:
            return
        self.C_[:] = self._read_penalties(columns)
        path = self._read_path(columns)
        if thinned is not None:
            rows, few = thinned
            plan = plan_folds(X[rows], few, self.inner_folds, self._read_seed())
            if plan is not None:
                some = standardised[rows[plan.order]]
                few = sort_columns(few, plan.order)
                part = SharedMatrix(some, few.of_windows, self.n_jobs)
                chosen = choose_penalties(part, some, few, plan, path, self.max_iter)
                self.C_[:] = path[chosen, np.arange(count)]
        matrix = SharedMatrix(standardised, columns.of_windows, self.n_jobs)
        if thinned is None and plan is not None:
            chosen = choose_penalties(matrix, standardised, columns, plan, path, self.max_iter)
            self.C_[:] = path[chosen, np.arange(count)]
        task = Task(columns.targets, columns.weights, columns.offset)
        fitted = matrix.fit(task, self.C_[np.newaxis], self.max_iter)
        if not fitted.converged.all():
            warnings.warn(
                f"{int((~fitted.converged).sum())} of {count} classes did not converge within {self.max_iter} "
                "iterations. Increase max_iter, or use a smaller C.",
                ConvergenceWarning,
                stacklevel=3,
            )
        self.coef_[:], self.intercept_[:], self.n_iter_[:] = fitted.coef[0], fitted.intercept[0], fitted.n_iter[0]

    def _read_seed(self) -> int:
        if self.random_state is None:
            return 0
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _read_penalties(self, columns: Columns) -> NDArray[np.float64]:
        """Give C of each fitted column, as far as it is known without folds."""
        if isinstance(self.C, str):
            usual: NDArray[np.float64] = USUAL_STRENGTH / columns.weights.sum(axis=0)
            return usual
        given = np.asarray(self.C, np.float64)
        if given.ndim and given.shape != self.fitted_classes_.shape:
            raise InputError(
                f"C has {len(given)} numbers; expected one, or one for each of the {len(self.fitted_classes_)} classes."
            )
        return np.broadcast_to(given, self.fitted_classes_.shape)[self.fitted_classes_]

    def _read_path(self, columns: Columns) -> NDArray[np.float64]:
        if self.Cs is None:
            return usual_path(columns.weights, corrects=columns.offset is not None)
        steps = np.unique(np.asarray(self.Cs, np.float64))
        return np.repeat(steps[:, np.newaxis], columns.targets.shape[1], axis=1)

    def _predict_scores(self, X: NDArray[Any]) -> NDArray[Any]:
        scores: NDArray[Any] = self._transform_.apply(X) @ self.coef_.T + self.intercept_
        return scores

    def _get_column_state(self) -> dict[str, StateValue]:
        return {**self._transform_.get_state(), "coef": self.coef_, "intercept": self.intercept_}

    def _set_column_state(self, reader: StateReader, columns: int) -> None:
        self._transform_ = InputTransform.read_state(reader, self.input_transform, self.n_features_in_)
        self.coef_ = reader.array("coef", (columns, self._transform_.width(self.n_features_in_)))
        self.intercept_ = reader.array("intercept", (columns,))


def _check_numbers(name: str, values: object) -> None:
    """Refuse what is neither a number above 0 nor a list of such numbers."""
    several = isinstance(values, Sequence | np.ndarray) and not isinstance(values, str)
    numbers = list(values) if several else [values]  # type: ignore[call-overload]
    if not numbers:
        raise InputError(f"{name} is empty. Give at least one number above 0.")
    for number in numbers:
        check_number(name, number, above=0)
