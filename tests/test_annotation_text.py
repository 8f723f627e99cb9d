"""Opening files of labels: encodings, separators, quotation marks, lines, numbers and times."""

import codecs
import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from annotation_files import lines, read, rows, said
from hypothesis import given
from hypothesis import strategies as st

from birdemb.annotations.table import COLUMNS
from birdemb.annotations.text_files import Text, read_cells, read_text
from birdemb.errors import InputError

HEADER = "file,start,end,label"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_unicode_is_read_whatever_its_encoding(tmp_path, encoding):
    annotations = read(tmp_path, f"{HEADER}\na.wav,0,1,Möwe 鳥\n", encoding=encoding)
    assert rows(annotations) == [("a.wav", 0, 1, "Möwe 鳥", "present")]
    assert annotations.notes == ()


@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE])
def test_both_orders_of_utf_16_are_read(tmp_path, mark):
    encoding = "utf-16-le" if mark == codecs.BOM_UTF16_LE else "utf-16-be"
    annotations = read(tmp_path, mark + f"{HEADER}\na.wav,0,1,Möwe\n".encode(encoding))
    assert said(annotations) == [("Möwe", "present")]


def test_windows_1252_is_read_and_told_with_a_word_to_judge_by(tmp_path):
    annotations = read(tmp_path, f"{HEADER}\na.wav,0,1,Wren\na.wav,1,2,Grande Möwe\n", encoding="cp1252")
    assert said(annotations) == [("Wren", "present"), ("Grande Möwe", "present")]
    (note,) = annotations.notes
    assert "Windows-1252" in note
    assert "'Möwe' in line 3" in note


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "are empty"),
        (b"\xef\xbb\xbf\r\n", "are empty"),
        (b"file,label\na.wav,\x81\n", "neither UTF-8 nor Windows-1252"),
        ("file,label\na.wav,Wren\n".encode("utf-16-le"), "UTF-16 without saying so"),
        (codecs.BOM_UTF16_LE + b"a", "begin as utf-16 but are not"),
        (b'file,label\na.wav,"Wren\nb.wav,Wren\n', "a quotation mark .* Look at line 2"),
        (b'file,label\na.wav,Wren\n\nb.wav,"Wren"s\n', "a quotation mark .* Look at line 4"),
        (b"file,label,label\na.wav,Wren,Robin\n", "two columns 'label'"),
        (b"file,label\na.wav,Wren\nb.wav,Wren,1,2\n", "4 cells in line 3 and 2 columns, separated by commas"),
        (b"file,start,end,label\na.wav,0,5,1,5,Wren\n", "6 cells in line 2.*decimal comma"),
        (b'{"file_name": "a.wav", "label": "b"}\n[1]\n', "no JSON object in line 2"),
        (b'{"file_name": "a.wav", "label": "b"}\n{"file_name\n', "no JSON object in line 2"),
        (b"file,label\n", "have no rows"),
        (b"PAR1 and nothing else", "no readable Parquet file"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, content)


@pytest.mark.parametrize("start", [b"PK\x03\x04\x14\0", b"\xd0\xcf\x11\xe0\xa1"])
def test_workbooks_are_refused_with_what_to_do(tmp_path, start):
    with pytest.raises(InputError, match=r"are a workbook or an archive\. Save the sheet that has them as CSV"):
        read(tmp_path, start + bytes(range(256)), "labels.xlsx")


def test_missing_file_and_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(InputError, match="cannot be opened"):
            read_text(path)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends_are_found(tmp_path, separator, ending):
    text = ending.join(
        (" file ,start,end,label".replace(",", separator), "a.wav,0,1, Wren ".replace(",", separator), "")
    )
    annotations = read(tmp_path, text)
    assert rows(annotations) == [("a.wav", 0, 1, "Wren", "present")]
    assert lines(annotations) == [2]


def test_separator_that_excel_tells_is_taken_and_counts_as_a_line(tmp_path):
    annotations = read(tmp_path, "sep=;\r\nfile;label\r\na.wav;Wren, the little one\r\n")
    assert said(annotations) == [("Wren, the little one", "present")]
    assert lines(annotations) == [3]


def test_codes_stay_as_they_are(tmp_path):
    names = ("1139490", "NA", "nan", "007", "1e5", "True", "None", "-")
    annotations = read(tmp_path, "file,label\n" + "".join(f"a.wav,{name}\n" for name in names))
    assert [name for name, _ in said(annotations)] == list(names)


def test_lines_are_those_of_an_editor(tmp_path):
    text = 'file,note,label\na.wav,"two\nlines",Wren\n\n,,\nb.wav,"three\r\n\r\nlines",Wren\nc.wav,,Wren\n'
    annotations = read(tmp_path, text)
    assert lines(annotations) == [2, 6, 9]
    assert annotations.extras["note"].tolist() == ["two\nlines", "three\r\n\r\nlines", ""]


def test_name_of_a_column_may_have_line_breaks(tmp_path):
    annotations = read(tmp_path, '"what;\nsaid";file;label\nx;a.wav;Wren\n')
    assert {name: cells.tolist() for name, cells in annotations.extras.items()} == {"what;\nsaid": ["x"]}
    assert lines(annotations) == [3]


def test_long_cells_are_shortened_in_reasons(tmp_path):
    annotations = read(tmp_path, f"{HEADER}\na.wav,{'9' * 5000},1,Wren\na.wav,0,1,Wren\n")
    assert annotations.left_out == (
        (2, f"start is '{'9' * 40}...', which is no number of seconds and no hours:minutes:seconds"),
    )


def test_short_rows_are_filled_and_nameless_columns_dropped(tmp_path):
    annotations = read(tmp_path, ",file,label,note,\n0,a.wav,Wren\n1,b.wav,Wren,x,,\n")
    assert {name: cells.tolist() for name, cells in annotations.extras.items()} == {"note": ["", "x"]}


def test_annotations_have_the_columns_they_should(tmp_path):
    annotations = read(tmp_path, "file,label,note\na.wav,Wren;Robin,x\nb.wav,Wren,y\n")
    assert {name: annotations.table[name].dtype for name in annotations.table} == {
        name: np.dtype(kind) for name, kind in COLUMNS.items()
    }
    assert annotations.extras["note"].tolist() == ["x", "x", "y"]
    assert (annotations.table["weight"] == 1).all()
    assert isinstance(annotations.table.index, pd.RangeIndex)


@pytest.mark.parametrize("text", ["0,25", "0,250", "00:00:00,25", "2,5e-1", "0.25", ".25", " 0.25", "+0.25"])
def test_numbers_are_understood(tmp_path, text):
    annotations = read(tmp_path, f"file;start;end;label\na.wav;{text};3;Wren\n")
    assert rows(annotations) == [("a.wav", 0.25, 3, "Wren", "present")]


@pytest.mark.parametrize("text", ["1:02:03.5", "01:02:03,5", "3723.5", "3723,5"])
def test_clock_times_are_seconds(tmp_path, text):
    annotations = read(tmp_path, f"file;start;end;label\na.wav;{text};4000;Wren\n")
    assert annotations.table["start"].tolist() == [3723.5]


def test_comma_that_may_part_thousands_is_refused(tmp_path):
    with pytest.raises(InputError, match="'1,500' in 'start' or 'end', whose comma may part thousands or decimals"):
        read(tmp_path, f'{HEADER}\na.wav,"1,500","2,500",Wren\n')
    # Here it cannot: nobody writes 0 thousands, nor one decimal; and semicolons go with decimal commas.
    assert rows(read(tmp_path, f'{HEADER}\na.wav,"1,500","2,5",Wren\n')) == [("a.wav", 1.5, 2.5, "Wren", "present")]
    assert rows(read(tmp_path, "file;start;end;label\na.wav;1,500;2,500;Wren\n")) == [
        ("a.wav", 1.5, 2.5, "Wren", "present")
    ]


def test_decimal_commas_and_points_do_not_go_together(tmp_path):
    with pytest.raises(InputError, match=r"'1,5' in .* and '1\.234' in line 3"):
        read(tmp_path, "file;start;end;label\na.wav;1,5;2;Wren\na.wav;1.234;2000;Wren\n")


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        ("nan", "1", "start is 'nan', which is no number of seconds and no hours:minutes:seconds"),
        ("inf", "1", "start is 'inf', which is no number of seconds and no hours:minutes:seconds"),
        ("0", "Infinity", "end is 'Infinity', which is no number of seconds and no hours:minutes:seconds"),
        ("-1", "1", "start is '-1', before the recording begins"),
        ("2", "1", "end '1' is before start '2'"),
        ("x", "1", "start is 'x', which is no number of seconds and no hours:minutes:seconds"),
        ("", "1", "start is '', which is no number of seconds and no hours:minutes:seconds"),
        ("0", "", "end is '', which is no number of seconds and no hours:minutes:seconds"),
        ("0", "1:30", "end is '1:30', which is no number of seconds and no hours:minutes:seconds"),
        ("0", "00:00:61", "end is '00:00:61', which is no number of seconds and no hours:minutes:seconds"),
        ("0", "1,234.5", "end is '1,234.5', which is no number of seconds and no hours:minutes:seconds"),
    ],
)
def test_impossible_times_leave_the_row_out(tmp_path, start, end, reason):
    annotations = read(tmp_path, f'{HEADER}\na.wav,0,1,Wren\na.wav,"{start}","{end}",Wren\na.wav,2,3,Wren\n')
    assert annotations.left_out == ((3, reason),)
    assert lines(annotations) == [2, 4]


def test_file_of_which_nothing_can_be_used_is_refused_with_the_first_reason(tmp_path):
    with pytest.raises(InputError, match=r"None of the 2 rows .* in line 2, end '1' is before start '2'\."):
        read(tmp_path, f"{HEADER}\na.wav,2,1,Wren\na.wav,x,1,Wren\n")


def test_rows_that_say_the_same_are_one(tmp_path):
    annotations = read(tmp_path, f"{HEADER},note\na.wav,0,1,Wren,\na.wav,0,1,Wren;Robin,\na.wav,0,1,Wren,other\n")
    assert said(annotations) == [("Wren", "present"), ("Robin", "present"), ("Wren", "present")]
    assert lines(annotations) == [2, 3, 4]
    assert annotations.notes == ("1 annotation was the same as another.",)


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@given(
    st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=8),
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n"]),
)
def test_cells_come_back_with_their_lines(table, separator, ending):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, lineterminator=ending, quoting=csv.QUOTE_ALL)
    writer.writerow(("a", "b", "c"))
    expected = []
    for row in table:
        line = len(text.getvalue().replace("\r\n", "\n").replace("\r", "\n").split("\n"))
        writer.writerow(row)
        if any(cell.strip() for cell in row):
            expected.append((*(cell.strip() for cell in row), line))
    cells = read_cells(Text(Path("labels.csv"), text.getvalue()))
    found = [(*row, line) for row, line in zip(zip(*cells.cells.values(), strict=True), cells.lines, strict=True)]
    assert found == expected
