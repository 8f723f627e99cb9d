"""The command that fits heads: `birdemb fit`."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from birdemb.command_options import PATH, labelling, offline, read_columns, shared
from birdemb.command_output import count, end, some

if TYPE_CHECKING:
    from birdemb.fitting import FitReport
    from birdemb.soundscapes import SoundscapeScores
    from birdemb.validation import Validation

__all__ = ["HEAD_HELP", "fit", "fitting_options", "read_parameters", "tell_steps"]

HEAD_HELP = "lr (one logistic regression per class), mlp or lgbm; several by commas are blended."

_SECONDS_BETWEEN_LINES = 10.0
_NOTABLE = 0.005  # in ROC-AUC

_SHOWN_METRICS = {"macro_roc_auc": "ROC-AUC", "cmap": "cmAP", "padded_cmap": "padded cmAP", "lrap": "LRAP"}


def _read_positive_weights(context: click.Context, option: click.Parameter, given: Sequence[str]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for assignment in given:
        label, equals, text = assignment.rpartition("=")
        try:
            weights[label] = float(text)
        except ValueError:
            equals = ""
        if not equals or not label:
            raise click.BadParameter(f"{assignment}: expected CLASS=WEIGHT, such as amered=4.", context, option)
    return weights


def fitting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what heads learn from: they are those of `fit` and of `tune`."""
    for option in (
        click.option("--seed", default=0, show_default=True, help="Same seed, data and versions give the same heads."),
        click.option(
            "--group",
            type=click.Choice(["recording", "author", "site"]),
            default="recording",
            show_default=True,
            help="What folds do not part. Recordings that are nearly the same are never parted.",
        ),
        click.option(
            "--cv",
            type=int,
            help="Folds of the validation; 0 for none, and no calibration then.  [default: 5, or as many as can be]",
        ),
        click.option(
            "--prior",
            type=click.Choice(["auto", "none", "offset", "features"]),
            default="auto",
            show_default=True,
            help="How heads start from what the encoder knows of the classes; auto is offset where it knows any.",
        ),
        click.option("--most-recordings", type=click.IntRange(1), help="Most recordings of a class."),
        click.option("--rating", is_flag=True, help="Let recordings weigh by their rating."),
        click.option(
            "--secondary",
            default="unknown",
            show_default=True,
            help="What secondary labels are: unknown, present, ignore, or a weight of the positives that they make.",
        ),
        click.option(
            "--reweight",
            type=click.Choice(["none", "balanced", "sqrt", "effective"]),
            default="sqrt",
            show_default=True,
            help="How rare classes are lifted; docs/reweighting.md has the formulas.",
        ),
        click.option(
            "--positive-weight",
            "positive_weights",
            metavar="CLASS=WEIGHT",
            multiple=True,
            callback=_read_positive_weights,
            help="Let the positives of one class count more or less; more than once for several.",
        ),
        click.option(
            "--encoder",
            "-e",
            "encoders",
            multiple=True,
            help="Whose embeddings, its name or its card; more than once for several.  [default: those made last]",
        ),
        labelling,
        offline,
    ):
        command = option(command)
    return command


@click.command(
    epilog="\b\nExamples:\n  birdemb fit --head lgbm\n  birdemb fit --head lr,mlp,lgbm --blend climb --group author\n"
    "  birdemb fit --head lr --labels train.csv -o model.birdemb\n"
    "  birdemb fit --labels raven/ --minimum-overlap 1\n"
    "  birdemb fit --head lgbm --set num_leaves=8 --reweight balanced\n"
    "  birdemb fit --validate soundscapes/ --truth truth.csv --tune-postprocess"
)
@click.option("--head", default="lr", show_default=True, help=HEAD_HELP)
@click.option("--output", "-o", type=PATH, help="Bundle to write.  [default: in the working folder]")
@click.option(
    "--set",
    "assignments",
    metavar="[HEAD.]PARAMETER=VALUE",
    multiple=True,
    help="Parameter of a head; more than once for several.",
)
@click.option(
    "--blend",
    type=click.Choice(["mean", "logits", "ranks", "nnls", "climb", "stack", "best"]),
    default="mean",
    show_default=True,
    help="How several heads are blended: means, or weights learnt on out-of-fold scores.",
)
@click.option(
    "--calibrate",
    type=click.Choice(["platt", "isotonic", "none"]),
    default="platt",
    show_default=True,
    help="How out-of-fold scores become probabilities.",
)
@click.option(
    "--threshold",
    default="f1",
    show_default=True,
    help="What detections aim at: f1, or a precision such as 0.9.",
)
@click.option(
    "--validate", "soundscapes", metavar="FOLDER", help="Labelled soundscapes to validate on, beside the recordings."
)
@click.option("--truth", type=PATH, help="Table with row_id and 0 or 1 for each class, for --validate.")
@click.option(
    "--tune-postprocess",
    is_flag=True,
    help="Choose on these soundscapes what `predict` does with probabilities; nothing otherwise.",
)
@click.option(
    "--class-groups",
    type=PATH,
    help="Table with the group of each class, for --tune-postprocess.  [default: class_name of the taxonomy]",
)
@fitting_options
@shared
def fit(
    head: str,
    assignments: Sequence[str],
    soundscapes: str | None,
    truth: Path | None,
    **settings: Any,  # noqa: ANN401
) -> None:
    """Fit heads on what was embedded last.

    The result is a bundle, one file that holds the heads, their classes, how they are blended and calibrated, and the
    identity of the encoder. `birdemb predict` takes the bundle that was fitted last, `birdemb info` shows one.

    Heads are validated on recordings that they were not fitted on. Classes with recordings of one group alone are
    fitted like all others, but nothing can be said of them.
    """
    from birdemb import fitting

    if (soundscapes is None) != (truth is None):
        raise click.UsageError("--validate and --truth belong together.")
    settings["columns"] = read_columns(settings["columns"])
    if settings["tune_postprocess"] and soundscapes is None:
        raise click.UsageError("--tune-postprocess needs labelled soundscapes: --validate and --truth.")
    if settings["class_groups"] is not None and not settings["tune_postprocess"]:
        raise click.UsageError("--class-groups belongs to --tune-postprocess.")
    with tell_steps("Fitting") as tell:
        report = fitting.fit(
            head,
            parameters=read_parameters(head, assignments),
            command=["birdemb", *sys.argv[1:]],
            soundscapes=soundscapes,
            truth=truth,
            tell=tell,
            **settings,
        )
    _print_report(head, report)
    if report.soundscapes is not None:
        _print_gap(report.soundscapes)
    if report.tuning is not None:
        from birdemb.postprocess_output import describe_steps, tell_tuning

        click.echo(f"  post-processing: {describe_steps(report.bundle.postprocessing.describe())}")
        for line in tell_tuning(report.tuning.summary()):
            click.echo(f"    {line}")
    click.echo(f"  bundle: {report.path}")
    if report.limited:
        click.echo(f"  beyond --most-recordings, left out: {count(report.limited, 'recording')}")
    end(report.skipped, report.errors, "left out")


def read_parameters(head: str, assignments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read ``lgbm.num_leaves=8`` or, for a single head, ``num_leaves=8``.

    Raises
    ------
    click.UsageError
        If it is not of that form.
    """
    parameters: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        owner, dot, parameter = name.rpartition(".")
        if not equals or not parameter or (not dot and "," in head):
            raise click.UsageError(
                f"--set {assignment}: expected PARAMETER=VALUE, and with several heads HEAD.PARAMETER=VALUE."
            )
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        parameters.setdefault(owner.strip() or head.strip(), {})[parameter] = value
    return parameters


class tell_steps:  # noqa: N801 - used as a function
    """Show the step that is being done: in place on a terminal, elsewhere as a line now and then.

    Parameters
    ----------
    title : str
        What is being done as a whole.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._told = time.monotonic()

    def __enter__(self) -> Callable[[str], None]:
        """Give what is told of each step."""
        from tqdm import tqdm

        self._bar = tqdm(
            disable=not sys.stderr.isatty(), bar_format="{desc} [{elapsed}]", leave=False, dynamic_ncols=True
        )
        # A warning's place in the code tells a user nothing.
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.showwarning = lambda message, *_: click.echo(f"Warning: {message}", err=True)
        return self._tell

    def _tell(self, step: str) -> None:
        self._bar.set_description_str(f"{self._title}: {step}")
        now = time.monotonic()
        if self._bar.disable and now - self._told >= _SECONDS_BETWEEN_LINES:
            self._told = now
            click.echo(f"{self._title}: {step}", err=True)

    def __exit__(self, *_: object) -> None:
        """Take the line away."""
        self._warnings.__exit__(None, None, None)
        self._bar.close()


def _print_report(head: str, report: FitReport) -> None:
    data = report.data
    counts = data.labels.count_recordings()
    encoders = [identity["encoder"] for identity in report.bundle.identities]
    click.echo(
        f"Fitted {head} on {count(report.windows, 'window')} of {count(report.recordings, 'recording')}, "
        f"{len(counts)} classes, with {' and '.join(encoders)}, in {report.elapsed:.1f} s"
    )
    click.echo(f"  labels: {data.labels.source}")
    if data.labels.passed_over:
        click.echo(f"    not used: {some(data.labels.passed_over)}")
    for known in data.knowledge:
        click.echo(f"  prior:  {known.sentence}")
        if known.unmatched and known.prior is not None:
            click.echo(f"    not known to it: {count(len(known.unmatched), 'class')}: {some(known.unmatched)}")
    for member, trust in zip(report.bundle.ensemble.members, report.validation.trusts, strict=True):
        if trust is not None:
            prior = data.priors[member.encoder]
            kept = trust[prior.known] if prior is not None else trust
            spread = f", {kept.min():.0%} to {kept.max():.0%} in single classes" if kept.min() < kept.max() else ""
            click.echo(
                f"    {member.head.name} keeps {kept.mean():.0%} of what it adds to the encoder's logits{spread}"
            )
    if data.duplicates.pairs:
        click.echo(f"  nearly the same, kept in one fold: {count(len(data.duplicates.pairs), 'pair')} of recordings")
    if data.grouping.by != "recording":
        click.echo(
            f"  groups: {data.grouping.count:,} by {data.grouping.by}"
            + (f", {data.grouping.alone:,} recordings without one stand alone" if data.grouping.alone else "")
        )
    _print_validation(report.validation)


def _print_validation(validation: Validation) -> None:
    if validation.reason:
        click.echo(f"  validation: none, as {validation.reason}")
        several = "heads are blended by their mean, and there is " if len(validation.trusts) > 1 else "there is "
        click.echo(f"    so {several}no calibration, and no threshold for `predict --detections`")
        return
    assessable = validation.classes["assessable"]
    click.echo(f"  validation: {validation.folds} folds, {assessable.sum()} of {len(assessable)} classes assessable")
    names = [*validation.scores]
    wide = max(map(len, names)) + 2
    click.echo("  " + " " * wide + "".join(f"{title:>22}" for title in _SHOWN_METRICS.values()))
    for name in names:
        rows = validation.scores[name].metrics.set_index("metric")
        cells = [_interval(*rows.loc[metric, ["value", "low", "high"]]) for metric in _SHOWN_METRICS]
        click.echo(f"  {name:<{wide}}" + "".join(f"{cell:>22}" for cell in cells))
    if len(names) > 1:
        _print_blend(validation, names[:-1])
    others = validation.classes.loc[~assessable, "class"].tolist()
    if others:
        click.echo(f"    fitted, but not assessable: {count(len(others), 'class')}: {some(others)}")
    method = validation.calibration.method if validation.calibration is not None else "none"
    f1 = _interval(*validation.detections.set_index("metric").loc["macro_f1", ["value", "low", "high"]])
    click.echo(f"    F1 {f1} at thresholds of the other folds")
    click.echo(f"    Brier score {validation.brier:.4f}, calibration {method}")


def _print_blend(validation: Validation, names: Sequence[str]) -> None:
    weights = (validation.blend.weights / validation.blend.weights.sum(axis=0)).mean(axis=1)
    told = ", ".join(f"{name} {weight:.0%}" for name, weight in zip(names, weights, strict=True))
    click.echo(f"    blend ({validation.blend.method}): {told}")
    values = {
        name: float(table.metrics.set_index("metric")["value"].to_dict()["macro_roc_auc"])
        for name, table in validation.scores.items()
    }
    best = max(names, key=lambda name: values[name])
    if values[best] > values["blend"] + _NOTABLE:
        click.echo(
            f"    Warning: {best} alone does better than the blend. Leave the others out"
            + (", or use --blend best." if validation.blend.method != "best" else "."),
            err=True,
        )


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} ({low:.3f}-{high:.3f})"


def _print_gap(scores: SoundscapeScores) -> None:
    click.echo(f"  on soundscapes: {scores.windows:,} windows, {scores.classes} classes with a positive")
    for metric, title in _SHOWN_METRICS.items():
        rows = scores.table.metrics.set_index("metric")
        told = _interval(*rows.loc[metric, ["value", "low", "high"]])
        gap = scores.gaps.get(metric)
        click.echo(
            f"    {title:<12} {told}"
            + (f", {gap:+.3f} against the recordings' folds on the same classes" if gap is not None else "")
        )
    if scores.fitted_on:
        click.echo(
            f"    Warning: heads are fitted on {len(scores.fitted_on):,} of these soundscapes, too, which flatters: "
            f"{some(scores.fitted_on)}",
            err=True,
        )
    if scores.unfitted:
        click.echo(f"    in the soundscapes, but not fitted, and not counted: {some(scores.unfitted)}")
