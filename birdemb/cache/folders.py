"""Where caches lie: the folders of identities below a path, and what the recordings in them are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from birdemb.cache.form import read_identity
from birdemb.errors import InputError
from birdemb.listing import Listing

__all__ = ["choose_folder", "describe_identity", "find_folders", "find_paths"]


def find_folders(path: Path) -> list[Path]:
    """Find the folders of identities.

    Parameters
    ----------
    path : Path
        Such a folder, a cache, or a working folder with a cache in it.

    Returns
    -------
    list of Path
        At least one, sorted.

    Raises
    ------
    InputError
        If there is none.
    """
    if (path / "identity.json").is_file():
        return [path]
    root = path / "cache" if (path / "cache").is_dir() else path
    found = sorted(entry.parent for entry in root.glob("*/identity.json"))
    if not found:
        raise InputError(
            f"No cache of embeddings in {path.absolute()}; expected a working folder such as .birdemb, its cache, or a "
            "folder in that. Run `birdemb embed FOLDER` first."
        )
    return found


def choose_folder(path: Path, encoder: str | None) -> Path:
    """Find the folder of the one identity that is meant.

    Parameters
    ----------
    path : Path
        As for `find_folders`.
    encoder : str or None
        Which encoder's, where there are several.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If there is none, or several; these are listed.
    """
    folders = find_folders(path)
    if len(folders) == 1 and encoder is None:
        return folders[0]
    known: dict[Path, dict[str, Any]] = {}
    for folder in folders:
        try:
            known[folder] = read_identity(folder)
        except InputError:
            continue  # of another format: it cannot be meant
    chosen = [folder for folder, identity in known.items() if encoder in (None, identity["encoder"])]
    if len(chosen) == 1:
        return chosen[0]
    listed = "; ".join(f"{folder} ({describe_identity(known[folder])})" for folder in (chosen or known))
    if not chosen:
        raise InputError(f"{path} holds no embeddings of encoder {encoder!r}, but: {listed or 'none at all'}.")
    raise InputError(
        f"{path} holds embeddings of {len(chosen)} identities; choose with encoder= or give one's folder: {listed}."
    )


def describe_identity(identity: dict[str, Any]) -> str:
    """Give the settings of an identity that most often tell two apart, in a line.

    Examples
    --------
    >>> describe_identity({"encoder": "melspec", "dim": 824, "window": 5.0, "hop": 5.0})
    'melspec, window 5.0, hop 5.0, dtype float32'
    """
    said = [identity["encoder"]]
    said += [f"{key} {identity[key]}" for key in ("precision", "pooling", "window", "hop") if key in identity]
    said.append(f"dtype {identity.get('dtype', 'float32')}")
    if identity.get("logits"):
        said.append(f"{identity['logits']} logits")
    return ", ".join(map(str, said))


def find_paths(folder: Path) -> dict[str, str]:
    """Find what the recordings in an identity's folder are called, if the working folder around it remembers.

    Parameters
    ----------
    folder : Path
        Of the identity.

    Returns
    -------
    dict
        Path of a recording, below the folder that was embedded, by the sha256 of its content; the first one where
        several have the same content.
    """
    path = folder.absolute().parent.parent / "embedded.json"
    if not path.is_file():
        return {}
    try:
        recordings = Listing.read(path).recordings
    except InputError:
        return {}  # of another version: the embeddings can be read without it
    return {entry.sha256: entry.recording for entry in reversed(recordings)}
