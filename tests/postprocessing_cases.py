"""Predictions that steps of the post-processing are tried on, and one step of each kind."""

import math

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from birdemb.classify.postprocessing import (
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
from birdemb.classify.postprocessing.normalisation import learn_quantiles
from birdemb.classify.postprocessing.origin_prior import HOURS, SEASONS

CLASSES = 3
PROBABILITY = st.sampled_from([0.0, 1.0, 0.96, 0.5, 5e-324, 1 - 1e-16]) | st.floats(0, 1)


def make_origin_prior(strength=1.0, classes=CLASSES):
    rng = np.random.default_rng(0)
    odds = [rng.normal(0, 2, (rows, classes)) for rows in (2, HOURS, SEASONS)]
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
