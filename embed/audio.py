"""Recordings in, mono samples at the wanted rate out, block by block.

Decoding is libsndfile's (through ``soundfile``), resampling is libsoxr's "high quality" (through ``soxr``). Files
are never read whole, so that memory stays flat in the length of a recording.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from birdemb.embed.containers import refuse_missing_end, refuse_short_container
from birdemb.errors import InputError, RecordingError

__all__ = ["AUDIO_SUFFIXES", "HIGHEST_SAMPLE_RATE", "OTHER_SUFFIXES", "RESAMPLER", "Decoder", "find_recordings"]

AUDIO_SUFFIXES = frozenset(
    {".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".w64", ".wav", ".wave"}
)
"""File name endings, in lower case, of recordings that libsndfile reads."""

OTHER_SUFFIXES = frozenset({".3gp", ".aac", ".amr", ".ape", ".m4a", ".wac", ".wma", ".wv"})
"""Endings of recordings that it does not read: they are found too, so that they are reported."""

HIGHEST_SAMPLE_RATE = 500_000
"""In Hz; the fastest full-spectrum bat detectors record at this rate."""

RESAMPLER = "soxr-hq"
"""What an encoder's identity says of the resampling."""

_BLOCK_SAMPLES = 1 << 20  # over all channels: 4 MiB of float32


def find_recordings(path: Path) -> list[Path]:
    """List the recordings at `path`, sorted by name: itself if it is a file, else those in the folder and below.

    Links to folders are followed, each folder once. Names that begin with a dot are left out: they are
    other programs' notes, such as macOS's ``._x.wav``. Recordings in a form that cannot be read, folders whose
    name is a recording's, and folders that may not be read are listed too, so that a run reports them.

    Parameters
    ----------
    path : Path
        A folder or one recording.

    Returns
    -------
    list of Path
        At least one; each begins with `path`.

    Raises
    ------
    InputError
        If there is no such path, or no recording in it.
    """
    if path.is_file():
        if not _is_audio(path.name):
            raise InputError(f"{path} is no recording by its name; expected one of {_suffixes()}.")
        return [path]
    if not path.is_dir():
        raise InputError(f"There is no folder or file {path} (looked from {Path.cwd()}). Check the path.")
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    locked: list[Path] = []
    for folder, subfolders, names in os.walk(
        path, followlinks=True, onerror=lambda error: locked.append(Path(error.filename))
    ):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        named_like_audio = [name for name in subfolders if _is_audio(name)]
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        found += [
            Path(folder, name) for name in names + named_like_audio if not name.startswith(".") and _is_audio(name)
        ]
    if not found and not locked:
        raise InputError(f"No recording in {path}: no file there or below ends in one of {_suffixes()}.")
    return sorted({*found, *locked})


def _is_audio(name: str) -> bool:
    return Path(name).suffix.lower() in AUDIO_SUFFIXES | OTHER_SUFFIXES


def _suffixes() -> str:
    return ", ".join(sorted(AUDIO_SUFFIXES))


class Decoder:
    """Decodes one recording, once: mono, resampled, in blocks.

    Channels are averaged. After `blocks` has been read to its end, `samples` and `native_rate` say how long
    the recording really is, whatever its header claims.

    Parameters
    ----------
    path : Path
        The recording.
    sample_rate : int
        The wanted rate in Hz.

    Attributes
    ----------
    native_rate : int
        The recording's own rate in Hz.
    samples : int
        Samples per channel decoded so far, at the recording's own rate.

    Raises
    ------
    RecordingError
        On reading, if the file is no audio, is cut short, or holds values that are not finite.
    """

    def __init__(self, path: Path, sample_rate: int) -> None:
        self.path = path
        self.sample_rate = sample_rate
        self.native_rate = 0
        self.samples = 0

    @property
    def seconds(self) -> float:
        """Length of what has been decoded, in seconds."""
        return self.samples / self.native_rate if self.native_rate else 0.0

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Decode from the beginning to the end.

        Yields
        ------
        ndarray of shape (samples,), float32
            Consecutive parts of the recording at `sample_rate`. Full scale is 1; float files may exceed it.
        """
        suffix = self.path.suffix.lower()
        if suffix in OTHER_SUFFIXES:
            raise RecordingError("decode", f"libsndfile does not read {suffix} files; convert it to FLAC")
        if self.path.stat().st_size == 0:
            raise RecordingError("read", "the file is empty (0 bytes)")
        try:
            with (
                self.path.open("rb", buffering=0) as raw,
                soundfile.SoundFile(raw.fileno(), closefd=False) as file,
            ):
                yield from self._decode(file, raw)
        except soundfile.LibsndfileError as error:
            reason = error.error_string.rstrip(" .") or f"libsndfile error {error.code}"
            if "not a regular file" in reason:  # what it says of text called .mp3
                reason = "Format not recognised"
            where = f" after {self.seconds:.1f} s" if self.samples else ""
            raise RecordingError("decode", f"no audio that libsndfile can read, or damaged{where}: {reason}") from error

    def _decode(self, file: soundfile.SoundFile, raw: FileIO) -> Iterator[NDArray[np.float32]]:
        self.native_rate, self.samples = file.samplerate, 0
        if not 0 < self.native_rate <= HIGHEST_SAMPLE_RATE:
            raise RecordingError("decode", f"sample rate {self.native_rate} Hz; expected 1 to {HIGHEST_SAMPLE_RATE}")
        refuse_short_container(file, raw)
        resampler = (
            None
            if self.native_rate == self.sample_rate
            else soxr.ResampleStream(self.native_rate, self.sample_rate, 1, dtype="float32", quality="HQ")
        )
        # Smaller where resampling makes more of them: a damaged header may name a rate of a few Hz.
        growth = max(1, self.sample_rate // self.native_rate)
        frames = max(1, _BLOCK_SAMPLES // file.channels // growth)
        while len(block := file.read(frames, dtype="float32", always_2d=True)):
            mono = block[:, 0] if file.channels == 1 else block.mean(axis=1)
            if not np.isfinite(mono).all():
                first = (self.samples + int(np.argmin(np.isfinite(mono)))) / self.native_rate
                raise RecordingError("decode", f"a sample at {first:.2f} s is not finite (NaN or infinite)")
            self.samples += len(mono)
            yield mono if resampler is None else resampler.resample_chunk(mono)
        if not self.samples:
            raise RecordingError("decode", "it holds no samples")
        refuse_missing_end(file, raw, self.samples)
        if resampler is not None:
            yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
