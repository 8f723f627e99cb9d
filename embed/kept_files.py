"""What takes long to make and can be made anew at any time, kept in the user's cache folder.

It lies in folders of their own, beside a record of what it was made of and with. Nothing is used before its hash has
been compared; whatever is wrong with a folder, it is as if there were none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs

from birdemb.errors import InputError
from birdemb.storage import read_json, replace_folder_atomically, write_json

__all__ = ["keep_files", "locate_kept", "read_kept"]

_RECORD_FILE = "record.json"


def locate_kept(name: str) -> Path:
    """Tell where the folder of a name is, or would be."""
    return Path(platformdirs.user_cache_dir("birdemb")) / "networks" / name


def read_kept(folder: Path, names: Collection[str], made_of: Mapping[str, Any]) -> dict[str, bytes] | None:
    """Read files that were kept.

    Parameters
    ----------
    folder : Path
        As `locate_kept` gives it.
    names : collection of str
        Of the files.
    made_of : mapping
        What they have to have been made of and with, as JSON.

    Returns
    -------
    dict of str to bytes
        Their contents, or None unless all of them are there as they were written, and were made of just that. What
        else the folder holds is not looked at.
    """
    try:
        record = read_json(folder / _RECORD_FILE)
        if not isinstance(record, dict) or record.get("made_of") != made_of:
            return None
        contents = {name: (folder / name).read_bytes() for name in names}
    except (InputError, OSError):
        return None
    hashes = record.get("files")
    return contents if isinstance(hashes, dict) and _hash(contents).items() <= hashes.items() else None


def keep_files(folder: Path, contents: Mapping[str, bytes], made_of: Mapping[str, Any]) -> None:
    """Keep files for the next time, in place of all that the folder held; where nothing can be written, do nothing.

    Parameters
    ----------
    folder : Path
        As `locate_kept` gives it.
    contents : mapping of str to bytes
    made_of : mapping
        What they were made of and with, as JSON.
    """
    with suppress(InputError), replace_folder_atomically(folder) as temporary:
        for name, content in contents.items():
            (temporary / name).write_bytes(content)
        write_json(temporary / _RECORD_FILE, {"made_of": made_of, "files": _hash(contents)})


def _hash(contents: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
