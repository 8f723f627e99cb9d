"""BirdNET's parts, kept on disk so that the TFLite file is parted once and not by every process.

OpenVINO takes half a second to read that file. Its parts lie in a folder of the user's cache folder, named after the
weights; whatever is wrong with it, it is made anew.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import platformdirs

from birdemb.embed.birdnet_graph import MelBranch, Parts, part_weights
from birdemb.embed.weights import FoundWeights
from birdemb.errors import InputError
from birdemb.storage import hash_file, read_json, replace_folder_atomically, write_json

__all__ = ["locate_parts", "read_parts"]

_FORMAT = 1  # raised where parts of the same weights come to be other ones
_FRONT_END, _GRAPH, _TENSORS, _ASKING = _FILES = ("front_end.npz", "trunk.xml", "trunk.bin", "asking.xml")
_RECORD_FILE = "record.json"


def locate_parts(weights: FoundWeights) -> Path:
    """Tell in which folder the parts of weights are kept."""
    return Path(platformdirs.user_cache_dir("birdemb")) / "networks" / f"birdnet-{weights.sha256[:16]}"


def read_parts(weights: FoundWeights, dim: int) -> Parts:
    """Read the parts of the TFLite file; where they are not yet on disk, part it and keep them.

    Parameters
    ----------
    weights : FoundWeights
        The official FP32 file.
    dim : int
        Width of an embedding.

    Returns
    -------
    Parts

    Raises
    ------
    InputError
        If the file is damaged, or this version of OpenVINO reads it into another graph.
    """
    folder = locate_parts(weights)
    contents = _read_kept(folder, weights)
    if contents is None:
        with tempfile.TemporaryDirectory() as scratch:
            parts = part_weights(weights.path, dim, Path(scratch))
        contents = {
            _FRONT_END: _pack(parts),
            _GRAPH: parts.graph,
            _TENSORS: parts.tensors,
            _ASKING: parts.asking,
        }
        # Only of the file that was hashed, as what is kept outlives it.
        if hash_file(weights.path) == weights.sha256:
            with suppress(InputError):  # where nothing can be written, each process parts the file for itself
                _keep(folder, weights, contents)
    return _unpack(contents)


def _read_kept(folder: Path, weights: FoundWeights) -> dict[str, bytes] | None:
    """Give the contents of the files that were kept, or None unless all of them are what was written."""
    try:
        record = read_json(folder / _RECORD_FILE)
        contents = {name: (folder / name).read_bytes() for name in _FILES}
    except (InputError, OSError):
        return None
    return contents if record == _describe(weights, contents) else None


def _keep(folder: Path, weights: FoundWeights, contents: Mapping[str, bytes]) -> None:
    with replace_folder_atomically(folder) as temporary:
        for name, content in contents.items():
            (temporary / name).write_bytes(content)
        write_json(temporary / _RECORD_FILE, _describe(weights, contents))


def _describe(weights: FoundWeights, contents: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "openvino": ov.__version__,
        "weights_sha256": weights.sha256,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }


def _pack(parts: Parts) -> bytes:
    arrays: dict[str, Any] = {"factors": parts.factors, "summands": parts.summands}
    for number, branch in enumerate(parts.branches):
        arrays |= {
            f"hop_{number}": branch.hop,
            f"weights_{number}": branch.weights,
            f"of_a_constant_{number}": branch.of_a_constant,
            f"exponent_{number}": branch.exponent,
        }
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    return packed.getvalue()


def _unpack(contents: Mapping[str, bytes]) -> Parts:
    with np.load(io.BytesIO(contents[_FRONT_END]), allow_pickle=False) as arrays:
        factors, summands = arrays["factors"], arrays["summands"]
        branches = [
            MelBranch(
                hop=int(arrays[f"hop_{number}"]),
                weights=arrays[f"weights_{number}"],
                of_a_constant=arrays[f"of_a_constant_{number}"],
                exponent=float(arrays[f"exponent_{number}"]),
            )
            for number in range(len(factors))
        ]
    return Parts(branches, factors, summands, contents[_GRAPH], contents[_TENSORS], contents[_ASKING])
