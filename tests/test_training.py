"""Embeddings of one or more encoders and their labels, brought together for the heads."""

import numpy as np
import pytest
from fit_files import CLASSES, DIM, IDENTITY, hear, table_of, write_workspace

from birdemb.errors import InputError
from birdemb.training import LabelRules, read_training_data
from birdemb.workspace import Workspace

SECOND = {**IDENTITY, "encoder": "second", "dim": 20}


@pytest.fixture
def table():
    return table_of(4, author=[f"author {number % 2}" for number in range(12)], rating=[5.0, 4.0, 2.0, 0.5] * 3)


def names_of(data):
    return [entry.recording for entry in data.recordings]


def rows_of(data, name):
    return data.recording == names_of(data).index(name)


def test_every_window_has_its_embedding_and_its_labels(tmp_path, table):
    data = read_training_data(write_workspace(tmp_path, table))
    assert [name.label for name in data.classes] == list(CLASSES)
    assert len(data) == len(data.targets) == len(data.weights) == len(data.groups) == 36
    assert data.priors == (None,)
    for name, label in zip(table["filename"], table["primary_label"], strict=True):
        rows = rows_of(data, name)
        np.testing.assert_array_equal(data.heard[0].embeddings[rows], hear(name, label))
        assert (data.targets[rows] == (np.array(CLASSES) == label)).all()
    assert (data.weights == 1).all()
    assert not data.duplicates.pairs
    assert len(set(data.groups)) == 12


def test_encoders_hear_the_same_windows_in_the_same_order(tmp_path, table):
    place = write_workspace(tmp_path, table, (IDENTITY, SECOND))
    data = read_training_data(place, encoders=["second", "first"])
    assert [own.embeddings.shape for own in data.heard] == [(36, 20), (36, DIM)]
    assert [identity["encoder"] for identity in data.identities] == ["second", "first"]
    for name, label in zip(table["filename"], table["primary_label"], strict=True):
        for own, encoder, dim in ((data.heard[0], "second", 20), (data.heard[1], "first", DIM)):
            np.testing.assert_array_equal(own.embeddings[rows_of(data, name)], hear(name, label, encoder, 3, dim))


def test_encoder_that_was_used_last_is_taken_where_none_is_named(tmp_path, table):
    data = read_training_data(write_workspace(tmp_path, table, (IDENTITY, SECOND)))
    assert [identity["encoder"] for identity in data.identities] == ["second"]


@pytest.mark.parametrize("order", [["first", "second"], ["second", "first"]])
def test_recordings_that_one_encoder_skipped_are_left_out_and_listed(tmp_path, table, order):
    skipped = {"first": ["amecro/0.ogg"], "second": ["norcar/1.ogg", "wooduc/3.ogg"]}
    data = read_training_data(write_workspace(tmp_path, table, (IDENTITY, SECOND), skipped=skipped), encoders=order)
    gone = {"amecro/0.ogg": "first", "norcar/1.ogg": "second", "wooduc/3.ogg": "second"}
    assert names_of(data) == sorted(set(table["filename"]) - set(gone))
    assert len(data) == 27 == len(data.heard[0].embeddings) == len(data.heard[1].embeddings)
    assert {problem.recording: problem.reason.split()[0] for problem in data.labels.problems} == gone
    # They count nowhere, nor has a class recordings that nobody can use.
    assert data.labels.count_recordings() == dict.fromkeys(CLASSES, 3)


def test_class_that_only_one_encoder_heard_is_none(tmp_path, table):
    skipped = {"second": [f"wooduc/{number}.ogg" for number in range(4)]}
    data = read_training_data(
        write_workspace(tmp_path, table, (IDENTITY, SECOND), skipped=skipped), encoders=["first", "second"]
    )
    assert [name.label for name in data.classes] == ["amecro", "norcar"]


@pytest.mark.parametrize("change", [{"hop": 2.5}, {"window": 4.0}])
def test_encoders_with_other_windows_are_refused(tmp_path, table, change):
    # The numbers of windows agree, as they do where every recording is as short as a window.
    place = write_workspace(tmp_path, table, (IDENTITY, {**SECOND, **change}))
    with pytest.raises(InputError, match=r"second has embedded .* other windows.*--window and --hop"):
        read_training_data(place, encoders=["first", "second"])


def test_encoders_of_other_recordings_are_refused(tmp_path, table):
    place = write_workspace(tmp_path, table)
    write_workspace(tmp_path, table.assign(filename="x" + table["filename"]), (SECOND,))
    with pytest.raises(InputError, match="second has embedded other recordings"):
        read_training_data(place, encoders=["first", "second"])


def test_encoder_named_twice_or_never_used_is_refused(tmp_path, table):
    place = write_workspace(tmp_path, table)
    with pytest.raises(InputError, match=r"first, first\. Name each once"):
        read_training_data(place, encoders=["first", "first"])
    with pytest.raises(InputError, match="Nothing has been embedded with 'second'"):
        read_training_data(place, encoders=["first", "second"])
    with pytest.raises(InputError, match="no name of an encoder"):
        read_training_data(place, encoders=["../first"])


def test_cache_that_was_taken_away_is_told(tmp_path, table):
    place = write_workspace(tmp_path, table)
    for path in place.cache.rglob("*.npy"):
        path.unlink()
    with pytest.raises(InputError, match="birdemb embed"):
        read_training_data(place)


def test_nothing_embedded_is_told(tmp_path):
    with pytest.raises(InputError, match="Run `birdemb embed FOLDER` first"):
        read_training_data(Workspace(tmp_path))


@pytest.mark.parametrize(
    ("secondary", "target", "weight"),
    [("unknown", False, 0), ("present", True, 1), ("ignore", False, 1), (0.25, True, 0.25), ("0.25", True, 0.25)],
)
def test_secondary_labels_are_what_the_rule_says(tmp_path, table, secondary, target, weight):
    table.loc[0, "secondary_labels"] = "['norcar']"
    data = read_training_data(write_workspace(tmp_path, table), rules=LabelRules(secondary=secondary))
    rows = rows_of(data, "amecro/0.ogg")
    assert (data.targets[rows] == [True, target, False]).all()
    assert (data.weights[rows] == [1, weight, 1]).all()
    assert (data.weights[~rows] == 1).all()


def test_rating_weighs_recordings(tmp_path, table):
    data = read_training_data(write_workspace(tmp_path, table), rules=LabelRules(rating=True))
    for number, weight in enumerate((1.0, 0.8, 0.4, 0.2)):
        np.testing.assert_allclose(data.weights[rows_of(data, f"norcar/{number}.ogg")], weight)


def test_most_recordings_keeps_the_best_rated(tmp_path, table):
    data = read_training_data(write_workspace(tmp_path, table), rules=LabelRules(most=2))
    assert names_of(data) == [f"{label}/{number}.ogg" for label in CLASSES for number in (0, 1)]
    assert {problem.stage for problem in data.labels.problems} == {"limit"}
    assert len(data) == 18


def test_groups_are_authors_or_sites(tmp_path, table):
    table["latitude"], table["longitude"] = [1.0, 1.0, 2.0, 3.0] * 3, 7.0
    place = write_workspace(tmp_path, table)
    assert len(set(read_training_data(place, rules=LabelRules(group="author")).groups)) == 2
    by_site = read_training_data(place, rules=LabelRules(group="site"))
    assert len(set(by_site.groups)) == 3
    same = rows_of(by_site, "amecro/0.ogg") | rows_of(by_site, "wooduc/1.ogg")
    assert len(set(by_site.groups[same])) == 1
    assert by_site.grouping.by == "site"


def test_recording_without_author_stands_alone(tmp_path, table):
    table.loc[[0, 5], "author"] = ""
    data = read_training_data(write_workspace(tmp_path, table), rules=LabelRules(group="author"))
    assert (data.grouping.count, data.grouping.alone) == (4, 2)


def test_near_duplicates_are_one_group(tmp_path, table):
    X = hear("amecro/0.ogg", "amecro")
    near = X + np.random.default_rng(0).normal(0, 0.01, X.shape).astype(np.float32)
    data = read_training_data(write_workspace(tmp_path, table, heard={"amecro/3.ogg": np.maximum(near, 0)}))
    assert [(pair.first, pair.second) for pair in data.duplicates.pairs] == [(0, 3)]
    assert len(set(data.groups[rows_of(data, "amecro/0.ogg") | rows_of(data, "amecro/3.ogg")])) == 1
    assert len(set(data.groups)) == 11


def test_classes_are_named_by_the_table(tmp_path, table):
    named = {"amecro": "Corvus brachyrhynchos", "norcar": "Cardinalis cardinalis", "wooduc": "Aix sponsa"}
    table["scientific_name"] = table["primary_label"].map(named)
    table["common_name"] = "a bird"
    data = read_training_data(write_workspace(tmp_path, table))
    assert [name.scientific for name in data.classes] == list(named.values())


def test_another_table_can_be_given(tmp_path, table):
    place = write_workspace(tmp_path, table)
    other = tmp_path / "other.csv"
    table.assign(primary_label=["one", "two"] * 6).to_csv(other, index=False)
    data = read_training_data(place, labels=other)
    assert [name.label for name in data.classes] == ["one", "two"]
    assert data.labels.source == str(other)
    table.assign(primary_label="one").to_csv(other, index=False)
    with pytest.raises(InputError, match="one class only"):
        read_training_data(place, labels=other)


def test_logits_are_read_where_a_prior_wants_them(tmp_path, table):
    data = read_training_data(write_workspace(tmp_path, table, ({**IDENTITY, "logits": 2},)))
    assert data.heard[0].logits is None  # nobody wants those of an encoder that nothing is known of
    assert "cannot be read" in data.knowledge[0].sentence


def test_unknown_prior_is_refused(tmp_path, table):
    with pytest.raises(InputError, match="no prior 'much'"):
        read_training_data(write_workspace(tmp_path, table), prior="much")
