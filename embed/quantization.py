"""Quantizing an encoder: windows are chosen, its network is stored in fewer bits, measured and written.

What is lost is measured on windows of recordings that were not calibrated with: the cosine to the float32 embeddings,
and, where there are labels, what heads lose. Where 8-bit integers miss a goal, the convolutions that lose most are left
in float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import openvino as ov

from birdemb.defaults import DEFAULT_ENCODER
from birdemb.embed.calibration import Calibration, choose_windows
from birdemb.embed.card import Card
from birdemb.embed.catalogue import load_card
from birdemb.embed.encoder import Encoder, load_encoder
from birdemb.embed.places import weights_folder
from birdemb.embed.precision import require_precision
from birdemb.embed.quantization_files import weigh, write_network
from birdemb.embed.quantization_record import AucLoss, FloatLayer, Gate, QuantizationReport, Timing
from birdemb.embed.quantized import RECORD_FILE
from birdemb.embed.quantizer import Quantizer, cosines_of, import_nncf
from birdemb.embed.remote import hide_secrets
from birdemb.embed.trunk import Rows, Trunk
from birdemb.embed.windows import WindowGrid
from birdemb.errors import InputError
from birdemb.storage import check_writable

__all__ = ["MADE_PRECISIONS", "MAX_AUC_LOSS", "MIN_COSINE", "MIN_WORST_COSINE", "Judge", "quantize_encoder"]

MADE_PRECISIONS = ("int8", "f16", "bf16")
"""What can be made and measured; of bf16 there is nothing to make."""

MAX_AUC_LOSS = 0.002
"""What heads may lose in macro ROC-AUC."""

MIN_COSINE, MIN_WORST_COSINE = 0.99, 0.97
"""What the cosine to float32 has to be, on average and of the worst window."""

_LEFT_IN_FLOAT = (0, 1, 2, 4, 8, 16)  # tried in this order until the goal is met
_ALONE_WINDOWS = 20
_MOST_BLAMED = 3
_TIMED_ROUNDS = 12


@dataclass(frozen=True)
class Judge:
    """What tells what heads lose, for which embeddings alone are no use.

    Parameters
    ----------
    labelled : set of str
        Names of the recordings that it can judge; none where it cannot.
    measure : callable
        Is given the recording of each window, its float32 embedding and the other one; gives an `AucLoss`, or raises
        `InputError` where these windows are not enough.
    reason : str
        Why it cannot judge.
    """

    labelled: Set[str] = frozenset()
    measure: Callable[[Sequence[str], Rows, Rows], AucLoss] | None = None
    reason: str = "nobody asked for it"


@dataclass(frozen=True)
class _Candidate:
    """A network as it was measured."""

    model: ov.Model
    cosines: Rows
    gate: Gate
    float_layers: list[FloatLayer] = field(default_factory=list)
    quantized: int = 0


def quantize_encoder(
    name: str = DEFAULT_ENCODER,
    *,
    calibrate: str | Path,
    precision: str = "int8",
    windows: int = 200,
    output: Path | None = None,
    weights: str | Path | None = None,
    force: bool = False,
    goal_mean: float = MIN_COSINE,
    goal_worst: float = MIN_WORST_COSINE,
    judge: Judge = Judge(),
    max_auc_loss: float = MAX_AUC_LOSS,
    accept_loss: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> QuantizationReport:
    """Make an encoder's network with fewer bits, measure it and write it to where ``load_encoder`` finds it.

    Parameters
    ----------
    name : str
        An encoder whose card has the precision, or the path of a user's own card.
    calibrate : str or Path
        A folder of recordings such as those that will be embedded.
    precision : "int8", "f16" or "bf16"
        Of bf16, which every float32 network can be computed in, nothing is made: it is only measured.
    windows : int
        How many windows of these to calibrate with, as long as the network hears in one pass.
    output : Path, optional
        The folder of weights to write to, in a folder of its own there; the usual one by default.
    weights : path, URL or handle, optional
        The encoder's weights, or where to get them; where they are looked for otherwise says `find_weights`.
    force : bool
        Whether to replace a network that is there. Embeddings that were made with it cannot be made again.
    goal_mean, goal_worst : float
        Cosine to the float32 embeddings, on average and of the worst window, that int8 has to reach on windows that
        were held out. Where it is missed, the convolutions that lose most are left in float32.
    judge : Judge
        Tells what heads lose; without it the gate is not measured.
    max_auc_loss : float
        What heads may lose in macro ROC-AUC. Where they lose more in int8, convolutions are left in float32 as well;
        where that is not enough, the network is written, but refuses to embed.
    accept_loss : bool
        Whether it is to embed all the same.
    tell : callable
        Is given a line at each step.

    Returns
    -------
    QuantizationReport

    Raises
    ------
    InputError
        If the encoder has no such precision, this processor has not, there is a network already, the recordings are
        too few, or the goal is out of reach.
    MissingDependencyError
        If NNCF is not installed, for int8.
    """
    card = _check(name, precision)
    target = (output or weights_folder()) / f"{card.name}-{precision}"
    if precision != "bf16":
        if target.exists() and not (target / RECORD_FILE).is_file():
            raise InputError(
                f"{target} is no network that `birdemb quantize` has made, and is not replaced by one. Write to "
                "another folder with --output FOLDER, or move it away."
            )
        if target.exists() and not force:
            raise InputError(
                f"There is an {precision} network in {target} already, and embeddings made with it could not be made "
                "again without it. Keep it, write another with --output FOLDER, or replace it with --force."
            )
        check_writable(target.parent / f"{target.name}.json")
    encoder = load_encoder(name, weights=weights)
    trunk = encoder.read_trunk()
    if trunk is None:
        raise InputError(f"{_say_why_not(encoder)} Embed with --precision f32.")
    quantizer = Quantizer(trunk, card.name)
    tell(f"Choosing windows from the recordings in {hide_secrets(str(calibrate))} ...")
    chosen = choose_windows(
        calibrate,
        windows=windows,
        sample_rate=card.sample_rate,
        grid=WindowGrid(trunk.seconds, trunk.seconds),
        look=trunk.look,
        embed=lambda inputs: quantizer.run(quantizer.exact, inputs),
        labelled=judge.labelled,
    )
    measure = _Measure(quantizer, chosen, judge, Gate(max_auc_loss, accepted=accept_loss))
    if precision == "int8":
        made = _reach_goal(measure, goal_mean, goal_worst, tell)
    else:
        made = measure(quantizer.halve() if precision == "f16" else quantizer.model, precision)
        tell(f"  {_describe(made)}")
    tell("Measuring ...")
    report = QuantizationReport(
        precision=precision,
        folder=target if precision != "bf16" else None,
        sha256="",
        convolutions=len(quantizer.convolutions),
        quantized=made.quantized,
        float_layers=made.float_layers,
        cosine_mean=float(made.cosines.mean()),
        cosine_worst=float(made.cosines.min()),
        bytes=0,
        float_bytes=0,
        timing=_time(quantizer, made.model, _arithmetic(precision), chosen.held_out),
        gate=made.gate,
        calibration=chosen,
    )
    float_bytes = weigh(quantizer.model)
    if precision == "bf16":
        return replace(report, bytes=float_bytes, float_bytes=float_bytes)
    return write_network(report, made.model, float_bytes, card, encoder.weights_sha256)


def _check(name: str, precision: str) -> Card:
    """Give the card of an encoder that has a precision; anything missing is told before the work."""
    if precision not in MADE_PRECISIONS:
        raise InputError(f"--precision is {precision!r}; expected {', '.join(MADE_PRECISIONS)}.")
    card = load_card(name)
    require_precision(card, precision)
    if precision == "int8":
        import_nncf()
    return card


def _say_why_not(encoder: Encoder) -> str:
    """Say why an encoder has no trunk."""
    card = encoder.card
    if card.kind != "openvino" or card.tensors is None:
        return f"{card.name} has no network that OpenVINO runs, which is what is quantized here."
    heard = 'one frame alone (layout "single")' if card.tensors.layout == "single" else "a fixed number of frames"
    return (
        f"The network of {card.name} hears {heard} in one pass, and what is quantized here has to hear any number of "
        "them. Export it anew with a first axis of any length."
    )


def _arithmetic(precision: str) -> str:
    """Give what a network computes in, beside its integers."""
    return "bf16" if precision == "bf16" else "f32"


class _Measure:
    """Measures networks on the windows that were chosen.

    Parameters
    ----------
    quantizer : Quantizer
    chosen : Calibration
    judge : Judge
    gate : Gate
        What is allowed.
    """

    def __init__(self, quantizer: Quantizer, chosen: Calibration, judge: Judge, gate: Gate) -> None:
        self.quantizer = quantizer
        self.chosen = chosen
        self._judge = judge
        self._gate = gate
        self._exact = quantizer.run(quantizer.exact, chosen.held_out)
        self._judged = quantizer.run(quantizer.exact, chosen.judged) if len(chosen.judged) else chosen.judged

    def __call__(self, model: ov.Model, precision: str = "int8") -> _Candidate:
        """Measure how near a network is, and what heads lose."""
        request = self.quantizer.compile(model, _arithmetic(precision))
        cosines = cosines_of(self.quantizer.run(request, self.chosen.held_out), self._exact)
        return _Candidate(model, cosines, self._judge_heads(request))

    def _judge_heads(self, request: ov.InferRequest) -> Gate:
        measure = self._judge.measure
        if measure is None:
            return replace(self._gate, reason=self._judge.reason)
        if not len(self._judged):
            return replace(self._gate, reason="all windows of labelled recordings were calibrated with")
        ours = self.quantizer.run(request, self.chosen.judged)
        try:
            return replace(self._gate, loss=measure(self.chosen.judged_recordings, self._judged, ours))
        except InputError as error:
            return replace(self._gate, reason=str(error))


def _reach_goal(measure: _Measure, goal_mean: float, goal_worst: float, tell: Callable[[str], None]) -> _Candidate:
    """Quantize with as few convolutions left in float32 as the goal and the gate allow.

    Where the gate allows none, the one that loses least of those that reach the goal.
    """
    quantizer, chosen = measure.quantizer, measure.chosen
    worst_first: list[FloatLayer] = []
    reached: list[_Candidate] = []
    near = _Candidate(quantizer.model, np.zeros(1, np.float32), Gate(0))
    for count in _LEFT_IN_FLOAT:
        if count > len(quantizer.quantizable):
            break
        if count and not worst_first:
            tell(f"Measuring each of {len(quantizer.quantizable)} convolutions alone ...")
            worst_first = _measure_alone(quantizer, chosen)
        left = worst_first[:count]
        tell(f"Quantizing {len(quantizer.quantizable) - len(left)} convolutions with {len(chosen.inputs)} windows ...")
        names = {layer.number for layer in left}
        numbers = [number for number in quantizer.quantizable if number not in names]
        near = replace(measure(quantizer.quantize(numbers, chosen.inputs)), float_layers=left, quantized=len(numbers))
        tell(f"  {_describe(near)}")
        if near.cosines.mean() >= goal_mean and near.cosines.min() >= goal_worst:
            if near.gate.result != "failed":
                return near
            reached.append(near)
    if reached:
        return min(reached, key=lambda candidate: candidate.gate.loss.refitted.value if candidate.gate.loss else 0.0)
    raise InputError(
        f"With {len(near.float_layers)} convolutions left in float32 the cosine to float32 is "
        f"{near.cosines.mean():.4f}, the worst {near.cosines.min():.4f}; expected {goal_mean:g} and {goal_worst:g}. "
        f"Nothing was written. Most is lost by {_blame(worst_first)}. Calibrate with more windows or with more varied "
        "recordings, or be content with less: --min-cosine, --min-worst-cosine."
    )


def _blame(worst_first: Sequence[FloatLayer]) -> str:
    """Name the convolutions that lose most, each with what it was measured to lose alone."""
    return ", ".join(
        f"convolution {layer.number} ({'x'.join(map(str, layer.kernel))}; alone in int8 {layer.cosine:.4f})"
        for layer in worst_first[:_MOST_BLAMED]
    )


def _describe(candidate: _Candidate) -> str:
    cosines, loss = candidate.cosines, candidate.gate.loss
    lost = f", loss in ROC-AUC {loss.refitted.value:+.4f}" if loss is not None else ""
    return f"cosine to float32: mean {cosines.mean():.4f}, worst {cosines.min():.4f}{lost}"


def _measure_alone(quantizer: Quantizer, chosen: Calibration) -> list[FloatLayer]:
    """Quantize each convolution alone, and sort them by what that loses, the worst first."""
    inputs, held_out = chosen.inputs[:_ALONE_WINDOWS], chosen.held_out[:_ALONE_WINDOWS]
    layers = [
        FloatLayer(
            number,
            list(quantizer.convolutions[number].input(1).get_shape()),
            float(quantizer.compare(quantizer.quantize([number], inputs, correct_bias=False), held_out).mean()),
        )
        for number in quantizer.quantizable
    ]
    return sorted(layers, key=lambda layer: layer.cosine)


def _time(quantizer: Quantizer, model: ov.Model, precision: str, inputs: Rows) -> Timing:
    """Time the networks in turn, so that whatever else the machine does is as bad for each."""
    trunk: Trunk = quantizer.trunk
    batch = np.resize(inputs, (trunk.at_once, *inputs.shape[1:]))
    noise = np.random.default_rng(0).normal(0, 0.1, (trunk.at_once, trunk.samples)).astype(np.float32)
    ours, exact = quantizer.compile_for_run(model, precision), quantizer.compile_for_run(quantizer.model)
    steps: dict[str, Callable[[], object]] = {
        "trunk": lambda: ours.infer([batch]),
        "float_trunk": lambda: exact.infer([batch]),
        "front_end": lambda: trunk.look(noise),
    }
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(_TIMED_ROUNDS):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            best[name] = min(best[name], 1000 * (time.perf_counter() - started) / trunk.at_once)
    return Timing(**best)
