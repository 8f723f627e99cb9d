"""The options that make `birdemb predict` watch a folder, and what they do."""

from __future__ import annotations

import functools
import inspect
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click
from click.core import ParameterSource

from birdemb.errors import BirdembError, InputError

__all__ = ["watching"]

_ONLY_WATCHING = ("interval", "patience")


def watching(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for watching a folder to a command that predicts one."""

    @functools.wraps(command)
    def choose(path: str, watch: bool, **settings: Any) -> None:  # noqa: ANN401 - each option's own type
        given = {name: value for name in _ONLY_WATCHING if (value := settings.pop(name)) is not None}
        if watch:
            _watch(path, **settings, **given)
            return
        for name in given:
            raise InputError(f"--{name} goes with --watch; give that too.")
        command(path, **settings)

    for option in (
        click.option(
            "--patience",
            type=float,
            metavar="SECONDS",
            help="With --watch: how long one that does not look whole may stay unchanged before it is taken for what "
            "it is.  [default: 600]",
        ),
        click.option(
            "--interval",
            type=float,
            metavar="SECONDS",
            help="With --watch: between two looks at the folder.  [default: 10]",
        ),
        click.option(
            "--watch",
            is_flag=True,
            help="Go on for ever: predict what is in the folder and what comes into it, and append to the table.",
        ),
    ):
        choose = option(choose)
    return choose


def _watch(path: str, **settings: Any) -> None:  # noqa: ANN401 - each option's own type
    from birdemb.watching import watch

    known = inspect.signature(watch).parameters
    _refuse_others(name for name in settings if name not in known)
    with _stopped_by_sigterm() as is_stopped:
        try:
            watch(path, tell=_tell, **{name: value for name, value in settings.items() if name in known})
        except (KeyboardInterrupt, BirdembError):
            # Service managers stop all processes at once, so that a worker may be gone first.
            if not is_stopped():
                raise
    _tell("Stopped. What was predicted is kept; the same command goes on from there.")


def _refuse_others(names: Iterator[str]) -> None:
    """Refuse options that were given and say nothing to a watch."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            option = next(parameter.opts[0] for parameter in context.command.params if parameter.name == name)
            raise InputError(f"{option} does not go with --watch. Leave one of them out.")


@contextmanager
def _stopped_by_sigterm() -> Iterator[Callable[[], bool]]:
    """Let SIGTERM interrupt the block as Ctrl-C does; gives what tells whether it did."""
    stopped = threading.Event()

    def stop(*_: object) -> None:
        stopped.set()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield stopped.is_set
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield stopped.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell(line: str) -> None:
    click.echo(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {line}", err=True)
