"""Being stopped from outside: by Ctrl-C or by SIGTERM, what was written last stays."""

from __future__ import annotations

import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

__all__ = ["Terminated", "stoppable"]


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a run as Ctrl-C does."""


@contextmanager
def stoppable(output: Path, form: str | None = None) -> Iterator[None]:
    """Let SIGTERM end what is done in a ``with`` block as Ctrl-C does, and say what stays.

    Parameters
    ----------
    output : Path
        What is written now and then: each time a new file in the place of the old one.
    form : str, optional
        Its form, as `birdemb.tables.forms.choose_output` takes it.
    """
    found = _identify(output)
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _terminate) if in_main_thread else None
    try:
        yield
    except KeyboardInterrupt:
        if _identify(output) not in (None, found):
            click.echo(f"\n{output} is what was written last, with {_tell_rows(output, form)}.", err=True)
        raise
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, before)


def _identify(output: Path) -> tuple[int, ...] | None:
    """Tell a file from others that lie in the same place before or after it; None where there is none."""
    try:
        status = output.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size) if stat.S_ISREG(status.st_mode) else None


def _tell_rows(output: Path, form: str | None) -> str:
    # Light to import only where a table has been written already.
    from birdemb.tables.forms import SUBMISSION, choose_output

    return "every row" if choose_output(output, form).form == SUBMISSION else "the rows of what was predicted by then"


def _terminate(_: int, __: FrameType | None) -> None:
    raise Terminated
