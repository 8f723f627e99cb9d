"""The errors that a user may meet.

Each message says what happened, with which file and value, what was expected, and what to do next.
"""

from __future__ import annotations

__all__ = [
    "BirdembError",
    "InputError",
    "MissingDependencyError",
    "MissingWeightsError",
    "RecordingError",
]


class BirdembError(Exception):
    """The base of every error that birdemb raises on purpose."""


class InputError(BirdembError, ValueError):
    """A file, table, setting or argument is not what it has to be."""


class RecordingError(BirdembError, ValueError):
    """One recording cannot be used; a run over a folder lists it and goes on.

    Parameters
    ----------
    stage : str
        Where the recording failed: ``"read"``, ``"decode"`` or ``"encode"``.
    reason : str
        What is wrong with it, in a sentence without the path.
    """

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(stage, reason)
        self.stage = stage
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.stage}: {self.reason}"


class MissingWeightsError(BirdembError, FileNotFoundError):
    """The weights of an encoder are nowhere to be found."""


class MissingDependencyError(BirdembError, ImportError):
    """An optional package is not installed; the message names the extra."""
