"""Kernels that are asked for: in the right layers, where they are faster, and with the same results."""

from collections import Counter
from xml.etree import ElementTree

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest

from birdemb.embed.convolution_kernels import ask_for_kernels, takes_slower_kernels
from birdemb.embed.openvino_models import compile_model, read_graph

RNG = np.random.default_rng(11)
ASKED_FOR = "PrimitivesPriority"


def convolve(rows, channels, kernel, *, strides=1):
    weights = ops.constant(RNG.normal(0, 0.1, (channels, rows.output(0).partial_shape[1].get_length(), *kernel)))
    weights = ops.convert(weights, np.float32)
    padding = [kernel[0] // 2, kernel[1] // 2]
    return ops.convolution(rows, weights, [strides] * 2, padding, padding, [1, 1])


@pytest.fixture
def files(tmp_path):
    """A small network of the usual blocks: wide, each channel by itself, squeeze and excite, pointwise."""
    given = ops.parameter([-1, 2, 24, 32], np.float32)
    rows = ops.relu(convolve(given, 16, (3, 3), strides=2))
    rows = ops.swish(convolve(rows, 32, (1, 1)), np.float32(1))
    each = ops.convert(ops.constant(RNG.normal(0, 0.3, (32, 1, 1, 3, 3))), np.float32)
    rows = ops.swish(ops.group_convolution(rows, each, [1, 1], [1, 1], [1, 1], [1, 1]), np.float32(1))
    squeezed = convolve(ops.reduce_mean(rows, ops.constant(np.array([2, 3])), True), 32, (1, 1))
    rows = convolve(ops.multiply(rows, ops.sigmoid(squeezed)), 16, (1, 1))
    graph, tensors = tmp_path / "small.xml", tmp_path / "small.bin"
    ov.serialize(ov.Model([ops.result(rows.output(0))], [given], "small"), graph, tensors)
    return graph.read_bytes(), tensors.read_bytes()


def read_wishes(graph):
    found = Counter()
    for layer in ElementTree.fromstring(graph).iterfind("layers/layer"):  # noqa: S314 - made here
        data = layer.find("data")
        if data is not None and ASKED_FOR in data.attrib:
            found[layer.get("type"), data.get(ASKED_FOR)] += 1
    return found


def test_layers_that_have_faster_kernels_are_asked_for_them(files):
    assert read_wishes(files[0]) == {}
    assert read_wishes(ask_for_kernels(files[0])) == {
        ("Convolution", "cpu:jit_avx2_1x1,cpu:brgconv_avx2_1x1"): 2,
        ("GroupConvolution", "cpu:jit_avx2_dw,cpu:brgconv_avx2_dw"): 1,
    }


@pytest.mark.skipif(not takes_slower_kernels(), reason="OpenVINO takes other kernels here")
def test_kernels_are_taken_and_give_the_same(files):
    given = RNG.normal(0, 1, (3, 2, 24, 32)).astype(np.float32)
    exact = compile_model(read_graph(*files), "f32")
    asking = compile_model(read_graph(ask_for_kernels(files[0]), files[1]), "f32")
    kernels = Counter(str(node.get_rt_info()["primitiveType"].value) for node in asking.get_runtime_model().get_ops())
    assert kernels["jit_avx2_1x1_f32"] == 2
    assert kernels["jit_avx2_dw_f32"] == 1
    np.testing.assert_allclose(asking(given)[0], exact(given)[0], rtol=1e-5, atol=1e-6)
