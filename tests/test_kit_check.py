"""Kits that were altered, and Pythons that they are not for: birdemb and the kit's own check.py refuse them alike."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from card_files import own_card
from fit_files import refuse
from onnx_networks import Network
from pack_files import change_manifest, write_model

from birdemb.kit import pack
from birdemb.kit_check import FORMAT, name_platform

PYTHON = ".".join(map(str, sys.version_info[:2]))


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


@pytest.fixture(scope="module")
def owned(tmp_path_factory):
    """A kit with an encoder that a user brought."""
    folder = tmp_path_factory.mktemp("owned")
    network = Network.random()
    (folder / "own" / "deep").mkdir(parents=True)
    network.write(folder / "own" / "deep" / "net.onnx")
    (folder / "own" / "names.txt").write_text("Turdus merula\nParus major\nRana arvalis\nSpeech\nRain\n")
    labels = {"file": "names.txt", "form": "lines", "column": ""}
    card = own_card(folder / "own", "deep/net.onnx", labels=labels)
    model = write_model(folder / "own.birdemb", card)
    (folder / "place").mkdir()
    (folder / "place" / "cards.json").write_text(json.dumps({"own": card}))
    pack(model, folder / "kit", workspace=folder / "place")
    return folder


def check(kit, **changes):
    return subprocess.run(
        [sys.executable, "-I", kit / "check.py", kit], capture_output=True, text=True, env={**os.environ, **changes}
    )


@pytest.mark.parametrize("name", ["models/deep/net.onnx", "models/own.toml", "model.birdemb"])
def test_altered_file_is_refused(owned, tmp_path, name):
    kit = Path(shutil.copytree(owned / "kit", tmp_path / "kit"))
    content = bytearray((kit / name).read_bytes())
    content[len(content) // 2] ^= 1
    (kit / name).write_bytes(content)
    said = refuse("predict", tmp_path, "--model", "kit")
    assert f"{name} is not what was packed: its sha256 is" in said
    assert said == check(Path("kit")).stderr.strip()
    (kit / name).write_bytes(content[:-1])
    assert "it was cut short or altered" in refuse("predict", tmp_path, "--model", "kit")
    (kit / name).unlink()
    assert f"{name} is missing. Copy the kit again" in refuse("predict", tmp_path, "--model", "kit")
    (kit / name).mkdir()
    assert f"{name} is no file" in refuse("predict", tmp_path, "--model", "kit")


def test_file_that_was_added_is_refused(owned, tmp_path):
    kit = Path(shutil.copytree(owned / "kit", tmp_path / "kit"))
    shutil.copy(kit / "models" / "own.toml", kit / "models" / "melspec.toml")
    said = refuse("predict", tmp_path, "--model", "kit")
    assert "melspec.toml is not in the manifest of the kit: it was put there later" in said
    assert said == check(Path("kit")).stderr.strip()


def test_a_kit_takes_no_other_weights(owned):
    said = refuse("predict", owned, "--model", owned / "kit", "--weights", "other.onnx")
    assert "kit is a kit, in which its encoder's weights are: give no others" in said


@pytest.mark.parametrize(
    "name", ["../lr.birdemb", "/etc/hostname", "models/../../x", "C:\\x", "models//x", "./x", "", ".."]
)
def test_paths_that_lead_out_are_refused(kit, name):
    entry = {"bytes": 0, "sha256": "0" * 64}
    change_manifest(kit, lambda manifest: manifest["files"].update({name: entry}))
    said = refuse("predict", ".", "--model", kit)
    assert f"lists {name!r}, which is no path below the kit's folder" in said
    assert said == check(kit).stderr.strip()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda manifest: manifest.update(format=FORMAT + 1), f"is of format {FORMAT + 1}, expected {FORMAT}"),
        (lambda manifest: manifest.update(kind="recipe"), "is no manifest of an offline kit"),
        (lambda manifest: manifest.update(files=[]), "lists no files"),
        (lambda manifest: manifest.update(wheels="all"), "lists no files"),
        (lambda manifest: manifest["files"].pop("model.birdemb"), "lists no model.birdemb"),
        (lambda manifest: manifest["files"].update(x="y"), "lists 'x' without a size in bytes and a sha256"),
        (lambda manifest: manifest["files"].update(x={"bytes": True, "sha256": "0" * 64}), "without a size"),
        (lambda manifest: manifest["files"].update(x={"bytes": 1, "sha256": "0"}), "without a size"),
    ],
)
def test_manifest_of_another_form_is_refused(kit, change, said):
    change_manifest(kit, change)
    told = refuse("predict", ".", "--model", kit)
    assert said in told
    assert told == check(kit).stderr.strip()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b"7"])
def test_manifest_that_is_none_is_refused(kit, content):
    (kit / "manifest.json").write_bytes(content)
    for told in (refuse("predict", ".", "--model", kit), check(kit).stderr):
        assert f"{kit / 'manifest.json'} is no" in told


def test_folder_that_is_no_kit_is_told(tmp_path):
    (tmp_path / "kit").mkdir()
    assert "There is no bundle kit" in refuse("predict", ".", "--model", "kit")


def test_check_needs_nothing_but_python(kit):
    done = check(kit)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.strip()) == 16
    # A module beside it is not taken for Python's own.
    (kit / "hashlib.py").write_text("raise SystemExit(7)")
    assert check(kit).stdout == done.stdout


@pytest.mark.parametrize(
    ("wheels", "said"),
    [
        ({"python": "3.2", "platform": name_platform()}, "The wheels of this kit are for Python 3.2, and this"),
        ({"python": PYTHON, "platform": "amiga-m68k"}, "The wheels of this kit are for amiga-m68k, and this is"),
        ({"python": PYTHON, "platform": name_platform()}, ""),
        ({"python": PYTHON, "platform": "musllinux_1_2_x86_64"}, ""),
    ],
)
def test_wheels_for_another_machine_are_told_before_they_are_installed(kit, wheels, said):
    change_manifest(kit, lambda manifest: manifest.update(wheels=wheels))
    done = check(kit)
    assert done.returncode == bool(said)
    assert said in done.stderr
