"""Gradient-boosted trees for each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import lightgbm as lgb
import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from birdemb.classify.checks import check_number, check_whole_number
from birdemb.classify.head import MultiLabelHead
from birdemb.classify.state import StateReader, StateValue
from birdemb.classify.tree_text import check_trees, shorten
from birdemb.errors import InputError

__all__ = ["LightGBMHead"]

_MANY_VALUES = 4_000_000  # below, threads wait for each other longer than they work


class LightGBMHead(MultiLabelHead):
    """LightGBM, one model for each class, all of them from one binned data set.

    Sorting the features into bins is much of the work and does not depend on the class. So the windows are
    binned once, and only the labels and the weights change from class to class. The trees are those of a
    fit from scratch.

    Parameters
    ----------
    n_estimators : int, default=200
        Trees of each class.
    learning_rate : float, default=0.05
        What each tree adds is multiplied by this.
    num_leaves : int, default=4
        Most leaves of a tree.
    min_data_in_leaf : int, default=1
        Fewest windows in a leaf. LightGBM's own default shuts out classes with a single recording, which
        have a few windows. LightGBM derives the count from the second derivatives of the loss, so that a
        window of a rare class, with its large balanced weight, counts for many.
    min_sum_hessian : float, default=1e-3
        Least sum of the second derivatives in a leaf.
    feature_fraction : float, default=0.02
        Share of the features that each tree may use. The features of an embedding say the same many times
        over, and a class has few windows: with few features the trees differ more from each other, which is
        what their sum lives on, and they are grown faster.
    lambda_l2 : float, default=1.0
        Ridge on the values of the leaves.
    class_weight : "balanced", dict or None, default="balanced"
        See `birdemb.classify.reweighting.reweight`. A dict maps labels to weights, for a 1-D `y` alone.
    n_jobs : int or None, default=None
        Threads of `fit` and of a prediction; the trees do not depend on it. None is 1, or what
        ``joblib.parallel_config`` says.
    random_state : int, RandomState or None, default=None
        Seed of the choice of features.

    Attributes
    ----------
    models_ : list of str, one for each fitted column
        The trees in LightGBM's own text, without what a prediction does not need.
    """

    name: ClassVar[str] = "lgbm"

    def __init__(
        self,
        n_estimators: int = 200,
        learning_rate: float = 0.05,
        num_leaves: int = 4,
        min_data_in_leaf: int = 1,
        min_sum_hessian: float = 1e-3,
        feature_fraction: float = 0.02,
        lambda_l2: float = 1.0,
        class_weight: str | Mapping[Any, float] | None = "balanced",
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.min_data_in_leaf = min_data_in_leaf
        self.min_sum_hessian = min_sum_hessian
        self.feature_fraction = feature_fraction
        self.lambda_l2 = lambda_l2
        self.class_weight = class_weight
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _check_params(self) -> None:
        super()._check_params()
        check_whole_number("n_estimators", self.n_estimators, at_least=1)
        check_number("learning_rate", self.learning_rate, above=0)
        check_whole_number("num_leaves", self.num_leaves, at_least=2)
        check_whole_number("min_data_in_leaf", self.min_data_in_leaf, at_least=0)
        check_number("min_sum_hessian", self.min_sum_hessian, at_least=0)
        check_number("feature_fraction", self.feature_fraction, above=0, at_most=1)
        check_number("lambda_l2", self.lambda_l2, at_least=0)

    def _fit_columns(
        self,
        X: NDArray[Any],
        targets: NDArray[np.bool_],
        weights: NDArray[np.float64],
        of_windows: NDArray[np.float64],  # noqa: ARG002 - trees need no standardisation
    ) -> None:
        params = self._make_params(X.size)
        windows = lgb.Dataset(X, params=params)
        self.models_: list[str] = []
        for column in range(targets.shape[1]):
            windows.set_label(targets[:, column].astype(np.float32))
            windows.set_weight(weights[:, column])
            booster = lgb.train(params, windows, num_boost_round=self.n_estimators)
            self.models_.append(shorten(booster.model_to_string()))
        # From the text, as from a bundle: the two can then never differ.
        self._boosters_ = [_read_booster(text) for text in self.models_]

    def _make_params(self, values: int) -> dict[str, Any]:
        """Give LightGBM's parameters, which the data set and the trees must have in common."""
        return {
            "objective": "binary",
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": self.min_data_in_leaf,
            "min_sum_hessian_in_leaf": self.min_sum_hessian,
            "feature_fraction": self.feature_fraction,
            "lambda_l2": self.lambda_l2,
            "seed": int(check_random_state(self.random_state).randint(2**31 - 1)),
            "num_threads": effective_n_jobs(self.n_jobs) if values > _MANY_VALUES else 1,
            "deterministic": True,
            # Histograms by column are faster with many features, and trying both would not be deterministic.
            "force_col_wise": True,
            # The filter looks at the labels, of which the binned windows must know nothing.
            "feature_pre_filter": False,
            # Embeddings are dense: there are no features that exclude each other to look for.
            "enable_bundle": False,
            "max_bin": 63,
            "min_data_in_bin": 1,
            "verbosity": -1,
        }

    def _predict_columns(self, X: NDArray[Any]) -> NDArray[Any]:
        threads = effective_n_jobs(self.n_jobs)
        probabilities = np.empty((len(X), len(self._boosters_)))
        # Class by class: the trees of one class stay in the processor's cache.
        for column, booster in enumerate(self._boosters_):
            probabilities[:, column] = booster.predict(X, num_threads=threads)
        return probabilities

    def _get_column_state(self) -> dict[str, StateValue]:
        return {f"trees_{column}": text for column, text in enumerate(self.models_)}

    def _set_column_state(self, reader: StateReader, columns: int) -> None:
        self.models_ = [reader.text(f"trees_{column}") for column in range(columns)]
        for text in self.models_:
            check_trees(text, self.n_features_in_)
        self._boosters_ = [_read_booster(text) for text in self.models_]


def _read_booster(text: str) -> lgb.Booster:
    try:
        return lgb.Booster(model_str=text)
    except lgb.basic.LightGBMError as error:
        raise InputError(f"The trees in the state of a head cannot be read ({error}).") from error
