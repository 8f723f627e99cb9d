"""BirdNET 2.4. What computes is loaded when it is first used, as a process whose workers compute needs none of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from birdemb.embed.card import Card
from birdemb.embed.encoder import Encoder
from birdemb.embed.frames import cut_frames, pool_rows
from birdemb.embed.windows import place_frames
from birdemb.errors import InputError

if TYPE_CHECKING:
    import openvino as ov

    from birdemb.embed.birdnet_front_end import FrontEnd
    from birdemb.embed.birdnet_passes import Passes
    from birdemb.embed.trunk import Trunk
    from birdemb.embed.weights import FoundWeights

__all__ = ["BirdNetEncoder"]

_LONGEST_PASS = 60.0  # seconds: memory grows with the pass


class BirdNetEncoder(Encoder):
    """BirdNET 2.4: at least 3 s at 48 kHz, embeddings of width 1024, non-negative.

    With the pooling ``"whole"`` the network hears a window in one pass, its own mean over time going over all of it;
    with ``"mean"`` it hears frames of 3 s that cover the window evenly, and their embeddings are averaged. The
    front end always runs in float32: in bfloat16 it would lose the quiet bands. In int8 and f16 the trunk is the one
    that `birdemb.embed.quantization.quantize_encoder` wrote, and the identity names it.

    The network is read and compiled when it is first used. One encoder serves one thread at a time.
    """

    revision = 2

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
        if window > _LONGEST_PASS and card.pooling == "whole":
            raise InputError(
                f"{card.name} hears a window in one pass, for which {window:g} s are too long; "
                f"expected {_LONGEST_PASS:g} s or less."
            )
        self._found = weights

    def read_classifier(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """As of every encoder: BirdNET's logits are linear in the embedding of a pass, and in a mean of such."""
        if self.card.pooling not in ("mean", "whole"):
            return None
        from birdemb.embed.birdnet_graph import read_classifier

        return read_classifier(self._found.path, self.card.dim)

    def read_trunk(self) -> Trunk:
        """As of every encoder: all that stands behind the spectrograms."""
        from birdemb.embed.trunk import Trunk

        passes = self._passes
        model = self.read_plain_trunk(passes.samples)
        model.input(0).get_tensor().set_names({"spectrograms"})
        model.output(0).get_tensor().set_names({"embeddings"})
        return Trunk(
            model=model,
            seconds=self.frame_seconds,
            samples=passes.samples,
            look=passes.look_at_all,
            at_once=passes.at_once,
            fast=True,
        )

    def read_front_end(self) -> FrontEnd:
        """Read what stands before the trunk."""
        from birdemb.embed.birdnet_parts import read_front_end

        return read_front_end(self._found, self.card.network_dim)

    def read_plain_trunk(self, samples: int) -> ov.Model:
        """Read the trunk for passes of so many samples: not what is compiled, but the same for every processor.

        Takes spectrograms of shape (n, 2, mel bands, steps), and gives embeddings of shape (n, dim).
        """
        from birdemb.embed.birdnet_parts import read_stored_trunk
        from birdemb.embed.openvino_models import read_graph

        stored = read_stored_trunk(self._found, self.card.network_dim)
        trunk = read_graph(stored.graph, stored.tensors)
        shape = trunk.input(0).partial_shape
        shape[3] = self.read_front_end().count_steps(samples)
        trunk.reshape(shape)
        return trunk

    @cached_property
    def _passes(self) -> Passes:
        return self._make_passes(self.frame_seconds)

    @cached_property
    def _frames(self) -> Passes:
        same = self.frame_seconds == self.card.frame_seconds
        return self._passes if same else self._make_passes(self.card.frame_seconds)

    def _make_passes(self, seconds: float) -> Passes:
        from birdemb.embed.birdnet_passes import Passes

        samples = round(seconds * self.card.sample_rate)
        return Passes(self._found, samples, self.card.network_dim, self.arithmetic, self.quantized)

    def _encode(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        return pool_rows(self._hear(windows, self._passes, self.frame_starts), self.card.pooling)

    def _encode_with_logits(self, windows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        # Of frames of 3 s always, as its authors meant them; the largest tells best what is heard anywhere.
        heard = self._hear(windows, self._frames, place_frames(self.window, self.card.frame_seconds))
        logits = (
            self._frames.classify(heard.reshape(-1, self.card.network_dim)).reshape(*heard.shape[:2], -1).max(axis=1)
        )
        if self._frames is not self._passes:
            return self._encode(windows), logits
        return pool_rows(heard, self.card.pooling), logits

    def _hear(self, windows: NDArray[np.float32], passes: Passes, starts: Sequence[float]) -> NDArray[np.float32]:
        """Give the embeddings of the passes over each window, shape (windows, passes, dim)."""
        first = [round(start * self.card.sample_rate) for start in starts]
        return passes.run(cut_frames(windows, first, passes.samples)).reshape(len(windows), len(first), -1)
