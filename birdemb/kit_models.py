"""Encoders for an offline kit: their weights and what else they need, in one folder as `BIRDEMB_MODELS` expects it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdemb.embed.card import Card
from birdemb.embed.catalogue import load_card
from birdemb.embed.converted import is_converted, name_folder
from birdemb.embed.encoder import find_encoder_weights, load_encoder
from birdemb.embed.own_classes import locate_own_classes
from birdemb.embed.pins import may_pin, write_pin
from birdemb.embed.places import use_weights_folder
from birdemb.embed.precision import STORED_PRECISIONS
from birdemb.embed.range_card import find_range_model, load_range_card
from birdemb.embed.tasks import identify
from birdemb.embed.weights import FoundWeights, weights_of
from birdemb.embed.windows import WindowGrid
from birdemb.errors import InputError, MissingWeightsError
from birdemb.identity import refuse_other_identity
from birdemb.storage import hash_file

__all__ = ["PackedEncoder", "forbids_commerce", "pack_encoder"]

_EXTRAS = {"savedmodel": "tf", "tflite": "tflite", "torchscript": "torch"}
"""What runs an encoder of a kind, beside what birdemb needs anyway. (PANNs are packed as they were converted.)"""

_NON_COMMERCIAL = re.compile(r"\bNC\b|non-?commercial", re.IGNORECASE)


@dataclass(frozen=True)
class PackedEncoder:
    """An encoder in a kit.

    Parameters
    ----------
    name : str
    title : str
    precision : str
        Of its arithmetic.
    licence : str
        Of its weights.
    weights_sha256 : str or None
        None for an encoder that has no weights.
    own_classes : bool or None
        Whether the names of its own classes are in the kit; None for an encoder that names none.
    range_model : bool or None
        Whether the model that says where its own classes live is in the kit; None where there is no such model.
    extra : str
        Of birdemb, that brings what runs it; empty where nothing more is needed.
    """

    name: str
    title: str
    precision: str
    licence: str
    weights_sha256: str | None
    own_classes: bool | None
    range_model: bool | None
    extra: str


def forbids_commerce(licence: str) -> bool:
    """Tell whether a licence says that it is not for commercial use.

    Examples
    --------
    >>> forbids_commerce("CC BY-NC-SA 4.0"), forbids_commerce("Apache-2.0")
    (True, False)
    """
    return bool(_NON_COMMERCIAL.search(licence))


def pack_encoder(
    identity: Mapping[str, Any], models: Path, *, encoder: str, weights: str | Path | None = None
) -> PackedEncoder:
    """Copy all that an encoder needs into a folder of weights.

    Parameters
    ----------
    identity : dict
        Of the embeddings that a bundle was fitted on.
    models : Path
        The folder, which may hold other encoders already.
    encoder : str
        What it is chosen by here: its name, or the path of a user's own card.
    weights : path, URL or handle, optional
        Its weights, or where to get them; where they are looked for otherwise says
        `birdemb.embed.weights.find_weights`.

    Returns
    -------
    PackedEncoder

    Raises
    ------
    BirdembError
        If its weights are nowhere, or are others than those that the bundle was fitted with.
    """
    card = load_card(encoder)
    if card.name != identity["encoder"]:
        raise InputError(f"The card {card.place} is now about {card.name!r}, expected {identity['encoder']!r}.")
    precision = str(identity.get("precision", "f32"))
    if card.place is not None:
        _copy(card.place, models / f"{card.name}.toml")
    if card.weights is None and weights is None:
        _check_packed(card, identity, models)
        return PackedEncoder(card.name, card.title, precision, card.licence, None, None, None, "")
    found = find_encoder_weights(card, weights)
    if found is None or found.sha256 != identity.get("weights_sha256"):
        here = f"have the sha256 {found.sha256}" if found is not None else "are nowhere"
        raise InputError(
            f"The bundle was fitted with weights of {card.name} whose sha256 is {identity.get('weights_sha256')}; "
            f"those here {here}. Name the others with --weights or BIRDEMB_MODELS, or fit again."
        )
    _copy_weights(card, found, models)
    if precision in STORED_PRECISIONS:
        _copy_quantized(card, found, precision, models)
    if may_pin(card):
        write_pin(card, Path(weights_of(card).file), found.sha256, [models])
    named, ranges = _copy_own_classes(card, found, models), _copy_range_model(card, models)
    _check_packed(card, identity, models)
    extra = _EXTRAS.get(card.kind, "")
    return PackedEncoder(card.name, card.title, precision, card.licence, found.sha256, named, ranges, extra)


def _copy_weights(card: Card, found: FoundWeights, models: Path) -> None:
    weights = weights_of(card)
    if is_converted(found.path):
        _copy_folder(found.path, name_folder(card, models))
    elif weights.folder:
        _copy_folder(found.path, models / weights.file)
    else:
        target = models / weights.file
        _copy(found.path, target)
        for name in weights.also:
            _copy(found.path.parent / name, target.parent / name)


def _copy_quantized(card: Card, found: FoundWeights, precision: str, models: Path) -> None:
    from birdemb.embed.quantized import read_quantized  # heavy, and seldom needed

    folder = read_quantized(card, found, precision).folder
    _copy_folder(folder, models / folder.name)


def _copy_own_classes(card: Card, found: FoundWeights, models: Path) -> bool | None:
    """Copy the names of the encoder's own classes, which a prediction does without but people may want."""
    path = locate_own_classes(card, found.path)
    if card.labels is None or path is None:
        return False if card.labels is not None else None
    if not path.is_relative_to(found.path):
        _copy(path, models / card.labels.file)
    return True


def _copy_range_model(card: Card, models: Path) -> bool | None:
    range_card = load_range_card()
    if range_card.encoder != card.name:
        return None
    try:
        path = find_range_model(range_card)
    except MissingWeightsError:  # a prediction that does not ask for it does without
        return False
    _copy(path, models / range_card.weights.file)
    return True


def _check_packed(card: Card, identity: Mapping[str, Any], models: Path) -> None:
    """Make sure that what was copied makes, where it lies now, the embeddings that the bundle was fitted on."""
    grid = WindowGrid(float(identity["window"]), float(identity["hop"]))
    precision = str(identity.get("precision", "f32"))
    with use_weights_folder(models):
        made = load_encoder(
            card.name,
            window=grid.window,
            weights=models if card.weights is not None else None,
            # The kit's machine may have instructions that this one lacks.
            precision="f32" if precision == "bf16" else precision,
            logits=bool(identity.get("logits")),
            pooling=identity.get("pooling"),
        )
    packed = identify(made, grid, identity.get("dtype", "float16")) | {"precision": precision}
    refuse_other_identity(
        dict(identity),
        packed,
        who=f"The bundle was fitted on embeddings of another {card.name} than there is here",
        advice="Name what it was fitted with in --weights or BIRDEMB_MODELS, use that birdemb's version, or fit again.",
    )


def _copy_folder(source: Path, target: Path) -> None:
    """Copy the files of a folder, at any depth; links give what they lead to."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            _copy(path, target / path.relative_to(source))


def _copy(source: Path, target: Path) -> None:
    if target.exists():  # of another encoder, such as the same one in two precisions
        if hash_file(target) != hash_file(source):
            raise InputError(
                f"Two encoders of the bundle have different files called {target.name}, and a kit keeps them in one "
                f"folder. Give {source} another name, in its card, too."
            )
        return
    if not os.access(source, os.R_OK):
        raise InputError(f"{source} cannot be read: Permission denied. Make it readable, and pack again.")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
