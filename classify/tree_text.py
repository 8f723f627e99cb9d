"""LightGBM's own text, shortened for keeping and checked before LightGBM reads it back."""

from __future__ import annotations

import math
import re

from birdemb.errors import InputError

__all__ = ["check_trees", "shorten"]

END = "end of trees\n"
# Python's own int and float take more than LightGBM writes: 1_0, nan, other white space.
WHOLE = re.compile(r"-?\d+")
REAL = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")
CATEGORICAL_SPLIT = 1
SPLIT_FIELDS = ("split_feature", "decision_type", "left_child", "right_child")
COUNT_FIELDS = (
    "split_gain",
    "leaf_weight",
    "leaf_count",
    "internal_value",
    "internal_weight",
    "internal_count",
)


def shorten(text: str) -> str:
    """Drop what a prediction does not need: importances and parameters, which name the number of threads.

    Parameters
    ----------
    text : str
        What ``Booster.model_to_string`` gave.

    Returns
    -------
    str
    """
    trees, end, _ = text.partition(END)
    return trees + end


def check_trees(text: str, features: int) -> None:
    """Refuse trees that do not hold together.

    LightGBM trusts its files: it follows offsets and numbers of nodes without a look at their range, so
    that a wrong one reads foreign memory or never ends. Here every number that it follows is checked, and
    that the values of the leaves are finite.

    Parameters
    ----------
    text : str
        What `shorten` gave.
    features : int
        Size of an embedding.

    Raises
    ------
    InputError
        If the text is not that of one binary model of plain numeric trees for so many features.
    """
    try:
        _check(text, features)
    except (ValueError, KeyError, IndexError) as error:
        raise InputError(f"The trees in the state of a head do not hold together ({error}).") from error


def _check(text: str, features: int) -> None:
    if not text.isascii():
        raise ValueError("other characters than ASCII")
    # A class may have no tree at all.
    start = text.index("Tree=0\n") if "Tree=0\n" in text else text.index(END)
    header = _fields(text[:start])
    expected = {
        "num_class": "1",
        "num_tree_per_iteration": "1",
        "max_feature_idx": str(features - 1),
        "objective": "binary sigmoid:1",
    }
    for key, value in expected.items():
        if header[key] != value:
            raise ValueError(f"{key} is {header[key]}, not {value}")
    for key in ("feature_names", "feature_infos"):
        if len(header[key].split()) != features:
            raise ValueError(f"{key} names other features")
    sizes = _whole_numbers(header["tree_sizes"]) if header["tree_sizes"] else []
    for number, size in enumerate(sizes):
        if size < 1 or not text.startswith(f"Tree={number}\n", start):
            raise ValueError(f"tree {number} is not where it should be")
        _check_tree(_fields(text[start : start + size]), features)
        start += size
    if text[start:] != END:
        raise ValueError("something else follows the trees")


def _fields(block: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in filter(None, block.split("\n")):
        key, _, value = line.partition("=")
        if key in fields:
            raise ValueError(f"{key} comes twice")
        fields[key] = value
    return fields


def _numbers(text: str, pattern: re.Pattern[str]) -> list[str]:
    values = text.split(" ")
    for value in values:
        if not pattern.fullmatch(value) or not math.isfinite(float(value)):
            raise ValueError(f"{value!r} is no such number as it should be")
    return values


def _whole_numbers(text: str) -> list[int]:
    return [int(value) for value in _numbers(text, WHOLE)]


def _check_tree(fields: dict[str, str], features: int) -> None:
    (leaves,) = _whole_numbers(fields["num_leaves"])
    if leaves < 1 or fields["num_cat"] != "0" or fields["is_linear"] != "0":
        raise ValueError("a tree is not plain and numeric")
    if len(_numbers(fields["leaf_value"], REAL)) != leaves:
        raise ValueError("a tree lacks values of leaves")
    if leaves == 1:
        return
    splits = leaves - 1
    whole = {key: _whole_numbers(fields[key]) for key in SPLIT_FIELDS}
    if len(_numbers(fields["threshold"], REAL)) != splits or any(len(values) != splits for values in whole.values()):
        raise ValueError("a tree lacks splits")
    if any(kind & CATEGORICAL_SPLIT or not 0 <= kind < 16 for kind in whole["decision_type"]):
        raise ValueError("a tree has a split of an unknown kind")
    if not all(0 <= feature < features for feature in whole["split_feature"]):
        raise ValueError("a tree asks for a feature that embeddings do not have")
    # Every node but the root is the child of exactly one node before it; leaf k is written as -1 - k.
    for side in ("left_child", "right_child"):
        if any(0 <= child <= parent for parent, child in enumerate(whole[side])):
            raise ValueError("a tree has a loop")
    children = whole["left_child"] + whole["right_child"]
    if sorted(children) != [*range(-leaves, 0), *range(1, splits)]:
        raise ValueError("a tree has nodes that do not hang together")
    for key in COUNT_FIELDS:
        wanted = leaves if key.startswith("leaf") else splits
        if key in fields and len(_numbers(fields[key], REAL)) != wanted:
            raise ValueError(f"a tree has a wrong number of {key}")
