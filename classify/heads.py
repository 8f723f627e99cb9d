"""The heads by name."""

from __future__ import annotations

import difflib
import importlib
from typing import Any, cast

from birdemb.classify.head import MultiLabelHead
from birdemb.errors import InputError

__all__ = ["HEADS", "head_class", "make_head"]

HEADS: dict[str, str] = {
    "lr": "birdemb.classify.logistic:LogisticHead",
    "mlp": "birdemb.classify.mlp:MLPHead",
    "lgbm": "birdemb.classify.trees:LightGBMHead",
}
"""Name of each head -> "module:Class". A head is imported when it is asked for."""


def head_class(name: str) -> type[MultiLabelHead]:
    """Import the class of a head.

    Parameters
    ----------
    name : str
        A key of `HEADS`.

    Returns
    -------
    type of MultiLabelHead

    Raises
    ------
    InputError
        If there is no such head; the message lists the names and suggests the nearest.
    """
    if name not in HEADS:
        nearest = difflib.get_close_matches(name.lower(), HEADS, n=1, cutoff=0.5)
        question = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise InputError(f"There is no head {name!r}.{question} The heads are: {', '.join(sorted(HEADS))}.")
    module, _, attribute = HEADS[name].partition(":")
    return cast("type[MultiLabelHead]", getattr(importlib.import_module(module), attribute))


def make_head(name: str, **params: Any) -> MultiLabelHead:  # noqa: ANN401 - each head has parameters of its own
    """Make an unfitted head.

    Parameters
    ----------
    name : str
        A key of `HEADS`.
    **params
        Parameters of the head's ``__init__``.

    Returns
    -------
    MultiLabelHead

    Raises
    ------
    InputError
        If there is no such head, or if it has no such parameter.

    Examples
    --------
    >>> make_head("lr", C=0.01)
    LogisticHead(C=0.01)
    """
    made = head_class(name)
    known = made._get_param_names()
    for param in params:
        if param not in known:
            nearest = difflib.get_close_matches(param, known, n=1)
            question = f" Did you mean {nearest[0]!r}?" if nearest else ""
            raise InputError(
                f"The head {name!r} has no parameter {param!r}.{question} Its parameters are: {', '.join(known)}."
            )
    return made(**params)
