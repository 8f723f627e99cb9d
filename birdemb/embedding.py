"""The first step of the main job: recordings to embeddings in the cache."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from birdemb.defaults import DEFAULT_ENCODER, DEFAULT_WORKSPACE
from birdemb.embed.run import EmbedRun, embed_folder
from birdemb.errors import InputError
from birdemb.labels import Labels, find_label_file, read_labels
from birdemb.listing import Listing, write_skipped
from birdemb.storage import check_writable
from birdemb.workspace import Workspace

__all__ = ["EmbedReport", "embed_recordings"]


@dataclass(frozen=True)
class EmbedReport:
    """What `embed_recordings` did.

    Parameters
    ----------
    run : EmbedRun
        The run itself: its cache, how long it took.
    listing : Listing
        Every recording, embedded or skipped, with the labels that were found.
    labels : Labels or None
        The labels that `fit` will use; None if there are none.
    labels_problem : str
        Why there are none.
    errors : Path or None
        The table of what was skipped, where anything was.
    """

    run: EmbedRun
    listing: Listing
    labels: Labels | None
    labels_problem: str
    errors: Path | None


def embed_recordings(
    path: str | Path,
    *,
    encoder: str = DEFAULT_ENCODER,
    weights: str | Path | None = None,
    workspace: str | Path = DEFAULT_WORKSPACE,
    jobs: int = -1,
    show_progress: bool = False,
) -> EmbedReport:
    """Embed every window of every recording at `path` that the cache does not know yet.

    Parameters
    ----------
    path : path
        A folder of recordings, or one recording.
    encoder : str
        As in `birdemb encoders`.
    weights : path, optional
        The encoder's weights, where they are not in one of the usual places.
    workspace : path
        The working folder.
    jobs : int
        Processes at the same time; -1 for as many as there are cores.
    show_progress : bool
        Whether to show progress on standard error.

    Returns
    -------
    EmbedReport

    Raises
    ------
    BirdembError
        If no recording can be used, or the encoder cannot be had. One recording among others that cannot be
        used raises nothing: it is in the report.
    """
    path, place = Path(path), Workspace(Path(workspace))
    check_writable(place.listing)
    run = embed_folder(
        path,
        place.cache,
        encoder=encoder,
        weights=Path(weights) if weights is not None else None,
        jobs=jobs,
        show_progress=show_progress,
    )
    run.cache.discard_damaged()
    errors = write_skipped(place.errors("embed"), run.listing.skipped)
    run.listing.refuse_if_empty(path, errors)
    folder = Path(run.listing.folder)
    source = find_label_file(folder)
    listing = replace(run.listing, labels=str(source) if source else None)
    place.remember_listing(listing)
    labels, problem = None, ""
    try:
        labels = read_labels(source, listing.recordings, listing.skipped)
    except InputError as error:
        problem = str(error)
    return EmbedReport(run, listing, labels, problem, errors)
