"""Quantizing an encoder: windows are chosen, its trunk is quantized, measured and written.

What is lost by 8-bit integers is measured on windows of recordings that were not calibrated with. Where that misses a
goal, the convolutions that lose most are left in float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from birdemb.defaults import DEFAULT_ENCODER
from birdemb.embed.birdnet import PASSES_AT_ONCE, Passes
from birdemb.embed.calibration import Calibration, choose_windows
from birdemb.embed.card import Card
from birdemb.embed.catalogue import load_card
from birdemb.embed.places import weights_folder
from birdemb.embed.precision import require_precision
from birdemb.embed.quantized import FORMAT, GRAPH_FILE, RECORD_FILE, TENSORS_FILE, name_files
from birdemb.embed.quantizer import Quantizer, Rows, import_nncf
from birdemb.embed.remote import hide_secrets
from birdemb.embed.weights import find_weights
from birdemb.embed.windows import WindowGrid
from birdemb.errors import InputError
from birdemb.storage import check_writable, hash_file, replace_folder_atomically, write_json

__all__ = ["FloatLayer", "QuantizationReport", "quantize_encoder"]

_WINDOW = 5.0  # seconds; other lengths use the same network
_LEFT_IN_FLOAT = (0, 1, 2, 4, 8, 16)  # tried in this order until the goal is met
_ALONE_WINDOWS = 20
_TIMED_ROUNDS = 12


@dataclass(frozen=True)
class FloatLayer:
    """A convolution that stays in float32 because it was measured to need it.

    Parameters
    ----------
    number : int
        Among all of the trunk's convolutions, counted from 0 in the order in which they are computed.
    kernel : list of int
        Its shape: channels out, channels in, height, width.
    cosine : float
        Mean cosine to the float32 embeddings with this convolution alone in int8.
    """

    number: int
    kernel: list[int]
    cosine: float


@dataclass(frozen=True)
class QuantizationReport:
    """What a quantization made, and how near it is to the original.

    Parameters
    ----------
    folder : Path
        Where the network was written.
    sha256 : str
        Names the network, in the identity of its embeddings.
    convolutions, quantized : int
        How many the trunk has, and how many of these compute in int8.
    float_layers : list of FloatLayer
        Those left in float32 by measurement, beside those that always are.
    cosine_mean, cosine_worst : float
        To the float32 embeddings, over the windows that were held out.
    bytes, float_bytes : int
        Size of the network's files, and of the same ones in float32.
    milliseconds, float_milliseconds, front_end_milliseconds : float
        For one window of 5 s in one thread: the trunk in int8, the trunk in float32, and the spectrograms that come
        before either. The best of several rounds in turn.
    calibration : Calibration
        The windows.
    """

    folder: Path
    sha256: str
    convolutions: int
    quantized: int
    float_layers: list[FloatLayer]
    cosine_mean: float
    cosine_worst: float
    bytes: int
    float_bytes: int
    milliseconds: float
    float_milliseconds: float
    front_end_milliseconds: float
    calibration: Calibration


def quantize_encoder(
    name: str = DEFAULT_ENCODER,
    *,
    calibrate: str | Path,
    windows: int = 200,
    output: Path | None = None,
    weights: Path | None = None,
    force: bool = False,
    goal_mean: float = 0.99,
    goal_worst: float = 0.97,
    tell: Callable[[str], None] = lambda _: None,
) -> QuantizationReport:
    """Make an encoder's int8 network, measure it and write it to where ``load_encoder(precision="int8")`` finds it.

    Parameters
    ----------
    name : str
        An encoder whose card has the precision ``"int8"``.
    calibrate : str or Path
        A folder of recordings such as those that will be embedded.
    windows : int
        How many windows of 5 s of these to calibrate with.
    output : Path, optional
        The folder of weights to write to, in a folder of its own there; the usual one by default.
    weights : Path, optional
        The encoder's weights; where they are looked for otherwise says `find_weights`.
    force : bool
        Whether to replace a network that is there. Embeddings that were made with it cannot be made again.
    goal_mean, goal_worst : float
        Cosine to the float32 embeddings, on average and of the worst window, that has to be reached on windows that
        were held out. Where it is missed, the convolutions that lose most are left in float32.
    tell : callable
        Is given a line at each step.

    Returns
    -------
    QuantizationReport

    Raises
    ------
    InputError
        If the encoder has no int8, there is a network already, the recordings are too few, or the goal is out of reach.
    MissingDependencyError
        If NNCF is not installed.
    """
    card = load_card(name)
    require_precision(card, "int8")
    import_nncf()
    target = (output or weights_folder()) / f"{card.name}-int8"
    if target.exists() and not force:
        raise InputError(
            f"There is an int8 network in {target} already, and embeddings made with it could not be made again "
            "without it. Keep it, write another with --output FOLDER, or replace it with --force."
        )
    check_writable(target.parent / f"{target.name}.json")
    weights_file = find_weights(card, weights).path
    passes = Passes(weights_file, round(_WINDOW * card.sample_rate), card.dim, "f32")
    trunk = Quantizer(passes)
    tell(f"Choosing windows from the recordings in {hide_secrets(str(calibrate))} ...")
    chosen = choose_windows(
        calibrate,
        windows=windows,
        sample_rate=card.sample_rate,
        grid=WindowGrid(_WINDOW, _WINDOW),
        look=trunk.look,
        embed=lambda spectrograms: trunk.run(trunk.exact, spectrograms),
    )
    model, float_layers, cosines = _reach_goal(trunk, chosen, goal_mean, goal_worst, tell)
    tell("Measuring ...")
    with replace_folder_atomically(target) as temporary:
        ov.save_model(trunk.model, temporary / GRAPH_FILE, compress_to_fp16=False)
        float_bytes = _count_bytes(temporary)
        ov.save_model(model, temporary / GRAPH_FILE, compress_to_fp16=False)
        hashes = {file: hash_file(temporary / file) for file in (GRAPH_FILE, TENSORS_FILE)}
        report = QuantizationReport(
            folder=target,
            sha256=name_files(hashes),
            convolutions=len(trunk.convolutions),
            quantized=len(trunk.quantizable) - len(float_layers),
            float_layers=float_layers,
            cosine_mean=float(cosines.mean()),
            cosine_worst=float(cosines.min()),
            bytes=_count_bytes(temporary),
            float_bytes=float_bytes,
            **_time(trunk, model, chosen.held_out),
            calibration=chosen,
        )
        write_json(temporary / RECORD_FILE, _record(report, card, hashes, passes, (goal_mean, goal_worst)))
    return report


def _reach_goal(
    trunk: Quantizer, chosen: Calibration, goal_mean: float, goal_worst: float, tell: Callable[[str], None]
) -> tuple[ov.Model, list[FloatLayer], Rows]:
    """Quantize with as few convolutions left in float32 as the goal allows."""
    worst_first: list[FloatLayer] = []
    cosines = np.zeros(1, np.float32)
    for count in _LEFT_IN_FLOAT:
        if count and not worst_first:
            tell(f"Measuring each of {len(trunk.quantizable)} convolutions alone ...")
            worst_first = _measure_alone(trunk, chosen)
        left = worst_first[:count]
        tell(f"Quantizing {len(trunk.quantizable) - len(left)} convolutions with {len(chosen.inputs)} windows ...")
        names = {layer.number for layer in left}
        model = trunk.quantize([number for number in trunk.quantizable if number not in names], chosen.inputs)
        cosines = trunk.compare(model, chosen.held_out)
        tell(f"  cosine to float32: mean {cosines.mean():.4f}, worst {cosines.min():.4f}")
        if cosines.mean() >= goal_mean and cosines.min() >= goal_worst:
            return model, left, cosines
    raise InputError(
        f"With {_LEFT_IN_FLOAT[-1]} convolutions left in float32 the cosine to float32 is {cosines.mean():.4f}, the "
        f"worst {cosines.min():.4f}; expected {goal_mean:g} and {goal_worst:g}. Nothing was written. Calibrate with "
        "more windows, or with more varied recordings."
    )


def _measure_alone(trunk: Quantizer, chosen: Calibration) -> list[FloatLayer]:
    """Quantize each convolution alone, and sort them by what that loses, the worst first."""
    inputs, held_out = chosen.inputs[:_ALONE_WINDOWS], chosen.held_out[:_ALONE_WINDOWS]
    layers = [
        FloatLayer(
            number,
            list(trunk.convolutions[number].input(1).get_shape()),
            float(trunk.compare(trunk.quantize([number], inputs, correct_bias=False), held_out).mean()),
        )
        for number in trunk.quantizable
    ]
    return sorted(layers, key=lambda layer: layer.cosine)


def _time(trunk: Quantizer, model: ov.Model, spectrograms: Rows) -> dict[str, float]:
    """Time the networks in turn, so that whatever else the machine does is as bad for each."""
    batch = np.resize(spectrograms, (PASSES_AT_ONCE, *spectrograms.shape[1:]))
    noise = np.random.default_rng(0).normal(0, 0.1, (PASSES_AT_ONCE, trunk.samples)).astype(np.float32)
    request = trunk.compile(model)
    steps: dict[str, Callable[[], object]] = {
        "milliseconds": lambda: request.infer([batch]),
        "float_milliseconds": lambda: trunk.exact.infer([batch]),
        "front_end_milliseconds": lambda: trunk.look(noise),
    }
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(_TIMED_ROUNDS):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            best[name] = min(best[name], 1000 * (time.perf_counter() - started) / PASSES_AT_ONCE)
    return best


def _record(
    report: QuantizationReport, card: Card, hashes: dict[str, str], passes: Passes, goal: tuple[float, float]
) -> dict[str, Any]:
    core = passes.network.core
    packages = ("nncf", "numpy", "openvino")
    return {
        "format": FORMAT,
        "encoder": card.name,
        "weights_sha256": card.weights.sha256 if card.weights else None,
        "licence": card.licence,
        "files": hashes,
        "sha256": report.sha256,
        "bytes": report.bytes,
        "float_bytes": report.float_bytes,
        "milliseconds_a_window": {
            "trunk_int8": report.milliseconds,
            "trunk_f32": report.float_milliseconds,
            "front_end": report.front_end_milliseconds,
            "processor": core.get_property("CPU", "FULL_DEVICE_NAME"),
            "capabilities": sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
        },
        "cosine_to_f32": {
            "mean": report.cosine_mean,
            "worst": report.cosine_worst,
            "windows": len(report.calibration.held_out),
            "goal_mean": goal[0],
            "goal_worst": goal[1],
        },
        "convolutions": {
            "all": report.convolutions,
            "int8": report.quantized,
            "left_in_f32_by_measurement": [asdict(layer) for layer in report.float_layers],
        },
        "calibration": {
            "windows": len(report.calibration.inputs),
            "window_seconds": _WINDOW,
            "recordings": report.calibration.recordings,
            "skipped": len(report.calibration.skipped),
            "sha256": report.calibration.sha256,
        },
        "versions": {package: version(package) for package in packages},
    }


def _count_bytes(folder: Path) -> int:
    return sum((folder / file).stat().st_size for file in (GRAPH_FILE, TENSORS_FILE))
