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
KEY = re.compile(r"[a-z][a-z0-9_]{0,63}")
NUMERIC_KINDS = "biuf"
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
        Full identity of the encoder that made the embeddings, as JSON can hold it.
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


def write_bundle(bundle: Bundle, path: Path) -> None:
    """Write a bundle to one file, atomically.

    The same bundle gives the same bytes, whatever the time and the machine.

    Parameters
    ----------
    bundle : Bundle
    path : Path
        The file; its name ends in ``.birdemb``.

    Raises
    ------
    InputError
        If the name does not end in ``.birdemb``, if the bundle holds what JSON cannot, or if the file
        cannot be written.
    """
    if path.suffix != SUFFIX:
        raise InputError(f"{path} is no name for a bundle. It has to end in {SUFFIX}.")
    state = bundle.head.get_state()
    if state["task"] != "multi-label":
        raise InputError(f"The head is {state['task']}, not multi-label. Fit it on an indicator matrix.")
    if PRIORS in state:
        raise InputError(f"The head {bundle.head.name!r} has a part {PRIORS!r}, a name that bundles need.")
    members = {_member_name(key, value): _to_bytes(value) for key, value in state.items()}
    members[_member_name(PRIORS, bundle.priors)] = _to_bytes(bundle.priors)
    params = {key: list(v) if isinstance(v, tuple) else v for key, v in bundle.head.get_params().items()}
    _check_head_params(params)
    index = {
        "format_version": FORMAT_VERSION,
        "head": bundle.head.name,
        "params": params,
        "classes": list(bundle.classes),
        "identity": bundle.identity,
        "provenance": bundle.provenance,
        "members": {
            name: {"kind": _kind(name), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in members.items()
        },
    }
    try:
        text = json.dumps(index, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
        encoded = text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise InputError(f"The bundle holds something that JSON cannot hold ({error}).") from error
    with replace_atomically(path) as temporary:
        write_members(temporary, {INDEX: encoded, **dict(sorted(members.items()))})


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and check all of it.

    Nothing in the file is executed, nothing is unpacked to disk, and no name in it becomes a path.

    Parameters
    ----------
    path : Path
        A file that `write_bundle` wrote.

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
        key = _key_of(name)
        if key in state:
            raise InputError(f"the part {key!r} comes twice")
        if listed[name] != {"kind": _kind(name), "sha256": hashlib.sha256(content).hexdigest()}:
            raise InputError(f"{name} is damaged: its sha256 is not the one listed")
        state[key] = _from_bytes(name, content)
    priors = state.pop(PRIORS, None)
    if priors is None or isinstance(priors, str):
        raise InputError("it has no priors")
    head = head_class(index["head"]).from_state(index["params"], state)
    if state["task"] != "multi-label":
        raise InputError(f"its head is {state['task']}, not multi-label")
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


def _member_name(key: str, value: StateValue) -> str:
    if not KEY.fullmatch(key):
        raise InputError(f"{key!r} is no name for a part of a bundle.")
    return f"texts/{key}.txt" if isinstance(value, str) else f"arrays/{key}.npy"


def _key_of(name: str) -> str:
    key = name.removeprefix("texts/").removesuffix(".txt") if _kind(name) == "text" else name[7:-4]
    if not KEY.fullmatch(key) or name not in (f"texts/{key}.txt", f"arrays/{key}.npy"):
        raise InputError(f"{name!r} is no name for a part of a bundle")
    return key


def _kind(name: str) -> str:
    return "text" if name.startswith("texts/") else "array"


def _to_bytes(value: StateValue) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8")
    if value.dtype.kind not in NUMERIC_KINDS:
        raise InputError(f"A bundle keeps numbers, and not an array of {value.dtype}.")
    buffer = io.BytesIO()
    # Little-endian everywhere, so that the bytes do not depend on the machine.
    np.save(buffer, np.ascontiguousarray(value).reshape(value.shape).astype(value.dtype.newbyteorder("<")))
    return buffer.getvalue()


def _from_bytes(name: str, content: bytes) -> StateValue:
    try:
        if _kind(name) == "text":
            return content.decode("utf-8")
        _check_array_size(name, content)
        array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError) as error:
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
