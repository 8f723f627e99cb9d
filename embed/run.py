"""The run over a folder: every recording decoded, encoded and put into the cache, or listed as skipped."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from joblib.externals.loky.process_executor import TerminatedWorkerError
from numpy.typing import NDArray

from birdemb.cache import CACHE_FORMAT, EmbeddingCache
from birdemb.embed.audio import RESAMPLER, find_recordings
from birdemb.embed.encoder import Encoder, load_encoder
from birdemb.embed.windows import WindowGrid, stream_windows
from birdemb.errors import BirdembError, InputError, RecordingError
from birdemb.identity import refuse_other_identity
from birdemb.listing import EmbeddedRecording, Listing, SkippedRecording
from birdemb.progress import Progress
from birdemb.storage import hash_file

__all__ = ["EmbedRun", "embed_folder", "identify"]

_RECORDINGS_AT_ONCE = 256  # hashed, and then embedded: so many that workers hardly wait, and results soon begin


@dataclass(frozen=True)
class EmbedRun:
    """What a run over a folder did.

    Parameters
    ----------
    listing : Listing
        Every recording, embedded or skipped.
    cache : EmbeddingCache
        Holds the embeddings.
    fresh_seconds : float
        Sound that was really embedded; the rest was in the cache already.
    elapsed : float
        Seconds that the run took.
    """

    listing: Listing
    cache: EmbeddingCache
    fresh_seconds: float
    elapsed: float


@dataclass(frozen=True)
class _Settings:
    encoder: str
    weights: Path | None
    grid: WindowGrid


@dataclass(frozen=True)
class _Content:
    """What a recording holds, or why that cannot be told."""

    path: Path
    sha256: str
    error: RecordingError | None = None


@dataclass(frozen=True)
class _Outcome:
    sha256: str
    embeddings: NDArray[np.float32] | None
    seconds: float
    error: RecordingError | None = None


def identify(encoder: Encoder, grid: WindowGrid) -> dict[str, Any]:
    """Give all that the embeddings of a recording depend on, beside the recording itself.

    Parameters
    ----------
    encoder : Encoder
    grid : WindowGrid

    Returns
    -------
    dict
        As JSON. Names the part of the cache where the embeddings are.
    """
    return encoder.identity | {
        "window": grid.window,
        "hop": grid.hop,
        "padding": "zeros",
        "channels": "mean",
        "resampler": RESAMPLER,
        "dtype": "float32",
        "format": CACHE_FORMAT,
    }


def embed_folder(
    path: Path,
    cache_folder: Path,
    *,
    encoder: str,
    weights: Path | None = None,
    grid: WindowGrid | None = None,
    expected: dict[str, Any] | None = None,
    jobs: int = -1,
    show_progress: bool = True,
) -> EmbedRun:
    """Embed every recording of a folder that the cache does not know yet.

    Recordings are known by their content: a renamed one is not embedded again, a changed one is.

    Parameters
    ----------
    path : Path
        A folder, or one recording.
    cache_folder : Path
        Where the cache lies or is to be made.
    encoder : str
        Name of the encoder.
    weights : Path, optional
        Its weights; where they are looked for otherwise says `birdemb.embed.weights.find_weights`.
    grid : WindowGrid, optional
        Windows of 5 s every 5 s by default.
    expected : dict, optional
        The identity that the embeddings have to have, as a bundle's heads were fitted on it.
    jobs : int
        Processes that work at the same time, each with one thread; -1 for as many as there are cores.
    show_progress : bool
        Whether to show progress on standard error.

    Returns
    -------
    EmbedRun

    Raises
    ------
    InputError
        If there is no recording, `jobs` is 0 or below -1, the encoder cannot be had, or its identity is not the
        expected one.
    BirdembError
        If a worker process was killed from outside; what was finished is kept.
    """
    started = time.monotonic()
    if jobs < -1 or jobs == 0:
        raise InputError(f"--jobs is {jobs}; expected 1 or more, or -1 for as many as there are cores.")
    paths = find_recordings(path)
    grid = grid or WindowGrid()
    # Made here too, so that missing weights are one error before the run and not one for each recording.
    made = load_encoder(encoder, window=grid.window, weights=weights)
    identity = identify(made, grid)
    if expected is not None:
        refuse_other_identity(
            expected,
            identity,
            who=f"The bundle was fitted on embeddings of another {encoder}",
            advice="Use the weights and the version of birdemb that it was fitted with, or fit again.",
        )
    cache = EmbeddingCache(cache_folder, identity)
    settings = _Settings(encoder, made.weights.absolute() if made.weights else None, grid)
    workers = max(1, min(joblib.effective_n_jobs(jobs), len(paths)))
    contents: list[_Content] = []
    failed: dict[str, RecordingError] = {}
    fresh_seconds = 0.0
    with (
        Progress("embedding", len(paths), shown=show_progress) as progress,
        cache.writer() as writer,
        joblib.Parallel(n_jobs=workers, return_as="generator_unordered") as parallel,
    ):
        handled: set[str] = set()
        started_workers = workers == 1
        for start in range(0, len(paths), _RECORDINGS_AT_ONCE):
            part = _identify_contents(paths[start : start + _RECORDINGS_AT_ONCE])
            contents += part
            missing = {
                content.sha256: content.path
                for content in part
                if content.error is None and content.sha256 not in cache and content.sha256 not in handled
            }
            handled |= missing.keys()
            for _ in range(len(part) - len(missing)):
                progress.advance()
            if missing and not started_workers:
                _start_workers(parallel, workers, settings)
                started_workers = True
            for outcome in _embed_all(parallel, missing, settings):
                if outcome.embeddings is None or outcome.error is not None:
                    failed[outcome.sha256] = outcome.error or RecordingError("encode", "no embedding came back")
                else:
                    writer.add(outcome.sha256, outcome.embeddings, outcome.seconds)
                    fresh_seconds += outcome.seconds
                progress.advance(outcome.seconds)
    listing = _list(path if path.is_dir() else path.parent, contents, failed, cache)
    return EmbedRun(listing, cache, fresh_seconds, time.monotonic() - started)


def _identify_contents(paths: Sequence[Path]) -> list[_Content]:
    # Threads, as hashing leaves the interpreter free and the disk is what it waits for.
    contents: list[_Content] = joblib.Parallel(n_jobs=4, prefer="threads")(
        joblib.delayed(_identify_content)(path) for path in paths
    )
    return contents


def _identify_content(path: Path) -> _Content:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return _Content(path, "", RecordingError("read", "its path is not valid UTF-8; rename it"))
    try:
        if path.exists() and not path.is_file():
            # A pipe would be waited for without end; a folder may have the name of a recording, or be locked.
            locked = path.is_dir() and not os.access(path, os.R_OK | os.X_OK)
            kind = "folder" if path.is_dir() else "pipe or device"
            reason = "it is a folder that may not be read" if locked else f"it is a {kind}, not a file"
            return _Content(path, "", RecordingError("read", reason))
        return _Content(path, hash_file(path))
    except OSError as error:
        return _Content(path, "", _cannot_open(error))


def _start_workers(parallel: joblib.Parallel, workers: int, settings: _Settings) -> None:
    """Start the worker processes where Ctrl-C reaches none of them.

    They inherit that SIGINT is ignored. Ctrl-C is then this process's alone, which ends them in order.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main_thread else None
    try:
        starting = parallel(joblib.delayed(_warm_up)(settings) for _ in range(workers))
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, before)
    for _ in starting:
        pass


def _warm_up(settings: _Settings) -> None:
    # joblib ends a worker that grows by 300 MB over what it had after its first task, which it takes for a leak:
    # the encoder and its working memory have to be there by then.
    encoder = _encoder_of(settings)
    encoder.encode(np.zeros((2, encoder.window_samples), np.float32))


def _embed_all(parallel: joblib.Parallel, missing: dict[str, Path], settings: _Settings) -> Iterator[_Outcome]:
    try:
        yield from parallel(
            # Absolute, as worker processes outlive a change of the working folder.
            joblib.delayed(_embed_recording)(path.absolute(), sha256, settings)
            for sha256, path in missing.items()
        )
    except TerminatedWorkerError as error:
        raise BirdembError(
            "A worker process was killed, most often because memory ran out. What was finished is kept: "
            "run the same command again, with fewer --jobs."
        ) from error


def _embed_recording(path: Path, sha256: str, settings: _Settings) -> _Outcome:
    """Decode and encode one recording; this is what worker processes run."""
    encoder = _encoder_of(settings)
    rows: list[NDArray[np.float32]] = []
    seconds = 0.0
    try:
        for windows, decoder in stream_windows(path, encoder.card.sample_rate, settings.grid):
            rows.append(_encode(encoder, windows))
            seconds = decoder.seconds
        embeddings = np.concatenate(rows)
        if not np.isfinite(embeddings).all():
            raise RecordingError("encode", f"{settings.encoder} gave values that are not finite for it")
        if hash_file(path) != sha256:
            # Its embeddings must not be kept under the name of another content.
            raise RecordingError("read", "it changed while it was read; run the command again")
    except RecordingError as error:
        return _Outcome(sha256, None, 0.0, error)
    except OSError as error:
        return _Outcome(sha256, None, 0.0, _cannot_open(error))
    return _Outcome(sha256, embeddings, seconds)


def _encode(encoder: Encoder, windows: NDArray[np.float32]) -> NDArray[np.float32]:
    try:
        return encoder.encode(windows)
    except (ArithmeticError, RuntimeError, ValueError) as error:
        # What NumPy, SciPy and OpenVINO raise: whatever is wrong with one recording must not end the run.
        raise RecordingError("encode", f"{encoder.card.name} cannot encode it: {error}") from error


@lru_cache(maxsize=1)
def _encoder_of(settings: _Settings) -> Encoder:
    """Make the encoder once in each process."""
    return load_encoder(settings.encoder, window=settings.grid.window, weights=settings.weights)


def _cannot_open(error: OSError) -> RecordingError:
    return RecordingError("read", f"it cannot be opened: {error.strerror or error}")


def _list(
    folder: Path, contents: Sequence[_Content], failed: dict[str, RecordingError], cache: EmbeddingCache
) -> Listing:
    recordings, skipped = [], []
    for content in contents:
        name = content.path.relative_to(folder).as_posix()
        error = content.error or failed.get(content.sha256)
        if error is not None:
            skipped.append(SkippedRecording(name, error.stage, error.reason))
        else:
            entry = cache[content.sha256]
            recordings.append(EmbeddedRecording(name, content.sha256, entry.windows, entry.seconds))
    return Listing(str(folder.resolve()), cache.identity, recordings, skipped)
