"""What every step of the post-processing is: probabilities in, probabilities out, and parameters that a file keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.postprocessing.context import Context, Windows
from birdemb.classify.state import StateReader, StateValue
from birdemb.errors import InputError

__all__ = ["Step", "check_probabilities", "raise_odds"]


class Step(ABC):
    """A step of the post-processing: frozen, with its parameters as fields.

    A step changes the probabilities of a recording by what is in that recording, or by where and when it was made, and
    by nothing else: recordings can be given in any order, in parts, or alone.
    """

    name: ClassVar[str]
    """By which commands call it."""

    main: ClassVar[str]
    """The parameter that a bare value stands for, as in ``smooth=0.1``."""

    learnt: ClassVar[bool] = False
    """Whether it holds more than can be typed, so that it has to come from a bundle."""

    asks: ClassVar[frozenset[str]] = frozenset()
    """What it wants to know of recordings, by the names of `Context`."""

    @property
    def classes(self) -> int | None:
        """How many classes it was learnt for; None if it takes any number."""
        return None

    def explain_unused(self, context: Context) -> str:
        """Say why the step changes nothing, where nothing is known of any recording that it asks for; else ""."""
        del context
        return ""

    @abstractmethod
    def change(self, probabilities: NDArray[np.float64], windows: Windows) -> NDArray[np.float64]:
        """Do what the step does, on what `apply` has checked; may leave 0 to 1 by rounding alone."""

    def apply(
        self,
        probabilities: NDArray[np.float64],
        recording_numbers: NDArray[np.int64],
        starts: NDArray[np.float64],
        context: Context,
    ) -> NDArray[np.float64]:
        """Give the probabilities after this step.

        Parameters
        ----------
        probabilities : ndarray of shape (n, classes), float64
            In 0 to 1; stays as it is.
        recording_numbers : ndarray of shape (n,), integers
            Index of each window's recording in `context`.
        starts : ndarray of shape (n,), float64
            Seconds from the recording's start.
        context : Context

        Returns
        -------
        ndarray of shape (n, classes), float64
            In 0 to 1, never NaN.

        Raises
        ------
        InputError
            If the shapes do not fit, or a probability is none.
        """
        windows = Windows(recording_numbers, starts, context)
        check_probabilities(probabilities, windows, self.classes)
        if not probabilities.size:
            return probabilities.copy()
        return np.clip(self.change(probabilities, windows), 0, 1)

    def get_params(self) -> dict[str, Any]:
        """Give the parameters as JSON can hold them, without arrays."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if not isinstance(value, np.ndarray)
        }

    def get_state(self) -> dict[str, StateValue]:
        """Give the arrays."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

    @classmethod
    def read(cls, params: Mapping[str, Any], reader: StateReader, classes: int) -> Self:
        """Rebuild a step from what `get_params` and `get_state` gave.

        Parameters
        ----------
        params : mapping
        reader : StateReader
            Whose parts are called ``post_<step>_<array>``.
        classes : int

        Returns
        -------
        Step

        Raises
        ------
        InputError
            If a part is missing, does not fit, or is out of range.
        """
        arrays = cls.read_arrays(params, reader, classes)
        expected = {field.name for field in fields(cls)} - arrays.keys()  # type: ignore[arg-type]
        if set(params) != expected:
            raise InputError(
                f"The step {cls.name} has the parameters {', '.join(sorted(params))}; "
                f"expected {', '.join(sorted(expected))}."
            )
        return cls(
            **{name: tuple(value) if isinstance(value, list) else value for name, value in params.items()}, **arrays
        )

    @classmethod
    def read_arrays(cls, params: Mapping[str, Any], reader: StateReader, classes: int) -> dict[str, NDArray[Any]]:
        """Read the arrays of a step, of which most have none."""
        del params, reader, classes
        return {}


def check_probabilities(probabilities: NDArray[np.float64], windows: Windows, classes: int | None) -> None:
    """Refuse what are no probabilities of these windows.

    Raises
    ------
    InputError
    """
    if probabilities.ndim != 2 or len(probabilities) != len(windows) or classes not in (None, probabilities.shape[1]):
        raise InputError(
            f"The probabilities have the shape {probabilities.shape}; "
            f"expected ({len(windows)}, {'classes' if classes is None else classes})."
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise InputError("A probability before post-processing is not between 0 and 1.")


def raise_odds(probabilities: NDArray[np.float64], log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add to the log-odds of probabilities, which is more exact than by way of logits, and takes 0 and 1.

    Parameters
    ----------
    probabilities : ndarray
    log_odds : ndarray
        Of a shape that can be broadcast to the other; where it is 0, the probability stays to the bit.

    Returns
    -------
    ndarray, as `probabilities`
    """
    # The smaller of the two factors is never above 1, so that nothing overflows.
    up, down = np.exp(np.minimum(log_odds, 0.0)), np.exp(np.minimum(-log_odds, 0.0))
    raised = probabilities * up
    total = raised + (1 - probabilities) * down
    moved = np.divide(raised, total, out=probabilities.copy(), where=total > 0)
    return np.where(log_odds == 0, probabilities, moved)
