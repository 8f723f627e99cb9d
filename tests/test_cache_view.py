"""Reading a cache as tables and arrays."""

import json

import numpy as np
import pandas as pd
import pytest
from cache_files import HALF, IDENTITY, add, count, embed, fill, key, shards
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from birdemb.cache import EmbeddingCache
from birdemb.cache.cleaning import clean
from birdemb.cache.shards import delete_shards
from birdemb.cache.view import open_cache
from birdemb.errors import InputError
from birdemb.listing import EmbeddedRecording, Listing


def assert_view_holds(view, numbers, dtype=np.float32):
    """The tables and arrays say the same, and it is what was written."""
    recordings, windows = view.recordings, view.windows
    assert sorted(recordings["sha256"]) == sorted(key(number) for number in numbers)
    assert len(view) == len(windows) == len(view.embeddings) == sum(count(number) for number in numbers)
    for row in recordings.itertuples():
        number = int(row.sha256, 16)
        mine = windows["sha256"] == row.sha256
        assert (row.windows, row.seconds) == (count(number), number)
        assert np.flatnonzero(mine).tolist() == list(range(row.first_row, row.first_row + row.windows))
        assert windows.loc[mine, "start"].tolist() == [5.0 * window for window in range(count(number))]
        np.testing.assert_array_equal(view.embeddings[mine], embed(number, count(number), dtype=dtype))
        if view.logits is not None:
            np.testing.assert_array_equal(view.logits[mine], embed(number + 1000, count(number), 3, dtype))
    assert (windows["end"] - windows["start"] == 5.0).all()


@pytest.mark.parametrize("identity", [IDENTITY, HALF], ids=["float32", "float16 and logits"])
@pytest.mark.parametrize("runs", [1, 3])
def test_tables_and_arrays_fit_each_other(tmp_path, identity, runs):
    for run in range(runs):
        fill(tmp_path, range(run * 5, run * 5 + 6), identity)  # one recording of each run is there twice
    view = open_cache(tmp_path)
    dtype = np.dtype(identity.get("dtype", "float32"))
    assert_view_holds(view, range(runs * 5 + 1), dtype)
    assert view.embeddings.dtype == dtype
    assert isinstance(view.embeddings, np.memmap)
    assert not view.embeddings.flags.writeable
    assert view.identity == identity
    consolidated = list(view.folder.glob("consolidated-*.npy"))
    assert len(consolidated) == (0 if runs == 1 else 1 + (identity is HALF))


def test_one_joined_array_is_used_until_shards_are_added(tmp_path):
    fill(tmp_path, range(3))
    fill(tmp_path, range(3, 6))
    view = open_cache(tmp_path)
    assert len(view.embeddings) == len(view)
    (first,) = view.folder.glob("consolidated-*.npy")
    made = first.stat()
    assert len(open_cache(tmp_path).embeddings) == len(view)
    assert first.stat().st_ino == made.st_ino
    fill(tmp_path, [7])
    assert_view_holds(open_cache(tmp_path), [*range(6), 7])
    (second,) = view.folder.glob("consolidated-*.npy")
    assert second != first


def test_a_joined_array_that_is_cut_is_made_anew(tmp_path):
    fill(tmp_path, range(3))
    fill(tmp_path, range(3, 6))
    view = open_cache(tmp_path)
    assert len(view.embeddings)
    (array,) = view.folder.glob("consolidated-*.npy")
    array.write_bytes(array.read_bytes()[:-7])
    assert_view_holds(open_cache(tmp_path), range(6))


def test_damaged_rows_do_not_get_into_the_joined_array(tmp_path):
    fill(tmp_path, range(3))
    fill(tmp_path, range(3, 6))
    array = shards(tmp_path, ".npy")[0]
    rows = np.load(array)
    rows[1] += 1
    np.save(array, rows)
    with pytest.raises(InputError, match="its rows are not the ones that were written"):
        _ = open_cache(tmp_path).embeddings
    assert not list(tmp_path.glob("*/consolidated*"))


def test_unfinished_recordings_are_left_out(tmp_path):
    cache = EmbeddingCache(tmp_path, IDENTITY)
    with cache.writer() as writer:
        writer.add(key(50), embed(50, 4), first_window=0, last=False)
        add(writer, 1)
        writer.add(key(51), embed(51, 4), first_window=4, last=True, seconds=40.0)
        add(writer, 2)
    assert_view_holds(open_cache(tmp_path), [1, 2])


def test_scattered_parts_are_put_together(tmp_path):
    rows = embed(7, 12)
    for first in (8, 0, 4):
        with EmbeddingCache(tmp_path, IDENTITY).writer() as writer:
            writer.add(key(7), rows[first : first + 4], first_window=first, last=first == 8, seconds=60.0)
            add(writer, first)
    view = open_cache(tmp_path)
    mine = view.windows["sha256"] == key(7)
    np.testing.assert_array_equal(view.embeddings[mine], rows)
    assert view.windows.loc[mine, "start"].tolist() == [5.0 * window for window in range(12)]
    wanted = np.random.default_rng(0).integers(0, len(view), 40)
    np.testing.assert_array_equal(view.gather(wanted), view.embeddings[wanted])


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(st.integers(0, 28), max_size=60))
def test_any_rows_are_gathered_in_the_order_asked_for(gathered_view, rows):
    np.testing.assert_array_equal(gathered_view.gather(rows), gathered_view.embeddings[np.array(rows, int)])
    logits = gathered_view.gather(rows, logits=True)
    np.testing.assert_array_equal(logits, gathered_view.logits[np.array(rows, int)])


@pytest.fixture(scope="module")
def gathered_view(tmp_path_factory):
    root = tmp_path_factory.mktemp("cache")
    for first in (0, 4, 8):
        fill(root, range(first, first + 4), HALF)
    view = open_cache(root)
    assert len(view) == 30
    return view


@pytest.mark.parametrize(
    ("rows", "told"), [([-1], "Rows -1 to -1; expected 0 to 29"), ([3, 30], "30"), ([[1]], "shape"), ([0.5], "float64")]
)
def test_rows_that_are_none_are_refused(gathered_view, rows, told):
    with pytest.raises(InputError, match=told):
        gathered_view.gather(rows)


def test_gathering_makes_no_joined_array(tmp_path):
    fill(tmp_path, range(3))
    fill(tmp_path, range(3, 6))
    assert open_cache(tmp_path).gather([1]).shape == (1, 4)
    assert not list(tmp_path.glob("*/consolidated*"))
    with pytest.raises(InputError, match="holds no logits"):
        open_cache(tmp_path).gather([1], logits=True)


def test_a_view_keeps_its_rows_while_another_process_joins_shards(tmp_path):
    for number in range(8):
        fill(tmp_path, [number])
    view, late = open_cache(tmp_path), open_cache(tmp_path)
    rows = np.random.default_rng(0).integers(0, len(view), 50)
    before = view.gather(rows)
    assert len(late.recordings) == 8
    fill(tmp_path, [9])
    assert clean(tmp_path).joined == 9
    np.testing.assert_array_equal(view.gather(rows), before)
    assert_view_holds(late, range(8))


def test_a_view_whose_recordings_are_gone_says_so(tmp_path):
    fill(tmp_path, range(4))
    view = open_cache(tmp_path)
    assert len(view) == 10
    delete_shards(shards(tmp_path, ".json"))
    with pytest.raises(InputError, match="4 of 4 recordings are not in the cache"):
        view.gather([1])


def test_scikit_learn_takes_the_array(tmp_path):
    fill(tmp_path, range(20), HALF)
    fill(tmp_path, range(20, 40), HALF)
    view = open_cache(tmp_path)
    labels = (view.embeddings[:, 0] > 0).astype(int)
    assert LogisticRegression().fit(view.embeddings, labels).score(view.embeddings, labels) > 0.9


def remember(workspace, numbers, identity=IDENTITY):
    recordings = [EmbeddedRecording(f"birds/{number}.ogg", key(number), count(number), number) for number in numbers]
    Listing("/recordings", identity, recordings, []).write(workspace / "embedded.json")


def test_a_workspace_is_opened_and_names_its_recordings(tmp_path):
    fill(tmp_path / "ws" / "cache", range(5))
    remember(tmp_path / "ws", [1, 3])
    for path in (tmp_path / "ws", tmp_path / "ws" / "cache", str(next((tmp_path / "ws" / "cache").iterdir()))):
        view = open_cache(path)
        named = view.windows.dropna(subset="recording")
        assert set(named["recording"]) == {"birds/1.ogg", "birds/3.ogg"}
        assert (named["recording"].astype(str).str[6] == named["sha256"].astype(str).str[-1]).all()
        assert isinstance(view.windows["recording"].dtype, pd.CategoricalDtype)
        assert view.recordings["recording"].notna().sum() == 2


def test_a_listing_that_cannot_be_read_is_no_hindrance(tmp_path):
    fill(tmp_path / "cache", range(5))
    (tmp_path / "embedded.json").write_text("{}")
    assert list(open_cache(tmp_path).windows) == ["sha256", "start", "end"]


def test_an_empty_cache_is_opened(tmp_path):
    EmbeddingCache(tmp_path, HALF)
    view = open_cache(tmp_path)
    assert view.embeddings.shape == (0, 4)
    assert view.logits.shape == (0, 3)
    assert (len(view.windows), len(view.recordings), view.gather([]).shape) == (0, 0, (0, 4))


def test_of_several_identities_one_must_be_chosen(tmp_path):
    fill(tmp_path, [1])
    fill(tmp_path, [2], IDENTITY | {"encoder": "birdnet-2.4"})
    other = fill(tmp_path, [3, 5], IDENTITY | {"hop": 2.5}).folder
    with pytest.raises(InputError, match=r"3 identities; choose with encoder=.*melspec.*hop 5\.0") as caught:
        open_cache(tmp_path)
    assert str(other) in str(caught.value)
    with pytest.raises(InputError, match="2 identities"):
        open_cache(tmp_path, encoder="melspec")
    with pytest.raises(InputError, match=r"no embeddings of encoder 'perch', but: .*melspec"):
        open_cache(tmp_path, encoder="perch")
    assert open_cache(tmp_path, encoder="birdnet-2.4").recordings["sha256"].tolist() == [key(2)]
    assert open_cache(other).windows["start"].tolist() == [0.0, 2.5, 5.0, 7.5, 0.0, 2.5]


@pytest.mark.parametrize("place", ["", "nothing"])
def test_no_cache_is_told(tmp_path, place):
    with pytest.raises(InputError, match=r"No cache of embeddings in .* `birdemb embed FOLDER`"):
        open_cache(tmp_path / place)


def test_another_format_is_told(tmp_path):
    folder = fill(tmp_path, [1]).folder
    (folder / "identity.json").write_text(json.dumps(IDENTITY | {"format": 1}))
    with pytest.raises(InputError, match=r"has format 1; this version of birdemb reads format 2.* `birdemb embed`"):
        open_cache(tmp_path)


def test_times_need_a_window(tmp_path):
    with EmbeddingCache(tmp_path, {"encoder": "x", "dim": 4}).writer() as writer:
        add(writer, 1)
    with pytest.raises(InputError, match="does not say window and hop"):
        _ = open_cache(tmp_path).windows


@pytest.mark.parametrize("apart", [0, 1 << 30])
def test_rows_are_gathered_one_by_one_or_with_what_lies_between(gathered_view, apart, monkeypatch):
    monkeypatch.setattr("birdemb.cache.places._APART", apart)
    rows = np.random.default_rng(2).integers(0, 30, 50)
    np.testing.assert_array_equal(gathered_view.gather(rows), gathered_view.embeddings[rows])
    np.testing.assert_array_equal(gathered_view.gather(rows, logits=True), gathered_view.logits[rows])
