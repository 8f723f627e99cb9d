"""What each way of reweighting, each transform of the embeddings and each penalty makes of the heads.

    python tests/benchmarks/choices.py --data FOLDER --make-soundscapes SCRIPT [--vary reweight] [--work FOLDER]

Scores on soundscapes, macro ROC-AUC / macro average precision. Two sets of recordings, each heard in two ways: 14 real
species, with what `birds14.py` beside this file takes, by BirdNET, without and with its own logits as prior; and the
world of `birdemb demo`, by melspec and by BirdNET, which knows none of its classes. All that is not varied is at its
default; these tables are what the defaults of `--reweight`, `input_transform` and `C` are measured by.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from birds14 import REPOSITORY, lay_out

import birdemb
from birdemb.classify.heads import HEADS
from birdemb.classify.reweighting import RULES
from birdemb.synthesis import make_world

TRANSFORMS = ("none", "sqrt", "power:0.3", "unit", "sqrt+unit", "pca:64", "sqrt+pca:64")
SAME_TO_TREES = ("sqrt", "power:0.3")  # as none, to which their table would be equal
PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, "cv")  # the first is scikit-learn's default


@dataclass(frozen=True)
class Place:
    """Recordings to fit on, and soundscapes to score on."""

    name: str
    folder: Path
    soundscapes: Path
    truth: Path
    encoder: str
    prior: str

    @property
    def workspace(self) -> Path:
        return self.folder / f".birdemb-{self.encoder}"

    def score(self, head: str, reweight: str, parameters: dict[str, Any], jobs: int) -> str:
        birdemb.fit(
            head,
            reweight=reweight,
            prior=self.prior,
            cv=0,
            workspace=self.workspace,
            jobs=jobs,
            parameters={head: parameters},
        )
        result = self.folder / "result.csv"
        birdemb.predict_folder(self.soundscapes, output=result, workspace=self.workspace, jobs=jobs)
        scores = birdemb.evaluate(result, self.truth)
        return f"{scores.macro_roc_auc:.3f} / {scores.macro_average_precision:.3f}"


def make_places(work: Path, data: Path, script: Path, soundscapes: int, size: Any) -> list[Place]:
    real, demo = work / "birds14", work / "demo"
    if not (real / "mixed" / "truth.csv").exists():
        lay_out(data, script, real, soundscapes)
    world = make_world(demo, seed=0, size=size)
    mixed = (real, real / "mixed" / "soundscapes", real / "mixed" / "truth.csv")
    synthetic = (demo, world.soundscapes, world.truth)
    places = [
        Place("birds14, no prior", *mixed, "birdnet-2.4", "none"),
        Place("birds14, prior", *mixed, "birdnet-2.4", "offset"),
        Place("demo, melspec", *synthetic, "melspec", "none"),
        Place("demo, birdnet", *synthetic, "birdnet-2.4", "none"),
    ]
    for place in places:
        birdemb.embed_recordings(place.folder / "data", encoder=place.encoder, workspace=place.workspace)
    return places


def list_choices(vary: str, heads: list[str]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Give head, name of the choice, reweighting and parameters."""
    for head in heads:
        if vary == "reweight":
            yield from ((head, rule, rule, {}) for rule in ("none", *RULES))
        elif vary == "transform":
            chains = [chain for chain in TRANSFORMS if head != "lgbm" or chain not in SAME_TO_TREES]
            yield from ((head, chain, "balanced", {"input_transform": chain}) for chain in chains)
        elif head == "lr":
            yield from ((head, f"C={C}", "balanced", {"C": C}) for C in PENALTIES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument(
        "--make-soundscapes", type=Path, default=REPOSITORY.parent / "shared" / "tools" / "make_soundscapes.py"
    )
    parser.add_argument(
        "--vary", action="append", choices=("reweight", "transform", "penalty"), help="default: each of them"
    )
    parser.add_argument("--head", action="append", choices=HEADS, help="default: all")
    parser.add_argument("--soundscapes", type=int, default=60, help="of the real species")
    parser.add_argument("--size", choices=("small", "full"), default="full", help="of the demo world")
    parser.add_argument("--jobs", type=int, default=-1)
    parser.add_argument("--work", type=Path, help="keep everything here")
    args = parser.parse_args()

    work = args.work or Path(tempfile.mkdtemp(prefix="choices-"))
    places = make_places(work, args.data, args.make_soundscapes, args.soundscapes, args.size)
    for vary in args.vary or ("reweight", "transform", "penalty"):
        rows = []
        for head, name, rule, parameters in list_choices(vary, args.head or [*HEADS]):
            scores = {place.name: place.score(head, rule, parameters, args.jobs) for place in places}
            rows.append({"head": head, vary: name, **scores})
            print(*rows[-1].values(), sep=", ", file=sys.stderr, flush=True)
        print(pd.DataFrame(rows).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
