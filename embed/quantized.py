"""Quantized networks on disk: found, checked and read.

A quantized network is a folder beside the weights, ``<encoder>-int8``: OpenVINO's two files, and a JSON file that says
how it was made and holds the hashes of both. Nothing of it is used before the hashes have been compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from birdemb.embed.card import Card
from birdemb.embed.places import weights_folder
from birdemb.errors import InputError
from birdemb.storage import hash_json, read_json

__all__ = ["FORMAT", "GRAPH_FILE", "RECORD_FILE", "TENSORS_FILE", "QuantizedTrunk", "name_files", "read_quantized"]

FORMAT = 1
GRAPH_FILE = "trunk.xml"
TENSORS_FILE = "trunk.bin"
RECORD_FILE = "quantization.json"


@dataclass(frozen=True)
class QuantizedTrunk:
    """A network whose convolutions compute with 8-bit integers, as it was read and checked.

    Parameters
    ----------
    folder : Path
        Where it lies.
    sha256 : str
        Names both of its files, as `name_files` does.
    graph, tensors : bytes
        OpenVINO's two files.
    """

    folder: Path
    sha256: str
    graph: bytes = field(repr=False)
    tensors: bytes = field(repr=False)

    def read(self, core: ov.Core, steps: int) -> ov.Model:
        """Make a model of it.

        Parameters
        ----------
        core : openvino.Core
        steps : int
            Time steps of the spectrograms that it will be given.

        Returns
        -------
        openvino.Model
            Spectrograms of shape (n, 2, mel bands, steps) to embeddings of shape (n, dim).
        """
        model = core.read_model(self.graph, ov.Tensor(np.frombuffer(self.tensors, np.uint8)))
        shape = model.input(0).partial_shape
        shape[3] = steps
        model.reshape(shape)
        return model


def name_files(hashes: Mapping[str, str]) -> str:
    """Make one sha256 of those of the network's files: what an encoder's identity says of it."""
    return hash_json({name: hashes[name] for name in (GRAPH_FILE, TENSORS_FILE)})


def read_quantized(card: Card, weights: Path) -> QuantizedTrunk:
    """Find an encoder's quantized network on this machine, check it and read it.

    Looked for beside the weights, then in the folder that `birdemb.embed.places.weights_folder` gives.

    Parameters
    ----------
    card : Card
    weights : Path
        The checked weights that it was made of: the rest of the encoder is read from there.

    Returns
    -------
    QuantizedTrunk

    Raises
    ------
    InputError
        If there is none, it was made of other weights, or its files are not those that were written.
    """
    command = f"birdemb quantize {card.name} --calibrate FOLDER"
    places = list(dict.fromkeys(parent / f"{card.name}-int8" for parent in (weights.parent, weights_folder())))
    folder = next((place for place in places if (place / RECORD_FILE).is_file()), None)
    if folder is None:
        raise InputError(
            f"There is no int8 network of {card.name} in {' or '.join(str(place.parent) for place in places)}. "
            f"Make one of recordings like your own with `{command}`, or embed with --precision f32."
        )
    record = read_json(folder / RECORD_FILE, f"Make it again: {command} --force")
    hashes = _check_record(record, card, folder, command)
    files = {name: _read_checked(folder / name, hashes[name], command) for name in (GRAPH_FILE, TENSORS_FILE)}
    return QuantizedTrunk(folder, name_files(hashes), files[GRAPH_FILE], files[TENSORS_FILE])


def _check_record(record: Any, card: Card, folder: Path, command: str) -> dict[str, str]:  # noqa: ANN401 - what JSON held
    """Give the hashes that a record holds, of which nothing is certain before."""
    entries = record if isinstance(record, dict) else {}
    hashes = entries.get("files")
    if (
        entries.get("format") != FORMAT
        or not isinstance(hashes, dict)
        or not all(isinstance(hashes.get(name), str) for name in (GRAPH_FILE, TENSORS_FILE))
    ):
        raise InputError(
            f"{folder / RECORD_FILE} does not describe a quantized network of format {FORMAT}: it was altered, or "
            f"is of another version of birdemb. Make it again: {command} --force"
        )
    weights = card.weights.sha256 if card.weights else None
    if (entries.get("encoder"), entries.get("weights_sha256")) != (card.name, weights):
        raise InputError(
            f"{folder} was made of {entries.get('encoder')} with the weights {entries.get('weights_sha256')}, expected "
            f"{card.name} with {weights}. Make it again: {command} --force"
        )
    return {name: hashes[name] for name in (GRAPH_FILE, TENSORS_FILE)}


def _read_checked(path: Path, expected: str, command: str) -> bytes:
    """Read a file whole and give just what was hashed, as it may change while it is looked at."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}. Make it again: {command} --force"
        ) from error
    got = hashlib.sha256(content).hexdigest()
    if got != expected:
        raise InputError(
            f"{path} is not what was written: its sha256 is {got}, expected {expected}. It was altered or damaged. "
            f"Restore it from a copy, or make it again: {command} --force"
        )
    return content
