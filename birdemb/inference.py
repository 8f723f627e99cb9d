"""Inference: a bundle's encoders and heads over recordings, to a probability of each class in each window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.bundle import Bundle
from birdemb.embed.catalogue import find_card, load_card
from birdemb.embed.encoder import Encoder, load_encoder
from birdemb.embed.recordings import FoundRecordings
from birdemb.embed.run import EmbedRun, embed_folder, refuse_other_embeddings
from birdemb.embed.tasks import identify
from birdemb.embed.windows import WindowGrid
from birdemb.errors import InputError
from birdemb.kit_use import is_kit
from birdemb.listing import EmbeddedRecording, Listing, SkippedRecording
from birdemb.prediction import Prediction
from birdemb.training import read_heard
from birdemb.workspace import Workspace

__all__ = ["EncoderSettings", "check_weights", "embed_as_fitted", "load_bundle_encoder", "predict_soundscapes"]

_WINDOWS_AT_ONCE = 8192


def predict_soundscapes(
    bundle: Bundle,
    path: str | Path | FoundRecordings,
    place: Workspace,
    *,
    jobs: int = -1,
    **settings: Any,  # noqa: ANN401 - each has its own type
) -> tuple[Listing, Prediction]:
    """Predict the probability of each class in each window of soundscapes.

    Parameters
    ----------
    bundle : Bundle
    path : path, URL or FoundRecordings
        A folder of soundscapes, or one; or some of a folder.
    place : Workspace
        Its cache is used.
    jobs : int
        Processes at the same time; -1 for as many as there are cores.
    **settings
        weights, backend, scheduler and show_progress, as `birdemb.embed.run.embed_folder` has them.

    Returns
    -------
    listing : Listing
        Every soundscape, predicted or skipped.
    prediction : Prediction
        Of those that were predicted.

    Raises
    ------
    BirdembError
        If an encoder cannot be had, or the embeddings would be others than the bundle's.
    """
    place.check_writable()
    runs = [
        embed_as_fitted(path, place, EncoderSettings.of(identity, place), jobs=jobs, **settings)
        for identity in bundle.identities
    ]
    listing = _join_listings([run.listing for run in runs])
    bundle.ensemble.set_jobs(jobs)
    probabilities = np.empty((0, len(bundle.classes)))
    if listing.recordings:
        probabilities = _predict_probabilities(bundle, runs, listing.recordings)
    return listing, Prediction(tuple(listing.recordings), probabilities, bundle.classes, bundle.window, bundle.hop)


@dataclass(frozen=True)
class EncoderSettings:
    """How to make the embeddings that heads were fitted on.

    Parameters
    ----------
    encoder : str
        Its name, or the path of its card.
    pooling : str or None
    grid : WindowGrid
    precision : str
    dtype : str
        Of the embeddings in the cache.
    logits : bool
    expected : dict
        The identity that the embeddings have to have.
    """

    encoder: str
    pooling: str | None
    grid: WindowGrid
    precision: str
    dtype: str
    logits: bool
    expected: dict[str, Any]

    @classmethod
    def of(cls, identity: dict[str, Any], place: Workspace) -> EncoderSettings:
        """Read them from one of a bundle's identities.

        Of what is absent there or not known to this version, the refusal of the other identity tells.
        """
        precision = str(identity.get("precision"))
        name = str(identity["encoder"])
        encoder = find_card(name, place.last_card(name))
        return cls(
            encoder,
            identity.get("pooling"),
            WindowGrid(float(identity["window"]), float(identity["hop"])),
            precision if precision in load_card(encoder).precisions else "f32",
            identity.get("dtype", "float16"),
            bool(identity.get("logits")),
            identity,
        )

    def load(self, weights: str | Path | None = None) -> Encoder:
        """Make the encoder.

        Raises
        ------
        BirdembError
            If it cannot be had, or its embeddings would be others.
        """
        encoder = load_encoder(
            self.encoder,
            window=self.grid.window,
            weights=weights,
            precision=self.precision,
            logits=self.logits,
            pooling=self.pooling,
        )
        refuse_other_embeddings(self.expected, identify(encoder, self.grid, self.dtype))
        return encoder


def embed_as_fitted(
    path: str | Path | FoundRecordings,
    place: Workspace,
    encoder: EncoderSettings,
    **settings: Any,  # noqa: ANN401 - each has its own type
) -> EmbedRun:
    """Embed soundscapes as the recordings were that heads were fitted on.

    Parameters
    ----------
    path : path, URL or FoundRecordings
    place : Workspace
    encoder : EncoderSettings
    **settings
        jobs, weights, backend, scheduler, show_progress and follower, as `birdemb.embed.run.embed_folder` has them.

    Returns
    -------
    EmbedRun

    Raises
    ------
    BirdembError
        If the encoder cannot be had, or the embeddings would be others than those that are expected.
    """
    run = embed_folder(path, place.cache, remembered=place.contents, **vars(encoder), **settings)
    run.cache.discard_damaged()
    return run


def check_weights(weights: str | Path | None, bundle: Bundle, model: object) -> None:
    """Make sure that a bundle can use weights that somebody names.

    Parameters
    ----------
    weights : path, URL, handle or None
    bundle : Bundle
    model : path or Bundle
        What was named as the model: the bundle, or the kit that it is in.

    Raises
    ------
    InputError
        If the bundle has several encoders, or is in a kit, which has weights of its own.
    """
    if weights is None:
        return
    if len(bundle.identities) > 1:
        raise InputError("The weights of one encoder were given, and the bundle has several. Use BIRDEMB_MODELS.")
    if isinstance(model, str | Path) and is_kit(Path(model)):
        raise InputError(f"{model} is a kit, in which its encoder's weights are: give no others.")


def load_bundle_encoder(identity: dict[str, Any], place: Workspace, weights: str | Path | None = None) -> Encoder:
    """Make an encoder that gives the embeddings that a bundle's heads were fitted on.

    Parameters
    ----------
    identity : dict
        One of the bundle's.
    place : Workspace
        Knows where users' own cards lie.
    weights : path, URL or handle, optional
        The encoder's weights, where they are not in one of the usual places; or where to get them.

    Returns
    -------
    Encoder

    Raises
    ------
    BirdembError
        If it cannot be had, or its embeddings would be others.
    """
    return EncoderSettings.of(identity, place).load(weights)


def _join_listings(listings: Sequence[Listing]) -> Listing:
    """Give the soundscapes that every encoder could embed, and what any of them skipped."""
    first = listings[0]
    if len(listings) == 1:
        return first
    heard = set.intersection(
        *({(entry.recording, entry.sha256, entry.windows) for entry in listing.recordings} for listing in listings)
    )
    usable = [entry for entry in first.recordings if (entry.recording, entry.sha256, entry.windows) in heard]
    kept = {entry.recording for entry in usable}
    skipped = {entry.recording: entry for listing in listings for entry in listing.skipped}
    for listing in listings:
        for entry in listing.recordings:
            if entry.recording not in kept and entry.recording not in skipped:
                skipped[entry.recording] = SkippedRecording(
                    entry.recording, "read", "it was changed while the encoders heard it"
                )
    return replace(first, recordings=usable, skipped=list(skipped.values()))


def _predict_probabilities(
    bundle: Bundle, runs: Sequence[EmbedRun], recordings: Sequence[EmbeddedRecording]
) -> NDArray[np.float64]:
    """Predict a part of the recordings at a time, as their embeddings together may not fit into memory."""
    ensemble = bundle.ensemble
    # Ranks are those among all windows, so that they have to wait for the last one.
    members = len(ensemble.members) if ensemble.needs_whole_table else 0
    shape = (sum(entry.windows for entry in recordings), ensemble.classes)
    # Made once: parts that are joined at the end would be there twice.
    scores, probabilities = np.empty((members, *shape)), np.empty((0 if members else shape[0], shape[1]))
    end = 0
    for some in _split(recordings):
        contents = [entry.sha256 for entry in some]
        heard = [read_heard(run.cache, contents, prior) for run, prior in zip(runs, ensemble.priors, strict=True)]
        begin, end = end, end + sum(entry.windows for entry in some)
        part = ensemble.score_members(heard)
        if members:
            scores[:, begin:end] = part
        else:
            probabilities[begin:end] = ensemble.combine(part)
    return ensemble.combine(scores) if members else probabilities


def _split(recordings: Sequence[EmbeddedRecording]) -> Iterator[Sequence[EmbeddedRecording]]:
    """Give parts of about so many windows, of at least one recording."""
    begin, windows = 0, 0
    for end, entry in enumerate(recordings, 1):
        windows += entry.windows
        if windows >= _WINDOWS_AT_ONCE or end == len(recordings):
            yield recordings[begin:end]
            begin, windows = end, 0
