"""The command that writes offline kits: `birdemb pack`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from birdemb.command_options import PATH, offline, weights, workspace
from birdemb.command_output import count

__all__ = ["pack"]


@click.command(
    epilog="\b\nExamples:\n  birdemb pack model.birdemb -o kit/\n"
    "  birdemb pack model.birdemb -o kit/ --wheels --python 3.11 --platform linux-x86_64\n"
    "  sh kit/run.sh soundscapes/ submission.csv\n"
    "  birdemb predict soundscapes/ --model kit/ --offline"
)
@click.argument("model", type=PATH)
@click.option("--output", "-o", metavar="FOLDER", type=PATH, required=True, help="Kit to write.")
@click.option("--wheels", is_flag=True, help="Put birdemb and all that it requires into the kit, too.")
@click.option("--python", metavar="VERSION", help="Python that the wheels are for, such as 3.11.  [default: this one]")
@click.option(
    "--platform",
    metavar="NAME",
    help="Platform that the wheels are for: linux-x86_64, linux-aarch64, macos-arm64, macos-x86_64, windows-amd64, or "
    "a tag of wheels.  [default: this one]",
)
@click.option(
    "--versions",
    type=click.Choice(["installed", "newest"]),
    default="installed",
    show_default=True,
    help="Versions of what birdemb requires: those that are installed here, or the newest.",
)
@weights
@workspace("Working folder, which knows where cards of your own lie.")
@click.option("--force", is_flag=True, help="Replace an older kit.")
@offline
def pack(model: Path, output: Path, **settings: Any) -> None:  # noqa: ANN401 - each option's own type
    """Write the bundle MODEL with all that it needs as a kit that predicts without a network.

    In the kit are the encoders' weights, the table of classes, the hashes of all files, a script run.sh and a notebook
    for Kaggle that write a submission; with --wheels also what they install, for one Python on one platform.
    """
    from birdemb import kit

    report = kit.pack(model, output, **settings)
    click.echo(
        f"Packed {model}: {', '.join(report.bundle.heads)}, {count(len(report.bundle.classes), 'class')}; "
        f"{count(report.files, 'file')}, {report.bytes / 1e6:.1f} MB"
    )
    for encoder in report.encoders:
        click.echo(f"  encoder: {kit.describe_encoder(encoder)}")
        if encoder.own_classes is False:
            click.echo("    without the names of its own classes, which are not on this machine; predicting needs none")
        if encoder.range_model is False:
            click.echo("    without its model of species' ranges, which is not on this machine; see `birdemb species`")
    wheels = report.wheels
    if wheels is not None:
        needed = f", with birdemb[{','.join(wheels.extras)}]" if wheels.extras else ""
        click.echo(f"  wheels: {len(wheels.versions)}, for Python {wheels.python} on {wheels.platform}{needed}")
    else:
        extras = sorted({encoder.extra for encoder in report.encoders if encoder.extra})
        named = f"birdemb[{','.join(extras)}]" if extras else "birdemb"
        click.echo(f"  wheels: none; {named} has to be installed where the kit is used, or pack with --wheels")
    click.echo(f"  sha256 of its manifest: {report.manifest_sha256}")
    click.echo(f"  kit: {report.path}")
