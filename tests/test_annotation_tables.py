"""Tables of labels: those of BirdCLEF, Hugging Face's metadata, and plain ones with named columns or 0 and 1."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from annotation_files import lines, read, rows, said
from hypothesis import given
from hypothesis import strategies as st
from label_files import COLUMNS

from birdemb.annotations.birdclef import read_soundscape_labels
from birdemb.annotations.recognition import read_annotations, recognise
from birdemb.annotations.text_files import Text, read_cells
from birdemb.errors import InputError, MissingDependencyError


@pytest.mark.parametrize("year", COLUMNS)
def test_focal_recordings_of_all_years_are_read(tmp_path, year):
    columns = COLUMNS[year].split(",")
    values = {"primary_label": "1139490", "secondary_labels": "\"['amegfi', '65448']\"", "rating": "4.5"}
    values |= {"filename": "XC1.ogg" if year == 2021 else "1139490/XC1.ogg"}
    annotations = read(tmp_path, f"{COLUMNS[year]}\n{','.join(values.get(name, '') for name in columns)}\n")
    assert annotations.form == "BirdCLEF table of focal recordings"
    name = values["filename"]
    assert rows(annotations) == [
        (name, None, None, "1139490", "present"),
        (name, None, None, "amegfi", "unknown"),
        (name, None, None, "65448", "unknown"),
    ]
    told = {"filename", "primary_label", "secondary_labels"}
    assert list(annotations.extras) == [name for name in columns if name not in told]
    assert annotations.extras["rating"].tolist() == ["4.5"] * 3


def test_focal_recordings_without_name_or_class_are_left_out(tmp_path):
    text = "filename,primary_label,secondary_labels\na.ogg,,wren\n,wren,\nc.ogg,nocall,\nd.ogg,NA,['nocall']\n"
    annotations = read(tmp_path, text)
    assert rows(annotations) == [("c.ogg", None, None, "", "absent"), ("d.ogg", None, None, "NA", "present")]
    assert annotations.left_out == ((2, "primary_label is empty"), (3, "filename is empty"))


def test_stretches_of_focal_recordings_keep_their_times(tmp_path):
    text = "filename,start,end,primary_label,secondary_labels\na.ogg,5,10,wren,robin\nb.ogg,,,wren,\n"
    annotations = read(tmp_path, text)
    assert not annotations.complete
    assert rows(annotations) == [
        ("a.ogg", 5, 10, "wren", "present"),
        ("a.ogg", 5, 10, "robin", "unknown"),
        ("b.ogg", None, None, "wren", "present"),
    ]


def test_soundscapes_of_2021_are_read(tmp_path):
    text = "row_id,site,audio_id,seconds,birds\n7019_COR_5,COR,7019,5,nocall\n7019_COR_600,COR,7019,600,rucwar amecro\n"
    annotations = read(tmp_path, text)
    assert rows(annotations) == [
        ("7019_COR", 0, 5, "", "absent"),
        ("7019_COR", 595, 600, "rucwar", "present"),
        ("7019_COR", 595, 600, "amecro", "present"),
    ]
    assert annotations.notes == ("Its row ids name recordings by the beginning of their names, up to an underscore.",)


def test_row_ids_of_other_years_name_whole_stems(tmp_path):
    text = "row_id,birds\nH02_20230420_074000_5,wren;robin\nsoundscape_29201_10,\nsoundscape29201,wren\nx_2,wren\n"
    annotations = read(tmp_path, text)
    assert [row[:3] for row in rows(annotations)] == [("H02_20230420_074000", 0, 5)] * 2
    assert annotations.notes == ()
    reason = "expected a file stem, an underscore and the second in which its 5 seconds end"
    assert annotations.left_out == (
        (3, "birds names no class"),
        (4, f"row_id is 'soundscape29201'; {reason}"),
        (5, f"row_id is 'x_2'; {reason}"),
    )


def test_blanks_part_codes_but_not_words_of_a_name(tmp_path):
    header = "filename,start,end,primary_label\n"
    codes = read(tmp_path, f"{header}a.ogg,0,5,22961 47158son01\na.ogg,5,10,22961; ashgre1 nocall\n")
    assert [name for name, _ in said(codes)] == ["22961", "47158son01", "22961", "ashgre1"]
    names = read(tmp_path, f"{header}a.ogg,0,5,Turdus merula\na.ogg,5,10,Parus major;nocall\n")
    assert [name for name, _ in said(names)] == ["Turdus merula", "Parus major"]


def test_blanks_part_codes_whatever_the_capitals_of_nocall(tmp_path):
    annotations = read(tmp_path, "row_id,birds\nx_5,amecro wooduc\nx_10,NOCALL\n")
    assert said(annotations) == [("amecro", "present"), ("wooduc", "present"), ("", "absent")]


def test_rows_that_are_there_twice_count_once(tmp_path):
    # The table of 2026 has each row twice.
    row = "a.ogg,00:00:00,00:00:05,22961;23158\n"
    annotations = read(tmp_path, f"filename,start,end,primary_label\n{row}{row}")
    assert lines(annotations) == [2, 2]
    assert annotations.notes == ("2 annotations were the same as another.",)


CODES = st.sampled_from(["nocall", "22961", "ashgre1", "47158son01", "amecro"])


@given(
    st.lists(st.tuples(st.integers(0, 700), st.sets(CODES, min_size=1, max_size=3)), min_size=1, max_size=8),
    st.sampled_from([" ", ";", "; "]),
    st.booleans(),
)
def test_labels_of_soundscapes_come_back(windows, separator, by_row_id):
    written = list({window: sorted(names) for window, names in windows}.items())
    text = "row_id,birds\n" if by_row_id else "filename,start,end,primary_label\n"
    for window, names in written:
        first, last = (
            f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}" for second in (5 * window, 5 * window + 5)
        )
        text += f"a_{5 * window + 5}," if by_row_id else f"a,{first},{last},"
        text += separator.join(names) + "\n"
    annotations = read_soundscape_labels(read_cells(Text(Path("labels.csv"), text)))
    expected = []
    for line, (window, names) in enumerate(written, 2):
        classes = [name for name in names if name != "nocall"]
        expected += [(5.0 * window, 5.0 * window + 5, name, "present", line) for name in classes]
        expected += [] if classes else [(5.0 * window, 5.0 * window + 5, "", "absent", line)]
    table = annotations.table
    found = zip(table["start"], table["end"], table["class"], table["state"], table["line"], strict=True)
    assert list(found) == expected


def test_columns_are_named_by_the_user(tmp_path):
    text = "clip;von;dauer;art;sicher;zahl\na.wav;1,5;2;Amsel;ja;2\nb.wav;0;1;Star;?;0,5\n"
    names = {"filename": "clip", "start": "von", "duration": "dauer", "class": "art", "weight": "zahl"}
    annotations = read(tmp_path, text, columns=names)
    assert rows(annotations) == [("a.wav", 1.5, 3.5, "Amsel", "present"), ("b.wav", 0, 1, "Star", "present")]
    assert annotations.table["weight"].tolist() == [2, 0.5]
    assert list(annotations.extras) == ["sicher"]
    # Those that are not named are looked for.
    usual = text.replace("clip", "filename").replace("von", "start").replace("dauer", "duration")
    assert rows(read(tmp_path, usual, columns={"class": "art"})) == rows(annotations)


def test_columns_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(InputError, match="have no column 'art'; their columns are file, label"):
        read(tmp_path, "file,label\na.wav,Wren\n", columns={"class": "art"})
    with pytest.raises(InputError, match=r"cannot be named for 'species'\. Use filename, start, end, duration, class"):
        read(tmp_path, "file,label\na.wav,Wren\n", columns={"species": "label"})
    with pytest.raises(InputError, match="no column that is known to have the class"):
        read(tmp_path, "clip,art\na.wav,Wren\n", columns={"filename": "clip"})
    with pytest.raises(InputError, match="no column that names recordings"):
        read(tmp_path, "clip,art\na.wav,Wren\n", columns={"class": "art"})


def test_states_and_weights_are_read(tmp_path):
    cells = ["present,1", "Absent,2", "?,0.5", "1,1", "perhaps,1", "0,0", "0,x", "no,nan", "yes,1"]
    annotations = read(
        tmp_path, "file,label,state,weight\n" + "".join(f"a.wav,c{index},{cell}\n" for index, cell in enumerate(cells))
    )
    assert [state for _, state in said(annotations)] == ["present", "absent", "unknown", "present", "present"]
    assert annotations.table["weight"].tolist() == [1, 2, 0.5, 1, 1]
    assert annotations.left_out == (
        (6, "state is 'perhaps'; expected present, unknown, absent, 1 or 0"),
        (7, "weight is '0'; expected a number above 0"),
        (8, "weight is 'x'; expected a number above 0"),
        (9, "weight is 'nan'; expected a number above 0"),
    )


@pytest.mark.parametrize(("least", "of_second"), [(0.0, "present"), (0.6, "unknown")])
def test_predictions_of_all_windows_are_present_where_they_were_detected(tmp_path, least, of_second):
    columns = "recording,start,end,start_time,end_time,class,scientific_name,common_name,probability,detected"
    text = f"{columns}\na.wav,0,5,,,wren,,,0.9,1\na.wav,5,10,,,wren,,,0.5,1\na.wav,10,15,,,wren,,,0.1,0\n"
    said_of = [state for *_, state in rows(read(tmp_path, text, minimum_confidence=least))]
    assert said_of == ["present", of_second, "absent"]
    with pytest.raises(InputError, match="line 2, detected is ''; expected present"):
        read(tmp_path, f"{columns}\na.wav,0,5,,,wren,,,0.9,\n")  # of a bundle without thresholds


def test_detected_is_a_class_where_there_is_no_other(tmp_path):
    annotations = read(tmp_path, "filename,detected\na.wav,1\nb.wav,0\n")
    assert annotations.form == "table of 0 and 1"
    assert rows(annotations) == [("a.wav", None, None, "detected", "present"), ("b.wav", None, None, "", "absent")]


def test_that_noise_is_absent_says_nothing(tmp_path):
    annotations = read(tmp_path, "file,label,state\na.wav,Noise,present\na.wav,noise,absent\n")
    assert said(annotations) == [("", "absent")]
    assert annotations.left_out == ((3, "that 'noise' is absent says nothing of any class"),)


@pytest.mark.parametrize(
    ("column", "cell", "names"),
    [
        ("label", "wren; robin", ["wren", "robin"]),
        ("label", "wren|robin", ["wren", "robin"]),
        ("label", "Gull, Herring", ["Gull, Herring"]),
        ("labels", "wren, robin", ["wren", "robin"]),
        ("label", "['wren', 'robin']", ["wren", "robin"]),
        ("label", '["wren", 12, null]', ["wren", "12"]),
        ("species", "Turdus merula", ["Turdus merula"]),
        ("label", "wren;wren;nocall", ["wren"]),
    ],
)
def test_several_classes_in_a_cell_are_parted(tmp_path, column, cell, names):
    annotations = read(tmp_path, f'file\t{column}\na.wav\t"{cell.replace(chr(34), chr(34) * 2)}"\n')
    assert [name for name, _ in said(annotations)] == names


def test_durations_without_a_start_are_those_of_recordings(tmp_path):
    assert rows(read(tmp_path, "file,label,duration\na.wav,Wren,31\n")) == [("a.wav", None, None, "Wren", "present")]


def test_offsets_end_only_what_has_an_onset(tmp_path):
    with pytest.raises(InputError, match="no column for the end or duration"):
        read(tmp_path, "file,label,start,offset_s\na.wav,Wren,1,2\n")


@pytest.mark.parametrize(("column", "lacking"), [("start", "end or duration"), ("end", "start")])
def test_times_without_another_are_refused(tmp_path, column, lacking):
    with pytest.raises(InputError, match=f"in '{column}', but have no column for the {lacking}"):
        read(tmp_path, f"file,{column},label\na.wav,1.5,Wren\n")
    assert rows(read(tmp_path, f"file,{column},label\na.wav,,Wren\n")) == [("a.wav", None, None, "Wren", "present")]


def test_table_without_recordings_is_about_the_one_it_is_named_after(tmp_path):
    annotations = read(tmp_path, "start,end,label\n0,1,Wren\n", "dawn.labels.csv")
    assert rows(annotations) == [("dawn", 0, 1, "Wren", "present")]
    assert annotations.beside


def test_columns_of_0_and_1_are_classes(tmp_path):
    cells = ("a.wav,0,5,1,1,1.0", "a.wav,5,10,0,0,0", "a.wav,10,15,0,,0", "a.wav,15,20,1,TRUE,")
    text = "\n".join(("filename,start,end,fold,wren,robin", *cells))
    annotations = read(tmp_path, text)
    assert annotations.complete
    assert rows(annotations) == [
        ("a.wav", 0, 5, "wren", "present"),
        ("a.wav", 0, 5, "robin", "present"),
        ("a.wav", 5, 10, "", "absent"),
        ("a.wav", 10, 15, "wren", "unknown"),
        ("a.wav", 15, 20, "wren", "present"),
        ("a.wav", 15, 20, "robin", "unknown"),
    ]
    assert annotations.extras["fold"].tolist() == ["1", "1", "0", "0", "1", "1"]
    assert annotations.notes == ("Its columns of 0 and 1 are taken for 2 classes.",)


def test_row_ids_place_rows_of_0_and_1(tmp_path):
    assert rows(read(tmp_path, "row_id,wren\na_b_5,1\na_b_10,0\n")) == [
        ("a_b", 0, 5, "wren", "present"),
        ("a_b", 5, 10, "", "absent"),
    ]
    named = "row_id,filename,wren\na_b_5,a/b.ogg,1\n"
    assert rows(read(tmp_path, named)) == [("a/b.ogg", 0, 5, "wren", "present")]
    # A number of the row is no row id.
    assert rows(read(tmp_path, named.replace("a_b_5", "0"))) == [("a/b.ogg", None, None, "wren", "present")]
    named_column = {"filename": "clip"}
    assert rows(read(tmp_path, "clip,wren\na.ogg,1\n", columns=named_column)) == [
        ("a.ogg", None, None, "wren", "present")
    ]


def test_scores_are_no_labels(tmp_path):
    with pytest.raises(InputError, match=r"'0\.5' for the class 'wren' in line 3: this is a table of scores"):
        read(tmp_path, "row_id,robin,wren\na_5,1,0\na_10,0,0.5\n")
    # Neither is a table with columns that nobody knows.
    with pytest.raises(InputError, match="no form that is known"):
        read(tmp_path, "filename,bird,is_test\na.wav,wren,1\n")


def test_metadata_of_hugging_face_is_read(tmp_path):
    first = '{"file_name": "a.wav", "species": ["wren", 7], "site": {"lat": 1.50}}'
    text = first + '\n\n{"species": "robin", "file_name": "b.wav"}\n'
    annotations = read(tmp_path, text, "metadata.jsonl")
    assert rows(annotations) == [
        ("a.wav", None, None, "wren", "present"),
        ("a.wav", None, None, "7", "present"),
        ("b.wav", None, None, "robin", "present"),
    ]
    assert lines(annotations) == [1, 1, 3]
    assert annotations.extras["site"].tolist() == ['{"lat": "1.50"}'] * 2 + [""]
    assert said(read(tmp_path, "file_name,wren\na.wav,1\n")) == [("wren", "present")]
    assert said(read(tmp_path, "file_name,label,kind\na.wav,1,song\n", columns={"class": "kind"})) == [
        ("song", "present")
    ]


def test_numbers_of_classes_stay_whole_beside_a_missing_one(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "labels.parquet"
    pd.DataFrame({"file": ["a.wav", "b.wav"], "label": [1139490, None]}).to_parquet(path)
    annotations = read_annotations(path)
    assert said(annotations) == [("1139490", "present")]
    assert annotations.left_out == ((2, "label names no class"),)


def test_parquet_is_read_as_what_is_in_it(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "labels.parquet"
    frame = pd.DataFrame({"Start (s)": [0.0, 3.0], "End (s)": [3.0, 6.0], "Scientific name": ["Parus major"] * 2})
    frame.assign(Confidence=[0.5, None], File="a.wav").to_parquet(path)
    annotations = read_annotations(path)
    assert recognise(path) == annotations.form == "BirdNET results"
    assert rows(annotations)[1] == ("a.wav", 3, 6, "Parus major", "present")
    assert annotations.extras["Confidence"].tolist() == ["0.5", ""]
    # Numbers beside a gap stay whole numbers, and lists are several classes.
    classes = pd.array([1139490, None], dtype="Int64")
    pd.DataFrame({"filename": ["a.wav", "b.wav"], "label": classes}).to_parquet(path)
    assert said(read_annotations(path)) == [("1139490", "present")]
    assert read_annotations(path).left_out == ((2, "label names no class"),)
    pd.DataFrame({"file_name": ["a.wav"], "labels": [["wren", "robin, the"]]}).to_parquet(path)
    assert [name for name, _ in said(read_annotations(path))] == ["wren", "robin, the"]


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    # None in its place is how Python itself marks a module that cannot be imported.
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "labels.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingDependencyError, match=r"pip install 'birdemb\[parquet\]'"):
        read_annotations(tmp_path / "labels.parquet")


def test_large_tables_with_thousands_of_classes_are_read(tmp_path):
    cells = [f"{index % 20}.wav,{index // 20},{index // 20 + 1},class{index % 4999:04}" for index in range(20_000)]
    annotations = read(tmp_path, "file,start,end,label\n" + "\n".join(cells))
    assert len(annotations.table) == 20_000
    assert annotations.table["class"].nunique() == 4999
    assert lines(annotations) == list(range(2, 20_002))
