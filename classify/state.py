"""The state of a fitted head: numeric arrays and plain text, checked as they are read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.errors import InputError

__all__ = ["StateReader", "StateValue", "classes_to_state"]

StateValue = NDArray[Any] | str


class StateReader:
    """Reads the state of a head, checks every part of it, and knows what was not read.

    Parameters
    ----------
    state : mapping
        What `MultiLabelHead.get_state` gave.
    """

    def __init__(self, state: Mapping[str, StateValue]) -> None:
        self._state = state
        self._used: set[str] = set()

    def text(self, key: str) -> str:
        """Give the text `key`."""
        value = self._get(key)
        if not isinstance(value, str):
            raise InputError(f"The part {key!r} in the state of a head has to be text.")
        return value

    def array(self, key: str, shape: tuple[int, ...], kinds: str = "iuf") -> NDArray[Any]:
        """Give the array `key`, which must have this shape, one of these kinds of dtype, and finite values."""
        value = self._get(key)
        if isinstance(value, str) or value.dtype.kind not in kinds or value.shape != shape:
            got = "text" if isinstance(value, str) else f"{value.dtype} of shape {value.shape}"
            raise InputError(f"The part {key!r} in the state of a head is {got}; expected the shape {shape}.")
        if not np.isfinite(value).all():
            raise InputError(f"The part {key!r} in the state of a head holds NaN or infinity.")
        return value

    def classes(self) -> NDArray[Any]:
        """Give the array of labels that `classes_to_state` turned into a part of the state."""
        value = self._get("classes")
        if isinstance(value, str):
            try:
                labels = json.loads(value)
            except (ValueError, RecursionError) as error:
                raise InputError(f"The classes in the state of a head are no JSON ({error}).") from error
            if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
                raise InputError("The classes in the state of a head are no list of text.")
            value = np.array(labels, dtype=np.str_)
        if value.ndim != 1 or len(value) == 0:
            raise InputError(f"The classes in the state of a head have the shape {value.shape}, not (classes,).")
        return value

    def refuse_rest(self) -> None:
        """Raise InputError if the state has parts that nothing read."""
        rest = set(self._state) - self._used
        if rest:
            raise InputError(f"The state of a head holds parts that nothing uses: {', '.join(sorted(rest))}.")

    def _get(self, key: str) -> StateValue:
        if key not in self._state:
            raise InputError(f"The state of a head lacks the part {key!r}.")
        self._used.add(key)
        return self._state[key]


def classes_to_state(classes: NDArray[Any]) -> StateValue:
    """Turn labels into a part of a state: numbers stay an array, text becomes a JSON list.

    Parameters
    ----------
    classes : ndarray of shape (classes,)

    Raises
    ------
    InputError
        If the labels are neither numbers nor text.
    """
    if classes.dtype.kind in "biuf":
        return classes
    labels = classes.tolist()
    if not all(isinstance(label, str) for label in labels):
        raise InputError("Only labels that are numbers or text can be kept in a state.")
    return json.dumps(labels)
