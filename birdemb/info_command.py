"""The command that shows what is in a bundle: `birdemb info`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from birdemb.command_options import PATH
from birdemb.command_output import count, printable, some
from birdemb.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from birdemb.classify.bundle import Bundle

__all__ = ["info"]


@click.command(
    epilog="\b\nExamples:\n  birdemb info .birdemb/bundles/lr.birdemb\n  birdemb info model.birdemb --classes"
)
@click.argument("model", type=PATH)
@click.option(
    "--classes", is_flag=True, help="List every class: where it was heard, how well it is told, its threshold."
)
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
def info(model: Path, classes: bool, as_json: bool) -> None:
    """Show what MODEL, a bundle, is: its heads, classes, encoder, scores, and where it comes from."""
    from birdemb.classify.bundle_file import read_bundle

    bundle = read_bundle(model)
    if as_json:
        # Nothing but ASCII, so that it is valid wherever it is sent.
        click.echo(json.dumps(_describe(bundle), indent=1))
        return
    try:
        lines = [*_tell(model, bundle), *(_list_classes(bundle) if classes else [f"  classes: {some(bundle.labels)}"])]
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        # The file is as it was written, but anything can be written there.
        raise InputError(
            f"{model} tells of its scores or of where it comes from in another form than expected ({error!r}). "
            "Look at it with --json, or fit again with `birdemb fit`."
        ) from error
    for line in lines:
        click.echo(printable(line))


def _describe_quantization(figures: Mapping[str, Any]) -> str:
    """Say how good a network with fewer bits was found to be when it was made."""
    lost = figures["auc_loss_refitted"]
    return (
        f"{figures['bytes'] / 1e6:.1f} MB, {figures['milliseconds']:.1f} ms a window when it was made, cosine to f32 "
        f"{figures['cosine_mean']:.4f}, worst {figures['cosine_worst']:.4f}; loss in ROC-AUC "
        + (f"{lost:+.4f}, gate {figures['gate']}" if lost is not None else "not measured")
    )


def _tell(model: Path, bundle: Bundle) -> Iterator[str]:
    ensemble, origin = bundle.ensemble, bundle.provenance
    yield f"{model}: {', '.join(bundle.heads)}, {count(len(bundle.classes), 'class')}"
    for identity in bundle.identities:
        yield (
            f"  encoder: {identity['encoder']} ({identity.get('precision', 'f32')}), windows of "
            f"{identity['window']:g} s every {identity['hop']:g} s, "
            + (f"weights sha256 {identity['weights_sha256']}" if identity.get("weights_sha256") else "no weights")
        )
        if identity.get("quantization"):
            yield f"    {_describe_quantization(identity['quantization'])}"
    for identity, prior in zip(bundle.identities, ensemble.priors, strict=True):
        if prior is not None:
            yield f"  prior: {identity['encoder']} knows {prior.known.sum()} of the classes, as {prior.kind}"
    if len(ensemble.members) > 1:
        weights = (ensemble.blend.weights / ensemble.blend.weights.sum(axis=0)).mean(axis=1)
        told = ", ".join(f"{name} {weight:.0%}" for name, weight in zip(bundle.heads, weights, strict=True))
        yield f"  blend: {ensemble.blend.method}: {told}"
    yield (
        f"  fitted: {origin.get('created', '?')} on {origin.get('windows', 0):,} windows of "
        f"{origin.get('recordings', 0):,} recordings, seed {origin.get('seed')}"
    )
    yield f"  command: {' '.join(map(str, origin.get('command', []))) or 'not from the command line'}"
    yield f"  data sha256: {origin.get('data_sha256')}"
    versions = origin.get("versions", {})
    yield f"  versions: Python {origin.get('python')}, {', '.join(f'{k} {v}' for k, v in versions.items())}"
    if "heads" in bundle.scores:
        yield f"  validation: {bundle.scores['folds']} folds, calibration {_word(ensemble.calibration)}"
        for name, scores in bundle.scores["heads"].items():
            told = ", ".join(
                f"{row['metric']} {row['value']:.3f}" for row in scores["metrics"] if row["value"] is not None
            )
            yield f"    {name}: {told}"
        if "detections" in bundle.scores:
            told = ", ".join(
                f"{row['metric']} {row['value']:.3f}" for row in bundle.scores["detections"] if row["value"] is not None
            )
            yield f"    at thresholds of the other folds: {told}"
        if "soundscapes" in bundle.scores:
            found = bundle.scores["soundscapes"]
            told = ", ".join(
                f"{row['metric']} {row['value']:.3f}" for row in found["metrics"] if row["value"] is not None
            )
            yield f"  on soundscapes: {found['windows']:,} windows: {told}"
    else:
        yield f"  validation: none, as {bundle.scores.get('reason', 'nothing is known of it')}"
    yield from _tell_postprocessing(bundle)


def _tell_postprocessing(bundle: Bundle) -> Iterator[str]:
    from birdemb.postprocess_output import describe_steps, tell_tuning

    yield f"  post-processing: {describe_steps(bundle.postprocessing.describe())}"
    if "postprocessing" in bundle.scores:
        for line in tell_tuning(bundle.scores["postprocessing"]):
            yield f"    {line}"


def _tell_folds(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Give the groups with each class, and its positive windows in each fold: ``3/2/0``."""
    import pandas as pd

    return pd.DataFrame(
        {
            "class": [row["class"] for row in rows],
            "groups": [str(row["groups"]) for row in rows],
            "positives in folds": [
                "/".join(str(value) for name, value in row.items() if name.startswith("fold_")) for row in rows
            ],
        }
    )


def _word(calibration: object) -> str:
    return getattr(calibration, "method", "none")


def _describe(bundle: Bundle) -> dict[str, object]:
    return {
        "heads": [
            {"head": member.head.name, "encoder": member.encoder, "parameters": repr(member.head)}
            for member in bundle.ensemble.members
        ],
        "encoders": list(bundle.identities),
        "priors": [
            None
            if prior is None
            else {
                "kind": prior.kind,
                "known": [name.label for name, known in zip(bundle.classes, prior.known, strict=True) if known],
            }
            for prior in bundle.ensemble.priors
        ],
        "blend": {"method": bundle.ensemble.blend.method, "weights": bundle.ensemble.blend.weights.tolist()},
        "postprocessing": bundle.postprocessing.describe(),
        "classes": [vars(name) for name in bundle.classes],
        "scores": bundle.scores,
        "provenance": bundle.provenance,
    }


def _list_classes(bundle: Bundle) -> list[str]:
    import pandas as pd

    table = pd.DataFrame([vars(name) for name in bundle.classes]).rename(columns={"label": "class"})
    for identity, prior in zip(bundle.identities, bundle.ensemble.priors, strict=True):
        if prior is not None:
            table[f"known to {identity['encoder']}"] = ["yes" if known else "no" for known in prior.known]
    table["share of windows"] = bundle.shares
    heads = bundle.scores.get("heads", {})
    if "classes" in bundle.scores:
        table = table.merge(_tell_folds(bundle.scores["classes"]), on="class", how="left")
    if heads:
        # The order of names in JSON says nothing.
        own = pd.DataFrame(heads.get("blend", next(iter(heads.values())))["classes"])[
            ["class", "roc_auc", "average_precision"]
        ]
        table = table.merge(own, on="class", how="left")
    if bundle.ensemble.thresholds is not None:
        for name in ("threshold", "low", "high"):
            table[name] = getattr(bundle.ensemble.thresholds, name)
    return str(table.to_string(index=False, float_format="{:.3f}".format, na_rep="-")).split("\n")
