"""Weights of labels: secondary labels, ratings; and limits."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_files import embedded, read, table

from birdemb.errors import InputError
from birdemb.labels import Labels, label_windows, limit_recordings, read_labels, weight_by_rating

RATED = "filename,primary_label,secondary_labels,rating"
RATINGS = st.one_of(st.just(0.0), st.just(np.nan), st.sampled_from(np.arange(0.5, 5.01, 0.5).tolist()))


@pytest.mark.parametrize(
    ("secondary", "present", "weight"),
    [
        ("unknown", 0, 0),
        ("present", 1, 1),
        ("ignore", 0, 1),
        (1, 1, 1),
        (0.3, 1, 0.3),
        ("0.3", 1, 0.3),
        (1e-6, 1, 1e-6),
    ],
)
def test_secondary_labels_are_what_is_asked_for(tmp_path, secondary, present, weight):
    labels = read(tmp_path, table("a/1.ogg,wren,['robin']", "a/2.ogg,robin,['robin']", "b/3.ogg,owl,"))
    windows = label_windows(labels, embedded("a/1.ogg", "a/2.ogg", "b/3.ogg"), secondary=secondary)
    np.testing.assert_array_equal(windows.present, [[0, present, 1], [0, 1, 0], [1, 0, 0]])
    np.testing.assert_allclose(windows.weights, [[1, weight, 1], [1, 1, 1], [1, 1, 1]])


def test_unknown_is_the_default(tmp_path):
    labels = read(tmp_path, table("a/1.ogg,wren,['robin']", "a/2.ogg,robin,"))
    default = label_windows(labels, embedded("a/1.ogg"))
    np.testing.assert_array_equal(
        default.weights, label_windows(labels, embedded("a/1.ogg"), secondary="unknown").weights
    )
    np.testing.assert_array_equal(default.known, [[False, True]])


@pytest.mark.parametrize("wrong", ["Unknown", "", "0", 0, -0.5, 1.01, "nan", float("inf"), None, True, [1]])
def test_other_rules_for_secondary_labels_are_refused(wrong):
    labels = read_labels(None, embedded("wren/1.ogg"))
    with pytest.raises(InputError, match="Use 'unknown', 'present', 'ignore' or a weight above 0 and up to 1"):
        label_windows(labels, embedded("wren/1.ogg"), secondary=wrong)


def by_hand(*entries):
    frame = pd.DataFrame(entries, columns=["recording", "class", "state", "weight"]).assign(start=np.nan, end=np.nan)
    return Labels(frame, ("robin", "wren"), "by hand", ())


def test_weights_of_the_table_count_and_absent_is_known():
    labels = by_hand(
        ("1.ogg", "wren", "present", 0.5), ("1.ogg", "robin", "absent", 0.25), ("2.ogg", "robin", "unknown", 0.5)
    )
    windows = label_windows(labels, embedded("1.ogg", "2.ogg"), secondary=0.5)
    np.testing.assert_array_equal(windows.present, [[0, 1], [1, 0]])
    np.testing.assert_array_equal(windows.weights, [[0.25, 0.5], [0.25, 1]])


@given(
    st.permutations([("1.ogg", "wren", state, 1.0) for state in ("present", "absent", "unknown")]), st.integers(1, 3)
)
def test_present_beats_absent_and_absent_beats_unknown(entries, count):
    windows = label_windows(by_hand(*entries[:count]), embedded("1.ogg"))
    states = {entry[2] for entry in entries[:count]}
    assert windows.present[0, 1] == ("present" in states)
    assert windows.known[0, 1] == (states != {"unknown"})


@given(st.lists(RATINGS, min_size=1, max_size=30))
def test_a_better_rating_weighs_no_less(ratings):
    weights = weight_by_rating(ratings)
    rated = np.nan_to_num(ratings) > 0
    given_ratings, given_weights = np.array(ratings)[rated], weights[rated]
    order = np.argsort(given_ratings, kind="stable")
    assert (np.diff(given_weights[order]) >= 0).all()
    np.testing.assert_allclose(given_weights, np.maximum(given_ratings / 5, 0.2))
    assert ((weights >= 0.2) & (weights <= 1)).all()
    if rated.any():
        np.testing.assert_allclose(weights[~rated], max(np.median(given_ratings) / 5, 0.2))
    else:
        assert (weights == 1).all()


@pytest.mark.parametrize("wrong", [-0.5, 5.5, np.inf, -np.inf])
def test_ratings_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match="Expected 0 to 5"):
        weight_by_rating([4.0, wrong])


def test_ratings_weigh_whole_recordings(tmp_path):
    text = table("a/1.ogg,wren,['robin'],5", "a/2.ogg,robin,['wren'],2.5", "b/3.ogg,wren,,0", header=RATED)
    labels = read(tmp_path, text)
    recordings = embedded("b/3.ogg", "a/2.ogg", "a/1.ogg", "unlabelled.ogg", windows=2)
    windows = label_windows(labels, recordings, secondary=0.5, rating=True)
    # Not rated is as good as the median of 5 and 2.5.
    expected = [[0.75, 0.75], [0.5, 0.25], [0.5, 1], [1, 1]]
    np.testing.assert_allclose(windows.weights, np.repeat(expected, 2, axis=0))
    # Which recordings are asked for doesn't change the weight of one.
    alone = label_windows(labels, recordings[:1], secondary=0.5, rating=True)
    np.testing.assert_array_equal(alone.weights, windows.weights[:2])
    assert (label_windows(labels, recordings, secondary=0.5).weights[:2] == 1).all()


def test_ratings_need_a_column(tmp_path):
    labels = read(tmp_path, table("a/1.ogg,wren,5", "a/2.ogg,robin,4", header="filename,primary_label,stars"))
    with pytest.raises(InputError, match="no column rating; its other columns are stars"):
        label_windows(labels, embedded("a/1.ogg"), rating=True)
    with pytest.raises(InputError, match=r"class folders.*no other columns"):
        label_windows(read_labels(None, embedded("wren/1.ogg")), embedded("wren/1.ogg"), rating=True)


def rated(folder, lines):
    """Labels from (name, classes, rating)."""
    text = table(*(f"{name},{label},[],{rating}" for name, classes, rating in lines for label in classes), header=RATED)
    return read(folder, text, [name for name, _, _ in lines])


def test_the_best_rated_are_kept(tmp_path):
    lines = [(f"{index}.ogg", ["wren"], index / 2) for index in range(1, 8)] + [("r.ogg", ["robin"], 1)]
    limited = limit_recordings(rated(tmp_path, lines), 3)
    assert limited.recordings["recording"].tolist() == ["5.ogg", "6.ogg", "7.ogg", "r.ogg"]
    assert set(limited.table["recording"]) == {"5.ogg", "6.ogg", "7.ogg", "r.ogg"}
    assert limited.count_recordings() == {"robin": 1, "wren": 3}
    assert [(problem.recording, problem.stage) for problem in limited.problems] == [
        (f"{index}.ogg", "limit") for index in range(1, 5)
    ]
    assert all(problem.reason == "wren: 3 or more others are kept" for problem in limited.problems)


def test_what_nobody_rated_is_ordinary(tmp_path):
    lines = [("best.ogg", ["wren"], 5), ("good.ogg", ["wren"], 4), ("bad.ogg", ["wren"], 1), ("new.ogg", ["wren"], 0)]
    labels = rated(tmp_path, lines)
    assert "bad.ogg" not in set(limit_recordings(labels, 3).recordings["recording"])
    assert set(limit_recordings(labels, 1).recordings["recording"]) == {"best.ogg"}


def test_a_recording_that_another_class_needs_stays(tmp_path):
    lines = [("both.ogg", ["owl", "wren"], 0.5)] + [(f"{index}.ogg", ["wren"], 4) for index in range(5)]
    limited = limit_recordings(rated(tmp_path, lines), 2)
    assert limited.count_recordings() == {"owl": 1, "wren": 2}
    assert "both.ogg" in set(limited.table["recording"])


def test_a_seed_decides_between_equals_and_newcomers_change_nothing(tmp_path):
    lines = [(f"{index:02}.ogg", ["wren"], 3) for index in range(40)]
    labels = rated(tmp_path, lines)
    kept = set(limit_recordings(labels, 20, seed=1).table["recording"])
    assert kept == set(limit_recordings(rated(tmp_path, lines[::-1]), 20, seed=1).table["recording"])
    assert kept != set(limit_recordings(labels, 20, seed=2).table["recording"])
    more = limit_recordings(rated(tmp_path, [*lines, ("x.ogg", ["wren"], 3)]), 20, seed=1)
    assert len(kept - set(more.table["recording"])) <= 1


def test_without_ratings_it_is_by_lot():
    names = [f"wren/{index}.ogg" for index in range(9)]
    labels = read_labels(None, embedded(*names, "robin/1.ogg", "caf\udce9/1.ogg"))
    limited = limit_recordings(labels, 4, seed=3)
    assert limited.count_recordings() == {"caf\udce9": 1, "robin": 1, "wren": 4}
    assert len(limited.problems) == 5
    assert limit_recordings(labels, 9) is labels
    odd = read_labels(None, embedded("wren/caf\udce9.ogg", "wren/caf\udce8.ogg", "robin/1.ogg"))
    assert limit_recordings(odd, 1).count_recordings() == {"robin": 1, "wren": 1}


def test_recordings_without_a_present_class_are_untouched():
    labels = by_hand(
        ("1.ogg", "wren", "present", 1.0), ("2.ogg", "wren", "present", 1.0), ("3.ogg", "wren", "absent", 1.0)
    )
    limited = limit_recordings(labels, 1)
    assert "3.ogg" in set(limited.table["recording"])
    assert len(limited.table) == 2


@pytest.mark.parametrize(("most", "seed", "told"), [(0, 0, "1 or more"), (-1, 0, "1 or more"), (1, -1, "seed is -1")])
def test_limits_are_checked(most, seed, told):
    with pytest.raises(InputError, match=told):
        limit_recordings(read_labels(None, embedded("wren/1.ogg")), most, seed)


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from(["owl", "robin", "wren"]), min_size=1), RATINGS.filter(lambda r: r == r)),
        min_size=1,
        max_size=15,
    ),
    st.integers(1, 4),
    st.integers(0, 3),
)
def test_every_class_keeps_enough_and_no_recording_stays_in_vain(tmp_path_factory, entries, most, seed):
    lines = [(f"{index}.ogg", sorted(classes), rating) for index, (classes, rating) in enumerate(entries)]
    labels = rated(tmp_path_factory.mktemp("labels"), lines)
    limited = limit_recordings(labels, most, seed)
    before, after = labels.count_recordings(), limited.count_recordings()
    assert limited.classes == labels.classes
    for name in labels.classes:
        assert min(most, before[name]) <= after[name] <= before[name]
    kept = set(limited.table["recording"])
    left_out = {problem.recording for problem in limited.problems}
    assert kept | left_out == {name for name, _, _ in lines}
    assert not kept & left_out
    # Where no recording has two classes the limit is exact.
    if all(len(classes) == 1 for _, classes, _ in lines):
        assert all(after[name] == min(most, before[name]) for name in labels.classes)
    # Each that stayed is needed by some class, and doing it again changes nothing.
    classes_of = limited.table.groupby("recording")["class"].agg(set)
    for name in kept:
        assert any(after[label] <= most for label in classes_of[name])
    pd.testing.assert_frame_equal(limit_recordings(limited, most, seed).table, limited.table)
