"""Caches for tests: embeddings that follow from their numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from birdemb.cache import EmbeddingCache

TESTS = Path(__file__).parent
IDENTITY = {"encoder": "melspec", "dim": 4, "window": 5.0, "hop": 5.0}
HALF = IDENTITY | {"dtype": "float16", "logits": 3}


def key(number):
    return f"{number:064x}"


def embed(number, windows=3, dim=4, dtype=np.float32):
    """An embedding that follows from its key."""
    return np.random.default_rng(number).normal(size=(windows, dim)).astype(dtype)


def count(number):
    return 1 + number % 4


def add(writer, number, identity=IDENTITY, **part):
    dtype = identity.get("dtype", "float32")
    logits = embed(number + 1000, count(number), identity["logits"], dtype) if identity.get("logits") else None
    rows = embed(number, count(number), identity["dim"], dtype)
    writer.add(key(number), rows, seconds=float(number), logits=logits, **part)


def fill(root, numbers, identity=IDENTITY):
    cache = EmbeddingCache(root, identity)
    with cache.writer() as writer:
        for number in numbers:
            add(writer, number, identity)
    return cache


def shards(root, suffix):
    return sorted(path for path in root.glob(f"*/shards/*{suffix}") if not path.name.startswith("."))


def assert_holds(cache, numbers):
    numbers = list(numbers)
    dtype = cache.dtype
    assert len(cache) == len(numbers)
    found = cache.find([key(number) for number in numbers])
    for number in numbers:
        assert found[key(number)].windows == count(number)
        assert found[key(number)].seconds == number
    expected = [embed(number, count(number), dtype=dtype) for number in numbers]
    got = cache.read([key(number) for number in numbers])
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, np.concatenate(expected) if expected else np.empty((0, 4)))
    if cache.logits_width:
        expected = [embed(number + 1000, count(number), 3, dtype) for number in numbers]
        got = cache.read_logits([key(number) for number in numbers])
        np.testing.assert_array_equal(got, np.concatenate(expected) if expected else np.empty((0, 3)))


def python(script, *arguments, **options):
    """The command that runs a script which may import the test files."""
    script = f"import sys; sys.path.insert(0, {str(TESTS)!r})\nfrom pathlib import Path\n{script}"
    return [sys.executable, "-c", script, *map(str, arguments)]


def run_python(script, *arguments, **options):
    return subprocess.run(python(script, *arguments), check=True, capture_output=True, text=True, **options).stdout
