"""The files of an offline kit, compared with its manifest.

Every kit holds a copy of this file, `check.py`, which `run.sh` runs before anything of the kit is installed or used:
it needs Python's own library alone, and runs in Pythons that birdemb itself does not, to say that they are too old.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

__all__ = [
    "BUNDLE_FILE",
    "FORMAT",
    "KIND",
    "MANIFEST_FILE",
    "MODELS_FOLDER",
    "WHEELS_FOLDER",
    "KitError",
    "check_files",
    "check_python",
    "main",
    "name_platform",
    "read_manifest",
]

KIND = "birdemb kit"
FORMAT = 1
MANIFEST_FILE = "manifest.json"
BUNDLE_FILE = "model.birdemb"
MODELS_FOLDER = "models"
WHEELS_FOLDER = "wheels"

_OLDEST_PYTHON = (3, 11)
_GUARDED = (MODELS_FOLDER, WHEELS_FOLDER)
"""Folders in which a file that nobody listed could be taken for one of the kit's."""

_READ_AT_ONCE = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SYSTEMS = {"Linux": "linux", "Darwin": "macos", "Windows": "windows"}
_COPY_AGAIN = "Copy the kit again, or make it again with `birdemb pack`."


class KitError(ValueError):
    """A kit is not what its manifest says, or cannot run here."""


def read_manifest(kit: Path) -> dict[str, Any]:
    """Read the manifest of a kit.

    Parameters
    ----------
    kit : Path
        Its folder.

    Returns
    -------
    dict
        With ``files``: the size in bytes and the sha256 of each file, by its path in the kit.

    Raises
    ------
    KitError
        If it cannot be read, is of another format, or names a file outside the kit.
    """
    path = kit / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KitError(f"{path} cannot be read: {error.strerror or error}. {_COPY_AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise KitError(f"{path} is no valid JSON ({error}). {_COPY_AGAIN}") from error
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise KitError(f"{path} is no manifest of an offline kit. Make one with `birdemb pack`.")
    if manifest.get("format") != FORMAT:
        raise KitError(
            f"{path} is of format {manifest.get('format')!r}, expected {FORMAT}: the kit was made by another version "
            "of birdemb. Use that one, or make the kit again with `birdemb pack`."
        )
    files, wheels = manifest.get("files"), manifest.get("wheels")
    if not isinstance(files, dict) or not (wheels is None or isinstance(wheels, dict)):
        raise KitError(f"{path} lists no files. {_COPY_AGAIN}")
    for name, entry in files.items():
        _check_entry(path, name, entry)
    if BUNDLE_FILE not in files:
        raise KitError(f"{path} lists no {BUNDLE_FILE}. {_COPY_AGAIN}")
    return manifest


def _check_entry(path: Path, name: str, entry: object) -> None:
    parts = PurePosixPath(name).parts
    inside = bool(parts) and "/".join(parts) == name and ".." not in parts and not re.search(r"[\\:\0]|^/", name)
    if not inside:
        raise KitError(f"{path} lists {name!r}, which is no path below the kit's folder. Do not use this kit.")
    size, sha256 = (entry.get("bytes"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
    if type(size) is not int or not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise KitError(f"{path} lists {name!r} without a size in bytes and a sha256. {_COPY_AGAIN}")


def check_files(kit: Path, manifest: dict[str, Any], parts: Iterable[str] = ()) -> int:
    """Make sure that files of a kit are those that its manifest lists, and that no others lie among them.

    Parameters
    ----------
    kit : Path
    manifest : dict
        As `read_manifest` gives it.
    parts : iterable of str
        Files and folders of the kit that are to be used; all of it by default.

    Returns
    -------
    int
        How many files were compared.

    Raises
    ------
    KitError
        Names the first file that is missing, altered or not listed.
    """
    chosen = set(parts)
    files = {name: entry for name, entry in manifest["files"].items() if not chosen or _lies_in(name, chosen)}
    for name, entry in files.items():
        _check_file(kit / name, entry)
    for folder in _GUARDED:
        if chosen and folder not in chosen:
            continue
        for path in sorted((kit / folder).rglob("*")):
            name = path.relative_to(kit).as_posix()
            if not path.is_dir() and name not in files:
                raise KitError(f"{path} is not in the manifest of the kit: it was put there later. Delete it.")
    return len(files)


def _lies_in(name: str, parts: set[str]) -> bool:
    return name in parts or name.split("/", 1)[0] in parts


def _check_file(path: Path, entry: dict[str, Any]) -> None:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise KitError(f"{path} is no file. {_COPY_AGAIN}")
        if size != entry["bytes"]:
            raise KitError(
                f"{path} has {size:,} bytes, expected {entry['bytes']:,}: it was cut short or altered. {_COPY_AGAIN}"
            )
        got = _hash(path)
    except FileNotFoundError as error:
        raise KitError(f"{path} is missing. {_COPY_AGAIN}") from error
    except OSError as error:
        raise KitError(f"{path} cannot be read: {error.strerror or error}. {_COPY_AGAIN}") from error
    if got != entry["sha256"]:
        raise KitError(
            f"{path} is not what was packed: its sha256 is {got}, expected {entry['sha256']}. It was altered or "
            f"damaged. {_COPY_AGAIN}"
        )


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def name_platform() -> str:
    """Give the platform of this machine, as `birdemb pack --platform` names it."""
    return f"{_SYSTEMS.get(platform.system(), platform.system().lower())}-{platform.machine().lower()}"


def check_python(manifest: dict[str, Any]) -> None:
    """Make sure that this Python, on this machine, can install the wheels of a kit, or run birdemb where it has none.

    Raises
    ------
    KitError
        Says which Python is wanted.
    """
    here, wheels = ".".join(map(str, sys.version_info[:2])), manifest.get("wheels")
    if wheels is None:
        if sys.version_info[:2] < _OLDEST_PYTHON:
            raise KitError(f"This is Python {here}, and birdemb needs 3.11 or newer. Name one: PYTHON=python3.11")
        return
    wanted = wheels.get("python")
    if here != wanted:
        raise KitError(
            f"The wheels of this kit are for Python {wanted}, and this is Python {here}. Name the other: "
            f"PYTHON=python{wanted}; or pack the kit again with --python {here}."
        )
    wanted = wheels.get("platform")
    # Tags of wheels, which may stand there, too, are pip's to judge.
    if isinstance(wanted, str) and "-" in wanted and wanted != name_platform():
        raise KitError(
            f"The wheels of this kit are for {wanted}, and this is {name_platform()}. Pack the kit again "
            f"with --platform {name_platform()}."
        )


def main() -> int:
    """Check the kit that this file lies in, or that is named; say what is wrong on standard error.

    Returns
    -------
    int
        The exit status. On standard output stand 16 digits that name the kit.
    """
    kit = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent
    try:
        manifest = read_manifest(kit)
        check_python(manifest)
        check_files(kit, manifest)
    except KitError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    sys.stdout.write(f"{_hash(kit / MANIFEST_FILE)[:16]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
