"""Ensembles as nodes of an ONNX graph: what encoders heard in, calibrated probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.blending import BLENDS, Blend
from birdemb.classify.ensemble import Ensemble
from birdemb.classify.onnx_heads import HeadGraph
from birdemb.classify.prior import Prior
from birdemb.classify.trees import LightGBMHead
from birdemb.errors import InputError
from birdemb.onnx_building import GraphBuilder

__all__ = ["HeardNames", "add_ensemble", "steps_at_roundings"]


@dataclass(frozen=True)
class HeardNames:
    """Names of what one encoder heard, as `birdemb.classify.ensemble.Heard` holds the arrays.

    Parameters
    ----------
    embeddings : str
        Shape (n, dim).
    logits : str, optional
        Shape (n, own classes); where the encoder's prior takes them.
    """

    embeddings: str
    logits: str | None = None


def add_ensemble(graph: GraphBuilder, ensemble: Ensemble, heard: Sequence[HeardNames]) -> str:
    """Add all that makes probabilities of what encoders heard, as ``ensemble.predict_proba`` does.

    Parameters
    ----------
    graph : GraphBuilder
    ensemble : Ensemble
    heard : sequence of HeardNames
        One for each encoder.

    Returns
    -------
    str
        Name of the probabilities, shape (n, classes).

    Raises
    ------
    InputError
        If a part has no counterpart in ONNX, or logits are needed and absent.
    """
    pieces = HeadGraph(graph)
    known = [
        None if prior is None else _add_prior(graph, prior, names)
        for prior, names in zip(ensemble.priors, heard, strict=True)
    ]
    scores = []
    for member in ensemble.members:
        prior, own, seen = ensemble.priors[member.encoder], known[member.encoder], heard[member.encoder].embeddings
        if prior is None or own is None:
            scores.append(pieces.add_head(member.head, seen))
        elif prior.kind == "features":
            columns = graph.add("Gather", own, graph.add_integers(*map(int, np.flatnonzero(prior.known))), axis=1)
            scores.append(pieces.add_head(member.head, graph.add("Concat", seen, columns, axis=1)))
        else:
            scores.append(_weigh(graph, pieces.add_head(member.head, seen, own), own, member.trust))
    blended = _add_blend(graph, ensemble.blend, scores)
    if ensemble.calibration is None:
        return pieces.add_sigmoid(blended)
    return pieces.add_calibration(ensemble.calibration, blended)


def _weigh(graph: GraphBuilder, scores: str, offset: str, trust: NDArray[np.float64] | None) -> str:
    """Keep a share of what a head adds to the encoder's own logits: as ``weigh_correction``."""
    if trust is None:
        return scores
    share = graph.add_constant(trust.astype(np.float32)[np.newaxis])
    return graph.add("Add", offset, graph.add("Mul", share, graph.add("Sub", scores, offset)))


def steps_at_roundings(ensemble: Ensemble) -> bool:
    """Tell whether a head of trees looks at numbers that were computed from the embeddings.

    Such numbers differ between engines by a rounding error, and trees step: a value next to a threshold then takes
    another branch. Numbers that trees see as they went in take the same branch everywhere.
    """
    for member in ensemble.members:
        prior = ensemble.priors[member.encoder]
        if isinstance(member.head, LightGBMHead) and (
            member.head._transform_.steps or (prior is not None and prior.kind == "features" and not prior.uses_logits)
        ):
            return True
    return False


def _add_prior(graph: GraphBuilder, prior: Prior, heard: HeardNames) -> str:
    """Add the encoder's own logits of the classes, 0 where it does not know one: as ``prior.offset``."""
    scale = np.where(prior.known, np.float32(prior.scale), np.float32(0))
    if prior.indices is None:
        weights, intercepts = (graph.add_constant(part * scale) for part in (prior.weights, prior.intercepts))
        return graph.add("Gemm", heard.embeddings, weights, intercepts)
    if heard.logits is None:
        raise InputError("The heads start from the encoder's own logits, which this graph does not have.")
    columns = graph.add_integers(*map(int, np.maximum(prior.indices, 0)))
    return graph.add("Mul", graph.add("Gather", heard.logits, columns, axis=1), graph.add_constant(scale[np.newaxis]))


def _add_blend(graph: GraphBuilder, blend: Blend, scores: Sequence[str]) -> str:
    """Add the blend of several heads' scores: as ``blend.apply``."""
    pieces, scale = HeadGraph(graph), BLENDS[blend.method]
    if scale == "ranks":
        raise InputError(
            "The heads are blended by ranks, which depend on all windows of a table, and cannot be exported to ONNX. "
            "Fit again with another blend."
        )
    if scale == "logits":
        return pieces.add_weighted_sum(scores, blend.weights)
    one, tiny = graph.add_number(1), graph.add_number(float(np.finfo(np.float32).tiny))
    # Present and absent each as a sum of small numbers: 1 - p would lose what is close to 1. Written out, as engines
    # compute the sigmoid itself by approximations that are off by a tenth where it is as small as 1e-6.
    sums = []
    for negated in ([graph.add("Neg", score) for score in scores], scores):
        probabilities = [graph.add("Div", one, graph.add("Add", one, graph.add("Exp", score))) for score in negated]
        sums.append(graph.add("Log", graph.add("Max", pieces.add_weighted_sum(probabilities, blend.weights), tiny)))
    return graph.add("Sub", *sums)
