"""Bundles of encoders whose network is an ONNX file as one graph, against that file in ONNX Runtime and birdemb."""

import numpy as np
import pytest
from card_files import own_card
from click.testing import CliRunner
from encoder_models import build
from onnx_bundles import CLASSES, fit, make_bundle, make_ensemble, make_windows, run_export, start, write
from onnx_graphs import start_bytes
from onnx_networks import Network

from birdemb.classify.ensemble import Heard
from birdemb.embed.encoder import load_encoder
from birdemb.embed.frames import cut_frames, set_level
from birdemb.errors import InputError
from birdemb.export_command import export
from birdemb.onnx_building import GraphBuilder

NETWORK = Network.random(dim=12)


def describe(folder, file="own.onnx", **changes):
    """Write a card about the network."""
    return own_card(folder, file, dim=12, **changes)


def hear_in_onnx_runtime(encoder, windows):
    """Give what the file itself makes of windows, as its card says: embedding, then logits if there are any."""
    card, tensors = encoder.card, encoder.tensors
    starts = [round(start * card.sample_rate) for start in encoder.frame_starts]
    frames = set_level(cut_frames(windows, starts, encoder.frame_samples), card.level, card.level_peak)
    session = start_bytes(encoder.weights_path.read_bytes())
    names = [entry.name for entry in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, {session.get_inputs()[0].name: frames}), strict=True))
    outputs |= {str(number): outputs[name] for number, name in enumerate(names)} | {"": outputs[names[0]]}
    embeddings = outputs[tensors.embedding].reshape(len(windows), len(starts), -1).mean(axis=1)
    if not encoder.logits_width:
        return embeddings, None
    logits = outputs[tensors.logits].astype(np.float64)
    if tensors.values == "probabilities":
        with np.errstate(divide="ignore"):  # of what is rounded to 0 or 1
            logits = np.log(logits) - np.log1p(-logits)
    logits = tensors.scale * logits + tensors.shift
    return embeddings, logits.reshape(len(windows), len(starts), -1).max(axis=1)


@pytest.mark.parametrize(
    ("name", "kept_logits"),
    [
        ("perch-2-headless", False),
        pytest.param("birdnet-3.0", True, marks=pytest.mark.slow),
        pytest.param("perch-2-onnx", True, marks=pytest.mark.slow),
        pytest.param("perch-2-onnx", False, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_samples_in_and_probabilities_out(tmp_path, name, kept_logits, dtype):
    chosen = build(name, tmp_path)
    encoder, bundle = fit(chosen, tmp_path, heads=("lr", "lgbm"), kept_logits=kept_logits, dtype=dtype)
    report = run_export(tmp_path)
    assert report.encoder == "own"
    assert report.licence == encoder.card.licence
    assert report.embedding_difference < 1e-4
    assert report.probability_difference < 1e-4
    windows = make_windows(encoder)
    found = start(report.path)(waveform=windows)
    theirs, own = hear_in_onnx_runtime(encoder, windows)
    ours = encoder.encode_with_logits(windows) if kept_logits else (encoder.encode(windows), None)
    size = np.maximum(1, np.abs(theirs).max())
    for expected in (theirs, ours[0]):
        np.testing.assert_allclose(found["embeddings"], expected, atol=1e-4 * size)
    assert ("logits" in found) == kept_logits
    if kept_logits:
        likely = np.abs(own) < 8  # beyond, probabilities of float32 tell logits no better
        np.testing.assert_allclose(found["logits"][likely], own[likely], atol=2e-3)
        np.testing.assert_allclose(found["logits"][likely], ours[1][likely], atol=2e-3)
    kept = [found[key] for key in ("embeddings", "logits") if key in found]
    heard = Heard(*(values.astype(dtype).astype(np.float32) for values in kept))
    np.testing.assert_allclose(found["probabilities"], bundle.ensemble.predict_proba([heard]), atol=1e-4)


def test_classifier_that_no_head_starts_from_is_left_out(tmp_path):
    NETWORK.write(tmp_path / "own.onnx")
    chosen = describe(tmp_path, frame_seconds=2.5)
    sizes = []
    for kept_logits in (False, True):
        fit(chosen, tmp_path, kept_logits=kept_logits)
        report = run_export(tmp_path)
        sizes.append(report.bytes)
        assert ("logits" in start(report.path)(waveform=np.ones((1, 5000), np.float32))) == kept_logits
    assert sizes[1] - sizes[0] > 4 * NETWORK.classifier.size


def write_dividing_network(path):
    """A network that divides by the loudness of a frame, and so gives no number for silence."""
    graph = GraphBuilder("network")
    sound = graph.add_input("waveform", ("n", 960))
    loudness = graph.add("ReduceMax", graph.add("Abs", sound), axes=[1], keepdims=1)
    steps = graph.add("Reshape", graph.add("Div", sound, loudness), graph.add_integers(-1, 80, 12))
    graph.add_output("embedding", graph.add("ReduceMean", graph.add("Abs", steps), axes=[1], keepdims=0), ("n", 12))
    path.write_bytes(graph.build({}).SerializeToString())


def test_network_that_cannot_hear_silence_is_compared_without_it(tmp_path):
    write_dividing_network(tmp_path / "own.onnx")
    encoder, _ = fit(describe(tmp_path, sample_rate=960, tensors={"logits": ""}), tmp_path)
    report = run_export(tmp_path)
    windows = make_windows(encoder)[:1]
    np.testing.assert_allclose(start(report.path)(waveform=windows)["embeddings"], encoder.encode(windows), atol=1e-5)


def test_embeddings_are_judged_by_their_size(tmp_path):
    large = Network(NETWORK.weights * np.float32(1e4), NETWORK.classifier)
    large.write(tmp_path / "own.onnx")
    fit(describe(tmp_path, frame_seconds=5.0), tmp_path)
    report = run_export(tmp_path)
    assert report.embedding_difference < 1e-5
    windows = make_windows(load_encoder(describe(tmp_path, frame_seconds=5.0)))
    found = start(report.path)(waveform=windows)["embeddings"]
    assert found.max() > 500
    np.testing.assert_allclose(found, large.embed(windows), rtol=1e-4)


def test_card_is_found_where_it_lay(tmp_path, monkeypatch):
    NETWORK.write(tmp_path / "own.onnx")
    fit(describe(tmp_path), tmp_path)
    arguments = [str(tmp_path / "m.birdemb"), "--onnx", str(tmp_path / "m.onnx"), "--workspace", str(tmp_path)]
    result = CliRunner().invoke(export, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert f"own and its heads, {CLASSES} classes" in result.output
    (tmp_path / "own.toml").unlink()
    with pytest.raises(InputError, match=r"The card of 'own' was at .*own\.toml when it was used last"):
        run_export(tmp_path)


def test_other_weights_are_refused(tmp_path):
    NETWORK.write(tmp_path / "own.onnx")
    fit(describe(tmp_path), tmp_path)
    NETWORK.random(seed=1).write(tmp_path / "own.onnx")
    with pytest.raises(InputError, match=r"encoder own that is here is not the one of the bundle: weights_sha256 is"):
        run_export(tmp_path)
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(
    "changes", [{"tensors": {"scale": 2.0}}, {"level": "peak", "level_peak": 0.5}, {"shortest_seconds": 1.0}], ids=str
)
def test_other_card_is_refused(tmp_path, changes):
    NETWORK.write(tmp_path / "own.onnx")
    fit(describe(tmp_path), tmp_path)
    describe(tmp_path, **changes)
    with pytest.raises(InputError, match="encoder own that is here is not the one of the bundle"):
        run_export(tmp_path)


@pytest.mark.parametrize("kind", ["savedmodel", "tflite"])
def test_network_of_another_kind_is_refused_before_its_weights_are_looked_for(tmp_path, kind):
    identity = {"encoder": "nowhere", "kind": kind, "dim": 24, "window": 5.0, "hop": 5.0}
    write(make_bundle(make_ensemble(), identity), tmp_path / "m.birdemb")
    with pytest.raises(InputError, match=rf"nowhere cannot be exported to ONNX: .* kind {kind}; .*--heads-only"):
        run_export(tmp_path)


def test_openvino_ir_is_refused(tmp_path):
    import openvino as ov

    NETWORK.write(tmp_path / "own.onnx")
    ov.save_model(ov.Core().read_model(tmp_path / "own.onnx"), tmp_path / "own.xml", compress_to_fp16=False)
    fit(describe(tmp_path, "own.xml"), tmp_path)
    with pytest.raises(InputError, match=r"own cannot be exported to ONNX: own\.xml is an OpenVINO IR; .*--heads-only"):
        run_export(tmp_path)


def test_network_that_takes_but_so_many_frames_is_refused_with_advice(tmp_path):
    NETWORK.write(tmp_path / "own.onnx", fixed=4, samples=1000)
    fit(describe(tmp_path), tmp_path)
    with pytest.raises(InputError, match=r"graph is not valid ONNX .*tensors\.at_once = 1"):
        run_export(tmp_path)
    assert not (tmp_path / "m.onnx").exists()


def test_network_that_onnx_runtime_cannot_run_is_refused(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")  # comes with onnx
    NETWORK.write_halved(tmp_path / "own.onnx", ml_dtypes.bfloat16, samples=1000)
    fit(describe(tmp_path), tmp_path)
    with pytest.raises(InputError, match=r"ONNX Runtime .* cannot run the exported graph .*--heads-only"):
        run_export(tmp_path)
    assert not (tmp_path / "m.onnx").exists()
