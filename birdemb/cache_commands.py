"""The commands that look after the cache: `birdemb cache info | verify | merge | gc | export`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from birdemb.command_options import PATH, workspace
from birdemb.command_output import EXIT_SKIPPED
from birdemb.errors import InputError

if TYPE_CHECKING:
    from birdemb.cache.maintenance import CacheInfo, Problem

__all__ = ["cache"]

_EXIT_DAMAGED = 1
_SHOWN = 20  # problems, before the rest is only counted


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _takes_a_cache(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument and the option that say which cache."""
    command = workspace("Working folder whose cache is meant, where no PATH is given.")(command)
    return click.argument("path", type=PATH, required=False)(command)


@click.group(epilog=_examples("birdemb cache info", "birdemb cache gc --dry-run"))
def cache() -> None:
    """Look after the cache of embeddings.

    PATH is a working folder, its cache, or the folder of one encoder's embeddings in that; by default the cache of the
    working folder.
    """


@cache.command(epilog=_examples("birdemb cache info", "birdemb cache info /shared/embeddings"))
@_takes_a_cache
def info(path: Path | None, workspace: Path) -> None:
    """Tell what is in the cache, for each encoder and its settings."""
    from birdemb.cache.maintenance import info

    for number, found in enumerate(info(path or workspace)):
        if number:
            click.echo()
        click.echo("\n".join(_describe(found)))


def _describe(found: CacheInfo) -> list[str]:
    if found.problem is not None:
        return [f"{found.folder}", f"  {found.problem}"]
    identity = found.identity
    names = (
        "precision",
        "pooling",
        "window",
        "hop",
        "padding",
        "resampler",
        "level",
        "weights_sha256",
        "quantized_sha256",
    )
    settings = [f"{name.removesuffix('_sha256')} {_short(identity[name])}" for name in names if identity.get(name)]
    logits = f", {identity['logits']} logits" if identity.get("logits") else ", no logits"
    lines = [
        f"{identity['encoder']}: {found.folder}",
        f"  settings:   {', '.join(settings)}",
        f"  embeddings: width {identity['dim']}, {identity.get('dtype', 'float32')}{logits}",
        f"  recordings: {found.recordings:,} complete, {found.unfinished:,} unfinished",
        f"  windows:    {found.windows:,} ({found.seconds / 3600:,.2f} h)",
        f"  on disk:    {found.shards:,} shards, {_bytes(found.size)}",
    ]
    if found.damaged:
        lines.append(f"  damaged:    {len(found.damaged)} shards, passed over; `birdemb cache gc` removes them")
    return lines


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _show(problems: Sequence[Problem]) -> None:
    for problem in problems[:_SHOWN]:
        click.echo(f"  {problem.path}: {problem.reason}", err=True)
    if len(problems) > _SHOWN:
        click.echo(f"  and {len(problems) - _SHOWN} more", err=True)


@cache.command(epilog=_examples("birdemb cache verify", "birdemb cache verify /shared/embeddings"))
@_takes_a_cache
def verify(path: Path | None, workspace: Path) -> None:
    """Read every row and compare it with its hash.

    The exit status is 1 if anything is damaged.
    """
    from birdemb.cache.maintenance import verify

    report = verify(path or workspace)
    click.echo(
        f"Read {report.windows:,} windows in {report.parts:,} parts and {report.shards:,} shards "
        f"({_bytes(report.size)}): {len(report.problems) or 'nothing'} damaged"
    )
    if report.problems:
        _show(report.problems)
        click.echo("`birdemb cache gc` removes what is damaged; `birdemb embed` then embeds it again.", err=True)
        sys.exit(_EXIT_DAMAGED)


@cache.command(
    epilog=_examples(
        "birdemb cache merge /media/disk/.birdemb --into .birdemb",
        "birdemb cache merge machine1/.birdemb machine2/.birdemb --into /shared/embeddings",
    )
)
@click.argument("sources", metavar="SOURCE...", type=PATH, nargs=-1, required=True)
@click.option("--into", type=PATH, required=True, help="Working folder, or cache, to copy into; made if need be.")
def merge(sources: Sequence[Path], into: Path) -> None:
    """Copy what other caches have and one has not.

    The sources are only read. What is there already is not copied again, so that it may be stopped and started again.
    The exit status is 3 if something in the sources was damaged, and left out.
    """
    from birdemb.cache.merging import merge

    report = merge(sources, into)
    click.echo(
        f"Copied {report.windows:,} windows in {report.copied:,} parts; {report.known:,} parts were there already"
    )
    for folder in dict.fromkeys(report.folders):
        click.echo(f"  into: {folder}")
    if report.problems:
        click.echo(f"  left out as damaged, or of another format: {len(report.problems)}", err=True)
        _show(report.problems)
        sys.exit(EXIT_SKIPPED)


@cache.command(
    epilog=_examples(
        "birdemb cache gc --dry-run", "birdemb cache gc", "birdemb cache gc --shard-rows 100000000   # one shard of all"
    )
)
@_takes_a_cache
@click.option("--unfinished", is_flag=True, help="Remove recordings of which windows are missing, too.")
@click.option("--unlisted", is_flag=True, help="Remove recordings that were not in the last `birdemb embed`, too.")
@click.option("--shard-rows", type=click.IntRange(1), help="Rows of a shard that small ones are joined into.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
def gc(
    path: Path | None, workspace: Path, unfinished: bool, unlisted: bool, shard_rows: int | None, dry_run: bool
) -> None:
    """Remove what is damaged, left over or there twice, and join small shards.

    Every row is read and compared with its hash. What is replaced is written anew first: nothing is lost if this is
    stopped, and other processes may use the cache meanwhile. Damaged recordings are embedded again by the next
    `birdemb embed`.
    """
    from birdemb.cache.cleaning import clean
    from birdemb.cache.merging import ROWS_A_JOINED_SHARD

    report = clean(
        path or workspace,
        unfinished=unfinished,
        unlisted=unlisted,
        shard_rows=shard_rows or ROWS_A_JOINED_SHARD,
        dry_run=dry_run,
    )
    click.echo("This would be done:" if dry_run else f"Freed {_bytes(report.freed)}")
    for count, what in (
        (len(report.problems), "damaged shards and parts removed"),
        (report.duplicates, "parts removed that were there twice"),
        (report.unfinished, "parts of unfinished recordings removed"),
        (report.unlisted, "parts of recordings that are not listed removed"),
        (len(report.leftovers), "leftover files removed"),
        (report.joined, f"shards written anew, as {report.written:,}"),
    ):
        if count:
            click.echo(f"  {count:,} {what}")
    _show(report.problems)


@cache.command(
    epilog=_examples(
        "birdemb cache export -o embeddings.npz",
        "birdemb cache export -o embeddings.parquet --encoder birdnet-2.4",
        "birdemb cache export -o embeddings/      # then: pandas.read_parquet('embeddings/')",
    )
)
@_takes_a_cache
@click.option(
    "--output", "-o", type=PATH, required=True, help="*.npz, *.parquet, or a folder of Parquet files to write."
)
@click.option(
    "--encoder", "-e", help="Encoder whose embeddings are meant, where there are several: its name or its card."
)
def export(path: Path | None, workspace: Path, output: Path, encoder: str | None) -> None:
    """Write the embeddings in a form for other tools.

    Each window comes with its recording and its start and end in seconds. The one Parquet file has the embeddings as
    lists (DuckDB, Polars, Arrow), the folder has them as columns e0000, e0001, ... (pandas).
    """
    from birdemb.cache.export import export
    from birdemb.cache.view import open_cache
    from birdemb.embed.catalogue import name_encoder

    if output == Path():
        raise InputError("The folder to write is the one you are in; give a new one.")
    name = name_encoder(encoder) if encoder is not None else None
    rows = export(open_cache(path or workspace, encoder=name), output)
    click.echo(f"Exported {rows:,} windows to {output}")
