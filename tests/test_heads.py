"""One contract for all heads, and what each of them promises beyond it."""

import subprocess
import sys

import numpy as np
import pytest
from head_data import NAMES, make, make_data
from scipy.special import expit
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

from birdemb.classify.head import SMALLEST_CONSTANT
from birdemb.classify.heads import HEADS, head_class, make_head
from birdemb.errors import InputError

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture
def data():
    return make_data(0)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "mlp" else name for name in NAMES]
)
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

    @pytest.mark.slow
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
        constants = [SMALLEST_CONSTANT, 1 - SMALLEST_CONSTANT, SMALLEST_CONSTANT]
        np.testing.assert_allclose(probabilities[:, 1:], np.tile(constants, (len(X), 1)), rtol=1e-9)
        assert np.ptp(probabilities[:, 0]) > 0

    def test_scores_are_the_logits_of_the_probabilities(self, name, data):
        X, y = data
        head = make(name).fit(X, y)
        np.testing.assert_allclose(expit(head.decision_function(X)), head.predict_proba(X), rtol=1e-12)

    def test_an_offset_of_zero_changes_nothing_that_matters(self, name, data):
        X, y = data
        zero = np.zeros(y.shape)
        with_zero = make(name).fit(X, y, offset=zero).predict_proba(X, zero)
        np.testing.assert_allclose(with_zero, make(name).fit(X, y).predict_proba(X), atol=0.05)

    def test_an_offset_is_learnt_upon(self, name, data):
        X, y = data
        y_new = make_data(1)[1]
        noise = np.random.default_rng(0).normal(size=X.shape).astype(np.float32)
        knows = 4.0 * y - 2.0
        head = make(name).fit(noise, y, offset=knows)
        assert head.takes_offset_
        scores = head.decision_function(noise, 4.0 * y_new - 2.0)
        assert roc_auc_score(y_new, scores, average="macro") > 0.9
        np.testing.assert_allclose(
            scores - head.decision_function(noise, np.zeros(y.shape)), 4.0 * y_new - 2.0, atol=1e-9
        )

    def test_a_class_without_positives_keeps_its_offset(self, name, data):
        X, y = data
        y = y.copy()
        y[:, 1] = 0
        offset = np.random.default_rng(0).normal(size=y.shape)
        scores = make(name).fit(X, y, offset=offset).decision_function(X, offset)
        assert np.array_equal(np.argsort(scores[:, 1]), np.argsort(offset[:, 1]))

    def test_offsets_that_do_not_fit(self, name, data):
        X, y = data
        offset = np.zeros(y.shape)
        with pytest.raises(InputError, match=r"offset has the shape \(80, 3\); expected \(80, 4\)"):
            make(name).fit(X, y, offset=offset[:, :3])
        with pytest.raises(InputError, match="offset holds NaN or infinity"):
            make(name).fit(X, y, offset=np.where(y == 1, np.nan, 0.0))
        with pytest.raises(InputError, match="offset reaches 1e\\+30; expected logits, at most 500"):
            make(name).fit(X, y, offset=offset + 1e30)
        with pytest.raises(InputError, match="not 1-D labels"):
            make(name).fit(X, y[:, 0], offset=offset[:, 0])
        with pytest.raises(InputError, match="fitted with an offset: give one"):
            make(name).fit(X, y, offset=offset).predict_proba(X)
        with pytest.raises(InputError, match="fitted without an offset"):
            make(name).fit(X, y).predict(X, offset)

    def test_groups_that_do_not_fit(self, name, data):
        with pytest.raises(InputError, match=r"groups has the shape \(3,\); expected \(80,\)"):
            make(name).fit(*data, groups=[1, 2, 3])

    def test_a_state_with_an_offset_comes_back(self, name, data):
        X, y = data
        offset = np.random.default_rng(0).normal(size=y.shape)
        head = make(name).fit(X, y, offset=offset)
        again = type(head).from_state(head.get_params(), head.get_state())
        assert np.array_equal(again.predict_proba(X, offset), head.predict_proba(X, offset))
        with pytest.raises(InputError, match="give one"):
            again.predict_proba(X)

    def test_the_weight_of_positives(self, name, data):
        X, y = data
        low = make(name, positive_weight=0.1).fit(X, y).predict_proba(X)
        high = make(name, positive_weight=[10.0, 0.1, 0.1, 0.1]).fit(X, y).predict_proba(X)
        assert high[:, 0].mean() > low[:, 0].mean()
        with pytest.raises(InputError, match="positive_weight has 2 numbers; expected one, or one for each of the 4"):
            make(name, positive_weight=[1.0, 2.0]).fit(X, y)
        with pytest.raises(InputError, match="positive_weight is 0"):
            make(name, positive_weight=0).fit(X, y)

    @pytest.mark.parametrize("rule", ["sqrt", "effective", None])
    def test_rules_of_reweighting(self, name, rule, data):
        X, y = data
        head = make(name, class_weight=rule).fit(X, y)
        assert roc_auc_score(y, head.predict_proba(X), average="macro") > 0.9

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
        message = r"^X holds NaN or infinity in 1 of 80 rows, the first of them 3, counted from 0\. [^.]*\.$"
        with pytest.raises(InputError, match=message):
            head.predict_proba(spoilt)
        with pytest.raises(InputError, match=message):
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
        ("lgbm", {"num_leaves": 131_073}),
        ("lr", {"random_state": -1}),
        ("lgbm", {"random_state": 2**32}),
        ("mlp", {"random_state": "odd"}),
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


@pytest.mark.slow
def test_names_import_nothing_heavy():
    code = "import sys, birdemb.classify; assert not {'sklearn', 'numpy', 'lightgbm', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import sys, birdemb.classify.heads; assert not {'lightgbm', 'torch', 'birdemb.embed'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_message_names_all_limits(data):
    with pytest.raises(InputError, match=r"^feature_fraction is 1.5. It has to be a number above 0 and at most 1.$"):
        make("lgbm", feature_fraction=1.5).fit(*data)
    with pytest.raises(InputError, match=r"a whole number of at least 2 and at most 131072.$"):
        make("lgbm", num_leaves=10**6).fit(*data)
