"""How fast BirdNET embeddings are made, beside the `birdnet` package on the same audio, and where the time goes.

    python tests/benchmarks/embed.py --recording FILE [--hours 2] [--peer-python PYTHON --peer-script SCRIPT]

Repeats FILE, a real recording at 48 kHz, each copy beginning a few samples later than the last so that no two are
equal, in several containers and sample rates. Embeds each set with this project (the peer's windows of 3 s, and the
default windows of 5 s) and with the peer, every time in a process of its own, start-up included; prints seconds,
multiples of real time, ratios, and what each stage costs in one thread. PYTHON is one that has the `birdnet` package,
SCRIPT takes a folder, --weights, --labels, --workers and --embeddings. At the end stands the limit: the arithmetic of
a window, the processor's peak, and the share of it that is reached. `scale.py` beside this file measures workers,
many clips, long recordings and memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from sounds import make_copies
from threadpoolctl import threadpool_limits

from birdemb.cache import EmbeddingCache
from birdemb.embed.audio import Decoder
from birdemb.embed.birdnet_front_end import Spectrograms
from birdemb.embed.birdnet_parts import read_front_end, read_stored_trunk
from birdemb.embed.birdnet_passes import Passes
from birdemb.embed.catalogue import load_card
from birdemb.embed.convolution_kernels import takes_slower_kernels
from birdemb.embed.fast_trunks import make_fast_trunk
from birdemb.embed.openvino_models import compile_model, read_graph
from birdemb.embed.recordings import Recording, find_recordings
from birdemb.embed.run import embed_folder
from birdemb.embed.weights import FoundWeights, find_weights
from birdemb.embed.windows import WindowGrid

SETS = ("ogg-48000", "flac-44100", "wav-32000", "mp3-48000")
RATE = 48_000
CARD = load_card("birdnet-2.4")


def time_ours(folder: Path, window: float, args: argparse.Namespace) -> tuple[float, float]:
    """Seconds of a run from nothing, in a process of its own, and hours of audio."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, __file__, "--only", folder, "--cache", cache, "--window", window,
                   "--jobs", args.jobs, "--precision", args.precision]  # fmt: skip
        started = time.perf_counter()
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


def tell_seconds(times: list[float], hours: float) -> str:
    """Tell the median of some times, all of them where there are several, and the multiple of real time."""
    median = float(np.median(times))
    several = " of " + ", ".join(f"{one:.1f}" for one in times) if len(times) > 1 else ""
    return f"{median:6.1f} s{several} ({hours * 3600 / median:4.0f} x)"


def compare(folder: Path, embeddings: Path, args: argparse.Namespace) -> float:
    """Largest difference between our embeddings of 3 s windows and the peer's, over whole windows."""
    with tempfile.TemporaryDirectory() as cache:
        run = embed_folder(folder, Path(cache), encoder=CARD.name, grid=WindowGrid(3.0, 3.0), dtype="float32",
                           precision=args.precision, jobs=args.jobs, show_progress=False)  # fmt: skip
        ours = [run.cache.read([entry.sha256]) for entry in run.listing.recordings]
    theirs = np.load(embeddings, allow_pickle=False)["embeddings"]
    worst = 0.0
    for row, entry in enumerate(run.listing.recordings):
        whole = int(entry.seconds // 3)
        worst = max(worst, float(np.abs(ours[row][:whole] - theirs[row][:whole]).max()))
    return worst


def cost(work: Callable[[], object], repeats: int = 5) -> float:
    """Milliseconds of one call, the least of several."""
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times) * 1e3


class Stages:
    """What each stage costs for one window in one thread, in milliseconds."""

    def __init__(self, weights: FoundWeights, window: float, precision: str) -> None:
        self.window = window
        samples = round(window * RATE)
        passes = Passes(weights, samples, CARD.dim, precision)
        front_end = Spectrograms(read_front_end(weights, CARD.dim), samples)
        noise = np.random.default_rng(0).normal(0, 0.1, (4, samples)).astype(np.float32)
        self.shape = front_end.shape
        spectrograms = np.empty(self.shape, np.float32)
        with threadpool_limits(1):
            self.front_end = cost(lambda: front_end.compute(noise[0], spectrograms), 20)
            self.trunk = cost(lambda: passes.run(noise), 10) / len(noise) - self.front_end
        self.write = self._cost_of_writing()

    def _cost_of_writing(self) -> float:
        rows = np.random.default_rng(0).random((24, CARD.dim)).astype(np.float16)
        with tempfile.TemporaryDirectory() as folder:
            cache = EmbeddingCache(Path(folder), {"encoder": "x", "dim": CARD.dim, "dtype": "float16"})

            def write() -> None:
                with cache.writer() as writer:
                    for _ in range(40):
                        writer.add(os.urandom(32).hex(), rows, seconds=120.0)

            return cost(write, 3) / (40 * len(rows))

    def show(self, recording: Recording) -> None:
        """Print the share of each stage for one recording's container and rate."""
        native = Decoder(recording, RATE)
        for _ in native.blocks():
            pass
        windows = native.seconds / self.window
        rate = native.native_rate
        decode = cost(lambda: [None for _ in Decoder(recording, rate).blocks()], 3) / windows
        both = cost(lambda: [None for _ in Decoder(recording, RATE).blocks()], 3) / windows
        rows = {"decode": decode, "resample": both - decode if rate != RATE else 0.0, "front end": self.front_end,
                "trunk": self.trunk, "write": self.write}  # fmt: skip
        total = sum(rows.values())
        shares = ", ".join(f"{name} {value:.2f} ms ({value / total:.0%})" for name, value in rows.items())
        print(f"             a {self.window:g} s window in one thread: {shares}")


def count_gflop(model: ov.Model) -> float:
    """Count the arithmetic of one pass, in 1e9 operations: 2 for each product of its convolutions and matrices."""
    total = 0
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind in ("Convolution", "GroupConvolution"):
            kernel = list(node.input(1).get_shape())
            total += (
                2
                * int(np.prod(node.output(0).get_shape()))
                * int(np.prod(kernel[1:] if len(kernel) == 4 else kernel[2:]))
            )
        elif kind == "MatMul":
            total += 2 * int(np.prod(node.output(0).get_shape())) * list(node.input(0).get_shape())[-1]
    return total / 1e9


def measure_peak(precision: str) -> float:
    """Measure a matrix product in one thread, in GFLOP/s: NumPy's, and in bf16, which NumPy lacks, OpenVINO's."""
    size = 2048
    a, b = np.random.default_rng(1).random((2, size, size), np.float32)
    if precision == "f32":
        with threadpool_limits(1):
            return 2 * size**3 / cost(lambda: a @ b) / 1e6
    given = ops.parameter([size, size], np.float32)
    product = compile_model(ov.Model([ops.matmul(given, ops.constant(b), False, False)], [given]), precision)
    request = product.create_infer_request()
    request.set_input_tensor(0, ov.Tensor(a, shared_memory=True))
    return 2 * size**3 / cost(request.infer) / 1e6


def compare_forms(weights: FoundWeights, shape: tuple[int, ...]) -> float:
    """Give by how much the trunk is faster in the form that is run than as OpenVINO runs it by itself."""
    stored = read_stored_trunk(weights, CARD.dim)
    fast = make_fast_trunk(stored.graph, stored.tensors, (4, *shape))
    models = [read_graph(stored.graph, stored.tensors), fast]
    requests = [compile_model(model, "f32").create_infer_request() for model in models]
    rows = np.random.default_rng(2).random((4, *shape), np.float32)
    # In turns, as the machine's speed drifts.
    times = [[cost(lambda request=request: request.infer([rows]), 2) for request in requests] for _ in range(10)]  # type: ignore[misc]
    return float(np.divide(*np.min(times, axis=0)))


def show_limit(weights: FoundWeights, precision: str) -> None:
    """Print the arithmetic of a window and the share of the processor's peak that each stage reaches."""
    print("\nThe limit: what a matrix product reaches in one thread of this processor.")
    stored = read_stored_trunk(weights, CARD.dim)
    for window in (3.0, 5.0):
        stages = Stages(weights, window, precision)
        _, bands, steps = stages.shape
        heard = sum(len(branch.heard_weights) for branch in read_front_end(weights, CARD.dim).branches)
        trunk = read_graph(stored.graph, stored.tensors)
        trunk.reshape([1, *stages.shape])
        peaks = {each: measure_peak(each) for each in dict.fromkeys(("f32", precision))}
        print("  " + ", ".join(f"{peak:.0f} GFLOP/s in {each}" for each, peak in peaks.items()))
        # The front end runs in f32 whatever the precision.
        for name, gflop, taken, peak in (("front end", 2e-9 * steps * heard * bands, stages.front_end, peaks["f32"]),
                                         ("trunk", count_gflop(trunk), stages.trunk, peaks[precision])):  # fmt: skip
            print(f"  {window:g} s window, {name:9}: {gflop:.2f} GFLOP, at the peak {gflop / peak * 1e3:5.2f} ms, "
                  f"taken {taken:5.2f} ms: {gflop / taken * 1e3 / peak:.0%} of the peak")  # fmt: skip
    if takes_slower_kernels() and precision == "f32":
        ratio = compare_forms(weights, Stages(weights, 3.0, precision).shape)
        print(f"  3 s window, trunk: {ratio:.2f} times as fast as in the form that it is stored in")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recording", type=Path)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--precision", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--sets", nargs="*", default=SETS, help="CONTAINER-RATE ...")
    parser.add_argument("--rounds", type=int, default=1, help="how often each is timed, in turns")
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--peer-script", type=Path)
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--window", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        run = embed_folder(args.only, args.cache, encoder=CARD.name, grid=WindowGrid(args.window, args.window),
                           precision=args.precision, jobs=args.jobs, show_progress=False)  # fmt: skip
        print(run.fresh_seconds)
        return

    weights = find_weights(CARD)
    stages = [Stages(weights, window, args.precision) for window in (3.0, 5.0)]
    print(f"{args.jobs} workers, {args.precision}; seconds include start-up; x is the multiple of real time")
    for name in args.sets:
        container, _, rate = name.partition("-")
        with tempfile.TemporaryDirectory() as place:
            folder, embeddings = Path(place) / name, Path(place) / "peer.npz"
            make_copies(args.recording, folder, container, int(rate), args.hours)
            # In turns, as the machine's speed drifts.
            ours: dict[float, list[float]] = {3.0: [], 5.0: []}
            peers = []
            for _ in range(args.rounds):
                for window, own in ours.items():
                    seconds, hours = time_ours(folder, window, args)
                    own.append(seconds)
                if args.peer_python:
                    peers.append(time_peer(folder, args, weights.path, embeddings))
            line = f"{name:10} {hours:.2f} h"
            for window, own in ours.items():
                line += f"   {window:g} s windows {tell_seconds(own, hours)}"
            if peers:
                line += f"   peer, 3 s windows {tell_seconds(peers, hours)}"
                line += f"   ratio {np.median(peers) / np.median(ours[3.0]):.2f}"
                if rate == str(RATE):
                    line += f"   largest difference {compare(folder, embeddings, args):.1e}"
            print(line, flush=True)
            for stage in stages:
                stage.show(find_recordings(folder).recordings[0])
    show_limit(weights, args.precision)


if __name__ == "__main__":
    main()
