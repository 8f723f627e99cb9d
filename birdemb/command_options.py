"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from birdemb.defaults import DEFAULT_WORKSPACE
from birdemb.offline import OFFLINE_VARIABLE, forbid_network

__all__ = ["PATH", "encoding", "offline", "shared"]

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


def offline(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option that forbids the network while the command runs, to everything that it starts."""

    def forbid(context: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            context.with_resource(forbid_network())

    return click.option(
        "--offline",
        is_flag=True,
        expose_value=False,
        callback=forbid,
        help=f"Open no connection, as with {OFFLINE_VARIABLE}=1.",
    )(command)


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
        offline,
    ):
        command = option(command)
    return command
