"""Small networks as TensorFlow Lite files, written with the schema that LiteRT brings."""

from __future__ import annotations

from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int8": schema.TensorType.INT8,
    "int32": schema.TensorType.INT32,
}
OPERATORS = schema.BuiltinOperator
OPTIONS = schema.BuiltinOptions


class TfliteBuilder:
    """Collects tensors and operators of one graph; a tensor is known by its number."""

    def __init__(self) -> None:
        self._tensors: list[schema.TensorT] = []
        self._operators: list[schema.OperatorT] = []
        self._codes: list[int] = []
        self._buffers = [schema.BufferT()]

    def add_tensor(
        self, name: str, shape: tuple[int, ...], values=None, dtype: str = "float32", scale: float = 0.0
    ) -> int:
        """Add a tensor; an open size in its shape is -1. With `values` it is a constant."""
        tensor = schema.TensorT()
        tensor.name, tensor.type = name, TYPES[dtype]
        tensor.shape = [max(size, 1) for size in shape]
        if -1 in shape:
            tensor.shapeSignature = list(shape)
        if values is not None:
            tensor.buffer = len(self._buffers)
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(values).astype(dtype).tobytes(), np.uint8)
            self._buffers.append(buffer)
        if scale:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [0]
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def fill_up_to(self, count: int) -> None:
        """Add tensors that nothing uses, so that the next one has this number."""
        while len(self._tensors) < count:
            self.add_tensor(f"unused_{len(self._tensors)}", (1,))

    def add(self, code: int, inputs: list[int], output: int, kind: int = 0, options=None) -> int:
        if code not in self._codes:
            self._codes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.index(code)
        operator.inputs, operator.outputs = inputs, [output]
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        self._operators.append(operator)
        return output

    def write(self, path: Path, inputs: list[int], outputs: list[int]) -> None:
        graph = schema.SubGraphT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = self._tensors, self._operators, inputs, outputs
        model = schema.ModelT()
        model.version, model.subgraphs, model.buffers = 3, [graph], self._buffers
        model.operatorCodes = []
        for code in self._codes:
            entry = schema.OperatorCodeT()
            entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, min(code, 127), 1
            model.operatorCodes.append(entry)
        write_model(model, path)


def write_model(model: schema.ModelT, path: Path) -> None:
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def write_birdnet_fp16(path: Path) -> None:
    """As BirdNET 2.4's official FP16 file: weights in float16, the embedding in front of the classifier."""
    _write_birdnet(path, "float16", 545, 546)


def write_birdnet_int8(path: Path) -> None:
    """As BirdNET 2.4's official INT8 file: weights in int8."""
    _write_birdnet(path, "int8", 640, 643)


def _write_birdnet(path: Path, dtype: str, embedding: int, logits: int) -> None:
    graph = TfliteBuilder()
    sound = graph.add_tensor("INPUT", (-1, 144_000))
    steps = graph.add_tensor("steps", (-1, 300, 480))
    shape = graph.add_tensor("shape", (3,), np.array([-1, 300, 480]), "int32")
    graph.add(OPERATORS.RESHAPE, [sound, shape], steps, OPTIONS.ReshapeOptions, schema.ReshapeOptionsT())
    layers = [_add_weights(graph, *size, dtype) for size in ((64, 480), (1024, 64), (6522, 1024))]
    bands = _add_dense(graph, steps, layers[0], graph.add_tensor("bands", (-1, 300, 64)))
    loudness = graph.add(OPERATORS.ABS, [bands], graph.add_tensor("loudness", (-1, 300, 64)))
    axis = graph.add_tensor("axis", (1,), np.array([1]), "int32")
    options = schema.ReducerOptionsT()
    mean = graph.add_tensor("mean", (-1, 64))
    graph.add(OPERATORS.MEAN, [loudness, axis], mean, OPTIONS.ReducerOptions, options)
    graph.fill_up_to(embedding)
    pooled = _add_dense(graph, mean, layers[1], graph.add_tensor("model/GLOBAL_AVG_POOL/Mean", (-1, 1024)))
    graph.fill_up_to(logits)
    result = _add_dense(graph, pooled, layers[2], graph.add_tensor("Identity", (-1, 6522)))
    graph.write(path, [sound], [result])


def _add_weights(graph: TfliteBuilder, rows: int, columns: int, dtype: str) -> int:
    values = np.random.default_rng((rows, columns)).normal(0, 3 / np.sqrt(columns), (rows, columns)).astype(np.float32)
    name = f"weights_{rows}"
    if dtype == "int8":
        scale = float(np.abs(values).max() / 127)
        return graph.add_tensor(name, values.shape, np.round(values / scale), dtype, scale)
    half = graph.add_tensor(f"{name}_half", values.shape, values, dtype)
    whole = graph.add_tensor(name, values.shape)
    return graph.add(OPERATORS.DEQUANTIZE, [half], whole, OPTIONS.DequantizeOptions, schema.DequantizeOptionsT())


def _add_dense(graph: TfliteBuilder, given: int, weights: int, output: int) -> int:
    options = schema.FullyConnectedOptionsT()
    options.keepNumDims = True
    return graph.add(OPERATORS.FULLY_CONNECTED, [given, weights, -1], output, OPTIONS.FullyConnectedOptions, options)


BUILDERS = {"birdnet-2.4-fp16": write_birdnet_fp16, "birdnet-2.4-int8": write_birdnet_int8}
