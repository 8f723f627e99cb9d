"""Trunks in their fastest form: the same results, and compiled once for each processor, version and shape."""

import hashlib
import json

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest

from birdemb.embed import fast_trunks
from birdemb.embed.convolution_kernels import takes_slower_kernels
from birdemb.embed.fast_trunks import compile_fast_trunk, make_fast_trunk
from birdemb.embed.openvino_models import compile_model, read_graph, write_graph

RNG = np.random.default_rng(13)
SHAPE = (4, 3, 12, 16)
HASHES = {"weights": "a" * 64}
GIVEN = RNG.normal(0, 1, SHAPE).astype(np.float32)


def convolve(rows, channels):
    inner = rows.output(0).partial_shape[1].get_length()
    weights = ops.constant(RNG.normal(0, 0.5, (channels, inner, 1, 1)).astype(np.float32))
    return ops.convolution(rows, weights, [1, 1], [0, 0], [0, 0], [1, 1])


@pytest.fixture(scope="module")
def files():
    given = ops.parameter([-1, *SHAPE[1:]], np.float32)
    rows = convolve(given, 32)
    rows = convolve(ops.multiply(rows, ops.sigmoid(rows)), 16)
    pooled = ops.reduce_mean(rows, ops.constant(np.array([2, 3])), False)
    return write_graph(ov.Model([ops.result(pooled.output(0))], [given], "small"))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "birdemb" / "networks"


@pytest.fixture
def compilations(monkeypatch):
    """How often a trunk was compiled."""
    done = []

    def compile_it(*args):
        done.append(args)
        return compile_model(*args)

    monkeypatch.setattr(fast_trunks, "compile_model", compile_it)
    return done


def compute(files, **changed):
    settings = {"shape": SHAPE, "precision": "f32", "hashes": HASHES} | changed
    return compile_fast_trunk(lambda: files, **settings)(GIVEN[: settings["shape"][0]])[0]


def test_it_computes_what_the_trunk_does(files):
    exact = compile_model(read_graph(*files), "f32")(GIVEN)[0]
    made = make_fast_trunk(*files, SHAPE)
    assert list(made.input(0).shape) == list(SHAPE)
    assert ("Sigmoid" in {node.get_type_name() for node in made.get_ops()}) != takes_slower_kernels()
    np.testing.assert_allclose(compile_model(made, "f32")(GIVEN)[0], exact, rtol=1e-5, atol=1e-5)


def test_it_is_compiled_once_and_then_read(files, cache, compilations):
    first = compute(files)
    np.testing.assert_array_equal(compute(None), first)
    assert len(compilations) == 1
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("changed", [{"shape": (1, *SHAPE[1:])}, {"hashes": HASHES | {"quantized": "b" * 64}}])
def test_another_trunk_has_a_folder_of_its_own(files, cache, compilations, changed):
    first = compute(files)
    np.testing.assert_allclose(compute(files, **changed), first[: changed.get("shape", SHAPE)[0]], atol=1e-6)
    np.testing.assert_array_equal(compute(None), first)
    assert len(compilations) == 2
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", ["altered", "cut", "gone"])
def test_what_is_damaged_is_compiled_again(files, cache, compilations, damage):
    first = compute(files)
    (blob,) = cache.glob("*/trunk.blob")
    content = blob.read_bytes()
    if damage == "gone":
        blob.unlink()
    else:
        middle = len(content) // 2
        blob.write_bytes(content[:middle] + (bytes([content[middle] ^ 1]) + content[middle + 1 :]) * (damage != "cut"))
    np.testing.assert_array_equal(compute(files), first)
    assert len(compilations) == 2
    np.testing.assert_array_equal(compute(None), first)


def test_what_another_version_compiled_is_replaced(files, cache, compilations):
    first = compute(files)
    (record,) = cache.glob("*/record.json")
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"made_of": content["made_of"] | {"openvino": "2025.1"}}))
    np.testing.assert_array_equal(compute(files), first)
    assert len(compilations) == 2
    assert json.loads(record.read_text())["made_of"] == content["made_of"]
    np.testing.assert_array_equal(compute(None), first)


def test_what_openvino_cannot_read_is_compiled_again(files, cache, compilations):
    first = compute(files)
    (blob,) = cache.glob("*/trunk.blob")
    blob.write_bytes(b"not what was compiled")
    record = blob.parent / "record.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"files": {blob.name: hashlib.sha256(blob.read_bytes()).hexdigest()}}))
    np.testing.assert_array_equal(compute(files), first)
    assert len(compilations) == 2


def test_where_nothing_can_be_kept_it_is_compiled_each_time(files, cache, compilations):
    cache.parent.parent.write_text("no folder")
    np.testing.assert_array_equal(compute(files), compute(files))
    assert len(compilations) == 2
