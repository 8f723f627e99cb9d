"""Looking after the cache: info, verify, merge and gc never lose what is whole."""

import json
import os
import shutil
import subprocess
import time

import numpy as np
import pytest
from cache_files import HALF, IDENTITY, add, assert_holds, count, embed, fill, key, python, shards
from test_cache_view import assert_view_holds, remember

from birdemb.cache import EmbeddingCache
from birdemb.cache.cleaning import clean
from birdemb.cache.maintenance import info, verify
from birdemb.cache.merging import merge
from birdemb.cache.shards import Part, hash_rows, write_shard
from birdemb.cache.view import open_cache
from birdemb.errors import InputError

LONG = key(77)


def damage_rows(root, number, identity=IDENTITY):
    """Change the rows of one recording, and nothing else of its shard."""
    for sidecar in shards(root, ".json"):
        for part in json.loads(sidecar.read_text())["parts"]:
            if part["sha256"] == key(number):
                rows = np.load(sidecar.with_suffix(".npy"))
                rows[part["first_row"]] += 1
                np.save(sidecar.with_suffix(".npy"), rows)


def age(path, seconds=4000):
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_info_counts(tmp_path):
    with fill(tmp_path, range(8), HALF).writer() as writer:
        rows = embed(1, 2, dtype=np.float16)
        writer.add(LONG, rows, last=False, logits=embed(1, 2, 3, np.float16))
    fill(tmp_path, [1], IDENTITY | {"encoder": "abc"})
    shards(tmp_path, ".json")[-1].with_name("f.json").write_text("x")
    first, second = info(tmp_path)
    assert (first.identity["encoder"], first.recordings, first.shards) == ("abc", 1, 1)
    assert (second.recordings, second.unfinished, second.shards, len(second.damaged)) == (8, 1, 2, 1)
    assert (second.windows, second.seconds) == (sum(map(count, range(8))), sum(range(8)))
    assert second.size == sum(path.stat().st_size for path in second.folder.rglob("*") if path.is_file())


def test_verify_finds_nothing_in_a_whole_cache(tmp_path):
    fill(tmp_path, range(8), HALF)
    report = verify(tmp_path)
    assert (report.problems, report.shards, report.parts) == ([], 1, 8)
    assert report.size == report.windows * 7 * 2


def test_verify_finds_what_is_damaged(tmp_path):
    for number in range(4):
        fill(tmp_path, [number, number + 4], HALF)
    damage_rows(tmp_path, 5)
    paths = {}
    for sidecar in shards(tmp_path, ".json"):
        paths[json.loads(sidecar.read_text())["parts"][0]["sha256"]] = sidecar
    paths[key(2)].with_suffix(".logits.npy").unlink()
    paths[key(3)].write_text("{")
    problems = verify(tmp_path).problems
    assert {problem.path.name.partition(".")[0] for problem in problems} == {paths[key(n)].stem for n in (1, 2, 3)}
    assert any(key(5) in problem.reason for problem in problems)
    assert not any(key(1) in problem.reason for problem in problems)


def test_verify_finds_values_that_are_not_finite(tmp_path):
    cache = EmbeddingCache(tmp_path, IDENTITY)
    rows = np.full((2, 4), np.nan, np.float32)
    write_shard(cache.folder, cache.form, [Part(key(1), 0, 2, 0, True, 10.0, hash_rows(rows))], [rows])
    (problem,) = verify(tmp_path).problems
    assert "not finite" in problem.reason


def test_verify_finds_an_identity_that_is_not_the_folder_s(tmp_path):
    folder = fill(tmp_path, [1]).folder
    (folder / "identity.json").write_text(json.dumps(IDENTITY | {"hop": 2.5}))
    (problem,) = verify(tmp_path).problems
    assert "identity.json was changed" in problem.reason


def test_merge_copies_what_is_new_and_nothing_twice(tmp_path):
    a, b, c = (tmp_path / name for name in "abc")
    fill(a, range(6), HALF)
    fill(a, range(6, 9), HALF)
    fill(b, range(4, 12), HALF)
    fill(b, [1], IDENTITY)
    report = merge([a, b], c)
    assert_holds(EmbeddingCache(c, HALF), range(12))
    assert_holds(EmbeddingCache(c, IDENTITY), [1])
    assert (report.copied, report.known, report.problems) == (13, 5, [])
    before = sorted(c.rglob("*"))
    report = merge([b, a], c)
    assert (report.copied, report.known) == (0, 18)
    assert sorted(c.rglob("*")) == before
    assert verify(c).problems == []
    for source in (a, b):  # read only, and nothing of it is linked
        assert not any(path.stat().st_nlink > 1 for path in source.rglob("*.npy"))


def test_merge_puts_the_parts_of_a_recording_together(tmp_path):
    rows = embed(77, 10)
    for name, (first, end) in {"a": (0, 4), "b": (4, 10), "c": (4, 10)}.items():
        with EmbeddingCache(tmp_path / name, IDENTITY).writer() as writer:
            writer.add(LONG, rows[first:end], first_window=first, last=end == 10, seconds=50.0)
    report = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert (report.copied, report.known) == (1, 1)
    np.testing.assert_array_equal(EmbeddingCache(tmp_path / "c", IDENTITY).read([LONG]), rows)


def test_merge_leaves_out_what_is_damaged_and_says_so(tmp_path):
    fill(tmp_path / "a", range(5))
    fill(tmp_path / "a", [8])
    damage_rows(tmp_path / "a", 3)
    (tmp_path / "a" / "old-1").mkdir()
    (tmp_path / "a" / "old-1" / "identity.json").write_text(json.dumps(IDENTITY | {"format": 1}))
    report = merge([tmp_path / "a"], tmp_path / "b")
    assert_holds(EmbeddingCache(tmp_path / "b", IDENTITY), [0, 1, 2, 4, 8])
    assert len(report.problems) == 2
    assert any(key(3) in problem.reason for problem in report.problems)
    assert any("format 1" in problem.reason for problem in report.problems)


def test_merge_into_itself_or_of_nothing_is_refused(tmp_path):
    folder = fill(tmp_path / "cache", [1]).folder
    for into in (tmp_path, tmp_path / "cache"):
        with pytest.raises(InputError, match="into itself"):
            merge([tmp_path], into)
    with pytest.raises(InputError, match="is the folder of one identity"):
        merge([tmp_path], folder)
    with pytest.raises(InputError, match="No cache of embeddings"):
        merge([tmp_path / "none"], tmp_path / "cache")


def test_gc_joins_small_shards_and_is_done_then(tmp_path):
    for number in range(12):
        fill(tmp_path, [number], HALF)
    assert clean(tmp_path, dry_run=True).joined == 12
    assert len(shards(tmp_path, ".json")) == 12
    report = clean(tmp_path)
    assert (report.joined, report.written, report.problems) == (12, 1, [])
    assert report.freed > 0
    assert len(shards(tmp_path, ".npy")) == 2  # with the logits
    assert_holds(EmbeddingCache(tmp_path, HALF), range(12))
    report = clean(tmp_path)
    assert (report.joined, report.written, report.freed) == (0, 0, 0)
    view = open_cache(tmp_path)
    assert_view_holds(view, range(12), np.float16)
    assert not list(view.folder.glob("consolidated*"))


@pytest.mark.slow
def test_gc_makes_shards_of_the_size_asked_for(tmp_path):
    for number in range(40):
        fill(tmp_path, [number])
    clean(tmp_path, shard_rows=20)
    rows = sorted(json.loads(path.read_text())["rows"] for path in shards(tmp_path, ".json"))
    assert sum(rows) == 100
    assert rows[1] >= 20
    assert rows[-1] < 24
    assert clean(tmp_path, shard_rows=20).joined == 0
    assert_holds(EmbeddingCache(tmp_path, IDENTITY), range(40))


def test_gc_joins_the_scattered_parts_of_a_recording(tmp_path):
    rows = embed(77, 12)
    for first in (8, 0, 4):
        with EmbeddingCache(tmp_path, IDENTITY).writer() as writer:
            writer.add(LONG, rows[first : first + 4], first_window=first, last=first == 8, seconds=60.0)
            add(writer, first)
    clean(tmp_path)
    view = open_cache(tmp_path)
    assert not list(view.folder.glob("consolidated*"))
    np.testing.assert_array_equal(view.embeddings[(view.windows["sha256"] == LONG).to_numpy()], rows)
    assert not list(view.folder.glob("consolidated*"))


def test_gc_removes_what_is_damaged_and_keeps_the_rest_of_its_shard(tmp_path):
    fill(tmp_path, range(5))
    fill(tmp_path, [8, 9])
    damage_rows(tmp_path, 3)
    fill(tmp_path, [12])
    paths = {json.loads(path.read_text())["parts"][0]["sha256"]: path for path in shards(tmp_path, ".json")}
    paths[key(12)].with_suffix(".npy").write_bytes(b"")
    assert len(clean(tmp_path, dry_run=True).problems) == 2
    assert len(verify(tmp_path).problems) == 2
    report = clean(tmp_path)
    assert len(report.problems) == 2
    assert verify(tmp_path).problems == []
    assert_holds(EmbeddingCache(tmp_path, IDENTITY), [0, 1, 2, 4, 8, 9])
    assert EmbeddingCache(tmp_path, IDENTITY).damaged == []


def test_gc_keeps_a_whole_copy_of_what_is_damaged_elsewhere(tmp_path):
    fill(tmp_path, [1, 2])
    damage_rows(tmp_path, 1)
    fill(tmp_path / "other", [1])
    merge_target = EmbeddingCache(tmp_path, IDENTITY).folder
    for path in (tmp_path / "other").glob("*/shards/*"):
        shutil.copy(path, merge_target / "shards")
    shutil.rmtree(tmp_path / "other")
    clean(tmp_path)
    assert_holds(EmbeddingCache(tmp_path, IDENTITY), [1, 2])


def test_gc_removes_duplicates(tmp_path):
    for _ in range(3):
        fill(tmp_path, range(4))
    report = clean(tmp_path)
    assert (report.duplicates, report.joined, report.written) == (8, 3, 1)
    assert json.loads(shards(tmp_path, ".json")[0].read_text())["rows"] == 10
    assert_holds(EmbeddingCache(tmp_path, IDENTITY), range(4))


def test_gc_removes_leftovers_once_they_are_old(tmp_path):
    folder = fill(tmp_path, [1]).folder
    leftovers = [folder / ".a.partial", *(folder / "shards" / name for name in (".b.partial", "c.npy", "d.logits.npy"))]
    for path in leftovers:
        path.write_bytes(b"something")
    assert clean(tmp_path).leftovers == []
    for path in leftovers[:3]:
        age(path)
    age(shards(tmp_path, ".json")[0])
    assert sorted(clean(tmp_path, dry_run=True).leftovers) == sorted(leftovers[:3])
    assert sorted(clean(tmp_path).leftovers) == sorted(leftovers[:3])
    assert [path.exists() for path in leftovers] == [False, False, False, True]
    assert_holds(EmbeddingCache(tmp_path, IDENTITY), [1])


def test_gc_keeps_unfinished_recordings_unless_told(tmp_path):
    with fill(tmp_path, [1]).writer() as writer:
        for _ in range(2):
            writer.add(LONG, embed(77, 4), first_window=0, last=False)
            writer.add(LONG, embed(78, 4), first_window=8, last=False)
    clean(tmp_path)
    assert EmbeddingCache(tmp_path, IDENTITY).find_parts([LONG]) == {LONG: {0, 8}}
    assert clean(tmp_path, unfinished=True).unfinished == 0  # a run may be at it
    for path in shards(tmp_path, ".json"):
        age(path)
    assert clean(tmp_path, unfinished=True).unfinished == 2
    cache = EmbeddingCache(tmp_path, IDENTITY)
    assert cache.find_parts([LONG]) == {}
    assert_holds(cache, [1])


def test_gc_removes_what_is_not_listed_if_told(tmp_path):
    fill(tmp_path / "cache", range(8))
    with pytest.raises(InputError, match="No listing of recordings"):
        clean(tmp_path, unlisted=True)
    remember(tmp_path, [2, 5])
    for sidecar in shards(tmp_path / "cache", ".json"):
        age(sidecar)
    assert clean(tmp_path, unlisted=True).unlisted == 6
    assert_holds(EmbeddingCache(tmp_path / "cache", IDENTITY), [2, 5])


def test_gc_removes_outdated_joined_arrays(tmp_path):
    fill(tmp_path, [1])
    fill(tmp_path, [2])
    view = open_cache(tmp_path)
    assert len(view.embeddings)
    assert list(view.folder.glob("consolidated*"))
    clean(tmp_path)
    assert not list(view.folder.glob("consolidated*"))


def test_gc_leaves_another_format_alone(tmp_path):
    folder = fill(tmp_path, [1]).folder
    (folder / "identity.json").write_text(json.dumps(IDENTITY | {"format": 1}))
    before = sorted(tmp_path.rglob("*"))
    (problem,) = clean(tmp_path).problems
    assert "left alone" in problem.reason
    assert sorted(tmp_path.rglob("*")) == before


def test_an_array_that_cannot_be_read_is_not_deleted(tmp_path):
    fill(tmp_path, [1])
    (array,) = shards(tmp_path, ".npy")
    array.unlink()
    array.mkdir()  # reading it fails, even for root
    for work in (clean, lambda root: EmbeddingCache(root, IDENTITY)):
        with pytest.raises(InputError, match="cannot be read"):
            work(tmp_path)
    assert array.exists()
    assert shards(tmp_path, ".json")


CLEAN_FOR_EVER = """
from birdemb.cache.cleaning import clean
root = Path(sys.argv[1])
print("ready", flush=True)
for rows in range(10, 10_000):
    clean(root, shard_rows=10 + rows % 37)
"""


@pytest.mark.slow
def test_a_kill_of_gc_at_any_moment_loses_nothing(tmp_path):
    rng = np.random.default_rng(3)
    for number in range(40):
        fill(tmp_path, [number, (number + 1) % 40], HALF)
    for _ in range(12):
        with subprocess.Popen(python(CLEAN_FOR_EVER, tmp_path), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0, 0.4))
            process.kill()
        cache = EmbeddingCache(tmp_path, HALF)
        assert cache.damaged == []
        assert_holds(cache, range(40))


@pytest.mark.slow
def test_several_gc_at_the_same_time_while_a_run_writes_loses_nothing(tmp_path):
    for number in range(40):
        fill(tmp_path, [number, (number + 1) % 40], HALF)
    reader = EmbeddingCache(tmp_path, HALF)
    view = open_cache(tmp_path)
    rows = np.arange(len(view))
    before = view.gather(rows)
    commands = [subprocess.Popen(python(CLEAN_FOR_EVER, tmp_path), stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        for command in commands:
            assert command.stdout.readline() == "ready\n"
        for number in range(100, 130):
            fill(tmp_path, [number], HALF)
        assert_holds(EmbeddingCache(tmp_path, HALF), [*range(40), *range(100, 130)])
    finally:
        for command in commands:
            assert command.poll() is None  # neither has failed
            command.kill()
            command.communicate()
    got = reader.read([key(number) for number in range(40)])
    np.testing.assert_array_equal(got, np.concatenate([embed(n, count(n), dtype=np.float16) for n in range(40)]))
    np.testing.assert_array_equal(view.gather(rows), before)
    clean(tmp_path)
    assert_holds(EmbeddingCache(tmp_path, HALF), [*range(40), *range(100, 130)])


def test_gc_keeps_what_a_run_that_goes_on_has_written_though_nothing_lists_it_yet(tmp_path):
    workspace = tmp_path / "w"
    fill(workspace / "cache", [1])
    remember(workspace, [1])
    fill(workspace / "cache", [2])
    clean(workspace, unlisted=True)
    assert_holds(EmbeddingCache(workspace / "cache", IDENTITY), [1, 2])
