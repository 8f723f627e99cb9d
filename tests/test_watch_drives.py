"""Watches whose disk is full or away for a while, in the middle of what they do."""

import contextlib
import errno
import os
from pathlib import Path

import pytest
from watch_files import put, recordings_of, rows_of, run_watch, sound_of

from birdemb import watch_batches, watching
from birdemb.errors import BirdembError
from birdemb.watch_journal import WatchJournal

pytestmark = pytest.mark.usefixtures("watched_folder")


@pytest.fixture
def drive():
    """The folder of the tables, which is away between `go_away` and `come_back`."""
    Path("drive").mkdir()
    return Path("drive")


def go_away():
    Path("drive").rename("away")


def come_back():
    Path("away").rename("drive")


def test_drive_that_goes_away_in_the_middle_of_an_append_is_waited_for(drive, monkeypatch):
    put("a.wav", sound_of())()
    table = drive / "found.csv"
    run_watch(output=table)
    put("b.wav", sound_of(3, 1))()
    sync, number_of_table = os.fsync, table.stat().st_ino

    def sync_or_go_away(number):
        if drive.exists() and os.fstat(number).st_ino == number_of_table and not came_back:
            os.ftruncate(number, os.fstat(number).st_size - 10)
            go_away()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(number)

    came_back = []
    monkeypatch.setattr(os, "fsync", sync_or_go_away)
    lines, _ = run_watch({9: lambda: came_back.append(come_back())}, until=30, output=table)
    assert "It goes on." in lines
    assert recordings_of(table) == ["a.wav", "b.wav"]
    assert len(rows_of(table)[1]) == 3 * (2 + 1)
    assert run_watch(output=table)[1].recordings == 0


def test_what_others_add_while_the_drive_is_away_is_left_alone(drive, monkeypatch):
    put("a.wav", sound_of())()
    table = drive / "found.csv"
    run_watch(output=table)
    put("b.wav", sound_of(3, 1))()
    sync, number_of_table = os.fsync, table.stat().st_ino

    def sync_or_go_away(number):
        if os.fstat(number).st_ino == number_of_table:
            go_away()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(number)

    def change_and_come_back():
        content = Path("away/found.csv").read_bytes()
        Path("away/found.csv").write_bytes(content.replace(b"a.wav", b"c.wav"))
        come_back()

    monkeypatch.setattr(os, "fsync", sync_or_go_away)
    with pytest.raises(BirdembError, match="bytes are others"):
        run_watch({9: change_and_come_back}, until=30, output=table)
    assert recordings_of(table) == ["c.wav", "b.wav"]


def test_drive_that_goes_away_behind_an_append_has_all_rows_once(drive, monkeypatch):
    put("a.wav", sound_of())()
    settings = {"output": drive / "found.csv", "detections": drive / "found.jsonl", "min_confidence": 0.4}
    add, went_away = WatchJournal.add, []

    def add_and_go_away(journal, done, states):
        add(journal, done, states)
        if done and not went_away:
            went_away.append(go_away())

    monkeypatch.setattr(WatchJournal, "add", add_and_go_away)
    run_watch({9: come_back, 10: put("b.wav", sound_of(3, 1))}, until=40, **settings)
    assert recordings_of(drive / "found.csv") == ["a.wav", "b.wav"]
    detected = sum(float(row[8]) >= 0.4 for row in rows_of(drive / "found.csv")[1])
    assert len((drive / "found.jsonl").read_text().splitlines()) == detected
    assert run_watch(**settings)[1].recordings == 0


def test_what_cannot_be_done_for_days_is_still_tried(monkeypatch):
    put("a.wav", sound_of())()
    predict, left = watch_batches.predict_soundscapes, list(range(1100))

    def predict_or_find_no_room(*arguments, **settings):
        if left:
            left.pop()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return predict(*arguments, **settings)

    monkeypatch.setattr(watching, "_LONGEST_DELAY", 1.0)
    monkeypatch.setattr(watch_batches, "predict_soundscapes", predict_or_find_no_room)
    lines, _ = run_watch(until=1200)
    assert sum("This watch tries again" in line for line in lines) == 1
    assert recordings_of() == ["a.wav"]


@pytest.mark.parametrize(("problems", "is_forgiven"), [("ddkd", True), ("dddkk", True), ("dkdkdk", False)])
def test_full_disks_are_not_taken_for_killed_workers(monkeypatch, problems, is_forgiven):
    put("a.wav", sound_of())()
    predict, left = watch_batches.predict_soundscapes, list(reversed(problems))

    def predict_or_fail(*arguments, **settings):
        if not left:
            return predict(*arguments, **settings)
        if left.pop() == "k":
            raise BirdembError("A worker process was killed.")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(watch_batches, "predict_soundscapes", predict_or_fail)
    with contextlib.nullcontext() if is_forgiven else pytest.raises(BirdembError, match="worker"):
        run_watch(until=300)
    assert recordings_of() == ["a.wav"] * is_forgiven
