"""Recordings that are damaged, cut short, or odd: each is read right or refused with a reason."""

import re
import struct
from contextlib import suppress

import numpy as np
import pytest
import soundfile
from audio_files import CONTAINERS, decode, make_noise, recording_of, wav_bytes, write_audio
from hypothesis import given, settings
from hypothesis import strategies as st

from birdemb.embed.audio import HIGHEST_SAMPLE_RATE, Decoder
from birdemb.errors import RecordingError

RATE = 48_000
CONTAINER = {container.name: container for container in CONTAINERS}
CUT_IS_ALWAYS_SEEN = [name for name in CONTAINER if name not in ("mp3", "caf")]


class Written(dict):
    """Half a second in every container, as bytes by its name."""

    def __repr__(self):
        return "written"  # where Hypothesis shows a failure


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    return Written(
        (name, write_audio(folder / f"{name}{container.suffix}", make_noise(24_000), RATE, container).read_bytes())
        for name, container in CONTAINER.items()
    )


@pytest.fixture(scope="module")
def decode_bytes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bytes")

    def decode_these(content, suffix=".wav"):
        path = folder / f"x{suffix}"
        path.write_bytes(content)
        return decode(path, RATE)

    return decode_these


def refusal(decode_bytes, content, suffix=".wav"):
    with pytest.raises(RecordingError) as caught:
        decode_bytes(content, suffix)
    assert "x" + suffix not in caught.value.reason  # a reason names no path
    return caught.value


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_text_is_no_audio(decode_bytes, suffix):
    error = refusal(decode_bytes, b"Once upon a time there was a wren.\n" * 50, suffix)
    assert error.stage == "decode"
    assert "no audio" in error.reason
    assert "not recognised" in error.reason


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_an_empty_file_is_told(decode_bytes, suffix):
    error = refusal(decode_bytes, b"", suffix)
    assert error.stage == "read"
    assert "empty" in error.reason


@pytest.mark.parametrize("name", ["wav16", "wavfloat", "aiff", "caf", "au", "w64", "rf64", "vorbis"])
def test_a_header_without_samples_is_told(tmp_path, name):
    path = write_audio(tmp_path / f"a{CONTAINER[name].suffix}", np.zeros(0), RATE, CONTAINER[name])
    with pytest.raises(RecordingError, match="no samples") as caught:
        decode(path, RATE)
    assert caught.value.stage == "decode"


def test_a_flac_header_without_samples_is_told(decode_bytes):
    stream_info = struct.pack(">HH", 4096, 4096) + bytes(6)
    stream_info += ((RATE << 44) | (15 << 36)).to_bytes(8, "big") + bytes(16)
    error = refusal(decode_bytes, b"fLaC" + b"\x80" + len(stream_info).to_bytes(3, "big") + stream_info, ".flac")
    assert error.stage == "decode"
    assert "samples" in error.reason or "no audio" in error.reason


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("wanted", [RATE, 32_000])
def test_values_that_are_not_finite_are_told_with_their_place(tmp_path, value, channels, wanted):
    samples = make_noise(2 * RATE, channels=channels)
    samples[RATE + RATE // 2, channels - 1] = value
    with pytest.raises(RecordingError, match=r"at 1\.50 s is not finite"):
        decode(write_audio(tmp_path / "a.wav", samples, RATE), wanted)


def test_a_value_that_is_not_finite_in_a_later_block_is_told_with_its_place(tmp_path):
    samples = make_noise(2**20 + 5 * RATE)
    samples[2**20 + 100] = np.nan
    with pytest.raises(RecordingError, match=f"{(2**20 + 100) / RATE:.2f} s"):
        decode(write_audio(tmp_path / "a.wav", samples, RATE), RATE)


@pytest.mark.parametrize("name", CONTAINER)
@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.3, 0.5, 0.7])
def test_a_file_cut_at_a_fraction_is_refused(written, decode_bytes, name, fraction):
    content = written[name]
    error = refusal(decode_bytes, content[: int(fraction * len(content))], CONTAINER[name].suffix)
    assert error.stage == "decode"
    assert "cut short" in error.reason or "no audio" in error.reason or "no samples" in error.reason


@pytest.mark.parametrize("name", CUT_IS_ALWAYS_SEEN)
def test_a_file_without_its_last_byte_is_refused(written, decode_bytes, name):
    refusal(decode_bytes, written[name][:-1], CONTAINER[name].suffix)


@pytest.mark.parametrize("name", CUT_IS_ALWAYS_SEEN)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_file_cut_anywhere_is_refused(written, decode_bytes, name, data):
    cut = data.draw(st.integers(0, len(written[name]) - 1))
    refusal(decode_bytes, written[name][:cut], CONTAINER[name].suffix)


@pytest.mark.parametrize("name", CONTAINER)
def test_a_file_cut_within_its_header_is_refused(written, decode_bytes, name):
    for cut in range(0, 200, 9):
        refusal(decode_bytes, written[name][:cut], CONTAINER[name].suffix)


@pytest.mark.parametrize("name", ["vorbis", "opus"])
def test_an_ogg_cut_between_two_pages_is_refused(tmp_path, decode_bytes, name):
    content = write_audio(tmp_path / "a.ogg", make_noise(10 * RATE), RATE, CONTAINER[name]).read_bytes()
    pages = [match.start() for match in re.finditer(b"OggS", content)]
    assert len(pages) > 5
    assert decode_bytes(content, ".ogg").size == 10 * RATE
    for page in pages[3:]:
        assert "last page" in refusal(decode_bytes, content[:page], ".ogg").reason


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_caf_cut_anywhere_is_refused_but_for_its_last_3_samples(written, decode_bytes, data):
    cut = data.draw(st.integers(0, len(written["caf"]) - 1))
    try:
        assert len(decode_bytes(written["caf"][:cut], ".caf")) >= 24_000 - 3
    except RecordingError:
        assert cut < len(written["caf"])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_an_mp3_cut_anywhere_is_refused_but_for_its_last_tenth_of_a_second(written, decode_bytes, data):
    cut = data.draw(st.integers(0, len(written["mp3"]) - 1))
    try:
        assert len(decode_bytes(written["mp3"][:cut], ".mp3")) >= 24_000 - 0.1 * RATE
    except RecordingError:
        assert cut < len(written["mp3"])


def without_length(mp3):
    """Take away an MP3's first frame, the one that tells how many frames there are."""
    return mp3[mp3.index(b"\xff\xfb", 1) :]


def noise_as_mp3(tmp_path, quiet_first, mode="VARIABLE"):
    samples = np.random.default_rng(0).normal(0, 0.2, 2 * RATE)
    if quiet_first:
        samples[: RATE // 2] *= 1e-5
    path = tmp_path / "noise.mp3"
    with soundfile.SoundFile(
        path, "w", RATE, 1, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode=mode, compression_level=0.5
    ) as file:
        file.write(samples)
    return path.read_bytes()


def test_a_cut_cannot_be_seen_in_an_mp3_that_does_not_tell_its_length(decode_bytes, tmp_path):
    mp3 = without_length(noise_as_mp3(tmp_path, quiet_first=False, mode="CONSTANT"))
    assert len(decode_bytes(mp3[: len(mp3) // 2], ".mp3")) == pytest.approx(RATE, abs=2 * 1152)


def test_an_mp3_of_which_libsndfile_would_leave_out_the_end_is_refused(decode_bytes, tmp_path):
    mp3 = without_length(noise_as_mp3(tmp_path, quiet_first=False))
    assert "bit rate varies; convert it" in refusal(decode_bytes, mp3, ".mp3").reason


@pytest.mark.parametrize("tag", [b"", b"TAG" + bytes(125)])
@pytest.mark.parametrize(("quiet_first", "mode"), [(True, "VARIABLE"), (False, "CONSTANT")])
def test_an_mp3_that_does_not_tell_its_length_is_read_where_libsndfile_reads_it_whole(
    decode_bytes, tmp_path, tag, quiet_first, mode
):
    mp3 = without_length(noise_as_mp3(tmp_path, quiet_first, mode)) + tag
    assert len(decode_bytes(mp3, ".mp3")) == pytest.approx(2 * RATE, abs=2 * 1152)


@pytest.mark.parametrize("tag", [b"TAG" + bytes(125), b"APETAGEX" + bytes(30_000)])
@pytest.mark.parametrize("name", ["mp3", "flac", "vorbis"])
def test_notes_behind_the_sound_are_no_damage(decode_bytes, written, name, tag):
    suffix = CONTAINER[name].suffix
    np.testing.assert_array_equal(decode_bytes(written[name] + tag, suffix), decode_bytes(written[name], suffix))


def test_the_picture_in_front_of_an_mp3_is_passed_over(decode_bytes, written):
    picture = bytes(20_000)
    size = bytes((len(picture) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    tagged = b"ID3\x04\x00\x00" + size + picture + written["mp3"]
    assert len(decode_bytes(tagged, ".mp3")) == len(decode_bytes(written["mp3"], ".mp3"))
    assert "cut short" in refusal(decode_bytes, tagged[: -len(written["mp3"]) // 2], ".mp3").reason


@pytest.mark.parametrize("name", ["wav16", "aiff", "au"])
def test_what_is_cut_short_is_told_with_both_lengths(written, decode_bytes, name):
    error = refusal(decode_bytes, written[name][:-1000], CONTAINER[name].suffix)
    assert "cut short" in error.reason
    assert "header promises" in error.reason


def test_the_highest_rate_is_read_and_one_more_is_refused(decode_bytes):
    samples = np.ones(1000, np.int16)
    assert len(decode_bytes(wav_bytes(samples, HIGHEST_SAMPLE_RATE))) == pytest.approx(96, abs=1)
    error = refusal(decode_bytes, wav_bytes(samples, HIGHEST_SAMPLE_RATE + 1))
    assert "500001 Hz" in error.reason
    assert "500000" in error.reason


@pytest.mark.parametrize("rate", [0, 2**31 - 1])
def test_an_absurd_rate_is_refused(decode_bytes, rate):
    assert refusal(decode_bytes, wav_bytes(np.ones(1000, np.int16), rate)).stage == "decode"


# In the order: sox, ffmpeg, arecord, other programs; where they cannot go back to write the true length.
@pytest.mark.parametrize(
    ("declared", "riff"),
    [
        (0x7FFFF000, 0x7FFFF024),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x80000000, 0x80000024),
        (0x7FFFFFFF, 0x7FFFFFFF),
        (0xFFFFFFFF - 36, 0xFFFFFFFF),
        (0xFFFFFFFF, 0),
        (0, 8),
    ],
)
def test_a_wav_that_was_written_into_a_pipe_is_read_to_its_end(decode_bytes, declared, riff):
    samples = np.arange(-500, 500, dtype=np.int16)
    got = decode_bytes(wav_bytes(samples, RATE, declared=declared, riff=riff))
    np.testing.assert_array_equal(got, samples / np.float32(32768))


def test_a_wav_whose_length_was_never_filled_in_is_refused(decode_bytes):
    # libsndfile takes the length 0 at its word, unless that of the whole file is 8.
    error = refusal(decode_bytes, wav_bytes(np.ones(1000, np.int16), RATE, declared=0, riff=36))
    assert "no samples" in error.reason


def test_a_wav_whose_header_promises_a_little_more_is_refused(decode_bytes):
    error = refusal(decode_bytes, wav_bytes(np.ones(1000, np.int16), RATE, declared=2002))
    assert "2000 of the 2002 bytes" in error.reason


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("name", [b"guan", b"LIST"])
def test_a_chunk_of_odd_size_after_the_data_is_no_damage(decode_bytes, name, padded):
    text = b"GUANO|Version:1.0" if name == b"guan" else b"INFOISFT\x05\0\0\0Audio"
    assert len(text) % 2
    chunk = name + struct.pack("<I", len(text)) + text + (b"\0" if padded else b"")
    samples = np.arange(-500, 500, dtype=np.int16)
    got = decode_bytes(wav_bytes(samples, RATE, chunk=chunk))
    np.testing.assert_array_equal(got, samples / np.float32(32768))


@pytest.mark.parametrize("name", ["wav16", "flac", "vorbis", "opus", "mp3"])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_flipped_byte_gives_audio_or_a_reason(written, decode_bytes, name, data):
    content = bytearray(written[name])
    # Headers are short, and matter most.
    place = data.draw(st.one_of(st.integers(0, 199), st.integers(0, len(content) - 1)))
    content[place] ^= data.draw(st.integers(1, 255))
    with suppress(RecordingError):
        got = decode_bytes(bytes(content), CONTAINER[name].suffix)
        assert got.dtype == np.float32
        assert np.isfinite(got).all()
        assert len(got)


def test_a_flac_with_a_damaged_frame_is_refused(written, decode_bytes):
    content = bytearray(written["flac"])
    content[len(content) // 2] ^= 0xFF
    assert "damaged" in refusal(decode_bytes, bytes(content), ".flac").reason


def test_a_flac_that_was_written_into_a_pipe_is_read_to_its_end(written, decode_bytes):
    content = bytearray(written["flac"])
    content[21] &= 0xF0  # the length is 36 bits in these five bytes; 0 where it is not known
    content[22:26] = bytes(4)
    np.testing.assert_array_equal(decode_bytes(content, ".flac"), decode_bytes(written["flac"], ".flac"))


def test_a_flac_that_promises_one_sample_more_is_refused(written, decode_bytes):
    content = bytearray(written["flac"])
    content[25] += 1
    assert "cut short" in refusal(decode_bytes, content, ".flac").reason


def test_what_was_decoded_before_the_damage_is_told(tmp_path):
    path = write_audio(tmp_path / "a.flac", make_noise(2**20 + 10 * RATE), RATE, CONTAINER["flac"])
    content = bytearray(path.read_bytes())
    content[-1000] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=r"damaged after 21\.8 s"):
        decode(path, RATE)


def test_blocks_come_before_the_damage_is_met(tmp_path):
    samples = make_noise(2 * 2**20)
    samples[-1] = np.nan
    blocks = Decoder(recording_of(write_audio(tmp_path / "a.wav", samples, RATE)), RATE).blocks()
    assert len(next(blocks)) == 2**20
    with pytest.raises(RecordingError):
        next(blocks)
