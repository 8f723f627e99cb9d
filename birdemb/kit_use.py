"""Predicting with an offline kit: what is used of it is checked first, and its weights are found before any others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from birdemb.embed.places import use_weights_folder
from birdemb.errors import InputError
from birdemb.kit_check import BUNDLE_FILE, MANIFEST_FILE, MODELS_FOLDER, KitError, check_files, read_manifest

__all__ = ["find_bundle", "is_kit", "use_models"]


def is_kit(model: Path) -> bool:
    """Tell whether what was named as a model is an offline kit."""
    return (model / MANIFEST_FILE).is_file()


def find_bundle(model: str | Path) -> Path:
    """Give the file of a bundle: the one that was named, or that of the kit that was, once the kit is checked.

    Parameters
    ----------
    model : path
        A bundle, or the folder of a kit.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If a kit lacks a file that its manifest lists, or holds another one.
    """
    model = Path(model)
    if not is_kit(model):
        return model
    try:
        check_files(model, read_manifest(model), (BUNDLE_FILE, MODELS_FOLDER))
    except KitError as error:
        raise InputError(str(error)) from error
    return model / BUNDLE_FILE


@contextmanager
def use_models(model: object) -> Iterator[None]:
    """Let a kit's folder be that of weights until the block ends; does nothing where no kit was named.

    Parameters
    ----------
    model : path or Bundle
        A bundle, or the folder of a kit.
    """
    if isinstance(model, str | Path) and is_kit(Path(model)):
        with use_weights_folder(Path(model).resolve() / MODELS_FOLDER):
            yield
    else:
        yield
