"""Validation on labelled soundscapes, beside that on the recordings."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from fit_files import FAST, copy_world, embed, refuse, run, strict_json

from birdemb.classify.bundle_file import read_bundle, write_bundle
from birdemb.errors import InputError
from birdemb.fitting import fit
from birdemb.metrics import average_precision_by_class, roc_auc_by_class
from birdemb.soundscapes import predict_labelled, read_truth, score_soundscapes
from birdemb.validation import Validation
from birdemb.workspace import Workspace

ALL = ["--head", "lr,lgbm", "--cv", 2, "--set", "lgbm.n_estimators=8", "--jobs", 1]
VALIDATED = ["--validate", "soundscapes", "--truth", "truth.csv"]


@pytest.fixture(scope="module")
def place(world, tmp_path_factory):
    """A world that is embedded, with its soundscapes."""
    place = copy_world(world, tmp_path_factory.mktemp("job") / "job")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        embed("data")
        run("fit", *ALL, *VALIDATED)
    return place


@pytest.fixture(autouse=True)
def folder(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def fitted(place):
    return fit("lr", workspace=place / ".birdemb", cv=2, jobs=1, parameters={"lr": FAST["lr"]})


def score(bundle, validation, place, truth="truth.csv"):
    soundscapes = predict_labelled(bundle, "soundscapes", truth, Workspace(place / ".birdemb"), jobs=1)
    return score_soundscapes(soundscapes, validation)


@pytest.mark.slow
def test_report_and_bundle_tell_the_gap(place, world):
    said = run("fit", *ALL, *VALIDATED)
    assert "on soundscapes: 24 windows, " in said
    assert "against the recordings' folds on the same classes" in said
    told = strict_json(json.dumps(read_bundle(place / ".birdemb/bundles/lr-lgbm.birdemb").scores))["soundscapes"]
    assert told["windows"] == 24
    assert 0 < told["classes"] <= len(world.classes)
    assert {row["metric"] for row in told["metrics"]} >= {"macro_roc_auc", "cmap"}
    assert set(told["gaps"]) <= {"macro_roc_auc", "cmap"}


def test_scores_are_those_of_the_submission(place, fitted, world):
    write_bundle(fitted.bundle, place / "one.birdemb")
    run("predict", "soundscapes", "-m", "one.birdemb", "-o", "one.csv", "--jobs", 1)
    scores = score(fitted.bundle, fitted.validation, place)
    truth, table = (pd.read_csv(name).set_index("row_id") for name in ("truth.csv", "one.csv"))
    labels = list(world.classes)
    present, probabilities = truth[labels].to_numpy() > 0, table.loc[truth.index, labels].to_numpy()
    by_class = scores.table.classes
    assert by_class["class"].tolist() == labels
    np.testing.assert_allclose(by_class["roc_auc"], roc_auc_by_class(present, probabilities))
    np.testing.assert_allclose(by_class["average_precision"], average_precision_by_class(present, probabilities))
    assert (scores.windows, scores.classes) == (24, present.any(axis=0).sum())


def test_gap_is_that_of_the_classes_that_both_can_measure(place, fitted, world):
    # One class is not in the soundscapes, another not among those that the folds could assess.
    truth = pd.read_csv("truth.csv")
    absent, unassessed, *common = world.classes
    truth[absent] = 0
    truth.to_csv("less.csv", index=False)
    (table,) = fitted.validation.scores.values()
    kept = table.classes[table.classes["class"] != unassessed]
    validation = Validation(fitted.validation.blend, (None,), scores={"lr": type(table)(table.metrics, kept)})
    scores = score(fitted.bundle, validation, place, "less.csv")
    ours, folds = (part.set_index("class") for part in (scores.table.classes, table.classes))
    common = [label for label in common if np.isfinite(ours.loc[label, "roc_auc"])]
    assert common
    for metric, column in (("macro_roc_auc", "roc_auc"), ("cmap", "average_precision")):
        expected = (ours.loc[common, column] - folds.loc[common, column]).mean()
        assert scores.gaps[metric] == pytest.approx(expected)


@pytest.mark.slow
def test_without_folds_there_is_no_gap(place):
    report = fit("lr", workspace=place / ".birdemb", cv=0, jobs=1, soundscapes="soundscapes", truth="truth.csv")
    assert report.soundscapes.gaps == {}
    assert np.isfinite(report.soundscapes.table.metrics["value"]).any()
    assert report.bundle.scores["reason"] == "it was not asked for"
    assert report.bundle.scores["soundscapes"]["windows"] == 24
    said = run("fit", "--cv", 0, *VALIDATED)
    assert "on soundscapes: 24 windows" in said
    assert "against the recordings' folds" not in said


def test_part_of_the_rows_and_of_the_classes_can_be_scored(place, fitted, world):
    truth = pd.read_csv("truth.csv").iloc[5:20]
    kept = [label for label in world.classes if 0 < truth[label].sum() < len(truth)]
    truth[["row_id", *kept]].assign(stranger=0).to_csv("part.csv", index=False)
    scores = score(fitted.bundle, fitted.validation, place, "part.csv")
    assert scores.windows == 15
    assert scores.table.classes["class"].tolist() == kept


def test_rows_without_a_window_are_a_sentence(place):
    truth = pd.read_csv("truth.csv")
    stem = truth["row_id"][0].rpartition("_")[0]
    truth.loc[2, "row_id"] = f"{stem}_3600"
    truth.to_csv("rows.csv", index=False)
    model = place / "late.birdemb"
    said = refuse("fit", "--cv", 0, "--set", "C=0.001", "--validate", "soundscapes", "--truth", "rows.csv", "-o", model)
    assert f"rows.csv has 1 rows without a window in soundscapes, such as '{stem}_3600'" in said
    assert f"The heads are fitted, and in {model}." in said
    assert len(read_bundle(model).labels) > 1


@pytest.fixture
def broken(place, tmp_path):
    """The soundscapes, the first of them cut short, and its row ids."""
    shutil.copytree("soundscapes", tmp_path / "broken")
    first = min((tmp_path / "broken").iterdir())
    first.write_bytes(first.read_bytes()[:300])
    return tmp_path / "broken", first


def test_a_soundscape_that_cannot_be_read_is_left_out_and_told(place, broken):
    folder, first = broken
    (folder / "unlabelled.wav").write_bytes(b"RIFF")  # nothing is said of what the truth does not speak of
    truth = pd.read_csv("truth.csv")
    rest = truth[~truth["row_id"].str.startswith(first.stem)]
    options = ["--cv", 0, "--set", "C=0.001", "--truth", "truth.csv"]
    said = run("fit", *options, "--validate", folder, status=3)
    assert f"on soundscapes: {len(rest)} windows" in said
    assert "left out: 1, listed in" in said
    assert pd.read_csv(".birdemb/fit-errors.csv")["path"].tolist() == [first.name]
    for other in folder.glob("*.ogg"):
        other.write_bytes(b"OggS")
    said = refuse("fit", *options, "--validate", folder)
    assert f"{first.name} in {folder} could not be predicted (" in said
    assert "nothing can be scored. The heads are fitted, and in " in said


def test_truth_of_other_classes_is_a_sentence(place):
    truth = pd.read_csv("truth.csv")
    truth.columns = ["row_id", *(f"other{number}" for number in range(len(truth.columns) - 1))]
    truth.to_csv("classes.csv", index=False)
    said = refuse("fit", "--cv", 0, "--validate", "soundscapes", "--truth", "classes.csv")
    assert "classes.csv has none of the classes that were fitted" in said


def test_truth_that_nothing_can_be_scored_with_is_a_sentence(place, monkeypatch):
    monkeypatch.setattr("birdemb.fitting.validate", None)  # told before the work
    truth = pd.read_csv("truth.csv")
    truth[truth.columns[1:]] = 0
    truth.to_csv("zero.csv", index=False)
    said = refuse("fit", "--validate", "soundscapes", "--truth", "zero.csv")
    assert "zero.csv has no class with both a row with it and a row without it" in said


def test_what_is_wrong_with_the_truth_is_told_before_the_work(place, monkeypatch):
    monkeypatch.setattr("birdemb.fitting.read_training_data", None)
    truth = pd.read_csv("truth.csv")
    truth.assign(**{truth.columns[1]: 0.5}).to_csv("half.csv", index=False)
    pd.concat([truth, truth]).to_csv("twice.csv", index=False)
    truth.replace({"row_id": {truth["row_id"][2]: "gone_5"}}).to_csv("gone.csv", index=False)
    (place / "both" / "a").mkdir(parents=True, exist_ok=True)
    for name in ("both/x.wav", "both/a/x.flac"):
        (place / name).write_bytes(b"RIFF")
    for path, table, said in (
        ("soundscapes", "half.csv", f"in the row {truth['row_id'][0]!r}"),
        ("soundscapes", "twice.csv", "twice"),
        ("soundscapes", "nowhere.csv", "nowhere.csv"),
        ("nowhere", "truth.csv", "nowhere"),
        ("both", "truth.csv", "x_5"),
        ("soundscapes", "gone.csv", "gone.csv has 1 rows without a window in soundscapes, such as 'gone_5'"),
    ):
        assert said in refuse("fit", "--validate", path, "--truth", table)
        with pytest.raises(InputError):
            read_truth(path, table)
    assert "belong together" in refuse("fit", "--validate", "soundscapes", status=2)
    assert "belong together" in refuse("fit", "--truth", "truth.csv", status=2)
