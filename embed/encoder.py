"""The contract that every encoder keeps, and the one place that makes encoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from birdemb.defaults import DEFAULT_ENCODER
from birdemb.embed.card import Card, with_pooling
from birdemb.embed.catalogue import load_card
from birdemb.embed.precision import STORED_PRECISIONS, require_precision, resolve_precision
from birdemb.embed.windows import place_frames
from birdemb.errors import InputError
from birdemb.taxonomy import OwnClass

if TYPE_CHECKING:
    from birdemb.embed.quantized import QuantizedNetwork
    from birdemb.embed.trunk import Trunk
    from birdemb.embed.weights import FoundWeights

__all__ = ["Encoder", "find_encoder_weights", "load_encoder"]

_MODULES = {
    "birdnet": "birdemb.embed.birdnet:BirdNetEncoder",
    "melspec": "birdemb.embed.melspec:MelspecEncoder",
    "openvino": "birdemb.embed.openvino_encoder:OpenVinoEncoder",
    "panns": "birdemb.embed.panns:PannsEncoder",
    "savedmodel": "birdemb.embed.savedmodel_encoder:SavedModelEncoder",
    "tflite": "birdemb.embed.tflite_encoder:TfliteEncoder",
    "torchscript": "birdemb.embed.torchscript_encoder:TorchScriptEncoder",
}


class Encoder(ABC):
    """Turns windows into embeddings.

    Parameters
    ----------
    card : Card
        What is to be known of it.
    window : float
        Length in seconds of the windows that it will be given.
    weights : FoundWeights, optional
        Checked weights, for an encoder that has any.
    precision : str
        Of its arithmetic; one of the card's.
    logits : bool
        Whether it is to give its own classes' logits too.

    Raises
    ------
    InputError
        If it has no logits, does not run in this precision or pool in this way, or the window is too short for it.
    """

    revision = 1
    """Raised when the arithmetic of an encoder changes, so that older embeddings are not taken for its own."""

    poolings: tuple[str, ...] = ("max", "mean", "mean+max", "whole")
    """What it can make one embedding of a window's frames with."""

    shortest_samples: int = 0
    """The shortest window that it can hear, in samples at the card's rate."""

    def __init__(
        self,
        card: Card,
        *,
        window: float = 5.0,
        weights: FoundWeights | None = None,
        precision: str = "f32",
        logits: bool = False,
    ) -> None:
        require_precision(card, precision)
        if card.pooling not in self.poolings:
            raise InputError(f"{card.name} pools by {' or '.join(self.poolings)}, not by {card.pooling}.")
        if logits and not card.classes:
            raise InputError(f"{card.name} knows no classes by itself, so that it has no logits. Leave --logits out.")
        if round(window * card.sample_rate) < self.shortest_samples:
            raise InputError(
                f"For {card.name} a window of {window:g} s is too short; expected "
                f"{self.shortest_samples / card.sample_rate:g} s or more."
            )
        self.card = card
        self.window = window
        self.weights = weights.path if weights is not None else None
        self.weights_sha256 = weights.sha256 if weights is not None else None
        self.precision = precision
        self.quantized = _find_quantized(card, weights, precision)
        self.logits_width = card.classes if logits else 0

    @classmethod
    def find_weights(cls, card: Card, chosen: Path | None = None) -> FoundWeights | None:
        """Find an encoder's weights on this machine, else get them, and check them.

        Parameters
        ----------
        card : Card
        chosen : Path, optional
            The weights, or a folder with them; where to look without it says `birdemb.embed.weights.find_weights`.

        Returns
        -------
        FoundWeights or None
            None for an encoder that has none.

        Raises
        ------
        MissingWeightsError
            If they are nowhere; the message says how to get them.
        InputError
            If what was found is something else, or weights were chosen for an encoder that has none.
        """
        if card.weights is None and chosen is None:
            return None
        from birdemb.embed.weights import find_weights  # not needed without weights

        return find_weights(card, chosen)

    @property
    def arithmetic(self) -> str:
        """What its network computes in, beside integers: ``"f32"`` or ``"bf16"``."""
        return "bf16" if self.precision == "bf16" else "f32"

    @property
    def own_logits(self) -> int:
        """How many classes the encoder knows by itself."""
        return self.card.classes

    @property
    def frame_seconds(self) -> float:
        """What the network hears in one pass; 0 where it hears windows of any length."""
        heard = self.card.frame_seconds
        return max(heard, self.window) if self.card.pooling == "whole" else heard

    @property
    def frame_starts(self) -> tuple[float, ...]:
        """Where in a window the network begins to hear, in seconds."""
        return place_frames(self.window, self.frame_seconds)

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
            "weights_sha256": self.weights_sha256,
            "precision": self.precision,
            "sample_rate": self.card.sample_rate,
            "dim": self.card.dim,
            "logits": self.logits_width,
            "frame_seconds": self.frame_seconds,
            "frame_starts": list(self.frame_starts),
            "pooling": self.card.pooling,
            "level": self.card.level,
            **({"level_peak": self.card.level_peak} if self.card.level != "none" else {}),
            **(self.quantized.identity if self.quantized is not None else {}),
        }

    def prepare(self) -> None:
        """Make everything ready that the first windows would otherwise wait for, and make sure that it fits the card.

        Raises
        ------
        BirdembError
            If a package is missing, or the weights hold another network than the card says.
        """
        self.encode(np.zeros((1, self.window_samples), np.float32))

    @cached_property
    def own_classes(self) -> tuple[OwnClass, ...]:
        """Names of the classes that the encoder knows by itself, in the order of its logits; none if it knows none.

        Raises
        ------
        MissingWeightsError
            If the file with their names is nowhere on this machine. Embedding does not need it.
        InputError
            If a file was found that holds other names.
        """
        if not self.own_logits:
            return ()
        from birdemb.embed.own_classes import find_own_classes  # embedding does not need it

        return find_own_classes(self.card, self.weights)

    def read_classifier(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Read the layer that turns this encoder's embeddings into the logits of its own classes.

        Returns
        -------
        weights : ndarray of shape (dim, own_logits), float32
        intercepts : ndarray of shape (own_logits,), float32
            So that ``embeddings @ weights + intercepts`` are logits. None for an encoder that knows no classes by
            itself, or whose logits are not linear in the embedding.

        Raises
        ------
        InputError
            If the weights cannot be read.
        """
        return None

    def read_trunk(self) -> Trunk | None:
        """Give the network that can be quantized, in float32; None where an encoder has none that OpenVINO runs.

        Its model is made for whoever asks, who may change it; this encoder is then used no more.
        """
        return None

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
        self._check(windows)
        if not len(windows):
            return np.empty((0, self.card.dim), np.float32)
        return self._encode(windows)

    def encode_with_logits(self, windows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Turn windows into embeddings and the logits of the encoder's own classes.

        Parameters
        ----------
        windows : ndarray of shape (n, window_samples), float32
            As in `encode`.

        Returns
        -------
        embeddings : ndarray of shape (n, dim), float32
            Those that `encode` gives.
        logits : ndarray of shape (n, logits_width), float32
            Of what is heard anywhere in the window, before any sigmoid or softmax.

        Raises
        ------
        InputError
            If the windows have another shape or type, or the encoder was made without logits.
        """
        if not self.logits_width:
            raise InputError(f"{self.card.name} was made without logits; make it with logits=True.")
        self._check(windows)
        if not len(windows):
            return np.empty((0, self.card.dim), np.float32), np.empty((0, self.logits_width), np.float32)
        return self._encode_with_logits(windows)

    def _check(self, windows: NDArray[np.float32]) -> None:
        if windows.ndim != 2 or windows.shape[1] != self.window_samples or windows.dtype != np.float32:
            raise InputError(
                f"{self.card.name} was given windows of shape {windows.shape} and type {windows.dtype}; "
                f"expected (n, {self.window_samples}) float32: {self.window} s at {self.card.sample_rate} Hz."
            )

    @abstractmethod
    def _encode(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Do what `encode` says, for at least one window of the right shape."""

    def _encode_with_logits(self, windows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Do what `encode_with_logits` says; an encoder with `own_logits` has to."""
        raise NotImplementedError


def _find_quantized(card: Card, weights: FoundWeights | None, precision: str) -> QuantizedNetwork | None:
    if weights is None or precision not in STORED_PRECISIONS:
        return None
    from birdemb.embed.quantized import read_quantized  # heavy, and seldom needed

    return read_quantized(card, weights, precision)


def _find_kind(card: Card) -> type[Encoder]:
    module, _, name = _MODULES[card.kind].partition(":")
    kind: type[Encoder] = getattr(import_module(module), name)
    return kind


def find_encoder_weights(card: Card, chosen: str | Path | None = None) -> FoundWeights | None:
    """Find what an encoder runs on: its weights, or what was made of them; made of them now, if need be.

    Parameters
    ----------
    card : Card
    chosen : path, URL or handle, optional
        Where they are, or, as text, where to get them; where to look without it says
        `birdemb.embed.weights.find_weights`.

    Returns
    -------
    FoundWeights or None
        None for an encoder that has none.

    Raises
    ------
    BirdembError
        If they are nowhere, are others than the card's, or cannot be made into what the encoder runs on.
    """
    kind = _find_kind(card)
    if chosen is None:
        return kind.find_weights(card)
    from birdemb.embed.handles import find_by_handle, read_handle  # most runs need none

    handle = read_handle(chosen)
    if handle is None:
        return kind.find_weights(card, Path(chosen))
    by_handle = find_by_handle(handle, card)
    found = kind.find_weights(card, by_handle.path)
    return replace(found, origin=by_handle.origin) if found is not None and found.origin == "none" else found


def load_encoder(
    name: str = DEFAULT_ENCODER,
    *,
    window: float = 5.0,
    weights: str | Path | None = None,
    precision: str = "f32",
    logits: bool = False,
    pooling: str | None = None,
) -> Encoder:
    """Make an encoder ready.

    Its network is compiled when it is first used.

    Parameters
    ----------
    name : str
        As in `birdemb encoders`, or the path of a user's own card.
    window : float
        Length in seconds of the windows that it will be given.
    weights : path, URL or handle, optional
        A weights file or a folder with one; or, as text, where to get it: a URL, or a handle at Kaggle. Where to look
        without it says `find_weights`.
    precision : str
        ``"f32"``, ``"bf16"``; ``"int8"`` or ``"f16"`` for the network that `birdemb quantize` made; or ``"auto"`` for
        the faster of the first two that this processor has instructions for.
    logits : bool
        Whether it is to give its own classes' logits too.
    pooling : str, optional
        Another than the card's.

    Returns
    -------
    Encoder

    Raises
    ------
    InputError
        If there is no such encoder, its weights are not what they have to be, or it cannot do what is asked.
    MissingWeightsError
        If its weights are nowhere.

    Examples
    --------
    >>> encoder = load_encoder("melspec")
    >>> encoder.encode(np.zeros((2, 160_000), np.float32)).shape
    (2, 824)
    """
    card = load_card(name)
    if pooling is not None:
        card = with_pooling(card, pooling)
    return _find_kind(card)(
        card,
        window=window,
        weights=find_encoder_weights(card, weights),
        precision=resolve_precision(card, precision),
        logits=logits,
    )
