"""The work of a watch: a batch of recordings that have come, to rows of its tables and lines of its journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.bundle import Bundle
from birdemb.embed.arrivals import Arrival, Arrivals, look_at
from birdemb.embed.recordings import FoundRecordings, Recording, Stamp
from birdemb.errors import RecordingError
from birdemb.headers import find_top_frequency, read_origins
from birdemb.inference import predict_soundscapes
from birdemb.listing import SkippedRecording, write_skipped
from birdemb.prediction import Prediction
from birdemb.tables.forms import Output
from birdemb.tables.source import TableSource
from birdemb.watch_journal import DoneRecording, WatchJournal
from birdemb.watch_tables import WatchedTables, select_recordings
from birdemb.workspace import Workspace

__all__ = ["Rows", "WatchReport", "WatchWork", "write_stamp"]

_RECORDINGS_A_BATCH = 64
_BYTES_A_BATCH = 1 << 28  # three quarters of an hour of 16 bits at 48 kHz


@dataclass
class WatchReport:
    """What a watch did until it was stopped.

    Parameters
    ----------
    outputs : sequence of Output
        The tables.
    journal : Path
    recordings, windows : int
        That were predicted.
    skipped : int
        Recordings that could not be used.
    """

    outputs: Sequence[Output]
    journal: Path
    recordings: int = 0
    windows: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class Rows:
    """How predictions become rows.

    Parameters
    ----------
    outputs : sequence of Output
        The tables.
    bundle : Bundle
    folder : Path
        Of the recordings.
    thresholds : ndarray of shape (classes,), optional
        Probability from which on each class is detected.
    merge : float, optional
        Join detections of a class that are at most so many seconds apart.
    zone : tzinfo, optional
        Of the recorders' clocks and of the times that are told.
    postprocess : callable
        Post-processes the prediction of some recordings, for tables of windows.
    """

    outputs: Sequence[Output]
    bundle: Bundle
    folder: Path
    thresholds: NDArray[np.float64] | None
    merge: float | None
    zone: tzinfo | None
    postprocess: Callable[[Prediction, FoundRecordings], Prediction]

    def of(self, prediction: Prediction, recordings: Sequence[Recording]) -> TableSource:
        """Give what tables are written from."""
        by_name = {recording.name: recording for recording in recordings}
        known = (by_name[entry.recording] for entry in prediction.recordings)
        return TableSource(
            prediction,
            str(self.folder),
            self.thresholds,
            self.merge,
            read_origins(known, self.zone) if any(output.has_times for output in self.outputs) else {},
            top_frequency=find_top_frequency(recordings, int(self.bundle.identities[0].get("sample_rate", 0))),
        )

    def of_nothing(self) -> TableSource:
        """Give what headers are written from."""
        bundle = self.bundle
        nothing = Prediction((), np.empty((0, len(bundle.classes))), bundle.classes, bundle.window, bundle.hop)
        return self.of(nothing, ())


@dataclass
class WatchWork:
    """Predicts the recordings that have come, some at a time.

    Parameters
    ----------
    rows : Rows
    place : Workspace
    journal : WatchJournal
    tables : WatchedTables
        Opened.
    arrivals : Arrivals
    settings : dict
        weights, jobs, backend, scheduler, as `predict_soundscapes` has them.
    tell : callable
        Is given lines.
    report : WatchReport
        Is kept up to date.
    """

    rows: Rows
    place: Workspace
    journal: WatchJournal
    tables: WatchedTables
    arrivals: Arrivals
    settings: dict[str, Any]
    tell: Callable[[str], None]
    report: WatchReport
    _listed: int | None = field(default=None, init=False)

    @property
    def skipped(self) -> Path:
        """The table of what could not be used."""
        return self.report.journal.with_name("skipped.csv")

    def work(self) -> bool:
        """Predict a batch, append its rows and note it in the journal; gives whether there was one.

        Raises
        ------
        BirdembError, OSError, sqlite3.OperationalError
            If that cannot be done. Nothing of the batch is settled then, and no row of it is in a table; files of one
            recording each may be.
        """
        taken = self.arrivals.take(_RECORDINGS_A_BATCH, _BYTES_A_BATCH)
        if not taken:
            return False
        begun = time.monotonic()
        batch = self._leave_out(taken)
        problems = []
        done: list[DoneRecording] = []
        rows: dict[Path, int] = {}
        if batch:
            found = FoundRecordings(str(self.rows.folder), [arrival.recording for arrival in batch.values()])
            listing, prediction = predict_soundscapes(self.rows.bundle, found, self.place, **self.settings)
            for arrival in list(batch.values()):
                if look_at(arrival.recording) != arrival.stamp:
                    self.arrivals.renew(arrival)
                    del batch[arrival.recording.name]
            problems = [entry for entry in listing.skipped if entry.recording in batch]
            done = [
                DoneRecording(
                    *(entry.recording, write_stamp(batch[entry.recording].stamp), entry.sha256),
                    *(entry.windows, entry.seconds, self.tables.place_of(entry.recording)),
                )
                for entry in listing.recordings
                if entry.recording in batch
            ]
            if done:
                kept = select_recordings(prediction, [entry.recording for entry in done])
                detections = self.rows.of(kept, found.recordings)
                windows = detections
                if any(output.of_windows for output in self.rows.outputs):
                    windows = replace(detections, prediction=self.rows.postprocess(kept, found))
                rows = self.tables.write(self.journal, windows, detections, done)
        for entry in done:
            self.arrivals.settle(batch[entry.recording])
        for problem in problems:
            self._doubt(batch[problem.recording], problem)
        self._list_skipped()
        self._report(done, rows, time.monotonic() - begun)
        return True

    def _leave_out(self, taken: Sequence[Arrival]) -> dict[str, Arrival]:
        """Give those that are to be predicted, by name: not those that hold what they held, nor a namesake."""
        batch: dict[str, Arrival] = {}
        places: dict[str | None, str] = {}
        for arrival in taken:
            name = arrival.recording.name
            known = self.journal.content_of(name)
            if known is not None and _still_holds(arrival, known):
                self.journal.restamp(name, write_stamp(arrival.stamp))
                self.arrivals.settle(arrival)
                continue
            place = self.tables.place_of(name)
            owner = places.setdefault(place, name) if place is not None else name
            if owner == name and place is not None:
                owner = self.journal.other_owner_of(place, name) or name
            if owner == name:
                batch[name] = arrival
            else:
                first = owner.encode(errors="backslashreplace").decode()
                reason = f"its rows could not be told from those of {first}, which came first; rename it"
                self._skip(arrival, SkippedRecording(name, "label", reason))
        return batch

    def _doubt(self, arrival: Arrival, problem: SkippedRecording) -> None:
        """Wait for a recording that cannot be used to change; list it, if it had time enough."""
        if arrival.is_late:
            self._skip(arrival, problem)
        else:
            self.arrivals.postpone(arrival)

    def _skip(self, arrival: Arrival, problem: SkippedRecording) -> None:
        self.journal.skip(problem, write_stamp(arrival.stamp))
        self.arrivals.settle(arrival)
        self.report.skipped += 1
        name = problem.recording.encode("unicode_escape").decode()
        self.tell(f"skipped {name}: {problem.reason}")

    def _list_skipped(self) -> None:
        skipped = self.journal.skipped()
        if hash(tuple(skipped)) != self._listed:
            write_skipped(self.skipped, skipped)
            self._listed = hash(tuple(skipped))

    def _report(self, done: Sequence[DoneRecording], rows: dict[Path, int], seconds: float) -> None:
        if not done:
            return
        windows = sum(entry.windows for entry in done)
        self.report.recordings += len(done)
        self.report.windows += windows
        written = ", ".join(f"rows in {path.name}: {number:,}" for path, number in rows.items())
        waiting = f", the first for {self.arrivals.longest_wait:.0f} s" if self.arrivals.ready else ""
        self.tell(
            f"recordings: {len(done):,}, windows: {windows:,}, {written}, in {seconds:.1f} s; "
            f"waiting: {self.arrivals.ready:,}{waiting}"
        )


def write_stamp(stamp: Stamp) -> str:
    """Write a stamp for the journal."""
    return f"{stamp.size} {stamp.tag}"


def _still_holds(arrival: Arrival, sha256: str) -> bool:
    try:
        return arrival.recording.hash() == sha256 and arrival.recording.stamp() == arrival.stamp
    except RecordingError:
        return False  # said when it is predicted
