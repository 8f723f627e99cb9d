"""Verifying encoders: real ones pass, broken ones fail for the right reason and with numbers."""

import shutil

import numpy as np
import onnx
import pytest
from card_files import write_card
from fit_files import run
from onnx import TensorProto, helper, numpy_helper
from test_birdnet import GOLDEN

from birdemb.embed.catalogue import load_card
from birdemb.embed.encoder import load_encoder
from birdemb.embed.golden import read_golden
from birdemb.embed.melspec import MelspecEncoder
from birdemb.embed.signals import make_signals
from birdemb.embed.verification import FAILED, NOTHING, OK, verify_encoder

SAMPLES, DIM = 40_000, 6
NOISE = [-0.069074854, 0.17306267, 0.083429076]  # the first samples of the sound of that name, at 8 kHz
CARD = """
name = "own"
kind = "openvino"
title = "A network of a test"
homepage = "https://example.org"
licence = "MIT"
sample_rate = 8000
frame_seconds = 5.0
dim = 6
{more}
[tensors]
[weights]
file = "own.onnx"
"""
# Each makes `rows` of the waveform `x`, a batch of frames; `one` is one row of ones, `none` zeros like x.
NETWORKS = {
    "right": [("MatMul", ["x", "matrix"], "projected"), ("Abs", ["projected"], "rows")],
    "constant": [("MatMul", ["none", "matrix"], "zeros"), ("Add", ["zeros", "one"], "rows")],
    "aliasing": [
        ("Slice", ["x", "last", "end", "axis"], "row"),
        ("Add", ["none", "row"], "same"),
        ("MatMul", ["same", "matrix"], "rows"),
    ],
    "batch": [
        ("ReduceMean", ["x", "axis"], "row"),
        ("Add", ["none", "row"], "same"),
        ("MatMul", ["same", "matrix"], "rows"),
    ],
    "nan": [("MatMul", ["x", "matrix"], "projected"), ("Sqrt", ["projected"], "rows")],
    "wide": [("MatMul", ["x", "wider"], "rows")],
}


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    monkeypatch.setenv("BIRDEMB_MODELS", str(folder))
    return folder


def write_encoder(folder, network, more="", seed=0):
    rng = np.random.default_rng(seed)
    constants = {
        "matrix": rng.normal(0, 0.1, (SAMPLES, DIM)).astype(np.float32),
        "wider": rng.normal(0, 0.1, (SAMPLES, DIM + 1)).astype(np.float32),
        "one": np.ones((1, DIM), np.float32),
        "zero": np.zeros(1, np.float32),
        "last": np.array([-1]),
        "end": np.array([2**31 - 1]),
        "axis": np.array([0]),
    }
    nodes = [helper.make_node("Mul", ["x", "zero"], ["none"])]
    nodes += [helper.make_node(kind, inputs, [output]) for kind, inputs, output in NETWORKS[network]]
    graph = helper.make_graph(
        nodes,
        network,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", SAMPLES])],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", None])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), folder / "own.onnx")
    (folder / "own.toml").write_text(CARD.format(more=more))
    return folder / "own.toml"


def verify(name, **settings):
    return {check.name: check for check in verify_encoder(str(name), **settings)}


def failed(checks):
    return {name for name, check in checks.items() if check.state == FAILED}


def test_melspec_passes_and_has_golden_embeddings():
    checks = verify("melspec")
    assert not failed(checks)
    assert checks["weights"].state == NOTHING
    assert checks["golden"].said == "embeddings of 8 sounds of 5 s are those that come with birdemb"


@pytest.mark.slow
def test_birdnet_passes_and_has_golden_embeddings(birdnet_weights):
    said = run("encoders", "verify", "birdnet-2.4", "--weights", birdnet_weights)
    assert "failed" not in said
    assert "sha256 55f3e405" in said
    assert "published" in said
    assert "ok      golden    embeddings of 8 sounds of 3 s are those that come with birdemb" in said
    assert "the network levels by itself" in said
    assert said.endswith("birdnet-2.4: nothing is wrong\n")


def test_birdnet_s_golden_embeddings_are_those_pinned_from_litert():
    card = load_card("birdnet-2.4")
    golden = read_golden(card, card.weights.sha256).signals
    for name, pinned in (("sweep", "sweep"), ("silence", "silence"), ("click", "impulse")):
        np.testing.assert_allclose(golden[name].first, GOLDEN[pinned][0], atol=1e-3)
        assert golden[name].norm == pytest.approx(GOLDEN[pinned][1], abs=1e-2)


@pytest.mark.slow
def test_birdnet_s_golden_embeddings_are_litert_s(birdnet_weights):
    from ai_edge_litert.interpreter import Interpreter

    card = load_card("birdnet-2.4")
    with pytest.warns(UserWarning, match="preserve_all_tensors"):
        interpreter = Interpreter(str(birdnet_weights), experimental_preserve_all_tensors=True, num_threads=2)
    interpreter.allocate_tensors()
    tensor = next(t for t in interpreter.get_tensor_details() if t["name"] == "model/GLOBAL_AVG_POOL/Mean")
    golden = read_golden(card, card.weights.sha256).signals
    for name, sound in make_signals(144_000, 48_000).items():
        interpreter.set_tensor(0, sound[None])
        interpreter.invoke()
        row = interpreter.get_tensor(tensor["index"])[0]
        np.testing.assert_allclose(golden[name].first, row[:8], atol=1e-3, err_msg=name)
        assert golden[name].norm == pytest.approx(np.linalg.norm(row), abs=1e-2), name


def test_own_encoder_passes_without_golden_embeddings(tmp_path):
    checks = verify(write_encoder(tmp_path, "right"))
    assert not failed(checks)
    assert checks["weights"].state == checks["golden"].state == NOTHING
    assert f"`birdemb encoders verify {tmp_path}/own.toml --record` does that" in checks["golden"].said
    assert "half as loud: relative difference" in checks["gain"].said


@pytest.mark.parametrize(
    ("network", "more", "expected", "said"),
    [
        ("constant", "", {"differ", "silence", "gain"}, ["relative difference 0, expected more than 0.0"]),
        ("aliasing", "", {"batch"}, ["8 windows together and each alone, ", "expected 0.001 or less"]),
        ("batch", "", {"batch"}, ["8 windows together and each alone, ", "expected 0.001 or less"]),
        (
            "nan",
            "",
            {"network"},
            ["values that are no finite numbers"],
        ),
        ("wide", "", {"network"}, ["gives an embedding of shape (4, 7); expected a width of 6"]),
        (
            "right",
            "levels_itself = true",
            {"gain"},
            ["half as loud, where the network levels by itself", "0.01 or less"],
        ),
    ],
)
def test_broken_encoder_fails_for_its_reason_and_with_numbers(tmp_path, network, more, expected, said):
    checks = verify(write_encoder(tmp_path, network, more))
    assert failed(checks) == expected
    for name in expected:
        for part in said:
            assert part in checks[name].said


@pytest.mark.parametrize("level", ["peak", "centred-peak"])
def test_gain_changes_nothing_with_a_level(tmp_path, level):
    checks = verify(write_encoder(tmp_path, "right", f'level = "{level}"\nlevel_peak = 0.25'))
    assert not failed(checks)
    assert f"where the card says level = '{level}'" in checks["gain"].said
    assert ("offset" in checks) == (level == "centred-peak")


class OneBuffer(MelspecEncoder):
    """Gives the same memory again, as a TFLite interpreter does."""

    def _encode(self, windows):
        if not hasattr(self, "_buffer"):
            self._buffer = np.empty((8, self.card.dim), np.float32)
        self._buffer[: len(windows)] = super()._encode(windows)
        return self._buffer[: len(windows)]


class Unsteady(MelspecEncoder):
    """Gives something else each time, as a network with dropout left on does."""

    def _encode(self, windows):
        self._calls = getattr(self, "_calls", 0) + 1
        return super()._encode(windows) + np.float32(self._calls)


@pytest.mark.parametrize(("kind", "expected"), [("OneBuffer", {"memory"}), ("Unsteady", {"repeat", "batch"})])
def test_defects_that_no_network_has_by_itself(monkeypatch, kind, expected):
    monkeypatch.setitem(load_encoder.__globals__["_MODULES"], "melspec", f"{__name__}:{kind}")
    assert failed(verify("melspec")) - {"gain", "golden"} == expected


def test_recorded_embeddings_are_compared_with_from_then_on(tmp_path, models):
    card = write_encoder(tmp_path, "right")
    assert "recorded in" in verify(card, record=True)["golden"].said
    assert verify(card)["golden"].said.endswith(f"are those recorded in {models / 'own.golden.toml'}")
    # Other weights have none, and leave those of the first where they are.
    write_encoder(tmp_path, "right", seed=1)
    assert verify(card)["golden"].state == NOTHING
    assert verify(card, record=True)["golden"].state == OK
    write_encoder(tmp_path, "right")
    assert verify(card)["golden"].state == OK
    # A card that says something else makes something else.
    write_encoder(tmp_path, "right", 'level = "peak"\nlevel_peak = 0.25')
    assert "recorded with level = 'none', and the encoder has 'peak'" in verify(card)["golden"].said


def test_embeddings_that_were_recorded_before_the_folder_was_named_are_found(tmp_path, monkeypatch):
    card = write_encoder(tmp_path, "right")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.delenv("BIRDEMB_MODELS", raising=False)
    said = verify(card, record=True)["golden"].said
    assert str(tmp_path / "user") in said
    monkeypatch.setenv("BIRDEMB_MODELS", str(tmp_path / "models"))
    assert verify(card)["golden"].state == OK


def test_other_embeddings_than_those_recorded_are_a_failure_with_numbers(tmp_path, models):
    card = write_encoder(tmp_path, "right")
    verify(card, record=True)
    path = models / "own.golden.toml"
    lines = path.read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("norm"))
    norm = float(lines[place].removeprefix("norm = "))
    path.write_text("\n".join([*lines[:place], f"norm = {norm * 1.02}", *lines[place + 1 :]]))
    checks = verify(card)
    assert failed(checks) == {"golden"}
    assert "of the sound 'sweep' it gives" in checks["golden"].said
    assert f"norm of {norm:.4f}, expected" in checks["golden"].said
    path.write_text("[[records]]")
    assert "Delete it and record them again: birdemb encoders verify" in verify(card)["golden"].said


def test_nothing_is_recorded_of_a_broken_encoder(tmp_path, models):
    checks = verify(write_encoder(tmp_path, "batch"), record=True)
    assert failed(checks) == {"batch", "record"}
    assert not (models / "own.golden.toml").exists()


def test_command_prints_a_line_for_each_check_and_leaves_with_its_status(tmp_path):
    card = write_encoder(tmp_path, "aliasing")
    lines = run("encoders", "verify", card, status=1).splitlines()
    assert [line.split()[1] for line in lines[:-1]] == [
        *("weights", "width", "finite", "differ", "repeat", "batch", "memory", "silence", "gain", "golden")
    ]
    assert lines[-1] == f"{card}: 1 of 10 checks failed"
    assert next(line for line in lines if line.startswith("failed")).split()[1] == "batch"


def test_altered_weights_fail_before_anything_else(birdnet_weights, models):
    models.mkdir()
    path = models / load_card("birdnet-2.4").weights.file
    shutil.copy(birdnet_weights, path)
    with path.open("r+b") as file:
        file.write(b"X")
    said = run("encoders", "verify", "birdnet-2.4", status=1)
    assert said.startswith(f"failed  weights   {path} is not the weights of birdnet-2.4: its sha256 is ")
    assert "`birdemb encoders fetch birdnet-2.4 --force`" in said
    assert len(said.splitlines()) == 2


def test_weights_that_are_no_network_are_one_sentence(tmp_path):
    (tmp_path / "own.tflite").write_bytes(b"weights of a test")
    checks = verify(write_card(tmp_path, "birdnet-2.4", "own.tflite"))
    assert failed(checks) == {"network"}
    assert f"cannot read {tmp_path}/own.tflite: it is no TFLite file" in checks["network"].said


def test_sounds_are_the_same_everywhere():
    sounds = make_signals(8000, 8000)
    assert all(sound.dtype == np.float32 and np.abs(sound).max() <= 1 for sound in sounds.values())
    np.testing.assert_allclose(sounds["noise"][:3], NOISE, atol=1e-7)
    assert len({sound.tobytes() for sound in sounds.values()}) == len(sounds)
