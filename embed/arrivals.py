"""Arrivals: the recordings that come into a folder, each given out once it is whole.

The folder is looked at again and again, as network drives and memory cards tell nobody of changes. A recording counts
as whole when two looks find it the same, and its header does not say that something is missing. One of which that
cannot be told is given out after it was left alone for longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from birdemb.embed.audio import open_sound
from birdemb.embed.containers import leaves_length_open, refuse_short_container
from birdemb.embed.recordings import Recording, Stamp, find_recordings
from birdemb.errors import InputError, RecordingError

__all__ = ["Arrival", "Arrivals", "look_at"]

_CANNOT_BE_LOOKED_AT = -1  # the size in the stamp of what has none


@dataclass(slots=True)
class Arrival:
    """A recording that came into the folder.

    Parameters
    ----------
    recording : Recording
    stamp : Stamp
        What it looked like when it was found.
    since : float
        When it was first seen like that, by the clock of `Arrivals`.
    is_tried : bool
        Whether it was given out already.
    is_late : bool
        Whether it was left alone for so long that nobody can be writing it any more.
    """

    recording: Recording
    stamp: Stamp
    since: float
    is_tried: bool = False
    is_late: bool = False


class Arrivals:
    """What has come into a folder and is neither settled nor gone.

    Of a recording that is settled nothing is kept but its name and a hash of its stamp; when it is gone, nothing.

    Parameters
    ----------
    path : Path
        The folder.
    patience : float
        Seconds without change after which a recording is given out whatever its header says.
    knows : callable
        Tells whether a recording that looks like this was settled before; asked once, when it is first seen.
    clock : callable
        Gives seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        patience: float,
        knows: Callable[[Recording, Stamp], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._patience = patience
        self._knows = knows
        self._clock = clock
        self._settled: dict[str, int] = {}
        self._seen: dict[str, Arrival] = {}
        self._ready: dict[str, None] = {}  # names, those first that are ready for longest

    @property
    def ready(self) -> int:
        """How many recordings wait to be taken."""
        return len(self._ready)

    @property
    def unsure(self) -> int:
        """How many were seen that may not be whole yet."""
        return len(self._seen) - len(self._ready)

    @property
    def longest_wait(self) -> float:
        """Seconds since the one that is ready for longest was first seen."""
        first = next(iter(self._ready), None)
        return self._clock() - self._seen[first].since if first is not None else 0.0

    def look(self) -> None:
        """Look at the folder.

        Raises
        ------
        InputError
            If it is not there, or no recording is in it; nothing is forgotten then, as it may come back.
        """
        recordings = find_recordings(self._path).recordings
        if any(recording.name == "." for recording in recordings):
            raise InputError(f"{self._path} cannot be looked at.")
        for recording in recordings:
            self._note(recording, look_at(recording))
        present = {recording.name for recording in recordings}
        for names in (self._settled, self._seen, self._ready):
            for gone in names.keys() - present:
                del names[gone]

    def take(self, recordings: int, size: int) -> list[Arrival]:
        """Give some of those that are ready. They stay ready until they are settled, postponed or renewed.

        Parameters
        ----------
        recordings : int
            At most so many.
        size : int
            Bytes in all from which on no more are added.
        """
        taken: list[Arrival] = []
        for name in list(self._ready):
            if len(taken) == recordings or size <= 0:
                break
            arrival = self._seen[name]
            if not arrival.is_late and not _looks_whole(arrival.recording):
                self.postpone(arrival)
                continue
            taken.append(arrival)
            size -= max(0, arrival.stamp.size)
        return taken

    def settle(self, arrival: Arrival) -> None:
        """Note that a recording is done with, for as long as it stays what it is."""
        name = arrival.recording.name
        self._settled[name] = hash(arrival.stamp)
        self._seen.pop(name, None)
        self._ready.pop(name, None)

    def postpone(self, arrival: Arrival) -> None:
        """Wait until a recording has changed, or was left alone for long."""
        self._ready.pop(arrival.recording.name, None)

    def renew(self, arrival: Arrival) -> None:
        """Wait until it is seen again: it was changed, or gone, when it was read."""
        self._ready.pop(arrival.recording.name, None)
        arrival.is_tried = False

    def _note(self, recording: Recording, stamp: Stamp) -> None:
        name = recording.name
        if name in self._settled and self._settled[name] == hash(stamp):
            return
        before = self._seen.get(name)
        if before is None or before.stamp != stamp:
            self._settled.pop(name, None)
            self._ready.pop(name, None)
            arrival = Arrival(recording, stamp, self._clock())
            if self._knows(recording, stamp):
                self.settle(arrival)
            else:
                self._seen[name] = arrival
        elif name not in self._ready:
            late = self._clock() - before.since >= self._patience
            # Only once before it is late: what was postponed has not changed.
            if late or not before.is_tried:
                before.is_late, before.is_tried = late, True
                self._ready[name] = None


def look_at(recording: Recording) -> Stamp:
    """Look at a recording's size and times; what cannot be looked at has a stamp of its own."""
    try:
        return recording.stamp()
    except RecordingError as error:
        return Stamp(_CANNOT_BE_LOOKED_AT, error.reason)


def _looks_whole(recording: Recording) -> bool:
    try:
        with open_sound(recording) as sound:
            refuse_short_container(sound.file, sound.raw)
            return not leaves_length_open(sound.file)
    except RecordingError:
        return False
