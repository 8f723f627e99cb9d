"""Prediction that may end at any time: a table of priors at once, and better ones for as long as there is time.

Steps follow each other in the order of what they bring for what they cost: the first head with its encoder over all
recordings, then one more head at a time, each with its encoder where that is new, and at last the windows in between.
After every few seconds the table is written anew from all that is known, and what still fits is planned anew from what
things have been seen to cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from birdemb.budget.budget_report import BudgetReport, StepReport, describe_change, describe_plan
from birdemb.budget.costs import Costs, measure_costs, shift_windows
from birdemb.budget.hearing import Hearing
from birdemb.budget.plan import Plan, Step, make_plan
from birdemb.budget.rows import ExpectedRecording, expect_rows, fill_with_priors
from birdemb.budget.scores import Scores
from birdemb.budget.scoring import Scorer
from birdemb.budget.stages import Stages
from birdemb.budget.time_budget import TimeBudget
from birdemb.budget.work import Work
from birdemb.cache import EmbeddingCache
from birdemb.classify.bundle import Bundle
from birdemb.embed.following import Standing
from birdemb.embed.recordings import find_recordings
from birdemb.embed.windows import windows_at_once
from birdemb.errors import InputError
from birdemb.inference import EncoderSettings, embed_as_fitted
from birdemb.listing import EmbeddedRecording, Listing, SkippedRecording
from birdemb.prediction import Prediction
from birdemb.workspace import Workspace

__all__ = ["predict_within"]

Publish = Callable[[Prediction, Sequence[ExpectedRecording]], object]
Tell = Callable[[str], None]

_MOST_WRITING = 0.02  # share of the time that tables written early may take
_SECONDS_BETWEEN_TABLES = 10.0  # at least; what lies between is what a kill can cost
_OVERLAP = 0.5  # share of a window that one in the middle between two covers
_SAFETY = 1.5  # times what the end was measured to take is kept free for it


def predict_within(
    bundle: Bundle,
    path: str | Path,
    place: Workspace,
    budget: TimeBudget,
    publish: Publish,
    *,
    tell: Tell = lambda _: None,
    weights: str | Path | None = None,
    jobs: int = -1,
    backend: str = "loky",
    **settings: Any,  # noqa: ANN401 - each has its own type
) -> tuple[Listing, Prediction, list[ExpectedRecording], BudgetReport]:
    """Predict soundscapes as well as there is time for.

    Parameters
    ----------
    bundle : Bundle
    path : path or URL
        A folder of soundscapes, or one.
    place : Workspace
        Its cache is used.
    budget : TimeBudget
    publish : callable
        Writes a table of a prediction of some recordings, and of the rows that there have to be.
    tell : callable
        Is told what is planned, a line at a time.
    weights : str or Path, optional
    jobs : int
        Processes at the same time; -1 for as many as there are cores.
    backend : str
        Of this machine alone.
    **settings
        scheduler and show_progress, as `birdemb.embed.run.embed_folder` has them.

    Returns
    -------
    listing : Listing
        The soundscapes that were predicted, some perhaps in part, and those that cannot be used.
    prediction : Prediction
        Of those that were predicted.
    expected : list of ExpectedRecording
        What has to be in the table.
    report : BudgetReport

    Raises
    ------
    BirdembError
        If an encoder cannot be had, or the embeddings would be others than the bundle's.
    """
    if backend != "loky":
        raise InputError(f"--time-budget works with processes of this machine, not with --backend {backend}.")
    settings |= {"weights": weights, "jobs": jobs}
    run = _Anytime(bundle, path, place, budget, publish, tell, settings)
    run.begin()
    run.improve()
    return run.end()


class _Anytime:
    def __init__(
        self,
        bundle: Bundle,
        path: str | Path,
        place: Workspace,
        budget: TimeBudget,
        publish: Publish,
        tell: Tell,
        settings: dict[str, Any],
    ) -> None:
        self._bundle, self._path, self._place, self._budget = bundle, path, place, budget
        self._starting = budget.elapsed
        self._publish, self._tell, self._settings = publish, tell, settings
        self._stages = Stages()
        self._encoders = [EncoderSettings.of(identity, place) for identity in bundle.identities]
        self._scores = Scores(bundle.ensemble, _OVERLAP)
        self._costs: Costs | None = None
        self._scorer = Scorer(bundle.ensemble, self._scores, {})
        self._work: Work | None = None
        self._expected: list[ExpectedRecording] = []
        self._folder = ""
        self._contents: dict[str, str] = {}  # of each recording that was looked at
        self._skipped: dict[str, SkippedRecording] = {}
        self._caches: dict[tuple[int, bool], EmbeddingCache] = {}
        self._first_plan: Plan | None = None
        self._told: Plan | None = None
        self._averaged = 0
        self._table_seconds = 0.0
        self._next_table = 0.0

    def begin(self) -> None:
        """Write the priors, and measure."""
        weights, jobs = self._settings["weights"], self._settings["jobs"]
        ensemble = self._bundle.ensemble
        ensemble.set_jobs(jobs)
        with self._stages.of("looking at the recordings"):
            for settings in self._encoders:
                settings.load(weights)  # what cannot be used is refused before anything is written
            found = find_recordings(self._path)
            self._folder = found.folder
            self._expected = expect_rows(found.recordings, self._encoders[0].grid)
        self._write()
        self._next_table = 0.0
        if self._budget.left <= 0:
            return
        with self._stages.of("measuring"):
            windows = [entry.windows for entry in self._expected]
            workers = min(joblib.effective_n_jobs(jobs), joblib.cpu_count())
            self._costs = measure_costs(
                ensemble,
                self._encoders,
                found.recordings,
                windows,
                self._place,
                budget=self._budget,
                weights=weights,
                workers=workers,
                # A worker imports what this process had imported when it began.
                starting=self._starting if workers > 1 else 0.0,
            )
            self._scorer = Scorer(ensemble, self._scores, self._costs.heads)
            overlap = self._bundle.hop == self._bundle.window
            self._work = Work(ensemble, self._costs, self._scorer, windows, overlap=overlap)

    def improve(self) -> None:
        """Do one step after the other, for as long as there is time."""
        while self._costs is not None and self._work is not None:
            plan = self._replan(self._work)
            step = next((step for step in plan.chosen if step.member not in self._work.done), None)
            if step is None or plan.seconds <= 0 or not self._do(step, self._costs, self._work):
                return

    def end(self) -> tuple[Listing, Prediction, list[ExpectedRecording], BudgetReport]:
        """Give what there is."""
        prediction = self._combine()
        used = self._costs.encoders if self._costs else self._encoders
        skipped = [entry for _, entry in sorted(self._skipped.items())]
        listing = Listing(self._folder, used[0].expected, prediction.recordings, skipped)
        filled, at_prior = fill_with_priors(prediction, self._expected, self._bundle.shares)
        report = BudgetReport(
            seconds=self._budget.seconds,
            margin=self._budget.margin,
            elapsed=self._budget.elapsed,
            plan=self._first_plan,
            steps=self._report_steps(),
            precisions={
                str(one.expected["encoder"]): (fitted.precision, one.precision)
                for fitted, one in zip(self._encoders, used, strict=True)
            },
            rows=len(filled.probabilities),
            at_prior=at_prior,
            stages=dict(self._stages.seconds),
            decoding=self._costs.decoding if self._costs else 0.0,
        )
        return listing, prediction, self._expected, report

    def _report_steps(self) -> list[StepReport]:
        if self._work is None:
            return []
        windows = sum(entry.windows for entry in self._expected)
        return [
            StepReport(
                step.name,
                self._averaged
                if step.member is None
                else sum(self._scores.count(sha256, step.member, between=False) for sha256 in self._contents.values()),
                windows,
            )
            for step in self._work.steps()
        ]

    def _do(self, step: Step, costs: Costs, work: Work) -> bool:
        """Do a step, or several that go together; tells whether there was time for it."""
        if step.member is None:
            for encoder in dict.fromkeys(map(work.encoder_of, work.order)):
                if not self._hear(encoder, costs, work, lambda encoder=encoder: work.members_on(encoder), between=True):  # type: ignore[misc]
                    return False
            work.done.add(None)
            return True
        encoder = work.encoder_of(step.member)
        if (encoder, False) not in work.heard:
            return self._hear(encoder, costs, work, lambda: work.leading(self._replan(work)), between=False)
        if not self._score(self._caches[encoder, False], [step.member], between=False):
            return False
        work.done.add(step.member)
        return True

    def _hear(
        self, encoder: int, costs: Costs, work: Work, members: Callable[[], Sequence[int]], *, between: bool
    ) -> bool:
        """Let an encoder hear all recordings, and heads score what it heard; tells whether there was time for it."""
        settings = shift_windows(costs.encoders[encoder]) if between else costs.encoders[encoder]
        longest = max((entry.windows for entry in self._expected), default=0)
        pace, at_once = costs.paces[encoder], min(windows_at_once(settings.grid), max(1, longest))
        workers = joblib.effective_n_jobs(self._settings["jobs"])
        before = work.embedded[encoder, between]
        along = members()

        def stop_at(waiting: int) -> float:
            # Heads are still to score what waits, and a worker looks at the clock after each batch of windows.
            heads = waiting * sum(costs.heads[member] for member in along)
            return float(self._end - _SAFETY * heads - at_once * workers * pace.at())

        def look(standing: Standing) -> None:
            nonlocal along
            work.embedded[encoder, between] = before + hearing.windows
            along = members()
            self._note(standing.recordings())
            standing.flush()
            self._score(standing.cache, along, between=between, lock=standing.cache_lock)
            if time.monotonic() >= self._next_table:
                self._write()

        hearing = Hearing(pace, stop_at, lambda: time.monotonic() >= self._next_table, look)
        with self._stages.of("decoding and encoding"):
            run = embed_as_fitted(self._path, self._place, settings, follower=hearing, **self._settings)
        if hearing.standing is not None:
            self._note(hearing.standing.recordings())
        self._note((entry.recording, entry.sha256) for entry in run.listing.recordings)
        if not between:
            self._skipped |= {entry.recording: entry for entry in run.listing.skipped}
        self._caches[encoder, between] = run.cache
        work.embedded[encoder, between] = before + hearing.windows
        if run.complete:
            work.heard.add((encoder, between))
            work.embedded[encoder, between] = sum({one.sha256: one.windows for one in run.listing.recordings}.values())
        scored = self._score(run.cache, along, between=between)
        if run.complete and scored and not between:
            work.done.update(along)
        return run.complete and scored

    def _note(self, contents: Iterable[tuple[str, str]]) -> None:
        """Take note of what recordings hold, where that could be told."""
        self._contents |= {name: sha256 for name, sha256 in contents if sha256}

    def _score(
        self,
        cache: EmbeddingCache,
        members: Sequence[int],
        *,
        between: bool,
        lock: AbstractContextManager[object] | None = None,
    ) -> bool:
        with self._stages.of("heads"):
            return self._scorer.score(
                cache, members, self._contents.values(), between=between, until=self._end, lock=lock
            )

    def _replan(self, work: Work) -> Plan:
        """Plan what is left, and tell of it where it is no longer what was told last."""
        seconds = (self._end - time.monotonic()) * (1 - _MOST_WRITING)
        plan = make_plan(work.steps(), seconds)
        self._first_plan = self._first_plan or plan
        if self._told is None or self._told.planned != plan.planned:
            lines = describe_plan(plan, self._budget) if self._told is None else [describe_change(plan)]
            self._told = plan
            for line in lines:
                self._tell(line)
        return plan

    @property
    def _end(self) -> float:
        """When the last table is to be begun, by `time.monotonic`."""
        return self._budget.deadline - self._budget.margin - _SAFETY * self._table_seconds

    def _write(self) -> None:
        """Write a table of what there is."""
        began = time.monotonic()
        with self._stages.of("blending and writing"):
            self._publish(self._combine(), self._expected)
        now = time.monotonic()
        self._table_seconds = now - began
        self._next_table = now + max(_SECONDS_BETWEEN_TABLES, self._table_seconds / _MOST_WRITING)

    def _combine(self) -> Prediction:
        """Predict what was heard, but for recordings that turned out to be broken."""
        bundle, known = self._bundle, self._contents
        usable = known.keys() - self._skipped.keys()
        names = [one.recording for one in self._expected if one.recording in usable]
        rows, self._averaged = self._scores.combine([known[name] for name in names])
        recordings, parts = [], [np.empty((0, len(bundle.classes)))]
        for name in names:
            if (probabilities := rows.get(known[name])) is not None:
                windows = len(probabilities)
                seconds = self._scorer.lengths.get(known[name], windows * bundle.hop)
                recordings.append(EmbeddedRecording(name, known[name], windows, seconds))
                parts.append(probabilities)
        return Prediction(tuple(recordings), np.concatenate(parts), bundle.classes, bundle.window, bundle.hop)
