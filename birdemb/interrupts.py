"""Ctrl-C before a command has begun: while Python is still importing what the command line needs."""

from __future__ import annotations

import os
import signal

__all__ = ["EXIT_INTERRUPTED", "NOTHING_LOST", "begin_command", "stop_at_once"]

EXIT_INTERRUPTED = 130
"""What shells give for a command that was stopped with Ctrl-C: 128 and the number of the signal."""

NOTHING_LOST = "\nStopped. Nothing was replaced that was there before."


def stop_at_once() -> None:
    """Let Ctrl-C end the process at once and without a traceback, until `begin_command` is called.

    An exception would do while modules are imported, but for the places where Python ignores one and goes on. Where
    Ctrl-C is ignored, or somebody else has chosen what it does, it stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)


def begin_command() -> None:
    """Let Ctrl-C raise KeyboardInterrupt from here on, so that a command can put away what it has begun."""
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _stop(*_: object) -> None:
    os.write(2, f"{NOTHING_LOST}\n".encode())
    os._exit(EXIT_INTERRUPTED)
