"""Where tables of a prediction are written: the form that a path says, what is refused, and the files of a folder."""

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from table_files import golden, source_of, text_of, write

from birdemb.errors import InputError
from birdemb.tables.forms import DETECTION_FORMS, SUBMISSION, WINDOW_FORMS, choose_output
from birdemb.tables.recording_files import name_files


@pytest.mark.parametrize(("form", "label"), [(SUBMISSION, "row_id"), ("wide", "recording"), ("wide", "end_time")])
def test_class_with_the_name_of_a_column_is_refused(tmp_path, form, label):
    output = choose_output(tmp_path / "table.csv", form)
    with pytest.raises(InputError, match=f"The class '{label}' has the name of another column"):
        output.check_writable(["amecro", label], "/data", [])
    output.check_writable(["amecro"], "/data", [])
    choose_output(tmp_path / "table.csv", "long").check_writable([label], "/data", [])


@pytest.mark.parametrize("detections", [False, True])
def test_standard_output_is_no_file(detections):
    with pytest.raises(InputError, match="A table is written to a file, and - is none"):
        choose_output(Path("-"), detections=detections)


@pytest.mark.parametrize(("form", "expected"), [(None, "raven"), ("audacity", "audacity")])
def test_slash_at_the_end_means_a_folder(tmp_path, form, expected):
    output = choose_output(f"{tmp_path}/tables.v2/", form)
    assert (output.form, output.is_folder, output.path) == (expected, True, tmp_path / "tables.v2")
    assert not choose_output(f"{tmp_path}/tables.v2", "audacity").is_folder


def test_file_is_no_folder_of_tables(tmp_path):
    (tmp_path / "table").touch()
    with pytest.raises(InputError, match=r"table is a file, and the form raven makes a folder.*Name a folder"):
        choose_output(tmp_path / "table").check_writable([], "/data", [])


def test_labels_beside_recordings_are_not_replaced(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site/b.txt").write_text("mine")
    output = choose_output(tmp_path, "audacity")
    with pytest.raises(InputError, match=r"b\.txt lies beside its recording already.*Name another folder"):
        output.check_writable([], str(tmp_path), ["site/a.wav", "site/b.wav"])
    output.check_writable([], str(tmp_path), ["site/a.wav"])
    output.check_writable([], "/data", ["site/b.wav"])
    assert text_of(tmp_path / "site/b.txt") == "mine"


@pytest.mark.parametrize("form", sorted({*DETECTION_FORMS, *WINDOW_FORMS} - {SUBMISSION}))
def test_name_that_is_no_text_is_escaped(tmp_path, form):
    name = os.fsdecode(b"gr\xfcn.wav")
    source = source_of(5, probabilities=[[0.9, 0, 0]], names=[name], gap=0.0)
    rows, path = write(tmp_path, form, source, "table.any")
    assert rows in (1, 3)
    content = pq.read_table(path).to_pandas().to_csv() if form == "parquet" else text_of(path)
    assert form == "audacity" or r"gr\udcfcn.wav" in content
    if form in DETECTION_FORMS and DETECTION_FORMS[form].folder is not None:
        _, folder = write(tmp_path, form, source, "folder")
        (written,) = folder.iterdir()
        assert os.fsencode(written.name).startswith(b"gr\xfcn.")


@pytest.mark.parametrize("form", sorted(DETECTION_FORMS))
def test_nothing_detected_is_an_empty_table(tmp_path, form):
    rows, path = write(tmp_path, form, source_of(5, 5, probabilities=np.zeros((2, 3))), "table", detections=True)
    assert rows == 0
    assert path.is_dir() == (DETECTION_FORMS[form].folder is not None)
    if path.is_dir():
        assert len(list((path / "site").iterdir())) == 2


def test_other_files_in_a_folder_are_left_alone(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/notes.txt").write_text("mine")
    write(tmp_path, "audacity", golden(), "labels")
    assert (tmp_path / "labels/notes.txt").read_text() == "mine"


def test_files_of_recordings_have_names_of_their_own():
    names = name_files(["x.wav", "X.ogg", "a/x.wav", "y", "y.wav", "z.wav"], ".txt")
    assert [str(name) for name in names.values()] == [
        "x.wav.txt",
        "X.ogg.txt",
        "a/x.txt",
        "y.txt",
        "y.wav.txt",
        "z.txt",
    ]
    for name in ("../x.wav", "/x.wav", "a/../../x.wav"):
        with pytest.raises(InputError, match="leads out of the folder"):
            name_files([name], ".txt")


@pytest.mark.parametrize(
    ("name", "form", "detections", "chosen"),
    [
        ("x.csv", None, False, ("submission", True, False)),
        ("x.csv", None, True, ("detections", False, False)),
        ("x.CSV", "wide", False, ("wide", True, False)),
        ("x.parquet", None, False, ("parquet", True, False)),
        ("x.parquet", None, True, ("parquet", False, False)),
        ("x.jsonl", None, False, ("jsonl", False, False)),
        ("x.selections.txt", None, True, ("raven", False, False)),
        ("x", None, True, ("raven", False, True)),
        ("x", "audacity", False, ("audacity", False, True)),
        ("x", "wide", False, ("wide", True, False)),
        ("there.d", "birdnet", False, ("birdnet", False, True)),
        ("there.d", "wide", False, ("wide", True, False)),
    ],
)
def test_form_is_what_suffix_or_name_says(tmp_path, name, form, detections, chosen):
    (tmp_path / "there.d").mkdir()
    output = choose_output(tmp_path / name, form, detections=detections)
    assert (output.form, output.of_windows, output.is_folder) == chosen


def test_path_or_name_that_says_no_form_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"x\.xlsx has the suffix \.xlsx.*\.csv, \.jsonl, \.parquet, \.txt"):
        choose_output(tmp_path / "x.xlsx")
    with pytest.raises(InputError, match="no form of tables 'excel'"):
        choose_output(tmp_path / "x.csv", "excel")
    with pytest.raises(InputError, match="no form of tables 'wide'"):
        choose_output(tmp_path / "x.csv", "wide", detections=True)
