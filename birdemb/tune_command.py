"""The command that searches for a head's parameters: `birdemb tune`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from birdemb.command_options import DURATION, PATH, read_columns, shared
from birdemb.command_output import count
from birdemb.fit_command import fit, fitting_options, read_parameters, tell_steps

if TYPE_CHECKING:
    from birdemb.tuning import Estimate, TuningReport

__all__ = ["tune"]

_TITLES = {"macro_roc_auc": "ROC-AUC", "cmap": "cmAP"}


@click.command(
    epilog="\b\nExamples:\n  birdemb tune --head lgbm\n  birdemb tune --head mlp --trials 200 --time-limit 1h30m\n"
    "  birdemb tune --head lgbm --set n_estimators=100 --metric cmap -o trials.csv"
)
@click.option("--head", default="lgbm", show_default=True, help="lr (one logistic regression per class), mlp or lgbm.")
@click.option("--trials", default=50, show_default=True, help="How many in all, those of earlier runs included.")
@click.option("--time-limit", type=DURATION, help="Begin nothing new after this time: 30m, 1h30m, 90s.")
@click.option(
    "--metric",
    type=click.Choice(list(_TITLES)),
    default="macro_roc_auc",
    show_default=True,
    help="What is to be as high as can be.",
)
@click.option("--output", "-o", type=PATH, help="Table of trials to write.  [default: in the working folder]")
@click.option(
    "--set",
    "assignments",
    metavar="PARAMETER=VALUE",
    multiple=True,
    help="Parameter that is held fixed and not searched; more than once for several.",
)
@fitting_options
@shared
@click.pass_context
def tune(
    context: click.Context,
    /,
    head: str,
    time_limit: float | None,
    assignments: Sequence[str],
    **settings: Any,  # noqa: ANN401
) -> None:
    """Search for the parameters with which a head does best on recordings that it was not fitted on.

    The folds and the score are those of `birdemb fit` with the same options; the head's defaults are tried first. The
    same command goes on where it was stopped, and several may work on the same search at once.
    """
    from birdemb import tuning

    fixed = read_parameters(head, assignments)
    strangers = [name for name in fixed if name != head]
    if strangers:
        raise click.UsageError(f"--set {strangers[0]}.…: the head is {head}.")
    settings["columns"] = read_columns(settings["columns"])
    with tell_steps("Tuning") as tell:
        report = tuning.tune(head, time_limit=time_limit, fixed=fixed.get(head), tell=tell, **settings)
    _print_report(report)
    click.echo(f"  trials: {report.path}")
    click.echo(f"Fit with the best:\n  {_fit_command(context, head, report.parameters)}")


def _print_report(report: TuningReport) -> None:
    states = report.trials["state"].value_counts()
    told = ", ".join(f"{states[name]} {name}" for name in ("complete", "pruned", "failed") if name in states)
    ended = int(states.drop(["stopped", "running"], errors="ignore").sum())
    click.echo(
        f"Tuned {report.head} in {report.elapsed:.1f} s: {count(ended, 'trial')} ({told}), {report.fresh} of them now"
    )
    if report.out_of_time:
        click.echo("  the time limit ended it; the same command goes on from there")
    title = _TITLES[report.metric]
    click.echo(f"  {title} in {report.folds} folds")
    click.echo(f"    defaults: {_interval(report.usual)}")
    if report.gain.value <= 0:
        click.echo("    no trial was better")
        return
    click.echo(f"    best:     {_interval(report.best)}, trial {report.number}")
    gain = report.gain
    verdict = "more than chance" if gain.low > 0 else "it could be chance"
    click.echo(f"    gain:     {gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}): {verdict}")
    click.echo(
        f"    The best of {count(ended, 'trial')} flatters, as these folds chose it: expect less of other recordings."
    )
    for name, value in report.parameters.items():
        click.echo(f"  {name}: {_text(value)}")


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.4f} ({estimate.low:.4f}-{estimate.high:.4f})"


def _text(value: object) -> str:
    """Write a parameter so that `--set` reads the same value again."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value)


def _fit_command(context: click.Context, head: str, parameters: Mapping[str, Any]) -> str:
    """Write the command line that fits with these parameters, and with what was given of the options of `fit`."""
    words = ["birdemb", "fit", "--head", head]
    for name, value in parameters.items():
        words += ["--set", f"{name}={_text(value)}"]
    shared_names = {option.name for option in fit.params} - {"head", "assignments", "output"}
    for option in context.command.params:
        given = context.get_parameter_source(option.name or "") is not ParameterSource.DEFAULT
        if option.name not in shared_names or not given:
            continue
        value = context.params[option.name]
        if isinstance(value, Mapping):
            value = tuple(f"{label}={weight:g}" for label, weight in value.items())
        if isinstance(value, bool):
            words += [option.opts[0]] if value else []
            continue
        for one in value if isinstance(value, tuple) else (value,):
            words += [option.opts[0], str(one)]
    return shlex.join(words)
