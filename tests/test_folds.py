import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdemb.classify.folds import assessable_classes, assign_folds, combine_groups, describe_folds
from birdemb.errors import InputError


@st.composite
def windows(draw):
    """Targets, groups and a number of folds that the groups suffice for."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    folds = draw(st.integers(2, 6))
    groups = folds + draw(st.integers(0, 40))
    codes = np.repeat(rng.permutation(groups) * 3 - 7, rng.integers(1, draw(st.sampled_from([2, 8, 60])), groups))
    codes = rng.permutation(codes)
    targets = rng.random((len(codes), draw(st.integers(1, 6)))) < draw(st.sampled_from([0.0, 0.02, 0.3, 0.9]))
    return targets, codes, folds


def make_recordings(rng, classes, recordings, windows_at_most):
    """Recordings of one class each, in all of their windows."""
    labels = rng.permutation(np.repeat(np.arange(classes), recordings))
    codes = np.repeat(np.arange(len(labels)), rng.integers(1, windows_at_most + 1, len(labels)))
    return labels[codes][:, None] == np.arange(classes), codes


@settings(deadline=None)
@given(windows(), st.integers(0, 1000))
def test_groups_stay_whole_and_no_fold_is_empty(case, seed):
    targets, groups, folds = case
    fold = assign_folds(targets, groups, folds, seed)
    assert fold.dtype == np.int64
    assert sorted(set(fold)) == list(range(folds))
    for group in set(groups):
        assert len(set(fold[groups == group])) == 1


@settings(deadline=None)
@given(windows(), st.integers(0, 1000))
def test_the_order_of_windows_and_the_numbers_of_groups_change_nothing(case, seed):
    targets, groups, folds = case
    fold = assign_folds(targets, groups, folds, seed)
    order = np.random.default_rng(seed).permutation(len(groups))
    np.testing.assert_array_equal(assign_folds(targets[order], groups[order] * 5 + 2, folds, seed), fold[order])


@settings(deadline=None)
@given(windows(), st.integers(0, 1000))
def test_the_rarest_class_is_spread_over_as_many_folds_as_it_has_groups(case, seed):
    targets, groups, folds = case
    fold = assign_folds(targets, groups, folds, seed)
    having = [len(set(groups[column])) for column in targets.T]
    if not any(having):
        return
    rarest = min((count, index) for index, count in enumerate(having) if count)[1]
    assert len(set(fold[targets[:, rarest]])) == min(folds, having[rarest])


def test_the_seed_decides_between_what_is_equally_good():
    targets, groups = make_recordings(np.random.default_rng(0), 4, 10, 1)
    first = assign_folds(targets, groups, 5, 0)
    np.testing.assert_array_equal(assign_folds(targets, groups, 5, 0), first)
    assert any((assign_folds(targets, groups, 5, seed) != first).any() for seed in range(1, 4))


@pytest.mark.parametrize("seed", range(5))
def test_equal_recordings_of_one_class_each_are_divided_exactly(seed):
    targets, groups = make_recordings(np.random.default_rng(seed), 6, 15, 1)
    fold = assign_folds(targets, groups, 5, seed)
    for column in targets.T:
        np.testing.assert_array_equal(np.bincount(fold[column]), np.full(5, 3))


@pytest.mark.parametrize("seed", range(5))
def test_what_does_not_divide_goes_to_the_smallest_fold(seed):
    targets, groups = make_recordings(np.random.default_rng(seed), 10, 7, 1)
    fold = assign_folds(targets, groups, 5, seed)
    assert np.bincount(fold).tolist() == [14] * 5
    for column in targets.T:
        assert set(np.bincount(fold[column])) == {1, 2}


@pytest.mark.parametrize("seed", range(5))
def test_shares_of_uneven_multi_label_recordings_are_near_each_other(seed):
    rng = np.random.default_rng(seed)
    targets, groups = make_recordings(rng, 12, 25, 40)
    also = rng.random((int(groups.max()) + 1, 12)) < 0.05
    targets |= also[groups]
    fold = assign_folds(targets, groups, 5, seed)
    share = np.array([targets[fold == one].sum(axis=0) for one in range(5)]) / targets.sum(axis=0)
    first = np.unique(groups, return_index=True)[1]
    share_of_groups = np.array([targets[first][fold[first] == one].sum(axis=0) for one in range(5)])
    share_of_groups = share_of_groups / targets[first].sum(axis=0)
    assert abs(share - 0.2).max() < 0.1
    assert abs(share_of_groups - 0.2).max() < 0.1
    assert abs(np.bincount(fold) / len(fold) - 0.2).max() < 0.04

    by_chance = rng.integers(0, 5, int(groups.max()) + 1)[groups]
    random_share = np.array([targets[by_chance == one].sum(axis=0) for one in range(5)]) / targets.sum(axis=0)
    assert abs(share - 0.2).mean() < abs(random_share - 0.2).mean() / 2


def test_an_hour_does_not_stand_for_a_hundred_clips():
    # One recording of 720 windows, forty of 3: by windows alone the other forty would share four folds of five.
    groups = np.concatenate([np.zeros(720, np.int64), np.repeat(np.arange(1, 41), 3)])
    fold = assign_folds(np.ones((len(groups), 1), bool), groups, 5)
    clips = np.bincount(fold[720::3], minlength=5)
    assert clips[fold[0]] == 0
    assert sorted(clips.tolist()) == [0, 10, 10, 10, 10]


def test_a_fold_without_the_class_comes_first_even_if_it_is_larger():
    # Group 0 goes to one fold and the long group 2 to the other. The two groups of the last class have to part, though
    # group 1 would even out the sizes where group 0 is.
    groups = np.repeat([0, 1, 2], [1, 30, 200])
    targets = np.stack([groups == 0, groups == 2, groups < 2], axis=1)
    for seed in range(5):
        fold = assign_folds(targets, groups, 2, seed)
        assert len(set(fold[targets[:, 2]])) == 2


def test_background_fills_the_folds_evenly():
    targets = np.zeros((100, 2), bool)
    targets[:3, 0] = True
    assert np.bincount(assign_folds(targets, np.arange(100), 4)).tolist() == [25] * 4


def test_no_class_at_all_is_no_error():
    assert np.bincount(assign_folds(np.zeros((10, 0), bool), np.arange(10), 5)).tolist() == [2] * 5


@pytest.mark.parametrize(
    ("shape", "groups", "folds", "message"),
    [
        ((0, 3), 0, 5, "at least one window"),
        ((4,), 4, 2, "at least one window"),
        ((6, 2), 5, 2, r"groups has the shape \(5,\); expected one for each of 6 windows"),
        ((6, 2), 6, 1, "folds is 1. It has to be a whole number of at least 2"),
        ((6, 2), 6, 2.5, "folds is 2.5"),
        ((6, 2), 6, 7, "There are 6 groups of windows for 7 folds"),
    ],
)
def test_what_cannot_be_divided_is_refused(shape, groups, folds, message):
    with pytest.raises(InputError, match=message):
        assign_folds(np.zeros(shape, bool), np.arange(groups), folds)


def test_a_negative_seed_is_refused():
    with pytest.raises(InputError, match="seed is -1"):
        assign_folds(np.zeros((4, 1), bool), np.arange(4), 2, -1)


@settings(deadline=None)
@given(windows(), st.integers(0, 2**32 - 1))
def test_assessable_is_that_both_sides_remain_whichever_fold_is_held_out(case, seed):
    targets, groups, folds = case
    fold = assign_folds(targets, groups, folds)
    weights = (np.random.default_rng(seed).random(targets.shape) < 0.7) * 0.5
    expected = np.ones(targets.shape[1], bool)
    for held_out in range(folds):
        rest = fold != held_out
        expected &= (targets & (weights > 0))[rest].any(axis=0) & (~targets & (weights > 0))[rest].any(axis=0)
    np.testing.assert_array_equal(assessable_classes(targets, weights, fold), expected)


def test_masked_positives_make_no_class_assessable():
    targets = np.array([[1], [1], [0], [0]], bool)
    fold = np.array([0, 1, 0, 1])
    assert assessable_classes(targets, np.ones((4, 1)), fold).tolist() == [True]
    assert assessable_classes(targets, np.array([[1.0], [0.0], [1.0], [1.0]]), fold).tolist() == [False]


def test_the_table_counts_groups_and_windows():
    targets = np.array([[1, 0, 0], [1, 0, 1], [0, 1, 1], [0, 1, 0], [1, 1, 0]], bool)
    weights = np.ones((5, 3))
    weights[1, 2] = 0
    table = describe_folds(
        targets, weights, np.array([5, 5, 9, 9, 2]), np.array([0, 0, 1, 1, 1]), ["owl", "wren", "frog"]
    )
    assert list(table.columns) == ["class", "groups", "windows", "fold_0", "fold_1", "assessable"]
    assert table.to_numpy().tolist() == [
        ["owl", 2, 3, 2, 1, False],
        ["wren", 2, 3, 0, 3, False],
        ["frog", 1, 1, 0, 1, False],
    ]


def test_the_table_agrees_with_assessable_classes():
    targets, groups = make_recordings(np.random.default_rng(1), 3, 8, 5)
    weights = np.ones(targets.shape)
    fold = assign_folds(targets, groups, 4)
    table = describe_folds(targets, weights, groups, fold, ["a", "b", "c"])
    assert table["assessable"].tolist() == assessable_classes(targets, weights, fold).tolist() == [True] * 3
    assert table["groups"].tolist() == [8] * 3
    np.testing.assert_array_equal(table["windows"], targets.sum(axis=0))
    np.testing.assert_array_equal(table[[f"fold_{one}" for one in range(4)]].sum(axis=1), targets.sum(axis=0))


def test_shapes_that_do_not_agree_are_refused():
    targets, ones = np.zeros((4, 2), bool), np.ones((4, 2))
    fold = np.arange(4)
    with pytest.raises(InputError, match=r"weights have the shape \(4, 1\); expected \(4, 2\)"):
        assessable_classes(targets, np.ones((4, 1)), fold)
    with pytest.raises(InputError, match=r"folds has the shape \(3,\)"):
        assessable_classes(targets, ones, fold[:3])
    with pytest.raises(InputError, match="1 names of classes for 2 columns"):
        describe_folds(targets, ones, fold, fold, ["owl"])


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.integers(-3, 12)] * 3), min_size=1, max_size=40))
def test_combined_groups_are_the_finest_that_part_nothing(rows):
    partitions = np.array(rows).T
    combined = combine_groups(*partitions)
    # By hand: spread the smallest row number until nothing changes.
    expected = np.arange(len(rows))
    for _ in rows:
        for partition in partitions:
            for group in set(partition):
                expected[partition == group] = expected[partition == group].min()
    np.testing.assert_array_equal(combined[:, None] == combined, expected[:, None] == expected)


def test_partitions_may_be_text_and_one_alone_stays_as_it_is():
    assert combine_groups(np.array(["b", "a", "b"])).tolist() in ([0, 1, 0], [1, 0, 1])
    combined = combine_groups(np.array(["b", "a", "c"]), np.array([1, 1, 2]))
    assert (combined[0] == combined[1], combined[0] == combined[2]) == (True, False)


@pytest.mark.parametrize("partitions", [[], [np.arange(3), np.arange(4)], [np.zeros((2, 2))]])
def test_partitions_that_do_not_agree_are_refused(partitions):
    with pytest.raises(InputError, match="all of the same length"):
        combine_groups(*partitions)
