"""Several hundred damaged files at once: each is read right or refused, and the good ones among them are all there."""

import csv
import faulthandler
import math
import os
import struct
from collections import Counter

import numpy as np
import pytest
import soundfile
from audio_files import CONTAINERS, make_noise, recording_of, wav_bytes, write_audio
from hypothesis import given, settings
from hypothesis import strategies as st

from birdemb.embed.recordings import find_recordings
from birdemb.embed.windows import Part, WindowGrid, plan_parts, stream_windows
from birdemb.embedding import embed_recordings
from birdemb.errors import RecordingError

RATE = 8_000
SECONDS = 7
WINDOWS = 2
GRID = WindowGrid()
NAMES = ("wav16", "wav24", "wavfloat", "rf64", "w64", "flac", "vorbis", "opus", "mp3", "aiff", "au", "caf")
KINDS = [container for container in CONTAINERS if container.name in NAMES]
CUT_IS_ALWAYS_SEEN = frozenset(NAMES) - {"mp3", "caf"}
HANGS_AFTER = 120  # seconds; the test process then ends with a traceback

CUTS = (0.0002, 0.001, 0.003, 0.01, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.97, 0.999)
HEADER_CUTS = (1, 4, 11, 20, 37, 43, 60)
ODD_NAMES = ("with blank", " ", "bird 🐦", "two\nlines", "quote\"'", "-n", "%s", "x" * 200)


class Written(dict):
    """Seven seconds in every container, as bytes by its name."""

    def __repr__(self):
        return "written"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder, samples = tmp_path_factory.mktemp("written"), make_noise(SECONDS * RATE)
    return Written(
        (kind.name, write_audio(folder / f"{kind.name}{kind.suffix}", samples, RATE, kind).read_bytes())
        for kind in KINDS
    )


def damage(content, rng):
    """Give damaged copies of a file by what was done to them."""
    size = len(content)
    for cut in CUTS:
        yield f"cut-{cut}", content[: int(cut * size)]
    for cut in HEADER_CUTS:
        yield f"cut-header-{cut}", content[:cut]
    for index, place in enumerate([*rng.integers(0, 64, 10), *rng.integers(64, size, 6)]):
        yield f"flip-{index}", flip(content, place, int(rng.integers(1, 256)))
    middle = size // 2
    yield "zeros-in-front", bytes(64) + content[64:]
    yield "zeros-in-the-middle", content[:middle] + bytes(512) + content[middle + 512 :]
    yield "nothing-but-zeros", bytes(size)
    yield "inserted", content[:middle] + rng.bytes(1000) + content[middle:]
    yield "lost", content[:middle] + content[middle + 1000 :]
    yield "twice", content + content
    yield "noise-behind", content + rng.bytes(1000)
    yield "noise-in-front", rng.bytes(100) + content


def flip(content, place, mask):
    return content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :]


def overwrite(content, place, layout, *values):
    field = struct.pack(layout, *values)
    return content[:place] + field + content[place + len(field) :]


def odd_wavs():
    """WAVs whose headers say what cannot be, by what they say."""
    samples = np.ones(RATE, np.int16)
    wav = wav_bytes(samples, RATE)
    for rate in (0, 1, 7, 500_001, 2**31 - 1, 2**32 - 1):
        yield f"rate-{rate}", overwrite(wav, 24, "<I", rate)
    for channels in (0, 2, 255, 1024, 1025, 65_535):
        yield f"channels-{channels}", overwrite(wav, 22, "<H", channels)
        align = channels * 2 % 65_536
        yield f"aligned-channels-{channels}", overwrite(wav, 22, "<HIIH", channels, RATE, 0xFFFF_FFFF, align)
    for bits in (0, 1, 7, 64, 65_535):
        yield f"bits-{bits}", overwrite(wav, 34, "<H", bits)
    for align in (0, 1, 3, 65_535):
        yield f"align-{align}", overwrite(wav, 32, "<H", align)
    for coding in (0, 2, 3, 17, 0x31, 0xFFFE, 0xFFFF):
        yield f"coding-{coding}", overwrite(wav, 20, "<H", coding)
    for declared in (0, 1, RATE, 4 * RATE, 0x7FFF_FFFF, 0xFFFF_FFFE, 0xFFFF_FFFF):
        yield f"length-{declared}", wav_bytes(samples, RATE, declared=declared)
        yield f"length-{declared}-in-4-gb", wav_bytes(samples, RATE, declared=declared, riff=0xFFFF_FFFF)
    yield "text", b"Once upon a time there was a wren.\n" * 50
    yield "empty", b""


def make_corpus(folder, written):
    """Write the damaged files, and a good one of every container among them in every folder."""
    rng = np.random.default_rng(3)
    suffixes = {kind.name: kind.suffix for kind in KINDS}
    for name, content in written.items():
        (folder / name).mkdir(parents=True)
        for what, damaged in damage(content, rng):
            (folder / name / f"{what}{suffixes[name]}").write_bytes(damaged)
        (folder / name / f"good{suffixes[name]}").write_bytes(content)
    (folder / "odd").mkdir()
    for what, content in odd_wavs():
        (folder / "odd" / f"{what}.wav").write_bytes(content)
    for name in ODD_NAMES:
        (folder / "odd" / f"{name}.wav").write_bytes(written["wav16"])
    (folder / "odd" / "good.wac").write_bytes(written["wav16"])  # what a file is, its content tells
    (folder / "odd" / "cut.m4a").write_bytes(b"\0\0\0\x1cftypM4A " + bytes(1000))
    (folder / "x.wav").mkdir()
    (folder / "x.wav" / "good.wav").write_bytes(written["wav16"])
    if os.name == "posix":
        (folder / "loop.wav").symlink_to(folder / "loop.wav")
        (folder / "dangling.wav").symlink_to(folder / "nothing")
        (folder / "around").symlink_to(folder)
        os.mkfifo(folder / "pipe.wav")
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, written):
    return make_corpus(tmp_path_factory.mktemp("corpus") / "sounds", written)


class SoundFile(soundfile.SoundFile):
    """Without soundfile's own seek after each read, which fails at the end of a FLAC of unknown length."""

    def seekable(self):
        return False


def count_windows(location):
    """Count the windows of what libsndfile gives of a file, without the library."""
    samples = 0
    with SoundFile(location) as file:
        while len(block := file.read(min(65_536 // file.channels + 1, file.frames - samples), always_2d=True)):
            samples += len(block)
        return max(1, math.ceil(samples / (5 * file.samplerate)))


def embed(recording, rate=RATE, seconds=None):
    """Count the windows of a recording, or give what is wrong with it."""
    faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
    try:
        # Seconds of a part, so that short sounds have several.
        parts = (
            plan_parts(recording, rate, GRID)
            if seconds is None
            else plan_parts(recording, rate, GRID, part_seconds=seconds, smallest_bytes=0)
        )
        count = 0
        for part in parts:
            for windows, _ in stream_windows(recording, rate, GRID, part):
                assert np.isfinite(windows).all()
                assert windows.shape[1:] == (5 * rate,)
                count += len(windows)
        return count
    except RecordingError as error:
        return error
    finally:
        faulthandler.cancel_dump_traceback_later()


def must_be_refused(name):
    folder, _, what = name.partition("/")
    cut = folder in CUT_IS_ALWAYS_SEEN and what.startswith("cut-")
    return cut or what.startswith(("empty", "text", "nothing-but-zeros")) or name.endswith(".m4a")


def must_be_read(name):
    return "/good." in name


def test_there_are_hundreds_of_them(corpus):
    names = [recording.name for recording in find_recordings(corpus).recordings]
    assert len(names) == len(set(names))
    assert sum(not must_be_read(name) for name in names) >= 400
    assert sum(must_be_read(name) for name in names) == len(KINDS) + 2
    assert not any(name.startswith("around/") for name in names)


@pytest.mark.parametrize("rate", [RATE, pytest.param(32_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("seconds", [None, pytest.param(5, marks=pytest.mark.slow)])
def test_each_is_read_to_its_end_or_refused_with_a_reason(corpus, rate, seconds):
    refused = Counter()
    for recording in find_recordings(corpus).recordings:
        got = embed(recording, rate, seconds)
        if isinstance(got, RecordingError):
            assert not must_be_read(recording.name), got
            assert got.stage in ("read", "decode")
            assert ("does not read" in got.reason) == recording.name.endswith(".m4a")
            refused[recording.name.partition("/")[0]] += 1
        else:
            assert not must_be_refused(recording.name), recording.name
            assert got == count_windows(recording.location), recording.name
            assert got == WINDOWS or not must_be_read(recording.name)
    assert all(refused[kind.name] >= 10 for kind in KINDS), refused
    assert sum(refused.values()) > 200


@pytest.mark.slow
def test_a_run_over_them_embeds_what_is_good_and_lists_the_rest(corpus, tmp_path):
    names = {recording.name for recording in find_recordings(corpus).recordings}
    faulthandler.dump_traceback_later(5 * HANGS_AFTER, exit=True)
    try:
        report = embed_recordings(corpus, encoder="melspec", workspace=tmp_path / "work", jobs=2)
    finally:
        faulthandler.cancel_dump_traceback_later()
    embedded = {entry.recording: entry.windows for entry in report.listing.recordings}
    skipped = {entry.recording: entry for entry in report.listing.skipped}
    assert embedded.keys() | skipped.keys() == names
    assert not embedded.keys() & skipped.keys()
    for name, windows in embedded.items():
        assert not must_be_refused(name)
        assert windows == count_windows(corpus / name)
    assert {name: embedded[name] for name in names if must_be_read(name)} == dict.fromkeys(
        filter(must_be_read, names), WINDOWS
    )
    assert all(entry.reason and entry.stage in ("read", "decode", "encode") for entry in skipped.values())
    assert report.errors is not None
    with report.errors.open(encoding="utf-8", newline="") as file:
        listed = [tuple(row.values()) for row in csv.DictReader(file)]
    assert listed == [(name, entry.stage, entry.reason) for name, entry in skipped.items()]


def test_a_file_that_vanishes_is_refused_whenever_it_does(tmp_path):
    path = write_audio(tmp_path / "a.wav", make_noise(30 * RATE), RATE)
    recording = recording_of(path)
    (first, *_, last) = plan_parts(recording, RATE, GRID, part_seconds=5, smallest_bytes=0)
    path.unlink()
    for part in (first, last, Part()):
        with pytest.raises(RecordingError, match="No such file") as caught:
            list(stream_windows(recording, RATE, GRID, part))
        assert caught.value.stage == "read"


@st.composite
def mutations(draw, size):
    """Draw what is done to a file: a list of functions from bytes to bytes."""
    # Headers are short, and matter most.
    place = st.one_of(st.integers(0, 127), st.integers(0, size - 1), st.integers(size - 64, size - 1))
    field = st.sampled_from((bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\1", b"\1\0\0\0"))
    kinds = st.one_of(
        st.tuples(st.just("flip"), place, st.integers(1, 255)),
        st.tuples(st.just("write"), place, field),
        st.tuples(st.just("write"), place, st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("insert"), place, st.binary(min_size=1, max_size=64)),
        st.tuples(st.just("remove"), place, st.integers(1, 5000)),
        st.tuples(st.just("copy"), place, st.integers(1, 5000)),
        st.tuples(st.just("cut"), place, st.none()),
    )
    return draw(st.lists(kinds, min_size=1, max_size=4))


def mutate(content, steps):
    for what, place, how in steps:
        place = min(place, len(content))
        before, behind = content[:place], content[place:]
        if what == "flip" and behind:
            behind = bytes([behind[0] ^ how]) + behind[1:]
        elif what == "write":
            behind = how + behind[len(how) :]
        elif what == "insert":
            behind = how + behind
        elif what == "remove":
            behind = behind[how:]
        elif what == "copy":
            behind = behind[:how] + behind
        elif what == "cut":
            behind = b""
        content = before + behind
    return content


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@settings(max_examples=int(os.environ.get("BIRDEMB_TEST_MUTATIONS", "60")), deadline=None)
@given(data=st.data())
def test_whatever_is_done_to_a_file_it_is_read_to_its_end_or_refused(tmp_path_factory, written, kind, data):
    path = tmp_path_factory.getbasetemp() / f"mutated{kind.suffix}"
    content = written[kind.name]
    path.write_bytes(mutate(content, data.draw(mutations(len(content)))))
    for seconds in (None, 5):
        got = embed(recording_of(path), RATE, seconds)
        if not isinstance(got, RecordingError):
            assert got == count_windows(path)
