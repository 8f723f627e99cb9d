"""What is started in a kit: run.sh and the notebook."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from fit_files import run, write_noise
from pack_files import change_manifest, list_files, plain_environment, write_model

from birdemb.kit import pack


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A kit without wheels or weights, beside the bundle that it was made of; not to be changed."""
    folder = tmp_path_factory.mktemp("packed")
    pack(write_model(folder / "lr.birdemb"), folder / "kit")
    return folder / "kit"


@pytest.fixture
def kit(packed, tmp_path):
    """A copy to be changed, in a folder with a blank in its name."""
    return Path(shutil.copytree(packed, tmp_path / "my kit"))


def start(kit, *arguments, **changes):
    environment = plain_environment(Path("home").absolute(), PYTHON=sys.executable, **changes)
    command = ["sh", kit / "run.sh", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_script_predicts_where_birdemb_is_installed(kit, packed, tmp_path):
    sounds = tmp_path / "my sounds"
    write_noise(sounds / "a.wav", 7)
    run("predict", sounds, "--model", packed.parent / "lr.birdemb", "-o", "bundle.csv", "--jobs", 1)
    before = list_files(kit)
    done = start(kit, sounds, "my result.csv", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert Path("my result.csv").read_bytes() == Path("bundle.csv").read_bytes()
    assert list_files(kit) == before
    assert not Path(".birdemb").exists() or not (Path(".birdemb") / "predict-errors.csv").exists()
    assert list(Path("home/.cache/birdemb/kits").iterdir())


def test_script_refuses_an_altered_kit_before_it_does_anything(kit):
    (kit / "README.txt").write_text("other")
    done = start(kit, "sounds")
    assert done.returncode == 1
    assert "README.txt has 5 bytes, expected" in done.stderr
    assert not Path("home").exists()


def test_script_says_what_is_missing(kit):
    for arguments in ([], ["--no-venv"], ["--wrong", "sounds"]):
        done = start(kit, *arguments)
        assert done.returncode == 2
        assert "usage: sh run.sh [--no-venv] SOUNDSCAPES [SUBMISSION]" in done.stderr
    assert "usage: sh run.sh" in start(kit, "--help").stdout
    done = subprocess.run(
        ["sh", kit / "run.sh", "sounds"], env={**os.environ, "PYTHON": "no-such"}, capture_output=True, text=True
    )
    assert "Error: There is no no-such. Name a Python" in done.stderr


def test_script_without_its_kit_says_so(kit, tmp_path):
    shutil.copy(kit / "run.sh", tmp_path)
    done = start(tmp_path, "sounds")
    assert done.returncode == 1
    assert (
        done.stderr
        == f"Error: There is no check.py in {tmp_path}. Start run.sh in its kit, not a copy of it or a link to it.\n"
    )


@pytest.mark.slow
def test_script_says_that_birdemb_is_missing_where_there_are_no_wheels(kit, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    done = subprocess.run(
        ["sh", kit / "run.sh", "sounds"],
        env=plain_environment(tmp_path / "home", PYTHON=str(tmp_path / "bare" / "bin" / "python"), PYTHONPATH=""),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "This kit has no wheels, and" in done.stderr


def code_of(kit):
    notebook = json.loads((kit / "predict.ipynb").read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run_notebook(kit, folder, **changes):
    """Run the cells of a notebook one after the other in an empty folder, in a process of its own."""
    folder.mkdir(exist_ok=True)
    environment = plain_environment(folder / "home", PYTHON=sys.executable, **changes)
    return subprocess.run(
        [sys.executable, "-c", "\n".join(code_of(kit))], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_notebook_has_the_form_of_notebooks(packed):
    notebook = json.loads((packed / "predict.ipynb").read_text(encoding="utf-8"))
    assert notebook.keys() == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    for cell in notebook["cells"]:
        outputs = {"outputs", "execution_count"} if cell["cell_type"] == "code" else set()
        assert cell.keys() == {"cell_type", "id", "metadata", "source"} | outputs
        assert re.fullmatch("[a-zA-Z0-9-_]{1,64}", cell["id"])
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        assert cell.get("outputs", []) == []
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


@pytest.mark.slow
def test_notebook_writes_the_submission_on_a_machine_like_kaggles(packed, tmp_path):
    inputs = tmp_path / "input"
    datasets = inputs / "datasets" / "somebody"  # the newer layout; the older one is below
    shutil.copytree(packed, datasets / "my-kit")
    # Another kit among the inputs is not taken for this one.
    shutil.copytree(packed, datasets / "another")
    change_manifest(datasets / "another", lambda manifest: manifest["files"]["model.birdemb"].update(sha256="0"))
    competition = inputs / "competitions" / "birdclef"
    sounds = competition / "test_soundscapes"
    write_noise(sounds / "a.wav", 12)
    sample = pd.DataFrame(0.25, index=[f"a_{5 * end}" for end in (1, 2, 3, 4)], columns=["parmaj", "other"])
    sample.to_csv(competition / "sample_submission.csv", index_label="row_id")
    done = run_notebook(packed, tmp_path / "working", KAGGLE_CACHE_MOUNT_FOLDER=str(inputs))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 row of the sample without a prediction" in done.stdout
    table = pd.read_csv(tmp_path / "working" / "submission.csv", index_col="row_id")
    assert list(table.index) == list(sample.index)
    assert list(table.columns) == ["parmaj", "other"]
    (sounds / "a.wav").write_bytes(b"no sound")
    done = run_notebook(packed, tmp_path / "working", KAGGLE_CACHE_MOUNT_FOLDER=str(inputs))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Format not recognised" in done.stdout
    broken = pd.read_csv(tmp_path / "working" / "submission.csv", index_col="row_id")
    assert list(broken.index) == list(sample.index)
    assert (broken["parmaj"] == broken["parmaj"].iloc[0]).all()
    (datasets / "my-kit" / "model.birdemb").write_bytes(b"no bundle")
    done = run_notebook(packed, tmp_path / "working", KAGGLE_CACHE_MOUNT_FOLDER=str(inputs))
    assert done.returncode == 1
    assert "run.sh ended with status 1" in done.stderr


def test_notebook_without_soundscapes_gives_the_sample(packed, tmp_path):
    competition = tmp_path / "input" / "birdclef"
    (competition / "test_soundscapes").mkdir(parents=True)
    (competition / "test_soundscapes" / "readme.txt").touch()
    (competition / "sample_submission.csv").write_text("row_id,parmaj\na_5,0.5\n")
    done = run_notebook(packed, tmp_path / "working", KAGGLE_CACHE_MOUNT_FOLDER=str(tmp_path / "input"))
    assert "Add to the inputs of this notebook: the kit." in done.stderr
    shutil.copytree(packed, tmp_path / "input" / "kit")
    done = run_notebook(packed, tmp_path / "working", KAGGLE_CACHE_MOUNT_FOLDER=str(tmp_path / "input"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "working" / "submission.csv").read_text() == "row_id,parmaj\na_5,0.5\n"
    shutil.rmtree(competition)
    done = run_notebook(packed, tmp_path / "working", KAGGLE_CACHE_MOUNT_FOLDER=str(tmp_path / "input"))
    assert "Add to the inputs of this notebook: the competition." in done.stderr
