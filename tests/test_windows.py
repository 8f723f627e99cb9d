"""Windows: where they lie, and that streaming cuts what lies there."""

import math
import tracemalloc

import numpy as np
import pytest
import soundfile
from audio_files import decode, make_noise, recording_of, wav_bytes, write_audio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birdemb.embed.windows import WindowGrid, place_frames, stream_windows
from birdemb.errors import InputError, RecordingError

RATE = 8_000
GRIDS = [WindowGrid(), WindowGrid(hop=2.5), WindowGrid(window=3, hop=1), WindowGrid(hop=4.9)]


def stream(path, rate, grid=None, batch=16):
    """All windows of a recording, and the sizes of the batches in which they came."""
    batches = [windows for windows, _ in stream_windows(recording_of(path), rate, grid or WindowGrid(), batch=batch)]
    return np.concatenate(batches), [len(windows) for windows in batches]


def cut_whole(samples, count, rate, grid):
    """Cut the windows from the whole signal, one by one."""
    size = round(grid.window * rate)
    windows = np.zeros((count, size), np.float32)
    for index in range(count):
        part = samples[round(index * grid.hop * rate) :][:size]
        windows[index, : len(part)] = part
    return windows


@given(samples=st.integers(1, 10**10), rate=st.integers(100, 500_000), grid=st.sampled_from(GRIDS))
def test_as_few_windows_as_cover_every_sample(samples, rate, grid):
    window, hop = round(grid.window * 10) * rate, round(grid.hop * 10) * rate  # in tenths of samples
    count = grid.count(samples, rate)
    assert count >= 1
    assert (count - 1) * hop + window >= 10 * samples  # the last sample is in a window
    if count > 1:
        assert (count - 2) * hop + window < 10 * samples  # one window less would lose it


@given(samples=st.integers(1, 10**8), rate=st.sampled_from([32_000, 44_100, 48_000, 256_000]))
def test_side_by_side_there_are_as_many_windows_as_begun_5_seconds(samples, rate):
    assert WindowGrid().count(samples, rate) == math.ceil(samples / (5 * rate))


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 500_000])
def test_a_minute_has_12_windows_and_one_sample_more_has_13(rate):
    assert [WindowGrid().count(60 * rate + extra, rate) for extra in (-1, 0, 1)] == [12, 12, 13]


def test_half_overlapping_windows_of_a_minute_are_23():
    assert WindowGrid(hop=2.5).count(60 * 32_000, 32_000) == 23


def test_a_hop_that_is_no_whole_number_of_samples_adds_up_to_no_window_in_100_days():
    assert WindowGrid(hop=2.5).count(100 * 86_400 * 11_025, 11_025) == 100 * 86_400 * 2 // 5 - 1


@pytest.mark.parametrize(
    ("window", "hop"), [(5, 0), (5, -1), (0, 0), (-5, -5), (5, 5.1), (math.inf, 5), (math.nan, 5), (5, math.nan)]
)
def test_a_grid_with_gaps_or_nonsense_is_refused(window, hop):
    with pytest.raises(InputError, match="expected a hop"):
        WindowGrid(window, hop)


@given(window=st.floats(0.1, 60), frame=st.floats(0.1, 60))
def test_frames_cover_the_window_evenly(window, frame):
    starts = place_frames(window, frame)
    assert starts[0] == 0
    if len(starts) == 1:
        assert frame >= window
        return
    assert starts[-1] + frame == pytest.approx(window)
    steps = np.diff(starts)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6, atol=1e-9)
    assert steps.max() <= frame + 1e-9  # nothing between two frames is unheard
    assert (len(starts) - 1) * frame < window  # one less would leave something


@pytest.mark.parametrize(
    ("window", "frame", "starts"),
    [(5, 3, (0, 2)), (5, 5, (0,)), (3, 5, (0,)), (5, 2.5, (0, 2.5)), (5, 0.96, tuple(i * 4.04 / 5 for i in range(6)))],
)
def test_frames_lie_where_expected(window, frame, starts):
    assert place_frames(window, frame) == pytest.approx(starts)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    samples=st.integers(1, 40 * RATE),
    grid=st.sampled_from(GRIDS),
    batch=st.integers(1, 20),
    native=st.sampled_from([RATE, 11_025]),
)
def test_streaming_gives_what_cutting_the_whole_signal_gives(tmp_path, samples, grid, batch, native):
    path = write_audio(tmp_path / "a.wav", make_noise(samples), native)
    count = grid.count(samples, native)
    windows, sizes = stream(path, RATE, grid, batch)
    assert windows.dtype == np.float32
    assert max(sizes) <= batch
    assert all(size == batch for size in sizes[:-1])
    np.testing.assert_array_equal(windows, cut_whole(decode(path, RATE), count, RATE, grid))


@pytest.mark.parametrize("grid", [WindowGrid(), WindowGrid(hop=2.5)], ids=str)
def test_windows_over_several_blocks_are_the_same_for_every_batch(tmp_path, grid):
    samples = 2**20 + 30 * 44_100 + 17  # two blocks
    path = write_audio(tmp_path / "a.wav", make_noise(samples), 44_100)
    expected = cut_whole(decode(path, 48_000), grid.count(samples, 44_100), 48_000, grid)
    for batch in (1, 7, 16, 1000):
        windows, _ = stream(path, 48_000, grid, batch)
        np.testing.assert_array_equal(windows, expected)


@pytest.mark.parametrize("hop", [5, 2.5])
@pytest.mark.parametrize("seconds", [0.001, 1, 4.999])
def test_a_recording_shorter_than_a_window_is_one_padded_window(tmp_path, seconds, hop):
    samples = make_noise(round(seconds * RATE))
    windows, _ = stream(write_audio(tmp_path / "a.wav", samples, RATE), RATE, WindowGrid(hop=hop))
    assert windows.shape == (1, 5 * RATE)
    np.testing.assert_array_equal(windows[0, : len(samples)], samples)
    assert not windows[0, len(samples) :].any()


@pytest.mark.parametrize(("seconds", "hop", "count"), [(5, 5, 1), (60, 5, 12), (5, 2.5, 1), (60, 2.5, 23)])
def test_whole_windows_at_44100_hz_have_no_phantom_after_them(tmp_path, seconds, hop, count):
    path = write_audio(tmp_path / "a.wav", make_noise(seconds * 44_100), 44_100)
    windows, _ = stream(path, 48_000, WindowGrid(hop=hop))
    assert windows.shape == (count, 240_000)
    assert np.abs(windows[-1, -100:]).max() > 0.01  # full to its end


@pytest.mark.parametrize("batch", [1, 5, 12, 13, 16])
def test_one_sample_more_than_a_minute_is_one_window_more(tmp_path, batch):
    samples = make_noise(60 * 48_000 + 1)
    windows, _ = stream(write_audio(tmp_path / "a.wav", samples, 48_000), 48_000, batch=batch)
    assert windows.shape == (13, 240_000)
    assert windows[12, 0] == samples[-1] != 0
    assert not windows[12, 1:].any()


def test_one_sample_more_than_a_minute_is_one_window_more_after_resampling(tmp_path):
    path = write_audio(tmp_path / "a.wav", make_noise(60 * 44_100 + 1), 44_100)
    windows, _ = stream(path, 48_000)
    assert windows.shape == (13, 240_000)
    assert not windows[12, 3:].any()


@pytest.mark.parametrize(("extra", "count"), [(-1, 1), (0, 1), (1, 2)])
def test_the_recordings_own_samples_decide_and_not_the_resampled_ones(tmp_path, extra, count):
    path = write_audio(tmp_path / "a.wav", make_noise(5 * 256_000 + extra), 256_000)
    windows, _ = stream(path, RATE)
    assert len(decode(path, RATE)) == 5 * RATE  # resampled, they are all the same
    assert len(windows) == count
    assert not windows[1:].any()


def test_the_decoder_tells_the_length_with_the_last_batch(tmp_path):
    path = write_audio(tmp_path / "a.wav", make_noise(11 * 44_100 + 3), 44_100)
    *_, (_, decoder) = stream_windows(recording_of(path), 48_000, WindowGrid(), batch=1)
    assert decoder.samples == 11 * 44_100 + 3
    assert decoder.seconds == (11 * 44_100 + 3) / 44_100


def test_windows_do_not_share_memory(tmp_path):
    path = write_audio(tmp_path / "a.wav", make_noise(20 * RATE), RATE)
    (windows, _), *_ = stream_windows(recording_of(path), RATE, WindowGrid(hop=2.5))
    before = windows[1].copy()
    windows[0] = 9
    np.testing.assert_array_equal(windows[1], before)


def test_a_recording_that_breaks_off_raises_and_does_not_end(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(np.ones(60 * RATE, np.int16), RATE, declared=2 * 60 * RATE + 2))
    with pytest.raises(RecordingError, match="cut short"):
        stream(path, RATE)


@pytest.mark.slow
@pytest.mark.parametrize("hop", [5.0, 2.5])
def test_memory_stays_flat_in_the_length_of_a_recording(tmp_path, hop):
    path = tmp_path / "long.wav"
    minute = make_noise(60 * 48_000)
    with soundfile.SoundFile(path, "w", 48_000, 1, subtype="PCM_16") as file:
        for _ in range(30):
            file.write(minute)
    tracemalloc.start()
    try:
        count = sum(len(windows) for windows, _ in stream_windows(recording_of(path), 48_000, WindowGrid(hop=hop)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == WindowGrid(hop=hop).count(30 * 60 * 48_000, 48_000)
    assert peak < 75e6  # the whole is 346 MB
