"""Quantization of encoders of other kinds than BirdNET, through the same path as a user's weights go."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from card_files import own_card
from run_files import write_noise

from birdemb.embed.catalogue import load_card
from birdemb.embed.encoder import load_encoder
from birdemb.embed.weights import find_weights, locate_weights
from birdemb.errors import InputError, MissingWeightsError
from birdemb.quantizing import quantize

RATE, BANDS, STEP = 8000, 24, 100
LOW = {"goal_mean": 0.9, "goal_worst": 0.8, "max_auc_loss": 1.0, "windows": 12}


def write_network(path: Path, dim: int = 32, classes: int = 5, samples: int | str = RATE) -> None:
    """Write an ONNX file as users bring them: samples to a spectrogram, to a map, to an embedding and logits."""
    pytest.importorskip("onnx")
    from birdemb.onnx_building import GraphBuilder

    rng = np.random.default_rng(0)

    def weights(*shape):
        return graph.add_constant((rng.normal(0, 1, shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))

    graph = GraphBuilder("network")
    sound = graph.add_input("waveform", ("n", samples))
    rows = graph.add("Unsqueeze", sound, graph.add_integers(1))
    bands = graph.add("Abs", graph.add("Conv", rows, weights(BANDS, 1, STEP), strides=[STEP]))
    levels = graph.add("Log", graph.add("Add", bands, graph.add_number(0.01)))
    value = graph.add("Unsqueeze", levels, graph.add_integers(1))
    for channels, before, size in ((16, 1, 3), (32, 16, 1), (dim, 32, 3)):
        pads = [size // 2] * 4
        value = graph.add("Relu", graph.add("Conv", value, weights(channels, before, size, size), pads=pads))
    embedding = graph.add("ReduceMean", value, axes=[2, 3], keepdims=0)
    graph.add_output("label", graph.add("MatMul", embedding, weights(dim, classes)), ("n", classes))
    graph.add_output("embedding", embedding, ("n", dim))
    path.write_bytes(graph.build({}).SerializeToString())


@pytest.fixture
def recordings_of_two_classes(tmp_path):
    for number in range(8):
        write_noise(tmp_path / f"data/{'ab'[number % 2]}/{number}.wav", 15, seed=number)
    return tmp_path / "data"


def windows_of(encoder, count=6):
    rng = np.random.default_rng(7)
    return rng.normal(0, rng.uniform(0.02, 0.3, (count, 1)), (count, encoder.window_samples)).astype(np.float32)


def cosines(ours, theirs):
    return (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)


def compare(card, report, precision, least):
    windows = windows_of(load_encoder(card))
    ours, exact = (load_encoder(card, precision=name, logits=True) for name in (precision, "f32"))
    embeddings, logits = ours.encode_with_logits(windows)
    wanted, wanted_logits = exact.encode_with_logits(windows)
    assert cosines(embeddings, wanted).min() > least
    assert (embeddings != wanted).any()
    assert np.corrcoef(logits.ravel(), wanted_logits.ravel())[0, 1] > least
    assert ours.encode(windows).tobytes() == embeddings.tobytes()
    assert ours.identity["quantized_sha256"] == report.sha256
    assert ours.identity["quantization"] == json.loads(json.dumps(report.figures))
    assert {key: value for key, value in ours.identity.items() if key in exact.identity} == exact.identity | {
        "precision": precision
    }


def test_command_that_makes_a_network_can_be_pasted_into_a_shell(tmp_path):
    (tmp_path / "my cards").mkdir()
    write_network(tmp_path / "my cards" / "own.onnx")
    card = own_card(tmp_path / "my cards", dim=32, sample_rate=RATE, precisions=["f32", "f16"])
    with pytest.raises(InputError, match=rf"`birdemb quantize '{card}' --calibrate FOLDER --precision f16`"):
        load_encoder(card, precision="f16")


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "quantized", "least"), [("int8", 2, 0.97), ("f16", 0, 0.9999)])
def test_network_that_a_user_brings_is_quantized(
    recordings_of_two_classes, tmp_path, monkeypatch, precision, quantized, least
):
    pytest.importorskip("nncf")
    monkeypatch.setenv("BIRDEMB_MODELS", str(tmp_path / "models"))
    write_network(tmp_path / "own.onnx")
    card = own_card(tmp_path, dim=32, sample_rate=RATE, precisions=["f32", "f16", "int8"])
    report = quantize(card, calibrate=recordings_of_two_classes, precision=precision, **LOW)
    assert (report.convolutions, report.quantized) == (3, quantized), "the front end is no map"
    assert report.bytes < report.float_bytes
    assert report.gate.result == "passed"
    assert report.gate.loss.windows >= 8
    compare(card, report, precision, least)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "f16"])
def test_network_that_hears_any_window_serves_other_lengths_than_the_calibrated_one(
    recordings_of_two_classes, tmp_path, monkeypatch, precision
):
    pytest.importorskip("nncf")
    monkeypatch.setenv("BIRDEMB_MODELS", str(tmp_path / "models"))
    write_network(tmp_path / "own.onnx", samples="samples")
    card = own_card(tmp_path, dim=32, sample_rate=RATE, frame_seconds=0, precisions=["f32", "f16", "int8"])
    report = quantize(card, calibrate=recordings_of_two_classes, precision=precision, **LOW)
    for seconds in (3.0, 8.0):
        ours, exact = (load_encoder(card, precision=name, window=seconds) for name in (precision, "f32"))
        windows = windows_of(ours)
        assert cosines(ours.encode(windows), exact.encode(windows)).min() > 0.97
    assert ours.identity["quantized_sha256"] == report.sha256


@pytest.mark.slow
def test_quantized_network_hears_no_length_that_the_network_itself_cannot(
    recordings_of_two_classes, tmp_path, monkeypatch
):
    monkeypatch.setenv("BIRDEMB_MODELS", str(tmp_path / "models"))
    write_network(tmp_path / "own.onnx")
    card = own_card(tmp_path, dim=32, sample_rate=RATE, precisions=["f32", "f16"])
    quantize(card, calibrate=recordings_of_two_classes, precision="f16", **LOW)
    for precision in ("f16", "f32"):
        encoder = load_encoder(card, precision=precision, pooling="whole")
        with pytest.raises(InputError, match=r"own\.onnx has an input of shape \[\?,8000\]; .* gives \[\?,40000\]"):
            encoder.prepare()


@pytest.mark.slow
def test_panns_is_quantized(recordings_of_two_classes, panns_card, tmp_path, monkeypatch):
    pytest.importorskip("nncf")
    monkeypatch.setenv("BIRDEMB_MODELS", str(tmp_path / "models"))
    card = load_card("panns-mobilenetv1")
    made = panns_card(card.name)
    (tmp_path / "models").mkdir()
    shutil.copy(made.with_name("weights.pth"), tmp_path / "models" / card.weights.file)
    shutil.copytree(made.with_name("own-openvino"), tmp_path / "models" / f"{card.name}-openvino")
    report = quantize(card.name, calibrate=recordings_of_two_classes, **LOW)
    assert report.quantized >= 13
    assert report.bytes < 0.3 * report.float_bytes
    compare(card.name, report, "int8", 0.9)


@pytest.mark.parametrize(("layout", "heard"), [("batch", "a fixed number of frames"), ("single", "one frame alone")])
def test_network_made_for_a_number_of_frames_is_refused(tmp_path, layout, heard):
    pytest.importorskip("onnx")
    from onnx_networks import NETWORK

    NETWORK.write(tmp_path / "own.onnx", batch=3, samples=1000, fixed=3)
    card = own_card(tmp_path, precisions=["f32", "f16"], tensors={"layout": layout})
    write_noise(tmp_path / "data/a/1.wav", 2)
    with pytest.raises(InputError, match=rf"The network of own hears {heard}.* Export it anew .*--precision f32"):
        quantize(card, calibrate=tmp_path / "data", precision="f16", output=tmp_path / "models")


def test_official_int8_file_and_the_network_that_was_made_lie_side_by_side(tmp_path, monkeypatch):
    """The card birdnet-2.4-int8 has the name of the folder that `birdemb quantize birdnet-2.4` makes."""
    monkeypatch.setenv("BIRDEMB_MODELS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    official = load_card("birdnet-2.4-int8")
    made = tmp_path / official.name
    made.mkdir()
    for name in ("quantization.json", "trunk.xml", "trunk.bin"):
        (made / name).write_text("{}")
    assert locate_weights(official) is None
    with pytest.raises(MissingWeightsError, match=rf"There are no weights at {made}/audio-model-int8\.tflite"):
        find_weights(official, made)
    file = tmp_path / "audio-model-int8.tflite"
    file.touch()
    assert locate_weights(official) == file


@pytest.mark.slow
def test_encoder_with_the_name_of_a_quantized_network_is_another_encoder(
    recordings_of_two_classes, tmp_path, monkeypatch
):
    models = tmp_path / "models"
    models.mkdir()
    monkeypatch.setenv("BIRDEMB_MODELS", str(models))
    write_network(models / "own.onnx")
    write_network(models / "small.onnx", dim=8)
    own_card(models, dim=32, sample_rate=RATE, precisions=["f32", "f16"])
    own_card(models, "small.onnx", name="own-f16", dim=8, sample_rate=RATE)
    report = quantize("own", calibrate=recordings_of_two_classes, precision="f16", **LOW)
    assert report.folder == models / "own-f16"
    made, other = load_encoder("own", precision="f16"), load_encoder("own-f16")
    windows = windows_of(made)
    assert (made.encode(windows).shape, other.encode(windows).shape) == ((6, 32), (6, 8))
    assert [encoder.identity["encoder"] for encoder in (made, other)] == ["own", "own-f16"]
    with pytest.raises(InputError, match="own-f16"):
        load_encoder("own-f16", precision="f16")
    report = quantize("own", calibrate=recordings_of_two_classes, precision="f16", force=True, **LOW)
    assert load_encoder("own", precision="f16").identity == made.identity
    assert load_encoder("own-f16").identity == other.identity


def test_folder_of_somebody_s_weights_is_not_replaced_by_a_quantized_network(tmp_path, monkeypatch):
    write_noise(tmp_path / "data" / "a.wav", 5)
    models = tmp_path / "models"
    monkeypatch.setenv("BIRDEMB_MODELS", str(models))
    (models / "own-f16").mkdir(parents=True)
    (models / "own-f16" / "saved_model.pb").touch()
    write_network(models / "own.onnx")
    own_card(models, dim=32, sample_rate=RATE, precisions=["f32", "f16"])
    with pytest.raises(InputError, match=r"own-f16 is no network that `birdemb quantize` has made.* --output FOLDER"):
        quantize("own", calibrate=tmp_path / "data", precision="f16", force=True, **LOW)
    assert (models / "own-f16" / "saved_model.pb").is_file()
