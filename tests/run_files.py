"""Recordings for tests of the run, and what a cache holds of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import soundfile

from birdemb.cache import EmbeddingCache

RATE = 8000


def write_noise(path: Path, seconds: float, seed: int = 0, rate: int = RATE) -> Path:
    """Write noise as 8-bit WAV: what is longer than 250 s is more than one part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.1, round(seconds * rate))
    soundfile.write(path, noise, rate, subtype="PCM_U8")
    return path


def make_folder(folder: Path, *, short: int = 12, long: int = 2, long_seconds: int = 400) -> Path:
    """Make a folder of short recordings and of long ones of several parts."""
    for index in range(short):
        write_noise(folder / f"short/{index:02}.wav", 2 + index % 7, seed=index)
    for index in range(long):
        write_noise(folder / f"long/{index}.wav", long_seconds + 120 * index, seed=1000 + index)
    return folder


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def arrays_of(workspace: Path, folder: Path) -> dict[str, bytes]:
    """Give the embeddings of each recording of a folder, as a fresh look into the cache finds them."""
    (place,) = [path.parent for path in (workspace / "cache").glob("*/identity.json")]
    cache = EmbeddingCache.at(place)
    assert not cache.damaged
    hashes = {path.relative_to(folder).as_posix(): hash_of(path) for path in sorted(folder.rglob("*.wav"))}
    assert set(cache.find(hashes.values())) == set(hashes.values())
    return {name: cache.read([sha256]).tobytes() for name, sha256 in hashes.items()}
