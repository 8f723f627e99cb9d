"""Soundscapes predicted by bundles of one or two encoders: whole, in parts, blended, and as detections."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fit_files import FAST, embed, refuse, run, write_noise

from birdemb import inference
from birdemb.cache import EmbeddingCache
from birdemb.classify.blending import Blend, blend_by_rank
from birdemb.classify.bundle import Bundle
from birdemb.classify.bundle_file import read_bundle, write_bundle
from birdemb.classify.ensemble import Ensemble, Heard, Member
from birdemb.classify.thresholds import Thresholds
from birdemb.command_output import EXIT_SKIPPED
from birdemb.embedding import embed_recordings
from birdemb.fitting import fit
from birdemb.listing import EmbeddedRecording, Listing, SkippedRecording
from birdemb.predicting import predict_folder as predict


@pytest.fixture(scope="module")
def fitted(world, tmp_path_factory):
    """Heads on embeddings in half and in full precision, which are two encoders as far as bundles know."""
    folder = tmp_path_factory.mktemp("fitted")
    reports = {}
    for dtype, head in (("float16", "lr"), ("float32", "lgbm")):
        place = folder / dtype
        embed_recordings(world.data, encoder="melspec", dtype=dtype, workspace=place, jobs=1)
        reports[dtype] = fit(head, workspace=place, cv=0, jobs=1, parameters={head: FAST[head]})
    both = fit("lr,lgbm", workspace=folder / "float16", blend="ranks", cv=2, jobs=1, parameters=FAST)
    return folder, reports["float16"].bundle, reports["float32"].bundle, both.bundle


@pytest.fixture
def workspace(fitted):
    """One with the soundscapes' embeddings, so that few tests have to make them."""
    return fitted[0] / "float16"


def join(fitted, method="mean"):
    """A bundle of two encoders."""
    _, half, full, _ = fitted
    members = (Member(half.ensemble.members[0].head, 0), Member(full.ensemble.members[0].head, 1))
    ensemble = Ensemble(members, (None, None), Blend.equal(method, 2, len(half.classes)))
    return Bundle(ensemble, half.classes, half.identities + full.identities, half.shares, {}, {})


def read(path):
    return pd.read_csv(path).set_index("row_id")


def hear(workspace, bundle, listing):
    contents = [entry.sha256 for entry in listing.recordings]
    return [Heard(EmbeddingCache(workspace / "cache", identity).read(contents)) for identity in bundle.identities]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mean", "ranks"])
def test_two_encoders_predict_together(fitted, world, workspace, method):
    bundle = join(fitted, method)
    write_bundle(bundle, Path("two.birdemb"))
    report = predict(world.soundscapes, model="two.birdemb", workspace=workspace, jobs=1)
    table = read("submission.csv")
    assert list(table.columns) == list(bundle.labels)
    expected = bundle.ensemble.predict_proba(hear(workspace, bundle, report.listing))
    np.testing.assert_allclose(table.to_numpy(), expected, rtol=1e-8)
    assert len(table) == 24


@pytest.mark.parametrize("which", [1, 2, 3])
def test_predictions_are_the_bundle_s(fitted, world, workspace, which):
    bundle = fitted[which]
    write_bundle(bundle, Path("one.birdemb"))
    report = predict(world.soundscapes, model="one.birdemb", workspace=workspace, jobs=1)
    expected = bundle.ensemble.predict_proba(hear(workspace, bundle, report.listing))
    np.testing.assert_allclose(read("submission.csv").to_numpy(), expected, rtol=1e-8)


@pytest.mark.parametrize("which", [1, 3])
def test_a_part_at_a_time_gives_the_same(fitted, world, workspace, monkeypatch, which):
    assert fitted[which].ensemble.needs_whole_table == (which == 3)
    write_bundle(fitted[which], Path("one.birdemb"))
    for index in range(3):
        write_noise(Path("more") / f"{index}.wav", 12, seed=index)
    results = []
    for at_once in (256, 2, 1):
        monkeypatch.setattr(inference, "_WINDOWS_AT_ONCE", at_once)
        predict("more", model="one.birdemb", workspace=workspace, jobs=1)
        results.append(Path("submission.csv").read_bytes())
    assert results[0] == results[1] == results[2]


def test_copies_of_a_soundscape_are_each_predicted(fitted, workspace):
    write_bundle(fitted[1], Path("one.birdemb"))
    for name in ("a", "b"):
        write_noise(Path("same") / f"{name}.wav", 9)
    predict("same", model="one.birdemb", workspace=workspace, jobs=1)
    table = read("submission.csv")
    assert list(table.index) == ["a_5", "a_10", "b_5", "b_10"]
    np.testing.assert_array_equal(table.iloc[:2], table.iloc[2:])


def thresholds_of(*values):
    empty = np.full(len(values), np.nan)
    return Thresholds(
        "f1", np.array(values), *[empty] * 5, np.zeros(len(values), np.int64), np.zeros(len(values), np.bool_)
    )


def test_detections_are_what_passes_its_threshold(fitted, world, workspace):
    both = fitted[3]
    parts = vars(both.ensemble) | {"thresholds": thresholds_of(0.0, 0.2, 1.0, np.nan)}
    bundle = Bundle(**(vars(both) | {"ensemble": Ensemble(**parts)}))
    write_bundle(bundle, Path("model.birdemb"))
    said = run(
        *("predict", world.soundscapes, "--model", "model.birdemb", "--workspace", workspace, "--jobs", 1),
        *("--detections", "found.csv"),
    )
    found, table = pd.read_csv("found.csv"), read("submission.csv")
    assert f"detections: {len(found):,}, in found.csv" in said
    first, second, third, never = bundle.labels
    assert (found["class"] == first).sum() == len(table) == 24
    assert (found["class"] == second).sum() == (table[second] >= 0.2).sum()
    assert not found["class"].isin([never, third]).any()
    rows = [f"{Path(row.recording).stem}_{row.end:g}" for row in found.itertuples()]
    values = [table.loc[row, label] for row, label in zip(rows, found["class"], strict=True)]
    np.testing.assert_allclose(found["probability"], values, rtol=1e-8)
    assert (found["end"] - found["start"] == 5).all()


def test_detections_without_thresholds_are_refused_before_the_work(fitted, world):
    write_bundle(fitted[1], Path("bare.birdemb"))
    said = refuse("predict", world.soundscapes, "--model", "bare.birdemb", "--detections", "found.csv")
    assert "bare.birdemb has no thresholds" in said
    assert not Path(".birdemb").exists()


def test_both_tables_in_one_file_are_refused(fitted, world):
    write_bundle(fitted[3], Path("both.birdemb"))
    said = refuse(
        "predict",
        world.soundscapes,
        "--model",
        "both.birdemb",
        "-o",
        "x.csv",
        "--detections",
        "../" + Path.cwd().name + "/x.csv",
    )
    assert "Name two files" in said


@pytest.mark.parametrize("weight", [0.5, 0.9])
def test_another_submission_is_blended_in_by_rank(fitted, world, workspace, weight):
    write_bundle(fitted[3], Path("both.birdemb"))
    arguments = ["predict", world.soundscapes, "-m", "both.birdemb", "--workspace", workspace, "--jobs", 1]
    run(*arguments, "-o", "alone.csv", "--detections", "alone-found.csv")
    alone = pd.read_csv("alone.csv")
    other = alone.iloc[::-1, [0, 2, 1, 4, 3]].copy()
    other[other.columns[1:]] = np.random.default_rng(0).normal(size=(len(other), 4))
    other.to_csv("other.csv", index=False)
    run(*arguments, "--blend-with", "other.csv", "--blend-weight", weight, "--detections", "found.csv")
    # What was written has every digit, so that its ranks are the same.
    expected = blend_by_rank([alone, other], [1 - weight, weight])
    pd.testing.assert_frame_equal(pd.read_csv("submission.csv"), expected, rtol=1e-12)
    assert Path("found.csv").read_text() == Path("alone-found.csv").read_text()


def test_another_submission_is_blended_in_the_form_of_the_sample(fitted, world, workspace):
    write_bundle(fitted[3], Path("both.birdemb"))
    truth = pd.read_csv(world.truth)
    sample = truth.iloc[3:9, [0, 3, 1]].assign(unheard1=0.0)
    sample.to_csv("sample.csv", index=False)
    sample.iloc[::-1].to_csv("other.csv", index=False)
    run(
        *("predict", world.soundscapes, "-m", "both.birdemb", "--workspace", workspace, "--jobs", 1),
        *("--sample-submission", "sample.csv", "--blend-with", "other.csv"),
        status=EXIT_SKIPPED,
    )
    table = pd.read_csv("submission.csv")
    assert list(table.columns) == list(sample.columns)
    assert list(table["row_id"]) == list(sample["row_id"])
    assert (table["unheard1"] == 0.5).all()


@pytest.mark.parametrize("with_sample", [False, True])
def test_another_submission_of_other_rows_or_classes_is_refused(fitted, world, workspace, with_sample):
    write_bundle(fitted[3], Path("both.birdemb"))
    truth = pd.read_csv(world.truth)
    truth.to_csv("sample.csv", index=False)
    first = truth.columns[1]
    arguments = ["predict", world.soundscapes, "-m", "both.birdemb", "--jobs", 1, "--blend-with", "other.csv"]
    arguments += ["--sample-submission", "sample.csv"] if with_sample else []
    for other, said, early in (
        (truth.drop(columns=first), f"other.csv lacks the column '{first}'", True),
        (truth.assign(more=1), "other.csv has the column 'more'", True),
        (truth.iloc[1:], f"other.csv lacks the row '{truth['row_id'][0]}'", with_sample),
        (pd.concat([truth, truth.iloc[:1].assign(row_id="x_5")]), "other.csv has the row 'x_5'", with_sample),
    ):
        other.to_csv("other.csv", index=False)
        # What can be told without predicting is, in an empty workspace.
        assert said in refuse(*arguments, "--workspace", "new" if early else workspace)
        assert not Path("new/cache").exists()
        assert not Path("submission.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--blend-with", "nowhere.csv"], "nowhere.csv"),
        (["--blend-with", "truth.csv", "--blend-weight", "0"], "weight of the other submission is 0"),
        (["--blend-with", "truth.csv", "--blend-weight", "1"], "weight of the other submission is 1"),
        (["--blend-with", "truth.csv", "--blend-weight", "nan"], "weight of the other submission is nan"),
        (["--sample-submission", "both.birdemb"], "both.birdemb"),
        (["--model", "nowhere.birdemb"], "no bundle nowhere.birdemb"),
        (["--detections", "truth.csv/found.csv"], "Cannot write"),
        (["--weights", "none.tflite"], "leave out --weights"),
        (["--jobs", "0"], "--jobs is 0"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(fitted, world, arguments, said):
    write_bundle(fitted[3], Path("both.birdemb"))
    pd.read_csv(world.truth).to_csv("truth.csv", index=False)
    assert said in refuse(
        "predict", world.soundscapes, *(["-m", "both.birdemb"] if "--model" not in arguments else []), *arguments
    )


def test_weights_of_one_encoder_are_refused_where_there_are_two(fitted, world):
    write_bundle(join(fitted), Path("two.birdemb"))
    assert "the bundle has several" in refuse("predict", world.soundscapes, "-m", "two.birdemb", "--weights", "w")


@pytest.mark.parametrize(
    "change", [{"revision": 99}, {"dtype": "float64"}, {"precision": "f8"}, {"weights_sha256": "0"}]
)
def test_bundle_of_other_embeddings_is_refused(fitted, world, workspace, change):
    bundle = fitted[1]
    identities = ({**bundle.identities[0], **change},)
    write_bundle(Bundle(**(vars(bundle) | {"identities": identities})), Path("odd.birdemb"))
    said = refuse("predict", world.soundscapes, "-m", "odd.birdemb", "--workspace", workspace, "--jobs", 1)
    assert next(iter(change)) in said


def listing_of(*names, skipped=(), content="{name}"):
    entries = [EmbeddedRecording(name, content.format(name=name), 2, 10.0) for name in names]
    return Listing("x", {}, entries, [SkippedRecording(name, "encode", "too loud") for name in skipped])


def test_soundscapes_that_only_one_encoder_can_read_are_skipped_once():
    first = listing_of("a", "b", "c", skipped=["x", "y"])
    second = listing_of("b", "c", "y", skipped=["a", "x"])
    joined = inference._join_listings([first, second])
    assert [entry.recording for entry in joined.recordings] == ["b", "c"]
    assert sorted((entry.recording, entry.reason) for entry in joined.skipped) == [
        ("a", "too loud"),
        ("x", "too loud"),
        ("y", "too loud"),
    ]
    assert inference._join_listings([first]) is first


def test_soundscape_that_changes_between_two_encoders_is_skipped():
    joined = inference._join_listings([listing_of("a", "b"), listing_of("a", content="new")])
    assert joined.recordings == []
    assert [(entry.recording, entry.stage) for entry in joined.skipped] == [("a", "read"), ("b", "read")]


@pytest.mark.slow
def test_two_real_encoders_from_recordings_to_detections(world, birdnet_weights):
    embed(world.data)
    embed_recordings(world.data, encoder="birdnet-2.4", jobs=1)
    said = run("fit", "-e", "melspec", "-e", "birdnet-2.4", "--cv", 2, "--blend", "stack")
    assert "lr on birdnet-2.4" in said
    for path in world.soundscapes.glob("*.ogg"):
        (Path("sounds") / path.name).parent.mkdir(exist_ok=True)
        (Path("sounds") / path.name).write_bytes(path.read_bytes())
    (Path("sounds") / "broken.wav").write_text("no")
    run("predict", "sounds", "--jobs", 1, "--detections", "found.csv", status=EXIT_SKIPPED)
    run("evaluate", "submission.csv", world.truth)
    assert list(pd.read_csv(".birdemb/predict-errors.csv")["path"]) == ["broken.wav"]
    bundle = read_bundle(Path(".birdemb/bundles/lr.birdemb"))
    assert [member.encoder for member in bundle.ensemble.members] == [0, 1]
