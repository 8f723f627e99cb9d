"""What is remembered between commands: listings, skipped recordings, the last run."""

import os

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birdemb.errors import InputError
from birdemb.identity import refuse_other_identity
from birdemb.listing import EmbeddedRecording, Listing, SkippedRecording, write_skipped
from birdemb.workspace import Workspace

LISTING = Listing(
    folder="/data/ü 鳥",
    identity={"encoder": "melspec", "dim": 4, "hop": 2.5, "range": [50, None]},
    recordings=[EmbeddedRecording("a/1.ogg", "1" * 64, 3, 12.25), EmbeddedRecording("b.ogg", "2" * 64, 1, 0.1)],
    skipped=[SkippedRecording("c.ogg", "decode", "cut short, by\n2 lines")],
    labels="train.csv",
)


def test_a_listing_comes_back(tmp_path):
    LISTING.write(tmp_path / "deep/listing.json")
    assert Listing.read(tmp_path / "deep/listing.json") == LISTING


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=st.text(st.characters(blacklist_categories=())), seconds=st.floats(0, 1e9))
def test_a_listing_of_any_name_and_length_comes_back(tmp_path, name, seconds):
    listing = Listing("/data", LISTING.identity, [EmbeddedRecording(name, "0" * 64, 1, seconds)], [])
    listing.write(tmp_path / "listing.json")
    assert Listing.read(tmp_path / "listing.json") == listing


def test_a_listing_adds_up():
    assert LISTING.windows == 4
    assert LISTING.seconds == pytest.approx(12.35)
    assert (Listing("/", {}, [], []).windows, Listing("/", {}, [], []).seconds) == (0, 0)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "no valid JSON"),
        ("{}", "no listing of recordings"),
        ("[]", "no listing of recordings"),
        ("null", "no listing of recordings"),
        ('"text"', "no listing of recordings"),
        (
            '{"folder": "/", "identity": {"encoder": "a", "dim": 4}, "recordings": [{"name": 1}]}',
            "no listing",
        ),
        ('{"folder": "/", "identity": {}, "recordings": [], "skipped": [], "labels": null}', "no listing .*encoder"),
        (
            '{"folder": "/", "identity": {"encoder": "a", "dim": 4}, "recordings": [1]}',
            "no listing",
        ),
        (
            '{"folder": "/", "identity": {"encoder": "a", "dim": 4}, "recordings": [], "skipped": []}',
            "no listing .*labels",
        ),
    ],
)
def test_what_is_no_listing_is_told_with_its_path(tmp_path, content, told):
    path = tmp_path / "listing.json"
    path.write_text(content)
    with pytest.raises(InputError, match=told) as caught:
        Listing.read(path)
    assert str(path) in str(caught.value)


def test_skipped_recordings_are_written_as_a_table(tmp_path):
    skipped = [SkippedRecording("a.wav", "read", "empty"), SkippedRecording("b.wav", "decode", 'cut, "short"')]
    path = write_skipped(tmp_path / "errors.csv", skipped)
    assert path == tmp_path / "errors.csv"
    assert pd.read_csv(path).to_numpy().tolist() == [["a.wav", "read", "empty"], ["b.wav", "decode", 'cut, "short"']]
    assert list(pd.read_csv(path).columns) == ["path", "stage", "reason"]


def test_where_nothing_was_skipped_the_last_table_goes(tmp_path):
    path = write_skipped(tmp_path / "errors.csv", [SkippedRecording("a.wav", "read", "empty")])
    assert write_skipped(path, []) is None
    assert not path.exists()
    assert write_skipped(path, []) is None


@pytest.mark.parametrize("name", ["two\nlines.wav", "🐦.wav", 'a,"b".wav', "a\tb.wav", "NA", " x "])
def test_names_of_all_kinds_survive_in_the_table(tmp_path, name):
    path = write_skipped(tmp_path / "errors.csv", [SkippedRecording(name, "read", "empty")])
    assert pd.read_csv(path, keep_default_na=False)["path"][0] == name


def test_a_name_that_is_no_text_survives_in_the_table_as_an_escape(tmp_path):
    name = os.fsdecode(b"a\xff.wav")
    path = write_skipped(tmp_path / "errors.csv", [SkippedRecording(name, "read", "empty")])
    assert pd.read_csv(path, encoding="utf-8")["path"][0] == r"a\udcff.wav"


def test_places_lie_in_the_workspace(tmp_path):
    workspace = Workspace(tmp_path)
    places = [workspace.cache, workspace.bundle("lgbm"), workspace.bundle("mlp"), workspace.errors("embed")]
    assert len(set(places)) == 4
    assert all(place.is_relative_to(tmp_path) for place in places)
    assert list(tmp_path.iterdir()) == []  # a question makes no folder


def test_the_last_listing_is_remembered(tmp_path):
    workspace = Workspace(tmp_path / "new")
    with pytest.raises(InputError, match="Run `birdemb embed FOLDER` first") as caught:
        workspace.last_listing()
    assert str(tmp_path / "new") in str(caught.value)
    workspace.remember_listing(Listing("/old", {"encoder": "melspec"}, [], []))
    workspace.remember_listing(LISTING)
    assert Workspace(tmp_path / "new").last_listing() == LISTING
    assert workspace.last_listing(LISTING.identity["encoder"]) == LISTING
    with pytest.raises(InputError, match="Nothing has been embedded with 'other'"):
        workspace.last_listing("other")
    with pytest.raises(InputError, match="no name of an encoder"):
        workspace.last_listing("../other")


def test_the_last_bundle_is_remembered_from_any_folder(tmp_path, monkeypatch):
    workspace = Workspace(tmp_path / "new")
    with pytest.raises(InputError, match="Run `birdemb fit` first"):
        workspace.last_bundle()
    bundle = workspace.bundle("lgbm")
    bundle.parent.mkdir(parents=True)
    bundle.touch()
    monkeypatch.chdir(bundle.parent)
    workspace.remember_bundle(bundle.relative_to(bundle.parent))
    monkeypatch.chdir(tmp_path)
    assert workspace.last_bundle() == bundle.resolve()


def test_a_bundle_that_is_gone_is_told(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.remember_bundle(tmp_path / "gone.birdemb")
    with pytest.raises(InputError, match=r"gone\.birdemb .* is gone"):
        workspace.last_bundle()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"path": 5}'])
def test_a_damaged_note_of_the_last_bundle_is_told(tmp_path, content):
    (tmp_path / "bundle.json").write_text(content)
    with pytest.raises(InputError, match=r"bundle\.json"):
        Workspace(tmp_path).last_bundle()


def test_equal_identities_pass():
    refuse_other_identity({"a": 1, "b": [2.0]}, {"b": [2.0], "a": 1}, who="it", advice="Go.")


@pytest.mark.parametrize(
    ("expected", "found", "told"),
    [
        ({"a": 1}, {"a": 2}, "it: a is 2, expected 1. Go."),
        ({"a": 1, "b": 1}, {"a": 1}, "it: b is absent, expected 1. Go."),
        ({}, {"b": "x"}, "it: b is 'x', expected absent. Go."),
        ({"a": None}, {}, "it: a is absent, expected None. Go."),
        ({"b": 1, "a": 1}, {"b": 2, "a": 2}, "it: a is 2, expected 1. Go."),
    ],
)
def test_the_first_difference_of_identities_is_told(expected, found, told):
    with pytest.raises(InputError) as caught:
        refuse_other_identity(expected, found, who="it", advice="Go.")
    assert str(caught.value) == told
