"""The contract that every encoder keeps, and the one place that makes encoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.defaults import DEFAULT_ENCODER
from birdemb.embed.card import Card, load_card
from birdemb.embed.windows import place_frames
from birdemb.errors import InputError

__all__ = ["Encoder", "load_encoder"]

_MODULES = {
    "birdnet": "birdemb.embed.birdnet:BirdNetEncoder",
    "melspec": "birdemb.embed.melspec:MelspecEncoder",
}


class Encoder(ABC):
    """Turns windows into embeddings.

    Parameters
    ----------
    card : Card
        What is to be known of it.
    window : float
        Length in seconds of the windows that it will be given.
    weights : Path, optional
        Checked weights, for an encoder that has any.
    """

    revision = 1
    """Raised when the arithmetic of an encoder changes, so that older embeddings are not taken for its own."""

    def __init__(self, card: Card, *, window: float = 5.0, weights: Path | None = None) -> None:
        self.card = card
        self.window = window
        self.weights = weights

    @property
    def window_samples(self) -> int:
        """Samples of a window at the card's rate."""
        return round(self.window * self.card.sample_rate)

    @property
    def identity(self) -> dict[str, Any]:
        """All that the embeddings depend on, as JSON: two encoders agree exactly where their identities do."""
        return {
            "encoder": self.card.name,
            "revision": self.revision,
            "weights_sha256": self.card.weights.sha256 if self.card.weights else None,
            "precision": "f32",
            "sample_rate": self.card.sample_rate,
            "dim": self.card.dim,
            "frame_seconds": self.card.frame_seconds,
            "frame_starts": list(place_frames(self.window, self.card.frame_seconds)),
            "pooling": self.card.pooling,
            "level": self.card.level,
        }

    def encode(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn windows into embeddings.

        Parameters
        ----------
        windows : ndarray of shape (n, window_samples), float32
            Mono samples at the card's rate, full scale 1.

        Returns
        -------
        ndarray of shape (n, dim), float32
            One embedding a window, its own memory, finite. A row depends on its own window alone.

        Raises
        ------
        InputError
            If the windows have another shape or type.
        """
        if windows.ndim != 2 or windows.shape[1] != self.window_samples or windows.dtype != np.float32:
            raise InputError(
                f"{self.card.name} was given windows of shape {windows.shape} and type {windows.dtype}; "
                f"expected (n, {self.window_samples}) float32: {self.window} s at {self.card.sample_rate} Hz."
            )
        if not len(windows):
            return np.empty((0, self.card.dim), np.float32)
        return self._encode(windows)

    @abstractmethod
    def _encode(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Do what `encode` says, for at least one window of the right shape."""


def load_encoder(name: str = DEFAULT_ENCODER, *, window: float = 5.0, weights: Path | None = None) -> Encoder:
    """Make an encoder ready.

    Parameters
    ----------
    name : str
        As in `birdemb encoders`.
    window : float
        Length in seconds of the windows that it will be given.
    weights : Path, optional
        A weights file or a folder with one; where to look without it says `find_weights`.

    Returns
    -------
    Encoder

    Raises
    ------
    InputError
        If there is no such encoder, or its weights are not what they have to be.
    MissingWeightsError
        If its weights are nowhere.

    Examples
    --------
    >>> encoder = load_encoder("melspec")
    >>> encoder.encode(np.zeros((2, 160_000), np.float32)).shape
    (2, 824)
    """
    card = load_card(name)
    if card.weights is not None or weights is not None:
        from birdemb.embed.weights import find_weights  # not needed without weights

        weights = find_weights(card, weights)
    module, _, kind = _MODULES[card.kind].partition(":")
    encoder: Encoder = getattr(import_module(module), kind)(card, window=window, weights=weights)
    return encoder
