"""SavedModels give what their authors meant: compared with NumPy, which computes the stand-ins' insides by itself."""

import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from card_files import write_card
from fit_files import copy_world, run
from saved_models import RATE_16K_FRAME, VGGISH_HOP, YAMNET_HOP, Insides, label_names, write_compiled

from birdemb.embed.encoder import load_encoder

pytestmark = pytest.mark.slow  # TensorFlow alone takes seconds to import

CLOSE = {"rtol": 2e-4, "atol": 2e-4}


@pytest.fixture
def load(saved_model, tmp_path):
    """Load an encoder as a user does who brings a card, and the weights of one of birdemb's own."""

    def load_one(like, *, window=5.0, logits=False, weights=None, **changes):
        card = write_card(tmp_path, like, "weights", **changes)
        return load_encoder(str(card), window=window, logits=logits, weights=weights or saved_model(like))

    return load_one


def make_windows(seconds, rate, count=6):
    """Songs of several pitches and levels; the last but one with a large constant offset, the last one silent."""
    rng = np.random.default_rng(7)
    time = np.arange(round(seconds * rate)) / rate
    pitches = 700 * np.arange(1, count + 1)
    songs = [np.sin(2 * np.pi * pitch * time) * (np.sin(pitch / 100 * time) > 0) for pitch in pitches]
    windows = np.stack(songs) * 10.0 ** -np.linspace(0, 2, count)[:, None] + rng.normal(0, 0.003, (count, len(time)))
    windows[-2] += 0.5
    windows[-1] = 0
    return windows.astype(np.float32)


def normalise(frames):
    """What perch-hoplite's normalize_audio does, written anew: no mean, and a peak of 0.25 but for silence."""
    rows = []
    for frame in frames.astype(np.float64):
        centred = frame - frame.mean()
        peak = np.abs(centred).max()
        rows.append(centred / peak * 0.25 if peak > 0 else centred)
    return np.stack(rows)


def embed_perch(name, frames):
    if name == "perch-2":
        return embed_places(frames).mean(axis=(1, 2))
    return Insides(name).hear(frames, "embedding")


def embed_places(frames):
    """Perch 2's spatial embedding."""
    return Insides("perch-2").hear(frames, "spatial_embedding", 16).reshape(-1, 16, 4, 1536)


@pytest.mark.parametrize("name", ["perch-1", "perch-1-v4", "perch-2"])
def test_perch_hears_centred_frames_of_a_quarter_of_full_scale(load, name):
    windows = make_windows(5, 32_000)
    embeddings, logits = load(name, logits=True).encode_with_logits(windows)
    heard = normalise(windows)
    np.testing.assert_allclose(embeddings, embed_perch(name, heard), **CLOSE)
    scale, shift = (0.97, -10) if name == "perch-2" else (1, 0)
    np.testing.assert_allclose(logits, scale * Insides(name).hear(heard, "label") + shift, **CLOSE)
    assert np.abs(embeddings - embed_perch(name, windows)).max() > 0.1


@pytest.mark.parametrize("level", ["none", "peak"])
def test_level_is_the_card_s(load, level):
    windows = make_windows(5, 32_000)[:-1]
    heard = windows if level == "none" else windows / np.abs(windows).max(axis=1, keepdims=True) * 0.25
    encoder = load("perch-1", level=level, level_peak=0.25 if level == "peak" else 0.0)
    np.testing.assert_allclose(encoder.encode(windows), embed_perch("perch-1", heard), **CLOSE)


def test_gain_and_offset_change_nothing_of_perch(load):
    windows = make_windows(5, 32_000)[:4]
    encoder = load("perch-2")
    np.testing.assert_allclose(encoder.encode(windows * 0.3 + 0.2), encoder.encode(windows), atol=1e-3)


def test_frames_of_a_long_window_are_levelled_alone_and_pooled(load):
    windows = make_windows(12, 32_000)
    starts = [0, 112_000, 224_000]  # 0, 3.5 and 7 s
    heard = [normalise(windows[:, start : start + 160_000]) for start in starts]
    rows = np.stack([embed_perch("perch-1", frames) for frames in heard])
    for pooling, expected in (
        ("mean", rows.mean(axis=0)),
        ("max", rows.max(axis=0)),
        ("mean+max", np.concatenate([rows.mean(axis=0), rows.max(axis=0)], axis=1)),
    ):
        encoder = load("perch-1", window=12.0, logits=True, pooling=pooling, dim=expected.shape[1])
        embeddings, logits = encoder.encode_with_logits(windows)
        np.testing.assert_allclose(embeddings, expected, **CLOSE)
        largest = np.max([Insides("perch-1").hear(frames, "label") for frames in heard], axis=0)
        np.testing.assert_allclose(logits, largest, **CLOSE)


def test_short_window_is_padded_and_then_levelled(load):
    windows = make_windows(3, 32_000)
    padded = np.pad(windows, ((0, 0), (0, 64_000)))
    rows = load("perch-1-v4", window=3.0).encode(windows)
    np.testing.assert_allclose(rows, embed_perch("perch-1-v4", normalise(padded)), **CLOSE)


def test_perch_2_can_be_pooled_from_its_places(load):
    windows = make_windows(5, 32_000)
    places = embed_places(normalise(windows)).reshape(len(windows), 64, 1536)
    for pooling, expected in (
        ("mean", places.mean(axis=1)),
        ("mean+max", np.concatenate([places.mean(axis=1), places.max(axis=1)], axis=1)),
    ):
        encoder = load("perch-2", pooling=pooling, dim=expected.shape[1], tensors={"embedding": "spatial_embedding"})
        np.testing.assert_allclose(encoder.encode(windows), expected, **CLOSE)


@pytest.mark.parametrize(
    ("name", "tensors"),
    [
        ("perch-1", {"call": "serving_default", "input": "inputs"}),
        ("perch-1", {"call": "serving_default", "at_once": 3}),
        ("perch-1-v4", {"call": "serving_default", "embedding": "output_1", "logits": "output_0"}),
        ("perch-2", {"input": ""}),
        ("perch-2", {"call": "infer", "input": "waveform"}),
    ],
)
def test_signatures_and_methods_give_the_same(load, name, tensors):
    windows = make_windows(5, 32_000)[:4]
    np.testing.assert_array_equal(load(name, tensors=tensors).encode(windows), load(name).encode(windows))


def cut(windows, hop):
    """The frames of 0.975 s that YAMNet and VGGish hear."""
    last = windows.shape[1] - RATE_16K_FRAME
    return np.stack([windows[:, start : start + RATE_16K_FRAME] for start in range(0, last + 1, hop)], axis=1)


@pytest.mark.parametrize(("seconds", "rows"), [(5.0, 10), (0.5, 1), (0.975, 1), (2.0, 4)])
def test_yamnet_s_embeddings_are_pooled_and_its_scores_become_logits(load, seconds, rows):
    windows = make_windows(seconds, 16_000)
    hops = rows - 1
    frames = cut(np.pad(windows, ((0, 0), (0, RATE_16K_FRAME + hops * YAMNET_HOP - windows.shape[1]))), YAMNET_HOP)
    assert frames.shape[1] == rows
    heard = Insides("yamnet").hear(frames, "embeddings")
    largest = Insides("yamnet").hear(frames, "scores").max(axis=1)
    for pooling, expected in (
        ("mean", heard.mean(axis=1)),
        ("max", heard.max(axis=1)),
        ("mean+max", np.concatenate([heard.mean(axis=1), heard.max(axis=1)], axis=1)),
    ):
        encoder = load("yamnet", window=seconds, logits=True, pooling=pooling, dim=expected.shape[1])
        embeddings, logits = encoder.encode_with_logits(windows)
        np.testing.assert_allclose(embeddings, expected, **CLOSE)
        np.testing.assert_allclose(logits, largest, atol=1e-3)


def test_scores_of_nought_and_one_become_finite_logits(load):
    loud = make_windows(5, 16_000)[:2] * 1000
    _, logits = load("yamnet", logits=True).encode_with_logits(loud)
    assert np.isfinite(logits).all()
    assert logits.max() == pytest.approx(np.log(1e7), abs=0.01)


@pytest.mark.parametrize(("seconds", "rows"), [(5.0, 5), (0.5, 1), (2.0, 2)])
def test_vggish_s_embeddings_are_pooled(load, seconds, rows):
    windows = make_windows(seconds, 16_000)
    frames = cut(np.pad(windows, ((0, 0), (0, max(0, RATE_16K_FRAME - windows.shape[1])))), VGGISH_HOP)
    assert frames.shape[1] == rows
    heard = Insides("vggish").hear(frames, "embeddings")
    np.testing.assert_allclose(load("vggish", window=seconds).encode(windows), heard.mean(axis=1), **CLOSE)
    np.testing.assert_allclose(
        load("vggish", window=seconds, pooling="max").encode(windows), heard.max(axis=1), **CLOSE
    )


@pytest.mark.parametrize("name", ["perch-1", "perch-1-v4", "perch-2", "yamnet"])
def test_names_of_classes_come_with_the_weights(load, name):
    encoder = load(name, logits=True)
    assert [entry.scientific for entry in encoder.own_classes] == label_names(name)


def test_identity_holds_what_changes_embeddings(load):
    usual = load("perch-1").identity
    assert (usual["level"], usual["level_peak"], usual["tensors.call"]) == ("centred-peak", 0.25, "infer_tf")
    assert load("perch-1", tensors={"at_once": 2}).identity == usual
    for changes in ({"level": "none", "level_peak": 0.0}, {"level_peak": 0.5}, {"tensors": {"embedding": "genus"}}):
        assert load("perch-1", **changes).identity != usual


def test_network_compiled_for_cpus_runs_on_one(tmp_path):
    # With a GPU beside it, TensorFlow would choose that, and fail.
    write_compiled(tmp_path / "weights", version=9, platform="CPU")
    encoder = load_encoder(str(write_card(tmp_path, "perch-2", "weights", **OF_COMPILED)), window=0.1)
    windows = make_windows(0.1, 16_000)
    np.testing.assert_array_equal(encoder.encode(windows), 2 * windows)
    assert encoder._network.device == "/CPU:0"


OF_COMPILED = {
    "sample_rate": 16_000,
    "frame_seconds": 0.1,
    "dim": 1600,
    "classes": 0,
    "level": "none",
    "level_peak": 0.0,
    "labels": None,
    "tensors": {"at_once": 1, "logits": "", "scale": 1.0, "shift": 0.0},
}


def test_process_has_one_thread_and_whoever_started_tensorflow_before_keeps_theirs():
    for before, threads in (
        ("", (1, 1)),
        ("import tensorflow as t; t.config.threading.set_intra_op_parallelism_threads(3); t.constant(1) + 1", (3, 0)),
    ):
        code = (
            f"{before}\nfrom birdemb.embed.tensorflow_runtime import start_tensorflow\n"
            "threading = start_tensorflow()[0].config.threading\n"
            "print(threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads())"
        )
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert ran.stdout.split() == [str(number) for number in threads]


def test_three_commands_with_a_card_and_its_folder_of_weights(world, saved_model, tmp_path, monkeypatch):
    folder = copy_world(world, tmp_path / "job")
    monkeypatch.chdir(folder)
    shutil.copytree(saved_model("perch-1"), folder / "weights")
    names = [*label_names("perch-1")[: -len(world.classes)], *world.classes]
    lines = [f'"{name}"' for name in ("ebird2021", *names)]
    (folder / "weights/assets/label.csv").write_text("\n".join(lines), encoding="utf-8")
    card = write_card(folder, "perch-1", "weights")
    run("embed", "data", "--encoder", card, "--logits", "--jobs", 1)
    assert "all of it was in the cache" in run("embed", "data", "--encoder", card, "--logits", "--jobs", 1)
    count = len(world.classes)
    assert f"own knows {count} of {count} classes by itself; offset from its logits" in run("fit", "--head", "lr")
    run("fit", "--head", "lr", "--prior", "none")  # what the stand-in knows is made up
    run("predict", "soundscapes", "-o", "submission.csv", "--jobs", 1)
    submission = pd.read_csv("submission.csv")
    assert set(submission["row_id"]) == set(pd.read_csv("truth.csv")["row_id"])
    score = float(run("evaluate", "submission.csv", "truth.csv").split("Macro ROC-AUC")[1].split()[0])
    assert 0.5 < score <= 1
