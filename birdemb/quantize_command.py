"""The command that makes int8 networks: `birdemb quantize`."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["quantize"]

_PATH = click.Path(path_type=Path)


@click.command(
    epilog="\b\nExamples:\n  birdemb quantize birdnet-2.4 --calibrate soundscapes/\n"
    "  birdemb embed data/ --precision int8"
)
@click.argument("encoder")
@click.option("--calibrate", metavar="FOLDER", required=True, help="Recordings such as those that will be embedded.")
@click.option(
    "--windows", type=click.IntRange(4, 2000), default=200, show_default=True, help="Windows of 5 s to calibrate with."
)
@click.option(
    "--output",
    metavar="FOLDER",
    type=_PATH,
    help="Folder of weights to write to; name it in BIRDEMB_MODELS to use it.  [default: where weights are kept]",
)
@click.option(
    "--weights", type=_PATH, help="Weights file of the encoder, or a folder with it; found by itself otherwise."
)
@click.option("--force", is_flag=True, help="Replace a network that is there; its embeddings cannot be made again.")
def quantize(
    encoder: str, calibrate: str, windows: int, output: Path | None, weights: Path | None, force: bool
) -> None:
    """Make a network of 8-bit integers from ENCODER's, for `--precision int8`.

    Windows that differ from each other are chosen from all recordings in FOLDER, and the network is fitted to the
    values that they cause. How near its embeddings are to those of float32 is measured on other recordings of the same
    folder, and convolutions that lose too much stay in float32.
    """
    from birdemb.embed.quantization import quantize_encoder

    report = quantize_encoder(
        encoder, calibrate=calibrate, windows=windows, output=output, weights=weights, force=force, tell=click.echo
    )
    chosen = report.calibration
    click.echo(f"Quantized {report.quantized} of {report.convolutions} convolutions of {encoder}")
    click.echo(
        f"  calibration: {len(chosen.inputs):,} windows of {chosen.recordings:,} recordings, "
        f"measured on {len(chosen.held_out):,} others"
    )
    click.echo(f"  cosine to f32: mean {report.cosine_mean:.4f}, worst {report.cosine_worst:.4f}")
    click.echo(f"  size: {report.bytes / 1e6:.1f} MB, in f32 {report.float_bytes / 1e6:.1f} MB")
    click.echo(
        f"  one thread: {report.milliseconds:.1f} ms a window, in f32 {report.float_milliseconds:.1f} ms; "
        f"before either {report.front_end_milliseconds:.1f} ms for the spectrograms"
    )
    for layer in report.float_layers:
        kernel = "x".join(map(str, layer.kernel))
        click.echo(
            f"  left in f32: convolution {layer.number} ({kernel}), cosine {layer.cosine:.4f} with it alone in int8"
        )
    if chosen.skipped:
        click.echo(f"  skipped: {len(chosen.skipped):,} recordings that cannot be used", err=True)
        for entry in chosen.skipped[:5]:
            click.echo(f"    {entry.recording}: {entry.reason}", err=True)
    click.echo(f"  network: {report.folder}")
