"""Measuring: what a window costs in each encoder and each head, on the first recordings."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from birdemb.classify.ensemble import Ensemble, Heard, score_member
from birdemb.embed.encoder import load_encoder
from birdemb.embed.recordings import Recording
from birdemb.embed.tasks import identify
from birdemb.embed.windows import stream_windows
from birdemb.errors import InputError, RecordingError
from birdemb.inference import EncoderSettings

__all__ = ["Measured", "find_faster", "measure_encoder", "measure_heads"]

_RECORDINGS_TRIED = 5  # the first ones may be broken
_WINDOWS_FOR_HEADS = 256
_FASTER = ("bf16", "int8")  # the one that loses least first


@dataclass(frozen=True)
class Measured:
    """What a window costs in an encoder, in one thread.

    Parameters
    ----------
    loading : float
        Seconds until it was ready.
    decoding, encoding : float
        Seconds for a window.
    heard : Heard
        Of the windows that it was measured on.
    """

    loading: float
    decoding: float
    encoding: float
    heard: Heard

    @property
    def seconds(self) -> float:
        """What a window costs in all."""
        return self.decoding + self.encoding


def find_faster(settings: EncoderSettings, weights: str | Path | None) -> list[EncoderSettings]:
    """Give an encoder's settings in those precisions that may be faster, and that it can be used in on this machine.

    Parameters
    ----------
    settings : EncoderSettings
        As fitted.
    weights : str, Path or None

    Returns
    -------
    list of EncoderSettings
        Of networks that were made of the same weights: in bfloat16 where the processor multiplies in it, and with
        integers where `birdemb quantize` has made such a network, and measured that heads lose no more by it than
        they may.
    """
    faster = []
    for precision in _FASTER if settings.precision == "f32" else ():
        try:
            encoder = load_encoder(
                settings.encoder,
                window=settings.grid.window,
                weights=weights,
                precision=precision,
                logits=settings.logits,
                pooling=settings.pooling,
            )
        except InputError:  # this machine or this encoder has no such thing
            continue
        identity = identify(encoder, settings.grid, settings.dtype)
        if precision == "int8" and identity["quantization"].get("gate") != "passed":
            continue
        own = {key: identity[key] for key in ("precision", "quantized_sha256", "quantization") if key in identity}
        if settings.expected | own == identity:
            faster.append(replace(settings, precision=precision, expected=identity))
    return faster


def measure_encoder(
    settings: EncoderSettings, weights: str | Path | None, recordings: Iterable[Recording], *, logits: bool
) -> Measured | None:
    """Decode and encode the first windows of the first recording that can be used.

    Parameters
    ----------
    settings : EncoderSettings
    weights : str, Path or None
    recordings : iterable of Recording
    logits : bool
        Whether heads want to know the encoder's own logits.

    Returns
    -------
    Measured or None
        None where none of the first few can be used.
    """
    started = time.perf_counter()
    encoder = settings.load(weights)

    def encode(windows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        return encoder.encode_with_logits(windows) if settings.logits else (encoder.encode(windows), None)

    with threadpool_limits(1):
        encoder.prepare()
        loaded = time.perf_counter()
        for _, recording in zip(range(_RECORDINGS_TRIED), recordings, strict=False):
            begun = time.perf_counter()
            try:
                windows, _ = next(stream_windows(recording, encoder.card.sample_rate, settings.grid))
                decoded = time.perf_counter()
                encode(windows[:1])  # what is compiled when it is first needed
                ready = time.perf_counter()
                rows, own = encode(windows)
            except RecordingError:
                continue
            encoded = time.perf_counter()
            count = len(windows)
            heard = Heard(rows, own if logits else None)
            loading = (loaded - started) + (ready - decoded)
            return Measured(loading, (decoded - begun) / count, (encoded - ready) / count, heard)
    return None


def measure_heads(ensemble: Ensemble, encoder: int, heard: Heard, members: Sequence[int]) -> dict[int, float]:
    """Give the seconds that a window costs in each of some heads on one encoder.

    Parameters
    ----------
    ensemble : Ensemble
    encoder : int
    heard : Heard
        Of some windows.
    members : sequence of int

    Returns
    -------
    dict of int to float
    """
    many = heard.take(np.arange(_WINDOWS_FOR_HEADS) % len(heard.embeddings))
    costs = {}
    for member in members:
        score_member(
            ensemble.members[member], many.take(np.arange(1)), ensemble.priors[encoder]
        )  # what is done but once
        started = time.perf_counter()
        score_member(ensemble.members[member], many, ensemble.priors[encoder])
        costs[member] = (time.perf_counter() - started) / _WINDOWS_FOR_HEADS
    return costs
