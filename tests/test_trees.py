"""What the LightGBM head promises beyond the contract of all heads."""

import re

import lightgbm as lgb
import numpy as np
import pytest
from head_data import make, make_data
from hypothesis import given, settings
from hypothesis import strategies as st

from birdemb.classify.reweighting import reweight
from birdemb.classify.tree_growing import find_intercept
from birdemb.classify.tree_text import check_trees, shorten
from birdemb.errors import InputError


@pytest.fixture
def data():
    return make_data(0)


def grow_from_scratch(head, X, targets, weights, offset, rounds):
    params = {**head._make_params(), "num_threads": 1}
    start = offset + find_intercept(targets, weights, offset)
    windows = lgb.Dataset(X, label=targets, weight=weights, init_score=start, params=params)
    return shorten(lgb.train(params, windows, rounds).model_to_string())


@given(seed=st.integers(0, 2**32 - 1), known=st.booleans())
@settings(max_examples=10, deadline=None)
def test_lgbm_trees_are_those_from_scratch(seed, known):
    X, y = make_data(seed)
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 3, size=y.shape).astype(float)
    weights[:2] = 1
    offset = rng.normal(-2, 2, size=y.shape) if known else None
    head = make("lgbm", class_weight=None).fit(X, y, weights, offset)
    rows = weights.any(axis=1)
    for column, text in enumerate(head.models_):
        start = np.zeros(rows.sum()) if offset is None else offset[rows, column]
        targets = y[rows, column] == 1
        assert text == grow_from_scratch(head, X[rows], targets, weights[rows, column], start, head.n_estimators)


@pytest.mark.slow
@pytest.mark.parametrize("class_weight", ["balanced", None])
def test_lgbm_starts_where_lightgbm_itself_would(data, class_weight):
    X, y = data
    head = make("lgbm", class_weight=class_weight).fit(X, y)
    weights = reweight(y == 1, np.ones(y.shape), class_weight)
    for column in range(4):
        windows = lgb.Dataset(X, label=y[:, column], weight=weights[:, column], params=head._make_params())
        expected = lgb.train(head._make_params(), windows, head.n_estimators).predict(X, raw_score=True)
        np.testing.assert_allclose(head.decision_function(X)[:, column], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_lgbm_trees_do_not_depend_on_jobs_or_order_of_classes(data):
    X, y = data
    offset = np.random.default_rng(1).normal(size=y.shape)
    for params in ({}, {"early_stopping": 5}, {"negative_share": 0.5}, {"negative_share": 0.5, "early_stopping": 5}):
        one = make("lgbm", n_jobs=1, **params).fit(X, y, offset=offset)
        for jobs in (2, 3, 4):
            other = make("lgbm", n_jobs=jobs, **params).fit(X, y, offset=offset)
            assert one.models_ == other.models_
            assert np.array_equal(one.intercept_, other.intercept_)
        turned = make("lgbm", **params).fit(X, y[:, ::-1], offset=offset[:, ::-1])
        assert one.models_[::-1] == turned.models_
        assert np.array_equal(one.intercept_[::-1], turned.intercept_)


def test_lgbm_weight_is_repetition_where_no_gains_are_equal():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    y = (X[:, :1] + 0.5 * rng.normal(size=(60, 1)) > 0).astype(int)
    weights = rng.integers(1, 4, size=60)
    params = {"feature_fraction": 1.0, "extra_trees": False}
    weighted = make("lgbm", **params).fit(X, y, weights).predict_proba(X)
    repeated = make("lgbm", **params).fit(X.repeat(weights, axis=0), y.repeat(weights, axis=0))
    np.testing.assert_allclose(weighted, repeated.predict_proba(X), rtol=1e-4)


def with_true_sizes(text):
    """Let the header name the lengths of the trees as they are now."""
    trees = text[text.index("Tree=0") : text.rindex("end of tree")]
    sizes = " ".join(str(len(tree)) for tree in re.split(r"(?=Tree=)", trees)[1:])
    return re.sub("tree_sizes=.*", f"tree_sizes={sizes}", text)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (r"split_feature=\d+", "split_feature=99", "feature that embeddings do not have"),
        (r"split_feature=\d+", "split_feature=-1", "feature that embeddings do not have"),
        (r"left_child=-?\d+", "left_child=0", "loop"),
        (r"left_child=-?\d+", "left_child=7", "hang together"),
        (r"right_child=-?\d+", "right_child=-9", "hang together"),
        (r"left_child=", "left_child=0 ", "lacks splits"),
        (r"num_leaves=\d+", "num_leaves=9", "lacks values of leaves"),
        (r"num_leaves=\d+", "num_leaves=0_3", "'0_3' is no such number"),
        (r"num_leaves=\d+", "num_leaves=3 3", "."),
        (r"num_cat=0", "num_cat=1", "not plain and numeric"),
        (r"is_linear=0", "is_linear=1", "not plain and numeric"),
        (r"decision_type=\d+", "decision_type=1", "unknown kind"),
        (r"decision_type=\d+", "decision_type=16", "unknown kind"),
        (r"leaf_value=", "leaf_value=x ", "'x' is no such number"),
        (r"leaf_value=", "leaf_value=0 ", "lacks values of leaves"),
        (r"threshold=", "threshold=0 ", "lacks splits"),
        (r"leaf_count=", "leaf_count=3 ", "wrong number of leaf_count"),
        (r"tree_sizes=", "tree_sizes=9", "."),
        (r"tree_sizes=\d+", "tree_sizes=-9", "not where it should be"),
        (r"max_feature_idx=", "max_feature_idx=9", "max_feature_idx is 911"),
        (r"objective=binary sigmoid:1", "objective=regression", "objective is regression"),
        (r"end of trees", "end of tree", "something else follows"),
        (r"Tree=1\n", "Tree=2\n", "tree 1 is not where it should be"),
    ],
)
def test_lgbm_text_that_does_not_hold_together(data, before, after, message):
    head = make("lgbm").fit(*data)
    text = head.models_[0]
    check_trees(text, 12)
    assert with_true_sizes(text) == text
    spoilt = re.sub(before, after, text, count=1)
    assert spoilt != text
    if "tree_sizes" not in before:
        spoilt = with_true_sizes(spoilt)
    with pytest.raises(InputError, match=f"hold together.*{message}"):
        check_trees(spoilt, 12)
    with pytest.raises(InputError, match="hold together"):
        type(head).from_state(head.get_params(), {**head.get_state(), "trees_0": spoilt})


def test_lgbm_text_without_a_tree(data):
    X, y = data
    head = make("lgbm").fit(X, y)
    windows = lgb.Dataset(X, label=y[:, 0], params=head._make_params())
    text = shorten(lgb.Booster(head._make_params(), windows).model_to_string())
    again = type(head).from_state(head.get_params(), {**head.get_state(), "trees_0": text})
    assert again.decision_function(X)[:, 0] == pytest.approx(np.full(len(X), head.intercept_[0]))
    assert np.array_equal(again.decision_function(X)[:, 1:], head.decision_function(X)[:, 1:])
    for spoilt in (text.replace("tree_sizes=", "tree_sizes=9"), text + "x", "", text.replace("end of trees\n", "")):
        with pytest.raises(InputError, match="hold together"):
            check_trees(spoilt, 12)


@pytest.mark.parametrize("field", ["leaf_value", "threshold"])
@pytest.mark.parametrize("value", ["nan", "NaN", "inf", "-inf", "1e999"])
def test_lgbm_values_that_are_not_finite(data, field, value):
    head = make("lgbm").fit(*data)
    spoilt = re.sub(rf"^{field}=[^ \n]+", f"{field}={value}", head.models_[0], count=1, flags=re.MULTILINE)
    assert spoilt != head.models_[0]
    with pytest.raises(InputError, match=f"'{value}' is no such number"):
        check_trees(with_true_sizes(spoilt), 12)


@pytest.mark.parametrize("jobs", [1, 2])
def test_weights_of_one_are_not_those_of_the_class_before(data, jobs):
    X, y = data
    weights = np.ones(y.shape)
    weights[y[:, 1] == 1, 0] = 0  # the first class is unknown wherever the second is present
    params = {"class_weight": None, "n_jobs": jobs}
    both = make("lgbm", **params).fit(X, y[:, :2], weights[:, :2])
    alone = make("lgbm", **params).fit(X, y[:, 1:2], weights[:, 1:2])
    assert np.array_equal(both.predict_proba(X)[:, 1], alone.predict_proba(X)[:, 0])
