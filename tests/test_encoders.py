"""The contract that every encoder keeps."""

import numpy as np
import pytest
from encoder_models import BUILDERS, SLOW_KINDS, build

from birdemb.embed.catalogue import list_cards, load_card
from birdemb.embed.encoder import load_encoder
from birdemb.embed.weights import locate_weights
from birdemb.errors import BirdembError, InputError

ENCODERS = [
    pytest.param(card.name, marks=[pytest.mark.slow] if card.kind in SLOW_KINDS else []) for card in list_cards()
]


COUNT = 4
SETTINGS = {"panns-cnn14": {"window": 1.0}}
"""Short windows for the one network that takes long over them: it hears any length in the same way."""


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request, panns_card, tmp_path_factory):
    """Each encoder with its real weights where they are on this machine, else with a stand-in's."""
    card = load_card(request.param)
    if card.kind == "panns" and locate_weights(card) is None:
        return load_encoder(str(panns_card(card.name)), **SETTINGS.get(card.name, {}))
    if card.weights is None or locate_weights(card) is not None:
        return load_encoder(card.name)
    if card.name not in BUILDERS:
        pytest.skip(f"no weights of {card.name} on this machine")
    return load_encoder(str(build(card.name, tmp_path_factory.mktemp(card.name))))


@pytest.fixture(scope="module")
def given(encoder):
    """Windows, and what is their embedding when they are first heard together."""
    rng = np.random.default_rng(3)
    time = np.arange(encoder.window_samples) / encoder.card.sample_rate
    pitches = range(1000, 1000 + 2000 * COUNT, 2000)
    songs = [np.sin(2 * np.pi * pitch * time) * (np.sin(2 * np.pi * 3 * time) > 0) for pitch in pitches]
    windows = (0.2 * np.stack(songs) + rng.normal(0, 0.01, (COUNT, len(time)))).astype(np.float32)
    return windows, encoder.encode(windows)


@pytest.fixture
def windows(given):
    return given[0].copy()


@pytest.fixture
def rows(given):
    return given[1].copy()


def test_one_finite_float32_row_of_the_card_s_width_for_each_window(encoder, rows):
    assert rows.shape == (COUNT, encoder.card.dim)
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()


def test_different_windows_have_different_embeddings(rows):
    assert len(np.unique(rows.round(3), axis=0)) == len(rows)


def test_same_window_twice_agrees_to_the_bit(encoder, windows, rows):
    np.testing.assert_array_equal(encoder.encode(windows), rows)


def test_rows_have_memory_of_their_own(encoder, windows):
    first = encoder.encode(windows[:1])
    kept = first.copy()
    encoder.encode(windows[1:])
    np.testing.assert_array_equal(first, kept)


def test_row_depends_on_its_own_window_alone(encoder, windows, rows):
    alone = np.concatenate([encoder.encode(window[None]) for window in windows])
    backwards = encoder.encode(windows[::-1])[::-1]
    np.testing.assert_allclose(alone, rows, atol=1e-4)
    np.testing.assert_allclose(backwards, rows, atol=1e-4)


def test_input_is_left_as_it_was(encoder, windows):
    before = windows.copy()
    encoder.encode(windows)
    np.testing.assert_array_equal(windows, before)


def test_extremes_give_finite_rows(encoder, windows):
    extremes = np.stack([np.zeros_like(windows[0]), np.ones_like(windows[0]), windows[0] * 1e4, windows[0] * 1e-6])
    assert np.isfinite(encoder.encode(extremes)).all()


def test_no_window_gives_no_row(encoder, windows):
    assert encoder.encode(windows[:0]).shape == (0, encoder.card.dim)


@pytest.mark.slow
def test_logits_come_with_the_same_embeddings(encoder, windows):
    if not encoder.own_logits:
        pytest.skip("knows no classes by itself")
    with_logits = load_encoder(str(encoder.card.place or encoder.card.name), window=encoder.window, logits=True)
    rows, logits = with_logits.encode_with_logits(windows[:2])
    np.testing.assert_array_equal(rows, encoder.encode(windows[:2]))
    assert logits.shape == (2, encoder.card.classes)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    assert not np.allclose(*logits)


@pytest.mark.parametrize("spoil", [lambda x: x[:, :-1], lambda x: x[0], lambda x: x.astype(np.float64)])
def test_windows_of_another_form_are_refused(encoder, windows, spoil):
    with pytest.raises(InputError, match="expected"):
        encoder.encode(spoil(windows))


def test_identity_is_plain_data_and_names_the_weights(encoder):
    identity = encoder.identity
    assert identity["encoder"] == encoder.card.name
    assert identity["dim"] == encoder.card.dim
    assert (identity["weights_sha256"] is None) == (encoder.card.weights is None)
    assert all(isinstance(value, str | int | float | list | None) for value in identity.values())


def test_gain_changes_what_the_card_says():
    rng = np.random.default_rng(0)
    window = rng.normal(0, 0.05, (1, 160_000)).astype(np.float32)
    quiet, loud = (load_encoder("melspec").encode(window * gain)[0] for gain in (0.5, 1.0))
    np.testing.assert_allclose(loud[:128] - quiet[:128], 6.02, atol=0.01)


@pytest.mark.slow
def test_birdnet_scales_by_itself(birdnet_weights):
    rng = np.random.default_rng(0)
    window = rng.normal(0, 0.05, (1, 240_000)).astype(np.float32)
    encoder = load_encoder("birdnet-2.4", weights=birdnet_weights)
    np.testing.assert_allclose(encoder.encode(window), encoder.encode(window * 4), atol=1e-3)


@pytest.mark.parametrize(("name", "near"), [("birdnet", "birdnet-2.4"), ("perch2", "perch-2"), ("melspek", "melspec")])
def test_unknown_name_suggests_the_nearest(name, near):
    with pytest.raises(InputError, match=f"no encoder '{name}'. Did you mean [^?]*'{near}'"):
        load_encoder(name)


def test_weights_for_an_encoder_without_any_are_refused(tmp_path):
    with pytest.raises(BirdembError, match="has no weights"):
        load_encoder("melspec", weights=tmp_path / "x.tflite")
