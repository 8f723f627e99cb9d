"""The cache: what goes in comes out, bit for bit, whatever happens in between."""

import json
import pickle
import shutil
import sqlite3

import numpy as np
import pytest
from cache_files import HALF, IDENTITY, add, assert_holds, count, embed, fill, key, run_python, shards
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birdemb.cache import EmbeddingCache, narrow
from birdemb.errors import InputError, RecordingError


@pytest.mark.parametrize("identity", [IDENTITY, HALF], ids=["float32", "float16 and logits"])
def test_what_is_written_comes_back_bit_for_bit(tmp_path, identity):
    assert_holds(fill(tmp_path, range(10), identity), range(10))
    assert_holds(EmbeddingCache(tmp_path, identity), range(10))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_files_have_the_dtype_of_the_identity(tmp_path, dtype):
    fill(tmp_path, [2], IDENTITY | {"dtype": dtype})
    assert np.load(shards(tmp_path, ".npy")[0]).dtype == dtype


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=4, max_size=4))
def test_any_finite_value_comes_back(tmp_path_factory, values):
    root = tmp_path_factory.mktemp("cache")
    row = np.array([values], np.float32)
    with EmbeddingCache(root, IDENTITY).writer() as writer:
        writer.add(key(1), row, seconds=5.0)
    assert EmbeddingCache(root, IDENTITY).read([key(1)]).tobytes() == row.tobytes()


@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_narrowing_rounds_or_refuses(values):
    row = np.array([values], np.float32)
    # Half a step above the largest float16 is where rounding goes to infinity.
    if np.abs(row).max() >= 65520:
        with pytest.raises(RecordingError, match=r"largest is .*float16 holds up to 65504; use --dtype float32"):
            narrow(row, "float16")
    else:
        narrowed = narrow(row, np.dtype("float16"))
        assert narrowed.dtype == np.float16
        np.testing.assert_allclose(narrowed.astype(np.float32), row, rtol=2**-11, atol=2**-25)
    assert narrow(row, "float32").tobytes() == row.tobytes()


def test_narrowing_tells_what_is_wrong():
    with pytest.raises(RecordingError, match=r"logits are too large: the largest is 7\.1e\+04, float16"):
        narrow(np.array([[1, -71000]], np.float32), "float16", "logits")
    for value in (np.nan, np.inf):
        with pytest.raises(RecordingError, match="its embeddings are not finite"):
            narrow(np.array([[value]], np.float32), "float16")


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
            writer.add(key(number), embed(number, 5000), seconds=25_000.0)
        assert len(shards(tmp_path, ".npy")) == 2  # before the end already
    assert len(shards(tmp_path, ".npy")) == len(shards(tmp_path, ".json")) == 3
    got = EmbeddingCache(tmp_path, IDENTITY).read([key(number) for number in range(5)])
    np.testing.assert_array_equal(got, np.concatenate([embed(number, 5000) for number in range(5)]))


def test_a_run_that_adds_nothing_writes_no_file(tmp_path):
    with EmbeddingCache(tmp_path, IDENTITY).writer():
        pass
    assert [path.name for path in tmp_path.glob("*/*")] == ["identity.json"]


def test_what_was_added_is_seen_once_it_is_flushed(tmp_path):
    cache = fill(tmp_path, [9])
    with cache.writer() as writer:
        add(writer, 1)
        assert key(1) not in cache
        writer.flush()
        assert_holds(cache, [9, 1])
        with pytest.raises(KeyError):
            cache[key(2)]
    assert cache[key(1)].windows == 2


def test_numpy_alone_can_read_a_shard(tmp_path):
    fill(tmp_path, [2])
    (array,), (sidecar,) = shards(tmp_path, ".npy"), shards(tmp_path, ".json")
    np.testing.assert_array_equal(np.load(array), embed(2, 3))
    assert json.loads(sidecar.read_text())["parts"][0]["sha256"] == key(2)


def test_a_shard_of_another_process_is_seen_by_a_newly_opened_cache(tmp_path):
    cache = fill(tmp_path, range(3))
    run_python("import cache_files; cache_files.fill(Path(sys.argv[1]), range(3, 7))", tmp_path)
    assert_holds(EmbeddingCache(tmp_path, IDENTITY), range(7))
    cache.refresh()
    assert_holds(cache, range(7))


def test_a_cache_goes_to_another_process(tmp_path):
    assert_holds(pickle.loads(pickle.dumps(fill(tmp_path, range(3)))), range(3))  # noqa: S301 - our own bytes


def test_the_same_recording_twice_is_one_entry(tmp_path):
    fill(tmp_path, [1, 1, 2])
    fill(tmp_path, [2, 3])
    cache = EmbeddingCache(tmp_path, IDENTITY)
    assert_holds(cache, [1, 2, 3])
    assert cache.damaged == []


def damage_missing(array, _sidecar):
    array.unlink()


def damage_cut(array, _sidecar):
    array.write_bytes(array.read_bytes()[:-5])


def damage_appended(array, _sidecar):
    array.write_bytes(array.read_bytes() + b"more")


def damage_empty(array, _sidecar):
    array.write_bytes(b"")


def damage_wider(array, _sidecar):
    np.save(array, np.zeros((3, 5), np.float32))


def damage_longer(array, _sidecar):
    np.save(array, np.zeros((9, 4), np.float32))


def damage_flat(array, _sidecar):
    np.save(array, np.zeros(13, np.float32))


def damage_objects(array, _sidecar):
    np.save(array, np.full((3, 4), None), allow_pickle=True)


def damage_archive(array, _sidecar):
    with array.open("wb") as file:
        np.savez(file, np.zeros((3, 4), np.float32))


def damage_float64(array, _sidecar):
    np.save(array, np.zeros((3, 4), np.float64))


def damage_sidecar_cut(_array, sidecar):
    sidecar.write_text(sidecar.read_text()[:-20])


def damage_sidecar_empty(_array, sidecar):
    sidecar.write_text("")


def damage_sidecar_binary(_array, sidecar):
    sidecar.write_bytes(bytes(range(256)))


def damage_sidecar_other(_array, sidecar):
    sidecar.write_text("[1, 2]")


def damage_sidecar_deep(_array, sidecar):
    sidecar.write_text("[" * 100_000)


def damage_sidecar_fields(_array, sidecar):
    sidecar.write_text(sidecar.read_text().replace('"first_row"', '"row"'))


def damage_sidecar_types(_array, sidecar):
    sidecar.write_text(sidecar.read_text().replace('"last": true', '"last": 12345'))


DAMAGES = [value for name, value in list(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_shard_is_passed_over_and_listed(tmp_path, damage, indexed):
    folder = fill(tmp_path, [2]).folder
    ((array,), (sidecar,)) = shards(tmp_path, ".npy"), shards(tmp_path, ".json")
    fill(tmp_path, [5, 6])
    damage(array, sidecar)
    if not indexed:
        (folder / "index.sqlite").unlink()
    for _ in range(2):  # it is not forgotten once the index has been made
        cache = EmbeddingCache(tmp_path, IDENTITY)
        assert cache.damaged == [sidecar]
        assert_holds(cache, [5, 6])
        assert key(2) not in cache
    fill(tmp_path, [2])
    assert_holds(EmbeddingCache(tmp_path, IDENTITY), [2, 5, 6])
    cache.discard_damaged()
    assert not array.exists()
    cache = EmbeddingCache(tmp_path, IDENTITY)
    assert cache.damaged == []
    assert_holds(cache, [2, 5, 6])


SIDECAR_CHANGES = {
    "windows": ('"windows": 3', '"windows": 2'),
    "first_row": ('"first_row": 0', '"first_row": 2'),
    "first_window": ('"first_window": 0', '"first_window": -1'),
    "rows": ('"rows": 3', '"rows": 9'),
}


@pytest.mark.parametrize("change", SIDECAR_CHANGES.values(), ids=SIDECAR_CHANGES)
def test_a_sidecar_that_does_not_fit_is_damaged(tmp_path, change):
    folder = fill(tmp_path, [2]).folder
    (sidecar,) = shards(tmp_path, ".json")
    assert change[0] in sidecar.read_text()
    sidecar.write_text(sidecar.read_text().replace(*change))
    (folder / "index.sqlite").unlink()
    cache = EmbeddingCache(tmp_path, IDENTITY)
    assert (cache.damaged, len(cache)) == ([sidecar], 0)


def test_logits_that_are_missing_are_damage(tmp_path):
    fill(tmp_path, [2], HALF)
    shards(tmp_path, ".logits.npy")[0].unlink()
    assert EmbeddingCache(tmp_path, HALF).damaged == shards(tmp_path, ".json")


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("kind", ["embeddings", "logits"])
def test_changed_rows_are_refused(tmp_path, kind, indexed):
    folder = fill(tmp_path, [2, 3], HALF).folder
    path = next(path for path in shards(tmp_path, ".npy") if (".logits." in path.name) == (kind == "logits"))
    rows = np.load(path)
    rows[1, 1] += 1
    np.save(path, rows)
    if not indexed:
        (folder / "index.sqlite").unlink()
    cache = EmbeddingCache(tmp_path, HALF)
    read = cache.read if kind == "embeddings" else cache.read_logits
    assert len(read([key(3)])) == 4
    with pytest.raises(InputError, match=r"is damaged: its rows .* `birdemb cache gc`.* `birdemb embed`"):
        read([key(2)])


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


def test_an_array_without_its_sidecar_does_not_count(tmp_path):
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


def test_a_dtype_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputError, match="dtype of the cache is 'int8'; expected one of float16, float32"):
        EmbeddingCache(tmp_path, IDENTITY | {"dtype": "int8"})


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
        writer.add(key(1), embed(1, 2), seconds=1.0)
        with pytest.raises(InputError, match=told):
            writer.add(key(9), embeddings, seconds=10.0)
    assert_holds(EmbeddingCache(tmp_path, IDENTITY), [1])


def test_logits_of_another_form_are_refused(tmp_path):
    rows = embed(9, 2, dtype=np.float16)
    with EmbeddingCache(tmp_path, HALF).writer() as writer:
        add(writer, 1, HALF)
        with pytest.raises(InputError, match="without logits, which this cache keeps"):
            writer.add(key(9), rows)
        for logits in (embed(9, 1, 3, np.float16), embed(9, 2, 4, np.float16), embed(9, 2, 3)):
            with pytest.raises(InputError, match="Logits of shape"):
                writer.add(key(9), rows, logits=logits)
        with pytest.raises(InputError, match="Logits that are not finite"):
            writer.add(key(9), rows, logits=np.full((2, 3), np.nan, np.float16))
    assert_holds(EmbeddingCache(tmp_path, HALF), [1])
    with EmbeddingCache(tmp_path, IDENTITY).writer() as writer, pytest.raises(InputError, match="with logits"):
        writer.add(key(9), embed(9, 2), logits=embed(9, 2, 3))
    with pytest.raises(InputError, match="holds no logits"):
        EmbeddingCache(tmp_path, IDENTITY).read_logits([])


def test_a_recording_that_is_not_cached_is_told(tmp_path):
    cache = fill(tmp_path, [1])
    with pytest.raises(InputError, match=r"2 of 3 recordings .* `birdemb embed`"):
        cache.read([key(1), key(2), key(3)])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_was_added_before_an_error_is_kept(tmp_path, error):
    def run():
        with EmbeddingCache(tmp_path, IDENTITY).writer() as writer:
            writer.add(key(1), embed(1, 2), seconds=1.0)
            raise error

    with pytest.raises(error):
        run()
    assert_holds(EmbeddingCache(tmp_path, IDENTITY), [1])


def test_many_recordings_are_found_at_once(tmp_path):
    cache = EmbeddingCache(tmp_path, IDENTITY)
    row = embed(1, 1)
    with cache.writer() as writer:
        for number in range(3000):
            writer.add(key(number), row, seconds=5.0)
    found = cache.find(key(number) for number in range(-5 + 5, 4000))
    assert set(found) == {key(number) for number in range(3000)}
    assert len(cache) == 3000


def test_other_tools_can_read_the_index(tmp_path):
    cache = fill(tmp_path, range(6))
    shutil.copy(cache.folder / "index.sqlite", tmp_path / "copy.sqlite")
    with sqlite3.connect(tmp_path / "copy.sqlite") as database:
        found = database.execute("SELECT sha256, windows, seconds FROM recordings").fetchall()
    assert sorted(found) == [(key(number), count(number), float(number)) for number in range(6)]
