"""The run on a Dask cluster: a scheduler and worker processes of this machine stand for many machines."""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest
import soundfile
from run_files import arrays_of, make_folder, write_noise

from birdemb.cache import CacheWriter
from birdemb.embed import cluster as dask_cluster
from birdemb.embed import workers
from birdemb.embedding import embed_recordings
from birdemb.errors import BirdembError, InputError, MissingDependencyError

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.slow


def embed(path, workspace, **options):
    return embed_recordings(path, encoder="melspec", workspace=workspace, **({"jobs": 1} | options))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data") / "data", short=16, long=3, long_seconds=260)


@pytest.fixture(scope="module")
def expected(data, tmp_path_factory):
    """The embeddings of each recording, as one machine makes them."""
    workspace = tmp_path_factory.mktemp("alone")
    embed(data, workspace)
    return arrays_of(workspace, data)


def start_cluster():
    return distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    )


@pytest.fixture(scope="module")
def cluster():
    with start_cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster_to_kill():
    """For one test alone: a worker that is killed need not come back.

    Dask looks 15 s after it lost a worker (`distributed.deploy.lost-worker-timeout`) whether another has its name, and
    gives its place up for good if none has just then. Here a task is given up after the second worker that died of it,
    so that nothing waits for one to come back.
    """
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}), start_cluster() as cluster:
        yield cluster


def test_a_cluster_gives_the_same_bytes_as_one_machine(cluster, data, expected, tmp_path):
    data = shutil.copytree(data, tmp_path / "data")
    (data / "broken.wav").write_text("no")
    report = embed(data, "cluster", backend="dask", scheduler=cluster.scheduler_address)
    assert [entry.recording for entry in report.listing.skipped] == ["broken.wav"]
    (data / "broken.wav").unlink()
    assert arrays_of(tmp_path / "cluster", data) == expected
    again = embed(data, "cluster", backend="dask", scheduler=cluster.scheduler_address)
    assert again.run.fresh_seconds == 0


def test_a_worker_killed_in_the_middle_costs_nothing_but_time(cluster_to_kill, data, expected, tmp_path, monkeypatch):
    cluster, killed = cluster_to_kill, []
    add = CacheWriter.add

    def add_and_kill(writer, *args, **options):
        if not killed:
            nannies = [nanny for nanny in cluster.workers.values() if nanny.pid]
            killed.append(nannies[0].pid)
            os.kill(killed[0], signal.SIGKILL)
        return add(writer, *args, **options)

    monkeypatch.setattr(CacheWriter, "add", add_and_kill)
    report = embed(data, "cluster", backend="dask", scheduler=cluster.scheduler_address)
    assert killed
    assert report.listing.skipped == []
    assert killed[0] not in {nanny.pid for nanny in cluster.workers.values()}
    assert arrays_of(tmp_path / "cluster", data) == expected


@pytest.fixture
def processes(tmp_path):
    """As on a real cluster: a scheduler and workers that are started by their own commands, and come one by one."""
    file = tmp_path / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", file, "--nthreads", "1"]
    started = [subprocess.Popen([*command, "--scheduler-file", file, "--no-dashboard"], stderr=subprocess.DEVNULL)]
    try:
        started += [
            subprocess.Popen([*worker, "--no-nanny", "--no-dashboard"], stderr=subprocess.DEVNULL) for _ in range(2)
        ]
        give_up = time.monotonic() + 120  # a busy machine takes longer than a run waits
        while not file.exists() and time.monotonic() < give_up:
            time.sleep(0.1)
        yield started
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()


def test_workers_of_other_processes_work_through_a_scheduler_file(processes, data, expected, tmp_path):
    report = embed(data, "cluster", backend="dask", scheduler=f"file:{tmp_path / 'scheduler.json'}", jobs=2)
    assert len(report.listing.recordings) == 19
    assert arrays_of(tmp_path / "cluster", data) == expected


def test_a_scheduler_that_is_killed_ends_the_run_and_what_was_finished_is_kept(
    processes, data, expected, tmp_path, monkeypatch
):
    add = CacheWriter.add

    def add_and_kill(writer, *args, **options):
        processes[0].kill()
        return add(writer, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(CacheWriter, "add", add_and_kill)
        with pytest.raises(BirdembError, match=r"Dask has given up a task .* What was finished is kept"):
            embed(data, "cluster", backend="dask", scheduler=f"file:{tmp_path / 'scheduler.json'}", jobs=2)
    whole = sum(soundfile.info(recording).duration for recording in data.rglob("*.wav"))
    assert 0 < embed(data, "cluster", jobs=2).run.fresh_seconds < whole
    assert arrays_of(tmp_path / "cluster", data) == expected


def test_ctrl_c_gives_the_cluster_s_work_up(cluster, tmp_path):
    for index in range(30):
        write_noise(tmp_path / f"data/{index}.wav", 120, seed=index)
    code = (
        "import sys; from birdemb.cli import main; from birdemb.embedding import embed_recordings\n"
        "from birdemb import progress; assert '_SECONDS_BETWEEN_LINES' in vars(progress)\n"
        "progress._SECONDS_BETWEEN_LINES = 0.5\n"
        "try: embed_recordings('data', encoder='melspec', backend='dask', scheduler=sys.argv[1], show_progress=True)\n"
        "except KeyboardInterrupt: print('stopped')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, cluster.scheduler_address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert "recordings" in process.stderr.readline()
    os.killpg(process.pid, signal.SIGINT)
    said, errors = process.communicate(timeout=30)
    assert said == "stopped\n", errors
    assert "Traceback" not in errors
    with distributed.Client(cluster, set_as_default=False) as client:
        give_up = time.monotonic() + 30
        while any(client.processing().values()) and time.monotonic() < give_up:
            time.sleep(0.1)
        assert not any(client.processing().values())
    before = len(list((tmp_path / ".birdemb").rglob("shards/*.json")))
    assert before > 0
    assert embed("data", ".birdemb", jobs=2).run.fresh_seconds < 30 * 120


class _OnItsWay:
    """A result that takes a second to be sent."""

    def __reduce__(self):
        time.sleep(1)
        return _OnItsWay, ()


def _work_a_little(settings, pieces, rest):
    time.sleep(0.3)
    return [_OnItsWay() for _ in pieces]


def test_results_on_their_way_at_the_end_are_not_spoken_of(cluster, caplog, monkeypatch):
    monkeypatch.setattr(workers, "embed_pieces", _work_a_little)
    tornado = logging.getLogger("tornado.application")  # whose records Dask sends to standard error alone
    tornado.addHandler(caplog.handler)
    tasks = iter([["piece"]] * 8)
    outcomes = dask_cluster.embed_on_cluster(lambda: next(tasks, None), None, 2, cluster.scheduler_address)
    try:
        assert isinstance(next(outcomes), _OnItsWay)  # others are on their way
        outcomes.close()
    finally:
        tornado.removeHandler(caplog.handler)
    assert not [record for record in caplog.records if record.name == tornado.name]


def test_a_task_that_dask_gives_up_ends_the_run(cluster_to_kill, data, monkeypatch):
    """As of a recording whose decoder crashes: joblib alone would wait for it without end."""
    monkeypatch.setattr(workers, "embed_pieces", _die_at_a_long_one)
    with pytest.raises(BirdembError, match=r"given up a task .* on 2 different workers"):
        embed(data, "cluster", backend="dask", scheduler=cluster_to_kill.scheduler_address)


def _die_at_a_long_one(settings, pieces, rest):
    from birdemb.embed.tasks import embed_pieces  # this module is not on the workers' path

    if any(piece.recording.name == "long/1.wav" and not piece.part.first_window for piece in pieces):
        os.kill(os.getpid(), signal.SIGKILL)
    return embed_pieces(settings, pieces, rest)


def test_a_scheduler_that_is_not_there_is_one_sentence(data, monkeypatch):
    monkeypatch.setattr(dask_cluster, "_CONNECT_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(InputError, match=f"No Dask scheduler at tcp://127.0.0.1:{port} within 1 s"):
        embed(data, "cluster", backend="dask", scheduler=f"tcp://127.0.0.1:{port}")


@pytest.mark.parametrize("scheduler", ["nowhere", "file:gone.json", "http://127.0.0.1:1", "tcp://127.0.0.1"])
def test_what_is_no_address_is_one_sentence(data, monkeypatch, scheduler):
    monkeypatch.setattr(dask_cluster, "_CONNECT_SECONDS", 1)
    with pytest.raises(InputError, match="No Dask scheduler at"):
        embed(data, "cluster", backend="dask", scheduler=scheduler)


@pytest.mark.parametrize(("workers", "said"), [(0, "0 threads"), (1, "1 thread")])
def test_a_cluster_with_too_few_workers_is_told(data, monkeypatch, workers, said):
    monkeypatch.setattr(dask_cluster, "_SECONDS_FOR_WORKERS", 1)
    with (
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp"
        ) as few,
        pytest.raises(BirdembError, match=f"has {said} of workers after 1 s, expected 2"),
    ):
        embed(data, "cluster", backend="dask", scheduler=few.scheduler_address)


def test_dask_without_an_address_says_where_to_get_one(data):
    with pytest.raises(InputError, match="--backend dask needs --scheduler"):
        embed(data, "cluster", backend="dask")


def test_dask_that_is_not_installed_is_told_with_its_extra(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'birdemb\[dask\]'"):
        embed(data, "cluster", backend="dask", scheduler="tcp://127.0.0.1:8786")


def test_nothing_of_a_run_stays_behind(cluster, data):
    embed(data, "cluster", backend="dask", scheduler=cluster.scheduler_address)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("birdemb")]
    assert not [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]
