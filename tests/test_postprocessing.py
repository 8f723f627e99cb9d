"""Each step of the post-processing, against references by brute force, and what all of them promise."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit, logit

from birdemb.classify.postprocessing import (
    STEPS,
    Context,
    Normalise,
    OriginPrior,
    Postprocessing,
    Raise,
    Range,
    Scale,
    Smooth,
    Temperature,
)
from birdemb.classify.postprocessing.context import Windows
from birdemb.classify.postprocessing.file_level import CLIP_BAND
from birdemb.classify.postprocessing.normalisation import learn_quantiles
from birdemb.classify.postprocessing.origin_prior import HOURS, SEASONS, learn_origin_prior
from birdemb.classify.postprocessing.step import raise_odds
from birdemb.classify.postprocessing.temperature import learn_temperatures
from birdemb.errors import InputError

CLASSES = 3


def make_origin_prior(strength=1.0):
    rng = np.random.default_rng(0)
    odds = [rng.normal(0, 2, (rows, CLASSES)) for rows in (2, HOURS, SEASONS)]
    return OriginPrior(strength, ("heath", "lake"), *odds)


ALL = Postprocessing(
    (
        Temperature(("birds", "frogs"), np.array([0.8, 1.5]), np.array([0, 1, 0])),
        make_origin_prior(),
        Range(0.5),
        Raise(),
        Scale(0.4, 2),
        Smooth((0.1, 0.05), "window"),
        Normalise(0.5, learn_quantiles(np.linspace(0, 0.5, 50) ** 2)),
    )
)
EACH = [
    *ALL.steps,
    Smooth(),
    Range(mode="hard"),
    Smooth((0.2,), "class", 2.5),
    Raise(2, 0.5),
    Scale(),
    Scale(1, 5),
    Normalise(),
    Normalise(1.0),
]
IDENTITIES = [
    Temperature(("all",), np.array([1.0]), np.zeros(CLASSES, np.int64)),
    make_origin_prior(0.0),
    Range(0.0),
    Raise(1.0),
    Scale(0.0),
    Smooth((0.0,)),
    Normalise(0.0),
]
PROBABILITY = st.sampled_from([0.0, 1.0, 0.96, 0.5, 5e-324, 1 - 1e-16]) | st.floats(0, 1)


@st.composite
def predictions(draw, classes=CLASSES):
    """Windows of a few recordings in any order, some beside gaps, and what is known of these recordings."""
    counts = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    hop = draw(st.sampled_from([5.0, 2.5, 2.0, 7.0]))
    numbers = np.repeat(np.arange(len(counts)), counts)
    starts = np.concatenate([np.arange(count) * hop for count in counts])
    starts += 5 * np.array(draw(st.lists(st.sampled_from([0, 0, 0, 40]), min_size=len(starts), max_size=len(starts))))
    order = np.array(draw(st.permutations(range(len(starts)))))
    sites = st.lists(st.sampled_from(["", "lake", "heath", "nowhere"]), min_size=len(counts), max_size=len(counts))
    number = st.none() | st.floats(0, 1)
    hours, days = (
        [math.nan if value is None else low + value * (high - low) for value in draw(hnp_list(number, len(counts)))]
        for low, high in ((0, 24), (1, 367))
    )
    occurrence = draw(st.none() | hnp.arrays(np.float64, (len(counts), classes), elements=number.map(to_nan)))
    context = Context.of(len(counts), site=draw(sites), hour=hours, day=days, occurrence=occurrence)
    probabilities = draw(hnp.arrays(np.float64, (len(starts), classes), elements=PROBABILITY))
    return probabilities, numbers[order], starts[order], context


def to_nan(value):
    return math.nan if value is None else value


def hnp_list(elements, size):
    return st.lists(elements, min_size=size, max_size=size)


def name(step):
    return step.name


@pytest.mark.parametrize("step", EACH, ids=name)
@given(case=predictions())
def test_every_step_stays_in_0_to_1_and_leaves_what_it_was_given(step, case):
    before = case[0].copy()
    after = step.apply(*case)
    assert after.shape == before.shape
    assert after.dtype == np.float64
    assert ((after >= 0) & (after <= 1)).all()  # and is not NaN
    np.testing.assert_array_equal(case[0], before)


@pytest.mark.parametrize("step", EACH, ids=name)
@given(case=predictions())
def test_no_step_mixes_recordings(step, case):
    probabilities, numbers, starts, context = case
    together = step.apply(*case)
    for number in np.unique(numbers):
        own = numbers == number
        alone = step.apply(probabilities[own], numbers[own], starts[own], context)
        np.testing.assert_allclose(together[own], alone, rtol=1e-12, atol=1e-300)


@given(case=predictions(), data=st.data())
def test_the_order_of_recordings_and_of_windows_is_nothing(case, data):
    probabilities, numbers, starts, context = case
    assume(len({*zip(numbers.tolist(), starts.tolist(), strict=True)}) == len(numbers))  # or they would have no order
    windows = np.array(data.draw(st.permutations(range(len(numbers)))))
    names = np.array(data.draw(st.permutations(range(len(context)))))
    known = {key: getattr(context, key) for key in ("site", "hour", "day", "occurrence")}
    moved = Context.of(
        len(context), **{key: values[np.argsort(names)] for key, values in known.items() if values is not None}
    )
    after = ALL.apply(probabilities[windows], names[numbers[windows]], starts[windows], moved)
    np.testing.assert_allclose(after, ALL.apply(*case)[windows], rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("step", IDENTITIES, ids=name)
@given(case=predictions())
def test_parameters_that_do_nothing_change_no_bit(step, case):
    np.testing.assert_array_equal(step.apply(*case), case[0])


@pytest.mark.parametrize("step", [Raise(), Raise(3, 0.2), Scale(), Scale(2, 3), Normalise(), Normalise(1.0)], ids=name)
@given(case=predictions())
def test_the_order_of_a_class_in_its_recording_stays(step, case):
    probabilities, numbers, _, _ = case
    after = step.apply(*case)
    for number in np.unique(numbers):
        for before, now in zip(probabilities[numbers == number].T, after[numbers == number].T, strict=True):
            assert (np.diff(now[np.argsort(before, kind="stable")]) >= 0).all()


@given(values=st.lists(st.integers(0, 1000), min_size=2, max_size=9, unique=True), factor=st.floats(1.01, 4))
def test_raising_parts_what_plain_clipping_would_make_equal(values, factor):
    before = np.sort(np.array([*values, 1000]))[:, None] / 1000
    after = Raise(factor, 0.5).apply(before, np.zeros(len(before), int), np.arange(len(before)) * 5.0, Context.of(1))
    different = np.diff(before[:, 0]) > 0
    assert (np.diff(after[:, 0])[different] > 0).all()
    np.testing.assert_allclose(after, np.minimum(1, before * factor), atol=CLIP_BAND)
    # Nine digits, as a submission has them.
    assert len({f"{value:.9g}" for value in after[:, 0]}) == len(np.unique(before))


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
        rate = (found + 60 * pool) / (heard + 60)
        np.testing.assert_allclose(prior.site_odds[prior.sites.index(site)], logit(rate) - logit(pool))
    assert not prior.hour_odds.any()
    assert not prior.season_odds.any()


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
        expected = logit((found + 60 * pool) / (heard + 60)) - logit(pool) if heard else 0.0
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


@given(case=predictions())
def test_steps_follow_each_other(case):
    expected = case[0]
    for step in ALL.steps:
        expected = step.apply(expected, *case[1:])
    np.testing.assert_allclose(ALL.apply(*case), expected, rtol=1e-12, atol=1e-300)
    np.testing.assert_array_equal(Postprocessing().apply(*case), case[0])


def test_many_recordings_are_taken_in_parts():
    rng = np.random.default_rng(0)
    numbers = np.repeat(np.arange(9000), 12)
    starts, before = np.tile(np.arange(12) * 5.0, 9000), rng.random((108_000, CLASSES))
    windows = Windows(numbers, starts, Context.of(9000))
    assert len([*windows.parts()]) > 2
    np.testing.assert_array_equal(np.sort(np.concatenate([*windows.parts()])), np.arange(len(numbers)))
    after = ALL.apply(before, numbers, starts)
    np.testing.assert_allclose(after[-12:], ALL.apply(before[-12:], numbers[-12:] - 8999, starts[-12:]))


def test_nothing_is_processed_to_nothing():
    empty = np.empty((0, CLASSES)), np.empty(0, np.int64), np.empty(0)
    for step in EACH:
        assert step.apply(*empty, Context.of(0)).shape == (0, CLASSES)
    assert ALL.apply(*empty).shape == (0, CLASSES)


def test_the_range_filter_takes_what_is_known_of_each_recording():
    occurrence = np.array([[0.5, 0.0, math.nan], [0.0, 0.5, 0.0]])
    context, before = Context.of(2, occurrence=occurrence), np.full((3, 3), 0.4)
    after = Range(mode="hard").apply(before, np.array([1, 0, 1]), np.array([0.0, 0.0, 5.0]), context)
    np.testing.assert_array_equal(after < 0.1, [[True, False, True], [False, True, False], [True, False, True]])
    assert Range().asks == {"occurrence"}
    assert Postprocessing((make_origin_prior(), Range(), Smooth())).asks == {"site", "hour", "day", "occurrence"}
    assert Postprocessing((Raise(), Smooth())).asks == set()


def test_steps_have_one_order():
    assert [kind.name for kind in STEPS] == ["temperature", "origin", "range", "raise", "scale", "smooth", "normalise"]
    assert Postprocessing.arrange(reversed(ALL.steps)).steps == ALL.steps
    assert ALL.only(["scale", "raise"]).names == ("raise", "scale")
    assert ALL
    assert not Postprocessing()
    for steps in ((Smooth(), Raise()), (Raise(), Raise(2.0))):
        with pytest.raises(InputError, match="each at most once, in the order temperature, origin"):
            Postprocessing(steps)
    with pytest.raises(InputError, match="learnt for 2 and 3 classes"):
        Postprocessing((Temperature(("a",), np.ones(1), np.zeros(2, np.int64)), make_origin_prior()))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Smooth(()), "weights of smooth is ()"),
        (lambda: Smooth([0.1]), "weights of smooth"),
        (lambda: Smooth((0.5,)), "A weight of smooth is 0.5"),
        (lambda: Smooth((0.3, 0.3)), "sum of the weights"),
        (lambda: Smooth((math.nan,)), "nan"),
        (lambda: Smooth(confidence="file"), "confidence of smooth is 'file'"),
        (lambda: Smooth(distance=0), "distance"),
        (lambda: Range(floor=1), "floor is 1"),
        (lambda: Range(mode="exact"), "mode is 'exact'"),
        (lambda: Raise(0.5), "factor of raise is 0.5"),
        (lambda: Raise(threshold=0), "threshold of raise is 0"),
        (lambda: Scale(-1), "power of scale is -1"),
        (lambda: Scale(top=0), "top of scale is 0"),
        (lambda: Scale(top=True), "top of scale is True"),
        (lambda: Normalise(2), "strength of normalise is 2"),
        (lambda: Normalise(1, np.array([0.0, 1.0])), "101 numbers"),
        (lambda: Normalise(1, np.linspace(1, 0, 101)), "101 numbers"),
        (lambda: Normalise(1, np.full(101, np.nan)), "101 numbers"),
        (lambda: Temperature((), np.ones(0), np.zeros(0, int)), "no names"),
        (lambda: Temperature(("a",), np.array([0.0]), np.zeros(2, int)), "temperature"),
        (lambda: Temperature(("a",), np.array([np.nan]), np.zeros(2, int)), "temperature"),
        (lambda: Temperature(("a",), np.ones(1), np.array([1])), "none of the groups"),
        (lambda: OriginPrior(1, ("b", "a"), *make_origin_prior().get_state().values()), "in their order"),
        (lambda: OriginPrior(3, ("a", "b"), *make_origin_prior().get_state().values()), "strength of origin is 3"),
        (lambda: OriginPrior(1, ("a",), *make_origin_prior().get_state().values()), "site_odds"),
    ],
)
def test_parameters_out_of_range(make, match):
    with pytest.raises(InputError, match=match.replace("(", r"\(").replace(")", r"\)")):
        make()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"probabilities": np.full((2, 3), 1.5)}, "not between 0 and 1"),
        ({"probabilities": np.full((2, 3), np.nan)}, "not between 0 and 1"),
        ({"probabilities": np.zeros((3, 3))}, "shape"),
        ({"probabilities": np.zeros((2, 4))}, "expected (2, 3)"),
        ({"recording_numbers": np.array([0, 1])}, "there are 1"),
        ({"recording_numbers": np.array([-1, 0])}, "there are 1"),
        ({"recording_numbers": np.array([0.0, 0.0])}, "whole number"),
        ({"starts": np.array([0.0])}, "start"),
        ({"starts": np.array([0.0, np.inf])}, "finite"),
    ],
)
def test_what_is_no_prediction(changes, match):
    case = {
        "probabilities": np.zeros((2, 3)),
        "recording_numbers": np.array([0, 0]),
        "starts": np.array([0.0, 5.0]),
        "context": Context.of(1),
    }
    with pytest.raises(InputError, match=match.replace("(", r"\(").replace(")", r"\)")):
        ALL.apply(**{**case, **changes})


@pytest.mark.parametrize(
    "known",
    [
        {"hour": [25.0]},
        {"hour": [-1.0]},
        {"day": [0.0]},
        {"latitude": [91.0]},
        {"longitude": [-181.0]},
        {"week": [49.0]},
        {"hour": [1.0, 2.0]},
        {"site": [["lake"]]},
        {"occurrence": np.zeros((2, 3))},
    ],
)
def test_what_cannot_be_known_of_a_recording(known):
    with pytest.raises(InputError):
        Context.of(1, **known)
