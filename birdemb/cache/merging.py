"""Putting several caches into one, and several shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from birdemb.cache.chains import Placed
from birdemb.cache.folders import find_folders
from birdemb.cache.form import Form
from birdemb.cache.maintenance import Problem, array_of, check_identity, check_parts, read_shards
from birdemb.cache.shards import DamagedShardError, Kind, check_blocks, hash_of, map_rows, write_shard
from birdemb.cache.store import EmbeddingCache
from birdemb.errors import InputError

__all__ = ["ROWS_A_JOINED_SHARD", "MergeReport", "copy_parts", "merge"]

ROWS_A_JOINED_SHARD = 65_536
"""Rows of a shard that smaller ones are joined into.

128 MiB at the width of BirdNET in float16: ten million windows are 153 files, which any folder lists at once, while the
room that joining needs for a moment, and the work that a kill can cost, stay small.
"""


def copy_parts(source: Path, parts: Sequence[Placed], target: Path, form: Form) -> Path:
    """Write one new shard of parts that lie in other shards, comparing them with their hashes on the way.

    Parameters
    ----------
    source : Path
        Folder of the identity where they lie.
    parts : sequence of Placed
        In the order that the new shard is to have.
    target : Path
        Folder of the identity to write into.
    form : Form
        Of both.

    Returns
    -------
    Path
        The new sidecar.

    Raises
    ------
    InputError
        If rows are damaged, or the shard cannot be written; nothing is then left of it.
    """

    def read(kind: Kind) -> Iterator[NDArray[Any]]:
        opened = ""
        for part, shard in parts:
            if shard != opened:
                path = array_of(source / "shards" / f"{shard}.json", kind)
                rows = map_rows(path, None, form.dim if kind == "embeddings" else form.logits, form.dtype)
                opened = shard
            yield from check_blocks(rows, part, hash_of(part, kind), path)

    moved, row = [], 0
    for part, _ in parts:
        moved.append(part._replace(first_row=row))
        row += part.windows
    return write_shard(target, form, moved, read("embeddings"), read("logits") if form.logits else ())


@dataclass
class MergeReport:
    """What putting caches into one did.

    Parameters
    ----------
    copied, known : int
        Parts that were copied, and parts that the target had already.
    windows : int
        That were copied.
    folders : list of Path
        Of the identities that were merged into.
    problems : list of Problem
        What of the sources could not be used.
    """

    copied: int = 0
    known: int = 0
    windows: int = 0
    folders: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def merge(sources: Iterable[Path], into: Path) -> MergeReport:
    """Copy what other caches have and this one has not.

    May be stopped at any moment and run again: what was copied is not copied twice.

    Parameters
    ----------
    sources : iterable of Path
        Working folders, caches, or folders of one identity. They are only read.
    into : Path
        A working folder with a cache in it, or a cache, which is made if need be.

    Returns
    -------
    MergeReport

    Raises
    ------
    InputError
        If a source is no cache or is the target, or the target cannot be written.
    """
    root = into / "cache" if (into / "cache").is_dir() else into
    if (root / "identity.json").is_file():
        raise InputError(f"{root} is the folder of one identity; give the cache that it lies in: {root.parent}.")
    report = MergeReport()
    folders = [folder for source in sources for folder in find_folders(source)]
    for folder in folders:
        if folder.resolve().parent == root.resolve():
            raise InputError(f"{folder} is in {root}: a cache cannot be merged into itself. Give another one.")
    for folder in folders:
        try:
            identity = check_identity(folder)
        except InputError as error:
            report.problems.append(Problem(folder, str(error)))
            continue
        cache = EmbeddingCache(root, identity)
        report.folders.append(cache.folder)
        _merge_folder(folder, cache, report)
        cache.refresh()
    return report


def _merge_folder(source: Path, cache: EmbeddingCache, report: MergeReport) -> None:
    there: set[tuple[str, int, int, bool]] = set()
    waiting: list[Placed] = []
    sidecars = list((source / "shards").glob("*.json"))
    for shard in read_shards(source, cache.form, report.problems):
        sha256s = {part.sha256 for part in shard.parts}
        complete = cache.find(sha256s)
        there |= cache.list_parts(sha256s - complete.keys())
        new = [
            part
            for part in shard.parts
            if part.sha256 not in complete and (part.sha256, part.first_window, part.windows, part.last) not in there
        ]
        report.known += len(shard.parts) - len(new)
        for part, problem in check_parts(shard, new, cache.form):
            if problem is not None:
                report.problems.append(problem)
            elif (key := (part.sha256, part.first_window, part.windows, part.last)) in there:
                report.known += 1  # twice in this shard
            else:
                there.add(key)
                waiting.append(Placed(part, shard.name))
        if sum(placed.part.windows for placed in waiting) >= ROWS_A_JOINED_SHARD:
            _copy(source, waiting, cache, report)
            waiting = []
    _copy(source, waiting, cache, report)
    if not all(sidecar.exists() for sidecar in sidecars):
        raise _joined_meanwhile(source)


def _joined_meanwhile(source: Path) -> InputError:
    return InputError(
        f"{source} was tidied up by `birdemb cache gc` while it was merged. What was copied stays; "
        "run the same command again for the rest."
    )


def _copy(source: Path, parts: Sequence[Placed], cache: EmbeddingCache, report: MergeReport) -> None:
    if parts:
        try:
            copy_parts(source, parts, cache.folder, cache.form)
        except DamagedShardError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise _joined_meanwhile(source) from error
            raise
        report.copied += len(parts)
        report.windows += sum(placed.part.windows for placed in parts)
