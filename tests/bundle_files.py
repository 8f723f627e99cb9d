"""Bundles for tests, and what is done to their files."""

import hashlib
import io
import json
import warnings
import zipfile

import numpy as np
import pytest

from birdemb.classify.blending import Blend
from birdemb.classify.bundle import Bundle
from birdemb.classify.bundle_file import read_bundle
from birdemb.classify.calibration import Calibration
from birdemb.classify.ensemble import Ensemble, Heard, Member, fit_member
from birdemb.classify.heads import make_head
from birdemb.classify.postprocessing import (
    Context,
    Normalise,
    OriginPrior,
    Postprocessing,
    Raise,
    Range,
    Scale,
    Smooth,
    Temperature,
)
from birdemb.classify.prior import Prior
from birdemb.classify.thresholds import choose_thresholds
from birdemb.errors import InputError
from birdemb.taxonomy import ClassName

CLASSES = (ClassName("Turdus merula"), ClassName("Übergröße"), ClassName("parmaj", "Parus major", "Great Tit"))
IDENTITY = {
    "encoder": "fake",
    "dim": 4,
    "window": 5.0,
    "hop": 2.5,
    "weights": {"sha256": "00"},
    "list": [1, None, True],
}
OCCURRENCE = np.array([[0.001, 0.5, np.nan], [0.02, 0.01, 0.0]])
NAMES = ["lr", "lgbm", "mlp", "all"]


def make_data():
    rng = np.random.default_rng(0)
    X = rng.exponential(size=(30, 4)).astype(np.float32)
    y = np.stack([X[:, 0] > 1, X[:, 1] > 1, X[:, 2] > 1], axis=1).astype(int)
    return X, y


def make_small_head(name, **params):
    if name == "mlp":
        pytest.importorskip("torch")
        params = {"hidden": (3,), "epochs": 2, **params}
    if name == "lgbm":
        params = {"n_estimators": 3, "feature_fraction": 1.0, **params}
    return make_head(name, random_state=0, **params)


def wrap(head):
    """A bundle with one fitted head."""
    return make_parts(Ensemble((Member(head),), (None,), Blend("mean", np.ones((1, 3)))))


def make_parts(ensemble, **changes):
    parts = {
        "ensemble": ensemble,
        "classes": CLASSES,
        "identities": (IDENTITY,),
        "shares": np.array([0.1, 0.2, 0.3]),
        "provenance": {"seed": 0, "command": "birdemb fit"},
    }
    return Bundle(**{**parts, **changes})


def make_bundle(name="lr", **params):
    """A bundle with one head; with all that a bundle can hold where `name` is "all"."""
    X, y = make_data()
    if name != "all":
        return wrap(make_small_head(name, **params).fit(X, y))
    targets, weights, groups = y.astype(bool), np.ones(y.shape), np.arange(len(X)) // 3
    indices, width = np.array([1, -1, 0]), 2
    own = np.arange(8, dtype=np.float32).reshape(4, 2) / 8
    priors = (
        Prior.from_classifier(indices, own, np.zeros(2, np.float32)),
        Prior.from_logits(indices, width, kind="features"),
    )
    members = tuple(
        Member(
            fit_member(make_small_head(head), hear(X)[encoder], priors[encoder], targets, weights, groups),
            encoder,
            trust,
        )
        for head, encoder, trust in (("lr", 0, np.array([0.25, 1.0, 0.5])), ("lgbm", 1, None))
    )
    blend = Blend("logits", np.full((2, 3), 0.5))
    bare = Ensemble(members, priors, blend)
    scores = blend.apply(bare.score_members(hear(X)))
    calibration = Calibration.learn(scores, targets, weights, groups)
    thresholds = choose_thresholds(calibration.apply(scores), targets, weights, groups, resamples=10)
    ensemble = Ensemble(members, priors, blend, calibration, thresholds)
    identities = (IDENTITY, {**IDENTITY, "encoder": "other"})
    return make_parts(
        ensemble,
        identities=identities,
        scores={"folds": 5, "heads": {"lr": [1.0, None]}},
        postprocessing=make_postprocessing(),
    )


def make_postprocessing():
    """Every step that there is, for three classes."""
    odds = [np.linspace(-2, 2, 3 * rows).reshape(rows, 3) for rows in (2, 24, 12)]
    return Postprocessing(
        (
            Temperature(("Amphibia", "Aves"), np.array([1.2, 0.9]), np.array([1, 1, 0])),
            OriginPrior(0.5, ("Großer See", "heath"), *odds),
            Range(0.5, floor=1e-3),
            Raise(),
            Scale(0.4, 2),
            Smooth((0.1, 0.05), "window", 5.0),
            Normalise(0.25, np.linspace(0, 0.9, 101) ** 2),
        )
    )


def process(bundle):
    """What the post-processing of a bundle makes of the windows of two recordings."""
    X, _ = make_data()
    context = Context.of(2, site=["heath", ""], hour=[3.5, np.nan], day=[np.nan, 100], occurrence=OCCURRENCE)
    numbers, starts = np.arange(30) // 15, np.arange(30) % 15 * 2.5
    return bundle.postprocessing.apply(bundle.ensemble.predict_proba(hear(X)), numbers, starts, context)


def hear(X):
    """What two encoders heard: the second has logits of its own beside its embeddings."""
    return Heard(X), Heard(X, X[:, :2])


def same(first, second):
    """Whether two bundles are the same, to the last bit of their predictions."""
    X, _ = make_data()
    return (
        first.classes == second.classes
        and first.identities == second.identities
        and first.provenance == second.provenance
        and first.scores == second.scores
        and np.array_equal(first.shares, second.shares)
        and first.postprocessing.describe() == second.postprocessing.describe()
        and np.array_equal(first.ensemble.predict_proba(hear(X)), second.ensemble.predict_proba(hear(X)))
        and np.array_equal(process(first), process(second))
    )


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_raw(path, members, compression=zipfile.ZIP_STORED):
    """Write members, in pairs, as they are."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
        warnings.simplefilter("ignore", UserWarning)
        for name, content in members:
            archive.writestr(name, content)


def relist(members):
    """Let the index list the members as they are now: what somebody with bad intentions would do."""
    index = json.loads(members["bundle.json"])
    index["files"] = {
        name: hashlib.sha256(content).hexdigest() for name, content in members.items() if name != "bundle.json"
    }
    return {**members, "bundle.json": json.dumps(index).encode()}


def change_index(members, /, **changes):
    return {**members, "bundle.json": json.dumps({**json.loads(members["bundle.json"]), **changes}).encode()}


def assert_refused(path, match=None):
    with pytest.raises(InputError, match=match) as caught:
        read_bundle(path)
    assert str(path) in str(caught.value)
    assert "Fit again with `birdemb fit`." in str(caught.value)


def save(array, allow_pickle=False):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()
