"""Networks with fewer bits on disk: found, checked and read.

Such a network is a folder beside the weights, ``<encoder>-<precision>``: OpenVINO's two files, and a JSON file that
says how it was made and how good it is, and holds the hashes of both. Nothing of it is used before the hashes have
been compared, nor where it was found to lose more than was allowed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openvino as ov

from birdemb.embed.card import Card
from birdemb.embed.openvino_models import read_graph
from birdemb.embed.packing import unpack
from birdemb.embed.places import user_folder, weights_folder
from birdemb.embed.quantization_record import GATES
from birdemb.embed.weights import name_in_commands
from birdemb.errors import InputError
from birdemb.storage import hash_json, read_json

if TYPE_CHECKING:
    from birdemb.embed.weights import FoundWeights

__all__ = [
    "FORMAT",
    "GRAPH_FILE",
    "RECORD_FILE",
    "TENSORS_FILE",
    "QuantizedNetwork",
    "command_for",
    "name_files",
    "read_quantized",
]

FORMAT = 2
GRAPH_FILE = "trunk.xml"
TENSORS_FILE = "trunk.bin"
RECORD_FILE = "quantization.json"


@dataclass(frozen=True)
class QuantizedNetwork:
    """A network with fewer bits, as it was read and checked.

    Parameters
    ----------
    folder : Path
        Where it lies.
    sha256 : str
        Names both of its files, as `name_files` does.
    figures : dict
        How large, how fast and how good it was found to be.
    graph, tensors : bytes
        OpenVINO's two files.
    """

    folder: Path
    sha256: str
    figures: dict[str, Any]
    graph: bytes = field(repr=False)
    tensors: bytes = field(repr=False)

    @property
    def identity(self) -> dict[str, Any]:
        """What it adds to an encoder's identity: each calibration makes another network."""
        return {"quantized_sha256": self.sha256, "quantization": self.figures}

    def read(self) -> ov.Model:
        """Make a model of it, with all that does not compute with integers in float32.

        Returns
        -------
        openvino.Model
            As the encoder's `birdemb.embed.trunk.Trunk` has it.
        """
        model = read_graph(self.graph, self.tensors)
        unpack(model)
        return model


def name_files(hashes: Mapping[str, str]) -> str:
    """Make one sha256 of those of the network's files: what an encoder's identity says of it."""
    return hash_json({name: hashes[name] for name in (GRAPH_FILE, TENSORS_FILE)})


def command_for(card: Card, precision: str) -> str:
    """Give the command that makes a network."""
    chosen = "" if precision == "int8" else f" --precision {precision}"
    return f"birdemb quantize {name_in_commands(card)} --calibrate FOLDER{chosen}"


def read_quantized(card: Card, weights: FoundWeights, precision: str) -> QuantizedNetwork:
    """Find an encoder's network with fewer bits on this machine, check it and read it.

    Looked for beside the weights, then in the folder that `birdemb.embed.places.weights_folder` gives, and in the
    user's cache folder, where it was made while ``BIRDEMB_MODELS`` named none.

    Parameters
    ----------
    card : Card
    weights : FoundWeights
        Those that it was made of: the rest of the encoder is read from there.
    precision : str
        One of `birdemb.embed.precision.STORED_PRECISIONS`.

    Returns
    -------
    QuantizedNetwork

    Raises
    ------
    InputError
        If there is none, it was made of other weights, its files are not those that were written, or it was found to
        lose more than it may.
    """
    command = command_for(card, precision)
    name = f"{card.name}-{precision}"
    places = list(dict.fromkeys(parent / name for parent in (weights.path.parent, weights_folder(), user_folder())))
    folder = next((place for place in places if (place / RECORD_FILE).is_file()), None)
    if folder is None:
        raise InputError(
            f"There is no {precision} network of {card.name} in {' or '.join(str(place.parent) for place in places)}. "
            f"Make one of recordings like your own with `{command}`, or embed with --precision f32."
        )
    record = read_json(folder / RECORD_FILE, f"Make it again: {command} --force")
    checked = _check_record(record, card, weights, precision, folder)
    hashes = checked["files"]
    _refuse_failed(checked["gate"], folder, command)
    files = {name: _read_checked(folder / name, hashes[name], command) for name in (GRAPH_FILE, TENSORS_FILE)}
    return QuantizedNetwork(
        folder, name_files(hashes), checked["figures"], graph=files[GRAPH_FILE], tensors=files[TENSORS_FILE]
    )


def _check_record(record: Any, card: Card, weights: FoundWeights, precision: str, folder: Path) -> dict[str, Any]:  # noqa: ANN401 - what JSON held
    """Give a record, of which nothing is certain before."""
    command = command_for(card, precision)
    entries = record if isinstance(record, dict) else {}
    hashes, gate, figures = (entries.get(key) for key in ("files", "gate", "figures"))
    if (
        entries.get("format") != FORMAT
        or not isinstance(hashes, dict)
        or not all(isinstance(hashes.get(name), str) for name in (GRAPH_FILE, TENSORS_FILE))
        or not isinstance(figures, dict)
        or not isinstance(gate, dict)
        or gate.get("result") not in GATES
    ):
        raise InputError(
            f"{folder / RECORD_FILE} does not describe a quantized network of format {FORMAT}: it was altered, or "
            f"is of another version of birdemb. Make it again: {command} --force"
        )
    made_of = tuple(entries.get(key) for key in ("encoder", "precision", "weights_sha256"))
    if made_of != (card.name, precision, weights.sha256):
        raise InputError(
            f"{folder} was made of {made_of[0]} in {made_of[1]} with the weights {made_of[2]}, expected {card.name} in "
            f"{precision} with {weights.sha256}. Make it again: {command} --force"
        )
    return entries


def _refuse_failed(gate: Mapping[str, Any], folder: Path, command: str) -> None:
    """Refuse a network that loses more than it may, unless whoever made it accepted that."""
    if gate["result"] != "failed" or gate.get("accepted") is True:
        return
    loss = gate.get("auc_loss")
    refitted = loss.get("refitted") if isinstance(loss, dict) else None
    lost = refitted.get("value") if isinstance(refitted, dict) else None
    raise InputError(
        f"{folder} is not used, as heads fitted on its embeddings were found to lose "
        f"{lost if not isinstance(lost, float) else round(lost, 4)} in macro ROC-AUC, and --max-auc-loss was "
        f"{gate.get('max_auc_loss')}. Embed with --precision f32, or make it again and accept that: "
        f"{command} --force --accept-loss"
    )


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
