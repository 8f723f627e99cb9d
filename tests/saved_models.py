"""SavedModels with the signatures and the widths of the real ones, whose insides can be computed in NumPy as well.

All hear in the same way: a waveform is cut into pieces of 100 samples, each is projected onto fixed random directions,
and the root mean square of these over some time is projected onto each output. That depends on pitch, on level, and on
a constant offset, so that whoever gives a network something else than it should hear gets something else.
"""

from __future__ import annotations

import csv
import zlib
from pathlib import Path

import numpy as np

from birdemb.embed.tensorflow_runtime import start_tensorflow

PIECE = 100  # samples
DIRECTIONS = 24
RATE_16K_FRAME, YAMNET_HOP, VGGISH_HOP = 15600, 7680, 15360  # samples: 0.975, 0.48 and 0.96 s
WIDTHS = {
    "perch-1": {"order": 41, "family": 249, "genus": 2333, "label": 10932, "embedding": 1280},
    "perch-1-v4": {"label": 10932, "embedding": 1280},
    "perch-2": {"label": 14795, "spatial_embedding": 4 * 1536},
    "yamnet": {"scores": 521, "embeddings": 1024},
    "vggish": {"embeddings": 128},
}
LABELS = {
    "perch-1": ("assets/label.csv", ["ebird2021"], 10932),
    "perch-1-v4": ("assets/label.csv", ["ebird2021"], 10932),
    "perch-2": ("assets/labels.csv", ["inat2024_fsd50k"], 14795),
    "yamnet": ("assets/yamnet_class_map.csv", ["index", "mid", "display_name"], 521),
}


class Insides:
    """The random numbers of one stand-in, and what it gives, in float64."""

    def __init__(self, name: str) -> None:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.kernel = (rng.normal(size=(PIECE, DIRECTIONS)) / np.sqrt(PIECE)).astype(np.float32)
        self.projections = {
            key: rng.normal(size=(DIRECTIONS, width)).astype(np.float32) for key, width in WIDTHS[name].items()
        }

    def hear(self, frames, output: str, parts: int = 1) -> np.ndarray:
        """Give one output for frames (..., samples): (..., parts, width), or (..., width) for one part."""
        pieces = np.asarray(frames, np.float64).reshape(*np.shape(frames)[:-1], parts, -1, PIECE)
        loudness = np.sqrt(((pieces @ self.kernel) ** 2).mean(axis=-2))
        result = loudness @ self.projections[output]
        return result[..., 0, :] if parts == 1 else result


def label_names(name: str) -> list[str]:
    return [f"Class, {number}" for number in range(LABELS[name][2])]


def _write_labels(path: Path, name: str) -> None:
    file, columns, _ = LABELS[name]
    with (path / file).open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(columns)
        writer.writerows([[str(index)] * (len(columns) - 1) + [each] for index, each in enumerate(label_names(name))])


def _save(path: Path, name: str, methods, signature: str = "") -> None:
    """Write a SavedModel whose methods are functions of (hear, waveform), each with its input's specification."""
    tf, _ = start_tensorflow()

    insides = Insides(name)
    module = tf.Module()
    module.kernel = tf.Variable(insides.kernel)
    module.projections = {key: tf.Variable(values) for key, values in insides.projections.items()}

    def hear(frames, output, parts=1):
        sizes = tf.concat([tf.shape(frames)[:-1], [parts, frames.shape[-1] // parts // PIECE, PIECE]], axis=0)
        pieces = tf.reshape(frames, sizes)
        loudness = tf.sqrt(tf.reduce_mean((pieces @ module.kernel) ** 2, axis=-2))
        result = loudness @ module.projections[output]
        return result[..., 0, :] if parts == 1 else result

    def trace(function, spec):
        return tf.function(lambda waveform: function(hear, waveform), input_signature=[spec])

    for method, (function, spec) in methods.items():
        setattr(module, method, trace(function, spec))
    signatures = {"serving_default": getattr(module, signature)} if signature else None
    tf.saved_model.save(module, str(path), signatures=signatures)
    if name in LABELS:
        _write_labels(path, name)


def write_perch_8(path: Path) -> None:
    tf, _ = start_tensorflow()

    def infer(hear, waveform):
        given = {key: hear(waveform, key) for key in WIDTHS["perch-1"]}
        return given | {"frontend": tf.reshape(waveform, [-1, 500, 320])[..., :160]}

    spec = tf.TensorSpec([None, 160_000], tf.float32, name="inputs")
    _save(path, "perch-1", {"infer_tf": (infer, spec)}, "infer_tf")


def write_perch_4(path: Path) -> None:
    tf, _ = start_tensorflow()

    def infer(hear, waveform):
        return hear(waveform, "label"), hear(waveform, "embedding")

    spec = tf.TensorSpec([1, 160_000], tf.float32, name="inputs")
    _save(path, "perch-1-v4", {"infer_tf": (infer, spec)}, "infer_tf")


def write_perch_2(path: Path) -> None:
    tf, _ = start_tensorflow()

    def infer(hear, waveform):
        spatial = tf.reshape(hear(waveform, "spatial_embedding", 16), [-1, 16, 4, 1536])
        return {
            "label": hear(waveform, "label"),
            "embedding": tf.reduce_mean(spatial, axis=[1, 2]),
            "spatial_embedding": spatial,
            "spectrogram": tf.reshape(waveform, [-1, 500, 320])[..., :128],
        }

    spec = tf.TensorSpec([None, 160_000], tf.float32, name="inputs")
    _save(path, "perch-2", {"infer": (infer, spec)}, "infer")


def write_yamnet(path: Path) -> None:
    tf, _ = start_tensorflow()

    def call(hear, waveform):
        heard = tf.maximum(tf.shape(waveform)[0], RATE_16K_FRAME)
        hops = -(-(heard - RATE_16K_FRAME) // YAMNET_HOP)
        padded = tf.pad(waveform, [[0, RATE_16K_FRAME + hops * YAMNET_HOP - tf.shape(waveform)[0]]])
        frames = tf.signal.frame(padded, RATE_16K_FRAME, YAMNET_HOP)
        scores = tf.sigmoid(hear(frames, "scores"))
        log_mel = tf.math.log(tf.abs(tf.signal.frame(padded, 400, 160)[:, :64]) + 0.001)
        return scores, hear(frames, "embeddings"), log_mel

    _save(path, "yamnet", {"__call__": (call, tf.TensorSpec([None], tf.float32, name="waveform"))})


def write_vggish(path: Path) -> None:
    tf, _ = start_tensorflow()

    def call(hear, waveform):
        return hear(tf.signal.frame(waveform, RATE_16K_FRAME, VGGISH_HOP), "embeddings")

    _save(path, "vggish", {"__call__": (call, tf.TensorSpec([None], tf.float32, name="waveform"))})


def write_compiled(path: Path, *, version: int, platform: str) -> None:
    """Write a network that hears nothing, but was compiled for one platform, as Perch 2 is."""
    tf, _ = start_tensorflow()
    from tensorflow.compiler.tf2xla.python import xla

    samples = 1600
    kind = f"tensor<1x{samples}xf32>"
    code = (
        f"module @m {{ func.func public @main(%arg0: {kind}) -> {kind} {{\n"
        f"  %0 = stablehlo.add %arg0, %arg0 : {kind}\n  return %0 : {kind} }} }}"
    )
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([1, samples], tf.float32, name="inputs")])
    def double(inputs):
        (doubled,) = xla.call_module(
            [inputs], version=version, module=code, Tout=[tf.float32], Sout=[[1, samples]], platforms=[platform]
        )
        return {"embedding": doubled}

    module.double = double
    tf.saved_model.save(module, str(path), signatures={"serving_default": double})


BUILDERS = {
    "perch-1": write_perch_8,
    "perch-1-v4": write_perch_4,
    "perch-2": write_perch_2,
    "perch-2-gpu": write_perch_2,
    "vggish": write_vggish,
    "yamnet": write_yamnet,
}
