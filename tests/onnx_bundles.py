"""Bundles to export as ONNX graphs, and what runs the graphs."""

import numpy as np
from onnx_graphs import start_bytes

from birdemb.classify.blending import Blend
from birdemb.classify.bundle import Bundle
from birdemb.classify.bundle_file import write_bundle
from birdemb.classify.calibration import Calibration
from birdemb.classify.ensemble import Ensemble, Heard, Member, fit_member
from birdemb.classify.heads import make_head
from birdemb.classify.prior import Prior
from birdemb.embed.encoder import load_encoder
from birdemb.onnx_export import export_onnx
from birdemb.taxonomy import ClassName
from birdemb.workspace import Workspace

CLASSES, DIM, OWN = 5, 24, 9
SMALL = {
    "lr": {},
    "mlp": {"hidden": (8,), "epochs": 2, "n_jobs": 1},
    "lgbm": {"n_estimators": 15, "feature_fraction": 0.5},
}
INDICES = np.array([3, -1, 0, 8, -1])


def make_embeddings(n, dim=DIM, seed=0):
    """Skewed and non-negative, as BirdNET's; of float16, as the cache keeps them."""
    rng = np.random.default_rng(seed)
    rows = rng.exponential(0.5, (n, dim)) * (rng.random((n, dim)) > 0.1)
    return rows.astype(np.float16).astype(np.float32)


def hear(n, dim=DIM, seed=0, own=OWN):
    embeddings = make_embeddings(n, dim, seed)
    logits = np.random.default_rng(seed).normal(-5, 3, (n, own)).astype(np.float16).astype(np.float32)
    return Heard(embeddings, logits)


def make_prior(kind, source, dim=DIM):
    rng = np.random.default_rng(1)
    if source == "logits":
        return Prior.from_logits(INDICES, OWN, kind=kind, scale=0.5)
    weights, intercepts = rng.normal(0, 0.3, (dim, OWN)), rng.normal(-2, 1, OWN)
    return Prior.from_classifier(INDICES, weights.astype(np.float32), intercepts.astype(np.float32), kind=kind)


def make_ensemble(heads=("lr",), priors=(None,), encoders=None, blend="mean", calibration=None, dim=DIM):
    """Heads of the classes of the table, one of which was never seen, blended and calibrated."""
    heard = [hear(120, dim, seed) for seed in range(len(priors))]
    seconds = (5 + np.arange(CLASSES)) % dim
    targets = heard[0].embeddings[:, :CLASSES] + 0.3 * heard[0].embeddings[:, seconds] > 0.9
    targets[:, 4] = False
    weights, groups = np.ones(targets.shape), np.arange(120)
    members = []
    for name, encoder in zip(heads, encoders or [0] * len(heads), strict=True):
        head = make_head(name, random_state=0, **SMALL[name])
        head = fit_member(head, heard[encoder], priors[encoder], targets, weights, groups)
        members.append(Member(head, encoder))
    shares = np.random.default_rng(2).uniform(0.2, 1, (len(members), CLASSES))
    ensemble = Ensemble(tuple(members), tuple(priors), Blend(blend, shares / shares.sum(axis=0)))
    if calibration is None:
        return ensemble
    scores = ensemble.blend.apply(ensemble.score_members(heard))
    curves = Calibration.learn(scores, targets, weights, groups, calibration)
    return Ensemble(ensemble.members, ensemble.priors, ensemble.blend, curves)


def make_bundle(ensemble, *identities):
    identities = identities or tuple(
        {"encoder": f"fake-{number}", "dim": DIM, "window": 5.0, "hop": 5.0} for number in range(len(ensemble.priors))
    )
    names = tuple(ClassName(f"Ærtefugl {number}") for number in range(CLASSES))
    return Bundle(ensemble, names, identities, np.full(CLASSES, 0.1), {"seed": 0})


def write(bundle, path):
    write_bundle(bundle, path)
    return path


def start(path):
    session = start_bytes(path.read_bytes())
    names = [entry.name for entry in session.get_outputs()]
    return lambda **inputs: dict(zip(names, session.run(names, inputs), strict=True))


def identity_of(made, **changes):
    return {**made.identity, "window": made.window, "hop": made.window, "dtype": "float32", **changes}


def fit(chosen, folder, *, heads=("lr",), kept_logits=False, dtype="float16", window=5.0, **changes):
    """Write the bundle of an encoder into a folder, and note where its card lies; gives both."""
    encoder = load_encoder(str(chosen), logits=kept_logits, window=window)
    priors = (Prior.from_logits(np.array([3, -1, 0, 4, -1]), 9),) if kept_logits else (None,)
    ensemble = make_ensemble(heads, priors, dim=encoder.card.dim)
    if kept_logits:
        indices = np.array([encoder.own_logits - 1, -1, 3, 0, -1])
        ensemble = Ensemble(ensemble.members, (Prior.from_logits(indices, encoder.own_logits),), ensemble.blend)
    bundle = make_bundle(ensemble, identity_of(encoder, dtype=dtype, **changes))
    write(bundle, folder / "m.birdemb")
    if encoder.card.name == "own":
        Workspace(folder).remember_card("own", chosen)
    return encoder, bundle


def run_export(folder, **settings):
    return export_onnx(folder / "m.birdemb", folder / "m.onnx", workspace=folder, **settings)


def make_windows(encoder, n=3):
    """Noise with an offset; the second window is silent from the middle on."""
    rng = np.random.default_rng(5)
    windows = rng.normal(0.1, 0.1, (n, encoder.window_samples)).astype(np.float32)
    windows[1:2, windows.shape[1] // 2 :] = 0
    return windows


def assert_gives_what_birdemb_gives(report, encoder, bundle, *, logits_atol=1e-3):
    """Compare a graph with its encoder and the heads, for one window and for eight."""
    run = start(report.path)
    for n in (1, 8):
        windows = make_windows(encoder, n)
        found = run(waveform=windows)
        embeddings, logits = encoder.encode(windows), None
        np.testing.assert_allclose(found["embeddings"], embeddings, atol=1e-4 * max(1, np.abs(embeddings).max()))
        assert ("logits" in found) == bool(encoder.logits_width)
        if encoder.logits_width:
            logits = found["logits"]
            np.testing.assert_allclose(logits, encoder.encode_with_logits(windows)[1], atol=logits_atol)
            logits = logits.astype(np.float16).astype(np.float32)
        rounded = found["embeddings"].astype(np.float16).astype(np.float32)
        expected = bundle.ensemble.predict_proba([Heard(rounded, logits)])
        np.testing.assert_allclose(found["probabilities"], expected, atol=1e-4)
