"""The folder of a network with fewer bits, as it is written: whole, or not at all."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import openvino as ov

from birdemb.embed.card import Card
from birdemb.embed.quantization_record import QuantizationReport, Timing
from birdemb.embed.quantized import FORMAT, GRAPH_FILE, RECORD_FILE, TENSORS_FILE, name_files
from birdemb.errors import InputError
from birdemb.storage import hash_file, read_json, replace_folder_atomically, write_json

__all__ = ["weigh", "write_network"]

_RECORDED_PACKAGES = ("nncf", "numpy", "openvino")


def weigh(model: ov.Model) -> int:
    """Give the bytes that a model takes on disk."""
    with tempfile.TemporaryDirectory() as folder:
        return _save(model, Path(folder))


def write_network(
    report: QuantizationReport, model: ov.Model, float_bytes: int, card: Card, weights_sha256: str | None
) -> QuantizationReport:
    """Write a network and its record into the report's folder.

    Parameters
    ----------
    report : QuantizationReport
        Without the sha256 and the sizes.
    model : openvino.Model
        Its weights packed.
    float_bytes : int
        What the same takes in float32.
    card : Card
        Of the encoder.
    weights_sha256 : str or None
        Of those that it was made of.

    Returns
    -------
    QuantizationReport
        Complete. Where the very same network was there before, with the time that it took then: the time is part of
        the identity of its embeddings, which are to stay valid.
    """
    target = report.folder
    if target is None:
        raise ValueError("the report names no folder")
    core = ov.Core()
    with replace_folder_atomically(target) as temporary:
        size = _save(model, temporary)
        hashes = {file: hash_file(temporary / file) for file in (GRAPH_FILE, TENSORS_FILE)}
        report = replace(report, sha256=name_files(hashes), bytes=size, float_bytes=float_bytes)
        report = _keep_timing(report, target)
        write_json(
            temporary / RECORD_FILE,
            {
                "format": FORMAT,
                "encoder": card.name,
                "weights_sha256": weights_sha256,
                "licence": card.licence,
                "files": hashes,
                **report.record(),
                "processor": core.get_property("CPU", "FULL_DEVICE_NAME"),
                "capabilities": sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
                "versions": {package: found for package in _RECORDED_PACKAGES if (found := _installed(package))},
            },
        )
    return report


def _save(model: ov.Model, folder: Path) -> int:
    ov.save_model(model, folder / GRAPH_FILE, compress_to_fp16=False)
    return sum((folder / file).stat().st_size for file in (GRAPH_FILE, TENSORS_FILE))


def _keep_timing(report: QuantizationReport, target: Path) -> QuantizationReport:
    try:
        before: Any = read_json(target / RECORD_FILE)
        timing = Timing(**{key: float(value) for key, value in before["milliseconds_a_window"].items()})
        same = before["sha256"] == report.sha256
    except (InputError, OSError, KeyError, TypeError, ValueError, AttributeError):
        return report  # there was none, or none that can be read
    return replace(report, timing=timing) if same else report


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # only int8 needs NNCF
        return None
