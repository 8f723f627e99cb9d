"""Predicting without end: recordings that come into a folder, and their rows at the end of a table."""

from __future__ import annotations

import errno
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from birdemb.classify.bundle_file import read_bundle
from birdemb.classify.checks import check_number
from birdemb.classify.postprocessing.spelling import choose_steps
from birdemb.defaults import DEFAULT_WORKSPACE
from birdemb.embed.arrivals import Arrivals
from birdemb.embed.remote import is_url
from birdemb.errors import BirdembError, InputError
from birdemb.inference import check_weights
from birdemb.kit_use import find_bundle, use_models
from birdemb.locking import hold_lock
from birdemb.origin import parse_zone
from birdemb.postprocess import postprocess as apply_steps
from birdemb.predict_outputs import (
    choose_outputs,
    choose_thresholds,
    refuse_among_recordings,
    refuse_recordings,
    refuse_to_overwrite,
)
from birdemb.recording_context import check_place
from birdemb.storage import hash_file, hash_json
from birdemb.watch_batches import Rows, WatchReport, WatchWork, write_stamp
from birdemb.watch_journal import WatchJournal
from birdemb.watch_tables import WatchedTables, refuse_other_forms
from birdemb.workspace import Workspace

__all__ = ["DEFAULT_INTERVAL", "DEFAULT_PATIENCE", "WatchReport", "watch"]

DEFAULT_INTERVAL = 10.0
"""Seconds between two looks at the folder."""

DEFAULT_PATIENCE = 600.0
"""Seconds after which a recording that does not look whole is taken for what it is."""

_LONGEST_REST = 0.5  # seconds: whoever stops the watch does not wait longer
_LONGEST_DELAY = 300.0  # seconds between two attempts at what cannot be done
_DOUBLINGS = 64  # of the interval, at most; beyond 1,023 there is no such float
_ATTEMPTS = 3  # where worker processes were killed
# What may be over in a while: a full disk, a drive that is not there.
_PASSING = frozenset(
    getattr(errno, name)
    for name in (
        *("EACCES", "EBUSY", "EDQUOT", "EFBIG", "EHOSTDOWN", "EIO", "ENODEV", "ENOENT"),
        *("ENOSPC", "ENOTCONN", "ENXIO", "EROFS", "ESTALE", "ETIMEDOUT"),
    )
    if hasattr(errno, name)
)


def watch(
    path: str | Path,
    *,
    output: str | Path = "submission.csv",
    form: str | None = None,
    detections: str | Path | None = None,
    detections_form: str | None = None,
    min_confidence: float | None = None,
    merge: float | None = None,
    time_zone: str | None = None,
    model: str | Path | None = None,
    postprocess: str = "auto",
    latitude: float | None = None,
    longitude: float | None = None,
    week: int | None = None,
    weights: str | Path | None = None,
    workspace: str | Path = DEFAULT_WORKSPACE,
    jobs: int = -1,
    backend: str = "loky",
    scheduler: str | None = None,
    interval: float = DEFAULT_INTERVAL,
    patience: float = DEFAULT_PATIENCE,
    stop: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda _: None,
    wait: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> WatchReport:
    """Predict the recordings in a folder and those that come into it, and append their rows to a table.

    Each recording gets its rows once, whatever ends the watch: the same call goes on where it was. A recording that
    was changed is predicted again; where tables have one file for all, its new rows follow and the old ones stay.

    Parameters
    ----------
    path : path
        A folder of this machine.
    output, form, detections, detections_form, min_confidence, merge, time_zone, model
        As of `birdemb.predicting.predict_folder`, but for forms that cannot grow: Parquet, and one file of Raven or
        Audacity for all recordings.
    postprocess, latitude, longitude, week, weights, workspace
        As there.
    jobs, backend, scheduler
        As there.
    interval : float
        Seconds between two looks at the folder. A recording is predicted when two looks find it the same.
    patience : float
        Seconds without change after which one that does not look whole is predicted, or listed as skipped.
    stop : callable
        Asked again and again; the watch ends once it says True.
    tell : callable
        Is given a line for each batch of recordings, and for whatever goes wrong.
    wait : callable
        Waits for so many seconds.
    clock : callable
        Gives seconds.

    Returns
    -------
    WatchReport

    Raises
    ------
    BirdembError
        If there is no such folder or bundle, the encoder cannot be had, the table cannot grow or would lie beside the
        recordings, it was written by another watch or with other settings, or somebody else changed it. It is left as
        it is then.
    """
    place = Workspace(Path(workspace))
    if is_url(str(path)) or not Path(path).is_dir():
        raise InputError(f"{path} is no folder of this machine, as --watch needs one. Check the path.")
    refuse_recordings(output, detections)
    outputs = choose_outputs(output, form, detections, detections_form, min_confidence=min_confidence, merge=merge)
    for one in outputs:
        refuse_other_forms(one)
        refuse_among_recordings(one, Path(path))
    model = Path(model) if model is not None else place.last_bundle()
    named, model = model, find_bundle(model)
    if not model.is_file():
        raise InputError(f"There is no bundle {model}. Check the path, or fit one with `birdemb fit`.")
    refuse_to_overwrite(outputs, model, weights)
    bundle = read_bundle(model)
    steps = choose_steps(postprocess, bundle.postprocessing, bundle.window)
    with use_models(named):
        check_place(latitude, longitude, week, steps.asks)
    if bundle.ensemble.needs_whole_table:
        raise InputError(
            f"{model} blends its heads by their ranks among all windows, and a folder that is watched has no last one. "
            "Fit it with another --blend, such as mean."
        )
    thresholds = choose_thresholds(bundle, model, min_confidence, outputs)
    zone = parse_zone(time_zone) if time_zone is not None else None
    check_number("The interval between two looks", interval, above=0)
    check_number("The patience", patience, at_least=0)
    check_weights(weights, bundle, named)
    for one in outputs:
        one.check_writable(bundle.labels)
    folder = place.watch(_name_watch(outputs[0].path, place))
    with (
        use_models(named),
        _refuse_second(folder / "lock", outputs[0].path, tell),
        WatchJournal(folder / "journal.sqlite") as journal,
    ):
        rows = Rows(
            outputs,
            bundle,
            Path(path).resolve(),
            thresholds,
            merge,
            zone,
            lambda prediction, found: apply_steps(
                prediction, steps, found, latitude=latitude, longitude=longitude, week=week
            ),
        )
        tables = WatchedTables(outputs, folder, rows.of_nothing())
        about = {
            "folder": _tell_place(rows.folder, place),
            "bundle": hash_file(model),
            "form": [one.form for one in outputs],
            "table": [_tell_place(one.path.resolve(), place) for one in outputs],
            "thresholds": hash_json([None if np.isnan(value) else value for value in thresholds.tolist()])
            if thresholds is not None
            else None,
            "merge": merge,
            "time zone": time_zone,
            "post-processing": postprocess,
            "place": [latitude, longitude, week],
            "columns": hash_json(tables.headers),
        }
        _begin_or_go_on(journal, about, tables, outputs[0].path)
        work = WatchWork(
            rows,
            place,
            journal,
            tables,
            Arrivals(
                Path(path),
                patience=patience,
                knows=lambda recording, stamp: journal.knows(recording.name, write_stamp(stamp)),
                clock=clock,
            ),
            settings={
                "weights": weights,
                "jobs": jobs,
                "backend": backend,
                "scheduler": scheduler,
                "show_progress": False,
            },
            tell=tell,
            report=WatchReport(outputs, folder / "journal.sqlite"),
        )
        tell(f"Watching {rows.folder}, every {interval:g} s; rows go to {', '.join(str(one.path) for one in outputs)}.")
        _Rounds(work, interval, stop, wait, clock).run()
        return work.report


class _Rounds:
    """Looks at the folder and works, again and again."""

    def __init__(
        self,
        work: WatchWork,
        interval: float,
        stop: Callable[[], bool],
        wait: Callable[[float], object],
        clock: Callable[[], float],
    ) -> None:
        self._work = work
        self._tell = work.tell
        self._interval = interval
        self._stop = stop
        self._wait = wait
        self._clock = clock
        self._gone = ""
        self._problem = ""
        self._failed = 0
        self._killed = 0

    def run(self) -> None:
        look_at = self._clock()
        while not self._stop():
            if self._clock() >= look_at:
                self._look()
                look_at = self._clock() + self._interval
            try:
                worked = not self._gone and self._work.work()
            except (BirdembError, OSError, sqlite3.OperationalError) as error:
                self._fail(error)
                delay = self._interval * 2 ** min(self._failed, _DOUBLINGS)
                self._rest(self._clock() + min(delay, max(self._interval, _LONGEST_DELAY)))
                continue
            if worked and self._failed:
                self._tell("It goes on.")
                self._failed, self._killed, self._problem = 0, 0, ""
            if not worked:
                self._rest(look_at)

    def _look(self) -> None:
        try:
            self._work.arrivals.look()
        except InputError as error:
            if str(error) != self._gone:
                self._tell(f"{error} It is looked for again every {self._interval:g} s.")
            self._gone = str(error)
        else:
            if self._gone:
                self._tell(f"There are recordings in {self._work.rows.folder} now.")
            self._gone = ""

    def _fail(self, error: Exception) -> None:
        """Say what went wrong, once; raise it if it will not pass."""
        self._failed += 1
        cause = _find_passing(error)
        self._killed += cause is None
        if cause is None and (type(error) is not BirdembError or self._killed >= _ATTEMPTS):
            raise error
        problem = f"{type(cause).__name__} {getattr(cause, 'errno', None)}"
        if problem != self._problem:
            self._tell(f"{error} This watch tries again until it can be done.")
        self._problem = problem

    def _rest(self, until: float) -> None:
        while not self._stop() and (left := until - self._clock()) > 0:
            self._wait(min(left, _LONGEST_REST))


def _find_passing(error: BaseException | None) -> BaseException | None:
    """Give what may be over in a while, among an error and its causes."""
    while error is not None:
        if isinstance(error, sqlite3.OperationalError) or getattr(error, "errno", None) in _PASSING:
            return error
        error = error.__cause__
    return None


def _begin_or_go_on(journal: WatchJournal, about: dict[str, Any], tables: WatchedTables, output: Path) -> None:
    """Make sure that an older watch was about the same, and open the tables."""
    if not journal.about or journal.is_empty:
        journal.begin(about, tables.beginning)
    for key, value in about.items():
        if journal.about.get(key) != value:
            difference = (
                "" if key in ("bundle", "thresholds", "columns") else f": {journal.about.get(key)}, now {value}"
            )
            raise InputError(
                f"The rows in {output} were written with another {key}{difference}. Use what they were written with, "
                "or name another table with -o."
            )
    tables.open(journal)


@contextmanager
def _refuse_second(lock: Path, output: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a watch, unless another process does."""

    def refuse() -> None:
        raise InputError(f"Another watch writes {output}. Stop it, or name another table with -o.")

    with hold_lock(lock, refuse) as held:
        if not held:
            tell(f"Nobody can lock files in {lock.parent}: make sure that no other watch writes {output}.")
        yield


def _name_watch(output: Path, place: Workspace) -> str:
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", output.name).strip(".-")[:40]
    return f"{readable}-{hash_json(_tell_place(output.resolve(), place))[:16]}"


def _tell_place(path: Path, place: Workspace) -> str:
    """Give a path from the folder of the workspace on, if it lies there: it may be moved as a whole."""
    base = place.folder.resolve().parent
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)
