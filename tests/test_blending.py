"""Several members' scores to one."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import rankdata

from birdemb.classify.blend_weights import MOST_ROWS, choose_best, pick_rows
from birdemb.classify.blending import (
    BLENDS,
    UNLEARNT,
    Blend,
    blend_by_rank,
    blend_table,
    check_blend,
    cross_blend,
    learn_blend,
)
from birdemb.classify.state import StateReader
from birdemb.errors import InputError
from birdemb.metrics import roc_auc_by_class

LEARNT = [method for method in BLENDS if method not in UNLEARNT]


def make_members(seed, noises, groups=400, classes=6, rate=0.2):
    """Out-of-fold logits of members that see the same truth through noise of their own; inf is a worthless one."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(groups), 3)
    targets = (rng.random((groups, classes)) < rate)[codes]
    members = []
    for noise in noises:
        seen = np.zeros(targets.shape) if np.isinf(noise) else 4.0 * targets - 2
        blur = rng.normal(size=targets.shape) * (1.5 if np.isinf(noise) else noise)
        members.append(seen + blur)
    return np.array(members), targets, np.ones(targets.shape), codes


def macro(scores, targets):
    return np.nanmean(roc_auc_by_class(targets, scores))


@pytest.mark.parametrize("method", BLENDS)
def test_equal_members_get_equal_weights(method):
    members, *rest = make_members(0, [1.5])
    blend = learn_blend(method, np.repeat(members, 3, axis=0), *rest)
    shares = blend.weights / blend.weights.sum(axis=0)
    np.testing.assert_allclose(shares, 1 / 3, atol=1e-4)


@pytest.mark.parametrize("method", LEARNT)
def test_a_worthless_member_weighs_next_to_nothing(method):
    members, *rest = make_members(1, [2.0, np.inf, 2.0])
    blend = learn_blend(method, members, *rest)
    shares = (blend.weights / blend.weights.sum(axis=0)).mean(axis=1)
    assert shares[1] < 0.03
    if method == "best":
        return
    assert shares[0] == pytest.approx(0.5, abs=0.2)
    blended = cross_blend(method, members, *rest, rest[2] % 5)
    assert macro(blended, rest[0]) > macro(members.mean(axis=0), rest[0])


@pytest.mark.parametrize("method", ["nnls", "climb", "stack"])
def test_two_different_views_are_better_than_the_better_one(method):
    members, *rest = make_members(2, [2.0, 2.5])
    blended = cross_blend(method, members, *rest, rest[2] % 5)
    assert macro(blended, rest[0]) > max(macro(scores, rest[0]) for scores in members) + 0.01


@pytest.mark.parametrize("method", ["nnls", "climb", "stack"])
def test_few_data_keep_the_weights_near_equal_ones(method):
    """Two members of the same worth and few positive groups: weights that are learnt freely would go anywhere."""
    spread = {}
    for groups in (20, 1000):
        apart = []
        for seed in range(6):
            members, *rest = make_members(seed, [2.5, 2.5], groups=groups, classes=2, rate=0.1)
            weights = learn_blend(method, members, *rest).weights
            apart.append(np.abs(weights[0] - weights[1]).max() / weights.sum(axis=0).max())
        spread[groups] = np.mean(apart)
    assert spread[20] < 0.12
    assert spread[1000] < 0.05


@pytest.mark.parametrize("method", ["nnls", "stack", "climb", "best"])
def test_what_is_off_by_the_same_in_a_whole_class_makes_no_difference(method):
    members, *rest = make_members(3, [1.5, 3.0])
    plain = learn_blend(method, members, *rest).weights
    shifted = learn_blend(method, members + np.array([-2.0, 0, 1, 0, 2, 0]), *rest).weights
    np.testing.assert_allclose(plain, shifted, atol=0.12 if method == "nnls" else 0.02)


@pytest.mark.parametrize("method", BLENDS)
@pytest.mark.parametrize("constant", [-13.8, 0.0, 20.0])
def test_a_class_that_a_member_could_not_fit_is_left_to_the_others(method, constant):
    members, targets, *rest = make_members(4, [1.0, 2.0])
    members[0, :, 2] = constant
    blend = learn_blend(method, members, targets, *rest)
    assert blend.weights[0, 2] == 0
    expected = members[1, :, 2] * (blend.weights[1, 2] if method == "stack" else 1)
    if method == "ranks":
        expected = logit((rankdata(expected) - 0.5) / len(expected))
    np.testing.assert_allclose(blend.apply(members)[:, 2], expected, rtol=1e-9)
    members[1, :, 2] = constant
    assert np.ptp(learn_blend(method, members, targets, *rest).apply(members)[:, 2]) == 0


@pytest.mark.parametrize("method", BLENDS)
def test_nothing_to_learn_from_gives_equal_weights(method):
    members, targets, *rest = make_members(5, [1.0, 2.0])
    blend = learn_blend(method, members, np.zeros_like(targets), *rest)
    np.testing.assert_allclose(blend.weights, 0.5)
    alone = learn_blend(method, members[:1], targets, *rest)
    np.testing.assert_array_equal(alone.weights, 1)
    assert np.array_equal(Blend.equal(method, 2, 6).weights, blend.weights)


@pytest.mark.parametrize("method", BLENDS)
def test_masked_entries_and_seed(method):
    members, targets, weights, groups = make_members(6, [1.0, 2.0])
    rng = np.random.default_rng(6)
    weights[rng.random(weights.shape) < 0.2] = 0
    hidden = weights == 0
    blend = learn_blend(method, members, targets, weights, groups)
    other = learn_blend(
        method, np.where(hidden, rng.normal(size=members.shape), members), targets ^ hidden, weights, groups
    )
    np.testing.assert_allclose(blend.weights, other.weights, atol=1e-6)


def test_the_means_by_hand():
    members = np.array([[[-2.0], [1.0], [0.5]], [[3.0], [0.0], [40.0]]])
    weights = np.array([[0.25], [0.75]])
    np.testing.assert_allclose(Blend("logits", weights).apply(members)[:, 0], [1.75, 0.25, 30.125])
    probabilities = 0.25 * expit(members[0]) + 0.75 * expit(members[1])
    np.testing.assert_allclose(Blend("mean", weights).apply(members), logit(probabilities), atol=1e-12)
    ranks = 0.25 * np.array([1, 3, 2]) + 0.75 * np.array([2, 1, 3])
    np.testing.assert_allclose(expit(Blend("ranks", weights).apply(members)[:, 0]), (ranks - 0.5) / 3)


@given(st.integers(0, 10**6), st.sampled_from(list(BLENDS)), st.floats(0.1, 500))
def test_a_blend_is_finite_and_keeps_what_all_members_agree_on(seed, method, scale):
    rng = np.random.default_rng(seed)
    order = np.sort(rng.normal(size=(30, 2)).round(1), axis=0) * scale
    members = np.array([order, order + rng.normal(), order * 0.5])
    targets, weights = rng.random((30, 2)) < 0.4, rng.choice([0.0, 1.0], (30, 2))
    weights[0] = 1
    blended = learn_blend(method, members, targets, weights, rng.integers(0, 8, 30)).apply(members)
    assert np.isfinite(blended).all()
    assert (np.diff(blended, axis=0) >= -1e-9 * scale).all()


def test_the_best_member_of_a_class_needs_evidence():
    values = np.array([[0.9, 0.9, 0.6, np.nan], [0.8, 0.8, 0.7, 0.9]])
    useful = np.ones(values.shape, bool)
    chosen = choose_best(values, useful, np.array([50, 50, 100, 3]))
    assert chosen[0].tolist() == [1, 1, 0, 1]
    rare = np.array([[0.90, 0.90, 0.80], [0.80, 0.80, 0.85]])
    assert choose_best(rare, useful[:, :3], np.array([50, 50, 1]))[0].tolist() == [1, 1, 1]
    assert choose_best(rare, useful[:, :3], np.array([50, 50, 500]))[0].tolist() == [1, 1, 0]
    assert choose_best(values, ~useful | np.array([[False], [True]]), np.ones(4, int))[0].tolist() == [0, 0, 0, 0]


def test_cross_blend_learns_from_the_other_folds_alone():
    members, targets, weights, groups = make_members(7, [1.0, 3.0])
    folds = groups % 4
    for method in ("stack", "nnls"):
        before = cross_blend(method, members, targets, weights, groups, folds)
        changed = np.where((folds == 2)[:, None], ~targets, targets)
        after = cross_blend(method, members, changed, weights, groups, folds)
        assert np.array_equal(before[folds == 2], after[folds == 2])
        assert not np.allclose(before[folds == 1], after[folds == 1])
    whole = learn_blend("ranks", members, targets, weights, groups).apply(members)
    assert np.array_equal(cross_blend("ranks", members, targets, weights, groups, folds), whole)
    for wrong in (np.zeros(len(folds), int), folds[1:]):
        with pytest.raises(InputError, match="folds"):
            cross_blend("mean", members, targets, weights, groups, wrong)


def test_a_blend_flatters_itself_where_cross_blend_does_not():
    """Worthless members and few windows: what is gained on the same windows is not there on others."""
    flattery = []
    for seed in range(6):
        members, *rest = make_members(seed, [np.inf] * 4, groups=40, classes=3)
        same = learn_blend("climb", members, *rest).apply(members)
        crossed = cross_blend("climb", members, *rest, rest[2] % 4)
        flattery.append(macro(same, rest[0]) - macro(crossed, rest[0]))
    assert np.mean(flattery) > 0.015


def test_the_table_names_each_member_and_the_blend():
    members, targets, weights, groups = make_members(8, [1.0, np.inf])
    targets[:, 5] = False
    blend = learn_blend("climb", members, targets, weights, groups)
    blended = cross_blend("climb", members, targets, weights, groups, groups % 3)
    table = blend_table(blend, members, blended, targets, weights, ["lr", "noise"])
    assert table["member"].tolist() == ["lr", "noise", "blend"]
    assert table["classes"].tolist() == [5, 5, 5]
    assert table["weight"].tolist() == [1, 0, 1]
    assert table["value"].tolist() == pytest.approx([macro(scores, targets) for scores in (*members, blended)])


def test_many_windows_are_picked_so_that_every_class_is_there():
    rng = np.random.default_rng(9)
    present = rng.random((20_000, 30)) < np.geomspace(0.0002, 0.3, 30)
    rows = pick_rows(present, rng)
    assert len(rows) == MOST_ROWS
    assert (np.diff(rows) > 0).all()
    assert (present[rows].sum(axis=0) >= np.minimum(present.sum(axis=0), MOST_ROWS // 30)).all()
    assert np.array_equal(pick_rows(present[:100], rng), np.arange(100))


@pytest.mark.parametrize("method", BLENDS)
def test_state_comes_back_bit_for_bit(method):
    members, *rest = make_members(10, [1.0, 2.0])
    blend = learn_blend(method, members, *rest)
    reader = StateReader(blend.get_state())
    again = Blend.read_state(reader, 2, 6)
    reader.refuse_rest()
    assert np.array_equal(again.apply(members), blend.apply(members))


@pytest.mark.parametrize(
    "change",
    [
        {"blend_method": "magic"},
        {"blend_weights": np.full((3, 2), 0.5)},
        {"blend_weights": np.array([[0.5, -0.5], [0.5, 1.5]])},
        {"blend_weights": np.array([[0.0, 0.5], [0.0, 0.5]])},
        {"blend_weights": np.array([[np.inf, 0.5], [0.0, 0.5]])},
        {"blend_weights": np.array([[1e300, 0.5], [0.0, 0.5]])},
    ],
)
def test_hostile_state_is_refused(change):
    state = Blend.equal("mean", 2, 2).get_state()
    Blend.read_state(StateReader(state), 2, 2)
    with pytest.raises(InputError):
        Blend.read_state(StateReader(state | change), 2, 2)


def test_what_does_not_fit_is_refused():
    members, *rest = make_members(11, [1.0, 2.0])
    with pytest.raises(InputError, match="'nnls'"):
        check_blend("median")
    with pytest.raises(InputError, match="'nnls'"):
        learn_blend("median", members, *rest)
    with pytest.raises(InputError, match="members"):
        learn_blend("mean", members[0], *rest)
    with pytest.raises(InputError, match="finite"):
        learn_blend("mean", np.where(members > 3, np.nan, members), *rest)
    with pytest.raises(InputError, match="expected"):
        Blend.equal("mean", 3, 6).apply(members)


def table_of(scores, rows, classes=("bittern", "crake")):
    return pd.DataFrame({"row_id": rows, **dict(zip(classes, np.array(scores, float).T, strict=True))})


def test_submissions_are_blended_by_rank():
    rows = ["a_5", "a_10", "a_15"]
    first = table_of([[0.1, 5], [0.2, 5], [0.9, 5]], rows)
    second = table_of([[-7, 3], [-9, 2], [-8, 1]], rows)
    equal = blend_by_rank([first, second])
    assert equal["row_id"].tolist() == rows
    np.testing.assert_allclose(equal[["bittern", "crake"]], [[0.5, 0.75], [0.25, 0.5], [0.75, 0.25]])
    weighted = blend_by_rank([first, second], [3, 1])
    np.testing.assert_allclose(weighted["bittern"], [0.25, 0.375, 0.875])
    shuffled = second.iloc[[2, 0, 1]][["crake", "row_id", "bittern"]]
    pd.testing.assert_frame_equal(blend_by_rank([first, shuffled]), equal)
    np.testing.assert_allclose(blend_by_rank([first.iloc[:1]])[["bittern", "crake"]], 0.5)


def test_submissions_that_differ_are_refused_by_the_first_difference():
    rows = ["a_5", "a_10"]
    first = table_of([[1, 2], [3, 4]], rows)
    for tables, words in (
        ([first, table_of([[1, 2]], rows[:1])], "Table 2 lacks the row 'a_10'"),
        ([first, table_of([[1, 2]] * 3, [*rows, "a_15"])], "Table 2 has the row 'a_15'"),
        ([first, first, table_of([[1, 2]] * 2, rows, ("bittern", "coot"))], "Table 3 lacks the class 'crake'"),
        ([first, first.assign(coot=1.0)], "Table 2 has the class 'coot'"),
        ([first, table_of([[1, 2]] * 2, ["a_5", "a_5"])], "Table 2 has the row 'a_5' twice"),
        ([first, table_of([[1, 2], [1, np.nan]], rows)], "no number for crake in the row 'a_10'"),
        ([first, first.drop(columns="row_id")], "Table 2 has to have a column row_id"),
        ([], "0 tables"),
    ):
        with pytest.raises(InputError, match=words):
            blend_by_rank(tables)
    for weights in ([1], [1, -1], [0, 0], [1, np.nan]):
        with pytest.raises(InputError, match="weight"):
            blend_by_rank([first, first], weights)


@pytest.mark.parametrize("method", ["nnls", "climb", "stack"])
def test_a_class_of_which_nothing_is_known_takes_the_weights_of_the_others(method):
    rng = np.random.default_rng(0)
    targets = rng.random((400, 3)) < 0.3
    good = np.where(targets, 2.0, -2.0) + rng.normal(size=targets.shape)
    members = np.stack([good, rng.normal(size=targets.shape)])
    weights = np.ones(targets.shape)
    weights[:, 2] = 0
    learnt = learn_blend(method, members, targets, weights, np.arange(400) // 4).weights
    np.testing.assert_allclose(learnt[:, 2], learnt[:, 0])
    assert learnt[0, 2] > 2 * learnt[1, 2]
