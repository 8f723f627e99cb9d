"""Groups of recordings by author and site."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_files import embedded, read, table

from birdemb.errors import InputError
from birdemb.labels import group_recordings, label_windows, read_labels
from birdemb.listing import EmbeddedRecording

HEADER = "filename,primary_label,author,latitude,longitude"


def groups_of(folder, *lines, by, header=HEADER):
    names = [line.split(",")[0] for line in lines]
    labels = read(folder, table(*lines, header=header), names)
    return group_recordings(labels, embedded(*names), by)


def test_recordings_of_one_author_are_a_group(tmp_path):
    groups = groups_of(tmp_path, "1.ogg,wren,Ann,,", "2.ogg,wren,Bo,,", "3.ogg,robin,Ann,,", by="author")
    assert groups.codes.tolist() == [0, 1, 0]
    assert groups.codes.dtype == np.int64
    assert (groups.by, groups.count, groups.alone) == ("author", 2, 0)


def test_capitals_and_blanks_part_no_authors(tmp_path):
    groups = groups_of(tmp_path, "1.ogg,wren,Ann  Lee,,", "2.ogg,wren, ann lee ,,", "3.ogg,wren,Ann,,", by="author")
    assert groups.codes[0] == groups.codes[1] != groups.codes[2]


def test_recordings_of_one_place_are_a_group(tmp_path):
    lines = ("1.ogg,wren,Ann,47.3712,8.5411", "2.ogg,wren,Bo,47.3748,8.5449", "3.ogg,wren,Bo,47.5,8.5")
    groups = groups_of(tmp_path, *lines, by="site")
    assert groups.codes[0] == groups.codes[1] != groups.codes[2]


def test_a_recording_of_nobody_is_a_group_of_its_own(tmp_path):
    groups = groups_of(tmp_path, "1.ogg,wren,,,", "2.ogg,wren,Ann,,", "3.ogg,wren,,,", "4.ogg,wren,Ann,,", by="author")
    assert (groups.count, groups.alone) == (3, 2)
    assert groups.codes[1] == groups.codes[3]
    assert len(set(groups.codes[[0, 1, 2]])) == 3


def test_an_empty_column_leaves_everyone_alone(tmp_path):
    groups = groups_of(tmp_path, "1.ogg,wren,,,", "2.ogg,wren,,,", by="author")
    assert (groups.count, groups.alone) == (2, 2)


def test_a_recording_without_a_label_is_alone(tmp_path):
    labels = read(tmp_path, table("1.ogg,wren,Ann,,", header=HEADER), ("1.ogg", "9.ogg"))
    groups = group_recordings(labels, embedded("9.ogg", "1.ogg"), "author")
    assert (groups.count, groups.alone) == (2, 1)


def test_by_recording_each_content_is_a_group():
    names = ("wren/1.ogg", "wren/2.ogg", "robin/copy.ogg")
    recordings = [EmbeddedRecording(name, sha, 1, 5.0) for name, sha in zip(names, "bab", strict=True)]
    groups = group_recordings(read_labels(None, recordings), recordings)
    assert groups.codes.tolist() == [1, 0, 1]
    assert (groups.by, groups.count, groups.alone) == ("recording", 2, 0)


def test_a_content_is_not_taken_for_a_name(tmp_path):
    labels = read(
        tmp_path,
        table(f"1.ogg,wren,{0:064x}", "2.ogg,wren,", header="filename,primary_label,author"),
        ("1.ogg", "2.ogg"),
    )
    groups = group_recordings(
        labels,
        [EmbeddedRecording("1.ogg", "f", 1, 5.0), EmbeddedRecording("2.ogg", f"{0:064x}", 1, 5.0)],
        "author",
    )
    assert groups.count == 2


def test_missing_columns_are_told_with_those_there_are(tmp_path):
    with pytest.raises(InputError, match=r"grouped by site.*other columns are author\..*latitude"):
        groups_of(tmp_path, "1.ogg,wren,Ann", by="site", header="filename,primary_label,author")
    with pytest.raises(InputError, match=r"grouped by author: class folders.*no other columns.*recordist"):
        group_recordings(read_labels(None, embedded("wren/1.ogg")), embedded("wren/1.ogg"), "author")
    with pytest.raises(InputError, match=r"by 'month'\. Use 'recording', 'author', 'site'"):
        group_recordings(read_labels(None, embedded("wren/1.ogg")), embedded("wren/1.ogg"), "month")


def test_windows_get_the_groups_of_their_recordings(tmp_path):
    names = ("1.ogg", "2.ogg", "3.ogg")
    labels = read(tmp_path, table("1.ogg,wren,Ann", "2.ogg,wren,Bo", "3.ogg,robin,Ann", header=HEADER[:29]), names)
    recordings = [EmbeddedRecording(name, name, windows, 5.0) for name, windows in zip(names, (2, 1, 3), strict=True)]
    windows = label_windows(labels, recordings, group_by="author")
    assert windows.groups.tolist() == [0, 0, 1, 0, 0, 0]
    assert windows.recording.tolist() == [0, 0, 1, 2, 2, 2]
    assert label_windows(labels, recordings).groups.tolist() == windows.recording.tolist()


@pytest.mark.slow
@given(st.lists(st.sampled_from(["", "Ann", "Bo", "Cy"]), min_size=1, max_size=12), st.randoms())
def test_groups_are_a_partition_whatever_the_order(tmp_path_factory, authors, random):
    names = [f"{index}.ogg" for index in range(len(authors))]
    lines = [f"{name},wren,{author}" for name, author in zip(names, authors, strict=True)]
    labels = read(tmp_path_factory.mktemp("labels"), table(*lines, header="filename,primary_label,author"), names)
    recordings = embedded(*names)
    groups = group_recordings(labels, recordings, "author")
    for one in range(len(names)):
        for other in range(one):
            same = bool(authors[one]) and authors[one] == authors[other]
            assert (groups.codes[one] == groups.codes[other]) == same
    assert sorted(set(groups.codes.tolist())) == list(range(groups.count))
    assert groups.alone == authors.count("")
    order = list(range(len(names)))
    random.shuffle(order)
    moved = group_recordings(labels, [recordings[index] for index in order], "author")
    np.testing.assert_array_equal(moved.codes, groups.codes[order])
