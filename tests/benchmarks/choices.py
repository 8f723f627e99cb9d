"""What each way of reweighting, each transform of the embeddings and each penalty makes of the heads.

    python tests/benchmarks/choices.py --data FOLDER --make-soundscapes SCRIPT [--vary reweight] [--work FOLDER]

Scores on soundscapes, macro ROC-AUC / macro average precision, of heads as `birdemb fit` makes them. Three kinds of
worlds, each heard in two ways: 14 real species, with what `birds14.py` beside this file takes, learnt from one half of
the recordings and mixed from the other and the other way round, by BirdNET, without and with its own logits as prior;
worlds of `birdemb demo`; and worlds of the same species whose classes have from 2 to 150 recordings, both by melspec
and by BirdNET, which knows none of their classes. A column is the mean over the worlds of a kind. All that is not
varied is at its default; these tables are what the defaults of `--reweight`, `input_transform` and `C` are measured by.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from birds14 import REPOSITORY, lay_out

import birdemb
from birdemb.cache import EmbeddingCache
from birdemb.classify.ensemble import Heard, fit_member, score_member
from birdemb.classify.heads import HEADS
from birdemb.classify.members import make_members
from birdemb.classify.reweighting import RULES
from birdemb.metrics import average_precision_by_class, roc_auc_by_class
from birdemb.synthesis import make_world
from birdemb.training import TrainingData, read_heard, read_training_data
from birdemb.validation import ValidationRules, validate
from birdemb.workspace import Workspace

TRANSFORMS = ("none", "sqrt", "power:0.3", "unit", "sqrt+unit", "pca:64", "sqrt+pca:64")
SAME_TO_TREES = ("sqrt", "power:0.3")  # as none, to which their table would be equal
PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, "cv")  # the first is scikit-learn's default
USUAL_RULE = "sqrt"


@dataclass(frozen=True)
class Place:
    """Recordings to fit on, and soundscapes to score on.

    `columns` are those of the truth among the classes, `truth` has a row for each of the soundscapes' windows.
    """

    kind: str
    data: TrainingData
    soundscapes: Heard
    truth: np.ndarray
    columns: list[int]

    def score(self, head: str, reweight: str, parameters: dict[str, Any], jobs: int) -> tuple[float, float]:
        """Give macro ROC-AUC and macro average precision."""
        (member,) = make_members((head,), 1, {}, parameters, reweight=reweight, seed=0, jobs=jobs)
        data, prior = self.data, self.data.priors[0]
        (trust,) = validate([member], data, ValidationRules(cv=0)).trusts
        fit_member(member.head, data.heard[0], prior, data.targets, data.weights, data.groups)
        scores = score_member(replace(member, trust=trust), self.soundscapes, prior)[:, self.columns]
        aucs, precisions = (score(self.truth, scores) for score in (roc_auc_by_class, average_precision_by_class))
        return float(np.nanmean(aucs)), float(np.nanmean(precisions))


def read_place(kind: str, recordings: Path, soundscapes: Path, truth: Path, encoder: str, prior: str) -> Place:
    heard, told = (
        Workspace(recordings.parent / f".birdemb-{encoder}-{what}") for what in ("recordings", "soundscapes")
    )
    for folder, place in ((recordings, heard), (soundscapes, told)):
        birdemb.embed_recordings(folder, encoder=encoder, workspace=place.folder)
    data = read_training_data(heard, prior=prior)
    listing = told.last_listing()
    contents = [entry.sha256 for entry in listing.recordings]
    rows = [
        f"{Path(entry.recording).stem}_{5 * (index + 1)}"
        for entry in listing.recordings
        for index in range(entry.windows)
    ]
    expected = pd.read_csv(truth, index_col="row_id").loc[rows]
    labels = [name.label for name in data.classes]
    found = read_heard(EmbeddingCache(told.cache, listing.identity), contents, data.priors[0])
    return Place(kind, data, found, expected.to_numpy(bool), [labels.index(label) for label in expected.columns])


def swap_split(data: Path, folder: Path) -> Path:
    """Lay out the same recordings, those that were to be learnt from to be mixed, and the other way round."""
    if not folder.exists():
        shutil.copytree(data / "birds14", folder / "birds14", copy_function=shutil.copyfile)
        for name in ("background", "noise"):
            (folder / name).symlink_to((data / name).absolute())
        split = pd.read_csv(data / "birds14" / "split.csv")
        split["split"] = split["split"].map({"train": "test", "test": "train"})
        split.to_csv(folder / "birds14" / "split.csv", index=False)
    return folder


def make_places(work: Path, args: argparse.Namespace) -> list[Place]:
    places = []
    for name, data in (("birds14", args.data), ("birds14-swapped", swap_split(args.data, work / "swapped"))):
        real = work / name
        if not (real / "mixed" / "truth.csv").exists():
            lay_out(data, args.make_soundscapes, real, args.soundscapes)
        mixed = (real / "data", real / "mixed" / "soundscapes", real / "mixed" / "truth.csv")
        places.append(read_place("birds14, no prior", *mixed, "birdnet-2.4", "none"))
        places.append(read_place("birds14, prior", *mixed, "birdnet-2.4", "offset"))
    for size, kind, seeds in ((args.size, "demo", args.seeds), ("imbalanced", "imbalanced", args.imbalanced)):
        for seed in range(seeds):
            world = make_world(work / f"{kind}-{seed}", seed=seed, size=size)
            places += [
                read_place(f"{kind}, {encoder}", world.data, world.soundscapes, world.truth, encoder, "none")
                for encoder in ("melspec", "birdnet-2.4")
            ]
    return places


def list_choices(vary: str, heads: list[str]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Give head, name of the choice, reweighting and parameters."""
    for head in heads:
        if vary == "reweight":
            yield from ((head, rule, rule, {}) for rule in ("none", *RULES))
        elif vary == "transform":
            chains = [chain for chain in TRANSFORMS if head != "lgbm" or chain not in SAME_TO_TREES]
            yield from ((head, chain, USUAL_RULE, {"input_transform": chain}) for chain in chains)
        elif head == "lr":
            yield from ((head, f"C={C}", USUAL_RULE, {"C": C}) for C in PENALTIES)


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
    parser.add_argument("--size", choices=("small", "full"), default="full", help="of the demo worlds")
    parser.add_argument("--seeds", type=int, default=5, help="how many demo worlds")
    parser.add_argument("--imbalanced", type=int, default=2, help="how many imbalanced worlds")
    parser.add_argument("--jobs", type=int, default=-1)
    parser.add_argument("--work", type=Path, help="keep everything here")
    args = parser.parse_args()

    work = args.work or Path(tempfile.mkdtemp(prefix="choices-"))
    places = make_places(work, args)
    for vary in args.vary or ("reweight", "transform", "penalty"):
        rows = []
        for head, name, rule, parameters in list_choices(vary, args.head or [*HEADS]):
            scores = pd.DataFrame(
                [(place.kind, *place.score(head, rule, parameters, args.jobs)) for place in places],
                columns=["kind", "auc", "precision"],
            )
            means = scores.groupby("kind", sort=False).mean()
            rows.append(
                {"head": head, vary: name}
                | {row.Index: f"{row.auc:.3f} / {row.precision:.3f}" for row in means.itertuples()}
            )
            print(*rows[-1].values(), sep=", ", file=sys.stderr, flush=True)
        print(pd.DataFrame(rows).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
