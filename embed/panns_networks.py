"""The networks of PANNs (pretrained audio neural networks) in torch, with the names that their checkpoints use.

They are described by Kong et al. (2020), "PANNs: large-scale pretrained audio neural networks for audio pattern
recognition" (https://arxiv.org/abs/1912.10211). The package panns-inference has Cnn14 and no other of these, so that
both MobileNets are written here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torchlibrosa.stft import LogmelFilterBank, Spectrogram  # type: ignore[import-untyped]

from birdemb.embed.panns import SAMPLE_RATE
from birdemb.embed.panns_package import import_networks

__all__ = ["make_network"]

_CLASSES = 527  # of AudioSet
_WINDOW, _HOP = 1024, 320  # samples
_MEL_BANDS, _LOWEST, _HIGHEST = 64, 50, 14_000  # the last two in Hz

_MOBILENET_FIRST, _MOBILENET_EMBEDDING = 32, 1024
_V1_STAGES = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1),
    (1024, 2), (1024, 1),
)  # fmt: skip
"""Of each separable convolution the channels it gives, and by how much it shrinks the image."""

_V2_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 2), (6, 160, 3, 1), (6, 320, 1, 1))
"""Of each stage by how much its blocks widen the channels within, the channels they give, how many blocks there are,
and by how much the first of them shrinks the image: not Sandler et al.'s (2018) own in the last two columns."""

_V2_LAST = 1280


def make_network(name: str) -> Any:  # noqa: ANN401 - a torch.nn.Module
    """Make one of PANNs' networks, with random weights.

    Parameters
    ----------
    name : str
        One of `birdemb.embed.panns.NETWORKS`.

    Returns
    -------
    torch.nn.Module
        In evaluation mode, so that neither dropout nor augmentation acts. It turns samples of shape (n, samples) at
        32 kHz into a dict with ``"embedding"`` of shape (n, width) and ``"clipwise_output"``, the probabilities of
        AudioSet's classes, of shape (n, 527). Its parts `spectrogram_extractor` and `logmel_extractor` make the
        log-mels of shape (n, 1, steps, 64), and `fc_audioset` the logits of these probabilities.

    Raises
    ------
    MissingDependencyError
        If panns-inference is not installed, for Cnn14.
    """
    make: dict[str, Callable[[], Any]] = {
        "Cnn14": _make_cnn14,
        "MobileNetV1": lambda: _MobileNet(_make_v1_features(), _V1_STAGES[-1][0]),
        "MobileNetV2": lambda: _MobileNet(_make_v2_features(), _V2_LAST),
    }
    return make[name]().eval()


def _make_cnn14() -> Any:  # noqa: ANN401 - a torch.nn.Module
    return import_networks().Cnn14(
        sample_rate=SAMPLE_RATE,
        window_size=_WINDOW,
        hop_size=_HOP,
        mel_bins=_MEL_BANDS,
        fmin=_LOWEST,
        fmax=_HIGHEST,
        classes_num=_CLASSES,
    )


class _MobileNet(nn.Module):  # type: ignore[misc]
    """What both MobileNets share: all but the convolutions.

    Parameters
    ----------
    features : torch.nn.Module
        The convolutions: log-mels of shape (n, 1, steps, 64) to images of shape (n, channels, steps, bands).
    channels : int
    """

    def __init__(self, features: nn.Module, channels: int) -> None:
        super().__init__()
        self.spectrogram_extractor = Spectrogram(n_fft=_WINDOW, hop_length=_HOP, win_length=_WINDOW)
        self.logmel_extractor = LogmelFilterBank(
            sr=SAMPLE_RATE, n_fft=_WINDOW, n_mels=_MEL_BANDS, fmin=_LOWEST, fmax=_HIGHEST, top_db=None
        )
        self.bn0 = nn.BatchNorm2d(_MEL_BANDS)
        self.features = features
        self.fc1 = nn.Linear(channels, _MOBILENET_EMBEDDING)
        self.fc_audioset = nn.Linear(_MOBILENET_EMBEDDING, _CLASSES)

    def forward(self, samples: torch.Tensor) -> dict[str, torch.Tensor]:
        mels = self.logmel_extractor(self.spectrogram_extractor(samples))
        normalized = self.bn0(mels.transpose(1, 3)).transpose(1, 3)
        over_time = self.features(normalized).mean(dim=3)
        embedding = torch.relu(self.fc1(over_time.amax(dim=2) + over_time.mean(dim=2)))
        return {"embedding": embedding, "clipwise_output": torch.sigmoid(self.fc_audioset(embedding))}


def _make_v1_features() -> nn.Module:
    """Give the separable convolutions of Howard et al. (2017), which shrink images by means instead of strides."""
    layers, channels = [nn.Sequential(*_convolve(1, _MOBILENET_FIRST, shrink=2), nn.ReLU())], _MOBILENET_FIRST
    for wider, shrink in _V1_STAGES:
        depthwise = _convolve(channels, channels, shrink=shrink, groups=channels)
        layers.append(nn.Sequential(*depthwise, nn.ReLU(), *_mix(channels, wider), nn.ReLU()))
        channels = wider
    return nn.Sequential(*layers)


def _make_v2_features() -> nn.Module:
    """Give the inverted residuals of Sandler et al. (2018), which shrink images by means instead of strides."""
    layers, channels = [nn.Sequential(*_convolve(1, _MOBILENET_FIRST, shrink=2), nn.ReLU6())], _MOBILENET_FIRST
    for widen, given, blocks, shrink in _V2_STAGES:
        for block in range(blocks):
            layers.append(_InvertedResidual(channels, given, widen=widen, shrink=1 if block else shrink))
            channels = given
    return nn.Sequential(*layers, nn.Sequential(*_mix(channels, _V2_LAST), nn.ReLU6()))


class _InvertedResidual(nn.Module):  # type: ignore[misc]
    def __init__(self, channels: int, given: int, *, widen: int, shrink: int) -> None:
        super().__init__()
        within = channels * widen
        self.conv = nn.Sequential(
            *([*_mix(channels, within), nn.ReLU6()] if widen > 1 else []),
            *_convolve(within, within, shrink=shrink, groups=within),
            nn.ReLU6(),
            *_mix(within, given),
        )
        self.adds = shrink == 1 and channels == given

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + self.conv(image) if self.adds else self.conv(image)


def _convolve(channels: int, given: int, *, shrink: int, groups: int = 1) -> list[nn.Module]:
    """Give a convolution of 3 x 3 with its normalization; the mean in between has a place in the names even if idle."""
    return [
        nn.Conv2d(channels, given, 3, padding=1, groups=groups, bias=False),
        nn.AvgPool2d(shrink),
        nn.BatchNorm2d(given),
    ]


def _mix(channels: int, given: int) -> list[nn.Module]:
    """Give a convolution of 1 x 1 with its normalization."""
    return [nn.Conv2d(channels, given, 1, bias=False), nn.BatchNorm2d(given)]
