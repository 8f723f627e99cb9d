"""Parts of long recordings: where they begin, and that together they are the whole."""

import math
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_files import CONTAINERS, decode, make_noise, recording_of, wav_bytes, write_audio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birdemb.embed.audio import Decoder
from birdemb.embed.recordings import find_recordings
from birdemb.embed.windows import PART_SECONDS, Part, WindowGrid, plan_parts, stream_windows
from birdemb.errors import RecordingError

RATE = 48_000
CONTAINER = {container.name: container for container in CONTAINERS}
PLAIN = replace(CONTAINER["wav16"], name="wav8", subtype="PCM_U8")
HOURS = 3600


def split(path, rate=RATE, grid=None, seconds=10.0):
    return plan_parts(recording_of(path), rate, grid or WindowGrid(), part_seconds=seconds, smallest_bytes=0)


def stream(path, rate=RATE, grid=None, part=None, batch=16):
    """The windows of a part, and how long the recording is as far as has been decoded."""
    batches = list(stream_windows(recording_of(path), rate, grid or WindowGrid(), part or Part(), batch))
    return np.concatenate([windows for windows, _ in batches]), batches[-1][1].seconds


def write_long(path, seconds, rate=8_000):
    """Write a long recording quickly: silence, of which most need not be written."""
    header = wav_bytes(np.zeros(0, np.int16), rate, declared=2 * seconds * rate, riff=2 * seconds * rate + 36)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + 2 * seconds * rate)
    return path


@pytest.mark.parametrize(
    ("seconds", "parts"),
    [
        (1, [Part()]),
        (235, [Part()]),
        (236, [Part(0, 24), Part(24)]),
        (240, [Part(0, 24), Part(24)]),
        (355, [Part(0, 24), Part(24)]),
        (356, [Part(0, 24), Part(24, 24), Part(48)]),
        (360, [Part(0, 24), Part(24, 24), Part(48)]),
        (24 * HOURS, [*(Part(24 * index, 24) for index in range(719)), Part(719 * 24)]),
    ],
)
def test_parts_are_two_minutes_and_the_last_is_up_to_four(tmp_path, seconds, parts):
    path = write_long(tmp_path / "a.wav", seconds)
    assert plan_parts(recording_of(path), RATE, WindowGrid()) == parts


def test_the_last_part_alone_has_no_number_of_windows():
    assert Part().last
    assert Part(24).last
    assert not Part(0, 24).last


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    samples=st.integers(1, 10**7),
    native=st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 250_000]),
    wanted=st.sampled_from([16_000, 22_050, 32_000, 48_000]),
    grid=st.sampled_from([WindowGrid(), WindowGrid(hop=2.5), WindowGrid(hop=0.96, window=3), WindowGrid(hop=4.9)]),
    seconds=st.floats(1, 300),
)
def test_parts_follow_each_other_and_begin_on_whole_samples(tmp_path, samples, native, wanted, grid, seconds):
    path = tmp_path / "a.wav"
    with path.open("wb") as file:
        file.write(wav_bytes(np.zeros(0, np.int16), native, declared=2 * samples, riff=2 * samples + 36))
        file.truncate(44 + 2 * samples)
    parts = split(path, wanted, grid, seconds)
    hop = round(grid.hop * wanted)
    place = 0
    for part in parts[:-1]:
        assert part.first_window == place
        assert part.windows == parts[0].windows
        assert 0 < part.windows * hop <= seconds * wanted
        place += part.windows
        assert place * hop * native % wanted == 0
    assert parts[-1] == Part(place)
    if len(parts) > 1:
        left = grid.count(samples, native) - place
        assert parts[0].windows <= left < 2 * parts[0].windows


LARGEST_DIFFERENCE = 1e-6
"""Of full scale: about a sixteenth of the step of 16 bits; what was measured is half of it."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wav16", "wavfloat", "flac24", "vorbis", "opus", "mp3", "aiff", "w64"])
@pytest.mark.parametrize("native", [22_050, 32_000, 44_100, 48_000, 96_000, 192_000])
def test_parts_are_what_the_whole_is(tmp_path, name, native):
    container = CONTAINER[name]
    if (name == "opus" and native != 48_000) or (name == "mp3" and native > 48_000):
        pytest.skip("no such rate")
    samples = make_noise(33 * native + 1234) * np.repeat(make_noise(34), native)[: 33 * native + 1234] * 4
    path = write_audio(tmp_path / f"a{container.suffix}", samples, native, container)
    for wanted in (48_000, 32_000):
        whole, seconds = stream(path, wanted)
        parts = split(path, wanted)
        assert len(parts) == (1 if name == "mp3" and native < 32_000 else 3)
        got = [stream(path, wanted, part=part) for part in reversed(parts)][::-1]
        assert got[-1][1] == seconds
        joined = np.concatenate([windows for windows, _ in got])
        assert joined.shape == whole.shape
        exact = wanted == native and name != "mp3"
        np.testing.assert_allclose(joined, whole, rtol=0, atol=0 if exact else LARGEST_DIFFERENCE)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    samples=st.integers(1, 300_000),
    native=st.sampled_from([8_000, 11_025, 12_000]),
    grid=st.sampled_from([WindowGrid(), WindowGrid(hop=2.5), WindowGrid(window=3, hop=1)]),
    seconds=st.floats(1, 20),
    batch=st.integers(1, 20),
    channels=st.integers(1, 3),
)
def test_parts_of_any_size_have_the_windows_of_the_whole(tmp_path, samples, native, grid, seconds, batch, channels):
    path = write_audio(tmp_path / "a.wav", make_noise(samples, channels=channels), native)
    whole, length = stream(path, 8_000, grid)
    parts = [stream(path, 8_000, grid, part, batch) for part in split(path, 8_000, grid, seconds)]
    joined = np.concatenate([windows for windows, _ in parts])
    assert len(joined) == len(whole) == grid.count(samples, native)
    assert parts[-1][1] == length == samples / native
    np.testing.assert_allclose(joined, whole, rtol=0, atol=0 if native == 8_000 else LARGEST_DIFFERENCE)


def test_a_part_is_the_same_in_whatever_batches(tmp_path):
    path = write_audio(tmp_path / "a.wav", make_noise(60 * 44_100), 44_100)
    part = split(path)[2]
    expected, _ = stream(path, part=part)
    for batch in (1, 2, 3, 100):
        np.testing.assert_array_equal(stream(path, part=part, batch=batch)[0], expected)


@pytest.mark.slow
def test_real_recordings_are_the_same_in_parts(recordings):
    for recording in find_recordings(recordings).recordings[::4]:
        path = Path(recording.location)
        whole, _ = stream(path, 32_000)
        parts = [stream(path, 32_000, part=part)[0] for part in split(path, 32_000)]
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=LARGEST_DIFFERENCE)


def test_a_low_mp3_is_the_same_however_long_the_blocks_are(tmp_path):
    # Reading on after soundfile's own seek differed by half of full scale where one block of a million ends.
    path = write_audio(tmp_path / "a.mp3", make_noise(1_100_000), 11_025, CONTAINER["mp3"])
    expected, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_allclose(decode(path, 11_025), expected, rtol=0, atol=LARGEST_DIFFERENCE)


def test_a_recording_whose_hop_never_falls_on_a_whole_sample_is_one_part(tmp_path):
    path = write_audio(tmp_path / "a.wav", make_noise(30 * 44_101), 44_101)
    grid = WindowGrid(window=1, hop=0.011)
    assert math.gcd(round(grid.hop * RATE) * 44_101, RATE) * 10 / grid.hop < RATE  # not within 10 s
    assert split(path, RATE, grid) == [Part()]


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM", "GSM610"])
def test_codings_that_carry_on_from_what_was_before_are_one_part(tmp_path, subtype):
    path = write_audio(tmp_path / "a.wav", make_noise(400_000), 8_000, replace(PLAIN, subtype=subtype))
    assert split(path) == [Part()]


@pytest.mark.parametrize(("declared", "riff"), [(0x7FFFF000, 0x7FFFF024), (0xFFFFFFFF, 0xFFFFFFFF), (0, 8)])
def test_a_wav_of_unknown_length_is_one_part(tmp_path, declared, riff):
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(np.ones(400_000, np.int16), 8_000, declared=declared, riff=riff))
    if declared:  # libsndfile tells the length 0 no more once it has put it right, and it is the file's own then
        assert split(path) == [Part()]
    assert len(stream(path)[0]) == 10


def test_an_mp3_without_its_length_is_one_part(tmp_path):
    path = write_audio(tmp_path / "a.mp3", make_noise(40 * 32_000), 32_000, CONTAINER["mp3"])
    assert len(split(path)) == 4
    path.write_bytes(path.read_bytes()[path.read_bytes().index(b"\xff\xfb", 1) :])
    assert split(path) == [Part()]


@pytest.mark.slow
def test_an_mp3_has_few_parts_however_long(tmp_path):
    path = write_audio(tmp_path / "a.mp3", make_noise(205 * 32_000), 32_000, CONTAINER["mp3"])
    assert split(path) == [*(Part(6 * index, 6) for index in range(5)), Part(30)]


@pytest.mark.parametrize("rate", [1, 20, 999, 500_001])
def test_absurd_rates_are_one_part(tmp_path, rate):
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(np.ones(2_000_000, np.int16), rate))
    assert split(path) == [Part()]


def test_a_flac_that_promises_more_than_it_can_hold_is_one_part(tmp_path):
    path = write_audio(tmp_path / "a.flac", make_noise(400_000), 8_000, CONTAINER["flac"])
    assert len(split(path)) == 5
    content = bytearray(path.read_bytes())
    place = content.index(b"fLaC") + 8 + 10
    content[place + 3] |= 0x0F  # the length is the last 36 bits of these 8 bytes
    path.write_bytes(content)
    assert split(path) == [Part()]
    with pytest.raises(RecordingError, match=r"cut short|damaged"):
        stream(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wav16", "flac", "vorbis", "opus", "mp3"])
def test_a_file_cut_after_it_was_planned_is_refused_by_each_part_behind_the_cut(tmp_path, name):
    container = CONTAINER[name]
    path = write_audio(tmp_path / f"a{container.suffix}", make_noise(50 * 48_000), 48_000, container)
    parts = split(path)
    assert len(parts) == 5
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for part in parts[3:]:
        with pytest.raises(RecordingError):
            stream(path, part=part)


def test_damage_is_found_by_the_part_in_which_it_lies(tmp_path):
    path = write_audio(tmp_path / "a.flac", make_noise(50 * 48_000), 48_000, CONTAINER["flac"])
    parts = split(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    damaged = []
    for index, part in enumerate(parts):
        try:
            stream(path, part=part)
        except RecordingError as error:
            damaged.append((index, "damaged" in error.reason))
    assert damaged == [(2, True)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vorbis", "opus"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_page_that_is_lost_is_found_by_the_part_in_which_it_lies(tmp_path, name, channels):
    container = CONTAINER[name]
    samples = make_noise(50 * 48_000, channels=channels)
    path = write_audio(tmp_path / f"a{container.suffix}", samples, 48_000, container)
    parts = split(path)
    content = path.read_bytes()
    pages = [match.start() for match in re.finditer(b"OggS", content)]
    middle = len(pages) // 2
    path.write_bytes(content[: pages[middle]] + content[pages[middle + 1] :])
    damaged = []
    for index, part in enumerate(parts):
        try:
            stream(path, part=part)
        except RecordingError as error:
            damaged.append((index, "something is missing" in error.reason))
    assert damaged == [(2, True)]
    with pytest.raises(RecordingError, match="cut short"):
        stream(path)


def test_a_recording_that_became_another_is_told(tmp_path):
    path = write_audio(tmp_path / "a.wav", make_noise(50 * 44_100), 44_100)
    with pytest.raises(RecordingError, match="changed while it was read"):
        list(Decoder(recording_of(path), 48_000).blocks(start=48_001))


def test_a_small_file_is_one_part_without_a_look_into_it(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"no audio")
    assert plan_parts(recording_of(path), RATE, WindowGrid()) == [Part()]
    with pytest.raises(RecordingError, match="no audio"):
        plan_parts(recording_of(path), RATE, WindowGrid(), smallest_bytes=0)


def test_a_part_of_a_day_of_ultrasound_needs_little_memory(tmp_path):
    path = tmp_path / "a.w64"
    soundfile.write(path, np.zeros(0), 192_000, format="W64", subtype="PCM_16")
    size = 24 * HOURS * 192_000 * 2
    header = bytearray(path.read_bytes())
    header[16:24] = (len(header) + size).to_bytes(8, "little")
    header[-8:] = (size + 24).to_bytes(8, "little")
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + size)  # 33 GB, none of which is on the disk
    parts = plan_parts(recording_of(path), 48_000, WindowGrid())
    assert len(parts) == 24 * HOURS / PART_SECONDS
    tracemalloc.start()
    try:
        for part in (parts[0], parts[400], parts[-1]):
            count = sum(len(windows) for windows, _ in stream_windows(recording_of(path), 48_000, WindowGrid(), part))
            assert count == 24
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 75e6
