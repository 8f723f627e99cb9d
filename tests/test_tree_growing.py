"""How LightGBM's trees are grown: from an offset, stopped in time, on some of the negatives."""

import numpy as np
import pytest
from head_data import make, make_data
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from birdemb.classify.tree_growing import find_intercept, pool_rounds
from birdemb.classify.trees import LightGBMHead
from birdemb.errors import InputError


@pytest.fixture
def data():
    return make_data(0)


def make_known(seed, n=600, classes=6):
    """Labels that the offset ranks well, and embeddings that say nothing; four windows are a group."""
    rng = np.random.default_rng(seed)
    y = (rng.random((n // 4, classes)) < 0.15).repeat(4, axis=0)
    y[:4], y[4:8], y[8:12] = True, True, False
    offset = 3 * y - 4 + rng.normal(0, 1.5, size=y.shape)
    return rng.normal(size=(n, 20)).astype(np.float32), y.astype(int), offset, np.arange(n) // 4


@given(st.integers(0, 2**32 - 1), st.floats(0, 300), st.floats(0, 20))
def test_intercept_gives_the_positives_their_share(seed, spread, magnitudes):
    rng = np.random.default_rng(seed)
    targets = rng.random(50) < 0.2
    targets[:2] = True, False
    weights = 10.0 ** rng.uniform(-magnitudes, magnitudes, size=50)
    offset = rng.normal(-5, spread, size=50)
    intercept = find_intercept(targets, weights, offset)
    share = np.average(expit(offset + intercept), weights=weights)
    assert share == pytest.approx(np.average(targets, weights=weights), abs=1e-6)


def test_offset_of_zero_is_as_none(data):
    X, y = data
    without = make("lgbm").fit(X, y)
    zero = make("lgbm").fit(X, y, offset=np.zeros(y.shape))
    assert without.models_ == zero.models_
    assert np.array_equal(without.decision_function(X), zero.decision_function(X, np.zeros(y.shape)))


def test_what_all_windows_have_in_common_in_the_offset_does_not_matter(data):
    X, y = data
    offset = np.random.default_rng(0).normal(size=y.shape)
    moved = offset + np.array([-7.0, 0.0, 2.0, 7.0])
    one = make("lgbm").fit(X, y, offset=offset).decision_function(X, offset)
    other = make("lgbm").fit(X, y, offset=moved).decision_function(X, moved)
    np.testing.assert_allclose(one, other, atol=1e-3)


def test_trees_add_to_what_the_offset_knows():
    X, y, offset, groups = make_known(0)
    X[:, :6] += 2 * y
    head = make("lgbm").fit(X, y, offset=offset, groups=groups)
    X_new, y_new, offset_new, _ = make_known(1)
    X_new[:, :6] += 2 * y_new
    alone = roc_auc_score(y_new, offset_new)
    without = roc_auc_score(y_new, make("lgbm").fit(X, y).predict_proba(X_new))
    assert roc_auc_score(y_new, head.predict_proba(X_new, offset_new)) > max(alone, without) + 0.005


@pytest.mark.parametrize("seed", range(3))
def test_stopped_in_time_noise_does_not_spoil_the_offset(seed):
    X, y, offset, groups = make_known(seed)
    X_new, y_new, offset_new, _ = make_known(seed + 10)
    alone = roc_auc_score(y_new, offset_new)
    lost = {}
    for stopping in (False, True):
        head = make("lgbm", n_estimators=200, early_stopping=stopping).fit(X, y, offset=offset, groups=groups)
        lost[stopping] = alone - roc_auc_score(y_new, head.predict_proba(X_new, offset_new))
    assert lost[True] < 0.003
    assert lost[False] > lost[True] + 0.003


def test_a_class_without_a_tree_has_its_offset_and_a_state():
    X, y, offset, groups = make_known(3)
    head = make("lgbm", early_stopping=1).fit(np.zeros_like(X), y, offset=offset, groups=groups)
    assert head.n_trees_.tolist() == [0] * 6
    again = LightGBMHead.from_state(head.get_params(), head.get_state())
    scores = again.decision_function(X, offset)
    np.testing.assert_allclose(scores - offset, np.broadcast_to(head.intercept_, y.shape))
    assert np.array_equal(scores, head.decision_function(X, offset))


def test_more_to_learn_takes_more_trees(data):
    X, y = data
    noise = np.random.default_rng(0).normal(size=X.shape)
    learnt = make("lgbm", n_estimators=100, early_stopping=10).fit(X, y)
    guessed = make("lgbm", n_estimators=100, early_stopping=10).fit(noise, y)
    assert learnt.n_trees_.min() > 2 * guessed.n_trees_.max()


def test_groups_are_not_parted():
    # Each group has features of its own: within a group they tell the class, and nowhere else.
    rng = np.random.default_rng(0)
    groups = np.arange(40).repeat(6)
    y = (groups % 4 == 0).astype(int)[:, None]
    X = rng.normal(size=(40, 8))[groups] + rng.normal(0, 0.01, size=(240, 8))
    kept = make("lgbm", n_estimators=100, early_stopping=10).fit(X, y, groups=groups)
    parted = make("lgbm", n_estimators=100, early_stopping=10).fit(X, y)
    assert parted.n_trees_[0] > 5 * kept.n_trees_[0]


def test_what_cannot_be_chosen_by_folds(data):
    X, y = data
    one_group = make("lgbm", early_stopping=True).fit(X, y, groups=np.zeros(len(X)))
    assert one_group.models_ == make("lgbm").fit(X, y).models_
    # The first class has its positives in one group alone: it takes what the others chose.
    groups = np.arange(len(X))
    groups[y[:, 0] == 1] = -1
    X = X + np.random.default_rng(0).normal(0, 4, size=X.shape)
    pooled = make("lgbm", n_estimators=100, early_stopping=5).fit(X, y, groups=groups).n_trees_
    assert pooled[1:].min() <= pooled[0] <= pooled[1:].max() < 100


def test_rounds_are_pooled():
    groups = np.array([5, 20, 1])
    assert pool_rounds([None, None, None], groups, 70).tolist() == [70, 70, 70]
    assert pool_rounds([8, 8, None], groups, 70).tolist() == [8, 8, 8]
    few, many, none = pool_rounds([10, 160, None], groups, 200).tolist()
    assert 10 < few < none < many < 160


def test_some_of_the_negatives_do_for_all_of_them():
    rng = np.random.default_rng(0)
    y = (rng.random((2000, 3)) < 0.03).astype(int)
    X = rng.normal(size=(2000, 12)) + np.tile(y, 4)
    X_new, y_new = rng.normal(size=(2000, 12)), (rng.random((2000, 3)) < 0.05).astype(int)
    X_new += np.tile(y_new, 4)
    rocs, means = {}, {}
    for share in (1.0, 0.2):
        head = make("lgbm", n_estimators=100, class_weight=None, negative_share=share).fit(X, y)
        scores = head.decision_function(X_new)
        rocs[share], means[share] = roc_auc_score(y_new, scores), head.intercept_
    assert rocs[0.2] > rocs[1.0] - 0.03
    # The negatives weigh what they did: the share of positives is the same.
    np.testing.assert_allclose(means[0.2], means[1.0], atol=1e-6)


@pytest.mark.parametrize("params", [{"early_stopping": 5}, {"negative_share": 0.5}])
def test_masked_entries_are_ignored(data, params):
    X, y = data
    rng = np.random.default_rng(2)
    weights = rng.integers(0, 2, size=y.shape) * rng.random(y.shape)
    other = np.where(weights == 0, 1 - y, y)
    offset = rng.normal(size=y.shape)
    one, two = (make("lgbm", **params).fit(X, labels, weights, offset) for labels in (y, other))
    assert one.models_ == two.models_
    assert np.array_equal(one.intercept_, two.intercept_)


def test_no_fewer_negatives_than_positives(data):
    X, y = data
    y = 1 - y
    some = make("lgbm", negative_share=0.01).fit(X, y)
    assert some.models_ == make("lgbm").fit(X, y).models_


@pytest.mark.parametrize("transform", ["sqrt", "unit", "sqrt+pca:5", "pca:300"])
@pytest.mark.parametrize("early_stopping", [False, 5])
def test_transforms_of_embeddings(data, transform, early_stopping):
    X, y = data
    head = make("lgbm", input_transform=transform, early_stopping=early_stopping).fit(X, y)
    again = LightGBMHead.from_state(head.get_params(), head.get_state())
    X_new, y_new = make_data(1)
    assert np.array_equal(again.predict_proba(X_new), head.predict_proba(X_new))
    assert roc_auc_score(y_new, head.predict_proba(X_new)) > 0.8


def test_the_scale_of_a_feature_does_not_matter(data):
    X, y = data
    plain = make("lgbm").fit(X, y).decision_function(X)
    np.testing.assert_allclose(make("lgbm", input_transform="sqrt").fit(X, y).decision_function(X), plain, atol=1e-6)


def test_trees_of_another_width_than_the_transform(data):
    X, y = data
    head = make("lgbm", input_transform="pca:5").fit(X, y)
    other = make("lgbm").fit(X, y)
    with pytest.raises(InputError, match="max_feature_idx is 11, not 4"):
        LightGBMHead.from_state(head.get_params(), {**head.get_state(), "trees_0": other.models_[0]})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("early_stopping", -1),
        ("early_stopping", 2.5),
        ("early_stopping", "yes"),
        ("validation_folds", 1),
        ("negative_share", 0),
        ("negative_share", 1.5),
        ("extra_trees", 1),
        ("input_transform", "log"),
    ],
)
def test_parameters_out_of_range(data, name, value):
    with pytest.raises(InputError, match=name):
        make("lgbm", **{name: value}).fit(*data)
