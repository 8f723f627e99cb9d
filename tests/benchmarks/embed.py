"""How fast BirdNET embeddings are made, beside the `birdnet` package on the same audio, and where the time goes.

    python tests/benchmarks/embed.py --recording FILE [--hours 2] [--peer-python PYTHON --peer-script SCRIPT]

Repeats FILE, a real recording at 48 kHz, each copy beginning a few samples later than the last so that no two are
equal, in several containers and sample rates; embeds each set with this project (default windows of 5 s, and the
peer's windows of 3 s) and with the peer, every time in a process of its own, start-up included; prints seconds,
multiples of real time and ratios. PYTHON is one that has the `birdnet` package, SCRIPT takes a folder, --weights,
--labels, --workers and --embeddings. Then prints what each stage costs in one
thread, the arithmetic of a frame, and the processor's peak.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import soxr
from threadpoolctl import threadpool_limits

from birdemb.embed.audio import Decoder
from birdemb.embed.birdnet import build_network
from birdemb.embed.card import load_card
from birdemb.embed.run import embed_folder
from birdemb.embed.weights import find_weights
from birdemb.embed.windows import WindowGrid

SETS = (("ogg", 48_000), ("flac", 44_100), ("wav", 32_000), ("mp3", 48_000))
FRAME_GFLOP = {"front end": 0.30, "trunk": 0.64}  # counted from the shapes of the convolutions
SHIFT = 37  # samples


def make_audio(recording: Path, folder: Path, container: str, rate: int, hours: float) -> None:
    """Write copies of the recording, each cut a few samples later than the last."""
    signal, native = soundfile.read(recording, dtype="float32", always_2d=True)
    mono = signal.mean(axis=1)
    folder.mkdir(parents=True)
    for index in range(round(hours * 3600 / (len(mono) / native))):
        copy = mono[index * SHIFT :]
        samples = copy if rate == native else soxr.resample(copy, native, rate)
        with soundfile.SoundFile(folder / f"{index:04}.{container}", "w", rate, 1) as file:
            for start in range(0, len(samples), rate):  # one large write can overflow libvorbis's stack
                file.write(samples[start : start + rate])


def time_ours(folder: Path, window: float, jobs: int) -> tuple[float, float]:
    """Seconds of a run from nothing, in a process of its own, and hours of audio."""
    with tempfile.TemporaryDirectory() as cache:
        started = time.perf_counter()
        command = [sys.executable, __file__, "--only", folder, "--cache", cache, "--window", window, "--jobs", jobs]
        said = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
        return time.perf_counter() - started, float(said.split()[0]) / 3600


def time_peer(folder: Path, args: argparse.Namespace, weights: Path, embeddings: Path) -> float:
    """Seconds of the peer's run, start-up included."""
    labels = weights.with_name("BirdNET_GLOBAL_6K_V2.4_Labels.txt")
    command = [args.peer_python, args.peer_script, folder, "--weights", weights, "--labels", labels,
               "--workers", args.jobs, "--embeddings", embeddings]  # fmt: skip
    started = time.perf_counter()
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return time.perf_counter() - started


def compare(folder: Path, embeddings: Path) -> float:
    """Largest difference between our embeddings of 3 s windows and the peer's, over whole windows."""
    with tempfile.TemporaryDirectory() as cache:
        run = embed_folder(folder, Path(cache), encoder="birdnet-2.4", grid=WindowGrid(3.0, 3.0), show_progress=False)
        peer = np.load(embeddings, allow_pickle=False)
        ours = [run.cache.read([entry.sha256]) for entry in run.listing.recordings]
    theirs = peer["embeddings"]
    worst = 0.0
    for row, entry in enumerate(run.listing.recordings):
        whole = int(entry.seconds // 3)
        worst = max(worst, float(np.abs(ours[row][:whole] - theirs[row][:whole]).max()))
    return worst


def measure_stages(recording: Path, weights: Path) -> None:
    """Print milliseconds of each stage for one frame of 3 s, in one thread, and what the processor could do."""
    card = load_card("birdnet-2.4")
    rows: dict[str, float] = {}

    def timed(repeats: int, work: object) -> float:
        work()
        started = time.perf_counter()
        for _ in range(repeats):
            work()
        return (time.perf_counter() - started) / repeats * 1e3

    decoder = Decoder(recording, 48_000)
    decode = timed(3, lambda: [None for _ in decoder.blocks()])
    frames = decoder.seconds / 3
    other = Decoder(recording, 44_100)
    rows["decode"] = decode / frames
    rows["resample (where the rate differs)"] = (timed(3, lambda: [None for _ in other.blocks()]) - decode) / frames
    noise = np.random.default_rng(0).normal(0, 0.1, (4, 144_000)).astype(np.float32)
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    built = build_network(weights, 144_000, card.dim)
    front_end, network = (
        built.core.compile_model(model, "CPU", settings) for model in (built.spectrograms, built.embeddings)
    )
    rows["front end"] = timed(10, lambda: front_end(noise)) / len(noise)
    rows["trunk"] = timed(10, lambda: network(noise)) / len(noise) - rows["front end"]
    with tempfile.TemporaryDirectory() as folder:
        array = np.zeros((4096, card.dim), np.float32)
        rows["write"] = timed(3, lambda: np.save(Path(folder) / "shard.npy", array)) / len(array)
    total = sum(rows.values())
    with threadpool_limits(1):
        a, b = np.random.default_rng(1).random((2, 2048, 2048), np.float32)
        peak = 2 * 2048**3 / timed(5, lambda: a @ b) / 1e6
    print(f"\nOne frame of 3 s in one thread (matrix product on this processor: {peak:.0f} GFLOP/s)")
    for name, cost in rows.items():
        gflop = FRAME_GFLOP.get(name)
        reached = f", {gflop} GFLOP: {gflop / cost * 1e3 / peak:.0%} of the peak" if gflop else ""
        print(f"  {name:36} {cost:6.2f} ms {cost / total:5.0%}{reached}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recording", type=Path)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--sets", nargs="*", default=[f"{name}-{rate}" for name, rate in SETS])
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--peer-script", type=Path)
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--window", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        grid = WindowGrid(args.window, args.window)
        run = embed_folder(args.only, args.cache, encoder="birdnet-2.4", grid=grid, jobs=args.jobs, show_progress=False)
        print(run.fresh_seconds)
        return

    weights = find_weights(load_card("birdnet-2.4"))
    print(f"{args.jobs} workers; seconds include start-up; x is the multiple of real time")
    for name in args.sets:
        container, _, rate = name.partition("-")
        with tempfile.TemporaryDirectory() as place:
            folder, embeddings = Path(place) / name, Path(place) / "peer.npz"
            make_audio(args.recording, folder, container, int(rate), args.hours)
            of_5, hours = time_ours(folder, 5.0, args.jobs)
            of_3, _ = time_ours(folder, 3.0, args.jobs)
            line = f"{name:10} {hours:.2f} h   5 s windows {of_5:6.1f} s ({hours * 3600 / of_5:4.0f} x)"
            line += f"   3 s windows {of_3:6.1f} s ({hours * 3600 / of_3:4.0f} x)"
            if args.peer_python:
                peer = time_peer(folder, args, weights, embeddings)
                line += f"   peer, 3 s {peer:6.1f} s ({hours * 3600 / peer:4.0f} x)   ratio {peer / of_3:.2f}"
                if rate == "48000":
                    line += f"   largest difference {compare(folder, embeddings):.1e}"
            print(line, flush=True)
    print(f"largest memory of a process: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MiB")
    measure_stages(args.recording, weights)


if __name__ == "__main__":
    main()
