"""The cache: what goes in comes out, bit for bit, whatever happens in between."""

import json
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birdemb.cache import EmbeddingCache
from birdemb.errors import InputError

TESTS = Path(__file__).parent
IDENTITY = {"encoder": "melspec", "dim": 4, "window": 5.0, "hop": 5.0}


def key(number):
    return f"{number:064x}"


def embed(number, windows=3, dim=4):
    """An embedding that follows from its key."""
    return np.random.default_rng(number).normal(size=(windows, dim)).astype(np.float32)


def fill(root, numbers, identity=IDENTITY):
    cache = EmbeddingCache(root, identity)
    with cache.writer() as writer:
        for number in numbers:
            writer.add(key(number), embed(number, 1 + number % 4), seconds=float(number))
    return cache


def shards(root, suffix):
    return sorted(root.glob(f"*/shards/*{suffix}"))


def assert_holds(cache, numbers):
    assert len(cache) == len(numbers)
    for number in numbers:
        assert key(number) in cache
        assert cache[key(number)].windows == 1 + number % 4
        assert cache[key(number)].seconds == number
    expected = [embed(number, 1 + number % 4) for number in numbers]
    got = cache.read([key(number) for number in numbers])
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, np.concatenate(expected))


def test_what_is_written_comes_back_bit_for_bit(tmp_path):
    assert_holds(fill(tmp_path, range(10)), range(10))
    assert_holds(EmbeddingCache(tmp_path, IDENTITY), range(10))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=4, max_size=4))
def test_any_finite_value_comes_back(tmp_path_factory, values):
    root = tmp_path_factory.mktemp("cache")
    row = np.array([values], np.float32)
    with EmbeddingCache(root, IDENTITY).writer() as writer:
        writer.add(key(1), row, 5.0)
    assert EmbeddingCache(root, IDENTITY).read([key(1)]).tobytes() == row.tobytes()


def test_recordings_are_read_in_the_order_asked_for_and_more_than_once(tmp_path):
    fill(tmp_path, range(3))
    fill(tmp_path, range(3, 6))
    got = EmbeddingCache(tmp_path, IDENTITY).read([key(4), key(1), key(4)])
    np.testing.assert_array_equal(got, np.concatenate([embed(4, 1), embed(1, 2), embed(4, 1)]))


def test_nothing_is_read_as_no_rows(tmp_path):
    assert EmbeddingCache(tmp_path, IDENTITY).read([]).shape == (0, 4)


def test_large_runs_are_split_into_shards(tmp_path):
    cache = EmbeddingCache(tmp_path, IDENTITY)
    with cache.writer() as writer:
        for number in range(5):
            writer.add(key(number), embed(number, 5000), 25_000.0)
        assert len(shards(tmp_path, ".npy")) == 2  # before the end already
    assert len(shards(tmp_path, ".npy")) == len(shards(tmp_path, ".json")) == 3
    got = EmbeddingCache(tmp_path, IDENTITY).read([key(number) for number in range(5)])
    np.testing.assert_array_equal(got, np.concatenate([embed(number, 5000) for number in range(5)]))


def test_a_run_that_adds_nothing_writes_no_shard(tmp_path):
    with EmbeddingCache(tmp_path, IDENTITY).writer():
        pass
    assert not shards(tmp_path, "")


def test_numpy_alone_can_read_a_shard(tmp_path):
    fill(tmp_path, [2])
    (array,), (index,) = shards(tmp_path, ".npy"), shards(tmp_path, ".json")
    np.testing.assert_array_equal(np.load(array), embed(2, 3))
    assert json.loads(index.read_text())["recordings"][0]["sha256"] == key(2)


def test_a_shard_of_another_process_is_seen_by_a_newly_opened_cache(tmp_path):
    fill(tmp_path, range(3))
    script = "import sys; sys.path.insert(0, sys.argv[1]); import test_cache as t; from pathlib import Path; "
    script += "t.fill(Path(sys.argv[2]), range(3, 7))"
    subprocess.run([sys.executable, "-c", script, str(TESTS), str(tmp_path)], check=True)
    assert_holds(EmbeddingCache(tmp_path, IDENTITY), range(7))


def test_the_same_recording_twice_is_one_entry(tmp_path):
    fill(tmp_path, [1, 1, 2])
    fill(tmp_path, [2, 3])
    cache = EmbeddingCache(tmp_path, IDENTITY)
    assert_holds(cache, [1, 2, 3])
    assert cache.damaged == []


def damage_missing(array, _index):
    array.unlink()


def damage_cut(array, _index):
    array.write_bytes(array.read_bytes()[:-5])


def damage_empty(array, _index):
    array.write_bytes(b"")


def damage_wider(array, _index):
    np.save(array, np.zeros((3, 5), np.float32))


def damage_longer(array, _index):
    np.save(array, np.zeros((9, 4), np.float32))


def damage_flat(array, _index):
    np.save(array, np.zeros(12, np.float32))


def damage_objects(array, _index):
    np.save(array, np.full((3, 4), None), allow_pickle=True)


def damage_index_cut(_array, index):
    index.write_text(index.read_text()[:-20])


def damage_index_empty(_array, index):
    index.write_text("")


def damage_index_binary(_array, index):
    index.write_bytes(bytes(range(256)))


def damage_index_other(_array, index):
    index.write_text("[1, 2]")


def damage_index_rows(_array, index):
    index.write_text(index.read_text().replace('"windows": 3', '"windows": 2'))


def damage_index_fields(_array, index):
    index.write_text(index.read_text().replace('"first_row"', '"row"'))


def damage_index_first_row(_array, index):
    index.write_text(index.read_text().replace('"first_row": 0', '"first_row": 2'))


def damage_float64(array, _index):
    np.save(array, np.zeros((3, 4), np.float64))


DAMAGES = [value for name, value in list(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_shard_is_passed_over_and_listed(tmp_path, damage):
    fill(tmp_path, [2])
    ((array,), (index,)) = shards(tmp_path, ".npy"), shards(tmp_path, ".json")
    fill(tmp_path, [5, 6])
    damage(array, index)
    cache = EmbeddingCache(tmp_path, IDENTITY)
    assert cache.damaged == [index]
    assert_holds(cache, [5, 6])
    assert key(2) not in cache
    fill(tmp_path, [2])
    assert_holds(EmbeddingCache(tmp_path, IDENTITY), [2, 5, 6])


class Marker:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("form", ["pickle", "object array"])
def test_pickles_in_the_cache_are_never_loaded(tmp_path, form):
    fill(tmp_path / "cache", [2])
    (array,) = shards(tmp_path / "cache", ".npy")
    if form == "pickle":
        array.write_bytes(pickle.dumps(Marker(tmp_path / "ran")))
    else:
        np.save(array, np.array([[Marker(tmp_path / "ran")] * 4] * 3), allow_pickle=True)
    assert len(EmbeddingCache(tmp_path / "cache", IDENTITY)) == 0
    assert not (tmp_path / "ran").exists()


def test_an_array_without_its_index_does_not_count(tmp_path):
    fill(tmp_path, [2])
    shards(tmp_path, ".json")[0].unlink()
    cache = EmbeddingCache(tmp_path, IDENTITY)
    assert len(cache) == 0
    assert cache.damaged == []


@pytest.mark.parametrize("changed", [{"hop": 2.5}, {"dim": 5}, {"encoder": "birdnet"}, {"more": None}])
def test_another_identity_has_another_folder(tmp_path, changed):
    first, second = EmbeddingCache(tmp_path, IDENTITY), EmbeddingCache(tmp_path, IDENTITY | changed)
    assert first.folder != second.folder
    assert json.loads((second.folder / "identity.json").read_text()) == IDENTITY | changed


def test_the_order_of_an_identity_does_not_matter(tmp_path):
    fill(tmp_path, range(3))
    assert_holds(EmbeddingCache(tmp_path, dict(reversed(IDENTITY.items()))), range(3))


def test_a_folder_of_another_identity_is_refused_with_both_values(tmp_path):
    folder = fill(tmp_path, [1]).folder
    (folder / "identity.json").write_text(json.dumps(IDENTITY | {"hop": 2.5}))
    with pytest.raises(InputError, match=r"hop is 2\.5, expected 5\.0") as caught:
        EmbeddingCache(tmp_path, IDENTITY)
    assert str(folder) in str(caught.value)


def test_an_identity_that_is_no_json_is_refused(tmp_path):
    folder = fill(tmp_path, [1]).folder
    (folder / "identity.json").write_text("{")
    with pytest.raises(InputError, match=r"identity\.json is no valid JSON"):
        EmbeddingCache(tmp_path, IDENTITY)


@pytest.mark.parametrize(
    ("embeddings", "told"),
    [
        (np.full((2, 4), np.nan, np.float32), "not finite"),
        (np.array([[0, 0, 0, np.inf]], np.float32), "not finite"),
        (np.zeros((2, 5), np.float32), r"shape \(2, 5\)"),
        (np.zeros(4, np.float32), r"shape \(4,\)"),
        (np.zeros((2, 4)), "float64"),
        (np.zeros((2, 4), np.float16), "float16"),
    ],
)
def test_embeddings_of_another_form_are_refused_and_the_others_kept(tmp_path, embeddings, told):
    cache = EmbeddingCache(tmp_path, IDENTITY)
    with cache.writer() as writer:
        writer.add(key(1), embed(1, 2), 1.0)
        with pytest.raises(InputError, match=told):
            writer.add(key(9), embeddings, 10.0)
    assert_holds(EmbeddingCache(tmp_path, IDENTITY), [1])


def test_a_recording_that_is_not_cached_is_told(tmp_path):
    cache = fill(tmp_path, [1])
    with pytest.raises(InputError, match=r"2 of 3 recordings .* `birdemb embed`"):
        cache.read([key(1), key(2), key(3)])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_was_added_before_an_error_is_kept(tmp_path, error):
    def run():
        with EmbeddingCache(tmp_path, IDENTITY).writer() as writer:
            writer.add(key(1), embed(1, 2), 1.0)
            raise error

    with pytest.raises(error):
        run()
    assert_holds(EmbeddingCache(tmp_path, IDENTITY), [1])


ADD_FOR_EVER = """
import itertools, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_cache import IDENTITY, embed, key
from birdemb.cache import EmbeddingCache
cache = EmbeddingCache(Path(sys.argv[2]), IDENTITY)
with cache.writer() as writer:
    print("ready", flush=True)
    for number in itertools.count(int(sys.argv[3])):
        writer.add(key(number), embed(number, 1 + number % 4), float(number))
        if number % 3 == 0:
            writer.flush()
"""


@pytest.mark.slow
def test_after_a_kill_at_any_moment_what_is_there_is_whole(tmp_path):
    rng = np.random.default_rng(7)
    numbers = []
    for attempt in range(10):
        first = 1000 + 100_000 * attempt
        command = [sys.executable, "-c", ADD_FOR_EVER, str(TESTS), str(tmp_path), str(first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0, 0.3))
            process.kill()
        cache = EmbeddingCache(tmp_path, IDENTITY)
        assert cache.damaged == []
        numbers += range(first, first + len(cache) - len(numbers))
        if numbers:
            assert_holds(cache, numbers)
    assert numbers
    fill(tmp_path, [50])  # leftovers are in nobody's way
    assert_holds(EmbeddingCache(tmp_path, IDENTITY), [50, *numbers])
