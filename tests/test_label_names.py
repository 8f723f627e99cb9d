"""Names of classes that are nearly the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdemb.label_names import find_similar_names


def pairs(*names):
    return {(pair.first, pair.second): pair.difference for pair in find_similar_names(names)}


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [
        ("Great Tit", "great tit", "capitals, blanks or accents"),
        ("Great Tit", "great_tit ", "capitals, blanks or accents"),
        ("Great Tit", "Great-Tit", "capitals, blanks or accents"),
        ("Grünspecht", "Grunspecht", "capitals, blanks or accents"),
        ("Gru\u0308nspecht", "Grünspecht", "capitals, blanks or accents"),
        ("Turdus merula", "Turdus merulaa", "one letter"),
        ("Turdus merula", "Turdus merola", "one letter"),
        ("Turdus merula", "urdus merula", "one letter"),
        ("Robbin", "robin", "one letter"),
    ],
)
def test_names_that_are_nearly_the_same_are_found(first, second, difference):
    assert pairs("Parus ater", first, second) == {tuple(sorted((first, second))): difference}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("gryfly1", "gryfly2"),
        ("gryfly", "gryfly1"),
        ("1139490", "1139491"),
        ("jay", "jays"),
        ("Turdus merula", "Turdus mreula"),
        ("Turdus merula", "Turdus philomelos"),
        ("", "wren"),
        ("!", "?"),
    ],
)
def test_others_are_not(first, second):
    assert pairs(first, second) == {}


def distance(first, second):
    """The edit distance, by its definition."""
    row = list(range(len(second) + 1))
    for number, letter in enumerate(first, 1):
        above, row[0] = row[0], number
        for place, other in enumerate(second, 1):
            above, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, above + (letter != other))
    return row[-1]


@given(st.lists(st.text("ab", min_size=5, max_size=7), unique=True, max_size=12))
def test_all_names_one_letter_apart_are_found_and_no_others(names):
    expected = {
        (first, second) for first in names for second in names if first < second and distance(first, second) == 1
    }
    assert set(pairs(*names)) == expected
