"""Worker processes: joblib's own back ends, loky on one machine and Dask on many."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from importlib.util import find_spec
from typing import Any

import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError

from birdemb.embed.tasks import Outcome, Piece, Settings, embed_pieces, warm_up
from birdemb.errors import BirdembError, InputError, MissingDependencyError
from birdemb.offline import OFFLINE_VARIABLE, is_offline

__all__ = ["BACKENDS", "StopAt", "Take", "Tasks", "check_workers", "embed_tasks", "give_outcomes"]

BACKENDS = ("loky", "dask")
"""What `--backend` may be: processes on this machine, or the workers of a Dask cluster."""

_LOOKS_A_SECOND = 50  # of all workers together, where there is nothing to do at this moment
_WAITING_RESULTS = 4  # for each task in flight: more, and no task is given out until some are written
_LONGEST_REST = 0.5  # in seconds: however many they are, work that comes must not wait long for them

Take = Callable[[], list[Piece] | None]
StopAt = Callable[[], float]
"""Gives when to stop, by `time.monotonic`."""


def check_workers(backend: str, jobs: int, scheduler: str | None) -> None:
    """Raise if the settings of the workers make no sense, or Dask is missing.

    Raises
    ------
    InputError, MissingDependencyError
    """
    if jobs < -1 or jobs == 0:
        raise InputError(f"--jobs is {jobs}; expected 1 or more, or -1 for as many as there are cores.")
    if backend not in BACKENDS:
        raise InputError(f"--backend is {backend!r}; expected {' or '.join(BACKENDS)}.")
    if backend == "loky" and scheduler is not None:
        raise InputError(f"--scheduler {scheduler} goes with --backend dask; give that too.")
    if backend == "dask":
        if is_offline():
            raise InputError(
                f"--backend dask works over the network, which {OFFLINE_VARIABLE} or --offline forbids. "
                "Leave out one of them."
            )
        if not scheduler:
            raise InputError(
                "--backend dask needs --scheduler: the address that `dask scheduler` prints, such as "
                "tcp://10.0.0.1:8786, or file:PATH for the file that it wrote with --scheduler-file."
            )
        if find_spec("distributed") is None:
            raise MissingDependencyError(
                "--backend dask needs the package distributed, which is not installed. Run: pip install 'birdemb[dask]'"
            )


def embed_tasks(
    take: Take,
    settings: Settings,
    *,
    backend: str = "loky",
    workers: int = 1,
    jobs: int = -1,
    scheduler: str = "",
    stop_at: StopAt | None = None,
) -> Generator[Outcome, None, None]:
    """Let workers embed tasks, and give what comes out of their pieces as it comes.

    Parameters
    ----------
    take : callable
        Gives the next task, an empty one where none is ready yet, and None at the end. Must not wait.
    settings : Settings
    backend : {"loky", "dask"}
    workers : int
        Processes on this machine; with one, this process does the work itself.
    jobs : int
        With Dask: how many threads of workers to wait for; -1 for any.
    scheduler : str
        Of Dask: its address, or ``file:`` and the path of its file.
    stop_at : callable, optional
        When workers are to leave what they are at; those of this machine alone, as no other has the same clock.

    Yields
    ------
    Outcome

    Raises
    ------
    BirdembError
        If workers die, or cannot make the encoder. What was finished has been given.
    """
    if backend == "dask":
        from birdemb.embed.cluster import embed_on_cluster  # heavy, and an extra

        yield from embed_on_cluster(take, settings, jobs, scheduler)
        return
    with (
        joblib.parallel_config(backend="loky", inner_max_num_threads=1),
        joblib.Parallel(n_jobs=workers, batch_size=1, return_as="generator_unordered") as parallel,
    ):
        tasks = Tasks(take, settings, workers=workers, in_flight=2 * workers, stop_at=stop_at)
        try:
            if workers > 1:
                _start_workers(parallel, workers, settings)
            yield from give_outcomes(parallel(tasks), tasks)
        except TerminatedWorkerError as error:
            raise BirdembError(
                "A worker process was killed, most often because memory ran out. What was finished is kept: "
                "run the same command again, with fewer --jobs."
            ) from error


class Tasks:
    """The tasks in joblib's form. Never waits, as joblib asks for the next one where it receives results.

    Parameters
    ----------
    take : callable
    settings : Settings
    workers, in_flight : int
        How many there are, and how many tasks they are given ahead.
    stop_at : callable, optional
    """

    def __init__(
        self, take: Take, settings: Settings, *, workers: int, in_flight: int, stop_at: StopAt | None = None
    ) -> None:
        self._take = take
        self._settings = settings
        self._rest = min(workers / _LOOKS_A_SECOND, _LONGEST_REST)
        self._most = in_flight * (1 + _WAITING_RESULTS)
        self._stop_at = stop_at
        self._given = 0
        self._got = 0

    def got(self) -> None:
        """Count a result that was used."""
        self._got += 1

    def __iter__(self) -> Iterator[Any]:
        while (pieces := self._take() if self._given - self._got < self._most else []) is not None:
            self._given += bool(pieces)
            until = {} if self._stop_at is None else {"stop_at": self._stop_at()}
            yield joblib.delayed(embed_pieces)(self._settings, pieces, self._rest, **until)


def give_outcomes(results: Generator[list[Outcome], None, None], tasks: Tasks) -> Generator[Outcome, None, None]:
    """Give what tasks result in, one by one, and end the work that is under way where nobody wants more."""
    try:
        for outcomes in results:
            if outcomes:
                tasks.got()
            yield from outcomes
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # joblib's advice to those who stop early
            results.close()


def _start_workers(parallel: joblib.Parallel, workers: int, settings: Settings) -> None:
    """Start the worker processes where Ctrl-C reaches none of them.

    They inherit that SIGINT is ignored. Ctrl-C is then this process's alone, which ends them in order.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main_thread else None
    try:
        starting = parallel(joblib.delayed(warm_up)(settings, os.getpid()) for _ in range(workers))
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, before)
    for _ in starting:
        pass
