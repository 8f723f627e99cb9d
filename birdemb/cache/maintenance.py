"""Looking after a cache: what is in it, and whether it is whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.cache.folders import find_folders
from birdemb.cache.form import Form, read_identity
from birdemb.cache.shards import (
    DamagedShardError,
    Kind,
    Part,
    Shard,
    check_blocks,
    hash_of,
    list_sidecars,
    logits_of,
    map_rows,
    read_shard,
    rows_of,
)
from birdemb.cache.store import EmbeddingCache
from birdemb.errors import InputError
from birdemb.storage import hash_json

__all__ = [
    "CacheInfo",
    "Problem",
    "VerifyReport",
    "array_of",
    "check_identity",
    "check_parts",
    "info",
    "kinds_of",
    "read_shards",
    "verify",
]


@dataclass(frozen=True)
class Problem:
    """Something in a cache that is not as it should be.

    Parameters
    ----------
    path : Path
    reason : str
        What is wrong, in a sentence.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class CacheInfo:
    """What is in the folder of one identity.

    Parameters
    ----------
    folder : Path
    identity : dict
    recordings, unfinished : int
        Those of which all windows are there, and those of which some are missing.
    windows : int
        Of the complete recordings.
    seconds : float
        Their length.
    shards : int
    size : int
        Bytes of everything in the folder.
    damaged : tuple of Path
        Sidecars of shards that are passed over.
    problem : str or None
        Why the folder cannot be used, where it cannot; all counts are then 0.
    """

    folder: Path
    identity: dict[str, Any]
    recordings: int = 0
    unfinished: int = 0
    windows: int = 0
    seconds: float = 0.0
    shards: int = 0
    size: int = 0
    damaged: tuple[Path, ...] = ()
    problem: str | None = None


def info(path: Path) -> list[CacheInfo]:
    """Tell what is in a cache.

    Parameters
    ----------
    path : Path
        A working folder, a cache, or the folder of one identity.

    Returns
    -------
    list of CacheInfo
        One for each identity.

    Raises
    ------
    InputError
        If there is no cache.
    """
    return [_inform(folder) for folder in find_folders(path)]


def _inform(folder: Path) -> CacheInfo:
    size = sum(entry.stat().st_size for entry in folder.rglob("*") if entry.is_file())
    try:
        cache = EmbeddingCache.at(folder)
    except InputError as error:
        return CacheInfo(folder, {}, size=size, problem=str(error))
    ((windows, seconds),) = cache.ask("SELECT total(windows), total(last * seconds) FROM parts WHERE used")
    ((known,),) = cache.ask("SELECT count(DISTINCT sha256) FROM parts")
    complete = len(cache)
    return CacheInfo(
        folder=folder,
        identity=cache.identity,
        recordings=complete,
        unfinished=known - complete,
        windows=int(windows),
        seconds=seconds,
        shards=len(cache.shards()),
        size=size,
        damaged=tuple(cache.damaged),
    )


@dataclass
class VerifyReport:
    """What reading all of a cache found.

    Parameters
    ----------
    shards, parts, windows : int
        How many were read.
    size : int
        Bytes of their rows.
    problems : list of Problem
    """

    shards: int = 0
    parts: int = 0
    windows: int = 0
    size: int = 0
    problems: list[Problem] = field(default_factory=list)


def verify(path: Path) -> VerifyReport:
    """Read every row of a cache and compare it with its hash.

    Parameters
    ----------
    path : Path
        A working folder, a cache, or the folder of one identity.

    Returns
    -------
    VerifyReport

    Raises
    ------
    InputError
        If there is no cache.
    """
    report = VerifyReport()
    for folder in find_folders(path):
        try:
            form = Form.of(check_identity(folder))
        except InputError as error:
            report.problems.append(Problem(folder, str(error)))
            continue
        for shard in read_shards(folder, form, report.problems):
            report.shards += 1
            for part, problem in check_parts(shard, shard.parts, form):
                report.parts += 1
                report.windows += part.windows
                report.size += part.windows * (form.dim + form.logits) * form.dtype.itemsize
                if problem is not None:
                    report.problems.append(problem)
    return report


def check_identity(folder: Path) -> dict[str, Any]:
    """Read the identity of a folder, and make sure that the folder's name goes with it.

    Raises
    ------
    InputError
        If it does not, or the identity is of another format.
    """
    identity = read_identity(folder)
    key = hash_json(identity)[:16]
    if not folder.resolve().name.endswith(key):
        raise InputError(
            f"{folder} holds an identity with the key {key}, which is not its name: identity.json was changed, or the "
            "folder renamed. Delete the folder and run `birdemb embed` again, or give it its name back."
        )
    return identity


def read_shards(folder: Path, form: Form, problems: list[Problem]) -> Iterator[Shard]:
    """Give the shards of a folder by name, read from their sidecars; the damaged ones go into `problems`."""
    for sidecar in list_sidecars(folder):
        try:
            shard = read_shard(sidecar, form)
        except DamagedShardError as error:
            problems.append(Problem(sidecar, str(error)))
        else:
            if shard is not None:
                yield shard


def check_parts(shard: Shard, parts: Sequence[Part], form: Form) -> Iterator[tuple[Part, Problem | None]]:
    """Read the rows of parts, a few megabytes at a time, and tell of each what is wrong with it, if anything is.

    Yields
    ------
    (Part, Problem or None)
        Nothing, if another process has deleted the shard meanwhile.
    """
    try:
        arrays = [
            (
                kind,
                array_of(shard.sidecar, kind),
                map_rows(array_of(shard.sidecar, kind), shard.rows, width, form.dtype),
            )
            for kind, width in kinds_of(form)
        ]
    except DamagedShardError as error:
        if shard.sidecar.exists():
            yield from ((part, Problem(shard.sidecar, str(error))) for part in parts)
        return
    for part in parts:
        problems = (_find_problem(part, kind, path, rows) for kind, path, rows in arrays)
        yield part, next((problem for problem in problems if problem is not None), None)


def _find_problem(part: Part, kind: Kind, path: Path, rows: NDArray[Any]) -> Problem | None:
    told = f"Rows from {part.first_row} on, of the recording {part.sha256}."
    try:
        for block in check_blocks(rows, part, hash_of(part, kind), path):
            if not np.isfinite(block).all():
                return Problem(path, f"it holds values that are not finite. {told}")
    except DamagedShardError as error:
        return Problem(path, f"{error} {told}")
    return None


def kinds_of(form: Form) -> list[tuple[Kind, int]]:
    """List what is kept for each window, and how wide that is."""
    return [("embeddings", form.dim), ("logits", form.logits)] if form.logits else [("embeddings", form.dim)]


def array_of(sidecar: Path, kind: Kind) -> Path:
    """Give the file of a shard's embeddings or logits."""
    return rows_of(sidecar) if kind == "embeddings" else logits_of(sidecar)
