"""What the commands and functions take where the user says nothing. Imports nothing, as `--help` shows it."""

from pathlib import Path

__all__ = ["DEFAULT_ENCODER", "DEFAULT_WORKSPACE", "DEMO_ENCODER", "DEMO_FOLDER"]

DEFAULT_ENCODER = "birdnet-2.4"
DEFAULT_WORKSPACE = Path(".birdemb")
DEMO_ENCODER = "melspec"
DEMO_FOLDER = Path("birdemb-demo")
