"""How fast a large cache opens, and how fast rows are gathered from it, beside what the disk gives.

    python tests/benchmarks/cache.py [--windows 10000000] [--dim 16] [--folder FOLDER]

Makes a cache of that many windows, 25 in each recording, in shards as a run writes them, and prints how long it takes
to open it, to make the table of windows, to add one shard to the index, and to gather random rows. What is measured
with --dim 16 is the index, which knows nothing of the width; for the gathering, --dim 1024 is as wide as BirdNET's
embeddings, and wants 2 kB of disk for each window. Beside each time of gathering stand the times of reading the same
rows, shard by shard and in order, with os.pread from as many threads and with np.memmap, and without anything around
it; the ratio is theirs over ours. Cold means that the files were put out of the page cache before, where the system
can do that. The rows of all shards are the same noise, which is faster to make and no different to read.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from birdemb.cache import CACHE_FORMAT, EmbeddingCache
from birdemb.cache.shards import Part, hash_rows, write_shard
from birdemb.cache.view import CacheView, open_cache

WINDOWS_A_RECORDING = 25
ROWS_A_SHARD = 8175  # as many whole recordings as a run puts into a shard
READERS = 16


def timed(work: Callable[[], object]) -> tuple[float, object]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def make_cache(root: Path, windows: int, dim: int) -> EmbeddingCache:
    """Write the shards with the functions that a run writes them with, and leave the index to the first opening."""
    identity = {"encoder": "noise", "dim": dim, "dtype": "float16", "window": 5.0, "hop": 5.0, "format": CACHE_FORMAT}
    cache = EmbeddingCache(root, identity)
    add_shards(cache, windows, 0)
    return cache


def add_shards(cache: EmbeddingCache, windows: int, first_recording: int) -> None:
    noise = np.random.default_rng(0).normal(size=(ROWS_A_SHARD, cache.dim)).astype(np.float16)
    starts = range(0, ROWS_A_SHARD, WINDOWS_A_RECORDING)
    hashes = [hash_rows(noise[start : start + WINDOWS_A_RECORDING]) for start in starts]
    recording, left = first_recording, windows
    while left > 0:
        count = min(len(hashes), -(-left // WINDOWS_A_RECORDING))
        parts = []
        for number in range(count):
            sha256 = hashlib.sha256(str(recording + number).encode()).hexdigest()
            start = number * WINDOWS_A_RECORDING
            parts.append(Part(sha256, 0, WINDOWS_A_RECORDING, start, True, 125.0, hashes[number]))
        write_shard(cache.folder, cache.form, parts, [noise[: count * WINDOWS_A_RECORDING]])
        recording += count
        left -= count * WINDOWS_A_RECORDING


def forget(folder: Path) -> None:
    """Put the shards out of the page cache, so that the disk is what is measured."""
    if hasattr(os, "posix_fadvise"):
        for path in (folder / "shards").glob("*.npy"):
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def places_of(view: CacheView, rows: np.ndarray) -> list[tuple[Path, int, np.ndarray]]:
    """Which rows of which files those are: for each file its path, where its values begin, and rows in order."""
    places = view.places
    parts = np.searchsorted(places.starts, rows, side="right") - 1
    positions = places.first_rows[parts] + rows - places.starts[parts]
    shards = view.cache.shards()
    found = []
    for number in np.unique(places.shards[parts]):
        name = places.names[number]
        path = view.folder / "shards" / f"{name}.npy"
        found.append((path, shards[name].offset, np.sort(positions[places.shards[parts] == number])))
    return found


def read_with_pread(places: list[tuple[Path, int, np.ndarray]], width: int) -> None:
    def read(place: tuple[Path, int, np.ndarray]) -> None:
        path, offset, rows = place
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        for row in rows:
            os.pread(descriptor, width, offset + int(row) * width)
        os.close(descriptor)

    with ThreadPoolExecutor(READERS) as readers:
        list(readers.map(read, places))


def read_with_memmap(places: list[tuple[Path, int, np.ndarray]]) -> None:
    for path, _, rows in places:
        np.asarray(np.load(path, mmap_mode="r")[rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=10_000_000)
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--rows", type=int, default=100_000, help="to gather")
    parser.add_argument("--folder", type=Path, help="where to make the cache; a temporary folder by default")
    args = parser.parse_args()
    if args.folder:
        args.folder.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        measure(root, args)
    finally:
        shutil.rmtree(root)


def measure(root: Path, args: argparse.Namespace) -> None:
    seconds, cache = timed(lambda: make_cache(root, args.windows, args.dim))
    print(f"made {args.windows:,} windows of width {args.dim} in {seconds:.0f} s")
    seconds, cache = timed(lambda: EmbeddingCache.at(cache.folder))
    index = cache.folder / "index.sqlite"
    print(f"index made of all shards        {seconds:8.2f} s   ({index.stat().st_size / 1e6:.0f} MB)")
    sha256s = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(30_000)]
    seconds, cache = timed(lambda: EmbeddingCache.at(cache.folder))
    print(f"cache opened                    {seconds:8.3f} s")
    seconds, count = timed(lambda: len(cache))
    print(f"recordings counted              {seconds:8.3f} s   ({count:,})")
    seconds, found = timed(lambda: cache.find(sha256s))
    print(f"recordings looked up            {seconds:8.3f} s   ({len(found):,} of {len(sha256s):,})")
    seconds, view = timed(lambda: open_cache(root))
    print(f"opened for reading (open_cache) {seconds:8.3f} s")
    seconds, _ = timed(lambda: view.recordings)
    print(f"table of recordings made        {seconds:8.2f} s")
    seconds, windows = timed(lambda: view.windows)
    print(f"table of windows made           {seconds:8.2f} s   ({len(windows):,} rows)")
    rows = np.random.default_rng(1).integers(0, len(view), args.rows)
    places = places_of(view, rows)
    width = args.dim * 2
    size = args.rows * width / 1e6
    for state in ("cold", "cold", "warm"):
        times = {}
        works = {"gather": lambda: view.gather(rows), "memmap": lambda: read_with_memmap(places)}
        if hasattr(os, "posix_fadvise"):
            works["pread"] = lambda: read_with_pread(places, width)
        for name, work in works.items():
            if state == "cold":
                forget(view.folder)
            times[name], _ = timed(work)
        print(f"{args.rows:,} rows gathered, {state:9}{times['gather']:8.2f} s   ({size / times['gather']:.1f} MB/s)")
        for name in sorted(works.keys() - {"gather"}):
            told = f"({size / times[name]:.1f} MB/s, ratio {times[name] / times['gather']:.2f})"
            print(f"  the same with {name:16}{times[name]:8.2f} s   {told}", flush=True)
    add_shards(cache, ROWS_A_SHARD, 10**9)
    seconds, _ = timed(lambda: EmbeddingCache.at(cache.folder))
    print(f"index brought up to date        {seconds:8.2f} s   (one new shard)")
    print(f"largest memory                  {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8.0f} MiB")


if __name__ == "__main__":
    main()
