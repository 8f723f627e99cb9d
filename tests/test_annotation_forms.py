"""Recognising files of labels by what is in them, and reading what tools for sounds write."""

from pathlib import Path

import numpy as np
import pytest
from annotation_files import BIRDNET, KALEIDOSCOPE, RAVEN, SAMPLES, lines, read, rows, said
from hypothesis import given
from hypothesis import strategies as st

from birdemb.annotations.audacity import read_audacity
from birdemb.annotations.raven import read_raven
from birdemb.annotations.recognition import read_annotations, recognise
from birdemb.annotations.rows import name_recording
from birdemb.annotations.text_files import Text, read_cells
from birdemb.errors import InputError


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_recognised_and_read(tmp_path, name):
    text, form, first = SAMPLES[name]
    annotations = read(tmp_path, text, name)
    assert annotations.form == form
    assert annotations.source == tmp_path / name
    assert rows(annotations)[0] == first
    assert annotations.left_out == ()
    assert annotations.beside == (first[0] == "dawn")
    assert {len(cells) for cells in annotations.extras.values()} <= {len(annotations.table)}
    assert form.startswith(recognise(tmp_path / name))


@pytest.mark.parametrize("name", [name for name, (_, form, _) in SAMPLES.items() if "Audacity" not in form])
@pytest.mark.parametrize("other", ["labels.dat", "train.csv"])
def test_names_of_files_do_not_matter_to_tables(tmp_path, name, other):
    text, form, _ = SAMPLES[name]
    assert read(tmp_path, text, other).form == form


def test_only_labels_in_full_are_complete(tmp_path):
    complete = {name for name, (text, _, _) in SAMPLES.items() if read(tmp_path, text, name).complete}
    assert complete == {"train_soundscape_labels.csv", "train_soundscapes_labels.csv", "opensoundscape.csv"}


def test_unknown_form_is_told_with_its_columns_and_what_was_looked_for(tmp_path):
    with pytest.raises(InputError) as caught:
        read(tmp_path, "foo,bar\n1,2\n")
    message = str(caught.value)
    assert "their columns are foo, bar. Looked for were: " in message
    for wanted in ("IN FILE, OFFSET (Kaleidoscope table)", "Begin Time (s), End Time (s)", "row_id, birds", "Audacity"):
        assert wanted in message
    with pytest.raises(InputError, match="no form that is known"):
        recognise(tmp_path / "labels.csv")


def test_list_of_birdnet_pi_is_refused_with_what_to_do(tmp_path):
    header = "Date;Time;Sci_Name;Com_Name;Confidence;Lat;Lon;Cutoff;Week;Sens;Overlap"
    with pytest.raises(InputError, match="BirdNET-Pi's list of detections, which tells dates and times but no record"):
        read(tmp_path, f"{header}\n2023-03-03;12:48:01;Phleocryptes melanops;Wren-like Rushbird;0.77;-1;-1;0.7;9;1;0\n")


@pytest.mark.parametrize(
    ("name", "recording"),
    [
        ("dawn.txt", "dawn"),
        ("dawn.wav.txt", "dawn.wav"),
        ("dawn.Table.1.selections.txt", "dawn"),
        ("dawn.selections.txt", "dawn"),
        ("S1_20240501.050000.Table.12.selections.txt", "S1_20240501.050000"),
        ("dawn.BirdNET.selection.table.txt", "dawn"),
        ("dawn.BirdNET.results.csv", "dawn"),
        ("dawn.BirdNET.results.kaleidoscope.csv", "dawn"),
        ("dawn.HawkEars.selection.table.txt", "dawn"),
        ("labels", "labels"),
        ("results.csv", "results"),
    ],
)
def test_recording_is_named_by_its_file_of_labels(tmp_path, name, recording):
    assert name_recording(tmp_path / name) == recording


def raven(*selections, columns="Species"):
    return "\n".join((f"{RAVEN}\t{columns}", *("\t".join(map(str, selection)) for selection in selections))) + "\n"


def selection(number, begin, end, *rest, view="Spectrogram 1"):
    return (number, view, 1, begin, end, 0.0, 11025.0, *rest)


def test_views_of_a_selection_count_once(tmp_path):
    table = raven(
        selection(1, 0.5, 1, "Wren", view="Waveform 1"),
        selection(1, 0.5, 1, "Wren"),
        selection(2, 0.5, 1, "Robin"),
        selection(3, 2, 3, "Wren"),
    )
    annotations = read(tmp_path, table, "dawn.Table.1.selections.txt")
    assert lines(annotations) == [2, 4, 5]
    assert annotations.extras["View"].tolist() == ["Waveform 1", "Spectrogram 1", "Spectrogram 1"]


def test_selections_count_from_their_own_recordings(tmp_path):
    # Two recordings of 60 s were opened as one: the second selection is 1.5 s into the second.
    table = raven(
        selection(1, 5, 6, "a.wav", "/x/a.wav", 5, "Wren"),
        selection(2, 61.5, 64, "b.wav", "/x/b.wav", 1.5, "Wren"),
        selection(3, 70, 71, "b.wav", "/x/b.wav", "", "Wren"),
        columns="Begin File\tBegin Path\tFile Offset (s)\tSpecies",
    )
    annotations = read(tmp_path, table)
    assert rows(annotations) == [("a.wav", 5, 6, "Wren", "present"), ("b.wav", 1.5, 4, "Wren", "present")]
    assert annotations.left_out == (
        (4, "File Offset (s) is '', which is no number of seconds and no hours:minutes:seconds"),
    )
    assert not annotations.beside


def test_folders_tell_recordings_of_one_name_apart(tmp_path):
    table = raven(
        selection(1, 5, 6, "a.wav", "D:\\site1\\a.wav", 5, "Wren"),
        selection(2, 65, 66, "a.wav", "D:\\site2\\a.wav", 5, "Wren"),
        columns="Begin File\tBegin Path\tFile Offset (s)\tSpecies",
    )
    assert [row[0] for row in rows(read(tmp_path, table))] == ["D:\\site1\\a.wav", "D:\\site2\\a.wav"]


def test_folders_of_kaleidoscope_that_hold_the_same_names_are_told_apart(tmp_path):
    cells = "INDIR,FOLDER,IN FILE,OFFSET,DURATION,MANUAL ID\nD:\\s1,n,x.wav,0,1,Wren\n{},n,x.wav,2,1,Robin\n"
    assert [row[0] for row in rows(read(tmp_path, cells.format("D:\\s2")))] == ["D:/s1/n/x.wav", "D:/s2/n/x.wav"]
    # Where nothing is gained, less of a path is more likely to be that of the recordings here.
    assert [row[0] for row in rows(read(tmp_path, cells.format("D:\\s1")))] == ["n/x.wav", "n/x.wav"]


def test_selections_from_several_recordings_need_their_offsets(tmp_path):
    columns = "Begin File\tSpecies"
    assert [row[:3] for row in rows(read(tmp_path, raven(selection(1, 5, 6, "a.wav", "Wren"), columns=columns)))] == [
        ("a.wav", 5, 6)
    ]
    with pytest.raises(InputError, match="from 2 recordings in 'Begin File' but no column 'File Offset"):
        read(tmp_path, raven(selection(1, 5, 6, "a.wav", "W"), selection(2, 61, 62, "b.wav", "W"), columns=columns))


def test_class_column_of_a_selection_table_is_the_first_known_that_is_filled(tmp_path):
    table = raven(selection(1, 0, 1, "", "song", "Wren"), columns="Species\tCall Type\tAnnotation")
    assert said(read(tmp_path, table)) == [("Wren", "present")]
    assert said(read(tmp_path, table, columns={"class": "Call Type"})) == [("song", "present")]
    with pytest.raises(InputError, match=r"no column that is known to have the class, such as Species,.* my notes"):
        read(tmp_path, raven(selection(1, 0, 1, "Wren"), columns="my notes"))


def test_tables_without_detections_say_so(tmp_path):
    for text in (f"{RAVEN}\tSpecies\n", f"{RAVEN}\n", f"{BIRDNET}\n", f"{KALEIDOSCOPE}\n"):
        annotations = read(tmp_path, text)
        assert annotations.table.empty
        assert list(annotations.table) == ["filename", "start", "end", "class", "state", "weight", "line"]


def test_decimal_commas_of_a_selection_table_are_understood(tmp_path):
    table = raven(
        selection(1, "61,512345", "62,512345", "a.wav", "1,512345", "Wren"), columns="Begin File\tFile Offset (s)\tTag"
    )
    assert rows(read(tmp_path, table)) == [("a.wav", 1.512345, 2.512345, "Wren", "present")]


def test_dummy_row_of_birdnet_says_that_nothing_is_there(tmp_path):
    table = raven(
        selection(1, 0, 3, "nocall", "nocall", 1.0, "/a/b.wav", 0),
        columns="Common Name\tSpecies Code\tConfidence\tBegin Path\tFile Offset (s)",
    )
    assert rows(read(tmp_path, table, minimum_confidence=0.9)) == [("/a/b.wav", 0, 3, "", "absent")]


def test_class_with_too_little_confidence_is_unknown(tmp_path):
    detections = [
        "0,3,Parus major,Great Tit,0.49,a.wav",
        "3,6,Parus major,Great Tit,0.5,a.wav",
        "6,9,Bubo bubo,Owl,?,a.wav",
    ]
    text = "\n".join((BIRDNET, *detections))
    assert said(read(tmp_path, text)) == [("Parus major", "present")] * 2 + [("Bubo bubo", "present")]
    annotations = read(tmp_path, text, minimum_confidence=0.5)
    assert said(annotations) == [("Parus major", "unknown"), ("Parus major", "present")]
    assert annotations.left_out == ((4, "Confidence is '?', which is no number"),)
    assert (annotations.table["weight"] == 1).all()
    assert said(read(tmp_path, text, columns={"class": "Common name"}))[0] == ("Great Tit", "present")


def test_least_confidence_that_changes_nothing_is_told(tmp_path):
    assert read(tmp_path, raven(selection(1, 0, 1, "Wren")), minimum_confidence=0.5).notes == (
        "It has no column of confidences, so that the least confidence changes nothing.",
    )
    for least in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="Expected a number from 0 to 1"):
            read_annotations(tmp_path / "labels.csv", minimum_confidence=least)


def test_confidences_in_label_tracks_count(tmp_path):
    text = "0.0\t3.0\tTurdus merula, Eurasian Blackbird\t0.3\n3.0\t6.0\tTurdus merula, Eurasian Blackbird\t1.0000\n"
    assert said(read(tmp_path, text, minimum_confidence=0.5)) == [
        ("Turdus merula", "unknown"),
        ("Turdus merula", "present"),
    ]
    assert said(read(tmp_path, "0\t3\tBCCH;0.3\n3\t6\tBCCH;1\n", minimum_confidence=0.5)) == [
        ("BCCH", "unknown"),
        ("BCCH", "present"),
    ]


def test_label_tracks_are_read(tmp_path):
    text = "1.0\t1.0\tWren\n\\\t-1.0\t6334.5\n\n2\t3.5\tWren; Robin\r\n4\t5\tnoise\n6\t7\n9\t8\tWren\n"
    annotations = read(tmp_path, text)
    assert rows(annotations) == [
        ("labels", 1, 1, "Wren", "present"),
        ("labels", 2, 3.5, "Wren", "present"),
        ("labels", 2, 3.5, "Robin", "present"),
        ("labels", 4, 5, "", "absent"),
    ]
    assert lines(annotations) == [1, 4, 4, 5]
    assert annotations.left_out == ((6, "the label names no class"), (7, "end '8' is before start '9'"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\t2\tWren\n3\n", "1 cells in line 2"),
        ("1\t2\tWren\n3\t4\ta\tb\tc\n", "5 cells in line 2"),
        ("1\t2\tWren\n3\t4\ta\tb\n", "four cells in line 2, but not a confidence"),
    ],
)
def test_broken_label_tracks_are_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


def test_columns_of_a_label_track_cannot_be_named(tmp_path):
    with pytest.raises(InputError, match="has no columns to be named"):
        read(tmp_path, "1\t2\tWren\n", columns={"class": "label"})


def kaleidoscope(*found):
    lines = [f"D:\\x,,{file},0,{offset},2,,,,,,,{top},,{manual}" for file, offset, top, manual in found]
    return "\n".join((KALEIDOSCOPE, *lines))


def test_what_a_person_has_found_counts_before_the_program(tmp_path):
    annotations = read(
        tmp_path, kaleidoscope(("a.wav", 0, "C1", "Wren; Robin"), ("a.wav", 2, "C1", ""), ("a.wav", 4, "C1", "Noise"))
    )
    assert rows(annotations) == [
        ("a.wav", 0, 2, "Wren", "present"),
        ("a.wav", 0, 2, "Robin", "present"),
        ("a.wav", 2, 4, "C1", "unknown"),
        ("a.wav", 4, 6, "", "absent"),
    ]
    assert annotations.notes == ("What nobody has confirmed in MANUAL ID is unknown, not present.",)
    assert said(read(tmp_path, kaleidoscope(("a.wav", 2, "C1", "")))) == [("C1", "present")]


def test_what_the_program_could_not_identify_is_left_out(tmp_path):
    annotations = read(tmp_path, kaleidoscope(("a.wav", 0, "NoID", ""), ("a.wav", 2, "MYSE", ""), ("", 4, "MYSE", "")))
    assert said(annotations) == [("MYSE", "present")]
    assert annotations.left_out == ((2, "MANUAL ID or TOP1MATCH* names no class"), (4, "IN FILE is empty"))
    with pytest.raises(InputError, match="no column MANUAL ID, AUTO ID or TOP1MATCH"):
        read(tmp_path, "IN FILE,OFFSET,DURATION\na.wav,0,1\n")


TIME = st.floats(0, 1e5, allow_subnormal=False)
NAME = st.text(st.characters(categories=("L", "N"), exclude_characters="\0"), min_size=1, max_size=8).filter(
    lambda name: name.casefold() not in {"nocall", "noise", "silence", "background"}
)
STRETCHES = st.lists(st.tuples(TIME, TIME, NAME), min_size=1, max_size=10)


def stretches(drawn):
    """Make stretches of pairs of times, no two alike, in the order of a file."""
    return list(dict.fromkeys((min(first, last), max(first, last), name) for first, last, name in drawn))


@given(STRETCHES, st.sampled_from([".", ","]))
def test_selection_tables_come_back(drawn, point):
    written = stretches(drawn)
    cells = [(repr(start).replace(".", point), repr(end).replace(".", point), name) for start, end, name in written]
    table = raven(*(selection(number, *row) for number, row in enumerate(cells, 1)))
    annotations = read_raven(read_cells(Text(Path("dawn.selections.txt"), table)))
    assert [(row[1], row[2], row[3]) for row in rows(annotations)] == written
    assert lines(annotations) == list(range(2, len(written) + 2))


@given(STRETCHES, st.booleans())
def test_label_tracks_come_back(drawn, frequencies):
    written = stretches(drawn)
    spectral = "\\\t100.0\t200.0\n" if frequencies else ""
    text = "".join(f"{start!r}\t{end!r}\t{name}\n{spectral}" for start, end, name in written)
    annotations = read_audacity(Text(Path("dawn.txt"), text))
    assert [(row[1], row[2], row[3]) for row in rows(annotations)] == written
    assert np.diff([1, *lines(annotations)]).tolist() == [0, *[1 + frequencies] * (len(written) - 1)]
