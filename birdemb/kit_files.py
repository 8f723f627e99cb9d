"""The files of an offline kit that people start: `run.sh`, a notebook for Kaggle, and a text that explains both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from birdemb.kit_check import BUNDLE_FILE, MANIFEST_FILE, MODELS_FOLDER, WHEELS_FOLDER
from birdemb.kit_wheels import REQUIREMENTS_FILE

__all__ = ["CHECK_FILE", "NOTEBOOK_FILE", "README_FILE", "RUN_FILE", "make_notebook", "make_readme", "make_run_script"]

CHECK_FILE = "check.py"
NOTEBOOK_FILE = "predict.ipynb"
README_FILE = "README.txt"
RUN_FILE = "run.sh"

_RUN = r"""#!/bin/sh
# Predicts soundscapes with this kit, and writes a submission. Opens no connection, and writes nothing into the kit.

usage="usage: sh run.sh [--no-venv] SOUNDSCAPES [SUBMISSION] [options of birdemb predict]

  SOUNDSCAPES  a folder of soundscapes, or one
  SUBMISSION   the table to write, submission.csv by default
  --no-venv    install into the Python that runs it, and not into an environment of its own

In the environment:
  PYTHON            the Python to use, python3 by default
  BIRDEMB_KIT_WORK  where the environment and the cache go, a folder in the user's cache folder by default"

set -eu

say() {
    printf '%s\n' "$*" >&2
}

own=yes
while [ $# -gt 0 ]; do
    case $1 in
    --no-venv) own=no ;;
    -h | --help)
        printf '%s\n' "$usage"
        exit 0
        ;;
    *) break ;;
    esac
    shift
done
case ${1:--} in
-*)
    say "$usage"
    exit 2
    ;;
esac
soundscapes=$1
shift
submission=submission.csv
case ${1:--} in
-*) ;;
*)
    submission=$1
    shift
    ;;
esac

kit=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null 2>&1; then
    say "Error: There is no $python. Name a Python: PYTHON=/path/to/python3 sh run.sh ..."
    exit 1
fi

if [ ! -f "$kit/@CHECK@" ]; then
    say "Error: There is no @CHECK@ in $kit. Start run.sh in its kit, not a copy of it or a link to it."
    exit 1
fi

# Every file is compared with its hash before any of it is used.
name=$("$python" -I "$kit/@CHECK@" "$kit")

work=${BIRDEMB_KIT_WORK:-${XDG_CACHE_HOME:-${HOME:-$PWD}/.cache}/birdemb/kits/$name}
mkdir -p -- "$work"
work=$(CDPATH='' cd -- "$work" && pwd -P)
started=$work/environment.$$
trap 'rm -rf -- "$started"' EXIT
trap 'exit 130' INT
trap 'exit 143' HUP TERM

# pip is given the kit's wheels alone, whatever is set for it here.
install() {
    PIP_CONFIG_FILE=/dev/null "$python" -P -m pip --isolated "$@" install --quiet --disable-pip-version-check \
        --no-input --no-cache-dir --no-compile --no-index --find-links "$kit/@WHEELS@" --require-hashes \
        --requirement "$kit/@WHEELS@/@REQUIREMENTS@"
}

runner=$python
if [ -f "$kit/@WHEELS@/@REQUIREMENTS@" ]; then
    if ! "$python" -P -m pip --version >/dev/null 2>&1; then
        say "Error: $python has no pip, which installs the wheels. Name another Python in PYTHON."
        exit 1
    fi
    if [ "$own" = no ]; then
        install
    else
        # What is meant for other programs must not take the place of what is installed.
        unset PYTHONPATH PYTHONHOME
        environment=$work/environment-$name
        runner=$environment/bin/python
        if ! "$runner" -P -c 'import birdemb' >/dev/null 2>&1; then
            rm -rf -- "$environment"  # of a Python that is gone
            say "Installing birdemb into $environment"
            "$python" -I -m venv --without-pip -- "$started"
            install --python "$started/bin/python"
            # It gets its name when it is whole.
            mv -- "$started" "$environment"
        fi
    fi
elif ! "$python" -P -c 'import birdemb' >/dev/null 2>&1; then
    say "Error: This kit has no wheels, and $python no birdemb. Install it, or pack the kit again with --wheels."
    exit 1
fi

# Not exec, as the trap has to run.
"$runner" -P -m birdemb.cli predict "$soundscapes" --model "$kit" --output "$submission" --offline \
    --workspace "$work/workspace" "$@"
"""

_README = """\
An offline kit of birdemb: a fitted model with all that it needs to predict, without a network.

    sh run.sh SOUNDSCAPES submission.csv

compares every file with its hash{installs},
predicts each recording in the folder SOUNDSCAPES, and writes submission.csv: a row for each window, a column for each
class. Options of `birdemb predict` may follow, such as --sample-submission FILE, --detections FILE or --jobs 4.
`sh run.sh --help` tells more.

The kit may lie anywhere, on read-only media, too. On Kaggle, {notebook} does it.

Encoders:
{encoders}

Needed: {needed}

{bundle}
    the fitted model
labels/classes.csv
    its classes: label, scientific and common name
{models}/
    the encoders' weights, as BIRDEMB_MODELS expects them
{manifest}
    size and sha256 of every file, versions, licences
{wheels_line}{run}, {notebook}, {check}
    what starts it, on a machine and on Kaggle, and what compares the hashes

By hand, with birdemb {version} installed:

    birdemb predict SOUNDSCAPES --model PATH/TO/THIS/FOLDER --offline -o submission.csv
"""


def make_run_script() -> str:
    """Give the shell script that installs the kit's wheels and predicts."""
    names = {
        "@CHECK@": CHECK_FILE,
        "@WHEELS@": WHEELS_FOLDER,
        "@REQUIREMENTS@": REQUIREMENTS_FILE,
    }
    script = _RUN
    for place, name in names.items():
        script = script.replace(place, name)
    return script


def make_readme(*, encoders: Sequence[str], wheels: str, version: str) -> str:
    """Give the text that explains a kit.

    Parameters
    ----------
    encoders : sequence of str
        A line on each, with the licence of its weights.
    wheels : str
        What the wheels are for, such as ``"Python 3.11 on linux-x86_64"``; empty where there are none.
    version : str
        Of birdemb.
    """
    return _README.format(
        installs=", installs the wheels into an environment of their own" if wheels else "",
        encoders="\n".join(f"    {line}" for line in encoders),
        needed=f"{wheels}, with pip. Nothing else." if wheels else f"birdemb {version}; this kit has no wheels.",
        bundle=BUNDLE_FILE,
        models=MODELS_FOLDER,
        manifest=MANIFEST_FILE,
        wheels_line=f"{WHEELS_FOLDER}/\n    birdemb and what it requires, for {wheels}\n" if wheels else "",
        run=RUN_FILE,
        notebook=NOTEBOOK_FILE,
        check=CHECK_FILE,
        version=version,
    )


_EXPLAINED = """\
# Soundscapes to `submission.csv`, without a network

Add two inputs to this notebook: the competition, and the dataset that holds the kit. Switch the internet off. Run all.
"""

_FIND = """\
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

INPUT = Path(os.environ.get("KAGGLE_CACHE_MOUNT_FOLDER", "/kaggle/input"))
BUNDLE = "@SHA256@"  # sha256 of the kit's model


def list_folders(*names):
    \"\"\"Give the folders among the inputs that hold all of these; here, too, where the notebook lies in the kit.\"\"\"
    places = [Path.cwd(), *(place for depth in ("*", "*/*", "*/*/*") for place in sorted(INPUT.glob(depth)))]
    return [place for place in places if all((place / name).exists() for name in names)]


def is_kit(folder):
    files = json.loads((folder / "@MANIFEST@").read_text(encoding="utf-8")).get("files", {})
    return files.get("@BUNDLE_FILE@", {}).get("sha256") == BUNDLE


kits = [folder for folder in list_folders("@MANIFEST@", "@RUN@", "@BUNDLE_FILE@") if is_kit(folder)]
competitions = list_folders("test_soundscapes", "sample_submission.csv")
if not kits or not competitions:
    raise SystemExit(f"Add to the inputs of this notebook: {'the kit' if not kits else 'the competition'}.")
KIT, COMPETITION = kits[0], competitions[0]
print("kit:", KIT)
print("competition:", COMPETITION)
"""

_PREDICT = """\
sounds = COMPETITION / "test_soundscapes"
sample = COMPETITION / "sample_submission.csv"
if any(path.suffix.lower() in {".ogg", ".flac", ".wav", ".mp3"} for path in sounds.rglob("*")):
    command = ["sh", KIT / "@RUN@", sounds, "submission.csv", "--sample-submission", sample]
    environment = {**os.environ, "PYTHON": os.environ.get("PYTHON", sys.executable)}
    process = subprocess.Popen(
        list(map(str, command)), env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    for line in process.stdout:
        print(line, end="")
    # 3: some rows were filled with the classes' shares, as is said above.
    if process.wait() not in (0, 3):
        raise SystemExit(f"run.sh ended with status {process.returncode}.")
else:
    # The hidden soundscapes are there only while the notebook is scored.
    shutil.copyfile(sample, "submission.csv")
    print("There are no soundscapes; submission.csv is the sample.")
"""

_LOOK = """\
with open("submission.csv", encoding="utf-8") as table:
    for _, line in zip(range(3), table):
        print(line[:120].rstrip())
"""


def make_notebook(bundle_sha256: str) -> str:
    """Give a notebook that finds kit and soundscapes among Kaggle's inputs and writes the submission.

    Parameters
    ----------
    bundle_sha256 : str
        Of the kit's bundle, by which it is known among other kits.

    Returns
    -------
    str
        JSON, of the form https://nbformat.readthedocs.io/en/latest/format_description.html describes.
    """
    names = {
        "@SHA256@": bundle_sha256,
        "@MANIFEST@": MANIFEST_FILE,
        "@BUNDLE_FILE@": BUNDLE_FILE,
        "@RUN@": RUN_FILE,
    }
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "id": "explained", "metadata": {}, "source": _split(_EXPLAINED)}
    ]
    for identifier, code in (("find", _FIND), ("predict", _PREDICT), ("look", _LOOK)):
        source = code
        for place, name in names.items():
            source = source.replace(place, name)
        cells.append(
            {
                "cell_type": "code",
                "execution_count": None,
                "id": identifier,
                "metadata": {},
                "outputs": [],
                "source": _split(source),
            }
        )
    notebook = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, indent=1) + "\n"


def _split(text: str) -> list[str]:
    return text.rstrip("\n").splitlines(keepends=True)
