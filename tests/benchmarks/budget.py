"""How long the competition's work takes: 700 one-minute soundscapes, BirdNET, three heads and blending, on two cores.

    python tests/benchmarks/budget.py --data FOLDER [--soundscapes 700] [--classes 206] [--budget 90m ...] [--jobs 2]

FOLDER holds `soundscapes/`, `background/` and `noise/`, of whose recordings the soundscapes are cut, each beginning a
few samples later than the last so that no two are equal. The heads have the size that they have in a competition:
fitted on `--windows` synthetic embeddings of `--classes` classes, those of `heads.py` beside this file; what they
predict means nothing. With `--logits` they come from a cache with BirdNET's own logits, whose frames of 3 s are then
heard besides. `birdemb predict` runs as a process of its own, start-up included: without a budget, and with each that
is given. Prints seconds, the share of each stage, and the largest memory of the process that began and of its workers.
The last table says what the windows in between bring: macro ROC-AUC and macro average precision on mixed soundscapes,
without and with them; needs `birds14/` in FOLDER and --make-soundscapes, as `birds14.py` beside this file does.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from birds14 import REPOSITORY, lay_out
from heads import synthesise
from sounds import SHIFT, read_mono, write_sound

import birdemb
from birdemb.classify.blending import Blend
from birdemb.classify.bundle import Bundle
from birdemb.classify.bundle_file import write_bundle
from birdemb.classify.ensemble import Ensemble, Member
from birdemb.classify.heads import make_head
from birdemb.embed.encoder import load_encoder
from birdemb.embed.tasks import identify
from birdemb.embed.windows import WindowGrid
from birdemb.taxonomy import ClassName

RATE = 32_000
SECONDS = 60
HEADS = ("lr", "mlp", "lgbm")
_BETWEEN_LOOKS = 0.2


@dataclass
class Watched:
    """What a command took, and the largest memory of its processes in bytes."""

    seconds: float = 0.0
    said: str = ""
    parent: int = 0
    workers: dict[int, int] = field(default_factory=dict)
    together: int = 0

    def look(self, process: psutil.Process) -> None:
        try:
            own = process.memory_info().rss
            children = {child.pid: child.memory_info().rss for child in process.children(recursive=True)}
        except psutil.Error:
            return  # one of them ended this moment
        self.parent = max(self.parent, own)
        self.workers |= {pid: max(size, self.workers.get(pid, 0)) for pid, size in children.items()}
        self.together = max(self.together, own + sum(children.values()))


def watch(*arguments: object) -> Watched:
    """Run `birdemb` with these arguments, and watch it."""
    result, started = Watched(), time.perf_counter()
    command = [sys.executable, "-m", "birdemb.cli", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        process, ended = psutil.Process(running.pid), threading.Event()

        def keep_looking() -> None:
            while not ended.wait(_BETWEEN_LOOKS):
                result.look(process)

        looking = threading.Thread(target=keep_looking)
        looking.start()
        result.said, _ = running.communicate()
        ended.set()
        looking.join()
    result.seconds = time.perf_counter() - started
    if running.returncode not in (0, 3):
        raise SystemExit(f"{command} failed")
    return result


def make_soundscapes(data: Path, folder: Path, count: int) -> None:
    """Cut one-minute soundscapes from all recordings that there are, joined end to end and repeated."""
    sounds = [
        read_mono(path, RATE)
        for name in ("soundscapes", "background", "noise")
        for path in sorted((data / name).iterdir())
        if path.suffix in (".ogg", ".flac", ".wav")
    ]
    joined = np.concatenate(sounds)
    length = SECONDS * RATE
    for index in range(count):
        start = index * (length + SHIFT)
        samples = joined.take(np.arange(start, start + length), mode="wrap")
        write_sound(folder / f"soundscape_{index:04}.ogg", samples, RATE)


def fit_heads(place: Path, classes: int, windows: int, *, logits: bool) -> None:
    """Write a bundle of three heads that were fitted on embeddings like BirdNET's."""
    X, targets, recording = synthesise(windows, classes)
    heads = [make_head(name, random_state=0, n_jobs=-1) for name in HEADS]
    members = tuple(Member(head.fit(X, targets, groups=recording)) for head in heads)
    names = tuple(ClassName(f"species{number:03}") for number in range(classes))
    identity = identify(load_encoder("birdnet-2.4", logits=logits), WindowGrid())
    ensemble = Ensemble(members, (None,), Blend.equal("mean", len(members), classes))
    write_bundle(Bundle(ensemble, names, (identity,), targets.mean(axis=0), {}), place)


def show(title: str, run: Watched, minutes: float) -> None:
    workers = " and ".join(f"{size / 2**20:.0f}" for size in sorted(run.workers.values(), reverse=True)[:4])
    print(f"{title}: {run.seconds:.1f} s, {minutes * 60 / run.seconds:.0f} x real time")
    print(f"    largest memory {run.parent / 2**20:.0f} MiB, of workers {workers or 'none'} MiB, "
          f"of all at the same time {run.together / 2**20:.0f} MiB")  # fmt: skip
    print("".join(f"    {line}\n" for line in run.said.splitlines()), end="", flush=True)


def compare_overlap(data: Path, script: Path, work: Path, soundscapes: int) -> None:
    """Print what windows in between bring on mixed soundscapes."""
    place = work / "mixed-birds"
    if not (place / "mixed" / "truth.csv").exists():
        lay_out(data, script, place, soundscapes)
    birdemb.embed_recordings(place / "data", encoder="birdnet-2.4", logits=True, workspace=place / ".birdemb")
    print("\nmixed soundscapes, macro ROC-AUC / macro average precision", flush=True)
    for heads in ("lr", ",".join(HEADS)):
        birdemb.fit(heads, workspace=place / ".birdemb")
        scores = {}
        for name, settings in (("windows alone", {}), ("averaged with those in between", {"time_budget": "10h"})):
            result = place / "result.csv"
            birdemb.predict_folder(place / "mixed/soundscapes", output=result, workspace=place / ".birdemb", **settings)
            scored = birdemb.evaluate(result, place / "mixed/truth.csv")
            scores[name] = f"{name} {scored.macro_roc_auc:.3f} / {scored.macro_average_precision:.3f}"
        print(f"  {heads:12} {', '.join(scores.values())}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--make-soundscapes", type=Path, help="and compare the windows in between")
    parser.add_argument("--soundscapes", type=int, default=700)
    parser.add_argument("--mixed", type=int, default=40, help="mixed soundscapes")
    parser.add_argument("--classes", type=int, default=206)
    parser.add_argument("--windows", type=int, default=20_000, help="that the heads are fitted on")
    parser.add_argument("--logits", action="store_true", help="BirdNET's own logits are kept, too")
    parser.add_argument("--budget", action="append", help="default: 90m")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, help="keep everything here")
    args = parser.parse_args()
    work = args.work or Path(tempfile.mkdtemp(prefix="budget-"))
    folder = work / f"soundscapes-{args.soundscapes}"
    if not folder.exists():
        make_soundscapes(args.data, folder, args.soundscapes)
    model = work / f"{args.classes}-classes-{args.windows}-windows{'-logits' if args.logits else ''}.birdemb"
    if not model.exists():
        fit_heads(model, args.classes, args.windows, logits=args.logits)
    print(f"{args.soundscapes} soundscapes of one minute, {args.jobs} jobs, {', '.join(HEADS)} blended, "
          f"{args.classes} classes", flush=True)  # fmt: skip
    budgets = [(f"within {budget}", ("--time-budget", budget)) for budget in args.budget or ["90m"]]
    for title, settings in (("without a budget", ()), *budgets):
        place = work / "empty"
        shutil.rmtree(place, ignore_errors=True)
        run = watch("predict", folder, "--model", model, "--workspace", place, "--jobs", args.jobs,
                    "-o", work / "submission.csv", *settings)  # fmt: skip
        show(title, run, args.soundscapes)
    if args.make_soundscapes:
        compare_overlap(args.data, args.make_soundscapes, work, args.mixed)


if __name__ == "__main__":
    main()
