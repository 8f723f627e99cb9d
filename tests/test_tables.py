"""Tables of a prediction: small ones to the letter, all of them back through readers of others."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_files import CLASSES, GOLDEN, golden, read_csv, source_of, text_of, write

from birdemb.annotations.recognition import read_annotations
from birdemb.errors import InputError
from birdemb.origin import Origin
from birdemb.tables import source as source_module
from birdemb.tables.clock import tell_times

BERLIN = ZoneInfo("Europe/Berlin")


def test_wide(tmp_path):
    rows, path = write(tmp_path, "wide", golden())
    assert rows == 3
    assert text_of(path) == (
        'recording,start,end,start_time,end_time,amecro,1139490,"noise, wind"\n'
        "site/a.wav,0,5,,,0.25,0.5,0.0\n"
        "site/a.wav,5,10,,,1.0,0.125,0.75\n"
        "site/b.wav,0,5,,,0.5,0.0625,0.0\n"
    )


def test_long(tmp_path):
    rows, path = write(tmp_path, "long", golden())
    assert rows == 9
    assert text_of(path).splitlines()[:5] == [
        "recording,start,end,start_time,end_time,class,scientific_name,common_name,probability,detected",
        "site/a.wav,0,5,,,amecro,Corvus brachyrhynchos,American Crow,0.25,0",
        "site/a.wav,0,5,,,1139490,Ragoniella pulchella,,0.5,1",
        'site/a.wav,0,5,,,"noise, wind",,,0.0,0',
        "site/a.wav,5,10,,,amecro,Corvus brachyrhynchos,American Crow,1.0,1",
    ]


def test_long_without_thresholds_leaves_open_what_is_detected(tmp_path):
    _, path = write(tmp_path, "long", golden(thresholds=None))
    assert {row["detected"] for row in read_csv(path)} == {""}


RAVEN_HEADER = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tCommon Name\t"
    "Species Code\tConfidence\tBegin Path\tFile Offset (s)\tBegin File\tScientific Name\n"
)


def test_raven_of_all_recordings(tmp_path):
    rows, path = write(tmp_path, None, golden(), "all.txt")
    assert rows == 4
    assert text_of(path) == RAVEN_HEADER + (
        "1\tSpectrogram 1\t1\t0\t5\t0\t16000\t1139490\t1139490\t0.5000\t/data/year/site/a.wav\t0\ta.wav\t"
        "Ragoniella pulchella\n"
        "2\tSpectrogram 1\t1\t5\t8\t0\t16000\tAmerican Crow\tamecro\t1.0000\t/data/year/site/a.wav\t5\ta.wav\t"
        "Corvus brachyrhynchos\n"
        "3\tSpectrogram 1\t1\t5\t8\t0\t16000\tnoise, wind\tnoise, wind\t0.7500\t/data/year/site/a.wav\t5\ta.wav\t\n"
        # The second recording begins where the first ends, as Raven opens them one after the other.
        "4\tSpectrogram 1\t1\t8\t12\t0\t16000\tAmerican Crow\tamecro\t0.5000\t/data/year/site/b.wav\t0\tb.wav\t"
        "Corvus brachyrhynchos\n"
    )


def test_raven_of_each_recording(tmp_path):
    rows, folder = write(tmp_path, None, golden(), "tables")
    assert rows == 4
    assert sorted(path.name for path in (folder / "site").iterdir()) == ["a.selections.txt", "b.selections.txt"]
    assert text_of(folder / "site/b.selections.txt") == RAVEN_HEADER + (
        "1\tSpectrogram 1\t1\t0\t4\t0\t16000\tAmerican Crow\tamecro\t0.5000\t/data/year/site/b.wav\t0\tb.wav\t"
        "Corvus brachyrhynchos\n"
    )


def test_audacity(tmp_path):
    _, folder = write(tmp_path, "audacity", golden(), "labels")
    assert text_of(folder / "site/a.txt") == (
        "0.000000\t5.000000\t1139490\t0.5000\n"
        "5.000000\t8.000000\tamecro\t1.0000\n"
        "5.000000\t8.000000\tnoise, wind\t0.7500\n"
    )
    assert text_of(folder / "site/b.txt") == "0.000000\t4.000000\tamecro\t0.5000\n"


def test_audacity_of_one_recording_may_be_a_file(tmp_path):
    _, path = write(tmp_path, "audacity", source_of(5, probabilities=[[0.5, 0, 0]]), "labels.txt")
    assert text_of(path) == "0.000000\t5.000000\tamecro\t0.5000\n"
    with pytest.raises(InputError, match=r"labels\.txt is one label file, and 2 recordings .*Name a folder"):
        write(tmp_path, "audacity", golden(), "labels.txt")


def test_kaleidoscope(tmp_path):
    origins = {"site/a.wav": Origin(datetime(2025, 5, 1, 23, 59, 57, tzinfo=BERLIN))}
    _, path = write(tmp_path, "kaleidoscope", golden(origins=origins))
    assert text_of(path) == (
        "INDIR,FOLDER,IN FILE,CHANNEL,OFFSET,DURATION,DATE,TIME,HOUR,TOP1MATCH,scientific_name,common_name,confidence,"
        "MANUAL ID\n"
        "/data/year,site,a.wav,0,0,5,2025-05-01,23:59:57,23,1139490,Ragoniella pulchella,,0.5000,\n"
        "/data/year,site,a.wav,0,5,3,2025-05-02,00:00:02,00,amecro,Corvus brachyrhynchos,American Crow,1.0000,\n"
        '/data/year,site,a.wav,0,5,3,2025-05-02,00:00:02,00,"noise, wind",,,0.7500,\n'
        "/data/year,site,b.wav,0,0,4,,,,amecro,Corvus brachyrhynchos,American Crow,0.5000,\n"
    )


def test_birdnet(tmp_path):
    _, path = write(tmp_path, "birdnet", golden())
    assert text_of(path) == (
        "Start (s),End (s),Scientific name,Common name,Confidence,File\n"
        "0.0,5.0,Ragoniella pulchella,1139490,0.5000,/data/year/site/a.wav\n"
        "5.0,10.0,Corvus brachyrhynchos,American Crow,1.0000,/data/year/site/a.wav\n"
        '5.0,10.0,"noise, wind","noise, wind",0.7500,/data/year/site/a.wav\n'
        "0.0,5.0,Corvus brachyrhynchos,American Crow,0.5000,/data/year/site/b.wav\n"
    )
    _, folder = write(tmp_path, "birdnet", golden(), "results")
    assert len(read_csv(folder / "site/a.BirdNET.results.csv")) == 3


def test_json_lines(tmp_path):
    origins = {"site/a.wav": Origin(datetime(2025, 5, 1, 4, 30, tzinfo=timezone(timedelta(hours=2))))}
    _, path = write(tmp_path, None, golden(origins=origins), "found.jsonl")
    first, *_, last = text_of(path).splitlines()
    assert first == (
        '{"recording": "site/a.wav", "start": 0.0, "end": 5.0, "class": "1139490", '
        '"scientific_name": "Ragoniella pulchella", "common_name": "", "probability": 0.5, "threshold": 0.5, '
        '"start_time": "2025-05-01T04:30:00+02:00", "end_time": "2025-05-01T04:30:05+02:00"}'
    )
    assert json.loads(last)["start_time"] is None


@pytest.mark.parametrize("thresholds", [(0.5, 0.2, np.nan), None])
def test_parquet_has_its_types(tmp_path, thresholds):
    source = golden(
        thresholds=thresholds, origins={"site/b.wav": Origin(datetime(2025, 5, 1, tzinfo=UTC)), "site/a.wav": Origin()}
    )
    rows, path = write(tmp_path, None, source, "all.parquet")
    table = pq.read_table(path)
    assert rows == table.num_rows == 9
    kinds = {name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)}
    assert kinds == {
        **dict.fromkeys(
            ("recording", "class", "scientific_name", "common_name"),
            "dictionary<values=string, indices=int32, ordered=0>",
        ),
        **dict.fromkeys(("start", "end", "probability"), "double"),
        **dict.fromkeys(("start_time", "end_time"), "string"),
        "detected": "bool",
    }
    frame = table.to_pandas()
    assert frame["recording"].tolist() == ["site/a.wav"] * 6 + ["site/b.wav"] * 3
    assert frame["class"].tolist() == [name.label for name in CLASSES] * 3
    assert table["start_time"].to_pylist() == [None] * 6 + ["2025-05-01T00:00:00+00:00"] * 3
    np.testing.assert_array_equal(frame["probability"], np.ravel(GOLDEN))
    if thresholds is None:
        assert frame["detected"].isna().all()
    else:
        np.testing.assert_array_equal(frame["detected"], np.ravel(np.array(GOLDEN) >= thresholds))


def test_parquet_of_detections(tmp_path):
    rows, path = write(tmp_path, None, golden(), "found.parquet", detections=True)
    frame = pq.read_table(path).to_pandas()
    assert rows == len(frame) == 4
    assert frame["threshold"].tolist() == [0.5] * 4
    assert frame["class"].tolist() == ["1139490", "amecro", "noise, wind", "amecro"]


@settings(max_examples=10, deadline=None)
@given(
    lengths=st.lists(st.floats(0.5, 31), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    grid=st.sampled_from([(5.0, 5.0), (5.0, 2.5), (0.96, 0.96)]),
    at_once=st.sampled_from([1, 7, 1 << 20]),
    text=st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=5),
)
def test_every_table_comes_back_from_readers_of_others(tmp_path_factory, lengths, seed, grid, at_once, text):
    folder = tmp_path_factory.mktemp("tables")
    names = [f"{index}{text}.wav" for index in range(len(lengths))]
    plain = source_of(*lengths, names=names, window=grid[0], hop=grid[1])
    values = np.random.default_rng(seed).random(plain.prediction.probabilities.shape)
    source = source_of(*lengths, names=names, window=grid[0], hop=grid[1], probabilities=values)
    expected_names = [names[number] for number in source.prediction.recording_numbers]
    starts = source.prediction.starts
    passing = values >= 0.5
    old, source_module._VALUES_AT_ONCE = source_module._VALUES_AT_ONCE, at_once
    try:
        _, wide = write(folder, "wide", source, "wide.csv")
        _, long = write(folder, "long", source, "long.csv")
        _, parquet = write(folder, None, source, "long.parquet")
        for form in ("detections", "birdnet", "kaleidoscope"):
            assert write(folder, form, source, f"{form}.csv")[0] == passing.sum()
        write(folder, None, source, "all.txt")
        write(folder, None, source, "found.jsonl")
    finally:
        source_module._VALUES_AT_ONCE = old
    read = read_csv(wide)
    assert [row["recording"] for row in read] == expected_names
    np.testing.assert_allclose([float(row["start"]) for row in read], starts, atol=1e-9)
    np.testing.assert_array_equal([[float(row[name.label]) for name in CLASSES] for row in read], values)
    read = read_csv(long)
    assert [row["recording"] for row in read] == [name for name in expected_names for _ in CLASSES]
    np.testing.assert_array_equal([float(row["probability"]) for row in read], values.ravel())
    assert [row["detected"] == "1" for row in read] == passing.ravel().tolist()
    frame = pq.read_table(parquet).to_pandas()
    assert frame["recording"].astype(str).tolist() == [row["recording"] for row in read]
    np.testing.assert_array_equal(frame["probability"], values.ravel())
    np.testing.assert_allclose(frame["end"], np.repeat(starts + grid[0], len(CLASSES)))
    windows, classes = np.nonzero(passing)
    found = [
        (expected_names[window], round(starts[window], 6), CLASSES[label].label)
        for window, label in zip(windows, classes, strict=True)
    ]
    read = read_csv(folder / "detections.csv")
    assert [(row["recording"], float(row["start"]), row["class"]) for row in read] == found
    assert [float(row["probability"]) for row in read] == values[passing].tolist()
    lines = [json.loads(line) for line in (folder / "found.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    assert [(line["recording"], line["start"], line["class"]) for line in lines] == found
    read = read_csv(folder / "kaleidoscope.csv")
    assert [(row["IN FILE"], float(row["OFFSET"]), row["TOP1MATCH"]) for row in read] == found
    read = read_csv(folder / "birdnet.csv")
    assert [(row["File"], float(row["Start (s)"])) for row in read] == [
        (f"/data/year/{name}", start) for name, start, _ in found
    ]
    read = read_csv(folder / "all.txt", "\t")
    assert [int(row["Selection"]) for row in read] == list(range(1, len(found) + 1))
    assert [(float(row["File Offset (s)"]), row["Species Code"]) for row in read] == [
        (start, label) for _, start, label in found
    ]
    ends = [float(row["End Time (s)"]) for row in read]
    assert all(end <= sum(lengths) + 1e-6 for end in ends)


@pytest.mark.parametrize(
    ("form", "name"),
    [("raven", "all.txt"), ("kaleidoscope", "k.csv"), ("detections", "d.csv"), ("raven", "r"), ("audacity", "a")],
)
def test_what_was_written_can_be_given_back_as_labels(tmp_path, form, name):
    source = source_of(8, 4, probabilities=[[0.5, 0.9, 0], [1, 0, 0], [0.5, 0, 0]], window=4.0, hop=4.0)
    _, path = write(tmp_path, form, source, name)
    files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
    rows = pd.concat(read_annotations(file).table for file in files)
    assert [Path(name).stem for name in rows["filename"]] == ["a", "a", "a", "b"]
    assert rows[["start", "end", "class", "state"]].to_numpy().tolist() == [
        [0.0, 4.0, "amecro", "present"],
        [0.0, 4.0, "1139490", "present"],
        [4.0, 8.0, "amecro", "present"],
        [0.0, 4.0, "amecro", "present"],
    ]


def test_merged_detections_are_written(tmp_path):
    probabilities = np.array([[0.6, 0, 0], [0.9, 0, 0], [0, 0, 0], [0.7, 0, 0]])
    source = source_of(12.5, probabilities=probabilities, window=5.0, hop=2.5, gap=0.0)
    _, path = write(tmp_path, "detections", source)
    read = pd.read_csv(path)
    # The first and the second overlap, and the fourth begins where the second ends.
    assert read[["start", "end", "probability"]].to_numpy().tolist() == [[0.0, 12.5, 0.9]]


def test_tab_and_line_end_in_a_class_do_not_break_a_line(tmp_path):
    source = source_of(5, probabilities=[[0.9, 0, 0]], names=["a\tb\nc.wav"])
    _, path = write(tmp_path, None, source, "all.txt")
    (row,) = read_csv(path, "\t")
    assert row["Begin File"] == "a b c.wav"


@pytest.mark.parametrize("form", ["wide", "long", "detections", "kaleidoscope", "birdnet"])
def test_carriage_return_in_a_name_does_not_break_a_row(tmp_path, form):
    _, path = write(tmp_path, form, source_of(5, probabilities=[[0.9, 0, 0]], names=["a\rb.wav"]))
    rows = pd.read_csv(path)
    assert len(rows) == (3 if form == "long" else 1)
    assert "a\rb.wav" in str(rows.iloc[0].to_dict()).replace("\\r", "\r")


@pytest.mark.parametrize(("form", "column"), [("raven", "End Time (s)"), ("kaleidoscope", "DURATION")])
def test_seconds_have_no_exponent(tmp_path, form, column):
    # A sample more than a window has a window of its own.
    _, path = write(tmp_path, form, source_of(5 + 1 / 44_100, probabilities=[[0, 0, 0], [0.9, 0, 0]]), "table.txt")
    (row,) = read_csv(path, "\t" if form == "raven" else ",")
    assert row[column] == ("5.000023" if form == "raven" else "0.000023")


def test_times_of_day_are_those_of_a_stopwatch():
    before = Origin(datetime(2025, 3, 30, 1, 59, 59, tzinfo=BERLIN))
    assert tell_times({"a": before}, ["a", "a", "b"], [0.0, 2.5, 1.0]) == [
        "2025-03-30T01:59:59+01:00",
        "2025-03-30T03:00:01.500+02:00",
        None,
    ]
    assert tell_times({}, ["a"], [1.0]) == [None]
