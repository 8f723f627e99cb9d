"""A bundle as one ONNX graph: samples, or embeddings, to probabilities, for engines and languages without birdemb."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from birdemb.classify.bundle import Bundle
from birdemb.classify.bundle_file import read_bundle
from birdemb.classify.onnx_ensemble import HeardNames, add_ensemble
from birdemb.defaults import DEFAULT_WORKSPACE
from birdemb.embed.catalogue import find_card
from birdemb.embed.encoder import Encoder, load_encoder
from birdemb.embed.onnx_graph import add_encoder, require_graph
from birdemb.errors import InputError
from birdemb.identity import refuse_other_identity
from birdemb.onnx_building import GraphBuilder, import_optional
from birdemb.onnx_comparison import ADVICE, compare_all, compare_heads, end_of_name, is_rounded
from birdemb.storage import check_writable, replace_atomically
from birdemb.workspace import Workspace

__all__ = ["ExportReport", "export_onnx"]

SUFFIX = ".onnx"
_LARGEST_FILE = 2**31 - 1  # bytes, of a message of Protocol Buffers


@dataclass(frozen=True)
class ExportReport:
    """What `export_onnx` did.

    Parameters
    ----------
    path : Path
        The graph.
    bundle : Bundle
        What it was made of.
    encoder : str or None
        The encoder in it; None for heads alone.
    licence : str or None
        Of the encoder's weights, which are then in the file.
    bytes : int
        Its size.
    embedding_difference : float or None
        Largest difference to the encoder's own embeddings, over the windows that were compared; of an embedding whose
        largest value is above 1, as a share of that.
    probability_difference : float
        Largest difference to the heads' own probabilities, over the same embeddings.
    """

    path: Path
    bundle: Bundle
    encoder: str | None
    licence: str | None
    bytes: int
    embedding_difference: float | None
    probability_difference: float


def export_onnx(
    model: str | Path,
    output: str | Path,
    *,
    heads_only: bool = False,
    weights: str | Path | None = None,
    workspace: str | Path = DEFAULT_WORKSPACE,
) -> ExportReport:
    """Write a bundle, with its encoder or without, as one ONNX graph.

    The graph's input is ``waveform``, shape (windows, window samples). With `heads_only` it is ``embeddings``, shape
    (windows, dim), and where the heads start from logits that are kept beside them also ``logits``; of several
    encoders these are numbered, ``embeddings_0`` and so on. Its outputs are ``probabilities``, shape (windows,
    classes), and, where the encoder is in it, ``embeddings``. All are float32, and any number of windows, at least one,
    goes in at once. Its metadata name the classes, the encoder's identity, the window and the sample rate.

    Before the file gets its name, the graph is checked and run in ONNX Runtime, and what it gives is compared with
    what birdemb gives: embeddings with the encoder's, probabilities with the heads' for the graph's own embeddings.
    The values of an embedding may differ by a share of the largest of them where that is above 1, as rounding errors
    grow with the values. A head of trees steps, so that a rounding error of an embedding next to a threshold can be
    seen in a probability; where trees look at numbers that are computed from the embeddings, such as principal
    components, one probability in a thousand may differ more for that reason.

    Parameters
    ----------
    model : path
        A bundle.
    output : path
        The file to write; its name ends in ``.onnx``.
    heads_only : bool
        Whether to leave the encoder out.
    weights : path, URL or handle, optional
        The encoder's weights, where they are not in one of the usual places; or where to get them.

    workspace : path
        The working folder, which knows where users' own cards lie.

    Returns
    -------
    ExportReport

    Raises
    ------
    BirdembError
        If the packages onnx and onnxruntime are not installed, the bundle or its encoder cannot be had, either has no
        counterpart in ONNX, the graph gives something else than birdemb, or the file cannot be written.

    Notes
    -----
    Where the bundle was fitted on embeddings of float16, which is what the cache keeps by default, the graph rounds
    them likewise before the heads. Its output ``embeddings`` is not rounded.
    """
    model, output = Path(model), Path(output)
    if output.suffix != SUFFIX:
        raise InputError(f"{output} is no name for an ONNX graph. It has to end in {SUFFIX}.")
    if not model.is_file():
        raise InputError(f"There is no bundle {model}. Check the path, or fit one with `birdemb fit`.")
    import_optional("onnxruntime")
    bundle = read_bundle(model)
    check_writable(output)
    encoder = None if heads_only else _load_encoder(bundle, Workspace(Path(workspace)), weights)
    graph = GraphBuilder("birdemb")
    heard = _add_inputs(graph, bundle) if encoder is None else [_add_encoder(graph, bundle, encoder)]
    probabilities = add_ensemble(graph, bundle.ensemble, heard)
    graph.add_output("probabilities", probabilities, ("windows", len(bundle.classes)))
    content = _serialize(graph, _describe(bundle, encoder))
    if encoder is None:
        difference, probability_difference = None, compare_heads(content, bundle)
    else:
        difference, probability_difference = compare_all(content, bundle, encoder)
    with replace_atomically(output) as temporary:
        temporary.write_bytes(content)
    return ExportReport(
        path=output,
        bundle=bundle,
        encoder=encoder.card.name if encoder else None,
        licence=encoder.card.licence if encoder and encoder.card.weights else None,
        bytes=len(content),
        embedding_difference=difference,
        probability_difference=probability_difference,
    )


def _load_encoder(bundle: Bundle, place: Workspace, weights: str | Path | None) -> Encoder:
    """Load the encoder that made the embeddings that a bundle was fitted on."""
    if len(bundle.identities) > 1:
        names = " and ".join(str(identity["encoder"]) for identity in bundle.identities)
        raise InputError(
            f"The bundle was fitted on embeddings of {names}; one graph holds one encoder. "
            "Export the heads alone with --heads-only."
        )
    (identity,) = bundle.identities
    name, precision = str(identity["encoder"]), identity.get("precision", "f32")
    if "kind" in identity:  # told before its weights are looked for
        require_graph(name, str(identity["kind"]))
    if precision != "f32":
        raise InputError(
            f"The bundle was fitted on embeddings in {precision}; an encoder is exported in f32, whose embeddings "
            "differ. Embed with --precision f32 and fit again, or export the heads alone with --heads-only."
        )
    encoder = load_encoder(
        find_card(name, place.last_card(name)),
        window=bundle.window,
        weights=weights,
        logits=bool(identity.get("logits")),
        pooling=identity.get("pooling"),
    )
    refuse_other_identity(
        {key: value for key, value in identity.items() if key in encoder.identity},
        encoder.identity,
        who=f"The encoder {name} that is here is not the one of the bundle",
        advice="Use the version of birdemb that embedded, or embed and fit again.",
    )
    return encoder


def _add_inputs(graph: GraphBuilder, bundle: Bundle) -> list[HeardNames]:
    """Let what encoders heard come from outside, rounded as in the cache."""
    heard = []
    for number, (identity, prior) in enumerate(zip(bundle.identities, bundle.ensemble.priors, strict=True)):
        widths = {"embeddings": int(identity["dim"])}
        if prior is not None and prior.uses_logits:
            widths["logits"] = prior.width
        end = end_of_name(bundle, number)
        names = [graph.add_input(f"{kind}{end}", ("windows", width)) for kind, width in widths.items()]
        heard.append(HeardNames(*(_add_rounding(graph, identity, name) for name in names)))
    return heard


def _add_encoder(graph: GraphBuilder, bundle: Bundle, encoder: Encoder) -> HeardNames:
    """Let an encoder hear the input, and what it heard be rounded as in the cache."""
    (identity,), (prior,) = bundle.identities, bundle.ensemble.priors
    waveform = graph.add_input("waveform", ("windows", encoder.window_samples))
    embeddings, logits = add_encoder(graph, encoder, waveform, logits=prior is not None and prior.uses_logits)
    graph.add_output("embeddings", embeddings, ("windows", encoder.card.dim))
    names = [embeddings]
    if logits is not None:
        graph.add_output("logits", logits, ("windows", encoder.logits_width))
        names.append(logits)
    return HeardNames(*(_add_rounding(graph, identity, name) for name in names))


def _add_rounding(graph: GraphBuilder, identity: Mapping[str, Any], name: str) -> str:
    """Round values as the cache does, on which the heads were fitted: to float16, if it keeps that."""
    if not is_rounded(identity):
        return name
    types = import_optional("onnx").TensorProto
    return graph.add("Cast", graph.add("Cast", name, to=types.FLOAT16), to=types.FLOAT)


def _describe(bundle: Bundle, encoder: Encoder | None) -> dict[str, str]:
    """Give what a graph's user has to know, as text, for its metadata."""
    facts = {
        "birdemb_version": _version(),
        "classes": json.dumps(bundle.labels, ensure_ascii=False),
        "encoders": json.dumps(bundle.identities, sort_keys=True),
        "window_seconds": f"{bundle.window:g}",
    }
    if encoder is not None:
        facts |= {
            "sample_rate": str(encoder.card.sample_rate),
            "window_samples": str(encoder.window_samples),
            "licence_of_the_encoder": encoder.card.licence,
        }
    return facts


def _version() -> str:
    try:
        return version("birdemb")
    except PackageNotFoundError:
        return "not installed"


def _serialize(graph: GraphBuilder, metadata: Mapping[str, str]) -> bytes:
    model = graph.build(metadata)
    if model.ByteSize() > _LARGEST_FILE:
        raise InputError(
            f"The graph would have {model.ByteSize():,} bytes; expected {_LARGEST_FILE:,} at the most, as one ONNX "
            "file has no room for more. Export the heads alone with --heads-only."
        )
    content: bytes = model.SerializeToString()
    checker = import_optional("onnx.checker")
    try:
        checker.check_model(content, full_check=True)
    except (checker.ValidationError, import_optional("onnx.shape_inference").InferenceError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"The exported graph is not valid ONNX ({reason}); nothing was written. {ADVICE}") from error
    return content
