"""Submissions: made, brought to a sample's form, written, and read back."""

import csv
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from birdemb.errors import InputError
from birdemb.listing import EmbeddedRecording
from birdemb.submission import (
    make_submission,
    match_sample,
    read_scores,
    refuse_other_soundscapes,
    refuse_shared_stems,
    write_submission,
)

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def recording(name, windows=2):
    return EmbeddedRecording(name, "0" * 64, windows, 5.0 * windows)


def scores(row_ids, **classes):
    return pd.DataFrame({"row_id": row_ids} | classes)


def test_row_ids_are_the_stem_and_the_end_of_the_window():
    table = make_submission([recording("north/a.b.ogg"), recording("c.wav", 1)], np.zeros((3, 1)), ["wren"])
    assert list(table["row_id"]) == ["a.b_5", "a.b_10", "c_5"]


def test_row_ids_of_half_seconds_keep_them():
    table = make_submission([recording("a.ogg", 3)], np.zeros((3, 1)), ["wren"], hop=2.5)
    assert list(table["row_id"]) == ["a_5", "a_7.5", "a_10"]


def test_row_ids_of_weeks_are_whole_numbers():
    windows = 12 * 24 * 720  # 12 days, more than a million seconds
    table = make_submission([recording("a.ogg", windows)], np.zeros((windows, 1)), ["wren"])
    assert table["row_id"].iloc[-1] == "a_1036800"
    assert table["row_id"].is_unique


def test_row_ids_of_days_keep_half_seconds():
    windows = 24 * 1440 + 10_000
    table = make_submission([recording("a.ogg", windows)], np.zeros((windows, 1)), ["wren"], hop=2.5)
    assert table["row_id"].iloc[-1] == "a_111402.5"


def test_row_ids_of_tenths_have_no_rounding_noise():
    table = make_submission([recording("a.ogg", 4)], np.zeros((4, 1)), ["wren"], window=0.3, hop=0.1)
    assert list(table["row_id"]) == ["a_0.3", "a_0.4", "a_0.5", "a_0.6"]


def test_rows_and_columns_keep_their_order():
    probabilities = np.arange(9).reshape(3, 3) / 10
    table = make_submission([recording("z.ogg"), recording("a.ogg", 1)], probabilities, ["wren", "owl", "10"])
    assert list(table.columns) == ["row_id", "wren", "owl", "10"]
    assert list(table["row_id"]) == ["z_5", "z_10", "a_5"]
    np.testing.assert_array_equal(table[["wren", "owl", "10"]], probabilities)


@pytest.mark.parametrize("names", [("a/x.ogg", "b/x.ogg"), ("x.ogg", "x.wav"), ("y.ogg", "a/x.ogg", "x.flac")])
def test_recordings_with_the_same_row_ids_are_refused(names):
    with pytest.raises(InputError, match=f"{names[-2]} and {names[-1]} .*x_5"):
        refuse_shared_stems(names)


def test_recordings_of_their_own_names_pass():
    refuse_shared_stems(["a/x.ogg", "a/y.ogg", "x.y.ogg", "X.ogg"])


def test_a_sample_gives_rows_and_columns():
    table = scores(["a_10", "a_5", "b_5"], wren=[0.1, 0.2, 0.3], owl=[0.4, 0.5, 0.6], crow=[0.7, 0.8, 0.9])
    sample = scores(["a_5", "lost_5", "a_10"], owl=0.0, kiwi=0.0, wren=0.0)
    match = match_sample(table, sample, priors=[0.01, 0.02, 0.03])
    expected = scores(["a_5", "lost_5", "a_10"], owl=[0.5, 0.02, 0.4], kiwi=0.0, wren=[0.2, 0.01, 0.1])
    pd.testing.assert_frame_equal(match.table, expected)
    assert match.unknown_classes == ("kiwi",)
    assert match.dropped_classes == ("crow",)
    assert match.filled_rows == ("lost_5",)
    assert match.dropped_rows == 1


def test_a_sample_of_the_same_form_changes_nothing():
    table = scores(["a_5", "a_10"], wren=[0.1, 0.2], owl=[0.3, 0.4])
    match = match_sample(table, table * 1, priors=[0.5, 0.5])
    pd.testing.assert_frame_equal(match.table, table)
    assert (match.unknown_classes, match.dropped_classes, match.filled_rows, match.dropped_rows) == ((), (), (), 0)


def test_where_nothing_was_predicted_a_sample_is_filled():
    empty = make_submission([], np.empty((0, 2)), ["wren", "owl"])
    match = match_sample(empty, scores(["a_5", "b_5"], owl=0.0), priors=[0.25, 0.5])
    assert match.table.to_dict("list") == {"row_id": ["a_5", "b_5"], "owl": [0.5, 0.5]}
    assert match.filled_rows == ("a_5", "b_5")


def test_a_sample_without_any_of_the_classes_is_refused():
    with pytest.raises(InputError, match=r"none of the bundle's classes: it has kiwi, .*has wren"):
        match_sample(scores(["a_5"], wren=[0.1]), scores(["a_5"], kiwi=[0.0]), priors=[0.5])


def test_a_sample_without_any_of_the_predicted_rows_is_refused():
    with pytest.raises(InputError, match=r"none of the predicted rows: it has 'a_6', the prediction 'a_5'"):
        match_sample(scores(["a_5"], wren=[0.1]), scores(["a_6"], wren=[0.0]), priors=[0.5])


def test_a_sample_without_any_of_the_soundscapes_is_refused():
    sample = scores(["north_lake_5", "north_lake_10"], wren=0.0)
    with pytest.raises(InputError, match=r"none of the soundscapes: it has 'north_lake_5', .* is 'lake'"):
        refuse_other_soundscapes(sample, ["site/lake.ogg", "north.ogg"])
    refuse_other_soundscapes(sample, ["site/lake.ogg", "site/north_lake.ogg"])
    refuse_other_soundscapes(sample, [])  # as in a competition's notebook before its soundscapes are there


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    values=hnp.arrays(
        np.float64,
        st.integers(1, 40),
        elements=st.floats(0, 1) | st.floats(0, 1e-9).map(lambda small: 1 - small) | st.floats(0, 1, width=32),
    )
)
def test_scores_come_back_to_the_last_bit(tmp_path, values):
    path = tmp_path / "submission.csv"
    write_submission(path, scores([f"a_{index}" for index in range(len(values))], wren=values))
    with path.open(newline="") as file:
        read = [float(row["wren"]) for row in csv.DictReader(file)]
    np.testing.assert_array_equal(read, values)
    np.testing.assert_array_equal(read_scores(path)["wren"], values)


def test_probabilities_near_one_keep_their_ranks(tmp_path):
    values = 1 - np.arange(5) * 1e-12
    write_submission(tmp_path / "submission.csv", scores([f"a_{index}" for index in range(5)], wren=values))
    assert read_scores(tmp_path / "submission.csv")["wren"].is_monotonic_decreasing
    assert read_scores(tmp_path / "submission.csv")["wren"].is_unique


@pytest.mark.parametrize("value", [np.nan, -1e-9, 1.0000001, np.inf])
def test_what_is_no_probability_is_not_written(tmp_path, value):
    table = scores(["a_5", "a_10"], owl=[0.5, 0.5], wren=[0.5, value])
    with pytest.raises(InputError, match=r"wren in the row 'a_10' is .*expected 0 to 1"):
        write_submission(tmp_path / "submission.csv", table)
    assert not list(tmp_path.iterdir())


def test_a_long_table_is_whole(tmp_path):
    count = 10_000
    table = scores([f"a_{index}" for index in range(count)], wren=np.arange(count) / count)
    write_submission(tmp_path / "submission.csv", table)
    pd.testing.assert_frame_equal(read_scores(tmp_path / "submission.csv"), table, check_exact=True)


def test_name_that_is_no_text_is_escaped(tmp_path):
    table = make_submission([recording(os.fsdecode(b"gr\xfcn.wav"), 1)], np.array([[0.5]]), ["wren"])
    write_submission(tmp_path / "submission.csv", table)
    assert read_scores(tmp_path / "submission.csv")["row_id"].tolist() == [r"gr\udcfcn_5"]


def test_a_table_comes_back_as_it_was_written(tmp_path):
    table = scores(["a_5", 'ü 鳥,"x\r"_5', "NA"], **{"1139490": [0.5, 0.25, 1.0], "N\rA": [0.0, 1e-30, 0.125]})
    write_submission(tmp_path / "submission.csv", table)
    pd.testing.assert_frame_equal(read_scores(tmp_path / "submission.csv"), table, check_exact=True)


def test_a_file_has_unix_lines_and_no_index(tmp_path):
    write_submission(tmp_path / "deep/submission.csv", scores(["a_5"], wren=[1 / 3]))
    assert (tmp_path / "deep/submission.csv").read_bytes() == b"row_id,wren\na_5,0.3333333333333333\n"


def test_a_folder_cannot_be_written(tmp_path):
    (tmp_path / "submission.csv").mkdir()
    with pytest.raises(InputError, match="folder"):
        write_submission(tmp_path / "submission.csv", scores(["a_5"], wren=[0.5]))
    assert [path.name for path in tmp_path.iterdir()] == ["submission.csv"]


def test_below_a_file_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Cannot write"):
        write_submission(tmp_path / "file/submission.csv", scores(["a_5"], wren=[0.5]))


@pytest.mark.skipif(AS_ROOT, reason="nothing is protected from root")
def test_a_protected_folder_cannot_be_written(tmp_path):
    protected = tmp_path / "protected"
    protected.mkdir(mode=0o555)
    with pytest.raises(InputError, match="Cannot write"):
        write_submission(protected / "submission.csv", scores(["a_5"], wren=[0.5]))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("id,wren\na_5,0.5\n", "column row_id"),
        ("row_id\na_5\n", "one column for each class"),
        ("row_id,wren\n", "rows"),
        ("", "column row_id"),
        ('row_id,wren\n"a_5,0.5\n', "no CSV table"),
        ("row_id,wren\na_5,0.5\nb_5,0.5\na_5,0.25\n", "'a_5' twice"),
        ("row_id,wren\na_5,0.5\nb_5,high\n", "'high' for wren in the row 'b_5'"),
        ("row_id,wren\na_5,\n", "'' for wren"),
        ("row_id,wren\na_5,nan\n", "'nan' for wren"),
        ("row_id,wren\na_5,inf\n", "'inf' for wren"),
        ("row_id,wren\na_5,0.5,9\nb_5\n", "3 cells in the row 'a_5'"),
        ("row_id,wren,owl\na_5,0.5\n", "2 cells in the row 'a_5', and 3 columns"),
        ("row_id,wren\na_5,0.5,0.25\nb_5,0.5,0.25\n", "3 cells in the row 'a_5', and 2 columns"),
        ("row_id,wren\nGr\xfcn_5,0.5\n".encode("latin-1"), "UTF-8"),
    ],
)
def test_a_table_that_cannot_be_read_is_told_with_its_path(tmp_path, content, told):
    path = tmp_path / "scores.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=told) as caught:
        read_scores(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_table_that_cannot_be_opened_is_told(tmp_path, name):
    with pytest.raises(InputError, match="cannot be opened"):
        read_scores(tmp_path / name)


def test_a_byte_order_mark_and_whole_numbers_are_read(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_bytes(b"\xef\xbb\xbfrow_id,wren,1139490\r\n5,1,0\r\n")
    table = read_scores(path)
    assert list(table["row_id"]) == ["5"]
    assert table["wren"].dtype == table["1139490"].dtype == np.float64


def test_column_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "sample.csv"
    path.write_text("row_id,a,b,a\nx_5,0,0,0\n")
    with pytest.raises(InputError, match=r"sample\.csv has the column 'a' twice"):
        read_scores(path)
