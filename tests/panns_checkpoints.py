"""Checkpoints of PANNs with random numbers: every tensor of the published ones, by its name and shape.

The names and shapes follow the published source (pytorch/models.py of github.com/qiuqiangkong/audioset_tagging_cnn),
written down here once more and not asked of the code that is tested. The numbers of the front end are the real ones.
"""

from __future__ import annotations

import math
from pathlib import Path

import librosa
import numpy as np
import scipy.signal

SMALL = "panns-mobilenetv2"

PUBLISHED = {
    "MobileNetV1": [[12.289513, 0, 3.176457, 2.876874, 9.516225, 21.187958],
                    [13.685325, 0, 5.374227, 1.637071, 12.176133, 31.323908]],
    "MobileNetV2": [[1.328186, 0, 9.519788, 1.896891, 0, 0],
                    [0.897008, 0, 10.411436, 3.587676, 0, 0]],
}  # fmt: skip
"""The first values of what the published source gave with these tensors for two windows of noise."""

FRONT_END = {
    "spectrogram_extractor.stft.conv_real.weight": (513, 1, 1024),
    "spectrogram_extractor.stft.conv_imag.weight": (513, 1, 1024),
    "logmel_extractor.melW": (513, 64),
}
V1_CHANNELS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
V2_BLOCKS = (
    # of each: channels that come in, channels within, channels that go out
    (32, 32, 16), (16, 96, 24), (24, 144, 24), (24, 144, 32), (32, 192, 32), (32, 192, 32), (32, 192, 64),
    (64, 384, 64), (64, 384, 64), (64, 384, 64), (64, 384, 96), (96, 576, 96), (96, 576, 96), (96, 576, 160),
    (160, 960, 160), (160, 960, 160), (160, 960, 320),
)  # fmt: skip


def list_tensors(network: str) -> dict[str, tuple[int, ...]]:
    """List the tensors of a published checkpoint, by name, with their shapes."""
    listed = FRONT_END | _normalization("bn0", 64)
    if network == "Cnn14":
        channels = (1, 64, 128, 256, 512, 1024, 2048)
        for block in range(1, 7):
            name, (before, after) = f"conv_block{block}", channels[block - 1 : block + 1]
            listed |= {f"{name}.conv1.weight": (after, before, 3, 3), f"{name}.conv2.weight": (after, after, 3, 3)}
            listed |= _normalization(f"{name}.bn1", after) | _normalization(f"{name}.bn2", after)
        return listed | _dense("fc1", 2048, 2048) | _dense("fc_audioset", 2048, 527)
    listed |= {"features.0.0.weight": (32, 1, 3, 3)} | _normalization("features.0.2", 32)
    if network == "MobileNetV1":
        for layer in range(1, 14):
            name, (before, after) = f"features.{layer}", V1_CHANNELS[layer - 1 : layer + 1]
            listed |= {f"{name}.0.weight": (before, 1, 3, 3), f"{name}.4.weight": (after, before, 1, 1)}
            listed |= _normalization(f"{name}.2", before) | _normalization(f"{name}.5", after)
        return listed | _dense("fc1", 1024, 1024) | _dense("fc_audioset", 1024, 527)
    for layer, (before, within, after) in enumerate(V2_BLOCKS, start=1):
        name, first = f"features.{layer}.conv", 3 if layer > 1 else 0
        if first:
            listed |= {f"{name}.0.weight": (within, before, 1, 1)} | _normalization(f"{name}.1", within)
        listed |= {f"{name}.{first}.weight": (within, 1, 3, 3), f"{name}.{first + 4}.weight": (after, within, 1, 1)}
        listed |= _normalization(f"{name}.{first + 2}", within) | _normalization(f"{name}.{first + 5}", after)
    listed |= {"features.18.0.weight": (1280, 320, 1, 1)} | _normalization("features.18.1", 1280)
    return listed | _dense("fc1", 1280, 1024) | _dense("fc_audioset", 1024, 527)


def _normalization(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in parts} | {f"{name}.num_batches_tracked": ()}


def _dense(name: str, width: int, given: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (given, width), f"{name}.bias": (given,)}


def make_tensors(network: str) -> dict[str, np.ndarray]:
    """Fill a checkpoint's tensors with numbers that keep all its layers awake, the same each time."""
    rng = np.random.default_rng(len(network))
    tensors = {name: _draw(rng, name, shape) for name, shape in list_tensors(network).items()}
    tensors["bn0.running_mean"] -= 30  # dB
    tensors["bn0.running_var"] *= 400
    window = scipy.signal.get_window("hann", 1024)
    turns = np.exp(-2j * np.pi * np.outer(np.arange(513), np.arange(1024)) / 1024) * window
    mels = librosa.filters.mel(sr=32_000, n_fft=1024, n_mels=64, fmin=50, fmax=14_000).T
    front_end = (turns.real[:, None], turns.imag[:, None], mels)
    return tensors | {name: part.astype(np.float32) for name, part in zip(FRONT_END, front_end, strict=True)}


def _draw(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith("num_batches_tracked"):
        return np.array(600_000)
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    scale = math.sqrt(2 / math.prod(shape[1:])) if len(shape) > 1 else 0.3
    return scale * rng.standard_normal(shape, np.float32)


def write_checkpoint(path: Path, network: str, *, zipped: bool = False, **beside) -> None:
    """Write a checkpoint as the authors did, in the form that torch had then; `beside` lies beside the tensors.

    Training code leaves numbers of NumPy's there too: where its sampler was, and its scores.
    """
    import torch

    tensors = {name: torch.from_numpy(np.asarray(values)) for name, values in make_tensors(network).items()}
    sampler = {"pointer": np.int64(7), "indexes": np.arange(5), "scores": {"mAP": np.float64(0.4)}}
    content = {"iteration": 600_000, "model": tensors, "sampler": sampler} | beside
    torch.save(content, path, _use_new_zipfile_serialization=zipped)


NETWORKS = {"panns-cnn14": "Cnn14", "panns-mobilenetv1": "MobileNetV1", "panns-mobilenetv2": "MobileNetV2"}
BUILDERS = {card: lambda path, network=network: write_checkpoint(path, network) for card, network in NETWORKS.items()}


def make_windows(seconds: float = 5.0) -> np.ndarray:
    """Make two windows of noise at 32 kHz, the second half of the second one louder."""
    windows = np.random.default_rng(1).normal(0, 0.05, (2, round(seconds * 32_000))).astype(np.float32)
    windows[1, windows.shape[1] // 2 :] *= 10
    return windows
