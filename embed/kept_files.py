"""What takes long to make and can be made anew at any time, kept in the user's cache folder.

It lies in folders of their own, beside a record of what it was made of and with. Nothing is used before its hash has
been compared; whatever is wrong with a folder, it is as if there were none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import platformdirs

from birdemb.errors import InputError
from birdemb.locking import hold_lock
from birdemb.storage import read_json, replace_folder_atomically, write_json

__all__ = ["get_kept", "locate_kept"]

_RECORD_FILE = "record.json"


def locate_kept(name: str) -> Path:
    """Tell where the folder of a name is, or would be."""
    return Path(platformdirs.user_cache_dir("birdemb")) / "networks" / name


def get_kept(
    folder: Path, names: Collection[str], made_of: Mapping[str, Any], make: Callable[[], Mapping[str, bytes]]
) -> Mapping[str, bytes]:
    """Read files that were kept, or make them and keep them.

    Of several processes that need the same files one makes them, and the others wait for it.

    Parameters
    ----------
    folder : Path
        As `locate_kept` gives it.
    names : collection of str
        Of the files that are wanted.
    made_of : mapping
        What they have to have been made of and with, as JSON.
    make : callable
        Makes all files of the folder. Where nothing can be written, they are made and not kept.

    Returns
    -------
    mapping of str to bytes
        Contents of the files, of all that were made or of those that are wanted.
    """
    kept = _read(folder, names, made_of)
    if kept is not None:
        return kept
    with ExitStack() as stack:
        with suppress(OSError):  # where nothing can be written, nobody else can write either
            stack.enter_context(hold_lock(folder.with_name(f".{folder.name}.lock")))
            kept = _read(folder, names, made_of)
        if kept is not None:
            return kept
        made = make()
        with suppress(InputError), replace_folder_atomically(folder) as temporary:
            for name, content in made.items():
                (temporary / name).write_bytes(content)
            write_json(temporary / _RECORD_FILE, {"made_of": made_of, "files": _hash(made)})
        return made


def _read(folder: Path, names: Collection[str], made_of: Mapping[str, Any]) -> dict[str, bytes] | None:
    """Give the contents of files, or None unless all are there as they were written, and were made of just that."""
    try:
        record = read_json(folder / _RECORD_FILE)
        if not isinstance(record, dict) or record.get("made_of") != made_of:
            return None
        contents = {name: (folder / name).read_bytes() for name in names}
    except (InputError, OSError):
        return None
    hashes = record.get("files")
    return contents if isinstance(hashes, dict) and _hash(contents).items() <= hashes.items() else None


def _hash(contents: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
