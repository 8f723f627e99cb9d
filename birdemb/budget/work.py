"""The work: what is done of each step, and what the rest of it is expected to take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from birdemb.budget.costs import Costs
from birdemb.budget.plan import Plan, Step, order_members
from birdemb.budget.scoring import Scorer
from birdemb.classify.ensemble import Ensemble

__all__ = ["Work"]

_NEARLY_FREE = 0.01  # share of what windows cost with the first head, below which further ones go along with it


class Work:
    """What there is to do, step by step.

    Parameters
    ----------
    ensemble : Ensemble
    costs : Costs
    scorer : Scorer
        Knows what was scored.
    windows : sequence of int
        How many each recording has.
    overlap : bool
        Whether windows in between can be heard.

    Attributes
    ----------
    embedded : Counter
        (encoder, whether in between) -> windows that were embedded.
    heard : set
        (encoder, whether in between) of which nothing is left to be embedded.
    done : set
        The steps that are finished, by their member.
    """

    def __init__(
        self, ensemble: Ensemble, costs: Costs, scorer: Scorer, windows: Sequence[int], *, overlap: bool
    ) -> None:
        self._costs, self._scorer = costs, scorer
        self._head_names = [member.head.name for member in ensemble.members]
        self._encoder_of = [member.encoder for member in ensemble.members]
        self._windows = sum(windows)
        self._between = sum(max(0, count - 1) for count in windows) if overlap else 0
        weights = (ensemble.blend.weights / ensemble.blend.weights.sum(axis=0)).mean(axis=1)
        heads = [costs.heads[member] for member in range(len(ensemble.members))]
        self.order = order_members(
            weights.tolist(), heads, self._encoder_of, {number: pace.at() for number, pace in enumerate(costs.paces)}
        )
        self.embedded: Counter[tuple[int, bool]] = Counter(costs.cached)
        self._uncached = max(0, self._windows - costs.cached[self._encoder_of[self.order[0]], False])
        self.heard: set[tuple[int, bool]] = set()
        self.done: set[int | None] = set()

    def encoder_of(self, member: int) -> int:
        """Give the encoder of a head."""
        return self._encoder_of[member]

    def members_on(self, encoder: int) -> list[int]:
        """Give the heads on an encoder that are done."""
        return [member for member in self.order if member in self.done and self._encoder_of[member] == encoder]

    def steps(self) -> list[Step]:
        """Give all steps in their order, with what is left of each."""
        steps = []
        seen: set[int] = set()
        nearly_free = self._find_nearly_free()
        for member in self.order:
            encoder = self._encoder_of[member]
            new = encoder not in seen
            seen.add(encoder)
            seconds, windows = 0.0, 0
            if member not in self.done:
                windows = self._left_to_score(member, between=False)
                seconds = windows * self._costs.heads[member]
                if new:
                    to_hear = self._left_to_hear(encoder, between=False)
                    seconds += self._hearing_seconds(encoder, to_hear)
                    windows = max(windows, to_hear)
            steps.append(Step(self._name(member, new=new), seconds, windows, member, member in nearly_free))
        if self._between:
            seconds, windows = 0.0, 0
            if None not in self.done:
                for encoder in sorted(seen):
                    windows = self._left_to_hear(encoder, between=True)
                    seconds += self._hearing_seconds(encoder, windows)
                for member in self.order:
                    seconds += self._left_to_score(member, between=True) * self._costs.heads[member]
            steps.append(Step("windows in between, averaged with their neighbours", seconds, windows))
        return steps

    def leading(self, plan: Plan) -> list[int]:
        """Give the heads that the next steps of a plan add to one encoder: they score together while it hears."""
        members: list[int] = []
        for step in plan.chosen:
            if step.member in self.done:
                continue
            if step.member is None or (members and self._encoder_of[step.member] != self._encoder_of[members[0]]):
                break
            members.append(step.member)
        return members

    def _find_nearly_free(self) -> set[int]:
        """Give the heads after the first one that together take next to nothing beside it and its encoder."""
        first, *others = self.order
        encoder = self._encoder_of[first]
        seconds = self._uncached * self._costs.paces[encoder].at() + self._windows * self._costs.heads[first]
        left = _NEARLY_FREE * seconds
        found = set()
        for member in others:
            left -= self._windows * self._costs.heads[member]
            if self._encoder_of[member] != encoder or left < 0:
                break
            found.add(member)
        return found

    def _left_to_hear(self, encoder: int, *, between: bool) -> int:
        if (encoder, between) in self.heard:
            return 0
        return max(0, (self._between if between else self._windows) - self.embedded[encoder, between])

    def _left_to_score(self, member: int, *, between: bool) -> int:
        place = (self._encoder_of[member], between)
        windows = self.embedded[place] if place in self.heard else self._between if between else self._windows
        return max(0, windows - self._scorer.count(member, between=between))

    def _hearing_seconds(self, encoder: int, windows: int) -> float:
        return windows * self._costs.paces[encoder].at() + (self._costs.loading[encoder] if windows else 0.0)

    def _name(self, member: int, *, new: bool) -> str:
        head, encoder = self._head_names[member], self._encoder_of[member]
        settings = self._costs.encoders[encoder]
        name = f"{settings.expected['encoder']} in {settings.precision}"
        if new:
            return f"{name} with {head}"
        return f"{head} on {name}" if len(self._costs.encoders) > 1 else head
