"""The state of a fitted head: numeric arrays and plain text, checked as they are read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.errors import InputError

__all__ = ["StateReader", "StateValue"]

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
        """Give the text `key`.

        Parameters
        ----------
        key : str

        Returns
        -------
        str

        Raises
        ------
        InputError
            If the part is missing or no text.
        """
        value = self._get(key)
        if not isinstance(value, str):
            raise InputError(f"The part {key!r} in the state of a head has to be text.")
        return value

    def array(self, key: str, shape: tuple[int, ...], kinds: str = "f") -> NDArray[Any]:
        """Give the array `key`.

        Parameters
        ----------
        key : str
        shape : tuple of int
            The shape that it must have.
        kinds : str
            The kinds of dtype that it may have, as ``dtype.kind`` names them.

        Returns
        -------
        ndarray

        Raises
        ------
        InputError
            If the part is missing, has another shape or kind, or holds NaN or infinity.
        """
        value = self._get(key)
        if isinstance(value, str) or value.dtype.kind not in kinds or value.shape != shape:
            got = "text" if isinstance(value, str) else f"{value.dtype} of shape {value.shape}"
            raise InputError(f"The part {key!r} in the state of a head is {got}; expected the shape {shape}.")
        if not np.isfinite(value).all():
            raise InputError(f"The part {key!r} in the state of a head holds NaN or infinity.")
        return value

    def count(self, key: str) -> int:
        """Give the number `key`, a whole one of at least 1.

        Parameters
        ----------
        key : str

        Returns
        -------
        int

        Raises
        ------
        InputError
            If the part is missing or no such number.
        """
        count = int(self.array(key, (), "iu"))
        if count < 1:
            raise InputError(f"The part {key!r} in the state of a head is {count}; expected at least 1.")
        return count

    def refuse_rest(self) -> None:
        """Refuse a state with parts that nothing read.

        Raises
        ------
        InputError
            If there are any.
        """
        rest = set(self._state) - self._used
        if rest:
            raise InputError(f"The state of a head holds parts that nothing uses: {', '.join(sorted(rest))}.")

    def _get(self, key: str) -> StateValue:
        if key not in self._state:
            raise InputError(f"The state of a head lacks the part {key!r}.")
        self._used.add(key)
        return self._state[key]
