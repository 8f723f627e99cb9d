"""The workers of a Dask cluster, through joblib's own back end.

Imported where a run is to go to one: `distributed` is an extra, and takes half a second to import.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import distributed
import joblib
from distributed.utils import silence_logging_cmgr
from joblib._dask import DaskDistributedBackend

from birdemb.embed.tasks import Outcome, Settings
from birdemb.embed.workers import Take, Tasks, give_outcomes
from birdemb.errors import BirdembError, InputError
from birdemb.storage import read_json

__all__ = ["embed_on_cluster"]

_CONNECT_SECONDS = 10
_SECONDS_FOR_WORKERS = 120
_PROTOCOLS = ("tcp", "tls", "ws", "wss")
_FEWEST_IN_FLIGHT = 64  # more workers may come while the run goes on


class _Results(distributed.as_completed):
    """What tasks result in, as it comes; of one whose connection breaks, the error.

    Dask's own prints that error and gives nothing: those who press Ctrl-C would see what they broke off, and a result
    that is lost while it is wanted would be waited for without end.
    """

    async def _track_future(self, future: Any) -> None:  # noqa: ANN401 - Dask's
        try:
            await super()._track_future(future)  # type: ignore[no-untyped-call]
        except OSError as error:
            with self.lock:
                if self.futures.pop(future, 0):  # else nobody waits for it any more
                    self.queue.put_nowait((future, error))
            async with self.condition:
                self.condition.notify()


class _Dask(DaskDistributedBackend):  # type: ignore[misc]
    """joblib's back end for Dask, which also ends where Dask gives a task up; joblib's own waits without end."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401 - distributed is optional
        super().__init__(client=client)
        self.waiting_futures = _Results(loop=client.loop, with_results=True, raise_errors=False)  # type: ignore[no-untyped-call]

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Future[Any]:  # noqa: ANN401 - joblib's
        def end(task: Future[Any]) -> None:
            if callback is not None and (error := task.exception()) is not None:
                callback(error)

        submitted: Future[Any] = super().submit(func, callback)
        submitted.add_done_callback(end)
        return submitted

    def retrieve_result_callback(self, out: Any) -> Any:  # noqa: ANN401 - joblib's
        if isinstance(out, BaseException):
            reason = (str(out) or type(out).__name__).splitlines()[0]
            raise BirdembError(
                f"Dask has given up a task ({reason}). What was finished is kept. Make sure that the scheduler still "
                "runs, that every worker has this version of birdemb and enough memory, and run the same command again."
            )
        return super().retrieve_result_callback(out)


def embed_on_cluster(take: Take, settings: Settings, jobs: int, scheduler: str) -> Generator[Outcome, None, None]:
    """Do what `birdemb.embed.workers.embed_tasks` says, on the workers of a Dask scheduler."""
    with _connect(scheduler) as client:
        threads = _wait_for_threads(client, jobs, scheduler)
        in_flight = max(_FEWEST_IN_FLIGHT, 2 * threads)
        with joblib.Parallel(
            n_jobs=-1,
            backend=_Dask(client=client),
            batch_size=1,
            pre_dispatch=in_flight,
            return_as="generator_unordered",
        ) as parallel:
            tasks = Tasks(take, settings, workers=threads, in_flight=in_flight)
            yield from give_outcomes(parallel(tasks), tasks)


@contextmanager
def _connect(scheduler: str) -> Iterator[Any]:
    try:
        kind, _, path = scheduler.partition(":")
        address = _read_address(Path(path)) if kind == "file" else scheduler
        _knock(address)
        client = distributed.Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:  # the second for what is no address
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"No Dask scheduler at {scheduler} within {_CONNECT_SECONDS} s ({reason}). "
            "Start one with `dask scheduler`, and give the address that it prints."
        ) from error
    try:
        yield client
    finally:
        # Work that nobody waits for any more is given up with the connection. Where that was lost before, Dask would
        # print how its attempts to connect again were broken off.
        with contextlib.suppress(OSError), silence_logging_cmgr("CRITICAL"):
            client.close(timeout=1)  # type: ignore[no-untyped-call]


def _read_address(file: Path) -> str:
    """Read the address in a scheduler's file; Dask itself waits without end for one that does not come."""
    give_up = time.monotonic() + _CONNECT_SECONDS
    while not file.is_file() and time.monotonic() < give_up:
        time.sleep(0.1)
    address = read_json(file).get("address")
    return str(address)


def _knock(address: str) -> None:
    """Raise if nobody listens at an address: a client that fails to connect leaves threads of Dask's behind."""
    parts = urlsplit(address)
    if parts.scheme not in _PROTOCOLS or not parts.hostname or not parts.port:
        raise ValueError(f"expected an address such as {_PROTOCOLS[0]}://10.0.0.1:8786")
    socket.create_connection((parts.hostname, parts.port), timeout=_CONNECT_SECONDS).close()


def _wait_for_threads(client: Any, jobs: int, scheduler: str) -> int:  # noqa: ANN401 - distributed is optional
    """Wait for workers, make sure that they have birdemb, and count their threads."""
    # joblib would do the work of a single thread in this process.
    wanted = max(2, jobs)
    give_up = time.monotonic() + _SECONDS_FOR_WORKERS
    while (threads := int(sum(client.ncores().values()))) < wanted:
        if time.monotonic() > give_up:
            there = "1 thread" if threads == 1 else f"{threads} threads"
            raise BirdembError(
                f"The Dask scheduler at {scheduler} has {there} of workers after {_SECONDS_FOR_WORKERS} s, "
                f"expected {wanted} or more. Start workers with `dask worker {scheduler} --nthreads 1`."
            )
        time.sleep(0.2)
    return threads
