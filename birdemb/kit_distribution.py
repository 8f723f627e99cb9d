"""The wheel of birdemb itself: built from the checkout that runs, or put together again from what was installed."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distribution
from pathlib import Path

import birdemb
from birdemb.errors import BirdembError, InputError

__all__ = ["make_own_wheel", "run_pip", "wrap_distribution"]

_BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE")
_OF_THE_INSTALLER = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
"""Files that an installer adds to those of the wheel (https://packaging.python.org/specifications/recording-installed-packages)."""

_WITHOUT_FILES = "Install birdemb with pip from a wheel or from a checkout, and pack again."
_OLDEST_TIME = (1980, 1, 1, 0, 0, 0)  # that a zip can hold: the same files give the same wheel


def make_own_wheel(folder: Path) -> Path:
    """Make the wheel of the birdemb that runs.

    Parameters
    ----------
    folder : Path
        Where to write it; may hold nothing else.

    Returns
    -------
    Path

    Raises
    ------
    BirdembError
        If it cannot be built, or what is installed was altered or cannot be listed.
    """
    checkout = Path(birdemb.__file__).resolve().parents[1]
    if _is_checkout(checkout):
        return _build(checkout, folder)
    try:
        return wrap_distribution(distribution("birdemb"), folder)
    except PackageNotFoundError as error:
        raise InputError(f"There is no record of how birdemb was installed in {checkout}. {_WITHOUT_FILES}") from error


def _is_checkout(folder: Path) -> bool:
    path = folder / "pyproject.toml"
    try:
        return bool(tomllib.loads(path.read_text(encoding="utf-8"))["project"]["name"] == "birdemb")
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return False


def _build(checkout: Path, folder: Path) -> Path:
    # From a copy, as building leaves folders in the checkout, and would take over what older builds have left there.
    source, built = folder / "source", folder / "built"
    shutil.copytree(checkout / "birdemb", source / "birdemb", ignore=shutil.ignore_patterns("__pycache__"))
    for name in _BUILT_FROM:
        shutil.copyfile(checkout / name, source / name)
    problem = run_pip("wheel", "--no-deps", "--wheel-dir", built, source)
    if problem:
        raise BirdembError(f"The wheel of birdemb cannot be built from {checkout}: {problem}")
    (wheel,) = built.glob("*.whl")
    return wheel


def run_pip(command: str, *arguments: str | Path) -> str:
    """Run a command of pip.

    Returns
    -------
    str
        Its last word on what went wrong; empty where nothing did.

    Raises
    ------
    InputError
        If this Python has no pip.
    """
    words = [sys.executable, "-m", "pip", command, "--disable-pip-version-check", "--no-input"]
    done = subprocess.run([*words, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if any("No module named pip" in line for line in said):
        raise InputError(f"{sys.executable} has no pip, which gets the wheels. Run: {sys.executable} -m ensurepip")
    errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
    if len(errors) > 1 and errors[-1].startswith("ResolutionImpossible"):
        _, _, conflict = done.stdout.partition("The conflict is caused by:\n")
        return "; ".join([errors[-2].rstrip("."), *(line.strip() for line in conflict.split("\n\n")[0].splitlines())])
    return (errors or said or [f"pip ended with status {done.returncode}"])[-1]


def wrap_distribution(installed: Distribution, folder: Path) -> Path:
    """Put the wheel of a distribution together again from the files that were installed of it.

    Parameters
    ----------
    installed : importlib.metadata.Distribution
        Of nothing but Python.
    folder : Path
        Where to write it.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If its files are not listed, or are not those that were installed.

    Notes
    -----
    The form is that of https://packaging.python.org/specifications/binary-distribution-format: a zip whose file RECORD
    lists all others with their hashes.
    """
    if not installed.files or not any(file.name == "WHEEL" for file in installed.files):
        raise InputError(f"birdemb was installed without a list of its files. {_WITHOUT_FILES}")
    contents = {file.as_posix(): _read(file) for file in sorted(installed.files) if _came_in_wheel(file)}
    (information,) = {name.split("/")[0] for name in contents if ".dist-info/" in name}
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    rows.writerows((name, f"sha256={_digest(content)}", len(content)) for name, content in contents.items())
    rows.writerow((f"{information}/RECORD", "", ""))
    path = folder / f"{information.removesuffix('.dist-info')}-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**contents, f"{information}/RECORD": record.getvalue().encode()}.items():
            archive.writestr(zipfile.ZipInfo(name, _OLDEST_TIME), content, zipfile.ZIP_DEFLATED)
    return path


def _came_in_wheel(file: PackagePath) -> bool:
    """Tell whether the wheel held a file: not those that the installer wrote, nor scripts, which lie outside."""
    written = ".dist-info" in file.parts[0] and file.name in _OF_THE_INSTALLER
    return not (written or ".." in file.parts or "__pycache__" in file.parts)


def _read(file: PackagePath) -> bytes:
    path = file.locate()
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path} of birdemb cannot be read: {error.strerror or error}. {_WITHOUT_FILES}") from error
    if file.hash is not None and file.hash.mode == "sha256" and file.hash.value != _digest(content):
        raise InputError(f"{path} is not what was installed of birdemb: it was altered. {_WITHOUT_FILES}")
    return content


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
