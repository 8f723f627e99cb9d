"""The command that makes networks with fewer bits: `birdemb quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from birdemb.command_options import offline, weights

if TYPE_CHECKING:
    from birdemb.embed.quantization_record import Estimate, Gate, QuantizationReport

__all__ = ["quantize"]

_PATH = click.Path(path_type=Path)


@click.command(
    epilog="\b\nExamples:\n  birdemb quantize birdnet-2.4 --calibrate data/\n"
    "  birdemb quantize birdnet-2.4 --calibrate soundscapes/ --labels soundscapes.csv --max-auc-loss 0.001\n"
    "  birdemb quantize birdnet-2.4 --calibrate data/ --precision f16\n"
    "  birdemb embed data/ --precision int8"
)
@click.argument("encoder")
@click.option("--calibrate", metavar="FOLDER", required=True, help="Recordings such as those that will be embedded.")
@click.option(
    "--precision",
    type=click.Choice(["int8", "f16", "bf16"]),
    default="int8",
    show_default=True,
    help="int8: 8-bit integers. f16: weights of half size, computed in f32. bf16: nothing is made, only measured.",
)
@click.option(
    "--labels",
    type=_PATH,
    help="Table such as BirdCLEF's train.csv, to measure what heads lose; found by itself otherwise.",
)
@click.option(
    "--max-auc-loss",
    type=click.FloatRange(0, 1),
    default=0.002,
    show_default=True,
    help="What heads may lose in macro ROC-AUC; a network that loses more refuses to embed.",
)
@click.option("--accept-loss", is_flag=True, help="Let the network embed even if it loses more.")
@click.option(
    "--min-cosine",
    "goal_mean",
    type=click.FloatRange(0, 1),
    default=0.99,
    show_default=True,
    help="What the cosine of int8 embeddings to those of f32 has to be, on average; nothing is written below it.",
)
@click.option(
    "--min-worst-cosine",
    "goal_worst",
    type=click.FloatRange(0, 1),
    default=0.97,
    show_default=True,
    help="The same of the worst window.",
)
@click.option(
    "--windows", type=click.IntRange(4, 2000), default=200, show_default=True, help="Windows to calibrate with."
)
@click.option(
    "--output",
    metavar="FOLDER",
    type=_PATH,
    help="Folder of weights to write to; name it in BIRDEMB_MODELS to use it.  [default: where weights are kept]",
)
@weights
@click.option("--force", is_flag=True, help="Replace a network that is there; its embeddings cannot be made again.")
@offline
def quantize(encoder: str, **settings: Any) -> None:  # noqa: ANN401 - each option's own type
    """Make a network with fewer bits from ENCODER's, and measure what that costs.

    Windows that differ from each other are chosen from all recordings in FOLDER, and the network is fitted to the
    values that they cause. How near its embeddings are to those of float32 is measured on other recordings of the same
    folder; and where these have labels, what heads lose in macro ROC-AUC. Convolutions that lose too much stay in
    float32.
    """
    from birdemb import quantizing

    report = quantizing.quantize(encoder, tell=click.echo, **settings)
    chosen = report.calibration
    if report.precision == "int8":
        click.echo(f"Quantized {report.quantized} of {report.convolutions} convolutions of {encoder}")
        click.echo(
            f"  calibration: {len(chosen.inputs):,} windows of {chosen.recordings:,} recordings, "
            f"measured on {len(chosen.held_out):,} others"
        )
    else:
        done = "Stored" if report.folder is not None else "Measured"
        click.echo(f"{done} {encoder} in {report.precision}, measured on {len(chosen.held_out):,} windows")
    for line in _describe(report):
        click.echo(f"  {line}")
    if chosen.skipped:
        click.echo(f"  skipped: {len(chosen.skipped):,} recordings that cannot be used", err=True)
        for entry in chosen.skipped[:5]:
            click.echo(f"    {entry.recording}: {entry.reason}", err=True)
    if report.folder is not None:
        click.echo(f"  network: {report.folder}")
    else:
        click.echo(f"  nothing to make: embed with --precision {report.precision}")


def _describe(report: QuantizationReport) -> list[str]:
    timing = report.timing
    lines = [
        f"cosine to f32: mean {report.cosine_mean:.4f}, worst {report.cosine_worst:.4f}",
        *_describe_gate(report.gate),
        f"size: {report.bytes / 1e6:.1f} MB, in f32 {report.float_bytes / 1e6:.1f} MB",
        f"one thread: {timing.trunk:.1f} ms a window, in f32 {timing.float_trunk:.1f} ms; "
        f"before either {timing.front_end:.1f} ms for what stays in f32",
    ]
    for layer in report.float_layers:
        kernel = "x".join(map(str, layer.kernel))
        lines.append(
            f"left in f32: convolution {layer.number} ({kernel}), cosine {layer.cosine:.4f} with it alone in int8"
        )
    return lines


def _describe_gate(gate: Gate) -> list[str]:
    loss = gate.loss
    if loss is None:
        return [f"loss in ROC-AUC: not measured: {gate.reason}"]
    lines = [
        f"loss in macro ROC-AUC, which is {loss.roc_auc:.4f} in f32: {_interval(loss.refitted)} with heads refitted, "
        f"{_interval(loss.fed)} with heads fitted in f32",
        f"  on {loss.windows:,} windows of {loss.groups:,} recordings, {loss.classes:,} classes, "
        f"the mean of {loss.splits} ways to part them",
    ]
    told = f"gate: {gate.result}, at most {gate.most:g} with heads refitted"
    if gate.result == "passed":
        uncertain = loss.refitted.high > gate.most
        return [*lines, told + ("; too few recordings to be sure of it" if uncertain else "")]
    kept = (
        "accepted with --accept-loss, it embeds all the same"
        if gate.accepted
        else "the network is kept, but refuses to embed: make it again with --force --accept-loss to use it"
    )
    return [*lines, f"{told}; {kept}"]


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:+.4f} ({estimate.low:+.4f} to {estimate.high:+.4f})"
