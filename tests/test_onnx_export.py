"""Bundles as one ONNX graph, against birdemb's own embeddings and probabilities."""

import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from head_data import NAMES
from onnx_bundles import (
    DIM,
    INDICES,
    OWN,
    hear,
    identity_of,
    make_bundle,
    make_embeddings,
    make_ensemble,
    make_prior,
    start,
    write,
)
from onnx_graphs import start_bytes

from birdemb.classify.ensemble import Ensemble, Heard
from birdemb.classify.onnx_ensemble import steps_at_roundings
from birdemb.classify.prior import Prior
from birdemb.embed.encoder import load_encoder
from birdemb.errors import BirdembError, InputError, MissingDependencyError, MissingWeightsError
from birdemb.export_command import export
from birdemb.onnx_export import export_onnx

CASES = {
    **{name: {"heads": (name,)} for name in NAMES},
    "all by probabilities": {"heads": NAMES, "calibration": "platt"},
    "all by logits": {"heads": NAMES, "blend": "stack", "calibration": "isotonic"},
    "own classes as offset": {"heads": NAMES, "priors": (make_prior("offset", "embeddings"),)},
    "own classes as features": {"heads": NAMES, "priors": (make_prior("features", "embeddings"),)},
}


@pytest.mark.parametrize("case", CASES)
def test_heads_alone_give_birdemb_s_probabilities(tmp_path, case):
    bundle = make_bundle(make_ensemble(**CASES[case]))
    report = export_onnx(write(bundle, tmp_path / "m.birdemb"), tmp_path / "m.onnx", heads_only=True)
    assert (report.encoder, report.licence, report.embedding_difference) == (None, None, None)
    assert report.bytes == report.path.stat().st_size
    heard = hear(50, seed=7)
    found = start(report.path)(embeddings=heard.embeddings)["probabilities"]
    np.testing.assert_allclose(found, bundle.ensemble.predict_proba([heard]), atol=1e-4)
    # Another number of windows goes in as well.
    np.testing.assert_allclose(
        start(report.path)(embeddings=heard.embeddings[:1])["probabilities"], found[:1], atol=1e-6
    )


@pytest.mark.parametrize("kind", ["offset", "features"])
def test_heads_that_start_from_kept_logits_take_these_too(tmp_path, kind):
    bundle = make_bundle(make_ensemble(("lr", "lgbm"), (make_prior(kind, "logits"),)))
    report = export_onnx(write(bundle, tmp_path / "m.birdemb"), tmp_path / "m.onnx", heads_only=True)
    heard = hear(50, seed=7)
    found = start(report.path)(embeddings=heard.embeddings, logits=heard.logits)["probabilities"]
    np.testing.assert_allclose(found, bundle.ensemble.predict_proba([heard]), atol=1e-4)


def test_heads_of_several_encoders_have_numbered_inputs(tmp_path):
    priors = (make_prior("offset", "embeddings"), None)
    bundle = make_bundle(make_ensemble(("lr", "lgbm"), priors, encoders=[1, 0]))
    model = write(bundle, tmp_path / "m.birdemb")
    report = export_onnx(model, tmp_path / "m.onnx", heads_only=True)
    first, second = hear(50, seed=7), hear(50, seed=8)
    found = start(report.path)(embeddings_0=first.embeddings, embeddings_1=second.embeddings)["probabilities"]
    np.testing.assert_allclose(found, bundle.ensemble.predict_proba([first, second]), atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_embeddings_are_rounded_as_the_cache_rounds_them(tmp_path, dtype):
    # Trees step, so that a value that float16 moves over a threshold tells the two apart.
    identity = {"encoder": "fake", "dim": DIM, "window": 5.0, "hop": 5.0, "dtype": dtype}
    bundle = make_bundle(make_ensemble(("lgbm",)), identity)
    report = export_onnx(write(bundle, tmp_path / "m.birdemb"), tmp_path / "m.onnx", heads_only=True)
    rng = np.random.default_rng(3)
    rows = make_embeddings(2000, seed=9) * (1 + rng.uniform(-5e-4, 5e-4, (2000, DIM))).astype(np.float32)
    rows[:3] = [[1 + 2**-11], [1 + 3 * 2**-11], [2**-25]]  # ties, and what float16 takes for 0
    exact, rounded = (
        bundle.ensemble.predict_proba([Heard(values)]) for values in (rows, rows.astype(np.float16).astype(np.float32))
    )
    assert (np.abs(exact - rounded) > 1e-3).any()
    expected = rounded if dtype == "float16" else exact
    np.testing.assert_allclose(start(report.path)(embeddings=rows)["probabilities"], expected, atol=1e-5)


def make_signals(samples, rate=48_000):
    rng, seconds = np.random.default_rng(4), np.arange(samples) / rate
    noise = rng.normal(0, 0.03, (3, samples))
    noise[0] += 0.2 * np.sin(2 * np.pi * (3000 * seconds + 500 * np.sin(2 * np.pi * 6 * seconds)))
    noise[1, samples // 2 :] = 0
    return noise.astype(np.float32)


@pytest.fixture
def birdnet(birdnet_weights):
    return load_encoder("birdnet-2.4", weights=birdnet_weights)


@pytest.fixture
def birdnet_bundle(birdnet, tmp_path):
    prior = make_prior("offset", "embeddings", birdnet.card.dim)
    bundle = make_bundle(make_ensemble(("lr",), (prior,), dim=birdnet.card.dim), identity_of(birdnet))
    write(bundle, tmp_path / "m.birdemb")
    return bundle


@pytest.mark.slow
def test_samples_in_and_probabilities_out(birdnet, birdnet_bundle, birdnet_weights, tmp_path):
    report = export_onnx(tmp_path / "m.birdemb", tmp_path / "m.onnx", weights=birdnet_weights)
    assert report.encoder == "birdnet-2.4"
    assert "CC BY-NC-SA" in report.licence
    assert report.embedding_difference < 1e-4
    windows = make_signals(birdnet.window_samples)
    found = start(report.path)(waveform=windows)
    embeddings = birdnet.encode(windows)
    np.testing.assert_allclose(found["embeddings"], embeddings, atol=1e-4)
    expected = birdnet_bundle.ensemble.predict_proba([Heard(embeddings)])
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-4)
    metadata = start_bytes(report.path.read_bytes()).get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == list(birdnet_bundle.labels)
    assert json.loads(metadata["encoders"]) == list(birdnet_bundle.identities)
    assert (metadata["window_seconds"], metadata["sample_rate"]) == ("5", "48000")
    assert metadata["window_samples"] == "240000"
    assert metadata["licence_of_the_encoder"] == report.licence
    assert metadata["birdemb_version"]


@pytest.mark.slow
def test_encoder_gives_its_own_logits_where_heads_start_from_them(birdnet_weights, tmp_path):
    encoder = load_encoder("birdnet-2.4", weights=birdnet_weights, logits=True)
    prior = Prior.from_logits(INDICES, OWN)
    ensemble = make_ensemble(("lr",), (prior,), dim=encoder.card.dim)
    indices = np.array([5000, -1, 3, 6521, -1])
    ensemble = Ensemble(ensemble.members, (Prior.from_logits(indices, encoder.own_logits),), ensemble.blend)
    write(make_bundle(ensemble, identity_of(encoder)), tmp_path / "m.birdemb")
    report = export_onnx(tmp_path / "m.birdemb", tmp_path / "m.onnx", weights=birdnet_weights)
    windows = make_signals(encoder.window_samples)
    found = start(report.path)(waveform=windows)
    embeddings, logits = encoder.encode_with_logits(windows)
    np.testing.assert_allclose(found["logits"], logits, atol=1e-3)
    expected = ensemble.predict_proba([Heard(embeddings, logits)])
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-4)


REFUSED = {
    "embeddings in int8; an encoder is exported in f32": {"precision": "int8"},
    "embeddings in bf16; an encoder is exported in f32": {"precision": "bf16"},
    "revision is 2, expected 1": {"revision": 1},
    "frame_seconds is 3.0, expected 5.0": {"pooling": "mean"},
    "no encoder 'owlnet'": {"encoder": "owlnet"},
}


@pytest.mark.slow
@pytest.mark.parametrize("what", REFUSED)
def test_encoder_that_is_not_the_bundle_s_is_refused(birdnet, birdnet_weights, tmp_path, what):
    bundle = make_bundle(make_ensemble(dim=birdnet.card.dim), identity_of(birdnet, **REFUSED[what]))
    with pytest.raises(InputError, match=what):
        export_onnx(write(bundle, tmp_path / "m.birdemb"), tmp_path / "m.onnx", weights=birdnet_weights)
    assert not (tmp_path / "m.onnx").exists()


def test_several_encoders_in_one_graph_are_refused(tmp_path):
    bundle = make_bundle(make_ensemble(("lr", "lr"), (None, None), encoders=[0, 1]))
    with pytest.raises(InputError, match=r"fake-0 and fake-1; one graph holds one encoder.*--heads-only"):
        export_onnx(write(bundle, tmp_path / "m.birdemb"), tmp_path / "m.onnx")


def test_blend_by_ranks_is_refused(tmp_path):
    bundle = make_bundle(make_ensemble(("lr", "lgbm"), blend="ranks"))
    with pytest.raises(InputError, match="blended by ranks, which depend on all windows"):
        export_onnx(write(bundle, tmp_path / "m.birdemb"), tmp_path / "m.onnx", heads_only=True)


def test_absent_files_and_wrong_names_are_refused(birdnet_bundle, tmp_path):
    with pytest.raises(InputError, match=r"no bundle absent\.birdemb"):
        export_onnx("absent.birdemb", "m.onnx")
    with pytest.raises(InputError, match=r"has to end in \.onnx"):
        export_onnx(tmp_path / "m.birdemb", "m.txt")
    with pytest.raises(MissingWeightsError, match="no weights at nowhere"):
        export_onnx(tmp_path / "m.birdemb", "m.onnx", weights="nowhere")


def test_graph_that_gives_something_else_is_not_written(tmp_path, monkeypatch):
    model = write(make_bundle(make_ensemble()), tmp_path / "m.birdemb")
    output = tmp_path / "m.onnx"
    output.write_bytes(b"what was there before")
    monkeypatch.setattr("birdemb.onnx_comparison.LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(InputError, match=r"gives other probabilities than birdemb.*nothing was written"):
        export_onnx(model, output, heads_only=True)
    assert output.read_bytes() == b"what was there before"
    assert {path.name for path in tmp_path.iterdir()} == {"m.birdemb", "m.onnx"}


def test_trees_on_computed_numbers_may_step_at_roundings():
    assert not steps_at_roundings(make_ensemble(("lr", "lgbm"), (make_prior("offset", "embeddings"),)))
    assert not steps_at_roundings(make_ensemble(("lgbm",), (make_prior("features", "logits"),)))
    assert steps_at_roundings(make_ensemble(("lgbm",), (make_prior("features", "embeddings"),)))


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, name):
    model = write(make_bundle(make_ensemble()), tmp_path / "m.birdemb")
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=rf"^{name}, which .*'birdemb\[onnx\]'"):
        export_onnx(model, tmp_path / "m.onnx", heads_only=True)


def test_command_says_what_it_wrote(tmp_path):
    write(make_bundle(make_ensemble()), tmp_path / "m.birdemb")
    result = CliRunner().invoke(export, ["m.birdemb", "--onnx", "m.onnx", "--heads-only"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "The heads, 5 classes" in result.output
    assert "graph: m.onnx" in result.output
    assert "licence" not in result.output
    refused = CliRunner().invoke(export, ["m.birdemb", "--onnx", "m.onnx"])
    assert isinstance(refused.exception, BirdembError)
