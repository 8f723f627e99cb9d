"""Costs: what a window was seen to take in each encoder and each head, and what is in the cache already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from birdemb.budget.measuring import find_faster, measure_encoder, measure_heads
from birdemb.budget.pace import Pace
from birdemb.budget.plan import choose_precision
from birdemb.budget.time_budget import TimeBudget
from birdemb.cache import EmbeddingCache
from birdemb.classify.ensemble import Ensemble
from birdemb.embed.contents import ContentMemory
from birdemb.embed.recordings import Recording
from birdemb.errors import RecordingError
from birdemb.inference import EncoderSettings
from birdemb.workspace import Workspace

__all__ = ["Costs", "measure_costs", "shift_windows"]

_MOST_MEASURING = 0.1  # share of the budget after which no further encoder is measured
_AT_ONCE = 256


@dataclass
class Costs:
    """What things cost.

    Parameters
    ----------
    encoders : list of EncoderSettings
        In the precision that was chosen.
    paces : list of Pace
        Of each encoder, by all workers together.
    loading : list of float
        Seconds until each is ready, the start of the workers included.
    heads : dict of int to float
        Seconds for a window.
    cached : dict
        (encoder, whether in between) -> windows that need not be embedded any more.
    decoding : float
        Share of the decoding in the first encoder's time.
    """

    encoders: list[EncoderSettings]
    paces: list[Pace]
    loading: list[float]
    heads: dict[int, float]
    cached: dict[tuple[int, bool], int]
    decoding: float


def measure_costs(
    ensemble: Ensemble,
    encoders: Sequence[EncoderSettings],
    recordings: Sequence[Recording],
    windows: Sequence[int],
    place: Workspace,
    *,
    budget: TimeBudget,
    weights: str | Path | None,
    workers: int,
    starting: float,
) -> Costs:
    """Measure on the first recordings what everything costs, and choose each encoder's precision.

    Parameters
    ----------
    ensemble : Ensemble
    encoders : sequence of EncoderSettings
        As fitted.
    recordings : sequence of Recording
    windows : sequence of int
        How many each of them has.
    place : Workspace
    budget : TimeBudget
        Where a tenth of it is over, what was not measured is taken to be as slow as what was.
    weights : str, Path or None
    workers : int
        How many work at the same time.
    starting : float
        Seconds that a worker's process takes before it loads an encoder.

    Returns
    -------
    Costs
        0 where none of the first recordings can be used: what it really is shows while it is done.
    """
    costs = Costs(list(encoders), [], [], {}, {}, 0.0)
    for number, settings in enumerate(encoders):
        members = [index for index, member in enumerate(ensemble.members) if member.encoder == number]
        costs.cached |= _count_cached(number, settings, recordings, windows, place)
        if number and budget.elapsed > _MOST_MEASURING * budget.seconds:
            costs.paces.append(Pace(max(pace.at() for pace in costs.paces)))
            costs.loading.append(max(costs.loading))
            costs.heads |= dict.fromkeys(members, max(costs.heads.values()))
            continue
        prior = ensemble.priors[number]
        logits = prior is not None and prior.uses_logits
        measured = measure_encoder(settings, weights, recordings, logits=logits)
        if measured is None:
            costs.paces.append(Pace(0.0))
            costs.loading.append(0.0)
            costs.heads |= dict.fromkeys(members, 0.0)
            continue
        seconds, loading, decoding = measured.seconds / workers, measured.loading, measured.decoding
        costs.heads |= measure_heads(ensemble, number, measured.heard, members)
        cheapest = min(costs.heads[member] for member in members)
        left = sum(windows) - costs.cached[number, False]
        if (seconds + cheapest) * left > budget.left:
            # Not all would be predicted even once: look for something faster that was made of the same weights.
            faster = {each.precision: each for each in find_faster(settings, weights)}
            prices = {settings.precision: seconds}
            for precision, each in faster.items():
                if (own := measure_encoder(each, weights, recordings, logits=logits)) is not None:
                    prices[precision] = own.seconds / workers
            chosen = choose_precision(prices, left, budget.left - cheapest * left)
            if chosen != settings.precision:
                costs.encoders[number], seconds = faster[chosen], prices[chosen]
                costs.cached |= _count_cached(number, faster[chosen], recordings, windows, place)
        if not number:
            costs.decoding = decoding / measured.seconds
        costs.paces.append(Pace(seconds))
        costs.loading.append(loading + starting)
    return costs


def _count_cached(
    encoder: int, settings: EncoderSettings, recordings: Sequence[Recording], windows: Sequence[int], place: Workspace
) -> dict[tuple[int, bool], int]:
    """Count the windows of recordings that were embedded before, as far as that can be told without hashing them."""
    memory = ContentMemory(place.contents)
    identities = {False: settings.expected, True: shift_windows(settings).expected}
    caches = {
        between: EmbeddingCache(place.cache, identity)
        for between, identity in identities.items()
        if EmbeddingCache.place_of(place.cache, identity).is_dir()
    }
    found = dict.fromkeys(((encoder, between) for between in identities), 0)
    for first in range(0, len(recordings), _AT_ONCE):
        some = recordings[first : first + _AT_ONCE]
        memory.look_up(some)
        contents = {}
        for recording, count in zip(some, windows[first : first + _AT_ONCE], strict=True):
            try:
                if (sha256 := memory.recall(recording, recording.stamp())) is not None:
                    contents[sha256] = count
            except RecordingError:
                continue  # reported where it is to be embedded
        for between, cache in caches.items():
            found[encoder, between] += sum(max(0, contents[one] - between) for one in cache.find(contents))
    return found


def shift_windows(settings: EncoderSettings) -> EncoderSettings:
    """Give settings for the windows that begin in the middle between two of an encoder's windows."""
    offset = settings.grid.hop / 2
    return replace(
        settings, grid=replace(settings.grid, offset=offset), expected=settings.expected | {"offset": offset}
    )
