"""The demonstration: a synthetic world, the three commands on it, and the truth beside what they said."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from birdemb.classify.heads import HEADS
from birdemb.defaults import DEMO_ENCODER, DEMO_FOLDER
from birdemb.embed.catalogue import load_card
from birdemb.embedding import EmbedReport, embed_recordings
from birdemb.errors import MissingDependencyError
from birdemb.evaluating import evaluate
from birdemb.fitting import fit
from birdemb.predicting import predict_folder
from birdemb.synthesis import World, make_world

__all__ = ["DemoReport", "DemoScore", "run_demo"]


@dataclass(frozen=True)
class DemoScore:
    """How one head did.

    Parameters
    ----------
    head : str
    macro_roc_auc, macro_average_precision : float or None
        None where the head could not be fitted.
    fit_seconds, predict_seconds : float
    submission : Path or None
    problem : str
        Why it was not fitted.
    """

    head: str
    macro_roc_auc: float | None = None
    macro_average_precision: float | None = None
    fit_seconds: float = 0.0
    predict_seconds: float = 0.0
    submission: Path | None = None
    problem: str = ""


@dataclass(frozen=True)
class DemoReport:
    """What the demonstration did.

    Parameters
    ----------
    folder : Path
    world : World
    embedded : EmbedReport
    scores : tuple of DemoScore
        One for each head.
    elapsed : float
        Seconds.
    """

    folder: Path
    world: World
    embedded: EmbedReport
    scores: tuple[DemoScore, ...]
    elapsed: float


def run_demo(
    folder: str | Path = DEMO_FOLDER,
    *,
    encoder: str = DEMO_ENCODER,
    heads: Sequence[str] = tuple(HEADS),
    size: Literal["small", "full"] = "full",
    seed: int = 0,
    jobs: int = -1,
    show_progress: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> DemoReport:
    """Synthesise a world, fit each head on its recordings, predict its soundscapes, and evaluate.

    Parameters
    ----------
    folder : path
        Where to put it all; made if need be.
    encoder : str
        As in `birdemb encoders`. The default needs no weights.
    heads : sequence of str
    size : {"small", "full"}
        Of the world.
    seed : int
        Of the world and of the heads.
    jobs : int
        Processes at the same time; -1 for as many as there are cores.
    show_progress : bool
        Whether to show progress on standard error.
    tell : callable
        Is told in a sentence what is being done.

    Returns
    -------
    DemoReport

    Raises
    ------
    BirdembError
        If the folder holds something else, or the encoder cannot be had.
    """
    started = time.monotonic()
    folder = Path(folder)
    workspace = folder / ".birdemb"
    load_card(encoder)  # an unknown name is told before the work
    tell(f"Synthesising recordings and soundscapes in {folder}/ ...")
    world = make_world(folder, seed=seed, size=size)
    tell(f"Embedding the recordings with {encoder} ...")
    embedded = embed_recordings(
        world.data, encoder=encoder, workspace=workspace, jobs=jobs, show_progress=show_progress
    )
    scores = []
    for head in heads:
        tell(f"Fitting {head} and predicting the soundscapes ...")
        try:
            fitted = fit(head, cv=0, workspace=workspace, seed=seed, jobs=jobs)
        except MissingDependencyError as error:
            scores.append(DemoScore(head, problem=str(error)))
            continue
        submission = folder / f"submission-{head}.csv"
        predicted = predict_folder(
            world.soundscapes, output=submission, workspace=workspace, jobs=jobs, show_progress=show_progress
        )
        found = evaluate(submission, world.truth)
        scores.append(
            DemoScore(
                head,
                found.macro_roc_auc,
                found.macro_average_precision,
                fitted.elapsed,
                predicted.elapsed,
                submission,
            )
        )
    return DemoReport(folder, world, embedded, tuple(scores), time.monotonic() - started)
