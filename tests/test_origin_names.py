"""What the names of recordings tell of when and where they were made."""

import re
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdemb.embed.origins import origin_of_name

PAGE = (Path(__file__).parents[1] / "docs" / "recording-times.md").read_text(encoding="utf-8")

STARTS = {
    # BirdCLEF
    "BC2026_Train_0001_S08_20250606_030007.ogg": "2025-06-06T03:00:07",
    "train_soundscapes/H02_20230420_074000.ogg": "2023-04-20T07:40:00",
    # AudioMoth
    "20190522_063000.WAV": "2019-05-22T06:30:00",
    "20190522_063000T.WAV": "2019-05-22T06:30:00",
    "5CE4F1A0.WAV": "2019-05-22T06:52:16+00:00",
    "5CE4F1A0.wav": "2019-05-22T06:52:16+00:00",
    "59687100.WAV": "2017-07-14T07:21:36+00:00",
    # Wildlife Acoustics
    "S4A03895_20190522_000000.wav": "2019-05-22T00:00:00",
    "SM4-1_0+1_20190522_063000.wav": "2019-05-22T06:30:00",
    "ARIZONA-1_20161023$195550.wav": "2016-10-23T19:55:50",
    "FNQ-RBS_20190102_044802_010.wav": "2019-01-02T04:48:02",
    "2MM04797_20241127_155140.wav": "2024-11-27T15:51:40",
    # Frontier Labs
    "20190522T063000+1000_REC.flac": "2019-05-22T06:30:00+10:00",
    "20190522T063000+1000_REC_[-27.38+152.88].flac": "2019-05-22T06:30:00+10:00",
    "20210617T080000+0000_Rec2_-18.2656+144.5564.flac": "2021-06-17T08:00:00+00:00",
    "20161108T075126.123456-0430_Dawn [-39.5336 -131.2711].wav": "2016-11-08T07:51:26.123456-04:30",
    # others
    "SwiftOne_20220719_000000_-0400.wav": "2022-07-19T00:00:00-04:00",
    "marsh_20190522_063000Z.wav": "2019-05-22T06:30:00+00:00",
    "55063_2024-11-27_T16-47-33.wav": "2024-11-27T16:47:33",
    "2021-10-02-birdnet-06:30:00.wav": "2021-10-02T06:30:00",
    "turdus_merula_85p_20240522T063000Z.wav": "2024-05-22T06:30:00+00:00",
    "20190522T0630.wav": "2019-05-22T06:30:00",
    "2019-05-22_06-30.wav": "2019-05-22T06:30:00",
    "2019-05-22 06h30m15s.wav": "2019-05-22T06:30:15",
    "2019_05_22_06_30_00.wav": "2019-05-22T06:30:00",
    "20070415051314.wav.trimmed.wav": "2007-04-15T05:13:14",
    "20190522_063000_20190522_073000.wav": "2019-05-22T06:30:00",
    "0000514b-9329-404c-bdb3-a50827457b15_20100503-080000Z.mp3": "2010-05-03T08:00:00+00:00",
    # numbers that look like an offset
    "20190522_063000-02.wav": "2019-05-22T06:30:00",
    "20131012_123456-9_456.wav": "2013-10-12T12:34:56",
    "20190522_063000+9999.wav": "2019-05-22T06:30:00",
    "PILLIGA_20121204_234600_+13-090.wav": "2012-12-04T23:46:00",
}

NOTHING = [
    "xc134501.ogg",
    "soundscape_453028782.ogg",
    "1000170626.ogg",
    "20191322_063000.wav",
    "20190230_063000.wav",
    "20190522_250000.wav",
    "20190522_066000.wav",
    "18990522_063000.wav",
    "20190522063.wav",
    "120190522_063000.wav",
    "19700101_000000.WAV",
    "00000000.WAV",
    "61234567.wav",
    "10160435.wav",
    "5ce4f1a0.WAV",
    "5CE4F1A0.flac",
    "5AFCD4F45AFCD4F4.WAV",
    "86f5923d-ef1d-4159-b120-a8dec3f6334e.wav",
    "x20190522.wav",
    "",
    ".wav",
]


@pytest.mark.parametrize(("name", "start"), STARTS.items())
def test_a_name_tells_the_start(name, start):
    origin = origin_of_name(name)
    assert origin.start.isoformat() == start
    assert origin.source == "name"
    assert origin.note == ""


@pytest.mark.parametrize("name", NOTHING)
def test_a_name_that_only_looks_like_a_date_tells_nothing(name):
    origin = origin_of_name(name)
    assert origin.start is None
    assert origin.day is None
    assert origin.source == ""


@pytest.mark.parametrize("name", ["10534_SSW_20170429.ogg", "20170429.wav", "20170429_0001.wav", "lake 2017-04-29.mp3"])
def test_a_date_alone_tells_the_day(name):
    origin = origin_of_name(name)
    assert origin.start is None
    assert origin.day == date(2017, 4, 29)
    assert origin.source == "name"


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("BC2026_Train_0001_S08_20250606_030007.ogg", "S08"),
        ("BC2026_Test_0123_S19_20250606_030007.ogg", "S19"),
        ("H02_20230420_074000.ogg", "H02"),
        ("10534_SSW_20170429.ogg", "SSW"),
        ("SM4-1_0+1_20190522_063000.wav", "SM4-1"),
        ("SBT-6-76-18_0+1_0_20160621_080000.wav", "SBT-6-76-18"),
        ("marsh north_20190522_063000.wav", "marsh north"),
        ("marsh_1_20190522_063000.wav", "marsh_1"),
        ("20190522_063000.WAV", None),
        ("xc134501.ogg", None),
    ],
)
def test_what_stands_before_the_date_is_the_site(name, site):
    origin = origin_of_name(name)
    assert origin.site == site
    assert origin.recorder is None
    assert origin.place == site


@pytest.mark.parametrize(
    ("name", "recorder"),
    [
        ("S4A03895_20190522_000000.wav", "S4A03895"),
        ("SM301297_0+1_20170912_220000.wav", "SM301297"),
        ("2MM04797_20241127_155140.wav", "2MM04797"),
        ("SMM03873_20220719_000000.wav", "SMM03873"),
        ("SwiftOne_20220719_000000_-0400.wav", "SwiftOne"),
        ("5CE4F1A0.WAV", "AudioMoth"),
    ],
)
def test_a_serial_number_before_the_date_is_the_recorder(name, recorder):
    origin = origin_of_name(name)
    assert origin.recorder == recorder
    assert origin.site is None
    assert origin.place == recorder


@pytest.mark.parametrize(
    ("name", "position"),
    [
        ("20190522T063000+1000_REC_[-27.38+152.88].flac", (-27.38, 152.88)),
        ("20210617T080000+0000_Rec2_-18.2656+144.5564.flac", (-18.2656, 144.5564)),
        ("20180226_040000_Bar29 [27.2819 90.1361].wav", (27.2819, 90.1361)),
        ("20180226_040000_Bar29 _27.2819 90.1361_.wav", (27.2819, 90.1361)),
        ("20180226_040000Z_+40.1213-075.0015+2.79CRSWGS_84.flac", (40.1213, -75.0015)),
        ("20180226_040000_[+0.0000+000.0000].flac", (None, None)),
        ("20180226_040000_[+97.38+152.88].flac", (None, None)),
        ("20190522T063000.123+1000_REC.flac", (None, None)),
        ("SM4-1_0+1_20190522_063000.wav", (None, None)),
    ],
)
def test_degrees_in_a_name_are_the_position(name, position):
    origin = origin_of_name(name)
    assert (origin.latitude, origin.longitude) == position


@given(
    st.datetimes(), st.sampled_from(["_", "T", "-", "$", " ", ""]), st.sampled_from(["", "marsh_", "a b-", "S4A01234_"])
)
def test_each_time_since_1990_is_read_from_a_name(time, separator, prefix):
    time = time.replace(microsecond=0)
    origin = origin_of_name(f"{prefix}{time.year:04}{time:%m%d}{separator}{time:%H%M%S}.wav")
    assert origin.start == (time if 1990 <= time.year <= 2099 else None)


@given(st.text(max_size=60) | st.from_regex(r"[0-9A-F_T+\[\]. $-]{0,40}\.WAV", fullmatch=True))
def test_any_name_is_read(name):
    origin = origin_of_name(name)
    assert origin.start is None or 1990 <= origin.start.year <= 2099
    assert (origin.latitude is None) == (origin.longitude is None)
    assert origin.site is None or origin.site.isprintable()


def test_names_of_real_soundscapes_are_read(recordings):
    names = sorted(path.name for path in (recordings / "background").iterdir())
    origins = [origin_of_name(name) for name in names]
    assert {origin.recorder for origin in origins} == {"S4A03895"}
    assert [f"{origin.start:%Y%m%d_%H%M%S}" in name for origin, name in zip(origins, names, strict=True)] == [True] * 10


def test_each_name_in_the_documentation_is_read():
    table = PAGE.partition("## Names")[2].partition("Not taken for a time")[0]
    names = [name for name in re.findall(r"`([^`]+\.(?:wav|WAV|ogg|flac))`", table) if not name.startswith("...")]
    assert len(names) > 12
    for name in names:
        assert origin_of_name(name).day is not None, name


def test_the_example_in_the_documentation_runs(capsys):
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(block, "the documentation", "exec"), {})  # noqa: S102 - its own lines
    assert "'2019-05-22T06:30:05+10:00'" in capsys.readouterr().out
