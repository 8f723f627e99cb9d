"""Scientific names that mean the same species: genera are split and joined, and the world's lists of birds differ."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from birdemb.errors import InputError

__all__ = ["Synonyms", "read_synonyms"]


@dataclass(frozen=True)
class Synonyms:
    """Scientific names that mean the same species, or a part of one.

    Parameters
    ----------
    same : tuple of tuple of str
        Groups of names of one species.
    part : tuple of (str, str)
        A species, and the wider one that it was split off.
    """

    same: tuple[tuple[str, ...], ...]
    part: tuple[tuple[str, str], ...]


def read_synonyms(path: Path | None = None) -> Synonyms:
    """Read the synonyms that birdemb brings, and more of one's own.

    Parameters
    ----------
    path : Path, optional
        A TOML file with ``same``, a list of lists of names of one species, and ``part``, a list of pairs of a species
        and the wider one that it was split off. It adds to what birdemb brings.

    Returns
    -------
    Synonyms

    Raises
    ------
    InputError
        If the file cannot be read or holds something else.
    """
    brought = _read_brought()
    if path is None:
        return brought
    try:
        own = _parse_synonyms(path.read_text(encoding="utf-8-sig"), str(path))
    except OSError as error:
        raise InputError(f"The synonyms {path} cannot be opened: {error.strerror or error}.") from error
    except UnicodeError as error:
        raise InputError(f"The synonyms {path} are no text in UTF-8 ({error}). Save them as UTF-8.") from error
    return Synonyms(brought.same + own.same, brought.part + own.part)


@cache  # of more than a thousand groups, which take longer to read than to look names up in
def _read_brought() -> Synonyms:
    return _parse_synonyms(files("birdemb.models").joinpath("synonyms.toml").read_text(encoding="utf-8"), "birdemb")


def _parse_synonyms(text: str, source: str) -> Synonyms:
    try:
        entries: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"The synonyms {source} are no TOML: {error}.") from error
    unknown = sorted(set(entries) - {"same", "part"})
    if unknown:
        raise InputError(f"The synonyms {source} have an unknown key {unknown[0]!r}; expected 'same' and 'part'.")
    for key, groups in entries.items():
        for group in groups if isinstance(groups, list) else [groups]:
            names = group if isinstance(group, list) and all(isinstance(name, str) for name in group) else []
            if len(names) < 2 or (key == "part" and len(names) != 2):
                expected = "a pair of names" if key == "part" else "a list of two or more names"
                raise InputError(f"The synonyms {source} have {group!r} in {key!r}; expected {expected}.")
    same, part = (tuple(tuple(group) for group in entries.get(key, [])) for key in ("same", "part"))
    return Synonyms(same, part)
