"""LightGBM's trees as the attributes of ONNX's one node for trees.

Translated here from LightGBM's own text, which is plain arrays, and not by a converter: those give each model a node
of its own, and round thresholds to the nearest float32, so that values beside them take the other branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.errors import InputError

__all__ = ["JoinedTrees", "join_trees", "round_thresholds"]

_ZERO = np.float32(1e-35)  # LightGBM's kZeroThreshold
_MISSING_ZERO = 4
_MISSING_KINDS = 12  # the bits of a split's kind that say what counts as missing
_LEFT_UP_TO_THRESHOLD, _LEAF = "BRANCH_LEQ", "LEAF"


@dataclass(frozen=True, eq=False)
class JoinedTrees:
    """Trees for several classes, as ``TreeEnsembleRegressor`` of ai.onnx.ml wants them.

    Parameters
    ----------
    attributes : dict
        Of the node; empty where no tree splits.
    constants : ndarray of shape (classes,), float64
        What has to be added to each class behind the node. Its own attribute for that, ``base_values``, is left out:
        ONNX Runtime (1.17 to 1.31 at least) forgets it for classes without any leaf.
    """

    attributes: dict[str, Any]
    constants: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Tree:
    """One tree; a child below 0 is the leaf ``-1 - child``, as LightGBM writes it."""

    features: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    values: NDArray[np.float64]


def round_thresholds(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Give thresholds in float32 that part the numbers of float32 as LightGBM does with the exact ones.

    That is the largest float32 which is not above a threshold. Besides, LightGBM takes for 0 what is no farther from
    it than 1e-35, so that a threshold in there parts all of these from what is above or below.

    Parameters
    ----------
    thresholds : ndarray of shape (n,), float64
        Finite.

    Returns
    -------
    ndarray of shape (n,), float32

    Examples
    --------
    >>> float(round_thresholds(np.array([0.1]))[0]) <= 0.1 < float(np.float32(0.1))
    True
    """
    with np.errstate(over="ignore"):
        nearest = thresholds.astype(np.float32)
        rounded = np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest)
    below = np.nextafter(-_ZERO, np.float32(-np.inf))
    return np.where(np.abs(thresholds) > _ZERO, rounded, np.where(thresholds < 0, below, _ZERO))


def join_trees(models: Sequence[str], columns: NDArray[np.int64], constants: NDArray[np.float64]) -> JoinedTrees:
    """Join models of one class each into one node.

    Parameters
    ----------
    models : sequence of str
        LightGBM's text, as `birdemb.classify.tree_text.shorten` leaves it.
    columns : ndarray of shape (models,), int64
        The class of each model.
    constants : ndarray of shape (classes,), float64
        What is added to each class: its score where it has no model.

    Returns
    -------
    JoinedTrees

    Raises
    ------
    InputError
        If a tree takes 0 for a missing value.
    """
    constants = constants.copy()
    parts: list[dict[str, NDArray[Any]]] = []
    for text, column in zip(models, columns, strict=True):
        for tree in _read_trees(text):
            if len(tree.features):
                parts.append(_describe(tree, len(parts), int(column)))
            else:
                constants[column] += tree.values[0]
    if not parts:
        return JoinedTrees({}, constants)
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    modes = np.where(joined.pop("is_leaf"), _LEAF, _LEFT_UP_TO_THRESHOLD)
    attributes = {key: values.tolist() for key, values in joined.items()}
    attributes |= {
        "nodes_modes": modes.tolist(),
        "n_targets": len(constants),
        "aggregate_function": "SUM",
        "post_transform": "NONE",
    }
    return JoinedTrees(attributes, constants)


def _read_trees(text: str) -> list[_Tree]:
    """Read the trees of a text that has been checked, as every head's has."""
    trees = []
    for block in text.split("Tree=")[1:]:
        fields = dict(line.partition("=")[::2] for line in block.split("\n"))
        whole = {
            key: np.array(fields.get(key, "").split(), np.int64)
            for key in ("split_feature", "decision_type", "left_child", "right_child")
        }
        if ((whole["decision_type"] & _MISSING_KINDS) == _MISSING_ZERO).any():
            raise InputError(
                "The head's trees take 0 for a missing value, which ONNX cannot say. Fit again with `birdemb fit`."
            )
        trees.append(
            _Tree(
                features=whole["split_feature"],
                thresholds=np.array(fields.get("threshold", "").split(), np.float64),
                left=whole["left_child"],
                right=whole["right_child"],
                values=np.array(fields["leaf_value"].split(), np.float64),
            )
        )
    return trees


def _describe(tree: _Tree, number: int, column: int) -> dict[str, NDArray[Any]]:
    """Give a tree's nodes: the splits in LightGBM's order, the root first, and then the leaves."""
    splits, leaves = len(tree.features), len(tree.values)
    ids, leaf_ids, unused = np.arange(splits + leaves), np.arange(splits, splits + leaves), np.zeros(leaves, np.int64)
    left, right = (np.where(child < 0, splits - 1 - child, child) for child in (tree.left, tree.right))
    return {
        "nodes_treeids": np.full(splits + leaves, number),
        "nodes_nodeids": ids,
        "nodes_featureids": np.concatenate([tree.features, unused]),
        "nodes_values": np.concatenate([round_thresholds(tree.thresholds), unused]).astype(np.float32),
        "nodes_truenodeids": np.concatenate([left, unused]),
        "nodes_falsenodeids": np.concatenate([right, unused]),
        "is_leaf": ids >= splits,
        "target_treeids": np.full(leaves, number),
        "target_nodeids": leaf_ids,
        "target_ids": np.full(leaves, column),
        "target_weights": tree.values.astype(np.float32),
    }
