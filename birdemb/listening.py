"""Sound as it comes: blocks of samples in, the probability of each class in each window out as soon as it is whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soxr
from numpy.typing import ArrayLike, NDArray

from birdemb.cache import narrow
from birdemb.classify.bundle import Bundle
from birdemb.classify.bundle_file import read_bundle
from birdemb.classify.ensemble import Heard
from birdemb.classify.prior import Prior
from birdemb.defaults import DEFAULT_WORKSPACE
from birdemb.embed.audio import HIGHEST_SAMPLE_RATE, LOWEST_SAMPLE_RATE
from birdemb.embed.encoder import Encoder
from birdemb.embed.windows import WindowGrid, windows_at_once
from birdemb.errors import InputError
from birdemb.inference import check_weights, load_bundle_encoder
from birdemb.kit_use import find_bundle, use_models
from birdemb.tables.wide import frame_windows
from birdemb.workspace import Workspace

__all__ = ["Listener", "check_sample_rate", "listen", "read_samples"]

_MOST_CHANNELS = 64  # more are a block that was given with its axes swapped
_SECONDS_AT_ONCE = 60.0  # of a long block; what is resampled of it stays below a few megabytes


class Listener:
    """Predicts windows of one sound whose samples come block by block, from a microphone or a radio.

    Nothing is written and nothing is cached. The probabilities are those of `birdemb.predict` on a recording of the
    same samples, without post-processing, and but for rounding: a recording of more than four minutes is resampled in
    parts.

    Parameters
    ----------
    model : path or Bundle, optional
        A bundle, or the folder of an offline kit. By default the bundle that was fitted last.
    sample_rate : int
        Of the samples that come, in Hz.
    weights : path, URL or handle, optional
        The encoder's weights, where they are not in one of the usual places; or where to get them.
    workspace : path
        The working folder.

    Raises
    ------
    BirdembError
        If there is no such bundle, its encoder cannot be had, or its heads are blended by their ranks among all
        windows, which a sound that goes on does not have.

    Attributes
    ----------
    bundle : Bundle
    """

    def __init__(
        self,
        model: str | Path | Bundle | None = None,
        *,
        sample_rate: int,
        weights: str | Path | None = None,
        workspace: str | Path = DEFAULT_WORKSPACE,
    ) -> None:
        check_sample_rate(sample_rate)
        place = Workspace(Path(workspace))
        named = model if model is not None else place.last_bundle()
        model = named if isinstance(named, Bundle) else read_bundle(find_bundle(named))
        if model.ensemble.needs_whole_table:
            raise InputError(
                "The bundle blends its heads by their ranks among all windows, and a sound that goes on has no last "
                "one. Fit it with another --blend, such as mean."
            )
        check_weights(weights, model, named)
        self.bundle = model
        self._sample_rate = sample_rate
        self._grid = WindowGrid(model.window, model.hop)
        with use_models(named):
            self._ears = [
                _Ear(load_bundle_encoder(identity, place, weights), identity, prior, self._grid, sample_rate)
                for identity, prior in zip(model.identities, model.ensemble.priors, strict=True)
            ]
        self._samples = self._told = 0
        self._finished = False

    def feed(self, block: ArrayLike) -> pd.DataFrame:
        """Hear the next samples.

        Parameters
        ----------
        block : array-like of shape (samples,) or (samples, channels)
            Floating-point numbers with full scale 1, or integers of 16 or 32 bits. Channels are averaged. It may hold
            any number of samples, none too.

        Returns
        -------
        pandas.DataFrame
            A row for each window that is whole now: start and end, in seconds from the first sample of all, and the
            probability of each class.

        Raises
        ------
        InputError
            If it is no such array, a sample is not finite, or `finish` was called before.
        """
        if self._finished:
            raise InputError("This sound was finished. Make a new Listener for the next one.")
        mono = read_samples(block)
        tables = []
        step = max(1, round(_SECONDS_AT_ONCE * self._sample_rate))
        for start in range(0, len(mono), step):
            some = mono[start : start + step]
            self._samples += len(some)
            for ear in self._ears:
                ear.hear(some)
            tables.append(self._tell())
        return pd.concat(tables, ignore_index=True) if tables else self._tell()

    def finish(self) -> pd.DataFrame:
        """End the sound: what is left of it is padded with zeros, as the end of a recording is.

        Returns
        -------
        pandas.DataFrame
            As of `feed`.

        Raises
        ------
        InputError
            If no samples came at all, or it was finished before.
        """
        if self._finished:
            raise InputError("This sound was finished. Make a new Listener for the next one.")
        if not self._samples:
            raise InputError("No samples came. Expected at least one.")
        self._finished = True
        count = self._grid.count(self._samples, self._sample_rate)
        for ear in self._ears:
            ear.finish(count)
        return self._tell()

    def _tell(self) -> pd.DataFrame:
        # Ears resample to different rates, so that one may have a window of which another still lacks some samples.
        count = min(len(ear.waiting.embeddings) for ear in self._ears)
        taken = [ear.take(count) for ear in self._ears]
        labels = self.bundle.labels
        probabilities = self.bundle.ensemble.predict_proba(taken) if count else np.empty((0, len(labels)))
        starts = (self._told + np.arange(count)) * self.bundle.hop
        self._told += count
        return frame_windows({"start": starts, "end": starts + self.bundle.window}, labels, probabilities)


def listen(
    blocks: Iterable[ArrayLike],
    *,
    sample_rate: int,
    model: str | Path | Bundle | None = None,
    weights: str | Path | None = None,
    workspace: str | Path = DEFAULT_WORKSPACE,
) -> Iterator[pd.DataFrame]:
    """Predict windows of a sound whose samples come block by block.

    Parameters
    ----------
    blocks : iterable of array-like
        As `Listener.feed` takes them.
    sample_rate : int
        Of the samples, in Hz.
    model, weights, workspace
        As of `Listener`.

    Yields
    ------
    pandas.DataFrame
        As of `Listener.feed`, whenever there is a row; the last windows when the blocks end.

    Raises
    ------
    BirdembError
        As of `Listener`.
    """
    listener = Listener(model, sample_rate=sample_rate, weights=weights, workspace=workspace)
    for block in blocks:
        table = listener.feed(block)
        if len(table):
            yield table
    table = listener.finish()
    if len(table):
        yield table


class _Ear:
    """One encoder of a bundle: resamples, cuts windows, and keeps what it heard until the others have come so far."""

    def __init__(
        self, encoder: Encoder, identity: dict[str, Any], prior: Prior | None, grid: WindowGrid, sample_rate: int
    ) -> None:
        rate = encoder.card.sample_rate
        self._encoder, self._dtype, self._grid = encoder, str(identity.get("dtype", "float16")), grid
        self._uses_logits = prior is not None and prior.uses_logits
        self._resampler = (
            soxr.ResampleStream(sample_rate, rate, 1, dtype="float32", quality="HQ") if rate != sample_rate else None
        )
        self._size, self._hop = round(grid.window * rate), round(grid.hop * rate)
        self._buffer = np.zeros(0, np.float32)
        self._cut = 0
        self.waiting = Heard(np.empty((0, encoder.card.dim), np.float32), self._no_logits())

    def hear(self, mono: NDArray[np.float32]) -> None:
        """Hear samples and encode the windows that are whole with them."""
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(mono)
        self._buffer = np.concatenate((self._buffer, mono))
        # One window is left for the end, which decides how many there are, as in a recording.
        self._encode(max(0, -(-(len(self._buffer) - self._size) // self._hop)))

    def finish(self, count: int) -> None:
        """Encode what is left, so that there are `count` windows in all."""
        if self._resampler is not None:
            last = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)
            self._buffer = np.concatenate((self._buffer, last))
        left = count - self._cut
        length = max(0, left - 1) * self._hop + self._size
        self._buffer = np.pad(self._buffer, (0, max(0, length - len(self._buffer))))
        self._encode(left)

    def take(self, count: int) -> Heard:
        """Give the first windows of those that wait."""
        taken, rows = self.waiting.take(np.arange(count)), np.arange(count, len(self.waiting.embeddings))
        self.waiting = self.waiting.take(rows)
        return taken

    def _encode(self, count: int) -> None:
        batch = windows_at_once(self._grid)
        parts = [self.waiting]
        for first in range(0, count, batch):
            some = min(batch, count - first)
            views = np.lib.stride_tricks.sliding_window_view(self._buffer, self._size)[: some * self._hop : self._hop]
            parts.append(self._hear_windows(np.ascontiguousarray(views[:some])))
            self._buffer = self._buffer[some * self._hop :].copy()
        self._cut += count
        logits = [part.logits for part in parts if part.logits is not None]
        self.waiting = Heard(
            np.concatenate([part.embeddings for part in parts]), np.concatenate(logits) if self._uses_logits else None
        )

    def _hear_windows(self, windows: NDArray[np.float32]) -> Heard:
        """Encode windows, rounded as the cache keeps them: heads were fitted on such embeddings."""
        if not self._uses_logits:
            return Heard(narrow(self._encoder.encode(windows), self._dtype).astype(np.float32))
        embeddings, logits = self._encoder.encode_with_logits(windows)
        return Heard(
            narrow(embeddings, self._dtype).astype(np.float32),
            narrow(logits, self._dtype, "logits").astype(np.float32),
        )

    def _no_logits(self) -> NDArray[np.float32] | None:
        return np.empty((0, self._encoder.logits_width), np.float32) if self._uses_logits else None


def check_sample_rate(sample_rate: object) -> None:
    """Refuse a sample rate that no recorder has.

    Raises
    ------
    InputError
        If it is no whole number of Hz, or too low or too high.
    """
    if (
        not isinstance(sample_rate, int | np.integer)
        or isinstance(sample_rate, bool)
        or not LOWEST_SAMPLE_RATE <= sample_rate <= HIGHEST_SAMPLE_RATE
    ):
        raise InputError(
            f"The sample rate is {sample_rate!r}; expected a whole number of Hz, {LOWEST_SAMPLE_RATE:,} to "
            f"{HIGHEST_SAMPLE_RATE:,}."
        )


def read_samples(block: ArrayLike) -> NDArray[np.float32]:
    """Give samples as the mean of their channels with full scale 1.

    Parameters
    ----------
    block : array-like of shape (samples,) or (samples, channels)
        Floating-point numbers, or integers of 16 or 32 bits.

    Returns
    -------
    ndarray of shape (samples,), float32

    Raises
    ------
    InputError
        If it is no such array, or a sample is not finite.
    """
    samples = np.asarray(block)
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "fi" or (samples.ndim == 2 and not samples.shape[1]):
        raise InputError(
            f"A block of samples has the shape {samples.shape} and the type {samples.dtype}; expected (samples,) or "
            "(samples, channels) of floating-point numbers with full scale 1, or of integers of 16 or 32 bits."
        )
    if samples.dtype.kind == "i":
        if samples.dtype.itemsize not in (2, 4):
            raise InputError(f"Samples are {samples.dtype}; expected int16 or int32, or floating-point numbers.")
        samples = samples / -float(np.iinfo(samples.dtype).min)
    if samples.ndim == 2:
        if samples.shape[1] > _MOST_CHANNELS:
            raise InputError(
                f"A block of samples has the shape {samples.shape}, and so {samples.shape[1]} channels; expected "
                "(samples, channels). Transpose it."
            )
        samples = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
    mono = samples.astype(np.float32)
    if not np.isfinite(mono).all():
        raise InputError("A sample is not finite (NaN or infinite).")
    return mono
