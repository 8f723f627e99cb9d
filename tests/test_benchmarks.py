"""The benchmarks run; what they measure is for people to read."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"


def run(name, *arguments):
    command = [sys.executable, BENCHMARKS / name, *arguments]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def script(recordings):
    script = recordings.parent / "tools" / "make_soundscapes.py"
    if not script.is_file():
        pytest.skip(f"nothing to make soundscapes with at {script}")
    return script


@pytest.mark.slow
def test_birds14_scores_a_head(recordings, script, tmp_path):
    said = run("birds14.py", "--data", recordings, "--make-soundscapes", script, "--work", tmp_path / "work",
               "--encoder", "melspec", "--head", "lr", "--soundscapes", 2)  # fmt: skip
    assert "mixed ROC-AUC" in said
    assert "melspec   lr" in said


@pytest.mark.slow
def test_embed_times_every_stage(recordings, birdnet_weights):
    recording = recordings / "soundscapes" / "soundscape_0000001.ogg"
    said = run("embed.py", "--recording", recording, "--hours", 0.04, "--sets", "wav-32000")
    for part in ("3 s windows", "resample", "front end", "trunk", "GFLOP/s", "of the peak"):
        assert part in said


@pytest.mark.slow
def test_scale_measures_every_section(recordings, birdnet_weights):
    recording = recordings / "soundscapes" / "soundscape_0000001.ogg"
    said = run("scale.py", "--recording", recording, "--scale", 0.002, "--long-hours", 0.02)
    for part in ("the engine costs", "speed-up", "clips: 20 of 3 s", "192000 Hz", "second run", "largest memory"):
        assert part in said


@pytest.mark.slow
def test_pooling_compares_the_ways_to_hear_a_window(recordings, script, birdnet_weights, tmp_path):
    said = run("pooling.py", "--data", recordings, "--make-soundscapes", script, "--work", tmp_path / "work",
               "--soundscapes", 2)  # fmt: skip
    assert said.count("one pass") == 5


@pytest.mark.slow
def test_cache_measures_an_index(tmp_path):
    said = run("cache.py", "--windows", 20_000, "--folder", tmp_path / "cache")
    assert "gather" in said


@pytest.mark.slow
def test_panns_compares_torch_and_openvino():
    pytest.importorskip("torchlibrosa")
    said = run("panns.py", "--networks", "panns-mobilenetv2", "--rounds", 1)
    assert "ratio" in said
    assert "panns-mobilenetv2" in said


@pytest.mark.slow
def test_heads_are_compared_with_one_class_after_the_other():
    said = run(
        "heads.py", "--windows", 300, "--classes", 4, "--sample", 2, "--jobs", 1, "--head", "lr", "--head", "lgbm"
    )
    for part in ("times the price of one", "CPU (s)", "lgbm from scratch", "times as fast as, by predict (s):"):
        assert part in said


@pytest.mark.slow
def test_priors_score_known_and_withheld_species(recordings, script, birdnet_weights, tmp_path):
    said = run("priors.py", "--data", recordings, "--make-soundscapes", script, "--work", tmp_path / "work",
               "--head", "lr", "--soundscapes", 2)  # fmt: skip
    assert "mixed, withheld" in said
    assert said.count("offset") == 4


@pytest.mark.slow
def test_choices_are_scored_on_real_and_on_synthetic_species(recordings, script, birdnet_weights, tmp_path):
    said = run("choices.py", "--data", recordings, "--make-soundscapes", script, "--work", tmp_path / "work",
               "--head", "lr", "--soundscapes", 2, "--size", "small", "--seeds", 1, "--imbalanced", 0, "--jobs", 1,
               "--vary", "reweight")  # fmt: skip
    for part in ("demo, melspec", "effective"):
        assert part in said


@pytest.mark.slow
def test_quantization_compares_the_ways_and_the_processors(recordings, birdnet_weights, tmp_path):
    said = run("quantization.py", "--data", recordings, "--windows", 8, "--measured", 4, "--rounds", 2,
               "--ways", "f32,bf16,f16,plain", "--work", tmp_path)  # fmt: skip
    for part in ("calibrated with 8 windows", "soundscapes mean", "ms a window: f32", "AVX2", "AVX512_CORE_AMX"):
        assert part in said


@pytest.mark.slow
def test_postprocessing_tells_what_each_step_gains(recordings, script, tmp_path):
    said = run("postprocessing.py", "--data", recordings, "--make-soundscapes", script, "--work", tmp_path / "work",
               "--encoder", "melspec", "--soundscapes", 4, "--place", "birds")  # fmt: skip
    assert "chosen on 4 groups of soundscapes" in said
    assert said.count("scale=0.4,smooth=0.1") == 1


@pytest.mark.slow
def test_budget_times_a_competition(recordings, birdnet_weights, tmp_path):
    said = run("budget.py", "--data", recordings, "--work", tmp_path / "work", "--soundscapes", 2,
               "--classes", 16, "--windows", 400)  # fmt: skip
    for part in ("without a budget", "within 90m", "24 of 24 rows predicted", "of workers"):
        assert part in said
