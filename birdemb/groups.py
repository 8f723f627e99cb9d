"""Groups of recordings that must not be parted between training and validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from birdemb.errors import InputError
from birdemb.listing import EmbeddedRecording

if TYPE_CHECKING:
    from birdemb.labels import Labels

__all__ = ["GROUPINGS", "RecordingGroups", "group_recordings"]

GROUPINGS = {
    "recording": "",
    "author": "author or recordist",
    "site": "site or location, or latitude and longitude",
}
"""What recordings can be grouped by, and the columns of a table of labels that it takes."""


@dataclass(frozen=True)
class RecordingGroups:
    """Which recordings belong together.

    Parameters
    ----------
    by : str
        ``"recording"``, ``"author"`` or ``"site"``.
    codes : ndarray of shape (recordings,), int64
        The group of each recording, 0 to `count` - 1.
    count : int
        How many groups there are.
    alone : int
        How many recordings have no known author or site, so that each is a group of its own.
    """

    by: str
    codes: NDArray[np.int64]
    count: int
    alone: int


def group_recordings(labels: Labels, recordings: Sequence[EmbeddedRecording], by: str = "recording") -> RecordingGroups:
    """Group recordings that are likely to be alike beyond the species in them.

    Parameters
    ----------
    labels : Labels
        Name the authors and sites.
    recordings : sequence of EmbeddedRecording
    by : "recording", "author" or "site"
        Recordings of one author or of one site share a microphone, a place or both, by which a head may know them
        instead of by the species; capitals and blanks do not matter in their names. Recordings of the same content
        are one in any case where no author or site is known.

    Returns
    -------
    RecordingGroups
        Its codes don't depend on the order of recordings.

    Raises
    ------
    InputError
        If `by` is something else, or the labels have no column for it.
    """
    if by not in GROUPINGS:
        raise InputError(f"Recordings cannot be grouped by {by!r}. Use {', '.join(map(repr, GROUPINGS))}.")
    group_of: dict[str, str] = {}
    if by != "recording":
        if by not in labels.recordings:
            have = f"its other columns are {', '.join(labels.columns)}" if labels.columns else "it has no other columns"
            raise InputError(
                f"Recordings cannot be grouped by {by}: {labels.source} does not tell it; {have}. "
                f"Expected {GROUPINGS[by]}. Group by 'recording', or add such a column."
            )
        named = labels.recordings.dropna(subset=[by])
        group_of = {name: str(group).casefold() for name, group in zip(named["recording"], named[by], strict=True)}
    alone = [entry.recording not in group_of for entry in recordings]
    # The first part keeps a content from being taken for a name.
    keys = [
        (lone, entry.sha256 if lone else group_of[entry.recording])
        for lone, entry in zip(alone, recordings, strict=True)
    ]
    code = {key: index for index, key in enumerate(sorted(set(keys)))}
    return RecordingGroups(
        by=by,
        codes=np.array([code[key] for key in keys], np.int64),
        count=len(code),
        alone=sum(alone) if by != "recording" else 0,
    )
