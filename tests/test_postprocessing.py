"""What all steps of the post-processing promise, by themselves and one after the other."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from postprocessing_cases import ALL, CLASSES, make_origin_prior, predictions

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
from birdemb.errors import InputError

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
