"""Graphs of ONNX files as parts of larger ones: what is kept of them, and under which names."""

import numpy as np
import pytest
from onnx_graphs import onnx, start

from birdemb.embed.onnx_part import bypass_sigmoid, keep_outputs, raise_opset, read_onnx_model, rename_with_prefix
from birdemb.errors import InputError
from birdemb.onnx_building import ML_DOMAIN, GraphBuilder

VALUES = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
FLOAT = onnx.TensorProto.FLOAT


def make_node(operation, inputs, outputs, **attributes):
    return onnx.helper.make_node(operation, inputs, outputs, **attributes)


def make_info(name, *shape):
    return onnx.helper.make_tensor_value_info(name, FLOAT, shape or None)


def make_model(nodes, outputs, *, tensors=(), functions=(), opsets=None, shape=("n", 3)):
    graph = onnx.helper.make_graph(
        nodes, "part", [make_info("values", *shape)], [make_info(name) for name in outputs], list(tensors)
    )
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in (opsets or {"": 17}).items()]
    return onnx.helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=8)


def merge(model, outputs, *, one_by_one=False):
    """Add a model to a graph whose own names are the same, and give a function that runs it."""
    keep_outputs(model, outputs)
    rename_with_prefix(model.graph, "part/")
    graph = GraphBuilder("whole")
    values = graph.add_input("values", ("n", 3))
    # Names such as make_model's, and a reduction, which newer opsets write otherwise.
    shifted = graph.add("Sub", values, graph.add("ReduceMean", values, axes=[1], keepdims=1))
    (first, *_) = graph.add_model(model, shifted, one_by_one=one_by_one)
    graph.add_output("result", graph.add("Add", first, graph.add_number(1)), ("n", 3))
    return start(graph)


CENTRED = VALUES - VALUES.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("opset", [13, 17, 18, 22])
def test_opset_of_the_part_holds_for_the_whole(opset):
    model = make_model([make_node("Exp", ["values"], ["result"])], ["result"], opsets={"": opset})
    np.testing.assert_allclose(merge(model, ["result"])(VALUES), np.exp(CENTRED) + 1, atol=1e-6)


def test_function_of_the_file_s_own():
    inner = [make_node("Add", ["values", "values"], ["constant_0"])]
    opsets = [onnx.helper.make_opsetid("", 17)]
    twice = onnx.helper.make_function("own", "Twice", ["values"], ["constant_0"], inner, opset_imports=opsets)
    nodes = [onnx.helper.make_node("Twice", ["values"], ["result"], domain="own")]
    model = make_model(nodes, ["result"], functions=[twice], opsets={"": 17, "own": 1, ML_DOMAIN: 2})
    assert [entry.domain for entry in model.opset_import] == ["", "own", ML_DOMAIN]
    np.testing.assert_allclose(merge(model, ["result"])(VALUES), 2 * CENTRED + 1, atol=1e-6)
    assert [entry.domain for entry in model.opset_import] == ["", "own"]  # what nothing uses is not asked for


@pytest.mark.parametrize("one_by_one", [False, True])
def test_subgraphs_read_values_and_tensors_around_them(one_by_one):
    sum_ = make_node("Add", ["larger", "constant_0"], ["inner"])
    other = make_node("Identity", ["larger"], ["inner"])  # one name in two branches
    branches = {
        f"{name}_branch": onnx.helper.make_graph([node], name, [], [make_info("inner")])
        for name, node in (("then", sum_), ("else", other))
    }
    nodes = [
        make_node("Mul", ["values", "two"], ["larger"]),
        make_node("If", ["choice"], ["result"], **branches),
        make_node("Neg", ["larger"], ["unwanted"]),
    ]
    tensors = [
        onnx.numpy_helper.from_array(np.array(value, kind), name)
        for name, value, kind in (
            ("two", 2, np.float32), ("choice", True, bool), ("constant_0", 5, np.float32), ("idle", 1, np.float32)
        )
    ]  # fmt: skip
    model = make_model(nodes, ["unwanted", "result"], tensors=tensors, shape=(3,) if one_by_one else ("n", 3))
    run = merge(model, ["result"], one_by_one=one_by_one)
    assert [node.op_type for node in model.graph.node] == ["Mul", "If"]
    assert [tensor.name for tensor in model.graph.initializer] == ["part/two", "part/choice", "part/constant_0"]
    np.testing.assert_allclose(run(VALUES), 2 * CENTRED + 6, atol=1e-6)


def test_absent_inputs_stay_absent():
    limit = onnx.numpy_helper.from_array(np.array(0.5, np.float32), "limit")
    model = make_model([make_node("Clip", ["values", "", "limit"], ["result"])], ["result"], tensors=[limit])
    np.testing.assert_allclose(merge(model, ["result"])(VALUES), np.minimum(CENTRED, 0.5) + 1, atol=1e-6)


def classify(*last, extra=()):
    """Nodes that end in a sigmoid and whatever comes behind it."""
    return [make_node("Exp", ["values"], ["embedding"]), make_node("Neg", ["embedding"], ["logits"]), *last, *extra]


SIGMOID = make_node("Sigmoid", ["logits"], ["probabilities"])
MOVED = [make_node("Sigmoid", ["logits"], ["early"]), make_node("Transpose", ["early"], ["probabilities"])]


@pytest.mark.parametrize("last", [[SIGMOID], MOVED])
def test_sigmoid_at_the_end_is_bypassed(last):
    model = make_model(classify(*last), ["embedding", "probabilities"])
    assert bypass_sigmoid(model, "probabilities", ["embedding"])
    assert "Sigmoid" not in [node.op_type for node in model.graph.node]


@pytest.mark.parametrize(
    ("nodes", "others"),
    [
        (classify(SIGMOID, extra=[make_node("Neg", ["probabilities"], ["more"])]), ["embedding"]),  # wanted elsewhere
        (classify(*MOVED, extra=[make_node("Neg", ["early"], ["more"])]), ["embedding"]),
        (classify(*MOVED), ["early"]),
        (classify(SIGMOID), ["probabilities"]),
        (classify(make_node("Softmax", ["logits"], ["probabilities"])), ["embedding"]),
    ],
)
def test_sigmoid_that_something_else_needs_stays(nodes, others):
    model = make_model(nodes, ["embedding", "probabilities"])
    assert not bypass_sigmoid(model, "probabilities", others)
    assert list(model.graph.node) == nodes


def test_opset_that_cannot_be_raised_is_refused(tmp_path):
    model = make_model([make_node("Affine", ["values"], ["result"], alpha=2.0)], ["result"], opsets={"": 7})
    with pytest.raises(InputError, match=r"old\.onnx has opset 7, which onnx cannot raise to 13 .*--heads-only"):
        raise_opset(model, tmp_path / "old.onnx")


def test_file_that_onnx_cannot_read_is_refused(tmp_path):
    (tmp_path / "own.onnx").write_bytes(b"no ONNX")
    with pytest.raises(InputError, match=r"own\.onnx cannot be read by onnx .*--heads-only"):
        read_onnx_model(tmp_path / "own.onnx")
    with pytest.raises(InputError, match=r"absent\.onnx cannot be read by onnx"):
        read_onnx_model(tmp_path / "absent.onnx")


def test_trees_of_another_version_than_the_network_s_are_refused():
    scale = make_node("Scaler", ["values"], ["result"], offset=[0.0], scale=[1.0], domain=ML_DOMAIN)
    model = make_model([scale], ["result"], opsets={"": 17, ML_DOMAIN: 1})
    keep_outputs(model, ["result"])
    graph = GraphBuilder("whole")
    graph.add_output("same", graph.add_model(model, graph.add_input("given", ("n", 3)))[0], ("n", 3))
    assert {entry.domain: entry.version for entry in graph.build({}).opset_import} == {"": 17, ML_DOMAIN: 1}
    graph.add("TreeEnsembleRegressor", "same", domain=ML_DOMAIN)
    with pytest.raises(
        InputError, match=r"uses version 1 of the operations of ai\.onnx\.ml, .* version 3.*--heads-only"
    ):
        graph.build({})
