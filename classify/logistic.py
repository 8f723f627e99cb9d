"""One logistic regression for each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from birdemb.classify.checks import check_number, check_whole_number
from birdemb.classify.head import MultiLabelHead
from birdemb.classify.state import StateReader, StateValue
from birdemb.classify.transform import InputTransform, check_transform

__all__ = ["LogisticHead"]


class LogisticHead(MultiLabelHead):
    """Ridge logistic regression on standardised embeddings, one for each class.

    Parameters
    ----------
    C : float, default=1e-3
        Inverse of the strength of the ridge, as in scikit-learn's ``LogisticRegression``. An embedding has
        a thousand features, most classes have a few dozen windows, and all of a recording's windows are
        alike: the classes are separable many times over and the ridge alone chooses among the solutions,
        so that it is much stronger here than scikit-learn's own default. A strong ridge also pulls
        probabilities towards 0.5, which calibration undoes.
    input_transform : "sqrt" or "none", default="sqrt"
        What is done to the embeddings before they are standardised: the signed square root or nothing.
        Embeddings are non-negative and skewed; see `birdemb.classify.transform.signed_square_root`.
    class_weight : "balanced", dict or None, default="balanced"
        See `birdemb.classify.reweighting.reweight`. A dict maps labels to weights, for a 1-D `y` alone.
    max_iter : int, default=200
        Most iterations of L-BFGS for each class.
    n_jobs : int or None, default=None
        How many classes are fitted at once, and the threads of a prediction. None is one class, or what
        ``joblib.parallel_config`` says, and as many threads as NumPy uses by itself.
    random_state : int, RandomState or None, default=None
        Nothing here is random; every head has this parameter.

    Attributes
    ----------
    coef_ : ndarray of shape (fitted columns, dim)
        Weights of the standardised features.
    intercept_ : ndarray of shape (fitted columns,)
    n_iter_ : ndarray of shape (fitted columns,), int64
        Iterations that each class took; not in the state.
    """

    name: ClassVar[str] = "lr"

    def __init__(
        self,
        C: float = 1e-3,
        input_transform: str = "sqrt",
        class_weight: str | Mapping[Any, float] | None = "balanced",
        max_iter: int = 200,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.C = C
        self.input_transform = input_transform
        self.class_weight = class_weight
        self.max_iter = max_iter
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _check_params(self) -> None:
        super()._check_params()
        check_number("C", self.C, above=0)
        check_transform(self.input_transform)
        check_whole_number("max_iter", self.max_iter, at_least=1)

    def _fit_columns(
        self,
        X: NDArray[Any],
        targets: NDArray[np.bool_],
        weights: NDArray[np.float64],
        of_windows: NDArray[np.float64],
    ) -> None:
        self._transform_ = InputTransform.learn(X, of_windows, self.input_transform)
        standardised = self._transform_.apply(X)
        params = {"C": self.C, "max_iter": self.max_iter, "random_state": self.random_state}
        # Threads share the one matrix, and most of the time goes to products that release the interpreter.
        # Within a class the products keep to one thread: classes at once would wait for each other's.
        with threadpool_limits(1, user_api="blas"):
            fitted = Parallel(n_jobs=self.n_jobs, prefer="threads")(
                delayed(LogisticRegression(**params).fit)(standardised, target, weight)
                for target, weight in zip(targets.T, weights.T, strict=True)
            )
        self.coef_ = np.empty((len(fitted), X.shape[1]), dtype=X.dtype)
        self.intercept_ = np.empty(len(fitted), dtype=X.dtype)
        self.n_iter_ = np.empty(len(fitted), dtype=np.int64)
        for column, regression in enumerate(fitted):
            self.coef_[column] = regression.coef_[0]
            self.intercept_[column] = regression.intercept_[0]
            self.n_iter_[column] = regression.n_iter_[0]

    def _predict_columns(self, X: NDArray[Any]) -> NDArray[Any]:
        probabilities: NDArray[Any] = expit(self._transform_.apply(X) @ self.coef_.T + self.intercept_)
        return probabilities

    def _get_column_state(self) -> dict[str, StateValue]:
        return {**self._transform_.get_state(), "coef": self.coef_, "intercept": self.intercept_}

    def _set_column_state(self, reader: StateReader, columns: int) -> None:
        self._transform_ = InputTransform.read_state(reader, self.input_transform, self.n_features_in_)
        self.coef_ = reader.array("coef", (columns, self.n_features_in_))
        self.intercept_ = reader.array("intercept", (columns,))
