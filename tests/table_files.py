"""Predictions for tests of tables, and readers of these that are none of birdemb's own."""

import csv

import numpy as np

from birdemb.listing import EmbeddedRecording
from birdemb.prediction import Prediction
from birdemb.tables.forms import choose_output
from birdemb.tables.source import TableSource
from birdemb.taxonomy import ClassName

CLASSES = (
    ClassName("amecro", "Corvus brachyrhynchos", "American Crow"),
    ClassName("1139490", "Ragoniella pulchella"),
    ClassName("noise, wind"),
)

GOLDEN = [[0.25, 0.5, 0.0], [1.0, 0.125, 0.75], [0.5, 0.0625, 0.0]]


def source_of(*lengths, probabilities=None, thresholds=(0.5, 0.5, 0.5), window=5.0, hop=5.0, names=None, **settings):
    """Recordings of these lengths in seconds, each with as many windows as cover it."""
    counts = [max(1, 1 + int(np.ceil((seconds - window) / hop - 1e-9))) for seconds in lengths]
    names = names or [f"site/{chr(ord('a') + index)}.wav" for index in range(len(lengths))]
    recordings = [
        EmbeddedRecording(name, f"{index:064x}", count, float(seconds))
        for index, (name, count, seconds) in enumerate(zip(names, counts, lengths, strict=True))
    ]
    if probabilities is None:
        probabilities = np.random.default_rng(0).random((sum(counts), len(CLASSES)))
    prediction = Prediction(recordings, np.array(probabilities, dtype=np.float64), CLASSES, window, hop)
    given = None if thresholds is None else np.array(thresholds, dtype=np.float64)
    return TableSource(prediction, "/data/year", given, **settings)


def read_csv(path, delimiter=","):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter, quoting=csv.QUOTE_NONE if delimiter == "\t" else 0))


def golden(**settings):
    """8 s and 4 s, with detections in each window."""
    return source_of(8, 4, probabilities=GOLDEN, top_frequency=lambda _: 16_000.0, **settings)


def write(tmp_path, form, source, name="table.csv", detections=False):
    output = choose_output(tmp_path / name, form, detections=detections)
    return output.write(source), output.path


def text_of(path):
    return path.read_bytes().decode()
