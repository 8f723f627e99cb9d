"""Offline, no socket is opened: neither by the commands nor by the worker processes that they start."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from card_files import write_card
from fit_files import copy_world, refuse, run
from web_files import File, run_server
from weights_files import CONTENT, zipped

from birdemb.offline import OFFLINE_VARIABLE, forbid_network, is_offline

# Python imports this by itself at the start of each process, worker processes included.
FORBID = """
import os, sys

def refuse(event, arguments):
    if event.startswith("socket.") and event not in ("socket.gethostname",):
        with open(os.environ["OPENED_SOCKETS"], "a") as file:
            file.write(f"{event} {arguments[1:]}\\n")
        raise RuntimeError(f"a socket was opened: {event} {arguments[1:]}")

sys.addaudithook(refuse)
"""


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """The sockets that are opened by processes from here on, each of which fails, one a line."""
    folder = tmp_path / "forbid"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(FORBID)
    path = tmp_path / "opened.txt"
    path.touch()
    monkeypatch.setenv("OPENED_SOCKETS", str(path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(Path(__file__).parents[1])]))
    return path


def write_card_with_source(folder, url):
    source = f'[[weights.sources]]\nurl = "{url}"\narchive = "zip"\n'
    card = write_card(folder, "birdnet-2.4", "own.tflite")
    card.write_text(card.read_text().replace("sources = []\n", "").replace("\n[labels]", f"\n{source}\n[labels]"))
    return card


def without_network():
    """Words before a command that take the network away from it, where this machine can do that."""
    words = ["unshare", "-rn"]
    possible = shutil.which("unshare") and subprocess.run([*words, "true"], capture_output=True).returncode == 0
    return words if possible else []


def start(*arguments):
    command = [*without_network(), sys.executable, "-m", "birdemb.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["melspec", "birdnet-2.4"])
def test_the_whole_job_opens_no_socket(world, tmp_path, opened, encoder, request, monkeypatch):
    weights = []
    if encoder != "melspec":
        weights = ["--weights", request.getfixturevalue("birdnet_weights")]
    monkeypatch.chdir(copy_world(world, tmp_path / "job"))
    for arguments in (
        ["embed", "data/", "--encoder", encoder, "--jobs", 2, *weights],
        ["fit", "--head", "lr", "--jobs", 2],
        ["predict", "soundscapes/", "--jobs", 2, *weights],
    ):
        done = start(*arguments, "--offline")
        assert done.returncode == 0, done.stderr
    assert opened.read_text() == ""
    assert Path("submission.csv").is_file()


@pytest.mark.slow
def test_the_variable_forbids_what_would_be_downloaded_otherwise(tmp_path, opened, monkeypatch):
    monkeypatch.setenv("BIRDEMB_MODELS", str(tmp_path / "models"))
    card = write_card_with_source(tmp_path, "http://127.0.0.1:9/own.zip")
    command = ["embed", tmp_path, "--encoder", card]
    monkeypatch.setenv(OFFLINE_VARIABLE, "1")
    (tmp_path / "a.wav").touch()
    for arguments in (command, ["encoders", "fetch", card], ["encoders", "verify", card]):
        done = start(*arguments)
        assert done.returncode == 1
        assert "are not on this machine. Ways to get them" in done.stdout + done.stderr
    done = start("encoders", "fetch", card, "--force")
    assert "BIRDEMB_OFFLINE or --offline forbids the network" in done.stderr
    assert opened.read_text() == ""
    # And that it would have been seen:
    monkeypatch.setenv(OFFLINE_VARIABLE, "0")
    done = start("encoders", "fetch", card)
    assert done.returncode == 1
    assert "socket." in opened.read_text()


def test_option_holds_for_the_command_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("BIRDEMB_MODELS", str(tmp_path / "models"))
    with run_server() as server:
        file = File(zipped({"own.tflite": CONTENT}))
        card = write_card_with_source(tmp_path, server.put("own.zip", file))
        assert "are not on this machine" in run("encoders", "fetch", card, "--offline", status=1)
        assert not file.asked
        assert OFFLINE_VARIABLE not in os.environ
        assert "recorded on this machine on first use" in run("encoders", "fetch", card)
        assert len(file.asked) == 1
        assert str(tmp_path / "own.tflite") in run("encoders", "fetch", card, "--offline")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["embed", "s3://bucket/sounds"], "s3://bucket/sounds lies on the network, which BIRDEMB_OFFLINE or --offline"),
        (["embed", ".", "--backend", "dask", "--scheduler", "tcp://10.0.0.1:8786"], "--backend dask works over the n"),
    ],
)
def test_what_needs_a_network_is_refused(arguments, said):
    assert said in refuse(*arguments, "--offline")


def test_network_is_forbidden_until_the_block_ends(monkeypatch):
    assert not is_offline()
    with forbid_network():
        assert is_offline()
        with forbid_network():
            assert is_offline()
        assert is_offline()
    assert not is_offline()
    for value, expected in (("", False), ("0", False), ("1", True), ("yes", True)):
        monkeypatch.setenv(OFFLINE_VARIABLE, value)
        assert is_offline() == expected
