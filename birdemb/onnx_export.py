"""A bundle as one ONNX graph: samples, or embeddings, to probabilities, for engines and languages without birdemb."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.bundle import Bundle
from birdemb.classify.bundle_file import read_bundle
from birdemb.classify.ensemble import Heard
from birdemb.classify.onnx_ensemble import HeardNames, add_ensemble, steps_at_roundings
from birdemb.embed.catalogue import load_card
from birdemb.embed.encoder import Encoder, load_encoder
from birdemb.embed.onnx_graph import add_encoder, add_own_logits
from birdemb.errors import InputError
from birdemb.identity import refuse_other_identity
from birdemb.onnx_building import GraphBuilder, import_optional
from birdemb.storage import check_writable, replace_atomically

__all__ = ["LARGEST_DIFFERENCE", "ExportReport", "export_onnx"]

LARGEST_DIFFERENCE = 1e-4
"""Between what birdemb and the graph give, in an embedding's value or a probability."""

SUFFIX = ".onnx"
_LARGE_LOGIT = 20.0  # about what an encoder's own logits reach; their difference is judged as a share of it
_STEPS = 1e-3  # share of probabilities that may differ more, where trees look at numbers with rounding errors
_CHECKED_WINDOWS = 6
_CHECKED_EMBEDDINGS = 64
_SEED = 20_240_101


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
        Largest difference to the encoder's own embeddings, over the windows that were compared.
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
    model: str | Path, output: str | Path, *, heads_only: bool = False, weights: str | Path | None = None
) -> ExportReport:
    """Write a bundle, with its encoder or without, as one ONNX graph.

    The graph's input is ``waveform``, shape (windows, window samples). With `heads_only` it is ``embeddings``, shape
    (windows, dim), and where the heads start from logits that are kept beside them also ``logits``; of several
    encoders these are numbered, ``embeddings_0`` and so on. Its outputs are ``probabilities``, shape (windows,
    classes), and, where the encoder is in it, ``embeddings``. All are float32, and any number of windows, at least one,
    goes in at once. Its metadata name the classes, the encoder's identity, the window and the sample rate.

    Before the file gets its name, the graph is checked and run in ONNX Runtime, and what it gives is compared with
    what birdemb gives: embeddings with the encoder's, probabilities with the heads' for the graph's own embeddings. A
    head of trees steps, so that a rounding error of an embedding next to a threshold can be seen in a probability;
    where trees look at numbers that are computed from the embeddings, such as principal components, one probability in
    a thousand may differ more for that reason.

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
    encoder = None if heads_only else _load_encoder(bundle, weights)
    graph = GraphBuilder("birdemb")
    heard = _add_inputs(graph, bundle) if encoder is None else [_add_encoder(graph, bundle, encoder)]
    probabilities = add_ensemble(graph, bundle.ensemble, heard)
    graph.add_output("probabilities", probabilities, ("windows", len(bundle.classes)))
    content = _serialize(graph, _describe(bundle, encoder))
    session = _start(content)
    if encoder is None:
        difference, probability_difference = None, _compare_heads(session, bundle)
    else:
        difference, probability_difference = _compare_all(session, bundle, encoder)
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


def _load_encoder(bundle: Bundle, weights: str | Path | None) -> Encoder:
    """Load the encoder that made the embeddings that a bundle was fitted on."""
    if len(bundle.identities) > 1:
        names = " and ".join(str(identity["encoder"]) for identity in bundle.identities)
        raise InputError(
            f"The bundle was fitted on embeddings of {names}; one graph holds one encoder. "
            "Export the heads alone with --heads-only."
        )
    (identity,) = bundle.identities
    if "kind" in identity:  # of a network that a card describes, whose operations are not known here
        raise InputError(
            f"The encoder {identity['encoder']} cannot be exported to ONNX, of all encoders birdnet-2.4 alone can. "
            "Export the heads alone with --heads-only."
        )
    card, precision = load_card(identity["encoder"]), identity.get("precision", "f32")
    if precision != "f32":
        raise InputError(
            f"The bundle was fitted on embeddings in {precision}; an encoder is exported in f32, whose embeddings "
            "differ. Embed with --precision f32 and fit again, or export the heads alone with --heads-only."
        )
    encoder = load_encoder(
        card.name,
        window=bundle.window,
        weights=weights,
        logits=bool(identity.get("logits")),
        pooling=identity.get("pooling"),
    )
    refuse_other_identity(
        {key: value for key, value in identity.items() if key in encoder.identity},
        encoder.identity,
        who=f"The encoder {card.name} that is here is not the one of the bundle",
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
        end = _end_of_name(bundle, number)
        names = [graph.add_input(f"{kind}{end}", ("windows", width)) for kind, width in widths.items()]
        heard.append(HeardNames(*(_add_rounding(graph, identity, name) for name in names)))
    return heard


def _end_of_name(bundle: Bundle, number: int) -> str:
    return f"_{number}" if len(bundle.identities) > 1 else ""


def _add_encoder(graph: GraphBuilder, bundle: Bundle, encoder: Encoder) -> HeardNames:
    """Let an encoder hear the input, and what it heard be rounded as in the cache."""
    (identity,), (prior,) = bundle.identities, bundle.ensemble.priors
    waveform = graph.add_input("waveform", ("windows", encoder.window_samples))
    names = [add_encoder(graph, encoder, waveform)]
    graph.add_output("embeddings", names[0], ("windows", encoder.card.dim))
    if prior is not None and prior.uses_logits:
        names.append(add_own_logits(graph, encoder, waveform))
        graph.add_output("logits", names[1], ("windows", prior.width))
    return HeardNames(*(_add_rounding(graph, identity, name) for name in names))


def _add_rounding(graph: GraphBuilder, identity: Mapping[str, Any], name: str) -> str:
    """Round values as the cache does, on which the heads were fitted: to float16, if it keeps that."""
    if not _rounds(identity):
        return name
    types = import_optional("onnx").TensorProto
    return graph.add("Cast", graph.add("Cast", name, to=types.FLOAT16), to=types.FLOAT)


def _round(identity: Mapping[str, Any], values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values.astype(np.float16).astype(np.float32) if _rounds(identity) else values


def _rounds(identity: Mapping[str, Any]) -> bool:
    return bool(identity.get("dtype", "float16") == "float16")


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
    checker = import_optional("onnx.checker")
    try:
        checker.check_model(model, full_check=True)
    except (checker.ValidationError, import_optional("onnx.shape_inference").InferenceError) as error:
        raise InputError(
            f"The exported graph is not valid ONNX ({error}); nothing was written. Try the versions that "
            "constraints.txt names."
        ) from error
    content: bytes = model.SerializeToString()
    return content


def _start(content: bytes) -> Any:  # noqa: ANN401 - a session of ONNX Runtime, which is optional
    runtime = import_optional("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _compare_all(session: Any, bundle: Bundle, encoder: Encoder) -> tuple[float, float]:  # noqa: ANN401 - as above
    """Give the largest difference to birdemb's embeddings, and to its probabilities for those of the graph."""
    windows = _make_windows(encoder.window_samples, encoder.card.sample_rate)
    names = [entry.name for entry in session.get_outputs()]
    found = dict(zip(names, session.run(names, {"waveform": windows}), strict=True))
    (identity,), logits = bundle.identities, None
    difference = _require_same(found["embeddings"], encoder.encode(windows), "embeddings")
    if "logits" in found:
        expected = encoder.encode_with_logits(windows)[1]
        _require_same(found["logits"] / _LARGE_LOGIT, expected / _LARGE_LOGIT, "logits")
        logits = _round(identity, found["logits"])
    heard = [Heard(_round(identity, found["embeddings"]), logits)]
    return difference, _compare_probabilities(bundle, found["probabilities"], heard)


def _compare_heads(session: Any, bundle: Bundle) -> float:  # noqa: ANN401 - as above
    """Give the largest difference to birdemb's probabilities."""
    rng = np.random.default_rng(_SEED)
    given = {entry.name: _make_embeddings(rng, entry.shape[1]) for entry in session.get_inputs()}
    (found,) = session.run(["probabilities"], given)
    heard = []
    for number, identity in enumerate(bundle.identities):
        end = _end_of_name(bundle, number)
        logits = given.get(f"logits{end}")
        rounded = None if logits is None else _round(identity, logits)
        heard.append(Heard(_round(identity, given[f"embeddings{end}"]), rounded))
    return _compare_probabilities(bundle, found, heard)


def _compare_probabilities(bundle: Bundle, found: NDArray[np.float32], heard: Sequence[Heard]) -> float:
    exceptions = _STEPS if steps_at_roundings(bundle.ensemble) else 0.0
    return _require_same(found, bundle.ensemble.predict_proba(heard), "probabilities", exceptions=exceptions)


def _require_same(found: NDArray[np.float32], expected: NDArray[Any], what: str, *, exceptions: float = 0.0) -> float:
    """Refuse a graph of which a larger share of values than `exceptions` is off; give the largest difference."""
    differences = np.abs(found - expected) if found.shape == expected.shape else np.array([np.inf])
    largest = float(differences.max())
    off = ~(differences <= LARGEST_DIFFERENCE)  # NaN too
    if off.mean() > exceptions:
        raise InputError(
            f"The exported graph gives other {what} than birdemb: they differ by {largest:.2g}, more than "
            f"{LARGEST_DIFFERENCE:g}; nothing was written. Try the versions that constraints.txt names."
        )
    return largest


def _make_windows(samples: int, sample_rate: int) -> NDArray[np.float32]:
    """Make windows such as recordings have: noise, whistles and trills in it, an offset, silence, a padded end."""
    rng = np.random.default_rng(_SEED)
    seconds = np.arange(samples) / sample_rate
    noise = rng.normal(0, 0.02, (_CHECKED_WINDOWS, samples))
    whistle = 0.3 * np.sin(2 * np.pi * (2000 * seconds + 400 * seconds**2))
    trill = 0.2 * np.sin(2 * np.pi * 4500 * seconds) * (np.sin(2 * np.pi * 12 * seconds) > 0)
    padded = np.where(np.arange(samples) < samples // 3, noise[4], 0)
    return np.stack(
        [noise[0], noise[1] + whistle, noise[2] + trill, noise[3] / 20 + 0.3, padded, np.zeros(samples)]
    ).astype(np.float32)


def _make_embeddings(rng: np.random.Generator, dim: int) -> NDArray[np.float32]:
    """Make embeddings of different size, skewed as those of rectified networks, with zeros and some negative values."""
    rows = rng.exponential(size=(_CHECKED_EMBEDDINGS, dim)) * 10.0 ** rng.uniform(-2, 1, (_CHECKED_EMBEDDINGS, 1))
    signs = rng.choice([-1.0, 0.0, 1.0], rows.shape, p=[0.1, 0.2, 0.7])
    signs[0] = 0
    embeddings: NDArray[np.float32] = (rows * signs).astype(np.float32)
    return embeddings
