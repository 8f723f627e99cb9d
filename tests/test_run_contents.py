"""The memory of what recordings hold: trusted only where nothing speaks against it."""

import os
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birdemb.embed import contents
from birdemb.embed.contents import ContentMemory, identify_content
from birdemb.embed.recordings import Recording, Stamp, find_recordings


@pytest.fixture
def place(tmp_path):
    return tmp_path / "memory/contents.sqlite"


def recording_at(path, content=b"content", age=60.0):
    """Write a recording that was left alone for so many seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    past = time.time() - age
    os.utime(path, (past, past))
    return Recording(str(path), path.name)


@pytest.fixture
def old(monkeypatch):
    """The time of the last change of an inode cannot be set, so that all files here are new by it."""
    monkeypatch.setattr(contents, "_last_change", lambda recording: Path(recording.location).stat().st_mtime)


def learn(place, *recordings):
    memory = ContentMemory(place)
    for recording in recordings:
        identify_content(recording, memory)
    memory.save()
    return ContentMemory(place)


def hashes_again(recording, memory):
    """Tell whether a recording is read to its end, and make sure that what is said of it is right."""
    with pytest.MonkeyPatch.context() as patch:
        hashed = []
        hash_whole = contents._hash
        patch.setattr(contents, "_hash", lambda *args: hashed.append(args) or hash_whole(*args))
        content = identify_content(recording, memory)
    assert content.error is None
    assert content.sha256 == recording.hash()
    return bool(hashed)


@pytest.mark.usefixtures("old")
def test_what_is_remembered_is_not_hashed_again(tmp_path, place):
    recording = recording_at(tmp_path / "a.wav")
    assert not hashes_again(recording, learn(place, recording))


@pytest.mark.usefixtures("old")
@pytest.mark.parametrize("position", [0, 4095, -4096, -1])
def test_a_change_at_the_edges_is_seen_though_size_and_times_say_nothing(tmp_path, place, monkeypatch, position):
    content = bytearray(20_000)
    recording = recording_at(tmp_path / "a.wav", content)
    memory = learn(place, recording)
    stamp = recording.stamp()
    content[position] ^= 1
    recording_at(tmp_path / "a.wav", content)
    monkeypatch.setattr(Recording, "stamp", lambda _: stamp)
    assert hashes_again(recording, memory)


@pytest.mark.usefixtures("old")
def test_a_change_in_the_middle_is_seen_by_the_times(tmp_path, place):
    content = bytearray(20_000)
    recording = recording_at(tmp_path / "a.wav", content)
    memory = learn(place, recording)
    before = Path(recording.location).stat()
    content[10_000] ^= 1
    (tmp_path / "a.wav").write_bytes(content)
    os.utime(tmp_path / "a.wav", ns=(before.st_atime_ns, before.st_mtime_ns))  # as a copy that keeps times
    assert hashes_again(recording, memory)


@pytest.mark.usefixtures("old")
def test_another_file_in_its_place_is_seen_by_the_inode(tmp_path, place):
    recording = recording_at(tmp_path / "a.wav", bytes(20_000))
    memory = learn(place, recording)
    before = Path(recording.location).stat()
    recording_at(tmp_path / "b.wav", bytes(10_000) + b"x" + bytes(9_999))
    os.utime(tmp_path / "b.wav", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tmp_path / "b.wav").replace(tmp_path / "a.wav")
    assert hashes_again(recording, memory)


@pytest.mark.parametrize(("age", "again"), [(0.0, True), (60.0, False)])
@pytest.mark.usefixtures("old")
def test_a_file_that_was_changed_a_moment_ago_is_not_remembered(tmp_path, place, age, again):
    recording = recording_at(tmp_path / "a.wav", age=age)
    assert hashes_again(recording, learn(place, recording)) == again


@pytest.mark.usefixtures("old")
@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b'{"format": 1, "recordings": {}}', b"SQLite format 3\0", b"SQLite format 3\0" + bytes(9_000)],
)
def test_a_file_that_is_no_memory_is_made_anew(tmp_path, place, content):
    recording = recording_at(tmp_path / "a.wav")
    learn(place, recording)
    place.write_bytes(content)
    assert hashes_again(recording, ContentMemory(place))
    assert not hashes_again(recording, learn(place, recording))
    assert list(place.parent.iterdir()) == [place]


@pytest.mark.usefixtures("old")
@pytest.mark.parametrize(
    "change",
    [
        "PRAGMA user_version = 1",
        "DROP TABLE recordings",
        "ALTER TABLE recordings DROP COLUMN edges",
        "ALTER TABLE recordings ADD COLUMN more TEXT",
    ],
)
def test_a_memory_of_another_form_is_made_anew(tmp_path, place, change):
    recording = recording_at(tmp_path / "a.wav")
    learn(place, recording)
    with closing(sqlite3.connect(place)) as connection, connection:
        connection.execute(change)
    learn(place, recording)
    assert not hashes_again(recording, learn(place, recording))


@pytest.mark.usefixtures("old")
@pytest.mark.parametrize("column", ["stamp", "edges", "sha256", "checksum"])
@pytest.mark.parametrize(
    "value", [None, 5, 0.5, b"x", b"a" * 64, "", "x", "0" * 64, "0" * 63, "\udc80".encode("utf-8", "replace")]
)
def test_a_row_that_is_not_as_it_was_written_counts_for_nothing(tmp_path, place, column, value):
    recording = recording_at(tmp_path / "a.wav")
    learn(place, recording)
    with closing(sqlite3.connect(place)) as connection, connection:
        assert connection.execute(f"UPDATE recordings SET {column} = ?", (value,)).rowcount == 1  # noqa: S608
    assert hashes_again(recording, ContentMemory(place))


@pytest.mark.usefixtures("old")
def test_rows_that_changed_places_count_for_nothing(tmp_path, place):
    a, b = recording_at(tmp_path / "a.wav", b"a"), recording_at(tmp_path / "b.wav", b"b")
    learn(place, a, b)
    with closing(sqlite3.connect(place)) as connection, connection:
        for old, new in ((a.location, "-"), (b.location, a.location), ("-", b.location)):
            connection.execute("UPDATE recordings SET key = ? WHERE key = ?", (new, old))
        stamps = dict(connection.execute("SELECT key, stamp FROM recordings"))
        connection.execute("UPDATE recordings SET stamp = ? WHERE key = ?", (stamps[b.location], a.location))
    assert hashes_again(a, ContentMemory(place))


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_befalls_the_file_no_hash_is_wrong(tmp_path, place, data):
    place.unlink(missing_ok=True)
    recordings = [recording_at(tmp_path / f"{index}.wav", str(index).encode()) for index in range(20)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents, "_last_change", lambda _: 0.0)
        learn(place, *recordings)
        content = bytearray(place.read_bytes())
        for _ in range(data.draw(st.integers(1, 20))):
            position = data.draw(st.integers(0, len(content) - 1))
            content[position] = data.draw(st.integers(0, 255))
        place.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
        memory = ContentMemory(place)
        memory.look_up(recordings)
        for recording in recordings:
            hashes_again(recording, memory)
        memory.save(str(tmp_path), recordings)
        again = ContentMemory(place)
        for recording in recordings:
            hashes_again(recording, again)


@pytest.mark.usefixtures("old")
def test_what_is_locked_is_hashed_again_and_learnt_later(tmp_path, place, monkeypatch):
    monkeypatch.setattr(contents, "_LOCK_SECONDS", 0.01)
    recordings = [recording_at(tmp_path / f"{index}.wav", str(index).encode()) for index in range(3)]
    learn(place, recordings[0])
    memory = ContentMemory(place)
    with closing(sqlite3.connect(place, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        memory.look_up(recordings)
        assert all(hashes_again(recording, memory) for recording in recordings)
        memory.save()
    assert hashes_again(recordings[1], ContentMemory(place))
    memory.save()
    memory = ContentMemory(place)
    assert not any(hashes_again(recording, memory) for recording in recordings)


@pytest.mark.usefixtures("old")
def test_several_at_once_are_looked_up_as_one_by_one(tmp_path, place):
    recordings = [recording_at(tmp_path / f"{index}.wav", str(index).encode()) for index in range(5)]
    memory = learn(place, *recordings[:3])
    memory.look_up([*recordings, Recording("/not/utf-8/\udcff.wav", "x")])
    assert [hashes_again(recording, memory) for recording in recordings] == [False] * 3 + [True] * 2


@pytest.mark.usefixtures("old")
def test_a_memory_may_be_used_by_several_threads(tmp_path, place):
    recordings = [recording_at(tmp_path / f"{index:03}.wav", str(index).encode()) for index in range(200)]
    memory = ContentMemory(place)

    def work(start):
        some = recordings[start : start + 10]
        memory.look_up(some)
        found = [identify_content(recording, memory) for recording in some]
        memory.save()
        return found

    with ThreadPoolExecutor(8) as pool:
        for some in pool.map(work, range(0, 200, 10)):
            assert all(content.sha256 == content.recording.hash() for content in some)
    memory = ContentMemory(place)
    assert not any(hashes_again(recording, memory) for recording in recordings)


WRITE = """
import sys
from pathlib import Path
from birdemb.embed.contents import ContentMemory
from birdemb.embed.recordings import Recording, Stamp
memory = ContentMemory(Path(sys.argv[1]))
for index in range(10**6):
    memory.keep(Recording(f"memory://x/{index}", "x"), Stamp(1, "tag"), "0" * 64, 0.0)
    if index % 50 == 0:
        memory.save()
        print(index, flush=True)
"""


@pytest.mark.slow
def test_a_kill_leaves_what_was_saved(place):
    for lines in (1, 5, 20):
        process = subprocess.Popen([sys.executable, "-c", WRITE, place], stdout=subprocess.PIPE, text=True)
        try:
            last = [int(process.stdout.readline()) for _ in range(lines)][-1]
        finally:
            process.kill()
            process.communicate()
        memory = ContentMemory(place)
        recalled = [memory.recall(Recording(f"memory://x/{index}", "x"), Stamp(1, "tag")) for index in range(last + 1)]
        assert recalled == ["0" * 64] * (last + 1)
        with closing(sqlite3.connect(place)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.usefixtures("old")
def test_two_runs_at_the_same_time_remember_both(tmp_path, place):
    first, second = ContentMemory(place), ContentMemory(place)
    a, b = recording_at(tmp_path / "a.wav", b"a"), recording_at(tmp_path / "b.wav", b"b")
    identify_content(a, first)
    identify_content(b, second)
    first.save()
    second.save()
    memory = ContentMemory(place)
    assert not hashes_again(a, memory)
    assert not hashes_again(b, memory)


@pytest.mark.usefixtures("old")
def test_what_is_gone_from_a_folder_is_forgotten_and_nothing_else(tmp_path, place):
    kept = [recording_at(tmp_path / name / "a.wav", name.encode()) for name in ("here", "here-too", "elsewhere")]
    memory = learn(place, *kept, recording_at(tmp_path / "here/gone.wav", b"gone"))
    (tmp_path / "here/gone.wav").unlink()
    memory.save(str(tmp_path / "here"), find_recordings(tmp_path / "here").recordings)
    with closing(sqlite3.connect(place)) as connection:
        found = {key for (key,) in connection.execute("SELECT key FROM recordings")}
    assert found == {recording.location for recording in kept}


def test_a_file_that_changes_while_it_is_hashed_is_an_error(tmp_path, place, monkeypatch):
    recording = recording_at(tmp_path / "a.wav")

    def hash_and_change(*_):
        (tmp_path / "a.wav").write_bytes(b"longer than it was")
        return "0" * 64

    monkeypatch.setattr(contents, "_hash", hash_and_change)
    content = identify_content(recording, ContentMemory(place))
    assert "changed while it was read" in str(content.error)


def test_hashing_ends_when_the_run_is_stopped(tmp_path):
    recording = recording_at(tmp_path / "a.wav", bytes(1 << 20))
    asked = []
    content = identify_content(recording, ContentMemory(None), lambda: asked.append(1) or len(asked) == 2)
    assert "stopped" in str(content.error)
    assert len(asked) == 2


def test_a_memory_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").touch()
    memory = ContentMemory(tmp_path / "file/contents.sqlite")
    identify_content(recording_at(tmp_path / "a.wav"), memory)
    memory.save()


@pytest.mark.usefixtures("old")
def test_what_could_not_be_written_is_written_the_next_time(tmp_path):
    recording = recording_at(tmp_path / "a.wav")
    (tmp_path / "place").touch()
    memory = ContentMemory(tmp_path / "place/contents.sqlite")
    identify_content(recording, memory)
    memory.save()
    (tmp_path / "place").unlink()
    memory.save()
    assert not hashes_again(recording, ContentMemory(tmp_path / "place/contents.sqlite"))


def test_nothing_is_written_where_nothing_was_learnt(tmp_path, place):
    memory = ContentMemory(place)
    memory.recall(recording_at(tmp_path / "a.wav"), recording_at(tmp_path / "a.wav").stamp())
    memory.save(str(tmp_path), find_recordings(tmp_path).recordings)
    assert not place.parent.exists()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("https://host/a.wav?id=1", "https://host/a.wav?id=2"),
        ("s3://me:secret@bucket/a.wav", "s3://you:secret@bucket/a.wav"),
    ],
)
def test_urls_that_differ_in_what_is_hidden_do_not_share_a_hash(place, first, second):
    stamp = Stamp(1, "tag")
    memory = ContentMemory(place)
    memory.keep(Recording(first, "a.wav"), stamp, "0" * 64, 0.0)
    memory.save()
    for again in (memory, ContentMemory(place)):
        assert again.recall(Recording(first, "a.wav"), stamp) == "0" * 64
        assert again.recall(Recording(second, "a.wav"), stamp) is None
    assert b"secret" not in place.read_bytes()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    versions=st.lists(st.binary(max_size=20_000), min_size=1, max_size=4),
    ages=st.lists(st.floats(0, 10), min_size=4, max_size=4),
)
def test_whatever_is_written_when_the_hash_is_right(tmp_path, place, versions, ages):
    place.unlink(missing_ok=True)
    for content, age in zip(versions, ages, strict=False):
        recording = recording_at(tmp_path / "a.wav", content, age)
        memory = ContentMemory(place)
        assert identify_content(recording, memory).sha256 == recording.hash()
        memory.save()
