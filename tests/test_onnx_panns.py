"""PANNs in ONNX graphs with heads: true architectures with random numbers, against birdemb."""

import shutil
import sys

import pytest
from head_data import NAMES as HEADS
from onnx_bundles import assert_gives_what_birdemb_gives, fit, run_export
from panns_checkpoints import NETWORKS, SMALL

pytestmark = pytest.mark.slow  # torch alone takes seconds to import


@pytest.mark.parametrize("name", NETWORKS)
def test_samples_in_and_probabilities_out(panns_card, tmp_path, name):
    # Of the one that takes long over them, short windows: it hears any length in the same way.
    encoder, bundle = fit(panns_card(name), tmp_path, window=1.0 if name == "panns-cnn14" else 5.0)
    report = run_export(tmp_path)
    assert (report.encoder, report.licence) == ("own", encoder.card.licence)
    assert report.embedding_difference < 1e-4
    assert_gives_what_birdemb_gives(report, encoder, bundle)


def test_all_heads_start_from_the_network_s_own_logits(panns_card, tmp_path):
    encoder, bundle = fit(panns_card(SMALL), tmp_path, heads=HEADS, kept_logits=True)
    assert_gives_what_birdemb_gives(run_export(tmp_path), encoder, bundle)


def test_neither_torch_nor_the_checkpoint_is_needed(panns_card, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(panns_card(SMALL).parent, copy)
    encoder, bundle = fit(copy / "own.toml", tmp_path)
    (copy / encoder.card.weights.file).unlink()
    for package in ("torch", "torchlibrosa", "panns_inference"):
        monkeypatch.setitem(sys.modules, package, None)
    assert_gives_what_birdemb_gives(run_export(tmp_path), encoder, bundle)


def test_windows_of_less_than_a_second_are_padded(panns_card, tmp_path):
    encoder, bundle = fit(panns_card(SMALL), tmp_path, window=0.25)
    assert_gives_what_birdemb_gives(run_export(tmp_path), encoder, bundle)
