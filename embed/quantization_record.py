"""What is known of a network with fewer bits: the report on it, and the record that goes into its folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from birdemb.embed.calibration import Calibration

__all__ = ["GATES", "AucLoss", "Estimate", "FloatLayer", "Gate", "QuantizationReport", "Timing"]

GATES = ("passed", "failed", "not measured")
"""What the gate can have found."""


@dataclass(frozen=True)
class Estimate:
    """A measured value with its interval of 95 %.

    Parameters
    ----------
    value, low, high : float
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class AucLoss:
    """What heads lose in macro ROC-AUC, on windows of recordings that they were not fitted on.

    Parameters
    ----------
    roc_auc : float
        Of heads that were fitted on and fed with float32 embeddings.
    fed : Estimate
        The loss of the same heads, fed with embeddings of the other precision.
    refitted : Estimate
        The loss of heads that were fitted on and fed with these.
    windows, groups, classes : int
        How many were judged.
    splits : int
        How many ways to part the recordings into folds the losses are the means of.
    """

    roc_auc: float
    fed: Estimate
    refitted: Estimate
    windows: int
    groups: int
    classes: int
    splits: int


@dataclass(frozen=True)
class Gate:
    """Whether a network may be used.

    Parameters
    ----------
    most : float
        The largest loss in macro ROC-AUC that it may have.
    loss : AucLoss or None
    reason : str
        Why nothing was measured; empty where something was.
    accepted : bool
        Whether it is to be used even where it loses more.
    """

    most: float
    loss: AucLoss | None = None
    reason: str = ""
    accepted: bool = False

    @property
    def result(self) -> str:
        """One of `GATES`. A bundle's heads are refitted, so that their loss decides."""
        if self.loss is None:
            return "not measured"
        return "passed" if self.loss.refitted.value <= self.most else "failed"

    def record(self) -> dict[str, Any]:
        """Give it as JSON."""
        return {
            "result": self.result,
            "max_auc_loss": self.most,
            "accepted": self.accepted,
            "reason": self.reason,
            "auc_loss": asdict(self.loss) if self.loss is not None else None,
        }


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
class Timing:
    """Milliseconds for one window in one thread, the best of several rounds in turn.

    Parameters
    ----------
    trunk, float_trunk : float
        The network in the precision in question, and in float32.
    front_end : float
        What comes before either.
    """

    trunk: float
    float_trunk: float
    front_end: float


@dataclass(frozen=True)
class QuantizationReport:
    """What a quantization made, and how near it is to the original.

    Parameters
    ----------
    precision : str
        ``"int8"``, ``"f16"``, or ``"bf16"``, for which there is nothing to make.
    folder : Path or None
        Where the network was written.
    sha256 : str
        Names the network, in the identity of its embeddings; empty where none was written.
    convolutions, quantized : int
        How many the trunk has, and how many of these compute in int8.
    float_layers : list of FloatLayer
        Those left in float32 by measurement, beside those that always are.
    cosine_mean, cosine_worst : float
        To the float32 embeddings, over the windows that were held out.
    bytes, float_bytes : int
        Size of the network's files, and of the same ones in float32.
    timing : Timing
    gate : Gate
    calibration : Calibration
        The windows.
    """

    precision: str
    folder: Path | None
    sha256: str
    convolutions: int
    quantized: int
    float_layers: list[FloatLayer]
    cosine_mean: float
    cosine_worst: float
    bytes: int
    float_bytes: int
    timing: Timing
    gate: Gate
    calibration: Calibration

    @property
    def figures(self) -> dict[str, Any]:
        """Give what goes into the identity of the embeddings, as JSON."""
        loss = self.gate.loss
        return {
            "bytes": self.bytes,
            "milliseconds": self.timing.trunk,
            "cosine_mean": self.cosine_mean,
            "cosine_worst": self.cosine_worst,
            "auc_loss_fed": loss.fed.value if loss is not None else None,
            "auc_loss_refitted": loss.refitted.value if loss is not None else None,
            "gate": self.gate.result,
        }

    def record(self) -> dict[str, Any]:
        """Give all that was found, as JSON."""
        return {
            "precision": self.precision,
            "sha256": self.sha256,
            "figures": self.figures,
            "gate": self.gate.record(),
            "float_bytes": self.float_bytes,
            "milliseconds_a_window": asdict(self.timing),
            "cosine_windows": len(self.calibration.held_out),
            "convolutions": {
                "all": self.convolutions,
                "int8": self.quantized,
                "left_in_f32_by_measurement": [asdict(layer) for layer in self.float_layers],
            },
            "calibration": {
                "windows": len(self.calibration.inputs) if self.precision == "int8" else 0,
                "recordings": self.calibration.recordings,
                "skipped": len(self.calibration.skipped),
                "sha256": self.calibration.sha256,
            },
        }
