"""Encoders whose network is a TensorFlow SavedModel."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.embed.catalogue import list_cards
from birdemb.embed.network_encoder import Heard, NetworkEncoder
from birdemb.embed.saved_models import Network, find_function, load_network, name_outputs, show_outputs
from birdemb.embed.weights import FoundWeights
from birdemb.errors import BirdembError, InputError

__all__ = ["SavedModelEncoder"]


class SavedModelEncoder(NetworkEncoder):
    """A network that TensorFlow runs: the folder of a SavedModel.

    TensorFlow is imported, and the network loaded, when it is first used. One encoder serves one thread at a time.
    """

    def prepare(self) -> None:
        """As of every encoder; where the weights are those of another card, the message says of which."""
        try:
            super().prepare()
        except InputError as error:
            other = self._find_other_card()
            if other is None:
                raise
            raise InputError(
                f"{error} They fit the card {other}: for that, give --encoder {other} --weights {self.weights_path}."
            ) from error

    @cached_property
    def _network(self) -> Network:
        return load_network(self.weights_path, self.card)

    @cached_property
    def _function(self) -> tuple[Callable[..., Any], str | None]:
        samples, layout = self.frame_samples, self.tensors.layout
        if layout == "single":
            shapes: list[tuple[int, ...]] = [(samples,)]
        else:
            inner = (1, samples) if layout == "channel" else (samples,)
            shapes = [(count, *inner) for count in sorted({1, self.tensors.at_once})]
        return find_function(self._network, self.tensors, shapes, self.card)

    def _run(self, frames: NDArray[np.float32]) -> Heard:
        layout = self.tensors.layout
        rows = frames[0] if layout == "single" else frames[:, None] if layout == "channel" else frames
        function, keyword = self._function
        given = self._network.make_tensor(rows)
        result = (
            self._network.run(function, self.card, given)
            if keyword is None
            else self._network.run(function, self.card, **{keyword: given})
        )
        outputs = name_outputs(result)
        embeddings = self._take(outputs, self.tensors.embedding)
        return Heard(embeddings, self._take(outputs, self.tensors.logits) if self.logits_width else None)

    def _take(self, outputs: dict[str, Any], name: str) -> NDArray[np.float32]:
        wanted = name or (next(iter(outputs)) if len(outputs) == 1 else "")
        found = outputs.get(wanted)
        if found is None or not found.dtype.is_floating:
            raise InputError(
                f"The network of {self.card.name} gives {show_outputs(outputs)}; expected "
                f"{f'an output {name!r}' if name else 'one output'} of floating-point numbers, as its card says. "
                "Correct tensors.embedding or tensors.logits in the card, or use the weights that it was written for."
            )
        # Copied, as what TensorFlow gives may be its own memory.
        row = np.array(found.numpy(), np.float32)
        return row[None] if self.tensors.layout == "single" else row

    def _find_other_card(self) -> str | None:
        """Find the card of birdemb's own that the weights belong to, if they were loaded at all."""
        if "_network" not in self.__dict__:
            return None
        try:
            cards = list_cards()
        except InputError:  # another card is wrong, which is not what went wrong here
            return None
        for card in cards:
            if card.kind != self.card.kind or card.place is not None or card.name == self.card.name:
                continue
            other = SavedModelEncoder(
                card,
                window=self.window,
                weights=FoundWeights(self.weights_path, self.weights_sha256 or ""),
                logits=bool(self.logits_width and card.classes),
            )
            other.__dict__["_network"] = self._network
            try:
                NetworkEncoder.prepare(other)
            except BirdembError:
                continue
            return card.name
        return None
