"""Soundscapes, bundles and slow encoders for tests of time budgets."""

import time

import numpy as np
import pandas as pd
from fit_files import FAST, write_noise

from birdemb.embed.melspec import MelspecEncoder
from birdemb.embedding import embed_recordings
from birdemb.fitting import fit


def fit_two_heads(world, folder):
    """Fit lr and lgbm on a small world, with an encoder that needs no weights."""
    embed_recordings(world.data, encoder="melspec", workspace=folder, jobs=1)
    return fit("lr,lgbm", workspace=folder, blend="mean", cv=0, jobs=1, parameters=FAST)


def write_soundscapes(folder, count, seconds=20, rate=8000):
    for index in range(count):
        write_noise(folder / f"s{index:02}.wav", seconds, seed=index, rate=rate)
    return folder


def check_table(path, rows, labels):
    """Make sure that a submission is complete and valid, and give it."""
    table = pd.read_csv(path)
    assert list(table.columns) == ["row_id", *labels]
    assert table["row_id"].tolist() == rows
    values = table[list(labels)].to_numpy()
    assert np.isfinite(values).all()
    assert ((values >= 0) & (values <= 1)).all()
    return table.set_index("row_id")


def rows_of(count, seconds=20):
    return [f"s{index:02}_{end}" for index in range(count) for end in range(5, seconds + 1, 5)]


def slow_down(monkeypatch, after, seconds):
    """Let the encoder take so long for each window, once it has heard some."""
    heard = 0
    encode = MelspecEncoder._encode

    def encode_slowly(self, windows):
        nonlocal heard
        heard += len(windows)
        if heard > after:
            time.sleep(seconds * len(windows))
        return encode(self, windows)

    monkeypatch.setattr(MelspecEncoder, "_encode", encode_slowly)
