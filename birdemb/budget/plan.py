"""The plan: which steps fit into the time that is left. Pure arithmetic on what steps were measured to cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Plan", "Step", "choose_precision", "make_plan", "order_members"]

_SMALLEST_COST = 1e-9  # in seconds


@dataclass(frozen=True)
class Step:
    """Something that makes the result better: one more head, with its encoder if that is new, or windows in between.

    Parameters
    ----------
    name : str
        What it does, for people.
    seconds : float
        What is left of it is expected to take so long.
    windows : int
        How many are left to be worked on.
    member : int or None
        The head that it adds; None for the windows in between.
    nearly_free : bool
        Whether it takes so little beside the steps before it that hardly a window more would be predicted without it.
    """

    name: str
    seconds: float
    windows: int
    member: int | None = None
    nearly_free: bool = False


@dataclass(frozen=True)
class Plan:
    """Steps in their order, of which the first few are to be done.

    Parameters
    ----------
    steps : tuple of Step
    planned : int
        So many are to be done.
    seconds : float
        So much time there is.
    """

    steps: tuple[Step, ...]
    planned: int
    seconds: float

    @property
    def chosen(self) -> tuple[Step, ...]:
        """The steps that are to be done."""
        return self.steps[: self.planned]

    @property
    def left_out(self) -> tuple[Step, ...]:
        """The steps that there is no time for."""
        return self.steps[self.planned :]

    @property
    def needed(self) -> float:
        """Seconds that the chosen steps are expected to take, whether or not there is so much time."""
        return math.fsum(step.seconds for step in self.chosen)

    @property
    def fits(self) -> bool:
        """Whether all that is chosen can be finished in time."""
        return self.needed <= max(0.0, self.seconds)

    @property
    def unfinished(self) -> int:
        """Windows of the first step that there is no time for: they stay at the classes' priors."""
        if self.fits or not self.steps:
            return 0
        # What is planned beyond the time takes part of every window.
        return math.ceil(self.steps[0].windows * (1 - max(0.0, self.seconds) / self.needed))


def make_plan(steps: Sequence[Step], seconds: float) -> Plan:
    """Choose as many steps as fit, in their order; the first one always, as a part of it is better than nothing.

    With the first one go those right after it that are nearly free: they are worth the few windows that they cost.

    Parameters
    ----------
    steps : sequence of Step
        Each builds on those before it.
    seconds : float
        What there is time for.

    Returns
    -------
    Plan
        More time never gives one with fewer steps.

    Examples
    --------
    >>> steps = [Step("lr", 60.0, 840), Step("lgbm", 90.0, 840), Step("between", 60.0, 770)]
    >>> [step.name for step in make_plan(steps, 200.0).chosen]
    ['lr', 'lgbm']
    >>> make_plan(steps, 45.0).unfinished
    210
    """
    planned, needed = 0, 0.0
    beginning = True
    for step in steps:
        needed += step.seconds
        beginning = not planned or (beginning and step.nearly_free)
        if needed > seconds and not beginning:
            break
        planned += 1
    return Plan(tuple(steps), planned, seconds)


def order_members(
    values: Sequence[float],
    head_seconds: Sequence[float],
    encoders: Sequence[int],
    encoder_seconds: Mapping[int, float],
) -> list[int]:
    """Order heads by what they are worth for what they cost: the first of an encoder pays for the encoder, too.

    Parameters
    ----------
    values : sequence of float
        How much each head weighs in the blend.
    head_seconds : sequence of float
        What each costs for a window.
    encoders : sequence of int
        The encoder of each.
    encoder_seconds : mapping of int to float
        What each encoder costs for a window.

    Returns
    -------
    list of int
        All of them.

    Examples
    --------
    >>> order_members([0.5, 0.25, 0.25], [0.02, 0.001, 0.002], [0, 0, 1], {0: 0.1, 1: 0.01})
    [2, 0, 1]
    """
    order: list[int] = []
    heard: set[int] = set()

    def worth(member: int) -> float:
        encoder = encoders[member]
        cost = head_seconds[member] + (0.0 if encoder in heard else encoder_seconds[encoder])
        return values[member] / max(cost, _SMALLEST_COST)

    left = list(range(len(values)))
    while left:
        best = max(left, key=worth)
        order.append(best)
        left.remove(best)
        heard.add(encoders[best])
    return order


def choose_precision(costs: Mapping[str, float], windows: int, seconds: float) -> str:
    """Choose the precision of an encoder: the first with which all windows fit, else the fastest.

    Parameters
    ----------
    costs : mapping of str to float
        Seconds for a window in each precision, the preferred ones first.
    windows : int
        How many there are.
    seconds : float
        What there is time for.

    Returns
    -------
    str

    Examples
    --------
    >>> [choose_precision({"f32": 0.04, "int8": 0.02}, 1000, seconds) for seconds in (60.0, 30.0)]
    ['f32', 'int8']
    """
    fitting = [precision for precision, cost in costs.items() if cost * windows <= seconds]
    return fitting[0] if fitting else min(costs, key=lambda precision: costs[precision])
