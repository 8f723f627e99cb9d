"""The command that writes bundles for other engines: `birdemb export`."""

from __future__ import annotations

from pathlib import Path

import click

from birdemb.command_options import PATH, offline, weights, workspace

__all__ = ["export"]


@click.command(
    epilog="\b\nExamples:\n  birdemb export model.birdemb --onnx model.onnx\n"
    "  birdemb export model.birdemb --onnx heads.onnx --heads-only"
)
@click.argument("model", type=PATH)
@click.option("--onnx", "output", metavar="FILE", type=PATH, required=True, help="ONNX graph to write.")
@click.option("--heads-only", is_flag=True, help="Leave the encoder out: embeddings in, probabilities out.")
@weights
@workspace("Working folder, which knows where cards of your own lie.")
@offline
def export(model: Path, output: Path, heads_only: bool, weights: str | None, workspace: Path) -> None:
    """Write the bundle MODEL as one ONNX graph.

    Encoders that can be in it are melspec, birdnet-2.4, PANNs, and those whose network is an ONNX file, as BirdNET 3.0,
    conversions of Perch 2, and your own, or a TorchScript file. Samples of a window go in, at the encoder's sample
    rate, and probabilities of the classes come out; any number of windows at once. The graph is compared with birdemb's
    own results before it is written. Its metadata name the classes, the window, the sample rate and the encoder's
    identity.
    """
    from birdemb.onnx_export import export_onnx

    report = export_onnx(model, output, heads_only=heads_only, weights=weights, workspace=workspace)
    parts = f"{report.encoder} and its heads" if report.encoder else "The heads"
    click.echo(f"Exported {model}: {parts}, {len(report.bundle.classes)} classes, {report.bytes / 1e6:.1f} MB")
    if report.embedding_difference is not None:
        click.echo(f"  embeddings differ from birdemb's by {report.embedding_difference:.1g} at most")
    click.echo(f"  probabilities differ from birdemb's by {report.probability_difference:.1g} at most")
    if report.licence is not None:
        click.echo(f"  licence of the encoder's weights, which are in the file: {report.licence}")
    click.echo(f"  graph: {report.path}")
