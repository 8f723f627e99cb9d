"""Exports are read back by the tools that they are for, and hold what the cache holds."""

import sys

import numpy as np
import pandas as pd
import pytest
from cache_files import HALF, IDENTITY, fill, key, shards
from test_cache_view import remember

from birdemb.cache import EmbeddingCache
from birdemb.cache.export import export
from birdemb.cache.view import open_cache
from birdemb.errors import InputError, MissingDependencyError

pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(params=[IDENTITY, HALF], ids=["float32", "float16 and logits"])
def view(request, tmp_path):
    for first in (0, 4, 8):
        fill(tmp_path / "ws" / "cache", range(first, first + 4), request.param)
    remember(tmp_path / "ws", range(6), request.param)
    return open_cache(tmp_path / "ws")


@pytest.fixture(params=[1 << 16, 7], ids=["at once", "piece by piece"])
def pieces(request, monkeypatch):
    """Few rows at once, so that several tables and files come of a small cache."""
    monkeypatch.setattr("birdemb.cache.export._ROWS_AT_ONCE", request.param)
    if request.param == 7:
        monkeypatch.setattr("birdemb.cache.export._ROWS_A_FILE", 14)
    return 30 // request.param + 1


def assert_same_windows(view, table):
    windows = view.windows
    assert table["sha256"].tolist() == windows["sha256"].tolist()
    expected = windows["recording"].astype(object).where(windows["recording"].notna(), windows["sha256"].astype(object))
    assert table["recording"].tolist() == expected.tolist()
    assert key(7) in table["recording"].tolist()
    assert "birds/3.ogg" in table["recording"].tolist()
    np.testing.assert_array_equal(table[["start", "end"]].to_numpy(), windows[["start", "end"]].to_numpy())


def test_an_archive_is_read_by_numpy_without_pickles(view, pieces, tmp_path):
    assert export(view, tmp_path / "out.npz") == 30
    with np.load(tmp_path / "out.npz", allow_pickle=False) as archive:
        content = dict(archive)
    assert content["embeddings"].dtype == view.cache.dtype
    np.testing.assert_array_equal(content["embeddings"], view.embeddings)
    assert ("logits" in content) == (view.logits is not None)
    if view.logits is not None:
        np.testing.assert_array_equal(content["logits"], view.logits)
    number = content["recording"]
    table = {"recording": content["names"][number], "sha256": content["sha256"][number]}
    assert_same_windows(view, pd.DataFrame(table | {name: content[name] for name in ("start", "end")}))


def test_one_file_is_read_by_pandas(view, pieces, tmp_path):
    assert export(view, tmp_path / "out.parquet") == 30
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert_same_windows(view, table)
    np.testing.assert_array_equal(np.stack(table["embedding"]), view.embeddings.astype(np.float32))
    assert ("logits" in table) == (view.logits is not None)
    if view.logits is not None:
        np.testing.assert_array_equal(np.stack(table["logits"]), view.logits.astype(np.float32))
    schema = pq.read_schema(tmp_path / "out.parquet")
    assert str(schema.field("embedding").type) == "fixed_size_list<element: float>[4]"


def test_a_folder_is_read_by_pandas_in_one_line(view, pieces, tmp_path):
    assert export(view, tmp_path / "out") == 30
    table = pd.read_parquet(tmp_path / "out")
    assert_same_windows(view, table)
    np.testing.assert_array_equal(table.filter(regex=r"^e\d").to_numpy(), view.embeddings.astype(np.float32))
    assert (table.filter(regex=r"^e\d").dtypes == np.float32).all()
    assert table.filter(regex=r"^l\d").shape[1] == view.cache.logits_width
    if view.logits is not None:
        np.testing.assert_array_equal(table.filter(regex=r"^l\d").to_numpy(), view.logits.astype(np.float32))
    assert len(list((tmp_path / "out").iterdir())) == (1 if pieces == 1 else 3)
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".parquet"}


@pytest.mark.parametrize("name", ["out.npz", "out.parquet", "out"])
def test_an_empty_cache_is_exported(tmp_path, name):
    EmbeddingCache(tmp_path / "cache", HALF)
    assert export(open_cache(tmp_path / "cache"), tmp_path / name) == 0
    if name.endswith(".npz"):
        with np.load(tmp_path / name, allow_pickle=False) as archive:
            assert archive["embeddings"].shape == (0, 4)
            assert archive["logits"].shape == (0, 3)
    else:
        table = pd.read_parquet(tmp_path / name)
        assert len(table) == 0
        assert {"recording", "start", "end"} < set(table)


@pytest.mark.parametrize("name", ["out.npz", "out.parquet", "out"])
def test_an_export_of_damaged_rows_leaves_nothing(tmp_path, name):
    fill(tmp_path / "cache", range(4))
    (array,) = shards(tmp_path / "cache", ".npy")
    rows = np.load(array)
    rows[-1] += 1
    np.save(array, rows)
    with pytest.raises(InputError, match="its rows are not the ones that were written"):
        export(open_cache(tmp_path / "cache"), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_an_export_replaces_files_and_no_folder(tmp_path):
    fill(tmp_path / "cache", range(4))
    view = open_cache(tmp_path / "cache")
    (tmp_path / "out.npz").write_text("old")
    export(view, tmp_path / "out.npz")
    assert np.load(tmp_path / "out.npz")["embeddings"].shape == (10, 4)
    (tmp_path / "out").mkdir()
    export(view, tmp_path / "out")
    with pytest.raises(InputError, match="out is there already"):
        export(view, tmp_path / "out")
    (tmp_path / "out.2").mkdir()
    (tmp_path / "out.2" / "mine").touch()
    with pytest.raises(InputError, match="is there already"):
        export(view, tmp_path / "out.2")
    with pytest.raises(InputError, match=r"suffix \.csv; expected \.npz, \.parquet"):
        export(view, tmp_path / "out.csv")
    with pytest.raises(InputError, match="Cannot write"):
        export(view, tmp_path / "out.npz" / "below")


def test_without_pyarrow_the_extra_is_named_and_an_archive_goes_on(tmp_path, monkeypatch):
    fill(tmp_path / "cache", range(4))
    view = open_cache(tmp_path / "cache")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name in ("out.parquet", "out"):
        with pytest.raises(MissingDependencyError, match=r"pip install 'birdemb\[parquet\]'"):
            export(view, tmp_path / name)
    assert export(view, tmp_path / "out.npz") == 10


def test_times_need_a_window(tmp_path):
    EmbeddingCache(tmp_path / "cache", {"encoder": "x", "dim": 4})
    with pytest.raises(InputError, match="does not say window and hop"):
        export(open_cache(tmp_path / "cache"), tmp_path / "out.npz")
