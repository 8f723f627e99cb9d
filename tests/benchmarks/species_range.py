"""What the range model was not trained on, and how fast it is.

    python tests/benchmarks/species_range.py [--step 0.5] [--range-model PATH]

Asks for every place on a grid from 60 S to 84 N, in the whole year and in two weeks, and prints the classes whose
occurrence reaches the card's threshold nowhere: its
`not_modelled` was made by it. On one core half a degree takes three minutes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from birdemb.embed.species_range import WHOLE_YEAR, load_species_range

WEEKS = (WHOLE_YEAR, 12, 36)
AT_ONCE = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", type=float, default=0.5, help="of the grid, in degrees")
    parser.add_argument("--range-model", type=Path)
    arguments = parser.parse_args()

    model = load_species_range(arguments.range_model)
    latitudes, longitudes = np.meshgrid(np.arange(-60, 84.01, arguments.step), np.arange(-180, 180, arguments.step))
    most = np.zeros(len(model.classes), np.float32)
    model.occurrence(0, 0)  # compiles
    started = time.perf_counter()
    for week in WEEKS:
        places = np.stack([latitudes.ravel(), longitudes.ravel(), np.full(latitudes.size, week)], axis=1)
        for start in range(0, len(places), AT_ONCE):
            np.maximum(most, model.occurrences(places[start : start + AT_ONCE]).max(axis=0), out=most)
    asked = len(WEEKS) * latitudes.size
    print(f"{asked:,} places and weeks, {(time.perf_counter() - started) / asked * 1e6:.0f} microseconds each")
    nowhere = [entry.scientific for entry, top in zip(model.classes, most, strict=True) if top < model.card.threshold]
    for name in nowhere:
        print(f'    "{name}",')
    listed = set(model.card.not_modelled)
    print(f"{len(nowhere)} classes; {len(set(nowhere) ^ listed)} of them or of the card's are not in both")


if __name__ == "__main__":
    main()
