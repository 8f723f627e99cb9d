"""Heads fitted, validated, blended and kept: what ends up in the bundle, and what it says of itself."""

import json
import platform

import numpy as np
import pytest
from bundle_files import members_of
from fit_files import CLASSES, DIM, FAST, IDENTITY, fit_quickly, strict_json, table_of, write_workspace
from scipy.special import expit

from birdemb.classify.blending import BLENDS
from birdemb.classify.bundle_file import read_bundle, write_bundle
from birdemb.classify.ensemble import Heard
from birdemb.classify.heads import make_head
from birdemb.classify.members import make_members, name_heads
from birdemb.errors import InputError
from birdemb.fitting import fit
from birdemb.training import LabelRules, read_training_data

SECOND = {**IDENTITY, "encoder": "second", "dim": 20}


@pytest.fixture
def table():
    return table_of(4, rating=[5.0, 3.0, 2.0, 0.0] * 3, author=[f"author {number % 3}" for number in range(12)])


@pytest.fixture
def place(tmp_path, table):
    return write_workspace(tmp_path, table, (SECOND, IDENTITY))


def probe(dim=DIM, rows=40):
    return np.random.default_rng(7).exponential(size=(rows, dim)).astype(np.float32)


def index_of(path):
    index = json.loads(members_of(path)["bundle.json"])
    index["provenance"].pop("created")
    return index


@pytest.mark.parametrize("head", ["lr", "lgbm"])
def test_bundle_predicts_what_a_head_made_by_hand_does(place, head):
    report = fit_quickly(place, head)
    bundle = read_bundle(report.path)
    data = report.data
    by_hand = make_head(head, class_weight="sqrt", random_state=0, n_jobs=1, **FAST[head])
    by_hand.fit(data.heard[0].embeddings, data.targets, data.weights, groups=data.groups)
    logits = by_hand.decision_function(probe())
    calibrated = report.validation.calibration.apply(report.validation.blend.apply(logits[np.newaxis]))
    np.testing.assert_array_equal(bundle.ensemble.predict_proba((Heard(probe()),)), calibrated)
    assert bundle.labels == CLASSES
    np.testing.assert_allclose(bundle.shares, 1 / 3)
    bare = read_bundle(fit_quickly(place, head, cv=0).path)
    np.testing.assert_allclose(bare.ensemble.predict_proba((Heard(probe()),)), expit(logits), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("blend", BLENDS)
def test_several_heads_are_blended(place, blend):
    report = fit_quickly(place, "lr,lgbm", blend=blend, cv=2)
    bundle = read_bundle(report.path)
    assert report.path.name == "lr-lgbm.birdemb"
    assert bundle.heads == ("lr", "lgbm")
    assert bundle.ensemble.blend.method == blend
    np.testing.assert_array_equal(bundle.ensemble.blend.weights, report.validation.blend.weights)
    heard = (Heard(probe()),)
    np.testing.assert_array_equal(bundle.ensemble.predict_proba(heard), report.bundle.ensemble.predict_proba(heard))


def test_every_head_hears_every_encoder(place):
    report = fit_quickly(place, "lr,lgbm", encoders=["first", "second"], cv=2)
    bundle = read_bundle(report.path)
    assert [member.encoder for member in bundle.ensemble.members] == [0, 1, 0, 1]
    assert [identity["encoder"] for identity in bundle.identities] == ["first", "second"]
    assert [member.head.n_features_in_ for member in bundle.ensemble.members] == [DIM, 20, DIM, 20]
    assert set(bundle.scores["heads"]) == {"lr on first", "lr on second", "lgbm on first", "lgbm on second", "blend"}
    heard = (Heard(probe()), Heard(probe(20)))
    np.testing.assert_array_equal(bundle.ensemble.predict_proba(heard), report.bundle.ensemble.predict_proba(heard))


@pytest.mark.slow
def test_calibration_and_thresholds_are_there_exactly_where_heads_were_validated(place):
    for cv in (None, 3, 0):
        bundle = read_bundle(fit_quickly(place, cv=cv).path)
        assert (bundle.ensemble.calibration is not None) == (cv != 0)
        assert (bundle.ensemble.thresholds is not None) == (cv != 0)
        assert bundle.scores.get("folds", 0) == (5 if cv is None else cv)
    assert bundle.scores == {"reason": "it was not asked for"}


@pytest.mark.slow
@pytest.mark.parametrize("head", ["lr", "lgbm"])
def test_same_seed_gives_the_same_bundle(tmp_path, table, head):
    files = []
    for number, rows in enumerate((table, table, table.iloc[::-1])):
        place = write_workspace(tmp_path / str(number), rows)
        report = fit_quickly(place, head, seed=3)
        # The time alone is another.
        provenance = {**report.bundle.provenance, "created": "then"}
        write_bundle(
            type(report.bundle)(**{**vars(report.bundle), "provenance": provenance}), tmp_path / "again.birdemb"
        )
        files.append((tmp_path / "again.birdemb").read_bytes())
    assert files[0] == files[1] == files[2]


@pytest.mark.slow
def test_number_of_workers_changes_nothing(place):
    files = []
    for jobs in (1, 2):
        report = fit("lr,lgbm", workspace=place.folder, jobs=jobs, cv=2, blend="stack", parameters=FAST)
        members = members_of(report.path)
        members.pop("bundle.json")
        files.append((members, report.bundle.scores))
    assert files[0] == files[1]


@pytest.mark.slow
def test_another_seed_gives_other_folds_and_is_kept(place):
    first, second = fit_quickly(place, seed=0), fit_quickly(place, seed=2**32 - 1)
    assert first.bundle.provenance["seed"] == 0
    assert second.bundle.provenance["seed"] == 2**32 - 1
    assert second.bundle.ensemble.members[0].head.random_state == 2**32 - 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "rules"),
    [
        ({"secondary": "ignore"}, {"secondary": "ignore"}),
        ({"secondary": 0.5}, {"secondary": 0.5}),
        ({"rating": True}, {"rating": True}),
        ({"most_recordings": 2}, {"most": 2}),
        ({"group": "author"}, {"group": "author"}),
    ],
)
def test_rules_for_labels_reach_the_heads(tmp_path, table, settings, rules):
    table.loc[0, "secondary_labels"] = "['wooduc']"
    place = write_workspace(tmp_path, table)
    plain = fit_quickly(place, cv=0)
    head = fit_quickly(place, cv=0, **settings).bundle.ensemble.members[0].head
    data = read_training_data(place, rules=LabelRules(**rules))
    by_hand = make_head("lr", class_weight="sqrt", random_state=0, n_jobs=1, **FAST["lr"])
    by_hand.fit(data.heard[0].embeddings, data.targets, data.weights, groups=data.groups)
    np.testing.assert_array_equal(head.decision_function(probe()), by_hand.decision_function(probe()))
    if "group" not in settings:
        before = plain.bundle.ensemble.members[0].head.decision_function(probe())
        assert not np.allclose(head.decision_function(probe()), before)


def test_masked_label_is_as_good_as_absent(tmp_path, table):
    table.loc[[0, 1], "secondary_labels"] = "['wooduc']"
    place = write_workspace(tmp_path, table)
    head = fit_quickly(place, cv=0).bundle.ensemble.members[0].head
    data = read_training_data(place)
    rows = data.weights[:, 2] > 0
    assert rows.sum() == 30
    alone = make_head("lr", class_weight="sqrt", random_state=0, **FAST["lr"])
    alone.fit(data.heard[0].embeddings[rows], data.targets[rows], data.weights[rows])
    difference = head.decision_function(probe())[:, 2] - alone.decision_function(probe())[:, 2]
    # Not to the last bit, as the embeddings are standardised over the masked windows too.
    assert np.abs(difference).mean() < 0.3


def test_most_recordings_are_counted_and_no_problem(place):
    report = fit_quickly(place, most_recordings=3, cv=0)
    assert (report.limited, report.skipped, report.recordings) == (3, (), 9)
    assert report.errors.read_text().count("limit") == 3
    assert report.bundle.provenance["recordings_by_class"] == dict.fromkeys(CLASSES, 3)


def test_provenance_says_how_it_was_made(place):
    command = ["birdemb", "fit", "--validate", "https://me:secret@host/sounds?token=1"]
    report = fit_quickly(place, "lr,lgbm", cv=2, blend="climb", threshold=0.9, rating=True, command=command)
    origin = strict_json(members_of(report.path)["bundle.json"])["provenance"]
    assert origin["command"] == ["birdemb", "fit", "--validate", "https://host/sounds"]
    assert origin["seed"] == 0
    assert origin["labels"] == "train.csv"
    assert origin["label_rules"] == {
        "secondary": "unknown",
        "rating": True,
        "most": None,
        "group": "recording",
        "minimum_overlap": 0.5,
        "unannotated": "absent",
        "minimum_confidence": 0.0,
        "columns": {},
    }
    assert origin["validation_rules"] == {"cv": 2, "blend": "climb", "calibrate": "platt", "threshold": 0.9, "seed": 0}
    assert (origin["windows"], origin["recordings"]) == (36, 12)
    assert origin["python"] == platform.python_version()
    assert origin["versions"]["numpy"] == np.__version__
    assert str(place.folder.parent) not in json.dumps(origin)


def test_data_is_told_apart_by_content_and_label(tmp_path, table):
    def digest(name, rows):
        return fit_quickly(write_workspace(tmp_path / name, rows), cv=0).bundle.provenance["data_sha256"]

    first = digest("first", table)
    assert digest("second", table) == first
    assert digest("third", table.assign(primary_label=table["primary_label"].to_numpy()[::-1])) != first
    assert digest("fourth", table.iloc[1:]) != first


def test_scores_in_the_bundle_are_json_without_nan(place):
    report = fit_quickly(place, "lr,lgbm", cv=2)
    index = strict_json(members_of(report.path)["bundle.json"])
    assert set(index["scores"]["heads"]) == {"lr", "lgbm", "blend"}


def test_classes_that_cannot_be_assessed_are_fitted_all_the_same(tmp_path):
    table = table_of(4)
    table.loc[11, "primary_label"] = "zebdov"
    report = fit_quickly(write_workspace(tmp_path, table))
    assert report.validation.classes.set_index("class")["assessable"].to_dict() == {
        **dict.fromkeys(CLASSES, True),
        "zebdov": False,
    }
    head = report.bundle.ensemble.members[0].head
    assert head.fitted_classes_.all()
    scores = head.decision_function(report.data.heard[0].embeddings)[:, 3]
    assert scores[report.data.targets[:, 3]].min() > scores[~report.data.targets[:, 3]].max()


def test_no_assessable_class_is_no_validation_and_no_error(tmp_path):
    report = fit_quickly(write_workspace(tmp_path, table_of(1)))
    assert "no class is known to be in two recordings and not to be in two others" in report.validation.reason
    assert report.bundle.ensemble.calibration is None


def test_what_cannot_be_done_is_told_before_the_work(place, tmp_path, monkeypatch):
    monkeypatch.setattr("birdemb.fitting.read_training_data", None)
    (tmp_path / "sounds").mkdir()
    for settings, said in (
        ({"head": "lr,lr"}, "each once"),
        ({"head": ""}, "no head ''"),
        ({"head": []}, "Name at least one"),
        ({"head": "svm"}, "no head 'svm'"),
        ({"seed": -1}, "--seed is -1"),
        ({"reweight": "much"}, "no reweighting 'much'"),
        ({"cv": 1}, "--cv is 1"),
        ({"blend": "soup"}, "'soup'"),
        ({"calibrate": "much"}, "'much'"),
        ({"threshold": "0"}, "'0'"),
        ({"soundscapes": "sounds"}, "give both"),
        ({"truth": "truth.csv"}, "give both"),
        ({"soundscapes": "nowhere", "truth": "truth.csv"}, "nowhere"),
        ({"soundscapes": "sounds", "truth": "truth.csv"}, "sounds"),
        ({"output": "model.zip"}, "end in .birdemb"),
        ({"output": "data/train.csv/model.birdemb"}, "Cannot write"),
        ({"parameters": {"lgbm": {}}}, "not among the heads lr"),
        ({"parameters": {"lr": {"n_jobs": 2}}}, "Give jobs in place of n_jobs"),
        ({"num_leaves": 3}, "no parameter 'num_leaves'"),
        ({"head": ["lr", "lgbm"], "C": 3}, "not plain whose parameter 'C' is"),
    ):
        with pytest.raises(InputError, match=r"[.?]$") as caught:
            fit(**{"workspace": place.folder, **settings})
        assert said in str(caught.value), caught.value
    assert not list(tmp_path.rglob("*.birdemb/*.birdemb"))


def test_bad_values_of_parameters_are_told_in_a_sentence(place):
    for parameters in ({"C": -1}, {"C": "much"}, {"C": float("nan")}, {"class_weight": "x"}, {"positive_weight": [1]}):
        with pytest.raises(InputError, match=r"[.]$"):
            fit(parameters={"lr": parameters}, workspace=place.folder)


def test_names_of_heads_are_read_from_text_or_a_list():
    assert name_heads("lr") == ("lr",)
    assert name_heads(" lr , lgbm") == name_heads(["lr", "lgbm"]) == ("lr", "lgbm")


def test_heads_have_their_parameters_the_rule_and_the_seed():
    made = make_members(
        ["lr", "lgbm"], 2, {"lgbm": {"num_leaves": 5, "class_weight": None}}, {}, reweight="sqrt", seed=4, jobs=1
    )
    assert [(member.head.name, member.encoder) for member in made] == [("lr", 0), ("lr", 1), ("lgbm", 0), ("lgbm", 1)]
    assert made[3].head.num_leaves == 5
    assert [member.head.class_weight for member in made] == ["sqrt", "sqrt", None, None]
    assert {member.head.random_state for member in made} == {4}
    assert make_members(["lr"], 1, {}, {}, reweight="none", seed=0, jobs=1)[0].head.class_weight is None
    assert made[0].head is not made[1].head


def test_a_bundle_that_was_there_stays_where_fitting_fails(place):
    report = fit_quickly(place)
    before = report.path.read_bytes()
    with pytest.raises(InputError):
        fit_quickly(place, cv=100)
    assert report.path.read_bytes() == before
    assert index_of(report.path)["members"][0]["head"] == "lr"
