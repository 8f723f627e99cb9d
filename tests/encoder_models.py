"""Stand-ins for the networks whose weights are not on this machine.

They are built with the framework of the real ones and have the same signatures and widths, only smaller insides; each
lies beside a card that says what birdemb's own card says, so that they are loaded as a user's weights are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx_networks
import panns_checkpoints
import tflite_networks
from card_files import write_card

from birdemb.embed.catalogue import load_card

BUILDERS: dict[str, Callable[[Path], None]] = {
    **onnx_networks.BUILDERS,
    **panns_checkpoints.BUILDERS,
    **tflite_networks.BUILDERS,
}
"""By the name of the card: what writes the weights, as a file or a folder of this path. Each kind's are in a file of
their own, which imports its framework only when it builds."""

SLOW_KINDS = ("panns", "savedmodel")
"""Whose framework alone takes seconds to import."""


def build(name: str, folder: Path, **changes) -> Path:
    """Build the stand-in for one encoder in an empty folder, and give the path of its card, whose name is ``own``."""
    file = Path(load_card(name).weights.file).name
    BUILDERS[name](folder / file)
    return write_card(folder, name, file, **changes)
