"""BirdNET's parts, kept on disk so that the TFLite file is parted once and not by every process.

OpenVINO takes half a second to read that file.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from birdemb.embed.birdnet_front_end import FrontEnd, MelBranch
from birdemb.embed.birdnet_graph import StoredTrunk, part_weights
from birdemb.embed.kept_files import get_kept, locate_kept
from birdemb.embed.weights import FoundWeights
from birdemb.errors import InputError
from birdemb.storage import hash_file

__all__ = ["locate_parts", "read_front_end", "read_stored_trunk"]

_FORMAT = 2  # raised where parts of the same weights come to be other ones
_FRONT_END, _GRAPH, _TENSORS = "front_end.npz", "trunk.xml", "trunk.bin"


def locate_parts(weights: FoundWeights) -> Path:
    """Tell in which folder the parts of weights are kept."""
    return locate_kept(f"birdnet-{weights.sha256[:16]}")


def read_front_end(weights: FoundWeights, dim: int) -> FrontEnd:
    """Read the front end of the TFLite file; where it is not yet on disk, part the file and keep its parts.

    Parameters
    ----------
    weights : FoundWeights
        The official FP32 file.
    dim : int
        Width of an embedding.

    Returns
    -------
    FrontEnd

    Raises
    ------
    InputError
        If the file is damaged or was changed since it was hashed, or this version of OpenVINO reads it into another
        graph.
    """
    return _unpack(_read(weights, dim, [_FRONT_END])[_FRONT_END])


def read_stored_trunk(weights: FoundWeights, dim: int) -> StoredTrunk:
    """Read the trunk of the TFLite file, as `read_front_end` reads what stands before it."""
    contents = _read(weights, dim, [_GRAPH, _TENSORS])
    return StoredTrunk(contents[_GRAPH], contents[_TENSORS])


def _read(weights: FoundWeights, dim: int, names: Collection[str]) -> Mapping[str, bytes]:
    made_of = {"format": _FORMAT, "openvino": ov.__version__, "weights_sha256": weights.sha256}
    return get_kept(locate_parts(weights), names, made_of, lambda: _part(weights.path, weights.sha256, dim))


@lru_cache(maxsize=1)  # where nothing can be kept, all parts are wanted one after the other
def _part(path: Path, sha256: str, dim: int) -> Mapping[str, bytes]:
    front_end, trunk = part_weights(path, dim)
    if hash_file(path) != sha256:
        raise InputError(f"{path} was changed while it was read. Run the command again.")
    return {_FRONT_END: _pack(front_end), _GRAPH: trunk.graph, _TENSORS: trunk.tensors}


def _pack(front_end: FrontEnd) -> bytes:
    arrays: dict[str, Any] = {"factors": front_end.factors, "summands": front_end.summands}
    for number, branch in enumerate(front_end.branches):
        arrays |= {
            f"hop_{number}": branch.hop,
            f"weights_{number}": branch.weights,
            f"of_a_constant_{number}": branch.of_a_constant,
            f"exponent_{number}": branch.exponent,
            f"low_pass_{number}": branch.low_pass,
            f"halved_{number}": branch.halved,
        }
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    return packed.getvalue()


def _unpack(content: bytes) -> FrontEnd:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        factors, summands = arrays["factors"], arrays["summands"]
        branches = [
            MelBranch(
                hop=int(arrays[f"hop_{number}"]),
                weights=arrays[f"weights_{number}"],
                of_a_constant=arrays[f"of_a_constant_{number}"],
                exponent=float(arrays[f"exponent_{number}"]),
                low_pass=arrays[f"low_pass_{number}"],
                halved=arrays[f"halved_{number}"],
            )
            for number in range(len(factors))
        ]
    return FrontEnd(branches, factors, summands)
