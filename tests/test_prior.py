"""The encoder's own logits as the start of a head: from its class weights or from logits that were kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from birdemb.classify import prior as module
from birdemb.classify.prior import Prior
from birdemb.classify.state import StateReader
from birdemb.errors import InputError

DIM, OWN = 5, 7
RNG = np.random.default_rng(4)
WEIGHTS = RNG.normal(size=(DIM, OWN)).astype(np.float32)
INTERCEPTS = RNG.normal(size=OWN).astype(np.float32)
EMBEDDINGS = np.abs(RNG.normal(size=(11, DIM))).astype(np.float32)
LOGITS = RNG.normal(size=(11, OWN)).astype(np.float32)
INDICES = np.array([3, -1, 0, 3])

some_indices = arrays(np.int64, st.integers(1, 6), elements=st.integers(-1, OWN - 1)).filter(lambda x: x.max() >= 0)


def make(source, indices=INDICES, **options):
    if source == "logits":
        return Prior.from_logits(indices, OWN, **options)
    return Prior.from_classifier(indices, WEIGHTS, INTERCEPTS, **options)


def read_back(prior, state=None):
    reader = StateReader(prior.get_state() if state is None else state)
    again = Prior.read_state(reader, len(prior.known), DIM)
    reader.refuse_rest()
    return again


both = pytest.mark.parametrize("source", ["embeddings", "logits"])


def test_offset_is_the_encoder_s_own_logit_and_0_where_it_knows_nothing():
    own = EMBEDDINGS @ WEIGHTS + INTERCEPTS
    offset = make("embeddings").offset(EMBEDDINGS)
    np.testing.assert_allclose(offset[:, [0, 2, 3]], own[:, [3, 0, 3]], rtol=1e-5)
    assert not offset[:, 1].any()
    assert offset.dtype == np.float32


def test_kept_logits_are_taken_as_they_are():
    prior = make("logits")
    offset = prior.offset(EMBEDDINGS, LOGITS.astype(np.float16))
    np.testing.assert_array_equal(offset[:, [0, 2, 3]], LOGITS.astype(np.float16)[:, [3, 0, 3]])
    assert not offset[:, 1].any()
    assert offset.dtype == np.float32
    assert prior.uses_logits
    assert not make("embeddings").uses_logits


def test_prior_of_embeddings_does_not_look_at_logits():
    prior = make("embeddings")
    np.testing.assert_array_equal(prior.offset(EMBEDDINGS, LOGITS), prior.offset(EMBEDDINGS))


@both
def test_scale_multiplies(source):
    once, thrice = (make(source, scale=scale).offset(EMBEDDINGS, LOGITS) for scale in (1.0, 3.0))
    np.testing.assert_allclose(thrice, 3 * once, rtol=1e-6)


@both
def test_features_are_the_embedding_and_the_known_logits(source):
    prior = make(source, kind="features")
    features = prior.features(EMBEDDINGS.astype(np.float16), LOGITS)
    assert features.dtype == np.float32
    assert features.shape == (11, DIM + prior.more_features)
    np.testing.assert_array_equal(features[:, :DIM], EMBEDDINGS.astype(np.float16))
    np.testing.assert_array_equal(features[:, DIM:], prior.offset(EMBEDDINGS.astype(np.float16), LOGITS)[:, [0, 2, 3]])


@both
def test_rows_at_once_do_not_matter(source, monkeypatch):
    prior = make(source)
    together = prior.offset(EMBEDDINGS, LOGITS)
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 4)
    np.testing.assert_allclose(prior.offset(EMBEDDINGS, LOGITS), together, rtol=1e-6)


@both
def test_no_window_gives_no_row(source):
    prior = make(source)
    assert prior.offset(EMBEDDINGS[:0], LOGITS[:0]).shape == (0, 4)
    assert prior.features(EMBEDDINGS[:0], LOGITS[:0]).shape == (0, DIM + 3)


@given(
    indices=some_indices,
    source=st.sampled_from(["embeddings", "logits"]),
    kind=st.sampled_from(["offset", "features"]),
    scale=st.floats(0.01, 100),
)
def test_state_gives_the_same_prior_again(indices, source, kind, scale):
    prior = make(source, indices, kind=kind, scale=scale)
    again = read_back(prior)
    assert (again.kind, again.scale, again.uses_logits) == (kind, scale, source == "logits")
    np.testing.assert_array_equal(again.known, indices >= 0)
    np.testing.assert_array_equal(again.offset(EMBEDDINGS, LOGITS), prior.offset(EMBEDDINGS, LOGITS))
    assert all(isinstance(value, str) or value.dtype.kind in "uif" for value in prior.get_state().values())


def test_unknown_classes_take_no_room_in_the_state():
    assert make("embeddings").get_state()["prior_weights"].shape == (DIM, 3)
    assert "prior_weights" not in make("logits").get_state()


SPOILT = {
    "another kind": ("embeddings", {"prior_kind": "magic"}),
    "another source": ("embeddings", {"prior_source": "elsewhere"}),
    "flags above 1": ("embeddings", {"prior_known": np.array([2, 0, 1, 1], np.uint8)}),
    "too few flags": ("embeddings", {"prior_known": np.array([1, 0, 1], np.uint8)}),
    "nothing known": ("embeddings", {"prior_known": np.zeros(4, np.uint8)}),
    "more known than weights": ("embeddings", {"prior_known": np.ones(4, np.uint8)}),
    "scale of 0": ("embeddings", {"prior_scale": np.array(0.0)}),
    "scale below 0": ("logits", {"prior_scale": np.array(-1.0)}),
    "infinite scale": ("embeddings", {"prior_scale": np.array(np.inf)}),
    "immense scale": ("embeddings", {"prior_scale": np.array(1e30)}),
    "weights of another dim": ("embeddings", {"prior_weights": np.zeros((DIM + 1, 3), np.float32)}),
    "weights that are no numbers": ("embeddings", {"prior_weights": np.full((DIM, 3), np.nan, np.float32)}),
    "weights beyond float32": ("embeddings", {"prior_weights": np.full((DIM, 3), 1e300)}),
    "intercepts as text": ("embeddings", {"prior_intercepts": "0 0 0"}),
    "place beyond the logits": ("logits", {"prior_indices": np.array([OWN, -1, 0, 3])}),
    "place below -1": ("logits", {"prior_indices": np.array([3, -2, 0, 3])}),
    "places that contradict the flags": ("logits", {"prior_indices": np.array([3, 1, 0, 3])}),
    "places that are fractions": ("logits", {"prior_indices": np.array([3.0, -1.0, 0.0, 3.0])}),
    "no logits": ("logits", {"prior_width": np.array(0)}),
    "absurdly many logits": ("logits", {"prior_width": np.array(2**62)}),
}


@pytest.mark.parametrize(("source", "change"), SPOILT.values(), ids=SPOILT)
def test_hostile_state_is_refused(source, change):
    prior = make(source)
    with pytest.raises(InputError):
        read_back(prior, prior.get_state() | change)


@both
def test_state_that_lacks_a_part_is_refused(source):
    prior = make(source)
    for key in prior.get_state():
        state = prior.get_state()
        del state[key]
        with pytest.raises(InputError, match="lacks"):
            read_back(prior, state)


def test_logits_that_are_needed_and_absent_are_asked_for():
    with pytest.raises(InputError, match=r"none beside the embeddings. Embed with --logits"):
        make("logits").offset(EMBEDDINGS)


@pytest.mark.parametrize(
    ("source", "embeddings", "logits"),
    [
        ("embeddings", EMBEDDINGS[:, 1:], None),
        ("embeddings", EMBEDDINGS[0], None),
        ("logits", EMBEDDINGS, LOGITS[:, 1:]),
        ("logits", EMBEDDINGS, LOGITS[1:]),
    ],
)
def test_arrays_of_another_shape_are_refused(source, embeddings, logits):
    with pytest.raises(InputError, match="expected"):
        make(source).offset(embeddings, logits)


@both
@pytest.mark.parametrize(
    ("indices", "options", "message"),
    [
        (INDICES, {"kind": "magic"}, "magic"),
        (INDICES, {"scale": 0.0}, "scale"),
        (np.array([-1, -1]), {}, "none of the classes"),
        (np.array([0, OWN]), {}, r"from 0 to 7; expected -1 to 6"),
        (np.array([0, -2]), {}, "from -2"),
    ],
)
def test_what_is_out_of_range_is_refused(source, indices, options, message):
    with pytest.raises(InputError, match=message):
        make(source, indices, **options)
