"""Heads move away from what the encoder knows as far as out-of-fold scores speak for it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdemb.classify.trust import USUAL_GROUPS, choose_trust, usual_trust, weigh_correction
from birdemb.errors import InputError
from birdemb.metrics import roc_auc_by_class


def make_scores(seed, groups=60, windows=8, classes=6, prior_quality=1.0, head_quality=1.0):
    """Truth, an encoder's logits and a head's scores, each of which knows the truth up to noise."""
    rng = np.random.default_rng(seed)
    of_windows = np.repeat(np.arange(groups), windows)
    shares = np.linspace(0.05, 0.5, classes)
    targets = (rng.random((groups, classes)) < shares)[of_windows]
    signal = np.where(targets, 1.5, -1.5)
    offset = prior_quality * signal + rng.normal(size=signal.shape)
    correction = head_quality * signal + rng.normal(size=signal.shape)
    return targets, offset.astype(np.float32), offset + correction, of_windows


def choose(targets, offset, scores, groups, **changes):
    everything = np.ones(targets.shape[1], bool)
    arguments = {
        "known": everything,
        "weights": np.ones(targets.shape),
        "assessable": everything,
        **changes,
    }
    return choose_trust(scores, offset, targets=targets, groups=groups, **arguments)


@pytest.mark.parametrize("seed", range(3))
def test_a_worthless_correction_is_not_kept_and_a_good_one_is(seed):
    targets, offset, scores, groups = make_scores(seed, head_quality=0.0)
    noise = choose(targets, offset, offset + 5 * (scores - offset), groups)
    assert noise.max() < 0.15
    targets, offset, scores, groups = make_scores(seed, prior_quality=0.0)
    assert choose(targets, offset, scores, groups).min() > 0.6


@pytest.mark.parametrize("seed", range(3))
def test_rare_classes_stay_nearer_to_the_encoder_than_common_ones(seed):
    targets, offset, scores, groups = make_scores(seed, groups=200)
    trust = choose(targets, offset, offset + 2 * (scores - offset), groups)
    positives = np.array([len(np.unique(groups[column])) for column in targets.T])
    half_way = positives * (1 / np.maximum(trust, 1e-9) - 1)
    # One rule for all but for what the classes say themselves: the share grows with the groups.
    assert trust[positives.argmax()] >= trust[positives.argmin()]
    assert (half_way >= -1e-6).all()


def test_the_choice_is_better_than_either_extreme():
    gains = []
    for seed in range(6):
        targets, offset, scores, groups = make_scores(seed, classes=8, head_quality=0.3)
        scores = offset + 3 * (scores - offset)
        held_out = groups % 2 == 1
        trust = choose(targets[~held_out], offset[~held_out], scores[~held_out], groups[~held_out])
        weighed = weigh_correction(scores[held_out], offset[held_out], trust)
        auc = [
            np.nanmean(roc_auc_by_class(targets[held_out], s)) for s in (weighed, scores[held_out], offset[held_out])
        ]
        gains.append((auc[0] - auc[1], auc[0] - auc[2]))
    assert np.mean(gains, axis=0).min() > 0


def test_a_class_that_the_encoder_does_not_know_keeps_all():
    targets, offset, scores, groups = make_scores(0, head_quality=0.0)
    known = np.array([True, False, True, True, False, True])
    trust = choose(targets, offset, scores, groups, known=known)
    assert (trust[~known] == 1).all()
    assert (trust[known] < 1).all()


def test_masked_entries_have_no_say():
    targets, offset, scores, groups = make_scores(0)
    weights = np.ones(targets.shape)
    weights[:80] = 0
    wild = scores.copy()
    wild[:80] *= -50
    kept = choose(targets, offset, scores, groups, weights=weights)
    assert np.array_equal(kept, choose(targets, offset, wild, groups, weights=weights))


def test_where_nothing_can_be_held_out_the_number_of_groups_decides():
    targets, offset, scores, groups = make_scores(0)
    trust = choose(targets, offset, scores, groups, assessable=np.zeros(6, bool))
    positives = np.array([len(np.unique(groups[column])) for column in targets.T])
    np.testing.assert_allclose(trust, positives / (positives + USUAL_GROUPS))
    assert usual_trust(np.array([True, False]), np.array([0, 0])).tolist() == [0.0, 1.0]


@given(st.integers(0, 2**32 - 1), st.integers(2, 30))
def test_a_share_whatever_the_scores(seed, groups):
    rng = np.random.default_rng(seed)
    targets, offset, scores, of_windows = make_scores(seed, groups=groups, windows=2, classes=3)
    scores = scores * 10.0 ** rng.uniform(-3, 3)
    trust = choose(targets, offset, scores, of_windows, assessable=rng.random(3) < 0.7, known=rng.random(3) < 0.7)
    assert ((trust >= 0) & (trust <= 1)).all()


def test_arrays_that_do_not_fit():
    targets, offset, scores, groups = make_scores(0)
    with pytest.raises(InputError, match="groups"):
        choose(targets, offset, scores, groups[1:])


def test_a_class_without_a_recording_stays_with_the_encoder():
    targets, offset, scores, groups = make_scores(0)
    targets[:, 2] = False
    assert choose(targets, offset, scores, groups)[2] == 0
