"""Watches that are disturbed, and tables that are not theirs: nothing is lost, and nothing overwritten."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from fit_files import refuse as refuse_command
from watch_files import assert_same_rows, make_model, put, recordings_of, rows_of, run_watch, sound_of

from birdemb.errors import BirdembError, InputError
from birdemb.locking import hold_lock

pytestmark = pytest.mark.usefixtures("watched_folder")


def refuse(match, **settings):
    """A watch that cannot be, and the tables that it left alone."""
    before = {path: path.read_bytes() for path in Path().glob("found*") if path.is_file()}
    with pytest.raises(InputError, match=match) as raised:
        run_watch(**settings)
    assert {path: path.read_bytes() for path in Path().glob("found*") if path.is_file()} == before
    return str(raised.value)


def test_folder_that_is_gone_for_a_while_is_told_of_and_waited_for():
    put("a.wav", sound_of())()
    put("b.wav", sound_of(3, 1), "new")()
    events = {3: lambda: Path("in").rename("away"), 6: lambda: Path("new").rename("away/new")}
    lines, _ = run_watch(events | {7: lambda: Path("away").rename("in")}, until=12)
    assert recordings_of() == ["a.wav", "new/b.wav"]
    assert sum("There is no folder" in line for line in lines) == 1
    assert sum("There are recordings in" in line for line in lines) == 1


def test_empty_folder_is_waited_for():
    lines, _ = run_watch({3: put("a.wav", sound_of())}, until=8)
    assert sum("No recording in" in line for line in lines) == 1
    assert recordings_of() == ["a.wav"]


def test_table_that_is_gone_for_a_while_is_waited_for():
    put("a.wav", sound_of())()
    events = {
        3: lambda: Path("found.csv").rename("away.csv"),
        4: put("b.wav", sound_of(3, 1)),
        10: lambda: Path("away.csv").rename("found.csv"),
    }
    lines, _ = run_watch(events, until=30)
    assert recordings_of() == ["a.wav", "b.wav"]
    assert sum("This watch tries again" in line for line in lines) == 1
    assert "It goes on." in lines


def test_recordings_that_change_while_they_are_read_are_read_again(monkeypatch):
    from birdemb import watch_batches

    put("a.wav", sound_of())()
    put("b.wav", sound_of(3, 1))()
    predict = watch_batches.predict_soundscapes
    changes = [sound_of(12, 2)]

    def change_and_predict(*arguments, **settings):
        result = predict(*arguments, **settings)
        if changes:
            put("a.wav", changes.pop())()
        return result

    monkeypatch.setattr(watch_batches, "predict_soundscapes", change_and_predict)
    run_watch(until=8)
    assert recordings_of() == ["b.wav", "a.wav"]
    assert len(rows_of()[1]) == 3 * (1 + 3)


@pytest.mark.parametrize("times", [2, 3])
def test_killed_workers_are_forgiven_twice(monkeypatch, times):
    from birdemb import watch_batches

    put("a.wav", sound_of())()
    predict, left = watch_batches.predict_soundscapes, list(range(times))

    def predict_or_die(*arguments, **settings):
        if left:
            left.pop()
            raise BirdembError("A worker process was killed.")
        return predict(*arguments, **settings)

    monkeypatch.setattr(watch_batches, "predict_soundscapes", predict_or_die)
    if times == 3:
        with pytest.raises(BirdembError, match="worker"):
            run_watch(until=30)
    else:
        lines, _ = run_watch(until=30)
        assert recordings_of() == ["a.wav"]
        assert lines.count("A worker process was killed. This watch tries again until it can be done.") == 1


@pytest.mark.parametrize("tail", [b"", b"a.w", b"a.wav,0,5,,,amecro\n" * 2])
def test_rows_that_were_half_written_disappear(tail):
    put("a.wav", sound_of())()
    run_watch()
    whole = Path("found.csv").read_bytes()
    (folder,) = Path(".birdemb/watch").iterdir()
    (folder / "rows-0").write_bytes(b"0" * 100)
    with Path("found.csv").open("ab") as file:
        file.write(tail)
    run_watch()
    assert Path("found.csv").read_bytes() == whole
    assert not (folder / "rows-0").exists()


def test_tables_of_others_are_left_alone():
    put("a.wav", sound_of())()
    Path("found.csv").write_text("mine\n")
    assert "it was there before the watch" in refuse("is not what the watch has written")
    Path("found.csv").unlink()
    run_watch(form="wide")  # nothing was written with the other form
    whole = Path("found.csv").read_bytes()
    for content, match in (
        (whole + b"my own row\n", "it has 11 bytes more"),
        (whole[:-1], "it is shorter"),
        (whole.replace(b"a.wav", b"b.wav"), "bytes are others"),
    ):
        Path("found.csv").write_bytes(content)
        refuse(match, form="wide")
    Path("found.csv").unlink()
    refuse("is gone, and", form="wide")
    Path("found.csv").mkdir()
    refuse("it is a folder", form="wide")


def test_table_that_is_changed_under_the_watch_ends_it():
    put("a.wav", sound_of())()

    def change():
        Path("found.csv").write_bytes(Path("found.csv").read_bytes() + b"mine\n")

    with pytest.raises(InputError, match="it has 5 bytes more"):
        run_watch({3: change, 4: put("b.wav", sound_of(3, 1))}, until=9)
    assert Path("found.csv").read_bytes().endswith(b"mine\n")


def test_other_settings_for_the_same_table_are_refused(tmp_path):
    usual = {"form": "jsonl", "min_confidence": 0.5}
    put("a.wav", sound_of())()
    run_watch(**usual)
    refuse(r"another form: \['jsonl'\], now \['detections'\]", **usual | {"form": "detections"})
    refuse("another thresholds", **usual | {"min_confidence": 0.6})
    refuse("another merge", **usual, merge=0)
    refuse("another post-processing: auto, now none", **usual, postprocess="none")
    make_model(tmp_path / "second.birdemb", seed=1)
    refuse("another bundle", **usual, model="second.birdemb")
    put("a.wav", sound_of(), "elsewhere")()
    refuse("another folder: in, now elsewhere", **usual, folder="elsewhere")
    refuse("it was there before the watch", **usual, workspace="other")


def test_what_cannot_grow_is_refused(tmp_path):
    put("a.wav", sound_of())()
    refuse("a Parquet file ends with its index", output="found.parquet", form=None)
    refuse("counts its times through all", output="found.txt", form=None, min_confidence=0.5)
    refuse("one label file is about one", output="found.txt", form="audacity", min_confidence=0.5)
    refuse("is no folder of this machine", folder="in/a.wav")
    refuse("is no folder of this machine", folder="s3://bucket/recordings")
    refuse("has the name of a recording", output="found.wav")
    refuse("no thresholds", form="birdnet")
    refuse("The interval between two looks", interval=0)
    refuse("The patience", patience=-1)
    make_model(tmp_path / "ranks.birdemb", method="ranks", heads=2)
    refuse("ranks among all windows", model="ranks.birdemb")


@pytest.mark.parametrize("output", ["in", "in/.", "in/tables", "."])
def test_files_that_would_lie_beside_recordings_are_refused(output):
    put("a.wav", sound_of())()
    put("tables/a.wav", sound_of())()
    put("in/a.wav", sound_of())()
    labels = [Path("in/a.txt"), Path("in/tables/a.txt"), Path("in/in/a.txt")]
    for path in labels:
        path.write_text("by hand")
    settings = {"form": "audacity", "min_confidence": 0.1}
    refuse("would lie beside recordings", output=output, **settings)
    refuse("would lie beside recordings", detections=output, detections_form="raven", min_confidence=0.1)
    assert [path.read_text() for path in labels] == ["by hand"] * 3


def test_files_may_lie_in_a_folder_of_their_own_below_the_recordings():
    put("a.wav", sound_of())()
    run_watch(output="in/tables", form="audacity", min_confidence=0.1)
    assert [path.name for path in Path("in/tables").iterdir()] == ["a.txt"]
    assert run_watch(output="in/tables", form="audacity", min_confidence=0.1)[1].recordings == 0


def test_weights_may_be_an_address():
    put("a.wav", sound_of())()
    with pytest.raises(InputError, match=r"cannot be had from 's3://bucket/own\.onnx'"):
        run_watch(weights="s3://bucket/own.onnx")


def test_two_watches_of_one_table_are_refused():
    put("a.wav", sound_of())()
    run_watch()
    (folder,) = Path(".birdemb/watch").iterdir()
    with hold_lock(folder / "lock"):
        refuse("Another watch writes found.csv")
    run_watch()


def test_damaged_journal_is_told_of():
    put("a.wav", sound_of())()
    run_watch()
    (path,) = Path(".birdemb/watch").glob("*/journal.sqlite")
    path.write_bytes(b"no database" * 1000)
    refuse("is damaged")
    path.unlink()
    with sqlite3.connect(path) as journal:
        journal.execute("PRAGMA user_version = 99")
    refuse("another version of birdemb")


def test_command_refuses_what_does_not_go_together():
    put("a.wav", sound_of())()
    command = ("predict", "in", "--model", "model.birdemb")
    assert "--interval goes with --watch" in refuse_command(*command, "--interval", 5)
    assert "--patience goes with --watch" in refuse_command(*command, "--patience", 5)
    for option in ("--sample-submission", "--blend-with"):
        said = refuse_command(*command, "--watch", option, "found.csv")
        assert f"{option} does not go with --watch" in said
    assert "cannot grow" in refuse_command(*command, "--watch", "-o", "found.parquet")


@pytest.mark.slow
def test_a_stop_at_any_write_loses_nothing_and_writes_nothing_twice(monkeypatch):
    put("a.wav", sound_of())()
    put("b.wav", sound_of(3, 1))()
    run_watch(output="found-whole.csv")
    whole = Path("found-whole.csv").read_bytes()
    for number in range(100):
        table = Path(f"found{number}.csv")
        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            countdown = Countdown(number)
            for name in ("fsync", "replace"):
                patch.setattr(os, name, countdown.before(getattr(os, name)))
            run_watch(output=table)
        assert whole.startswith(table.read_bytes() if table.exists() else b"")
        run_watch(output=table)
        assert table.read_bytes() == whole
        if not countdown.is_over:
            break
    assert number > 5


class Countdown:
    """Interrupts instead of the one of several acts that has this number, once."""

    def __init__(self, number):
        self._left = number

    @property
    def is_over(self):
        return self._left < 0

    def before(self, act):
        def act_or_stop(*arguments, **settings):
            self._left -= self._left >= 0
            if self._left == -1:
                self._left = -2
                raise KeyboardInterrupt
            return act(*arguments, **settings)

        return act_or_stop


FULL = """
import os, subprocess, sys
subprocess.run(["mount", "-t", "tmpfs", "-o", "size={size}", "none", "small"], check=True)
sys.path[:0] = {path!r}
from fit_files import refuse as refuse_command
from watch_files import put, run_watch, sound_of
fill = open("small/fill", "wb")
def full():
    size = os.statvfs("small").f_bavail * os.statvfs("small").f_frsize
    fill.write(b"0" * size)
    fill.flush()
def room():
    fill.truncate(0)
put("a.wav", sound_of())()
events = {{3: full, 4: put("b.wav", sound_of(200, 1)), 40: room}}
lines, _ = run_watch(events, until=100, output="small/found.csv", workspace={workspace!r})
print(*lines, sep="\\n")
sys.stdout.flush()
os.system("cp small/found.csv copy.csv")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("size", "workspace"), [("64k", "w"), ("4m", "small/w")])
def test_full_disk_is_told_of_and_waited_for(tmp_path, size, workspace):
    (tmp_path / "small").mkdir()
    command = ["unshare", "-rm", sys.executable, "-c", FULL.format(path=sys.path, size=size, workspace=workspace)]
    try:
        run = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no command unshare to make a small disk with")
    if "mount" in run.stderr or run.stderr.startswith("unshare"):
        pytest.skip(f"no small disk can be made here: {run.stderr.splitlines()[-1]}")
    assert run.stdout.count("This watch tries again") == 1, run.stdout + run.stderr
    assert "It goes on." in run.stdout
    run_watch(output="found.csv", workspace="other")
    assert_same_rows(*(Path(name).read_text().splitlines() for name in ("copy.csv", "found.csv")))
