"""Groups of classes, as birds and frogs and insects: from the column of a table that says what each class is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from birdemb.errors import InputError
from birdemb.taxonomy import find_taxonomy

__all__ = ["find_class_groups", "read_class_groups"]

_LABELS = ("primary_label", "class", "label", "species_code")
_GROUPS = ("class_name", "group", "taxon_group", "taxon")
"""``class_name`` (Aves, Amphibia ...) is that of BirdCLEF's ``taxonomy.csv`` since 2025."""


def read_class_groups(path: Path, classes: Sequence[str], *, asked: bool = True) -> tuple[str, ...]:
    """Read the group of each class.

    Parameters
    ----------
    path : Path
        A CSV file with a column primary_label, class, label or species_code, and one class_name, group, taxon_group or
        taxon.
    classes : sequence of str
        Labels.
    asked : bool
        Whether somebody named this table: then it has to have the columns and some of the classes. Otherwise a table
        without them says nothing.

    Returns
    -------
    tuple of str
        One for each class; empty for a class that the table does not have.

    Raises
    ------
    InputError
        If it is no such table, or puts a class into two groups.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"The table of groups {path} cannot be opened: {error.strerror or error}.") from error
    except (ValueError, UnicodeError) as error:
        raise InputError(f"The table of groups {path} is no CSV table in UTF-8 ({error}).") from error
    names = {name.strip().casefold(): name for name in table.columns}
    label, group = (next((names[name] for name in wanted if name in names), None) for wanted in (_LABELS, _GROUPS))
    if label is None or group is None:
        if not asked:
            return ("",) * len(classes)
        raise InputError(
            f"{path} has the columns {', '.join(table.columns)}; expected one of {', '.join(_LABELS)} and one of "
            f"{', '.join(_GROUPS)}."
        )
    pairs = table[[label, group]].apply(lambda column: column.str.strip()).drop_duplicates()
    twice = pairs[label].duplicated()
    if twice.any():
        raise InputError(f"{path} puts the class {pairs[label][twice].iloc[0]!r} into two groups. Leave one of them.")
    of_class = dict(zip(pairs[label], pairs[group], strict=True))
    if asked and not any(name in of_class for name in classes):
        raise InputError(f"{path} has none of the classes that were fitted, such as {classes[0]!r}.")
    return tuple(of_class.get(name, "") for name in classes)


def find_class_groups(labels: str, classes: Sequence[str], given: str | Path | None = None) -> tuple[str, ...]:
    """Read the group of each class from a table that was given, or the taxonomy beside the labels if it has groups.

    Parameters
    ----------
    labels : str
        The table of labels; what is no file has nothing beside it.
    classes : sequence of str
    given : path, optional

    Returns
    -------
    tuple of str
        One for each class, empty where none is known.

    Raises
    ------
    InputError
        If the table cannot be read, or one that was given has no groups.
    """
    if given is not None:
        return read_class_groups(Path(given), classes)
    found = find_taxonomy(Path(labels).parent) if Path(labels).is_file() else None
    return read_class_groups(found, classes, asked=False) if found is not None else ("",) * len(classes)
