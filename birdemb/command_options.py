"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from birdemb.defaults import DEFAULT_WORKSPACE

__all__ = ["PATH", "encoding", "shared"]

PATH = click.Path(path_type=Path)


def shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that several commands have."""
    for option in (
        click.option(
            "--jobs", "-j", default=-1, show_default="all cores", help="Processes that work at the same time."
        ),
        click.option(
            "--workspace",
            type=PATH,
            default=DEFAULT_WORKSPACE,
            envvar="BIRDEMB_WORKSPACE",
            show_default=True,
            help="Working folder: cache, bundles, lists of what was skipped.",
        ),
    ):
        command = option(command)
    return command


def encoding(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the commands that run an encoder."""
    for option in (
        click.option("--scheduler", help="Address of Dask's scheduler, tcp://HOST:PORT, or file:PATH of its file."),
        click.option(
            "--backend",
            type=click.Choice(["loky", "dask"]),
            default="loky",
            show_default=True,
            help="Work in processes of this machine, or on a Dask cluster.",
        ),
        click.option(
            "--weights",
            type=PATH,
            help="Weights file of the encoder, or a folder with it; found by itself otherwise.",
        ),
    ):
        command = option(command)
    return command
