"""Weights that are mounted on Kaggle's machines, where there often is no network."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from birdemb.embed.card import Weights

__all__ = ["places_on_kaggle"]

_MOUNTS = "/kaggle/input"
_MOUNTS_VARIABLE = "KAGGLE_CACHE_MOUNT_FOLDER"
"""Which the package kagglehub reads, too, where the mounts lie elsewhere."""

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
    mounts = Path(os.environ.get(_MOUNTS_VARIABLE) or _MOUNTS)
    if not mounts.is_dir():
        return
    if weights.kaggle:
        owner, model, framework, variation, version = weights.kaggle.split("/")
        for parts in (("models", owner, model), (model,)):
            mount = mounts.joinpath(*parts, framework.lower(), variation, version)
            yield mount if weights.folder else mount / weights.file
    for pattern in _DATASETS:
        yield from sorted(mounts.glob(f"{pattern}/{glob.escape(weights.file)}"))
