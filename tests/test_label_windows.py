"""From annotations with times to windows."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_files import embedded, table

from birdemb.errors import InputError
from birdemb.labels import Labels, label_windows, read_labels
from birdemb.listing import EmbeddedRecording

COLUMNS = ["recording", "start", "end", "class", "state", "weight"]
CLASSES = ("robin", "wren")
EIGHTHS = st.integers(0, 8 * 14).map(lambda number: number / 8)


def by_hand(*rows, classes=CLASSES):
    return Labels(pd.DataFrame(rows, columns=COLUMNS), classes, "by hand", ())


def wren(start, end, state="present", label="wren", weight=1.0, recording="1.ogg"):
    return recording, start, end, label, state, weight


def entries(labels, *, seconds=15.0, window=5.0, hop=None, **settings):
    """Each window of 1.ogg as one letter a class: + present, - absent, ? unknown."""
    count = 1 + max(0, math.ceil((seconds - window) / (hop or window)))
    found = label_windows(
        labels, [EmbeddedRecording("1.ogg", "1" * 64, count, seconds)], window=window, hop=hop, **settings
    )
    signs = np.where(found.weights == 0, "?", np.where(found.present == 1, "+", "-"))
    return ["".join(column) for column in signs.T]


@pytest.mark.parametrize(
    ("start", "end", "windows"),
    [
        (1, 4, "+??"),
        (4.25, 5.75, "++?"),
        (4.25, 5.5, "++?"),
        (4.25, 5.25, "+??"),  # a quarter of a second in the second window
        (4.75, 6, "?+?"),
        (4.9, 5.1, "+??"),  # too short for half a second: where most of it is, and of two halves the first
        (4.9, 5.3, "?+?"),
        (4.8, 5.0, "+??"),
        (5.0, 5.2, "?+?"),
        (3, 3, "+??"),
        (5, 5, "?+?"),
        (15, 15, "??+"),
        (0, 15, "+++"),
        (4.75, 10.25, "?+?"),
        (np.nan, 6, "++?"),
        (9, np.nan, "?++"),
        (14.75, 20, "??+"),
    ],
)
def test_an_annotation_reaches_windows_by_its_overlap(start, end, windows):
    _, found = entries(by_hand(wren(start, end)))
    assert found == windows


def test_the_minimum_overlap_can_be_chosen():
    labels = by_hand(wren(3, 6))
    assert entries(labels, minimum_overlap=1)[1] == "++?"
    assert entries(labels, minimum_overlap=1.5)[1] == "+??"
    assert entries(labels, minimum_overlap=100)[1] == "+??"
    assert entries(by_hand(wren(3, 12)), minimum_overlap=100)[1] == "?+?"


@pytest.mark.parametrize("wrong", [0, -1, np.nan, np.inf])
def test_a_minimum_overlap_that_is_none_is_refused(wrong):
    with pytest.raises(InputError, match="Expected more than 0"):
        entries(by_hand(wren(1, 2)), minimum_overlap=wrong)


def test_windows_may_overlap_and_the_last_one_is_padded():
    assert entries(by_hand(wren(6, 7)), hop=2.5, seconds=11.0)[1] == "?++?"
    # The last window holds a quarter of a second, and all of that is annotated.
    assert entries(by_hand(wren(7, 10.25)), seconds=10.25)[1] == "?++"
    assert entries(by_hand(wren(7, 10.125)), seconds=10.25)[1] == "?+?"


def test_what_overlaps_too_little_is_unknown_and_not_absent():
    whole = by_hand(wren(4, 5.25), wren(np.nan, np.nan, "absent", label=""))
    assert entries(whole) == ["---", "+?-"]
    assert entries(by_hand(wren(4, 5.25), wren(np.nan, np.nan, "absent"))) == ["---", "+--"]


def test_that_nothing_is_there_is_said_of_windows_that_are_covered():
    assert entries(by_hand(wren(0, 10, "absent", label=""), wren(1, 2))) == ["--?", "+-?"]
    assert entries(by_hand(wren(0, 9.5, "absent", label=""))) == ["-??", "-??"]
    # Stretches that follow each other are one.
    assert entries(by_hand(*(wren(at, at + 2.5, "absent", label="") for at in (5, 7.5, 0)))) == ["?-?", "?-?"]
    assert entries(by_hand(wren(5, 9, "absent"), wren(8, 11, "absent"))) == ["???", "?-?"]
    assert entries(by_hand(wren(10, 20, "absent", label=""))) == ["??-", "??-"]


def test_an_unknown_label_with_times_is_what_secondary_labels_are():
    labels = by_hand(wren(1, 5.25, "unknown"), wren(np.nan, np.nan, "absent", label=""))
    assert entries(labels)[1] == "??-"
    assert entries(labels, secondary="present")[1] == "+?-"
    assert entries(labels, secondary="ignore")[1] == "-?-"


def test_the_heaviest_of_several_labels_counts():
    labels = by_hand(wren(1, 4, weight=0.25), wren(2, 6, weight=0.75), wren(2, 3, weight=0.5))
    found = label_windows(labels, embedded("1.ogg", windows=2))
    np.testing.assert_array_equal(found.weights[:, 1], [0.75, 0.75])


def test_labels_of_the_whole_recording_and_with_times_go_together():
    assert entries(by_hand(wren(np.nan, np.nan, label="robin"), wren(6, 7))) == ["+++", "-+-"]


@st.composite
def tables(draw):
    """Rows of a recording of 13.25 s, with its grid of windows; times are eighths, which floats hold exactly."""
    rows = []
    for _ in range(draw(st.integers(0, 6))):
        start, end = sorted((draw(EIGHTHS), draw(EIGHTHS)))
        start, end = min(start, 13.25), end if start < 13.25 else 13.25
        if draw(st.integers(0, 5)) == 0:
            start = end = np.nan
        state = draw(st.sampled_from(["present", "present", "unknown", "absent"]))
        label = draw(st.sampled_from(CLASSES if state != "absent" else (*CLASSES, "")))
        rows.append(wren(start, end, state, label))
    grid = draw(st.sampled_from([(5.0, 5.0), (5.0, 2.5), (3.0, 3.0), (4.0, 0.5), (20.0, 5.0)]))
    return (
        rows,
        grid,
        draw(st.sampled_from([0.125, 0.5, 1.0, 2.5, 10.0])),
        draw(st.sampled_from(["unknown", "present"])),
    )


def reach(row, count, window, hop, minimum, seconds):
    """For each window whether a row touches it, and whether it counts in it."""
    start = 0.0 if math.isnan(row[1]) else row[1]
    end = min(seconds, seconds if math.isnan(row[2]) else row[2])
    overlaps, touched, enough = [], [], []
    for place in range(count):
        begin, finish = place * hop, min(place * hop + window, seconds)
        overlap = min(end, finish) - max(start, begin)
        holds = begin <= start < finish or (place == count - 1 and start == seconds)
        overlaps.append(overlap)
        touched.append(holds if start == end else overlap > 0)
        enough.append(touched[-1] and (start == end or overlap >= min(minimum, end - start, finish - begin)))
    if not any(enough):
        enough[overlaps.index(max(overlaps))] = True
    return touched, enough


def is_covered(rows, begin, finish, seconds):
    cells = np.arange(begin, finish, 0.125)
    inside = np.zeros(len(cells), bool)
    for _, start, end, *_ in rows:
        first, last = (0.0 if math.isnan(start) else start), (seconds if math.isnan(end) else end)
        inside |= (cells >= first) & (cells < last)
    return bool(inside.all())


@given(tables())
def test_windows_are_those_of_a_plain_account(drawn):
    rows, (window, hop), minimum, secondary = drawn
    seconds = 13.25
    count = 1 + max(0, math.ceil((seconds - window) / hop))
    whole = any(math.isnan(row[1]) for row in rows)
    expected = []
    for label in CLASSES:
        told = ""
        for place in range(count):
            begin, finish = place * hop, min(place * hop + window, seconds)
            sign = "-" if whole or not rows else "?"
            if is_covered([row for row in rows if row[3] == ""], begin, finish, seconds):
                sign = "-"
            own = [row for row in rows if row[3] == label]
            reached = {
                state: [reach(row, count, window, hop, minimum, seconds) for row in own if row[4] == state]
                for state in ("present", "unknown")
            }
            if any(touched[place] or enough[place] for part in reached.values() for touched, enough in part):
                sign = "?"
            if any(enough[place] for _, enough in reached["unknown"]):
                sign = "+" if secondary == "present" else "?"
            if is_covered([row for row in own if row[4] == "absent"], begin, finish, seconds):
                sign = "-"
            if any(enough[place] for _, enough in reached["present"]):
                sign = "+"
            told += sign
        expected.append(told)
    found = entries(
        by_hand(*rows), seconds=seconds, window=window, hop=hop, minimum_overlap=minimum, secondary=secondary
    )
    assert found == expected


def test_no_annotation_is_lost_however_windows_lie():
    rng = np.random.default_rng(0)
    starts = rng.uniform(0, 59, 500)
    rows = [
        wren(start, min(60.0, start + length)) for start, length in zip(starts, rng.exponential(0.4, 500), strict=True)
    ]
    for window, hop in ((5.0, 5.0), (3.0, 0.7), (1.0, 0.1)):
        count = 1 + math.ceil(round((60 - window) / hop, 6))
        recording = [EmbeddedRecording("1.ogg", "1" * 64, count, 60.0)]
        for row in rows[:60]:
            assert label_windows(by_hand(row), recording, window=window, hop=hop).present.sum() >= 1
        together = label_windows(by_hand(*rows), recording, window=window, hop=hop).present[:, 1]
        alone = [label_windows(by_hand(row), recording, window=window, hop=hop).present[:, 1] for row in rows[:20]]
        assert (together >= np.max(alone, axis=0)).all()


@pytest.mark.parametrize(("third", "known"), [("nocall", [0, 1, 0, 1, 0, 1, 0, 0]), ("wren", [0, 1, 1, 1, 1, 1, 0, 0])])
def test_a_soundscape_labelled_in_full_is_unknown_where_nobody_listened(tmp_path, third, known):
    # A table that has stretches without a call lists all to which somebody has listened.
    text = table(
        "a/1.ogg,00:00:05,00:00:10,wren;robin",
        f"a/1.ogg,00:00:15,00:00:20,{third}",
        "a/1.ogg,00:00:25,00:00:30,robin",
        header="filename,start,end,primary_label",
    )
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    recordings = embedded("a/1.ogg", "a/2.ogg", windows=8)
    labels = read_labels(tmp_path / "labels.csv", recordings)
    found = label_windows(labels, recordings[:1])
    assert labels.classes == ("robin", "wren")
    wrens = [0, 1, 0, int(third == "wren"), 0, 0, 0, 0]
    np.testing.assert_array_equal(found.present.T, [[0, 1, 0, 0, 0, 1, 0, 0], wrens])
    np.testing.assert_array_equal(found.known.T, [known] * 2)


def test_clips_of_0_and_1_say_nothing_of_what_lies_between_them(tmp_path):
    path = tmp_path / "clips.csv"
    path.write_text("file,start_time,end_time,robin,wren\n1.ogg,5,10,1,0\n1.ogg,20,25,0,1\n", encoding="utf-8")
    recordings = embedded("1.ogg", windows=6)
    found = label_windows(read_labels(path, recordings), recordings)
    np.testing.assert_array_equal(found.present.T, [[0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0]])
    np.testing.assert_array_equal(found.known.T, [[0, 1, 0, 0, 1, 0]] * 2)


def timed(folder, *rows):
    (folder / "times.csv").write_text(table(*rows, header="filename,start,end,species"), encoding="utf-8")
    return folder / "times.csv"


def test_windows_without_an_annotation_are_absent_unless_they_are_unknown(tmp_path):
    path = timed(tmp_path, "1.ogg,1,2,wren", "1.ogg,6,8,robin", "2.ogg,0,1,wren")
    recordings = embedded("1.ogg", "2.ogg", windows=2)
    labels = read_labels(path, recordings)
    found = label_windows(labels, recordings)
    np.testing.assert_array_equal(found.present, [[0, 1], [1, 0], [0, 1], [0, 0]])
    assert found.known.all()
    found = label_windows(read_labels(path, recordings, unannotated="unknown"), recordings)
    np.testing.assert_array_equal(found.present, [[0, 1], [1, 0], [0, 1], [0, 0]])
    np.testing.assert_array_equal(found.known, found.present == 1)
    with pytest.raises(InputError, match="Use 'absent' or 'unknown'"):
        read_labels(path, recordings, unannotated="present")


def test_annotations_outside_of_the_recording_are_listed_or_cut(tmp_path):
    path = timed(tmp_path, "1.ogg,1,2,wren", "1.ogg,9,12,wren", "1.ogg,10,12,robin", "1.ogg,7,6,wren")
    labels = read_labels(path, embedded("1.ogg", windows=2))
    assert labels.classes == ("wren",)
    assert [(problem.recording, problem.reason.split(":")[0]) for problem in labels.problems] == [
        ("times.csv", "line 5"),
        ("1.ogg", "times.csv, line 4"),
    ]
    assert "starts at 10 s, and the recording ends at 10 s" in labels.problems[1].reason
    assert "ends at 12 s" in labels.rows.used["note"].iloc[1]
    with pytest.raises(InputError, match=r"all 1 rows were left out\. The first, of 1\.ogg, line 2: it starts at 20 s"):
        read_labels(timed(tmp_path, "1.ogg,20,21,wren"), embedded("1.ogg"))
