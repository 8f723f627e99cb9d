"""What heads gain from what the encoder already knows, and from each way of reweighting: on 14 real species.

    python tests/benchmarks/priors.py --data FOLDER --make-soundscapes SCRIPT [--work FOLDER]

Takes what `birds14.py` beside this file takes, and scores as it does: macro ROC-AUC / macro average precision on
unheard recordings and on mixed soundscapes. Every second species gets a name that says nothing, so that the encoder's
knowledge of it is withheld: the figures are for known and for withheld species apart, of one and the same fit.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pandas as pd
from birds14 import REPOSITORY, lay_out

import birdemb
from birdemb.classify.heads import HEADS
from birdemb.classify.reweighting import RULES
from birdemb.submission import read_scores

SETS = (("test", "test", "test-truth.csv"), ("mixed", "mixed/soundscapes", "mixed/truth.csv"))


def withhold(work: Path) -> list[str]:
    """Rename every second species in the labels and in the truths; gives the new names."""
    table = pd.read_csv(work / "data" / "train.csv", keep_default_na=False)
    species = sorted(table["primary_label"].unique())
    renamed = {name: f"withheld{index:02}" for index, name in enumerate(species) if index % 2}
    hidden = table["primary_label"].isin(renamed)
    table["primary_label"] = table["primary_label"].replace(renamed)
    table.loc[hidden, ["scientific_name", "common_name"]] = ""
    table.to_csv(work / "data" / "train.csv", index=False)
    for _, _, truth in SETS:
        read_scores(work / truth).rename(columns=renamed).to_csv(work / truth, index=False)
    return sorted(renamed.values())


def score(work: Path, withheld: list[str], **settings: str) -> dict[str, float]:
    birdemb.fit(workspace=work / ".birdemb", **settings)
    row = {}
    for name, folder, truth in SETS:
        result = work / "result.csv"
        birdemb.predict_folder(work / folder, output=result, workspace=work / ".birdemb")
        classes = birdemb.evaluate(result, work / truth).classes
        for kind, chosen in (
            ("known", ~classes["class"].isin(withheld)),
            ("withheld", classes["class"].isin(withheld)),
        ):
            means = classes.loc[chosen, ["roc_auc", "average_precision"]].mean()
            row[f"{name}, {kind}"] = f"{means.roc_auc:.3f} / {means.average_precision:.3f}"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument(
        "--make-soundscapes", type=Path, default=REPOSITORY.parent / "shared" / "tools" / "make_soundscapes.py"
    )
    parser.add_argument("--encoder", default="birdnet-2.4")
    parser.add_argument("--head", action="append", help="default: all")
    parser.add_argument("--soundscapes", type=int, default=20)
    parser.add_argument("--work", type=Path, help="an empty folder to keep everything in")
    args = parser.parse_args()

    work = args.work or Path(tempfile.mkdtemp(prefix="priors-"))
    lay_out(args.data, args.make_soundscapes, work, args.soundscapes)
    withheld = withhold(work)
    birdemb.embed_recordings(work / "data", encoder=args.encoder, workspace=work / ".birdemb")
    heads = args.head or [*HEADS]
    rows = [
        {"head": head, "prior": prior, "reweight": "balanced"}
        for head in heads
        for prior in ("none", "features", "offset")
    ]
    rows += [
        {"head": head, "prior": "offset", "reweight": rule}
        for head in heads
        for rule in ("none", *RULES)
        if rule != "balanced"
    ]
    table = [row | score(work, withheld, **row) for row in rows]
    print(pd.DataFrame(table).to_string(index=False))


if __name__ == "__main__":
    main()
