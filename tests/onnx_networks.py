"""Small networks as ONNX files, and what NumPy makes of the same sound."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdemb.onnx_building import GraphBuilder

STEP = 100  # samples of a step of `Network`


@dataclass(frozen=True)
class Network:
    """A network of a test: ``|steps @ weights|`` for every step of 100 samples, their mean, and logits of that."""

    weights: np.ndarray  # (STEP, dim)
    classifier: np.ndarray  # (dim, classes)

    @classmethod
    def random(cls, dim: int = 8, classes: int = 5, seed: int = 0) -> Network:
        rng = np.random.default_rng(seed)
        draw = [rng.normal(0, 1 / np.sqrt(rows), (rows, columns)) for rows, columns in ((STEP, dim), (dim, classes))]
        return cls(*(values.astype(np.float32) for values in draw))

    def steps(self, frames: np.ndarray) -> np.ndarray:
        """Of shape (n, steps, dim), in float64."""
        return np.abs(frames.astype(np.float64).reshape(len(frames), -1, STEP) @ self.weights)

    def embed(self, frames: np.ndarray) -> np.ndarray:
        return self.steps(frames).mean(axis=1)

    def logits(self, frames: np.ndarray) -> np.ndarray:
        return self.embed(frames) @ self.classifier

    def write(self, path: Path, **form) -> Path:
        """Write what `build` builds."""
        path.write_bytes(self.build(**form).SerializeToString())
        return path

    def write_halved(self, path: Path, kind: np.dtype, **form) -> Path:
        """Write what `build` builds, with samples, tensors and outputs in numbers of 16 bits."""
        from onnx import TensorProto, helper, numpy_helper

        model = self.build(**form)
        for tensor in model.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT:
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(kind), tensor.name))
        for entry in (*model.graph.input, *model.graph.output):
            entry.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        path.write_bytes(model.SerializeToString())
        return path

    def build(
        self,
        *,
        batch: int | str = "n",
        samples: int | str = "samples",
        layout: str = "batch",
        fixed: int | None = None,
    ):
        """Build it with every output that a card may ask for; `fixed` bakes a number of frames into the graph."""
        graph = GraphBuilder("network")
        shape = {"batch": (batch, samples), "channel": (batch, 1, samples), "single": (samples,)}[layout]
        dim, classes = self.classifier.shape
        sound = graph.add_input("waveform", shape)
        first = 1 if layout == "single" else fixed or -1
        if isinstance(samples, int):
            reshaped = graph.add("Reshape", sound, graph.add_integers(first, samples // STEP, STEP))
        elif layout == "batch":
            reshaped = graph.add("Reshape", sound, graph.add_integers(0, -1, STEP))
        else:
            reshaped = graph.add("Reshape", sound, graph.add_integers(1, -1, STEP))
        steps = graph.add("Abs", graph.add("MatMul", reshaped, graph.add_constant(self.weights)))
        embedding = graph.add("ReduceMean", steps, axes=[1], keepdims=0)
        logits = graph.add("MatMul", embedding, graph.add_constant(self.classifier))
        n = 1 if layout == "single" else batch
        if layout == "single":  # as YAMNet does: no axis for the batch
            steps = graph.add("Squeeze", steps, graph.add_integers(0))
            logits = graph.add("Squeeze", logits, graph.add_integers(0))
        lead = () if layout == "single" else (n,)
        graph.add_output("label", logits, (*lead, classes))
        graph.add_output("embedding", embedding, (n, dim))
        graph.add_output("steps", steps, (*lead, "t", dim))
        perm = [1, 0] if layout == "single" else [0, 2, 1]
        graph.add_output("turned", graph.add("Transpose", steps, perm=perm), (*lead, dim, "t"))
        graph.add_output("probability", graph.add("Sigmoid", logits), (*lead, classes))
        graph.add_output(
            "framewise", graph.add("MatMul", steps, graph.add_constant(self.classifier)), (*lead, "t", classes)
        )
        return graph.build({})


NETWORK = Network.random()


def write_birdnet_3(path: Path) -> None:
    """As BirdNET 3.0: sound of open length to probabilities and an embedding, in this order."""
    graph = GraphBuilder("birdnet")
    sound = graph.add_input("input", ("batch", "samples"))
    steps = graph.add("Reshape", sound, graph.add_integers(0, -1, 320))
    bands = graph.add("Abs", graph.add("MatMul", steps, _draw(graph, 320, 64)))
    pooled = graph.add("ReduceMean", bands, axes=[1], keepdims=0)
    embedding = graph.add("Abs", graph.add("MatMul", pooled, _draw(graph, 64, 1280)))
    logits = graph.add("MatMul", graph.add("MatMul", embedding, _draw(graph, 1280, 4)), _draw(graph, 4, 11_560))
    graph.add_output("predictions", graph.add("Sigmoid", logits), ("batch", 11_560))
    graph.add_output("embeddings", embedding, ("batch", 1280))
    path.write_bytes(graph.build({}).SerializeToString())


def write_perch_2(path: Path) -> None:
    """As the conversion of Perch 2: four outputs of 5 s."""
    graph, embedding, spatial, spectrogram = _build_perch()
    logits = graph.add("MatMul", graph.add("MatMul", embedding, _draw(graph, 1536, 4)), _draw(graph, 4, 14_795))
    graph.add_output("embedding", embedding, ("batch", 1536))
    graph.add_output("spatial_embedding", spatial, ("batch", 16, 4, 1536))
    graph.add_output("spectrogram", spectrogram, ("batch", 500, 128))
    graph.add_output("label", logits, ("batch", 14_795))
    path.write_bytes(graph.build({}).SerializeToString())


def write_perch_2_headless(path: Path) -> None:
    """As Perch 2 without its classifier: the embedding alone, under whatever name."""
    graph, embedding, _, _ = _build_perch()
    graph.add_output("pooled", embedding, ("batch", 1536))
    path.write_bytes(graph.build({}).SerializeToString())


def _build_perch() -> tuple[GraphBuilder, str, str, str]:
    graph = GraphBuilder("perch")
    sound = graph.add_input("inputs", ("batch", 160_000))
    steps = graph.add("Reshape", sound, graph.add_integers(-1, 500, 320))
    spectrogram = graph.add("Abs", graph.add("MatMul", steps, _draw(graph, 320, 128)))
    kept = graph.add("Slice", spectrogram, graph.add_integers(0), graph.add_integers(496), graph.add_integers(1))
    pooled = graph.add(
        "ReduceMean", graph.add("Reshape", kept, graph.add_integers(-1, 16, 31, 128)), axes=[2], keepdims=0
    )
    parts = graph.add("Reshape", pooled, graph.add_integers(-1, 16, 4, 32))
    spatial = graph.add("Abs", graph.add("MatMul", parts, _draw(graph, 32, 1536)))
    return graph, graph.add("ReduceMean", spatial, axes=[1, 2], keepdims=0), spatial, spectrogram


def _draw(graph: GraphBuilder, rows: int, columns: int) -> str:
    values = np.random.default_rng((rows, columns)).normal(0, 3 / np.sqrt(rows), (rows, columns))
    return graph.add_constant(values.astype(np.float32))


BUILDERS = {
    "birdnet-3.0": write_birdnet_3,
    "perch-2-headless": write_perch_2_headless,
    "perch-2-onnx": write_perch_2,
}
