"""A lower precision is used where a budget leaves no other way, and only if it is of the same weights and passed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from budget_files import check_table, rows_of, write_soundscapes
from card_files import own_card
from run_files import write_noise
from test_quantized_kinds import LOW, RATE, write_network

from birdemb.budget import costs
from birdemb.budget.measuring import find_faster
from birdemb.classify.bundle_file import read_bundle
from birdemb.embedding import embed_recordings
from birdemb.fitting import fit
from birdemb.inference import EncoderSettings
from birdemb.predicting import predict_folder
from birdemb.quantizing import quantize
from birdemb.workspace import Workspace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Heads on a user's own network in f32, of which there is one in int8, too."""
    pytest.importorskip("nncf")
    folder = tmp_path_factory.mktemp("precision")
    write_network(folder / "own.onnx")
    card = own_card(folder, dim=32, sample_rate=RATE, precisions=["f32", "int8"])
    for number in range(8):
        write_noise(folder / f"data/{'ab'[number % 2]}/{number}.wav", 15, seed=number)
    report = quantize(card, calibrate=folder / "data", output=folder / "models", **LOW)
    embed_recordings(folder / "data", encoder=card, workspace=folder / ".birdemb", jobs=1)
    fit("lr", workspace=folder / ".birdemb", cv=0, jobs=1)
    write_soundscapes(folder / "soundscapes", 3)
    return folder, report.folder.name


@pytest.fixture
def fitted(made, tmp_path, monkeypatch):
    """A copy of it all, in the folder where the test runs; gives the network's folder and the bundle."""
    folder, name = made
    for part in ("models", "soundscapes", ".birdemb"):
        shutil.copytree(folder / part, part)
    monkeypatch.setenv("BIRDEMB_MODELS", str(tmp_path / "models"))
    return Path("models") / name, read_bundle(Workspace(Path(".birdemb")).last_bundle())


def settings_of(bundle):
    return EncoderSettings.of(bundle.identities[0], Workspace(Path(".birdemb")))


def slow_in(monkeypatch, precision):
    """Claim that a window takes so long in one precision that no run would end."""
    measure = costs.measure_encoder

    def measure_slowly(settings, *args, **more):
        measured = measure(settings, *args, **more)
        return replace(measured, encoding=1e5) if settings.precision == precision else measured

    monkeypatch.setattr(costs, "measure_encoder", measure_slowly)


def test_int8_is_used_where_f32_would_not_end_in_time_and_is_said(fitted, monkeypatch):
    _, bundle = fitted
    slow_in(monkeypatch, "f32")
    told = []
    monkeypatch.setattr("birdemb.predicting.tell_on_standard_error", told.append)
    report = predict_folder("soundscapes", workspace=".birdemb", jobs=1, time_budget="1h", show_progress=True)
    assert set(report.budget.precisions.values()) == {("f32", "int8")}
    assert any("in int8 with lr" in line for line in told)
    assert report.listing.identity["precision"] == "int8"
    check_table("submission.csv", rows_of(3), bundle.labels)
    assert report.budget.at_prior == 0
    # What it heard lies apart from what f32 hears.
    folders = {json.loads(path.read_text())["precision"]: path for path in Path(".birdemb").rglob("identity.json")}
    assert set(folders) == {"f32", "int8"}


def test_f32_is_used_where_there_is_time(fitted):
    report = predict_folder("soundscapes", workspace=".birdemb", jobs=1, time_budget="1h")
    assert set(report.budget.precisions.values()) == {("f32", "f32")}


def test_a_network_that_was_never_judged_or_failed_is_no_way_out(fitted):
    network, bundle = fitted
    (found,) = find_faster(settings_of(bundle), None)
    assert (found.precision, found.expected["quantization"]["gate"]) == ("int8", "passed")
    record = network / "quantization.json"
    content = json.loads(record.read_text())
    content["figures"]["gate"] = "not measured"
    record.write_text(json.dumps(content))
    assert find_faster(settings_of(bundle), None) == []
    content["weights_sha256"] = "0" * 64
    record.write_text(json.dumps(content))
    assert find_faster(settings_of(bundle), None) == []
