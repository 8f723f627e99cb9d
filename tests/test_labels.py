"""Labels from BirdCLEF tables and from class folders, and from there to windows."""

import unicodedata

import numpy as np
import pytest
from label_files import NAMES, embedded, problems, read, rows, table

from birdemb.errors import InputError
from birdemb.labels import find_labels, label_windows, read_labels
from birdemb.listing import EmbeddedRecording


def found_in(folder, *names):
    """The files of labels of a folder of recordings."""
    return find_labels(folder, names).paths


def test_a_table_in_the_folder_comes_before_one_beside_it(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    assert found_in(data) == ()
    for place in (
        tmp_path / "train_metadata.csv",
        tmp_path / "train.csv",
        data / "train_metadata.csv",
        data / "train.csv",
    ):
        place.touch()
        assert found_in(data)[0].samefile(place)


def test_a_table_beside_the_current_folder_is_found(tmp_path, monkeypatch):
    (tmp_path / "train.csv").touch()
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "data")
    assert found_in(tmp_path.__class__("."))[0].samefile(tmp_path / "train.csv")


def test_a_folder_called_as_a_table_is_none(tmp_path):
    (tmp_path / "data/train.csv").mkdir(parents=True)
    assert found_in(tmp_path / "data") == ()


def test_a_birdclef_table_is_read(tmp_path):
    labels = read(tmp_path, table("a/1.ogg,wren,[]", "a/2.ogg,wren,['robin']", "b/3.ogg,robin,\"['wren', 'robin']\""))
    assert labels.classes == ("robin", "wren")
    assert labels.problems == ()
    assert labels.source == str(tmp_path / "train.csv")
    assert rows(labels) == [
        ("a/1.ogg", "wren", "present"),
        ("a/2.ogg", "robin", "unknown"),
        ("a/2.ogg", "wren", "present"),
        ("b/3.ogg", "robin", "present"),
        ("b/3.ogg", "wren", "unknown"),
    ]
    assert (labels.table["weight"] == 1).all()
    assert labels.count_recordings() == {"robin": 1, "wren": 2}


def test_other_columns_and_their_order_do_not_matter(tmp_path):
    text = 'rating,primary_label,author,filename\n5,wren,"Ann, Bo",a/1.ogg\n4,robin,"two\nlines",a/2.ogg\n'
    assert rows(read(tmp_path, text)) == [("a/1.ogg", "wren", "present"), ("a/2.ogg", "robin", "present")]


@pytest.mark.parametrize(
    ("filename", "names"),
    [
        ("1.ogg", ("a/1.ogg",)),
        ("a/1.ogg", ("a/1.ogg",)),
        ("train_audio/a/1.ogg", ("a/1.ogg",)),
        ("a/1.ogg", ("1.ogg",)),
        ("a/1.ogg", ("train_audio/a/1.ogg", "train_audio/b/1.ogg")),
        ("./a/1.ogg", ("a/1.ogg",)),
        (r"a\1.ogg", ("a/1.ogg",)),
        (" a/1.ogg ", ("a/1.ogg",)),
        ("a/1.ogg", ("a/1.ogg", "b/1.ogg")),
    ],
)
def test_a_recording_is_found_with_more_or_fewer_folders(tmp_path, filename, names):
    assert rows(read(tmp_path, table(f"{filename},wren,"), names)) == [(names[0], "wren", "present")]


@pytest.mark.parametrize("written", ["site/rec_1.wav", "REC_1.wav", "site/REC_1", r"D:\Site\Rec_1.Wav"])
def test_a_recording_is_found_in_whatever_capitals(tmp_path, written):
    labels = read(tmp_path, table(f"{written},wren,"), ("Site/REC_1.WAV", "Site/REC_2.WAV"))
    assert rows(labels) == [("Site/REC_1.WAV", "wren", "present")]


@pytest.mark.parametrize(("written", "name"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_recording_is_found_however_unicode_writes_its_accents(tmp_path, written, name):
    filename, recording = (unicodedata.normalize(form, "Vögel/Grünspecht.wav") for form in (written, name))
    assert rows(read(tmp_path, table(f"{filename},wren,"), (recording,))) == [(recording, "wren", "present")]


def test_the_recording_in_these_capitals_comes_first(tmp_path):
    names = ("a.wav", "A.wav")
    labels = read(tmp_path, table("A.wav,wren,", "a.wav,robin,"), names)
    assert sorted(rows(labels)) == [("A.wav", "wren", "present"), ("a.wav", "robin", "present")]
    with pytest.raises(InputError, match=r"'A\.WAV' may be 'a\.wav' or 'A\.wav'"):
        read(tmp_path, table("A.WAV,wren,"), names)


def test_a_name_that_two_recordings_end_in_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"'1\.ogg' may be 'a/1\.ogg' or 'b/1\.ogg'"):
        read(tmp_path, table("1.ogg,wren,"), ("a/1.ogg", "b/1.ogg"))


def test_another_folder_of_the_same_file_name_is_another_recording(tmp_path):
    labels = read(tmp_path, table("a/1.ogg,wren,", "c/1.ogg,robin,", "c/9.ogg,robin,"), ("a/1.ogg",))
    assert rows(labels) == [("a/1.ogg", "wren", "present")]
    assert problems(labels) == {("c/1.ogg", "label"), ("c/9.ogg", "label")}


def test_label_of_a_skipped_recording_goes_to_no_other_of_that_file_name(tmp_path):
    labels = read(tmp_path, table("a/1.ogg,wren,", "b/1.ogg,robin,"), ("a/1.ogg",), skipped=["b/1.ogg"])
    assert rows(labels) == [("a/1.ogg", "wren", "present")]
    assert labels.problems == ()


@pytest.mark.parametrize("name", ["1139490", "NA", "nan", "None", "true", "1e5", "007", "1.0", "null"])
def test_class_names_stay_text(tmp_path, name):
    labels = read(tmp_path, table(f"a/1.ogg,{name},", f"a/2.ogg,wren,['{name}']"))
    assert labels.classes == tuple(sorted((name, "wren")))
    assert ("a/2.ogg", name, "unknown") in rows(labels)


def test_numbers_in_a_list_of_secondary_labels_are_class_names(tmp_path):
    labels = read(tmp_path, table("a/1.ogg,1139490,[]", 'a/2.ogg,wren,"[1139490, 5]"'))
    assert ("a/2.ogg", "1139490", "unknown") in rows(labels)


def test_a_byte_order_mark_is_no_part_of_a_column(tmp_path):
    assert rows(read(tmp_path, table("a/1.ogg,wren,"), encoding="utf-8-sig")) == [("a/1.ogg", "wren", "present")]


def test_names_beyond_ascii_are_read(tmp_path):
    labels = read(tmp_path, table("ü/鳥.ogg,Grün­specht,"), ("ü/鳥.ogg",))
    assert labels.classes == ("Grün­specht",)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("", set()),
        ("[]", set()),
        ("['']", set()),
        ("  ", set()),
        ("['robin']", {"robin"}),
        ("['robin', 'finch']", {"robin", "finch"}),
        ('[""robin"", ""finch""]', {"robin", "finch"}),
        ("[robin, finch]", {"robin", "finch"}),
        ("robin finch", {"robin", "finch"}),
        ("robin;finch", {"robin", "finch"}),
        ("robin; finch", {"robin", "finch"}),
        (" robin ", {"robin"}),
        ("['robin', 'robin']", {"robin"}),
        ("['robin'", {"robin"}),
    ],
)
def test_secondary_labels_come_in_many_forms(tmp_path, cell, expected):
    labels = read(tmp_path, table(f'a/1.ogg,wren,"{cell}"', "a/2.ogg,robin,", "b/3.ogg,finch,"))
    assert {row[1] for row in rows(labels) if row[2] == "unknown"} == expected
    assert labels.classes == ("finch", "robin", "wren")


def test_a_class_that_is_never_primary_is_dropped(tmp_path):
    labels = read(tmp_path, table("a/1.ogg,wren,['owl']", "a/2.ogg,robin,['wren' 'owl']"))
    assert labels.classes == ("robin", "wren")
    assert "owl" not in set(labels.table["class"])
    assert ("a/2.ogg", "wren", "unknown") in rows(labels)


def test_recordings_and_labels_without_each_other_are_listed(tmp_path):
    labels = read(tmp_path, table("a/1.ogg,wren,", "z/9.ogg,wren,"))
    assert problems(labels) == {("z/9.ogg", "label"), ("a/2.ogg", "label"), ("b/3.ogg", "label")}
    reasons = {problem.recording: problem.reason for problem in labels.problems}
    assert "no such recording" in reasons["z/9.ogg"]
    assert "no row" in reasons["a/2.ogg"]
    assert all("train.csv" in reason for reason in reasons.values())


def test_the_label_of_a_skipped_recording_is_no_problem(tmp_path):
    labels = read(tmp_path, table("a/1.ogg,wren,", "z/9.ogg,wren,"), ("a/1.ogg",), skipped=["z/9.ogg"])
    assert labels.problems == ()
    assert labels.count_recordings() == {"wren": 1}


def test_several_rows_of_a_recording_are_several_classes(tmp_path):
    labels = read(tmp_path, table("a/1.ogg,wren,", "a/1.ogg,robin,", "a/2.ogg,wren,", "b/3.ogg,wren,"))
    assert labels.count_recordings() == {"robin": 1, "wren": 3}
    assert labels.problems == ()


def test_class_folders_are_classes():
    labels = read_labels(None, embedded("wren/1.ogg", "deep/robin/2.ogg", "wren, robin/3.ogg", "4.ogg"))
    assert rows(labels) == [
        ("deep/robin/2.ogg", "robin", "present"),
        ("wren, robin/3.ogg", "robin", "present"),
        ("wren, robin/3.ogg", "wren", "present"),
        ("wren/1.ogg", "wren", "present"),
    ]
    assert labels.recordings["recording"].tolist() == ["deep/robin/2.ogg", "wren, robin/3.ogg", "wren/1.ogg"]
    assert labels.columns == ()
    assert labels.classes == ("robin", "wren")
    assert labels.source == "class folders"
    assert problems(labels) == {("4.ogg", "label")}


def test_recordings_without_any_class_folder_are_refused():
    with pytest.raises(InputError, match=r"no train\.csv .* --labels"):
        read_labels(None, embedded("1.ogg", "2.ogg"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("recorder,primary_label\na/1.ogg,wren\n", "recorder, primary_label"),
        ("filename,bird\na/1.ogg,wren\n", "filename, bird"),
        ("", "empty"),
        ("filename,primary_label\n", "no rows"),
        ("filename,primary_label\n  ,wren\n", "in line 2, filename is empty"),
        ("filename,primary_label\nx/7.ogg,wren\n", "none of the 3 recordings"),
        ("filename,primary_label\na/1.ogg,wren,too,many\n", "4 cells in line 2"),
        (b"\x00\x01\x02\xff" * 50, "UTF-8"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_with_its_path(tmp_path, content, told):
    with pytest.raises(InputError, match=told) as caught:
        read(tmp_path, content)
    assert str(tmp_path / "train.csv") in str(caught.value)


def test_what_does_not_match_is_shown(tmp_path):
    with pytest.raises(InputError, match=r"'x/7\.ogg', a recording is 'a/1\.ogg'"):
        read(tmp_path, table("x/7.ogg,wren,"))


def test_a_table_without_any_recording_is_told(tmp_path):
    with pytest.raises(InputError, match=r"none of the 0 recordings.* no recording"):
        read(tmp_path, table("x/7.ogg,wren,"), names=())


@pytest.mark.parametrize(
    ("name", "told"), [("missing.csv", "cannot be opened"), (".", "no files of labels in the folder")]
)
def test_a_table_that_cannot_be_opened_is_told(tmp_path, name, told):
    with pytest.raises(InputError, match=told):
        read_labels(tmp_path / name, embedded(*NAMES))


def test_rows_without_a_name_or_a_class_are_listed(tmp_path):
    labels = read(tmp_path, table("a/1.ogg,wren,", "a/2.ogg,,", ",robin,"), ("a/1.ogg",))
    assert rows(labels) == [("a/1.ogg", "wren", "present")]
    assert {(problem.recording, problem.reason) for problem in labels.problems} == {
        ("train.csv", "line 3: primary_label is empty"),
        ("train.csv", "line 4: filename is empty"),
    }


def test_a_table_in_latin_1_is_read(tmp_path):
    labels = read(tmp_path, table("a/1.ogg,Grünspecht,"), encoding="latin-1")
    assert labels.classes == ("Grünspecht",)


def test_a_class_called_as_a_column_of_submissions_is_refused(tmp_path):
    with pytest.raises(InputError, match="class row_id"):
        read(tmp_path, table("a/1.ogg,row_id,", "a/2.ogg,wren,"))


def test_labels_are_brought_to_windows(tmp_path):
    labels = read(tmp_path, table("a/1.ogg,wren,['robin']", "a/2.ogg,robin,['robin']", "b/3.ogg,owl,"))
    recordings = [
        EmbeddedRecording("b/3.ogg", "3" * 64, 1, 5.0),
        EmbeddedRecording("a/1.ogg", "1" * 64, 3, 12.0),
        EmbeddedRecording("a/2.ogg", "2" * 64, 2, 9.0),
    ]
    windows = label_windows(labels, recordings)
    assert labels.classes == ("owl", "robin", "wren")
    assert windows.present.dtype == np.int8
    assert windows.weights.dtype == np.float32
    assert windows.groups.dtype == windows.recording.dtype == np.int64
    np.testing.assert_array_equal(windows.present, [[1, 0, 0], *[[0, 0, 1]] * 3, *[[0, 1, 0]] * 2])
    # Secondary is unknown; but where it is primary too, it is known.
    np.testing.assert_array_equal(windows.weights, [[1, 1, 1], *[[1, 0, 1]] * 3, *[[1, 1, 1]] * 2])
    np.testing.assert_array_equal(windows.known, windows.weights == 1)
    np.testing.assert_array_equal(windows.recording, [0, 1, 1, 1, 2, 2])


def test_names_that_are_no_valid_text_are_labelled():
    names = ("wren/caf\udce9.ogg", "robin/2.ogg")
    labels = read_labels(None, embedded(*names))
    assert rows(labels) == [("robin/2.ogg", "robin", "present"), ("wren/caf\udce9.ogg", "wren", "present")]
    np.testing.assert_array_equal(label_windows(labels, embedded(*names)).present, [[0, 1], [1, 0]])
    assert labels.count_recordings() == {"robin": 1, "wren": 1}


def test_what_is_primary_in_one_row_and_secondary_in_another_is_known(tmp_path):
    labels = read(tmp_path, table("a/1.ogg,wren,['robin']", "a/1.ogg,robin,['wren']"))
    windows = label_windows(labels, embedded("a/1.ogg"))
    np.testing.assert_array_equal(windows.present, [[1, 1]])
    np.testing.assert_array_equal(windows.known, [[1, 1]])


def test_only_the_recordings_asked_for_get_rows(tmp_path):
    labels = read(tmp_path, table("a/1.ogg,wren,", "a/2.ogg,robin,", "b/3.ogg,wren,"))
    windows = label_windows(labels, embedded("a/2.ogg", "unlabelled.ogg", windows=4))
    assert windows.present.shape == windows.weights.shape == (8, 2)
    np.testing.assert_array_equal(windows.present[:4], [[1, 0]] * 4)
    assert not windows.present[4:].any()


def test_folders_of_noise_say_that_nothing_is_there():
    names = ("Noise/1.ogg", "wren/2.ogg", "BACKGROUND/3.ogg", "wren, nocall/4.ogg", "x/silence/5.ogg", "robin/6.ogg")
    labels = read_labels(None, embedded(*names))
    assert labels.classes == ("robin", "wren")
    windows = label_windows(labels, embedded(*names))
    np.testing.assert_array_equal(windows.present, [[0, 0], [0, 1], [0, 0], [0, 1], [0, 0], [1, 0]])
    assert windows.known.all()
    assert len(labels.recordings) == 6
    with pytest.raises(InputError, match="no labels"):
        read_labels(None, embedded("noise/1.ogg"))


def test_a_primary_label_of_nothing_is_no_class(tmp_path):
    labels = read(tmp_path, table("a/1.ogg,wren,", "a/2.ogg,NoCall,", "b/3.ogg,nocall,['wren']"))
    assert labels.classes == ("wren",)
    windows = label_windows(labels, embedded(*NAMES))
    np.testing.assert_array_equal(windows.present, [[1], [0], [0]])
    np.testing.assert_array_equal(windows.known, [[True], [True], [False]])
