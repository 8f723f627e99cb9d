"""The index: made from the shards, never the truth, and whatever is wrong with it harms nothing."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cache_files import HALF, IDENTITY, add, assert_holds, embed, fill, key, python, run_python, shards

from birdemb.cache import EmbeddingCache
from birdemb.cache.index import INDEX_NAME
from birdemb.cache.shards import delete_shards
from birdemb.errors import InputError


def names_in(folder):
    with sqlite3.connect(f"file:{folder / INDEX_NAME}?mode=ro", uri=True) as database:
        return {name for (name,) in database.execute("SELECT name FROM shards")}


def on_disk(root):
    return {path.stem for path in shards(root, ".json")}


def break_delete(path):
    path.unlink()


def break_empty(path):
    path.write_bytes(b"")


def break_text(path):
    path.write_text("no database")


def break_cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def break_pages(path):
    content = bytearray(path.read_bytes())
    content[4096:] = np.random.default_rng(0).bytes(len(content) - 4096)
    path.write_bytes(content)


def break_last_page(path):
    content = bytearray(path.read_bytes())
    content[-4096:] = bytes(4096)
    path.write_bytes(content)


def break_foreign(path):
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE shards (name TEXT)")


def break_other_identity(path):
    shutil.copy(fill(path.parent / "other", [9], IDENTITY | {"hop": 2.5}).folder / INDEX_NAME, path)


def break_layout(path):
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")


def break_rows(path):
    with sqlite3.connect(path) as database:
        database.execute("UPDATE parts SET first_row = first_row + 1")


def break_hashes(path):
    with sqlite3.connect(path) as database:
        database.execute("UPDATE parts SET rows_sha256 = 'other'")


BREAKS = [value for name, value in list(globals().items()) if name.startswith("break_")]


@pytest.mark.parametrize("how", BREAKS, ids=lambda how: how.__name__)
def test_a_broken_index_is_made_anew(tmp_path, how):
    folder = fill(tmp_path, range(40)).folder
    how(folder / INDEX_NAME)
    assert_holds(EmbeddingCache(tmp_path, IDENTITY), range(40))
    fill(tmp_path, [50])
    assert_holds(EmbeddingCache(tmp_path, IDENTITY), [*range(40), 50])
    assert names_in(folder) == on_disk(tmp_path)


@pytest.mark.slow
def test_any_flipped_byte_is_found_or_harmless(tmp_path):
    folder = fill(tmp_path, range(30)).folder
    whole = (folder / INDEX_NAME).read_bytes()
    draw = np.random.default_rng(5)
    for _ in range(80):
        content = bytearray(whole)
        for _ in range(8):
            content[draw.integers(len(content))] ^= 1 << int(draw.integers(8))
        (folder / INDEX_NAME).write_bytes(content)
        cache = EmbeddingCache(tmp_path, IDENTITY)
        for number in range(30):
            try:
                got = cache.read([key(number)])
            except InputError:
                continue  # it counts as not embedded
            np.testing.assert_array_equal(got, embed(number, 1 + number % 4))
        cache.refresh(rebuild=True)
        assert_holds(cache, range(30))


def test_an_index_that_is_behind_is_brought_up_to_date(tmp_path):
    folder = fill(tmp_path, range(5)).folder
    old = (folder / INDEX_NAME).read_bytes()
    fill(tmp_path, range(5, 9))
    (folder / INDEX_NAME).write_bytes(old)
    assert_holds(EmbeddingCache(tmp_path, IDENTITY), range(9))
    assert names_in(folder) == on_disk(tmp_path)


def test_shards_that_are_gone_leave_the_index(tmp_path):
    folder = fill(tmp_path, range(5)).folder
    (first,) = shards(tmp_path, ".json")
    fill(tmp_path, range(3, 9))  # 3 and 4 are there twice, from now on once
    delete_shards([first])
    assert_holds(EmbeddingCache(tmp_path, IDENTITY), range(3, 9))
    assert names_in(folder) == on_disk(tmp_path)


def test_an_index_that_is_up_to_date_is_not_written_again(tmp_path):
    folder = fill(tmp_path, range(5)).folder
    shards(tmp_path, ".json")[0].with_name(f"{'0' * 32}.json").write_text("damaged")
    before = (folder / INDEX_NAME).stat()
    for _ in range(2):
        assert len(EmbeddingCache(tmp_path, IDENTITY).damaged) == 1
    assert (folder / INDEX_NAME).stat().st_ino == before.st_ino


def test_a_reader_goes_on_after_another_process_has_joined_shards(tmp_path):
    fill(tmp_path, range(5), HALF)
    reader = fill(tmp_path, range(5, 9), HALF)
    old = shards(tmp_path, ".json")
    fill(tmp_path, range(9), HALF)
    delete_shards(old)
    assert_holds(reader, range(9))


READ_ONLY = """
import os
from cache_files import *
from birdemb.cache.view import open_cache
root, scratch = Path(sys.argv[1]), Path(sys.argv[2])
assert_holds(fill(scratch, [1]), [1])
open_cache(scratch).gather([0, 1])  # everything is imported: root's own Python is nobody else's to read
if os.geteuid() == 0:  # whom no mode stops
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
cache = EmbeddingCache(root, IDENTITY)
assert_holds(cache, range(9))
view = open_cache(root)
np.testing.assert_array_equal(view.embeddings, cache.read(list(view.recordings["sha256"])))
np.testing.assert_array_equal(view.gather([3, 1]), view.embeddings[[3, 1]])
assert not list(root.glob("*/consolidated*")) and not os.access(root, os.W_OK)
print("read")
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="there are no modes elsewhere")
@pytest.mark.parametrize("index", ["whole", "behind", "broken", "missing"])
def test_a_folder_that_is_read_only_is_read(index, tmp_path):
    # Not below pytest's own folder, which nobody else may enter.
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        root = Path(place) / "cache"
        folder = fill(root, range(5)).folder
        old = (folder / INDEX_NAME).read_bytes()
        fill(root, range(5, 9))
        if index == "behind":
            (folder / INDEX_NAME).write_bytes(old)
        elif index == "broken":
            break_pages(folder / INDEX_NAME)
        elif index == "missing":
            (folder / INDEX_NAME).unlink()
        entries = [root, *root.rglob("*")]
        for entry in entries:
            entry.chmod(0o555 if entry.is_dir() else 0o444)
        try:
            said = subprocess.run(python(READ_ONLY, root, tmp_path), capture_output=True, text=True, check=False)
            assert (said.stdout, said.stderr) == ("read\n", "")
        finally:
            for entry in entries:
                entry.chmod(0o755)


FULL = """
import resource
from cache_files import *
from birdemb.errors import InputError
root = Path(sys.argv[1])
cache = EmbeddingCache(root, IDENTITY)
# The index of what is there is larger than any file may become from now on: as on a disk that is full.
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    with cache.writer() as writer:
        for number in range(100, 200):
            add(writer, number)
            if number % 10 == 0:
                writer.flush()
        writer.add(key(7), embed(7, 3000))
except InputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits there")
def test_a_full_disk_loses_nothing_that_was_finished(tmp_path):
    fill(tmp_path, range(60))
    said = run_python(FULL, tmp_path)
    assert "Cannot write" in said
    assert said.count("\n") == 1
    assert not list(tmp_path.glob("**/.*.partial"))
    assert len(shards(tmp_path, ".npy")) == len(shards(tmp_path, ".json"))
    cache = EmbeddingCache(tmp_path, IDENTITY)
    assert_holds(cache, [*range(60), *range(100, 100 + len(cache) - 60)])
    assert len(cache) >= 60 + 91
    assert cache.damaged == []


def test_an_index_is_read_by_threads(tmp_path):
    cache = fill(tmp_path, range(30))
    with ThreadPoolExecutor(4) as threads:
        for got in threads.map(lambda _: cache.read([key(number) for number in range(30)]), range(20)):
            assert len(got) == sum(1 + number % 4 for number in range(30))


def test_a_long_run_takes_its_recordings_into_the_index_on_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr("birdemb.cache.store._RECORDINGS_IN_MEMORY", 4)
    cache = EmbeddingCache(tmp_path, IDENTITY)
    with cache.writer() as writer:
        for number in range(20):
            add(writer, number)
            writer.flush()
            assert_holds(cache, range(number + 1))
            assert len(cache._fresh) <= 4
