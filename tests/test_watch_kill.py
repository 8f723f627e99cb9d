"""Watches that are killed at random moments: each recording ends up with its rows once."""

import contextlib
import csv
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from watch_files import make_model, put, sound_of

from birdemb.predicting import predict_folder

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="watches are forked here")]

KILLS = 24
_HANGS = 300  # seconds after which a watch that does not end is taken to hang, so that the suite goes on

# Real watches, but of a process that has imported everything already: each is a fork of it.
SERVER = """
import os, sys
import birdemb.embed.melspec
from birdemb import watch_batches
from birdemb.watching import watch

assert {"_RECORDINGS_A_BATCH"} <= vars(watch_batches).keys()
watch_batches._RECORDINGS_A_BATCH = 2
for line in sys.stdin:
    expected = int(line)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            watch(
                "in", output="found.csv", form="long", detections="found.jsonl", min_confidence=0.5,
                model="model.birdemb", jobs=1, interval=0.05,
                stop=lambda: expected and os.path.exists("found.csv") and len(open("found.csv").readlines()) > expected,
            )
            status = 0
        finally:
            os._exit(status)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Server:
    """Starts watches, one after the other."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._said = queue.Queue()
        threading.Thread(target=lambda: [self._said.put(line) for line in self._process.stdout], daemon=True).start()

    def start(self, rows=0):
        """Start a watch, which ends by itself once the table has so many rows; give the number of its process."""
        self._process.stdin.write(f"{rows}\n")
        self._process.stdin.flush()
        return int(self._said.get(timeout=_HANGS))

    def wait(self):
        return int(self._said.get(timeout=_HANGS))

    def close(self):
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def server(empty_folder):
    server = Server()
    yield server
    server.close()


def read(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def wait_for_append(since):
    """Wait until rows are about to be appended; `since` is in nanoseconds since the epoch."""
    give_up = time.monotonic() + _HANGS
    while time.monotonic() < give_up:
        with contextlib.suppress(FileNotFoundError):
            if any(path.stat().st_mtime_ns > since for path in Path(".birdemb/watch").rglob("rows-*")):
                return
        time.sleep(0.001)


def test_watches_killed_at_random_moments_write_each_row_once(server, tmp_path):
    make_model(tmp_path / "model.birdemb")
    choice = np.random.default_rng(3)
    put("first.wav", sound_of())()
    server.start(rows=6)  # loads what the others find loaded
    assert server.wait() == 0
    unfinished = further = 0
    for number in range(KILLS):
        for index in range(3):
            put(f"{number:02}/{index}.wav", sound_of(3 + 2 * index, 3 * number + index))()
        before = len(read("found.csv"))
        begun = time.time_ns()
        process = server.start()
        if number % 2:
            wait_for_append(begun)
            time.sleep(choice.uniform(0, 0.02))
        else:
            time.sleep(choice.uniform(0, 2))
        os.kill(process, signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
        unfinished += any(Path(".birdemb/watch").rglob("rows-*"))
        further += len(read("found.csv")) > before
    assert unfinished  # some were killed while they appended
    assert further > KILLS / 4  # watches did go on from where others were
    predict_folder(
        "in",
        output="whole.csv",
        form="long",
        detections="whole.jsonl",
        min_confidence=0.5,
        model="model.birdemb",
        workspace="other",
        jobs=1,
    )
    whole = read("whole.csv")
    server.start(rows=len(whole))
    assert server.wait() == 0
    found = read("found.csv")
    key = ("recording", "start", "class")
    assert sorted(tuple(row[name] for name in key) for row in found) == sorted(
        tuple(row[name] for name in key) for row in whole
    )
    values = {tuple(row[name] for name in key): float(row["probability"]) for row in whole}
    for row in found:
        # The last digits depend on how many windows are predicted together.
        assert abs(float(row["probability"]) - values[tuple(row[name] for name in key)]) < 1e-6
    names = [Path(path).read_text().splitlines() for path in ("found.jsonl", "whole.jsonl")]
    ours, theirs = (sorted(re.sub(r'"probability": [^,]+', "", line) for line in lines) for lines in names)
    assert ours == theirs


def start_command(*arguments):
    command = [sys.executable, "-m", "birdemb.cli", "predict", "in", "--watch", "--interval", "0.1", "-o", "found.csv"]
    process = subprocess.Popen(
        [*command, "--model", "model.birdemb", "--jobs", "2", *arguments], stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if "windows" in line:
            break
    return process


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_command_ends_in_order_when_it_is_told_to(tmp_path, number, status):
    make_model(tmp_path / "model.birdemb")
    put("a.wav", sound_of())()
    process = start_command()
    process.send_signal(number)
    _, said = process.communicate(timeout=_HANGS)
    assert process.returncode == status, said
    assert "Stopped." in said
    assert "Traceback" not in said
    assert len(read("found.csv")) == 2
