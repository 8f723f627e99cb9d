"""The worked example of a SavedModel of one's own, as the documentation shows it."""

from pathlib import Path

import numpy as np
import pytest

from birdemb.embed.encoder import load_encoder

pytestmark = pytest.mark.slow  # TensorFlow alone takes seconds to import

EXPORT = """
import tensorflow as tf

features = tf.keras.Sequential([                # in earnest: your own trained network
    tf.keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
    tf.keras.layers.GlobalAveragePooling2D(),
])
head = tf.keras.layers.Dense(3)
mel = tf.signal.linear_to_mel_weight_matrix(64, 257, 16_000, 50.0, 8_000.0)


class Frogs(tf.Module):
    def __init__(self):
        super().__init__()
        self.features, self.head = features, head

    @tf.function(input_signature=[tf.TensorSpec([None, 80_000], tf.float32, name="waveform")])
    def infer(self, waveform):                  # 5 s at 16 kHz, any number of frames
        spectrogram = tf.abs(tf.signal.stft(waveform, 512, 256)) @ mel
        embedding = self.features(tf.math.log(spectrogram + 1e-3)[..., None])
        return {"embedding": embedding, "logits": self.head(embedding)}


frogs = Frogs()
tf.saved_model.save(frogs, "frogs", signatures={"serving_default": frogs.infer})
"""

CARD = """
name = "frogs"
kind = "savedmodel"
title = "A small network on mel spectrograms, trained on three frogs"
homepage = "https://example.org/frogs"
licence = "CC BY 4.0"
sample_rate = 16000         # Hz
frame_seconds = 5.0         # the 80,000 samples of the signature
dim = 32                    # width of the embedding
classes = 3
level = "peak"              # as it was trained: each frame's largest sample at half of full scale
level_peak = 0.5

[tensors]
call = "serving_default"    # or the name of a method; "" for the model itself
input = "waveform"
embedding = "embedding"     # of outputs without names, their numbers: "0", "1"
logits = "logits"

[weights]
file = "frogs"              # the folder, beside this card
folder = true

[labels]
file = "frogs.txt"          # one name a line, in the order of the logits
form = "lines"
"""


def test_example_runs_and_gives_what_the_network_gives():
    names = {}
    exec(compile(EXPORT, "the example", "exec"), names)  # noqa: S102 - its own lines
    Path("frogs.toml").write_text(CARD)
    Path("frogs.txt").write_text("Rana temporaria\nBufo bufo\nHyla arborea\n")
    encoder = load_encoder("frogs.toml", logits=True)
    windows = np.random.default_rng(0).normal(0, 0.1, (6, 80_000)).astype(np.float32)
    embeddings, logits = encoder.encode_with_logits(windows)
    expected = names["frogs"].infer(windows / np.abs(windows).max(axis=1, keepdims=True) / 2)
    np.testing.assert_allclose(embeddings, expected["embedding"], atol=1e-5)
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-5)
    assert [entry.scientific for entry in encoder.own_classes] == ["Rana temporaria", "Bufo bufo", "Hyla arborea"]
