"""Recordings that come into a folder are given out once they are whole."""

import os
import shutil
from pathlib import Path

import pytest
from watch_files import put, sound_of, without_length

from birdemb.embed.arrivals import Arrivals
from birdemb.errors import InputError

ALL = (100, 1 << 40)


class Folder:
    """Arrivals of the folder ``in``, at a time of the test's own."""

    def __init__(self, patience=100.0, knows=lambda *_: False):
        self.now = 0.0
        self.asked = []
        Path("in").mkdir(exist_ok=True)
        self.arrivals = Arrivals(Path("in"), patience=patience, knows=self._knows(knows), clock=lambda: self.now)

    def _knows(self, knows):
        def ask(recording, stamp):
            self.asked.append(recording.name)
            return knows(recording, stamp)

        return ask

    def look(self, seconds=1.0):
        """Look once more, so much later, and give the names of what is ready."""
        self.now += seconds
        self.arrivals.look()
        return self.names()

    def names(self):
        return [arrival.recording.name for arrival in self.arrivals.take(*ALL)]

    def settle(self):
        for arrival in self.arrivals.take(*ALL):
            self.arrivals.settle(arrival)


def test_recording_is_given_when_two_looks_find_it_the_same_and_until_it_is_settled():
    folder = Folder()
    put("a.wav", sound_of())()
    assert [folder.look(), folder.look(), folder.look()] == [[], ["a.wav"], ["a.wav"]]
    folder.settle()
    assert [folder.look(), folder.look()] == [[], []]
    assert folder.asked == ["a.wav"]


def test_what_is_known_from_before_is_not_given():
    folder = Folder(knows=lambda recording, stamp: recording.name == "a.wav" and stamp.size > 0)
    put("a.wav", sound_of())()
    put("b.wav", sound_of())()
    assert [folder.look(), folder.look()] == [[], ["b.wav"]]
    assert folder.asked == ["a.wav", "b.wav"]


def test_growing_recording_is_not_given_before_its_end():
    folder = Folder()
    content = sound_of(20)
    quarter = -(-len(content) // 4)
    with Path("in/a.wav").open("wb") as file:
        for start in range(0, len(content), quarter):
            file.write(content[start : start + quarter])
            file.flush()
            whole = start + quarter >= len(content)
            assert [folder.look(), folder.look()] == [[], ["a.wav"] if whole else []]  # its header promises more


def test_header_that_leaves_the_length_open_is_waited_for():
    folder = Folder(patience=10)
    put("a.wav", without_length(sound_of()))()
    assert [folder.look(), folder.look(), folder.look(8)] == [[], [], []]
    assert folder.look() == ["a.wav"]  # ten seconds after it was first seen
    assert folder.arrivals.take(*ALL)[0].is_late


def test_length_that_is_filled_in_at_the_end_makes_it_whole():
    folder = Folder(patience=1e9)
    put("a.wav", without_length(sound_of()))()
    assert [folder.look(), folder.look()] == [[], []]
    put("a.wav", sound_of())()
    assert [folder.look(), folder.look()] == [[], ["a.wav"]]


def test_recording_that_was_moved_into_its_place_is_given():
    folder = Folder()
    put("x.tmp", sound_of())()
    with pytest.raises(InputError, match="No recording"):
        folder.look()
    Path("in/x.tmp").rename("in/x.wav")
    assert [folder.look(), folder.look()] == [[], ["x.wav"]]


def test_broken_recording_is_given_once_and_once_more_when_it_is_late():
    folder = Folder(patience=10)
    put("a.wav", sound_of())()
    assert [folder.look(), folder.look()] == [[], ["a.wav"]]
    (arrival,) = folder.arrivals.take(*ALL)
    folder.arrivals.postpone(arrival)
    assert [folder.look(), folder.look(7)] == [[], []]
    assert folder.look() == ["a.wav"]
    folder.settle()
    assert folder.look(100) == []
    put("a.wav", sound_of(3))()
    assert [folder.look(), folder.look()] == [[], ["a.wav"]]


def test_what_was_changed_while_it_was_read_is_given_again_at_once():
    folder = Folder()
    put("a.wav", sound_of())()
    folder.look()
    folder.look()
    (arrival,) = folder.arrivals.take(*ALL)
    folder.arrivals.renew(arrival)
    assert folder.names() == []
    assert folder.look() == ["a.wav"]


def test_what_is_gone_is_forgotten():
    folder = Folder()
    for name in ("a.wav", "b.wav", "c.wav"):
        put(name, sound_of())()
    folder.look()
    folder.look()
    folder.arrivals.settle(folder.arrivals.take(1, 1)[0])
    for name in ("a.wav", "b.wav"):
        Path("in", name).unlink()
    assert folder.look() == ["c.wav"]
    put("a.wav", sound_of())()
    assert [folder.look(), folder.look()] == [["c.wav"], ["c.wav", "a.wav"]]
    assert folder.asked == ["a.wav", "b.wav", "c.wav", "a.wav"]


def test_folder_that_is_gone_for_a_while_changes_nothing():
    folder = Folder()
    put("a.wav", sound_of())()
    put("b.wav", sound_of())()
    folder.look()
    folder.look()
    folder.arrivals.settle(folder.arrivals.take(1, 1)[0])
    Path("in").rename("away")
    with pytest.raises(InputError, match="There is no folder"):
        folder.look()
    Path("in").mkdir()  # where a drive was mounted
    with pytest.raises(InputError, match="No recording"):
        folder.look()
    shutil.rmtree("in")
    Path("away").rename("in")
    assert folder.look() == ["b.wav"]
    assert folder.asked == ["a.wav", "b.wav"]


@pytest.mark.skipif(os.name != "posix", reason="made of POSIX files")
def test_what_cannot_be_looked_at_is_given_when_it_is_late():
    folder = Folder(patience=5)
    Path("in/link.wav").symlink_to("nothing")
    os.mkfifo("in/pipe.wav")
    Path("in/folder.wav").mkdir()
    assert [folder.look(), folder.look(), folder.look(2)] == [[], [], []]
    assert folder.look(2) == ["folder.wav", "link.wav", "pipe.wav"]


def test_few_are_taken_at_a_time_and_the_first_that_came_first():
    folder = Folder()
    size = len(sound_of())
    put("z.wav", sound_of())()
    folder.look()
    folder.look()
    for name in "abc":
        put(f"{name}.wav", sound_of())()
    folder.look()
    folder.look()
    assert folder.names() == ["z.wav", "a.wav", "b.wav", "c.wav"]
    assert len(folder.arrivals.take(2, 1 << 40)) == 2
    assert len(folder.arrivals.take(9, size)) == 1
    assert len(folder.arrivals.take(9, size + 1)) == 2
    assert (folder.arrivals.ready, folder.arrivals.longest_wait) == (4, 3.0)
