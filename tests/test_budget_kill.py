"""Runs with a time budget that are stopped from outside: whenever that is, the table that they leave is whole."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from budget_files import check_table, fit_two_heads, rows_of, write_soundscapes
from test_kill import kill_run

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked here")]

KILLS = 22
COUNT = 8

# Real runs, but of a process that has imported everything already: each is a fork of it. The encoder takes its time,
# and tables are written in quick succession, so that a kill finds the run in the middle of a write, time and again.
SERVER = """
import os, sys, time
from birdemb.budget import anytime
from birdemb.embed import planning
from birdemb.embed.melspec import MelspecEncoder
from birdemb.predicting import predict_folder

planning._RECORDINGS_A_TASK = 1
assert {"_SECONDS_BETWEEN_TABLES", "_MOST_WRITING"} <= vars(anytime).keys()
anytime._SECONDS_BETWEEN_TABLES, anytime._MOST_WRITING = 0.0, 0.9
encode = MelspecEncoder._encode
def encode_slowly(self, windows):
    time.sleep(0.01 * len(windows))
    return encode(self, windows)
MelspecEncoder._encode = encode_slowly
for line in sys.stdin:
    soundscapes, workspace, model = line.split()
    child = os.fork()
    if child == 0:
        os.setsid()
        status = 1
        try:
            predict_folder(soundscapes, workspace=workspace, model=model, jobs=1, time_budget="1h")
            status = 0
        finally:
            os._exit(status)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.fixture(scope="module")
def fitted(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    report = fit_two_heads(world, folder / ".birdemb")
    write_soundscapes(folder / "soundscapes", COUNT)
    return folder, report


@pytest.fixture
def server():
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


def start(server, folder, workspace, report):
    server.stdin.write(f"{folder / 'soundscapes'} {workspace} {report.path}\n")
    server.stdin.flush()
    return int(server.stdout.readline())


def test_a_kill_at_any_moment_leaves_a_whole_table(server, fitted):
    folder, report = fitted
    choice = np.random.default_rng(3)
    for place in ("warm", "undisturbed"):  # the first loads what the others find loaded
        begun = time.monotonic()
        start(server, folder, place, report)
        assert int(server.stdout.readline()) == 0
    whole = time.monotonic() - begun
    expected = check_table("submission.csv", rows_of(COUNT), report.bundle.labels)

    killed, better = 0, set()
    while killed < KILLS:
        Path("submission.csv").unlink(missing_ok=True)
        process = start(server, folder, f"disturbed{killed}", report)
        time.sleep(choice.uniform(0, whole))  # anywhere between its first moment and its last
        kill_run(process)
        killed += int(server.stdout.readline()) == -signal.SIGKILL
        if not Path("submission.csv").exists():
            continue  # it had not come so far
        table = check_table("submission.csv", rows_of(COUNT), report.bundle.labels)
        better.add(int((~np.isclose(table.to_numpy(), report.bundle.shares, rtol=1e-8).all(axis=1)).sum()))
    assert len(better) > 3  # they were killed at different moments indeed
    start(server, folder, "disturbed0", report)
    assert int(server.stdout.readline()) == 0
    np.testing.assert_allclose(check_table("submission.csv", rows_of(COUNT), report.bundle.labels), expected)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_in_order(fitted, number, status):
    folder, report = fitted
    code = (
        "import time; from birdemb.embed.melspec import MelspecEncoder as Encoder; encode = Encoder._encode\n"
        "Encoder._encode = lambda self, windows: (time.sleep(2), encode(self, windows))[1]\n"
        "from birdemb.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "predict", folder / "soundscapes", "--model", report.path, "--jobs", 1]
    with subprocess.Popen(
        [*map(str, command), "--time-budget", "1h"], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        give_up = time.monotonic() + 120
        while not Path("submission.csv").exists() and process.poll() is None and time.monotonic() < give_up:
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate()
    assert process.returncode == status
    assert "submission.csv is what was written last, with every row." in said
    assert "Traceback" not in said
    check_table("submission.csv", rows_of(COUNT), report.bundle.labels)
