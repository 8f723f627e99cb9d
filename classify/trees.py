"""Gradient-boosted trees for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import lightgbm as lgb
import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from birdemb.classify.checks import check_number, check_whole_number
from birdemb.classify.head import Columns, MultiLabelHead
from birdemb.classify.state import StateReader, StateValue
from birdemb.classify.transform import InputTransform, read_steps
from birdemb.classify.tree_growing import Plan, grow
from birdemb.classify.tree_text import check_trees
from birdemb.errors import InputError

__all__ = ["LightGBMHead"]

_DEFAULT_PATIENCE = 30
_MOST_LEAVES = 131_072  # LightGBM refuses more


class LightGBMHead(MultiLabelHead):
    """LightGBM, one model for each class, all of them from one binned data set.

    Sorting the features into bins is much of the work and does not depend on the class. So the windows are
    binned once, and only the labels, the weights and the offset change from class to class. The trees are
    those of a fit from scratch.

    Parameters
    ----------
    n_estimators : int, default=200
        Trees of each class; the most where `early_stopping` chooses their number.
    learning_rate : float, default=0.05
        What each tree adds is multiplied by this.
    num_leaves : int, default=4
        Most leaves of a tree.
    min_data_in_leaf : int, default=1
        Fewest windows in a leaf. LightGBM's own default shuts out classes with a single recording, which
        have a few windows. LightGBM derives the count from the second derivatives of the loss, so that a
        window of a rare class, with its large weight, counts for many.
    min_sum_hessian : float, default=1e-3
        Least sum of the second derivatives in a leaf.
    feature_fraction : float, default=0.05
        Share of the features that each tree may use. The features of an embedding say the same many times
        over, and a class has few windows: with few features the trees differ more from each other, which is
        what their sum lives on, and they are grown faster.
    extra_trees : bool, default=True
        Whether a split tries one random threshold of each feature in place of all of them. A class that is known
        from a few recordings has no best threshold: the random ones differ more, and recognise other recordings
        better.
    lambda_l2 : float, default=1.0
        Ridge on the values of the leaves.
    early_stopping : bool or int, default=False
        Whether to choose the number of trees of each class by the loss on held-out windows: of `validation_folds`
        folds, each held out in turn, `groups` kept whole. It is the largest number at which half of the best gain in
        loss is left. A number is the patience: so many trees beyond that end the search; True is 30. The fewer
        groups with positives a class has, the more its choice is drawn towards that of all classes; a class with
        positives in one fold alone takes that one, and where no class can choose, all get `n_estimators`. The trees
        are then grown on all windows. It guards an offset against embeddings that say nothing new. Without an
        offset, more trees recognised other recordings better than what was chosen.
    validation_folds : int, default=3
        Folds for that; fewer where there are fewer groups.
    negative_share : float, default=1.0
        Share of the negatives of each class that the trees are grown on, though no fewer than there are positives.
        Those that are kept weigh what all of them did. It saves time with many thousands of windows; with a few
        hundred every negative counts.
    input_transform : str, default="none"
        What is done to the embeddings first; see `birdemb.classify.transform.read_steps`. To trees it does not matter
        how a single feature is scaled, so that of all steps "unit" and "pca" alone make a difference.
    class_weight : "sqrt", "balanced", "effective", dict or None, default="sqrt"
        See `birdemb.classify.reweighting.reweight`. A dict maps labels to weights, for a 1-D `y` alone.
    positive_weight : float or sequence of float, default=1.0
        What the positives of every class, or of each class, are multiplied by after that.
    n_jobs : int or None, default=None
        Threads of `fit`, each with a class of its own, and of a prediction; the trees do not depend on it. None is
        1, or what ``joblib.parallel_config`` says.
    random_state : int, RandomState or None, default=None
        Seed of the choice of features, thresholds, folds and negatives; it is the same for every class, so that
        the trees of a class do not depend on where it stands.

    Attributes
    ----------
    models_ : list of str, one for each fitted column
        The trees in LightGBM's own text, without what a prediction does not need.
    intercept_ : ndarray of shape (fitted columns,), float64
        What is added to the sum of the trees, in logits.
    n_trees_ : ndarray of shape (fitted columns,), int64
        How many trees each class has.
    """

    name: ClassVar[str] = "lgbm"

    def __init__(
        self,
        n_estimators: int = 200,
        learning_rate: float = 0.05,
        num_leaves: int = 4,
        min_data_in_leaf: int = 1,
        min_sum_hessian: float = 1e-3,
        feature_fraction: float = 0.05,
        extra_trees: bool = True,
        lambda_l2: float = 1.0,
        early_stopping: bool | int = False,
        validation_folds: int = 3,
        negative_share: float = 1.0,
        input_transform: str = "none",
        class_weight: str | Mapping[Any, float] | None = "sqrt",
        positive_weight: float | Sequence[float] = 1.0,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.min_data_in_leaf = min_data_in_leaf
        self.min_sum_hessian = min_sum_hessian
        self.feature_fraction = feature_fraction
        self.extra_trees = extra_trees
        self.lambda_l2 = lambda_l2
        self.early_stopping = early_stopping
        self.validation_folds = validation_folds
        self.negative_share = negative_share
        self.input_transform = input_transform
        self.class_weight = class_weight
        self.positive_weight = positive_weight
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _check_params(self) -> None:
        super()._check_params()
        check_whole_number("n_estimators", self.n_estimators, at_least=1)
        check_number("learning_rate", self.learning_rate, above=0)
        check_whole_number("num_leaves", self.num_leaves, at_least=2, at_most=_MOST_LEAVES)
        check_whole_number("min_data_in_leaf", self.min_data_in_leaf, at_least=0)
        check_number("min_sum_hessian", self.min_sum_hessian, at_least=0)
        check_number("feature_fraction", self.feature_fraction, above=0, at_most=1)
        if not isinstance(self.extra_trees, bool):
            raise InputError(f"extra_trees is {self.extra_trees!r}. It has to be True or False.")
        check_number("lambda_l2", self.lambda_l2, at_least=0)
        if not isinstance(self.early_stopping, bool):
            check_whole_number("early_stopping", self.early_stopping, at_least=1)
        check_whole_number("validation_folds", self.validation_folds, at_least=2)
        check_number("negative_share", self.negative_share, above=0, at_most=1)
        read_steps(self.input_transform)

    def _fit_columns(self, X: NDArray[Any], columns: Columns) -> None:
        self._transform_ = InputTransform.learn(X, columns.of_windows, self.input_transform, standardise=False)
        plan = Plan(
            params=self._make_params(),
            rounds=self.n_estimators,
            # True is a whole number too.
            patience=_DEFAULT_PATIENCE if self.early_stopping is True else int(self.early_stopping),
            folds=self.validation_folds,
            negative_share=self.negative_share,
            jobs=effective_n_jobs(self.n_jobs),
        )
        forest = grow(self._transform_.apply(X), columns, plan)
        self.intercept_ = forest.intercepts
        self._keep(forest.models)

    def _make_params(self) -> dict[str, Any]:
        """Give LightGBM's parameters, but for the number of threads."""
        return {
            "objective": "binary",
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": self.min_data_in_leaf,
            "min_sum_hessian_in_leaf": self.min_sum_hessian,
            "feature_fraction": self.feature_fraction,
            "extra_trees": self.extra_trees,
            "lambda_l2": self.lambda_l2,
            "seed": int(check_random_state(self.random_state).randint(2**31 - 1)),
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

    def _predict_scores(self, X: NDArray[Any]) -> NDArray[Any]:
        transformed = self._transform_.apply(X)
        threads = effective_n_jobs(self.n_jobs)
        scores = np.empty((len(X), len(self._boosters_)))
        # Class by class: the trees of one class stay in the processor's cache.
        for column, booster in enumerate(self._boosters_):
            scores[:, column] = booster.predict(transformed, num_threads=threads, raw_score=True)
        return scores + self.intercept_

    def _get_column_state(self) -> dict[str, StateValue]:
        trees = {f"trees_{column}": text for column, text in enumerate(self.models_)}
        return {**self._transform_.get_state(), "intercept": self.intercept_, **trees}

    def _set_column_state(self, reader: StateReader, columns: int) -> None:
        dim = self.n_features_in_
        self._transform_ = InputTransform.read_state(reader, self.input_transform, dim, standardise=False)
        self.intercept_ = reader.array("intercept", (columns,))
        models = [reader.text(f"trees_{column}") for column in range(columns)]
        for text in models:
            check_trees(text, self._transform_.width(dim))
        self._keep(models)

    def _keep(self, models: list[str]) -> None:
        """Read the trees from their text, after a fit as from a bundle: the two can then never differ."""
        self.models_ = models
        self._boosters_ = [_read_booster(text) for text in models]
        self.n_trees_ = np.array([booster.num_trees() for booster in self._boosters_], np.int64)


def _read_booster(text: str) -> lgb.Booster:
    try:
        return lgb.Booster(model_str=text)
    except lgb.basic.LightGBMError as error:
        raise InputError(f"The trees in the state of a head cannot be read ({error}).") from error
