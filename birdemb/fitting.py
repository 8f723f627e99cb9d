"""The second step of the main job: embeddings and labels to a bundle with a fitted head."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from birdemb.cache import EmbeddingCache
from birdemb.classify.bundle import Bundle, write_bundle
from birdemb.classify.heads import make_head
from birdemb.defaults import DEFAULT_WORKSPACE
from birdemb.errors import InputError
from birdemb.labels import Labels, find_label_file, label_windows, read_labels
from birdemb.listing import Listing, SkippedRecording, write_skipped
from birdemb.storage import check_writable, hash_json
from birdemb.workspace import Workspace

__all__ = ["FitReport", "fit"]

_RECORDED_PACKAGES = (
    "birdemb",
    "lightgbm",
    "numpy",
    "openvino",
    "pandas",
    "scikit-learn",
    "soundfile",
    "soxr",
)


@dataclass(frozen=True)
class FitReport:
    """What `fit` did.

    Parameters
    ----------
    bundle : Bundle
    path : Path
        Where it is.
    labels : Labels
    recordings, windows : int
        What the head was fitted on.
    skipped : tuple of SkippedRecording
        Recordings without a label and labels without a recording.
    errors : Path or None
        The table of these.
    elapsed : float
        Seconds.
    """

    bundle: Bundle
    path: Path
    labels: Labels
    recordings: int
    windows: int
    skipped: tuple[SkippedRecording, ...]
    errors: Path | None
    elapsed: float


def fit(
    head: str = "lr",
    *,
    labels: str | Path | None = None,
    output: str | Path | None = None,
    seed: int = 0,
    workspace: str | Path = DEFAULT_WORKSPACE,
    jobs: int = -1,
    command: Sequence[str] = (),
    **head_parameters: Any,  # noqa: ANN401 - each head has its own
) -> FitReport:
    """Fit a head on the embeddings of the last `embed_recordings` and their labels.

    Parameters
    ----------
    head : str
        ``"lr"`` (one logistic regression per class), ``"mlp"`` or ``"lgbm"`` (LightGBM).
    labels : path, optional
        A table as BirdCLEF's train.csv; by default the one that was found when embedding, else class folders.
    output : path, optional
        Where to write the bundle; by default in the working folder.
    seed : int
        Same seed, same data and same versions give the same head.
    workspace : path
        The working folder.
    jobs : int
        Processes or threads at the same time; -1 for as many as there are cores.
    command : sequence of str
        The command line, to be stored in the bundle.
    **head_parameters
        Parameters of the head's class.

    Returns
    -------
    FitReport

    Raises
    ------
    BirdembError
        If nothing was embedded, there are no labels, or the head cannot be fitted.
    """
    started = time.monotonic()
    place = Workspace(Path(workspace))
    if not 0 <= seed < 2**32:
        raise InputError(f"--seed is {seed}; expected 0 to {2**32 - 1}.")
    if "n_jobs" in head_parameters:
        raise InputError("Give jobs in place of n_jobs: the number of workers is no part of a head.")
    estimator = make_head(head, random_state=seed, n_jobs=jobs, **head_parameters)
    path = Path(output) if output is not None else place.bundle(head)
    listing = place.last_listing()
    check_writable(path)
    check_writable(place.last_bundle_note)
    cache = EmbeddingCache(place.cache, listing.identity)
    read = read_labels(_choose_labels(labels, listing), listing.recordings, listing.skipped)
    if len(read.classes) < 2:
        raise InputError(
            f"{read.source} has one class only, {read.classes[0]!r}: a head needs at least two to tell apart. "
            "Add recordings of another class, or of background as a class of its own."
        )
    labelled = set(read.table["recording"])
    recordings = [entry for entry in listing.recordings if entry.recording in labelled]
    windows = label_windows(read, recordings)
    embeddings = cache.read([entry.sha256 for entry in recordings])
    if len(embeddings) != len(windows.present):
        raise InputError(f"{place.listing} and the cache disagree about the windows. Run `birdemb embed` again.")
    provenance = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(command),
        "seed": seed,
        # Its name alone: a bundle is shared, and the folders of a machine are nobody's business.
        "labels": Path(read.source).name,
        "recordings": len(recordings),
        "windows": len(embeddings),
        "recordings_by_class": read.count_recordings(),
        "data_sha256": hash_json([[entry.sha256 for entry in recordings], read.table.to_csv(index=False)]),
        "python": platform.python_version(),
        "platform": sys.platform,
        "versions": {name: found for name in _RECORDED_PACKAGES if (found := _installed_version(name))},
    }
    estimator.fit(embeddings, windows.present, sample_weight=windows.known)
    bundle = Bundle(
        head=estimator,
        classes=read.classes,
        identity=listing.identity,
        priors=windows.present.mean(axis=0),
        provenance=provenance,
    )
    write_bundle(bundle, path)
    place.remember_bundle(path)
    return FitReport(
        bundle=bundle,
        path=path,
        labels=read,
        recordings=len(recordings),
        windows=len(embeddings),
        skipped=read.problems,
        errors=write_skipped(place.errors("fit"), read.problems),
        elapsed=time.monotonic() - started,
    )


def _installed_version(name: str) -> str | None:
    # birdemb itself is not installed where it runs from a checkout, and torch is optional.
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _choose_labels(given: str | Path | None, listing: Listing) -> Path | None:
    if given is not None:
        return Path(given)
    return Path(listing.labels) if listing.labels else find_label_file(Path(listing.folder))
