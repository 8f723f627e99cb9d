"""The documentation runs."""

import doctest
import importlib
import pkgutil
import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import birdemb
from birdemb.cli import main

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
MODULES = [module.name for module in pkgutil.walk_packages(birdemb.__path__, "birdemb.")]


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name):
    options = doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=options)
    assert failed == 0


@pytest.mark.slow
def test_readme_runs_line_by_line(world, birdnet_weights):
    shutil.copytree(world.data, "data")
    shutil.copytree(world.soundscapes, "soundscapes")
    shutil.copy(world.truth, "truth.csv")
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert lines[:3] == [
        "birdemb embed data/",
        "birdemb fit --head lgbm",
        "birdemb predict soundscapes/ -o submission.csv",
    ]
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "birdemb"
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})  # noqa: S102 - the README's own lines


@pytest.mark.parametrize("command", main.commands)
def test_readme_names_every_command(command):
    assert f"birdemb {command}" in README
