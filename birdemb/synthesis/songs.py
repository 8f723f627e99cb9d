"""Songs of invented animals, each drawn from a few parameters.

Their frequency bands overlap on purpose: a model has to hear the shape and the tempo of a song,
the band alone names nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

__all__ = ["SAMPLE_RATE", "SPECIES", "Species", "Syllable", "Voice", "sing"]

SAMPLE_RATE = 32_000
"""Samples per second of everything in this package, as in BirdCLEF."""

_HIGHEST_HZ = 15_000.0


@dataclass(frozen=True)
class Voice:
    """What tells one animal from another of its species, as factors of the species' own values."""

    pitch: float = 1.0
    tempo: float = 1.0
    """Above 1 for a faster song."""
    repeats: float = 1.0
    brightness: float = 1.0
    """Factor of the overtones."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Voice:
        """Draw one individual."""
        pitch, tempo, repeats, brightness = np.exp(rng.normal(0, [0.04, 0.12, 0.2, 0.5]))
        return cls(float(pitch), float(tempo), float(repeats), float(brightness))

    def vary(self, rng: np.random.Generator) -> Voice:
        """Draw one rendition of this individual: close to its habit, never quite the same."""
        pitch, tempo, repeats = np.exp(rng.normal(0, [0.01, 0.03, 0.12]))
        return replace(
            self,
            pitch=self.pitch * float(pitch),
            tempo=self.tempo * float(tempo),
            repeats=self.repeats * float(repeats),
        )


@dataclass(frozen=True)
class Syllable:
    """One note and how often it comes in a row."""

    pitches: tuple[float, ...]
    """Hz at equal steps from start to end, joined by a smooth curve."""
    seconds: float
    repeats: int = 1
    period: float = 0.0
    """Seconds from the start of one repeat to the start of the next."""
    quickening: float = 1.0
    """Each period over the one before it; below 1 the trill speeds up."""
    swell: float = 1.0
    """Loudness of the last repeat over the first."""
    overtones: tuple[float, ...] = ()
    """Amplitudes of the 2nd, 3rd ... harmonic over the first."""
    buzz_rate: float = 0.0
    """Frequency modulation, times per second."""
    buzz_depth: float = 0.0
    """Frequency modulation, Hz to either side."""
    noise_width: float = 0.0
    """Hz over which the note is smeared into noise; 0 for a tone."""
    attack: float = 0.2
    """Part of the note over which it rises."""
    release: float = 0.3
    """Part of the note over which it falls."""
    loudness: float = 1.0
    rest: float = 0.0
    """Seconds of silence after the last repeat."""

    def render(self, voice: Voice, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """Compute the note with its repeats and its rest.

        Parameters
        ----------
        voice : Voice
            Who sings.
        rng : numpy.random.Generator
            Draws the phases and the noise.

        Returns
        -------
        numpy.ndarray of float64, shape (samples,)
            Amplitudes, at most about `loudness`.
        """
        note = self.loudness * self._note(voice, rng)
        repeats = max(1, round(self.repeats * voice.repeats)) if self.repeats > 1 else 1
        periods = self.period / voice.tempo * self.quickening ** np.arange(repeats - 1)
        # Notes that ran into each other would no longer be a trill.
        periods = np.maximum(periods, 1.1 * len(note) / SAMPLE_RATE)
        starts = np.rint(SAMPLE_RATE * np.concatenate([[0.0], np.cumsum(periods)])).astype(int)
        gains = np.linspace(1.0, self.swell, repeats) * np.exp(rng.normal(0, 0.08, repeats))
        rest = round(self.rest / voice.tempo * SAMPLE_RATE)
        song = np.zeros(int(starts[-1]) + len(note) + rest)
        for start, gain in zip(starts, gains, strict=True):
            song[start : start + len(note)] += gain * note
        return song

    def _note(self, voice: Voice, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        count = max(64, round(self.seconds / voice.tempo * SAMPLE_RATE))
        place = np.linspace(0.0, 1.0, count)
        degree = len(self.pitches) - 1
        curve = np.polyfit(np.linspace(0, 1, degree + 1), self.pitches, degree) if degree else self.pitches
        hertz = voice.pitch * np.polyval(curve, place)
        if self.buzz_depth:
            beat = 2 * np.pi * self.buzz_rate * voice.tempo * np.arange(count) / SAMPLE_RATE
            hertz = hertz + self.buzz_depth * np.sin(beat)
        phase = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE
        if self.noise_width:
            knots = max(4, round(count / SAMPLE_RATE * self.noise_width))
            drift = rng.normal(0, 0.5, (2, knots))
            where = np.linspace(0, 1, knots)
            wave = np.interp(place, where, drift[0]) * np.cos(phase)
            wave += np.interp(place, where, drift[1]) * np.sin(phase)
        else:
            wave = np.sin(phase)
        for harmonic, amplitude in enumerate(self.overtones, start=2):
            if harmonic * hertz.max() < _HIGHEST_HZ:
                wave += voice.brightness * amplitude * np.sin(harmonic * phase)
        ramp = np.minimum(place / self.attack, (1 - place) / self.release)
        envelope = np.sin(np.pi / 2 * np.clip(ramp, 0, 1)) ** 2
        return np.asarray(wave * envelope, dtype=np.float64)


@dataclass(frozen=True)
class Species:
    """An invented animal: its names and its song."""

    label: str
    scientific_name: str
    common_name: str
    song: tuple[Syllable, ...]
    pause: float
    """Seconds between two songs, as a rule."""
    sound: str = "song"
    """What the `type` column of the table says."""

    @property
    def band(self) -> tuple[float, float]:
        """Lowest and highest frequency of the fundamental, in Hz."""
        spreads = [syllable.buzz_depth + syllable.noise_width / 2 for syllable in self.song]
        lowest = min(min(note.pitches) - spread for note, spread in zip(self.song, spreads, strict=True))
        highest = max(max(note.pitches) + spread for note, spread in zip(self.song, spreads, strict=True))
        return 0.95 * lowest, 1.05 * highest


def sing(species: Species, voice: Voice, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Compute one song.

    Parameters
    ----------
    species : Species
        Whose song.
    voice : Voice
        The individual; each call varies it a little.
    rng : numpy.random.Generator
        Draws what differs from song to song.

    Returns
    -------
    numpy.ndarray of float64, shape (samples,)
        The song at `SAMPLE_RATE`, with a root mean square of 1.
    """
    rendition = voice.vary(rng)
    song = np.concatenate([syllable.render(rendition, rng) for syllable in species.song])
    song /= np.sqrt(np.mean(song**2))
    return song


SPECIES: tuple[Species, ...] = (
    Species(
        "grtril1",
        "Trillula major",
        "Greater Trillet",
        (Syllable((5200, 3900), 0.045, 20, 0.075, swell=1.6, overtones=(0.1,)),),
        pause=2.5,
    ),
    Species(
        "twowhi1",
        "Sibilus bitonalis",
        "Two-toned Whistler",
        (
            Syllable((3500, 3450), 0.4, attack=0.15, release=0.15, rest=0.1),
            Syllable((2750, 2700), 0.5, overtones=(0.05,), attack=0.15, release=0.2, loudness=0.8),
        ),
        pause=3.0,
    ),
    Species(
        "buzgra1",
        "Susurra graminis",
        "Buzzing Grassling",
        (
            Syllable((4300, 4700), 0.12, 2, 0.2, rest=0.08, loudness=0.7),
            Syllable((5000, 5300), 0.8, buzz_rate=95, buzz_depth=700, attack=0.3, release=0.1),
        ),
        pause=3.0,
    ),
    Species(
        "podfro1",
        "Siliqua palustris",
        "Pod Frog",
        (Syllable((1500, 1350), 0.018, 16, 0.045, overtones=(0.5, 0.25), attack=0.1, release=0.8),),
        pause=1.2,
        sound="call",
    ),
    Species(
        "arcsli1",
        "Arcuaria canora",
        "Arching Slider",
        (
            Syllable((2000, 3700, 2100), 0.35, 3, 0.5, overtones=(0.35, 0.15), rest=0.08),
            Syllable((2600, 3300), 0.16, loudness=0.7, overtones=(0.35,)),
        ),
        pause=2.5,
    ),
    Species(
        "letril1",
        "Trillula minor",
        "Lesser Trillet",
        (Syllable((4400, 5600), 0.06, 11, 0.135, swell=0.7, overtones=(0.1,)),),
        pause=2.5,
    ),
    Species(
        "reddov1",
        "Columbella rufa",
        "Rufous Dovelet",
        (
            Syllable((820, 900, 840), 0.28, overtones=(0.25, 0.08), rest=0.12),
            Syllable((880, 860), 0.45, 2, 0.65, overtones=(0.25, 0.08)),
        ),
        pause=2.0,
    ),
    Species(
        "fiecri1",
        "Stridula campestris",
        "Lowland Field Stridler",
        tuple(Syllable((4650, 4550), 0.022, 3, 0.034, overtones=(0.05,), rest=0.26) for _ in range(5)),
        pause=0.8,
        sound="call",
    ),
    Species(
        "tincic1",
        "Cicadula stannea",
        "Tin Cicadule",
        (Syllable((6900, 7100), 0.09, 14, 0.125, swell=1.5, noise_width=1800, attack=0.4),),
        pause=2.0,
        sound="call",
    ),
    Species(
        "boupip1",
        "Pipella saltans",
        "Bouncing Pipit",
        (Syllable((3000, 4300), 0.07, 13, 0.26, quickening=0.86, swell=0.6, overtones=(0.2,)),),
        pause=3.0,
    ),
    Species(
        "higsee1",
        "Acutula serica",
        "Silken Seeper",
        (
            Syllable((7000, 8200), 0.14, 2, 0.24, rest=0.08),
            Syllable((9200, 7400), 0.5, attack=0.1, release=0.4),
        ),
        pause=3.0,
    ),
    Species(
        "marfro1",
        "Rugitus limosus",
        "Marsh Growler",
        (
            Syllable(
                (950, 1500),
                0.38,
                2,
                0.55,
                overtones=(0.6, 0.35),
                buzz_rate=55,
                buzz_depth=130,
                noise_width=250,
            ),
        ),
        pause=1.8,
        sound="call",
    ),
)
"""From the commonest to the rarest."""
