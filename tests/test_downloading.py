"""Downloads go on where they were stopped, and never mix two files."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from web_files import File, run_server

from birdemb.embed.downloading import ResumingDownloader
from birdemb.errors import InputError

CONTENT = np.random.default_rng(0).bytes(300_000)
KEPT = 98_304  # of the first 100,000 bytes: whole pieces of 16 KiB


@pytest.fixture
def server():
    with run_server() as running:
        yield running


@pytest.fixture
def download(tmp_path):
    def start(url, **settings):
        settings = {"expected_bytes": 0, "most_bytes": 10**6} | settings
        ResumingDownloader(tmp_path / "file.part", **settings)(url, str(tmp_path / "file"))
        assert not list(tmp_path.glob("*.part*"))
        return (tmp_path / "file").read_bytes()

    return start


def begin(download, server, name="f", **facts):
    """Download a part of a file from a server that gives no more than that; gives the address."""
    file = File(CONTENT, at_once=100_000, **{"etag": '"v1"'} | facts)
    url = server.put(name, file)
    file.ranges = False
    with pytest.raises(InputError, match=r"connection ended; [0-9,]+ of 300,000 bytes are kept"):
        download(url)
    return url


def test_file_comes_whole(download, server):
    file = File(CONTENT, etag='"v1"')
    assert download(server.put("f", file)) == CONTENT
    assert file.asked == [(None, None)]


def test_next_run_asks_for_the_rest_alone(download, server, tmp_path):
    url = begin(download, server)
    assert (tmp_path / "file.part").read_bytes() == CONTENT[:KEPT]
    assert not (tmp_path / "file").exists()
    file = File(CONTENT, etag='"v1"')
    server.put("f", file)
    assert download(url) == CONTENT
    assert file.asked == [(f"bytes={KEPT}-", '"v1"')]


def test_connection_that_breaks_off_is_gone_on_with_in_the_same_run(download, server):
    file = File(CONTENT, etag='"v1"', at_once=100_000)
    assert download(server.put("f", file)) == CONTENT
    assert [asked for asked, _ in file.asked] == [None, *(f"bytes={KEPT * i}-" for i in (1, 2, 3))]


@pytest.mark.parametrize(
    "later",
    [
        pytest.param(File(CONTENT[::-1], etag='"v2"'), id="another version"),
        pytest.param(File(CONTENT[::-1], etag='"v1"', ranges=False), id="no ranges"),
        pytest.param(File(CONTENT[:KEPT], etag='"v1"'), id="shorter"),
    ],
)
def test_other_file_is_downloaded_from_its_beginning(download, server, later):
    url = begin(download, server)
    server.put("f", later)
    assert download(url) == later.content
    assert later.asked[0] == (f"bytes={KEPT}-", '"v1"')


def test_without_a_tag_parts_are_put_together_only_where_the_hash_is_known(download, server):
    for is_checked, asked in ((False, None), (True, f"bytes={KEPT}-")):
        url = begin(download, server, etag="")
        file = File(CONTENT)
        server.put("f", file)
        if is_checked:
            with pytest.raises(InputError):
                download(server.put("f", File(CONTENT, ranges=False, at_once=100_000)), is_checked=True)
            server.put("f", file)
        assert download(url, is_checked=is_checked) == CONTENT
        assert file.asked == [(asked, None)]


def test_weak_tag_says_nothing_of_the_bytes(download, server):
    url = begin(download, server, etag='W/"v1"')
    file = File(CONTENT, etag='W/"v1"')
    server.put("f", file)
    assert download(url) == CONTENT
    assert file.asked == [(None, None)]


def test_part_of_another_address_is_not_taken(download, server):
    begin(download, server)
    file = File(CONTENT, etag='"v1"')
    assert download(server.put("g", file)) == CONTENT
    assert file.asked == [(None, None)]


@pytest.mark.parametrize("facts", [b"", b"[]", b"\xff", b'{"url": 1}', b'{"condition": "x\\r\\nHost: y"}'])
def test_damaged_facts_of_a_part_cost_no_more_than_a_download(download, server, tmp_path, facts):
    url = begin(download, server)
    path = tmp_path / "file.part.json"
    if facts.startswith(b'{"c'):
        facts = json.dumps(json.loads(path.read_text()) | json.loads(facts)).encode()
    path.write_bytes(facts)
    file = File(CONTENT, etag='"v1"')
    server.put("f", file)
    assert download(url) == CONTENT
    assert file.asked == [(None, None)]


def test_part_that_is_whole_is_not_asked_for_again(download, server, tmp_path):
    url = begin(download, server)
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert download(url, expected_bytes=len(CONTENT)) == CONTENT


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><html>", b"\n <HTML>"])
def test_web_page_is_not_taken_for_the_file_whatever_the_server_calls_it(download, server, page, tmp_path):
    with pytest.raises(InputError, match="a web page in place of the file"):
        download(server.put("f", File(page)))
    assert list(tmp_path.iterdir()) == []


def test_kill_in_the_middle_keeps_the_part(download, server, tmp_path):
    # The server promises more than it has and keeps silent then, as a slow one does.
    url = server.put("f", File(CONTENT, etag='"v1"', hold=True, at_once=200_000))
    code = (
        "import sys; from pathlib import Path; from birdemb.embed.downloading import ResumingDownloader\n"
        "ResumingDownloader(Path(sys.argv[2]), most_bytes=10**6)(sys.argv[1], sys.argv[2] + '.done')"
    )
    part = tmp_path / "file.part"
    process = subprocess.Popen([sys.executable, "-c", code, url, str(part)], env=os.environ)
    while not part.is_file() or part.stat().st_size < 100_000:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = part.stat().st_size
    file = File(CONTENT, etag='"v1"')
    server.put("f", file)
    assert download(url) == CONTENT
    assert file.asked == [(f"bytes={kept}-", '"v1"')]
