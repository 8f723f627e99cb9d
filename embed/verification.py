"""Making sure that an encoder gives what its authors meant: `birdemb encoders verify`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdemb.embed.card import Card
from birdemb.embed.catalogue import load_card
from birdemb.embed.encoder import Encoder, find_encoder_weights, load_encoder
from birdemb.embed.golden import find_differences, make_record, read_golden, write_golden
from birdemb.embed.signals import make_signals
from birdemb.embed.weights import FoundWeights, describe_origin, name_in_commands
from birdemb.errors import BirdembError

__all__ = ["FAILED", "NOTHING", "OK", "Check", "verify_encoder"]

OK, FAILED, NOTHING = "ok", "failed", "-"

_WINDOW = 5.0  # seconds, as recordings are embedded
_GAIN = 0.5
_OFFSET = 0.05

# Relative differences: in units of an embedding's root mean square.
_SAME = 1e-3  # no more than rounding
_SAME_LEVEL = 1e-2  # rounding before logarithms and small powers
_DIFFERENT = 1e-3


@dataclass(frozen=True)
class Check:
    """What came out of one check.

    Parameters
    ----------
    name : str
    state : {"ok", "failed", "-"}
        The last where there was nothing to check.
    said : str
        One line, with numbers where it failed.
    """

    name: str
    state: str
    said: str


def verify_encoder(name: str, *, weights: str | Path | None = None, record: bool = False) -> Iterator[Check]:
    """Check an encoder on computed sounds, with golden embeddings where there are any.

    Parameters
    ----------
    name : str
        Of the encoder, or the path of a user's own card.
    weights : path, URL or handle, optional
        As `birdemb.embed.encoder.load_encoder` takes them.
    record : bool
        Whether to write golden embeddings of it into the folder of weights, if all else is as it has to be.

    Yields
    ------
    Check
        One after the other, as they are done. After one without which the others mean nothing, none comes.

    Raises
    ------
    InputError
        If there is no such encoder.
    """
    card = load_card(name)
    found = None
    if card.weights is not None or weights is not None:
        try:
            found = find_encoder_weights(card, weights)
        except BirdembError as error:
            yield Check("weights", FAILED, str(error))
            return
    yield _check_hash(found)
    try:
        encoder = _load(name, found, _WINDOW, logits=bool(card.classes))
        encoder.prepare()
        checks = _Checks(encoder)
        together = checks.encode_together()
    except BirdembError as error:
        yield Check("network", FAILED, str(error))
        return
    failed = False
    for check in (checks.width(together), checks.finite(together)):
        yield check
        if check.state == FAILED:
            return
    for work in (
        *([checks.logits] if card.classes else []),
        checks.differ,
        checks.repeat,
        lambda: checks.batch(together),
        checks.memory,
        checks.silence,
        checks.gain,
        *([checks.offset] if card.level == "centred-peak" else []),
    ):
        check = work()
        failed = failed or check.state == FAILED
        yield check
    yield _check_golden(name, card, found, checks, record=record and not failed)
    if record and failed:
        yield Check("record", FAILED, "nothing was recorded, as checks failed")


def _load(name: str, found: FoundWeights | None, window: float, *, logits: bool = False) -> Encoder:
    return load_encoder(name, window=window, weights=found.path if found else None, logits=logits)


def _check_hash(found: FoundWeights | None) -> Check:
    if found is None:
        return Check("weights", NOTHING, "it needs none")
    state = OK if found.origin != "none" else NOTHING
    return Check("weights", state, f"sha256 {found.sha256}, {describe_origin(found.origin)}; {found.path}")


def _check_golden(name: str, card: Card, found: FoundWeights | None, checks: _Checks, *, record: bool) -> Check:
    """Compare with golden embeddings, of what the network hears at once, so that little but the network is in them."""
    window = card.frame_seconds or _WINDOW
    try:
        encoder = checks.encoder if window == _WINDOW else _load(name, found, window)
        signals = make_signals(encoder.window_samples, card.sample_rate)
        rows = {sound: encoder.encode(window[None])[0] for sound, window in signals.items()}
        if record:
            path = write_golden(card, make_record(encoder, rows))
            return Check("golden", OK, f"recorded in {path}: {len(rows)} sounds of {window:g} s")
        golden = read_golden(card, encoder.weights_sha256 or "")
    except BirdembError as error:
        return Check("golden", FAILED, str(error))
    if golden is None:
        again = f"birdemb encoders verify {name_in_commands(card)} --record"
        return Check("golden", NOTHING, f"no embeddings were recorded of these weights; `{again}` does that")
    source = f"recorded in {golden.place}" if golden.place else "that come with birdemb"
    difference = find_differences(golden, encoder, rows)
    if difference:
        return Check("golden", FAILED, f"embeddings differ from those {source}: {difference}")
    return Check("golden", OK, f"embeddings of {len(rows)} sounds of {window:g} s are those {source}")


class _Checks:
    """The checks that need no golden embeddings."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        signals = make_signals(encoder.window_samples, encoder.card.sample_rate)
        self._names = list(signals)
        self._windows = np.stack(list(signals.values()))
        self._rows: list[NDArray[np.float32]] = []

    # Embeddings are copied, so that a defect that `memory` finds is not taken for one of another kind.

    def encode_together(self) -> NDArray[np.float32]:
        return self.encoder.encode(self._windows).copy()

    @property
    def _alone(self) -> list[NDArray[np.float32]]:
        if not self._rows:
            self._rows = [self._encode(window).copy() for window in self._windows]
        return self._rows

    def _encode(self, window: NDArray[np.float32]) -> NDArray[np.float32]:
        row: NDArray[np.float32] = self.encoder.encode(window[None])[0]
        return row

    def _of(self, name: str) -> int:
        return self._names.index(name)

    def width(self, rows: NDArray[np.float32]) -> Check:
        expected = (len(self._windows), self.encoder.card.dim)
        state = OK if rows.shape == expected and rows.dtype == np.float32 else FAILED
        return Check("width", state, f"shape {rows.shape} of {rows.dtype}, expected {expected} of float32")

    def finite(self, rows: NDArray[np.float32]) -> Check:
        bad = ~np.isfinite(rows)
        if not bad.any():
            return Check("finite", OK, f"all values are between {rows.min():.4g} and {rows.max():.4g}")
        names = ", ".join(name for name, row in zip(self._names, bad, strict=True) if row.any())
        said = f"{bad.sum():,} of {bad.size:,} values are NaN or infinite, of the sounds {names}"
        return Check("finite", FAILED, f"{said}; nothing else was checked")

    def logits(self) -> Check:
        logits = self.encoder.encode_with_logits(self._windows)[1]
        expected = (len(self._windows), self.encoder.card.classes)
        bad = int((~np.isfinite(logits)).sum())
        state = OK if logits.shape == expected and not bad else FAILED
        return Check("logits", state, f"shape {logits.shape}, expected {expected}; {bad:,} values are NaN or infinite")

    def differ(self) -> Check:
        distances = {
            pair: _distance(self._alone[self._of(pair[0])], self._alone[self._of(pair[1])])
            for pair in combinations(self._names, 2)
        }
        pair = min(distances, key=lambda key: distances[key])
        return _require_more("differ", distances[pair], f"the nearest two sounds, {pair[0]} and {pair[1]}")

    def repeat(self) -> Check:
        largest = max(_largest(self._encode(self._windows[i]), self._alone[i]) for i in (0, len(self._names) - 1))
        return _require_less("repeat", largest, _SAME, "the same window twice")

    def batch(self, together: NDArray[np.float32]) -> Check:
        differences = [_largest(row, alone) for row, alone in zip(together, self._alone, strict=True)]
        worst = int(np.argmax(differences))
        said = f"{len(together)} windows together and each alone, {self._names[worst]} the most"
        return _require_less("batch", differences[worst], _SAME, said)

    def memory(self) -> Check:
        first = self.encoder.encode(self._windows[:1])
        kept = first.copy()
        self.encoder.encode(self._windows[1:2])
        said = "an embedding before and after another was made"
        return _require_less("memory", _largest(first[0], kept[0]), 0, said)

    def silence(self) -> Check:
        silence = self._alone[self._of("silence")]
        distance = _distance(silence, self._alone[self._of("noise")])
        return _require_more(
            "silence", distance, f"silence, which has a norm of {np.linalg.norm(silence):.4g}, and noise"
        )

    def gain(self) -> Check:
        card = self.encoder.card
        change = max(self._change(name, lambda window: window * np.float32(_GAIN)) for name in ("noise", "trill"))
        said = "a sound and half as loud"
        if card.level == "none" and not card.levels_itself:
            if change > _SAME_LEVEL:
                return Check("gain", OK, f"{said}: relative difference {change:.3g}, and the card levels nothing")
            return Check(
                "gain",
                FAILED,
                f"{said}, which the card does not level: relative difference {change:.3g}, expected more than "
                f"{_SAME_LEVEL:g}. If the network levels by itself, say levels_itself = true in its card.",
            )
        rule = "the network levels by itself" if card.levels_itself else f"the card says level = {card.level!r}"
        return _require_less("gain", change, _SAME_LEVEL, f"{said}, where {rule}")

    def offset(self) -> Check:
        change = max(self._change(name, lambda window: window + np.float32(_OFFSET)) for name in ("noise", "trill"))
        said = f"a sound and the same with an offset of {_OFFSET}, where the card says level = 'centred-peak'"
        return _require_less("offset", change, _SAME_LEVEL, said)

    def _change(self, name: str, alter: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> float:
        index = self._of(name)
        return _largest(self._encode(alter(self._windows[index])), self._alone[index])


def _require_less(name: str, difference: float, allowed: float, said: str) -> Check:
    state = OK if difference <= allowed else FAILED
    limit = f"{allowed:g} or less" if allowed else "none"
    return Check(name, state, f"{said}: relative difference {difference:.3g}, expected {limit}")


def _require_more(name: str, difference: float, said: str) -> Check:
    state = OK if difference > _DIFFERENT else FAILED
    return Check(name, state, f"{said}: relative difference {difference:.3g}, expected more than {_DIFFERENT:g}")


def _size(row: NDArray[np.float32]) -> float:
    """Give the root mean square of an embedding."""
    return float(np.sqrt(np.square(row, dtype=np.float64).mean()))


def _largest(row: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Give the largest difference of two embeddings' values, in units of the second's size, or of 1 if that is 0."""
    return float(np.abs(row.astype(np.float64) - other).max() / (_size(other) or 1.0))


def _distance(row: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Give the root mean square of two embeddings' difference, in units of the larger one's size."""
    return float(np.sqrt(np.square(row.astype(np.float64) - other).mean()) / (max(_size(row), _size(other)) or 1.0))
