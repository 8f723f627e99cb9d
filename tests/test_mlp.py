"""What the network head promises beyond the contract of all heads."""

import subprocess
import sys

import numpy as np
import pytest
from head_data import make, make_data, needs_torch, torch
from scipy.special import logit
from sklearn.metrics import roc_auc_score

from birdemb.classify.mlp import MLPHead, _balance
from birdemb.errors import InputError, MissingDependencyError

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture
def data():
    return make_data(0)


@needs_torch
def test_mlp_leaves_the_state_of_torch_alone(data):
    torch.manual_seed(3)
    before = torch.random.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    make("mlp", n_jobs=2, epochs=2).fit(*data)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before[1:]


@needs_torch
def test_mlp_trains_in_as_many_threads_as_asked(data, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    make("mlp", n_jobs=3, epochs=1).fit(*data)
    assert asked == [3, torch.get_num_threads()]


@pytest.mark.slow
@needs_torch
@pytest.mark.parametrize(
    ("params", "shapes"),
    [
        ({"hidden": ()}, [(12, 4)]),
        ({"hidden": (8, 5)}, [(12, 8), (8, 5), (5, 4)]),
        ({"dropout": 0.0}, [(12, 16), (16, 4)]),
        ({"input_transform": "none"}, [(12, 16), (16, 4)]),
        ({"input_transform": "sqrt+pca:5"}, [(5, 16), (16, 4)]),
        ({"seeds": 3}, [(12, 48), (48, 4)]),
        ({"seeds": 3, "hidden": (8, 5)}, [(12, 24), (24, 15), (15, 4)]),
        ({"seeds": 3, "hidden": ()}, [(12, 4)]),
    ],
)
def test_mlp_of_other_forms(data, params, shapes):
    X, y = data
    head = make("mlp", **params).fit(X, y)
    assert [coef.shape for coef in head.coefs_] == shapes
    again = type(head).from_state(head.get_params(), head.get_state())
    assert np.array_equal(again.predict_proba(X), head.predict_proba(X))


@pytest.mark.slow
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


@pytest.mark.slow
@needs_torch
@pytest.mark.parametrize(
    "params",
    [
        {"loss": "focal"},
        {"loss": "asymmetric"},
        {"label_smoothing": 0.1},
        {"mixup": 0.0},
        {"mixup_labels": "proportion"},
        {"sampling": "balanced"},
        {"early_stopping": True},
        {"seeds": 3},
        {"device": "cpu", "class_weight": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("with_offset", [False, True])
def test_every_way_of_training_learns_and_repeats(data, params, with_offset):
    X, y = data
    X_new, y_new = make_data(1, n=200)
    offset = np.full(y.shape, -1.0) if with_offset else None
    offset_new = np.full(y_new.shape, -1.0) if with_offset else None
    head = make("mlp", **params).fit(X, y, offset=offset, groups=np.arange(80) // 2)
    probabilities = head.predict_proba(X_new, offset_new)
    assert roc_auc_score(y_new, probabilities, average="macro") > 0.9
    again = make("mlp", **params).fit(X, y, offset=offset, groups=np.arange(80) // 2)
    assert np.array_equal(again.predict_proba(X_new, offset_new), probabilities)


@pytest.mark.slow
@needs_torch
@pytest.mark.parametrize(
    "params",
    [{"loss": "focal"}, {"label_smoothing": 0.1}, {"mixup_labels": "proportion"}, {"sampling": "balanced"}],
    ids=str,
)
def test_masked_entries_are_ignored_in_every_way_of_training(data, params):
    X, y = data
    weights = (np.random.default_rng(2).random(y.shape) < 0.7).astype(float)
    other = np.where(weights == 0, 1 - y, y)
    first = make("mlp", **params).fit(X, y, weights).predict_proba(X)
    assert np.array_equal(make("mlp", **params).fit(X, other, weights).predict_proba(X), first)


@needs_torch
@pytest.mark.parametrize("hidden", [(6,), (6, 5)])
def test_several_networks_give_the_mean_of_their_scores(data, hidden):
    X, y = data
    head = make("mlp", hidden=hidden, seeds=3, dropout=0.0).fit(X, y)
    inputs = head._transform_.apply(X)
    scores = []
    for network in range(3):
        units = inputs
        for weights, biases in head._layers_[:-1]:
            units = np.maximum(units @ weights[network] + biases[network], 0)
        scores.append(units @ head._layers_[-1][0][network] + head._layers_[-1][1][network])
    np.testing.assert_allclose(head.decision_function(X), np.mean(scores, axis=0), rtol=1e-4, atol=1e-5)
    assert not np.allclose(scores[0], scores[1], atol=1e-3)


@pytest.mark.slow
@needs_torch
def test_labels_of_one_class_are_never_mixed(data):
    X, y = data
    labels = y @ [1, 2, 0, 0]
    mixed, plain = (make("mlp", mixup=alpha).fit(X, labels).predict_proba(X) for alpha in (1.0, 0.0))
    assert np.array_equal(mixed, plain)
    mixed, plain = (make("mlp", mixup=alpha).fit(X, y).predict_proba(X) for alpha in (1.0, 0.0))
    assert not np.array_equal(mixed, plain)


@needs_torch
def test_a_network_begins_at_the_prior_of_each_class(data):
    X, y = data
    head = make("mlp", class_weight=None, epochs=1, learning_rate=1e-9).fit(X, y)
    np.testing.assert_allclose(head.decision_function(X), np.tile(logit(y.mean(axis=0)), (80, 1)), rtol=1e-3)


@pytest.mark.slow
@needs_torch
@pytest.mark.parametrize(("n", "epochs"), [(20, 300), (640, 100), (13_000, 10)])
def test_small_data_take_many_epochs(n, epochs):
    head = MLPHead(hidden=(2,), mixup=0.0, random_state=0).fit(*make_data(0, n=n, dim=8))
    assert head.n_epochs_ == epochs


@needs_torch
def test_early_stopping_chooses_fewer_epochs_where_nothing_can_be_learnt():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(120, 30)), rng.integers(0, 2, size=(120, 2))
    head = make("mlp", epochs=60, mixup=0.0, early_stopping=True).fit(X, y, groups=np.arange(120) // 4)
    assert head.n_epochs_ < 30


@needs_torch
@pytest.mark.parametrize("groups", [np.zeros(80, int), np.arange(80) // 20, None])
def test_early_stopping_without_a_class_to_judge_by_takes_all_epochs(data, groups):
    X, y = data
    if groups is None:  # a class whose positives are one group, and so on one side
        y, groups = (np.arange(80) < 8).astype(int)[:, None], np.arange(80) // 8
    head = make("mlp", epochs=7, early_stopping=True).fit(X, y, groups=groups)
    assert head.n_epochs_ == 7


def test_balanced_chances_raise_rare_classes():
    positive = np.zeros((14, 2), bool)
    positive[:9, 0] = True
    positive[8, 1] = True
    chances = _balance(positive)
    assert chances.sum() == pytest.approx(1)
    np.testing.assert_allclose(chances / chances[8], [1 / 3] * 8 + [1] + [1 / np.sqrt(5)] * 5)
    np.testing.assert_allclose(_balance(np.ones((4, 1), bool)), 0.25)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"loss": "hinge"}, "loss is 'hinge'. Use 'bce', 'focal' or 'asymmetric'."),
        ({"gamma": -1}, "gamma is -1. It has to be a number at least 0."),
        ({"gamma_negative": np.nan}, "gamma_negative is nan"),
        ({"gamma_positive": "2"}, "gamma_positive is '2'"),
        ({"clip": 1.0}, "clip is 1.0. It has to be a number at least 0 and below 1."),
        ({"label_smoothing": 1}, "label_smoothing is 1"),
        ({"mixup": -0.1}, "mixup is -0.1"),
        ({"mixup": True}, "mixup is True"),
        ({"mixup_labels": "both"}, "mixup_labels is 'both'. Use 'union' or 'proportion'."),
        ({"sampling": None}, "sampling is None. Use 'uniform' or 'balanced'."),
        ({"early_stopping": 1}, "early_stopping is 1. Use True or False."),
        ({"seeds": 0}, "seeds is 0. It has to be a whole number of at least 1."),
        ({"device": "tpu"}, "device is 'tpu'. Use 'auto', 'cpu' or 'cuda'."),
        ({"weight_decay": -1}, "weight_decay is -1"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"input_transform": "log"}, "input_transform is 'log'"),
    ],
)
def test_bad_parameters(data, params, message):
    with pytest.raises(InputError) as error:
        MLPHead(**params).fit(*data)
    assert str(error.value).startswith(message)


@needs_torch
def test_state_for_another_number_of_networks_is_refused(data):
    head = make("mlp", seeds=2).fit(*data)
    with pytest.raises(InputError, match="coef_0"):
        MLPHead.from_state({**head.get_params(), "seeds": 3}, head.get_state())
