"""What an encoder knows of the classes of a table by itself, as the start of heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdemb.classify.prior import Prior
from birdemb.embed.catalogue import find_card, load_card
from birdemb.embed.encoder import load_encoder
from birdemb.errors import BirdembError, InputError
from birdemb.taxonomy import ClassName, Match, match_classes

__all__ = ["PRIORS", "OwnKnowledge", "read_own_knowledge"]

PRIORS = ("auto", "none", "offset", "features")


@dataclass(frozen=True, eq=False)
class OwnKnowledge:
    """What an encoder knows of the classes of a table.

    Parameters
    ----------
    prior : Prior or None
        What heads start from.
    sentence : str
        Why it is so, for people.
    match : Match or None
        Which of the encoder's own classes each class is.
    """

    prior: Prior | None
    sentence: str
    match: Match | None = None

    @property
    def unmatched(self) -> tuple[str, ...]:
        """The classes that the encoder does not know."""
        return tuple(entry.label for entry in self.match.unmatched) if self.match is not None else ()


def read_own_knowledge(
    identity: dict[str, Any], classes: Sequence[ClassName], kind: str = "auto", *, card: Path | None = None
) -> OwnKnowledge:
    """Find out what an encoder knows of classes by itself.

    Parameters
    ----------
    identity : dict
        Of its embeddings.
    classes : sequence of ClassName
    kind : {"auto", "none", "offset", "features"}
        How heads are to use it. ``"auto"`` is an offset where it knows any of the classes.
    card : Path, optional
        Where its card lay when it was used last, if it is a user's own.

    Returns
    -------
    OwnKnowledge

    Raises
    ------
    InputError
        If there is no such kind; or if the encoder knows none of the classes, unless `kind` is ``"auto"``.
    MissingWeightsError
        If its weights or the names of its own classes are nowhere, unless `kind` is ``"auto"``.
    MissingDependencyError
        If a package that it needs is not installed, unless `kind` is ``"auto"``.
    """
    if kind not in PRIORS:
        raise InputError(f"There is no prior {kind!r}. Use {', '.join(map(repr, PRIORS))}.")
    if kind == "none":
        return OwnKnowledge(None, "none, as asked for")
    name = identity["encoder"]
    try:
        encoder = find_card(name, card)
        if not load_card(encoder).classes:  # asked first, as its weights may be nowhere
            return _refuse_or_tell(kind, f"{name} knows no classes by itself")
        made = load_encoder(encoder, window=float(identity["window"]), pooling=identity.get("pooling"))
        if identity.get("weights_sha256") not in (None, made.identity["weights_sha256"]):
            return _refuse_or_tell(kind, f"the embeddings were made with other weights than {name} has here")
        own = made.own_classes
    except BirdembError as error:
        if kind != "auto":
            raise
        return OwnKnowledge(None, f"none, as what {name} knows by itself cannot be read: {error}")
    match = match_classes(classes, own)
    known = int((match.indices >= 0).sum())
    if not known:
        return _refuse_or_tell(kind, f"{name} knows none of the classes by itself", match)
    chosen = "offset" if kind == "auto" else kind
    if identity.get("logits"):
        prior = Prior.from_logits(match.indices, int(identity["logits"]), kind=chosen)
    else:
        classifier = made.read_classifier()
        if classifier is None:
            sentence = f"the logits of {name} cannot be had from its embeddings; embed with --logits"
            return _refuse_or_tell(kind, sentence, match)
        prior = Prior.from_classifier(match.indices, *classifier, kind=chosen)
    source = "its logits beside the embeddings" if prior.uses_logits else "its own class weights"
    sentence = f"{name} knows {known} of {len(classes)} classes by itself; {chosen} from {source}"
    return OwnKnowledge(prior, sentence, match)


def _refuse_or_tell(kind: str, sentence: str, match: Match | None = None) -> OwnKnowledge:
    if kind == "auto":
        return OwnKnowledge(None, f"none, as {sentence}", match)
    raise InputError(f"There can be no prior: {sentence}. Use --prior auto or none.")
