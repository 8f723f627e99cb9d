"""Folders that are watched: what comes into them, and the rows that it gets."""

import os
import sqlite3
from pathlib import Path

import pytest
from watch_files import (
    assert_same_rows,
    hash_of,
    put,
    recordings_of,
    rows_of,
    run_watch,
    sound_of,
    tree,
    without_length,
)

from birdemb.predict_commands import FORMS_OF_WINDOWS
from birdemb.predicting import predict_folder

pytestmark = pytest.mark.usefixtures("watched_folder")

FORMS = ["submission", "detections"] + [
    pytest.param(form, marks=pytest.mark.slow) for form in ("wide", "long", "kaleidoscope", "birdnet", "jsonl")
]
FOLDER_FORMS = ["audacity"] + [pytest.param(form, marks=pytest.mark.slow) for form in ("raven", "birdnet")]


def ask(question):
    (path,) = Path(".birdemb/watch").glob("*/journal.sqlite")
    with sqlite3.connect(path) as journal:
        return journal.execute(question).fetchall()


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_those_that_predict_gives_whenever_recordings_come(form):
    put("a.wav", sound_of())()
    events = {2: put("deep/b.wav", sound_of(12, 1)), 4: put("C d.flac", sound_of(3, 2))}
    settings = {"form": form, "postprocess": "smooth=0.2", "model": "model.birdemb", "jobs": 1}
    if form not in FORMS_OF_WINDOWS:
        settings["min_confidence"] = 0.4
    run_watch(events, until=8, **settings)
    predict_folder("in", output="whole.csv", workspace="other", **settings)
    watched, whole = Path("found.csv").read_text().splitlines(), Path("whole.csv").read_text().splitlines()
    assert form == "jsonl" or watched[0] == whole[0]
    assert_same_rows(watched, whole)
    assert len(whole) > 3


@pytest.mark.parametrize("form", FOLDER_FORMS)
def test_files_of_one_recording_each_are_those_that_predict_gives(form):
    put("a.wav", sound_of())()
    settings = {"form": form, "min_confidence": 0.4, "model": "model.birdemb", "jobs": 1}
    run_watch({2: put("deep/b.c.wav", sound_of(12, 1))}, until=6, output="found", **settings)
    predict_folder("in", output="whole", workspace="other", **settings)
    assert tree("found") == tree("whole")
    assert len(tree("found")) == 2
    before = tree("found")
    run_watch(until=6, output="found", **settings)
    assert tree("found") == before


@pytest.mark.slow
def test_two_tables_are_written_together():
    put("a.wav", sound_of())()
    settings = {"detections": "found.jsonl", "min_confidence": 0.4}
    run_watch({2: put("b.wav", sound_of(12, 1))}, until=6, **settings)
    assert recordings_of() == ["a.wav", "b.wav"]
    lines = Path("found.jsonl").read_text().splitlines()
    assert len(lines) == sum(float(row[8]) >= 0.4 for row in rows_of()[1])


def test_each_recording_is_told_of_and_counted():
    put("a.wav", sound_of())()
    lines, report = run_watch({2: put("b.wav", sound_of(12, 1))}, until=6)
    assert (report.recordings, report.windows, report.skipped) == (2, 5, 0)
    told = [line for line in lines if "windows" in line]
    assert [line.partition(", in ")[0] for line in told] == [
        "recordings: 1, windows: 2, rows in found.csv: 6",
        "recordings: 1, windows: 3, rows in found.csv: 9",
    ]
    assert all(line.endswith("; waiting: 0") for line in told)


def test_how_much_waits_is_told(monkeypatch):
    from birdemb import watch_batches

    monkeypatch.setattr(watch_batches, "_RECORDINGS_A_BATCH", 2)
    for number in range(5):
        put(f"{number}.wav", sound_of(3, number))()
    lines, _ = run_watch()
    assert [line.partition("; ")[2] for line in lines if "windows" in line] == [
        "waiting: 3, the first for 1 s",
        "waiting: 1, the first for 1 s",
        "waiting: 0",
    ]
    assert recordings_of() == [f"{number}.wav" for number in range(5)]


def test_the_same_call_goes_on_where_it_was():
    put("a.wav", sound_of())()
    run_watch()
    before = Path("found.csv").read_bytes()
    _, report = run_watch()
    assert Path("found.csv").read_bytes() == before
    assert report.recordings == 0
    put("b.wav", sound_of(3, 1))()
    run_watch()
    assert Path("found.csv").read_bytes().startswith(before)
    assert recordings_of() == ["a.wav", "b.wav"]
    assert ask("SELECT bytes FROM tables") == [(Path("found.csv").stat().st_size,)]
    batches = ask("SELECT first_byte, bytes FROM batches ORDER BY batch")
    assert [first for first, _ in batches[1:]] == [first + size for first, size in batches[:-1]]


def test_a_folder_that_is_moved_with_its_table_goes_on():
    Path("project").mkdir()
    Path("in").rename("project/in")
    put("a.wav", sound_of(), "project/in")()
    settings = {"model": Path("model.birdemb").resolve(), "workspace": "w"}
    os.chdir("project")
    run_watch(**settings)
    os.chdir("..")
    Path("project").rename("moved")
    os.chdir("moved")
    put("b.wav", sound_of(3, 1))()
    run_watch(**settings)
    assert recordings_of() == ["a.wav", "b.wav"]


def test_changed_recording_gets_new_rows_behind_the_old_ones():
    put("a.wav", sound_of())()
    put("b.wav", sound_of(3, 1))()
    run_watch({3: put("a.wav", sound_of(12, 2))}, until=8)
    assert recordings_of() == ["a.wav", "b.wav", "a.wav"]
    _, rows = rows_of()
    assert len(rows) == 3 * (2 + 1 + 3)
    assert ask("SELECT recording, sha256, replaced FROM recordings ORDER BY number") == [
        ("a.wav", hash_of(sound_of()), 1),
        ("b.wav", hash_of(sound_of(3, 1)), 0),
        ("a.wav", hash_of(sound_of(12, 2)), 0),
    ]
    put("a.wav", sound_of())()  # what it was at first is no longer what it is
    run_watch()
    assert recordings_of() == ["a.wav", "b.wav", "a.wav"]
    assert len(rows_of()[1]) == 3 * (2 + 1 + 3 + 2)


def test_recording_that_looks_otherwise_and_holds_the_same_is_left_alone():
    put("a.wav", sound_of())()
    lines, _ = run_watch({3: put("a.wav", sound_of()), 6: lambda: os.utime("in/a.wav", (1, 1))}, until=10)
    assert len(rows_of()[1]) == 3 * 2
    assert sum("windows" in line for line in lines) == 1
    assert run_watch()[1].recordings == 0


def test_recording_that_grows_is_predicted_once_at_its_end():
    content = sound_of(20)
    events = {index: put("a.wav", content[: len(content) * (index + 1) // 6]) for index in range(6)}
    _, report = run_watch(events, until=10, patience=100)
    assert report.recordings == 1
    assert len(rows_of()[1]) == 3 * 4


def test_broken_recording_is_listed_once_and_predicted_when_it_is_whole():
    put("a.wav", sound_of()[:-2000])()
    put("b.wav", b"no sound")()
    put("c.wav", sound_of(3))()
    lines, report = run_watch({8: put("b.wav", sound_of(3, 1))}, until=12)
    assert [line for line in lines if line.startswith("skipped")] == [
        "skipped a.wav: cut short: 110000 of the 112000 bytes that its header promises",
        "skipped b.wav: no audio that libsndfile can read, or damaged: Format not recognised",
    ]
    assert recordings_of() == ["c.wav", "b.wav"]
    table = report.journal.with_name("skipped.csv")
    assert [row[:2] for row in rows_of(table)[1]] == [["a.wav", "decode"]]
    lines, report = run_watch(until=8)
    assert not any(line.startswith("skipped") for line in lines)
    put("a.wav", sound_of())()
    run_watch()
    assert not table.exists()


def test_recording_whose_header_leaves_its_length_open_is_taken_in_the_end():
    put("a.wav", without_length(sound_of()))()
    lines, _ = run_watch(until=6)
    assert "skipped a.wav: it holds no samples" in lines


def test_two_recordings_never_share_row_ids_or_a_file():
    put("x/a.wav", sound_of())()
    lines, _ = run_watch({2: put("y/a.wav", sound_of(3, 1))}, until=8, form="submission")
    assert [row[0] for row in rows_of()[1]] == ["a_5", "a_10"]
    assert [line for line in lines if "skipped" in line] == [
        "skipped y/a.wav: its rows could not be told from those of x/a.wav, which came first; rename it"
    ]
    put("x/a.flac", sound_of(3, 2))()
    lines, _ = run_watch(until=8, output="files", form="raven", min_confidence=0.1)
    assert sum("skipped x/a.wav" in line for line in lines) == 1
    assert len(tree("files")) == 2


@pytest.mark.parametrize("form", ["submission", "audacity"])
def test_names_that_are_no_valid_text_are_listed(form):
    put("a.wav", sound_of())()
    name = os.fsdecode(b"latin\xe9.wav")
    try:
        put(name, sound_of(3, 1))()
        put(f"x/{name}", sound_of(3, 1))()
    except OSError:
        pytest.skip("this file system takes no such name")
    for _ in range(2):
        settings = {"output": "found", "min_confidence": 0.1} if form == "audacity" else {}
        lines, report = run_watch(until=6, form=form, **settings)
        assert any("latin\\udce9.wav: its path is not valid UTF-8; rename it" in line for line in lines)
        assert "latin\\udce9.wav" in report.journal.with_name("skipped.csv").read_text(encoding="utf-8")
    assert report.recordings == 0


def test_what_cannot_be_read_is_tried_again_at_the_next_start():
    put("a.wav", sound_of())()
    Path("in/b.wav").symlink_to(Path("away.wav").resolve())
    assert any("skipped b.wav" in line for line in run_watch(until=6)[0])
    put("away.wav", sound_of(3, 1), ".")()
    run_watch()
    assert recordings_of() == ["a.wav", "b.wav"]
