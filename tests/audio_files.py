"""Audio files for tests."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from birdemb.embed.audio import Decoder
from birdemb.embed.recordings import Recording
from birdemb.errors import RecordingError


@dataclass(frozen=True)
class Container:
    """A kind of file that libsndfile writes."""

    name: str
    suffix: str
    format: str
    subtype: str
    step: float  # the largest error of a sample; infinite for a lossy codec


CONTAINERS = (
    Container("wav16", ".wav", "WAV", "PCM_16", 2**-15),
    Container("wav24", ".wav", "WAV", "PCM_24", 2**-23),
    Container("wav32", ".wav", "WAV", "PCM_32", 2**-23),
    Container("wavfloat", ".wav", "WAV", "FLOAT", 0.0),
    Container("wavex", ".wav", "WAVEX", "PCM_16", 2**-15),
    Container("flac", ".flac", "FLAC", "PCM_16", 2**-15),
    Container("flac24", ".flac", "FLAC", "PCM_24", 2**-23),
    Container("vorbis", ".ogg", "OGG", "VORBIS", np.inf),
    Container("opus", ".opus", "OGG", "OPUS", np.inf),
    Container("mp3", ".mp3", "MP3", "MPEG_LAYER_III", np.inf),
    Container("aiff", ".aiff", "AIFF", "PCM_16", 2**-15),
    Container("caf", ".caf", "CAF", "PCM_16", 2**-15),
    Container("au", ".au", "AU", "PCM_16", 2**-15),
    Container("w64", ".w64", "W64", "PCM_16", 2**-15),
    Container("rf64", ".rf64", "RF64", "PCM_16", 2**-15),
)

LOSSLESS = tuple(container for container in CONTAINERS if np.isfinite(container.step))


def make_sine(seconds: float, rate: int, frequency: float = 440.0, amplitude: float = 0.5) -> NDArray[np.float64]:
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def make_noise(samples: int, seed: int = 5, channels: int | None = None) -> NDArray[np.float32]:
    shape = samples if channels is None else (samples, channels)
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


def write_audio(path: Path, samples: NDArray[np.floating], rate: int, container: Container | None = None) -> Path:
    """Write samples; as a float WAV, which keeps every bit, unless a container is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if container is None:
        soundfile.write(path, samples, rate, format="WAV", subtype="FLOAT")
    else:
        channels = samples.shape[1] if samples.ndim > 1 else 1
        with soundfile.SoundFile(path, "w", rate, channels, format=container.format, subtype=container.subtype) as file:
            for start in range(0, len(samples), 100_000):  # libvorbis does not survive a million at a time
                file.write(samples[start : start + 100_000])
    return path


def write_sine(path: Path, seconds: float = 1.0, rate: int = 32_000, frequency: float = 440.0) -> Path:
    return write_audio(path, make_sine(seconds, rate, frequency), rate)


def wav_bytes(
    samples: NDArray[np.int16], rate: int, *, declared: int | None = None, chunk: bytes = b"", riff: int | None = None
) -> bytes:
    """Make a mono 16-bit WAV by hand, with `declared` as the length of its data and a chunk after them."""
    data = samples.astype("<i2").tobytes()
    header = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    body = b"WAVE" + header + b"data" + struct.pack("<I", len(data) if declared is None else declared) + data + chunk
    return b"RIFF" + struct.pack("<I", len(body) if riff is None else riff) + body


def recording_of(path: Path) -> Recording:
    return Recording(str(path.absolute()), path.name)


def decode(path: Path, rate: int) -> NDArray[np.float32]:
    """Decode a whole recording through the library."""
    return np.concatenate(list(Decoder(recording_of(path), rate).blocks()))


def refusal(act: Callable[[], object]) -> RecordingError:
    """Give the error with which a recording is refused."""
    with pytest.raises(RecordingError) as caught:
        act()
    return caught.value
