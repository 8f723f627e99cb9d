"""Whole recordings: containers, channels, rates and blocks."""

import tracemalloc

import numpy as np
import pytest
import soundfile
import soxr
from audio_files import (
    CONTAINERS,
    LOSSLESS,
    decode,
    make_noise,
    make_sine,
    recording_of,
    wav_bytes,
    write_audio,
    write_sine,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birdemb.embed.audio import Decoder

BLOCK = 2**20
RATES = (8_000, 22_050, 44_100, 48_000, 96_000, 192_000, 256_000, 500_000)


def by_name(container):
    return container.name


@pytest.mark.parametrize("container", CONTAINERS, ids=by_name)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_container_has_its_whole_length(tmp_path, container, channels):
    path = write_audio(tmp_path / f"a{container.suffix}", make_noise(60_001, channels=channels), 48_000, container)
    decoder = Decoder(recording_of(path), 48_000)
    samples = np.concatenate(list(decoder.blocks()))
    assert len(samples) == decoder.samples == soundfile.info(path).frames == 60_001
    assert decoder.native_rate == 48_000
    assert decoder.seconds == 60_001 / 48_000


@pytest.mark.parametrize("container", LOSSLESS, ids=by_name)
def test_a_lossless_container_gives_the_samples_that_were_written(tmp_path, container):
    written = make_noise(10_000)
    path = write_audio(tmp_path / f"a{container.suffix}", written, 48_000, container)
    np.testing.assert_allclose(decode(path, 48_000), written, rtol=0, atol=container.step)


@pytest.mark.parametrize("container", [c for c in CONTAINERS if c not in LOSSLESS], ids=by_name)
def test_a_lossy_container_keeps_frequency_and_amplitude(tmp_path, container):
    path = write_audio(tmp_path / f"a{container.suffix}", make_sine(1, 48_000, 3_000), 48_000, container)
    assert_is_sine(decode(path, 48_000), 48_000, 3_000, tolerance=0.02)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_are_averaged(tmp_path, channels):
    written = make_noise(5_000, channels=channels)
    got = decode(write_audio(tmp_path / "a.wav", written, 32_000), 32_000)
    np.testing.assert_allclose(got, written.astype(np.float64).mean(axis=1), rtol=0, atol=1e-7)


def test_the_same_rate_passes_untouched(tmp_path):
    written = make_noise(BLOCK + 12_345) * 3  # float files may exceed full scale
    got = decode(write_audio(tmp_path / "a.wav", written, 44_100), 44_100)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, written)


@pytest.mark.parametrize("native", RATES)
@pytest.mark.parametrize("wanted", [32_000, 48_000])
def test_a_resampled_sine_keeps_length_frequency_and_amplitude(tmp_path, native, wanted):
    got = decode(write_sine(tmp_path / "a.wav", seconds=1.0, rate=native, frequency=1_000), wanted)
    assert got.dtype == np.float32
    assert abs(len(got) - wanted) <= 1
    assert_is_sine(got, wanted, 1_000, tolerance=1e-3)


def test_what_the_wanted_rate_cannot_hold_is_filtered_out(tmp_path):
    got = decode(write_sine(tmp_path / "a.wav", rate=256_000, frequency=60_000), 48_000)
    assert np.abs(got[2_000:-2_000]).max() < 1e-4


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(samples=st.integers(1, 60_000), native=st.sampled_from(RATES), wanted=st.sampled_from([22_050, 32_000, 48_000]))
def test_any_length_is_resampled_to_its_share(tmp_path, samples, native, wanted):
    got = decode(write_audio(tmp_path / "a.wav", make_noise(samples), native), wanted)
    assert abs(len(got) - samples * wanted / native) <= 1


@pytest.mark.parametrize(("native", "channels"), [(44_100, 1), (96_000, 2), (22_050, 1)])
def test_streaming_gives_what_one_call_of_the_resampler_gives(tmp_path, native, channels):
    written = make_noise(BLOCK + 54_321, channels=channels)
    path = write_audio(tmp_path / "a.wav", written, native)
    assert len(list(Decoder(recording_of(path), 48_000).blocks())) >= 2
    expected = soxr.resample(written.mean(axis=1), native, 48_000, quality="HQ")
    got = decode(path, 48_000)
    assert abs(len(got) - len(expected)) <= 1
    shared = min(len(got), len(expected))
    np.testing.assert_allclose(got[:shared], expected[:shared], rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_block_borders_are_seamless(tmp_path, channels):
    frames = 2 * (BLOCK // channels) + 7
    written = make_noise(frames, channels=channels)
    path = write_audio(tmp_path / "a.wav", written, 32_000)
    blocks = list(Decoder(recording_of(path), 32_000).blocks())
    assert [len(block) for block in blocks] == [BLOCK // channels, BLOCK // channels, 7]
    np.testing.assert_allclose(np.concatenate(blocks), written.mean(axis=1), rtol=0, atol=1e-7)


@pytest.mark.parametrize("samples", [1, BLOCK, BLOCK + 1])
def test_a_recording_of_exactly_one_block_ends(tmp_path, samples):
    written = make_noise(samples)
    np.testing.assert_array_equal(decode(write_audio(tmp_path / "a.wav", written, 32_000), 32_000), written)


def test_an_absurdly_low_rate_needs_no_more_memory(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(np.ones(20_000, np.int16), 20))
    tracemalloc.start()
    try:
        length = sum(len(block) for block in Decoder(recording_of(path), 48_000).blocks())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert abs(length - 1_000 * 48_000) <= 1
    assert peak < 30e6  # in one block it is 192 MB


def test_a_decoder_knows_nothing_before_it_has_read(tmp_path):
    decoder = Decoder(recording_of(tmp_path / "a.wav"), 48_000)
    assert (decoder.samples, decoder.native_rate, decoder.seconds) == (0, 0, 0.0)


def test_decoding_twice_gives_the_same(tmp_path):
    decoder = Decoder(recording_of(write_audio(tmp_path / "a.wav", make_noise(9_000), 44_100)), 48_000)
    first, second = (np.concatenate(list(decoder.blocks())) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert decoder.samples == 9_000


@pytest.mark.parametrize("name", ["plain.wav", "with blank.WAV", "ünï 鳥 🐦.wav", "a" * 200 + ".wav", "-x%s.wav"])
def test_names_of_all_kinds_can_be_read(tmp_path, name):
    written = make_noise(100)
    np.testing.assert_array_equal(decode(write_audio(tmp_path / name, written, 8_000), 8_000), written)


def assert_is_sine(samples, rate, frequency, tolerance):
    """Fit a sine of known frequency to all but the ends, and look at its amplitude and at what is left over."""
    inner = samples[len(samples) // 10 : -len(samples) // 10].astype(np.float64)
    angle = 2 * np.pi * frequency * np.arange(len(inner)) / rate
    basis = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    weights, *_ = np.linalg.lstsq(basis, inner, rcond=None)
    assert np.hypot(*weights) == pytest.approx(0.5, abs=tolerance)
    assert np.abs(inner - basis @ weights).max() < 2 * tolerance
