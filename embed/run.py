"""The run over recordings: every one decoded, encoded and put into the cache, or listed as skipped."""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import Lock
from typing import Any

import joblib

from birdemb.cache import CacheWriter, EmbeddingCache
from birdemb.embed.card import Card
from birdemb.embed.contents import ContentMemory
from birdemb.embed.encoder import load_encoder
from birdemb.embed.following import Follower, Standing
from birdemb.embed.planning import Planner
from birdemb.embed.recordings import FoundRecordings, find_recordings
from birdemb.embed.tasks import Outcome, Piece, Settings, identify
from birdemb.embed.windows import WindowGrid
from birdemb.embed.workers import check_workers, embed_tasks
from birdemb.errors import InputError, RecordingError
from birdemb.identity import refuse_other_identity
from birdemb.listing import EmbeddedRecording, Listing, SkippedRecording
from birdemb.progress import Progress
from birdemb.storage import hash_json

__all__ = ["EmbedRun", "embed_folder", "identify", "refuse_other_embeddings"]

_DTYPES = ("float16", "float32")
_SECONDS_TO_PLAN = 0.2  # given to a folder that may be so small that starting workers would take longer than the work


@dataclass(frozen=True)
class EmbedRun:
    """What a run over recordings did.

    Parameters
    ----------
    listing : Listing
        Every recording, embedded or skipped.
    cache : EmbeddingCache
        Holds the embeddings.
    card : Card
        Of the encoder.
    fresh_seconds : float
        Sound that was really embedded; the rest was in the cache already.
    elapsed : float
        Seconds that the run took.
    complete : bool
        Whether all recordings were reached. The listing has none of those that were not.
    """

    listing: Listing
    cache: EmbeddingCache
    card: Card
    fresh_seconds: float
    elapsed: float
    complete: bool = True


def embed_folder(
    path: str | Path | FoundRecordings,
    cache_folder: Path,
    *,
    encoder: str,
    weights: str | Path | None = None,
    grid: WindowGrid | None = None,
    precision: str = "f32",
    pooling: str | None = None,
    dtype: str = "float16",
    logits: bool = False,
    expected: dict[str, Any] | None = None,
    jobs: int = -1,
    backend: str = "loky",
    scheduler: str | None = None,
    remembered: Path | None = None,
    show_progress: bool = True,
    follower: Follower | None = None,
) -> EmbedRun:
    """Embed every recording at a place that the cache does not know yet.

    Recordings are known by their content: a renamed one is not embedded again, a changed one is. A long one of which
    some parts are in the cache is embedded from there on.

    Parameters
    ----------
    path : str, Path or FoundRecordings
        A folder or one recording: a path, or a URL that fsspec reads. Or some recordings of a folder.
    cache_folder : Path
        Where the cache lies or is to be made.
    encoder : str
        Name of the encoder, or the path of a user's own card.
    weights : path, URL or handle, optional
        Its weights, or where to get them; where they are looked for otherwise says
        `birdemb.embed.weights.find_weights`.
    grid : WindowGrid, optional
        Windows of 5 s every 5 s by default.
    precision : str
        Of the encoder's arithmetic, as `load_encoder` takes it.
    pooling : str, optional
        Another than the card's.
    dtype : {"float16", "float32"}
        Of the embeddings in the cache.
    logits : bool
        Whether to keep the encoder's own logits, too.
    expected : dict, optional
        The identity that the embeddings have to have, as a bundle's heads were fitted on it.
    jobs : int
        Processes that work at the same time, each with one thread; -1 for as many as there are cores. With Dask, how
        many threads of workers to wait for before the run begins; -1 for whichever there are.
    backend : {"loky", "dask"}
        Where they run: on this machine, or on a Dask cluster.
    scheduler : str, optional
        The address of Dask's scheduler, such as ``tcp://10.0.0.1:8786``, or ``file:`` and the path of its file.
    remembered : Path, optional
        Where to remember the hashes of recordings from run to run.
    show_progress : bool
        Whether to show progress on standard error.
    follower : Follower, optional
        Is told what is embedded while the run goes on, and may end it early; on this machine alone, not with Dask.

    Returns
    -------
    EmbedRun

    Raises
    ------
    InputError
        If there is no recording, a setting makes no sense, the encoder cannot be had, or its identity is not the
        expected one.
    BirdembError
        If a worker process was killed from outside, or Dask's workers cannot do the work; what was finished is kept.
    """
    started = time.monotonic()
    check_workers(backend, jobs, scheduler)
    if dtype not in _DTYPES:
        raise InputError(f"--dtype is {dtype!r}; expected {' or '.join(_DTYPES)}.")
    found = find_recordings(path)
    grid = grid or WindowGrid()
    # Made here too, so that missing weights are one error before the run and not one for each recording.
    made = load_encoder(
        encoder, window=grid.window, weights=weights, precision=precision, logits=logits, pooling=pooling
    )
    _refuse_fractions(grid, made.card.sample_rate)
    identity = identify(made, grid, dtype)
    if expected is not None:
        refuse_other_embeddings(expected, identity)
    cache = EmbeddingCache(cache_folder, identity)
    settings = Settings(
        made.card.name,
        made.card.place,
        made.weights.absolute() if made.weights else None,
        made.precision,
        made.card.pooling,
        grid,
        dtype,
        logits,
        hash_json(identity),
    )
    memory = ContentMemory(remembered)
    cache_lock = Lock()
    fresh_seconds = 0.0
    try:
        with (
            Progress("embedding", len(found.recordings), shown=show_progress) as progress,
            cache.writer() as writer,
            Planner(
                found,
                cache,
                cache_lock,
                sample_rate=made.card.sample_rate,
                grid=grid,
                memory=memory,
                progress=progress,
            ) as planner,
        ):
            first = planner.take(wait=True, until=follower.stop_at() if follower else math.inf)
            if first:
                workers = joblib.effective_n_jobs(jobs)
                if backend == "loky" and workers > 1:
                    planner.settle(_SECONDS_TO_PLAN)
                    left = planner.tasks_left
                    workers = workers if left is None else min(workers, 1 + left)
                planner.hurry()
                ahead = [first]
                standing = Standing(cache, writer, planner, cache_lock)

                def take() -> list[Piece] | None:
                    if follower is not None and time.monotonic() >= follower.stop_at():
                        return None
                    return ahead.pop() if ahead else planner.take()

                # Closed at once where the run is interrupted: workers are not to work on while the rest is written.
                with closing(
                    embed_tasks(
                        take,
                        settings,
                        backend=backend,
                        workers=workers,
                        jobs=jobs,
                        scheduler=scheduler or "",
                        stop_at=follower.stop_at if follower else None,
                    )
                ) as outcomes:
                    for outcome in outcomes:
                        error = _keep(outcome, writer, cache_lock)
                        fresh_seconds += outcome.sound_seconds
                        progress.advance(
                            outcome.sound_seconds,
                            recordings=planner.finish(outcome.sha256, error),
                            expected=outcome.expected_seconds,
                        )
                        if follower is not None and outcome.embeddings is not None:
                            follower.follow(standing, len(outcome.embeddings))
            complete = follower is None or planner.finished
    finally:
        whole = not isinstance(path, FoundRecordings) and Path(path).is_dir()
        memory.save(found.folder, found.recordings if whole else ())
    listing = _list(found, planner, cache, complete=complete)
    return EmbedRun(listing, cache, made.card, fresh_seconds, time.monotonic() - started, complete)


def refuse_other_embeddings(expected: dict[str, Any], found: dict[str, Any]) -> None:
    """Raise unless an encoder's embeddings are those that a bundle's heads were fitted on.

    Parameters
    ----------
    expected : dict
        The identity in the bundle.
    found : dict
        As `identify` gives it.

    Raises
    ------
    InputError
        Names the first difference.
    """
    refuse_other_identity(
        expected,
        found,
        who=f"The bundle was fitted on embeddings of another {found['encoder']}",
        advice="Use the weights and the version of birdemb that it was fitted with, or fit again.",
    )


def _refuse_fractions(grid: WindowGrid, sample_rate: int) -> None:
    """Refuse windows that do not begin on a sample: their times would drift away from their rows."""
    for name, seconds in (("window", grid.window), ("hop", grid.hop)):
        samples = Fraction(str(seconds)) * sample_rate
        if samples.denominator != 1:
            raise InputError(
                f"--{name} is {seconds} s, which is no whole number of samples at the encoder's {sample_rate} Hz; "
                f"expected one, such as {round(seconds, 3)}."
            )


def _keep(outcome: Outcome, writer: CacheWriter, cache_lock: Lock) -> RecordingError | None:
    """Put a part into the cache; gives what is wrong with it, if anything is."""
    if outcome.error is not None or outcome.embeddings is None:
        return outcome.error or RecordingError("encode", "no embedding came back; run the command again")
    with cache_lock:
        writer.add(
            outcome.sha256,
            outcome.embeddings,
            first_window=outcome.part.first_window,
            last=outcome.part.last,
            seconds=outcome.seconds,
            logits=outcome.logits,
        )
    return None


def _list(found: FoundRecordings, planner: Planner, cache: EmbeddingCache, *, complete: bool) -> Listing:
    recordings, skipped = [], []
    fresh = {content.sha256 for content in planner.contents if content.error is None} - planner.known.keys()
    there = planner.known | cache.find(fresh)
    for content in planner.contents:
        error = planner.error_of(content)
        entry = there.get(content.sha256)
        if error is None and entry is None:
            if not complete:
                continue
            error = RecordingError("encode", "some of its embeddings are gone from the cache; run the command again")
        if error is not None:
            skipped.append(SkippedRecording(content.recording.name, error.stage, error.reason))
        elif entry is not None:
            recordings.append(EmbeddedRecording(content.recording.name, content.sha256, entry.windows, entry.seconds))
    return Listing(found.folder, cache.identity, recordings, skipped)
