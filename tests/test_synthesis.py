"""The synthetic world has BirdCLEF's layout, says the truth about its sounds, and never harms a user's files."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from birdemb.errors import InputError
from birdemb.synthesis import World, make_world
from birdemb.synthesis import world as world_module
from birdemb.synthesis.scenes import Scene, mix_soundscape
from birdemb.synthesis.songs import SAMPLE_RATE, SPECIES, Voice, sing

TABLES = ("data/train.csv", "truth.csv", "sample_submission.csv")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"), size="small")


@pytest.fixture(scope="module")
def train(world):
    return pd.read_csv(world.train_table, keep_default_na=False)


@pytest.fixture
def silent(monkeypatch):
    """Write empty files in place of audio, for what asks about the tables alone."""

    def write(path, _scene):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")

    monkeypatch.setattr(world_module, "_write_ogg", write)


def read(path):
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate == SAMPLE_RATE
    assert audio.shape[1] == 1
    return audio[:, 0]


def band_levels(audio, band):
    """Decibels in a band, for each 20 ms."""
    frames = audio[: len(audio) // 640 * 640].reshape(-1, 640) * np.hanning(640)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    low, high = (round(edge / SAMPLE_RATE * 640) for edge in band)
    return 10 * np.log10(power[:, low : high + 1].sum(axis=1) + 1e-12)


def snapshot(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_table_of_recordings_has_birdclef_columns(train):
    assert list(train.columns) == [
        "primary_label",
        "secondary_labels",
        "type",
        "filename",
        "collection",
        "rating",
        "url",
        "latitude",
        "longitude",
        "scientific_name",
        "common_name",
        "author",
        "license",
    ]
    assert set(train.type) == {"song", "call"}
    assert train.rating.between(2.5, 5).all()
    assert (train.url == "").all()


def test_table_of_recordings_lists_exactly_the_files(world, train):
    folder = world.data / "train_audio"
    assert sorted(train.filename) == sorted(str(path.relative_to(folder)) for path in folder.rglob("*.ogg"))
    assert (train.filename.str.split("/").str[0] == train.primary_label).all()
    assert len(train) == world.n_recordings
    assert len(list(world.soundscapes.glob("soundscape_*.ogg"))) == world.n_soundscapes


def test_secondary_labels_are_other_classes(world, train):
    for primary, text in zip(train.primary_label, train.secondary_labels, strict=True):
        labels = ast.literal_eval(text)
        assert isinstance(labels, list)
        assert set(labels) <= set(world.classes) - {primary}


def test_classes_are_sorted_and_unbalanced(world, train):
    counts = train.primary_label.value_counts()
    assert list(world.classes) == sorted(counts.index)
    assert counts.min() >= 2
    assert counts.max() >= 2 * counts.min()


def test_truth_has_one_row_for_each_window(world):
    truth = pd.read_csv(world.truth)
    ids = [path.stem for path in sorted(world.soundscapes.iterdir())]
    assert all(len(name.removeprefix("soundscape_")) == 7 for name in ids)
    assert truth.row_id.tolist() == [f"{name}_{end}" for name in ids for end in range(5, 61, 5)]
    assert list(truth.columns) == ["row_id", *world.classes]
    labels = truth[list(world.classes)]
    assert set(np.unique(labels)) == {0, 1}
    assert (labels.sum() > 0).all()
    assert (labels.sum(axis=1) == 0).any()


def test_sample_submission_matches_truth(world):
    truth, sample = pd.read_csv(world.truth), pd.read_csv(world.sample_submission)
    assert list(sample.columns) == list(truth.columns)
    assert sample.row_id.tolist() == truth.row_id.tolist()
    assert (sample[list(world.classes)] == 1 / len(world.classes)).all(axis=None)


def test_recordings_have_odd_lengths_and_sane_levels(world):
    for path in sorted(world.data.rglob("*.ogg")) + sorted(world.soundscapes.iterdir()):
        audio = read(path)
        assert np.isfinite(audio).all()
        assert 0.02 < np.abs(audio).max() <= 1
        seconds = len(audio) / SAMPLE_RATE
        if path.parent == world.soundscapes:
            assert seconds == 60
        else:
            assert 2 < seconds < 31
            assert 0.1 < seconds % 5 < 4.9


def test_focal_songs_stand_out_in_their_band(world, train):
    species = {animal.label: animal for animal in SPECIES}
    for label, filename in zip(train.primary_label, train.filename, strict=True):
        levels = band_levels(read(world.data / "train_audio" / filename), species[label].band)
        assert np.percentile(levels, 95) - np.percentile(levels, 5) > 10, filename


def test_truth_agrees_with_the_sound(world):
    truth = pd.read_csv(world.truth, index_col="row_id")
    for animal in SPECIES[: len(world.classes)]:
        loudest = []
        for path in sorted(world.soundscapes.iterdir()):
            levels = band_levels(read(path), animal.band).reshape(12, -1)
            loudest.append(np.percentile(levels, 95, axis=1) - np.median(levels))
        present = truth[animal.label].to_numpy(bool)
        heard = np.concatenate(loudest)
        assert heard[present].mean() > heard[~present].mean() + 1, animal.label


def test_window_counts_from_half_a_second_of_song():
    songs = (("a", 4.6, 5.6), ("b", 9.4, 10.4), ("b", 9.5, 10.6), ("c", 59.5, 60.0))
    scene = Scene(np.zeros(0, dtype=np.float32), songs)
    rows = world_module._label_windows(scene, ("a", "b", "c"))
    positive = {(end, label) for end, row in rows for label, value in zip("abc", row, strict=True) if value}
    assert [end for end, _ in rows] == list(range(5, 61, 5))
    assert positive == {(10, "a"), (10, "b"), (15, "b"), (60, "c")}


def test_quiet_stretch_and_song_spans():
    rng = np.random.default_rng(5)
    scene = mix_soundscape(SPECIES[:5], 60, rng)
    assert len(scene.audio) == 60 * SAMPLE_RATE
    assert all(0 <= start < end <= 60 for _, start, end in scene.songs)
    silent_windows = [end for end in range(5, 61, 5) if not any(s < end and e > end - 5 for _, s, e in scene.songs)]
    assert silent_windows


@pytest.mark.parametrize("animal", SPECIES, ids=lambda animal: animal.label)
def test_song_lies_in_its_band_and_varies(animal):
    rng = np.random.default_rng(7)
    voice = Voice.draw(rng)
    first, second = sing(animal, voice, rng), sing(animal, voice, rng)
    stranger = sing(animal, Voice.draw(rng), rng)
    assert np.sqrt(np.mean(first**2)) == pytest.approx(1)
    assert 0.2 < len(first) / SAMPLE_RATE < 5
    assert not np.array_equal(first[:1000], second[:1000])
    assert len(stranger) != len(first)
    power = np.abs(np.fft.rfft(first)) ** 2
    low, high = (round(edge / SAMPLE_RATE * len(first)) for edge in animal.band)
    margin = (high - low) // 4 + low // 8
    assert power[low - margin : high + margin].sum() > 0.6 * power.sum()


def test_bands_overlap():
    for animal in SPECIES:
        low, high = animal.band
        assert 500 < low < high < 11_000
        assert any(other.band[0] < high and other.band[1] > low for other in SPECIES if other is not animal)


@pytest.mark.slow
def test_interrupted_world_is_made_again(world, tmp_path, monkeypatch):
    write, written = world_module._write_ogg, []

    def write_three(path, scene):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path)
        write(path, scene)

    monkeypatch.setattr(world_module, "_write_ogg", write_three)
    with pytest.raises(KeyboardInterrupt):
        make_world(tmp_path, size="small")
    written[0].write_bytes(b"half")
    monkeypatch.setattr(world_module, "_write_ogg", write)
    again = make_world(tmp_path, size="small")

    original = world.data.parent
    for name in TABLES:
        assert (tmp_path / name).read_bytes() == (original / name).read_bytes()
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.ogg"))
    assert files == sorted(path.relative_to(original) for path in original.rglob("*.ogg"))
    for name in files:
        np.testing.assert_array_equal(read(tmp_path / name), read(original / name))
    assert again.classes == world.classes


def test_second_call_reuses_the_world(world):
    folder = world.data.parent
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert make_world(folder, size="small") == world
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.slow
@pytest.mark.usefixtures("silent")
def test_seed_changes_the_world(world, tmp_path):
    other = make_world(tmp_path / "other", seed=1, size="small")
    assert other.truth.read_bytes() != world.truth.read_bytes()
    assert other.train_table.read_bytes() != world.train_table.read_bytes()


@pytest.mark.usefixtures("silent")
@pytest.mark.slow
def test_full_world_is_unbalanced_and_complete(tmp_path):
    world = make_world(tmp_path)
    counts = pd.read_csv(world.train_table).primary_label.value_counts()
    assert len(world.classes) == 12
    assert (counts.max(), counts.min(), counts.sum()) == (14, 2, world.n_recordings)
    truth = pd.read_csv(world.truth, index_col="row_id")
    assert len(truth) == 12 * world.n_soundscapes
    assert (truth.sum() > 0).all()
    assert (truth.sum(axis=1) > 1).any()


def test_folder_with_other_files_is_refused_untouched(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("mine\n")
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match="holds other files"):
        make_world(tmp_path, size="small")
    assert snapshot(tmp_path) == before


def test_another_world_is_refused_untouched(world):
    folder = world.data.parent
    before = snapshot(folder)
    with pytest.raises(InputError, match=r"seed 3.*new or empty folder"):
        make_world(folder, seed=3, size="small")
    with pytest.raises(InputError, match="another world"):
        make_world(folder, size="full")
    assert snapshot(folder) == before


@pytest.mark.parametrize("content", ["[]", json.dumps({"seed": 0, "size": "small"})])
def test_foreign_world_json_is_refused_untouched(tmp_path, content):
    (tmp_path / "world.json").write_text(content)
    with pytest.raises(InputError, match="another world"):
        make_world(tmp_path, size="small")
    assert (tmp_path / "world.json").read_text() == content


def test_file_in_place_of_the_folder_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        make_world(path, size="small")
    assert path.read_text() == "mine"


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(InputError, match="one of 'small', 'full', 'imbalanced', not 'huge'"):
        make_world(tmp_path / "w", size="huge")
    with pytest.raises(InputError, match="not -1"):
        make_world(tmp_path / "w", seed=-1)
    assert not (tmp_path / "w").exists()


def test_world_is_frozen(world):
    assert isinstance(world, World)
    with pytest.raises(AttributeError):
        world.n_recordings = 0
    assert all(isinstance(path, Path) for path in (world.data, world.soundscapes, world.truth))


def test_import_is_cheap():
    heavy = ("pandas", "sklearn", "scipy.signal", "torch", "openvino", "lightgbm")
    code = f"import sys, birdemb.synthesis; sys.exit(sum(name in sys.modules for name in {heavy!r}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
