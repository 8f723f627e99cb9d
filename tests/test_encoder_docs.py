"""The page on encoders: its tables say what the cards say, and its examples run."""

import dataclasses
import re
from pathlib import Path

import pytest
from audio_files import make_noise, write_audio
from test_docs import blocks

from birdemb.embed.card import Card, LabelFile, Source, Tensors, Weights
from birdemb.embed.catalogue import list_cards
from birdemb.embed.verification import FAILED, verify_encoder

PAGE = (Path(__file__).parents[1] / "docs" / "encoders.md").read_text(encoding="utf-8")
ENGINES = {
    "birdnet": "OpenVINO",
    "melspec": "NumPy",
    "openvino": "OpenVINO",
    "panns": "OpenVINO",
    "savedmodel": "TensorFlow",
    "tflite": "LiteRT",
}


def rows(page):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]


ENCODERS = rows(PAGE.partition("## The encoders that birdemb knows")[2].partition("\n## ")[0])


def test_the_table_has_no_encoder_without_a_card():
    assert [cells[0].strip("`") for cells in ENCODERS[2:]] == [card.name for card in list_cards()]


@pytest.mark.parametrize("card", list_cards(), ids=lambda card: card.name)
def test_every_encoder_is_in_the_table_as_its_card_has_it(card):
    (row,) = [cells for cells in ENCODERS if cells[0] == f"`{card.name}`"]
    whole = not card.frame_seconds or card.pooling == "whole"
    assert row[1:6] == [
        f"{card.sample_rate:,}",
        "any window whole" if whole else f"{card.frame_seconds:g} s",
        f"{card.dim:,}",
        f"{card.classes:,}" if card.classes else "",
        card.licence if card.weights else "none needed",
    ]
    assert row[6].startswith(ENGINES[card.kind])
    for source in card.weights.sources[:1] if card.weights else ():
        assert not source.bytes or f"{source.bytes / 1e6:.0f} MB" in row[8] or card.weights.extra


def test_every_key_of_a_card_is_explained():
    table = rows(PAGE.partition("## All keys")[2])
    said = {name for cells in table for name in re.findall(r"`([a-z_0-9]+)`", " ".join(cells))}
    tables = {"tensors", "weights", "sources", "labels"}
    for record in (Card, Tensors, Weights, Source, LabelFile):
        keys = {entry.name for entry in dataclasses.fields(record)} - tables - {"place"}
        assert keys <= said, keys - said


EXAMPLES = ("openvino", "openvino", "savedmodel", "torchscript", "tflite")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Converting a tensor")  # of torch's exporters
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_run_and_are_verified(number):
    write_audio(Path("data/a.wav"), make_noise(16_000 * 7), 16_000)
    examples = blocks("python", PAGE)
    assert [re.search('kind = "(.*)"', example)[1] for example in examples] == list(EXAMPLES)
    exec(compile(examples[number], "docs/encoders.md", "exec"), {})  # noqa: S102 - its own lines
    for card in Path().glob("*.toml"):
        assert [check for check in verify_encoder(str(card)) if check.state == FAILED] == []
