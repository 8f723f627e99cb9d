"""The zip file around a bundle: uncompressed, the same bytes every time, read with suspicion."""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

from birdemb.errors import InputError

__all__ = ["read_members", "write_members"]

FIRST_DATE = (1980, 1, 1, 0, 0, 0)
MEMBER_NAME = re.compile(r"bundle\.json|[a-z][a-z0-9_]{0,63}\.(npy|txt)")
"""An array or a text, named as its part in the state of a head; and the index of both."""
MOST_MEMBERS = 100_000


def write_members(path: Path, members: Mapping[str, bytes]) -> None:
    """Write a zip file without compression; the same members in the same order give the same bytes.

    Parameters
    ----------
    path : Path
    members : mapping of str to bytes
        Content of each member by name.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(name, FIRST_DATE)
            # By default these depend on the operating system.
            member.create_system = 3
            member.external_attr = 0o644 << 16
            archive.writestr(member, content)


def read_members(path: Path) -> dict[str, bytes]:
    """Read the members of a zip file into memory.

    Members are stored without compression, so that the file cannot hold more than its own size.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict of str to bytes
        Content of each member by name, in the order of the file.

    Raises
    ------
    InputError
        If the file is no sound zip file, or if a member has a name, a size or a form that a bundle
        never has.
    OSError
        If the file cannot be opened.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(members, path.stat().st_size)
            return {member.filename: archive.read(member) for member in members}
    # NotImplementedError and RuntimeError: an unknown version, compression or encryption.
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the file is damaged or is no bundle ({error})") from error


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    if len(members) > MOST_MEMBERS:
        raise InputError(f"it has {len(members)} members")
    seen: set[str] = set()
    for member in members:
        # The name as the file has it: zipfile cuts the other one at a zero byte.
        name = member.orig_filename
        if not MEMBER_NAME.fullmatch(name) or name != member.filename:
            raise InputError(f"it holds a member {name!r}, which no bundle has")
        if name in seen:
            raise InputError(f"it holds {name!r} twice")
        seen.add(name)
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise InputError(f"{name} is compressed, as no bundle is")
    if sum(member.file_size for member in members) > size:
        raise InputError("its members claim to be larger than the file")
