"""Names of classes that are nearly the same, and so perhaps are one class written in two ways."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["SimilarNames", "find_similar_names"]

_SHORTEST = 5  # letters; among the short codes of birds one letter is the difference between species


@dataclass(frozen=True)
class SimilarNames:
    """Two names that are nearly the same.

    Parameters
    ----------
    first, second : str
    difference : str
        ``"capitals, blanks or accents"`` or ``"one letter"``.
    """

    first: str
    second: str
    difference: str


def find_similar_names(names: Sequence[str]) -> list[SimilarNames]:
    """Find names that differ by capitals, blanks, other marks and accents alone, or by one letter.

    A letter that is missing, too many or another is one; a digit is none, as ``gryfly1`` and ``gryfly2`` or 1139490 and
    1139491 are meant to differ. Nor are names of less than five letters compared by letters. Only names that are the
    same once a letter is taken out of one or both are looked at, so that thousands take no time.

    Parameters
    ----------
    names : sequence of str
        All different.

    Returns
    -------
    list of SimilarNames
        Sorted.

    Examples
    --------
    >>> [(pair.first, pair.second) for pair in find_similar_names(["Great Tit", "great-tit", "Great Tits", "Robin"])]
    [('Great Tit', 'great-tit'), ('Great Tit', 'Great Tits')]
    """
    by_plain: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        by_plain[_make_plain(name)].append(name)
    pairs = [
        SimilarNames(same[0], other, "capitals, blanks or accents") for same in by_plain.values() for other in same[1:]
    ]
    by_shorter: defaultdict[str, set[str]] = defaultdict(set)
    for plain in by_plain:
        if len(plain) >= _SHORTEST:
            for shorter in (plain, *_shorten(plain)):
                by_shorter[shorter].add(plain)
    near = {
        (first, second)
        for group in by_shorter.values()
        if len(group) > 1
        for first in group
        for second in group
        if first < second and _differ_by_a_letter(first, second)
    }
    for one, two in near:
        first, second = sorted((by_plain[one][0], by_plain[two][0]))
        pairs.append(SimilarNames(first, second, "one letter"))
    return sorted(pairs, key=lambda pair: (pair.difference, pair.first, pair.second))


def _make_plain(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name).casefold()
    plain = "".join(letter for letter in letters if letter.isalnum())
    return plain or name


def _shorten(name: str) -> Iterator[str]:
    return (name[:place] + name[place + 1 :] for place in range(len(name)) if not name[place].isdigit())


def _differ_by_a_letter(first: str, second: str) -> bool:
    start = 0
    while start < min(len(first), len(second)) and first[start] == second[start]:
        start += 1
    if len(first) == len(second):
        rests, letters = (first[start + 1 :], second[start + 1 :]), first[start] + second[start]
    elif len(first) < len(second):
        rests, letters = (first[start:], second[start + 1 :]), second[start]
    else:
        rests, letters = (first[start + 1 :], second[start:]), first[start]
    return rests[0] == rests[1] and not any(letter.isdigit() for letter in letters)
