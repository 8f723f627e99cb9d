"""What every head is: a scikit-learn classifier of windows, with many classes at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from birdemb.classify.checks import check_jobs
from birdemb.classify.given import Columns, read_groups, read_offset, read_targets, read_weights
from birdemb.classify.reweighting import check_class_weight, check_positive_weight, reweight
from birdemb.classify.state import StateReader, StateValue
from birdemb.errors import InputError

__all__ = ["Columns", "MultiLabelHead"]

SMALLEST_CONSTANT = 1e-6
"""A class that was not fitted gets its prior as its probability, kept this far from 0 and 1."""


class MultiLabelHead(ClassifierMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """The contract of all heads, and everything that they share.

    A head gives each class a classifier of its own, "present" against "absent". A subclass says how
    these are fitted and asked, and keeps its parameters as scikit-learn wants them: `__init__` stores,
    `fit` works and forgets the fit before it. All heads have the parameters `class_weight`, `positive_weight`,
    `n_jobs` and `random_state`. ``set_params(n_jobs=...)`` sets the threads of `fit` and of `predict_proba`.

    Where something is known of a class beforehand, such as the logit that the encoder itself gives it, the head
    takes that as an offset and learns a correction: score = offset + what was learnt, probability = sigmoid(score).

    Attributes
    ----------
    classes_ : ndarray of shape (classes,)
        For an indicator matrix the column numbers 0, 1, ...; for 1-D labels the sorted labels.
    fitted_classes_ : ndarray of shape (columns,), bool
        Which columns have a classifier. A column without a positive or without a negative among its
        unmasked windows has none: its prior, kept 1e-6 away from 0 and 1, is its probability everywhere,
        and a column that is masked in every window gets 1e-6; an offset is added in logits. Two labels in a 1-D
        `y` make one column.
    takes_offset_ : bool
        Whether `fit` was given an offset, so that predictions need one too.
    n_features_in_ : int
        Size of an embedding.
    """

    name: ClassVar[str]
    """The short name of the head, as in `birdemb.classify.heads.HEADS`."""

    class_weight: str | Mapping[Any, float] | None
    positive_weight: float | Sequence[float]
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    classes_: NDArray[Any]
    fitted_classes_: NDArray[np.bool_]
    takes_offset_: bool
    n_features_in_: int

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        offset: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Fit one classifier for each class.

        Parameters
        ----------
        X : array-like of shape (n, dim), float32 or float64
            Embeddings.
        y : array-like of shape (n, classes) or (n,)
            An indicator matrix of 0 and 1, or one label for each window. Labels are treated one against
            the rest, as in scikit-learn's ``OneVsRestClassifier``.
        sample_weight : array-like of shape (n,) or (n, classes), optional
            Weight of each window or, for an indicator matrix, of each entry of it. A weight of 0 in an
            entry masks it: it is unknown whether that class is in that window. A window that weighs
            nothing in every class is as good as absent.
        offset : array-like of shape (n, classes), optional
            Logits known beforehand; 0 where nothing is known. For an indicator matrix alone.
        groups : array-like of shape (n,), optional
            The recording, author or site of each window: what a head chooses by inner folds, such as a penalty or
            the number of trees, it chooses on groups that it has not seen. By default each window stands for itself.

        Returns
        -------
        MultiLabelHead
            This head.

        Raises
        ------
        InputError
            If an array holds NaN or infinity or has the wrong shape, if a weight is negative, if all
            weights are 0, or if a parameter is out of range.
        """
        self._check_params()
        X_checked, y_checked = self._validated(X, y, multi_output=True)
        read = read_targets(y_checked)
        self._task_, self.classes_, targets = read.task, read.classes, read.columns
        weights = read_weights(sample_weight, self.class_weight, y_checked, read)
        offsets = read_offset(offset, self._task_, targets.shape)
        codes = read_groups(groups, len(targets))
        self.takes_offset_ = offsets is not None
        known = weights.any(axis=1)
        if not known.all():
            X_checked, targets, weights = X_checked[known], targets[known], weights[known]
            offsets = None if offsets is None else offsets[known]
            codes = None if codes is None else codes[known]
        positives = np.where(targets, weights, 0.0).sum(axis=0)
        negatives = np.where(targets, 0.0, weights).sum(axis=0)
        total = positives + negatives
        prior = np.divide(positives, total, out=np.zeros_like(total), where=total > 0)
        self._constant_ = np.clip(prior, SMALLEST_CONSTANT, 1 - SMALLEST_CONSTANT)
        self.fitted_classes_ = (positives > 0) & (negatives > 0)
        of_windows = weights.mean(axis=1)
        targets, weights = targets[:, self.fitted_classes_], weights[:, self.fitted_classes_]
        rule = self.class_weight if isinstance(self.class_weight, str) else None
        weights = reweight(targets, weights, rule) * np.where(targets, self._read_positive_weight(), 1.0)
        if offsets is not None:
            offsets = offsets[:, self.fitted_classes_]
        self._fit_columns(X_checked, Columns(targets, weights, of_windows, offsets, codes))
        return self

    def decision_function(self, X: ArrayLike, offset: ArrayLike | None = None) -> NDArray[np.float64]:
        """Give the score of each class in each window: the logit, offset included.

        Parameters
        ----------
        X : array-like of shape (n, dim), float32 or float64
        offset : array-like of shape (n, classes), optional
            As in `fit`; needed where `fit` had one.

        Returns
        -------
        ndarray of shape (n, classes), float64
            For two 1-D labels of shape (n,): the score of the second.

        Raises
        ------
        InputError
            As `predict_proba`.
        """
        check_is_fitted(self, "fitted_classes_")
        X_checked = self._validated(X, reset=False)
        columns = np.empty((len(X_checked), len(self.fitted_classes_)))
        columns[:, ~self.fitted_classes_] = logit(self._constant_[~self.fitted_classes_])
        if self.fitted_classes_.any():
            threads = None if self.n_jobs is None else effective_n_jobs(self.n_jobs)
            with threadpool_limits(threads, user_api="blas"):
                columns[:, self.fitted_classes_] = self._predict_scores(X_checked)
        if (offset is not None) != self.takes_offset_:
            raise InputError(
                "The head was fitted with an offset: give one for these windows too."
                if self.takes_offset_
                else "The head was fitted without an offset: it cannot take one now."
            )
        offsets = read_offset(offset, self._task_, columns.shape)
        if offsets is not None:
            columns += offsets
        return columns[:, 0] if self._task_ == "binary" else columns

    def predict_proba(self, X: ArrayLike, offset: ArrayLike | None = None) -> NDArray[np.float64]:
        """Give the probability of each class in each window.

        Parameters
        ----------
        X : array-like of shape (n, dim), float32 or float64
        offset : array-like of shape (n, classes), optional
            As in `fit`; needed where `fit` had one.

        Returns
        -------
        ndarray of shape (n, classes), float64
            Each in [0, 1]. For 1-D labels each row has the sum 1.

        Raises
        ------
        InputError
            If `X` holds NaN or infinity or has another dim than the windows of `fit`, or an offset is missing or
            too much.
        """
        columns: NDArray[np.float64] = expit(self.decision_function(X, offset))
        if self._task_ == "multi-label":
            return columns
        if self._task_ == "binary":
            return np.column_stack([1 - columns, columns])
        # A tiny offset in place of 0 / 0, where no class at all is likely.
        columns = np.maximum(columns, np.finfo(np.float64).tiny)
        normalised: NDArray[np.float64] = columns / columns.sum(axis=1, keepdims=True)
        return normalised

    def predict(self, X: ArrayLike, offset: ArrayLike | None = None) -> NDArray[Any]:
        """Decide at a probability of 0.5.

        Parameters
        ----------
        X : array-like of shape (n, dim), float32 or float64
        offset : array-like of shape (n, classes), optional
            As in `fit`; needed where `fit` had one.

        Returns
        -------
        ndarray of shape (n, classes), int64, or (n,)
            An indicator matrix with 1 where the probability is above 0.5; for 1-D labels the likeliest.

        Raises
        ------
        InputError
            As `predict_proba`.
        """
        check_is_fitted(self, "fitted_classes_")
        if self._task_ == "multi-class":
            likeliest: NDArray[Any] = self.classes_[self.decision_function(X, offset).argmax(axis=1)]
            return likeliest
        probabilities = self.predict_proba(X, offset)
        if self._task_ == "multi-label":
            return (probabilities > 0.5).astype(np.int64)
        decided: NDArray[Any] = self.classes_[(probabilities[:, 1] > 0.5).astype(np.intp)]
        return decided

    def get_state(self) -> dict[str, StateValue]:
        """Give all that a prediction needs of what `fit` learnt, as numeric arrays and plain text.

        Returns
        -------
        dict of str to ndarray or str

        Raises
        ------
        InputError
            If the head was fitted on 1-D labels.
        """
        check_is_fitted(self, "fitted_classes_")
        if self._task_ != "multi-label":
            raise InputError("The head was fitted on 1-D labels. To keep a head, fit it on an indicator matrix.")
        return {
            "n_features": np.array(self.n_features_in_, np.int64),
            "n_classes": np.array(len(self.classes_), np.int64),
            "fitted_classes": self.fitted_classes_,
            "constant": self._constant_,
            "takes_offset": np.array(self.takes_offset_),
            **self._get_column_state(),
        }

    @classmethod
    def from_state(cls, params: Mapping[str, Any], state: Mapping[str, StateValue]) -> Self:
        """Rebuild a fitted head; its `predict_proba` is that of the first one, bit for bit.

        Parameters
        ----------
        params : mapping
            What `get_params` gave; what it lacks has its default.
        state : mapping
            What `get_state` gave.

        Returns
        -------
        MultiLabelHead
            With all that a prediction needs; what only tells of the fit, as ``n_iter_``, is not there.

        Raises
        ------
        InputError
            If there is no such parameter, if a part of the state is missing or too much, or if one of
            either is not what it has to be.
        """
        unknown = set(params) - set(cls._get_param_names())
        if unknown:
            raise InputError(f"The head {cls.name!r} has no parameter {', '.join(sorted(unknown))}.")
        head = cls(**params)
        head._check_params()
        reader = StateReader(state)
        head._task_ = "multi-label"
        head.n_features_in_, classes = reader.count("n_features"), reader.count("n_classes")
        head.fitted_classes_ = reader.array("fitted_classes", (classes,), "b")
        head._constant_ = reader.array("constant", (classes,))
        if not ((head._constant_ >= 0) & (head._constant_ <= 1)).all():
            raise InputError("The part 'constant' in the state of a head holds values that are no probabilities.")
        head.takes_offset_ = bool(reader.array("takes_offset", (), "b"))
        head.classes_ = np.arange(classes)
        head._set_column_state(reader, int(head.fitted_classes_.sum()))
        reader.refuse_rest()
        return head

    @abstractmethod
    def _check_params(self) -> None:
        """Raise InputError for a parameter that is out of range."""
        check_class_weight(self.class_weight)
        check_positive_weight(self.positive_weight)
        check_jobs(self.n_jobs)
        _check_seed(self.random_state)

    @abstractmethod
    def _fit_columns(self, X: NDArray[Any], columns: Columns) -> None:
        """Fit the classifiers of the columns, which may be none, to `X` of shape (n, dim), float32 or float64."""

    @abstractmethod
    def _predict_scores(self, X: NDArray[Any]) -> NDArray[Any]:
        """Give the logits, of shape (n, columns), of the columns that were fitted; without the offset."""

    @abstractmethod
    def _get_column_state(self) -> dict[str, StateValue]:
        """Give what `_fit_columns` learnt."""

    @abstractmethod
    def _set_column_state(self, reader: StateReader, columns: int) -> None:
        """Take back what `_get_column_state` gave, for so many fitted columns."""

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401 - scikit-learn has no types
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _validated(self, *arrays: ArrayLike, **checks: bool) -> Any:  # noqa: ANN401 - one array or two
        try:
            return validate_data(self, *arrays, dtype=[np.float64, np.float32], **checks)
        except ValueError as error:
            # Its own advice on missing values is to take another classifier.
            raise InputError(_tell_missing(arrays[0]) or str(error)) from error

    def _read_positive_weight(self) -> NDArray[np.float64]:
        """Give the weight of the positives of each fitted column."""
        weight = np.asarray(self.positive_weight, np.float64)
        if weight.ndim and weight.shape != self.fitted_classes_.shape:
            raise InputError(
                f"positive_weight has {len(weight)} numbers; expected one, or one for each of the "
                f"{len(self.fitted_classes_)} classes."
            )
        return np.broadcast_to(weight, self.fitted_classes_.shape)[self.fitted_classes_]


def _check_seed(random_state: object) -> None:
    try:
        check_random_state(random_state)
    except ValueError as error:
        raise InputError(
            f"random_state is {random_state!r}. It has to be None, a whole number from 0 to {2**32 - 1}, "
            "or a RandomState."
        ) from error


def _tell_missing(X: ArrayLike) -> str:
    """Tell the first row of a matrix that holds NaN or infinity; nothing of what is no matrix of numbers."""
    values = np.asarray(X)
    if values.ndim != 2 or values.dtype.kind != "f":
        return ""
    missing = ~np.isfinite(values).all(axis=1)
    if not missing.any():
        return ""
    return (
        f"X holds NaN or infinity in {np.count_nonzero(missing)} of {len(values)} rows, the first of them "
        f"{int(missing.argmax())}, counted from 0. Leave such windows out."
    )
