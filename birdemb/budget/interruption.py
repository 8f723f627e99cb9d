"""Being stopped from outside: by Ctrl-C or by SIGTERM, what was written last stays."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

__all__ = ["Terminated", "stoppable"]

_CLOCK_STEP = 2.0  # in seconds; the coarsest in which file systems keep times


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a run as Ctrl-C does."""


@contextmanager
def stoppable(output: Path) -> Iterator[None]:
    """Let SIGTERM end what is done in a ``with`` block as Ctrl-C does, and say what stays.

    Parameters
    ----------
    output : Path
        What is written now and then.
    """
    began = time.time()
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _terminate) if in_main_thread else None
    try:
        yield
    except KeyboardInterrupt:
        if output.is_file() and output.stat().st_mtime >= began - _CLOCK_STEP:
            click.echo(f"\n{output} is what was written last, with every row.", err=True)
        raise
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, before)


def _terminate(_: int, __: FrameType | None) -> None:
    raise Terminated
