"""A power cut between any two writes: whatever of them reached the disk, what was promised is there and whole."""

import itertools
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from cache_files import HALF, add, count, embed, fill, key

from birdemb.cache import EmbeddingCache
from birdemb.cache.cleaning import clean
from birdemb.cache.merging import merge

NUMBERS = range(5)
GONE = -1
FOLDER = -2


class Disk:
    """What a power cut leaves of a folder, at worst.

    Content is safe once its file was synced, a name once its folder was. Of the names in a folder that were not, all
    may have reached the disk, or none, or the last one alone; of content that was not, nothing has.

    Parameters
    ----------
    root : Path
    monkeypatch : fixture
    cut : callable
        Called with what is left, bytes by path, before each change and each sync.
    """

    def __init__(self, root, monkeypatch, cut):
        self._root, self._cut = root, cut
        self._fresh = itertools.count()
        self._files = {}  # the number of each file by its inode, which another file may get after it
        self._synced = {}  # content by number
        self._safe = self._seen = self._look()
        self._waiting = defaultdict(list)  # for each folder, changes of names that were not synced
        for name in ("fsync", "mkdir", "replace", "unlink"):
            monkeypatch.setattr(os, name, self._watched(getattr(os, name), getattr(self, f"_{name}", None)))

    def _watched(self, act, note):
        def watched(*args, **options):
            self._see()
            for reached in (slice(None), slice(0), slice(-1, None)):
                self._cut(self._left(reached))
            if note is not None:
                note(args[-1])
            result = act(*args, **options)
            self._see()
            return result

        return watched

    def _look(self):
        found = {}
        for place, folders, files in os.walk(self._root):
            folder = Path(place)
            inodes = {name: (folder / name).stat().st_ino for name in files}
            numbers = {name: self._files.setdefault(inode, next(self._fresh)) for name, inode in inodes.items()}
            found[folder] = numbers | dict.fromkeys(folders, FOLDER)
        return found

    def _see(self):
        before, self._seen = self._seen, self._look()
        for folder, names in self._seen.items():
            old = before.get(folder, {})
            changed = {name: names.get(name, GONE) for name in old | names if names.get(name) != old.get(name)}
            if changed:
                self._waiting[folder].append(changed)

    def _fsync(self, descriptor):
        status = os.fstat(descriptor)
        for folder, names in self._seen.items():
            if os.path.samestat(status, folder.stat()):
                self._safe = self._safe | {folder: names}
                self._waiting.pop(folder, None)
            for name, number in names.items():
                if number == self._files.get(status.st_ino):
                    self._synced[number] = (folder / name).read_bytes()

    def _replace(self, target):
        if Path(target).exists():
            self._files.pop(Path(target).stat().st_ino, None)

    _unlink = _replace

    def _left(self, reached, folder=None):
        folder = folder or self._root
        names = dict(self._safe.get(folder, {}))
        for change in self._waiting.get(folder, [])[reached]:
            names |= change
        left = {}
        for name, number in names.items():
            if number == FOLDER:
                left |= self._left(reached, folder / name)
            elif number != GONE:
                left[(folder / name).relative_to(self._root)] = self._synced.get(number, b"")
        return left


def assert_whole(root, promised):
    """What was promised is in the cache, and all that is in it is right."""
    cache = EmbeddingCache(root, HALF)
    assert cache.damaged == []
    found = [number for number in NUMBERS if key(number) in cache]
    assert promised <= set(found)
    for number in found:
        np.testing.assert_array_equal(cache.read([key(number)]), embed(number, count(number), dtype=np.float16))
        logits = embed(number + 1000, count(number), 3, np.float16)
        np.testing.assert_array_equal(cache.read_logits([key(number)]), logits)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="folders are synced by nobody elsewhere")
def test_a_power_cut_between_any_two_writes_loses_nothing_that_was_flushed(tmp_path, monkeypatch):
    promised, cuts = {"cache": set(), "other": set()}, []
    (tmp_path / "disk").mkdir()

    def cut(left):
        state = {place: frozenset(numbers) for place, numbers in promised.items()}
        if (left, state) not in cuts:
            cuts.append((left, state))

    root, other = tmp_path / "disk/cache", tmp_path / "disk/other"
    with monkeypatch.context() as patch:
        Disk(tmp_path / "disk", patch, cut)
        for numbers in (range(2), range(1, 4)):  # one is there twice
            with EmbeddingCache(root, HALF).writer() as writer:
                for number in numbers:
                    add(writer, number, HALF)
                    writer.flush()
                    promised["cache"].add(number)
        clean(root, shard_rows=4)
        fill(root, [4], HALF)
        promised["cache"].add(4)
        merge([root], other)
        promised["other"] |= promised["cache"]
        clean(root)
        (tmp_path / "end").mkdir()
    assert len(cuts) > 100
    monkeypatch.setattr(os, "fsync", lambda _: None)  # takes most of the time, and no power is cut from here on
    for number, (left, state) in enumerate(cuts):
        place = tmp_path / f"left-{number}"
        for path, content in left.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_bytes(content)
        for cache, numbers in state.items():
            assert_whole(place / cache, numbers)
