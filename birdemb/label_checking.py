"""A look at labels before anything is fitted on them, and before anything is embedded if need be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from birdemb.defaults import DEFAULT_WORKSPACE
from birdemb.embed.audio import open_sound
from birdemb.embed.recordings import find_recordings
from birdemb.embed.remote import hide_secrets
from birdemb.embed.windows import WindowGrid
from birdemb.errors import InputError, RecordingError
from birdemb.label_report import LabelReport, report_labels
from birdemb.labels import MINIMUM_OVERLAP, read_labels
from birdemb.listing import EmbeddedRecording, Listing, SkippedRecording, write_skipped
from birdemb.storage import check_writable, replace_atomically
from birdemb.training import choose_labels, name_labelled
from birdemb.workspace import Workspace

__all__ = ["LabelCheck", "check_labels", "measure_recordings"]

_LONGEST = 14 * 24 * 3600.0  # in seconds; a header that says more is more likely damaged than true


@dataclass(frozen=True, eq=False)
class LabelCheck:
    """What `check_labels` found.

    Parameters
    ----------
    listing : Listing
        The recordings.
    report : LabelReport
    problems : tuple of SkippedRecording
        Recordings that cannot be used or have no label, and rows of labels that cannot be used.
    errors : Path or None
        The table of these.
    """

    listing: Listing
    report: LabelReport
    problems: tuple[SkippedRecording, ...]
    errors: Path | None


def check_labels(
    path: str | Path | None = None,
    *,
    labels: str | Path | Sequence[str | Path] | None = None,
    columns: Mapping[str, str] | None = None,
    minimum_confidence: float = 0.0,
    minimum_overlap: float = MINIMUM_OVERLAP,
    unannotated: str = "absent",
    window: float | None = None,
    hop: float | None = None,
    output: str | Path | None = None,
    workspace: str | Path = DEFAULT_WORKSPACE,
) -> LabelCheck:
    """Bring labels and recordings together as `birdemb.fit` does, and tell what becomes of each row.

    Parameters
    ----------
    path : path or URL, optional
        A folder of recordings, which need not be embedded; by default those that were embedded last.
    labels : path or sequence of path, optional
        Files of labels or folders of them; found as `birdemb.embed_recordings` finds them otherwise.
    columns, minimum_confidence, minimum_overlap, unannotated
        As of `birdemb.fit`.
    window, hop : float, optional
        Length and distance of the windows in seconds; by default as embedded, else 5 s and the length.
    output : path, optional
        Where to write a table with what became of each row, as CSV.
    workspace : path
        The working folder.

    Returns
    -------
    LabelCheck

    Raises
    ------
    BirdembError
        If there are no recordings, or no labels for any of them.
    """
    if not 0 < minimum_overlap < float("inf"):
        raise InputError(f"The minimum overlap is {minimum_overlap:g} s. Expected more than 0, such as 0.5.")
    place = Workspace(Path(workspace))
    listing = place.last_listing() if path is None else None
    usual = (listing or _find_listing(place, path)).identity
    length = float(usual["window"]) if window is None else window
    distance = hop if hop is not None else float(usual["hop"]) if window is None else length
    grid = WindowGrid(length, distance)
    for file in (place.errors("labels"), output):
        if file is not None:
            check_writable(Path(file))
    if path is not None:
        listing = measure_recordings(path, grid)
    elif listing is not None and (window is not None or hop is not None):
        listing = replace(listing, recordings=[_count_again(entry, grid) for entry in listing.recordings])
    if listing is None or not listing.recordings:
        raise InputError(f"No recording in {hide_secrets(str(path))} can be read. `birdemb embed` tells why.")
    read = read_labels(
        choose_labels(labels, listing),
        listing.recordings,
        listing.skipped,
        columns=columns,
        minimum_confidence=minimum_confidence,
        unannotated=unannotated,
        folder=listing.folder,
    )
    report = report_labels(
        read,
        name_labelled(read, listing),
        listing.recordings,
        window=grid.window,
        hop=grid.hop,
        minimum_overlap=minimum_overlap,
    )
    if output is not None:
        with replace_atomically(Path(output)) as temporary:
            # Names of files need not be valid text.
            report.rows.to_csv(temporary, index=False, encoding="utf-8", errors="backslashreplace")
    problems = (*listing.skipped, *read.problems)
    return LabelCheck(listing, report, problems, write_skipped(place.errors("labels"), problems))


def _find_listing(place: Workspace, path: str | Path | None) -> Listing:
    """Give what was embedded last, if that is what lies there, and else a listing of nothing in usual windows."""
    if place.listing.is_file():
        listing = place.last_listing()
        if listing.folder == (str(path) if "://" in str(path) else str(Path(str(path)).resolve())):
            return listing
    usual = WindowGrid()
    return Listing("", {"window": usual.window, "hop": usual.hop}, [], [])


def measure_recordings(path: str | Path, grid: WindowGrid) -> Listing:
    """List the recordings at a place with the lengths that their headers tell.

    Parameters
    ----------
    path : path or URL
    grid : WindowGrid

    Returns
    -------
    Listing
        Without the hashes of contents: the recordings are not read.

    Raises
    ------
    InputError
        If there is no such place, or no recording in it.
    """
    found = find_recordings(path)
    recordings, skipped = [], []
    for recording in found.recordings:
        try:
            with open_sound(recording) as sound:
                samples, rate = sound.file.frames, sound.file.samplerate
            if not 0 < samples <= _LONGEST * rate:
                raise RecordingError("decode", f"its header tells no length that can be ({samples} samples)")
        except RecordingError as error:
            skipped.append(SkippedRecording(recording.name, error.stage, error.reason))
            continue
        recordings.append(EmbeddedRecording(recording.name, "", grid.count(samples, rate), samples / rate))
    identity = {"window": grid.window, "hop": grid.hop}
    return Listing(found.folder, identity, sorted(recordings, key=lambda entry: entry.recording), skipped)


def _count_again(entry: EmbeddedRecording, grid: WindowGrid) -> EmbeddedRecording:
    # In microseconds, as a length in samples is not known here.
    return replace(entry, windows=grid.count(round(entry.seconds * 1e6), 1_000_000))
