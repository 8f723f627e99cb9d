"""Tasks: what worker processes do, on this machine or another.

A task is a short list of parts of recordings. Parts are decoded and encoded one by one, so that what comes out of one
depends on nothing else in the task.
"""

from __future__ import annotations

import atexit
import math
import os
import platform
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from birdemb.cache import CACHE_FORMAT, narrow
from birdemb.embed.audio import RESAMPLER
from birdemb.embed.contents import changed_while_read
from birdemb.embed.encoder import Encoder, load_encoder
from birdemb.embed.recordings import Recording, Stamp
from birdemb.embed.windows import PART_SECONDS, Part, WindowGrid, stream_windows, windows_at_once
from birdemb.errors import BirdembError, RecordingError
from birdemb.storage import hash_json

__all__ = ["Outcome", "Piece", "Settings", "embed_pieces", "identify", "warm_up"]

_QUIET = 0.01  # of the noise that a new encoder is tried with; full scale is 1


@dataclass(frozen=True)
class Settings:
    """What a worker has to know to make the same encoder as everybody else.

    Parameters
    ----------
    encoder : str
        Its name.
    card : Path or None
        Where its card lies on the machine that started the run, if it is a user's own.
    weights : Path or None
        Where they lie on the machine that started the run.
    precision : str
        Never ``"auto"``.
    pooling : str
        As of the encoder's card, or another.
    grid : WindowGrid
    dtype : str
        Of the embeddings in the cache.
    logits : bool
        Whether the encoder's own logits are wanted too.
    identity_sha256 : str
        Hash of the identity that the embeddings have to have.
    """

    encoder: str
    card: Path | None
    weights: Path | None
    precision: str
    pooling: str
    grid: WindowGrid
    dtype: str
    logits: bool
    identity_sha256: str


@dataclass(frozen=True)
class Piece:
    """A part of a recording that is to be embedded.

    Parameters
    ----------
    recording : Recording
    sha256 : str
        Of the recording's content.
    stamp : Stamp
        What the recording looked like before it was hashed.
    part : Part
    seconds : float
        About how much sound that is.
    """

    recording: Recording
    sha256: str
    stamp: Stamp
    part: Part
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What came out of a piece.

    Parameters
    ----------
    sha256 : str
    part : Part
    expected_seconds : float
        As of the piece.
    embeddings : ndarray of shape (windows, dim), or None
        In the cache's dtype; None where there is an error.
    logits : ndarray of shape (windows, logits), or None
    sound_seconds : float
        Sound that was embedded.
    seconds : float
        Length of the whole recording, where this is its last part, else 0.
    error : RecordingError or None
    """

    sha256: str
    part: Part
    expected_seconds: float
    embeddings: NDArray[Any] | None = None
    logits: NDArray[Any] | None = None
    sound_seconds: float = 0.0
    seconds: float = 0.0
    error: RecordingError | None = None


def identify(encoder: Encoder, grid: WindowGrid, dtype: str = "float16") -> dict[str, Any]:
    """Give all that the embeddings of a recording depend on, beside the recording itself.

    Parameters
    ----------
    encoder : Encoder
    grid : WindowGrid
    dtype : str
        ``"float16"`` or ``"float32"``: what the cache keeps.

    Returns
    -------
    dict
        As JSON. Names the part of the cache where the embeddings are.
    """
    return encoder.identity | {
        "window": grid.window,
        "hop": grid.hop,
        **({"offset": grid.offset} if grid.offset else {}),
        "padding": "zeros",
        "channels": "mean",
        "resampler": RESAMPLER,
        "part_seconds": PART_SECONDS,
        "dtype": dtype,
        "format": CACHE_FORMAT,
    }


class _Loaded(threading.local):
    """The encoder of each thread: a network is not to be used by two threads at the same time."""

    settings: Settings | None = None
    encoder: Encoder | None = None
    threads: ThreadpoolController | None = None


_loaded = _Loaded()


def warm_up(settings: Settings, starter: int) -> None:
    """Load the encoder and let it work once.

    joblib ends a worker that grows by 300 MB over what it had after its first task, which it takes for a leak: the
    encoder and its working memory have to be there by then.

    Parameters
    ----------
    settings : Settings
    starter : int
        Number of the process that started the run.
    """
    if os.getpid() != starter:
        # A worker has nothing to put in order at its end, and taking OpenVINO and Python apart takes 0.3 s.
        atexit.register(os._exit, 0)
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C is for the process that started the run, which ends its workers in order.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    encoder = _load(settings)
    shape = (min(4, windows_at_once(settings.grid)), encoder.window_samples)
    noise = np.random.default_rng(0).normal(0, _QUIET, shape).astype(np.float32)
    if settings.logits:
        encoder.encode_with_logits(noise)
    else:
        encoder.encode(noise)


def embed_pieces(
    settings: Settings, pieces: Sequence[Piece], rest: float = 0.0, stop_at: float = math.inf
) -> list[Outcome]:
    """Decode and encode parts of recordings.

    Parameters
    ----------
    settings : Settings
    pieces : sequence of Piece
        None where there is nothing to do at this moment.
    rest : float
        Seconds to wait in that case.
    stop_at : float
        When to do no more, by `time.monotonic`, which all processes of a machine share.

    Returns
    -------
    list of Outcome
        One for each piece that was finished in time; a recording that cannot be used is an outcome with an error.

    Raises
    ------
    BirdembError
        If this worker cannot make the encoder that is wanted.
    """
    if not pieces:
        time.sleep(rest)
        return []
    encoder = _load(settings)
    if _loaded.threads is None:
        _loaded.threads = ThreadpoolController()
    # Work is spread over processes; BLAS would start as many threads in each as there are cores.
    outcomes = []
    with _loaded.threads.limit(limits=1):
        for piece in pieces:
            outcome = _embed(piece, encoder, settings, stop_at)
            if outcome is None:
                break
            outcomes.append(outcome)
    return outcomes


def _load(settings: Settings) -> Encoder:
    """Make the encoder once in each thread, and make sure that it is the one that the run is about."""
    if _loaded.settings == settings and _loaded.encoder is not None:
        return _loaded.encoder
    # On another machine they may lie elsewhere; the card knows their hash, and the identity the card.
    name = settings.encoder if settings.card is None or not settings.card.is_file() else str(settings.card)
    weights = settings.weights if settings.weights is not None and settings.weights.exists() else None
    try:
        encoder = load_encoder(
            name,
            window=settings.grid.window,
            weights=weights,
            precision=settings.precision,
            logits=settings.logits,
            pooling=settings.pooling,
        )
        encoder.prepare()
    except BirdembError as error:
        raise BirdembError(f"The worker on {platform.node()} cannot make the encoder: {error}") from error
    if hash_json(identify(encoder, settings.grid, settings.dtype)) != settings.identity_sha256:
        raise BirdembError(
            f"The worker on {platform.node()} has another version of birdemb, whose embeddings are not the same. "
            "Install the same version on every machine and run the command again; what was finished is kept."
        )
    _loaded.settings, _loaded.encoder = settings, encoder
    return encoder


def _embed(piece: Piece, encoder: Encoder, settings: Settings, stop_at: float) -> Outcome | None:
    try:
        try:
            return _embed_part(piece, encoder, settings, stop_at)
        finally:
            # After an error, too: a change is then the reason of whatever else was wrong.
            _refuse_change(piece)
    except RecordingError as error:
        return Outcome(piece.sha256, piece.part, piece.seconds, error=error)


def _embed_part(piece: Piece, encoder: Encoder, settings: Settings, stop_at: float) -> Outcome | None:
    """Give what comes out of a piece, or None where time ran out before its end."""
    embeddings, logits = [], []
    length = 0.0
    try:
        for windows, decoder in stream_windows(piece.recording, encoder.card.sample_rate, settings.grid, piece.part):
            if time.monotonic() >= stop_at:
                return None
            rows, own = _encode(encoder, windows, with_logits=settings.logits)
            embeddings.append(narrow(rows, settings.dtype))
            if own is not None:
                logits.append(narrow(own, settings.dtype, "logits"))
            length = decoder.seconds
    except OSError as error:
        if isinstance(error, BirdembError):
            raise
        raise RecordingError("read", f"it cannot be read: {error.strerror or error}") from error
    rows = np.concatenate(embeddings)
    start = piece.part.first_window * settings.grid.hop + settings.grid.offset
    return Outcome(
        piece.sha256,
        piece.part,
        piece.seconds,
        rows,
        np.concatenate(logits) if logits else None,
        sound_seconds=max(0.0, length - start) if piece.part.last else len(rows) * settings.grid.hop,
        seconds=length if piece.part.last else 0.0,
    )


def _refuse_change(piece: Piece) -> None:
    """Raise if a recording is no longer what was hashed: its embeddings must not be kept under another's name."""
    if piece.recording.stamp() != piece.stamp:
        raise changed_while_read()


def _encode(
    encoder: Encoder, windows: NDArray[np.float32], *, with_logits: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    try:
        return encoder.encode_with_logits(windows) if with_logits else (encoder.encode(windows), None)
    except BirdembError:
        raise  # of one recording, or of an encoder that no recording could be given to
    except (ArithmeticError, RuntimeError, ValueError) as error:
        # What NumPy, SciPy and OpenVINO raise: whatever is wrong with one recording must not end the run.
        raise RecordingError("encode", f"{encoder.card.name} cannot encode it: {error}") from error
