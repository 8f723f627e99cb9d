"""One contract for all heads, and what each of them promises beyond it."""

import re
import subprocess
import sys

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from birdemb.classify.head import SMALLEST_CONSTANT
from birdemb.classify.heads import HEADS, head_class, make_head
from birdemb.classify.transform import signed_square_root
from birdemb.classify.tree_text import check_trees, shorten
from birdemb.errors import InputError, MissingDependencyError

try:
    import torch
except ImportError:
    torch = None

NAMES = ["lr", "lgbm"] if torch is None else ["lr", "lgbm", "mlp"]
needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed")

# Small heads: the contract does not depend on their size.
FAST = {
    "lr": {},
    "lgbm": {"n_estimators": 20, "feature_fraction": 0.5},
    "mlp": {"hidden": (16,), "epochs": 40, "batch_size": 32, "learning_rate": 0.01},
}


def make(name, **params):
    return make_head(name, **{"random_state": 0, **FAST[name], **params})


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread():
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data():
    return make_data(0)


def make_data(seed, n=80, dim=12, classes=4):
    """Skewed, non-negative embeddings; each class raises two features of its own."""
    rng = np.random.default_rng(seed)
    y = (rng.random((n, classes)) < 0.3).astype(int)
    y[0], y[1] = 1, 0
    X = rng.exponential(size=(n, dim))
    X[:, : 2 * classes] += 3 * np.repeat(y, 2, axis=1)
    return X.astype(np.float32), y


# Dropout is drawn for each row, so that a row repeated is never quite the row weighted: off for the checks.
CHECKED = [make_head("lr"), make_head("lgbm", n_estimators=50)]
if torch is not None:
    CHECKED.append(make_head("mlp", hidden=(32,), dropout=0.0))


def expected_failures(head):
    if head.name == "lgbm":
        return {
            "check_sample_weight_equivalence_on_dense_data": "15 rows of 30 features give splits of equal gain, among "
            "which LightGBM's float32 gradients choose by their last digit; "
            "see test_lgbm_weight_is_repetition_where_no_gains_are_equal"
        }
    return {}


@parametrize_with_checks(CHECKED, expected_failed_checks=expected_failures)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", NAMES)
class TestContract:
    def test_learns_and_has_the_promised_shapes(self, name, data):
        X, y = data
        head = make(name).fit(X, y)
        X_new, y_new = make_data(1)
        probabilities = head.predict_proba(X_new)
        assert probabilities.shape == y_new.shape
        assert probabilities.dtype == np.float64
        assert probabilities.min() >= 0
        assert probabilities.max() <= 1
        assert roc_auc_score(y_new, probabilities, average="macro") > 0.9
        assert np.array_equal(head.predict(X_new), probabilities > 0.5)
        assert head.classes_.tolist() == [0, 1, 2, 3]
        assert head.n_features_in_ == 12
        assert head.fitted_classes_.all()

    @pytest.mark.parametrize("labels", [["ant", "bee"], ["ant", "bee", "cat"], [3, 7, 11], ["ant"]])
    def test_one_label_for_each_window(self, name, labels):
        rng = np.random.default_rng(0)
        index = np.arange(60) % len(labels)
        X = rng.normal(size=(60, 5))
        X[np.arange(60), index] += 6
        y = np.array(labels)[index]
        head = make(name).fit(X, y)
        probabilities = head.predict_proba(X)
        assert probabilities.shape == (60, len(labels))
        assert probabilities.sum(axis=1) == pytest.approx(np.ones(60))
        assert head.classes_.tolist() == sorted(labels)
        assert (head.predict(X) == y).mean() > 0.9

    def test_one_class_as_a_column(self, name, data):
        X, y = data
        head = make(name).fit(X, y[:, :1])
        assert head.predict_proba(X).shape == (len(X), 1)
        assert head.predict(X).shape == (len(X), 1)

    def test_masked_entries_are_ignored(self, name, data):
        X, y = data
        rng = np.random.default_rng(2)
        weights = rng.integers(0, 2, size=y.shape) * rng.random(y.shape)
        other = np.where(weights == 0, 1 - y, y)
        assert (other != y).any()
        first = make(name).fit(X, y, weights).predict_proba(X)
        second = make(name).fit(X, other, weights).predict_proba(X)
        assert np.array_equal(first, second)

    def test_windows_without_weight_are_as_good_as_absent(self, name, data):
        X, y = data
        weights = np.ones(len(X))
        weights[20:40] = 0
        some = np.flatnonzero(weights)
        first = make(name).fit(X, y, weights).predict_proba(X)
        second = make(name).fit(X[some], y[some]).predict_proba(X)
        assert np.array_equal(first, second)

    def test_weights_of_windows_are_weights_of_all_their_entries(self, name, data):
        X, y = data
        weights = np.random.default_rng(3).integers(1, 4, size=len(X)).astype(float)
        first = make(name).fit(X, y, weights).predict_proba(X)
        second = make(name).fit(X, y, np.repeat(weights[:, None], y.shape[1], axis=1)).predict_proba(X)
        assert np.array_equal(first, second)

    def test_fit_forgets(self, name, data):
        X, y = data
        head = make(name).fit(*make_data(5, n=50, dim=7, classes=2))
        assert np.array_equal(head.fit(X, y).predict_proba(X), make(name).fit(X, y).predict_proba(X))

    def test_clone_is_unfitted_and_the_same(self, name, data):
        X, y = data
        head = make(name).fit(X, y)
        copy = clone(head)
        with pytest.raises(NotFittedError):
            copy.predict_proba(X)
        assert np.array_equal(copy.fit(X, y).predict_proba(X), head.predict_proba(X))

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("kind", ["varied", "constant"])
    def test_state_makes_the_same_head(self, name, data, dtype, kind):
        X, y = data
        if kind == "constant":
            y = np.zeros_like(y)
        head = make(name).fit(X.astype(dtype), y)
        state = head.get_state()
        assert all(isinstance(part, str) or part.dtype.kind in "biuf" for part in state.values())
        again = type(head).from_state(head.get_params(), state)
        assert np.array_equal(again.predict_proba(X), head.predict_proba(X))
        assert np.array_equal(again.predict(X), head.predict(X))
        assert np.array_equal(again.classes_, head.classes_)

    @pytest.mark.parametrize("classes", [1, 2, 3])
    def test_a_head_of_labels_has_no_state(self, name, data, classes):
        X, _ = data
        with pytest.raises(InputError, match="1-D labels"):
            make(name).fit(X, np.arange(len(X)) % classes).get_state()

    @pytest.mark.parametrize("n_jobs", [1, 2, -1])
    def test_threads_of_fit_and_of_prediction(self, name, data, n_jobs):
        X, y = data
        head = make(name).fit(X, y)
        expected = head.predict_proba(X)
        np.testing.assert_allclose(make(name, n_jobs=n_jobs).fit(X, y).predict_proba(X), expected, rtol=1e-4)
        np.testing.assert_allclose(head.set_params(n_jobs=n_jobs).predict_proba(X), expected, rtol=1e-6)

    @pytest.mark.parametrize("n_jobs", [0, "all", 1.5, True])
    def test_bad_n_jobs(self, name, data, n_jobs):
        with pytest.raises(InputError, match="n_jobs"):
            make(name, n_jobs=n_jobs).fit(*data)

    def test_state_that_lacks_a_part_or_has_too_much(self, name, data):
        head = make(name).fit(*data)
        state = head.get_state()
        for part in state:
            with pytest.raises(InputError):
                type(head).from_state(head.get_params(), {key: v for key, v in state.items() if key != part})
        with pytest.raises(InputError, match="nothing uses: rest"):
            type(head).from_state(head.get_params(), {**state, "rest": "x"})
        with pytest.raises(InputError, match="no parameter"):
            type(head).from_state({**head.get_params(), "rest": 1}, state)

    def test_state_with_arrays_of_another_shape_or_content(self, name, data):
        head = make(name).fit(*data)
        state = head.get_state()
        for part, value in state.items():
            if not isinstance(value, str):
                for wrong in (np.append(value.ravel(), 1), np.full(value.shape, np.nan), "text"):
                    with pytest.raises(InputError):
                        type(head).from_state(head.get_params(), {**state, part: wrong})

    @pytest.mark.parametrize(
        ("part", "wrong"),
        [("n_features", np.array(0)), ("n_classes", np.array(-1)), ("constant", np.array([0.1, 0.2, 0.3, 2.0]))],
    )
    def test_state_with_numbers_out_of_range(self, name, data, part, wrong):
        head = make(name).fit(*data)
        with pytest.raises(InputError, match=part):
            type(head).from_state(head.get_params(), {**head.get_state(), part: wrong})

    def test_a_seed_decides(self, name, data):
        X, y = data
        first = make(name, random_state=1).fit(X, y).predict_proba(X)
        assert np.array_equal(first, make(name, random_state=1).fit(X, y).predict_proba(X))
        if name != "lr":
            assert not np.array_equal(first, make(name, random_state=2).fit(X, y).predict_proba(X))

    def test_classes_that_cannot_be_fitted_get_their_prior(self, name, data):
        X, y = data
        y = y.copy()
        y[:, 1], y[:, 2] = 0, 1
        weights = np.ones(y.shape)
        weights[:, 3] = 0
        head = make(name).fit(X, y, weights)
        probabilities = head.predict_proba(X)
        assert head.fitted_classes_.tolist() == [True, False, False, False]
        assert (probabilities[:, 1:] == [SMALLEST_CONSTANT, 1 - SMALLEST_CONSTANT, SMALLEST_CONSTANT]).all()
        assert np.ptp(probabilities[:, 0]) > 0

    def test_a_class_whose_positives_are_all_masked(self, name, data):
        X, y = data
        weights = np.where(y == 1, [[0.0, 1.0, 1.0, 1.0]], 1.0)
        head = make(name).fit(X, y, weights)
        assert head.fitted_classes_.tolist() == [False, True, True, True]

    def test_a_class_with_one_positive(self, name, data):
        X, y = data
        y = y.copy()
        y[:, 0] = 0
        y[7, 0] = 1
        X = X.copy()
        X[7, :2] += 8
        probabilities = make(name).fit(X, y).predict_proba(X)[:, 0]
        assert probabilities.argmax() == 7

    def test_balance_raises_rare_classes(self, name):
        rng = np.random.default_rng(0)
        y = (np.arange(200) < 8).astype(int)[:, None]
        X = rng.exponential(size=(200, 6)) + y
        balanced = make(name).fit(X, y).predict_proba(X)
        plain = make(name, class_weight=None).fit(X, y).predict_proba(X)
        assert balanced[:8].mean() > plain[:8].mean() + 0.1

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_values_that_are_no_numbers(self, name, data, bad):
        X, y = data
        head = make(name).fit(X, y)
        spoilt = X.copy()
        spoilt[3, 4] = bad
        with pytest.raises(InputError, match=r"NaN|infinity"):
            head.predict_proba(spoilt)
        with pytest.raises(InputError, match=r"NaN|infinity"):
            make(name).fit(spoilt, y)

    def test_wrong_width(self, name, data):
        X, y = data
        with pytest.raises(InputError, match="12 features"):
            make(name).fit(X, y).predict_proba(X[:, :5])

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            (np.full(80, np.nan), "NaN"),
            (np.r_[-1.0, np.ones(79)], "negative"),
            (np.zeros(80), "zero everywhere"),
            (np.zeros((80, 4)), "zero everywhere"),
            (np.ones(79), r"shape \(79,\)"),
            (np.ones((80, 3)), r"shape \(80, 3\)"),
            (["heavy"] * 80, "no array of numbers"),
        ],
    )
    def test_bad_weights(self, name, data, weights, message):
        with pytest.raises(InputError, match=message):
            make(name).fit(*data, sample_weight=weights)

    def test_weights_of_entries_need_an_indicator(self, name, data):
        X, _ = data
        with pytest.raises(InputError, match="has to be"):
            make(name).fit(X, np.arange(80) % 2, np.ones((80, 2)))

    @pytest.mark.parametrize("y", [np.full((80, 2), 2), np.full((80, 2), 0.5), np.empty((80, 0)), np.zeros((80, 2, 2))])
    def test_bad_targets(self, name, data, y):
        with pytest.raises(InputError):
            make(name).fit(data[0], y)

    def test_a_dict_of_weights_is_for_labels(self, name, data):
        with pytest.raises(InputError, match="indicator"):
            make(name, class_weight={0: 1, 1: 2}).fit(*data)

    @pytest.mark.parametrize("class_weight", ["balance", 3, np.ones(2)])
    def test_bad_class_weight(self, name, data, class_weight):
        with pytest.raises(InputError, match="class_weight"):
            make(name, class_weight=class_weight).fit(*data)

    def test_name_leads_back_to_the_class(self, name):
        assert head_class(name).name == name
        assert type(make_head(name)) is head_class(name)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("lr", {"C": 0}),
        ("lr", {"C": "strong"}),
        ("lr", {"C": float("nan")}),
        ("lr", {"max_iter": 0}),
        ("lr", {"C": float("inf")}),
        ("lr", {"C": 10**400}),
        ("lr", {"input_transform": "log"}),
        ("lgbm", {"n_estimators": 0}),
        ("lgbm", {"num_leaves": 1}),
        ("lgbm", {"feature_fraction": 1.5}),
        ("lgbm", {"learning_rate": -1}),
        ("mlp", {"hidden": 256}),
        ("mlp", {"hidden": (0,)}),
        ("mlp", {"dropout": 1.0}),
        ("mlp", {"epochs": 1.5}),
        ("mlp", {"batch_size": True}),
    ],
)
def test_parameters_out_of_range(name, params, data):
    with pytest.raises(InputError, match=next(iter(params))):
        make(name, **params).fit(*data)


def test_unknown_head_and_parameter():
    with pytest.raises(InputError, match=r"no head 'lgb'. Did you mean 'lgbm'\? The heads are: lgbm, lr, mlp"):
        make_head("lgb")
    with pytest.raises(InputError, match=r"no parameter 'max_itre'. Did you mean 'max_iter'"):
        make_head("lr", max_itre=3)
    assert set(HEADS) == {"lr", "mlp", "lgbm"}


def test_names_import_nothing_heavy():
    code = "import sys, birdemb.classify; assert not {'sklearn', 'numpy', 'lightgbm', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import sys, birdemb.classify.heads; assert not {'lightgbm', 'torch', 'birdemb.embed'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@given(seed=st.integers(0, 2**32 - 1), weighted=st.booleans(), C=st.sampled_from([1e-4, 1e-2, 1.0]))
@settings(max_examples=15, deadline=None)
def test_lr_is_scikit_learns_own_one_by_one(seed, weighted, C):
    X, y = make_data(seed)
    X = X.astype(np.float64)
    weights = np.random.default_rng(seed).uniform(0.5, 2, size=len(X)) if weighted else np.ones(len(X))
    head = make_head("lr", C=C, max_iter=1000).fit(X, y, weights)
    for column in range(y.shape[1]):
        pipeline = make_pipeline(
            FunctionTransformer(signed_square_root),
            StandardScaler(),
            LogisticRegression(C=C, class_weight="balanced", max_iter=1000),
        )
        own = {"standardscaler__sample_weight": weights, "logisticregression__sample_weight": weights}
        expected = pipeline.fit(X, y[:, column], **own).predict_proba(X)[:, 1]
        np.testing.assert_allclose(head.predict_proba(X)[:, column], expected, rtol=1e-4)


def test_lr_does_not_depend_on_jobs(data):
    X, y = data
    assert np.array_equal(
        make("lr", n_jobs=2).fit(X, y).predict_proba(X), make("lr", n_jobs=1).fit(X, y).predict_proba(X)
    )


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_lgbm_trees_are_those_from_scratch(seed):
    X, y = make_data(seed)
    weights = np.random.default_rng(seed).integers(0, 3, size=y.shape).astype(float)
    weights[:2] = 1
    head = make("lgbm", class_weight=None).fit(X, y, weights)
    known = weights.any(axis=1)
    params = head._make_params(X.size)
    for column, text in enumerate(head.models_):
        windows = lgb.Dataset(X[known], label=y[known, column], weight=weights[known, column], params=params)
        assert text == shorten(lgb.train(params, windows, head.n_estimators).model_to_string())


def test_lgbm_trees_do_not_depend_on_jobs_or_order_of_classes(data):
    X, y = data
    one = make("lgbm", n_jobs=1).fit(X, y).models_
    assert one == make("lgbm", n_jobs=2).fit(X, y).models_
    assert one[::-1] == make("lgbm").fit(X, y[:, ::-1]).models_


def test_lgbm_weight_is_repetition_where_no_gains_are_equal():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    y = (X[:, :1] + 0.5 * rng.normal(size=(60, 1)) > 0).astype(int)
    weights = rng.integers(1, 4, size=60)
    weighted = make("lgbm", feature_fraction=1.0).fit(X, y, weights).predict_proba(X)
    repeated = make("lgbm", feature_fraction=1.0).fit(X.repeat(weights, axis=0), y.repeat(weights, axis=0))
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


@pytest.mark.parametrize("field", ["leaf_value", "threshold"])
@pytest.mark.parametrize("value", ["nan", "NaN", "inf", "-inf", "1e999"])
def test_lgbm_values_that_are_not_finite(data, field, value):
    head = make("lgbm").fit(*data)
    spoilt = re.sub(rf"^{field}=[^ \n]+", f"{field}={value}", head.models_[0], count=1, flags=re.MULTILINE)
    assert spoilt != head.models_[0]
    with pytest.raises(InputError, match=f"'{value}' is no such number"):
        check_trees(with_true_sizes(spoilt), 12)


def test_the_message_names_all_limits(data):
    with pytest.raises(InputError, match=r"^feature_fraction is 1.5. It has to be a number above 0 and at most 1.$"):
        make("lgbm", feature_fraction=1.5).fit(*data)


@needs_torch
def test_mlp_leaves_the_state_of_torch_alone(data):
    torch.manual_seed(3)
    before = torch.random.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    make("mlp", n_jobs=2).fit(*data)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before[1:]


@needs_torch
def test_mlp_trains_in_as_many_threads_as_asked(data, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    make("mlp", n_jobs=3, epochs=1).fit(*data)
    assert asked == [3, torch.get_num_threads()]


@needs_torch
@pytest.mark.parametrize(
    ("params", "shapes"),
    [
        ({"hidden": ()}, [(12, 4)]),
        ({"hidden": (8, 5)}, [(12, 8), (8, 5), (5, 4)]),
        ({"dropout": 0.0}, [(12, 16), (16, 4)]),
        ({"input_transform": "none"}, [(12, 16), (16, 4)]),
    ],
)
def test_mlp_of_other_forms(data, params, shapes):
    X, y = data
    head = make("mlp", **params).fit(X, y)
    assert [coef.shape for coef in head.coefs_] == shapes
    again = type(head).from_state(head.get_params(), head.get_state())
    assert np.array_equal(again.predict_proba(X), head.predict_proba(X))


@needs_torch
def test_mlp_predicts_without_torch(data, tmp_path):
    X, y = data
    head = make("mlp").fit(X, y)
    state = head.get_state()
    np.savez(tmp_path / "state.npz", X_new=X, expected=head.predict_proba(X), **state)
    code = f"""
import sys
import importlib.abc
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ImportError("torch is blocked")
sys.meta_path.insert(0, Blocker())
import numpy as np
from birdemb.classify.mlp import MLPHead
state = dict(np.load(r"{tmp_path / "state.npz"}"))
X, expected = state.pop("X_new"), state.pop("expected")
head = MLPHead.from_state({head.get_params()!r}, state)
assert np.array_equal(head.predict_proba(X), expected)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_mlp_names_the_extra_when_torch_is_missing(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'birdemb\[torch\]'"):
        make("mlp").fit(*data)
