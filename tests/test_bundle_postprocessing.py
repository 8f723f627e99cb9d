"""Post-processing in a bundle that is damaged or made with bad intentions is refused, as everything else in it."""

import json

import numpy as np
import pytest
from bundle_files import (
    assert_refused,
    change_index,
    make_bundle,
    make_postprocessing,
    members_of,
    relist,
    save,
    write_raw,
)

from birdemb.classify.bundle import Bundle
from birdemb.classify.bundle_file import read_bundle, write_bundle

BUNDLE = Bundle(**{**vars(make_bundle()), "postprocessing": make_postprocessing()})


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "lr.birdemb"
    write_bundle(BUNDLE, path)
    return path


def rewrite(path, members):
    write_raw(path, list(relist(members).items()))


def step(name, **params):
    return {"step": name, "params": params}


def steps_of(path):
    return json.loads(members_of(path)["bundle.json"])["postprocessing"]


@pytest.mark.parametrize(
    ("steps", "match"),
    [
        ("raise", "'postprocessing' in bundle.json is no list"),
        ({}, "'postprocessing' in bundle.json is no list"),
        ([1], "a step in bundle.json"),
        ([["raise", {}]], "a step in bundle.json"),
        ([{"step": "raise"}], "a step in bundle.json"),
        ([{**step("raise"), "more": 1}], "a step in bundle.json"),
        ([{"step": ["raise"], "params": {}}], "a step in bundle.json"),
        ([{"step": "raise", "params": [1]}], "a step in bundle.json"),
        ([step("__init__")], "the step '__init__', which this birdemb does not know"),
        ([step("raise")], "The step raise has the parameters"),
        ([step("raise", factor=1.5)], "The step raise has the parameters factor; expected factor, threshold"),
        ([step("raise", factor=1.5, threshold=0.9, self=1)], "The step raise has the parameters"),
        ([step("raise", factor="x", threshold=0.9)], "factor of raise is 'x'"),
        ([step("raise", factor=True, threshold=0.9)], "factor of raise is True"),
        ([step("raise", factor=1e308, threshold=0.9)], "factor of raise is 1e"),
        ([step("raise", factor=[1.5], threshold=0.9)], "factor of raise is"),
        ([step("raise", factor=None, threshold=0.9)], "factor of raise is None"),
        ([step("range", strength=1, mode=[], threshold=0.03, floor=1e-4)], "mode is"),
        ([step("range", strength="x", mode="soft", threshold=0.03, floor=1e-4)], "strength is 'x'"),
        ([step("scale", power=0.4, top=1e9)], "top of scale"),
        ([step("scale", power=0.4, top={})], "top of scale"),
        ([step("smooth", weights=0.1, confidence="none", distance=5)], "weights of smooth"),
        ([step("smooth", weights=[[0.1]], confidence="none", distance=5)], "A weight of smooth"),
        ([step("smooth", weights=[0.1] * 99, confidence="none", distance=5)], "weights of smooth"),
        ([step("smooth", weights=[0.1], confidence={}, distance=5)], "confidence of smooth"),
        ([step("smooth", weights=[0.1], confidence="none", distance=1e300)], "distance of smooth"),
        ([step("raise", factor=1.5, threshold=0.9)] * 2, "each at most once"),
        ([step("scale", power=0.4, top=1), step("raise", factor=1.5, threshold=0.9)], "in the order"),
        ([], "nothing uses"),
    ],
)
def test_steps_that_are_none(written, steps, match):
    rewrite(written, change_index(members_of(written), postprocessing=steps))
    assert_refused(written, match)


@pytest.mark.parametrize(
    ("name", "params", "match"),
    [
        ("temperature", {"names": "Aves"}, "no list of names"),
        ("temperature", {}, "no list of names"),
        ("temperature", {"names": []}, "shape"),
        ("temperature", {"names": ["Aves", {}]}, "no names"),
        ("temperature", {"names": ["Aves", "Insecta", "Mammalia"]}, "shape"),
        ("origin", {"strength": 1.0, "sites": "lake"}, "no list of sites"),
        ("origin", {"strength": 1.0, "sites": ["lake"]}, "shape"),
        ("origin", {"strength": 1.0, "sites": ["lake", {}]}, "The sites of origin"),
        ("origin", {"strength": 1.0, "sites": ["lake", "heath"]}, "The sites of origin"),
        ("origin", {"strength": 1.0, "sites": ["", "heath"]}, "The sites of origin"),
        ("origin", {"strength": -1.0, "sites": ["heath", "lake"]}, "strength of origin"),
        ("normalise", {"strength": 1.0, "quantiles": [0, 1]}, "The step normalise has the parameters"),
    ],
)
def test_learnt_steps_that_are_none(written, name, params, match):
    steps = [{**entry, "params": params} if entry["step"] == name else entry for entry in steps_of(written)]
    rewrite(written, change_index(members_of(written), postprocessing=steps))
    assert_refused(written, match)


@pytest.mark.parametrize(
    ("part", "content", "match"),
    [
        ("origin_hour_odds", np.zeros((24, 2)), "shape"),
        ("origin_hour_odds", np.zeros((23, 3)), "shape"),
        ("origin_hour_odds", np.full((24, 3), np.inf), "NaN or infinity"),
        ("origin_season_odds", np.full((12, 3), 1e3), "farther from 0"),
        ("origin_site_odds", np.zeros((1, 3)), "shape"),
        ("temperature_temperatures", np.array([0.0, 1.0]), "temperature"),
        ("temperature_temperatures", np.array([1, 1]), "shape"),
        ("temperature_groups", np.array([0, 1, 2]), "none of the groups"),
        ("temperature_groups", np.array([0, 0, -1]), "none of the groups"),
        ("temperature_groups", np.array([0.0, 0.0, 1.0]), "shape"),
        ("normalise_quantiles", np.linspace(1, 0, 101), "quantiles"),
        ("normalise_quantiles", np.linspace(0, 1, 7), "shape"),
        ("smooth_weights", np.zeros(2), "nothing uses"),
    ],
)
def test_hostile_arrays_of_steps(written, part, content, match):
    rewrite(written, {**members_of(written), f"post_{part}.npy": save(content)})
    assert_refused(written, match)


def test_every_missing_array_of_a_step(written):
    members = members_of(written)
    arrays = [name for name in members if name.startswith("post_")]
    assert len(arrays) == 6
    for name in arrays:
        rewrite(written, {other: content for other, content in members.items() if other != name})
        assert_refused(written, "lacks the part 'post_")


def test_an_old_format_with_a_new_part(written):
    rewrite(written, change_index(members_of(written), format_version=2))
    assert_refused(written, "has the keys")


def test_numbers_may_be_whole(written):
    steps = steps_of(written)
    steps[3]["params"] = {"factor": 2, "threshold": 1}
    rewrite(written, change_index(members_of(written), postprocessing=steps))
    assert read_bundle(written).postprocessing.steps[3].factor == 2
