"""Kills, several writers at once, and any order of everything: what was flushed comes back."""

import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from cache_files import HALF, IDENTITY, assert_holds, embed, fill, key, python, shards
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from birdemb.cache import EmbeddingCache, writer
from birdemb.cache import shards as shard_files
from birdemb.cache.cleaning import clean
from birdemb.cache.index import INDEX_NAME
from birdemb.cache.maintenance import verify
from birdemb.cache.merging import merge
from birdemb.cache.view import open_cache
from birdemb.errors import InputError

ADD_FOR_EVER = """
import itertools
from cache_files import *
cache = EmbeddingCache(Path(sys.argv[1]), HALF)
with cache.writer() as writer:
    print("ready", flush=True)
    for number in itertools.count(int(sys.argv[2])):
        add(writer, number, HALF)
        if number % 3 == 0:
            writer.flush()
        if number % 30 == 0:
            cache.refresh()
"""

ADD_SOME = """
from cache_files import *
for run in range(3):
    cache = EmbeddingCache(Path(sys.argv[1]), HALF)
    with cache.writer() as writer:
        for number in range(int(sys.argv[2]), int(sys.argv[3])):
            add(writer, number, HALF)
            writer.flush()
    assert all(key(number) in cache for number in range(int(sys.argv[2]), int(sys.argv[3])))
    assert cache.damaged == []
"""


@pytest.mark.slow
def test_after_a_kill_at_any_moment_what_is_there_is_whole(tmp_path):
    rng = np.random.default_rng(7)
    numbers = []
    for attempt in range(20):
        first = 1000 + 100_000 * attempt
        command = python(ADD_FOR_EVER, tmp_path, first)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0, 0.2))
            process.kill()
        cache = EmbeddingCache(tmp_path, HALF)
        assert cache.damaged == []
        numbers += range(first, first + len(cache) - len(numbers))
        if numbers:
            assert_holds(cache, numbers)
    assert numbers
    fill(tmp_path, [48], HALF)  # leftovers are in nobody's way
    assert_holds(EmbeddingCache(tmp_path, HALF), [48, *numbers])
    assert verify(tmp_path).problems == []


@pytest.mark.slow
def test_several_writers_at_once_are_in_nobodys_way(tmp_path):
    ranges = [(0, 30), (20, 50), (0, 50), (45, 60)]
    commands = [subprocess.Popen(python(ADD_SOME, tmp_path, *bounds)) for bounds in ranges]
    assert [command.wait() for command in commands] == [0] * len(commands)
    cache = EmbeddingCache(tmp_path, HALF)
    assert cache.damaged == []
    assert_holds(cache, range(60))
    assert not list(tmp_path.glob("**/.*.partial"))


class Cache(RuleBasedStateMachine):
    """Two processes' caches in one folder, another to merge into, and everything in any order."""

    @initialize(half=st.booleans())
    def make(self, half):
        self.identity = HALF if half else IDENTITY
        self.place = tempfile.TemporaryDirectory()
        self.root, self.other = Path(self.place.name) / "a", Path(self.place.name) / "b"
        self.flushed = set()  # parts: number, first window
        self.waiting = [set(), set()]
        self.caches = [EmbeddingCache(self.root, self.identity) for _ in range(2)]
        self.writers = [cache.writer() for cache in self.caches]

    def teardown(self):
        if hasattr(self, "place"):
            self.place.cleanup()

    def rows(self, number, width=4):
        return embed(number + width, self.count(number), width, self.identity.get("dtype", "float32"))

    @staticmethod
    def count(number):
        return 2 + number % 3

    @rule(who=st.integers(0, 1), number=st.integers(0, 6), part=st.sampled_from(["all", "first", "last"]))
    def add(self, who, number, part):
        rows, logits = self.rows(number), self.rows(number, 3) if "logits" in self.identity else None
        chosen = {"all": slice(None), "first": slice(0, 1), "last": slice(1, None)}[part]
        self.writers[who].add(
            key(number),
            rows[chosen],
            first_window=1 if part == "last" else 0,
            last=part != "first",
            seconds=float(number),
            logits=logits[chosen] if logits is not None else None,
        )
        self.waiting[who].add((number, part))

    @rule(who=st.integers(0, 1))
    def flush(self, who):
        self.writers[who].flush()
        assert all(key(number) in self.caches[who] for number, part in self.waiting[who] if part == "all")
        self.flushed |= self.waiting[who]
        self.waiting[who] = set()

    @rule(who=st.integers(0, 1))
    def end_and_open(self, who):
        with self.writers[who]:
            pass
        self.flushed |= self.waiting[who]
        self.waiting[who] = set()
        self.caches[who] = EmbeddingCache(self.root, self.identity)
        self.writers[who] = self.caches[who].writer()

    @rule(rows=st.integers(1, 12))
    def join(self, rows):
        clean(self.root, shard_rows=rows)

    @rule()
    def copy(self):
        merge([self.root], self.other)
        self.look(EmbeddingCache(self.other, self.identity))
        assert merge([self.root], self.other).copied == 0

    @rule()
    def lose_the_index(self):
        (self.caches[0].folder / INDEX_NAME).unlink(missing_ok=True)

    @rule()
    def view(self):
        view = open_cache(self.root)
        assert {int(sha256, 16) for sha256 in view.recordings["sha256"]} == self.complete()
        for row in view.recordings.itertuples():
            got = view.embeddings[row.first_row : row.first_row + row.windows]
            np.testing.assert_array_equal(got, self.rows(int(row.sha256, 16)))
        np.testing.assert_array_equal(view.gather(np.arange(len(view))[::-1]), view.embeddings[::-1])

    def is_complete(self, number):
        return (number, "all") in self.flushed or {(number, "first"), (number, "last")} <= self.flushed

    def complete(self):
        return {number for number, _ in self.flushed if self.is_complete(number)}

    def look(self, cache):
        complete = sorted(self.complete())
        assert cache.damaged == []
        assert len(cache) == len(complete)
        got = cache.read([key(number) for number in complete])
        expected = [self.rows(number) for number in complete]
        np.testing.assert_array_equal(got, np.concatenate([np.empty((0, 4)), *expected]))
        if cache.logits_width:
            got = cache.read_logits([key(number) for number in complete])
            expected = [self.rows(number, 3) for number in complete]
            np.testing.assert_array_equal(got, np.concatenate([np.empty((0, 3)), *expected]))
        parts = {(number, int(part == "last")) for number, part in self.flushed if number not in self.complete()}
        found = cache.find_parts(key(number) for number in range(7))
        assert {(int(sha256, 16), first) for sha256, firsts in found.items() for first in firsts} == parts

    @invariant()
    def what_was_flushed_comes_back(self):
        if hasattr(self, "root"):
            self.look(EmbeddingCache(self.root, self.identity))


TestAnyOrder = pytest.mark.slow(Cache.TestCase)
TestAnyOrder.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_shards_have_names_of_their_own(tmp_path):
    for _ in range(5):
        fill(tmp_path, [1])
    assert len({path.stem for path in shards(tmp_path, ".json")}) == 5


def test_ctrl_c_in_the_middle_of_adding_keeps_what_was_added_before(tmp_path, monkeypatch):
    cache = EmbeddingCache(tmp_path, IDENTITY)
    hash_rows = writer.hash_rows

    def interrupt(rows):
        if len(rows) == 4:
            raise KeyboardInterrupt
        return hash_rows(rows)

    monkeypatch.setattr(writer, "hash_rows", interrupt)
    with pytest.raises(KeyboardInterrupt), cache.writer() as writing:  # noqa: PT012 - its end is what is tested
        for number in (1, 2, 3):
            writing.add(key(number), embed(number, 1 + number), seconds=5.0)
    again = EmbeddingCache(tmp_path, IDENTITY)
    assert not again.damaged
    assert set(again.find([key(1), key(2), key(3)])) == {key(1), key(2)}
    np.testing.assert_array_equal(again.read([key(2)]), embed(2, 3))


def test_an_array_that_another_gc_took_is_not_spoken_of(tmp_path, monkeypatch):
    cache = fill(tmp_path, range(3))
    write = shard_files.replace_atomically

    def take(path):
        if path.suffix == ".json":
            path.with_suffix(".npy").unlink()
        return write(path)

    monkeypatch.setattr(shard_files, "replace_atomically", take)
    with pytest.raises(InputError, match="removed while it was written"), cache.writer() as writing:
        writing.add(key(9), embed(9), seconds=5.0)
    monkeypatch.undo()
    assert_holds(EmbeddingCache(tmp_path, IDENTITY), range(3))
