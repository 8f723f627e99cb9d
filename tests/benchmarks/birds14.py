"""How well each head recognises 14 real species: macro ROC-AUC on unheard recordings and on mixed soundscapes.

    python tests/benchmarks/birds14.py --data FOLDER --make-soundscapes SCRIPT [--encoder birdnet-2.4] [--work FOLDER]

FOLDER holds `birds14/` (BirdCLEF's layout, two recordings a species, with `split.csv` that says which of them is to be
trained on and which is to be tested on), `background/` and `noise/`. SCRIPT mixes the test recordings into labelled
soundscapes. Fitted on the train recordings alone; every window of a test recording counts as its species.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

import birdemb
from birdemb.classify.heads import HEADS
from birdemb.embed.recordings import find_recordings
from birdemb.embed.windows import WindowGrid, stream_windows

REPOSITORY = Path(__file__).parents[2]


def lay_out(data: Path, script: Path, work: Path, soundscapes: int) -> None:
    """Put train recordings, test recordings with their truth, and soundscapes with theirs into `work`."""
    birds = data / "birds14"
    split = pd.read_csv(birds / "split.csv")
    table = pd.read_csv(birds / "train.csv", keep_default_na=False)
    for row in split.itertuples():
        target = work / ("data/train_audio" if row.split == "train" else "test") / row.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(birds / "train_audio" / row.filename, target)
    train = set(split.loc[split["split"] == "train", "filename"])
    table[table["filename"].isin(train)].to_csv(work / "data" / "train.csv", index=False)

    rows = []
    for row in split[split["split"] == "test"].itertuples():
        (recording,) = find_recordings(work / "test" / row.filename).recordings
        count = sum(len(windows) for windows, _ in stream_windows(recording, 48_000, WindowGrid()))
        rows += [(f"{Path(row.filename).stem}_{5 * (i + 1)}", row.primary_label) for i in range(count)]
    truth = pd.DataFrame(rows, columns=["row_id", "class"])
    truth = pd.concat([truth["row_id"], pd.get_dummies(truth["class"], dtype=int)], axis=1)
    truth.to_csv(work / "test-truth.csv", index=False)

    parts = [
        f"--{name}={data / folder}"
        for name, folder in (("recordings", "birds14"), ("background", "background"), ("noise", "noise"))
    ]
    subprocess.run(
        [sys.executable, script, *parts, f"--out={work / 'mixed'}", f"--soundscapes={soundscapes}"], check=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument(
        "--make-soundscapes", type=Path, default=REPOSITORY.parent / "shared" / "tools" / "make_soundscapes.py"
    )
    parser.add_argument("--encoder", action="append", help="default: birdnet-2.4 and melspec")
    parser.add_argument("--head", action="append", help="default: all")
    parser.add_argument("--soundscapes", type=int, default=20)
    parser.add_argument("--work", type=Path, help="keep everything here")
    args = parser.parse_args()

    work = args.work or Path(tempfile.mkdtemp(prefix="birds14-"))
    if not (work / "mixed" / "truth.csv").exists():
        lay_out(args.data, args.make_soundscapes, work, args.soundscapes)
    workspace = work / ".birdemb"
    rows = []
    for encoder in args.encoder or ["birdnet-2.4", "melspec"]:
        embedded = birdemb.embed_recordings(work / "data", encoder=encoder, workspace=workspace)
        speed = embedded.run.fresh_seconds / embedded.run.elapsed
        print(
            f"{encoder}: {embedded.listing.windows} windows of {len(embedded.listing.recordings)} recordings, "
            f"{speed:.0f} x real time"
        )
        for head in args.head or HEADS:
            fitted = birdemb.fit(head, workspace=workspace)
            row = {"encoder": encoder, "head": head, "fit (s)": fitted.elapsed}
            for name, folder, truth in (
                ("test", "test", "test-truth.csv"),
                ("mixed", "mixed/soundscapes", "mixed/truth.csv"),
            ):
                result = work / f"{encoder}-{head}-{name}.csv"
                birdemb.predict_folder(work / folder, output=result, workspace=workspace)
                scores = birdemb.evaluate(result, work / truth)
                row |= {f"{name} ROC-AUC": scores.macro_roc_auc, f"{name} AP": scores.macro_average_precision}
            rows.append(row)
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
