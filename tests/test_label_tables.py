"""What tables of labels say of recordings beside their labels: authors, sites, ratings."""

import csv
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_files import COLUMNS, NAMES, embedded, known_of, problems, read, rows, table

from birdemb.errors import InputError
from birdemb.label_table import describe_recordings
from birdemb.labels import label_windows, read_labels

# Three rows as they are in the tables: a full one; one without coordinates or rating; a class that is a number.
CELLS = [
    {
        "primary_label": "acafly",
        "secondary_labels": "['amegfi', '1139490']",
        "type": "['begging call', 'call']",
        "latitude": "35.3860",
        "longitude": "-84.1250",
        "author": "Mike Nelson",
        "date": "2012-08-12",
        "time": "09:30",
        "rating": "2.5",
        "license": "Creative Commons Attribution 3.0",
        "url": "https://www.xeno-canto.org/31063",
        "collection": "XC",
    },
    {
        "primary_label": "amegfi",
        "secondary_labels": "[]",
        "type": "['song']",
        "latitude": "",
        "longitude": "",
        "author": "Nelson, Mike",
        "rating": "0.0",
        "url": "https://www.xeno-canto.org/11209",
        "collection": "XC",
    },
    {
        "primary_label": "1139490",
        "secondary_labels": "['']",
        "type": "['']",
        "latitude": "7.3206",
        "longitude": "-73.7128",
        "author": "",
        "rating": "",
        "collection": "CSA",
    },
]


def birdclef_table(year, cells):
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS[year].split(","), restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(cells)
    return text.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("year", COLUMNS)
def test_tables_of_all_years_are_read(tmp_path, year, encoding):
    names = ("acafly/XC31063.ogg", "amegfi/XC11209.ogg", "1139490/CSA36385.ogg")
    # 2021 names the files without their folders.
    given_names = [name.split("/")[1] if year == 2021 else name for name in names]
    cells = [row | {"filename": name} for row, name in zip(CELLS, given_names, strict=True)]
    labels = read(tmp_path, birdclef_table(year, cells), names, encoding=encoding)
    assert labels.classes == ("1139490", "acafly", "amegfi")
    assert labels.problems == ()
    told = ("filename", "primary_label", "secondary_labels")
    assert labels.columns == tuple(name for name in COLUMNS[year].split(",") if name not in told)
    assert rows(labels) == [
        ("1139490/CSA36385.ogg", "1139490", "present"),
        ("acafly/XC31063.ogg", "1139490", "unknown"),
        ("acafly/XC31063.ogg", "acafly", "present"),
        ("acafly/XC31063.ogg", "amegfi", "unknown"),
        ("amegfi/XC11209.ogg", "amegfi", "present"),
    ]
    first = known_of(labels, "acafly/XC31063.ogg")
    assert (first["author"], first["site"], first["rating"]) == ("Mike Nelson", "35.39 -84.12", 2.5)
    assert first["url"] == "https://www.xeno-canto.org/31063"
    assert first["license"] == "Creative Commons Attribution 3.0"
    assert first.get("collection") == ("XC" if year >= 2025 else None)
    second = known_of(labels, "amegfi/XC11209.ogg")
    assert (second["author"], second["site"], second["rating"]) == ("Nelson, Mike", None, None)
    third = known_of(labels, "1139490/CSA36385.ogg")
    assert (third["author"], third["site"], third["rating"]) == (None, "7.32 -73.71", None)


def describe(text):
    frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    frame = frame.assign(line=range(2, len(frame) + 2), source="train.csv")
    return describe_recordings(frame, frame["filename"].tolist())


def test_nothing_is_told_by_a_table_without_such_columns(tmp_path):
    labels = read(tmp_path, table("a/1.ogg,wren,", "a/2.ogg,robin,"))
    assert list(labels.recordings) == ["recording"]
    assert labels.recordings["recording"].tolist() == ["a/1.ogg", "a/2.ogg"]


@pytest.mark.parametrize(
    ("header", "cells", "author", "site"),
    [
        ("author", "Ann", "Ann", None),
        ("recordist", "Ann", "Ann", None),
        ("recordist,author", "Bo,Ann", "Ann", None),
        ("recordist,author", "Bo,", "Bo", None),
        ("author", "  Ann   Lee ", "Ann Lee", None),
        ("site", "S3", None, "S3"),
        ("location,site", "Here,S3", None, "S3"),
        ("location,site", "Here,", None, "Here"),
        ("latitude,longitude,location", "1.5,2.25,Here", None, "Here"),
        ("latitude,longitude,location", "1.5,2.25,", None, "1.50 2.25"),
        ("latitude,longitude", "1.5,", None, None),
        ("latitude", "1.5", None, None),
    ],
)
def test_authors_and_sites_come_from_several_columns(header, cells, author, site):
    described = describe(f"filename,{header}\nx.ogg,{cells}\n")
    assert described.get("author", pd.Series([None]))[0] == author or author is None
    assert described.get("site", pd.Series([None]))[0] == site or site is None
    assert ("author" in described) == ("author" in header or "recordist" in header)
    if author is None and "author" in described:
        assert described["author"].isna().all()
    if site is None and "site" in described:
        assert described["site"].isna().all()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("47.3712,8.5411", "47.3748,8.5449", True),  # 500 m
        ("47.3712,8.5411", "47.3912,8.5411", False),  # 2.2 km
        ("47.3712,8.5411", "47.3712,8.5711", False),
        ("-0.001,0.001", "0.001,-0.001", True),
        ("10,180", "10,-180", True),
        ("10,179.999", "10,-179.999", True),
        (" 10 ,20", "10.0,2e1", True),
        ("90,0", "-90,0", False),
    ],
)
def test_coordinates_within_a_kilometre_are_a_site(one, other, same):
    sites = describe(f"filename,latitude,longitude\na,{one}\nb,{other}\n")["site"]
    assert sites.notna().all()
    assert (sites[0] == sites[1]) == same


@pytest.mark.parametrize("cells", ["Not specified,Not specified", "91,0", "0,181", "nan,0", "inf,0", "?,8.5", "-1e9,0"])
def test_coordinates_that_are_no_place_are_missing(cells):
    assert describe(f"filename,latitude,longitude\na,{cells}\n")["site"].isna().all()


@pytest.mark.parametrize(
    ("cell", "rating"),
    [
        ("4.0", 4),
        ("4", 4),
        (" 4.5 ", 4.5),
        ("5", 5),
        (".5", 0.5),
        ("0", None),
        ("0.0", None),
        ("", None),
        ("nan", None),
    ],
)
def test_ratings_are_read(tmp_path, cell, rating):
    labels = read(tmp_path, table(f"a/1.ogg,wren,{cell}", header="filename,primary_label,rating"))
    assert labels.recordings["rating"].dtype == np.float64
    assert known_of(labels, "a/1.ogg")["rating"] == rating


@pytest.mark.parametrize(
    "cell", ["-1", "-0.5", "5.5", "100", "1e300", "inf", "-inf", "A", "four", "4,5", "4 5", "True"]
)
def test_an_absurd_rating_is_refused_with_its_row(tmp_path, cell):
    text = table("a/1.ogg,wren,3", f'a/2.ogg,robin,"{cell}"', header="filename,primary_label,rating")
    with pytest.raises(InputError, match=r"line 3, of 'a/2\.ogg'\. Expected a number from 0 to 5") as caught:
        read(tmp_path, text)
    assert repr(cell) in str(caught.value)
    assert str(tmp_path / "train.csv") in str(caught.value)


def test_rows_that_disagree_settle_on_the_smallest(tmp_path):
    header = "filename,primary_label,author,rating,latitude,longitude"
    lines = ["a/1.ogg,wren,Bo,4,1,1", "a/1.ogg,robin,Ann,,2,2", "a/1.ogg,wren,,3,,"]
    for order in (lines, lines[::-1]):
        labels = read(tmp_path, table(*order, header=header))
        assert known_of(labels, "a/1.ogg") == {"author": "Ann", "rating": 3.0, "site": "1.00 1.00"}
        assert labels.count_recordings() == {"robin": 1, "wren": 1}


def test_only_labelled_recordings_are_described(tmp_path):
    text = table("a/1.ogg,wren,Ann", "z/9.ogg,wren,Bo", "a/2.ogg,wren,Cy", header="filename,primary_label,author")
    labels = read(tmp_path, text, skipped=["a/2.ogg"], names=("a/1.ogg", "b/3.ogg"))
    assert labels.recordings["recording"].tolist() == ["a/1.ogg"]
    assert problems(labels) == {("z/9.ogg", "label"), ("b/3.ogg", "label")}


@st.composite
def shuffled_tables(draw):
    """A table with duplicates, contradictions and strangers, and the same with its rows in another order."""
    names = st.sampled_from([*NAMES, "z/9.ogg"])
    classes = st.sampled_from(["wren", "robin", "1139490", "007"])
    row = st.tuples(
        names,
        classes,
        st.lists(classes, max_size=2).map(str),
        st.sampled_from(["", "Ann", "Bo "]),
        st.sampled_from(["", "0", "4.0", "2.5"]),
        st.sampled_from(["", "1.001", "-3"]),
    )
    lines = draw(st.lists(row, max_size=8))
    # At least one recording is labelled.
    lines.append(("a/1.ogg", "wren", "[]", "", "", ""))
    return lines, draw(st.permutations(lines))


@pytest.mark.slow
@settings(max_examples=40)
@given(shuffled_tables())
def test_the_order_of_rows_does_not_matter(tmp_path_factory, both):
    folder = tmp_path_factory.mktemp("labels")
    recordings = embedded(*NAMES, windows=2)
    read_both = []
    for index, lines in enumerate(both):
        path = folder / f"{index}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("filename", "primary_label", "secondary_labels", "author", "rating", "latitude"))
            writer.writerows(lines)
        read_both.append(read_labels(path, recordings))
    one, other = read_both
    pd.testing.assert_frame_equal(one.table, other.table)
    pd.testing.assert_frame_equal(one.recordings, other.recordings)
    assert one.classes == other.classes
    assert {problem.recording for problem in one.problems} == {problem.recording for problem in other.problems}
    assert not one.table.duplicated(["recording", "class"]).any()
    here, there = (vars(label_windows(labels, recordings, rating=True, group_by="author")) for labels in (one, other))
    for name in here:
        np.testing.assert_array_equal(here[name], there[name], err_msg=name)
