"""Weights named by a URL or a handle in place of a path: found here, else downloaded, and expected to stay the same."""

import dataclasses
import hashlib
import json
import os
import shutil
import tarfile

import numpy as np
import pytest
from audio_files import write_sine
from card_files import own_card, write_card
from fit_files import run
from onnx_networks import Network
from saved_models import Insides
from web_files import File, run_server
from weights_files import CONTENT, SAVED_MODEL, make_card, make_folder_card, tarred, zipped

from birdemb.embed.card import Source
from birdemb.embed.encoder import find_encoder_weights, load_encoder
from birdemb.embed.handles import find_by_handle, read_handle
from birdemb.embed.tensorflow_runtime import start_tensorflow
from birdemb.embed.weights import find_weights, locate_weights
from birdemb.errors import InputError, MissingWeightsError

YAMNET = "google/yamnet/tensorFlow2/yamnet/1"
ARCHIVE = tarred(SAVED_MODEL)
COMPRESSED = "?tf-hub-format=compressed"


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    folder = tmp_path / "kept"
    monkeypatch.setenv("BIRDEMB_MODELS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("KAGGLE_CACHE_MOUNT_FOLDER", str(tmp_path / "mounts"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kagglehub"))
    monkeypatch.delenv("TFHUB_CACHE_DIR", raising=False)
    return folder


@pytest.fixture
def server(monkeypatch):
    with run_server() as running:
        monkeypatch.setenv("KAGGLE_API_ENDPOINT", running.put("", b"")[:-1])
        yield running


def put_at_kaggle(server, content, handle=YAMNET):
    return server.put(f"api/v1/models/{handle}/download", content)


def find(text, card=None, **settings):
    return find_by_handle(read_handle(text), card or make_folder_card(), **settings)


def write_model(folder, graph=SAVED_MODEL["saved_model.pb"]):
    for name, content in (SAVED_MODEL | {"saved_model.pb": graph}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    "text",
    [
        YAMNET,
        f"https://www.kaggle.com/models/{YAMNET}",
        f"https://kaggle.com/models/{YAMNET}/",
        "https://www.kaggle.com/models/google/yamnet/frameworks/tensorFlow2/variations/yamnet/versions/1",
    ],
)
def test_model_at_kaggle_is_one_in_whichever_way_it_is_written(text, monkeypatch):
    monkeypatch.delenv("KAGGLE_API_ENDPOINT", raising=False)
    handle = read_handle(text)
    assert handle.kaggle == handle.name == YAMNET
    assert handle.url == f"https://www.kaggle.com/api/v1/models/{YAMNET}/download"
    assert handle.folders == read_handle(YAMNET).folders


def test_any_other_address_stands_for_itself():
    for text in ("https://tfhub.dev/google/yamnet/1", "http://localhost:8000/a.tflite?download=1"):
        assert (read_handle(text).url, read_handle(text).kaggle) == (text, "")
    assert read_handle("https://tfhub.dev/google/yamnet/1").folders != read_handle(YAMNET).folders


def test_path_is_a_path(tmp_path):
    for text in ("yamnet", "weights/yamnet", "a/b/c/d/1", "../yamnet/tensorFlow2/yamnet/1", "/a/b/tensorFlow2/c/1"):
        assert read_handle(text) is None
    assert read_handle(tmp_path / YAMNET) is None
    assert read_handle(YAMNET) is not None
    (tmp_path / YAMNET).mkdir(parents=True)
    assert read_handle(YAMNET) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s3://me:secret@bucket/yamnet", r"cannot be had from 's3://bucket/yamnet'\. Give a path, a URL that begins"),
        ("gs://bucket/yamnet.tar.gz", "Give a path, a URL that begins with https://"),
        ("file:///yamnet", "Give a path"),
        ("https://", "Give a path"),
        ("google/yamnet/tensorFlow2/yamnet", r"ends in a version: google/yamnet/tensorFlow2/yamnet/1, for the first"),
        ("https://www.kaggle.com/models/google/yamnet", r"no page of one version .* Give its handle, owner/model/"),
        ("https://www.kaggle.com/models/google/yamnet/tensorFlow2/../../1", "no page of one version"),
    ],
)
def test_what_weights_cannot_be_had_from_is_one_sentence(text, said):
    with pytest.raises(InputError, match=said):
        read_handle(text)


def test_saved_model_is_downloaded_into_a_folder_of_its_own(server, own_folder):
    url = server.put("google/yamnet/1", b"a page")
    server.put(f"google/yamnet/1{COMPRESSED}", ARCHIVE)
    found = find(url)
    (folder,) = read_handle(url).folders[:1]
    assert found.path == folder / "model"
    assert folder.parent == own_folder / "handles"
    assert {path.name for path in folder.iterdir()} == {"model", "birdnet-2.4.pinned.json"}
    assert (found.path / "assets" / "label.csv").read_bytes() == SAVED_MODEL["assets/label.csv"]
    assert found.origin == "recorded"
    server.files.clear()
    assert find(url) == found


def test_what_a_handle_brings_is_not_taken_for_the_card_s_own_weights(server, own_folder):
    card = make_folder_card()
    put_at_kaggle(server, ARCHIVE)
    assert find_by_handle(read_handle(YAMNET), card).path.is_dir()
    assert locate_weights(card) is None
    own = write_model(own_folder / "model", graph=b"the card's own")
    assert find_weights(card).path == own  # and records its hash
    assert (own / "saved_model.pb").read_bytes() == b"the card's own"
    with pytest.raises(
        InputError, match=r"not the weights of birdnet-2\.4: .*which was recorded on .* from .*kept/model"
    ):
        find_by_handle(read_handle(YAMNET), card)


def test_kaggle_is_asked_once_in_whichever_way_the_handle_is_written(server):
    put_at_kaggle(server, file := File(ARCHIVE))
    found = find(f"https://www.kaggle.com/models/{YAMNET}")
    assert find(YAMNET) == found
    assert len(file.asked) == 1
    with pytest.raises(MissingWeightsError, match=r"/api/v1/models/.*/2/download: the server answers 404 Not Found"):
        find(YAMNET.replace("/1", "/2"))
    assert [path.name for path in found.path.parents[1].iterdir()] == [found.path.parent.name]


def test_first_hash_is_recorded_and_expected_from_there_on(server, own_folder):
    url = server.put("a.tar.gz", ARCHIVE)
    found = find(url)
    (pin,) = own_folder.glob("handles/*/birdnet-2.4.pinned.json")
    assert json.loads(pin.read_text())["found_at"] == url
    server.put("a.tar.gz", tarred(SAVED_MODEL | {"saved_model.pb": b"other"}))
    with pytest.raises(MissingWeightsError, match=rf"expected {found.sha256}, which was recorded on \d.* from {url}"):
        find(url, force=True)
    assert find(url) == found
    write_model(found.path, graph=b"altered")
    with pytest.raises(InputError, match=rf"is not what {url} was: its sha256 is .* delete .*pinned\.json"):
        find(url)
    pin.unlink()
    assert find(url, force=True).sha256 != found.sha256


def test_secrets_in_an_address_are_neither_told_nor_recorded(server, own_folder, monkeypatch):
    url = server.put("a.zip?token=secret", zipped(SAVED_MODEL)).replace("//", "//me:secret@")
    assert find(url).origin == "recorded"
    assert "secret" not in "".join(path.read_text() for path in own_folder.glob("handles/*/*.json"))
    server.files.clear()
    with pytest.raises(MissingWeightsError, match="404") as caught:
        find(url, force=True)
    monkeypatch.setenv("BIRDEMB_OFFLINE", "1")
    with pytest.raises(MissingWeightsError, match="forbids the network") as offline:
        find(url.replace("a.zip", "b.zip"))
    assert "secret" not in f"{caught.value} {offline.value}"


def test_offline_only_what_is_here_is_used(server, monkeypatch):
    put_at_kaggle(server, file := File(ARCHIVE))
    monkeypatch.setenv("BIRDEMB_OFFLINE", "1")
    with pytest.raises(
        MissingWeightsError,
        match=r"as BIRDEMB_OFFLINE or --offline forbids the network\. Fetch them where there is a network and copy the "
        "folder of weights, or name a copy by its path",
    ):
        find(YAMNET)
    assert not file.asked
    monkeypatch.delenv("BIRDEMB_OFFLINE")
    found = find(YAMNET)
    monkeypatch.setenv("BIRDEMB_OFFLINE", "1")
    assert find(YAMNET) == found


def test_copy_of_kagglehub_is_found_once_it_is_whole(tmp_path):
    place = write_model(tmp_path / "kagglehub" / "models" / YAMNET)
    with pytest.raises(MissingWeightsError):
        find_in_vain(YAMNET)
    place.with_name("1.complete").touch()
    assert find(YAMNET).path == place
    assert find(f"https://www.kaggle.com/models/{YAMNET}").path == place


def find_in_vain(text):
    os.environ["BIRDEMB_OFFLINE"] = "1"  # as nothing else keeps it from asking Kaggle
    try:
        return find(text)
    finally:
        del os.environ["BIRDEMB_OFFLINE"]


@pytest.mark.parametrize("parts", ["models/google/yamnet", "yamnet"])
def test_mount_at_kaggle_is_found(tmp_path, parts):
    place = write_model(tmp_path / "mounts" / parts / "tensorflow2" / "yamnet" / "1")
    assert find(YAMNET).path == place


def test_file_is_found_in_a_model_of_kagglehub(tmp_path):
    handle = "somebody/birds/tfLite/small/3"
    place = tmp_path / "kagglehub" / "models" / handle
    place.mkdir(parents=True)
    place.with_name("3.complete").touch()
    (place / "test.bin").write_bytes(CONTENT)
    assert find(handle, make_card()).path == place / "test.bin"


def test_file_is_downloaded_with_those_beside_it_and_compared_with_the_published_hash(server, own_folder):
    url = server.put("deep/official.bin", CONTENT)
    found = find(url, make_card())
    assert (found.path.name, found.origin) == ("test.bin", "published")
    assert found.path.read_bytes() == CONTENT
    assert not list(own_folder.glob("handles/*/*.json"))
    url = server.put("other/official.bin", CONTENT[::-1])
    with pytest.raises(MissingWeightsError, match=r"what came is not the weights of birdnet-2\.4: its sha256 is"):
        find(url, make_card())
    assert not read_handle(url).folders[0].joinpath("test.bin").exists()
    url = server.put("ir/net.xml", b"graph")
    server.put("ir/net.bin", b"tensors")
    found = find(url, make_card(file="net.xml", bytes=0, sha256=""))
    assert found.path.with_suffix(".bin").read_bytes() == b"tensors"


def test_file_in_an_archive_has_the_name_that_it_has_in_the_card_s_own(server):
    url = server.put("mirror/all.zip", zipped({"member.bin": CONTENT, "other.bin": b"1"}))
    assert find(url, make_card()).path.read_bytes() == CONTENT
    url = server.put("mirror/all.tgz", tarred({"a/test.bin": CONTENT}))
    assert find(url, make_card()).path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (tarred(SAVED_MODEL | {"../escaped": b""}), "a path that may lead out of it"),
        (tarred(SAVED_MODEL | {"again/saved_model.pb": b""}), "holds 2 folders with a saved_model.pb, expected one"),
        (tarred({"label.csv": b""}), "holds 0 folders with a saved_model.pb, expected one"),
        (ARCHIVE[:-30], "no whole archive"),
        (b"<!doctype html>", "a web page in place of the file"),
    ],
    # An archive holds the second in which it was made: as a name it would differ from one worker to the next.
    ids=["escape", "two models", "no model", "cut short", "web page"],
)
def test_what_comes_is_not_trusted(server, tmp_path, own_folder, archive, said):
    put_at_kaggle(server, archive)
    with pytest.raises(MissingWeightsError, match=said) as caught:
        find(YAMNET)
    assert f"Try `birdemb encoders fetch birdnet-2.4 --weights {YAMNET}` again later" in str(caught.value)
    assert not (tmp_path / "escaped").exists()
    assert not [path for path in own_folder.rglob("*") if path.is_file() and ".downloads" not in path.parts]


def test_encoder_without_weights_takes_no_handle():
    with pytest.raises(InputError, match="The encoder melspec has no weights; leave out --weights"):
        load_encoder("melspec", weights=YAMNET)


def test_commands_take_a_url(server, tmp_path):
    card = own_card(tmp_path / "cards")
    content = Network.random().build().SerializeToString()
    url = server.put("some/where.onnx", content)
    write_sine(tmp_path / "tone.wav")
    said = run("encoders", "fetch", card, "--weights", url)
    assert f"sha256 {hashlib.sha256(content).hexdigest()}, not published; recorded on this machine" in said
    server.files.clear()
    assert "nothing is wrong" in run("encoders", "verify", card, "--weights", url, "--offline")
    assert "Embedded" in run("embed", "tone.wav", "--encoder", card, "--weights", url, "--jobs", 1)
    assert "There are no weights at" in run(
        "embed", "tone.wav", "--encoder", card, "--weights", "some/where.onnx", status=1
    )
    assert "no place to fetch from" in run("encoders", "fetch", card, "--weights", "where.onnx", status=2)


@pytest.mark.slow
def test_tensorflow_hub_gives_the_same_and_its_copy_is_found(server, saved_model, tmp_path, monkeypatch):
    _, hub = start_tensorflow()
    with tarfile.open(tmp_path / "yamnet.tar.gz", "w:gz") as archive:
        archive.add(saved_model("yamnet"), "./")
    url = server.put("google/yamnet/1", b"a page")
    server.put(f"google/yamnet/1{COMPRESSED}", served := File((tmp_path / "yamnet.tar.gz").read_bytes()))
    encoder = load_encoder(str(write_card(tmp_path, "yamnet", "weights")), weights=url)
    waveform = np.sin(np.arange(80_000, dtype=np.float32) / 5)
    heard = encoder.encode(waveform[None])
    assert len(served.asked) == 1

    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "tfhub"))
    _, embeddings, _ = hub.load(url)(waveform)
    np.testing.assert_allclose(heard[0], embeddings.numpy().mean(axis=0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(heard[0], Insides("yamnet").hear(frame(waveform), "embeddings").mean(axis=0), rtol=1e-3)
    assert len(served.asked) == 2

    shutil.rmtree(encoder.weights.parent.parent)
    monkeypatch.setenv("BIRDEMB_OFFLINE", "1")
    card = dataclasses.replace(encoder.card, place=None)
    found = find_encoder_weights(card, url)
    assert found.path.parent == tmp_path / "tfhub"
    assert (found.sha256, found.origin) == (encoder.weights_sha256, "recorded")


def frame(waveform, length=15_600, hop=7_680):
    count = -(-(len(waveform) - length) // hop) + 1
    padded = np.pad(waveform, (0, length + (count - 1) * hop - len(waveform)))
    return np.stack([padded[first * hop : first * hop + length] for first in range(count)])


def test_source_of_the_card_stays_as_it_is(server):
    card = make_folder_card(Source(server.put("a.tar.gz", ARCHIVE), archive="tar.gz"))
    put_at_kaggle(server, tarred(SAVED_MODEL | {"saved_model.pb": b"other"}))
    assert find_by_handle(read_handle(YAMNET), card).sha256 != find_weights(card).sha256
