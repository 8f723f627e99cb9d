"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from birdemb.defaults import DEFAULT_WORKSPACE
from birdemb.durations import parse_duration
from birdemb.errors import InputError
from birdemb.offline import OFFLINE_VARIABLE, forbid_network

__all__ = [
    "DURATION",
    "PATH",
    "TEXT_PATH",
    "encoding",
    "labelling",
    "offline",
    "read_columns",
    "shared",
    "weights",
    "workspace",
]

PATH = click.Path(path_type=Path)
TEXT_PATH = click.Path()
"""Of tables: a slash at the end says that a folder is meant."""


class _Duration(click.ParamType[float]):
    name = "time"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration(str(value))
        except InputError as error:
            self.fail(str(error), param, ctx)


DURATION = _Duration()
"""Gives seconds."""


def workspace(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give the option for the working folder, with what it is good for in a command."""
    return click.option(
        "--workspace",
        type=PATH,
        default=DEFAULT_WORKSPACE,
        envvar="BIRDEMB_WORKSPACE",
        show_default=True,
        help=text,
    )


def shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that several commands have."""
    for option in (
        click.option(
            "--jobs", "-j", default=-1, show_default="all cores", help="Processes that work at the same time."
        ),
        workspace("Working folder: cache, bundles, lists of what was skipped."),
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


def weights(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option that names the weights of an encoder, or where to get them."""
    return click.option(
        "--weights",
        metavar="PATH|URL|HANDLE",
        help="Weights file of the encoder, or a folder with it; or where to get it, a URL or a handle at Kaggle. Found "
        "by itself otherwise.",
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
        weights,
        offline,
    ):
        command = option(command)
    return command


def labelling(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where labels are, and what they say of windows."""
    for option in (
        click.option(
            "--unannotated",
            type=click.Choice(["absent", "unknown"]),
            default="absent",
            show_default=True,
            help="What is in windows that no annotation reaches, where annotations have times.",
        ),
        click.option(
            "--minimum-overlap",
            metavar="SECONDS",
            type=float,
            default=0.5,
            show_default=True,
            help="How long an annotation has to overlap with a window to count in it; all of it, if it is shorter.",
        ),
        click.option(
            "--minimum-confidence",
            type=click.FloatRange(0, 1),
            default=0.0,
            help="Labels below are unknown, where a file tells how sure they are.  [default: 0]",
        ),
        click.option(
            "--column",
            "columns",
            metavar="KEY=NAME",
            multiple=True,
            help="Column of a table of labels: filename=NAME, start=NAME, end=NAME, class=NAME, ...; "
            "docs/label-files.md has all keys.",
        ),
        click.option(
            "--labels",
            type=PATH,
            multiple=True,
            help="File of labels, or folder of them; more than once for several.  [default: found by itself]",
        ),
    ):
        command = option(command)
    return command


def read_columns(assignments: Sequence[str]) -> dict[str, str]:
    """Read ``class=Species`` as the column that has the class.

    Raises
    ------
    click.UsageError
        If it is not of that form, or a key comes twice.
    """
    columns: dict[str, str] = {}
    for assignment in assignments:
        key, _, name = (part.strip() for part in assignment.partition("="))
        if not key or not name or key in columns:
            raise click.UsageError(
                f"--column {assignment}: expected KEY=NAME such as class=Species, and each key once."
            )
        columns[key] = name
    return columns
