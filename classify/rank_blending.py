"""Blending submissions by rank, wherever they come from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from birdemb.errors import InputError

__all__ = ["blend_by_rank"]


def blend_by_rank(tables: Sequence[pd.DataFrame], weights: Sequence[float] | None = None) -> pd.DataFrame:
    """Blend submissions, whatever their scores mean: by the ranks inside each class, over all rows.

    Parameters
    ----------
    tables : sequence of pandas.DataFrame
        As `birdemb.submission.read_scores` gives them: row_id and a number for each class. The same rows and classes in
        all of them, in whatever order.
    weights : sequence of float, optional
        Of the tables; by default equal.

    Returns
    -------
    pandas.DataFrame
        Rows and columns as in the first table; in 0 to 1, the lowest and the highest rank. Equal scores have the mean
        of their ranks, so that a class with one score everywhere has 0.5.

    Raises
    ------
    InputError
        If there is no table, rows or classes differ, a row comes twice, a score is NaN, or the weights do not fit.
    """
    given = np.ones(len(tables)) if weights is None else np.asarray(weights, dtype=np.float64)
    if (
        not tables
        or given.shape != (len(tables),)
        or not np.isfinite(given).all()
        or (given < 0).any()
        or not given.any()
    ):
        raise InputError(
            f"There are {len(tables)} tables and the weights {weights}; "
            "expected at least one table, and a weight for each, none negative and not all 0."
        )
    first = _index_rows(tables[0], 1)
    total = np.zeros(first.shape)
    for number, (table, weight) in enumerate(zip(tables, given, strict=True), start=1):
        indexed = _index_rows(table, number)
        for what, ours, theirs in (("row", first.index, indexed.index), ("class", first.columns, indexed.columns)):
            _refuse_difference(what, number, ours, theirs)
        scores = indexed.loc[first.index, first.columns].to_numpy(dtype=np.float64)
        if np.isnan(scores).any():
            row, column = np.argwhere(np.isnan(scores))[0]
            raise InputError(
                f"Table {number} has no number for {first.columns[column]} in the row {first.index[row]!r}."
            )
        ranks = (rankdata(scores, axis=0) - 1) / (len(scores) - 1) if len(scores) > 1 else np.full(scores.shape, 0.5)
        total += weight / given.sum() * ranks
    blended = pd.DataFrame(total, columns=first.columns)
    blended.insert(0, "row_id", first.index.to_numpy())
    return blended


def _index_rows(table: pd.DataFrame, number: int) -> pd.DataFrame:
    if "row_id" not in table or len(table.columns) < 2 or table.empty:
        raise InputError(f"Table {number} has to have a column row_id, one column for each class, and rows.")
    twice = table["row_id"].duplicated().to_numpy()
    if twice.any():
        raise InputError(f"Table {number} has the row {table['row_id'].iloc[int(twice.argmax())]!r} twice.")
    return table.set_index("row_id")


def _refuse_difference(what: str, number: int, ours: pd.Index, theirs: pd.Index) -> None:
    missing, extra = ours[~ours.isin(theirs)], theirs[~theirs.isin(ours)]
    if len(missing):
        raise InputError(f"Table {number} lacks the {what} {missing[0]!r}, which table 1 has.")
    if len(extra):
        raise InputError(f"Table {number} has the {what} {extra[0]!r}, which table 1 lacks.")
