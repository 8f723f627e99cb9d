"""Heads as nodes of an ONNX graph: embeddings in, scores out, and the pieces that make probabilities of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from birdemb.classify.calibration import PLATT_SHARE, Calibration
from birdemb.classify.head import MultiLabelHead
from birdemb.classify.logistic import LogisticHead
from birdemb.classify.mlp import MLPHead
from birdemb.classify.onnx_trees import join_trees
from birdemb.classify.transform import InputTransform
from birdemb.classify.trees import LightGBMHead
from birdemb.errors import InputError
from birdemb.onnx_building import ML_DOMAIN, GraphBuilder

__all__ = ["HeadGraph"]

_SHORTEST = 10 * float(np.finfo(np.float32).eps)  # scikit-learn leaves shorter rows as they are
_SMALLEST_WIDTH = 1e-30


class HeadGraph:
    """Adds heads and what surrounds them to a graph, one piece after the other.

    Each method takes the names of values in the graph and gives the name of a new one. Scores are logits of shape
    (n, classes), float32.

    Parameters
    ----------
    graph : GraphBuilder

    Examples
    --------
    >>> graph = GraphBuilder("heads")
    >>> pieces = HeadGraph(graph)
    >>> embeddings = graph.add_input("embeddings", ("n", 2))
    >>> offset = pieces.add_linear(embeddings, np.eye(2), np.zeros(2))
    >>> graph.add_output("probabilities", pieces.add_sigmoid(offset), ("n", 2))
    """

    def __init__(self, graph: GraphBuilder) -> None:
        self._graph = graph

    def add_head(self, head: MultiLabelHead, embeddings: str, offset: str | None = None) -> str:
        """Add a fitted head.

        Parameters
        ----------
        head : MultiLabelHead
            Fitted on an indicator matrix.
        embeddings : str
            Shape (n, dim), float32.
        offset : str, optional
            Logits that are known beforehand, shape (n, classes); where the head was fitted with them.

        Returns
        -------
        str
            Scores, as ``head.decision_function`` gives.

        Raises
        ------
        InputError
            If the head was fitted on 1-D labels, there is no translation of it, or an offset is missing or too much.
        """
        if head._task_ != "multi-label":
            raise InputError("The head was fitted on 1-D labels. To export a head, fit it on an indicator matrix.")
        if head.takes_offset_ != (offset is not None):
            raise InputError(
                "The head was fitted with an offset: its graph needs one too."
                if head.takes_offset_
                else "The head was fitted without an offset: its graph cannot take one."
            )
        scores = self._add_scores(head, embeddings)
        return scores if offset is None else self.add_sum(scores, offset)

    def _add_scores(self, head: MultiLabelHead, embeddings: str) -> str:
        constants = logit(head._constant_)
        if not head.fitted_classes_.any():
            return self._add_constants(embeddings, head.n_features_in_, constants)
        transform: InputTransform | None = getattr(head, "_transform_", None)
        units = embeddings if transform is None else self.add_transform(transform, embeddings)
        if isinstance(head, LogisticHead):
            return self.add_linear(units, *_spread(head.coef_.T, head.intercept_, head.fitted_classes_, constants))
        if isinstance(head, MLPHead):
            *hidden, last = zip(head.coefs_, head.intercepts_, strict=True)
            for coef, intercept in hidden:
                units = self._graph.add("Relu", self.add_linear(units, coef, intercept))
            return self.add_linear(units, *_spread(*last, head.fitted_classes_, constants))
        if isinstance(head, LightGBMHead):
            constants[head.fitted_classes_] = head.intercept_
            joined = join_trees(head.models_, np.flatnonzero(head.fitted_classes_), constants)
            if not joined.attributes:
                return self._add_constants(embeddings, head.n_features_in_, joined.constants)
            scores = self._graph.add("TreeEnsembleRegressor", units, domain=ML_DOMAIN, **joined.attributes)
            return self._graph.add("Add", scores, self._add_row(joined.constants))
        raise InputError(f"The head {head.name!r} cannot be exported to ONNX. Heads that can: lr, mlp, lgbm.")

    def _add_constants(self, embeddings: str, dim: int, constants: NDArray[np.float64]) -> str:
        return self.add_linear(embeddings, np.zeros((dim, len(constants))), constants)

    def add_transform(self, transform: InputTransform, embeddings: str) -> str:
        """Add what happens to embeddings before a head.

        Parameters
        ----------
        transform : InputTransform
        embeddings : str
            Shape (n, dim).

        Returns
        -------
        str
            Shape (n, width).

        Raises
        ------
        InputError
            If there is no translation of one of its steps.
        """
        graph, values = self._graph, embeddings
        for step in transform.steps:
            if step.name in ("sqrt", "power"):
                size = graph.add("Abs", values)
                if step.name == "sqrt":
                    power = graph.add("Sqrt", size)
                else:
                    power = graph.add("Pow", size, graph.add_number(step.value))
                values = graph.add("Mul", graph.add("Sign", values), power)
            elif step.name == "unit":
                length = graph.add("ReduceL2", values, axes=[1], keepdims=1)
                is_short = graph.add("Less", length, graph.add_number(_SHORTEST))
                values = graph.add("Div", values, graph.add("Where", is_short, graph.add_number(1), length))
            elif step.name != "pca":
                raise InputError(f"The step {step.name!r} of a head's input_transform cannot be exported to ONNX.")
        if transform.projection is not None:
            values = graph.add("Sub", values, self._add_row(transform.projection.mean))
            values = graph.add("MatMul", values, self._add_array(transform.projection.components.T))
        if transform.mean is None or transform.scale is None:
            return values
        values = graph.add("Sub", values, self._add_row(transform.mean))
        return graph.add("Div", values, self._add_row(transform.scale))

    def add_linear(self, values: str, weights: NDArray[Any], intercepts: NDArray[Any]) -> str:
        """Add ``values @ weights + intercepts``: a layer, or a prior that is linear in the embedding.

        Parameters
        ----------
        values : str
            Shape (n, dim).
        weights : ndarray of shape (dim, classes)
        intercepts : ndarray of shape (classes,)

        Returns
        -------
        str
            Shape (n, classes).
        """
        return self._graph.add("Gemm", values, self._add_array(weights), self._add_array(intercepts))

    def add_sum(self, *values: str) -> str:
        """Add up values of one shape, as a score and its offset."""
        return self._graph.add("Sum", *values)

    def add_scaling(self, scores: str, slopes: NDArray[Any], intercepts: NDArray[Any]) -> str:
        """Add ``slopes * scores + intercepts``, a slope and an intercept for each class, as Platt's calibration does.

        Parameters
        ----------
        scores : str
            Shape (n, classes).
        slopes, intercepts : ndarray of shape (classes,)

        Returns
        -------
        str
            Shape (n, classes).
        """
        return self._graph.add("Add", self._graph.add("Mul", scores, self._add_row(slopes)), self._add_row(intercepts))

    def add_interpolation(self, scores: str, points: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> str:
        """Add what ``numpy.interp`` does, with points of its own for each class, as isotonic calibration does.

        Parameters
        ----------
        scores : str
            Shape (n, classes).
        points : sequence of (x, y), one for each class
            Arrays of one length, at least 1; `x` strictly increasing. Constant outside of them.

        Returns
        -------
        str
            Shape (n, classes).

        Raises
        ------
        InputError
            If `x` does not increase.
        """
        most = max(len(x) for x, _ in points)
        # Classes with fewer points get steps that add nothing.
        starts, rises = np.zeros((2, len(points), most), np.float32)
        widths = np.ones((len(points), most), np.float32)
        for row, (x, y) in enumerate(points):
            if not (np.diff(x) > 0).all():
                raise InputError("The points of an interpolation do not increase, so that it cannot be exported.")
            steps = len(x) - 1
            starts[row, :steps], rises[row, :steps] = x[:-1], np.diff(y)
            # Points that are one in float32 make a jump.
            widths[row, :steps] = np.maximum(np.diff(x.astype(np.float32)), np.float32(_SMALLEST_WIDTH))
        graph = self._graph
        above = graph.add("Sub", graph.add("Unsqueeze", scores, graph.add_integers(2)), self._add_array(starts))
        share = graph.add(
            "Clip", graph.add("Div", above, self._add_array(widths)), graph.add_number(0), graph.add_number(1)
        )
        risen = graph.add(
            "ReduceSum", graph.add("Mul", share, self._add_array(rises)), graph.add_integers(2), keepdims=0
        )
        return graph.add("Add", risen, self._add_row(np.array([y[0] for _, y in points])))

    def add_calibration(self, calibration: Calibration, scores: str) -> str:
        """Turn scores into calibrated probabilities, as ``calibration.apply`` does.

        Parameters
        ----------
        calibration : Calibration
        scores : str
            Shape (n, classes).

        Returns
        -------
        str
            Shape (n, classes).
        """
        graph = self._graph
        lines = self.add_sigmoid(self.add_scaling(scores, calibration.slope, calibration.intercept))
        if not calibration.curves:
            return lines
        columns = sorted(calibration.curves)
        chosen = graph.add("Gather", scores, graph.add_integers(*columns), axis=1)
        curves = self.add_interpolation(chosen, [calibration.curves[column] for column in columns])
        # Each curve goes to the column of its class, and nothing to the others.
        places = np.zeros((len(columns), len(calibration.slope)))
        places[np.arange(len(columns)), columns] = 1 - PLATT_SHARE
        share = np.where(places.any(axis=0), PLATT_SHARE, 1.0)
        mixed = graph.add("MatMul", curves, self._add_array(places))
        return graph.add("Add", graph.add("Mul", lines, self._add_row(share)), mixed)

    def add_sigmoid(self, scores: str) -> str:
        """Turn logits into probabilities."""
        return self._graph.add("Sigmoid", scores)

    def add_logit(self, probabilities: str, smallest: float = 1e-7) -> str:
        """Turn probabilities into logits, after keeping them `smallest` away from 0 and 1."""
        graph = self._graph
        bounds = graph.add_number(smallest), graph.add_number(1 - smallest)
        kept = graph.add("Clip", probabilities, *bounds)
        return graph.add("Sub", graph.add("Log", kept), graph.add("Log", graph.add("Sub", graph.add_number(1), kept)))

    def add_weighted_mean(self, values: Sequence[str], weights: NDArray[Any]) -> str:
        """Add the weighted mean of several heads' scores or probabilities.

        Parameters
        ----------
        values : sequence of str
            Each of shape (n, classes).
        weights : ndarray of shape (heads,) or (heads, classes)
            Not negative, of a sum above 0 in each class.

        Returns
        -------
        str
            Shape (n, classes).

        Raises
        ------
        InputError
            If the weights are not one for each head, or not as above.
        """
        shares = np.asarray(weights, np.float64)
        if len(shares) != len(values) or (shares < 0).any() or not (shares.sum(axis=0) > 0).all():
            raise InputError(
                f"A mean of {len(values)} heads got the weights {shares.tolist()}; expected one for each, none "
                "negative, of a sum above 0."
            )
        return self.add_weighted_sum(values, shares / shares.sum(axis=0))

    def add_weighted_sum(self, values: Sequence[str], weights: NDArray[Any]) -> str:
        """Add the weighted sum of several heads' scores or probabilities.

        Parameters
        ----------
        values : sequence of str
            Each of shape (n, classes).
        weights : ndarray of shape (heads,) or (heads, classes)

        Returns
        -------
        str
            Shape (n, classes).
        """
        parts = [
            self._graph.add("Mul", value, self._add_row(share)) for value, share in zip(values, weights, strict=True)
        ]
        return self.add_sum(*parts)

    def _add_array(self, values: NDArray[Any]) -> str:
        return self._graph.add_constant(values.astype(np.float32))

    def _add_row(self, values: NDArray[Any]) -> str:
        """Add numbers that go along the last axis: one for each feature or class, or one for all."""
        return self._add_array(np.atleast_1d(values)[np.newaxis])


def _spread(
    coef: NDArray[Any], intercept: NDArray[Any], fitted: NDArray[np.bool_], constants: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Give a layer for all classes from one for those that were fitted; the others give their constants."""
    weights = np.zeros((len(coef), len(fitted)), coef.dtype)
    weights[:, fitted] = coef
    intercepts = constants.copy()
    intercepts[fitted] = intercept
    return weights, intercepts
