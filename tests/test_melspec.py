"""The melspec encoder against librosa, which was not written here."""

import librosa
import numpy as np
import pytest

from birdemb.embed.encoder import load_encoder
from birdemb.embed.melspec import compute_log_mel, compute_mfcc, make_mel_filters
from birdemb.errors import InputError

RATE = 32_000


@pytest.fixture(scope="module")
def windows():
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 0.1, 5 * RATE)
    time = np.arange(5 * RATE) / RATE
    chirp = 0.5 * np.sin(2 * np.pi * (1000 * time + 600 * time**2))
    return np.stack([noise, chirp, noise * (time > 2.5), np.zeros_like(noise)]).astype(np.float32)


def librosa_log_mel(window):
    mel = librosa.feature.melspectrogram(
        y=window, sr=RATE, n_fft=2048, hop_length=512, n_mels=128, fmin=50, fmax=14_000
    )
    return librosa.power_to_db(mel, top_db=None)


def test_filters_are_librosas():
    expected = librosa.filters.mel(sr=RATE, n_fft=2048, n_mels=128, fmin=50, fmax=14_000, dtype=np.float64)
    np.testing.assert_allclose(make_mel_filters(RATE), expected, atol=1e-12)


@pytest.mark.slow
def test_log_mel_is_librosas(windows):
    for ours, window in zip(compute_log_mel(windows, RATE), windows, strict=True):
        power, expected = 10 ** (ours / 10), 10 ** (librosa_log_mel(window).astype(np.float64) / 10)
        # librosa computes in float32, whose rounding errors are all there is 60 dB below the loudest.
        np.testing.assert_allclose(power, expected, rtol=1e-4, atol=1e-6 * expected.max())


@pytest.mark.slow
def test_cepstra_and_their_differences_are_librosas(windows):
    log_mel = compute_log_mel(windows, RATE)
    for ours, spectrogram in zip(compute_mfcc(log_mel), log_mel, strict=True):
        mfcc = librosa.feature.mfcc(S=spectrogram, n_mfcc=20)
        expected = np.concatenate([mfcc, librosa.feature.delta(mfcc), librosa.feature.delta(mfcc, order=2)])
        np.testing.assert_allclose(ours, expected, atol=1e-3)


def test_embedding_begins_with_the_statistics_it_names(windows):
    embedding = load_encoder("melspec").encode(windows)[0]
    log_mel = librosa_log_mel(windows[0])
    np.testing.assert_allclose(embedding[:128], log_mel.mean(axis=1), atol=1e-2)
    np.testing.assert_allclose(embedding[128:256], log_mel.std(axis=1), atol=1e-2)
    np.testing.assert_allclose(embedding[384:512], np.median(log_mel, axis=1), atol=1e-2)


def test_modulation_finds_the_rate_of_a_trill():
    time = np.arange(5 * RATE) / RATE
    noise = np.random.default_rng(1).normal(0, 0.1, 5 * RATE)
    slow, fast = (noise * (1 + 0.9 * np.sin(2 * np.pi * rate * time)) for rate in (4.0, 20.0))
    embeddings = load_encoder("melspec").encode(np.stack([slow, fast]).astype(np.float32))
    slow, fast = embeddings[:, 640:704].reshape(2, 16, 4)
    assert (slow[:, 1] > fast[:, 1] + 5).all()
    assert (fast[:, 3] > slow[:, 3] + 5).all()


def test_the_shortest_window_is_heard_and_a_shorter_one_refused():
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 4096)).astype(np.float32)
    assert np.isfinite(load_encoder("melspec", window=0.128).encode(noise)).all()
    with pytest.raises(InputError, match=r"a window of 0.1 s is too short; expected 0.128 s or more"):
        load_encoder("melspec", window=0.1)
