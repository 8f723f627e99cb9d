"""What heads are fitted on: embeddings of one or more encoders, and the labels of the same windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.cache import EmbeddingCache
from birdemb.classify.duplicates import NearDuplicates, find_near_duplicates, keep_exceptional
from birdemb.classify.ensemble import Heard
from birdemb.classify.folds import combine_groups
from birdemb.classify.prior import Prior
from birdemb.errors import InputError
from birdemb.groups import RecordingGroups, group_recordings
from birdemb.labels import (
    MINIMUM_OVERLAP,
    LabelFiles,
    Labels,
    collect_labels,
    find_labels,
    label_windows,
    read_labels,
)
from birdemb.listing import EmbeddedRecording, Listing, SkippedRecording
from birdemb.own_knowledge import OwnKnowledge, read_own_knowledge
from birdemb.ratings import limit_recordings
from birdemb.taxonomy import ClassName, find_taxonomy, name_classes
from birdemb.workspace import Workspace

__all__ = ["LabelRules", "TrainingData", "choose_labels", "name_labelled", "read_training_data"]


@dataclass(frozen=True)
class LabelRules:
    """How labels become targets and weights.

    Parameters
    ----------
    secondary : "unknown", "present", "ignore" or float
        What a secondary label says; see `birdemb.labels.label_windows`.
    rating : bool
        Whether recordings weigh by their rating.
    most : int, optional
        Most recordings of a class.
    group : "recording", "author" or "site"
        What must not be parted between training and validation.
    minimum_overlap : float
        In seconds: how long an annotation has to overlap with a window to count in it.
    unannotated : "absent" or "unknown"
        What is said of windows that no annotation reaches; see `birdemb.labels.read_labels`.
    minimum_confidence : float
        Below it a label is unknown, where a file tells how sure its labels are.
    columns : mapping of str to str
        What the columns of plain tables are called; see `birdemb.annotations.recognition.read_annotations`.
    """

    secondary: str | float = "unknown"
    rating: bool = False
    most: int | None = None
    group: str = "recording"
    minimum_overlap: float = MINIMUM_OVERLAP
    unannotated: str = "absent"
    minimum_confidence: float = 0.0
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Windows as one or more encoders heard them, and what is in them.

    Parameters
    ----------
    labels : Labels
    classes : tuple of ClassName
        The columns of `targets`.
    identities : tuple of dict
        Of each encoder's embeddings.
    heard : tuple of Heard
        What each encoder heard, in the same windows.
    knowledge : tuple of OwnKnowledge
        What each encoder knows of the classes by itself.
    targets : ndarray of shape (n, classes), bool
    weights : ndarray of shape (n, classes), float64
        0 where it is unknown whether the class is in the window.
    groups : ndarray of shape (n,), int64
        What folds must not part: recordings, authors or sites, joined where recordings are nearly the same.
    recording : ndarray of shape (n,), int64
        Index of each window's recording.
    recordings : tuple of EmbeddedRecording
    grouping : RecordingGroups
    duplicates : NearDuplicates
    """

    labels: Labels
    classes: tuple[ClassName, ...]
    identities: tuple[dict[str, Any], ...]
    heard: tuple[Heard, ...]
    knowledge: tuple[OwnKnowledge, ...]
    targets: NDArray[np.bool_]
    weights: NDArray[np.float64]
    groups: NDArray[np.int64]
    recording: NDArray[np.int64]
    recordings: tuple[EmbeddedRecording, ...]
    grouping: RecordingGroups
    duplicates: NearDuplicates

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def priors(self) -> tuple[Prior | None, ...]:
        """What the heads are to start from, for each encoder."""
        return tuple(known.prior for known in self.knowledge)


def read_training_data(
    place: Workspace,
    labels: str | Path | Sequence[str | Path] | None = None,
    encoders: Sequence[str] = (),
    rules: LabelRules = LabelRules(),
    prior: str = "auto",
    seed: int = 0,
) -> TrainingData:
    """Bring the embeddings of the working folder and their labels together.

    Parameters
    ----------
    place : Workspace
    labels : path or sequence of path, optional
        Files of labels or folders of them; by default the table that was found when embedding, else files beside the
        recordings, else class folders.
    encoders : sequence of str
        Whose embeddings; by default those that were made last.
    rules : LabelRules
    prior : "auto", "none", "offset" or "features"
        How heads start from what an encoder knows of the classes by itself.
    seed : int
        Of the choice where a class has too many recordings.

    Returns
    -------
    TrainingData

    Raises
    ------
    InputError
        If nothing was embedded, the encoders did not hear the same, there are no labels, or a single class.
    """
    if len(set(encoders)) < len(encoders):
        raise InputError(f"The encoders are {', '.join(encoders)}. Name each once.")
    listings = [place.last_listing(encoder) for encoder in encoders] or [place.last_listing()]
    listing = listings[0]
    usable, left_out = _heard_by_all(listings)
    source = choose_labels(labels, listing)
    # Their labels are no surprise: why they are left out is told instead.
    unusable = {entry.recording: entry for entry in (*listing.skipped, *left_out)}
    read = read_labels(
        source,
        usable,
        unusable.values(),
        columns=rules.columns,
        minimum_confidence=rules.minimum_confidence,
        unannotated=rules.unannotated,
        folder=listing.folder,
    )
    read = replace(read, problems=(*read.problems, *left_out))
    if rules.most is not None:
        read = limit_recordings(read, rules.most, seed)
    if len(read.classes) < 2:
        raise InputError(
            f"{read.source} has one class only, {read.classes[0]!r}: a head needs at least two to tell apart. "
            "Add recordings of another class."
        )
    labelled = set(read.table["recording"])
    recordings = [entry for entry in usable if entry.recording in labelled]
    windows = label_windows(
        read,
        recordings,
        secondary=rules.secondary,
        rating=rules.rating,
        group_by=rules.group,
        window=float(listing.identity["window"]),
        hop=float(listing.identity["hop"]),
        minimum_overlap=rules.minimum_overlap,
    )
    classes = name_labelled(read, listing)
    knowledge = tuple(
        read_own_knowledge(other.identity, classes, prior, card=place.last_card(str(other.identity["encoder"])))
        for other in listings
    )
    contents = [entry.sha256 for entry in recordings]
    heard = tuple(
        read_heard(EmbeddingCache(place.cache, other.identity), contents, known.prior)
        for other, known in zip(listings, knowledge, strict=True)
    )
    if any(len(own.embeddings) != len(windows.present) for own in heard):
        raise InputError(f"{place.listing} and the cache disagree about the windows. Run `birdemb embed` again.")
    first = np.flatnonzero(np.diff(windows.recording, prepend=-1))
    duplicates = keep_exceptional(
        find_near_duplicates(heard[0].embeddings, windows.recording),
        (windows.present[first] > 0) | ~windows.known[first],
    )
    return TrainingData(
        labels=read,
        classes=classes,
        identities=tuple(other.identity for other in listings),
        heard=heard,
        knowledge=knowledge,
        targets=windows.present.astype(np.bool_),
        weights=windows.weights.astype(np.float64),
        groups=combine_groups(windows.groups, duplicates.groups[windows.recording]),
        recording=windows.recording,
        recordings=tuple(recordings),
        grouping=group_recordings(read, recordings, rules.group),
        duplicates=duplicates,
    )


def choose_labels(given: str | Path | Sequence[str | Path] | None, listing: Listing) -> LabelFiles | None:
    """Choose the files of labels of recordings: those that were given, else those that are found.

    Parameters
    ----------
    given : path or sequence of path, optional
        None of them is the same as an empty sequence.
    listing : Listing

    Returns
    -------
    LabelFiles or None
        None where the folders' names are the classes.
    """
    given = [given] if isinstance(given, str | Path) else given
    if given:
        return collect_labels([Path(path) for path in given])
    if listing.labels:
        return collect_labels([Path(listing.labels)])
    if "://" in listing.folder:
        return None
    return find_labels(Path(listing.folder), [entry.recording for entry in listing.recordings])


def _heard_by_all(listings: Sequence[Listing]) -> tuple[list[EmbeddedRecording], list[SkippedRecording]]:
    """Give the recordings that every encoder has embedded, with the same content, and those that only some have."""
    first, *others = listings
    usable = list(first.recordings)
    for other in others:
        known = {(entry.recording, entry.sha256, entry.windows) for entry in other.recordings}
        usable = [entry for entry in usable if (entry.recording, entry.sha256, entry.windows) in known]
        if not usable or any(other.identity.get(key) != first.identity.get(key) for key in ("window", "hop")):
            raise InputError(
                f"{other.identity['encoder']} has embedded other recordings, or other windows: embed the same folder "
                "with every encoder that is to be used, with the same --window and --hop."
            )
    kept = {entry.recording for entry in usable}
    heard = {listing.identity["encoder"]: {entry.recording for entry in listing.recordings} for listing in listings}
    left_out = []
    for name in sorted(set().union(*heard.values()) - kept):
        deaf = [encoder for encoder, names in heard.items() if name not in names]
        reason = f"{deaf[0]} has not embedded it" if deaf else "it was changed while the encoders heard it"
        left_out.append(SkippedRecording(name, "read", reason))
    return usable, left_out


def read_heard(cache: EmbeddingCache, contents: Sequence[str], prior: Prior | None) -> Heard:
    """Read what an encoder heard in recordings.

    Parameters
    ----------
    cache : EmbeddingCache
    contents : sequence of str
        The sha256 of each recording's content.
    prior : Prior or None
        What the heads want to know of the encoder's own logits; they are read where it says so.

    Returns
    -------
    Heard
    """
    return Heard(cache.read(contents), cache.read_logits(contents) if prior is not None and prior.uses_logits else None)


def name_labelled(labels: Labels, listing: Listing) -> tuple[ClassName, ...]:
    """Name the classes of labels by a taxonomy, which lies where they or the recordings do, and by themselves.

    Parameters
    ----------
    labels : Labels
    listing : Listing
        Of the recordings.

    Returns
    -------
    tuple of ClassName
    """
    places = [path.parent for path in labels.files[:1]]
    if "://" not in listing.folder:
        places.append(Path(listing.folder))
    taxonomy = next(filter(None, map(find_taxonomy, places)), None)
    table = labels.files[0] if len(labels.files) == 1 and labels.files[0].suffix.lower() == ".csv" else None
    return name_classes(labels.classes, table, taxonomy)
