"""`birdemb fit` as it is typed, without any audio."""

import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from card_files import own_card
from fit_files import CLASSES, IDENTITY, hear, refuse, run, table_of, write_workspace

from birdemb.classify.bundle_file import read_bundle
from birdemb.command_output import EXIT_SKIPPED
from birdemb.fit_command import read_parameters

QUICK = ["--set", "lgbm.n_estimators=8", "--set", "lgbm.num_leaves=4"]


@pytest.fixture(autouse=True)
def place(tmp_path):
    """A workspace where the commands look for it."""
    table = table_of(4, rating=[5, 4, 3, 2] * 3, author=[f"author {number % 4}" for number in range(12)])
    table.loc[3, "author"] = ""
    return write_workspace(tmp_path, table, ({**IDENTITY, "encoder": "second", "dim": 20}, IDENTITY))


def head_of(path=".birdemb/bundles/lr.birdemb", index=0):
    return read_bundle(Path(path)).ensemble.members[index].head


def test_values_are_json_or_else_text():
    assert read_parameters("lr", ["C=0.5", "transform=sqrt", "class_weight=null", "hidden=[3, 4]", "x=a=b", "y="]) == {
        "lr": {"C": 0.5, "transform": "sqrt", "class_weight": None, "hidden": [3, 4], "x": "a=b", "y": ""}
    }
    assert read_parameters("lr,lgbm", ["lr.C=1", "lgbm.num_leaves=8", "lr.tol=1e-3"]) == {
        "lr": {"C": 1, "tol": 1e-3},
        "lgbm": {"num_leaves": 8},
    }
    assert read_parameters("lr", []) == {}
    assert read_parameters("lr", ["C=" + "[" * 100_000])["lr"]["C"].startswith("[[[")


@pytest.mark.parametrize(("head", "text"), [("lr", "C"), ("lr", "=3"), ("lr", "lr.=3"), ("lr,lgbm", "C=3"), ("lr", "")])
def test_assignments_of_another_form_are_refused(head, text):
    with pytest.raises(click.UsageError, match="expected PARAMETER=VALUE"):
        read_parameters(head, [text])
    assert "expected PARAMETER=VALUE" in refuse("fit", "--head", head, "--set", text, status=2)


@pytest.mark.parametrize(
    ("head", "text", "said"),
    [
        ("lr", "num_leaves=3", "no parameter 'num_leaves'"),
        ("lr", "lgbm.num_leaves=3", "not among the heads lr"),
        ("lr", "n_jobs=2", "Give jobs in place of n_jobs"),
        ("lr", "C=-1", "C is -1"),
        ("lr", "C=NaN", "C is nan"),
        ("lr", "C=much", "'much'"),
        ("lr", "C={}", "C is {}"),
        ("lr", "max_iter=1.5", "max_iter is 1.5"),
        ("lr", "class_weight=[1]", "class_weight"),
        ("lr", "positive_weight=[1, 2]", "positive_weight"),
        ("lgbm", "num_leaves=1", "num_leaves is 1"),
        ("lgbm", "num_leaves={}", "num_leaves"),
        ("lr,lgbm", "svm.C=1", "not among the heads"),
    ],
)
def test_parameters_that_cannot_be_are_a_sentence(head, text, said):
    assert said in refuse("fit", "--head", head, "--set", text)


@pytest.mark.slow
def test_positives_are_weighed_by_the_name_of_their_class():
    run("fit", "--cv", 0, "--set", "positive_weight=0.5")
    usual = head_of().decision_function(hear("new", "norcar")).mean(axis=0)
    run("fit", "--cv", 0, "--positive-weight", "norcar=4", "--set", "positive_weight=0.5")
    assert read_bundle(Path(".birdemb/bundles/lr.birdemb")).labels == CLASSES
    assert head_of().positive_weight == [0.5, 2.0, 0.5]
    lifted = head_of().decision_function(hear("new", "norcar")).mean(axis=0)
    assert lifted[1] > usual[1]
    np.testing.assert_allclose(lifted[[0, 2]], usual[[0, 2]], atol=1e-3)


@pytest.mark.parametrize(
    ("text", "said", "status"),
    [
        ("=3", "expected CLASS=WEIGHT", 2),
        ("norcar", "expected CLASS=WEIGHT", 2),
        ("norcar=much", "expected CLASS=WEIGHT", 2),
        ("nobody=3", "There is no class 'nobody'", 1),
        ("norcar=-1", "The positive weight of 'norcar' is -1", 1),
        ("norcar=nan", "The positive weight of 'norcar' is nan", 1),
    ],
)
def test_positive_weights_that_cannot_be_are_a_sentence(text, said, status):
    assert said in refuse("fit", "--positive-weight", text, status=status)


def test_parameters_reach_the_heads():
    run("fit", "--set", "C=0.25", "--cv", 0)
    assert head_of().C == 0.25
    run("fit", "--head", "lr,lgbm", *QUICK, "--set", "lr.C=0.5", "--cv", 0, "--reweight", "none")
    assert head_of(".birdemb/bundles/lr-lgbm.birdemb").C == 0.5
    trees = head_of(".birdemb/bundles/lr-lgbm.birdemb", 1)
    assert (trees.num_leaves, trees.class_weight) == (4, None)


@pytest.mark.slow
def test_report_tells_what_was_fitted_and_how_well():
    said = run("fit", "--head", "lr,lgbm", *QUICK, "--cv", 3, "--blend", "climb", "--group", "author")
    for part in (
        "Fitted lr,lgbm on 36 windows of 12 recordings, 3 classes",
        "train.csv",
        "prior:  none",
        "groups: 5 by author, 1 recordings without one stand alone",
        "validation: 3 folds, 3 of 3 classes assessable",
        "ROC-AUC",
        "at thresholds of the other folds",
        "Brier score 0.",
        "bundle: .birdemb/bundles/lr-lgbm.birdemb",
    ):
        assert part in said, part
    assert [line.split()[0] for line in said.splitlines() if ")" in line and "(0." in line] == [
        "lr",
        "lgbm",
        "blend",
        "F1",
    ]


@pytest.mark.parametrize(
    ("blend", "advice"), [("mean", "Leave the others out, or use --blend best."), ("best", "Leave the others out.")]
)
def test_a_blend_that_loses_is_told_with_what_to_do(monkeypatch, blend, advice):
    monkeypatch.setattr("birdemb.fit_command._NOTABLE", -2.0)  # as if the blend had lost
    said = run("fit", "--head", "lr,lgbm", *QUICK, "--set", "lr.C=0.001", "--cv", 2, "--blend", blend)
    assert f" alone does better than the blend. {advice}\n" in said


@pytest.mark.slow
def test_two_encoders_are_named_in_the_report():
    said = run("fit", "-e", "first", "-e", "second", "--cv", 2)
    assert "lr on first" in said
    assert "lr on second" in said
    assert said.count("prior:") == 2


def test_command_line_is_kept(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/birdemb", "fit", "--cv", "0"])
    run("fit", "--cv", 0)
    bundle = read_bundle(Path(".birdemb/bundles/lr.birdemb"))
    assert bundle.provenance["command"] == ["birdemb", "fit", "--cv", "0"]


@pytest.mark.slow
def test_recordings_that_one_encoder_skipped_are_listed(tmp_path):
    write_workspace(
        tmp_path, table_of(4), ({**IDENTITY, "encoder": "second", "dim": 20},), skipped={"second": ["norcar/2.ogg"]}
    )
    said = run("fit", "-e", "first", "-e", "second", "--cv", 0, status=EXIT_SKIPPED)
    assert "on 33 windows of 11 recordings" in said
    assert "norcar/2.ogg: second has not embedded it" in said
    assert "norcar/2.ogg" in (tmp_path / ".birdemb/fit-errors.csv").read_text()


def test_recordings_beyond_the_limit_are_no_problem():
    said = run("fit", "--most-recordings", 3, "--cv", 0)
    assert "beyond --most-recordings, left out: 3 recordings" in said
    assert "on 27 windows of 9 recordings" in said


@pytest.mark.slow
def test_copies_are_told(tmp_path):
    X = hear("amecro/0.ogg", "amecro")
    write_workspace(tmp_path / "new", table_of(4), heard={"amecro/3.ogg": X * np.float32(1.001)})
    said = run("fit", "--workspace", "new/.birdemb")
    assert "nearly the same, kept in one fold: 1 pair of recordings" in said


@pytest.mark.parametrize("arguments", [["--cv", 0], ["--cv", 0, "--head", "lr,lgbm", "--blend", "ranks", *QUICK]])
def test_no_validation_is_told(arguments):
    assert "validation: none, as it was not asked for" in run("fit", *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cv", 1], "--cv is 1"),
        (["--cv", 13], "12 groups of windows for 13 folds"),
        (["--group", "site"], "does not tell it"),
        (["--secondary", "perhaps"], "cannot be taken as 'perhaps'"),
        (["--secondary", "0"], "cannot be taken as '0'"),
        (["--secondary", "nan"], "cannot be taken as 'nan'"),
        (["--threshold", "best"], "'best'"),
        (["--threshold", "1.1"], "1.1"),
        (["--threshold", "nan"], "nan"),
        (["--prior", "offset"], "no encoder 'first'"),
        (["--prior", "features"], "no encoder 'first'"),
        (["-e", "third"], "Nothing has been embedded with 'third'"),
        (["-e", "first", "-e", "first"], "Name each once"),
        (["--labels", "nowhere.csv"], "nowhere.csv"),
        (["--labels", ".birdemb/cache"], "no files of labels"),
        (["--column", "species=Bird"], "'species'"),
        (["--minimum-overlap", 0], "minimum overlap is 0 s"),
        (["--head", "lr,lr"], "each once"),
        (["--head", "lr,"], "no head ''"),
        (["--jobs", 0], "0"),
        (["--seed", -1], "--seed is -1"),
        (["--output", "model.zip"], "end in .birdemb"),
        (["--output", "data/train.csv/model.birdemb"], "Cannot write"),
        (["--validate", "nowhere", "--truth", "truth.csv"], "nowhere"),
        (["--workspace", "other"], "Nothing has been embedded in"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(arguments, said):
    assert said in refuse("fit", *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--validate", "data"], ["--truth", "truth.csv"], ["--blend", "soup"], ["--calibrate", "much"],
        ["--group", "me"], ["--prior", "all"], ["--reweight", "much"], ["--most-recordings", 0], ["--cv", "many"],
        ["--nonsense"],
    ],
)  # fmt: skip
def test_command_line_that_is_wrong_is_told(arguments):
    refuse("fit", *arguments, status=2)


def test_damaged_cache_and_listing_are_told(place):
    (place.folder / "embedded.json").write_text("{")
    assert "birdemb embed" in refuse("fit")
    # The listing of the encoder itself is whole.
    run("fit", "-e", "first", "--cv", 0)


def test_card_stands_for_the_name_in_it(place):
    card = own_card(place.folder.parent / "cards", name="first")
    assert "with first, in" in run("fit", "-e", card, "--cv", 0)
    assert "Name each once" in refuse("fit", "-e", "first", "-e", card)
    assert "Nothing has been embedded with 'other'" in refuse("fit", "-e", own_card(place.folder, name="other"))
    assert "The card none.toml cannot be read: No such file" in refuse("fit", "-e", "none.toml")


@pytest.mark.slow
def test_steps_are_shown_on_a_terminal_alone():
    assert "fold 1 of" not in run("fit", "--cv", 2)


@pytest.mark.parametrize("command", [[], ["fit"], ["predict"], ["info"], ["evaluate"]])
def test_help_imports_nothing_heavy(command):
    code = (
        "import sys; from click.testing import CliRunner; from birdemb.cli import main\n"
        "assert CliRunner().invoke(main, [*sys.argv[1:], '--help']).exit_code == 0\n"
        "heavy = {'numpy', 'pandas', 'sklearn', 'openvino', 'lightgbm', 'torch', 'scipy', 'tqdm'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, *command], check=True)
