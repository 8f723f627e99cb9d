"""Nobody is told that birdemb was used."""

import subprocess
import sys

import pytest

CODE = """
import sys
started = []
def watch(event, details):
    if event.startswith(("socket.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.system")):
        started.append((event, details))
sys.addaudithook(watch)
from birdemb.embed.encoder import load_encoder
encoder = load_encoder("melspec")
encoder.prepare()
import openvino
assert not started, started
"""


@pytest.mark.slow
def test_openvino_reports_to_nobody(tmp_path):
    """Without birdemb, OpenVINO's own import forks a process that opens a socket to Google Analytics."""
    # Not a machine of continuous integration, where it reports nothing by itself.
    environment = {"HOME": str(tmp_path), "PYTHONPATH": ":".join(path for path in sys.path if path)}
    run = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert list(tmp_path.iterdir()) == []
