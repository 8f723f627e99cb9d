"""Networks in PyTorch, to be traced or scripted: `onnx_networks.NETWORK`, with its outputs in many forms."""

from typing import NamedTuple

import pytest
from card_files import own_card
from onnx_networks import NETWORK

torch = pytest.importorskip("torch")


class Steps(torch.nn.Module):
    """`NETWORK` in torch, behind a layer that would be another in training."""

    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.from_numpy(NETWORK.weights))
        self.classifier = torch.nn.Parameter(torch.from_numpy(NETWORK.classifier))
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        steps = waveform.reshape(waveform.shape[0], -1, 100) @ self.weights
        return self.dropout(steps.abs())


class Pooled(Steps):
    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return self.dropout((waveform.reshape(waveform.shape[0], -1, 100) @ self.weights).abs()).mean(dim=1)


class Pair(torch.nn.Module):
    """Logits and embedding, in this order."""

    def __init__(self):
        super().__init__()
        self.trunk = Pooled()

    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = self.trunk(waveform)
        return embedding @ self.trunk.classifier, embedding


class Named(Pair):
    def forward(self, waveform: torch.Tensor) -> dict[str, torch.Tensor]:
        embedding = self.trunk(waveform)
        return {"label": embedding @ self.trunk.classifier, "embedding": embedding}


class Result(NamedTuple):
    label: torch.Tensor
    embedding: torch.Tensor


class NamedPair(Pair):
    def forward(self, waveform: torch.Tensor) -> Result:
        embedding = self.trunk(waveform)
        return Result(embedding @ self.trunk.classifier, embedding)


class Channel(Pair):
    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = self.trunk(waveform[:, 0])
        return embedding @ self.trunk.classifier, embedding


class Single(Pair):
    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = self.trunk(waveform[None])[0]
        return embedding @ self.trunk.classifier, embedding


def torch_card(folder, **changes):
    return own_card(folder, "own.pt", kind="torchscript", **changes)
