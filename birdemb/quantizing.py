"""Quantization with a gate: an encoder's network with fewer bits, and what heads lose by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdemb.auc_loss import measure_auc_loss
from birdemb.defaults import DEFAULT_ENCODER
from birdemb.embed.quantization import MAX_AUC_LOSS, MIN_COSINE, MIN_WORST_COSINE, Judge, quantize_encoder
from birdemb.embed.quantization_record import AucLoss, QuantizationReport
from birdemb.embed.recordings import find_recordings
from birdemb.embed.remote import is_url
from birdemb.errors import InputError
from birdemb.labels import LabelFiles, find_labels, label_windows, read_labels
from birdemb.listing import EmbeddedRecording

__all__ = ["make_judge", "quantize"]

Rows = NDArray[np.float32]


def quantize(
    name: str = DEFAULT_ENCODER,
    *,
    calibrate: str | Path,
    labels: str | Path | None = None,
    precision: str = "int8",
    max_auc_loss: float = MAX_AUC_LOSS,
    accept_loss: bool = False,
    windows: int = 200,
    output: str | Path | None = None,
    weights: str | Path | None = None,
    force: bool = False,
    goal_mean: float = MIN_COSINE,
    goal_worst: float = MIN_WORST_COSINE,
    tell: Callable[[str], None] = lambda _: None,
) -> QuantizationReport:
    """Make an encoder's network with fewer bits, and measure what that costs in cosine and in ROC-AUC.

    Parameters
    ----------
    name : str
        As in `birdemb encoders`, or the path of a user's own card.
    calibrate : str or Path
        A folder of recordings such as those that will be embedded.
    labels : path, optional
        A table as BirdCLEF's train.csv; found as `birdemb embed` finds it otherwise. Without any, or where labels have
        times, what heads lose is not measured.
    precision : "int8", "f16" or "bf16"
        Of bf16 nothing is made: it is only measured.
    max_auc_loss : float
        What heads fitted on its embeddings may lose in macro ROC-AUC. A network that loses more is written, but does
        not embed.
    accept_loss : bool
        Whether it is to embed all the same.
    windows, output, weights, force, goal_mean, goal_worst, tell
        As in `birdemb.embed.quantization.quantize_encoder`.

    Returns
    -------
    QuantizationReport

    Raises
    ------
    BirdembError
        As `quantize_encoder`; or if the labels that were given cannot be read, or the largest loss or a cosine is not a
        number from 0 to 1.
    """
    if not 0 <= max_auc_loss <= 1:
        raise InputError(f"--max-auc-loss is {max_auc_loss}; expected a number from 0 to 1, such as {MAX_AUC_LOSS}.")
    for option, goal, usual in (
        ("--min-cosine", goal_mean, MIN_COSINE),
        ("--min-worst-cosine", goal_worst, MIN_WORST_COSINE),
    ):
        if not 0 <= goal <= 1:
            raise InputError(f"{option} is {goal}; expected a number from 0 to 1, such as {usual}.")
    return quantize_encoder(
        name,
        calibrate=calibrate,
        precision=precision,
        windows=windows,
        output=Path(output) if output is not None else None,
        weights=weights,
        force=force,
        goal_mean=goal_mean,
        goal_worst=goal_worst,
        judge=make_judge(calibrate, labels),
        max_auc_loss=max_auc_loss,
        accept_loss=accept_loss,
        tell=tell,
    )


def make_judge(calibrate: str | Path, labels: str | Path | None = None) -> Judge:
    """Find the labels of recordings, and with them what tells what heads lose.

    Parameters
    ----------
    calibrate : str or Path
        A folder of recordings.
    labels : path, optional
        A table; found as `birdemb embed` finds it otherwise.

    Returns
    -------
    Judge
        One that says why it cannot judge, where no labels were found.

    Raises
    ------
    InputError
        If the labels that were given cannot be read, or label none of the recordings.
    """
    found = find_recordings(calibrate)
    counts = {recording.name: 1 for recording in found.recordings}
    source: Path | LabelFiles | None = Path(labels) if labels is not None else None
    if source is None and not is_url(found.folder):
        source = find_labels(Path(found.folder), list(counts))
    try:
        read = read_labels(source, _as_embedded(counts), folder=found.folder)
    except InputError as error:
        if labels is not None:
            raise
        return Judge(reason=str(error))
    if len(read.classes) < 2:
        return Judge(reason=f"{read.source} has one class only, {read.classes[0]!r}")
    if read.table["start"].notna().any() or read.table["end"].notna().any():
        return Judge(reason=f"{read.source} tells times, and windows are judged by labels of whole recordings")

    def measure(recordings: Sequence[str], exact: Rows, ours: Rows) -> AucLoss:
        """Put the windows of one recording behind each other, as labels are brought to them, and measure."""
        order = np.argsort(np.array(recordings, object), kind="stable")
        known = label_windows(read, _as_embedded(Counter(recordings[row] for row in order)))
        return measure_auc_loss(
            exact[order],
            ours[order],
            known.present.astype(np.bool_),
            known.weights.astype(np.float64),
            known.groups,
        )

    return Judge(frozenset(read.table["recording"]), measure)


def _as_embedded(counts: dict[str, int]) -> list[EmbeddedRecording]:
    """Describe recordings as those of a cache are; what they hold and how long they are plays no part here."""
    return [EmbeddedRecording(name, name, windows, np.inf) for name, windows in sorted(counts.items())]
