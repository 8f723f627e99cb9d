"""TensorFlow, started once in a process and in the way that worker processes need it."""

from __future__ import annotations

import os
import re
import sys
import warnings
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any

from birdemb.errors import MissingDependencyError

__all__ = ["require_tensorflow", "start_tensorflow"]

_OLDEST = (2, 20)
"""Older ones cannot read Perch 2: its graph holds a newer ``XlaCallModule`` (issue 35 of perch-hoplite)."""

_MEND = "Run: pip install 'birdemb[tf]'"


@cache
def start_tensorflow() -> tuple[Any, Any]:
    """Import TensorFlow and tensorflow_hub, and set what has to be set before TensorFlow does anything.

    One thread for each process, no more of a GPU's memory than is needed, and no news of what is in order.

    Returns
    -------
    tensorflow, tensorflow_hub : module

    Raises
    ------
    MissingDependencyError
        If one of them is missing, too old, or cannot be imported.
    """
    # Whatever fails is raised as well; what else it prints is about GPUs that are not there.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        tensorflow = import_module("tensorflow")
    except ImportError as error:
        found = "is not installed" if error.name == "tensorflow" else f"cannot be imported ({error})"
        raise MissingDependencyError(
            f"Encoders that come as SavedModels need TensorFlow {_show(_OLDEST)} or newer, which {found}. {_MEND}"
        ) from error
    require_tensorflow(tensorflow.__version__)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that pkg_resources will go, which the extra prevents
            hub = import_module("tensorflow_hub")
    except ImportError as error:
        raise MissingDependencyError(f"{_explain_hub(error)} {_MEND}") from error
    _set_up(tensorflow)
    return tensorflow, hub


def require_tensorflow(found: str) -> None:
    """Make sure that a version of TensorFlow is new enough.

    Parameters
    ----------
    found : str
        As TensorFlow gives it.

    Raises
    ------
    MissingDependencyError
        If it is not.

    Examples
    --------
    >>> require_tensorflow("2.20.0-rc1")
    """
    match = re.match(r"(\d+)\.(\d+)", found)
    if match is None or (int(match[1]), int(match[2])) < _OLDEST:
        raise MissingDependencyError(
            f"Encoders that come as SavedModels need TensorFlow {_show(_OLDEST)} or newer; found {found}. {_MEND}"
        )


def _explain_hub(error: ImportError) -> str:
    if error.name == "pkg_resources":
        return (
            "tensorflow_hub cannot be imported: it needs pkg_resources, which setuptools 81 dropped; expected an older "
            "setuptools beside it."
        )
    found = "is not installed" if error.name == "tensorflow_hub" else f"cannot be imported ({error})"
    return f"Encoders that come as SavedModels need tensorflow_hub, which {found}."


def _set_up(tensorflow: Any) -> None:  # noqa: ANN401 - a module without types
    logger = tensorflow.get_logger()
    if not logger.level:
        logger.setLevel("ERROR")
    # A program that has used TensorFlow before has settings of its own, which can no longer be changed.
    with suppress(RuntimeError):
        # Work is spread over processes, which scales better than threads.
        tensorflow.config.threading.set_intra_op_parallelism_threads(1)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
        for gpu in tensorflow.config.list_physical_devices("GPU"):
            # Else the first process takes all of its memory.
            tensorflow.config.experimental.set_memory_growth(gpu, True)
    if sys.platform == "darwin":
        # Perch 2 hangs there otherwise (its class in the bioacoustics-model-zoo).
        tensorflow.config.optimizer.set_jit(False)


def _show(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
