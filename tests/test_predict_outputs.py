"""`birdemb predict`: which tables it writes where, what it refuses, and that every row is there."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile
from fit_files import FAST, refuse, run, write_noise

from birdemb import predict_commands
from birdemb.classify.bundle_file import read_bundle
from birdemb.command_output import EXIT_SKIPPED
from birdemb.embedding import embed_recordings
from birdemb.fitting import fit
from birdemb.predicting import predict_folder
from birdemb.tables.forms import DETECTION_FORMS, WINDOW_FORMS


@pytest.fixture(scope="module")
def workspace(world, tmp_path_factory):
    """One in which a bundle without thresholds was fitted, and the soundscapes were embedded."""
    place = tmp_path_factory.mktemp("fitted") / "workspace"
    embed_recordings(world.data, encoder="melspec", workspace=place, jobs=1)
    fit("lr", workspace=place, cv=0, jobs=1, parameters={"lr": FAST["lr"]})
    predict_folder(world.soundscapes, output=place / "submission.csv", workspace=place, jobs=1)
    return place


def arguments(workspace, *more):
    return ["predict", *more, "--workspace", workspace, "--jobs", 1]


def values_of(path):
    return pd.read_csv(path).drop(columns="row_id").to_numpy()


def test_help_knows_every_form():
    assert {*WINDOW_FORMS, *DETECTION_FORMS} == predict_commands.FORMS
    assert set(WINDOW_FORMS) - set(DETECTION_FORMS) == predict_commands.FORMS_OF_WINDOWS


def test_a_table_of_each_kind_in_one_run(world, workspace):
    said = run(
        *arguments(workspace, world.soundscapes, "-o", "all.parquet"),
        *("--detections", "for-raven", "--min-confidence", "0.3", "--merge", "0"),
    )
    values = values_of(workspace / "submission.csv")
    table = pq.read_table("all.parquet").to_pandas()
    np.testing.assert_array_equal(table["probability"], values.ravel())
    np.testing.assert_array_equal(table["detected"], values.ravel() >= 0.3)
    names = {path.stem for path in world.soundscapes.iterdir()}
    assert {path.name for path in Path("for-raven").iterdir()} == {f"{name}.selections.txt" for name in names}
    selections = pd.concat(pd.read_csv(path, sep="\t") for path in Path("for-raven").iterdir())
    assert 0 < len(selections) < (values >= 0.3).sum()
    assert f"  detections: {len(selections)}, in for-raven" in said
    assert all(Path(path).is_file() for path in selections["Begin Path"])
    info = soundfile.info(selections["Begin Path"].iloc[0])
    assert (selections["High Freq (Hz)"] == info.samplerate / 2).all()


def test_result_may_be_of_detections(world, workspace):
    said = run(*arguments(workspace, world.soundscapes, "-o", "labels", "--format", "audacity", "--min-confidence", 0))
    found = sum(len(path.read_text().splitlines()) for path in Path("labels").iterdir())
    assert found == values_of(workspace / "submission.csv").size
    assert f"result: labels, audacity: {found} detections" in said
    assert not Path("submission.csv").exists()


def test_soundscapes_of_one_name_are_refused_only_where_rows_have_that_name(workspace):
    for index, folder in enumerate(("a", "b")):
        write_noise(Path("both") / folder / "x.wav", 5, seed=index)
    assert "x_5" in refuse(*arguments(workspace, "both"))
    run(*arguments(workspace, "both", "-o", "all.csv", "--format", "wide"))
    assert pd.read_csv("all.csv")["recording"].tolist() == ["a/x.wav", "b/x.wav"]


@pytest.mark.parametrize("option", ["--sample-submission", "--blend-with", "--model", "--weights"])
@pytest.mark.parametrize("output", ["-o", "--detections"])
def test_what_is_read_is_not_replaced(world, workspace, option, output):
    shutil.copy(workspace / "bundles/lr.birdemb", "read.csv")
    before = Path("read.csv").read_bytes()
    Path("link.csv").symlink_to("read.csv")
    said = refuse(*arguments(workspace, world.soundscapes, option, "read.csv", output, "link.csv"))
    assert said == "Error: link.csv is read here, and would be replaced by the result. Name another file."
    assert Path("read.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["-o", "x.xlsx"], "x.xlsx has the suffix .xlsx"),
        (["-o", "x.txt"], "x.txt is to be raven, a table of detections, and .* has no thresholds.*--min-confidence"),
        (["--detections", "x.csv"], "has no thresholds"),
        (["-o", "x.jsonl", "--min-confidence", "1.5"], "least confidence is 1.5"),
        (["-o", "x.jsonl", "--merge", "-1"], "gap .* is -1.0"),
        (
            ["--min-confidence", "0.5"],
            "--min-confidence 0.5 is about detections, and submission.csv is to be submission",
        ),
        (["-o", "x.parquet", "--merge", "0"], "--merge 0 is about detections.*--detections"),
        (["--detections-format", "raven"], "--detections-format raven is about the table of --detections"),
        (["--blend-weight", "0.6"], "--blend-weight 0.6 is the weight of another submission, and there is none"),
        (["-o", "x.parquet", "--sample-submission", "x.csv"], "--sample-submission is about a submission.* parquet"),
        (["-o", "x.jsonl", "--min-confidence", "0", "--blend-with", "x.csv"], "--blend-with is about a submission"),
        (["-o", "x.wav", "--format", "wide"], "x.wav has the name of a recording"),
        (["-o", "x.csv", "--sample-submission", "sample.csv"], "none of the bundle's classes: it has kiwi1"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_the_work(world, workspace, monkeypatch, more, said):
    monkeypatch.setattr("birdemb.predicting.predict_soundscapes", pytest.fail)
    Path("sample.csv").write_text("row_id,kiwi1\nsoundscape_5,0\n")
    assert re.search(said, refuse(*arguments(workspace, world.soundscapes, *more)))
    assert not [path for path in Path().iterdir() if path.name.startswith("x.")]


def test_times_of_day_are_told_where_names_have_them(workspace):
    for name in ("heath_20250330_015957.wav", "nameless.wav"):
        write_noise(Path("some") / name, 9)
    run(*arguments(workspace, "some", "-o", "all.csv", "--format", "wide"))
    told = pd.read_csv("all.csv", keep_default_na=False)
    assert told["start_time"].tolist() == ["2025-03-30T01:59:57", "2025-03-30T02:00:02", "", ""]
    zone = ["--time-zone", "Europe/Berlin"]
    run(*arguments(workspace, "some", "-o", "found.jsonl", "--min-confidence", 0, "--merge", 0, *zone))
    starts = {json.loads(line)["end_time"] for line in Path("found.jsonl").read_text().splitlines()}
    assert starts == {"2025-03-30T03:00:07+02:00", None}
    assert "no time zone" in refuse(*arguments(workspace, "some", "--time-zone", "Berlin/Europe"))


def test_result_may_have_a_name_that_is_no_text(workspace):
    write_noise(Path("some/a.wav"), 5)
    assert r"result: gr\udcfcn.csv" in run(*arguments(workspace, "some", "-o", os.fsdecode(b"gr\xfcn.csv")))
    assert Path(os.fsdecode(b"gr\xfcn.csv")).is_file()


def truncate(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: round(share * len(content))])


def test_rows_of_a_broken_soundscape_are_there_where_its_header_tells_its_length(workspace):
    write_noise(Path("some/whole.wav"), 9)
    soundfile.write("some/broken.flac", np.random.default_rng(0).normal(0, 0.1, 12 * 32_000), 32_000)
    truncate(Path("some/broken.flac"), 0.5)
    Path("some/empty.wav").touch()
    said = run(*arguments(workspace, "some"), status=EXIT_SKIPPED)
    assert "3 rows of soundscapes that were skipped, set to the classes' shares" in said
    table = pd.read_csv("submission.csv")
    assert table["row_id"].tolist() == ["whole_5", "whole_10", "broken_5", "broken_10", "broken_15"]
    shares = read_bundle(workspace / "bundles/lr.birdemb").shares
    np.testing.assert_array_equal(table.iloc[2:, 1:], np.tile(shares, (3, 1)))


def test_rows_beyond_the_end_and_of_broken_soundscapes_are_filled_as_the_sample_has_them(workspace):
    write_noise(Path("some/whole.wav"), 9)
    Path("some/empty.wav").touch()
    bundle = read_bundle(workspace / "bundles/lr.birdemb")
    rows = ["empty_5", "whole_15", "whole_10", "gone_5", "whole_5"]
    pd.DataFrame({"row_id": rows} | dict.fromkeys(reversed(bundle.labels), 0.0)).to_csv("sample.csv", index=False)
    run(*arguments(workspace, "some", "--sample-submission", "sample.csv"), status=EXIT_SKIPPED)
    table = pd.read_csv("submission.csv")
    assert table["row_id"].tolist() == rows
    assert list(table.columns) == ["row_id", *reversed(bundle.labels)]
    np.testing.assert_array_equal(table.iloc[[0, 1, 3], 1:], np.tile(bundle.shares[::-1], (3, 1)))
    assert not (table.iloc[[2, 4], 1:].to_numpy() == bundle.shares[::-1]).all(axis=1).any()
