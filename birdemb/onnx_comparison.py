"""What an exported ONNX graph gives in ONNX Runtime, against what birdemb itself gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.bundle import Bundle
from birdemb.classify.ensemble import Heard
from birdemb.classify.onnx_ensemble import steps_at_roundings
from birdemb.embed.card import Tensors
from birdemb.embed.encoder import Encoder
from birdemb.errors import InputError, RecordingError
from birdemb.onnx_building import import_optional

__all__ = ["ADVICE", "LARGEST_DIFFERENCE", "compare_all", "compare_heads", "end_of_name", "is_rounded"]

LARGEST_DIFFERENCE = 1e-4
"""Between what birdemb and the graph give: in a probability, and in an embedding's value, where that is as a share of
the largest value of the embedding if this is above 1, as rounding errors grow with the values."""

ADVICE = (
    "Try the versions that constraints.txt names; where the encoder's network hears one frame at a time, set "
    "tensors.at_once = 1 in its card; or export the heads alone with --heads-only."
)
"""Against a graph that cannot be run, or gives something else than birdemb."""

_LARGE_LOGIT = 20.0  # about what an encoder's own logits reach; their difference is judged as a share of it
_STEPS = 1e-3  # share of probabilities that may differ more, where trees look at numbers with rounding errors
_CHECKED_WINDOWS = 6
_CHECKED_EMBEDDINGS = 64
_WITH_SOUND = 4  # of the windows that are compared, those that are nowhere silent
_ERRORS_ONLY = 3  # of ONNX Runtime's levels of messages
_SEED = 20_240_101


def end_of_name(bundle: Bundle, number: int) -> str:
    """Give what the names of a graph's inputs end in, which belong to one of a bundle's encoders."""
    return f"_{number}" if len(bundle.identities) > 1 else ""


def is_rounded(identity: Mapping[str, Any]) -> bool:
    """Tell whether the cache rounds an encoder's embeddings to float16, on which heads are then fitted."""
    return bool(identity.get("dtype", "float16") == "float16")


def compare_all(content: bytes, bundle: Bundle, encoder: Encoder) -> tuple[float, float]:
    """Compare a graph with an encoder in it.

    Windows that the encoder itself refuses, as some networks divide by the silence in them, are left out.

    Parameters
    ----------
    content : bytes
        The graph.
    bundle : Bundle
    encoder : Encoder

    Returns
    -------
    embedding_difference : float
        The largest, to birdemb's embeddings, as `LARGEST_DIFFERENCE` says.
    probability_difference : float
        The largest, to birdemb's probabilities for the graph's embeddings.

    Raises
    ------
    InputError
        If a difference is too large, or ONNX Runtime cannot run the graph.
    """
    windows = _choose_windows(encoder)
    found = _run(content, {"waveform": windows})
    (identity,), logits = bundle.identities, None
    expected = encoder.encode(windows)
    size = np.maximum(1, np.abs(expected).max(axis=1, keepdims=True))
    difference = _require_same(found["embeddings"], expected, "embeddings", size)
    if "logits" in found:
        _, own = encoder.encode_with_logits(windows)
        tensors = encoder.card.tensors
        _require_same(_judge(found["logits"], tensors), _judge(own, tensors), "logits", _LARGE_LOGIT)
        logits = _round(identity, found["logits"])
    heard = [Heard(_round(identity, found["embeddings"]), logits)]
    return difference, _compare_probabilities(bundle, found["probabilities"], heard)


def compare_heads(content: bytes, bundle: Bundle) -> float:
    """Compare a graph of heads alone; gives the largest difference to birdemb's probabilities.

    Parameters
    ----------
    content : bytes
        The graph.
    bundle : Bundle

    Raises
    ------
    InputError
        If it is too large, or ONNX Runtime cannot run the graph.
    """
    rng = np.random.default_rng(_SEED)
    given = {}
    for number, (identity, prior) in enumerate(zip(bundle.identities, bundle.ensemble.priors, strict=True)):
        end = end_of_name(bundle, number)
        given[f"embeddings{end}"] = _make_embeddings(rng, int(identity["dim"]))
        if prior is not None and prior.uses_logits:
            given[f"logits{end}"] = _make_embeddings(rng, prior.width)
    found = _run(content, given)["probabilities"]
    heard = []
    for number, identity in enumerate(bundle.identities):
        end = end_of_name(bundle, number)
        logits = given.get(f"logits{end}")
        rounded = None if logits is None else _round(identity, logits)
        heard.append(Heard(_round(identity, given[f"embeddings{end}"]), rounded))
    return _compare_probabilities(bundle, found, heard)


def _run(content: bytes, given: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Run a graph in ONNX Runtime; gives its outputs by their names."""
    runtime = import_optional("onnxruntime")
    state = import_optional("onnxruntime.capi.onnxruntime_pybind11_state")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    problems = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.NotImplemented, state.RuntimeException)
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        names = [entry.name for entry in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(given)), strict=True))
    except problems as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"ONNX Runtime {runtime.__version__} cannot run the exported graph ({reason}); nothing was written. "
            f"{ADVICE}"
        ) from error


def _round(identity: Mapping[str, Any], values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values.astype(np.float16).astype(np.float32) if is_rounded(identity) else values


def _judge(logits: NDArray[np.float32], tensors: Tensors | None) -> NDArray[Any]:
    """Give numbers in which logits are compared: their own where a network gives logits, else log-probabilities.

    Towards 1 float32 has few probabilities, so that the logits that are made of them are far apart; those of the graph
    may be exact. Their log-probabilities are as near to each other as the probabilities are.
    """
    if tensors is None or tensors.values != "probabilities" or not tensors.scale:
        return logits
    log_probabilities: NDArray[Any] = -np.logaddexp(0, (tensors.shift - logits.astype(np.float64)) / tensors.scale)
    return log_probabilities


def _compare_probabilities(bundle: Bundle, found: NDArray[np.float32], heard: Sequence[Heard]) -> float:
    exceptions = _STEPS if steps_at_roundings(bundle.ensemble) else 0.0
    return _require_same(found, bundle.ensemble.predict_proba(heard), "probabilities", exceptions=exceptions)


def _require_same(
    found: NDArray[Any],
    expected: NDArray[Any],
    what: str,
    size: float | NDArray[np.float32] = 1.0,
    *,
    exceptions: float = 0.0,
) -> float:
    """Refuse a graph of which a larger share of values than `exceptions` is off; give the largest difference.

    Differences are judged as a share of `size`.
    """
    same_shape = found.shape == expected.shape
    differences = np.abs(found - expected) / size if same_shape else np.array([np.inf])
    largest = float(differences.max())
    off = ~(differences <= LARGEST_DIFFERENCE)  # NaN too
    if off.mean() > exceptions:
        raise InputError(
            f"The exported graph gives other {what} than birdemb: they differ by {largest:.2g}, more than "
            f"{LARGEST_DIFFERENCE:g}; nothing was written. {ADVICE}"
        )
    return largest


def _choose_windows(encoder: Encoder) -> NDArray[np.float32]:
    """Give windows that the encoder can hear."""
    windows = _make_windows(encoder.window_samples, encoder.card.sample_rate)
    try:
        encoder.encode(windows)
    except RecordingError:
        windows = windows[:_WITH_SOUND]
    return windows


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
