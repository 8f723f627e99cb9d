"""The commands that use bundles: `birdemb predict` and `birdemb evaluate`."""

from __future__ import annotations

import math
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from birdemb.budget.budget_report import describe_budget
from birdemb.budget.interruption import stoppable
from birdemb.budget.time_budget import TimeBudget
from birdemb.command_options import DURATION, PATH, TEXT_PATH, encoding, shared
from birdemb.command_output import EXIT_SKIPPED, count, describe, end, some
from birdemb.watch_command import watching

__all__ = ["FORMS", "FORMS_OF_WINDOWS", "evaluate", "predict"]

_METRICS = {
    "macro_roc_auc": "Macro ROC-AUC",
    "cmap": "Macro average precision",
    "padded_cmap": "Padded cmAP",
    "lrap": "LRAP",
    "macro_f1": "Macro F1 at 0.5",
    "micro_f1": "Micro F1 at 0.5",
}

FORMS = frozenset(
    {
        *("audacity", "birdnet", "detections", "jsonl", "kaleidoscope"),
        *("long", "parquet", "raven", "submission", "wide"),
    }
)
FORMS_OF_WINDOWS = frozenset({"long", "submission", "wide"})


@click.command(
    epilog="\b\nExamples:\n  birdemb predict soundscapes/ -o submission.csv\n"
    "  birdemb predict night.wav --model model.birdemb -o night.csv --detections found.csv\n"
    "  birdemb predict test_soundscapes/ --sample-submission sample_submission.csv\n"
    "  birdemb predict test_soundscapes/ --blend-with other.csv --blend-weight 0.6\n"
    "  birdemb predict test_soundscapes/ --time-budget 90m --jobs 2\n"
    "  birdemb predict year/ -o all.parquet --detections for-raven/ --merge 0\n"
    "  birdemb predict year/ -o labels/ --format audacity --min-confidence 0.7\n"
    "  birdemb predict /media/recorders --watch -o night.csv --format detections"
)
@click.argument("path")
@click.option("--output", "-o", type=TEXT_PATH, default="submission.csv", show_default=True, help="Table to write.")
@click.option(
    "--format",
    "form",
    type=click.Choice(sorted(FORMS)),
    help="Form of the table.  [default: by its suffix: .csv a submission, .parquet, .jsonl, .txt a Raven selection "
    "table, none a folder of these]",
)
@click.option(
    "--detections", type=TEXT_PATH, help="Table to write of the windows in which a class passes its threshold."
)
@click.option(
    "--detections-format",
    "detections_form",
    type=click.Choice(sorted(FORMS - FORMS_OF_WINDOWS)),
    help="Form of the table of detections.  [default: by its suffix]",
)
@click.option(
    "--min-confidence",
    type=float,
    help="Threshold of every class, 0 to 1.  [default: each class's own, from when the bundle was validated]",
)
@click.option(
    "--merge",
    type=float,
    metavar="SECONDS",
    help="Join detections of a class that are at most so far apart; 0 for those that touch or overlap.",
)
@click.option(
    "--time-zone",
    metavar="ZONE",
    help="Of the recorders' clocks where files do not tell it, and of the times in tables: Australia/Sydney, +10:00.",
)
@click.option(
    "--model", "-m", type=PATH, help="Bundle, or folder of an offline kit.  [default: the bundle that was fitted last]"
)
@click.option("--sample-submission", type=PATH, help="Table whose rows and columns the result gets, in their order.")
@click.option(
    "--blend-with", type=PATH, help="Submission of another model, to be blended with by the ranks of each class."
)
@click.option("--blend-weight", type=float, help="Weight of the other model, between 0 and 1.  [default: 0.5]")
@click.option(
    "--postprocess",
    default="auto",
    show_default=True,
    metavar="auto|none|STEPS",
    help="What is done with the probabilities: what the bundle says, nothing, or steps by commas such as "
    "smooth=0.1,raise,scale=0.4:top=2; docs/postprocessing.md has them. Detections are made without.",
)
@click.option("--latitude", type=float, help="Degrees north, of recordings that do not tell theirs, for range.")
@click.option("--longitude", type=float, help="Degrees east, as --latitude.")
@click.option("--week", type=int, help="1 to 48, four to a month, of recordings without a date, for range.")
@click.option(
    "--time-budget",
    type=DURATION,
    help="Time from the command's start until all has to be done, such as 90m or 1h30m: the table is written at "
    "once, and made better for as long as there is time.",
)
@watching
@encoding
@shared
def predict(path: str, time_budget: float | None, **settings: Any) -> None:  # noqa: ANN401 - each option's own type
    """Predict the classes in each window of soundscapes.

    The result has a row for each window, named <file stem>_<end second>, and a column for each class. Other forms are
    long, wide and parquet, of all windows; and detections, raven, audacity, kaleidoscope, birdnet and jsonl, of the
    windows in which a class passes its threshold. docs/tables.md shows each of them.
    """
    from birdemb import predicting

    if time_budget is not None:
        settings["time_budget"] = TimeBudget.since_process_start(time_budget)
    with stoppable(Path(settings["output"]), settings["form"]) if time_budget is not None else nullcontext():
        report = predicting.predict_folder(path, show_progress=True, **settings)
    click.echo(describe(report.listing, "Predicted", report.elapsed, report.listing.seconds))
    heads = ", ".join(report.bundle.heads)
    click.echo(f"  bundle: {report.model}: {heads}, {len(report.bundle.classes)} classes")
    if report.postprocessing:
        click.echo(f"  post-processing: {', '.join(report.postprocessing.names)}")
    for reason in report.unused:
        click.echo(f"    Warning: {reason}", err=True)
    if report.output.of_windows:
        click.echo(f"  result: {report.output.path}")
    else:
        click.echo(f"  result: {report.output.path}, {report.output.form}: {count(report.rows, 'detection')}")
    if report.detections is not None:
        click.echo(f"  detections: {report.detected:,}, in {report.detections.path}")
    if report.budget is not None:
        for line in describe_budget(report.budget):
            click.echo(f"  {line}")
    if report.lost_rows:
        rows = count(report.lost_rows, "row")
        click.echo(f"  {rows} of soundscapes that were skipped, set to the classes' shares")
    if report.sample is not None:
        for names, noun, what in (
            (report.sample.unknown_classes, "class", "of the sample not known to the bundle, set to 0"),
            (report.sample.dropped_classes, "class", "of the bundle not asked for by the sample, left out"),
            (report.sample.filled_rows, "row", "of the sample without a prediction, set to the classes' shares"),
        ):
            if names:
                click.echo(f"  {count(len(names), noun)} {what}: {some(names)}")
        if report.sample.dropped_rows:
            rows = count(report.sample.dropped_rows, "predicted row")
            click.echo(f"  {rows} not asked for by the sample, left out")
    end(report.listing.skipped, report.errors, "skipped")
    if (report.sample is not None and not report.sample.complete) or (report.budget and report.budget.at_prior):
        sys.exit(EXIT_SKIPPED)


@click.command(epilog="\b\nExample:\n  birdemb evaluate submission.csv truth.csv")
@click.argument("submission", type=PATH)
@click.argument("truth", type=PATH)
def evaluate(submission: Path, truth: Path) -> None:
    """Score SUBMISSION against TRUTH.

    The score is the macro ROC-AUC over the classes that have a positive and a negative. Both files are tables with the
    column row_id and a column for each class; in TRUTH these are 0 or 1. Intervals are of 95%, by drawing soundscapes
    with replacement.
    """
    from birdemb import evaluating

    scores = evaluating.evaluate(submission, truth, intervals=True)
    table = scores.classes.rename(columns={"roc_auc": "ROC-AUC", "average_precision": "average precision"})
    click.echo(table.to_string(index=False, float_format="{:.4f}".format, na_rep="-"))
    click.echo()
    for metric, value, low, high in scores.table.metrics[["metric", "value", "low", "high"]].to_numpy().tolist():
        interval = f"  ({low:.4f} to {high:.4f})" if math.isfinite(low) else ""
        click.echo(f"{_METRICS[metric]:<24}{value:.4f}{interval}")
    click.echo(f"over {scores.scored} of {len(table)} classes, {scores.rows:,} rows")
