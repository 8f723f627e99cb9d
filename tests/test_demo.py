"""The demonstration, as `make demo` runs it."""

import numpy as np
import pandas as pd
import pytest

from birdemb.demo import run_demo
from birdemb.errors import InputError


@pytest.mark.slow
def test_every_head_learns_the_full_world(tmp_path):
    report = run_demo(tmp_path / "demo")
    assert [score.head for score in report.scores] == ["lr", "mlp", "lgbm"]
    assert len(report.world.classes) >= 8
    for score in report.scores:
        assert score.macro_roc_auc > 0.7, score
        submission = pd.read_csv(score.submission)
        assert np.isfinite(submission.drop(columns="row_id").to_numpy()).all()


@pytest.mark.slow
def test_small_world_and_one_head(tmp_path):
    told = []
    report = run_demo(tmp_path / "demo", size="small", heads=["lr"], jobs=1, tell=told.append)
    assert report.scores[0].macro_roc_auc > 0.5
    assert report.embedded.labels.source.endswith("train.csv")
    assert len(told) == 3


def test_folder_with_something_else_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("do not touch")
    with pytest.raises(InputError):
        run_demo(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]
