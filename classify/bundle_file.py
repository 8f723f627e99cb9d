"""The file of a bundle: one zip with JSON, arrays and text in it, written at once and read with suspicion."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from birdemb.classify.archive import read_members, write_members
from birdemb.classify.blending import Blend
from birdemb.classify.bundle import Bundle
from birdemb.classify.bundle_values import from_bytes, suffix_of, to_bytes
from birdemb.classify.calibration import Calibration
from birdemb.classify.checks import check_whole_number
from birdemb.classify.ensemble import Ensemble, Member
from birdemb.classify.head import MultiLabelHead
from birdemb.classify.heads import HEADS, head_class
from birdemb.classify.postprocessing import Postprocessing
from birdemb.classify.prior import Prior
from birdemb.classify.state import StateReader, StateValue
from birdemb.classify.thresholds import Thresholds
from birdemb.errors import InputError
from birdemb.storage import replace_atomically
from birdemb.taxonomy import ClassName

__all__ = ["FORMAT_VERSION", "SUFFIX", "read_bundle", "write_bundle"]

SUFFIX = ".birdemb"
FORMAT_VERSION = 3
"""Version 2 had no post-processing, and is read as having none."""
OLDEST_VERSION = 2
"""Version 1 held one head and no scores; it was never released."""

INDEX = "bundle.json"
INDEX_KEYS = {
    "format_version",
    "members",
    "encoders",
    "classes",
    "calibrated",
    "thresholds",
    "provenance",
    "scores",
    "files",
    "postprocessing",
}
NEW_KEYS: dict[str, tuple[int, Any]] = {"postprocessing": (3, [])}
"""Keys that came later: in which version, and what older files are read as having."""
SHARES = "shares"
NOT_KEPT = "n_jobs"
"""The parameter of heads that belongs to a machine and not to what was learnt."""
MOST_PARTS = 1000
NUMBERED = re.compile(r"(head|encoder)(0|[1-9]\d{0,2})_(.+)")
"""Parts of a head or an encoder's prior, in the bundle's one state."""


def write_bundle(bundle: Bundle, path: Path) -> None:
    """Write a bundle to one file, atomically.

    The same bundle gives the same bytes, whatever the time, the machine and the heads' `n_jobs`, which is
    not kept.

    Parameters
    ----------
    bundle : Bundle
    path : Path
        The file; its name ends in ``.birdemb``.

    Raises
    ------
    InputError
        If the name does not end in ``.birdemb``, if a head was fitted on 1-D labels, if the bundle holds
        what JSON cannot, or if the file cannot be written.
    """
    if path.suffix != SUFFIX:
        raise InputError(f"{path} is no name for a bundle. It has to end in {SUFFIX}.")
    ensemble = bundle.ensemble
    files = {f"{key}.{suffix_of(value)}": to_bytes(value) for key, value in sorted(_get_state(bundle).items())}
    index = {
        "format_version": FORMAT_VERSION,
        "members": [
            {
                "head": member.head.name,
                "params": _params(member.head),
                "encoder": member.encoder,
                "trust": member.trust is not None,
            }
            for member in ensemble.members
        ],
        "encoders": [
            {"identity": identity, "prior": prior is not None}
            for identity, prior in zip(bundle.identities, ensemble.priors, strict=True)
        ],
        "classes": [[name.label, name.scientific, name.common] for name in bundle.classes],
        "calibrated": ensemble.calibration is not None,
        "thresholds": ensemble.thresholds is not None,
        "postprocessing": bundle.postprocessing.describe(),
        "provenance": bundle.provenance,
        "scores": bundle.scores,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    try:
        text = json.dumps(index, indent=1, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"The bundle holds something that JSON cannot hold ({error}).") from error
    with replace_atomically(path) as temporary:
        write_members(temporary, {INDEX: text.encode("ascii"), **files})


def _get_state(bundle: Bundle) -> dict[str, StateValue]:
    ensemble = bundle.ensemble
    state: dict[str, StateValue] = {
        SHARES: bundle.shares,
        **ensemble.blend.get_state(),
        **bundle.postprocessing.get_state(),
    }
    for part in (ensemble.calibration, ensemble.thresholds):
        if part is not None:
            state |= part.get_state()
    for number, prior in enumerate(ensemble.priors):
        if prior is not None:
            state |= {f"encoder{number}_{key}": value for key, value in prior.get_state().items()}
    for number, member in enumerate(ensemble.members):
        state |= {f"head{number}_{key}": value for key, value in member.head.get_state().items()}
        if member.trust is not None:
            state[f"trust_{number}"] = member.trust
    return state


def _params(head: MultiLabelHead) -> dict[str, Any]:
    params = {key: list(value) if isinstance(value, tuple) else value for key, value in head.get_params().items()}
    del params[NOT_KEPT]
    _check_head_params(params)
    return params


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
        Its heads have `n_jobs` at the default.

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
    numbered, shared = _read_state(members, index["files"])
    classes = len(index["classes"])
    reader = StateReader(shared)
    heads = tuple(
        Member(
            head_class(entry["head"]).from_state(entry["params"], numbered.pop(f"head{number}", {})),
            entry["encoder"],
            reader.array(f"trust_{number}", (classes,)) if entry["trust"] else None,
        )
        for number, entry in enumerate(index["members"])
    )
    priors = tuple(
        _read_prior(numbered.pop(f"encoder{number}", {}), classes, entry["identity"]) if entry["prior"] else None
        for number, entry in enumerate(index["encoders"])
    )
    if numbered:
        raise InputError(f"it holds parts of {', '.join(sorted(numbered))}, which it does not name")
    shares = reader.array(SHARES, (classes,))
    ensemble = Ensemble(
        heads,
        priors,
        Blend.read_state(reader, len(heads), classes),
        Calibration.read_state(reader, classes) if index["calibrated"] else None,
        Thresholds.read_state(reader, classes) if index["thresholds"] else None,
    )
    postprocessing = Postprocessing.read(index["postprocessing"], reader, classes)
    reader.refuse_rest()
    return Bundle(
        ensemble,
        tuple(ClassName(*names) for names in index["classes"]),
        tuple(entry["identity"] for entry in index["encoders"]),
        shares,
        index["provenance"],
        index["scores"],
        postprocessing,
    )


def _read_state(
    files: Mapping[str, bytes], listed: Mapping[str, Any]
) -> tuple[dict[str, dict[str, StateValue]], dict[str, StateValue]]:
    """Give the state of each head and each encoder, and of what they share."""
    for name in sorted(files.keys() ^ listed.keys()):
        raise InputError(f"it lacks {name}" if name in listed else f"it holds {name!r}, which it does not list")
    numbered: defaultdict[str, dict[str, StateValue]] = defaultdict(dict)
    shared: dict[str, StateValue] = {}
    seen: set[str] = set()
    for name, content in files.items():
        key = name.partition(".")[0]
        if key in seen:
            raise InputError(f"the part {key!r} comes twice")
        seen.add(key)
        if listed[name] != hashlib.sha256(content).hexdigest():
            raise InputError(f"{name} is damaged: its sha256 is not the one listed")
        match = NUMBERED.fullmatch(key)
        if match is None:
            shared[key] = from_bytes(name, content)
        else:
            numbered[match[1] + match[2]][match[3]] = from_bytes(name, content)
    return dict(numbered), shared


def _read_prior(state: Mapping[str, StateValue], classes: int, identity: Mapping[str, Any]) -> Prior:
    reader = StateReader(state)
    check_whole_number("dim in the identity of the bundle", identity.get("dim"), at_least=1)
    prior = Prior.read_state(reader, classes, identity["dim"])
    reader.refuse_rest()
    return prior


def _read_index(content: bytes) -> dict[str, Any]:
    try:
        index = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{INDEX} is no valid JSON ({error})") from error
    if not isinstance(index, dict) or "format_version" not in index:
        raise InputError(f"{INDEX} does not name a format version")
    version = index["format_version"]
    if not isinstance(version, int) or isinstance(version, bool) or version < OLDEST_VERSION:
        raise InputError(f"{INDEX} names the format version {version!r}")
    if version > FORMAT_VERSION:
        raise InputError(
            f"it was written by a newer birdemb (format {version}; this one reads up to {FORMAT_VERSION}). "
            "Upgrade birdemb to use it as it is"
        )
    absent = {key: value for key, (since, value) in NEW_KEYS.items() if version < since}
    expected = INDEX_KEYS - absent.keys()
    if set(index) != expected:
        raise InputError(f"{INDEX} has the keys {', '.join(sorted(index))}; expected {', '.join(sorted(expected))}")
    index |= absent
    for key in ("provenance", "scores", "files"):
        if not isinstance(index[key], dict):
            raise InputError(f"{key!r} in {INDEX} is no object")
    for key in ("calibrated", "thresholds"):
        if not isinstance(index[key], bool):
            raise InputError(f"{key!r} in {INDEX} is neither true nor false")
    for key in ("members", "encoders", "classes", "postprocessing"):
        if not isinstance(index[key], list):
            raise InputError(f"{key!r} in {INDEX} is no list")
    for key in ("members", "encoders"):
        if not 1 <= len(index[key]) <= MOST_PARTS:
            raise InputError(f"{key!r} in {INDEX} has {len(index[key])} entries")
    for entry in index["members"]:
        _check_member(entry)
    for entry in index["encoders"]:
        if (
            not isinstance(entry, dict)
            or set(entry) != {"identity", "prior"}
            or not isinstance(entry["identity"], dict)
            or not isinstance(entry["prior"], bool)
        ):
            raise InputError(f"an encoder in {INDEX} is no identity and a word on its prior")
    for entry in index["postprocessing"]:
        if (
            not isinstance(entry, dict)
            or set(entry) != {"step", "params"}
            or not isinstance(entry["step"], str)
            or not isinstance(entry["params"], dict)
        ):
            raise InputError(f"a step in {INDEX} is no name and parameters")
    for names in index["classes"]:
        if not isinstance(names, list) or len(names) != 3 or not all(isinstance(name, str) for name in names):
            raise InputError(f"a class in {INDEX} is no label with a scientific and a common name")
    return index


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _check_member(entry: object) -> None:
    if not isinstance(entry, dict) or set(entry) != {"head", "params", "encoder", "trust"}:
        raise InputError(f"a head in {INDEX} has not the keys head, params, encoder and trust")
    if not isinstance(entry["head"], str) or entry["head"] not in HEADS:
        raise InputError(f"its head is {entry['head']!r}, which this birdemb does not know")
    if not isinstance(entry["params"], dict):
        raise InputError(f"'params' in {INDEX} is no object")
    if not isinstance(entry["encoder"], int) or isinstance(entry["encoder"], bool):
        raise InputError(f"a head in {INDEX} belongs to the encoder {entry['encoder']!r}")
    if not isinstance(entry["trust"], bool):
        raise InputError(f"'trust' of a head in {INDEX} is neither true nor false")
    _check_head_params(entry["params"])
    if NOT_KEPT in entry["params"]:
        raise InputError(f"its head has the parameter {NOT_KEPT}, which no bundle keeps")


def _check_head_params(params: Mapping[str, Any]) -> None:
    for name, value in params.items():
        scalars = value if isinstance(value, list) else [value]
        if not all(scalar is None or isinstance(scalar, str | bool | int | float) for scalar in scalars):
            raise InputError(
                f"The parameter {name} of the head is {value!r}. "
                "A bundle keeps numbers, text, true, false, null, and lists of these."
            )
