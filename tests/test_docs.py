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

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PAGES = [(REPOSITORY / "docs" / name).read_text(encoding="utf-8") for name in ("cache.md", "heads.md", "library.md")]
MODULES = [module.name for module in pkgutil.walk_packages(birdemb.__path__, "birdemb.")]


def blocks(language, text=README):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


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
    # These pages read what the lines above have made.
    for block in [block for page in (README, *PAGES) for block in blocks("python", page)]:
        exec(compile(block, "the documentation", "exec"), {})  # noqa: S102 - its own lines


@pytest.mark.parametrize("command", main.commands)
def test_readme_names_every_command(command):
    assert f"birdemb {command}" in README


def test_links_lead_somewhere():
    for page in [REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_place_is_left_to_be_filled_in():
    for page in [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *REPOSITORY.glob("docs/*.md")]:
        assert not re.search(r"^[A-Z_]{6,}$", page.read_text(encoding="utf-8"), re.MULTILINE), page.name
