"""The parts of quantization, on a small network of the same kinds of layers as the encoders'."""

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest

from birdemb.embed import quantization
from birdemb.embed.calibration import Calibration
from birdemb.embed.packing import pack, unpack
from birdemb.embed.quantization import Judge
from birdemb.embed.quantization_record import AucLoss, Estimate, Gate
from birdemb.embed.quantizer import Quantizer, cosines_of
from birdemb.embed.trunk import Trunk
from birdemb.errors import InputError

SHAPE = (1, 12, 20)


def make_model(seed=0, *, dense=True):
    """Samples' convolution, three over a map, one depthwise, one that squeezes, and a dense layer."""
    rng = np.random.default_rng(seed)

    def constant(*shape):
        return ops.constant((rng.normal(0, 1, shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))

    def convolve(value, *shape, pads=0):
        return ops.convolution(value, constant(*shape), [1, 1], [pads, pads], [pads, pads], [1, 1])

    given = ops.parameter([-1, *SHAPE], np.float32, "map")
    value = ops.relu(convolve(given, 16, 1, 3, 3, pads=1))
    value = ops.relu(convolve(value, 24, 16, 1, 1))
    value = ops.relu(ops.group_convolution(value, constant(24, 1, 1, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1]))
    means = ops.reduce_mean(value, np.array([2, 3]), True)
    value = ops.multiply(value, ops.sigmoid(convolve(means, 24, 24, 1, 1)))
    value = ops.relu(convolve(value, 32, 24, 3, 3, pads=1))
    value = ops.reduce_mean(value, np.array([2, 3]), False)
    if dense:
        value = ops.matmul(value, constant(32, 32), False, False)
    model = ov.Model([ops.result(ops.relu(value).output(0))], [given], "small")
    model.input(0).get_tensor().set_names({"map"})
    model.output(0).get_tensor().set_names({"embedding"})
    return model


def make_trunk(model):
    return Trunk(model, seconds=1.0, samples=240, look=lambda rows: rows.reshape(-1, *SHAPE))


@pytest.fixture
def inputs():
    rng = np.random.default_rng(1)
    return rng.normal(0, 1, (12, *SHAPE)).astype(np.float32) * rng.uniform(0.5, 2, (12, 1, 1, 1)).astype(np.float32)


@pytest.mark.parametrize(("bits", "least"), [(8, 0.9999), (16, 0.999999)])
def test_packed_weights_take_less_and_compute_nearly_the_same(inputs, tmp_path, bits, least):
    quantizer = Quantizer(make_trunk(make_model()), "small")
    model = quantizer.model.clone()
    pack([node for node in model.get_ordered_ops() if node.get_type_name() in ("Convolution", "MatMul")], bits)
    sizes = {}
    for name, each in (("exact", quantizer.model), ("packed", model)):
        ov.save_model(each, tmp_path / f"{name}.xml", compress_to_fp16=False)
        sizes[name] = (tmp_path / f"{name}.bin").stat().st_size
    assert sizes["packed"] < sizes["exact"] * (bits + 4) / 32
    read = ov.Core().read_model(tmp_path / "packed.xml")
    unpack(read)
    kinds = {node.get_type_name() for node in read.get_ordered_ops()}
    assert "Convert" not in kinds, "left to OpenVINO, which cannot compile every one of them"
    near = quantizer.compare(read, inputs)
    assert near.min() > least
    assert (quantizer.run(quantizer.compile(read), inputs) != quantizer.run(quantizer.exact, inputs)).any()


def test_same_network_is_the_same_file(tmp_path):
    for name in ("first", "second"):
        model = Quantizer(make_trunk(make_model()), "small").halve()
        ov.save_model(model, tmp_path / f"{name}.xml", compress_to_fp16=False)
    assert (tmp_path / "first.xml").read_bytes() == (tmp_path / "second.xml").read_bytes()


def test_layers_are_told_apart():
    quantizer = Quantizer(make_trunk(make_model()), "small")
    shapes = [list(node.input(1).get_shape()) for node in quantizer.convolutions]
    assert shapes == [[16, 1, 3, 3], [24, 16, 1, 1], [24, 24, 1, 1], [32, 24, 3, 3], [32, 32]]
    # Not the first, which hears the map, and not the one that squeezes.
    assert quantizer.quantizable == [1, 3, 4]


def test_network_without_such_layers_is_refused():
    given = ops.parameter([-1, 240], np.float32)
    model = ov.Model([ops.result(ops.relu(given).output(0))], [given], "none")
    with pytest.raises(InputError, match="The network of small has no convolution over a map and no dense layer"):
        Quantizer(make_trunk(model), "small")


def make_measure(inputs, judge):
    pytest.importorskip("nncf")
    quantizer = Quantizer(make_trunk(make_model()), "small")
    names = ["a", "b"] * 3
    chosen = Calibration(inputs, inputs[:6], 2, [], "", judged=inputs[6:], judged_recordings=names)
    return quantization._Measure(quantizer, chosen, judge, Gate(0.002))


def losing(values):
    """A judge that finds these losses, one after the other, and looks at what it is given."""
    left = iter(values)

    def measure(recordings, exact, ours):
        assert recordings == ["a", "b"] * 3
        assert exact.shape == ours.shape == (6, 32)
        assert 0.9 < cosines_of(ours, exact).min() < 0.9999999
        value = next(left)
        return AucLoss(0.9, Estimate(1.0, 1.0, 1.0), Estimate(value, value, value), 6, 2, 2, 3)

    return Judge(frozenset({"a", "b"}), measure)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("losses", "left", "result"),
    [([0.001], 0, "passed"), ([0.01, 0.003, 0.0], 2, "passed"), ([0.01, 0.003, 0.004], 1, "failed")],
)
def test_convolutions_are_left_in_float_until_the_gate_is_passed(inputs, monkeypatch, losses, left, result):
    monkeypatch.setattr(quantization, "_LEFT_IN_FLOAT", (0, 1, 2))
    said = []
    made = quantization._reach_goal(make_measure(inputs, losing(losses)), 0.9, 0.8, said.append)
    assert len(made.float_layers) == left
    assert made.gate.result == result
    assert made.quantized == 3 - left
    assert f"loss in ROC-AUC {losses[-1]:+.4f}" in said[-1]


@pytest.mark.slow
def test_gate_that_cannot_be_measured_stops_nothing(inputs):
    def refuse(*_):
        raise InputError("these windows are of one recording")

    for judge, reason in ((Judge(frozenset({"a"}), refuse), "of one recording"), (Judge(reason="no labels"), "no la")):
        made = quantization._reach_goal(make_measure(inputs, judge), 0.9, 0.8, lambda _: None)
        assert made.gate.result == "not measured"
        assert reason in made.gate.reason


@pytest.mark.slow
def test_goal_out_of_reach_names_the_convolutions_to_blame(inputs, monkeypatch):
    monkeypatch.setattr(quantization, "_LEFT_IN_FLOAT", (0, 1))
    measure = make_measure(inputs, Judge(reason="no labels"))
    worst = quantization._measure_alone(measure.quantizer, measure.chosen)
    with pytest.raises(
        InputError, match=r"expected 1\.1 and 0\. Nothing was written\..* content with less: --min-co"
    ) as told:
        quantization._reach_goal(measure, 1.1, 0, lambda _: None)
    for layer in worst[:3]:
        assert (
            f"convolution {layer.number} ({'x'.join(map(str, layer.kernel))}; alone in int8 {layer.cosine:.4f})"
            in str(told.value)
        )
