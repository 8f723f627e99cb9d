"""Recordings in, mono samples at the wanted rate out, block by block.

Decoding is libsndfile's (through ``soundfile``), resampling is libsoxr's "high quality" (through ``soxr``). Files
are never read whole, so that memory stays flat in the length of a recording.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from birdemb.embed.containers import refuse_missing_end, refuse_short_container
from birdemb.embed.recordings import OTHER_SUFFIXES, Recording
from birdemb.errors import RecordingError

__all__ = ["HIGHEST_SAMPLE_RATE", "LOWEST_SAMPLE_RATE", "RESAMPLER", "Decoder", "OpenedSound", "open_sound"]

LOWEST_SAMPLE_RATE = 1000
"""In Hz; below it a header is more likely damaged than true."""

HIGHEST_SAMPLE_RATE = 500_000
"""In Hz; the fastest full-spectrum bat detectors record at this rate."""

RESAMPLER = "soxr-hq"
"""What an encoder's identity says of the resampling."""

_BLOCK_SAMPLES = 1 << 20  # over all channels: 4 MiB of float32
# Decoded before a part and discarded. The resampler's filter hears up to 0.02 s, more gives the same figures.
_MARGIN_SECONDS = 0.5
_FEWEST_MARGIN_SAMPLES = 512
# What libsndfile does not notice, or leaves out without a word, in the middle of a file of these formats.
_SKIPS_DAMAGE = ("FLAC", "OGG")
_TAIL_SAMPLES = 4096
_MOST_CHANGE, _STEP = 0.1, 1e-5  # of the mean amplitude; two sounds that are not the same differ by more than one


@dataclass
class OpenedSound:
    """A recording that libsndfile has opened.

    Parameters
    ----------
    file : SoundFile
        Its samples.
    raw : RawIOBase
        Its bytes; libsndfile reads from there, so that the position is shared.
    size : int
        In bytes.
    callbacks : _Callbacks or None
        What libsndfile reads through, where there is no descriptor.
    """

    file: _SoundFile
    raw: io.RawIOBase
    size: int
    callbacks: _Callbacks | None = None

    def read(self, frames: int) -> NDArray[np.float32]:
        """Decode at most so many samples of each channel, as an array of shape (samples, channels)."""
        block: NDArray[np.float32] = self.file.read(frames, dtype="float32", always_2d=True)
        if self.callbacks is not None:
            self.callbacks.raise_error()
        return block


@contextmanager
def open_sound(recording: Recording, where: Callable[[], str] = str) -> Iterator[OpenedSound]:
    """Open a recording with libsndfile.

    Parameters
    ----------
    recording : Recording
    where : callable
        Gives what an error says of the place of damage, such as ``" after 2.5 s"``.

    Yields
    ------
    OpenedSound

    Raises
    ------
    RecordingError
        If it cannot be opened or read, is empty, or is no audio that libsndfile knows; in the block, too.
    """
    callbacks = None
    try:
        with recording.open() as raw:
            size = raw.seek(0, io.SEEK_END)
            if size == 0:
                raise RecordingError("read", "the file is empty (0 bytes)")
            raw.seek(0)
            if recording.is_remote:
                callbacks = _Callbacks(raw)
            with _SoundFile(callbacks or raw.fileno(), closefd=False) as file:
                yield OpenedSound(file, raw, size, callbacks)
    except soundfile.LibsndfileError as error:
        if callbacks is not None:
            callbacks.raise_error()
        if recording.suffix in OTHER_SUFFIXES:
            # Only now, as the content decides: it may be known, and embedded, under another name.
            reason = f"libsndfile does not read {recording.suffix} files; convert it to FLAC"
            raise RecordingError("decode", reason) from error
        raise RecordingError(
            "decode", f"no audio that libsndfile can read, or damaged{where()}: {_explain(error)}"
        ) from error
    except OSError as error:
        raise RecordingError("read", f"it cannot be read: {error.strerror or error}") from error


class _SoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read on and on.

    After each read soundfile seeks to where it is, where it may; but MP3s of a low rate do not survive that unharmed.
    """

    def seekable(self) -> bool:
        """Tell soundfile that it may not seek by itself."""
        return False

    def can_seek(self) -> bool:
        """Tell whether libsndfile can go to any sample."""
        return bool(super().seekable())


class _Callbacks:
    """A file as libsndfile reads it where there is no descriptor: an error is kept, as there it would be lost."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._error: RecordingError | None = None

    def raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def readinto(self, buffer: memoryview) -> int:
        try:
            return 0 if self._error else self._raw.readinto(buffer) or 0
        except RecordingError as error:
            self._error = error
            return 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return self._raw.seek(offset, whence)
        except RecordingError as error:
            self._error = error
            return -1

    def tell(self) -> int:
        return self._raw.tell()


class Decoder:
    """Decodes one recording: mono, resampled, in blocks; whole, or a part of it.

    Channels are averaged. After `blocks` has been read to the recording's end, `samples` and `native_rate` say how
    long the recording really is, whatever its header claims.

    Parameters
    ----------
    recording : Recording
    sample_rate : int
        The wanted rate in Hz.

    Attributes
    ----------
    native_rate : int
        The recording's own rate in Hz.
    samples : int
        Samples per channel, at the recording's own rate, from its beginning to where decoding has come.

    Raises
    ------
    RecordingError
        On reading, if the file is no audio, is cut short, or holds values that are not finite.
    """

    def __init__(self, recording: Recording, sample_rate: int) -> None:
        self.recording = recording
        self.sample_rate = sample_rate
        self.native_rate = 0
        self.samples = 0
        self._tail = np.zeros(0, np.float32)

    @property
    def seconds(self) -> float:
        """How far decoding has come, in seconds from the recording's beginning."""
        return self.samples / self.native_rate if self.native_rate else 0.0

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[NDArray[np.float32]]:
        """Decode the recording or a part of it.

        A part is decoded from a little before its start, so that it holds what decoding from the beginning
        gives: to the bit without resampling, to 1e-6 with it.

        Parameters
        ----------
        start : int
            The first sample, at the wanted rate. It has to lie on a sample of the recording's own rate.
        stop : int, optional
            The sample behind the last one, at the wanted rate; the recording's end by default.

        Yields
        ------
        ndarray of shape (samples,), float32
            Consecutive stretches of the recording at `sample_rate`. Full scale is 1; float files may exceed it.
        """
        self.native_rate = self.samples = 0
        with open_sound(self.recording, lambda: f" after {self.seconds:.1f} s" if self.samples else "") as sound:
            yield from self._cut(sound, start, stop)

    def _cut(self, sound: OpenedSound, start: int, stop: int | None) -> Iterator[NDArray[np.float32]]:
        """Give what lies between `start` and `stop` of what is decoded from a margin before to a margin behind."""
        self.native_rate = sound.file.samplerate
        if not 0 < self.native_rate <= HIGHEST_SAMPLE_RATE:
            raise RecordingError("decode", f"sample rate {self.native_rate} Hz; expected 1 to {HIGHEST_SAMPLE_RATE}")
        refuse_short_container(sound.file, sound.raw)
        first, rest = divmod(start * self.native_rate, self.sample_rate)
        if rest:
            raise RecordingError("read", "it changed while it was read; run the command again")
        begin = max(0, first - self._margin())
        if begin:
            self._seek(sound, begin)
        needed = None if stop is None else -(-stop * self.native_rate // self.sample_rate)
        place = begin * self.sample_rate // self.native_rate
        for block in self._resample(sound, needed):
            if stop is not None and place + len(block) >= stop and sound.file.format in _SKIPS_DAMAGE:
                self._refuse_loss(sound)
            yield block[max(0, start - place) : None if stop is None else stop - place]
            place += len(block)
            if stop is not None and place >= stop:
                return

    def _margin(self) -> int:
        """Give the samples that are decoded before a part: whole ones at both rates."""
        step = self.native_rate // math.gcd(self.native_rate, self.sample_rate)
        return step * -(-max(round(_MARGIN_SECONDS * self.native_rate), _FEWEST_MARGIN_SAMPLES) // step)

    def _seek(self, sound: OpenedSound, begin: int) -> None:
        """Go to a sample of the recording's own rate."""
        if begin >= sound.file.frames:
            raise RecordingError("decode", f"cut short: it ends before {begin / self.native_rate:.1f} s")
        reached = sound.file.seek(begin)
        if sound.callbacks is not None:
            sound.callbacks.raise_error()
        if reached != begin:
            raise RecordingError("decode", f"libsndfile cannot go to {begin / self.native_rate:.1f} s; damaged there")
        self.samples = begin

    def _refuse_loss(self, sound: OpenedSound) -> None:
        """Refuse a part in which something is missing: going to its end then gives another sound than reading on."""
        end, tail = self.samples, self._tail
        self._seek(sound, max(0, end - len(tail) - self._margin()))
        again = _mix(sound.read(end - self.samples))[-len(tail) :]
        self.samples = end
        if len(again) < len(tail) or np.abs(again - tail).mean() > _MOST_CHANGE * np.abs(tail).mean() + _STEP:
            raise RecordingError("decode", f"damaged: something is missing before {self.seconds:.1f} s")

    def _resample(self, sound: OpenedSound, needed: int | None) -> Iterator[NDArray[np.float32]]:
        """Decode from where the file stands to its end, or a little further than `needed` samples from its start."""
        self._tail = np.zeros(0, np.float32)
        resampler = (
            None
            if self.native_rate == self.sample_rate
            else soxr.ResampleStream(self.native_rate, self.sample_rate, 1, dtype="float32", quality="HQ")
        )
        # Smaller where resampling makes more of them: a damaged header may name a rate of a few Hz.
        growth = max(1, self.sample_rate // self.native_rate)
        frames = max(1, _BLOCK_SAMPLES // sound.file.channels // growth)
        # No further than the header says: what lies behind a FLAC would be taken for damage.
        while len(block := sound.read(min(self._next(frames, needed), max(0, sound.file.frames - self.samples)))):
            mono = _mix(block)
            if not np.isfinite(mono).all():
                first = (self.samples + int(np.argmin(np.isfinite(mono)))) / self.native_rate
                raise RecordingError("decode", f"a sample at {first:.2f} s is not finite (NaN or infinite)")
            self.samples += len(mono)
            if needed is not None:
                self._tail = np.concatenate((self._tail, mono[-_TAIL_SAMPLES:]))[-_TAIL_SAMPLES:]
            yield mono if resampler is None else resampler.resample_chunk(mono)
        if not self.samples:
            raise RecordingError("decode", "it holds no samples")
        if needed is None:
            refuse_missing_end(sound.file, sound.raw, self.samples)
        elif self.samples < needed:
            raise RecordingError(
                "decode",
                f"cut short: it ends after {self.seconds:.1f} s of the {needed / self.native_rate:.1f} s "
                "that a part of it reaches to",
            )
        if resampler is not None:
            yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)

    def _next(self, frames: int, needed: int | None) -> int:
        """Give how many samples to read next: up to what is needed and a margin, then a margin at a time."""
        if needed is None:
            return frames
        left = needed - self.samples
        return min(frames, left if left > 0 and self.native_rate == self.sample_rate else max(left, 0) + self._margin())


def _mix(block: NDArray[np.float32]) -> NDArray[np.float32]:
    if block.shape[1] == 1:
        return block[:, 0]
    if block.shape[1] == 2:  # to the bit what `mean` gives, fifty times as fast
        return (block[:, 0] + block[:, 1]) * np.float32(0.5)
    mixed: NDArray[np.float32] = block.mean(axis=1)
    return mixed


def _explain(error: soundfile.LibsndfileError) -> str:
    reason = error.error_string.rstrip(" .") or f"libsndfile error {error.code}"
    # What it says of text called .mp3 names a regular file.
    return "Format not recognised" if "not a regular file" in reason else str(reason)
