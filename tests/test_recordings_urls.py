"""Recordings at URLs: what fsspec reads is found, stamped and decoded as files are."""

import hashlib
import os
import re
import subprocess
import sys
from typing import ClassVar

import fsspec
import numpy as np
import pytest
from audio_files import decode, make_noise, recording_of, refusal, wav_bytes, write_audio
from fsspec import AbstractFileSystem
from fsspec.spec import AbstractBufferedFile

from birdemb.embed.audio import Decoder
from birdemb.embed.recordings import Recording, find_recordings
from birdemb.embed.remote import hide_secrets, is_url
from birdemb.embed.windows import Part, WindowGrid, plan_parts, stream_windows
from birdemb.errors import InputError, MissingDependencyError


class FailingFile(AbstractBufferedFile):
    def _fetch_range(self, start, end):
        if end > self.fs.good_bytes:
            raise self.fs.error
        return self.fs.content[start:end]


class FailingFilesystem(AbstractFileSystem):
    """A server that breaks off: one file, of which no more than the first bytes can be read."""

    protocol = "failing"
    cachable = False
    content = wav_bytes(np.ones(1_000_000, np.int16), 8_000)
    good_bytes = 0
    error: Exception = OSError("the line is cut")

    def info(self, path, **kwargs):  # noqa: ARG002
        return {"name": path, "size": len(self.content), "type": "file"}

    def ls(self, path, detail=True, **kwargs):  # noqa: ARG002
        return [self.info(path)] if detail else [path]

    def _open(self, path, mode="rb", **kwargs):  # noqa: ARG002
        return FailingFile(self, path, mode, block_size=65536, cache_type="readahead", size=len(self.content))


fsspec.register_implementation("failing", FailingFilesystem, clobber=True)


@pytest.fixture
def memory():
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    yield filesystem
    filesystem.store.clear()


def test_a_stamp_at_a_url_changes_with_the_content(memory):
    memory.pipe_file("/a.wav", b"one")
    recording = Recording("memory://a.wav", "a.wav")
    before = recording.stamp()
    assert recording.stamp() == before
    memory.pipe_file("/a.wav", b"two")
    assert recording.stamp() != before
    assert Recording("failing://a.wav", "a.wav").stamp().tag == ""


class ListingFilesystem(AbstractFileSystem):
    """Files that are known from a list of their folder, which is kept, as of several real filesystems."""

    protocol = "listing"
    sizes: ClassVar = {}

    def ls(self, path, detail=True, **kwargs):  # noqa: ARG002
        path = self._strip_protocol(path)
        if path not in self.dircache:
            below = {name: size for name, size in self.sizes.items() if name.startswith(f"{path}/")}
            self.dircache[path] = [{"name": name, "size": size, "type": "file"} for name, size in below.items()]
        return self.dircache[path] if detail else [entry["name"] for entry in self.dircache[path]]

    def invalidate_cache(self, path=None):
        if path is None:
            self.dircache.clear()
        else:
            self.dircache.pop(path, None)


fsspec.register_implementation("listing", ListingFilesystem, clobber=True)


def test_a_change_after_the_listing_is_seen(monkeypatch):
    monkeypatch.setattr(ListingFilesystem, "sizes", {"b/a.wav": 1})
    (recording,) = find_recordings("listing://b").recordings
    for size in (2, 3):  # a stamp may fill the list again
        monkeypatch.setattr(ListingFilesystem, "sizes", {"b/a.wav": size})
        assert recording.stamp().size == size


def test_what_was_listed_is_not_kept(monkeypatch):
    monkeypatch.setattr(ListingFilesystem, "sizes", {"b/a.wav": 1})
    (recording,) = find_recordings("listing://b").recordings
    assert not fsspec.filesystem("listing").dircache
    monkeypatch.setattr(ListingFilesystem, "sizes", {})
    with pytest.raises(InputError, match="no folder or file"):
        find_recordings("listing://b")
    assert not fsspec.filesystem("listing").dircache
    assert "No such file" in refusal(recording.stamp).reason


def test_a_url_is_listed_as_a_folder_is(memory):
    for name in ("b/2.ogg", "b/10.flac", "a.WAV", "b.wav", ".x.wav", ".y/a.wav", "notes.txt"):
        memory.pipe_file(f"/sounds/{name}", b"x")
    memory.pipe_file("/soundscapes/other.wav", b"x")
    for url in ("memory://sounds", "memory://sounds/", "memory:///sounds"):
        result = find_recordings(url)
        assert [recording.name for recording in result.recordings] == ["a.WAV", "b/10.flac", "b/2.ogg", "b.wav"]
        assert result.folder == url.rstrip("/")
        assert result.recordings[0].is_remote
        assert result.recordings[0].hash() == hashlib.sha256(b"x").hexdigest()


def test_one_recording_may_be_given_by_its_url(memory):
    memory.pipe_file("/sounds/a.wav", b"x")
    result = find_recordings("memory://sounds/a.wav")
    assert result.recordings == [Recording("memory://sounds/a.wav", "a.wav")]
    assert result.folder == "memory://sounds"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("memory://nothing", "There is no folder or file memory://nothing"),
        ("memory://notes", "No recording in memory://notes"),
        ("memory://notes/a.txt", "no recording by its name"),
        ("nonsense://bucket/a", "no protocol 'nonsense'"),
        ("zip://*.wav::memory://a.zip", "joins several URLs"),
        ("simplecache::memory://notes", "joins several URLs"),
    ],
)
def test_a_url_without_recordings_is_told(memory, url, told):
    memory.pipe_file("/notes/a.txt", b"x")
    with pytest.raises(InputError, match=re.escape(told)):
        find_recordings(url)


@pytest.mark.parametrize("location", ["memory://names", "s3://bucket/birds"])
def test_without_fsspec_the_extra_is_named(tmp_path, location):
    (tmp_path / "fsspec.py").write_text("raise ImportError('not here')")
    code = (
        "from birdemb.embed.recordings import find_recordings\n"
        "from birdemb.errors import MissingDependencyError\n"
        f"try: find_recordings({location!r})\n"
        "except MissingDependencyError as error: print(error)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert "pip install 'birdemb[remote]'" in told.stdout, told.stderr
    assert ("s3fs" in told.stdout) == location.startswith("s3")


def test_without_the_package_of_a_protocol_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingDependencyError, match="pip install s3fs"):
        find_recordings("s3://bucket/birds")


@pytest.mark.parametrize("good_bytes", [0, 65536 * 2, 1_500_000])
@pytest.mark.parametrize("error", [OSError("the line is cut"), TimeoutError("no answer"), ValueError("no ranges")])
def test_an_error_while_a_url_is_read_is_the_recordings(monkeypatch, capfd, good_bytes, error):
    monkeypatch.setattr(FailingFilesystem, "good_bytes", good_bytes)
    monkeypatch.setattr(FailingFilesystem, "error", error)
    recording = Recording("failing://a.wav", "a.wav")
    for act in (
        lambda: list(Decoder(recording, 8_000).blocks()),
        lambda: list(stream_windows(recording, 8_000, WindowGrid())),
        lambda: list(stream_windows(recording, 8_000, WindowGrid(), Part(20, None))),
        recording.hash,
        recording.hash_edges,
    ):
        caught = refusal(act)
        assert caught.stage == "read"
        assert str(error) in caught.reason
    assert capfd.readouterr().err == ""  # libsndfile's callbacks would print what they raise


def test_a_url_gives_the_samples_of_the_file(tmp_path, memory):
    path = write_audio(tmp_path / "a.wav", make_noise(3_000_000), 44_100)
    memory.put_file(path, "/a.wav")
    remote = Recording("memory://a.wav", "a.wav")
    got = np.concatenate(list(Decoder(remote, 48_000).blocks()))
    np.testing.assert_array_equal(got, decode(path, 48_000))
    parts = plan_parts(remote, 48_000, WindowGrid(), part_seconds=20)
    assert parts == plan_parts(recording_of(path), 48_000, WindowGrid(), part_seconds=20)
    assert len(parts) == 3
    for part in parts:
        for here, there in zip(
            stream_windows(recording_of(path), 48_000, WindowGrid(), part),
            stream_windows(remote, 48_000, WindowGrid(), part),
            strict=True,
        ):
            np.testing.assert_array_equal(here[0], there[0])


def test_a_password_in_a_url_is_not_repeated(monkeypatch):
    monkeypatch.setattr(FailingFilesystem, "error", OSError("failing://me:secret@host/a.wav: cut"))
    result = find_recordings("failing://me:secret@host/a.wav")
    (recording,) = result.recordings
    assert "secret" in recording.location
    for text in (result.folder, repr(result), str(refusal(recording.hash))):
        assert "secret" not in text
        assert "host" in text or "cut" in text
    with pytest.raises(InputError, match="//host") as caught:
        find_recordings("nonsense://me:secret@host/birds")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://bucket/a@b.wav", "s3://bucket/a@b.wav"),
        ("ftp://me:secret@host/a.wav", "ftp://host/a.wav"),
        ("ftp://me:se@cret@host/a.wav", "ftp://host/a.wav"),
        ("no https://host/a.wav?X-Signature=secret here", "no https://host/a.wav here"),
        ("s3://bucket/what?.wav", "s3://bucket/what?.wav"),
    ],
)
def test_secrets_are_hidden_and_nothing_else(text, shown):
    assert hide_secrets(text) == shown


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("s3://b", True),
        ("s3a+x://b", True),
        ("simplecache::s3://b", True),
        ("a/b.wav", False),
        ("C://sounds", False),
        ("a::b.wav", False),
        ("/data/s3://b", False),
    ],
)
def test_urls_are_told_from_paths(location, expected):
    assert is_url(location) == expected
