"""Sound that comes block by block is predicted as a recording of the same samples is."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile
from fit_files import FAST
from hypothesis import given, settings
from hypothesis import strategies as st

import birdemb
from birdemb.classify.bundle_file import read_bundle
from birdemb.embedding import embed_recordings
from birdemb.errors import InputError
from birdemb.fitting import fit
from birdemb.listening import Listener, listen, read_samples
from birdemb.notebooks import predict
from birdemb.taxonomy import ClassName

RATE = 32_000  # melspec's own


@pytest.fixture(scope="module")
def place(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("listening")
    embed_recordings(world.data, encoder="melspec", workspace=folder, jobs=1)
    fit("lr", workspace=folder, cv=2, jobs=1)
    return folder


def sing(seconds, rate=RATE, channels=1, seed=0):
    rng, time = np.random.default_rng(seed), np.arange(round(seconds * rate)) / rate
    song = 0.2 * np.sin(2 * np.pi * (2500 + 800 * np.sin(3 * time)) * time)
    return (song[:, np.newaxis] + rng.normal(0, 0.02, (len(time), channels))).astype(np.float32)


def hear(place, samples, rate, cuts=()):
    listener = Listener(sample_rate=rate, workspace=place)
    blocks = np.split(samples, sorted(cuts))
    return pd.concat([*(listener.feed(block) for block in blocks), listener.finish()], ignore_index=True)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [RATE, 44_100])
@pytest.mark.parametrize("channels", [1, 3])
def test_array_and_file_and_stream_agree(place, tmp_path, rate, channels):
    samples = sing(13.2, rate, channels)
    soundfile.write(tmp_path / "song.wav", samples, rate, subtype="FLOAT")
    of_file = predict(tmp_path / "song.wav", workspace=place, jobs=1)
    assert list(of_file.columns) == ["recording", "start", "end", *read_bundle(next(place.rglob("*.birdemb"))).labels]
    assert of_file["recording"].tolist() == ["song.wav"] * 3
    assert of_file[["start", "end"]].to_numpy().tolist() == [[0, 5], [5, 10], [10, 15]]
    of_array = predict(samples, sample_rate=rate, workspace=place)
    pd.testing.assert_frame_equal(of_array.drop(columns="recording"), of_file.drop(columns="recording"))
    with (tmp_path / "song.wav").open("rb") as file:
        pd.testing.assert_frame_equal(predict(file, workspace=place), of_array)
    of_stream = hear(place, samples, rate, cuts=(1, 5_000, 200_000))
    pd.testing.assert_frame_equal(of_stream, of_file.drop(columns="recording"), atol=1e-6)


@given(seconds=st.floats(0.01, 12), cuts=st.lists(st.floats(0, 1), max_size=6))
@settings(max_examples=8, deadline=None)
def test_blocks_may_be_cut_anywhere(place, seconds, cuts):
    samples = sing(seconds, 16_000)
    at = [round(cut * len(samples)) for cut in cuts]
    pd.testing.assert_frame_equal(hear(place, samples, 16_000, at), hear(place, samples, 16_000), atol=1e-6)


def test_windows_are_told_when_they_are_whole(place):
    listener = Listener(sample_rate=RATE, workspace=place)
    assert listener.feed(np.zeros(5 * RATE, np.float32)).empty  # it may end here, and then have no second window
    assert listener.feed(np.zeros(1, np.float32))["start"].tolist() == [0.0]
    assert listener.feed([]).empty
    assert listener.feed(np.zeros(10 * RATE, np.float32))["start"].tolist() == [5.0, 10.0]
    assert listener.finish()["start"].tolist() == [15.0]


@pytest.mark.slow
def test_a_long_block_is_heard_as_many_short_ones(place):
    samples = sing(130, 16_000)
    tables = list(listen([samples], sample_rate=16_000, workspace=place))
    assert sum(map(len, tables)) == 26
    parts = list(listen(np.split(samples, 26), sample_rate=16_000, workspace=place))
    pd.testing.assert_frame_equal(pd.concat(tables, ignore_index=True), pd.concat(parts, ignore_index=True), atol=1e-6)


def test_integers_have_full_scale_1():
    np.testing.assert_array_equal(read_samples(np.array([-(2**15), 2**14], np.int16)), [-1, 0.5])
    np.testing.assert_array_equal(read_samples(np.array([[-(2**31), 2**30]], np.int32)), [-0.25])
    np.testing.assert_array_equal(read_samples([[0.5, -0.5, 0.75]]), [0.25])


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (np.zeros((2, 48_000)), "48000 channels"),
        (np.zeros((2, 2, 2)), r"shape \(2, 2, 2\)"),
        (np.zeros((3, 0)), r"shape \(3, 0\)"),
        (np.zeros(3, np.uint8), "uint8"),
        (np.zeros(3, np.int8), "int8"),
        (np.array([0, np.nan]), "not finite"),
        (np.array(["a"]), "type <U1"),
        (0.5, r"shape \(\)"),
    ],
)
def test_what_is_no_block_of_samples_is_refused(block, said):
    with pytest.raises(InputError, match=said):
        read_samples(block)


def test_misuse_is_a_sentence(place):
    for rate in (0, 999, 10**6, 44_100.5, True, "48000"):
        with pytest.raises(InputError, match="The sample rate is"):
            Listener(sample_rate=rate, workspace=place)
    listener = Listener(sample_rate=RATE, workspace=place)
    with pytest.raises(InputError, match="No samples came"):
        listener.finish()
    listener.feed(np.zeros(10))
    assert len(listener.finish()) == 1
    for late in (listener.finish, lambda: listener.feed([0.0])):
        with pytest.raises(InputError, match="was finished"):
            late()


def test_weights_of_one_encoder_are_refused_where_there_are_two(place):
    bundle = read_bundle(next(place.rglob("*.birdemb")))
    ensemble = replace(bundle.ensemble, priors=bundle.ensemble.priors * 2)
    two = replace(bundle, ensemble=ensemble, identities=bundle.identities * 2)
    for act in (predict, lambda *_, **settings: Listener(sample_rate=RATE, **settings)):
        with pytest.raises(InputError, match="weights of one encoder were given, and the bundle has several"):
            act("song.wav", model=two, weights="x.tflite", workspace=place)


def test_class_with_the_name_of_a_column_is_refused(place, tmp_path):
    bundle = read_bundle(next(place.rglob("*.birdemb")))
    named = replace(bundle, classes=(ClassName("start"), *bundle.classes[1:]))
    for act in (predict, lambda samples, **settings: Listener(**settings).feed(samples)):
        with pytest.raises(InputError, match="The class 'start' has the name of another column"):
            act(sing(6), model=named, sample_rate=RATE, workspace=place)


@pytest.mark.parametrize(
    ("source", "settings", "said"),
    [
        (np.zeros(10), {}, "needs its sample_rate"),
        ("song.wav", {"sample_rate": 48_000}, "no array of samples"),
        (np.zeros(0), {"sample_rate": 48_000}, "holds no samples"),
        (np.full(10, 1e30), {"sample_rate": 48_000}, "^The array cannot be predicted: melspec cannot encode it"),
        (12, {}, "A int cannot be predicted"),
        (io.StringIO("text"), {}, "open for text"),
        (io.BytesIO(b""), {}, "^The file cannot be predicted: the file is empty"),
        (io.BytesIO(b"no sound" * 100), {}, "^The file cannot be predicted: no audio that libsndfile can read"),
        ("nowhere", {}, "no folder or file"),
    ],
)
def test_what_cannot_be_predicted_is_a_sentence(place, source, settings, said):
    with pytest.raises(InputError, match=said):
        predict(source, workspace=place, **settings)


def test_a_bad_recording_among_others_is_a_warning(place, tmp_path):
    soundfile.write(tmp_path / "song.flac", sing(3), RATE)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    with pytest.warns(UserWarning, match=r"1 recording was left out. The first, broken\.wav: "):
        table = predict(tmp_path, workspace=place, jobs=1)
    assert table["recording"].tolist() == ["song.flac"]
    assert [path for path, _ in table.attrs["skipped"]] == ["broken.wav"]


def test_ranks_need_a_last_window(place, tmp_path):
    fit("lr,lgbm", workspace=place, output=tmp_path / "ranks.birdemb", cv=2, blend="ranks", jobs=1, parameters=FAST)
    with pytest.raises(InputError, match="has no last one"):
        Listener(tmp_path / "ranks.birdemb", sample_rate=RATE, workspace=place)
    table = birdemb.predict(sing(12), sample_rate=RATE, model=tmp_path / "ranks.birdemb", workspace=place)
    assert len(table) == 3
