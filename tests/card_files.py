"""Users' own cards, written for tests: those that birdemb brings, about other weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from birdemb.embed.catalogue import load_card


def write_card(folder: Path, like: str, file: str, *, name: str = "own", **changes) -> Path:
    """Write a card that says what another says, of weights that lie beside it and whose hash nobody knows.

    `changes` are keys of the card; of its tables by ``tensors={...}`` and so on, which change only what they name.
    """
    entries = dataclasses.asdict(load_card(like)) | {"name": name}
    del entries["place"]
    entries["weights"] |= {
        "file": file,
        "bytes": 0,
        "sha256": "",
        "package": "",
        "extra": "",
        "kaggle": "",
        "sources": [],
    }
    if entries["labels"]:
        entries["labels"] |= {"names_sha256": "", "package_path": "", "archive_member": ""}
    for key, value in changes.items():
        entries[key] = entries[key] | value if isinstance(value, dict) and entries[key] else value
    path = folder / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_to_toml(entries), encoding="utf-8")
    return path


def own_card(folder: Path, file: str = "own.onnx", *, tensors: dict | None = None, **changes) -> str:
    """Write a card about `onnx_networks.NETWORK`, of whatever kind, and give its path as users do."""
    tensors = {"input": "waveform", "embedding": "embedding", "logits": "label", "scale": 1.0, "shift": 0.0} | (
        tensors or {}
    )
    plain = {
        "kind": "openvino",
        "sample_rate": 1000,
        "frame_seconds": 1.0,
        "dim": 8,
        "classes": 5 if tensors["logits"] else 0,
        "level": "none",
        "level_peak": 0.0,
        "labels": None,
    }
    return str(write_card(folder, "perch-2-onnx", file, tensors=tensors, **plain | changes))


def _to_toml(entries: dict) -> str:
    tables = {key: value for key, value in entries.items() if isinstance(value, dict)}
    lines = [
        f"{key} = {json.dumps(value)}" for key, value in entries.items() if value is not None and key not in tables
    ]
    for key, table in tables.items():
        lines += ["", f"[{key}]", *(f"{name} = {json.dumps(value)}" for name, value in table.items())]
    return "\n".join(lines) + "\n"
