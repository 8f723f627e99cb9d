"""Graphs under test: checked as ONNX, and run in ONNX Runtime."""

import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def start(graph):
    """Check a graph, and give a function that runs it: arrays in the order of its inputs, its first output."""
    model = graph.build({})
    onnx.checker.check_model(model, full_check=True)
    session = start_bytes(model.SerializeToString())
    names = [entry.name for entry in session.get_inputs()]
    return lambda *values: session.run(None, dict(zip(names, values, strict=True)))[0]


def start_bytes(content):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
