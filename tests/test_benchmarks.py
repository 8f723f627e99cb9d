"""The benchmarks run; what they measure is for people to read."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"


def run(name, *arguments):
    command = [sys.executable, BENCHMARKS / name, *arguments]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_birds14_scores_a_head(recordings, tmp_path):
    script = recordings.parent / "tools" / "make_soundscapes.py"
    if not script.is_file():
        pytest.skip(f"nothing to make soundscapes with at {script}")
    said = run("birds14.py", "--data", recordings, "--make-soundscapes", script, "--work", tmp_path / "work",
               "--encoder", "melspec", "--head", "lr", "--soundscapes", 2)  # fmt: skip
    assert "mixed ROC-AUC" in said
    assert "melspec   lr" in said


@pytest.mark.slow
def test_embed_times_every_stage(recordings, birdnet_weights):
    recording = recordings / "soundscapes" / "soundscape_0000001.ogg"
    said = run("embed.py", "--recording", recording, "--hours", 0.04, "--sets", "wav-32000")
    for part in ("3 s windows", "front end", "trunk", "GFLOP/s", "largest memory"):
        assert part in said
