"""Runs that are killed at random moments: what they leave is whole, and what the last one ends with is right."""

import contextlib
import json
import os
import queue
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from run_files import arrays_of, make_folder

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked here")]

KILLS = 50
_HANGS = 300  # seconds after which a run that does not end is taken to hang, so that the suite goes on

# Real runs, but of a process that has imported everything already: each is a fork of it.
SERVER = """
import os, sys
import birdemb.embed.melspec
from birdemb.cache import writer
from birdemb.embed import planning
from birdemb.embedding import embed_recordings
from birdemb.labels import read_labels

# Small tasks and shards, so that a kill finds a run writing, time and again.
planning._RECORDINGS_A_TASK = 1
assert {"_RECORDINGS_A_TASK"} <= vars(planning).keys() and {"_SECONDS_A_SHARD"} <= vars(writer).keys()
writer._SECONDS_A_SHARD = 0.05
for line in sys.stdin:
    data, workspace, jobs = line.split()
    child = os.fork()
    if child == 0:
        os.setsid()
        status = 1
        try:
            embed_recordings(data, encoder="melspec", workspace=workspace, jobs=int(jobs))
            status = 0
        finally:
            os._exit(status)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Server:
    """Starts runs, one after the other."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._said = queue.Queue()
        threading.Thread(target=lambda: [self._said.put(line) for line in self._process.stdout], daemon=True).start()

    def start(self, data, workspace, jobs):
        self._process.stdin.write(f"{data} {workspace} {jobs}\n")
        self._process.stdin.flush()
        return int(self._said.get(timeout=_HANGS))

    def wait(self):
        return int(self._said.get(timeout=_HANGS))

    def close(self):
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def data(tmp_path):
    return make_folder(tmp_path / "data", short=10, long=1, long_seconds=260)


def kill_run(process):
    """Kill a run and its workers, at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)


def kill_one_worker(process):
    """Kill one worker, as the system does where memory runs out; the run has to end by itself."""
    try:
        children = psutil.Process(process).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    workers = [child for child in children if "LokyProcess" in _command_of(child)]
    if workers:
        workers[0].kill()


def _command_of(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def refuse_half_written(workspace):
    """Make sure that all that has its final name is whole."""
    windows = 0
    for sidecar in workspace.rglob("shards/*.json"):
        said = json.loads(sidecar.read_text())
        rows = np.load(sidecar.with_suffix(".npy"), allow_pickle=False)
        assert len(rows) == said["rows"] == sum(part["windows"] for part in said["parts"])
        assert np.isfinite(rows).all()
        windows += len(rows)
    if (workspace / "embedded.json").exists():
        json.loads((workspace / "embedded.json").read_text())
    if (workspace / "contents.sqlite").exists():
        with contextlib.closing(sqlite3.connect(workspace / "contents.sqlite")) as memory:
            assert memory.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return windows


def test_runs_killed_at_random_moments_leave_what_an_undisturbed_run_leaves(server, data, tmp_path):
    choice = np.random.default_rng(5)
    for place in ("warm", "undisturbed"):  # the first loads what the others find loaded
        begun = time.monotonic()
        server.start(data, tmp_path / place, 1)
        assert server.wait() == 0
    whole = time.monotonic() - begun
    expected = arrays_of(tmp_path / "undisturbed", data)
    windows = refuse_half_written(tmp_path / "undisturbed")

    killed = further = places = 0
    disturbed = tmp_path / "disturbed0"
    while killed < KILLS:
        before = refuse_half_written(disturbed)
        if before == windows:
            # All is done: from the beginning again, in another place.
            assert arrays_of(disturbed, data) == expected
            places += 1
            disturbed = tmp_path / f"disturbed{places}"
            before = 0
        process = server.start(data, disturbed, 1)
        time.sleep(choice.uniform(0, 1.2 * whole))  # anywhere between its first moment and its last
        kill_run(process)
        killed += server.wait() == -signal.SIGKILL
        after = refuse_half_written(disturbed)
        assert after >= before
        further += after > before > 0
    assert further > KILLS / 10  # runs did go on from where others were
    server.start(data, disturbed, 1)
    assert server.wait() == 0
    assert arrays_of(disturbed, data) == expected


@pytest.mark.parametrize("kill", [kill_run, kill_one_worker])
def test_runs_with_workers_survive_too(server, data, tmp_path, kill):
    server.start(data, tmp_path / "undisturbed", 1)
    assert server.wait() == 0
    choice = np.random.default_rng(6)
    for _ in range(3):
        process = server.start(data, tmp_path / "disturbed", 2)
        time.sleep(choice.uniform(1.0, 4.0))
        kill(process)
        status = server.wait()
        kill_run(process)
        assert status in (0, 1, -signal.SIGKILL)
        refuse_half_written(tmp_path / "disturbed")
    process = server.start(data, tmp_path / "disturbed", 2)
    assert server.wait() == 0
    kill_run(process)  # its workers, which wait for more
    assert arrays_of(tmp_path / "disturbed", data) == arrays_of(tmp_path / "undisturbed", data)


def test_the_command_itself_survives_a_kill(data, tmp_path):
    command = [sys.executable, "-m", "birdemb.cli", "embed", data, "--encoder", "melspec", "--jobs", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    give_up = time.monotonic() + 60
    while not list(Path(".birdemb").rglob("*.npy")) and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.01)
    kill_run(process.pid)
    process.wait()
    refuse_half_written(tmp_path / ".birdemb")
    subprocess.run(command, check=True, capture_output=True)
    assert len(arrays_of(tmp_path / ".birdemb", data)) == 11
