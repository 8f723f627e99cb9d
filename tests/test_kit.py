"""Offline kits: what is in them, predicting with them, and what is refused."""

import csv
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from card_files import own_card, write_card
from fit_files import refuse, run, write_noise
from onnx_networks import Network
from pack_files import list_files, write_model
from panns_checkpoints import write_checkpoint
from test_quantized_kinds import LOW, write_network

import birdemb
from birdemb.embed.catalogue import load_card
from birdemb.embed.pins import read_pin
from birdemb.embed.places import use_weights_folder
from birdemb.embed.quantized import GRAPH_FILE, RECORD_FILE, TENSORS_FILE
from birdemb.embed.range_card import load_range_card
from birdemb.embed.weights import find_weights
from birdemb.errors import InputError
from birdemb.kit import pack
from birdemb.listening import Listener
from birdemb.quantizing import quantize

PYTHON = ".".join(map(str, sys.version_info[:2]))


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A kit without wheels or weights, beside the bundle that it was made of; not to be changed."""
    folder = tmp_path_factory.mktemp("packed")
    pack(write_model(folder / "lr.birdemb"), folder / "kit")
    return folder / "kit"


@pytest.fixture(scope="module")
def owned(tmp_path_factory):
    """A kit with an encoder that a user brought."""
    folder = tmp_path_factory.mktemp("owned")
    network = Network.random()
    (folder / "own" / "deep").mkdir(parents=True)
    network.write(folder / "own" / "deep" / "net.onnx")
    (folder / "own" / "names.txt").write_text("Turdus merula\nParus major\nRana arvalis\nSpeech\nRain\n")
    labels = {"file": "names.txt", "form": "lines", "column": ""}
    card = own_card(folder / "own", "deep/net.onnx", labels=labels)
    model = write_model(folder / "own.birdemb", card)
    (folder / "place").mkdir()
    (folder / "place" / "cards.json").write_text(json.dumps({"own": card}))
    pack(model, folder / "kit", workspace=folder / "place")
    return folder


def test_kit_holds_all_that_its_manifest_lists_and_nothing_else(packed):
    manifest = json.loads((packed / "manifest.json").read_text())
    found = list_files(packed)
    assert found.keys() - {"manifest.json"} == manifest["files"].keys()
    assert found["model.birdemb"] == (packed.parent / "lr.birdemb").read_bytes()
    assert {"run.sh", "check.py", "predict.ipynb", "README.txt", "labels/classes.csv"} <= found.keys()
    assert os.access(packed / "run.sh", os.X_OK)
    assert manifest["encoders"][0]["name"] == "melspec"
    assert manifest["wheels"] is None
    with (packed / "labels" / "classes.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["label", "scientific_name", "common_name"],
            ["Turdus merula", "", ""],
            ["parmaj", "Parus major", "Great Tit"],
            ["Übergröße", "", ""],
        ]
    for named in ("sh run.sh", "melspec (f32), which has no weights", "this kit has no wheels"):
        assert named in found["README.txt"].decode()


def test_the_same_bundle_gives_the_same_kit(packed, tmp_path):
    pack(packed.parent / "lr.birdemb", tmp_path / "again")
    assert list_files(tmp_path / "again") == list_files(packed)


def test_kit_predicts_what_its_bundle_does(packed, tmp_path):
    write_noise(tmp_path / "sounds" / "a.wav", 7)
    run("predict", "sounds", "--model", packed.parent / "lr.birdemb", "-o", "bundle.csv", "--jobs", 1)
    said = run("predict", "sounds", "--model", packed, "-o", "kit.csv", "--offline", "--workspace", "new", "--jobs", 1)
    assert f"bundle: {packed}" in said
    assert Path("kit.csv").read_bytes() == Path("bundle.csv").read_bytes()
    assert "BIRDEMB_MODELS" not in os.environ


def test_users_own_encoder_goes_along(owned, tmp_path):
    kit = Path(shutil.copytree(owned / "kit", tmp_path / "elsewhere" / "kit"))
    assert {"models/own.toml", "models/deep/net.onnx", "models/names.txt"} <= list_files(kit).keys()
    write_noise(tmp_path / "sounds" / "a.wav", 7)
    run("predict", "sounds", "--model", kit, "-o", "kit.csv", "--offline", "--jobs", 1)
    (tmp_path / "here").mkdir()
    shutil.copy(owned / "place" / "cards.json", tmp_path / "here")
    run("predict", "sounds", "-m", owned / "own.birdemb", "-o", "own.csv", "--workspace", "here", "--jobs", 1)
    assert Path("kit.csv").read_bytes() == Path("own.csv").read_bytes()


def test_kit_is_taken_in_place_of_a_bundle_in_python(owned, tmp_path):
    kit = Path(shutil.copytree(owned / "kit", tmp_path / "kit"))
    samples = np.random.default_rng(0).normal(0, 0.1, 12_000).astype(np.float32)
    table = birdemb.predict(samples, model=kit, sample_rate=1000)
    assert len(table) == 3
    listener = Listener(str(kit), sample_rate=1000)
    heard = pd.concat([listener.feed(samples), listener.finish()])
    np.testing.assert_allclose(heard[["parmaj"]], table[["parmaj"]], atol=1e-6)
    (kit / "models" / "own.toml").unlink()
    for ask in (lambda: birdemb.predict(samples, model=kit, sample_rate=1000), lambda: Listener(kit, sample_rate=1000)):
        with pytest.raises(InputError, match=r"own\.toml is missing"):
            ask()


def test_weights_of_a_kit_come_before_all_others(birdnet_weights, tmp_path):
    model = write_model(tmp_path / "lr.birdemb", "birdnet-2.4")
    said = run("pack", model, "-o", "kit")
    assert "licence of the weights CC BY-NC-SA 4.0: NOT FOR COMMERCIAL USE" in said
    assert "birdemb has to be installed where the kit is used, or pack with --wheels" in said
    assert "NOT FOR COMMERCIAL USE" in (tmp_path / "kit" / "README.txt").read_text()
    (encoder,) = json.loads((tmp_path / "kit" / "manifest.json").read_text())["encoders"]
    assert encoder["commercial_use_forbidden"] is True
    assert encoder["own_classes"] is True
    assert encoder["range_model"] is True
    assert (tmp_path / "kit" / "models" / load_range_card().weights.file).is_file()
    with use_weights_folder(tmp_path / "kit" / "models"):
        found = find_weights(load_card("birdnet-2.4"))
    assert found.path == tmp_path / "kit" / "models" / birdnet_weights.name
    assert found.sha256 == encoder["weights_sha256"]
    assert (tmp_path / "kit" / "models" / "BirdNET_GLOBAL_6K_V2.4_Labels.txt").is_file()


def test_hash_that_nobody_publishes_goes_along(tmp_path, monkeypatch):
    network = Network.random()
    (tmp_path / "own").mkdir()
    network.write(tmp_path / "own" / "own.onnx")
    source = '[[weights.sources]]\nurl = "http://127.0.0.1:9/own.onnx"\n'
    card = Path(own_card(tmp_path / "own"))
    card.write_text(card.read_text().replace("sources = []\n", "") + source)
    monkeypatch.setenv("BIRDEMB_MODELS", str(tmp_path / "own"))
    pack(write_model(tmp_path / "own.birdemb", "own"), "kit")
    with use_weights_folder(tmp_path / "kit" / "models"):
        pin = read_pin(load_card("own"))
    assert pin.path == tmp_path / "kit" / "models" / "own.pinned.json"
    assert str(tmp_path) not in pin.path.read_text()


def predict_elsewhere(model, tmp_path, own):
    """Pack a bundle, take away what its encoder ran on here, and compare what bundle and kit predict."""
    write_noise(tmp_path / "sounds" / "a.wav", 7)
    run("predict", "sounds", "--model", model, "-o", "own.csv", "--workspace", "place", "--jobs", 1)
    said = run("pack", model, "-o", "kit", "--workspace", "place")
    shutil.rmtree(own)
    run("predict", "sounds", "--model", "kit", "-o", "kit.csv", "--offline", "--workspace", "new", "--jobs", 1)
    assert Path("kit.csv").read_bytes() == Path("own.csv").read_bytes()
    return said, {name.removeprefix("models/") for name in list_files(tmp_path / "kit") if name.startswith("models/")}


def remember(place, card):
    """Make a working folder that knows where a user's card lies."""
    place.mkdir()
    (place / "cards.json").write_text(json.dumps({"own": str(card)}))


@pytest.mark.slow
def test_converted_network_goes_along_without_what_it_was_made_of(tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "own").mkdir()
    write_checkpoint(tmp_path / "own" / "weights.pth", "MobileNetV1")
    card = write_card(tmp_path / "own", "panns-mobilenetv1", "weights.pth")
    remember(tmp_path / "place", card)
    _, files = predict_elsewhere(write_model(tmp_path / "own.birdemb", str(card)), tmp_path, tmp_path / "own")
    parts = ("conversion.json", "mel_filters.npy", "trunk.bin", "trunk.xml")
    assert files == {"own.toml", *(f"own-openvino/{name}" for name in parts)}


@pytest.mark.slow
def test_network_with_fewer_bits_goes_along(tmp_path):
    for number in range(4):
        write_noise(tmp_path / "data" / f"{number}.wav", 15, seed=number)
    (tmp_path / "own").mkdir()
    write_network(tmp_path / "own" / "own.onnx", samples="samples")
    card = own_card(tmp_path / "own", sample_rate=8000, frame_seconds=0, dim=32, precisions=["f32", "f16"])
    quantize(card, calibrate=tmp_path / "data", precision="f16", output=tmp_path / "own", **LOW)
    remember(tmp_path / "place", card)
    model = write_model(tmp_path / "own.birdemb", card, precision="f16")
    said, files = predict_elsewhere(model, tmp_path, tmp_path / "own")
    assert "own (f16)" in said
    assert files == {"own.toml", "own.onnx", *(f"own-f16/{name}" for name in (GRAPH_FILE, RECORD_FILE, TENSORS_FILE))}


@pytest.mark.slow
def test_saved_model_goes_along_and_the_extra_that_it_needs_is_told(tmp_path, monkeypatch, saved_model):
    shutil.copytree(saved_model("perch-2"), tmp_path / "own" / "perch-2")
    monkeypatch.setenv("BIRDEMB_MODELS", str(tmp_path / "own"))
    model = write_model(tmp_path / "own.birdemb", "perch-2")
    said, files = predict_elsewhere(model, tmp_path, tmp_path / "own")
    assert "birdemb[tf] has to be installed where the kit is used" in said
    assert {"perch-2/saved_model.pb", "perch-2/assets/labels.csv", "perch-2.pinned.json"} <= files


def test_other_weights_than_the_bundles_are_refused(tmp_path):
    Network.random().write(tmp_path / "own.onnx")
    card = own_card(tmp_path)
    model = write_model(tmp_path / "own.birdemb", card)
    Network.random(seed=1).write(tmp_path / "own.onnx")
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "cards.json").write_text(json.dumps({"own": card}))
    assert "The bundle was fitted with weights of own whose sha256 is" in refuse(
        "pack", model, "-o", "kit", "--workspace", "place"
    )
    Network.random().write(tmp_path / "own.onnx")
    own_card(tmp_path, level="peak", level_peak=0.5)
    said = refuse("pack", model, "-o", "kit", "--workspace", "place")
    assert "The bundle was fitted on embeddings of another own than there is here: level is 'peak'" in said
    assert not [path for path in tmp_path.iterdir() if "kit" in path.name or "partial" in path.name]


def test_nothing_but_an_older_kit_is_replaced(packed, tmp_path):
    model = packed.parent / "lr.birdemb"
    (tmp_path / "file").touch()
    assert "is a file; name a folder" in refuse("pack", model, "-o", "file")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    assert "is not empty, and no kit" in refuse("pack", model, "-o", "photos", "--force")
    (tmp_path / "empty").mkdir()
    run("pack", model, "-o", "empty")
    assert "There is a kit in" in refuse("pack", model, "-o", "empty")
    (tmp_path / "empty" / "labels" / "submission.csv").touch()
    said = refuse("pack", model, "-o", "empty", "--force")
    assert "holds labels/submission.csv, which was not packed" in said
    (tmp_path / "empty" / "labels" / "submission.csv").unlink()
    (tmp_path / "empty" / "run.sh").write_text("spoilt")
    run("pack", model, "-o", "empty", "--force")
    assert list_files(tmp_path / "empty") == list_files(packed)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "photos", "empty"}


def test_settings_that_make_no_sense_are_refused(packed):
    model = packed.parent / "lr.birdemb"
    for arguments, said in (
        (["--python", PYTHON], "--python says what wheels are for: give --wheels, too"),
        (["--platform", "linux-x86_64"], "--platform says what wheels are for: give --wheels, too"),
        (["--wheels", "--python", "2.7"], "--python is '2.7'; expected 3.11, 3.12 or newer"),
        (["--wheels", "--python", "3.11.4"], "expected 3.11, 3.12 or newer, without a third number"),
        (["--wheels", "--platform", "../x"], "--platform is '../x'; expected linux-x86_64"),
        (["--wheels", "--offline"], "--wheels gets wheels over the network, which BIRDEMB_OFFLINE or --offline"),
        (["--weights", "x"], "melspec has no weights; leave out --weights"),
    ):
        assert said in refuse("pack", model, "-o", "kit", *arguments)
    assert "There is no bundle gone.birdemb" in refuse("pack", "gone.birdemb", "-o", "kit")
    assert not Path("kit").exists()
