"""Unfitted heads, as they were asked for by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from birdemb.classify.checks import check_number
from birdemb.classify.ensemble import Member
from birdemb.classify.heads import make_head
from birdemb.classify.reweighting import RULES
from birdemb.errors import InputError

__all__ = ["list_positive_weights", "make_members", "name_heads"]


def name_heads(head: str | Sequence[str]) -> tuple[str, ...]:
    """Read the names of heads, ``"lr,lgbm"`` or ``["lr", "lgbm"]``.

    Raises
    ------
    InputError
        If there are none, or one comes twice.
    """
    names = tuple(name.strip() for name in (head.split(",") if isinstance(head, str) else head))
    if not names or len(set(names)) < len(names):
        raise InputError(f"The heads are {', '.join(names) or 'none'}. Name at least one, and each once.")
    return names


def make_members(
    names: Sequence[str],
    encoders: int,
    parameters: Mapping[str, Mapping[str, Any]],
    head_parameters: Mapping[str, Any],
    *,
    reweight: str,
    seed: int,
    jobs: int,
) -> list[Member]:
    """Make the unfitted heads, each once for each encoder.

    Parameters
    ----------
    names : sequence of str
    encoders : int
        How many there are.
    parameters : mapping of str to mapping
        Of heads by name.
    head_parameters : mapping
        Of a single head.
    reweight : str
        ``"none"`` or one of `birdemb.classify.reweighting.RULES`.
    seed, jobs : int

    Returns
    -------
    list of Member

    Raises
    ------
    InputError
        If there is no such head, parameter or rule.
    """
    if reweight != "none" and reweight not in RULES:
        raise InputError(f"There is no reweighting {reweight!r}. Use 'none', {', '.join(map(repr, RULES))}.")
    strangers = [name for name in parameters if name not in names]
    if strangers:
        raise InputError(f"There are parameters of {strangers[0]!r}, which is not among the heads {', '.join(names)}.")
    if head_parameters and len(names) > 1:
        raise InputError(
            f"With several heads it is not plain whose parameter {next(iter(head_parameters))!r} is. "
            "Name the head: HEAD.PARAMETER=VALUE, or parameters={'lgbm': {...}}."
        )
    members = []
    for name in names:
        own = {**head_parameters, **parameters.get(name, {})}
        if "n_jobs" in own:
            raise InputError("Give jobs in place of n_jobs: the number of workers is no part of a head.")
        own = {"class_weight": None if reweight == "none" else reweight, "random_state": seed, **own}
        members += [Member(make_head(name, n_jobs=jobs, **own), encoder) for encoder in range(encoders)]
    return members


def list_positive_weights(
    weights: Mapping[str, float], classes: Sequence[str], given: float | Sequence[float] = 1.0
) -> list[float]:
    """Give the parameter `positive_weight` of a head in which the positives of single classes count more or less.

    Parameters
    ----------
    weights : mapping of str to float
        By label, each above 0.
    classes : sequence of str
        The columns.
    given : float
        Weight of the positives of all classes, which these multiply.

    Returns
    -------
    list of float
        One for each class.

    Raises
    ------
    InputError
        If there is no such class, a weight is not above 0, or a head has a list already.

    Examples
    --------
    >>> list_positive_weights({"wren": 4.0}, ["owl", "wren"])
    [1.0, 4.0]
    """
    if not isinstance(given, int | float):
        raise InputError("positive_weight is given twice, as a list and by the names of classes. Give one of them.")
    for label, weight in weights.items():
        check_number(f"The positive weight of {label!r}", weight, above=0)
        if label not in classes:
            near = difflib.get_close_matches(label, classes, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise InputError(f"There is no class {label!r} whose positives could be weighed.{hint}")
    return [given * weights.get(label, 1.0) for label in classes]
