"""What several commands print: counts, lists cut short, what was skipped."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from birdemb.listing import Listing, SkippedRecording

__all__ = ["EXIT_SKIPPED", "count", "describe", "end", "hours", "printable", "some"]

EXIT_SKIPPED = 3

_SHOWN = 5  # problems shown before the rest is left to the table


def describe(listing: Listing, verb: str, elapsed: float, worked: float) -> str:
    """Say what was done with which recordings, and how fast; `elapsed` and `worked` in seconds."""
    identity = listing.identity
    speed = f": {worked / elapsed:,.0f} x real time" if worked else ": all of it was in the cache"
    # Of nothing there is no speed: everything was skipped, or a time budget was too small.
    speed = speed if listing.recordings else ""
    encoder = f"{identity['encoder']} ({identity['precision']})"
    return (
        f"{verb} {count(len(listing.recordings), 'recording')}, {count(listing.windows, 'window')} of "
        f"{identity['window']:g} s ({hours(listing.seconds)}) with {encoder} in {elapsed:.1f} s{speed}"
    )


def count(number: int, noun: str) -> str:
    """Say how many."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def hours(seconds: float) -> str:
    """Say how long, in hours."""
    return f"{seconds / 3600:,.2f} h"


def some(names: Sequence[str]) -> str:
    """List the first names, and how many more there are."""
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(printable, names[:_SHOWN])) + rest


def end(skipped: Sequence[SkippedRecording], errors: Path | None, what: str) -> None:
    """Show what was left out and leave with the status that says so."""
    if not skipped:
        return
    click.echo(f"  {what}: {len(skipped)}, listed in {errors}", err=True)
    for entry in skipped[:_SHOWN]:
        click.echo(f"    {printable(entry.recording)}: {entry.reason}", err=True)
    if len(skipped) > _SHOWN:
        click.echo(f"    and {len(skipped) - _SHOWN} more", err=True)
    sys.exit(EXIT_SKIPPED)


def printable(name: str) -> str:
    """Give a name without anything that a terminal would obey."""
    return name.encode("unicode_escape").decode() if not name.isprintable() else name
