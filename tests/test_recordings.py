"""Where recordings are found, on this machine and at URLs, and what is told of them before they are decoded."""

import hashlib
import os
import pickle
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pytest
from audio_files import decode, make_noise, recording_of, refusal, wav_bytes, write_audio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birdemb.embed.audio import Decoder
from birdemb.embed.recordings import AUDIO_SUFFIXES, Recording, find_recordings
from birdemb.errors import InputError

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def memory():
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    yield filesystem
    filesystem.store.clear()


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(place):
    return [recording.name for recording in find_recordings(place).recordings]


def test_recordings_are_found_sorted_in_folders_of_any_depth(tmp_path):
    names = ["b/2.ogg", "b/10.flac", "a.wav", "c/d/e/f.mp3", "b.wav"]
    touch(tmp_path, *names)
    assert found(tmp_path) == ["a.wav", "b/10.flac", "b/2.ogg", "b.wav", "c/d/e/f.mp3"]


def test_a_folder_is_told_absolute_wherever_one_stands(tmp_path, monkeypatch):
    touch(tmp_path, "data/deep/a.wav")
    monkeypatch.chdir(tmp_path)
    for given_place in ("data", "data/deep/..", tmp_path / "data"):
        result = find_recordings(given_place)
        assert result.folder == str(tmp_path / "data")
        assert result.recordings == [Recording(str(tmp_path / "data/deep/a.wav"), "deep/a.wav")]


def test_each_known_suffix_is_found_in_any_case(tmp_path):
    names = [f"a{suffix}" for suffix in AUDIO_SUFFIXES] + [f"b{suffix.upper()}" for suffix in AUDIO_SUFFIXES]
    touch(tmp_path, "notes.txt", "wav", "train.csv", "a.wav.txt", *names)
    assert found(tmp_path) == sorted(names)
    assert {recording.suffix for recording in find_recordings(tmp_path).recordings} == AUDIO_SUFFIXES


def test_hidden_files_and_folders_are_left_out(tmp_path):
    touch(tmp_path, "._a.wav", ".hidden/b.wav", ".wav", ".folder.wav/c.wav", "d.wav")
    assert found(tmp_path) == ["d.wav"]


def test_a_link_to_a_folder_above_ends(tmp_path):
    touch(tmp_path, "data/a.wav", "data/deep/b.wav")
    (tmp_path / "data/deep/up").symlink_to(tmp_path / "data")
    assert found(tmp_path / "data") == ["a.wav", "deep/b.wav"]


def test_a_linked_folder_is_followed_once(tmp_path):
    touch(tmp_path, "elsewhere/a.wav", "data/b.wav")
    for name in ("first", "second"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "elsewhere")
    assert found(tmp_path / "data") == ["b.wav", "first/a.wav"]


def test_a_linked_file_and_a_dangling_link_are_listed(tmp_path):
    touch(tmp_path, "elsewhere/a.wav", "data/b.wav")
    (tmp_path / "data/c.wav").symlink_to(tmp_path / "elsewhere/a.wav")
    (tmp_path / "data/gone.wav").symlink_to(tmp_path / "nothing.wav")
    assert found(tmp_path / "data") == ["b.wav", "c.wav", "gone.wav"]


def test_a_folder_called_as_a_recording_is_listed_and_searched(tmp_path):
    touch(tmp_path, "x.wav/a.wav")
    assert found(tmp_path) == ["x.wav", "x.wav/a.wav"]


@pytest.mark.parametrize("start", ["", "file://"])
def test_a_recording_may_be_given_itself(tmp_path, start):
    touch(tmp_path, "a.WAV", "b.wav")
    result = find_recordings(f"{start}{tmp_path / 'a.WAV'}")
    assert result.recordings == [Recording(str(tmp_path / "a.WAV"), "a.WAV")]
    assert result.folder == str(tmp_path)


def test_a_url_of_a_file_here_may_hold_what_urls_write_otherwise(tmp_path):
    touch(tmp_path, "två fåglar/a b.wav")
    result = find_recordings((tmp_path / "två fåglar").as_uri())
    assert result.recordings == [Recording(str(tmp_path / "två fåglar/a b.wav"), "a b.wav")]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_url_of_a_file_on_a_drive_is_its_path(monkeypatch):
    windows = pytest.importorskip("nturl2path", reason="no longer in Python").url2pathname
    monkeypatch.setattr("birdemb.embed.recordings.url2pathname", windows)
    with pytest.raises(InputError, match=re.escape("folder or file C:\\sounds\\a.wav (")):
        find_recordings("file:///C:/sounds/a.wav")
    with pytest.raises(InputError, match="Give its path instead"):
        find_recordings("file:///C:/sounds:/a.wav")


@pytest.mark.parametrize(
    ("given_path", "told"),
    [
        ("empty", "No recording in"),
        ("no_audio", "No recording in"),
        ("missing", "no folder or file"),
        ("no_audio/notes.txt", "no recording by its name"),
        ("a" * 300, "cannot be looked at"),
    ],
)
def test_where_there_is_no_recording_the_error_says_so(tmp_path, given_path, told):
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "no_audio/notes.txt")
    with pytest.raises(InputError, match=told) as caught:
        find_recordings(tmp_path / given_path)
    assert str(tmp_path / given_path) in str(caught.value)


@pytest.mark.skipif(AS_ROOT, reason="root may read everything")
def test_a_locked_folder_is_listed(tmp_path):
    touch(tmp_path, "a.wav", "locked/b.wav")
    (tmp_path / "locked").chmod(0)
    try:
        recordings = find_recordings(tmp_path).recordings
        assert [recording.name for recording in recordings] == ["a.wav", "locked"]
        assert refusal(recordings[1].open).reason == "it is a folder that may not be read"
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_a_recording_is_small_when_it_is_sent_and_the_same_when_it_arrives(tmp_path):
    recording = Recording(str(tmp_path / "a.wav"), "a.wav")
    assert pickle.loads(pickle.dumps(recording)) == recording  # noqa: S301 - its own
    assert len(pickle.dumps(recording)) < 300


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 8191, 8192, 100_000, 5_000_000])
def test_hashes_are_those_of_the_content(tmp_path, memory, size):
    content = np.random.default_rng(size).bytes(size)
    (tmp_path / "a.wav").write_bytes(content)
    memory.pipe_file("/a.wav", content)
    for recording in (recording_of(tmp_path / "a.wav"), Recording("memory://a.wav", "a.wav")):
        assert recording.hash() == hashlib.sha256(content).hexdigest()
        assert recording.hash_edges() == hashlib.sha256(content[:4096] + content[-4096:]).hexdigest()
        assert recording.stamp().size == size


def test_a_stamp_stays_until_the_content_changes(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"one")
    before = recording_of(path).stamp()
    assert recording_of(path).stamp() == before
    os.utime(path, (0, 0))
    assert recording_of(path).stamp() != before
    (tmp_path / "b.wav").write_bytes(b"two")
    os.utime(tmp_path / "b.wav", (0, 0))
    before = recording_of(path).stamp()
    (tmp_path / "b.wav").replace(path)  # of the same size and time
    assert recording_of(path).stamp() != before


def make_folder(path):
    path.mkdir()


def make_pipe(path):
    os.mkfifo(path)


def make_loop(path):
    path.symlink_to(path)


def make_dangling(path):
    path.symlink_to(path.parent / "nothing")


def make_nothing(path):
    pass


@pytest.mark.skipif(os.name != "posix", reason="neither pipes nor links")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_folder, "it is a folder, not a file"),
        (make_pipe, "it is a pipe or device, not a file"),
        (make_loop, "Too many levels of symbolic links"),
        (make_dangling, "No such file"),
        (make_nothing, "No such file"),
    ],
)
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, make, reason):
    make(tmp_path / "x.wav")
    recording = recording_of(tmp_path / "x.wav")
    for act in (recording.open, recording.stamp, recording.hash, recording.hash_edges):
        error = refusal(act)
        assert error.stage == "read"
        assert reason in error.reason
        assert "x.wav" not in error.reason


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_no_text_is_listed_and_refused(tmp_path):
    (tmp_path / os.fsdecode(b"a\xff.wav")).touch()
    (recording,) = find_recordings(tmp_path).recordings
    assert "not valid UTF-8" in refusal(recording.stamp).reason


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    stem=st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
        lambda stem: not stem.startswith(".")
    )
)
def test_a_file_of_any_name_is_found_and_read(tmp_path_factory, memory, stem):
    folder = tmp_path_factory.mktemp("names")
    content = wav_bytes(np.arange(100, dtype=np.int16), 8_000)
    memory.store.clear()
    memory.pipe_file(f"/names/{stem}.wav", content)
    (folder / f"{stem}.wav").write_bytes(content)
    for place in (folder, "memory://names"):
        (recording,) = find_recordings(place).recordings
        assert recording.name == f"{stem}.wav"
        assert sum(len(block) for block in Decoder(recording, 8_000).blocks()) == 100


def test_recordings_are_read_by_several_threads_at_once(tmp_path):
    path = write_audio(tmp_path / "a.wav", make_noise(200_000), 48_000)
    expected = decode(path, 32_000)
    with ThreadPoolExecutor(4) as threads:
        for got in threads.map(lambda _: decode(path, 32_000), range(20)):
            np.testing.assert_array_equal(got, expected)
