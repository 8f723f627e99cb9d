"""Predictions that steps of the post-processing are tried on, and one step of each kind."""

import math

import numpy as np
from hypothesis import strategies as st

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
EDGES = [0.0, 1.0, 0.96, 0.5, 5e-324, 1 - 1e-16]
PROBABILITY = st.sampled_from(EDGES) | st.floats(0, 1)


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
    # Hypothesis takes long to draw hundreds of numbers one by one; edges are frequent among these, too.
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    numbers = np.repeat(np.arange(len(counts)), counts)
    starts = np.concatenate([np.arange(count) * hop for count in counts])
    starts += rng.choice([0, 0, 0, 200], len(starts))
    order = rng.permutation(len(starts))
    site = rng.choice(["", "lake", "heath", "nowhere"], len(counts)).tolist()
    hour, day = (
        (low + draw_shares(rng, len(counts), unknown=0.4) * (high - low)).tolist() for low, high in ((0, 24), (1, 367))
    )
    occurrence = draw_shares(rng, (len(counts), classes), unknown=0.4) if draw(st.booleans()) else None
    context = Context.of(len(counts), site=site, hour=hour, day=day, occurrence=occurrence)
    probabilities = draw_shares(rng, (len(starts), classes))
    if draw(st.booleans()):  # ties within a class
        probabilities = np.round(probabilities, 1)
    return probabilities, numbers[order], starts[order], context


def draw_shares(rng, shape, unknown=0.0):
    """Draw from 0 to 1, each edge often, some tiny, and NaN where a share is not known."""
    shares = np.where(rng.random(shape) < 0.3, rng.choice(EDGES, shape), rng.random(shape))
    shares = np.where(rng.random(shape) < 0.1, shares * 10.0 ** -rng.integers(1, 300, shape), shares)
    return np.where(rng.random(shape) < unknown, math.nan, shares)
