"""BirdNET's parts on disk: what is kept is what the TFLite file holds, and whatever is wrong with it is made anew."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from birdemb.embed import birdnet_parts
from birdemb.embed.birdnet_parts import locate_parts, read_front_end, read_stored_trunk
from birdemb.embed.catalogue import load_card
from birdemb.embed.encoder import load_encoder
from birdemb.embed.weights import find_weights
from birdemb.errors import InputError

DIM = 1024
FILES = ("front_end.npz", "trunk.bin", "trunk.xml")


@pytest.fixture(scope="module")
def weights(birdnet_weights):
    return find_weights(load_card("birdnet-2.4"), birdnet_weights)


def read_parts(weights):
    return read_front_end(weights, DIM), read_stored_trunk(weights, DIM)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache folder, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def kept(tmp_path_factory, weights):
    """A cache folder with the parts of the file, and these."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        return folder, read_parts(weights)


@pytest.fixture
def parts(cache, kept):
    """The parts of the file, which the user's cache folder has, too."""
    shutil.copytree(kept[0], cache, dirs_exist_ok=True)
    return kept[1]


@pytest.fixture
def partings(monkeypatch):
    """How often the TFLite file was parted."""
    done = []

    def part(*args):
        done.append(args)
        return real(*args)

    birdnet_parts._part.cache_clear()
    real = birdnet_parts.part_weights
    monkeypatch.setattr(birdnet_parts, "part_weights", part)
    return done


def assert_same(parts, others):
    (front_end, trunk), (other_front_end, other_trunk) = parts, others
    # The graphs differ in the names of their nodes, which OpenVINO counts up within a process.
    assert trunk.graph.count(b"<layer ") == other_trunk.graph.count(b"<layer ")
    assert trunk.tensors == other_trunk.tensors
    np.testing.assert_array_equal(front_end.factors, other_front_end.factors)
    np.testing.assert_array_equal(front_end.summands, other_front_end.summands)
    for branch, other in zip(front_end.branches, other_front_end.branches, strict=True):
        for field in dataclasses.fields(branch):
            np.testing.assert_array_equal(getattr(branch, field.name), getattr(other, field.name))


def test_file_is_parted_once(cache, weights, partings):
    first = read_parts(weights)
    birdnet_parts._part.cache_clear()
    assert_same(read_parts(weights), first)
    assert len(partings) == 1
    folder = locate_parts(weights)
    assert cache in folder.parents
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "record.json"])
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("front_end.npz", "altered"),
        ("trunk.xml", "cut"),
        ("trunk.bin", "altered"),
        ("trunk.bin", "gone"),
        ("record.json", "altered"),
        ("record.json", "gone"),
    ],
)
def test_damaged_parts_are_made_anew(parts, weights, partings, name, damage):
    path = locate_parts(weights) / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        middle = len(content) // 2
        changed = bytes([content[middle] ^ 1]) + content[middle + 1 :] if damage == "altered" else b""
        path.write_bytes(content[:middle] + changed)
    assert_same(read_parts(weights), parts)
    assert len(partings) == 1
    birdnet_parts._part.cache_clear()
    assert_same(read_parts(weights), parts)
    assert len(partings) == 1


@pytest.mark.slow
@pytest.mark.parametrize("key", ["format", "openvino", "weights_sha256"])
def test_parts_of_others_are_made_anew(parts, weights, partings, key):
    path = locate_parts(weights) / "record.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"made_of": record["made_of"] | {key: "another"}}))
    assert_same(read_parts(weights), parts)
    assert len(partings) == 1
    assert json.loads(path.read_text())["made_of"] == record["made_of"]


@pytest.mark.slow
def test_where_nothing_can_be_kept_embeddings_are_the_same(cache, monkeypatch, birdnet_weights, partings):
    windows = np.random.default_rng(3).normal(0, 0.1, (2, 144_000)).astype(np.float32)

    def encode():
        return load_encoder("birdnet-2.4", window=3.0, weights=birdnet_weights).encode(windows)

    first, kept = encode(), encode()
    file = cache / "file"
    file.write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    birdnet_parts._part.cache_clear()
    partings.clear()
    np.testing.assert_array_equal(encode(), first)
    assert len(partings) == 1
    np.testing.assert_array_equal(kept, first)
    assert file.read_text() == "no folder"


def test_a_file_that_changed_meanwhile_is_refused_and_not_kept(cache, weights):
    with pytest.raises(InputError, match=r"was changed while it was read\. Run the command again"):
        read_parts(dataclasses.replace(weights, sha256="0" * 64))
    assert not [path for path in (cache / "birdemb").rglob("*") if path.is_file()]


def test_damaged_weights_are_told_and_nothing_is_kept(cache, tmp_path, weights):
    file = tmp_path / "damaged.tflite"
    file.write_bytes(weights.path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cannot read .*damaged\.tflite"):
        read_parts(dataclasses.replace(weights, path=file))
    assert not [path for path in (cache / "birdemb").rglob("*") if path.is_file()]
