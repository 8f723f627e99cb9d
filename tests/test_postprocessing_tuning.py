"""Choosing post-processing on labelled soundscapes: what is kept, and what it is said to gain."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fit_files import strict_json
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from birdemb.classify.postprocessing import STEPS, Context, OriginPrior, Smooth, Temperature, Windows
from birdemb.classify.postprocessing.candidates import CANDIDATES, Chooser, Setting
from birdemb.classify.postprocessing.labelled import METRICS, Labelled, compare
from birdemb.classify.postprocessing.origin_prior import learn_origin_prior
from birdemb.classify.postprocessing.tuning import MARGIN, tune_postprocessing
from birdemb.errors import InputError
from birdemb.metrics import bootstrap_interval, measure
from birdemb.postprocess_output import describe_steps, tell_tuning

WINDOWS = 8
TRIED = ("scale", "smooth")  # all of them take seconds


def make_soundscapes(recordings=8, classes=3, *, stay=True, seed=0, **known):
    """Predictions of songs in noise: of species that stay for half a recording, or come and go at random."""
    rng = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(recordings), WINDOWS)
    present = np.zeros((recordings, WINDOWS, classes), bool)
    for number, column in np.argwhere(rng.random((recordings, classes)) < 0.5):
        first = rng.integers(0, WINDOWS // 2)
        present[number, first : first + WINDOWS // 2, column] = True
    if not stay:
        present = rng.permuted(present.reshape(-1, classes), axis=0)
    present = present.reshape(-1, classes)
    probabilities = expit(2 * present - 3 + rng.normal(0, 1.5, present.shape))
    windows = Windows(numbers, np.tile(np.arange(WINDOWS) * 5.0, recordings), Context.of(recordings, **known))
    return Labelled(probabilities, windows, np.ones(len(numbers), bool), present, numbers)


@pytest.fixture(scope="module")
def tuned():
    return tune_postprocessing(make_soundscapes(), steps=TRIED)


def test_neighbours_are_kept_where_they_help(tuned):
    assert "smooth" in tuned.postprocessing.names
    gain = tuned.gains["macro_roc_auc"]
    assert gain.difference > MARGIN
    assert gain.low > 0
    assert tuned.reason == ""
    before = make_soundscapes()
    assert gain.before == pytest.approx(measure(before.present, before.probabilities)["macro_roc_auc"])
    (smooth,) = [row for row in tuned.ablation if row.step == "smooth"]
    assert smooth.kept
    assert smooth.alone["macro_roc_auc"].difference > MARGIN
    assert [row.kept for row in tuned.ablation] == [row.step in tuned.postprocessing.names for row in tuned.ablation]


def test_what_was_chosen_helps_soundscapes_that_nothing_was_chosen_on(tuned):
    others = make_soundscapes(40, seed=1)
    before, after = others.measure(others.probabilities), others.measure(others.process(tuned.postprocessing.steps))
    assert all(after[metric] > before[metric] + MARGIN for metric in METRICS)


@pytest.mark.slow
def test_nothing_is_kept_where_windows_have_nothing_to_do_with_each_other():
    tuning = tune_postprocessing(make_soundscapes(stay=False, seed=3), steps=["smooth"])
    assert not tuning.postprocessing
    assert not any(row.kept for row in tuning.ablation)


def test_a_choice_that_cannot_be_repeated_inside_folds_is_not_kept():
    tuning = tune_postprocessing(make_soundscapes(5), steps=["scale"])
    assert not tuning.postprocessing
    (scale,) = tuning.ablation
    # By itself it passes the test.
    assert scale.added["macro_roc_auc"].difference > MARGIN
    assert scale.added["macro_roc_auc"].low > 0
    assert not scale.kept
    assert tuning.gains["macro_roc_auc"].low <= 0
    assert "inside folds they do not gain more than 0.002" in tuning.reason
    assert f"  nothing is kept: {tuning.reason}" in [*tell_tuning(tuning.summary())]


def test_the_table_has_every_step_that_was_tried(tuned):
    assert [row.step for row in tuned.ablation] == list(TRIED)
    assert set(tuned.untried) == {"temperature", "origin", "range", "raise", "normalise"}
    assert (tuned.folds, tuned.groups) == (5, 8)
    first, *_, last = tuned.ablation
    assert first.cumulated["cmap"] == pytest.approx(first.alone["cmap"].after)
    # All steps but the last are all steps up to the one before it.
    assert last.without == pytest.approx(tuned.ablation[-2].cumulated)
    assert set(CANDIDATES) == set(STEPS)


def test_it_is_told_in_json_and_in_lines(tuned):
    summary = strict_json(json.dumps(tuned.summary()))
    said = "\n".join(tell_tuning(summary))
    assert "chosen on 8 groups of soundscapes, figures from 5 folds" in said
    assert "alone       up to this     all but this   gain over kept" in said
    assert "normalise was not tried: it was not asked for" in said
    assert len([line for line in said.splitlines() if line.endswith(" kept")]) == 1 + len(tuned.postprocessing.names)
    told = describe_steps(tuned.postprocessing.describe())
    assert "smooth (weights " in told
    assert describe_steps([]) == "none"


@pytest.mark.slow
def test_same_seed_same_choice(tuned):
    again = tune_postprocessing(make_soundscapes(), steps=TRIED)
    assert json.dumps(again.summary()) == json.dumps(tuned.summary())
    assert again.postprocessing.describe() == tuned.postprocessing.describe()


def test_parameters_of_a_fold_know_nothing_of_it():
    # One recording's labels are turned round. What the others teach stays as it was.
    soundscapes = make_soundscapes()
    turned = soundscapes.present ^ (soundscapes.groups == 0)[:, None]
    liar = Labelled(soundscapes.probabilities, soundscapes.windows, soundscapes.known, turned, soundscapes.groups)
    setting = Setting(5.0, [""] * 3)
    rest = soundscapes.groups != 0
    for kind in CANDIDATES:
        own, other = (Chooser(case.take(rest), setting).choose([kind]) for case in (soundscapes, liar))
        assert own[0].get_params() == other[0].get_params()
        for name, array in own[0].get_state().items():
            np.testing.assert_array_equal(array, other[0].get_state()[name])


def test_what_labels_do_not_speak_of_teaches_no_temperature():
    soundscapes = make_soundscapes(classes=4)
    present = soundscapes.present & [True, True, True, False]
    labels = np.array([True, True, True, False])
    part = replace(soundscapes, present=present, labelled_classes=labels).take(soundscapes.groups > 0)
    (step,) = Chooser(part, Setting(5.0, [""] * 4)).choose([Temperature])
    known = replace(soundscapes, probabilities=soundscapes.probabilities[:, :3], present=present[:, :3])
    (alone,) = Chooser(known.take(soundscapes.groups > 0), Setting(5.0, [""] * 3)).choose([Temperature])
    np.testing.assert_array_equal(step.temperatures, alone.temperatures)
    with pytest.raises(InputError, match="said of 3 classes whether they are labelled, and there are 4"):
        replace(soundscapes, labelled_classes=labels[:3])


def test_how_bold_priors_are_is_judged_on_soundscapes_that_they_are_not_learnt_from():
    # Each soundscape has its own site: what is learnt of it says nothing of any other, and helps by hindsight alone.
    soundscapes = make_soundscapes(site=[f"site {number}" for number in range(8)])
    (prior,) = Chooser(soundscapes, Setting(5.0, [""] * 3)).choose([OriginPrior])
    careful = learn_origin_prior(soundscapes.present, soundscapes.windows, strength=0.5, shrinkage=240)
    bold = learn_origin_prior(soundscapes.present, soundscapes.windows, strength=1, shrinkage=12)
    by_hindsight = [soundscapes.roc_auc(soundscapes.process([step])) for step in (careful, bold)]
    assert by_hindsight[0] < by_hindsight[1]
    assert prior.get_params() == careful.get_params()
    np.testing.assert_array_equal(prior.site_odds, careful.site_odds)  # of all sites
    alone = Chooser(soundscapes.take(soundscapes.groups == 3), Setting(5.0, [""] * 3)).choose([OriginPrior])
    assert alone[0].strength == 0.5


@pytest.mark.slow
def test_priors_by_site_are_learnt_and_kept():
    # Each class sings at one site, from where half the recordings come, and the heads hear nearly nothing.
    rng = np.random.default_rng(0)
    sites = np.array(["lake", "heath"] * 8)
    numbers = np.repeat(np.arange(16), WINDOWS)
    present = (rng.random((len(numbers), 2)) < 0.4) & (sites[numbers][:, None] == ["lake", "heath"])
    probabilities = expit(0.5 * present - 2 + rng.normal(0, 1, present.shape))
    windows = Windows(numbers, np.tile(np.arange(WINDOWS) * 5.0, 16), Context.of(16, site=sites))
    labelled = Labelled(probabilities, windows, np.ones(len(numbers), bool), present, numbers)
    tuning = tune_postprocessing(labelled, steps=["origin"])
    assert "origin" in tuning.postprocessing.names
    assert "origin" not in tuning.untried
    assert tuning.gains["macro_roc_auc"].low > 0.05


def test_the_gain_is_the_difference_of_the_metrics_on_the_same_draws():
    soundscapes = make_soundscapes()
    after = soundscapes.process([Smooth((0.2,))])
    gains = compare(soundscapes, soundscapes.probabilities, after)
    for metric in METRICS:
        values = [measure(soundscapes.present, scores)[metric] for scores in (soundscapes.probabilities, after)]
        assert [gains[metric].before, gains[metric].after] == pytest.approx(values)
        assert gains[metric].low < gains[metric].difference < gains[metric].high
    same = compare(soundscapes, after, after)["cmap"]
    assert (same.difference, same.low, same.high) == (0, 0, 0)
    # Paired: the interval is narrower than that of either.
    low, high = bootstrap_interval("cmap", soundscapes.present, after, soundscapes.groups)
    assert gains["cmap"].high - gains["cmap"].low < high - low


@given(data=st.data())
def test_the_quick_roc_auc_is_the_usual_one(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    count = data.draw(st.integers(1, 30))
    present = rng.random((count, 4)) < [0, 0.2, 0.5, 1]
    scores = rng.integers(0, 5, present.shape) / 4
    known = rng.random(count) < 0.8
    case = Labelled(
        scores, Windows(np.arange(count), np.zeros(count), Context.of(count)), known, present, np.arange(count)
    )
    expected = measure(present[known], scores[known])["macro_roc_auc"] if known.any() else np.nan
    np.testing.assert_allclose(case.roc_auc(scores), expected)


def test_windows_without_a_label_help_their_neighbours_and_count_for_nothing():
    soundscapes = make_soundscapes()
    known = np.arange(len(soundscapes.known)) % 2 == 0
    half = Labelled(soundscapes.probabilities, soundscapes.windows, known, soundscapes.present, soundscapes.groups)
    after = half.process([Smooth()])
    assert half.measure(after) == pytest.approx(
        {metric: measure(half.present[known], after[known])[metric] for metric in METRICS}
    )
    np.testing.assert_array_equal(after, soundscapes.process([Smooth()]))


def test_too_little_to_choose_on():
    with pytest.raises(InputError, match="at least 4 labelled soundscapes, or sites of them, and there are 3"):
        tune_postprocessing(make_soundscapes(3))
    soundscapes = make_soundscapes()
    silent = Labelled(
        soundscapes.probabilities,
        soundscapes.windows,
        soundscapes.known,
        np.zeros_like(soundscapes.present),
        soundscapes.groups,
    )
    with pytest.raises(InputError, match="No class is in one labelled window and not in another"):
        tune_postprocessing(silent)


def test_groups_do_not_part_a_recording():
    soundscapes = make_soundscapes()
    groups = np.arange(len(soundscapes.groups))
    with pytest.raises(InputError, match="in several groups"):
        Labelled(soundscapes.probabilities, soundscapes.windows, soundscapes.known, soundscapes.present, groups)
    with pytest.raises(InputError, match="do not belong to 64 windows"):
        Labelled(soundscapes.probabilities[1:], soundscapes.windows, soundscapes.known, soundscapes.present[1:], groups)


def test_four_soundscapes_are_enough():
    tuning = tune_postprocessing(make_soundscapes(4), steps=["scale"])
    assert (tuning.folds, tuning.groups) == (4, 4)
    assert set(tuning.postprocessing.names) <= {"scale"}


@pytest.mark.slow
def test_every_step_can_be_tried_at_once():
    rng = np.random.default_rng(0)
    occurrence = np.where(rng.random((8, 3)) < 0.2, np.nan, rng.random((8, 3)) ** 4)
    hours = rng.uniform(0, 24, 8)
    soundscapes = make_soundscapes(hour=hours, site=["lake", ""] * 4, occurrence=occurrence)
    tuning = tune_postprocessing(soundscapes, class_groups=["birds", "frogs", "birds"])
    assert [row.step for row in tuning.ablation] == [kind.name for kind in STEPS]
    assert not tuning.untried
    assert "smooth" in tuning.postprocessing.names
