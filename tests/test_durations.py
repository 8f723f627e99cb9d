"""Durations as people write them."""

import pytest

from birdemb.durations import parse_duration
from birdemb.errors import InputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90m", 5400),
        ("1h30m", 5400),
        ("5400", 5400),
        ("5400s", 5400),
        ("1h 30m", 5400),
        ("2.5m", 150),
        ("4 min", 240),
        ("1.5H", 5400),
        (" 2m5s ", 125),
    ],
)
def test_durations(text, expected):
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h",
        "0",
        "-5",
        "90x",
        "1m1h",
        "nan",
        "inf",
        "1e3",
        "1h30",
        "5m30",
        "1.2.3h",
        "30 minutes",
        "m",
        "soon",
        "9" * 400,
    ],
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(InputError, match=r"is no duration; expected one such as 90m"):
        parse_duration(text)
