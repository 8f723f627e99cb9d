"""Encoders that run a network which a card describes: all of them cut, level and pool in the same way."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from birdemb.embed.card import Card, Tensors
from birdemb.embed.encoder import Encoder
from birdemb.embed.frames import cut_frames, pool_rows, set_level
from birdemb.errors import InputError, RecordingError

if TYPE_CHECKING:
    from birdemb.embed.weights import FoundWeights

__all__ = ["SMALLEST_PROBABILITY", "Heard", "NetworkEncoder"]

_QUIET = 0.01
"""Of the noise that a network is tried with; full scale is 1."""

SMALLEST_PROBABILITY = 1e-7
"""Probabilities that round to 0 or 1 become logits of about -16 and 16."""


@dataclass(frozen=True)
class Heard:
    """What a network gives for frames.

    Parameters
    ----------
    embeddings : ndarray
        As the network has it: frames along the first axis, the values along the card's `embedding_axis`.
    logits : ndarray or None
        Frames along the first axis, classes along the last.
    """

    embeddings: NDArray[np.float32]
    logits: NDArray[np.float32] | None


class NetworkEncoder(Encoder):
    """An encoder whose network and card are all that there is to it.

    A window is cut into frames that cover it evenly, each is brought to the card's level, and what the network gives
    for them is pooled: over the frames, and over all axes of the network's output beside its values. Of logits the
    largest is taken, which tells best what is heard anywhere.

    Raises
    ------
    InputError
        If the card has no tensors or no weights.
    """

    def __init__(
        self,
        card: Card,
        *,
        window: float = 5.0,
        weights: FoundWeights | None = None,
        precision: str = "f32",
        logits: bool = False,
    ) -> None:
        super().__init__(card, window=window, weights=weights, precision=precision, logits=logits)
        if weights is None:
            raise InputError(f"{card.name} was given no weights.")
        if card.tensors is None:
            raise InputError(f"The card of {card.name} has no table [tensors].")
        self.weights_path = weights.path
        self.tensors: Tensors = card.tensors
        self._prepared = False

    @property
    def identity(self) -> dict[str, Any]:
        """As of every encoder; with all that the card says of the network."""
        tensors = asdict(self.tensors)
        del tensors["at_once"]  # changes nothing
        return super().identity | {
            "kind": self.card.kind,
            "shortest_seconds": self.card.shortest_seconds,
            **{f"tensors.{key}": value for key, value in tensors.items()},
        }

    @property
    def frame_samples(self) -> int:
        """Samples of a frame as the network hears it."""
        heard = self.frame_seconds or self.window
        return round(max(heard, self.card.shortest_seconds) * self.card.sample_rate)

    @property
    def frames_at_once(self) -> int:
        """How many frames `_run` is given together at the most."""
        return 1 if self.tensors.layout == "single" else self.tensors.at_once

    def prepare(self) -> None:
        """As of every encoder."""
        if self._prepared:
            return
        self._read(self.hear_noise(), self.frames_at_once)
        self._prepared = True

    def hear_noise(self) -> Heard:
        """Give what the network gives for some quiet noise, whether that is as the card says or not.

        It hears `frames_at_once` frames, as some networks take but one; and no silence, by which some divide.
        """
        shape = (self.frames_at_once, self.frame_samples)
        return self._run(np.random.default_rng(0).normal(0, _QUIET, shape).astype(np.float32))

    @abstractmethod
    def _run(self, frames: NDArray[np.float32]) -> Heard:
        """Give what the network gives.

        Parameters
        ----------
        frames : ndarray of shape (n, frame_samples), float32
            As many as `frames_at_once` at the most; one with the layout ``"single"``, whose output gets a first axis
            of length 1.

        Returns
        -------
        Heard
            In memory of its own.
        """

    def _encode(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._hear(windows)[0]

    def _encode_with_logits(self, windows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._hear(windows)

    def _hear(self, windows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.prepare()
        starts = [round(start * self.card.sample_rate) for start in self.frame_starts]
        frames = cut_frames(windows, starts, self.frame_samples)
        frames = set_level(frames, self.card.level, self.card.level_peak)
        embeddings, logits = [], []
        for first in range(0, len(frames), self.frames_at_once):
            part = frames[first : first + self.frames_at_once]
            rows, own = self._read(self._run(part), len(part))
            if not (np.isfinite(rows).all() and np.isfinite(own).all()):
                raise RecordingError(
                    "encode",
                    f"the network of {self.card.name} gives values that are no finite numbers (NaN or infinity). Some "
                    "networks do so for digital silence, which they divide by; otherwise its weights are broken",
                )
            embeddings.append(rows)
            logits.append(own)
        rows, own = (np.concatenate(parts) for parts in (embeddings, logits))
        width = rows.shape[-1]
        pooled = pool_rows(rows.reshape(len(windows), -1, width), self.card.pooling)
        return pooled, own.reshape(len(windows), len(starts), -1).max(axis=1)

    def _pool(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Make embeddings of what the network gives for windows that are as long as a frame."""
        read, _ = self._read(Heard(rows, None), len(rows))
        return pool_rows(read, self.card.pooling)

    def _read(self, heard: Heard, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Bring what a network gave for some frames into the same form for all networks.

        Returns
        -------
        embeddings : ndarray of shape (count, rows of a frame, network's width), float32
        logits : ndarray of shape (count, logits_width), float32
        """
        rows, axis = heard.embeddings, self.tensors.embedding_axis
        width = self.card.network_dim
        if rows.ndim < 2 or not -rows.ndim < axis < rows.ndim or not axis or rows.shape[axis] != width:
            raise InputError(
                f"The network of {self.card.name} gives an embedding of shape {rows.shape}; expected a width of "
                f"{width:,} in axis {axis}, as its card says. Correct dim, tensors.embedding or "
                "tensors.embedding_axis in the card, or use the weights that it was written for."
            )
        if not rows.size:
            raise InputError(
                f"The network of {self.card.name} gives no embedding at all for {self.frame_samples:,} samples; set "
                "shortest_seconds in its card to the least that it needs."
            )
        if len(rows) != count:
            raise InputError(
                f"The network of {self.card.name} gives {len(rows)} embeddings for {count} frames; expected one row of "
                "its first axis for each. Name another output in tensors.embedding of its card, or, if it hears one "
                'frame at a time, set tensors.layout = "single" or tensors.at_once = 1.'
            )
        embeddings = np.moveaxis(rows, axis, -1).reshape(count, -1, width)
        return embeddings, self._read_logits(heard.logits, count)

    def _read_logits(self, logits: NDArray[np.float32] | None, count: int) -> NDArray[np.float32]:
        if not self.logits_width:
            return np.empty((count, 0), np.float32)
        if logits is None or logits.ndim < 2 or len(logits) != count or logits.shape[-1] != self.logits_width:
            shape = "none at all" if logits is None else f"shape {logits.shape}"
            raise InputError(
                f"The network of {self.card.name} gives logits of {shape} for {count} frames; expected "
                f"{self.logits_width:,} classes along the last axis, as its card says. Correct classes or "
                "tensors.logits in the card, or use the weights that it was written for."
            )
        if self.tensors.values == "probabilities":
            inside = np.clip(logits.astype(np.float64), SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
            logits = (np.log(inside) - np.log1p(-inside)).astype(np.float32)
        scaled = np.float32(self.tensors.scale) * logits + np.float32(self.tensors.shift)
        largest: NDArray[np.float32] = scaled.reshape(count, -1, self.logits_width).max(axis=1)
        return largest
