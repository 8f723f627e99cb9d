"""Detections: which classes in which windows, when, and how sure."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdemb.detections import list_detections, merge_detections
from birdemb.errors import InputError
from birdemb.listing import EmbeddedRecording
from birdemb.prediction import Prediction
from birdemb.tables.detections_csv import write_detections
from birdemb.tables.source import TableSource
from birdemb.taxonomy import ClassName

CLASSES = (ClassName("amecro", "Corvus brachyrhynchos", "American Crow"), ClassName("noise"), ClassName("wooduc"))
COLUMNS = ["recording", "start", "end", "class", "scientific_name", "common_name", "probability", "threshold"]


def recordings_of(*counts):
    return [EmbeddedRecording(f"night/{index}.wav", f"{index:064x}", n, 5.0 * n) for index, n in enumerate(counts)]


def test_row_for_each_class_that_passes_its_threshold():
    probabilities = np.array([[0.5, 0.9, 0.1], [0.49, 0.1, 0.1], [0.7, 0.9, 0.2]])
    table = list_detections(recordings_of(2, 1), probabilities, np.array([0.5, 0.8, 0.3]), CLASSES)
    assert list(table.columns) == COLUMNS
    assert table.to_numpy().tolist() == [
        ["night/0.wav", 0.0, 5.0, "amecro", "Corvus brachyrhynchos", "American Crow", 0.5, 0.5],
        ["night/0.wav", 0.0, 5.0, "noise", "", "", 0.9, 0.8],
        ["night/1.wav", 0.0, 5.0, "amecro", "Corvus brachyrhynchos", "American Crow", 0.7, 0.5],
        ["night/1.wav", 0.0, 5.0, "noise", "", "", 0.9, 0.8],
    ]


@given(
    counts=st.lists(st.integers(0, 4), max_size=4),
    thresholds=st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, math.nan]), min_size=3, max_size=3),
    seed=st.integers(0, 9),
    window=st.sampled_from([5.0, 3.0]),
    hop=st.sampled_from([0.96, 2.5, 3.0]),
)
def test_detections_are_those_of_a_plain_loop(counts, thresholds, seed, window, hop):
    recordings = recordings_of(*counts)
    probabilities = np.random.default_rng(seed).integers(0, 5, (sum(counts), 3)) / 4
    expected, row = [], 0
    for entry in recordings:
        for index in range(entry.windows):
            for name, probability, threshold in zip(CLASSES, probabilities[row], thresholds, strict=True):
                if probability >= threshold:
                    expected.append((entry.recording, index * hop, index * hop + window, name.label, probability))
            row += 1
    table = list_detections(recordings, probabilities, np.array(thresholds), CLASSES, window=window, hop=hop)
    found = table[["recording", "start", "end", "class", "probability"]]
    assert list(found.itertuples(index=False, name=None)) == expected


def test_class_without_threshold_is_never_detected():
    table = list_detections(recordings_of(1), np.ones((1, 3)), np.array([np.nan, np.nan, 1.0]), CLASSES)
    assert table["class"].tolist() == ["wooduc"]


def write(path, recordings, probabilities, thresholds, window=5.0, hop=5.0):
    prediction = Prediction(recordings, np.array(probabilities, dtype=float), CLASSES, window, hop)
    return write_detections(path, TableSource(prediction, "/night", np.array(thresholds)))


@pytest.mark.parametrize("counts", [(), (0,), (2,)])
def test_nothing_detected_is_a_table_with_its_header(tmp_path, counts):
    assert write(tmp_path / "found.csv", recordings_of(*counts), np.zeros((sum(counts), 3)), np.full(3, 0.5)) == 0
    assert (tmp_path / "found.csv").read_text() == ",".join([*COLUMNS, "start_time", "end_time"]) + "\n"


def test_times_of_a_long_recording_are_not_rounded(tmp_path):
    # A week in hops of 0.96 s: the last window of some begins at 604799.04 s.
    windows = round(7 * 24 * 3600 / 0.96)
    probabilities = np.zeros((windows, 3))
    probabilities[[-1, 300_001], 0] = 1
    recordings = [EmbeddedRecording("week.wav", "0" * 64, windows, 604_800.0)]
    write(tmp_path / "found.csv", recordings, probabilities, np.full(3, 0.5), window=0.96, hop=0.96)
    lines = (tmp_path / "found.csv").read_text().splitlines()
    assert lines[1].startswith("week.wav,288000.96,288001.92,")
    assert lines[2].startswith("week.wav,604799.04,604800,")


def test_names_with_commas_and_quotes_come_back(tmp_path):
    recordings = [EmbeddedRecording('a, "b"/ü.wav', "0" * 64, 1, 5.0)]
    write(tmp_path / "found.csv", recordings, np.ones((1, 3)), np.full(3, 0.5))
    assert pd.read_csv(tmp_path / "found.csv")["recording"].tolist() == ['a, "b"/ü.wav'] * 3


def test_folder_cannot_be_written_over(tmp_path):
    (tmp_path / "found.csv").mkdir()
    with pytest.raises(InputError, match=r"found\.csv"):
        write(tmp_path / "found.csv", recordings_of(1), np.ones((1, 3)), np.full(3, 0.5))


def test_neighbours_of_a_class_become_one(tmp_path):
    probabilities = np.array([[0.6, 0, 0.5], [0.9, 0, 0], [0, 0, 0.5], [0.7, 0, 0.8], [0.8, 0, 0.9]])
    table = list_detections(recordings_of(4, 1), probabilities, np.full(3, 0.5), CLASSES)
    merged = merge_detections(table)
    assert list(merged.columns) == COLUMNS
    assert merged[["recording", "start", "end", "class", "probability"]].to_numpy().tolist() == [
        ["night/0.wav", 0.0, 10.0, "amecro", 0.9],
        ["night/0.wav", 0.0, 5.0, "wooduc", 0.5],
        ["night/0.wav", 10.0, 20.0, "wooduc", 0.8],
        ["night/0.wav", 15.0, 20.0, "amecro", 0.7],
        ["night/1.wav", 0.0, 5.0, "amecro", 0.8],
        ["night/1.wav", 0.0, 5.0, "wooduc", 0.9],
    ]
    assert merge_detections(table, gap=5.0)["end"].tolist() == [20.0, 20.0, 5.0, 5.0]


def test_nothing_to_merge_is_nothing():
    table = list_detections(recordings_of(2), np.zeros((2, 3)), np.full(3, 0.5), CLASSES)
    pd.testing.assert_frame_equal(merge_detections(table), table)


@given(
    counts=st.lists(st.integers(0, 9), max_size=3),
    seed=st.integers(0, 99),
    window_and_hop=st.sampled_from([(5.0, 5.0), (5.0, 2.5), (0.96, 0.96), (0.3, 0.1)]),
    gap=st.sampled_from([0.0, 0.1, 2.5, 5.0]),
)
def test_merged_detections_are_those_of_a_plain_loop(counts, seed, window_and_hop, gap):
    window, hop = window_and_hop
    recordings = recordings_of(*counts)
    probabilities = np.random.default_rng(seed).integers(0, 5, (sum(counts), 3)) / 4
    table = list_detections(recordings, probabilities, np.full(3, 0.75), CLASSES, window=window, hop=hop)
    expected, last_of = [], {}
    for row in table.to_dict("records"):
        key = row["recording"], row["class"]
        last = last_of.get(key)
        if last is not None and row["start"] - last["end"] <= gap + 1e-6:
            last["end"], last["probability"] = row["end"], max(last["probability"], row["probability"])
        else:
            expected.append(row)
            last_of[key] = row
    assert merge_detections(table, gap).to_dict("records") == expected
