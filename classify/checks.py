"""Checks of the parameters of heads: one sentence, whatever the parameter."""

from __future__ import annotations

import math
import numbers
import operator

from birdemb.errors import InputError

__all__ = ["check_jobs", "check_number", "check_whole_number"]


def check_number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> None:
    """Refuse a parameter that is no finite number or out of range.

    Parameters
    ----------
    name : str
        Name of the parameter, for the message.
    value : object
        What was given.
    above, at_least, at_most, below : float, optional
        Limits, at least one of them; `above` and `below` are not allowed themselves.

    Raises
    ------
    InputError
        If `value` is no finite real number or outside the limits.
    """
    given = [
        (word, holds, limit)
        for word, holds, limit in (
            ("above", operator.gt, above),
            ("at least", operator.ge, at_least),
            ("at most", operator.le, at_most),
            ("below", operator.lt, below),
        )
        if limit is not None
    ]
    number = _to_float(value)
    if not math.isfinite(number) or not all(holds(number, limit) for _, holds, limit in given):
        allowed = " and ".join(f"{word} {limit:g}" for word, _, limit in given)
        raise InputError(f"{name} is {value!r}. It has to be a number {allowed}.")


def check_whole_number(name: str, value: object, *, at_least: int, at_most: int | None = None) -> None:
    """Refuse a parameter that is no whole number, too small or too large.

    Parameters
    ----------
    name : str
        Name of the parameter, for the message.
    value : object
        What was given.
    at_least : int
        The smallest number allowed.
    at_most : int, optional
        The largest one.

    Raises
    ------
    InputError
        If `value` is no whole number, below `at_least` or above `at_most`.
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or int(value) < at_least or (at_most is not None and int(value) > at_most):  # type: ignore[call-overload]
        limit = "" if at_most is None else f" and at most {at_most}"
        raise InputError(f"{name} is {value!r}. It has to be a whole number of at least {at_least}{limit}.")


def check_jobs(n_jobs: object) -> None:
    """Refuse an `n_jobs` that joblib would not understand.

    Parameters
    ----------
    n_jobs : object
        What was given.

    Raises
    ------
    InputError
        If `n_jobs` is neither None nor a whole number other than 0.
    """
    if n_jobs is not None and (
        not isinstance(n_jobs, numbers.Integral) or isinstance(n_jobs, bool) or int(n_jobs) == 0
    ):
        raise InputError(f"n_jobs is {n_jobs!r}. It has to be None, a number of jobs, or -1 for all cores.")


def _to_float(value: object) -> float:
    """Give a real number as float, and NaN for anything else."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf
