"""Weights that are mounted on Kaggle's machines, where there often is no network."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from birdemb.embed.card import Weights

__all__ = ["mounts_of_model", "places_in_kagglehub", "places_on_kaggle"]

_MOUNTS = "/kaggle/input"
_MOUNTS_VARIABLE = "KAGGLE_CACHE_MOUNT_FOLDER"
"""Which the package kagglehub reads, too, where the mounts lie elsewhere."""

_KAGGLEHUB_VARIABLE = "KAGGLEHUB_CACHE"

_DATASETS = ("*", "*/*", "datasets/*/*")
"""Folders of a dataset: a file at its top, in a folder of it, or below the newer mounts with the owner's name."""


def places_on_kaggle(weights: Weights) -> Iterator[Path]:
    """Give where weights would lie among Kaggle's mounts; nothing on other machines.

    First where the model of the card's handle is mounted, in the newer and the older way of Kaggle; then wherever a
    dataset holds them under their official name.

    Parameters
    ----------
    weights : Weights

    Yields
    ------
    Path
    """
    mounts = _mounts()
    if not mounts.is_dir():
        return
    if weights.kaggle:
        for mount in mounts_of_model(weights.kaggle):
            yield mount if weights.folder else mount / weights.file
    for pattern in _DATASETS:
        yield from sorted(mounts.glob(f"{pattern}/{glob.escape(weights.file)}"))


def mounts_of_model(handle: str) -> list[Path]:
    """Give the folders in which Kaggle would mount a model, in its newer and its older way.

    Parameters
    ----------
    handle : str
        ``owner/model/framework/variation/version``.
    """
    owner, model, framework, variation, version = handle.split("/")
    return [
        _mounts().joinpath(*parts, framework.lower(), variation, version)
        for parts in (("models", owner, model), (model,))
    ]


def places_in_kagglehub(handle: str) -> list[Path]:
    """Give the folder in which the package kagglehub keeps a model, if it has downloaded all of it.

    Parameters
    ----------
    handle : str
        ``owner/model/framework/variation/version``.
    """
    kept = os.environ.get(_KAGGLEHUB_VARIABLE)
    try:
        folder = (Path(kept) if kept else Path.home() / ".cache" / "kagglehub") / "models" / handle
    except RuntimeError:  # a user without a home
        return []
    # Its own mark, without which a download was stopped (cache.py of kagglehub).
    return [folder] if folder.with_name(f"{folder.name}.complete").is_file() else []


def _mounts() -> Path:
    return Path(os.environ.get(_MOUNTS_VARIABLE) or _MOUNTS)
