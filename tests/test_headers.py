"""What recordings tell without being decoded."""

from datetime import UTC, datetime

import numpy as np
import pytest
import soundfile
from fit_files import write_noise

from birdemb.embed.recordings import Recording
from birdemb.embed.windows import WindowGrid
from birdemb.headers import count_lost_windows, find_top_frequency, read_origins
from birdemb.listing import SkippedRecording
from birdemb.origin import parse_zone


def recording_of(path):
    return Recording(str(path), path.name)


def count(*paths, grid=None):
    recordings = {path.name: recording_of(path) for path in paths}
    lost = count_lost_windows(
        recordings, [SkippedRecording(name, "decode", "damaged") for name in recordings], grid or WindowGrid()
    )
    return {entry.recording: (entry.windows, entry.seconds) for entry in lost}


def test_windows_of_what_is_damaged_are_those_that_its_header_tells(tmp_path):
    path = tmp_path / "cut.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 12 * 8000), 8000)
    path.write_bytes(path.read_bytes()[:40_000])
    assert count(path) == {"cut.flac": (3, 12.0)}
    assert count(path, grid=WindowGrid(hop=2.5)) == {"cut.flac": (4, 12.0)}


def test_header_that_is_absurd_or_absent_tells_nothing(tmp_path):
    path = tmp_path / "years.flac"
    soundfile.write(path, np.zeros(8000), 8000)
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F  # the last 36 bits before the checksum: how many samples there are
    content[22:26] = b"\xff" * 4
    path.write_bytes(content)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no sound")
    assert soundfile.info(path).frames > 2**35
    assert count(path, tmp_path / "empty.wav", tmp_path / "text.wav", tmp_path / "gone.wav") == {}


def test_skipped_recording_that_nobody_found_is_left_out():
    assert count_lost_windows({}, [SkippedRecording("gone.wav", "read", "gone")], WindowGrid()) == []


def test_top_frequency_is_half_of_the_sample_rate(tmp_path):
    write_noise(tmp_path / "a.wav", 1, rate=22_050)
    tell = find_top_frequency([recording_of(tmp_path / "a.wav"), Recording("s3://x/b.wav", "b.wav")], 48_000)
    assert (tell("a.wav"), tell("b.wav"), tell("unknown.wav")) == (11_025, 24_000, 24_000)


@pytest.mark.parametrize("there", [True, False])
def test_origins_are_read_of_names_where_there_is_no_file(tmp_path, there):
    path = tmp_path / "heath_20250501_043000.wav"
    if there:
        write_noise(path, 1)
    origins = read_origins([recording_of(path), Recording("s3://x/a_20250501_043000Z.wav", "a_20250501_043000Z.wav")])
    assert origins[path.name].start == datetime(2025, 5, 1, 4, 30)
    assert origins["a_20250501_043000Z.wav"].start == datetime(2025, 5, 1, 4, 30, tzinfo=UTC)
    zoned = read_origins([recording_of(path)], parse_zone("+02:00"))
    assert zoned[path.name].start == datetime(2025, 5, 1, 2, 30, tzinfo=UTC)
