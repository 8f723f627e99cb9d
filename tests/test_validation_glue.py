"""Validation of heads on recordings that they were not fitted on, and all that is learnt from it."""

import json

import numpy as np
import pytest
from fit_files import CLASSES, FAST, IDENTITY, hear, strict_json, table_of, write_workspace
from scipy.special import expit
from sklearn.metrics import f1_score

from birdemb.classify.blending import BLENDS, UNLEARNT, Blend, cross_blend
from birdemb.classify.calibration import CALIBRATIONS, Calibration
from birdemb.classify.ensemble import Member
from birdemb.classify.folds import assessable_classes
from birdemb.classify.heads import make_head
from birdemb.classify.thresholds import choose_thresholds
from birdemb.classify.validation import score_out_of_fold
from birdemb.errors import InputError
from birdemb.metrics import roc_auc_by_class
from birdemb.training import LabelRules, read_training_data
from birdemb.validation import Validation, ValidationRules, choose_folds, name_members, validate

RULES = ValidationRules()


def make_members(*names, encoders=1):
    return [
        Member(make_head(name, random_state=0, n_jobs=1, class_weight="balanced", **FAST[name]), encoder)
        for name in names
        for encoder in range(encoders)
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five recordings of each class, and a class with a single one."""
    table = table_of(5)
    table.loc[14, "primary_label"] = "zebdov"
    table.loc[3, "secondary_labels"] = "['wooduc']"
    return read_training_data(write_workspace(tmp_path_factory.mktemp("fit"), table))


def score(data, members, rules=RULES):
    folds, _ = choose_folds(data, rules)
    return folds, score_out_of_fold(
        members, data.heard, data.priors, data.targets, data.weights, data.groups, folds, lambda _: None
    )


def test_usual_number_of_folds_is_five_or_as_many_as_there_are_groups(data, tmp_path):
    assert len(np.unique(choose_folds(data, ValidationRules())[0])) == 5
    few = read_training_data(write_workspace(tmp_path, table_of(1, ("amecro", "norcar"), author="me")))
    assert choose_folds(few, ValidationRules()) == (
        None,
        "no class is known to be in two recordings and not to be in two others",
    )
    table = table_of(3, author=["a", "b", "c"] * 3)
    few = read_training_data(write_workspace(tmp_path, table), rules=LabelRules(group="author"))
    assert len(np.unique(choose_folds(few, ValidationRules())[0])) == 3


def test_folds_never_part_a_group(data):
    for cv in (2, 3, 14):
        folds, reason = choose_folds(data, ValidationRules(cv=cv))
        assert reason == ""
        assert len(np.unique(folds)) == cv
        assert all(len(set(folds[data.groups == group])) == 1 for group in np.unique(data.groups))


def test_too_many_folds_are_refused(data):
    with pytest.raises(InputError, match="15 groups of windows for 16 folds"):
        validate(make_members("lr"), data, ValidationRules(cv=16))


@pytest.mark.parametrize("rules", [{"cv": 1}, {"cv": -3}, {"blend": "x"}, {"calibrate": "x"}, {"threshold": "1.5"}])
def test_impossible_rules_are_refused_before_anything_is_done(rules):
    with pytest.raises(InputError, match=r"[.]$"):
        ValidationRules(**rules)


def test_single_group_is_not_validated(tmp_path):
    data = read_training_data(write_workspace(tmp_path, table_of(2, author="me")), rules=LabelRules(group="author"))
    validation = validate(make_members("lr"), data, ValidationRules())
    assert validation.reason == "there is 1 group of recordings only"
    assert validation.calibration is None
    with pytest.raises(InputError, match="1 groups of windows for 2 folds"):
        validate(make_members("lr"), data, ValidationRules(cv=2))


@pytest.mark.parametrize("blend", sorted(set(BLENDS) - set(UNLEARNT)))
def test_a_blend_that_is_learnt_needs_folds(blend):
    with pytest.raises(InputError, match=f"The blend '{blend}' is learnt on validation scores, and --cv 0"):
        ValidationRules(cv=0, blend=blend)


def test_folds_of_single_recordings_are_as_good_as_larger_ones(tmp_path):
    # All windows of such a fold hold one class: what is in most of them is no level of the head.
    data = read_training_data(write_workspace(tmp_path, table_of(4)))
    few, single = (validate(make_members("lr"), data, ValidationRules(cv=cv)) for cv in (2, 12))
    areas = [each.scores["lr"].metrics.set_index("metric").loc["macro_roc_auc", "value"] for each in (few, single)]
    assert min(areas) > 0.9
    assert single.brier < few.brier + 0.02


@pytest.mark.parametrize("blend", UNLEARNT)
def test_without_folds_there_is_nothing_to_learn(data, blend):
    validation = validate(make_members("lr", "lgbm"), data, ValidationRules(cv=0, blend=blend))
    assert validation.blend.method == blend
    assert (validation.blend.weights == 0.5).all()
    assert (validation.calibration, validation.thresholds, validation.scores) == (None, None, {})
    assert validation.summary(data.classes) == {"reason": "it was not asked for"}


def test_heads_stay_as_they_were(data):
    members = make_members("lr", "lgbm")
    before = [json.dumps(member.head.get_params()) for member in members]
    validate(members, data, ValidationRules(cv=2))
    assert [json.dumps(member.head.get_params()) for member in members] == before
    assert all(getattr(member.head, "classes_", None) is None for member in members)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("blend", "calibrate"), [*((blend, "platt") for blend in BLENDS), *(("mean", name) for name in CALIBRATIONS)]
)
def test_what_is_learnt_is_learnt_from_out_of_fold_scores(data, blend, calibrate):
    members = make_members("lr", "lgbm")
    rules = ValidationRules(cv=3, blend=blend, calibrate=calibrate)
    validation = validate(members, data, rules)
    folds, scores = score(data, members, rules)
    assessable = assessable_classes(data.targets, data.weights, folds)
    assert validation.classes["assessable"].tolist() == assessable.tolist() == [True, True, True, False]
    blended = validation.blend.apply(scores)
    by_hand = Calibration.learn(blended, data.targets, data.weights, data.groups, calibrate, assessable=assessable)
    np.testing.assert_array_equal(validation.calibration.apply(blended), by_hand.apply(blended))
    assert list(validation.scores) == ["lr", "lgbm", "blend"]
    crossed = cross_blend(blend, scores, data.targets, data.weights * assessable, data.groups, folds, seed=rules.seed)
    for name, own in zip(validation.scores, (*scores, crossed), strict=True):
        table = validation.scores[name].classes
        assert table["class"].tolist() == list(CLASSES)
        expected = roc_auc_by_class(data.targets, expit(own), data.weights > 0)[:3]
        np.testing.assert_allclose(table["roc_auc"], expected, atol=1e-12)
    # Of a class that was never heard in training nothing is known but what all have in common.
    assert validation.thresholds.positive_groups.tolist() == [5, 5, 4, 1]
    assert validation.thresholds.pooled[3]
    assert 0 < validation.brier < 1


def test_detections_are_judged_by_thresholds_of_the_other_folds(data):
    members, rules = make_members("lr"), ValidationRules(cv=3)
    validation = validate(members, data, rules)
    folds, scores = score(data, members, rules)
    blended = validation.blend.apply(scores)
    assessable = assessable_classes(data.targets, data.weights, folds)
    detected = np.zeros(data.targets.shape, bool)
    for fold in range(3):
        rest = folds != fold
        known = data.targets[rest], data.weights[rest], data.groups[rest]
        calibration = Calibration.learn(blended[rest], *known, "platt", assessable=assessable)
        thresholds = choose_thresholds(
            calibration.apply(blended[rest]), known[0], known[1] * assessable, known[2], resamples=0
        )
        detected[~rest] = thresholds.apply(calibration.apply(blended[~rest]))
    rows = validation.detections.set_index("metric")
    known = (data.weights > 0) & assessable
    of_classes = [
        f1_score(data.targets[known[:, column], column], detected[known[:, column], column])
        for column in np.flatnonzero(assessable)
    ]
    for metric, expected in (
        ("macro_f1", np.mean(of_classes)),
        ("micro_f1", f1_score(data.targets[known], detected[known])),
    ):
        assert rows.loc[metric, "value"] == pytest.approx(expected)
        assert rows.loc[metric, "low"] <= expected <= rows.loc[metric, "high"]


def test_summary_is_json_without_nan(data):
    validation = validate(make_members("lr", "lgbm"), data, ValidationRules(cv=2))
    summary = strict_json(json.dumps(validation.summary(data.classes), allow_nan=False))
    assert summary["folds"] == 2
    assert summary["assessable"] == list(CLASSES)
    assert set(summary["heads"]) == {"lr", "lgbm", "blend"}
    assert [row["class"] for row in summary["thresholds"]] == [*CLASSES, "zebdov"]
    assert [row["metric"] for row in summary["detections"]] == ["macro_f1", "micro_f1"]
    assert sum(row["count"] for row in summary["reliability"]) == (data.weights[:, :3] > 0).sum()
    assert {row["metric"] for row in summary["heads"]["lr"]["metrics"]} >= {"macro_roc_auc", "cmap"}


def test_summary_of_intervals_that_cannot_be_told_is_json_too(tmp_path):
    # Two groups: half of all draws have nothing to measure.
    table = table_of(2, ("amecro", "norcar"), author=["a", "b"] * 2)
    data = read_training_data(write_workspace(tmp_path, table), rules=LabelRules(group="author"))
    validation = validate(make_members("lr"), data, ValidationRules())
    assert validation.folds == 2
    strict_json(json.dumps(validation.summary(data.classes), allow_nan=False))


@pytest.mark.parametrize("name", ["lr", "lgbm"])
def test_recordings_known_by_heart_are_not_recognised(tmp_path, name):
    # Each recording has a voice of its own and the labels are drawn by lot: whoever has heard it knows its label.
    rng = np.random.default_rng(3)
    table = table_of(10, ("amecro", "norcar"))
    table["primary_label"] = rng.permutation(table["primary_label"])
    heard = {
        filename: rng.exponential(size=48).astype(np.float32) + rng.normal(0, 0.01, (4, 48)).astype(np.float32)
        for filename in table["filename"]
    }
    data = read_training_data(write_workspace(tmp_path, table, heard=heard))
    assert not data.duplicates.pairs
    members = make_members(name)
    fair = validate(members, data, ValidationRules()).scores[name].metrics.set_index("metric")
    assert fair.loc["macro_roc_auc", "value"] < 0.8
    # Folds of windows instead of recordings: this is what a leak would look like.
    windows = np.arange(len(data)) % 4
    leaking = score_out_of_fold(
        members, data.heard, data.priors, data.targets, data.weights, data.groups, windows, lambda _: None
    )
    assert roc_auc_by_class(data.targets, leaking[0]).mean() > 0.9


def test_copy_of_a_recording_does_not_leak(tmp_path):
    table = table_of(4)
    X = hear("amecro/0.ogg", "amecro")
    data = read_training_data(write_workspace(tmp_path, table, heard={"amecro/2.ogg": X * np.float32(1.001)}))
    assert len(data.duplicates.pairs) == 1
    folds, scores = score(data, make_members("lr"))
    first, copy = (
        data.recording == [entry.recording for entry in data.recordings].index(name)
        for name in ("amecro/0.ogg", "amecro/2.ogg")
    )
    assert set(folds[first]) == set(folds[copy])
    np.testing.assert_allclose(scores[0, first], scores[0, copy], rtol=0.05, atol=0.05)


def test_heads_are_named_with_their_encoder_where_there_are_several(tmp_path):
    second = {**IDENTITY, "encoder": "second", "dim": 20}
    data = read_training_data(write_workspace(tmp_path, table_of(3), (IDENTITY, second)), encoders=["first", "second"])
    members = make_members("lr", "lgbm", encoders=2)
    assert name_members(members, data) == ["lr on first", "lr on second", "lgbm on first", "lgbm on second"]
    validation = validate(members, data, ValidationRules(cv=2, blend="stack"))
    assert list(validation.scores) == [*name_members(members, data), "blend"]
    assert validation.blend.weights.shape == (4, 3)


def test_nothing_learnt_is_no_scores():
    assert Validation(Blend.equal("mean", 1, 2), (None,), reason="so").summary(()) == {"reason": "so"}
