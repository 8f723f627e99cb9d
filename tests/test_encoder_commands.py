"""The commands about encoders, as a user runs them."""

import json
import re
import subprocess
import sys

import pytest
from card_files import write_card
from click.testing import CliRunner
from fit_files import refuse, run
from web_files import File, run_server
from weights_files import CONTENT, zipped

from birdemb.cli import main


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("BIRDEMB_MODELS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return folder


@pytest.fixture
def served():
    """A file on a server, and a card about weights in it."""
    with run_server() as server:

        def put(folder, file, name="own", **changes):
            path = write_card(folder, "birdnet-2.4", "own.tflite", name=name, **changes)
            source = f'[[weights.sources]]\nurl = "{server.put("a.zip", file)}"\nbytes = {len(file.content)}\n'
            text = path.read_text().replace("sources = []\n", "")
            path.write_text(text.replace("\n[labels]", f'\n{source}archive = "zip"\n\n[labels]'))
            return path

        yield put


def row_of(name, said):
    (line,) = [line for line in said.splitlines() if line.startswith(f"{name} ")]
    return line


def test_table_has_a_line_for_each_encoder(models, birdnet_weights, served):
    served(models, File(b"0" * 1_500_000))
    write_card(models, "birdnet-2.4", "none.tflite", name="other")
    said = run("encoders")
    header = ["name", "rate", "frame", "dim", "classes", "licence", "weights"]
    assert said.splitlines()[0].split() == header
    columns = dict(zip(header, re.split(r"\s{2,}", row_of("birdnet-2.4 *", said)), strict=True))
    assert list(columns.values())[1:5] == ["48 kHz", "3 s", "1,024", "6,522"]
    assert (columns["licence"], columns["weights"]) == ("CC BY-NC-SA 4.0", "installed, sha256 published")
    assert re.search(r"32 kHz +any +824 +- +MIT +needs none$", row_of("melspec", said))
    assert row_of("own", said).endswith("  birdemb encoders fetch own (1.5 MB)")
    assert row_of("other", said).endswith(f"  put none.tflite beside {models / 'other.toml'}")


def test_broken_card_is_one_line_and_hides_no_other(models):
    (models / "a.toml").write_text("name = 1")
    result = CliRunner().invoke(main, ["encoders"])
    assert result.exit_code == 0
    assert "melspec" in result.stdout
    assert result.stderr == f'Left out: The card {models / "a.toml"} has name = 1; write "1", in quotes.\n'


@pytest.mark.slow
def test_table_imports_nothing_heavy():
    code = (
        "import sys; from click.testing import CliRunner; from birdemb.cli import main\n"
        "for words in (['encoders'], ['encoders', 'info', 'birdnet-2.4']):\n"
        "    assert CliRunner().invoke(main, words).exit_code == 0\n"
        "heavy = {'numpy', 'pandas', 'openvino', 'requests', 'tensorflow', 'torch', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_info_says_all_of_the_card(birdnet_weights):
    said = run("encoders", "info", "birdnet-2.4")
    for part in (
        "licence: CC BY-NC-SA 4.0",
        "hears: frames of 3 s at 48,000 Hz",
        "level: as it is; the network levels by itself",
        "width 1,024",
        "6,522 of its own",
        f"weights: {birdnet_weights}",
        "sha256: 55f3e4055b1a13bfa9a2452731d0d34f6a02d6b775a334362665892794165e4c, published",
        "from: https://zenodo.org/records/15050749",
        "pip install 'birdemb[birdnet]'",
    ):
        assert part in said
    assert "weights: needs none" in run("encoders", "info", "melspec")


def test_info_tells_of_level_tensors_and_what_is_missing(tmp_path):
    card = write_card(
        *(tmp_path, "birdnet-2.4", "own.onnx"),
        kind="openvino",
        level="centred-peak",
        level_peak=0.25,
        levels_itself=False,
        pooling="mean+max",
        tensors={"input": "waveform", "embedding": "e", "logits": "l", "scale": 0.97, "shift": -10.0},
        weights={"bytes": 1234},
    )
    said = run("encoders", "info", card)
    for part in (
        f"card: {card}",
        "its mean taken away, then its largest sample brought to 0.25",
        "the mean over its frames and beside it the maximum",
        "input: waveform, layout batch, 4 frames at once",
        "output of the embedding: e, axis -1",
        "output of the classes: l, logits, times 0.97 plus -10",
        "not here (own.onnx, 1,234 bytes)",
        "sha256: your own",
    ):
        assert part in said


def test_info_as_json_is_the_card_and_what_is_here(birdnet_weights):
    known = json.loads(run("encoders", "info", "birdnet-2.4", "--json"))
    assert (known["dim"], known["classes"], known["levels_itself"]) == (1024, 6522, True)
    assert known["here"]["weights"] == str(birdnet_weights)
    assert known["here"]["hash"] == "published"


def test_fetched_weights_are_recorded_and_every_command_says_so(models, served):
    served(models, File(zipped({"own.tflite": CONTENT})))
    assert "sha256: recorded on first use" in run("encoders", "info", "own")
    said = run("encoders", "fetch", "own")
    assert f"own: {models / 'own.tflite'}" in said
    assert "not published; recorded on this machine on first use" in said
    assert row_of("own", run("encoders")).endswith("installed, sha256 recorded here")
    known = json.loads(run("encoders", "info", "own", "--json"))["here"]
    assert known["record"] == str(models / "own.pinned.json")
    assert f"sha256: {known['recorded_sha256']}, recorded here on {known['recorded_on']}" in run(
        "encoders", "info", "own"
    )
    (models / "own.tflite").write_bytes(b"X" + CONTENT[1:])
    line = refuse("encoders", "fetch", "own")
    assert f"expected {known['recorded_sha256']}, which was recorded on" in line
    assert "Get it again with `birdemb encoders fetch own --force`." in line
    assert "recorded on this machine" in run("encoders", "fetch", "own", "--force")
    assert (models / "own.tflite").read_bytes() == CONTENT


def test_another_file_at_the_same_address_is_not_the_recorded_one(models, served):
    served(models, File(zipped({"own.tflite": CONTENT})))
    run("encoders", "fetch", "own")
    (models / "own.tflite").unlink()
    served(models, File(zipped({"own.tflite": CONTENT[::-1]})))
    said = run("encoders", "fetch", "own", status=1)
    assert "what came is not the weights of own: its sha256 is" in said
    assert "delete" in said
    assert not (models / "own.tflite").exists()


def test_fetch_of_what_needs_none_or_has_no_source(tmp_path):
    assert run("encoders", "fetch", "melspec") == "melspec needs no weights.\n"
    card = write_card(tmp_path, "birdnet-2.4", "own.tflite")
    said = run("encoders", "fetch", card, status=1)
    assert f"put own.tflite beside the card {card}" in said
    assert "names no place to get its weights from" in run("encoders", "fetch", card, "--force", status=1)


@pytest.mark.parametrize("command", ["info", "fetch", "verify"])
def test_unknown_name_suggests_the_nearest(command):
    said = refuse("encoders", command, "birdnet")
    assert "There is no encoder 'birdnet'. Did you mean" in said
    assert "'birdnet-2.4'" in said.partition("?")[0]
    assert "no.toml cannot be read: No such file" in refuse("encoders", command, "no.toml")


@pytest.mark.parametrize("command", ["info", "fetch", "verify"])
def test_every_command_has_help_with_an_example(command):
    assert f"\n    birdemb encoders {command} " in run("encoders", command, "--help")
