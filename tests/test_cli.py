"""The main job as a user runs it, in an empty folder, and what happens when the input is bad."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from fit_files import copy_world, embed, run, write_noise

from birdemb.classify.bundle_file import read_bundle
from birdemb.cli import EXIT_ERROR, EXIT_INTERRUPTED, main
from birdemb.command_output import EXIT_SKIPPED


@pytest.fixture
def folder(world, tmp_path, monkeypatch):
    place = copy_world(world, tmp_path / "job")
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def fitted(folder):
    embed("data")
    run("fit", "--head", "lr")
    return folder


# The MLP takes a minute otherwise.
@pytest.mark.parametrize(
    "head",
    [
        ["lr"],
        pytest.param(["lgbm"], marks=pytest.mark.slow),
        pytest.param(["mlp", "--cv", 2, "--set", "epochs=20"], marks=pytest.mark.slow),
    ],
)
def test_three_commands_one_after_the_other(folder, world, head):
    said = embed("data/")
    assert f"{world.n_recordings} recordings" in said
    assert "x real time" in said
    assert "train.csv: 4 classes" in said
    said = run("fit", "--head", *head)
    assert f"Fitted {head[0]}" in said
    assert ".birdemb/bundles" in said
    run("predict", "soundscapes/", "-o", "submission.csv", "--jobs", 1)
    submission = pd.read_csv("submission.csv")
    truth = pd.read_csv("truth.csv")
    assert set(submission["row_id"]) == set(truth["row_id"])
    assert list(submission.columns) == ["row_id", *world.classes]
    assert submission[list(world.classes)].to_numpy().min() >= 0
    assert submission[list(world.classes)].to_numpy().max() <= 1
    score = float(run("evaluate", "submission.csv", "truth.csv").split("Macro ROC-AUC")[1].split()[0])
    assert 0.5 < score <= 1


def test_second_run_embeds_nothing_again(folder):
    embed("data")
    before = sorted((folder / ".birdemb").rglob("*.npy"))
    assert "all of it was in the cache" in embed("data")
    assert sorted((folder / ".birdemb").rglob("*.npy")) == before


def test_changed_recording_is_embedded_again_and_a_renamed_one_is_not(folder):
    write_noise(folder / "few" / "a.wav", 6)
    write_noise(folder / "few" / "b.wav", 6, seed=1)
    embed("few")
    (folder / "few" / "a.wav").rename(folder / "few" / "c.wav")
    write_noise(folder / "few" / "b.wav", 11, seed=2)
    assert "2 recordings, 5 windows" in embed("few")
    shards = sorted((folder / ".birdemb").rglob("shards/*.npy"))
    assert sorted(len(np.load(shard)) for shard in shards) == [3, 4]


@pytest.mark.slow
def test_several_workers_give_the_same_as_one(folder):
    embed("data")
    run("fit", "--head", "lr", "-o", "one.birdemb")
    run("embed", "data", "--encoder", "melspec", "--jobs", 2, "--workspace", "other")
    run("fit", "--head", "lr", "-o", "two.birdemb", "--workspace", "other")
    one, two = read_bundle(folder / "one.birdemb"), read_bundle(folder / "two.birdemb")
    assert one.provenance["data_sha256"] == two.provenance["data_sha256"]
    first, second = (bundle.ensemble.members[0].head.get_state() for bundle in (one, two))
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key])


@pytest.mark.slow
def test_bundle_tells_how_it_was_made(fitted):
    bundle = read_bundle(fitted / ".birdemb" / "bundles" / "lr.birdemb")
    assert bundle.identities[0]["encoder"] == "melspec"
    assert bundle.provenance["seed"] == 0
    assert bundle.provenance["versions"]["numpy"] == np.__version__
    assert bundle.provenance["windows"] > 0
    assert set(bundle.provenance["recordings_by_class"]) == set(bundle.labels)


@pytest.mark.slow
def test_class_folders_are_labels_where_there_is_no_table(folder, world):
    (folder / "data" / "train.csv").unlink()
    assert "class folders: 4 classes" in embed("data")
    run("fit", "--head", "lr")
    assert read_bundle(folder / ".birdemb/bundles/lr.birdemb").labels == world.classes


@pytest.mark.slow
def test_sample_submission_gives_rows_and_columns(fitted, world):
    sample = pd.read_csv("truth.csv").iloc[::-1]
    sample = sample[["row_id", *reversed(world.classes)]].rename(columns={world.classes[0]: "unheard1"})
    sample = pd.concat([sample, pd.DataFrame([{**dict.fromkeys(sample.columns, 0), "row_id": "gone_5"}])])
    sample.to_csv("sample.csv", index=False)
    said = run("predict", "soundscapes", "--sample-submission", "sample.csv", "--jobs", 1, status=EXIT_SKIPPED)
    result = pd.read_csv("submission.csv")
    assert list(result.columns) == list(sample.columns)
    assert list(result["row_id"]) == list(sample["row_id"])
    assert (result["unheard1"] == 0).all()
    assert (result.iloc[-1][list(reversed(world.classes[1:]))] > 0).all()
    for part in ("unheard1", world.classes[0], "gone_5"):
        assert part in said
    pd.read_csv("truth.csv").to_csv("whole.csv", index=False)
    run("predict", "soundscapes", "--sample-submission", "whole.csv", "--jobs", 1)
    assert list(pd.read_csv("submission.csv")["row_id"]) == list(pd.read_csv("whole.csv")["row_id"])


@pytest.mark.slow
def test_sample_of_other_soundscapes_is_an_error(fitted):
    sample = pd.read_csv("truth.csv")
    sample["row_id"] = "other_" + sample["row_id"]
    sample.to_csv("sample.csv", index=False)
    said = run("predict", "soundscapes", "--sample-submission", "sample.csv", "--jobs", 1, status=EXIT_ERROR)
    assert "none of the soundscapes: it has 'other_" in said


@pytest.mark.slow
def test_one_recording_can_be_predicted_by_itself(fitted):
    one = next((fitted / "soundscapes").glob("*.ogg"))
    assert "1 recording, 12 windows" in run("predict", one, "-o", "one.csv")
    assert list(pd.read_csv("one.csv")["row_id"]) == [f"{one.stem}_{5 * (i + 1)}" for i in range(12)]


def test_help_shows_the_three_commands_on_lines_of_their_own():
    assert "\n    birdemb embed data/\n    birdemb fit --head lgbm\n" in run("--help")


@pytest.mark.parametrize("command", [[], *[[name] for name in main.commands]])
def test_every_command_has_help_with_an_example(command):
    said = run(*command, "--help")
    assert f"  birdemb {command[0]}" in said if command else "  birdemb embed data/" in said


def test_reader_that_reads_no_further_is_no_error(folder):
    command = f"{sys.executable} -m birdemb.cli encoders | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("name ")
    assert "Error" not in done.stderr


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_finished(tmp_path):
    (tmp_path / "data").mkdir()
    for index in range(60):
        noise = np.random.default_rng(index).normal(0, 0.1, 300 * 8000)
        soundfile.write(tmp_path / "data" / f"{index}.wav", noise, 8000, subtype="PCM_U8")
    command = [sys.executable, "-m", "birdemb.cli", "embed", "data", "--encoder", "melspec", "--jobs", "2"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert "recordings" in process.stderr.readline()  # the first line of progress
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == EXIT_INTERRUPTED, said
    assert "Stopped" in said
    assert "Traceback" not in said
    shards = list((tmp_path / ".birdemb").rglob("shards/*.json"))
    kept = [part["windows"] for shard in shards for part in json.loads(shard.read_text())["parts"]]
    assert 0 < sum(kept) < 60 * 60


@pytest.mark.slow
def test_package_s_functions_are_the_commands(world, tmp_path):
    import birdemb

    report = birdemb.embed_recordings(world.data, encoder="melspec", workspace=tmp_path / "w", jobs=1)
    assert len(report.listing.recordings) == world.n_recordings
    birdemb.fit("lr", workspace=tmp_path / "w")
    birdemb.predict_folder(world.soundscapes, output=tmp_path / "s.csv", workspace=tmp_path / "w", jobs=1)
    assert birdemb.evaluate(tmp_path / "s.csv", world.truth).macro_roc_auc > 0.5
    assert set(birdemb.__all__) <= set(dir(birdemb))
    assert not (Path.cwd() / ".birdemb").exists()
