"""The commands about labels: `birdemb labels check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from birdemb.command_options import PATH, labelling, read_columns, workspace
from birdemb.command_output import count, end, hours, printable, some

if TYPE_CHECKING:
    from birdemb.label_checking import LabelCheck
    from birdemb.label_report import LabelReport

__all__ = ["labels"]

_SHOWN_CLASSES = 20
_SHOWN_FILES = 5
_WIDEST_BAR = 30


@click.group(epilog="\b\nExample:\n  birdemb labels check data/")
def labels() -> None:
    """Look at labels before heads are fitted on them."""


@labels.command(
    epilog="\b\nExamples:\n  birdemb labels check\n  birdemb labels check data/ -o rows.csv\n"
    "  birdemb labels check data/ --labels raven/ --minimum-overlap 1\n"
    "  birdemb labels check data/ --labels notes.csv --column filename=File --column class=Bird"
)
@click.argument("path", required=False)
@click.option("--output", "-o", type=PATH, help="Table to write with what became of each row of the labels.")
@click.option("--classes", is_flag=True, help="List every class, not the most common alone.")
@click.option("--window", type=float, help="Length of a window in seconds.  [default: as embedded, else 5]")
@click.option("--hop", type=float, help="Seconds from one window's start to the next's.")
@labelling
@workspace("Working folder.")
def check(path: str | None, classes: bool, workspace: Path, **settings: Any) -> None:  # noqa: ANN401
    """Show which labels were found for the recordings in PATH, and what becomes of them.

    Nothing has to be embedded. Without PATH it is about the recordings that were embedded last. Shown are the form of
    each file, recordings without a label and labels without a recording, classes by count, names of classes that are
    nearly the same, annotations that overlap or go on beyond their recording's end.
    """
    from birdemb.label_checking import check_labels

    settings["columns"] = read_columns(settings["columns"])
    found = check_labels(path, workspace=workspace, **settings)
    _print_sources(found)
    _print_classes(found.report, None if classes else _SHOWN_CLASSES)
    _print_doubts(found.report)
    if settings["output"] is not None:
        click.echo(f"  rows: {settings['output']}")
    end(found.problems, found.errors, "left out")


def _print_sources(found: LabelCheck) -> None:
    listing, report = found.listing, found.report
    click.echo(
        f"Checked the labels of {count(len(listing.recordings), 'recording')} ({hours(listing.seconds)}) in "
        f"{printable(listing.folder)}"
    )
    click.echo(f"  labels: {printable(report.labels.source)}")
    files = report.labels.rows.files if report.labels.rows is not None else ()
    for file in files[:_SHOWN_FILES]:
        extent = ", complete: what it does not name is absent" if file.complete else ""
        click.echo(f"    {printable(file.source.name)}: {file.form}, {count(file.rows, 'row')}{extent}")
        for note in file.notes:
            click.echo(f"      {printable(note)}")
    if len(files) > _SHOWN_FILES:
        forms = sorted({file.form for file in files})
        click.echo(f"    and {len(files) - _SHOWN_FILES:,} more; all forms: {', '.join(forms)}")
    if report.labels.passed_over:
        click.echo(f"    not used: {some(report.labels.passed_over)}")
    left_out, of_no_class = (report.rows["became"].str.startswith(word).sum() for word in ("left out:", "not used:"))
    click.echo(
        f"  rows: {len(report.rows) - left_out - of_no_class:,} used, {left_out:,} left out"
        + (f", {of_no_class:,} of classes that are present nowhere" if of_no_class else "")
    )
    click.echo(
        f"  labelled: {count(len(report.labels.recordings), 'recording')}, {count(report.windows, 'window')}, "
        f"{report.with_class:,} of them with a class"
    )


def _print_classes(report: LabelReport, most: int | None) -> None:
    table = report.classes
    unnamed = [name.label for name in report.names if not name.scientific]
    click.echo(
        f"  classes: {len(table):,}, {(table['recordings'] == 1).sum():,} of them in a single recording; "
        f"{len(table) - len(unnamed):,} with a scientific name"
    )
    if unnamed:
        click.echo(f"    without: {some(unnamed)}")
    wide = max(map(len, ("class", *map(printable, table["class"][:most]))))
    click.echo(f"    {'rank':>4}  {'class':<{wide}}  {'recordings':>10}  {'annotations':>11}  {'seconds':>10}")
    columns = ("rank", "class", "recordings", "annotations", "seconds", "scientific_name", "common_name")
    for rank, label, recordings, rows, seconds, scientific, common in zip(
        *(table[column].tolist()[:most] for column in columns), strict=True
    ):
        bar = "#" * max(1, round(_WIDEST_BAR * recordings / int(table["recordings"].iloc[0])))
        name = " ".join(filter(None, (scientific, f"({common})" if common else "")))
        click.echo(
            f"    {rank:>4}  {printable(label):<{wide}}  {recordings:>10,}  {rows:>11,}  {seconds:>10,.1f}  "
            + (f"{bar:<{_WIDEST_BAR}}  {printable(name)}" if name and name != label else bar)
        )
    if most is not None and len(table) > most:
        last = table[:-4:-1]
        rarest = [f"{label} ({number})" for label, number in zip(last["class"], last["recordings"], strict=True)]
        click.echo(f"    and {len(table) - most:,} more; the rarest: {', '.join(map(printable, rarest))}")


def _print_doubts(report: LabelReport) -> None:
    """Show what may be a mistake."""
    if report.similar:
        told = [f"{pair.first!r} and {pair.second!r} ({pair.difference})" for pair in report.similar]
        click.echo(f"  names that are nearly the same: {count(len(told), 'pair')}: {some(told)}")
    if len(report.overlaps):
        columns = (report.overlaps[column] for column in ("class", "recording", "start"))
        told = [f"{label} in {name} at {start:g} s" for label, name, start in zip(*columns, strict=True)]
        click.echo(f"  overlapping with another of the same class: {count(len(told), 'annotation')}: {some(told)}")
    cut = report.rows[report.rows["became"].str.contains("cut at the recording's end", regex=False).to_numpy(bool)]
    if len(cut):
        told = [f"{name}, line {line}" for name, line in zip(cut["recording"], cut["line"], strict=True)]
        click.echo(f"  cut at the recording's end: {count(len(told), 'annotation')}: {some(told)}")
