"""The run over recordings: what is embedded, what is left out, and what is not done twice."""

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from run_files import arrays_of, hash_of, make_folder, write_noise

from birdemb.cache import CacheWriter, EmbeddingCache
from birdemb.embed import planning, run, tasks, workers
from birdemb.embed.encoder import load_encoder
from birdemb.embed.melspec import MelspecEncoder
from birdemb.embed.recordings import find_recordings
from birdemb.embed.run import embed_folder, identify
from birdemb.embed.windows import PART_SECONDS, Part, WindowGrid, plan_parts, stream_windows
from birdemb.embedding import embed_recordings
from birdemb.errors import BirdembError, InputError


def embed(path, workspace="w", **options):
    return embed_recordings(path, encoder="melspec", workspace=workspace, **({"jobs": 1} | options))


def names(listing):
    return [entry.recording for entry in listing.recordings]


@pytest.fixture
def data(tmp_path):
    return make_folder(tmp_path / "data")


@pytest.mark.slow
def test_every_recording_is_embedded_as_by_hand(data):
    report = embed(data, jobs=2)
    encoder = load_encoder("melspec")
    grid = WindowGrid()
    for recording, entry in zip(find_recordings(data).recordings, report.listing.recordings, strict=True):
        parts = plan_parts(recording, 32_000, grid)
        assert len(parts) == (1 if "short" in entry.recording else 3 + int(entry.recording[-5]))
        windows = [windows for part in parts for windows, _ in stream_windows(recording, 32_000, grid, part)]
        expected = np.concatenate([encoder.encode(some) for some in windows]).astype(np.float16)
        np.testing.assert_array_equal(report.run.cache.read([entry.sha256]), expected.astype(np.float32))
        assert entry.seconds == pytest.approx(soundfile.info(recording.location).duration)
        assert entry.windows == grid.count(soundfile.info(recording.location).frames, 8000)
    assert report.run.fresh_seconds == pytest.approx(report.listing.seconds)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [2, 3])
def test_any_number_of_workers_gives_the_same_bytes(data, tmp_path, jobs):
    embed(data, "one")
    embed(data, "many", jobs=jobs)
    assert arrays_of(tmp_path / "one", data) == arrays_of(tmp_path / "many", data)


@pytest.mark.slow
def test_neighbours_in_a_task_make_no_difference(data, tmp_path, monkeypatch):
    embed(data, "together")
    monkeypatch.setattr(planning, "_RECORDINGS_A_TASK", 1)
    embed(data, "alone")
    assert arrays_of(tmp_path / "together", data) == arrays_of(tmp_path / "alone", data)


@pytest.mark.slow
def test_a_second_run_hashes_and_embeds_nothing(data, monkeypatch):
    # Written just now, so that their times tell of no later change yet.
    monkeypatch.setattr("birdemb.embed.contents._RACY_SECONDS", -1.0)
    first = embed(data)
    monkeypatch.setattr("birdemb.embed.contents._hash", None)
    monkeypatch.setattr("birdemb.embed.run.embed_tasks", None)
    second = embed(data)
    assert second.listing == first.listing
    assert second.run.fresh_seconds == 0


@pytest.mark.slow
def test_a_recording_of_which_parts_are_there_is_embedded_from_there_on(data, tmp_path):
    embed(data, "whole")
    long = data / "long/0.wav"
    encoder, grid = load_encoder("melspec"), WindowGrid()
    cache = EmbeddingCache(tmp_path / "w/cache", identify(encoder, grid))
    (recording,) = find_recordings(long).recordings
    first, second, last = plan_parts(recording, 32_000, grid)
    rows = np.concatenate([encoder.encode(windows) for windows, _ in stream_windows(recording, 32_000, grid, second)])
    with cache.writer() as writer:
        writer.add(hash_of(long), rows.astype(np.float16), first_window=second.first_window, last=False)
    report = embed(long)
    assert report.run.fresh_seconds == pytest.approx(400 - second.windows * 5)
    assert last == Part(first.windows + second.windows)
    assert report.run.cache.read([hash_of(long)]).tobytes() == arrays_of(tmp_path / "whole", data)["long/0.wav"]


def test_one_content_under_two_names_is_embedded_once_and_listed_twice(tmp_path):
    write_noise(tmp_path / "data/a.wav", 6)
    write_noise(tmp_path / "data/b.wav", 6)
    report = embed("data")
    assert names(report.listing) == ["a.wav", "b.wav"]
    assert report.run.fresh_seconds == pytest.approx(6)
    assert len(report.run.cache) == 1


@pytest.mark.slow
def test_a_part_that_is_damaged_costs_its_recording_and_no_other(data):
    whole = data / "long/0.wav"
    sound, rate = soundfile.read(whole)
    sound[-8000] = np.nan
    soundfile.write(data / "long/bad.wav", sound, rate, subtype="FLOAT")
    report = embed(data, jobs=2)
    (skipped,) = report.listing.skipped
    assert (skipped.recording, skipped.stage) == ("long/bad.wav", "decode")
    assert len(report.listing.recordings) == 14
    bad = hash_of(data / "long/bad.wav")
    assert report.run.cache.find_parts([bad]) == {bad: {0, 24}}  # what was good is kept, in case the file is mended


def test_values_that_are_too_large_for_float16_are_listed(tmp_path, monkeypatch):
    class Loud(MelspecEncoder):
        def _encode(self, windows):
            return super()._encode(windows) * (1e6 if windows.shape[0] == 2 else 1)

    write_noise(tmp_path / "data/two.wav", 10)
    write_noise(tmp_path / "data/three.wav", 15)
    monkeypatch.setattr("birdemb.embed.melspec.MelspecEncoder", Loud)
    monkeypatch.setattr(tasks, "_loaded", tasks._Loaded())
    report = embed("data")
    (skipped,) = report.listing.skipped
    assert (skipped.recording, skipped.stage) == ("two.wav", "encode")
    assert "float32" in skipped.reason
    table = pd.read_csv(report.errors)
    assert table.columns.tolist() == ["path", "stage", "reason"]
    assert embed("data", dtype="float32").listing.skipped == []


def test_settings_are_part_of_the_identity(tmp_path):
    write_noise(tmp_path / "data/a.wav", 12)
    runs = [embed("data"), embed("data", dtype="float32"), embed("data", hop=2.5), embed("data", window=3.0)]
    assert len({report.run.cache.folder for report in runs}) == 4
    assert [report.listing.windows for report in runs] == [3, 3, 4, 4]
    identity = runs[0].listing.identity
    assert (identity["dtype"], identity["part_seconds"], identity["logits"]) == ("float16", PART_SECONDS, 0)


@pytest.mark.slow
def test_sound_at_a_url_is_embedded_like_a_file(data, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for path in data.rglob("*.wav"):
        memory.pipe(f"/birds/{path.relative_to(data).as_posix()}", path.read_bytes())
    try:
        report = embed("memory://birds", "remote")
    finally:
        memory.rm("/birds", recursive=True)
    assert report.listing.folder.startswith("memory://")
    embed(data, "local")
    assert arrays_of(tmp_path / "remote", data) == arrays_of(tmp_path / "local", data)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"jobs": 0}, "--jobs is 0; expected"),
        ({"backend": "threads"}, "--backend is 'threads'; expected loky or dask"),
        ({"scheduler": "tcp://localhost:1"}, "goes with --backend dask"),
        ({"dtype": "int8"}, "--dtype is 'int8'; expected"),
        ({"hop": 9.0}, "Windows of 5.0 s every 9.0 s"),
        ({"logits": True}, "no logits"),
    ],
)
def test_settings_that_make_no_sense_are_told_before_the_work(data, options, told):
    with pytest.raises(InputError, match=told):
        embed(data, **options)


@pytest.mark.slow
def test_two_runs_into_one_cache_at_the_same_time(data, tmp_path):
    code = (
        "import sys; from birdemb.embedding import embed_recordings\n"
        "embed_recordings(sys.argv[1], encoder='melspec', workspace='both', jobs=1)"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, data]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    embed(data, "alone")
    assert arrays_of(tmp_path / "both", data) == arrays_of(tmp_path / "alone", data)


@pytest.mark.slow
def test_a_run_ends_cleanly_where_the_disk_is_full(data, tmp_path):
    # A limit on the size of files stands for the full disk: a write fails as it would there.
    code = (
        "import resource, signal, sys; from birdemb.embedding import embed_recordings\n"
        "from birdemb.errors import InputError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: embed_recordings(sys.argv[1], encoder='melspec', workspace='w', jobs=1)\n"
        "except InputError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, data], capture_output=True, text=True, check=True)
    assert "Cannot write" in done.stdout, done.stderr
    assert list((tmp_path / "w").rglob("*.partial")) == []
    assert list((tmp_path / "w").rglob("shards/*.json")) == []
    embed(data)
    embed(data, "alone")
    assert arrays_of(tmp_path / "w", data) == arrays_of(tmp_path / "alone", data)


def test_a_worker_that_cannot_make_the_encoder_ends_the_run(data, monkeypatch):
    monkeypatch.setattr(
        workers, "embed_pieces", lambda settings, *rest: tasks.embed_pieces(_of_another_version(settings), *rest)
    )
    with pytest.raises(BirdembError, match="another version of birdemb"):
        embed(data)


def _of_another_version(settings):
    return dataclasses.replace(settings, identity_sha256="0" * 64)


def test_planning_stays_a_little_ahead_of_the_workers(tmp_path, monkeypatch):
    for index in range(40):
        write_noise(tmp_path / f"data/{index}.wav", 0.1, seed=index)
    monkeypatch.setattr(planning, "_RECORDINGS_A_TASK", 1)
    monkeypatch.setattr(planning, "_TASKS_AHEAD", 3)
    monkeypatch.setattr(planning, "_RECORDINGS_AT_ONCE", 2)
    ahead = []
    took = planning.Planner.take

    def take(planner, **options):
        task = took(planner, **options)
        ahead.append(len(planner.contents))
        return task

    monkeypatch.setattr(planning.Planner, "take", take)
    report = embed("data")
    assert len(report.listing.recordings) == 40
    taken = [count - index for index, count in enumerate(ahead)]
    assert max(taken) <= 10


def test_an_error_while_planning_ends_the_run_and_keeps_what_is_done(data, monkeypatch):
    def fail(*_):
        raise MemoryError("planning")

    monkeypatch.setattr(planning.Planner, "_split", fail)
    with pytest.raises(MemoryError, match="planning"):
        embed(data)
    assert threading.active_count() < 10


@pytest.mark.slow
def test_the_run_s_settings_do_not_depend_on_where_it_is_started(data, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    embed("data")
    monkeypatch.chdir(elsewhere)
    again = embed(Path("../data"), tmp_path / "w")
    assert again.run.fresh_seconds == 0
    assert again.listing.folder == str(data)


@pytest.mark.slow
def test_embed_folder_needs_no_workspace(data, tmp_path):
    done = embed_folder(data, tmp_path / "cache", encoder="melspec", jobs=1, show_progress=False)
    assert len(done.listing.recordings) == 14
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("data", "cache")] == []


@pytest.mark.slow
def test_an_interrupted_run_gives_its_workers_up_at_once_and_keeps_what_was_finished(data, monkeypatch, recwarn):
    monkeypatch.setattr(planning, "_RECORDINGS_A_TASK", 1)
    kept = []
    add = CacheWriter.add

    def add_and_interrupt(writer, *args, **options):
        add(writer, *args, **options)
        kept.append(args)
        if len(kept) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CacheWriter, "add", add_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            embed(data, jobs=2)
    assert not [warning for warning in recwarn if "still being processed" in str(warning.message)]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("birdemb")]
    again = embed(data)
    assert 0 < again.run.fresh_seconds < again.listing.seconds


@pytest.mark.slow
@pytest.mark.parametrize(("change", "told"), [("delete", "it cannot be opened"), ("rewrite", "changed while")])
def test_a_recording_that_is_no_longer_there_when_its_turn_comes_is_listed(data, monkeypatch, change, told):
    victim = max(data.rglob("short/*.wav"))
    monkeypatch.setattr(planning, "_RECORDINGS_A_TASK", 1)
    keep = run._keep

    def keep_and_change(*arguments):
        if change == "delete":
            victim.unlink(missing_ok=True)
        else:
            write_noise(victim, 3.0, seed=999)
        return keep(*arguments)

    monkeypatch.setattr(run, "_keep", keep_and_change)
    report = embed(data)
    (skipped,) = report.listing.skipped
    assert skipped.recording == f"short/{victim.name}"
    assert skipped.stage == "read"
    assert told in skipped.reason
    assert len(report.listing.recordings) == 13
    (row,) = pd.read_csv(report.errors).to_dict("records")
    assert list(row) == ["path", "stage", "reason"]


@pytest.mark.parametrize(("setting", "grid"), [("hop", (5.0, 0.0333333)), ("window", (3.0000001, 1.0))])
def test_windows_that_begin_between_samples_are_refused(data, setting, grid):
    window, hop = grid
    with pytest.raises(InputError, match=f"--{setting} is .* no whole number of samples at the encoder's 32000 Hz"):
        embed(data, window=window, hop=hop)


@pytest.mark.slow
def test_windows_decoded_together_are_fewer_where_they_are_long(data):
    report = embed(data, window=60.0)
    assert report.listing.windows == sum(
        max(1, int(np.ceil(entry.seconds / 60))) for entry in report.listing.recordings
    )
