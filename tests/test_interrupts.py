"""Ctrl-C in the first moments of a command, which waits for it in the middle of an import."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from birdemb.cli import EXIT_INTERRUPTED

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="Windows sends Ctrl-C to all processes of a console"),
]

# Python imports this by itself at its start.
WAIT = """
import os, sys

class Wait:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["WAIT_AT"] and self in sys.meta_path:
            sys.meta_path.remove(self)
            os.write(1, b"waiting\\n")
            os.read(0, 1)

sys.meta_path.insert(0, Wait())
"""
EARLY = ["birdemb.cli", "click", "click.core", "birdemb.errors", "birdemb.command_options", "birdemb.tune_command"]


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a command that waits where it is about to import a module."""
    (tmp_path / "sitecustomize.py").write_text(WAIT)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])]))
    begun = []

    def start_one(module, *arguments, before=()):
        monkeypatch.setenv("WAIT_AT", module)
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "birdemb", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        begun.append(process)
        assert process.stdout.readline() == "waiting\n"
        return process

    yield start_one
    for process in begun:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("command", [["embed", "data"], ["--help"]], ids=lambda words: words[0])
@pytest.mark.parametrize("module", EARLY)
def test_ctrl_c_before_a_command_begins(start, command, module):
    process = start(module, *command)
    process.send_signal(signal.SIGINT)
    written, said = process.communicate(timeout=60)
    assert (written, said) == ("", "\nStopped. Nothing was replaced that was there before.\n")
    assert process.returncode == EXIT_INTERRUPTED


@pytest.mark.parametrize("module", ["birdemb.embedding", "numpy", "birdemb.taxonomy", "tqdm"])
def test_ctrl_c_while_a_command_imports_what_it_needs(start, module):
    process = start(module, "embed", "data")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert said == "\nStopped. What was finished is kept; the same command goes on from there.\n"
    assert process.returncode == EXIT_INTERRUPTED


def test_ctrl_c_stays_ignored_where_it_was(start):
    process = start("click.core", "--help", before=["sh", "-c", "trap '' INT; exec \"$@\"", "sh"])
    process.send_signal(signal.SIGINT)
    written, said = process.communicate("\n", timeout=60)
    assert "Three commands" in written
    assert (said, process.returncode) == ("", 0)
