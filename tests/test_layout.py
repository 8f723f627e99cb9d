"""The four places at the root are parts of one package, and data flows one way through it."""

import ast
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "birdemb"
LINKS = {"embed": "../embed", "classify": "../classify", "models": "../models", "cli.py": "../cli.py"}
GLUE = {
    "__init__",
    "auc_loss",
    "budget.anytime",
    "budget.costs",
    "budget.hearing",
    "budget.measuring",
    "budget.rows",
    "budget.scores",
    "budget.scoring",
    "budget.work",
    "cache_commands",
    "cli",
    "demo",
    "embedding",
    "encoder_commands",
    "encoder_table",
    "fitting",
    "headers",
    "info_command",
    "kit",
    "kit_models",
    "kit_use",
    "label_checking",
    "onnx_building",
    "onnx_comparison",
    "onnx_export",
    "own_knowledge",
    "inference",
    "listening",
    "notebooks",
    "postprocess",
    "predict_outputs",
    "predicting",
    "results",
    "quantize_command",
    "quantizing",
    "recording_context",
    "soundscapes",
    "species_command",
    "species_list",
    "training",
    "tune_command",
    "tuning",
    "validation",
    "watch_batches",
    "watching",
}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in PACKAGE.rglob("*.py", recurse_symlinks=True) if sys.version_info >= (3, 13) else walk(PACKAGE):
        found[".".join(path.relative_to(REPOSITORY).with_suffix("").parts)] = path
    return found


def walk(folder: Path) -> list[Path]:
    return [
        path
        for entry in folder.iterdir()
        for path in (walk(entry) if entry.is_dir() else [entry])
        if path.suffix == ".py"
    ]


def is_below(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def imports_of(path: Path) -> set[str]:
    """List what a module imports, with what it takes out of it: ``birdemb.embed.audio.Decoder``."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize(("name", "target"), LINKS.items())
def test_place_at_the_root_is_linked_into_the_package(name, target):
    link = PACKAGE / name
    assert link.is_symlink(), f"{link} has to be a link; on Windows clone with core.symlinks=true"
    assert link.readlink().as_posix() == target


def test_every_folder_with_modules_is_named_in_pyproject():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    named = set(settings["tool"]["setuptools"]["packages"])
    assert named == {name.rpartition(".")[0] for name in modules()}


def test_data_flows_one_way():
    for name, path in modules().items():
        imported = imports_of(path)
        uses_embed = any(is_below(other, "birdemb.embed") for other in imported)
        uses_classify = any(is_below(other, "birdemb.classify") for other in imported)
        if name.startswith("birdemb.embed."):
            assert not uses_classify, name
        elif name.startswith("birdemb.classify."):
            assert not uses_embed, name
        elif name.removeprefix("birdemb.") not in GLUE:
            assert not uses_embed, name
            assert not uses_classify, name
        assert name == "birdemb.__main__" or not any(is_below(other, "birdemb.cli") for other in imported), name


def test_no_file_is_longer_than_400_lines():
    long = {name: lines for name, path in modules().items() if (lines := len(path.read_text().splitlines())) > 400}
    assert not long


def test_command_runs_from_a_checkout_without_an_install(tmp_path):
    run = subprocess.run(
        [sys.executable, "-P", str(REPOSITORY / "cli.py"), "--help"],
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Three commands" in run.stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from click.testing import CliRunner; from birdemb.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "heavy = {'numpy', 'pandas', 'sklearn', 'openvino', 'lightgbm', 'torch', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_wheel_built_from_the_sdist_holds_every_module_and_nothing_else(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, REPOSITORY],
        check=True,
        capture_output=True,
    )
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {path.relative_to(REPOSITORY).as_posix() for path in modules().values()}
    expected |= {f"birdemb/models/{card.name}" for card in (REPOSITORY / "models").glob("*.toml")}
    assert packed == expected | {"birdemb/py.typed"}
    with tarfile.open(sdist) as archive:
        shipped = {name.partition("/")[2] for name in archive.getnames()}
    assert shipped >= {"LICENSE", "README.md", "CHANGELOG.md", "constraints.txt", "Makefile", "tests/conftest.py"}
    assert shipped >= {f"tests/{path.name}" for path in (REPOSITORY / "tests").glob("*.py")}
