"""The planner: what is read from which recording, what is said of those that fail, and how it ends."""

import threading

import pytest
from run_files import write_noise

from birdemb.cache import EmbeddingCache
from birdemb.embed import planning
from birdemb.embed.contents import Content, ContentMemory
from birdemb.embed.planning import Planner
from birdemb.embed.recordings import Stamp, find_recordings
from birdemb.embed.windows import PART_SECONDS, Part, WindowGrid, plan_parts
from birdemb.errors import RecordingError
from birdemb.progress import Progress


@pytest.fixture
def planner(tmp_path):
    """Makes a planner for a folder."""

    def make(folder="data", memory=None):
        found = find_recordings(tmp_path / folder)
        return Planner(
            found,
            EmbeddingCache(tmp_path / "cache", {"encoder": "none", "dim": 8}),
            threading.Lock(),
            sample_rate=8000,
            grid=WindowGrid(),
            memory=memory or ContentMemory(None),
            progress=Progress("planning", len(found.recordings), shown=False),
        )

    return make


def make_copies(folder, number):
    for index in range(number):
        write_noise(folder / f"{index}.wav", 3)


def take_all(planner):
    pieces = []
    while (task := planner.take(wait=True)) is not None:
        pieces += task
    return pieces


def fail_for(monkeypatch, names, error):
    """Let recordings of these names fail when they are split."""

    def split(recording, *args):
        if recording.name in names:
            raise error
        return plan_parts(recording, *args)

    monkeypatch.setattr(planning, "plan_parts", split)


@pytest.mark.parametrize("at_once", [1, 2, 256])
@pytest.mark.parametrize("unreadable", [["0.wav"], ["0.wav", "1.wav"], ["0.wav", "2.wav"]])
def test_content_that_one_recording_cannot_give_is_read_from_another(
    tmp_path, planner, monkeypatch, at_once, unreadable
):
    make_copies(tmp_path / "data", 4)
    monkeypatch.setattr(planning, "_RECORDINGS_AT_ONCE", at_once)
    fail_for(monkeypatch, unreadable, RecordingError("read", "it cannot be opened: no right"))
    with planner() as running:
        (piece,) = take_all(running)
        assert piece.recording.name == min({"1.wav", "2.wav"} - set(unreadable), default="3.wav")
        assert running.finish(piece.sha256, None)
    assert [running.error_of(content) for content in running.contents] == [None] * 4


@pytest.mark.parametrize("at_once", [1, 256])
def test_each_recording_that_cannot_be_read_has_a_reason_of_its_own(tmp_path, planner, monkeypatch, at_once):
    make_copies(tmp_path / "data", 3)
    monkeypatch.setattr(planning, "_RECORDINGS_AT_ONCE", at_once)
    error = RecordingError("read", "it cannot be opened: no right")
    fail_for(monkeypatch, ["0.wav", "1.wav", "2.wav"], error)
    with planner() as running:
        assert take_all(running) == []
    assert [running.error_of(content) for content in running.contents] == [error] * 3


def test_damaged_content_is_tried_once(tmp_path, planner, monkeypatch):
    make_copies(tmp_path / "data", 3)
    tried = []

    def split(recording, *_):
        tried.append(recording.name)
        raise RecordingError("decode", "damaged")

    monkeypatch.setattr(planning, "plan_parts", split)
    with planner() as running:
        take_all(running)
    assert tried == ["0.wav"]
    reasons = [running.error_of(content).reason for content in running.contents]
    assert reasons == ["damaged"] + ["its content is the same as that of 0.wav: damaged"] * 2


@pytest.mark.parametrize(
    "reason", ["it changed while it was read; run the command again", "it changed while it was read"]
)
def test_a_failure_of_another_recording_is_told_as_such(tmp_path, planner, reason):
    make_copies(tmp_path / "data", 2)
    error = RecordingError("read", reason)
    with planner() as running:
        (piece,) = take_all(running)
        running.finish(piece.sha256, error)
    first, second = (running.error_of(content) for content in running.contents)
    assert first == error
    assert second.stage == "read"
    assert second.reason == (
        "its content is the same as that of 0.wav, which could not be read: it changed while it was read; "
        "run the command again"
    )


def test_what_is_empty_is_told_to_be_empty(tmp_path, planner):
    (tmp_path / "data").mkdir()
    for name in ("a.wav", "b.wav"):
        (tmp_path / "data" / name).touch()
    error = RecordingError("read", "the file is empty (0 bytes)")
    with planner() as running:
        (piece,) = take_all(running)
        running.finish(piece.sha256, error)
    assert [running.error_of(content) for content in running.contents] == [error] * 2


def test_a_stop_waits_for_no_more_than_is_being_opened(tmp_path, planner, monkeypatch):
    for index in range(100):
        write_noise(tmp_path / f"data/{index:02}.wav", 0.1, seed=index)
    last_batch = 63  # where the last batch begins, as they double
    opened, waiting, stopped = [], threading.Event(), threading.Event()

    def open_slowly(recording, *args):
        opened.append(recording.name)
        if len(opened) > last_batch:
            waiting.set()
            stopped.wait(60)
        return plan_parts(recording, *args)

    monkeypatch.setattr(planning, "plan_parts", open_slowly)
    with planner() as running:
        assert waiting.wait(60)
        running._stop.set()
        stopped.set()
    assert last_batch < len(opened) <= last_batch + 2 * planning._THREADS


def test_what_is_learnt_is_saved_while_the_planner_works(tmp_path, planner, monkeypatch):
    make_copies(tmp_path / "data", 3)
    monkeypatch.setattr(planning, "_SECONDS_BETWEEN_SAVES", -1.0)
    monkeypatch.setattr("birdemb.embed.contents._RACY_SECONDS", -1.0)
    with planner(memory=ContentMemory(tmp_path / "contents.sqlite")) as running:
        take_all(running)
    memory = ContentMemory(tmp_path / "contents.sqlite")
    for content in running.contents:
        assert memory.recall(content.recording, content.stamp) == content.sha256


def test_the_last_part_is_guessed_to_be_longer_than_the_others(tmp_path, planner):
    make_copies(tmp_path / "data", 1)
    (recording,) = find_recordings(tmp_path / "data").recordings
    content = Content(recording, "0" * 64, Stamp(10, ""))
    assert planner()._guess_seconds(content, Part(24, None)) == 1.5 * PART_SECONDS
