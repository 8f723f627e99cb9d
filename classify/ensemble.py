"""Heads together: each on the embeddings of its encoder, blended, and calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from birdemb.classify.blend_weights import keep_weights
from birdemb.classify.blending import Blend
from birdemb.classify.calibration import Calibration
from birdemb.classify.head import MultiLabelHead
from birdemb.classify.prior import Prior
from birdemb.classify.thresholds import Thresholds
from birdemb.classify.trust import weigh_correction
from birdemb.errors import InputError

__all__ = ["Ensemble", "Heard", "Member", "fit_member", "score_member"]


@dataclass(frozen=True, eq=False)
class Heard:
    """What one encoder heard in a number of windows.

    Parameters
    ----------
    embeddings : ndarray of shape (n, dim), float32
    logits : ndarray of shape (n, own classes), float32, or None
        Those of the encoder's own classes, where they were cached.
    """

    embeddings: NDArray[np.float32]
    logits: NDArray[np.float32] | None = None

    def take(self, rows: NDArray[Any]) -> Heard:
        """Give some of the windows, by a mask or by their numbers."""
        return Heard(self.embeddings[rows], None if self.logits is None else self.logits[rows])


@dataclass(frozen=True, eq=False)
class Member:
    """A head and the encoder whose embeddings it takes.

    Parameters
    ----------
    head : MultiLabelHead
    encoder : int
        Which of the ensemble's encoders.
    trust : ndarray of shape (classes,), float64, optional
        Share, in 0 to 1, that is kept of what the head learnt to add to the encoder's own logits, where it starts from
        these: see `birdemb.classify.trust`. All of it by default.
    """

    head: MultiLabelHead
    encoder: int = 0
    trust: NDArray[np.float64] | None = None


def fit_member(
    head: MultiLabelHead,
    heard: Heard,
    prior: Prior | None,
    targets: NDArray[np.bool_],
    weights: NDArray[np.float64],
    groups: NDArray[np.int64],
) -> MultiLabelHead:
    """Fit a head on what an encoder heard and what it knows.

    Parameters
    ----------
    head : MultiLabelHead
        Is fitted.
    heard : Heard
    prior : Prior or None
    targets : ndarray of shape (n, classes), bool
    weights : ndarray of shape (n, classes), float64
    groups : ndarray of shape (n,), int64

    Returns
    -------
    MultiLabelHead
        The same head.
    """
    X, offset = _see(heard, prior)
    return head.fit(X, targets, weights, offset=offset, groups=groups)


def score_member(member: Member, heard: Heard, prior: Prior | None) -> NDArray[np.float64]:
    """Give the logits of a member with a fitted head, shape (n, classes), for what its encoder heard."""
    X, offset = _see(heard, prior)
    scores = member.head.decision_function(X, offset)
    if offset is None or member.trust is None:
        return scores
    return weigh_correction(scores, offset, member.trust)


def _see(heard: Heard, prior: Prior | None) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    if prior is None:
        return heard.embeddings, None
    if prior.kind == "features":
        return prior.features(heard.embeddings, heard.logits), None
    return heard.embeddings, prior.offset(heard.embeddings, heard.logits)


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Fitted heads, how they are blended, and what their scores mean.

    Parameters
    ----------
    members : tuple of Member
        At least one, all of the same classes.
    priors : tuple of Prior or None, one for each encoder
        What the encoder knows of the classes by itself.
    blend : Blend
    calibration : Calibration or None
        Where there were enough recordings to learn it from.
    thresholds : Thresholds or None
        As `calibration`.

    Raises
    ------
    InputError
        If the parts do not fit together.
    """

    members: tuple[Member, ...]
    priors: tuple[Prior | None, ...]
    blend: Blend
    calibration: Calibration | None = None
    thresholds: Thresholds | None = None

    def __post_init__(self) -> None:
        if not self.members:
            raise InputError("An ensemble needs at least one head.")
        for member in self.members:
            if getattr(member.head, "classes_", None) is None:
                raise InputError(f"The head {member.head.name} is not fitted. Call fit first.")
            if not 0 <= member.encoder < len(self.priors):
                raise InputError(
                    f"The head {member.head.name} belongs to encoder {member.encoder}, which is not there."
                )
            if member.trust is not None and (
                member.trust.shape != member.head.classes_.shape
                or not ((member.trust >= 0) & (member.trust <= 1)).all()
            ):
                raise InputError(f"The trust in the head {member.head.name} is not a share in 0 to 1 for each class.")
        counts = {len(member.head.classes_) for member in self.members}
        if len(counts) > 1:
            raise InputError(f"The heads predict {' and '.join(map(str, sorted(counts)))} classes; expected the same.")

    @property
    def classes(self) -> int:
        """Count the classes."""
        return len(self.members[0].head.classes_)

    @property
    def needs_whole_table(self) -> bool:
        """Whether windows cannot be blended a part at a time, as their ranks are those among all of them."""
        return self.blend.method == "ranks"

    def keep(self, members: Sequence[int]) -> Ensemble:
        """Give an ensemble of some of the heads.

        What the others weighed in a class is shared among those by what they weigh there; calibration and thresholds
        remain what was learnt for all together.

        Parameters
        ----------
        members : sequence of int
            Their numbers; at least one, none twice.

        Returns
        -------
        Ensemble
        """
        if list(members) == list(range(len(self.members))):
            return self
        blend = Blend(self.blend.method, keep_weights(self.blend.weights, members))
        return replace(self, members=tuple(self.members[member] for member in members), blend=blend)

    def set_jobs(self, jobs: int) -> None:
        """Let each head work with so many threads."""
        for member in self.members:
            member.head.set_params(n_jobs=jobs)

    def score_members(self, heard: Sequence[Heard]) -> NDArray[np.float64]:
        """Give the logits of each head.

        Parameters
        ----------
        heard : sequence of Heard
            One for each encoder; the same windows in each.

        Returns
        -------
        ndarray of shape (members, n, classes), float64
        """
        return np.stack(
            [score_member(member, heard[member.encoder], self.priors[member.encoder]) for member in self.members]
        )

    def combine(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Blend and calibrate the logits of the heads.

        Parameters
        ----------
        scores : ndarray of shape (members, n, classes), float64
            As `score_members` gives them.

        Returns
        -------
        ndarray of shape (n, classes), float64
            Probabilities.
        """
        blended = self.blend.apply(scores)
        if self.calibration is not None:
            return self.calibration.apply(blended)
        probabilities: NDArray[np.float64] = expit(blended)
        return probabilities

    def predict_proba(self, heard: Sequence[Heard]) -> NDArray[np.float64]:
        """Give the probability of each class in each window: `combine` of `score_members`.

        Parameters
        ----------
        heard : sequence of Heard
            One for each encoder; the same windows in each.

        Returns
        -------
        ndarray of shape (n, classes), float64
        """
        return self.combine(self.score_members(heard))
