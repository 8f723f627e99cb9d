"""What recordings' files tell of when and where they were made, and how it is weighed against their names."""

import io
import struct

import fsspec
import numpy as np
import pytest
import soundfile
from audio_files import make_noise, recording_of, wav_bytes, write_audio
from hypothesis import given
from hypothesis import strategies as st
from origin_files import (
    AUDIOMOTH,
    FORMAT,
    SOUND,
    bext,
    chunk,
    flac,
    guano,
    info,
    origin_of,
    vorbis_comments,
    wamd,
    wav,
)

from birdemb.embed.origin_metadata import read_metadata
from birdemb.embed.origins import read_origin
from birdemb.embed.recordings import Recording
from birdemb.errors import RecordingError

SM4 = {1: "SM4", 2: "S4A03895", 4: "marsh", 5: "2019-05-22 06:30:00+10:00", 6: "WGS84,27.38,S,152.88,E,31"}


@pytest.mark.parametrize(
    ("told", "start"),
    [
        ("2019-05-22T06:30:00+10:00", "2019-05-22T06:30:00+10:00"),
        ("2019-05-22T06:30:00Z", "2019-05-22T06:30:00+00:00"),
        ("2019-05-22T06:30:00.123", "2019-05-22T06:30:00.123000"),
        ("2019-05-22 06:30:00+1000", "2019-05-22T06:30:00+10:00"),  # Echo Meter Touch 2
        ("2019-05-22 06:30:00+13:00", "2019-05-22T06:30:00+13:00"),  # Song Meter Mini
        ("2019-05-22T06:30:00.1234567+02:00", "2019-05-22T06:30:00.123456+02:00"),  # BatExplorer
        ("2019-05-22T06:30", "2019-05-22T06:30:00"),
    ],
)
def test_guano_tells_the_start(tmp_path, told, start):
    origin = origin_of(tmp_path, "a.wav", wav(after=guano(Timestamp=told)))
    assert origin.start.isoformat() == start
    assert origin.source == "GUANO"


def test_guano_tells_place_and_recorder(tmp_path):
    fields = {"Timestamp": "2019-05-22T06:30:00Z", "Loc_Position": "-37.004 174.5757", "Model": "AudioMoth"}
    origin = origin_of(tmp_path, "a.wav", wav(guano(**fields, Serial="24391D0A5C5E4B3F")))
    assert (origin.latitude, origin.longitude) == (-37.004, 174.5757)
    assert origin.recorder == "AudioMoth 24391D0A5C5E4B3F"


@pytest.mark.parametrize(
    "told", ["", "yesterday", "2019-02-30T06:30:00", "2019-05-22T24:30:00", "1970-01-01T00:00:00Z"]
)
def test_a_timestamp_that_is_none_leaves_the_name_to_tell(tmp_path, told):
    origin = origin_of(tmp_path, "20190522_063000.wav", wav(guano(Timestamp=told)))
    assert (origin.start.isoformat(), origin.source) == ("2019-05-22T06:30:00", "name")


@pytest.mark.parametrize("told", ["0 0", "91 0", "5", "nan 5", "here there", "1e400 5"])
def test_a_position_that_is_none_is_none(tmp_path, told):
    assert origin_of(tmp_path, "a.wav", wav(guano(Loc_Position=told))).latitude is None


def test_wamd_tells_everything(tmp_path):
    origin = origin_of(tmp_path, "S4A03895_20190522_063000.wav", wav(wamd(SM4)))
    assert origin.start.isoformat() == "2019-05-22T06:30:00+10:00"
    assert (origin.latitude, origin.longitude) == (-27.38, 152.88)
    assert (origin.site, origin.recorder, origin.source) == ("marsh", "SM4 S4A03895", "WAMD")


@pytest.mark.parametrize(
    ("told", "position"),
    [
        ("WGS84, 41.713889, N, 121.508333, W", (41.713889, -121.508333)),
        ("WGS84,41.7,N,121.5,W,4200", (41.7, -121.5)),
        ("WGS84,51.41691,-0.0671,55.62311", (51.41691, -0.0671)),
        ("WGS84", (None, None)),
        ("", (None, None)),
    ],
)
def test_wamd_waypoints_are_read(tmp_path, told, position):
    for number in (6, 0x14):
        origin = origin_of(tmp_path, "a.wav", wav(wamd({1: "SM4", number: told + "\0"})))
        assert (origin.latitude, origin.longitude) == position


def test_wamd_of_another_version_is_not_read(tmp_path):
    assert origin_of(tmp_path, "a.wav", wav(wamd(SM4, version=2))).source == ""


def test_a_recorder_that_nobody_named_has_no_site(tmp_path):
    assert origin_of(tmp_path, "a.wav", wav(wamd(SM4 | {4: "S4A03895"}))).site is None


@pytest.mark.parametrize(
    ("zone", "offset"),
    [
        (" (UTC)", "+00:00"),
        (" (UTC+1)", "+01:00"),
        (" (UTC-11)", "-11:00"),
        (" (UTC+5:30)", "+05:30"),
        (" (UTC-0:30)", "-00:30"),
        ("", ""),  # firmware 1.0 tells none
    ],
)
def test_an_audiomoth_comment_tells_the_start(tmp_path, zone, offset):
    text = AUDIOMOTH.replace(" (UTC+1)", zone)
    origin = origin_of(tmp_path, "a.wav", wav(info(ICMT=text, IART="AudioMoth 24391D0A5C5E4B3F")))
    assert origin.start.isoformat() == "2019-05-22T06:30:00" + offset
    assert origin.recorder == "AudioMoth 24391D0A5C5E4B3F"
    assert origin.source == "AudioMoth comment"


@pytest.mark.parametrize(
    "text",
    [
        "by AudioMoth 0FE081F80FE081F0 at gain setting 2 while battery state was 4.50V",
        "(UTC) by AudioMoth 0FE081F80FE081F0 at gain setting 2 while battery state was > 5.0V",
        "(UTC+2) by AudioMoth 0FE081F80FE081F0 at medium gain setting while battery state was 4.1V and temperature was "
        "-2.3C. Amplitude threshold was 400.",
        "(UTC) during deployment 0000000000000001 using external microphone at high gain while battery was less than "
        "2.5V and temperature was 8.0C.",
    ],
)
def test_comments_of_each_firmware_are_read(tmp_path, text):
    origin = origin_of(tmp_path, "a.wav", wav(info(ICMT=f"Recorded at 06:30:00 22/05/2019 {text}")))
    assert origin.start.replace(tzinfo=None).isoformat() == "2019-05-22T06:30:00"
    assert origin.recorder.startswith("AudioMoth")


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_a_comment_that_another_program_has_kept_is_read(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with soundfile.SoundFile(path, "w", 32_000, 1) as file:
        file.comment = AUDIOMOTH
        file.write(make_noise(3200))
    origin = read_origin(recording_of(path))
    assert origin.start.isoformat() == "2019-05-22T06:30:00+01:00"
    assert origin.source == "AudioMoth comment"


def test_frontier_labs_comments_are_read(tmp_path):
    comments = vorbis_comments(
        "RecordingStart=2021-05-16T17:49:00+1000", "SensorLocation=-27.38+152.88", "SensorUid=00012345"
    )
    origin = origin_of(tmp_path, "a.flac", flac((1, bytes(5000)), (4, comments)))
    assert origin.start.isoformat() == "2021-05-16T17:49:00+10:00"
    assert (origin.latitude, origin.longitude, origin.recorder) == (-27.38, 152.88, "00012345")
    assert origin.source == "Frontier Labs comments"


def test_chunks_that_a_flac_has_kept_are_read(tmp_path):
    origin = origin_of(tmp_path, "a.flac", flac((2, b"riff" + FORMAT), (2, b"riff" + wamd(SM4))))
    assert (origin.source, origin.recorder) == ("WAMD", "SM4 S4A03895")


@pytest.mark.parametrize(
    ("content", "source"),
    [
        (wav(bext("2019-05-22", "06:30:00")), "bext"),
        (wav(bext("2019/05/22", "06-30-00")), "bext"),
        (wav(info(ICRD="2019-05-22 06:30:00")), "comment ICRD"),
        (flac((4, vorbis_comments("date=2019-05-22T06:30:00"))), "comment DATE"),
        (flac((4, vorbis_comments("RECORDED_AT=2019-05-22T06:30:00"))), "comment RECORDED_AT"),
    ],
)
def test_what_any_program_writes_is_read_where_nothing_else_tells(tmp_path, content, source):
    origin = origin_of(tmp_path, "a.wav", content)
    assert (origin.start.isoformat(), origin.source) == ("2019-05-22T06:30:00", source)
    named = origin_of(tmp_path, "20190522_062959.wav", content)
    assert (named.start.isoformat(), named.source, named.note) == ("2019-05-22T06:29:59", "name", "")


def test_what_any_program_writes_comes_last_even_with_a_zone(tmp_path):
    content = flac((4, vorbis_comments("DATE=2019-05-22T20:30:00Z")))
    assert origin_of(tmp_path, "20190522_063000.flac", content).source == "name"


@pytest.mark.parametrize("date", ["2019-05-22", "2019", ""])
def test_a_comment_of_a_date_alone_tells_no_start(tmp_path, date):
    assert origin_of(tmp_path, "a.flac", flac((4, vorbis_comments(f"DATE={date}")))).start is None


def test_what_has_a_zone_goes_before_what_has_none(tmp_path):
    local = wamd(SM4 | {5: "2019-05-22 06:30:00"})
    origin = origin_of(tmp_path, "20190522T063000+1000.wav", wav(local))
    assert (origin.start.isoformat(), origin.source) == ("2019-05-22T06:30:00+10:00", "name")
    origin = origin_of(tmp_path, "20190522T063000+1000.wav", wav(local, guano(Timestamp="2019-05-21T20:30:00Z")))
    assert (origin.start.isoformat(), origin.source, origin.note) == ("2019-05-21T20:30:00+00:00", "GUANO", "")
    assert origin_of(tmp_path, "20190522_063000.wav", wav(local)).source == "WAMD"


@pytest.mark.parametrize("name", ["20190522_063000", "20190522_053000", "20190522_163001", "20190521_183000", "lake"])
def test_a_name_that_a_time_zone_explains_is_no_contradiction(tmp_path, name):
    origin = origin_of(tmp_path, f"{name}.wav", wav(info(ICMT=AUDIOMOTH)))
    assert (origin.source, origin.note) == ("AudioMoth comment", "")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("20180522_063000", "2018-05-22T06:30:00"),
        ("20190522_093700", "2019-05-22T09:37:00"),
        ("20190523_063000", "2019-05-23T06:30:00"),
        ("20190522_063000Z", "2019-05-22T06:30:00+00:00"),
        ("20190524", "2019-05-24"),
    ],
)
def test_a_name_that_contradicts_is_noted(tmp_path, name, told):
    content = wav(info(ICMT=AUDIOMOTH.replace("UTC+1", "UTC+10")))
    origin = origin_of(tmp_path, f"{name}.wav", content)
    assert origin.start.isoformat() == "2019-05-22T06:30:00+10:00"
    assert origin.note == f"AudioMoth comment tells 2019-05-22T06:30:00+10:00, but name {told}"


def test_two_local_times_a_day_apart_are_noted(tmp_path):
    local = wav(wamd(SM4 | {5: "2019-05-22 06:30:00"}))
    assert "but name 2019-05-24T06:30:00" in origin_of(tmp_path, "20190524_063000.wav", local).note
    assert origin_of(tmp_path, "20190522_203000.wav", local).note == ""


def test_a_site_in_the_name_goes_before_the_recorders(tmp_path):
    origin = origin_of(tmp_path, "heath_20190522_063000.wav", wav(wamd(SM4)))
    assert (origin.site, origin.recorder) == ("heath", "SM4 S4A03895")


@pytest.mark.parametrize("form", [b"RIFF", b"RF64", b"BW64"])
def test_chunks_behind_the_sound_are_found(tmp_path, form):
    assert origin_of(tmp_path, "a.wav", wav(after=guano(Timestamp="2019-05-22T06:30:00Z"), form=form)).source == "GUANO"


def test_a_chunk_behind_sound_of_64_bits_is_found(tmp_path):
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, len(SOUND), 0, 0))
    content = b"RF64\xff\xff\xff\xffWAVE" + sizes + FORMAT + b"data\xff\xff\xff\xff" + SOUND + wamd(SM4)
    assert origin_of(tmp_path, "a.rf64", content).source == "WAMD"


def test_a_chunk_of_wave64_is_found(tmp_path):
    write_audio(tmp_path / "a.wav", make_noise(3201), 32_000)
    samples, rate = soundfile.read(tmp_path / "a.wav")
    soundfile.write(tmp_path / "a.w64", samples, rate, format="W64", subtype="PCM_16")
    content = bext("2019-05-22", "06:30:00")[8:]
    added = b"bext" + bytes.fromhex("f3acd3118cd100c04f8edb8a") + struct.pack("<Q", 24 + len(content)) + content
    written = (tmp_path / "a.w64").read_bytes()
    written += bytes(-len(written) % 8)
    assert origin_of(tmp_path, "a.w64", written + added).source == "bext"


def test_a_chunk_behind_one_of_odd_length_is_found(tmp_path):
    assert origin_of(tmp_path, "a.wav", wav(chunk(b"note", b"odd"), wamd(SM4))).source == "WAMD"


def test_a_list_of_another_kind_does_not_hide_the_comments(tmp_path):
    content = wav(chunk(b"LIST", b"adtl" + chunk(b"labl", b"\0\0\0\0a\0")), info(ICMT=AUDIOMOTH))
    assert origin_of(tmp_path, "a.wav", content).source == "AudioMoth comment"


@pytest.mark.parametrize("length", [0, 3, 8, 11, 12, 20, 36, 44])
def test_a_file_that_is_cut_short_is_told_by_its_name(tmp_path, length):
    origin = origin_of(tmp_path, "20190522_063000.wav", wav(after=wamd(SM4))[:length])
    assert (origin.source, origin.recorder) == ("name", None)


@pytest.mark.parametrize("declared", [0, 1, 0x7FFF_F000, 0xFFFF_FFFF])
def test_a_wrong_size_of_the_sound_hides_what_is_behind_and_no_more(tmp_path, declared):
    content = wav_bytes(np.zeros(1000, np.int16), 32_000, declared=declared, chunk=wamd(SM4))
    assert origin_of(tmp_path, "20190522_063000.wav", content).source == "name"


def test_texts_are_fit_for_a_table(tmp_path):
    origin = origin_of(tmp_path, "a.wav", wav(guano(Model="A\r\tB\0\x1bC", Serial="x" * 500)))
    assert origin.recorder == ("A B C " + "x" * 500)[:100]
    assert origin_of(tmp_path, "b.wav", wav(wamd({1: b"\xff\xfeSM\x00"}))).recorder == "��SM"


class Counting(io.BytesIO):
    """A file that counts what is read of it."""

    counted = 0

    def read(self, size=-1):
        part = super().read(size)
        self.counted += len(part)
        return part


HUGE = [
    wav(chunk(b"guan", b"a:b\n" * 500_000), sound=bytes(3_000_000)),
    wav(*[chunk(b"LIST", b"INFO" + bytes(200_000))] * 20),
    wav(*[chunk(b"JUNK", b"")] * 100_000, after=wamd(SM4)),
    flac(*[(4, vorbis_comments("a=" + "b" * 200_000))] * 60),
    b"OggS" + bytes(22) + b"\xff" + b"\xff" * 255 + bytes(255 * 255),
    (b"OggS" + bytes(23)) * 100_000,
]


@pytest.mark.parametrize("content", HUGE, ids=["guano", "lists", "junk", "comments", "page", "pages"])
def test_no_more_than_a_bound_is_read(content):
    file = Counting(content)
    read_metadata(file)
    assert file.counted <= 1 << 20


STARTS = (b"", b"RIFF\0\0\0\0WAVE", b"RF64\xff\xff\xff\xffWAVE", b"fLaC", b"OggS", wav()[:40], flac((4, b""))[:42])
NAMES = st.sampled_from([b"guan", b"wamd", b"LIST", b"bext", b"ds64", b"data", b"INFO", b"ICMT", b"riff"])
PIECES = st.binary(max_size=40) | NAMES | st.integers(0, 2**32 - 1).map(lambda size: struct.pack("<I", size))


@given(st.sampled_from(STARTS), st.lists(PIECES, max_size=12))
def test_any_bytes_are_read(start, pieces):
    file = Counting(start + b"".join(pieces))
    for clue in read_metadata(file):
        assert clue.start is None or 1990 <= clue.start.year <= 2099
    assert file.counted <= 1 << 20


WHOLE = [
    wav(wamd(SM4), guano(Timestamp="2019-05-22T06:30:00Z", Loc_Position="5 6"), bext("2019-05-22", "06:30:00")),
    wav(info(ICMT=AUDIOMOTH, ICRD="2019-05-22 06:30:00")),
    flac((2, b"riff" + wamd(SM4)), (4, vorbis_comments("DATE=2019-05-22T06:30:00", "SensorLocation=1+2"))),
]


@given(st.sampled_from(WHOLE), st.data())
def test_flipped_bytes_are_read(content, data):
    damaged = bytearray(content)
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        damaged[place] = data.draw(st.integers(0, 255))
    read_metadata(Counting(bytes(damaged)))


def test_what_cannot_be_opened_is_told(tmp_path):
    with pytest.raises(RecordingError, match="cannot be opened"):
        read_origin(Recording(str(tmp_path / "gone.wav"), "gone.wav"))


def test_a_recording_at_a_url_is_read():
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/origins/a.wav", wav(after=wamd(SM4)))
    try:
        assert read_origin(Recording("memory://origins/a.wav", "a.wav")).source == "WAMD"
    finally:
        filesystem.rm("/origins", recursive=True)
