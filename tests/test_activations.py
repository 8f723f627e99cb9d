"""SiLU in its faster form: the same function to the rounding of float32, in place of every SiLU over a map."""

from collections import Counter

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest

from birdemb.embed.activations import replace_silus
from birdemb.embed.openvino_models import compile_model


def build(shape, change):
    given = ops.parameter(list(shape), np.float32)
    return ov.Model([ops.result(change(given).output(0))], [given], "small")


def silu(node):
    return ops.multiply(node, ops.sigmoid(node))


def compute(values, shape=(1, 1, -1, 1)):
    given = np.asarray(values, np.float32).reshape(shape)
    model = build(given.shape, silu)
    replace_silus(model)
    assert count(model)["Sigmoid"] == 0
    return compile_model(model, "f32")(given)[0].ravel()


def count(model):
    return Counter(node.get_type_name() for node in model.get_ops())


def test_it_is_silu_to_the_rounding_of_float32():
    values = np.linspace(-60, 60, 1_000_001, dtype=np.float32)
    exact = values.astype(np.float64) / (1 + np.exp(-values.astype(np.float64)))
    error = np.abs(compute(values) - exact) / np.maximum(1, np.abs(values))
    assert error.max() < 3e-7
    assert error[values < -30].max() < 1e-9


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, 0.0), (np.inf, np.inf), (1e30, 1e30), (-1000.0, 0.0), (1e-30, 5e-31), (np.nan, np.nan)],
)
def test_what_is_unusual_stays_what_it_is(value, expected):
    np.testing.assert_allclose(compute([value] * 9), expected, rtol=1e-6, atol=1e-6)


def test_other_uses_of_the_sigmoid_are_left_alone():
    for change in (
        ops.sigmoid,
        lambda node: ops.multiply(ops.relu(node), ops.sigmoid(node)),
        lambda node: ops.add(node, ops.sigmoid(node)),
        lambda node: ops.multiply(silu(ops.reduce_mean(node, ops.constant(np.array([2, 3])), True)), node),
    ):
        model = build((2, 3, 4, 5), change)
        before = count(model)
        replace_silus(model)
        assert count(model) == before


def test_all_readers_get_it():
    def change(node):
        activated = silu(node)
        return ops.add(ops.relu(activated), activated)

    model = build((1, 2, 8, 8), change)
    values = np.random.default_rng(5).normal(0, 3, (1, 2, 8, 8)).astype(np.float32)
    exact = compile_model(model, "f32")(values)[0]
    replace_silus(model)
    np.testing.assert_allclose(compile_model(model, "f32")(values)[0], exact, rtol=1e-6, atol=1e-6)
