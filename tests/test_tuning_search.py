"""The trials of a search for parameters, without heads: what is tried, what ends early, what goes on after a stop."""

import json
import time

import numpy as np
import pytest
from head_data import FAST, NAMES, make_data
from hypothesis import given, settings
from hypothesis import strategies as st
from tuning_files import as_rows

from birdemb.classify.heads import head_class, make_head
from birdemb.errors import InputError
from birdemb.tuning_search import Search, make_pruner
from birdemb.tuning_spaces import SPACES, Choice, Range, Space

optuna = pytest.importorskip("optuna")


class Curve:
    """Scores a number by how near it is to 3, a little otherwise in each fold, and counts the folds."""

    count = 5

    def __init__(self, problem=lambda _: None):
        self.folds = []
        self._problem = problem

    def score(self, parameters, after=lambda *_: None):
        self._problem(parameters)
        value = parameters.get("x", 8.0)
        self.folds.append(0)
        for fold in range(self.count):
            self.folds[-1] += 1
            # The first folds are far easier than the others, and in one nothing can be measured.
            after(fold, -((value - 3.0) ** 2) - 100 * fold if fold != 3 else float("nan"))
        return np.array([value])

    def measure(self, scores):
        return -((float(scores[0]) - 3.0) ** 2)


def make_study(**settings):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize", pruner=make_pruner(), **settings)


LINE = Space({"x": Range(0.0, 10.0, linear=True)}, {"x": 8.0})


# What is tried of the heads.


@pytest.mark.parametrize("name", sorted(SPACES))
def test_everything_that_is_searched_is_a_parameter_of_the_head(name):
    parameters = head_class(name)().get_params()
    assert set(SPACES[name]) <= set(parameters)
    for part in SPACES[name].values():
        assert part.where is None or part.where[0] in parameters


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_head_takes_every_edge_of_its_space(name):
    X, y = make_data(0)
    fast = {**FAST[name], "epochs": 1} if name == "mlp" else FAST[name]
    for parameter, part in SPACES[name].items():
        options = part.options if isinstance(part, Choice) else (part.low, part.high, *part.others)
        for value in options:
            needed = {part.where[0]: part.where[1]} if part.where else {}
            make_head(name, **{**fast, **needed, parameter: value}).fit(X, y)


@pytest.mark.parametrize("name", sorted(SPACES))
def test_defaults_are_among_what_is_searched(name):
    usual = make_head(name).get_params()
    space = Space(SPACES[name], usual)
    chosen = space.write_usual()
    assert chosen
    assert space.suggest(optuna.trial.FixedTrial(chosen)) == space.read(chosen)
    for parameter, value in space.read(chosen).items():
        assert json.dumps(value) == json.dumps(usual[parameter])


def test_parameter_that_depends_on_another_is_tried_with_it_alone():
    space = Space(
        {
            "gamma": Range(0.5, 4.0, where=("loss", "focal")),
            "loss": Choice(("bce", "focal")),
            "hidden": Choice(([], [4, 2])),
            "C": Range(1.0, 10.0, others=("cv", None)),
            "leaves": Range(1, 100, whole=True),
        },
        {"loss": "bce", "gamma": 2.0, "hidden": (4, 2), "C": 20.0, "leaves": 4},
    )
    study = make_study(sampler=optuna.samplers.RandomSampler(0))
    found = [space.suggest(study.ask()) for _ in range(60)]
    assert all(("gamma" in one) == (one["loss"] == "focal") for one in found)
    assert {str(one["hidden"]) for one in found} == {"[]", "[4, 2]"}
    assert {type(one["C"]) for one in found} == {float, str, type(None)}
    assert all(isinstance(one["leaves"], int) for one in found)
    assert all(float(f"{one['gamma']:.3g}") == one["gamma"] for one in found if "gamma" in one)
    assert space.write_usual() == {}  # 20 is no C of the space
    inside = Space(space.parts, {**space.usual, "C": None})
    assert inside.write_usual() == {"loss": "bce", "hidden": "[4, 2]", "C.kind": "null", "leaves": 4}


# The trials.


def test_defaults_come_first_and_poor_trials_end_early():
    scorer = Curve()
    search = Search(make_study(), scorer, LINE, seed=0)
    assert search.run(40) == (40, False)
    trials = search.tabulate()
    assert trials.loc[0, ["state", "value", "x"]].tolist() == ["complete", -25.0, 8.0]
    pruned = trials["state"] == "pruned"
    assert 5 < pruned.sum() < 35
    assert trials.loc[pruned, "value"].isna().all()
    folds, repeated = np.array(scorer.folds), trials["x"].duplicated()
    assert len(folds) == (~repeated).sum() > 20
    assert (folds[~pruned[~repeated]] == 5).all()
    assert ((folds[pruned[~repeated]] >= 2) & (folds[pruned[~repeated]] < 5)).all()
    best = search.find_best()
    assert best.value == trials["value"].max() > -0.1
    assert search.scores_of(best).tolist() == [search.read(best)["x"]]
    assert len(scorer.folds) == len(folds)  # nothing was fitted again
    assert search.run(40) == (0, False)


def test_what_was_tried_before_is_not_fitted_again():
    space = Space({"x": Choice((1.0, 2.0, 8.0))}, {"x": 8.0})
    study, scorer = make_study(), Curve()
    search = Search(study, scorer, space, seed=0)
    assert search.run(12) == (12, False)
    trials = search.tabulate()
    assert len(scorer.folds) == trials["x"].nunique() == 3
    assert (trials.groupby("x")[["state", "value"]].nunique(dropna=False) == 1).all(axis=None)
    assert search.find_best().value == -1.0
    assert search.scores_of(search.find_best()).tolist() == [2.0]
    assert len(scorer.folds) == 3


@settings(deadline=None, max_examples=20)
@given(usual=st.floats(0, 12), seed=st.integers(0, 2**32 - 1))
def test_best_is_never_worse_than_the_defaults(usual, seed):
    search = Search(make_study(), Curve(), Space(LINE.parts, {"x": usual}), seed)
    search.run(6)
    best, first = search.find_best(), search.find_usual()
    assert search.tabulate()["state"].tolist().count("complete") >= 1
    assert best.value >= first.value == max(first.value, -((8.0 - 3) ** 2))
    assert search.read(first) == {}


def test_trial_that_fails_is_told_of_and_the_next_one_begins():
    def refuse_much(parameters):
        if parameters.get("x", 0) > 5:
            raise InputError("x is too much.")

    search = Search(make_study(), Curve(refuse_much), LINE, seed=1)
    assert search.run(12) == (12, False)
    trials = search.tabulate()
    failed = trials["state"] == "failed"
    assert 0 < failed.sum() < 12
    assert (failed == (trials["x"] > 5).where(trials.index > 0, False)).all()
    assert set(trials.loc[failed, "problem"]) == {"x is too much."}


def test_defaults_that_fail_end_the_search():
    def refuse_all(_):
        raise InputError("No.")

    search = Search(make_study(), Curve(refuse_all), LINE, seed=1)
    with pytest.raises(InputError, match=r"^No\.$"):
        search.run(5)
    assert search.tabulate()["state"].tolist() == ["stopped"]


@pytest.mark.parametrize("stop", [1, 2, 6, 17])
def test_search_that_was_stopped_comes_to_the_same_trials(stop):
    whole = Search(make_study(), Curve(), LINE, seed=3)
    whole.run(20)
    study, calls = make_study(), []

    def interrupt(_):
        calls.append(1)
        if len(calls) == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Search(study, Curve(interrupt), LINE, seed=3).run(20)
    again = Search(study, Curve(), LINE, seed=3)
    assert again.run(20) == (20 - (stop - 1), False)
    trials = again.tabulate()
    assert trials["state"].tolist().index("stopped") == stop - 1
    assert as_rows(trials) == as_rows(whole.tabulate())


def test_other_seed_tries_others():
    tables = []
    for seed in (0, 1):
        search = Search(make_study(), Curve(), LINE, seed)
        search.run(3)
        tables.append(as_rows(search.tabulate()))
    assert tables[0][0] == tables[1][0]
    assert tables[0][1:] != tables[1][1:]


def test_time_limit_lets_the_defaults_end_and_nothing_else_begin():
    study = make_study()
    assert Search(study, Curve(), LINE, seed=0, deadline=time.monotonic() - 1).run(5) == (1, True)
    scorer = Curve()
    search = Search(study, scorer, LINE, seed=0, deadline=time.monotonic() + 3600)
    scorer._problem = lambda _: setattr(search, "_deadline", 0.0)  # time is up within the trial
    assert search.run(5) == (0, True)
    assert scorer.folds == [1]
    assert search.tabulate()["state"].tolist() == ["complete", "stopped"]
