"""The command line: parse, one library call, print.

Everything heavy is imported inside the commands, so that `birdemb --help` answers at once.
"""

from __future__ import annotations

import io
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from birdemb.budget.interruption import Terminated
from birdemb.cache_commands import cache
from birdemb.command_options import PATH, encoding, offline, shared
from birdemb.command_output import count, describe, end, hours, some
from birdemb.defaults import DEFAULT_ENCODER, DEMO_ENCODER, DEMO_FOLDER
from birdemb.encoder_commands import encoders
from birdemb.errors import BirdembError
from birdemb.export_command import export
from birdemb.fit_command import fit
from birdemb.info_command import info
from birdemb.interrupts import EXIT_INTERRUPTED, NOTHING_LOST, begin_command
from birdemb.labels_command import labels
from birdemb.pack_command import pack
from birdemb.predict_commands import evaluate, predict
from birdemb.quantize_command import quantize
from birdemb.species_command import species
from birdemb.tune_command import tune

EXIT_ERROR = 1
EXIT_TERMINATED = 143

_RESUMED = ("embed", "predict", "tune", "demo", "encoders")
"""Commands that go on where they were stopped."""

_EPILOG = """\b
Exit status:
  0    everything went in
  1    it could not be done; the message says why
  2    the command line is wrong
  3    done, but something was skipped, filled in or left out for lack of time; it is listed
  130  stopped with Ctrl-C; embeddings and trials that were finished are kept
  143  the same by SIGTERM, where there was a time budget
"""


def _version() -> str:
    try:
        return version("birdemb")
    except PackageNotFoundError:
        return "not installed"


class _Commands(click.Group):
    """Turns birdemb's errors into one line and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        try:
            begin_command()
            return super().invoke(ctx)
        except BirdembError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(EXIT_ERROR)
        except BrokenPipeError:
            raise  # click ends quietly where nobody reads on, as in `birdemb ... | head`
        except OSError as error:
            click.echo(f"Error: {error.filename or 'A file'}: {error.strerror or error}.", err=True)
            ctx.exit(EXIT_ERROR)
        except KeyboardInterrupt as stop:
            kept = "\nStopped. What was finished is kept; the same command goes on from there."
            click.echo(kept if ctx.invoked_subcommand in _RESUMED else NOTHING_LOST, err=True)
            ctx.exit(EXIT_TERMINATED if isinstance(stop, Terminated) else EXIT_INTERRUPTED)


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
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files need not be valid text. Standard error escapes them by itself.
        sys.stdout.reconfigure(errors="backslashreplace")


for _command in (fit, tune, predict, evaluate, info, labels, cache, encoders, species, quantize, export, pack):
    main.add_command(_command)


@main.command(
    epilog="\b\nExamples:\n  birdemb embed data/\n  birdemb embed data/ --encoder melspec --jobs 4\n"
    "  birdemb embed night.flac --window 3 --logits\n"
    "  birdemb embed s3://bucket/recordings --backend dask --scheduler tcp://10.0.0.1:8786"
)
@click.argument("path")
@click.option(
    "--encoder",
    "-e",
    default=DEFAULT_ENCODER,
    show_default=True,
    help="Encoder; see `birdemb encoders`. Or the path of a card of your own, ending in .toml.",
)
@click.option("--window", default=5.0, show_default=True, help="Length of a window in seconds.")
@click.option(
    "--hop", type=float, help="Seconds from one window's start to the next's.  [default: the window's length]"
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "f32", "bf16", "f16", "int8"]),
    default="f32",
    show_default=True,
    help="Of the encoder's arithmetic; auto is bf16 where this processor has instructions for it, else f32. "
    "int8 and f16 are made by `birdemb quantize`.",
)
@click.option(
    "--pooling",
    type=click.Choice(["mean", "max", "mean+max", "whole"]),
    help="How a window becomes one embedding.  [default: as the encoder's card says]",
)
@click.option(
    "--dtype",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="Of the embeddings in the cache.",
)
@click.option("--logits", is_flag=True, help="Keep the logits of the encoder's own classes beside the embeddings.")
@encoding
@shared
def embed(path: str, workspace: Path, **settings: Any) -> None:  # noqa: ANN401 - each option's own type
    """Turn the recordings in PATH into embeddings.

    PATH is a folder, with all folders below it, one recording, or a URL of either. What the cache already has is not
    embedded again, so that a run that was stopped goes on where it was. Labels for `birdemb fit` are looked for in PATH
    and beside it (train.csv, train_metadata.csv, ...), and beside each recording (Raven's and Audacity's files);
    without these, the recordings' folders are the classes. `birdemb labels check` shows what was found.
    """
    from birdemb.embedding import embed_recordings

    report = embed_recordings(path, workspace=workspace, show_progress=True, **settings)
    run, listing = report.run, report.listing
    click.echo(describe(listing, "Embedded", run.elapsed, run.fresh_seconds))
    if settings["precision"] == "auto":
        chosen = listing.identity["precision"]
        why = "as this processor has it" if chosen == "bf16" else "as the encoder or this processor has no bf16"
        click.echo(f"  precision: {chosen}, {why}")
    if 0 < run.fresh_seconds < listing.seconds:
        click.echo(f"  already cached: {hours(listing.seconds - run.fresh_seconds)}")
    if run.cache.damaged:
        click.echo(f"  damaged shards of the cache, passed over and embedded again: {len(run.cache.damaged)}")
    click.echo(f"  cache:  {run.cache.folder}")
    if report.labels is not None:
        counts, labelled = report.labels.count_recordings(), set(report.labels.table["recording"])
        click.echo(
            f"  labels: {report.labels.source}: {count(len(counts), 'class')} for {count(len(labelled), 'recording')}"
        )
        if report.labels.passed_over:
            click.echo(f"    not used: {some(report.labels.passed_over)}")
    else:
        click.echo("  labels: none that `birdemb fit` could use")
        if listing.labels:
            click.echo(f"    {report.labels_problem}")
    end(listing.skipped, report.errors, "skipped")


@main.command(epilog="\b\nExamples:\n  birdemb demo\n  birdemb demo try/ --encoder birdnet-2.4")
@click.argument("folder", type=PATH, default=DEMO_FOLDER)
@click.option("--encoder", "-e", default=DEMO_ENCODER, show_default=True, help="Encoder; the default needs no weights.")
@click.option("--seed", default=0, show_default=True, help="Of the world and of the heads.")
@click.option("--jobs", "-j", default=-1, show_default="all cores", help="Processes that work at the same time.")
@offline
def demo(folder: Path, encoder: str, seed: int, jobs: int) -> None:
    """Run the main job on a small synthetic world.

    Makes the world in FOLDER, fits every head on its recordings and evaluates them on its soundscapes. Nothing is
    downloaded. The recordings, the labels, the soundscapes and their truth stay in FOLDER, to be looked at.
    """
    from birdemb.demo import run_demo

    report = run_demo(folder, encoder=encoder, seed=seed, jobs=jobs, show_progress=True, tell=click.echo)
    click.echo(
        describe(report.embedded.listing, "Embedded", report.embedded.run.elapsed, report.embedded.run.fresh_seconds)
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


if __name__ == "__main__":
    main()
