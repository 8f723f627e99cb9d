"""Songs over a background: close focal recordings and noisy soundscapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

from birdemb.synthesis.backgrounds import FloatArray, draw_background
from birdemb.synthesis.songs import SAMPLE_RATE, Species, Voice, sing

__all__ = ["Scene", "mix_focal", "mix_soundscape"]


@dataclass(frozen=True)
class Scene:
    """What a microphone hears, and who sang when."""

    audio: FloatArray
    """Shape (samples,), at `SAMPLE_RATE`."""
    songs: tuple[tuple[str, float, float], ...]
    """(class, start second, end second) of each song, echoes left out."""


def mix_focal(species: Species, neighbours: tuple[Species, ...], seconds: float, rng: np.random.Generator) -> Scene:
    """Mix a recording that somebody aimed at one animal.

    Parameters
    ----------
    species : Species
        The animal.
    neighbours : tuple of Species
        Who sings behind it, more quietly.
    seconds : float
        Length of the recording.
    rng : numpy.random.Generator
        Draws everything else.

    Returns
    -------
    Scene
        The recording; its largest amplitude is at most 0.7.
    """
    stage = _Stage(round(seconds * SAMPLE_RATE), rng, layers=int(rng.integers(0, 4)))
    level = rng.uniform(10, 28)
    stage.perform(species, rng.uniform(0.1, 0.8), seconds, level, echo=rng.uniform(0.0, 0.1))
    for neighbour in neighbours:
        behind = level - rng.uniform(6, 16)
        stage.perform(neighbour, rng.uniform(0, seconds / 3), seconds, behind, echo=rng.uniform(0.1, 0.4))
    return stage.finish()


def mix_soundscape(species: tuple[Species, ...], seconds: float, rng: np.random.Generator) -> Scene:
    """Mix what a recorder left in the forest hears: near and far animals, overlaps, a quiet stretch.

    Parameters
    ----------
    species : tuple of Species
        Who sings, each in two or three bouts.
    seconds : float
        Length of the recording.
    rng : numpy.random.Generator
        Draws everything else.

    Returns
    -------
    Scene
        The soundscape; its largest amplitude is at most 0.7.
    """
    stage = _Stage(round(seconds * SAMPLE_RATE), rng, layers=int(rng.integers(1, 3)))
    quiet_start = 5.0 * rng.integers(0, int(seconds / 5))
    quiet = (quiet_start, quiet_start + 5.0)
    for animal in species:
        for _ in range(rng.integers(2, 4)):
            length = rng.uniform(6, 15)
            start = rng.uniform(0, seconds - length)
            level, echo = rng.uniform(14, 32), rng.uniform(0.1, 0.6)
            stage.perform(animal, start, start + length, level, echo=echo, quiet=quiet)
    return stage.finish()


class _Stage:
    """A background on which animals perform, one after the other or together."""

    def __init__(self, samples: int, rng: np.random.Generator, *, layers: int) -> None:
        self._rng = rng
        self._audio = draw_background(samples, rng, layers=layers)
        self._size = scipy.fft.next_fast_len(samples, real=True)
        self._power = np.abs(scipy.fft.rfft(self._audio, self._size)) ** 2 * (2 / samples / self._size)
        self._songs: list[tuple[str, float, float]] = []

    def perform(
        self,
        species: Species,
        start_s: float,
        end_s: float,
        decibels: float,
        *,
        echo: float,
        quiet: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Let one individual sing from `start_s` to `end_s`, `decibels` above the noise in its own band."""
        rng = self._rng
        voice = Voice.draw(rng)
        forest = _Forest(echo, rng)
        loudness = np.sqrt(self._noise_power(species.band)) * 10 ** (decibels / 20)
        time = start_s
        while True:
            song = sing(species, voice, rng)
            song_end = time + len(song) / SAMPLE_RATE
            if song_end > end_s and time > start_s:
                break
            if song_end <= quiet[0] or time >= quiet[1]:
                heard = forest.carry(song) * np.float32(loudness * 10 ** (rng.normal(0, 1.5) / 20))
                first = round(time * SAMPLE_RATE)
                heard = heard[: len(self._audio) - first]
                self._audio[first : first + len(heard)] += heard
                self._songs.append((species.label, time, min(song_end, len(self._audio) / SAMPLE_RATE)))
            time = song_end + species.pause * float(np.exp(rng.normal(0, 0.4)))

    def finish(self) -> Scene:
        """Bring the sum to a recorder's level."""
        # Vorbis overshoots: 0.7 leaves room below 1.
        peak = self._rng.uniform(0.2, 0.7) / np.abs(self._audio).max()
        return Scene((self._audio * peak).astype(np.float32), tuple(sorted(self._songs, key=lambda s: s[1:])))

    def _noise_power(self, band: tuple[float, float]) -> float:
        bins = [round(edge / SAMPLE_RATE * self._size) for edge in band]
        return float(self._power[bins[0] : bins[1]].sum())


class _Forest:
    """The way from an animal to the microphone: trees echo, and air takes the high notes."""

    def __init__(self, echo: float, rng: np.random.Generator) -> None:
        decay = rng.uniform(0.04, 0.15)
        time = np.arange(round(4 * decay * SAMPLE_RATE)) / SAMPLE_RATE
        response = rng.normal(0, 1, len(time)) * np.exp(-time / decay)
        response *= np.sqrt(echo / np.sum(response**2))
        response[0] += 1.0
        self._response: FloatArray = response.astype(np.float32)
        self._loss_db = 12 * echo * rng.uniform(0.5, 1.5)

    def carry(self, song: npt.NDArray[np.float64]) -> FloatArray:
        """Compute what arrives, longer than the song by its echoes."""
        samples = len(song) + len(self._response) - 1
        size = scipy.fft.next_fast_len(samples, real=True)
        spectrum = scipy.fft.rfft(song.astype(np.float32), size) * scipy.fft.rfft(self._response, size)
        hertz = np.linspace(0, SAMPLE_RATE / 2, len(spectrum), dtype=np.float32)
        spectrum *= np.float32(10) ** (-np.float32(self._loss_db / 20) * hertz / np.float32(10_000))
        return np.asarray(scipy.fft.irfft(spectrum, size)[:samples], dtype=np.float32)
