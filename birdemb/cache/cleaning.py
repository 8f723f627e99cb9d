"""Cleaning a cache up: leftovers and damaged rows go, small shards are joined.

Whatever is deleted has been written anew by the same process, and has reached the disk, before: a kill at any moment
loses nothing, and leaves at worst rows that are there twice, or files that nothing speaks of, for the next time. Where
rows are there twice, both are deleted once a third copy has been written: relying on one that was there before would
lose both when two processes clean up at the same time and each relies on the other's. As it is, the copy that was
written last can only be deleted by a process that has written a later one.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from birdemb.cache.chains import Placed, choose_parts
from birdemb.cache.folders import find_folders, find_paths
from birdemb.cache.form import Form, read_identity
from birdemb.cache.maintenance import Problem, check_parts, read_shards
from birdemb.cache.merging import ROWS_A_JOINED_SHARD, copy_parts
from birdemb.cache.shards import DamagedShardError, Shard, delete_shards
from birdemb.cache.store import EmbeddingCache
from birdemb.cache.view import CacheView, consolidated_names
from birdemb.errors import InputError

__all__ = ["CleanReport", "clean"]

_SECONDS_UNTIL_LEFT_OVER = 3600.0  # a run may be writing it this moment


@dataclass
class CleanReport:
    """What cleaning up did, or would do.

    Parameters
    ----------
    duplicates, unfinished, unlisted : int
        Parts that were removed as they were there twice, belonged to recordings that are not complete, or to
        recordings that the listing does not name.
    joined, written : int
        Shards that were replaced, and those that took their place.
    leftovers : list of Path
        Files that nothing spoke of.
    problems : list of Problem
        What was damaged, and is removed.
    freed : int
        Bytes that the cache is smaller by; negative if it grew.
    """

    duplicates: int = 0
    unfinished: int = 0
    unlisted: int = 0
    joined: int = 0
    written: int = 0
    leftovers: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    freed: int = 0


def clean(
    path: Path,
    *,
    unfinished: bool = False,
    unlisted: bool = False,
    shard_rows: int = ROWS_A_JOINED_SHARD,
    dry_run: bool = False,
) -> CleanReport:
    """Remove what is damaged, left over or there twice, and join small shards.

    Reads every row, as what is damaged must not be copied. Others may read and write the cache meanwhile.

    Parameters
    ----------
    path : Path
        A working folder, a cache, or the folder of one identity.
    unfinished : bool
        Whether to remove the parts of recordings that are not complete, too, unless they are younger than an hour.
    unlisted : bool
        Whether to remove recordings that the working folder's listing of what was embedded last does not name.
    shard_rows : int
        Rows of a joined shard; shards of less than half of these are joined.
    dry_run : bool
        Whether only to tell what would be done.

    Returns
    -------
    CleanReport

    Raises
    ------
    InputError
        If there is no cache, `unlisted` is asked for where there is no listing, or something cannot be written.
    """
    if shard_rows < 1:
        raise InputError(f"Shards of {shard_rows} rows; expected 1 or more.")
    report = CleanReport()
    for folder in find_folders(path):
        try:
            form = Form.of(read_identity(folder))
        except InputError as error:
            report.problems.append(Problem(folder, f"{error} It was left alone."))
            continue
        listed = set(find_paths(folder)) if unlisted else None
        if listed is not None and not listed:
            raise InputError(
                f"No listing of recordings belongs to {folder}, so none of them can be told to be unlisted. "
                "Run `birdemb embed` first, or leave --unlisted out."
            )
        before = _size(folder)
        plan = _plan(folder, form, report, unfinished=unfinished, listed=listed, shard_rows=shard_rows)
        _remove_leftovers(folder, report, dry_run=dry_run)
        report.joined += len(plan.replaced)
        report.written += len(plan.groups)
        if not dry_run:
            _carry_out(plan, folder, form)
            cache = EmbeddingCache.at(folder)
            kept = consolidated_names(CacheView(cache))
            for array in folder.glob("consolidated-*.npy"):
                if array.name not in kept:
                    array.unlink(missing_ok=True)
            report.freed += before - _size(folder)
    return report


@dataclass(frozen=True)
class _Plan:
    groups: Sequence[Sequence[Placed]]  # each to become a new shard
    replaced: Sequence[Path]  # sidecars whose parts are all in those groups, or wanted no more
    doubled: set[str]  # names of those of which a part is there twice
    damaged: Sequence[Path]  # sidecars of which nothing can be used


def _plan(
    folder: Path, form: Form, report: CleanReport, *, unfinished: bool, listed: set[str] | None, shard_rows: int
) -> _Plan:
    problems: list[Problem] = []
    shards = list(read_shards(folder, form, problems))
    damaged = [problem.path for problem in problems]
    by_recording: defaultdict[str, list[Placed]] = defaultdict(list)
    for shard in shards:
        for part, problem in check_parts(shard, shard.parts, form):
            if problem is not None:
                problems.append(problem)
            else:
                by_recording[part.sha256].append(Placed(part, shard.name))
    report.problems += problems
    # What a run has written that still goes on: it is listed when the run ends.
    young = {shard.name for shard in shards if not _is_old(shard.sidecar)}
    kept: list[Placed] = []
    doubled: set[str] = set()
    for sha256, parts in by_recording.items():
        if listed is not None and sha256 not in listed and not any(one.shard in young for one in parts):
            report.unlisted += len(parts)
            continue
        chosen = choose_parts(parts)
        complete = chosen is not None
        if chosen is None:
            # Each only once, and whichever the next run may need.
            once = {(one.part.first_window, one.part.windows, one.part.last): one for one in reversed(parts)}
            chosen = [once[key] for key in sorted(once)]
        if len(chosen) < len(parts):
            report.duplicates += len(parts) - len(chosen)
            doubled |= {one.shard for one in parts}
        if unfinished and not complete:
            report.unfinished += sum(one.shard not in young for one in chosen)
            chosen = [one for one in chosen if one.shard in young]
        kept += chosen
    return _join(shards, kept, damaged, doubled, shard_rows)


def _join(
    shards: Sequence[Shard], kept: Sequence[Placed], damaged: Sequence[Path], doubled: set[str], shard_rows: int
) -> _Plan:
    """Choose the shards that are written anew, and how their parts are shared out among new ones."""
    parts_of: defaultdict[str, int] = defaultdict(int)
    for placed in kept:
        parts_of[placed.shard] += 1
    touched = {shard.name for shard in shards if parts_of[shard.name] < len(shard.parts)} | doubled
    small = {shard.name for shard in shards if shard.rows * 2 < shard_rows} - touched
    # A small one alone has nothing to be joined with.
    renewed = touched | (small if len(small | {name for name in touched if parts_of[name]}) > 1 else set())
    groups: list[list[Placed]] = []
    rows = shard_rows
    # A recording's parts follow each other, and recordings keep their order: they are then read in one go.
    for placed in kept:
        if placed.shard in renewed:
            if rows >= shard_rows:
                groups.append([])
                rows = 0
            groups[-1].append(placed)
            rows += placed.part.windows
    replaced = [shard.sidecar for shard in shards if shard.name in renewed]
    return _Plan(groups=groups, replaced=replaced, doubled=doubled, damaged=damaged)


def _carry_out(plan: _Plan, folder: Path, form: Form) -> None:
    left: defaultdict[str, int] = defaultdict(int)
    for placed in (placed for group in plan.groups for placed in group):
        left[placed.shard] += 1
    unwanted = [sidecar for sidecar in plan.replaced if not left[sidecar.stem] and sidecar.stem not in plan.doubled]
    delete_shards([*plan.damaged, *unwanted])
    for group in plan.groups:
        try:
            copy_parts(folder, group, folder, form)
        except DamagedShardError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                continue  # another process joins shards at the same time
            raise
        emptied = []
        for placed in group:
            left[placed.shard] -= 1
            if not left[placed.shard] and placed.shard not in plan.doubled:
                emptied.append(folder / "shards" / f"{placed.shard}.json")
        delete_shards(emptied)
    if not any(left.values()):
        delete_shards([sidecar for sidecar in plan.replaced if sidecar.stem in plan.doubled])


def _remove_leftovers(folder: Path, report: CleanReport, *, dry_run: bool) -> None:
    """Remove temporary files, and arrays without a sidecar, that no run can be writing any more."""
    for path in _leftovers(folder):
        if _is_old(path):
            report.leftovers.append(path)
            if not dry_run:
                path.unlink(missing_ok=True)


def _leftovers(folder: Path) -> Iterator[Path]:
    yield from folder.glob(".*.partial")
    yield from (folder / "shards").glob(".*.partial")
    for array in (folder / "shards").glob("*.npy"):
        if not array.with_name(f"{array.name.partition('.')[0]}.json").exists():
            yield array


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _SECONDS_UNTIL_LEFT_OVER
    except FileNotFoundError:
        return False


def _size(folder: Path) -> int:
    def sizes() -> Iterable[int]:
        for path in folder.rglob("*"):
            with suppress(FileNotFoundError):  # another process has removed it meanwhile
                yield path.stat().st_size if path.is_file() else 0

    return sum(sizes())
