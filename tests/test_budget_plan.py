"""Plans, paces, orders and durations: the arithmetic of a time budget, without any recording."""

import math
from itertools import takewhile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdemb.budget.overlap import average_overlapping
from birdemb.budget.pace import Pace
from birdemb.budget.plan import Step, choose_precision, make_plan, order_members
from birdemb.budget.time_budget import TimeBudget
from birdemb.errors import InputError

seconds = st.floats(0, 1e6)
step_lists = st.lists(
    st.builds(Step, st.just("step"), st.floats(0.001, 1e5), st.integers(1, 10**6), st.none(), st.booleans()), min_size=1
)


def count_what_goes_along(steps):
    """Count the first step and those right after it that are nearly free."""
    return 1 + len(list(takewhile(lambda step: step.nearly_free, steps[1:])))


@given(step_lists, seconds)
def test_a_plan_never_needs_more_than_there_is_but_for_its_first_step_and_what_goes_along(steps, seconds):
    plan = make_plan(steps, seconds)
    assert plan.chosen == tuple(steps[: plan.planned])
    assert plan.fits or plan.planned == count_what_goes_along(steps)
    assert plan.planned >= count_what_goes_along(steps)
    assert plan.chosen + plan.left_out == tuple(steps)


@given(step_lists, seconds, seconds)
def test_more_time_never_gives_fewer_steps(steps, some, more):
    less, longer = sorted((some, more))
    assert make_plan(steps, less).planned <= make_plan(steps, longer).planned


@given(step_lists, seconds)
def test_windows_stay_at_the_prior_exactly_where_the_first_step_does_not_fit(steps, seconds):
    plan = make_plan(steps, seconds)
    needed = math.fsum(step.seconds for step in steps[: count_what_goes_along(steps)])
    assert (plan.unfinished > 0) == (needed > seconds)
    assert plan.unfinished <= steps[0].windows


def test_a_time_that_is_over_leaves_nothing_where_nothing_is_left_to_do():
    assert make_plan([Step("done", 0.0, 0)], -1.0).unfinished == 0


@given(st.data())
def test_all_heads_are_ordered_and_those_of_a_dear_encoder_come_late(data):
    count = data.draw(st.integers(1, 8))
    encoders = data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    costs = st.lists(st.floats(1e-4, 1e-2), min_size=count, max_size=count)
    order = order_members([1 / count] * count, data.draw(costs), encoders, {0: 0.1, 1: 10.0, 2: 1000.0})
    assert sorted(order) == list(range(count))
    assert [encoders[member] for member in order] == sorted(encoders)


def test_cheap_heads_come_first_where_all_weigh_the_same():
    assert order_members([1, 1, 1], [0.01, 0.0001, 0.001], [0, 0, 0], {0: 0.02}) == [1, 2, 0]


def test_the_first_precision_that_fits_is_chosen_else_the_fastest():
    costs = {"f32": 0.03, "bf16": 0.02, "int8": 0.01}
    chosen = [choose_precision(costs, 1000, seconds) for seconds in (30.0, 29.0, 19.0, 5.0)]
    assert chosen == ["f32", "bf16", "int8", "int8"]


def test_pace_follows_a_machine_that_slows_down():
    pace, now = Pace(0.1), 0.0
    pace.note(0, now=now)
    for _ in range(40):
        now += 1.0
        pace.note(10, now=now)
    assert pace.at(now) == pytest.approx(0.1)
    slow = now
    for _ in range(8):
        now += 10.0
        pace.note(10, now=now)
    assert pace.at(now) > 0.5
    assert pace.at(now + 60) > pace.at(now)  # nothing has come since
    assert slow < now


def test_pace_leaves_out_what_was_something_else():
    pace = Pace(1.0)
    pace.note(0, now=0.0)
    pace.pause(50.0)
    pace.note(1000, now=60.0)
    assert pace.at(60.0) == pytest.approx((48 + 10) / 1048)


def test_pace_is_what_was_known_before_until_something_comes():
    pace = Pace(0.25)
    assert pace.at(100.0) == 0.25
    pace.note(16, now=100.0)
    assert pace.at(100.0) == 0.25


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan])
def test_budgets_that_make_no_sense_are_refused(seconds):
    with pytest.raises(InputError, match="above 0"):
        TimeBudget(seconds)


@given(st.floats(0.1, 1e6))
def test_the_margin_is_2_s_to_a_minute(seconds):
    budget = TimeBudget(seconds, started=0.0)
    assert 2 <= budget.margin <= 60
    assert budget.deadline == seconds


def test_a_budget_counts_from_the_start_of_the_process():
    started = TimeBudget.since_process_start(3600.0)
    assert started.elapsed > 0.2  # pytest and what the tests import took longer than that
    assert started.left < 3600.0 - started.margin


@given(st.integers(1, 6), st.integers(1, 3), st.data())
def test_overlapping_windows_are_averaged_by_their_overlap(count, classes, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    rows, between = rng.random((count, classes)), rng.random((count - 1, classes))
    averaged = average_overlapping(rows, between)
    for row in range(count):
        heard = [(rows[row], 1.0)]
        heard += [(between[other], 0.5) for other in (row - 1, row) if 0 <= other < count - 1]
        expected = sum(values * weight for values, weight in heard) / sum(weight for _, weight in heard)
        np.testing.assert_allclose(averaged[row], expected)


def test_rows_without_a_heard_neighbour_stay_as_they_are():
    rows = np.linspace(0, 1, 5)[:, None]
    averaged = average_overlapping(rows, np.ones((1, 1)))
    np.testing.assert_array_equal(averaged[2:], rows[2:])
    assert (averaged[:2] > rows[:2]).all()
