"""Names of species: what the classes of a table are called, and which of an encoder's own classes they are.

An encoder that was trained on species knows them by scientific and English names. The classes of a table may be
eBird codes, numbers of iNaturalist or names of folders, and the world's lists of birds disagree about genera. Here
both come together by scientific name, by a table of synonyms, and by English name, in this order. Nothing is guessed:
a class that may be two species stays unmatched, and the reason is told.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdemb.annotations.text_files import read_cells, read_text
from birdemb.errors import InputError
from birdemb.synonyms import Synonyms, read_synonyms

__all__ = [
    "ClassName",
    "Match",
    "OwnClass",
    "UnmatchedClass",
    "find_taxonomy",
    "match_classes",
    "name_classes",
    "read_taxonomy",
]

_COLUMNS = (
    ("primary_label", "scientific_name", "common_name"),  # BirdCLEF: taxonomy.csv, train.csv, train_metadata.csv
    ("species_code", "sci_name", "primary_com_name"),  # eBird's taxonomy as a file
    ("species_code", "scientific_name", "common_name"),  # eBird's taxonomy from its interface
)
_LABEL = re.compile(r"([A-Z][a-z]+)[ _]([a-z][a-z-]+)(?:[ _]([a-z][a-z-]+))?(?:_(\S.*)?)?")
"""A scientific name of two or three words, and perhaps what BirdNET appends: an underscore and the English name."""


@dataclass(frozen=True)
class ClassName:
    """What a class of a table is called.

    Parameters
    ----------
    label : str
        As the table has it.
    scientific, common : str
        Its scientific and its English name; empty where it has none.
    """

    label: str
    scientific: str = ""
    common: str = ""


@dataclass(frozen=True)
class OwnClass:
    """One of the classes that an encoder was trained on.

    Parameters
    ----------
    scientific, common : str
        Its scientific and its English name. Both are the same where it has but one and is no species, or has a code
        alone; the second is empty where a species' scientific name alone is known.
    """

    scientific: str
    common: str


@dataclass(frozen=True)
class UnmatchedClass:
    """A class that is none of an encoder's own.

    Parameters
    ----------
    label : str
        As the table has it.
    reason : str
        Why, in a sentence without the label.
    """

    label: str
    reason: str


@dataclass(frozen=True, eq=False)
class Match:
    """Which of an encoder's own classes the classes of a table are.

    Parameters
    ----------
    indices : ndarray of shape (classes,), int64
        For each class its place among the encoder's own; -1 for none.
    how : tuple of str
        For each class ``"scientific"``, ``"synonym"``, ``"common name"``, or ``""`` for none.
    unmatched : tuple of UnmatchedClass
        The classes without a place, with the reason.
    """

    indices: NDArray[np.int64]
    how: tuple[str, ...]
    unmatched: tuple[UnmatchedClass, ...]


def find_taxonomy(folder: Path) -> Path | None:
    """Look for ``taxonomy.csv`` or ``eBird_Taxonomy_*.csv`` in a folder of recordings, then beside it.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    Path or None
        Of several of eBird's, the last by name, which is the newest; None if there is none.
    """
    for base in (folder, folder.resolve().parent):
        names = {path.name.casefold(): path for path in base.glob("*.[cC][sS][vV]") if path.is_file()}
        of_ebird = sorted(name for name in names if name.startswith("ebird_taxonomy"))
        if "taxonomy.csv" in names:
            return names["taxonomy.csv"]
        if of_ebird:
            return names[of_ebird[-1]]
    return None


def read_taxonomy(path: Path) -> dict[str, ClassName]:
    """Read the names of classes from a table.

    Parameters
    ----------
    path : Path
        With the columns ``primary_label``, ``scientific_name`` and perhaps ``common_name``, as BirdCLEF's
        ``taxonomy.csv`` and ``train.csv``, or with eBird's ``SPECIES_CODE``, ``SCI_NAME`` and ``PRIMARY_COM_NAME``.

    Returns
    -------
    dict of str to ClassName
        By label, always text. A label with two different scientific names is left out.

    Raises
    ------
    InputError
        If the table cannot be read, or lacks these columns.
    """
    names = _read_names(path)
    if names is None:
        raise InputError(
            f"The taxonomy {path} has other columns than expected: primary_label, scientific_name and common_name as "
            "BirdCLEF's taxonomy.csv, or SPECIES_CODE, SCI_NAME and PRIMARY_COM_NAME as eBird's. Rename its columns."
        )
    return names


def name_classes(
    classes: Sequence[str], label_table: Path | None = None, taxonomy: Path | None = None
) -> tuple[ClassName, ...]:
    """Find the scientific and the English names of classes.

    Parameters
    ----------
    classes : sequence of str
        Labels of a table.
    label_table : Path, optional
        The table of labels itself, which may have the columns ``scientific_name`` and ``common_name``.
    taxonomy : Path, optional
        A table for `read_taxonomy`; what it says comes before what the table of labels says.

    Returns
    -------
    tuple of ClassName
        One for each class, in order. What no table names is named by its label, where that is a scientific name.

    Raises
    ------
    InputError
        If one of the tables cannot be read.

    Examples
    --------
    >>> name_classes(["Acrocephalus_scirpaceus", "Parus major_Great Tit", "amered"])[1]
    ClassName(label='Parus major_Great Tit', scientific='Parus major', common='Great Tit')
    """
    named = (_read_names(label_table) or {}) if label_table is not None and label_table.is_file() else {}
    if taxonomy is not None:
        named = named | read_taxonomy(taxonomy)
    return tuple(named.get(label) or _name_label(label) for label in classes)


def _name_label(label: str) -> ClassName:
    parts = _LABEL.fullmatch(label.strip())
    if parts:
        *scientific, common = parts.groups()
        return ClassName(label, " ".join(filter(None, scientific)), (common or "").replace("_", " "))
    first, _, second = label.partition("_")
    return ClassName(label, first, second) if first == second else ClassName(label)


def _read_names(path: Path) -> dict[str, ClassName] | None:
    """Read the names of classes; None if the table has no columns for them."""
    try:
        table = read_cells(read_text(path))
    except InputError as error:
        raise InputError(f"Names of classes cannot be read. {error}") from error
    columns = {column.casefold(): column for column in reversed(table.columns)}
    wanted = next((names for names in _COLUMNS if set(names[:2]) <= set(columns)), None)
    if wanted is None:
        return None
    labels, *others = (table.take(columns[name]) if name in columns else [""] * len(table.lines) for name in wanted)
    scientific: defaultdict[str, set[str]] = defaultdict(set)
    common: defaultdict[str, set[str]] = defaultdict(set)
    for found, names in zip((scientific, common), others, strict=True):
        for label, name in zip(labels, names, strict=True):
            if label and name:
                found[label].add(name)
    return {
        label: ClassName(label, *names, *(common[label] if len(common[label]) == 1 else ()))
        for label, names in scientific.items()
        if len(names) == 1
    }


def match_classes(classes: Sequence[ClassName], own: Sequence[OwnClass], synonyms: Synonyms | None = None) -> Match:
    """Find the classes of a table among an encoder's own.

    Tried in this order, until one finds something: the scientific name; its synonyms; both again for a subspecies
    without its third word, together with the English name, which must not contradict; the English name, if it
    is that of one class on either side. Capitals, underscores, hyphens, accents and "grey" for "gray" do not matter.
    Own classes with but one name (sounds that are no species) are found by exactly this name only.

    Parameters
    ----------
    classes : sequence of ClassName
    own : sequence of OwnClass
    synonyms : Synonyms, optional
        By default those that birdemb brings.

    Returns
    -------
    Match

    Examples
    --------
    >>> own = [OwnClass("Corvus monedula", "Eurasian Jackdaw"), OwnClass("Noise", "Noise")]
    >>> match_classes(name_classes(["Coloeus_monedula", "noise"]), own).indices.tolist()
    [0, -1]
    """
    matcher = _Matcher(classes, own, synonyms if synonyms is not None else read_synonyms())
    found = [matcher.find(name) for name in classes]
    return Match(
        indices=np.array([index for index, _ in found], np.int64),
        how=tuple(text if index >= 0 else "" for index, text in found),
        unmatched=tuple(
            UnmatchedClass(name.label, text) for name, (index, text) in zip(classes, found, strict=True) if index < 0
        ),
    )


class _Matcher:
    """Finds one class after the other; knows who else has the same name."""

    def __init__(self, classes: Sequence[ClassName], own: Sequence[OwnClass], synonyms: Synonyms) -> None:
        self._own = own
        self._exact = _index((entry.scientific, place) for place, entry in enumerate(own))
        species = [(place, entry) for place, entry in enumerate(own) if entry.scientific != entry.common]
        self._scientific = _index((_scientific_key(entry.scientific), place) for place, entry in species)
        self._common = _index((_common_key(entry.common), place) for place, entry in species if entry.common)
        self._synonyms: defaultdict[str, set[str]] = defaultdict(set)
        for group in synonyms.same:
            for name in group:
                self._synonyms[_scientific_key(name)] |= set(map(_scientific_key, group))
        for narrow, wide in synonyms.part:
            self._synonyms[_scientific_key(narrow)].add(_scientific_key(wide))
        self._users = Counter(_common_key(_english(name)) for name in classes)

    def find(self, name: ClassName) -> tuple[int, str]:
        """Give the place of a class and how it was found, or -1 and why not."""
        for text in (name.scientific, name.label, name.common):
            if text in self._exact and self._own[self._exact[text][0]].common == text:
                return self._only(self._exact[text], "scientific", text)
        scientific = _scientific_key(name.scientific)
        for places, how in self._look_up(scientific):
            if places:
                return self._only(places, how, name.scientific)
        english = _english(name)
        by_common = self._common.get(_common_key(english), []) if self._users[_common_key(english)] == 1 else []
        words = scientific.split()
        if len(words) == 3:
            for places, how in self._look_up(" ".join(words[:2])):
                if places:
                    text = f"{name.scientific} and {english}" if by_common else name.scientific
                    return self._only(sorted({*places, *by_common}), how, text)
        if by_common:
            return self._only(by_common, "common name", english)
        return -1, self._explain(name, english)

    def _look_up(self, scientific: str) -> Iterable[tuple[list[int], str]]:
        yield self._scientific.get(scientific, []), "scientific"
        others = self._synonyms.get(scientific, set())
        yield sorted({place for other in others for place in self._scientific.get(other, [])}), "synonym"

    def _only(self, places: list[int], how: str, name: str) -> tuple[int, str]:
        if len(places) == 1:
            return places[0], how
        several = " or ".join(self._own[place].scientific for place in places)
        return -1, f"{name} may be {several}"

    def _explain(self, name: ClassName, english: str) -> str:
        if self._users[_common_key(english)] > 1 and _common_key(english) in self._common:
            return f"several classes have the English name {english}"
        if name.scientific or name.common:
            known = " or ".join(filter(None, (name.scientific, name.common)))
            return f"the encoder knows no {known}"
        return "no scientific name is known for it"


def _index(entries: Iterable[tuple[str, int]]) -> Mapping[str, list[int]]:
    places: defaultdict[str, list[int]] = defaultdict(list)
    for key, place in entries:
        places[key].append(place)
    return dict(places)


def _english(name: ClassName) -> str:
    # Folders may be named in English, and "Great tit" looks like a scientific name.
    return name.common or name.label


def _scientific_key(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _common_key(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).casefold().replace("grey", "gray")
    return "".join(letter for letter in plain if letter.isalnum())
