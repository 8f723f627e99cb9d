"""Locks between processes."""

import subprocess
import sys
import threading
import time

import pytest

from birdemb.locking import hold_lock

HOLD = (
    "import sys; from pathlib import Path; from birdemb.locking import hold_lock\n"
    "with hold_lock(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
)


def test_lock_is_held_and_leaves_no_file(tmp_path):
    with hold_lock(tmp_path / "folder" / "lock") as held:
        assert held
        assert (tmp_path / "folder" / "lock").is_file()
    assert list((tmp_path / "folder").iterdir()) == []


@pytest.mark.parametrize("end", ["politely", "killed"])
def test_lock_of_another_process_is_waited_for_until_that_ends(tmp_path, end):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    waiting = threading.Event()

    def end_soon():
        waiting.wait()
        process.kill() if end == "killed" else process.stdin.close()

    thread = threading.Thread(target=end_soon)
    thread.start()
    with hold_lock(tmp_path / "lock", waiting.set) as held:
        assert held
        assert waiting.is_set()
    thread.join()
    process.wait()
    process.stdout.close()
    process.stdin.close()


def test_one_at_a_time_though_each_deletes_the_file(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(5):
            with hold_lock(tmp_path / "lock"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.002)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 20
    assert max(most) == 1
