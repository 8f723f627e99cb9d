"""What `birdemb info` tells of a bundle, whoever wrote it."""

import json
from dataclasses import replace

import bundle_files
import numpy as np
import pytest
from bundle_files import change_index, make_bundle, make_parts, make_small_head, members_of, write_raw
from fit_files import CLASSES, IDENTITY, fit_quickly, refuse, run, strict_json, table_of, write_workspace

from birdemb.classify.bundle_file import write_bundle
from birdemb.taxonomy import ClassName

FIGURES = {
    "bytes": 6_873_712,
    "milliseconds": 17.25,
    "cosine_mean": 0.99422,
    "cosine_worst": 0.97381,
    "auc_loss_fed": 0.0015,
    "auc_loss_refitted": 0.0012,
    "gate": "passed",
}
SECOND = {**IDENTITY, "encoder": "second", "dim": 20, "quantization": FIGURES}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A bundle of two heads on two encoders, with a class that cannot be assessed."""
    table = table_of(4).assign(common_name="a bird", scientific_name="Avis ignota")
    table.loc[11, "primary_label"] = "zebdov"
    place = write_workspace(tmp_path_factory.mktemp("fit"), table, (IDENTITY, SECOND))
    command = ["birdemb", "fit", "--head", "lr,lgbm"]
    return fit_quickly(place, "lr,lgbm", encoders=["first", "second"], cv=2, blend="climb", command=command)


def test_everything_that_matters_is_told(fitted):
    said = run("info", fitted.path)
    digest = fitted.bundle.provenance["data_sha256"]
    for part in (
        f"{fitted.path}: lr on first, lr on second, lgbm on first, lgbm on second, 4 classes",
        "encoder: first (f32), windows of 5 s every 5 s",
        "encoder: second (f32)",
        "6.9 MB, 17.2 ms a window when it was made, cosine to f32 0.9942, worst 0.9738; loss in ROC-AUC +0.0012",
        "blend: climb",
        "on 36 windows of 12 recordings, seed 0",
        "command: birdemb fit --head lr,lgbm",
        f"data sha256: {digest}",
        "numpy",
        "validation: 2 folds, calibration platt",
        "lgbm on second: macro_roc_auc 0.",
        "at thresholds of the other folds: macro_f1 0.",
        "blend: macro_roc_auc 0.",
        "classes: amecro, norcar, wooduc, zebdov",
    ):
        assert part in said, part


def test_classes_are_listed_with_the_blend_s_scores_and_their_thresholds(fitted):
    said = run("info", fitted.path, "--classes")
    rows = {line.split()[0]: line for line in said.splitlines() if line.strip().split(" ")[0] in (*CLASSES, "zebdov")}
    table = fitted.validation.scores["blend"].classes.set_index("class")
    thresholds, folds = fitted.validation.thresholds.table(fitted.bundle.labels), fitted.validation.classes
    for label in (*CLASSES, "zebdov"):
        groups, positives, *values = rows[label].split()[-7:]
        (of_label,) = folds[folds["class"] == label].to_dict("records")
        assert (int(groups), positives) == (of_label["groups"], f"{of_label['fold_0']}/{of_label['fold_1']}")
        expected = [*table.loc[label, ["roc_auc", "average_precision"]]] if label in table.index else [np.nan] * 2
        expected += thresholds.loc[thresholds["class"] == label, ["threshold", "low", "high"]].to_numpy()[0].tolist()
        assert values == ["-" if np.isnan(value) else f"{value:.3f}" for value in expected]
    assert "Avis ignota" in rows["amecro"]


def test_json_is_all_of_it_and_nothing_but_json(fitted):
    told = strict_json(run("info", fitted.path, "--json"))
    assert [entry["head"] for entry in told["heads"]] == ["lr", "lr", "lgbm", "lgbm"]
    assert [entry["encoder"] for entry in told["heads"]] == [0, 1, 0, 1]
    assert told["encoders"] == [IDENTITY, SECOND]
    assert told["classes"][0] == {"label": "amecro", "scientific": "Avis ignota", "common": "a bird"}
    assert told["provenance"] == fitted.bundle.provenance
    assert told["scores"]["folds"] == 2


def test_classes_that_the_encoder_knows_are_told(tmp_path):
    path = tmp_path / "all.birdemb"
    write_bundle(replace(make_bundle("all"), scores={}), path)
    header, *rows = run("info", path, "--classes").splitlines()[-4:]
    assert "known to fake known to other  share of windows" in header
    assert [("yes" in row, "no" in row.split()) for row in rows] == [(True, False), (False, True), (True, False)]
    known = [bundle_files.CLASSES[0].label, bundle_files.CLASSES[2].label]
    told = strict_json(run("info", path, "--json"))
    assert told["priors"] == [{"kind": "offset", "known": known}, {"kind": "features", "known": known}]


def test_bundle_without_validation_says_why(tmp_path):
    report = fit_quickly(write_workspace(tmp_path, table_of(2)), cv=0)
    said = run("info", report.path, "--classes")
    assert "validation: none, as it was not asked for" in said
    assert "command: not from the command line" in said
    assert "blend" not in said
    assert "roc_auc" not in said


@pytest.mark.parametrize("flags", [[], ["--classes"], ["--json"]])
def test_names_of_any_alphabet_and_none_are_told(tmp_path, flags):
    names = ("\x1b[31mred\x1b[0m", "Übergröße", "鳥")
    bundle = make_bundle()
    odd = make_parts(bundle.ensemble, classes=tuple(map(ClassName, names)), provenance={})
    write_bundle(odd, tmp_path / "odd.birdemb")
    said = run("info", tmp_path / "odd.birdemb", *flags)
    assert "\x1b" not in said
    if flags == ["--json"]:
        assert said.isascii()
        assert [entry["label"] for entry in strict_json(said)["classes"]] == list(names)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--classes"], ["--json"]])
@pytest.mark.parametrize(
    "changes",
    [
        {"scores": {"heads": {"lr": [1.0, None]}, "folds": 5}},
        {"scores": {"heads": []}},
        {"scores": {"heads": {"lr": {}}, "folds": 2}},
        {"scores": {"heads": {"lr": {"metrics": [{"metric": "x", "value": "y"}], "classes": [{}]}}, "folds": 2}},
        {"provenance": {"windows": "many"}},
        {"provenance": {"versions": 3}},
        {"provenance": {"command": 5}},
        {"provenance": {"command": "birdemb fit", "versions": {"a": [1, {}]}}},
    ],
)
def test_what_others_wrote_into_a_bundle_is_told_or_refused_in_a_sentence(tmp_path, changes, flags):
    write_bundle(make_bundle(), tmp_path / "whole.birdemb")
    members = change_index(members_of(tmp_path / "whole.birdemb"), **changes)
    write_raw(tmp_path / "odd.birdemb", members.items())
    if flags == ["--json"]:
        told = strict_json(run("info", tmp_path / "odd.birdemb", "--json"))
        assert {name: told[name] for name in changes} == changes
    elif changes in ({"provenance": {"command": "birdemb fit", "versions": {"a": [1, {}]}}},):
        run("info", tmp_path / "odd.birdemb", *flags)
    else:
        assert "in another form than expected" in refuse("info", tmp_path / "odd.birdemb", *flags)


def test_damaged_bundle_is_a_sentence(fitted, tmp_path):
    content = fitted.path.read_bytes()
    place = tmp_path / "model.birdemb"
    for damaged in (b"", content[: len(content) // 2], content[:-1], b"PK\x05\x06" + bytes(18)):
        place.write_bytes(damaged)
        for flags in ([], ["--json"], ["--classes"]):
            assert "no bundle that can be used" in refuse("info", place, *flags)
    assert "nowhere.birdemb" in refuse("info", tmp_path / "nowhere.birdemb")
    assert "no bundle" in refuse("info", tmp_path)


def test_heads_parameters_are_in_the_json(tmp_path):
    bundle = make_parts(make_bundle().ensemble)
    write_bundle(bundle, tmp_path / "one.birdemb")
    (head,) = json.loads(run("info", tmp_path / "one.birdemb", "--json"))["heads"]
    assert head["parameters"] == repr(make_small_head("lr"))
