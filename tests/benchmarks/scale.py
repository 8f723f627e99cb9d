"""How embedding scales: workers, many clips, long recordings, memory, and runs that find nothing new.

    python tests/benchmarks/scale.py --recording FILE [SECTION ...]

Sections: engine (what the run costs beside decoding and encoding), workers (1, 2, 4, 8 of them), clips (10,000 of
3 s), long (one recording of --long-hours at 48 and at 192 kHz), unchanged (a second run over 30,000 recordings). Every
run is a process of its own, start-up included; "busy" is the processor time of the workers as a share of what they
could have had. Sounds are made from FILE, a real recording, in a temporary folder that needs room: 24 h at 192 kHz are
about 20 GB.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from sounds import make_clips, make_copies, make_long
from threadpoolctl import threadpool_limits

from birdemb.embed.encoder import load_encoder
from birdemb.embed.recordings import find_recordings
from birdemb.embed.run import embed_folder
from birdemb.embed.windows import WindowGrid, plan_parts, stream_windows

ENCODER = "birdnet-2.4"
CORES = os.cpu_count() or 1


@dataclass
class Watch:
    """What a run of a process and its workers took: seconds, largest memory of one process, processor seconds."""

    seconds: float = 0.0
    said: str = ""
    memory: int = 0
    processor: dict[int, float] = field(default_factory=dict)

    def look(self, process: psutil.Process) -> None:
        try:
            for one in [process, *process.children(recursive=True)]:
                self.memory = max(self.memory, one.memory_info().rss)
                times = one.cpu_times()
                self.processor[one.pid] = times.user + times.system
        except psutil.Error:
            pass  # it ended this moment

    def busy(self, workers: int) -> float:
        return sum(self.processor.values()) / self.seconds / min(workers, CORES)


def watch(*arguments: object) -> Watch:
    """Run this script on one folder, and watch it."""
    result = Watch()
    started = time.perf_counter()
    command = [sys.executable, __file__, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        process = psutil.Process(running.pid)
        ended = threading.Event()

        def keep_looking() -> None:
            while not ended.wait(0.1):
                result.look(process)

        looking = threading.Thread(target=keep_looking)
        looking.start()
        result.said, _ = running.communicate()
        ended.set()
        looking.join()
    result.seconds = time.perf_counter() - started
    if running.returncode:
        raise SystemExit(f"{command} failed")
    return result


def embed(folder: Path, workspace: Path, jobs: int, encoder: str = ENCODER) -> Watch:
    return watch("--only", folder, "--workspace", workspace, "--jobs", jobs, "--encoder", encoder)


def show(title: str, run: Watch, workers: int, base: Watch | None = None) -> None:
    hours = float(run.said.split()[0]) / 3600
    speed_up = f", speed-up {base.seconds / run.seconds:.2f}" if base else ""
    print(
        f"  {title:28} {run.seconds:7.1f} s, {hours * 3600 / run.seconds:4.0f} x real time, "
        f"busy {run.busy(workers):4.0%}, largest memory of a process {run.memory / 2**20:.0f} MiB{speed_up}",
        flush=True,
    )


def measure_engine(recording: Path, work: Path, args: argparse.Namespace) -> None:
    """A run with one worker against a bare loop over the same windows, both in this process and warm."""
    print("engine: one worker, warm, against a bare loop of decoding and encoding")
    folder = work / "engine"
    make_copies(recording, folder, "ogg", 48_000, 0.2 * args.scale)
    encoder, grid = load_encoder(ENCODER), WindowGrid()
    found = find_recordings(folder).recordings

    def loop() -> None:
        with threadpool_limits(1):
            for one in found:
                for part in plan_parts(one, encoder.card.sample_rate, grid):
                    for windows, _ in stream_windows(one, encoder.card.sample_rate, grid, part):
                        encoder.encode(windows)

    def run() -> None:
        with tempfile.TemporaryDirectory() as cache:
            embed_folder(folder, Path(cache), encoder=ENCODER, jobs=1, show_progress=False)

    def seconds(work: Callable[[], None]) -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    run()
    loop()
    # In turns, as the machine's speed drifts.
    pairs = [(seconds(loop), seconds(run)) for _ in range(5)]
    bare, whole = (min(times) for times in zip(*pairs, strict=True))
    print(f"  bare loop {bare:.2f} s, run {whole:.2f} s: the engine costs {(whole - bare) / whole:.1%}", flush=True)


def measure_workers(recording: Path, work: Path, args: argparse.Namespace) -> None:
    print(f"workers: {2 * args.scale:g} h in one-minute files, on {CORES} cores")
    folder = work / "workers"
    make_copies(recording, folder, "ogg", 48_000, 2 * args.scale)
    base = None
    for workers in (1, 2, 4, 8):
        run = embed(folder, work / f"w{workers}", workers)
        show(f"{workers} workers", run, workers, base)
        base = base or run


def measure_clips(recording: Path, work: Path, args: argparse.Namespace) -> None:
    clips = round(10_000 * args.scale)
    print(f"clips: {clips} of 3 s")
    make_clips(recording, work / "clips", "flac", 48_000, clips, 3.0)
    base = None
    for workers in sorted({1, CORES}):
        run = embed(work / "clips", work / f"c{workers}", workers)
        show(f"{workers} workers", run, workers, base)
        base = base or run


def measure_long(recording: Path, work: Path, args: argparse.Namespace) -> None:
    print(f"long: one recording of {args.long_hours:g} h")
    for rate, suffix in ((48_000, "flac"), (192_000, "wav")):
        path = work / "long" / f"{rate}.{suffix}"
        make_long(recording, path, rate, args.long_hours)
        size = path.stat().st_size / 1e9
        show(f"{rate} Hz, {suffix}, {size:.1f} GB", embed(path, work / f"l{rate}", CORES), CORES)
        path.unlink()


def measure_unchanged(recording: Path, work: Path, args: argparse.Namespace) -> None:
    count = round(30_000 * args.scale)
    print(f"unchanged: {count} recordings (encoder melspec, clips of 1 s)")
    make_clips(recording, work / "many", "wav", 32_000, count, 1.0)
    first = embed(work / "many", work / "m", CORES, "melspec")
    again = embed(work / "many", work / "m", CORES, "melspec")
    print(f"  first run {first.seconds:.1f} s, second run {again.seconds:.1f} s", flush=True)


SECTIONS = {
    "engine": measure_engine,
    "workers": measure_workers,
    "clips": measure_clips,
    "long": measure_long,
    "unchanged": measure_unchanged,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help="; ".join(SECTIONS))
    parser.add_argument("--recording", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the sounds; not of --long-hours")
    parser.add_argument("--long-hours", type=float, default=24.0)
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--workspace", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--jobs", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--encoder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        import birdemb

        report = birdemb.embed_recordings(args.only, encoder=args.encoder, workspace=args.workspace, jobs=args.jobs)
        print(report.run.fresh_seconds)
        return
    unknown = set(args.sections) - set(SECTIONS)
    if unknown or not args.recording:
        parser.error(f"unknown section {sorted(unknown)[0]}" if unknown else "--recording is needed")
    for section in args.sections or SECTIONS:
        with tempfile.TemporaryDirectory() as work:
            SECTIONS[section](args.recording, Path(work), args)


if __name__ == "__main__":
    main()
