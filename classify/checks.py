"""Checks of the parameters of heads: one sentence, whatever the parameter."""

from __future__ import annotations

import numbers

from birdemb.errors import InputError

__all__ = ["check_jobs", "check_number", "check_whole_number"]


def check_number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
) -> None:
    """Refuse a parameter that is no number or out of range.

    Parameters
    ----------
    name : str
        Name of the parameter, for the message.
    value : object
        What was given.
    above, at_least, below : float, optional
        Limits; `above` and `below` are not allowed themselves.

    Raises
    ------
    InputError
        If `value` is no real number, NaN or outside the limits.
    """
    good = isinstance(value, numbers.Real) and not isinstance(value, bool)
    number = float(value) if good and isinstance(value, numbers.Real) else float("nan")
    if above is not None:
        good = good and number > above
    if at_least is not None:
        good = good and number >= at_least
    if below is not None:
        good = good and number < below
    if not good or number != number:
        limits = [("above", above), ("at least", at_least), ("below", below)]
        allowed = " and ".join(f"{word} {limit:g}" for word, limit in limits if limit is not None)
        raise InputError(f"{name} is {value!r}. It has to be a number {allowed}.".replace(" .", "."))


def check_whole_number(name: str, value: object, *, at_least: int) -> None:
    """Refuse a parameter that is no whole number or too small.

    Parameters
    ----------
    name : str
        Name of the parameter, for the message.
    value : object
        What was given.
    at_least : int
        The smallest number allowed.

    Raises
    ------
    InputError
        If `value` is no whole number or below `at_least`.
    """
    good = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not good or not isinstance(value, numbers.Integral) or int(value) < at_least:
        raise InputError(f"{name} is {value!r}. It has to be a whole number of at least {at_least}.")


def check_jobs(n_jobs: object) -> None:
    """Refuse an `n_jobs` that joblib would not understand.

    Raises
    ------
    InputError
        If `n_jobs` is neither None nor a whole number other than 0.
    """
    if n_jobs is None:
        return
    if not isinstance(n_jobs, numbers.Integral) or isinstance(n_jobs, bool) or int(n_jobs) == 0:
        raise InputError(f"n_jobs is {n_jobs!r}. It has to be None, a number of jobs, or -1 for all cores.")
