"""`birdemb labels check` as it is typed, and a fit on what Raven annotated."""

import csv

import numpy as np
import pandas as pd
import pytest
import soundfile
from fit_files import embed, refuse, run, table_of, write_noise, write_workspace

from birdemb.classify.bundle_file import read_bundle
from birdemb.command_output import EXIT_SKIPPED
from birdemb.quantizing import make_judge
from birdemb.training import LabelRules, read_training_data
from birdemb.workspace import Workspace

HEADER = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies\n"
RATE = 22_050


def write_selections(path, *selections):
    lines = [
        f"{number}\tSpectrogram 1\t1\t{start}\t{end}\t1000\t8000\t{name}\n"
        for number, (start, end, name) in enumerate(selections, 1)
    ]
    path.write_text(HEADER + "".join(lines), encoding="utf-8")


@pytest.fixture
def data(tmp_path):
    """Four recordings of 11 s with selections, one without, and selections of a recording that is gone."""
    folder = tmp_path / "data"
    for name in ("1", "2", "3", "4", "5"):
        write_noise(folder / f"{name}.wav", 11, seed=int(name), rate=8000)
    write_selections(folder / "1.Table.1.selections.txt", (1, 2, "Turdus merula"), (1.5, 3, "Turdus merula"))
    write_selections(folder / "2.Table.1.selections.txt", (4, 5.2, "turdus merula"), (7, 12, "Parus major"))
    write_selections(folder / "3.Table.1.selections.txt", (0, 2, "Parus major"), (20, 22, "Parus major"))
    write_selections(folder / "4.Table.1.selections.txt", (9, 10, "Parus majro"), (1, 4, "Parus mayor"))
    return folder


def read_rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_labels_are_checked_before_anything_is_embedded(data, tmp_path):
    said = run("labels", "check", "data", "-o", "rows.csv", status=EXIT_SKIPPED)
    assert "5 recordings (0.02 h)" in said
    assert "1.Table.1.selections.txt: Raven selection table, 2 rows" in said
    assert "rows: 7 used, 1 left out" in said
    assert "labelled: 4 recordings, 12 windows, 7 of them with a class" in said
    assert "'Turdus merula' and 'turdus merula' (capitals, blanks or accents)" in said
    assert "'Parus major' and 'Parus mayor' (one letter)" in said
    assert "1 annotation: Turdus merula in 1.wav at 1.5 s" in said
    assert "cut at the recording's end: 1 annotation: 2.wav, line 3" in said
    assert "5.wav: there is no row for it in 4 files in" in said
    assert "it starts at 20 s, and the recording ends at 11 s" in said
    (common,) = [line for line in said.splitlines() if line.split()[:3] == ["1", "Parus", "major"]]
    assert common.split()[3:6] == ["2", "2", "6.0"]
    became = {(row["file"], row["line"]): row["became"] for row in read_rows(tmp_path / "rows.csv")}
    assert became["1.Table.1.selections.txt", "2"] == "present in 1 of 3 windows"
    assert became["2.Table.1.selections.txt", "2"] == "present in 1 of 3 windows, unknown in 1"
    assert became["2.Table.1.selections.txt", "3"] == (
        "present in 2 of 3 windows; cut at the recording's end at 11 s, as it ends at 12 s"
    )
    assert became["3.Table.1.selections.txt", "3"].startswith("left out: it starts at 20 s")
    assert len(became) == 8


def test_labels_that_are_all_used_are_no_problem(data):
    (data / "5.wav").unlink()
    write_selections(data / "3.Table.1.selections.txt", (0, 2, "Parus major"))
    said = run("labels", "check", "data", "--minimum-overlap", 0.1)
    assert "7 used, 0 left out" in said
    assert "labelled: 4 recordings, 12 windows, 7 of them with a class" in said
    said = run("labels", "check", "data", "--window", 3, "--hop", 1.5, "--unannotated", "unknown")
    assert "28 windows" in said


def test_what_was_embedded_last_is_checked_where_no_folder_is_given(tmp_path):
    table = table_of(4)
    table.loc[0, "filename"] = "amecro/gone.ogg"
    write_workspace(tmp_path, table_of(4))
    table.to_csv(tmp_path / "data/train.csv", index=False)
    said = run("labels", "check", status=EXIT_SKIPPED)
    assert "data/train.csv" in said
    assert "rows: 11 used, 1 left out" in said
    assert "amecro/gone.ogg: train.csv names it, but there is no such recording" in said
    assert "amecro/0.ogg: there is no row for it in train.csv" in said
    assert (tmp_path / ".birdemb/labels-errors.csv").is_file()


def test_windows_are_those_in_which_a_folder_was_embedded(data):
    (data / "5.wav").unlink()
    embed("data", "--window", 3)
    for where in (["data"], []):
        assert "4 recordings, 16 windows" in run("labels", "check", *where, status=EXIT_SKIPPED)
    for other in (["data", "--window", 5], ["data", "--workspace", "other"]):
        assert "4 recordings, 12 windows" in run("labels", "check", *other, status=EXIT_SKIPPED)


def test_class_folders_are_checked_too(tmp_path):
    for name in ("wren/1.wav", "wren/2.wav", "robin,wren/3.wav", "noise/4.wav"):
        write_noise(tmp_path / "data" / name, 6, rate=8000)
    said = run("labels", "check", "data", "-o", "rows.csv")
    assert "labels: class folders" in said
    assert "classes: 2, 1 of them in a single recording" in said
    rows = read_rows(tmp_path / "rows.csv")
    assert [row["became"] for row in rows if row["recording"] == "noise/4.wav"] == ["absent in 2 of 2 windows"]


def test_codes_that_are_known_as_two_species_are_not_nearly_the_same(tmp_path):
    for name in ("grnjay/1.wav", "grejay/2.wav", "blujay/3.wav", "bluejay/4.wav"):
        write_noise(tmp_path / "data" / name, 6, rate=8000)
    taxonomy = "primary_label,scientific_name,common_name\ngrnjay,Cyanocorax yncas,Green Jay\n"
    taxonomy += "grejay,Perisoreus canadensis,Canada Jay\nblujay,Cyanocitta cristata,Blue Jay\n"
    (tmp_path / "data/taxonomy.csv").write_text(taxonomy, encoding="utf-8")
    said = run("labels", "check", "data")
    assert "nearly the same: 1 pair: 'bluejay' and 'blujay' (one letter)" in said
    assert "classes: 4, 4 of them in a single recording; 3 with a scientific name" in said
    assert "without: bluejay" in said
    assert "Cyanocorax yncas (Green Jay)" in said


def test_columns_of_a_plain_table_are_named(tmp_path):
    for name in ("1.wav", "2.wav"):
        write_noise(tmp_path / "data" / name, 6, rate=8000)
    (tmp_path / "notes.csv").write_text(
        "Datei;Vogel;von;bis;sicher\n1;Amsel;1,5;3;0,9\n2;Meise;2;4;0,2\n", encoding="utf-8"
    )
    named = ["filename=Datei", "class=Vogel", "start=von", "end=bis", "confidence=sicher"]
    given = [word for pair in named for word in ("--column", pair)]
    said = run("labels", "check", "data", "--labels", "notes.csv", *given)
    assert "classes: 2" in said
    said = run("labels", "check", "data", "--labels", "notes.csv", *given, "--minimum-confidence", 0.5)
    assert "classes: 1" in said
    assert "rows: 1 used, 0 left out, 1 of classes that are present nowhere" in said
    for wrong in ("Datei", "=Datei", "filename="):
        assert "expected KEY=NAME" in refuse("labels", "check", "data", "--column", wrong, status=2)
    assert "no column 'Bird'" in refuse("labels", "check", "data", "--labels", "notes.csv", "--column", "class=Bird")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "no folder or file nowhere"),
        ([], "Nothing has been embedded"),
        (["data", "--minimum-overlap", 0], "minimum overlap is 0 s"),
        (["data", "--hop", 9], "Windows of 5.0 s every 9.0 s"),
        (["data", "--labels", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_what_cannot_be_checked_is_one_sentence(data, arguments, said):
    assert said in refuse("labels", "check", *arguments)


def test_recordings_that_cannot_be_read_are_listed(data):
    (data / "5.wav").write_bytes(b"no sound")
    said = run("labels", "check", "data", status=EXIT_SKIPPED)
    assert "4 recordings" in said
    assert "5.wav: no audio that libsndfile can read" in said


def test_what_quantization_loses_is_not_judged_by_annotations_with_times(data):
    assert "tells times" in make_judge("data").reason


def sing(path, calls, seconds=20, seed=0):
    """Noise with a tone of its own for each class, where it calls."""
    rng, time = np.random.default_rng(seed), np.arange(seconds * RATE) / RATE
    sound = rng.normal(0, 0.02, len(time))
    for start, end, name in calls:
        pitch = 1500 if name == "low" else 5000
        sound += 0.3 * np.sin(2 * np.pi * pitch * time) * ((time >= start) & (time < end))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, RATE)


@pytest.mark.slow
def test_heads_learn_from_what_raven_annotated(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(10):
        # One class in the first ten seconds, the other in the last five: labels of whole recordings could not tell.
        first, second = rng.uniform(0.5, 8), rng.uniform(15.2, 18)
        order = ("low", "high") if number % 2 else ("high", "low")
        calls = [(first, first + 1.5, order[0]), (second, second + 1.5, order[1])]
        sing(tmp_path / f"data/{number}.wav", calls, seed=number)
        write_selections(tmp_path / f"data/{number}.Table.1.selections.txt", *calls)
    said = run("embed", "data", "--encoder", "melspec", "--jobs", 1)
    assert "labels: 10 files in" in said
    run("fit", "--head", "lr", "--minimum-overlap", 0.4)
    bundle = read_bundle(tmp_path / ".birdemb/bundles/lr.birdemb")
    assert bundle.labels == ("high", "low")
    assert bundle.provenance["label_rules"]["minimum_overlap"] == 0.4
    assert bundle.provenance["label_rules"]["unannotated"] == "absent"
    assert bundle.provenance["labels"] == "10 files such as 0.Table.1.selections.txt"
    data = read_training_data(Workspace(tmp_path / ".birdemb"), rules=LabelRules(minimum_overlap=0.4))
    assert not data.targets[:, 0][data.targets[:, 1]].any()
    sing(tmp_path / "test/x.wav", [(6, 7.5, "high"), (16, 17.5, "low")], seed=99)
    run("predict", "test", "-o", "x.csv", "--jobs", 1)
    found = pd.read_csv(tmp_path / "x.csv").set_index("row_id")
    assert found["high"].idxmax() == "x_10"
    assert found["low"].idxmax() == "x_20"
