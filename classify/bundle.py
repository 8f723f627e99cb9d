"""The bundle: fitted heads and all that a prediction needs to know, as one object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.checks import check_number, check_whole_number
from birdemb.classify.ensemble import Ensemble
from birdemb.classify.postprocessing import Postprocessing
from birdemb.errors import InputError
from birdemb.identity import ENCODER_NAME
from birdemb.taxonomy import ClassName

__all__ = ["Bundle"]

LONGEST_WINDOW = 3600.0
SHORTEST_HOP = 0.01


@dataclass(frozen=True, eq=False)
class Bundle:
    """Fitted heads, and what their columns and their embeddings are.

    Parameters
    ----------
    ensemble : Ensemble
        Its heads fitted on an indicator matrix.
    classes : tuple of ClassName
        The columns of what the ensemble predicts, in their order.
    identities : tuple of dict
        Full identity of each encoder that made embeddings, as JSON can hold it. At least its name
        ``encoder``, the size ``dim`` of an embedding, and ``window`` and ``hop`` in seconds, which all have in common.
    shares : ndarray of shape (classes,), float64
        Share of the training windows in which each class is present.
    provenance : dict
        Where the heads come from, as JSON can hold it: versions, seed, command line, digest of the data,
        time of creation.
    scores : dict
        How well the heads did on recordings that they were not fitted on, as JSON can hold it.
    postprocessing : Postprocessing
        What `predict` does with the probabilities of the ensemble, unless told otherwise; nothing by default.

    Raises
    ------
    InputError
        If the parts do not fit together.
    """

    ensemble: Ensemble
    classes: tuple[ClassName, ...]
    identities: tuple[dict[str, Any], ...]
    shares: NDArray[np.float64]
    provenance: dict[str, Any]
    scores: dict[str, Any] = field(default_factory=dict)
    postprocessing: Postprocessing = field(default_factory=Postprocessing)

    def __post_init__(self) -> None:
        if not all(self.labels):
            raise InputError("A class of the bundle has no name.")
        if len(set(self.labels)) != len(self.labels):
            twice = sorted({name for name in self.labels if self.labels.count(name) > 1})
            raise InputError(f"These classes come more than once in the bundle: {', '.join(twice)}.")
        if self.ensemble.classes != len(self.classes):
            raise InputError(
                f"The heads predict {self.ensemble.classes} classes; the bundle names {len(self.classes)}."
            )
        if self.shares.shape != (len(self.classes),) or self.shares.dtype != np.float64:
            raise InputError(
                f"The shares are {self.shares.dtype} of shape {self.shares.shape}; "
                f"expected float64 of shape ({len(self.classes)},)."
            )
        if not ((self.shares >= 0) & (self.shares <= 1)).all():
            raise InputError("A share of the bundle is not between 0 and 1.")
        if len(self.identities) != len(self.ensemble.priors):
            raise InputError(
                f"The bundle names {len(self.identities)} encoders; its heads take {len(self.ensemble.priors)}."
            )
        for identity in self.identities:
            _check_identity(identity)
        for key in ("window", "hop"):
            if len({float(identity[key]) for identity in self.identities}) > 1:
                raise InputError(f"The encoders of the bundle do not have the same {key}.")
        if self.postprocessing.classes not in (None, len(self.classes)):
            raise InputError(
                f"The post-processing was learnt for {self.postprocessing.classes} classes; "
                f"the bundle names {len(self.classes)}."
            )
        for member in self.ensemble.members:
            prior, dim = self.ensemble.priors[member.encoder], self.identities[member.encoder]["dim"]
            expected = dim + prior.more_features if prior is not None and prior.kind == "features" else dim
            if member.head.n_features_in_ != expected:
                raise InputError(
                    f"The identity in the bundle makes {expected} features; the head {member.head.name} was fitted on "
                    f"{member.head.n_features_in_}."
                )

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes as the table of labels names them."""
        return tuple(name.label for name in self.classes)

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads by name, with their encoders where there are several."""
        several = len(self.identities) > 1
        return tuple(
            f"{member.head.name} on {self.identities[member.encoder]['encoder']}" if several else member.head.name
            for member in self.ensemble.members
        )

    @property
    def window(self) -> float:
        """Length of a window in seconds."""
        return float(self.identities[0]["window"])

    @property
    def hop(self) -> float:
        """Seconds from one window's start to the next's."""
        return float(self.identities[0]["hop"])


def _check_identity(identity: Mapping[str, Any]) -> None:
    missing = {"encoder", "dim", "window", "hop"} - identity.keys()
    if missing:
        raise InputError(f"The identity in the bundle lacks {', '.join(sorted(missing))}.")
    encoder, dim, window, hop = (identity[key] for key in ("encoder", "dim", "window", "hop"))
    if not isinstance(encoder, str) or not ENCODER_NAME.fullmatch(encoder):
        # A path would be opened as that of a card, with all that lies beside it.
        raise InputError(f"The identity in the bundle names the encoder {encoder!r}, which is no name of one.")
    check_whole_number("dim in the identity of the bundle", dim, at_least=1)
    check_number("window in the identity of the bundle", window, above=0, at_most=LONGEST_WINDOW)
    check_number("hop in the identity of the bundle", hop, at_least=SHORTEST_HOP, at_most=window)
