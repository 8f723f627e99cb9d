"""Heads as ONNX graphs, against the heads themselves."""

import re

import numpy as np
import pytest
from head_data import NAMES, make_data
from head_data import make as make_head
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx_graphs import start
from scipy.special import expit, logit

from birdemb.classify.calibration import Calibration
from birdemb.classify.heads import head_class
from birdemb.classify.onnx_heads import HeadGraph
from birdemb.classify.onnx_trees import round_thresholds
from birdemb.classify.transform import InputTransform
from birdemb.errors import InputError
from birdemb.onnx_building import GraphBuilder

# Hardly trained is enough to be translated.
FEW = {"mlp": {"epochs": 2, "n_jobs": 1}}
TRANSFORMS = ["none", "sqrt", "power:0.3", "unit", "sqrt+unit", "pca:5", "power:0.7+unit+pca:3"]


def make(name, **params):
    return make_head(name, **FEW.get(name, {}), **params)


def export(add, *, inputs):
    """Make a graph of what a function adds to inputs of so many columns, and make it ready to run."""
    graph = GraphBuilder("heads")
    names = [graph.add_input(f"input_{number}", ("n", width)) for number, width in enumerate(inputs)]
    graph.add_output("result", add(HeadGraph(graph), *names), ("n", "columns"))
    return start(graph)


def export_head(head, dim=12):
    return export(lambda pieces, embeddings: pieces.add_head(head, embeddings), inputs=[dim])


def other_windows(dim=12, n=200):
    """Windows that no head saw: of different size, with zeros and some negative values."""
    rng = np.random.default_rng(11)
    rows = rng.exponential(size=(n, dim)) * 10.0 ** rng.uniform(-2, 1, (n, 1)) * rng.choice([-1, 0, 1, 1], (n, dim))
    rows[0] = 0
    return rows.astype(np.float32)


def assert_same(run, head, X):
    """Compare scores, which are far stricter than probabilities."""
    expected = head.decision_function(X)
    found = run(X)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(expit(found.astype(np.float64)), head.predict_proba(X), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_are_the_head_s(name, dtype):
    X, y = make_data(0)
    head = make(name).fit(X.astype(dtype), y)
    assert_same(export_head(head), head, other_windows())


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"lgbm"}))
@pytest.mark.parametrize("chain", TRANSFORMS)
def test_chains_of_steps_are_the_head_s(name, chain):
    X, y = make_data(1)
    head = make(name, input_transform=chain).fit(X, y)
    assert_same(export_head(head), head, other_windows())


@pytest.mark.parametrize("chain", TRANSFORMS)
def test_trees_behind_a_chain_of_steps(chain):
    X, y = make_data(1)
    head = make("lgbm", input_transform=chain).fit(X, y)
    rows = other_windows()
    off = np.abs(export_head(head)(rows) - head.decision_function(rows)) > 1e-4
    # What is computed is off by rounding, and next to a threshold that is another branch.
    assert off.mean() <= (0 if chain == "none" else 0.005)


@pytest.mark.parametrize("chain", TRANSFORMS)
@pytest.mark.parametrize("standardise", [True, False])
def test_transforms_by_themselves_are_the_same(chain, standardise):
    X, _ = make_data(2)
    transform = InputTransform.learn(X, np.ones(len(X)), chain, standardise=standardise)
    run = export(lambda pieces, values: pieces.add_transform(transform, values), inputs=[12])
    rows = other_windows()
    rows[1] = 1e-9  # too short to be given unit length
    np.testing.assert_allclose(run(rows), transform.apply(rows), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_classes_that_were_not_fitted_give_their_constant(name):
    X, y = make_data(3)
    y[:, 0], y[:, 2] = 1, 0
    head = make(name).fit(X, y)
    assert not head.fitted_classes_[[0, 2]].any()
    run, rows = export_head(head), other_windows()
    assert_same(run, head, rows)
    np.testing.assert_allclose(run(rows)[:, [0, 2]], np.tile(logit([1 - 1e-6, 1e-6]), (len(rows), 1)), rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_head_without_any_fitted_class_gives_constants(name):
    X, y = make_data(3)
    head = make(name).fit(X, y * 0)
    assert_same(export_head(head), head, other_windows())


@pytest.mark.parametrize("name", NAMES)
def test_head_of_one_class(name):
    X, y = make_data(4, classes=1)
    head = make(name).fit(X, y)
    assert_same(export_head(head), head, other_windows())


@pytest.mark.parametrize("name", NAMES)
def test_rebuilt_head_makes_the_same_graph(name):
    X, y = make_data(5)
    head = make(name).fit(X, y)
    rebuilt = head_class(name).from_state(head.get_params(), head.get_state())
    np.testing.assert_array_equal(export_head(rebuilt)(X), export_head(head)(X))


@pytest.mark.parametrize("name", NAMES)
def test_offset_is_added(name):
    X, y = make_data(6)
    offset = np.random.default_rng(0).normal(size=y.shape)
    head = make(name).fit(X, y, offset=offset)
    run = export(lambda pieces, values, known: pieces.add_head(head, values, known), inputs=[12, 4])
    known = offset.astype(np.float32)
    np.testing.assert_allclose(run(X, known), head.decision_function(X, known), rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="needs one too"):
        export_head(head)
    without = make(name).fit(X, y)
    with pytest.raises(InputError, match="cannot take one"):
        export(lambda pieces, values, known: pieces.add_head(without, values, known), inputs=[12, 4])


def test_head_of_labels_is_refused():
    X, y = make_data(7)
    with pytest.raises(InputError, match="1-D labels"):
        export_head(make("lr").fit(X, y[:, 0]))


def next_to_thresholds(head, dim):
    """Make windows whose values are the float32 below, at and above each threshold of each tree."""
    rows = []
    for text in head.models_:
        features = [int(v) for line in re.findall(r"^split_feature=(.*)$", text, re.M) for v in line.split()]
        thresholds = [float(v) for line in re.findall(r"^threshold=(.*)$", text, re.M) for v in line.split()]
        for feature, threshold in zip(features, thresholds, strict=True):
            nearest = np.float32(threshold)
            for value in (np.nextafter(nearest, np.float32(-9e9)), nearest, np.nextafter(nearest, np.float32(9e9))):
                rows.append(np.where(np.arange(dim) == feature, value, rows[-1] if rows else 0))
    return np.array(rows, np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_leaves", [2, 4, 15])
def test_values_next_to_a_threshold_take_the_same_branch(dtype, num_leaves):
    X, y = make_data(8, n=120)
    X = X.astype(np.float64) + np.random.default_rng(0).normal(size=X.shape) / 3  # so that thresholds are no float32
    head = make("lgbm", num_leaves=num_leaves).fit(X.astype(dtype), y)
    rows = next_to_thresholds(head, 12)
    assert len(rows) > 100
    # A single wrong branch would be seen: what leaves add is far more than this.
    np.testing.assert_allclose(export_head(head)(rows), head.decision_function(rows), atol=1e-5)


TINY = st.sampled_from([0.0, 5e-36, 1e-35, 1.0000000180025095e-35, 1.1e-35])


@given(
    st.floats(allow_nan=False, allow_infinity=False) | TINY | TINY.map(lambda tiny: -tiny),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.integers(-2, 2),
)
def test_rounded_threshold_parts_float32_as_the_exact_one(threshold, value, near):
    rounded = round_thresholds(np.array([threshold]))[0]
    with np.errstate(over="ignore"):
        neighbour = np.float32(threshold)
        for _ in range(abs(near)):
            neighbour = np.nextafter(neighbour, np.float32(np.sign(near) * np.inf))
    for number in (np.float32(value), neighbour):
        if np.isfinite(number):
            seen = float(number) if abs(number) > np.float32(1e-35) else 0.0  # by LightGBM
            assert (number <= rounded) == (seen <= threshold)


def test_trees_without_a_split_are_constants():
    X, y = make_data(9)
    head = make("lgbm", min_data_in_leaf=1000).fit(X, y)
    assert all("split_feature=\n" in text or "split_feature=" not in text for text in head.models_)
    assert_same(export_head(head), head, other_windows())


def test_all_classes_are_in_one_node():
    X, y = make_data(10, classes=6)
    y[:, 5] = 0
    graph = GraphBuilder("trees")
    HeadGraph(graph).add_head(make("lgbm").fit(X, y), graph.add_input("embeddings", ("n", 12)))
    nodes = [node for node in graph.build({}).graph.node if node.op_type.startswith("Tree")]
    assert [attribute.i for node in nodes for attribute in node.attribute if attribute.name == "n_targets"] == [6]


def test_trees_that_take_0_for_missing_are_refused():
    X, y = make_data(0)
    head = make("lgbm").fit(X, y)
    head.models_[0] = re.sub(r"(?<=decision_type=)\d+", "6", head.models_[0], count=1)
    with pytest.raises(InputError, match="take 0 for a missing value"):
        export_head(head)


def test_weighted_means_of_scores_and_of_probabilities():
    scores = np.random.default_rng(0).normal(0, 3, (2, 30, 4)).astype(np.float32)

    def blend(pieces, first, second, weights, probabilities):
        values = [pieces.add_sigmoid(value) if probabilities else value for value in (first, second)]
        return pieces.add_weighted_mean(values, np.array(weights))

    weights = [[1, 0, 3, 1], [1, 2, 1, 0]]
    by_class = export(lambda *names: blend(*names, weights, probabilities=False), inputs=[4, 4])
    np.testing.assert_allclose(
        by_class(*scores), np.average(scores, axis=0, weights=np.array(weights)[:, None].repeat(30, 1)), atol=1e-5
    )
    shared = export(lambda *names: blend(*names, [3, 1], probabilities=True), inputs=[4, 4])
    np.testing.assert_allclose(shared(*scores), np.average(expit(scores), axis=0, weights=[3, 1]), atol=1e-6)
    for wrong in ([1], [1, -1], [0, 0], [[0, 1], [0, 1]]):
        with pytest.raises(InputError, match="A mean of 2 heads"):
            export(lambda *names, weights=wrong: blend(*names, weights, probabilities=False), inputs=[4, 4])


def test_logit_and_sigmoid_are_inverse_and_finite():
    run = export(lambda pieces, values: pieces.add_logit(pieces.add_sigmoid(values)), inputs=[3])
    scores = np.array([[-8, 0, 5], [-1000, 1000, 2]], np.float32)
    found = run(scores)
    np.testing.assert_allclose(found[0], scores[0], atol=1e-3)
    assert np.isfinite(found).all()


def test_scaling_and_linear_layers():
    rng = np.random.default_rng(0)
    values, weights, row = rng.normal(size=(9, 5)).astype(np.float32), rng.normal(size=(5, 3)), rng.normal(size=3)
    run = export(lambda pieces, x: pieces.add_scaling(pieces.add_linear(x, weights, row), row, row + 1), inputs=[5])
    np.testing.assert_allclose(run(values), (values @ weights + row) * row + row + 1, atol=1e-5)


POINTS = st.lists(st.integers(-400, 400), min_size=1, max_size=12, unique=True)


@given(st.lists(POINTS, min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_interpolation_is_numpy_s(lists, seed):
    rng = np.random.default_rng(seed)
    points = [(np.array(sorted(entries)) / 50, np.sort(rng.random(len(entries)))) for entries in lists]
    scores = rng.normal(0, 5, (40, len(points))).astype(np.float32)
    scores[: len(points[0][0]), 0] = points[0][0]
    run = export(lambda pieces, values: pieces.add_interpolation(values, points), inputs=[len(points)])
    expected = np.stack([np.interp(scores[:, c], x, y) for c, (x, y) in enumerate(points)], axis=1)
    np.testing.assert_allclose(run(scores), expected, atol=1e-4)


def test_points_that_are_one_in_float32_make_a_jump():
    points = [(np.array([0.0, 1.0, 1.0 + 1e-12, 2.0]), np.array([0.0, 0.2, 0.8, 1.0]))]
    run = export(lambda pieces, values: pieces.add_interpolation(values, points), inputs=[1])
    scores = np.array([[-1], [0.5], [1.0], [1.0001], [1.5], [7]], np.float32)
    np.testing.assert_allclose(run(scores)[:, 0], [0, 0.1, 0.2, 0.8, 0.9, 1], atol=1e-3)


def test_points_that_do_not_increase_are_refused():
    points = [(np.array([0.0, 0.0]), np.array([0.0, 1.0]))]
    with pytest.raises(InputError, match="do not increase"):
        export(lambda pieces, values: pieces.add_interpolation(values, points), inputs=[1])


@pytest.mark.parametrize("method", ["none", "platt", "isotonic"])
def test_calibrated_probabilities_are_the_calibration_s(method):
    rng = np.random.default_rng(0)
    targets = rng.random((600, 3)) < [0.5, 0.3, 0.01]
    scores = rng.normal(0, 2, targets.shape) + 2 * targets
    calibration = Calibration.learn(scores, targets, np.ones(targets.shape), np.arange(600), method)
    assert set(calibration.curves) == ({0, 1} if method == "isotonic" else set())
    run = export(lambda pieces, values: pieces.add_calibration(calibration, values), inputs=[3])
    others = rng.normal(0, 3, (300, 3)).astype(np.float32)
    np.testing.assert_allclose(run(others), calibration.apply(others.astype(np.float64)), atol=1e-4)


@pytest.fixture(scope="module")
def fitted():
    X, y = make_data(0)
    heads = [make(name).fit(X, y) for name in NAMES]
    return [(head, export_head(head)) for head in heads]


@settings(max_examples=30, deadline=None)
@given(X=arrays(np.float32, (5, 12), elements=st.floats(-1e4, 1e4, width=32)))
def test_any_embedding_gives_the_head_s_probability(fitted, X):
    for head, run in fitted:
        np.testing.assert_allclose(expit(run(X).astype(np.float64)), head.predict_proba(X), atol=1e-4)
