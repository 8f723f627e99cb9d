"""Sounds for the benchmarks: real recordings repeated, no two copies equal."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

SHIFT = 37  # samples by which each copy begins later than the last


def read_mono(recording: Path, rate: int) -> NDArray[np.float32]:
    """Read a recording whole, at the wanted rate."""
    signal, native = soundfile.read(recording, dtype="float32", always_2d=True)
    mono = signal.mean(axis=1)
    return mono if native == rate else soxr.resample(mono, native, rate)


def write_sound(path: Path, samples: NDArray[np.float32], rate: int) -> None:
    """Write one file, second by second: one large write can overflow libvorbis's stack."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", rate, 1) as file:
        for start in range(0, len(samples), rate):
            file.write(samples[start : start + rate])


def make_copies(recording: Path, folder: Path, container: str, rate: int, hours: float) -> None:
    """Write copies of the recording until there are so many hours, each cut a few samples later than the last."""
    samples = read_mono(recording, rate)
    for index in range(max(1, round(hours * 3600 * rate / len(samples)))):
        write_sound(folder / f"{index:04}.{container}", samples[index * SHIFT :], rate)


def make_clips(recording: Path, folder: Path, container: str, rate: int, clips: int, seconds: float) -> None:
    """Cut so many short clips from the recording, each at another place."""
    samples, length = read_mono(recording, rate), round(seconds * rate)
    for index in range(clips):
        start = index * SHIFT * 101 % (len(samples) - length)
        write_sound(folder / f"{index // 1000:03}" / f"{index:06}.{container}", samples[start : start + length], rate)


def make_long(recording: Path, path: Path, rate: int, hours: float) -> None:
    """Write one long recording: the short one again and again, each time cut a few samples later."""
    samples = read_mono(recording, rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    left = round(hours * 3600 * rate)
    # A plain WAV ends at 4 GB.
    with soundfile.SoundFile(path, "w", rate, 1, format={".wav": "RF64"}.get(path.suffix)) as file:
        for index in count():
            copy = samples[index * SHIFT % (len(samples) // 2) :][:left]
            file.write(copy)
            left -= len(copy)
            if not left:
                break
