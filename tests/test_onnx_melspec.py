"""The encoder melspec in ONNX graphs, alone and with heads, against itself."""

import json
from pathlib import Path

import numpy as np
import openvino
import pandas as pd
import pytest
import soundfile
from fit_files import copy_world, embed, run
from head_data import NAMES
from onnx_bundles import assert_gives_what_birdemb_gives, fit, make_windows, run_export
from onnx_graphs import start, start_bytes

from birdemb.embed.encoder import load_encoder
from birdemb.embed.onnx_graph import add_encoder
from birdemb.onnx_building import GraphBuilder


def add_alone(encoder):
    graph = GraphBuilder("melspec")
    waveform = graph.add_input("waveform", ("n", encoder.window_samples))
    embeddings, logits = add_encoder(graph, encoder, waveform)
    assert logits is None
    graph.add_output("embeddings", embeddings, ("n", encoder.card.dim))
    return graph


@pytest.mark.parametrize("seconds", [5.0, 3.0, 0.777])
def test_every_part_of_the_embedding(seconds):
    encoder = load_encoder("melspec", window=seconds)
    time = np.arange(encoder.window_samples) / encoder.card.sample_rate
    windows = make_windows(encoder, 4) - np.float32(0.1)
    windows[2] += 0.4 * np.sin(2 * np.pi * 3000 * time) * (np.sin(2 * np.pi * 10 * time) > 0)
    windows[3] = 0
    found, expected = start(add_alone(encoder))(windows), encoder.encode(windows)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-3)  # dB
    np.testing.assert_allclose(found[3], expected[3], atol=2e-4)


def test_openvino_reads_the_graph_as_it_is_meant():
    encoder = load_encoder("melspec")
    model = add_alone(encoder).build({})
    assert not {node.op_type for node in model.graph.node} & {"DFT", "STFT", "HannWindow", "MelWeightMatrix"}
    Path("melspec.onnx").write_bytes(model.SerializeToString())
    compiled = openvino.Core().compile_model("melspec.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    windows = make_windows(encoder)
    np.testing.assert_allclose(compiled(windows)[0], encoder.encode(windows), atol=2e-3)


@pytest.mark.parametrize("heads", [("lr",), pytest.param(NAMES, marks=pytest.mark.slow)])
def test_samples_in_and_probabilities_out(tmp_path, heads):
    encoder, bundle = fit("melspec", tmp_path, heads=heads)
    report = run_export(tmp_path)
    assert (report.encoder, report.licence) == ("melspec", None)
    assert_gives_what_birdemb_gives(report, encoder, bundle)


@pytest.mark.slow
def test_graph_hears_a_soundscape_as_the_commands_do(world, tmp_path, monkeypatch):
    monkeypatch.chdir(copy_world(world, tmp_path / "job"))
    embed("data")
    run("fit", "--head", "lr", "-o", "model.birdemb")
    run("predict", "soundscapes", "--model", "model.birdemb", "-o", "submission.csv", "--jobs", 1)
    assert f"melspec and its heads, {len(world.classes)} classes" in run("export", "model.birdemb", "--onnx", "m.onnx")
    session = start_bytes(Path("m.onnx").read_bytes())
    facts = session.get_modelmeta().custom_metadata_map
    size = int(facts["window_samples"])
    submission = pd.read_csv("submission.csv", index_col="row_id")
    for path in sorted(Path("soundscapes").iterdir()):
        samples, rate = soundfile.read(path, dtype="float32")
        assert rate == int(facts["sample_rate"])
        windows = samples[: len(samples) // size * size].reshape(-1, size)
        (probabilities,) = session.run(["probabilities"], {"waveform": windows})
        rows = submission.loc[[f"{path.stem}_{5 * number}" for number in range(1, len(windows) + 1)]]
        np.testing.assert_allclose(probabilities, rows[json.loads(facts["classes"])], atol=2e-4)
