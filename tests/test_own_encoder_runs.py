"""An encoder that a user brings, through the commands: a card and an ONNX file, on real audio files."""

import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
from card_files import own_card
from fit_files import copy_world, refuse, run, write_noise
from onnx_networks import Network

from birdemb.embed.recordings import find_recordings
from birdemb.embed.windows import WindowGrid, stream_windows
from birdemb.onnx_building import GraphBuilder

NETWORK = Network.random(dim=32, classes=7)


@pytest.fixture
def place(world, tmp_path, monkeypatch):
    """A folder with recordings, soundscapes, and in own/ a card and its network."""
    folder = copy_world(world, tmp_path / "place")
    (folder / "own").mkdir()
    NETWORK.write(folder / "own" / "own.onnx")
    own_card(folder / "own", sample_rate=32_000, frame_seconds=2.0, dim=32, classes=7, level="peak", level_peak=0.5)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.slow
def test_embed_fit_and_predict_with_a_card(place, monkeypatch, tmp_path):
    said = run("embed", "data", "--encoder", "own/own.toml", "--dtype", "float32", "--jobs", 2)
    assert "own" in said
    run("cache", "export", "-o", "embeddings.npz")
    with np.load("embeddings.npz") as exported:
        rows = exported["embeddings"]
    windows = []
    for recording in find_recordings(place / "data").recordings:
        windows += [part for part, _ in stream_windows(recording, 32_000, WindowGrid(5.0, 5.0))]
    windows = np.concatenate(windows)
    frames = [windows[:, start : start + 64_000].astype(np.float64) for start in (0, 48_000, 96_000)]
    peaks = [np.abs(part).max(axis=1, keepdims=True) for part in frames]  # 0 where a tail was padded
    levelled = [part / np.where(peak, peak, 1) * 0.5 for part, peak in zip(frames, peaks, strict=True)]
    expected = np.mean([NETWORK.embed(part) for part in levelled], axis=0)
    rows, expected = (values[values.mean(axis=1).argsort()] for values in (rows, expected))
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    run("fit", "--head", "lr", "--jobs", 1)
    run("predict", "soundscapes", "-o", "submission.csv", "--jobs", 1)
    table = pd.read_csv("submission.csv", index_col="row_id")
    assert len(table) == len(pd.read_csv("truth.csv"))
    assert ((table > 0) & (table < 1)).all(axis=None)
    assert (table.std() > 0).all()

    # On another machine: the bundle, and a folder of weights that holds the card and the network.
    other = tmp_path / "other"
    other.mkdir()
    (bundle,) = (place / ".birdemb" / "bundles").glob("*.birdemb")
    shutil.copy(bundle, other / "model.birdemb")
    shutil.move(place / "own", other / "weights")
    monkeypatch.chdir(other)
    predict = ("predict", place / "soundscapes", "--model", "model.birdemb", "-o", "again.csv", "--jobs", 1)
    assert "no encoder 'own'" in refuse(*predict)
    monkeypatch.setenv("BIRDEMB_MODELS", str(other / "weights"))
    run(*predict)
    pd.testing.assert_frame_equal(pd.read_csv("again.csv", index_col="row_id"), table)

    # Another network under the same name is not taken for it.
    Network.random(dim=32, classes=7, seed=1).write(other / "weights" / "own.onnx")
    assert "weights" in refuse(*predict)


@pytest.mark.slow
def test_card_that_was_moved_is_looked_for_and_asked_for(place, monkeypatch):
    (place / "few").mkdir()
    for number, label in enumerate("aabb"):
        write_noise(place / "few" / label / f"{number}.wav", 5, seed=number)
    run("embed", "few", "--encoder", "own/own.toml", "--jobs", 1)
    fit = ("fit", "--head", "lr", "--cv", 0, "--jobs", 1)
    run(*fit)
    predict = ("predict", "few/a", "--jobs", 1)
    run(*predict)
    shutil.move(place / "own", place / "moved")
    said = (
        f"The card of 'own' was at {place}/own/own.toml when it was used last, and is not there now. Put it and its "
        "weights back, or into the folder that BIRDEMB_MODELS names, or run `birdemb embed FOLDER --encoder PATH.toml` "
        "with its new path once."
    )
    assert refuse(*predict) == f"Error: {said}"
    assert f"prior:  none, as what own knows by itself cannot be read: {said}" in run(*fit)
    assert refuse(*fit, "--prior", "offset") == f"Error: {said}"
    with monkeypatch.context() as context:
        context.setenv("BIRDEMB_MODELS", str(place / "moved"))
        run(*predict)
    run("embed", "few", "--encoder", "moved/own.toml", "--jobs", 1)
    run(*predict)


def test_bad_cards_are_one_line_each(place):
    def embed(card):
        return refuse("embed", "data", "--encoder", card, "--jobs", 1)

    assert "There is no encoder 'birdnet-24'. Did you mean 'birdnet-2.4'" in embed("birdnet-24")
    assert "The card none.toml cannot be read: No such file" in embed("none.toml")
    (place / "own" / "own.onnx").rename(place / "own" / "gone.onnx")
    said = run("embed", "data", "--encoder", "own/own.toml", "--jobs", 1, status=1)  # with a list of ways to get them
    assert "The weights of own are not on this machine." in said
    assert "put own.onnx beside the card" in said
    (place / "own" / "gone.onnx").rename(place / "own" / "own.onnx")
    card = place / "own" / "own.toml"
    text = card.read_text()
    card.write_text(text.replace("dim = 32", "dim = 33"))
    assert "expected a width of 33" in embed("own/own.toml")
    card.write_text(text.replace("dim = 32", "width = 32"))
    assert "unknown key 'width'" in embed("own/own.toml")
    card.write_text(text.replace("[tensors]", "[tensors"))
    assert "is no TOML" in embed("own/own.toml")


@pytest.mark.parametrize("jobs", [1, 2])
def test_card_that_fits_one_frame_alone_ends_the_run_and_skips_nothing(place, jobs):
    """Its graph has a batch of one baked in, which four frames at once do not fit into."""
    NETWORK.write(place / "own" / "one.onnx", layout="channel", samples="samples")
    card = own_card(
        place / "own", name="one", sample_rate=32_000, frame_seconds=2.0, dim=32, classes=7,
        tensors={"layout": "channel"}, weights={"file": "one.onnx"},
    )  # fmt: skip
    said = refuse("embed", "data", "--encoder", card, "--jobs", jobs)
    assert 'set tensors.layout = "single" or tensors.at_once = 1' in said
    assert not (place / ".birdemb" / "embed-errors.csv").exists()


def test_network_that_divides_by_silence_costs_the_silent_recording_alone(place):
    graph = GraphBuilder("divides")
    sound = graph.add_input("waveform", ("n", 64_000))
    energy = graph.add("ReduceMean", graph.add("Abs", graph.add("Reshape", sound, graph.add_integers(-1, 8, 8000))),
                       axes=[2], keepdims=0)  # fmt: skip
    mean = graph.add("ReduceMean", energy, axes=[1], keepdims=1)
    graph.add_output("embedding", graph.add("Div", energy, mean), ("n", 8))
    (place / "own" / "divides.onnx").write_bytes(graph.build({}).SerializeToString())
    card = own_card(place / "own", name="divides", sample_rate=32_000, frame_seconds=2.0, dim=8, classes=0,
                    tensors={"logits": ""}, weights={"file": "divides.onnx"})  # fmt: skip
    (place / "two").mkdir()
    write_noise(place / "two" / "sound.wav", 10)  # no padding, which is silence too
    soundfile.write(place / "two" / "silence.wav", np.zeros(6 * 32_000), 32_000)
    for jobs in (1, 2):
        said = run("embed", "two", "--encoder", card, "--jobs", jobs, "--workspace", f"work{jobs}", status=3)
        assert "Embedded 1 recording," in said
        assert "silence.wav: the network of divides gives values that are no finite numbers" in said
