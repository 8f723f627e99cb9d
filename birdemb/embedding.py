"""The first step of the main job: recordings to embeddings in the cache."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from birdemb.defaults import DEFAULT_ENCODER, DEFAULT_WORKSPACE
from birdemb.embed.remote import hide_secrets
from birdemb.embed.run import EmbedRun, embed_folder
from birdemb.embed.windows import WindowGrid
from birdemb.errors import InputError
from birdemb.listing import Listing, write_skipped
from birdemb.workspace import Workspace

if TYPE_CHECKING:
    from birdemb.labels import Labels

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
    precision: str = "f32",
    pooling: str | None = None,
    dtype: str = "float16",
    logits: bool = False,
    window: float = 5.0,
    hop: float | None = None,
    backend: str = "loky",
    scheduler: str | None = None,
    workspace: str | Path = DEFAULT_WORKSPACE,
    jobs: int = -1,
    show_progress: bool = False,
) -> EmbedReport:
    """Embed every window of every recording at `path` that the cache does not know yet.

    Parameters
    ----------
    path : path or URL
        A folder of recordings, or one recording; a URL such as ``s3://bucket/folder`` where fsspec reads it.
    encoder : str
        As in `birdemb encoders`, or the path of a card of your own, which ends in ``.toml``.
    weights : path, URL or handle, optional
        The encoder's weights, where they are not in one of the usual places; or where to get them, as
        ``"google/yamnet/tensorFlow2/yamnet/1"`` at Kaggle.
    precision : str
        Of the encoder's arithmetic: ``"f32"``, ``"bf16"``, ``"int8"`` or ``"f16"`` for the network that `birdemb
        quantize` made, or ``"auto"`` for bf16 where this processor has instructions for it, else f32.
    pooling : str, optional
        How a window becomes one embedding, if not as the encoder's card says: ``"mean"``, ``"max"``, ``"mean+max"`` or
        ``"whole"``.
    dtype : {"float16", "float32"}
        Of the embeddings in the cache.
    logits : bool
        Whether to keep the logits of the encoder's own classes beside the embeddings.
    window, hop : float
        Length and distance of the windows in seconds; the distance is the length where it is not given.
    backend : {"loky", "dask"}
        Where to work: in processes of this machine, or on a Dask cluster.
    scheduler : str, optional
        The address of Dask's scheduler, such as ``tcp://10.0.0.1:8786``, or ``file:`` and the path of its file.
    workspace : path
        The working folder.
    jobs : int
        Processes at the same time; -1 for as many as there are cores. With Dask, how many threads of workers to wait
        for before the run begins; -1 for whichever there are.
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
    place = Workspace(Path(workspace))
    place.check_writable()
    run = embed_folder(
        path,
        place.cache,
        encoder=encoder,
        weights=weights,
        grid=WindowGrid(window, hop if hop is not None else window),
        precision=precision,
        pooling=pooling,
        dtype=dtype,
        logits=logits,
        jobs=jobs,
        backend=backend,
        scheduler=scheduler,
        remembered=place.contents,
        show_progress=show_progress,
    )
    run.cache.discard_damaged()
    errors = write_skipped(place.errors("embed"), run.listing.skipped)
    run.listing.refuse_if_empty(hide_secrets(str(path)), errors)
    # Not before, as pandas would hold up the start of the workers.
    from birdemb.labels import find_labels, read_labels

    # Labels are looked for on this machine alone; `fit` takes them from anywhere.
    listing, source = run.listing, None
    if "://" not in listing.folder:
        source = find_labels(Path(listing.folder), [entry.recording for entry in listing.recordings])
        # What lies beside single recordings is found again, as it may be more by then.
        listing = replace(listing, labels=str(source.paths[0]) if source.paths and not source.guessed else None)
    place.remember_listing(listing)
    if run.card.place is not None:
        place.remember_card(run.card.name, run.card.place)
    labels, problem = None, ""
    try:
        labels = read_labels(source, listing.recordings, listing.skipped, folder=listing.folder)
    except InputError as error:
        problem = str(error)
    return EmbedReport(run, listing, labels, problem, errors)
