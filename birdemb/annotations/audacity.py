"""Label tracks of Audacity: a line ``start TAB end TAB label`` for each, without a header.

A line that begins with a backslash tells the frequencies of the label before it. A point label ends where it starts.
BirdNET-Analyzer and HawkEars write the same with a confidence: as a fourth cell, or behind the label and a semicolon.
"""

from __future__ import annotations

import io
import re

import numpy as np

from birdemb.annotations.rows import Draft, doubt, make_annotations, name_recording, split_labels, split_list
from birdemb.annotations.table import Annotations
from birdemb.annotations.text_files import Cells, Text
from birdemb.annotations.times import measure_stretches
from birdemb.errors import InputError

__all__ = ["is_audacity", "read_audacity"]

_NUMBER = r"-?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?"
_LABEL = re.compile(rf"{_NUMBER}\t{_NUMBER}(?:\t.*)?")
_SCORED = re.compile(r"(.*);([01](?:\.\d+)?)")
_CONFIDENCE = re.compile(r"[01](?:\.\d+)?")


def is_audacity(text: Text) -> bool:
    """Say whether the first line is a label of a label track."""
    first = next((line.strip("\r\n") for line in io.StringIO(text.text, newline="") if line.strip()), "")
    return _LABEL.fullmatch(first) is not None


def read_audacity(text: Text, *, minimum_confidence: float = 0.0) -> Annotations:
    """Read a label track.

    Parameters
    ----------
    text : Text
    minimum_confidence : float
        Below it a class is unknown, where labels have confidences.

    Returns
    -------
    Annotations
        Of the recording that the file is named after. A label may be several classes, between semicolons. Of BirdNET's
        labels, ``Scientific name, Common name``, the scientific name is the class.

    Raises
    ------
    InputError
        If a line is no label, or no label can be used.
    """
    table, form = _read_lines(text)
    stretches = measure_stretches(table, "start", "end")
    state, notes = doubt(table, table.find("confidence"), minimum_confidence, stretches.reasons)
    draft = Draft(
        form=form,
        filename=np.full(table.rows, name_recording(text.source), object),
        stretches=stretches,
        labels=[split_labels(table.take("label"), split_list, state)],
        used=("start", "end", "label"),
        beside=True,
        notes=notes,
        class_column="the label",
    )
    return make_annotations(table, draft)


def _read_lines(text: Text) -> tuple[Cells, str]:
    rows, lines = [], []
    for line, content in enumerate(io.StringIO(text.text, newline=""), 1):
        if not content.strip() or content.startswith("\\"):
            continue
        cells = content.rstrip("\r\n").split("\t")
        if not 2 <= len(cells) <= 4:
            raise InputError(
                f"The label track {text.source} has {len(cells)} cells in line {line}. Expected start, end and label, "
                "separated by tabs."
            )
        rows.append([cell.strip() for cell in cells] + [""] * (4 - len(cells)))
        lines.append(line)
    names = ("start", "end", "label", "confidence")
    tracks = dict(zip(names, np.array(rows, object).T, strict=True))
    form = "Audacity label track"
    scored = [_SCORED.fullmatch(label) for label in tracks["label"]]
    if all(map(_CONFIDENCE.fullmatch, tracks["confidence"])):
        form = "Audacity label track of BirdNET"
        tracks["label"] = np.array([label.partition(", ")[0] for label in tracks["label"]], object)
    elif (tracks["confidence"] != "").any():
        line = lines[int(np.argmax(tracks["confidence"] != ""))]
        raise InputError(
            f"The label track {text.source} has four cells in line {line}, but not a confidence from 0 to 1 in the "
            "fourth cell of every line. Remove tabs from its labels."
        )
    elif all(scored):
        form = "Audacity label track of HawkEars"
        tracks["label"] = np.array([match[1] for match in scored if match], object)
        tracks["confidence"] = np.array([match[2] for match in scored if match], object)
    else:
        del tracks["confidence"]
    return Cells(text.source, tracks, np.array(lines, np.int64), "\t", text.notes), form
