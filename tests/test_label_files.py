"""Where labels are found, and which of several."""

import pytest
from label_files import embedded, problems, rows, table

from birdemb.errors import InputError
from birdemb.labels import LabelFiles, collect_labels, find_labels, read_labels

RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tSpecies\n1\tSpectrogram 1\t1\t{}\t{}\t{}\n"
NAMES = ("a/1.wav", "a/2.wav", "b/1.wav")


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def names_of(found, folder):
    return [path.relative_to(folder).as_posix() for path in found.paths]


def test_selections_beside_recordings_are_found_and_read(tmp_path):
    folder = write(
        tmp_path / "data",
        {
            "a/1.Table.1.selections.txt": RAVEN.format(1, 2, "wren"),
            "a/2.selections.txt": RAVEN.format(0, 3, "robin"),
            "b/1.txt": "0.5\t2.5\twren\n",
            "b/notes.txt": "a walk by the river",
        },
    )
    found = find_labels(folder, NAMES)
    assert names_of(found, folder) == ["a/1.Table.1.selections.txt", "a/2.selections.txt", "b/1.txt"]
    assert found.passed_over == ()
    labels = read_labels(found, embedded(*NAMES))
    present = labels.table[labels.table["state"] == "present"]
    assert present[["recording", "start", "class"]].to_numpy().tolist() == [
        ["a/1.wav", 1, "wren"],
        ["a/2.wav", 0, "robin"],
        ["b/1.wav", 0.5, "wren"],
    ]
    assert labels.problems == ()
    assert labels.source == f"3 files in {folder}"
    assert labels.name == "3 files such as 1.Table.1.selections.txt"


def test_a_table_without_selections_says_that_nothing_is_there(tmp_path):
    files = {"a/1.selections.txt": RAVEN.format(1, 2, "wren"), "a/2.selections.txt": RAVEN.partition("\n")[0] + "\n"}
    folder = write(tmp_path, files)
    found = find_labels(folder, NAMES)
    labels = read_labels(found, embedded(*NAMES))
    assert rows(labels)[-1] == ("a/2.wav", "", "absent")
    assert problems(labels) == {("b/1.wav", "label")}
    labels = read_labels(found, embedded(*NAMES), unannotated="unknown")
    assert problems(labels) == {("a/2.wav", "label"), ("b/1.wav", "label")}
    with pytest.raises(InputError, match=r"no class: no row says that one is present"):
        read_labels(folder / "a/2.selections.txt", embedded(*NAMES))


def test_files_of_people_come_before_those_of_birdnet(tmp_path):
    files = {
        "a/1.BirdNET.selection.table.txt": RAVEN.format(0, 3, "robin"),
        "a/1.Table.1.selections.txt": RAVEN.format(1, 2, "wren"),
        "a/1.Table.2.selections.txt": RAVEN.format(2, 3, "finch"),
        "a/2.BirdNET.selection.table.txt": RAVEN.format(0, 3, "robin"),
    }
    found = find_labels(write(tmp_path, files), NAMES)
    assert names_of(found, tmp_path) == [
        "a/1.Table.1.selections.txt",
        "a/1.Table.2.selections.txt",
        "a/2.BirdNET.selection.table.txt",
    ]
    assert found.passed_over == ("1.BirdNET.selection.table.txt beside the recordings",)


def test_what_is_no_file_of_labels_leaves_the_folders_as_classes(tmp_path):
    notes = {"a/1.txt": "Recorded by the river at dawn.", "a/2.txt": "Wind."}
    found = find_labels(write(tmp_path, notes), NAMES)
    labels = read_labels(found, embedded(*NAMES))
    assert labels.source == "class folders"
    assert labels.classes == ("a", "b")
    assert labels.passed_over == ("2 files such as 1.txt beside the recordings, which are no labels",)


def test_labels_beside_recordings_that_cannot_be_used_do_not_leave_the_folders_as_classes(tmp_path):
    files = {"a/1.txt": "Recorded at dawn.", "a/2.txt": "1,5\t2\twren\n2.5\t3\twren\n"}
    found = find_labels(write(tmp_path, files), NAMES)
    with pytest.raises(InputError, match=r"2\.txt have the number '1,5' .* a decimal comma and a point"):
        read_labels(found, embedded(*NAMES))


def test_a_broken_file_among_others_is_listed(tmp_path):
    found = find_labels(write(tmp_path, {"a/1.txt": "1\t2\twren\n", "a/2.txt": "nothing of the kind"}), NAMES)
    labels = read_labels(found, embedded(*NAMES))
    assert problems(labels) == {("2.txt", "label"), ("a/2.wav", "label"), ("b/1.wav", "label")}


def test_a_table_comes_before_files_beside_the_recordings(tmp_path):
    folder = write(tmp_path / "data", {"train.csv": table("a/1.wav,wren,"), "a/1.txt": "1\t2\trobin\n"})
    write(tmp_path, {"train_metadata.csv": table("a/1.wav,finch,")})
    found = find_labels(folder, NAMES)
    assert names_of(found, folder) == ["train.csv"]
    assert found.passed_over == (str(tmp_path / "train_metadata.csv"), "1.txt beside the recordings")


def test_a_table_of_other_recordings_is_passed_over(tmp_path):
    write(
        tmp_path,
        {
            "train.csv": table("wren/XC1.ogg,wren,", "robin/XC2.ogg,robin,"),
            "train_soundscape_labels.csv": "row_id,birds\nH02_20230420_5,wren\n",
            "soundscapes/metadata.csv": "recorder,battery\nH02,full\n",
        },
    )
    found = find_labels(tmp_path / "soundscapes", ["H02_20230420.ogg"])
    assert [path.name for path in found.paths] == ["train_soundscape_labels.csv"]
    assert found.passed_over == ("metadata.csv", str(tmp_path / "train.csv"))
    # Where no table is about these recordings, it is told of the first of BirdCLEF's.
    assert [path.name for path in find_labels(tmp_path / "soundscapes", ["x.ogg"]).paths] == ["train.csv"]


def test_a_table_of_another_kind_is_no_table_of_labels(tmp_path):
    write(tmp_path, {"metadata.csv": "recorder,battery\nH02,full\n"})
    found = find_labels(tmp_path, NAMES)
    assert found == LabelFiles((), {}, guessed=True, passed_over=("metadata.csv",))
    assert read_labels(found, embedded(*NAMES)).source == "class folders"


def test_metadata_of_hugging_face_is_found_in_the_folder_alone(tmp_path):
    text = "file_name,label\na/1.wav,wren\na/2.wav,robin\n"
    folder = write(tmp_path / "data", {"metadata.csv": text})
    assert rows(read_labels(find_labels(folder, NAMES), embedded(*NAMES)))[0] == ("a/1.wav", "wren", "present")
    other = write(tmp_path / "other", {"a/1.txt": "1\t2\twren\n"})
    write(tmp_path, {"metadata.csv": text})
    assert names_of(find_labels(other, NAMES), other) == ["a/1.txt"]


def test_a_folder_of_files_can_be_given(tmp_path):
    folder = write(
        tmp_path / "raven",
        {
            "a/1.selections.txt": RAVEN.format(1, 2, "wren"),
            "b/1.txt": "1\t2\trobin\n",
            "2.txt": "1\t2\tfinch\n",
            "lost.txt": "1\t2\tfinch\n",
            ".hidden/9.txt": "1\t2\tfinch\n",
            "readme.md": "not read",
        },
    )
    labels = read_labels(folder, embedded(*NAMES))
    present = [row for row in rows(labels) if row[2] == "present"]
    assert present == [("a/1.wav", "wren", "present"), ("a/2.wav", "finch", "present"), ("b/1.wav", "robin", "present")]
    assert [(problem.recording, problem.reason) for problem in labels.problems] == [
        ("lost", "lost.txt is called as it, but there is no such recording")
    ]


def test_several_files_add_up(tmp_path):
    write(
        tmp_path,
        {
            "train.csv": table("a/1.wav,wren,", header="filename,primary_label,author").replace("wren,", "wren,Ann"),
            "more.csv": table("a/1.wav,robin,", "a/2.wav,wren,"),
        },
    )
    labels = read_labels([tmp_path / "train.csv", tmp_path / "more.csv"], embedded(*NAMES))
    assert [row[:2] for row in rows(labels)] == [("a/1.wav", "robin"), ("a/1.wav", "wren"), ("a/2.wav", "wren")]
    assert labels.recordings["author"].tolist() == ["Ann", None]
    assert labels.source == f"{tmp_path / 'train.csv'} and {tmp_path / 'more.csv'}"
    assert problems(labels) == {("b/1.wav", "label")}


def test_a_name_of_two_recordings_leaves_out_its_rows_alone(tmp_path):
    path = write(tmp_path, {"t.csv": table("1.wav,wren,", "1.wav,robin,", "2.wav,wren,")}) / "t.csv"
    labels = read_labels(path, embedded(*NAMES))
    assert rows(labels) == [("a/2.wav", "wren", "present")]
    (told,) = [problem.reason for problem in labels.problems if problem.recording == "1.wav"]
    assert "'1.wav' may be 'a/1.wav' or 'b/1.wav'" in told


def test_a_folder_without_files_of_labels_is_told(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no files of labels in the folder .*empty"):
        collect_labels([tmp_path / "empty"])


@pytest.mark.parametrize(
    ("filename", "names", "expected"),
    [
        ("1", ("1.wav",), "1.wav"),
        ("a/1", ("a/1.wav", "b/1.wav"), "a/1.wav"),
        ("deep/a/1", ("a/1.wav",), "a/1.wav"),
        ("1.wav", ("1.wav", "a/1.wav"), "1.wav"),
        ("7019_COR", ("7019_COR_20190904.ogg",), "7019_COR_20190904.ogg"),
        ("night.1", ("night.1.wav",), "night.1.wav"),
    ],
)
def test_a_recording_is_found_without_its_suffix(tmp_path, filename, names, expected):
    path = write(tmp_path, {"t.csv": table(f"{filename},wren,")}) / "t.csv"
    assert rows(read_labels(path, embedded(*names))) == [(expected, "wren", "present")]


@pytest.mark.parametrize("filename", ["1_COR", "night", "1.mp3", "a/2"])
def test_a_name_that_is_only_alike_is_none(tmp_path, filename):
    path = write(tmp_path, {"t.csv": table(f"{filename},wren,")}) / "t.csv"
    with pytest.raises(InputError, match="labels none of the 3 recordings"):
        read_labels(path, embedded("1_COR_dawn.wav", "night_1.wav", "1.wav"))


SITES = ("site1/x.wav", "site2/x.wav")


def used(labels):
    table = labels.table[labels.table["state"] == "present"]
    return list(zip(table["recording"], table["class"], strict=True))


def test_a_table_of_all_sites_labels_the_one_that_was_taken(tmp_path):
    path = write(tmp_path, {"t.csv": table("site1/x.wav,wren,", "site2/x.wav,robin,")}) / "t.csv"
    labels = read_labels(path, embedded("x.wav"), folder="/data/site1")
    assert used(labels) == [("x.wav", "wren")]
    (problem,) = labels.problems
    assert problem.recording == "site2/x.wav"
    assert problem.reason == "t.csv names it, but 'x.wav' is 'site1/x.wav', which is in another folder"
    assert used(read_labels(path, embedded(*SITES))) == [("site1/x.wav", "wren"), ("site2/x.wav", "robin")]


def test_names_of_two_recordings_for_one_are_left_out(tmp_path):
    lines = ("site1/x.wav,wren,", "site2/x.wav,robin,", "y.wav,wren,", "C:\\rec\\y.wav,robin,")
    labels = read_labels(write(tmp_path, {"t.csv": table(*lines)}) / "t.csv", embedded("x.wav", "y.wav"))
    assert used(labels) == [("y.wav", "robin"), ("y.wav", "wren")]
    told = [problem.reason for problem in labels.problems if problem.recording in SITES]
    assert len(told) == 2
    assert all("'site1/x.wav' and 'site2/x.wav' may not both be 'x.wav'" in reason for reason in told)


def test_names_of_several_machines_count_where_they_agree_as_far_with_the_folder(tmp_path):
    lines = ("/home/ann/night/x.wav,wren,", "C:\\ben\\night\\x.wav,robin,")
    path = write(tmp_path, {"t.csv": table(*lines)}) / "t.csv"
    assert used(read_labels(path, embedded("night/x.wav"), folder="/data/ann")) == [("night/x.wav", "wren")]
    assert len(used(read_labels(path, embedded("x.wav"), folder="/data/night"))) == 2


@pytest.mark.parametrize("form", [RAVEN, RAVEN.replace("\n1", "\tBegin File\n1").replace("{}\n", "{}\tx.wav\n")])
def test_files_of_labels_in_folders_are_about_the_recordings_in_these(tmp_path, form):
    files = {
        f"{site}/x.selections.txt": form.format(1, 2, name) for site, name in (("site1", "wren"), ("site2", "tit"))
    }
    folder = write(tmp_path / "raven", files)
    assert used(read_labels(folder, embedded(*SITES))) == [("site1/x.wav", "wren"), ("site2/x.wav", "tit")]
    # Of a site that was not taken nothing reaches another; whatever the folder that was taken.
    assert used(read_labels(folder, embedded("site1/x.wav"))) == [("site1/x.wav", "wren")]
    assert used(read_labels(folder, embedded("x.wav"), folder="/data/site2")) == [("x.wav", "tit")]
    # Folders of people, who all annotated it.
    assert used(read_labels(folder, embedded("x.wav"), folder="/data")) == [("x.wav", "tit"), ("x.wav", "wren")]
