import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from birdemb.classify.state import StateReader
from birdemb.classify.transform import InputTransform, Step, read_steps, signed_square_root
from birdemb.errors import InputError

CHAINS = ["none", "sqrt", "unit", "power:0.3", "sqrt+unit", "sqrt+pca:3", "power:.25+unit+pca:2"]


def make_windows(seed=0, n=40, dim=6):
    return np.random.default_rng(seed).exponential(size=(n, dim)) ** 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", CHAINS)
@pytest.mark.parametrize("standardise", [True, False])
def test_comes_back_from_its_state(kind, standardise, dtype):
    X = make_windows().astype(dtype)
    learnt = InputTransform.learn(X, np.ones(len(X)), kind, standardise=standardise)
    reader = StateReader(learnt.get_state())
    again = InputTransform.read_state(reader, kind, X.shape[1], standardise=standardise)
    reader.refuse_rest()
    assert again.apply(X).dtype == dtype
    assert again.apply(X).shape == (len(X), learnt.width(X.shape[1]))
    assert np.array_equal(again.apply(X), learnt.apply(X))


@pytest.mark.parametrize("kind", CHAINS)
def test_what_is_standardised_has_mean_0_and_deviation_1(kind):
    X, weights = make_windows(), np.random.default_rng(1).uniform(0.5, 2, 40)
    transformed = InputTransform.learn(X, weights, kind).apply(X)
    np.testing.assert_allclose(np.average(transformed, axis=0, weights=weights), 0, atol=1e-9)
    np.testing.assert_allclose(np.average(transformed**2, axis=0, weights=weights), 1, atol=1e-9)


def test_the_steps_are_what_they_say():
    X = np.random.default_rng(0).normal(size=(5, 4))
    for kind, expected in (
        ("none", X),
        ("sqrt", signed_square_root(X)),
        ("power:0.3", np.sign(X) * np.abs(X) ** 0.3),
        ("sqrt+unit", normalize(signed_square_root(X))),
    ):
        transformed = InputTransform.learn(X, np.ones(5), kind, standardise=False).apply(X)
        np.testing.assert_allclose(transformed, expected)


def test_whitening_is_that_of_scikit_learn():
    X = make_windows(n=200)
    ours = InputTransform.learn(X, np.ones(200), "pca:4", standardise=False).apply(X)
    theirs = PCA(4, whiten=True).fit_transform(X) * np.sqrt(200 / 199)  # theirs divides by n - 1
    np.testing.assert_allclose(ours, theirs * np.sign((ours * theirs).sum(axis=0)), atol=1e-8)


@given(st.integers(0, 2**32 - 1))
def test_a_weight_is_a_repetition(seed):
    X = make_windows(seed)
    weights = np.random.default_rng(seed).integers(1, 4, len(X))
    weighted = InputTransform.learn(X, weights.astype(float), "sqrt+pca:3").apply(X)
    repeated = InputTransform.learn(X.repeat(weights, axis=0), np.ones(weights.sum()), "sqrt+pca:3").apply(X)
    np.testing.assert_allclose(np.abs(weighted), np.abs(repeated), atol=1e-5)


def test_there_are_no_more_components_than_directions():
    X = make_windows(n=3)
    assert InputTransform.learn(X, np.ones(3), "pca:100").apply(X).shape == (3, 2)
    alike = InputTransform.learn(np.ones((4, 3)), np.ones(4), "pca:2")
    assert np.array_equal(alike.apply(np.ones((4, 3))), np.zeros((4, 1)))
    assert InputTransform.read_state(StateReader(alike.get_state()), "pca:2", 3).width(3) == 1


def test_zeros_stay_finite():
    X = np.zeros((3, 4), np.float32)
    for kind in CHAINS:
        assert np.isfinite(InputTransform.learn(X, np.ones(3), kind).apply(X)).all()


@pytest.mark.parametrize(
    "wrong", ["", "log", "sqrt+", "sqrt unit", "pca", "pca:0", "pca:3+sqrt", "power", "power:2", "power:-1", 3, None]
)
def test_no_such_chain(wrong):
    with pytest.raises(InputError, match=r"input_transform is .*Use 'none', or steps joined"):
        read_steps(wrong)


def test_a_chain_is_read():
    assert read_steps("power:0.3+unit+pca:12") == (Step("power", 0.3), Step("unit"), Step("pca", 12.0))


@pytest.mark.parametrize(
    "change",
    [
        {"scale": np.zeros(3)},
        {"mean": np.zeros(4)},
        {"pca_size": np.array(0)},
        {"pca_size": np.array(5)},
        {"pca_mean": np.full(6, np.nan)},
        {"pca_components": np.zeros((3, 5))},
    ],
)
def test_a_state_that_does_not_fit(change):
    state = InputTransform.learn(make_windows(), np.ones(40), "pca:3").get_state() | change
    with pytest.raises(InputError, match="state of a head"):
        InputTransform.read_state(StateReader(state), "pca:3", 6)
