"""The benchmarks run; what they measure is for people to read."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import soundfile

BENCHMARKS = Path(__file__).parent / "benchmarks"
SOUNDSCAPE = "soundscapes/soundscape_0000001.ogg"


def run(name, *arguments):
    command = [sys.executable, BENCHMARKS / name, *arguments]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def script(recordings):
    script = recordings.parent / "tools" / "make_soundscapes.py"
    if not script.is_file():
        pytest.skip(f"nothing to make soundscapes with at {script}")
    return script


@pytest.fixture(scope="module")
def few_recordings(recordings, tmp_path_factory):
    """The first seconds of a soundscape and of four species' recordings, laid out as all the real recordings are."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("background", "noise"):
        (folder / name).symlink_to((recordings / name).absolute())
    species = pd.read_csv(recordings / "birds14" / "split.csv")["primary_label"].unique()[:4]
    (folder / "birds14").mkdir()
    for name in ("split.csv", "train.csv"):
        table = pd.read_csv(recordings / "birds14" / name, keep_default_na=False)
        table = table[table["primary_label"].isin(species)]
        table.to_csv(folder / "birds14" / name, index=False)
    for name in (SOUNDSCAPE, *(f"birds14/train_audio/{name}" for name in table["filename"])):
        cut_recording(recordings / name, folder / name, seconds=15)
    return folder


def cut_recording(source, target, seconds):
    target.parent.mkdir(parents=True, exist_ok=True)
    about = soundfile.info(source)
    with soundfile.SoundFile(target, "w", about.samplerate, about.channels) as file:
        # Second by second, as one large write can overflow libvorbis's stack.
        for block in soundfile.blocks(source, about.samplerate, frames=seconds * about.samplerate):
            file.write(block)


@pytest.fixture(scope="module")
def scored_birds(few_recordings, script, tmp_path_factory):
    """What `birds14.py` says, and the folder in which it has laid out recordings, soundscapes and their truths."""
    work = tmp_path_factory.mktemp("birds14") / "work"
    said = run("birds14.py", "--data", few_recordings, "--make-soundscapes", script, "--work", work,
               "--encoder", "melspec", "--head", "lr", "--soundscapes", 4)  # fmt: skip
    return said, work


def copy_layout(scored_birds, place):
    shutil.copytree(scored_birds[1], place, ignore=shutil.ignore_patterns(".birdemb", "*-lr-*.csv"))


@pytest.mark.slow
def test_birds14_scores_a_head(scored_birds):
    said, _ = scored_birds
    assert "mixed ROC-AUC" in said
    assert "melspec   lr" in said


@pytest.mark.slow
def test_embed_times_every_stage(few_recordings, birdnet_weights):
    said = run("embed.py", "--recording", few_recordings / SOUNDSCAPE, "--hours", 0.004, "--sets", "wav-32000")
    for part in ("3 s windows", "resample", "front end", "trunk", "GFLOP/s", "of the peak"):
        assert part in said


@pytest.mark.slow
def test_scale_measures_every_section(few_recordings, birdnet_weights):
    said = run("scale.py", "--recording", few_recordings / SOUNDSCAPE, "--scale", 0.001, "--long-hours", 0.004)
    for part in ("the engine costs", "speed-up", "clips: 10 of 3 s", "192000 Hz", "second run", "largest memory"):
        assert part in said


@pytest.mark.slow
def test_pooling_compares_the_ways_to_hear_a_window(few_recordings, script, scored_birds, birdnet_weights, tmp_path):
    copy_layout(scored_birds, tmp_path / "work")
    said = run("pooling.py", "--data", few_recordings, "--make-soundscapes", script, "--work", tmp_path / "work")
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
        "heads.py", "--windows", 100, "--classes", 2, "--sample", 1, "--jobs", 1, "--head", "lr", "--head", "lgbm"
    )
    for part in ("times the price of one", "CPU (s)", "lgbm from scratch", "times as fast as, by predict (s):"):
        assert part in said


@pytest.mark.slow
def test_priors_score_known_and_withheld_species(few_recordings, script, birdnet_weights, tmp_path):
    said = run("priors.py", "--data", few_recordings, "--make-soundscapes", script, "--work", tmp_path / "work",
               "--head", "lr", "--soundscapes", 2)  # fmt: skip
    assert "mixed, withheld" in said
    assert said.count("offset") == 4


@pytest.mark.slow
def test_choices_are_scored_on_real_and_on_synthetic_species(
    few_recordings, script, scored_birds, birdnet_weights, tmp_path
):
    copy_layout(scored_birds, tmp_path / "work" / "birds14")
    said = run("choices.py", "--data", few_recordings, "--make-soundscapes", script, "--work", tmp_path / "work",
               "--head", "lr", "--soundscapes", 2, "--size", "small", "--seeds", 1, "--imbalanced", 0, "--jobs", 1,
               "--vary", "reweight")  # fmt: skip
    for part in ("demo, melspec", "effective"):
        assert part in said


@pytest.mark.slow
def test_quantization_compares_the_ways_and_the_processors(few_recordings, birdnet_weights, tmp_path):
    said = run("quantization.py", "--data", few_recordings, "--windows", 8, "--measured", 3, "--rounds", 1,
               "--ways", "f32,bf16,f16,plain", "--work", tmp_path)  # fmt: skip
    for part in ("calibrated with 8 windows", "soundscapes mean", "ms a window: f32", "AVX2", "AVX512_CORE_AMX"):
        assert part in said


@pytest.mark.slow
def test_postprocessing_tells_what_each_step_gains(few_recordings, script, scored_birds, tmp_path):
    copy_layout(scored_birds, tmp_path / "work" / "birds")
    said = run("postprocessing.py", "--data", few_recordings, "--make-soundscapes", script, "--work", tmp_path / "work",
               "--encoder", "melspec", "--soundscapes", 2, "--place", "birds")  # fmt: skip
    assert "chosen on 4 groups of soundscapes" in said
    assert said.count("scale=0.4,smooth=0.1") == 1


@pytest.mark.slow
def test_budget_times_a_competition(few_recordings, birdnet_weights, tmp_path):
    said = run("budget.py", "--data", few_recordings, "--work", tmp_path / "work", "--soundscapes", 2,
               "--classes", 4, "--windows", 100)  # fmt: skip
    for part in ("without a budget", "within 90m", "24 of 24 rows predicted", "of workers"):
        assert part in said
