"""Detections: which classes in which windows, when, and how sure."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdemb.detections import list_detections, write_detections
from birdemb.errors import InputError
from birdemb.listing import EmbeddedRecording
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


@pytest.mark.parametrize("counts", [(), (0,), (2,)])
def test_nothing_detected_is_a_table_with_its_header(tmp_path, counts):
    table = list_detections(recordings_of(*counts), np.zeros((sum(counts), 3)), np.full(3, 0.5), CLASSES)
    write_detections(tmp_path / "found.csv", table)
    assert (tmp_path / "found.csv").read_text() == ",".join(COLUMNS) + "\n"


def test_times_of_a_long_recording_are_not_rounded(tmp_path):
    # A week in hops of 0.96 s: the last window of some begins at 604799.04 s.
    windows = round(7 * 24 * 3600 / 0.96)
    probabilities = np.zeros((windows, 3))
    probabilities[[-1, 300_001], 0] = 1
    recordings = [EmbeddedRecording("week.wav", "0" * 64, windows, 604_800.0)]
    table = list_detections(recordings, probabilities, np.full(3, 0.5), CLASSES, window=0.96, hop=0.96)
    write_detections(tmp_path / "found.csv", table)
    lines = (tmp_path / "found.csv").read_text().splitlines()
    assert lines[1].startswith("week.wav,288000.96,288001.92,")
    assert lines[2].startswith("week.wav,604799.04,604800,")


def test_names_with_commas_and_quotes_come_back(tmp_path):
    recordings = [EmbeddedRecording('a, "b"/ü.wav', "0" * 64, 1, 5.0)]
    write_detections(tmp_path / "found.csv", list_detections(recordings, np.ones((1, 3)), np.full(3, 0.5), CLASSES))
    assert pd.read_csv(tmp_path / "found.csv")["recording"].tolist() == ['a, "b"/ü.wav'] * 3


def test_folder_cannot_be_written_over(tmp_path):
    table = list_detections(recordings_of(1), np.ones((1, 3)), np.full(3, 0.5), CLASSES)
    (tmp_path / "found.csv").mkdir()
    with pytest.raises(InputError, match=r"found\.csv"):
        write_detections(tmp_path / "found.csv", table)
