"""The run over a folder: every recording decoded, encoded and put into the cache, or listed as skipped."""

from __future__ import annotations

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

from birdemb.cache import CACHE_FORMAT, CacheWriter, EmbeddingCache
from birdemb.embed.audio import RESAMPLER, find_recordings
from birdemb.embed.encoder import Encoder, load_encoder
from birdemb.embed.windows import WindowGrid, stream_windows
from birdemb.errors import BirdembError, RecordingError
from birdemb.identity import refuse_other_identity
from birdemb.listing import EmbeddedRecording, Listing, SkippedRecording
from birdemb.progress import Progress
from birdemb.storage import hash_file

__all__ = ["EmbedRun", "embed_folder", "identify"]


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
class _Outcome:
    sha256: str
    embeddings: NDArray[np.float32] | None
    seconds: float
    error: RecordingError | None


def identify(encoder: Encoder, grid: WindowGrid) -> dict[str, Any]:
    """Give all that the embeddings of an encoder over a grid of windows depend on, beside the recording itself."""
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
        If there is no recording, the encoder cannot be had, or its identity is not the expected one.
    BirdembError
        If a worker process was killed from outside; what was finished is kept.
    """
    started = time.monotonic()
    paths = find_recordings(path)
    folder = path if path.is_dir() else path.parent
    grid = grid or WindowGrid()
    # Made here too, so that missing weights are one error before the run and not one for each recording.
    settings = _Settings(encoder, weights.absolute() if weights else None, grid)
    identity = identify(_encoder_of(settings), grid)
    if expected is not None:
        refuse_other_identity(
            expected,
            identity,
            who=f"The bundle was fitted on embeddings of another {encoder}",
            advice="Use the weights and the version of birdemb that it was fitted with, or fit again.",
        )
    cache = EmbeddingCache(cache_folder, identity)
    run = _Run(folder, cache, settings)
    with Progress("embedding", len(paths), shown=show_progress) as progress, cache.writer() as writer:
        workers = max(1, min(joblib.effective_n_jobs(jobs), len(paths)))
        parallel = joblib.Parallel(n_jobs=workers, return_as="generator_unordered", pre_dispatch=2 * workers)
        try:
            for outcome in parallel(run.tasks(paths, progress)):
                run.keep(outcome, writer)
                progress.advance(outcome.seconds)
        except TerminatedWorkerError as error:
            raise BirdembError(
                "A worker process was killed, most often because memory ran out. What was finished is kept: "
                "run the same command again, with fewer --jobs."
            ) from error
    return EmbedRun(run.listing(), cache, run.fresh_seconds, time.monotonic() - started)


class _Run:
    """What one run has come to know: contents of recordings, and which of these failed."""

    def __init__(self, folder: Path, cache: EmbeddingCache, settings: _Settings) -> None:
        self._folder = folder
        self._cache = cache
        self._settings = settings
        self._hashes: dict[str, str] = {}
        self._seen: set[str] = set()
        self._unreadable: list[SkippedRecording] = []
        self._failed: dict[str, RecordingError] = {}
        self.fresh_seconds = 0.0

    def tasks(self, paths: Sequence[Path], progress: Progress) -> Iterator[Any]:
        """Yield the work for every content that is neither cached nor under way already."""
        for path in paths:
            recording = path.relative_to(self._folder).as_posix()
            try:
                if path.exists() and not path.is_file():
                    # A folder, or a pipe that would be waited for without end.
                    raise OSError("it is not a file")
                sha256 = hash_file(path)
            except OSError as error:
                self._unreadable.append(SkippedRecording(recording, "read", _cannot_open(error).reason))
                progress.advance()
                continue
            self._hashes[recording] = sha256
            if sha256 in self._cache or sha256 in self._seen:
                progress.advance()
            else:
                self._seen.add(sha256)
                # Absolute, as worker processes outlive a change of the working folder.
                yield joblib.delayed(_embed_recording)(path.absolute(), sha256, self._settings)

    def keep(self, outcome: _Outcome, writer: CacheWriter) -> None:
        """Note what came out of the work on one recording."""
        if outcome.error is not None:
            self._failed[outcome.sha256] = outcome.error
        elif outcome.embeddings is not None:
            self.fresh_seconds += outcome.seconds
            writer.add(outcome.sha256, outcome.embeddings, outcome.seconds)

    def listing(self) -> Listing:
        """List every recording, once the cache holds all that was written."""
        recordings, skipped = [], list(self._unreadable)
        for recording, sha256 in self._hashes.items():
            if sha256 in self._failed:
                error = self._failed[sha256]
                skipped.append(SkippedRecording(recording, error.stage, error.reason))
            else:
                entry = self._cache[sha256]
                recordings.append(EmbeddedRecording(recording, sha256, entry.windows, entry.seconds))
        return Listing(
            folder=str(self._folder.resolve()),
            identity=self._cache.identity,
            recordings=sorted(recordings, key=lambda entry: entry.recording),
            skipped=sorted(skipped, key=lambda entry: entry.recording),
        )


def _embed_recording(path: Path, sha256: str, settings: _Settings) -> _Outcome:
    """Decode and encode one recording; this is what worker processes run."""
    encoder = _encoder_of(settings)
    rows: list[NDArray[np.float32]] = []
    seconds = 0.0
    try:
        for windows, decoder in stream_windows(path, encoder.card.sample_rate, settings.grid):
            rows.append(encoder.encode(windows))
            seconds = decoder.seconds
        embeddings = np.concatenate(rows)
        if not np.isfinite(embeddings).all():
            raise RecordingError("encode", f"{settings.encoder} gave values that are not finite for it")
    except RecordingError as error:
        return _Outcome(sha256, None, 0.0, error)
    except OSError as error:
        return _Outcome(sha256, None, 0.0, _cannot_open(error))
    return _Outcome(sha256, embeddings, seconds, None)


@lru_cache(maxsize=1)
def _encoder_of(settings: _Settings) -> Encoder:
    """Make the encoder once in each process."""
    return load_encoder(settings.encoder, window=settings.grid.window, weights=settings.weights)


def _cannot_open(error: OSError) -> RecordingError:
    return RecordingError("read", f"it cannot be opened: {error.strerror or error}")
