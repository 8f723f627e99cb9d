"""The search for parameters: scored as `fit` scores, the same trials after a kill, and one sentence for each error."""

import logging
import shlex
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from cache_files import python
from card_files import own_card
from click.testing import CliRunner
from fit_files import CLASSES, IDENTITY, run, table_of, write_workspace
from tuning_files import as_rows

from birdemb.classify.ensemble import Member
from birdemb.classify.heads import make_head
from birdemb.classify.validation import score_out_of_fold
from birdemb.embed.encoder import load_encoder
from birdemb.errors import InputError, MissingDependencyError
from birdemb.fitting import fit
from birdemb.metrics import measure
from birdemb.training import read_training_data
from birdemb.tune_command import tune as command
from birdemb.tuning import tune
from birdemb.tuning_search import make_pruner
from birdemb.tuning_storage import open_study
from birdemb.validation import ValidationRules, choose_folds

optuna = pytest.importorskip("optuna")

TREES = {"n_estimators": 8}  # held fixed, so that trials are quick


@pytest.fixture
def place(tmp_path):
    return write_workspace(tmp_path, table_of())


def tune_quickly(place, head="lgbm", trials=3, **changes):
    fixed = {"fixed": TREES} if head == "lgbm" else {}
    return tune(head, workspace=place.folder, jobs=1, **{**fixed, "trials": trials, **changes})


def read_table(report):
    return pd.read_csv(report.path, keep_default_na=False)


# With real heads and folds.


def assert_scored_as_fit(place, report, usual):
    for parameters, found in ((usual, report.usual), (report.parameters, report.best)):
        fitted = fit(report.head, workspace=place.folder, jobs=1, parameters={report.head: parameters})
        rows = fitted.validation.scores[report.head].metrics.set_index("metric")
        assert rows.loc[report.metric, ["value", "low", "high"]].tolist() == [found.value, found.low, found.high]
    return fitted


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["macro_roc_auc", "cmap"])
def test_score_is_that_of_fit(place, metric):
    report = tune_quickly(place, metric=metric)
    assert_scored_as_fit(place, report, TREES)
    assert report.best.value == read_table(report)["value"].replace("", np.nan).astype(float).max()
    assert report.gain.value == report.best.value - report.usual.value


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_score_is_that_of_fit_where_heads_start_from_what_the_encoder_knows(tmp_path, birdnet_weights):
    table = table_of(per_class=3)
    species = dict(zip(CLASSES, ("Corvus brachyrhynchos", "Cardinalis cardinalis", "Aix sponsa"), strict=True))
    table["scientific_name"] = table["primary_label"].map(species)
    encoder = load_encoder("birdnet-2.4", window=5.0)
    places = {own.scientific: place for place, own in enumerate(encoder.own_classes)}
    weights = encoder.read_classifier()[0]
    # Embeddings that the encoder itself tells apart, but for noise: there is little to learn beside it.
    rng = np.random.default_rng(0)
    heard = {
        row.filename: 2 * weights[:, places[row.scientific_name]] + rng.normal(size=(3, 1024)).astype(np.float32)
        for row in table.itertuples()
    }
    place = write_workspace(tmp_path, table, ({**IDENTITY, "encoder": "birdnet-2.4", "dim": 1024},), heard=heard)
    report = tune_quickly(place, "lr", trials=2)
    fitted = assert_scored_as_fit(place, report, {})
    assert min(fitted.validation.trusts[0]) < 1
    alone = tune_quickly(place, "lr", trials=1, prior="none")
    assert (len(alone.trials), alone.usual == report.usual) == (1, False)


@pytest.mark.slow
def test_several_encoders_are_scored_together(tmp_path):
    place = write_workspace(tmp_path, table_of(), (IDENTITY, {**IDENTITY, "encoder": "second"}))
    card = own_card(tmp_path / "cards", name="second")  # which stands for the name in it
    report = tune_quickly(place, "lr", trials=1, encoders=["first", card], fixed={"C": 1e-3})
    fitted = fit("lr", C=1e-3, encoders=["first", "second"], workspace=place.folder, jobs=1)
    rows = fitted.validation.scores["blend"].metrics.set_index("metric")
    assert rows.loc["macro_roc_auc", "value"] == report.usual.value
    assert report.gain.value == report.gain.low == report.gain.high == 0
    assert report.parameters == {"C": 1e-3}


@pytest.mark.slow
def test_gain_is_drawn_in_pairs(place):
    report = tune_quickly(place, trials=4)
    assert report.number > 0
    data = read_training_data(place)
    folds, _ = choose_folds(data, ValidationRules())
    heads = [make_head("lgbm", **parameters, random_state=0, n_jobs=1) for parameters in (report.parameters, TREES)]
    members = [Member(head) for head in heads]
    scores = score_out_of_fold(members, data.heard, data.priors * 2, data.targets, data.weights, data.groups, folds)
    groups = np.unique(data.groups)
    gains = []
    for counts in np.random.default_rng(0).multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=200):
        rows = np.repeat(np.arange(len(data)), counts[np.searchsorted(groups, data.groups)])
        best, usual = (
            measure(data.targets[rows], own[rows], data.weights[rows] > 0)["macro_roc_auc"] for own in scores
        )
        gains.append(best - usual)
    low, high = np.nanquantile(gains, (0.025, 0.975)) - np.nanmean(gains) + report.gain.value
    np.testing.assert_allclose([report.gain.low, report.gain.high], [low, high], atol=1e-12)


@pytest.mark.slow
def test_same_command_goes_on_and_other_data_begin_anew(tmp_path, place):
    first = tune_quickly(place, trials=2)
    assert (first.fresh, len(first.trials)) == (2, 2)
    again = tune_quickly(place, trials=3, seed=0)
    assert (again.fresh, len(again.trials)) == (1, 3)
    assert as_rows(again.trials)[:2] == as_rows(first.trials)
    assert as_rows(read_table(again).replace("", None)) == as_rows(again.trials.replace("", None))
    more = tune_quickly(place, trials=3)
    assert (more.fresh, more.best, more.gain) == (0, again.best, again.gain)

    for changes in ({"seed": 1}, {"metric": "cmap"}, {"fixed": {"n_estimators": 9}}, {"cv": 3}, {"reweight": "none"}):
        assert len(tune_quickly(place, trials=1, **changes).trials) == 1, changes
    (tmp_path / "data" / "train.csv").write_text(
        table_of().replace({"filename": {}}).assign(secondary_labels=f"['{CLASSES[0]}']").to_csv(index=False)
    )
    assert len(tune_quickly(place, trials=1).trials) == 1

    elsewhere = write_workspace(tmp_path / "elsewhere", table_of())
    assert as_rows(tune_quickly(elsewhere).trials) == as_rows(again.trials)


def random_state():
    """NumPy's global random numbers, as text."""
    return str([np.array(part).tolist() for part in np.random.get_state()])  # noqa: NPY002


@pytest.mark.slow
def test_nothing_of_the_process_is_changed(place, capfd, monkeypatch):
    loggers = [logging.getLogger(name) for name in ("optuna", "alembic")]
    for logger in loggers:
        monkeypatch.setattr(logger, "level", 17)
    state = random_state()
    steps = []
    tune_quickly(place, tell=steps.append)
    assert [logger.level for logger in loggers] == [17, 17]
    assert random_state() == state
    assert capfd.readouterr() == ("", "")
    assert steps[1] == "trial 1 of 3, fold 1 of 5"
    assert not list(place.folder.glob("**/*.partial"))


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_finished(place):
    def interrupt(step):
        if step.startswith("trial 3 ") and "fold 2" in step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune_quickly(place, trials=4, tell=interrupt)
    kept = pd.read_csv(place.folder / "tuning" / "lgbm.csv")
    assert kept["state"].tolist() == ["complete", "complete", "stopped"]
    report = tune_quickly(place, trials=4)
    assert report.fresh == 2


# A process of its own that says which trial it is in, and how many there are to be.
SEARCH = """
from birdemb.tuning import tune
tune("lgbm", fixed={"n_estimators": 8}, workspace=sys.argv[1], trials=int(sys.argv[2]), jobs=1,
     tell=lambda step: print(step, flush=True))
"""


@pytest.mark.slow
def test_killed_search_goes_on_where_it_was(tmp_path, place):
    whole = tune_quickly(write_workspace(tmp_path / "whole", table_of()), trials=6)
    for trial in (1, 4):
        with subprocess.Popen(python(SEARCH, place.folder, 6), stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if line.startswith(f"trial {trial} of 6") and "fold 2" in line:
                    process.send_signal(signal.SIGKILL)
                    break
    report = tune_quickly(place, trials=6)
    assert report.trials["state"].tolist().count("stopped") == 2
    assert report.fresh == 3
    assert as_rows(report.trials) == as_rows(whole.trials)
    assert (report.best, report.gain) == (whole.best, whole.gain)


@pytest.mark.slow
def test_two_processes_share_a_search(place):
    running = [
        subprocess.Popen(python(SEARCH, place.folder, 8), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in running:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    report = tune_quickly(place, trials=8)
    assert report.fresh == 0
    assert set(report.trials["state"]) <= {"complete", "pruned"}
    assert 8 <= len(report.trials) <= 10
    tried = report.trials.loc[1:].drop(columns=["number", "state", "value", "seconds", "problem"])
    assert len(tried.drop_duplicates()) >= 7


# What cannot be done.


@pytest.mark.parametrize(
    ("head", "changes", "said"),
    [
        ("lgmb", {}, "lgbm"),
        ("lgbm", {"trials": 0}, "--trials is 0"),
        ("lgbm", {"time_limit": 0.0}, "--time-limit"),
        ("lgbm", {"metric": "lrap"}, "'lrap'"),
        ("lgbm", {"seed": -1}, "--seed"),
        ("lgbm", {"cv": 0}, "it was not asked for"),
        ("lgbm", {"cv": 99}, "99 folds"),
        ("lr", {"fixed": {"C": 1.0, "input_transform": "sqrt"}}, "held fixed: C, input_transform"),
        ("lr", {"fixed": {"D": 1.0}}, "no parameter 'D'"),
        ("lr", {"fixed": {"max_iter": -1}}, "max_iter is -1"),
        ("lr", {"fixed": {"class_weight": {1, 2}}}, "held fixed"),
        ("lr", {"output": "data"}, "it is a folder"),
    ],
)
def test_what_cannot_be_tuned_is_one_sentence(place, head, changes, said):
    with pytest.raises(InputError) as caught:
        tune_quickly(place, head, **changes)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_file_of_trials_is_named(place):
    path = place.folder / "tuning.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(InputError, match=r"tuning\.sqlite cannot be used .* not a database.* delete the file"):
        tune_quickly(place)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=r"tuning\.sqlite cannot be used"):
        tune_quickly(place)


def test_path_may_have_any_characters(tmp_path):
    path = tmp_path / "50% of {what}? #1" / "trials.sqlite"
    for expected in (0, 1):
        with open_study(path, "name", make_pruner()) as study:
            assert len(study.trials) == expected
            study.tell(study.ask(), 1.0)
    assert [entry.name for entry in path.parent.iterdir()] == ["trials.sqlite"]


def test_without_optuna_the_extra_is_named(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'birdemb\[tune\]'"):
        tune_quickly(place)


# The command.


@pytest.mark.slow
def test_command_tells_how_to_fit_with_the_best(tmp_path, place):
    table = tmp_path / "my trials.csv"
    arguments = ["--head", "lgbm", "--trials", "8", "--set", "n_estimators=8", "--cv", "3", "--group", "recording"]
    given = ["--workspace", str(place.folder), "--jobs", "1"]
    result = CliRunner().invoke(command, [*arguments, *given, "-o", str(table)], catch_exceptions=False)
    assert result.exit_code == 0
    said = result.stdout
    assert said.startswith("Tuned lgbm in ")
    assert "8 trials (" in said
    assert "The best of 8 trials flatters" in said
    assert len(pd.read_csv(table)) == 8
    line = said.splitlines()[-1].strip()
    words = shlex.split(line)
    assert words[:6] == ["birdemb", "fit", "--head", "lgbm", "--set", "n_estimators=8"]
    assert words[-8:] == ["--cv", "3", "--group", "recording", *given]
    shown = run(*words[1:])
    report = tune_quickly(place, trials=8, cv=3)
    assert (report.fresh, report.folds) == (0, 3)
    assert f"{report.best.value:.3f} ({report.best.low:.3f}-{report.best.high:.3f})" in shown
    assert f"best:     {report.best.value:.4f}" in said


@pytest.mark.slow
def test_command_says_when_nothing_was_better(place):
    result = CliRunner().invoke(
        command, ["--head", "lr", "--trials", "1", "--workspace", str(place.folder)], catch_exceptions=False
    )
    assert "no trial was better" in result.output
    assert result.output.splitlines()[-1].split() == f"birdemb fit --head lr --workspace {place.folder}".split()


@pytest.mark.parametrize(
    "arguments",
    [["--time-limit", text] for text in ("1h30", "30 minutes")]
    + [["--set", "lr.C=1"], ["--set", "C"], ["--metric", "f1"]],
)
def test_wrong_command_line(arguments):
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert "Error: " in result.output
