"""What was planned and what was done inside a time budget, and how that is said."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from birdemb.budget.plan import Plan
from birdemb.budget.time_budget import TimeBudget

__all__ = ["BudgetReport", "StepReport", "describe_budget", "describe_change", "describe_plan"]


@dataclass(frozen=True)
class StepReport:
    """What was done of a step.

    Parameters
    ----------
    name : str
    windows : int
        For how many it was done.
    of : int
        Of how many.
    """

    name: str
    windows: int
    of: int


@dataclass(frozen=True)
class BudgetReport:
    """What was planned and what was done inside a time budget.

    Parameters
    ----------
    seconds, margin : float
        The budget, and what of it was kept free at its end.
    elapsed : float
        Seconds since it began.
    plan : Plan or None
        The first one; None where there was no time to make one.
    steps : sequence of StepReport
    precisions : dict of str to (str, str)
        Encoder -> the precision that the heads were fitted on and the one that was used.
    rows, at_prior : int
        How many the table has, and how many of these hold the classes' priors.
    stages : dict of str to float
        Seconds of each stage.
    decoding : float
        Share of the decoding in "decoding and encoding", as measured on the first recordings.
    """

    seconds: float
    margin: float
    elapsed: float
    plan: Plan | None
    steps: Sequence[StepReport]
    precisions: Mapping[str, tuple[str, str]]
    rows: int
    at_prior: int
    stages: Mapping[str, float]
    decoding: float


def describe_plan(plan: Plan, budget: TimeBudget) -> list[str]:
    """Say what is planned, a line for each step."""
    expected = min(plan.needed, plan.seconds)
    lines = [
        f"plan: {len(plan.chosen)} of {len(plan.steps)} steps, expected to end at {_clock(expected)} "
        f"({_duration(expected)} from now); the budget ends at {_clock(budget.deadline - time.monotonic())}, "
        f"of which {budget.margin:.0f} s are kept free"
    ]
    for number, step in enumerate(plan.steps, 1):
        doing = f"{step.windows:,} windows, {_duration(step.seconds)}" if step.windows else "done"
        lines.append(f"  {number}. {step.name}: {doing}{'' if number <= plan.planned else '; left out'}")
    if plan.unfinished:
        lines.append(
            f"  time for a part alone: about {plan.unfinished:,} of {plan.steps[0].windows:,} windows will be left at "
            "the classes' priors"
        )
    return lines


def describe_change(plan: Plan) -> str:
    """Say how a plan differs from the one that was told before, as speed has changed."""
    left_out = f"; left out: {', '.join(step.name for step in plan.left_out)}" if plan.left_out else ""
    return f"plan: now {len(plan.chosen)} of {len(plan.steps)} steps, to end at {_clock(plan.needed)}{left_out}"


def describe_budget(report: BudgetReport) -> list[str]:
    """Say what was done."""
    lines = [
        f"time: {_duration(report.elapsed)} of {_duration(report.seconds)}; "
        f"{report.rows - report.at_prior:,} of {report.rows:,} rows predicted"
        + (f", {report.at_prior:,} left at the classes' priors" if report.at_prior else "")
    ]
    lines += [f"  {step.name}: {step.windows:,} of {step.of:,} windows" for step in report.steps]
    for encoder, (fitted, used) in report.precisions.items():
        if used != fitted:
            lines.append(f"  {encoder} in {used}, as there was no time for {fitted}, in which its heads were fitted")
    total = sum(report.stages.values())
    shares = ", ".join(f"{stage} {seconds / total:.0%}" for stage, seconds in report.stages.items()) if total else ""
    lines.append(f"  {shares}" + (f" ({report.decoding:.0%} of that decoding)" if report.decoding else ""))
    return lines


def _clock(seconds: float) -> str:
    """Give the time of day in so many seconds."""
    return f"{datetime.now().astimezone() + timedelta(seconds=seconds):%H:%M:%S}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
