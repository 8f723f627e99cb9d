"""Predicting inside a time budget: with time for all, for a part, and for nothing at all."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from budget_files import check_table, fit_two_heads, rows_of, slow_down, write_soundscapes
from fit_files import refuse, run

from birdemb.budget import costs, time_budget
from birdemb.budget.overlap import average_overlapping
from birdemb.cache import EmbeddingCache
from birdemb.classify.blending import Blend
from birdemb.classify.bundle import Bundle
from birdemb.classify.bundle_file import write_bundle
from birdemb.classify.ensemble import Heard
from birdemb.command_output import EXIT_SKIPPED
from birdemb.embed.run import embed_folder
from birdemb.embed.windows import WindowGrid
from birdemb.embedding import embed_recordings
from birdemb.errors import InputError
from birdemb.predicting import predict_folder

COUNT = 6


@pytest.fixture(scope="module")
def fitted(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("budget")
    report = fit_two_heads(world, folder / ".birdemb")
    write_soundscapes(folder / "soundscapes", COUNT)
    return folder, report.bundle


def predict(fitted, path="soundscapes", **settings):
    folder, _ = fitted
    place = {"workspace": folder / ".birdemb"} if "workspace" not in settings else {}
    return predict_folder(folder / path if isinstance(path, str) else path, jobs=1, **{**place, **settings})


@pytest.mark.slow
def test_with_time_for_all_each_row_is_averaged_with_the_windows_that_overlap_it(fitted):
    folder, bundle = fitted
    report = predict(fitted, time_budget="1h")
    table = check_table("submission.csv", rows_of(COUNT), bundle.labels)
    run = embed_folder(folder / "soundscapes", Path("cache"), encoder="melspec", grid=WindowGrid(5.0, 2.5), jobs=1,
                       show_progress=False)  # fmt: skip
    for index, entry in enumerate(run.listing.recordings):
        fine = bundle.ensemble.predict_proba([Heard(run.cache.read([entry.sha256]))])
        expected = average_overlapping(fine[::2], fine[1::2])
        np.testing.assert_allclose(table.to_numpy()[4 * index : 4 * index + 4], expected, atol=1e-3)
    assert report.budget.at_prior == 0
    assert report.budget.rows == len(table)
    assert [(step.windows, step.of) for step in report.budget.steps] == [(24, 24)] * 3
    assert not report.listing.skipped
    assert report.budget.elapsed < 3600


@pytest.mark.parametrize("postprocess", ["none", "smooth=0.1,scale=0.4:top=2"])
def test_without_windows_in_between_it_is_what_predict_gives(fitted, monkeypatch, postprocess):
    _, bundle = fitted
    monkeypatch.setattr("birdemb.budget.anytime._OVERLAP", 0.0)
    predict(fitted, time_budget="1h", output="inside.csv", postprocess=postprocess)
    predict(fitted, output="plain.csv", postprocess=postprocess)
    inside, plain = (check_table(name, rows_of(COUNT), bundle.labels) for name in ("inside.csv", "plain.csv"))
    np.testing.assert_allclose(inside, plain, rtol=1e-7)


def test_a_budget_that_is_too_small_leaves_the_priors(fitted):
    _, bundle = fitted
    report = predict(fitted, time_budget=0.001)
    table = check_table("submission.csv", rows_of(COUNT), bundle.labels)
    np.testing.assert_allclose(table.to_numpy(), np.tile(bundle.shares, (len(table), 1)), rtol=1e-8)
    assert (report.budget.at_prior, report.budget.plan) == (24, None)
    assert report.listing.recordings == ()


def test_the_plan_says_how_much_stays_at_the_priors(fitted, monkeypatch):
    told = []
    monkeypatch.setattr("birdemb.predicting.tell_on_standard_error", told.append)
    measure = costs.measure_encoder
    monkeypatch.setattr(costs, "measure_encoder", lambda *args, **more: replace(measure(*args, **more), encoding=300.0))
    report = predict(fitted, time_budget="1h", show_progress=True, workspace=_copy(fitted))
    assert report.budget.plan.planned == 2  # the second head is nearly free beside such an encoder
    assert 10 <= report.budget.plan.unfinished <= 13  # of 24, as there is time for some 12
    assert any("will be left at the classes' priors" in line for line in told)
    assert told[1].startswith("  1. melspec in f32 with l")
    assert "24 windows" in told[1]
    assert any(line.endswith("left out") for line in told)


def test_a_head_that_takes_too_long_is_left_out(fitted, monkeypatch):
    _, bundle = fitted
    measure = costs.measure_heads

    def measure_slow_trees(*args):
        return {member: cost if member == 0 else 1e6 for member, cost in measure(*args).items()}

    monkeypatch.setattr(costs, "measure_heads", measure_slow_trees)
    monkeypatch.setattr("birdemb.budget.anytime._OVERLAP", 0.0)
    report = predict(fitted, time_budget="1h")
    assert [step.windows for step in report.budget.steps] == [24, 0, 0]
    listing = report.listing
    alone = bundle.ensemble.keep([0])
    heard = Heard(
        EmbeddingCache(fitted[0] / ".birdemb/cache", bundle.identities[0]).read([e.sha256 for e in listing.recordings])
    )
    table = check_table("submission.csv", rows_of(COUNT), bundle.labels)
    np.testing.assert_allclose(table.to_numpy(), alone.predict_proba([heard]), rtol=1e-8)


def test_rows_of_a_sample_that_are_not_in_the_recordings_hold_priors_too(fitted):
    _, bundle = fitted
    Path("sample.csv").write_text("row_id," + ",".join(bundle.labels) + "\n" + "s01_10,0,0,0,0\nelse_5,0,0,0,0\n")
    report = predict(fitted, time_budget="1h", sample_submission="sample.csv")
    table = check_table("submission.csv", ["s01_10", "else_5"], bundle.labels)
    np.testing.assert_allclose(table.loc["else_5"], bundle.shares, rtol=1e-8)
    assert report.sample.filled_rows == ("else_5",)


def test_broken_recordings_keep_the_rows_that_their_headers_promise(fitted):
    _, bundle = fitted
    folder = write_soundscapes(Path("some"), 1)
    samples, rate = soundfile.read(folder / "s00.wav")
    soundfile.write(folder / "s01.flac", samples, rate)
    whole = (folder / "s01.flac").read_bytes()
    (folder / "s01.flac").write_bytes(whole[: len(whole) // 2])  # its header promises all
    (folder / "s02.wav").write_bytes(b"nothing of the kind")
    (folder / "empty.wav").write_bytes(b"")
    report = predict(fitted, folder, time_budget="1h")
    table = check_table("submission.csv", rows_of(2), bundle.labels)
    assert {entry.recording for entry in report.listing.skipped} == {"s01.flac", "s02.wav", "empty.wav"}
    np.testing.assert_allclose(table.to_numpy()[4:], np.tile(bundle.shares, (4, 1)), rtol=1e-8)
    assert report.budget.at_prior == 4


def test_the_command_says_what_was_planned_and_done(fitted):
    folder, _ = fitted
    arguments = ("predict", folder / "soundscapes", "--workspace", folder / ".birdemb", "--jobs", 1)
    said = run(*arguments, "--time-budget", "100h")
    assert "plan: 3 of 3 steps" in said
    assert "24 of 24 rows predicted" in said
    assert "windows in between, averaged with their neighbours: 24 of 24" in said
    said = run(*arguments, "--time-budget", "0.01s", status=EXIT_SKIPPED)
    assert "0 of 24 rows predicted, 24 left at the classes' priors" in said


def test_what_is_no_duration_is_a_wrong_command_line(fitted):
    folder, _ = fitted
    said = run("predict", folder / "soundscapes", "--time-budget", "soon", status=2)
    assert "expected one such as 90m" in said


def test_a_cluster_has_no_common_clock(fitted):
    folder, _ = fitted
    line = refuse("predict", folder / "soundscapes", "--workspace", folder / ".birdemb", "--time-budget", "100h",
                  "--backend", "dask", "--scheduler", "tcp://127.0.0.1:1")  # fmt: skip
    assert "not with --backend dask" in line


def test_another_encoder_s_embeddings_are_refused_before_anything_is_written(fitted):
    _, bundle = fitted
    other = Bundle(**(vars(bundle) | {"identities": (bundle.identities[0] | {"level": "peak"},)}))
    write_bundle(other, Path("other.birdemb"))
    with pytest.raises(InputError, match="another melspec"):
        predict(fitted, time_budget="1h", model="other.birdemb")
    assert not Path("submission.csv").exists()


@pytest.mark.slow
def test_an_encoder_that_slows_down_does_not_make_the_run_late(fitted, monkeypatch):
    _, bundle = fitted
    count, seconds = 30, 15.0
    folder = write_soundscapes(Path("many"), count)
    slow_down(monkeypatch, after=40, seconds=1.0)
    monkeypatch.setattr("birdemb.embed.planning._RECORDINGS_A_TASK", 1)
    started = time.monotonic()
    report = predict(fitted, folder, time_budget=seconds, workspace=_copy(fitted))
    assert time.monotonic() - started < seconds + 15
    table = check_table("submission.csv", rows_of(count), bundle.labels)
    priors = np.isclose(table.to_numpy(), bundle.shares, rtol=1e-8).all(axis=1)
    assert 0 < report.budget.at_prior == priors.sum() < len(table)


@pytest.mark.slow
def test_one_long_recording_is_predicted_as_far_as_there_is_time(fitted, monkeypatch):
    _, bundle = fitted
    minutes, seconds = 30, 15.0
    folder = write_soundscapes(Path("long"), 1, 60 * minutes)
    with monkeypatch.context() as slow:
        slow_down(slow, after=100, seconds=0.2)
        started = time.monotonic()
        report = predict(fitted, folder, time_budget=seconds, workspace=_copy(fitted))
    assert time.monotonic() - started < seconds + 15
    check_table("submission.csv", rows_of(1, 60 * minutes), bundle.labels)
    (entry,) = report.listing.recordings
    assert 0 < entry.windows < 12 * minutes
    assert report.budget.at_prior == 12 * minutes - entry.windows
    # Another run goes on from there.
    again = predict(fitted, folder, time_budget="1h", workspace=Path("copy"))
    assert again.budget.at_prior == 0


def _copy(fitted):
    """A working folder of its own, in which no soundscape is embedded yet."""
    write_bundle(fitted[1], Path("copy/bundles/both.birdemb"))
    Path("copy/bundle.json").write_text('{"path": "bundles/both.birdemb"}')
    return Path("copy")


@pytest.mark.slow
def test_two_encoders_are_heard_one_after_the_other(fitted, world):
    folder, bundle = fitted
    first = bundle.ensemble
    embed_recordings(world.data, encoder="melspec", dtype="float32", workspace=folder / "full", jobs=1)
    identity = bundle.identities[0] | {"dtype": "float32"}
    members = (first.members[0], replace(first.members[1], encoder=1))
    both = Bundle(**(vars(bundle) | {
        "ensemble": replace(first, members=members, priors=(None, None)),
        "identities": (bundle.identities[0], identity),
    }))  # fmt: skip
    write_bundle(both, Path("two.birdemb"))
    report = predict(fitted, time_budget="1h", model="two.birdemb")
    assert [step.windows for step in report.budget.steps] == [24, 24, 24]
    inside = check_table("submission.csv", rows_of(COUNT), bundle.labels)
    predict(fitted, time_budget="1h", output="one.csv")
    np.testing.assert_allclose(inside, check_table("one.csv", rows_of(COUNT), bundle.labels), atol=1e-3)


def test_the_margin_is_stated(fitted):
    report = predict(fitted, time_budget=time_budget.TimeBudget(3600.0))
    assert report.budget.margin == 60.0


def test_a_blend_by_ranks_is_that_of_all_windows_together(fitted):
    folder, bundle = fitted
    ranking = replace(bundle.ensemble, blend=Blend.equal("ranks", 2, len(bundle.classes)))
    write_bundle(Bundle(**(vars(bundle) | {"ensemble": ranking})), Path("ranks.birdemb"))
    predict(fitted, time_budget="1h", model="ranks.birdemb")
    table = check_table("submission.csv", rows_of(COUNT), bundle.labels).to_numpy().reshape(COUNT, 4, -1)
    run = embed_folder(folder / "soundscapes", Path("cache"), encoder="melspec", grid=WindowGrid(5.0, 2.5), jobs=1,
                       show_progress=False)  # fmt: skip
    fine = ranking.predict_proba([Heard(run.cache.read([entry.sha256 for entry in run.listing.recordings]))])
    for rows, expected in zip(table, fine.reshape(COUNT, 7, -1), strict=True):
        # Windows that differ by rounding may change places.
        np.testing.assert_allclose(rows, average_overlapping(expected[::2], expected[1::2]), atol=0.03)
