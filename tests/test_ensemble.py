"""Heads together: what each is shown, how their scores become one, and what does not fit."""

import numpy as np
import pytest
from bundle_files import hear, make_bundle, make_data, make_small_head
from scipy.special import expit

from birdemb.classify.blending import Blend
from birdemb.classify.ensemble import Ensemble, Heard, Member, fit_member, score_member
from birdemb.classify.prior import Prior
from birdemb.classify.validation import align_folds, score_fold, score_out_of_fold
from birdemb.errors import InputError

X, Y = make_data()
TARGETS, WEIGHTS, GROUPS = Y.astype(bool), np.ones(Y.shape), np.arange(len(X)) // 3
EQUAL = Blend.equal("mean", 1, 3)
OWN = np.arange(8, dtype=np.float32).reshape(4, 2) / 8
PRIORS = {
    "offset": Prior.from_classifier(np.array([1, -1, 0]), OWN, np.ones(2, np.float32)),
    "features": Prior.from_classifier(np.array([1, -1, 0]), OWN, np.ones(2, np.float32), kind="features"),
    "logits": Prior.from_logits(np.array([1, -1, 0]), 2),
}


def fitted(name="lr", prior=None, columns=3):
    return fit_member(make_small_head(name), hear(X)[1], prior, TARGETS[:, :columns], WEIGHTS[:, :columns], GROUPS)


def test_windows_are_taken_with_their_logits():
    some = Heard(X, X[:, :2]).take(np.array([4, 1]))
    np.testing.assert_array_equal(some.embeddings, X[[4, 1]])
    np.testing.assert_array_equal(some.logits, X[[4, 1], :2])
    assert Heard(X).take(X[:, 0] > 1).logits is None


@pytest.mark.parametrize("name", ["lr", "lgbm"])
@pytest.mark.parametrize("kind", PRIORS)
def test_head_sees_what_the_encoder_knows(name, kind):
    prior = PRIORS[kind]
    known = (X[:, :2] if kind == "logits" else X @ OWN + 1)[:, [1, 0]].astype(np.float32)
    if kind == "features":
        seen, offset = np.hstack([X, known]), None
    else:
        seen, offset = X, np.stack([known[:, 0], 0 * known[:, 0], known[:, 1]], axis=1)
    by_hand = make_small_head(name).fit(seen, TARGETS, WEIGHTS, offset=offset, groups=GROUPS)
    np.testing.assert_allclose(
        score_member(Member(fitted(name, prior)), hear(X)[1], prior), by_hand.decision_function(seen, offset), atol=1e-4
    )


@pytest.mark.parametrize("kind", ["none", *PRIORS])
def test_trust_is_the_share_of_what_a_head_adds_to_the_encoder(kind):
    prior, heard, trust = PRIORS.get(kind), hear(X)[1], np.array([0.0, 0.25, 1.0])
    head = fitted(prior=prior)
    plain = score_member(Member(head), heard, prior)
    weighed = score_member(Member(head, trust=trust), heard, prior)
    if prior is None or prior.kind == "features":  # there is nothing to add to
        np.testing.assert_array_equal(weighed, plain)
    else:
        offset = prior.offset(heard.embeddings, heard.logits)
        np.testing.assert_allclose(weighed, offset + trust * (plain - offset))


@pytest.mark.parametrize("trust", [np.ones(2), np.array([0.5, 0.5, 1.1]), np.array([-0.1, 1, 1]), np.full(3, np.nan)])
def test_trust_that_is_no_share_for_each_class_is_refused(trust):
    with pytest.raises(InputError, match="trust in the head lr"):
        Ensemble((Member(fitted(), trust=trust),), (None,), EQUAL)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lr", "lgbm"])
@pytest.mark.parametrize("kind", ["none", *PRIORS])
def test_every_window_is_scored_by_a_head_that_knows_nothing_of_its_fold(name, kind):
    prior, heard = PRIORS.get(kind), (hear(X)[1],)
    folds = (GROUPS % 3).astype(np.int64)
    member, held_out = Member(make_small_head(name)), folds == 1

    def score(targets, weights, fold):
        return score_fold([member], heard, [prior], targets, weights, GROUPS, folds == fold)

    scores, levels = score(TARGETS, WEIGHTS, 1)
    assert getattr(member.head, "classes_", None) is None
    # Whatever is said of the windows of a fold, and however loudly, their scores stay the same to the last bit ...
    leaking, heavy = TARGETS.copy(), WEIGHTS.copy()
    leaking[held_out] = ~leaking[held_out]
    heavy[held_out] *= 1000
    for first, again in zip((scores, levels), score(leaking, heavy, 1), strict=True):
        np.testing.assert_array_equal(first, again)
    # ... and those of the others do not.
    assert (score(TARGETS, WEIGHTS, 0)[0] != score(leaking, heavy, 0)[0]).mean() > 0.5
    rest = np.flatnonzero(~held_out)
    by_hand = fit_member(make_small_head(name), heard[0].take(rest), prior, TARGETS[rest], WEIGHTS[rest], GROUPS[rest])
    np.testing.assert_array_equal(scores[0], score_member(Member(by_hand), heard[0].take(held_out), prior))
    added = score_member(Member(by_hand), heard[0], prior)
    if prior is not None and prior.kind == "offset":
        added = added - prior.offset(heard[0].embeddings, heard[0].logits)
    np.testing.assert_allclose(levels[0], np.median(added, axis=0), rtol=1e-6)
    # All that is done to them afterwards is to bring the folds to one level.
    each = [score(TARGETS, WEIGHTS, fold) for fold in range(3)]
    together = score_out_of_fold([member], heard, [prior], TARGETS, WEIGHTS, GROUPS, folds)
    mean = np.mean([own for _, own in each], axis=0)
    for fold, (own, level) in enumerate(each):
        np.testing.assert_allclose(together[:, folds == fold], own + (mean - level)[:, None], atol=1e-8)


def test_each_head_takes_what_its_encoder_heard():
    wide = Heard(np.hstack([X, X]))
    members = [Member(make_small_head("lr"), 1), Member(make_small_head("lr"), 0)]
    told = []
    scores = score_out_of_fold(
        members, (Heard(X), wide), (None, None), TARGETS, WEIGHTS, GROUPS, GROUPS % 2, told.append
    )
    alone = score_out_of_fold([members[1]], (Heard(X),), (None,), TARGETS, WEIGHTS, GROUPS, GROUPS % 2)
    np.testing.assert_array_equal(scores[1], alone[0])
    assert told == ["lr, fold 1 of 2"] * 2 + ["lr, fold 2 of 2"] * 2
    for member in members:
        fit_member(member.head, (Heard(X), wide)[member.encoder], None, TARGETS, WEIGHTS, GROUPS)
    ensemble = Ensemble(tuple(members), (None, None), Blend.equal("logits", 2, 3))
    both = ensemble.score_members((Heard(X), wide))
    np.testing.assert_array_equal(both[0], members[0].head.decision_function(wide.embeddings))
    np.testing.assert_allclose(ensemble.predict_proba((Heard(X), wide)), expit(both.mean(axis=0)))


def test_probabilities_are_calibrated_where_there_is_a_calibration():
    ensemble = make_bundle("all").ensemble
    scores = ensemble.score_members(hear(X))
    blended = ensemble.blend.apply(scores)
    np.testing.assert_array_equal(ensemble.predict_proba(hear(X)), ensemble.calibration.apply(blended))
    bare = Ensemble(ensemble.members, ensemble.priors, ensemble.blend)
    np.testing.assert_array_equal(bare.predict_proba(hear(X)), expit(blended))


@pytest.mark.parametrize(("method", "whole"), [("ranks", True), ("mean", False), ("logits", False)])
def test_only_ranks_need_the_whole_table(method, whole):
    heads = (Member(fitted("lr")), Member(fitted("lgbm")))
    ensemble = Ensemble(heads, (None,), Blend.equal(method, 2, 3))
    assert ensemble.needs_whole_table == whole
    heard, half = (Heard(X),), np.arange(len(X)) < len(X) // 2
    at_once = ensemble.predict_proba(heard)
    in_parts = np.concatenate([ensemble.predict_proba((Heard(X).take(part),)) for part in (half, ~half)])
    assert np.allclose(at_once, in_parts) == (not whole)


def test_jobs_are_set_in_every_head():
    ensemble = Ensemble((Member(fitted("lr")), Member(fitted("lgbm"))), (None,), Blend.equal("mean", 2, 3))
    ensemble.set_jobs(2)
    assert [member.head.n_jobs for member in ensemble.members] == [2, 2]


def test_heads_that_do_not_belong_together_are_refused():
    with pytest.raises(InputError, match="at least one head"):
        Ensemble((), (None,), EQUAL)
    with pytest.raises(InputError, match="lr is not fitted"):
        Ensemble((Member(make_small_head("lr")),), (None,), EQUAL)
    for encoder in (1, -1):
        with pytest.raises(InputError, match=f"encoder {encoder}, which is not there"):
            Ensemble((Member(fitted(), encoder),), (None,), EQUAL)
    with pytest.raises(InputError, match="2 and 3 classes"):
        Ensemble((Member(fitted()), Member(fitted(columns=2))), (None,), Blend.equal("mean", 2, 3))


def test_folds_are_brought_to_one_level():
    rng = np.random.default_rng(0)
    scores, folds = rng.normal(size=(90, 2)), np.arange(90) % 3
    shifted = scores + np.array([[-5.0, 2.0], [0.0, 1.0], [5.0, 0.0]])[folds]
    aligned = align_folds(shifted, folds, np.array([[-5.0, 2.0], [0.0, 1.0], [5.0, 0.0]]))
    np.testing.assert_allclose(aligned, scores + np.array([0.0, 1.0]), atol=1e-8)
