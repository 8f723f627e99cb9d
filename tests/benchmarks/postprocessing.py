"""What each step of post-processing gains: on mixed soundscapes of 14 real species, and on the invented world.

    python tests/benchmarks/postprocessing.py --data FOLDER --make-soundscapes SCRIPT [--work FOLDER]

Takes what `birds14.py` beside this file takes. Heads are fitted on focal recordings, post-processing is chosen on
labelled soundscapes, and every figure of the table is from folds over these. Then both are tried on soundscapes that
were mixed anew, of the same test recordings. Mixed soundscapes flatter: their species stay for the minute, which is
just what neighbours and the whole recording tell of. Real ones gain less.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from birds14 import REPOSITORY, lay_out

import birdemb
from birdemb.fitting import FitReport
from birdemb.postprocess_output import describe_steps, tell_tuning
from birdemb.synthesis import make_world


def fit(folder: Path, truth: Path, encoder: str, head: str, workspace: Path) -> FitReport:
    """Fit, choose the post-processing, and print what was found."""
    started = time.monotonic()
    report = birdemb.fit(
        head, soundscapes=folder, truth=truth, tune_postprocess=True, encoders=[encoder], workspace=workspace
    )
    print(f"\n{encoder}, {head}, {folder}: {describe_steps(report.bundle.postprocessing.describe())}")
    for line in tell_tuning(report.tuning.summary()):
        print(f"  {line}")
    print(f"  in {time.monotonic() - started:.0f} s, of fitting and choosing")
    return report


def compare(folder: Path, truth: Path, workspace: Path, choices: tuple[str, ...]) -> None:
    """Predict with and without post-processing, and print the scores."""
    print(f"  on {folder}, which nothing was chosen on:")
    for choice in choices:
        result = workspace / "processed.csv"
        birdemb.predict_folder(folder, output=result, postprocess=choice, workspace=workspace)
        scores = birdemb.evaluate(result, truth)
        print(f"    {choice:<45} {scores.macro_roc_auc:.4f} / {scores.macro_average_precision:.4f}")


def try_birds(birds: Path, args: argparse.Namespace, choices: tuple[str, ...]) -> None:
    if not (birds / "mixed" / "truth.csv").exists():
        lay_out(args.data, args.make_soundscapes, birds, args.soundscapes)
    again = birds / "again"
    if not (again / "truth.csv").exists():
        parts = [
            f"--{name}={args.data / folder}"
            for name, folder in (("recordings", "birds14"), ("background", "background"), ("noise", "noise"))
        ]
        command = [sys.executable, args.make_soundscapes, *parts, f"--out={again}"]
        subprocess.run([*command, f"--soundscapes={args.soundscapes}", "--seed=2"], check=True)
    workspace = birds / ".birdemb"
    for encoder in args.encoder or ["birdnet-2.4", "melspec"]:
        birdemb.embed_recordings(birds / "data", encoder=encoder, workspace=workspace)
        fit(birds / "mixed" / "soundscapes", birds / "mixed" / "truth.csv", encoder, args.head, workspace)
        compare(again / "soundscapes", again / "truth.csv", workspace, choices)


def try_world(work: Path, args: argparse.Namespace, choices: tuple[str, ...]) -> None:
    worlds = [make_world(work / f"world{seed}", seed=seed) for seed in (0, 1)]
    workspace = work / ".birdemb"
    birdemb.embed_recordings(worlds[0].data, encoder="melspec", workspace=workspace)
    fit(worlds[0].soundscapes, worlds[0].truth, "melspec", args.head, workspace)
    compare(worlds[1].soundscapes, worlds[1].truth, workspace, choices)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument(
        "--make-soundscapes", type=Path, default=REPOSITORY.parent / "shared" / "tools" / "make_soundscapes.py"
    )
    parser.add_argument("--encoder", action="append", help="default: birdnet-2.4 and melspec")
    parser.add_argument("--head", default="lr")
    parser.add_argument("--soundscapes", type=int, default=40)
    parser.add_argument("--place", action="append", choices=("birds", "world"), help="default: both")
    parser.add_argument("--work", type=Path, help="keep everything here")
    args = parser.parse_args()

    work = args.work or Path(tempfile.mkdtemp(prefix="postprocessing-"))
    choices = (
        "none",
        "auto",
        "smooth=0.1",
        "smooth=0.2:confidence=window",
        "raise",
        "scale=0.4",
        "scale=0.4,smooth=0.1",
    )

    places = args.place or ["birds", "world"]
    if "birds" in places:
        try_birds(work / "birds", args, choices)
    if "world" in places:
        try_world(work, args, choices)


if __name__ == "__main__":
    main()
