"""PANNs: networks that learned the 527 classes of sounds of AudioSet, run in OpenVINO without torch."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from birdemb.embed.card import Card
from birdemb.embed.converted import FILTERS_FILE, FORMAT, TRUNK_FILE, find_converted, is_converted, name_folder
from birdemb.embed.frames import set_level
from birdemb.embed.network_encoder import Heard, NetworkEncoder
from birdemb.embed.openvino_models import compile_model, find_output, read_model
from birdemb.embed.panns_front_end import HOP, MEL_BANDS, SAMPLE_RATE, make_log_mels
from birdemb.embed.places import user_folder, weights_folder
from birdemb.embed.trunk import Trunk
from birdemb.embed.weights import FoundWeights, find_weights, locate_weights, tell_on_stderr, weights_of
from birdemb.errors import InputError
from birdemb.locking import hold_lock
from birdemb.storage import check_writable

__all__ = ["EMBEDDING", "LOGITS", "NETWORKS", "PannsEncoder", "name_network"]

NETWORKS = ("Cnn14", "MobileNetV1", "MobileNetV2")
EMBEDDING, LOGITS = "embedding", "logits"
"""The outputs of a converted network."""


class PannsEncoder(NetworkEncoder):
    """A network of PANNs, converted from torch to OpenVINO when it is first wanted.

    The network is read and compiled when it is first used. One encoder serves one thread at a time. The front end
    computes in float32 whatever the precision: the powers of a spectrogram span ten decades.

    Raises
    ------
    InputError
        If the card says what none of these networks does.
    """

    @classmethod
    def find_weights(cls, card: Card, chosen: Path | None = None) -> FoundWeights | None:
        """Find the converted network, else the checkpoint, and convert that.

        The converted network is looked for beside the checkpoint and in the folders of weights. It is written beside
        the checkpoint, or into the folder of weights where that may not be written to. Where a converted network is
        chosen without a checkpoint, there is no other place.

        Parameters
        ----------
        card : Card
        chosen : Path, optional
            A checkpoint, a converted network, or a folder that holds either.

        Returns
        -------
        FoundWeights
            The converted network's folder, with the hash of the checkpoint that it was made of.

        Raises
        ------
        MissingWeightsError
            If neither is anywhere.
        MissingDependencyError
            If there is only a checkpoint, and torch is not installed to convert it.
        InputError
            If what was found is altered, or is no checkpoint of the card's network; or if the converted network cannot
            be written.
        """
        name_network(card)
        folder = _locate_chosen(card, chosen) if chosen is not None else None
        if folder is not None:
            found = find_converted(card, [folder])
            if found is None:
                raise InputError(f"{folder} was made of other weights than the card of {card.name} names.")
            return found
        checkpoint = _find_checkpoint(card, chosen)
        places = [checkpoint.path.parent] if checkpoint is not None else []
        places += [card.place.parent] if card.place is not None else []
        folders = [name_folder(card, place) for place in (*places, weights_folder(), user_folder())]
        found = find_converted(card, folders, checkpoint.sha256 if checkpoint is not None else "")
        if found is not None:
            return found
        checkpoint = checkpoint or find_weights(card, chosen)
        beside = checkpoint.path.parent
        return _convert(card, checkpoint, name_folder(card, beside if os.access(beside, os.W_OK) else weights_folder()))

    @property
    def identity(self) -> dict[str, Any]:
        """As of every encoder; with the format of the conversion, so that an older one is never taken for this one."""
        return super().identity | {"conversion": FORMAT}

    def read_trunk(self) -> Trunk:
        """As of every encoder: all that stands behind the spectrograms."""
        return Trunk(
            model=self.model,
            seconds=self.frame_samples / self.card.sample_rate,
            samples=self.frame_samples,
            look=self._look,
            embedding=find_output(self.model, self.tensors.embedding, self.card),
            pool=self._pool,
            at_once=self.frames_at_once,
        )

    def _look(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the spectrograms of frames, as many at once as in a real run."""
        levelled = set_level(frames, self.card.level, self.card.level_peak)
        starts = range(0, len(levelled), self.frames_at_once)
        return np.concatenate(
            [make_log_mels(levelled[first : first + self.frames_at_once], self.filters) for first in starts]
        )

    @cached_property
    def filters(self) -> NDArray[np.float32]:
        """Weights of the frequencies in each mel band, shape (513, 64)."""
        filters: NDArray[np.float32] = np.load(self.weights_path / FILTERS_FILE, allow_pickle=False)
        return filters

    @cached_property
    def model(self) -> ov.Model:
        """All that stands behind the spectrograms, for frames of this length."""
        if self.quantized is not None:
            model = self.quantized.read()
        else:
            model = read_model(self.weights_path / TRUNK_FILE, self.card)
        try:
            model.reshape([-1, 1, self.frame_samples // HOP + 1, MEL_BANDS])
        except RuntimeError as error:  # what OpenVINO raises where nothing would be left of the image
            raise InputError(
                f"{self.card.name} cannot hear windows as short as {self.window} s. Set shortest_seconds = 1.0 in its "
                "card, so that they are padded."
            ) from error
        return model

    @cached_property
    def _request(self) -> ov.InferRequest:
        return compile_model(self.model, self.arithmetic).create_infer_request()

    @cached_property
    def outputs(self) -> list[int]:
        """Numbers of the outputs that the card names: of the embedding, and of the logits where they are wanted."""
        names = [self.tensors.embedding, *([self.tensors.logits] if self.logits_width else [])]
        return [find_output(self.model, name, self.card) for name in names]

    def _run(self, frames: NDArray[np.float32]) -> Heard:
        mels = make_log_mels(frames, self.filters)  # named, as a tensor that shares memory does not keep it alive
        self._request.set_input_tensor(0, ov.Tensor(mels, shared_memory=True))
        self._request.infer()
        # Copied, as OpenVINO reuses the memory of its results.
        found = [self._request.get_output_tensor(index).data.astype(np.float32, copy=True) for index in self.outputs]
        return Heard(found[0], found[1] if len(found) > 1 else None)


def name_network(card: Card) -> str:
    """Give which of PANNs' networks a card is about.

    Raises
    ------
    InputError
        If it says what none of them does.
    """
    tensors = card.tensors
    if tensors is None or tensors.call not in NETWORKS:
        called = repr(tensors.call) if tensors is not None else "missing"
        raise InputError(f"The card of {card.name} has tensors.call {called}; expected {' or '.join(NETWORKS)}.")
    if card.sample_rate != SAMPLE_RATE or tensors.layout != "batch":
        raise InputError(
            f"The card of {card.name} has sample_rate = {card.sample_rate} and tensors.layout = {tensors.layout!r}; "
            f"expected {SAMPLE_RATE} and 'batch', as PANNs' {tensors.call} hears nothing else."
        )
    return tensors.call


def _locate_chosen(card: Card, chosen: Path) -> Path | None:
    """Give the converted network that was chosen, itself or the folder that holds it; None if a checkpoint was."""
    if is_converted(chosen):
        return chosen
    folder = name_folder(card, chosen)
    return folder if is_converted(folder) and not (chosen / weights_of(card).file).is_file() else None


def _find_checkpoint(card: Card, chosen: Path | None) -> FoundWeights | None:
    """Find a checkpoint on this machine, and check it; nothing is downloaded."""
    return find_weights(card, chosen) if chosen is not None or locate_weights(card) is not None else None


def _convert(card: Card, checkpoint: FoundWeights, target: Path) -> FoundWeights:
    """Convert a checkpoint, or wait for another run that does, and take what that has made."""
    lock = target.with_name(f".{target.name}.lock")
    check_writable(lock)
    with hold_lock(lock, lambda: tell_on_stderr(f"Another run is converting {checkpoint.path}; waiting for it.")):
        found = find_converted(card, [target], checkpoint.sha256)
        if found is None:
            from birdemb.embed.panns_conversion import convert_checkpoint  # heavy, and wanted once

            convert_checkpoint(card, checkpoint, target)
            found = find_converted(card, [target], checkpoint.sha256)
    if found is None:  # on a filesystem without locks
        raise InputError(
            f"{target} is not the network that was just converted from {checkpoint.path}: another run has replaced it "
            f"by one of other weights of {card.name}. End that run, and run the same command again."
        )
    return found
