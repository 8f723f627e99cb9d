"""Each step of the post-processing, against references by brute force."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from postprocessing_cases import CLASSES, PROBABILITY, make_origin_prior, predictions
from scipy.special import expit, logit

from birdemb.classify.postprocessing import (
    Context,
    Normalise,
    Postprocessing,
    Raise,
    Range,
    Scale,
    Smooth,
    Temperature,
)
from birdemb.classify.postprocessing.context import Windows
from birdemb.classify.postprocessing.file_level import CLIP_BAND
from birdemb.classify.postprocessing.origin_prior import HOURS, learn_origin_prior
from birdemb.classify.postprocessing.step import raise_odds
from birdemb.classify.postprocessing.temperature import learn_temperatures


@given(values=st.lists(st.integers(0, 10**9), min_size=2, max_size=9, unique=True), factor=st.floats(1.01, 4))
def test_raising_parts_what_plain_clipping_would_make_equal(values, factor):
    before = np.sort(np.array([*values, 10**9]))[:, None] / 1e9
    after = Raise(factor, 0.5).apply(before, np.zeros(len(before), int), np.arange(len(before)) * 5.0, Context.of(1))
    different = np.diff(before[:, 0]) > 0
    assert (np.diff(after[:, 0])[different] > 0).all()
    np.testing.assert_allclose(after, np.minimum(1, before * factor), atol=CLIP_BAND)


@given(case=predictions(), factor=st.floats(1, 4), threshold=st.floats(0.01, 1))
def test_raising_is_what_it_says(case, factor, threshold):
    probabilities, numbers, _, _ = case
    expected = probabilities.copy()
    for number in np.unique(numbers):
        for column in range(CLASSES):
            own = probabilities[numbers == number, column]
            if own.max() >= threshold:
                expected[numbers == number, column] = np.minimum(1, own * factor)
    np.testing.assert_allclose(Raise(factor, threshold).apply(*case), expected, atol=CLIP_BAND)


@given(case=predictions(), power=st.floats(0, 3), top=st.integers(1, 8))
def test_scaling_is_what_it_says(case, power, top):
    probabilities, numbers, _, _ = case
    expected = probabilities.copy()
    for number in np.unique(numbers):
        for column in range(CLASSES):
            own = probabilities[numbers == number, column]
            expected[numbers == number, column] = own * np.mean(sorted(own)[-top:]) ** power
    np.testing.assert_allclose(Scale(power, top).apply(*case), expected, rtol=1e-12, atol=1e-300)


@given(
    case=predictions(),
    weights=st.lists(st.floats(0, 0.12), min_size=1, max_size=4),
    confidence=st.sampled_from(["none", "window", "class"]),
    distance=st.sampled_from([5.0, 2.5, 3.0]),
)
def test_smoothing_is_what_it_says(case, weights, confidence, distance):
    probabilities, numbers, starts, _ = case
    assume(len({*zip(numbers.tolist(), starts.tolist(), strict=True)}) == len(numbers))
    expected = probabilities.copy()
    for row, (number, start) in enumerate(zip(numbers, starts, strict=True)):
        own = probabilities[row]
        shares, total = 0.0, np.zeros(CLASSES)
        for steps, weight in enumerate(weights, 1):
            for wanted in (start - steps * distance, start + steps * distance):
                value = find_neighbour(probabilities, starts, numbers == number, wanted, distance)
                if value is not None:
                    shares, total = shares + weight, total + weight * value
        if shares:
            alpha = shares / (1 - 2 * sum(weights) + shares)
            doubt = {"none": 1, "window": 1 - own.max(), "class": 1 - own}[confidence]
            expected[row] = own + alpha * doubt * (total / shares - own)
    np.testing.assert_allclose(Smooth(tuple(weights), confidence, distance).apply(*case), expected, atol=1e-9)


def find_neighbour(probabilities, starts, own, wanted, distance):
    """The window that begins there, or what is between the two around it if they are neighbours themselves."""
    places = sorted(np.flatnonzero(own), key=lambda place: starts[place])
    for place in places:
        if abs(starts[place] - wanted) < 1e-6:
            return probabilities[place]
    for left, right in pairwise(places):
        if starts[left] < wanted < starts[right] and starts[right] - starts[left] <= distance + 1e-6:
            part = (wanted - starts[left]) / (starts[right] - starts[left])
            return (1 - part) * probabilities[left] + part * probabilities[right]
    return None


def test_smoothing_with_the_usual_kernel():
    before = np.array([[0.1], [0.9], [0.2], [0.4]])
    after = Smooth((0.1,)).apply(before, np.zeros(4, int), np.arange(4) * 5.0, Context.of(1))[:, 0]
    assert after[1] == pytest.approx(0.1 * 0.1 + 0.8 * 0.9 + 0.1 * 0.2)
    assert after[0] == pytest.approx((0.8 * 0.1 + 0.1 * 0.9) / 0.9)  # an end
    sure = Smooth((0.1,), "window").apply(before, np.zeros(4, int), np.arange(4) * 5.0, Context.of(1))[:, 0]
    assert sure[2] == pytest.approx(0.2 + 0.2 * (1 - 0.2) * ((0.9 + 0.4) / 2 - 0.2))  # 0.2 (1 - confidence)


def test_with_overlap_neighbours_are_those_that_share_no_sound():
    before = np.array([[0.1], [0.9], [0.2], [0.4], [0.3]])
    after = Smooth((0.1,)).apply(before, np.zeros(5, int), np.arange(5) * 2.5, Context.of(1))[:, 0]
    assert after[2] == pytest.approx(0.1 * 0.1 + 0.8 * 0.2 + 0.1 * 0.3)


@given(case=predictions())
def test_recordings_of_one_window_are_not_smoothed(case):
    probabilities, _, starts, _ = case
    after = Smooth((0.2,)).apply(probabilities, np.arange(len(starts)), starts, Context.of(len(starts)))
    np.testing.assert_array_equal(after, probabilities)


@given(case=predictions(), strength=st.floats(0, 1), reference=st.booleans())
def test_normalising_is_what_it_says(case, strength, reference):
    probabilities, numbers, _, _ = case
    quantiles = np.linspace(0, 1, 101) ** 2 if reference else np.linspace(0, 1, 101)
    expected = probabilities.copy()
    for number in np.unique(numbers):
        own = probabilities[numbers == number]
        ranks = [((own < value).sum() + (own == value).sum() / 2) / own.size for value in own.flat]
        usual = np.interp(ranks, np.linspace(0, 1, 101), quantiles).reshape(own.shape)
        expected[numbers == number] = own + strength * (usual - own)
    np.testing.assert_allclose(Normalise(strength, quantiles).apply(*case), expected, atol=1e-12)


def test_temperatures_are_of_groups():
    before = np.array([[0.2, 0.2, 0.9]])
    step = Temperature(("birds", "frogs"), np.array([2.0, 0.5]), np.array([0, 1, 1]))
    after = step.apply(before, np.zeros(1, int), np.zeros(1), Context.of(1))
    np.testing.assert_allclose(after, expit(logit(before) / [2.0, 0.5, 0.5]))


def test_temperatures_that_were_in_the_data_are_found():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (40_000, 3))
    present = rng.random(logits.shape) < expit(logits)
    step = learn_temperatures(expit(logits * [2, 0.5, 1]), present, ["birds", "frogs", "birds"])
    assert step.names == ("birds", "frogs")
    assert step.temperatures[1] == pytest.approx(0.5, abs=0.03)
    absent = learn_temperatures(np.full((5, 2), 0.5), np.zeros((5, 2), bool), ["a", "b"])
    np.testing.assert_array_equal(absent.temperatures, 1)


def test_classes_that_labels_do_not_speak_of_teach_no_temperature():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (2000, 4))
    present = rng.random(logits.shape) < expit(logits)
    present[:, 2:] = False  # not heard to be absent: nobody listened for them
    probabilities, labelled = expit(logits), np.array([True, True, False, False])
    step = learn_temperatures(probabilities, present, ["birds", "frogs", "frogs", "insects"], labelled)
    alone = learn_temperatures(probabilities[:, :2], present[:, :2], ["birds", "frogs"])
    assert step.names == ("birds", "frogs", "insects")
    np.testing.assert_array_equal(step.temperatures, [*alone.temperatures, 1])
    assert step.groups.tolist() == [0, 1, 1, 2]


def place_windows(per_recording, **known):
    recordings = len(next(iter(known.values())))
    numbers = np.repeat(np.arange(recordings), per_recording)
    return Windows(numbers, np.tile(np.arange(per_recording) * 5.0, recordings), Context.of(recordings, **known))


def test_priors_of_sites_are_shrunk_rates():
    windows = place_windows(10, site=["lake", "lake", "heath", ""])
    present = np.zeros((40, 2), bool)
    present[:15, 0] = True
    prior = learn_origin_prior(present, windows, shrinkage=60)
    assert prior.sites == ("heath", "lake")
    pool = np.array([15.5, 0.5]) / 31
    for site, found, heard in (("heath", [0, 0], 10), ("lake", [15, 0], 20)):
        share = heard / 30  # of the window that keeps rates from 0
        rate = (np.array(found) + share / 2 + 60 * pool) / (heard + share + 60)
        np.testing.assert_allclose(prior.site_odds[prior.sites.index(site)], logit(rate) - logit(pool))
    assert not prior.hour_odds.any()
    assert not prior.season_odds.any()


@pytest.mark.parametrize("shrinkage", [12.0, 60.0, 240.0])
def test_priors_say_nothing_where_there_is_nothing_to_compare_with(shrinkage):
    present = np.zeros((600, 2), bool)
    present[:7, 0] = True
    # One site, and one hour, of all windows.
    prior = learn_origin_prior(present, place_windows(600, site=["lake"], hour=[6.0]), shrinkage=shrinkage)
    np.testing.assert_allclose(prior.site_odds, 0, atol=1e-12)
    # A class that no window has, as the labels may not speak of it, wherever the windows are.
    prior = learn_origin_prior(present, place_windows(300, site=["lake", "heath"], day=[1, 90]), shrinkage=shrinkage)
    assert prior.site_odds[:, 0].all()
    assert not prior.site_odds[:, 1].any()
    assert not prior.season_odds[:, 1].any()


def test_priors_of_hours_and_seasons_lend_to_their_neighbours():
    # An hour of windows from 23:30 on: half of them lie behind midnight.
    windows = place_windows(720, hour=[23.5], day=[366.0])
    present = np.zeros((720, 1), bool)
    present[360:] = True
    assert set(np.floor(windows.hours).astype(int)) == {0, 23}
    prior = learn_origin_prior(present, windows, shrinkage=60)
    pool = 360.5 / 721
    counts = {23: (360 * 2 + 360, 360), 0: (360 * 2 + 360, 360 * 2), 1: (360, 360), 22: (360, 0)}
    for hour in range(HOURS):
        heard, found = (count / 4 for count in counts.get(hour, (0, 0)))
        share = heard / 720
        rate = (found + share / 2 + 60 * pool) / (heard + share + 60)
        expected = logit(rate) - logit(pool) if heard else 0.0
        assert prior.hour_odds[hour, 0] == pytest.approx(expected), hour
    assert set(np.flatnonzero(prior.season_odds[:, 0])) <= {10, 11, 0}


def test_priors_add_to_the_log_odds():
    prior = make_origin_prior(0.5)
    context = Context.of(2, site=["lake", "lake"], hour=[23.99, math.nan], day=[60, math.nan])
    before = np.full((3, CLASSES), 0.3)
    after = prior.apply(before, np.array([0, 0, 1]), np.array([0.0, 60.0, 0.0]), context)
    of_lake, season = prior.site_odds[1], prior.season_odds[int(59 / 366 * 12)]
    expected = [of_lake + prior.hour_odds[23] + season, of_lake + prior.hour_odds[0] + season, of_lake]
    np.testing.assert_allclose(logit(after), logit(before) + 0.5 * np.array(expected))


@given(case=predictions())
def test_priors_leave_what_is_not_known(case):
    probabilities, numbers, starts, context = case
    unknown = Context.of(len(context), site=["elsewhere"] * len(context))
    np.testing.assert_array_equal(make_origin_prior().apply(probabilities, numbers, starts, unknown), probabilities)


@given(p=PROBABILITY, odds=st.floats(-800, 800))
def test_odds_are_raised_exactly(p, odds):
    (after,) = raise_odds(np.array([p]), np.array([odds]))
    assert 0 <= after <= 1
    if 1e-6 < p < 1 - 1e-6 and abs(odds) < 20:
        assert after == pytest.approx(expit(logit(p) + odds), rel=1e-8)
    if p in (0, 1):
        assert after == p


def test_the_range_filter_takes_what_is_known_of_each_recording():
    occurrence = np.array([[0.5, 0.0, math.nan], [0.0, 0.5, 0.0]])
    context, before = Context.of(2, occurrence=occurrence), np.full((3, 3), 0.4)
    after = Range(mode="hard").apply(before, np.array([1, 0, 1]), np.array([0.0, 0.0, 5.0]), context)
    np.testing.assert_array_equal(after < 0.1, [[True, False, True], [False, True, False], [True, False, True]])
    assert Range().asks == {"occurrence"}
    assert Postprocessing((make_origin_prior(), Range(), Smooth())).asks == {"site", "hour", "day", "occurrence"}
    assert Postprocessing((Raise(), Smooth())).asks == set()
