"""Converted networks on disk, whatever they were converted from."""

import dataclasses

import pytest
from click.testing import CliRunner

from birdemb.embed.catalogue import load_card
from birdemb.embed.converted import find_converted, name_folder, write_record
from birdemb.embed.pins import write_pin
from birdemb.encoder_commands import encoders


@pytest.fixture
def card(tmp_path, monkeypatch):
    for name in ("BIRDEMB_MODELS", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    return load_card("panns-mobilenetv2")


@pytest.fixture
def folder(card, tmp_path):
    folder = name_folder(card, tmp_path)
    folder.mkdir()
    for name in ("mel_filters.npy", "trunk.xml", "trunk.bin"):
        (folder / name).write_text(name)
    write_record(folder, "5" * 64, {})
    return folder


def test_origin_of_its_hash_is_what_it_was_compared_with(card, folder):
    assert find_converted(card, [folder]).origin == "none"
    write_pin(card, folder, "5" * 64)
    assert find_converted(card, [folder]).origin == "recorded"
    ran = CliRunner().invoke(encoders, ["fetch", card.name, "--offline"], catch_exceptions=False)
    assert "recorded on this machine on first use" in ran.output
    published = dataclasses.replace(card, weights=dataclasses.replace(card.weights, sha256="5" * 64))
    assert find_converted(published, [folder]).origin == "published"
