"""The bundle: a fitted head and all that a prediction needs to know, in one file."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.archive import read_members, write_members
from birdemb.classify.checks import check_number, check_whole_number
from birdemb.classify.head import MultiLabelHead
from birdemb.classify.heads import HEADS, head_class
from birdemb.classify.state import StateValue
from birdemb.errors import InputError
from birdemb.storage import replace_atomically

__all__ = ["FORMAT_VERSION", "SUFFIX", "Bundle", "read_bundle", "write_bundle"]

SUFFIX = ".birdemb"
FORMAT_VERSION = 1

INDEX = "bundle.json"
INDEX_KEYS = {"format_version", "head", "params", "classes", "identity", "provenance", "members"}
PRIORS = "priors"
NOT_KEPT = "n_jobs"
"""The parameter of heads that belongs to a machine and not to what was learnt."""

LONGEST_WINDOW = 3600.0
SHORTEST_HOP = 0.01
NUMPY_HEADER = re.compile(
    rb"\{'descr': '[<|][biuf](1|2|4|8)', 'fortran_order': False, "
    rb"'shape': \(((?:\d{1,18}(?:,|(?:, \d{1,18})+))?)\), \} *\n"
)


@dataclass(frozen=True, eq=False)
class Bundle:
    """A fitted head, and what its columns and its embeddings are.

    Parameters
    ----------
    head : MultiLabelHead
        Fitted on an indicator matrix.
    classes : tuple of str
        Names of the columns of ``head.predict_proba``, in their order.
    identity : dict
        Full identity of the encoder that made the embeddings, as JSON can hold it. At least its name
        ``encoder``, the size ``dim`` of an embedding, and ``window`` and ``hop`` in seconds.
    priors : ndarray of shape (classes,), float64
        Share of the training windows in which each class is present.
    provenance : dict
        Where the head comes from, as JSON can hold it: versions, seed, command line, digest of the data,
        time of creation.

    Raises
    ------
    InputError
        If the parts do not fit together.
    """

    head: MultiLabelHead
    classes: tuple[str, ...]
    identity: dict[str, Any]
    priors: NDArray[np.float64]
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        if not all(isinstance(name, str) and name for name in self.classes):
            raise InputError("A class of the bundle has no name.")
        if len(set(self.classes)) != len(self.classes):
            twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
            raise InputError(f"These classes come more than once in the bundle: {', '.join(twice)}.")
        fitted = getattr(self.head, "classes_", None)
        if fitted is None:
            raise InputError("The head of the bundle is not fitted. Call fit first.")
        if len(fitted) != len(self.classes):
            raise InputError(f"The head predicts {len(fitted)} classes; the bundle names {len(self.classes)}.")
        if self.priors.shape != (len(self.classes),) or self.priors.dtype != np.float64:
            raise InputError(
                f"The priors are {self.priors.dtype} of shape {self.priors.shape}; "
                f"expected float64 of shape ({len(self.classes)},)."
            )
        if not ((self.priors >= 0) & (self.priors <= 1)).all():
            raise InputError("A prior of the bundle is not a share between 0 and 1.")
        _check_identity(self.identity, self.head.n_features_in_)


def _check_identity(identity: Mapping[str, Any], features: int) -> None:
    missing = {"encoder", "dim", "window", "hop"} - identity.keys()
    if missing:
        raise InputError(f"The identity in the bundle lacks {', '.join(sorted(missing))}.")
    encoder, dim, window, hop = (identity[key] for key in ("encoder", "dim", "window", "hop"))
    if not isinstance(encoder, str) or not encoder:
        raise InputError(f"The identity in the bundle names the encoder {encoder!r}.")
    check_whole_number("dim in the identity of the bundle", dim, at_least=1)
    if dim != features:
        raise InputError(f"The identity in the bundle says dim {dim}; the head was fitted on {features}.")
    check_number("window in the identity of the bundle", window, above=0, at_most=LONGEST_WINDOW)
    check_number("hop in the identity of the bundle", hop, at_least=SHORTEST_HOP, at_most=window)


def write_bundle(bundle: Bundle, path: Path) -> None:
    """Write a bundle to one file, atomically.

    The same bundle gives the same bytes, whatever the time, the machine and the head's `n_jobs`, which is
    not kept.

    Parameters
    ----------
    bundle : Bundle
    path : Path
        The file; its name ends in ``.birdemb``.

    Raises
    ------
    InputError
        If the name does not end in ``.birdemb``, if the head was fitted on 1-D labels, if the bundle holds
        what JSON cannot, or if the file cannot be written.
    """
    if path.suffix != SUFFIX:
        raise InputError(f"{path} is no name for a bundle. It has to end in {SUFFIX}.")
    state = {**bundle.head.get_state(), PRIORS: bundle.priors}
    members = {f"{key}.{_suffix(value)}": _to_bytes(value) for key, value in sorted(state.items())}
    params = {key: list(v) if isinstance(v, tuple) else v for key, v in bundle.head.get_params().items()}
    del params[NOT_KEPT]
    _check_head_params(params)
    index = {
        "format_version": FORMAT_VERSION,
        "head": bundle.head.name,
        "params": params,
        "classes": list(bundle.classes),
        "identity": bundle.identity,
        "provenance": bundle.provenance,
        "members": {name: hashlib.sha256(content).hexdigest() for name, content in members.items()},
    }
    try:
        text = json.dumps(index, indent=1, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"The bundle holds something that JSON cannot hold ({error}).") from error
    with replace_atomically(path) as temporary:
        write_members(temporary, {INDEX: text.encode("ascii"), **members})


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and check all of it.

    Nothing in the file is executed, nothing is unpacked to disk, and no name in it becomes a path.

    Parameters
    ----------
    path : Path
        A file that `write_bundle` wrote.

    Returns
    -------
    Bundle
        Its head has `n_jobs` at the default.

    Raises
    ------
    InputError
        If the file is missing, incomplete, damaged, from a newer birdemb, or no bundle.
    """
    try:
        return _read(path)
    except (InputError, OSError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(
            f"{path} is no bundle that can be used: {reason.rstrip('.')}. Fit again with `birdemb fit`."
        ) from error


def _read(path: Path) -> Bundle:
    members = read_members(path)
    if INDEX not in members:
        raise InputError(f"it has no {INDEX}")
    index = _read_index(members.pop(INDEX))
    listed = index["members"]
    for name in sorted(members.keys() ^ listed.keys()):
        raise InputError(f"it lacks {name}" if name in listed else f"it holds {name!r}, which it does not list")
    state: dict[str, StateValue] = {}
    for name, content in members.items():
        key, _, suffix = name.partition(".")
        if key in state:
            raise InputError(f"the part {key!r} comes twice")
        if listed[name] != hashlib.sha256(content).hexdigest():
            raise InputError(f"{name} is damaged: its sha256 is not the one listed")
        state[key] = _to_text(name, content) if suffix == "txt" else _to_array(name, content)
    priors = state.pop(PRIORS, None)
    if priors is None or isinstance(priors, str):
        raise InputError("it has no priors")
    head = head_class(index["head"]).from_state(index["params"], state)
    return Bundle(head, tuple(index["classes"]), index["identity"], priors, index["provenance"])


def _read_index(content: bytes) -> dict[str, Any]:
    try:
        index = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{INDEX} is no valid JSON ({error})") from error
    if not isinstance(index, dict) or "format_version" not in index:
        raise InputError(f"{INDEX} does not name a format version")
    version = index["format_version"]
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise InputError(f"{INDEX} names the format version {version!r}")
    if version > FORMAT_VERSION:
        raise InputError(
            f"it was written by a newer birdemb (format {version}; this one reads up to {FORMAT_VERSION}). "
            "Upgrade birdemb to use it as it is"
        )
    if set(index) != INDEX_KEYS:
        raise InputError(f"{INDEX} has the keys {', '.join(sorted(index))}; expected {', '.join(sorted(INDEX_KEYS))}")
    for key in ("params", "identity", "provenance", "members"):
        if not isinstance(index[key], dict):
            raise InputError(f"{key!r} in {INDEX} is no object")
    if not isinstance(index["head"], str) or index["head"] not in HEADS:
        raise InputError(f"its head is {index['head']!r}, which this birdemb does not know")
    if not isinstance(index["classes"], list):
        raise InputError(f"'classes' in {INDEX} is no list")
    _check_head_params(index["params"])
    if NOT_KEPT in index["params"]:
        raise InputError(f"its head has the parameter {NOT_KEPT}, which no bundle keeps")
    return index


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _check_head_params(params: Mapping[str, Any]) -> None:
    for name, value in params.items():
        scalars = value if isinstance(value, list) else [value]
        if not all(scalar is None or isinstance(scalar, str | bool | int | float) for scalar in scalars):
            raise InputError(
                f"The parameter {name} of the head is {value!r}. "
                "A bundle keeps numbers, text, true, false, null, and lists of these."
            )


def _suffix(value: StateValue) -> str:
    return "txt" if isinstance(value, str) else "npy"


def _to_bytes(value: StateValue) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8")
    buffer = io.BytesIO()
    # Little-endian everywhere, so that the bytes do not depend on the machine.
    np.save(buffer, np.ascontiguousarray(value).reshape(value.shape).astype(value.dtype.newbyteorder("<")))
    return buffer.getvalue()


def _to_text(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except ValueError as error:
        raise InputError(f"{name} is no text ({error})") from error


def _to_array(name: str, content: bytes) -> NDArray[Any]:
    _check_array_size(name, content)
    try:
        array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    except ValueError as error:
        raise InputError(f"{name} cannot be read ({error})") from error
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _check_array_size(name: str, content: bytes) -> None:
    """Refuse an array that is not of numbers, or whose header promises other than what follows it.

    NumPy evaluates the header and then takes the memory that it asks for, so it has to be right first.
    """
    magic, length, rest = content[:8], int.from_bytes(content[8:10], "little"), content[10:]
    header = NUMPY_HEADER.fullmatch(rest[:length])
    if magic != b"\x93NUMPY\x01\x00" or header is None:
        raise InputError(f"{name} is not a plain array of numbers in NumPy's format 1.0")
    itemsize, *shape = (int(number) for number in re.findall(rb"\d+", header[1] + b" " + header[2]))
    if itemsize * math.prod(shape) != len(rest) - length:
        raise InputError(f"{name} does not hold the values that its header promises")
