"""Weights that are named by where to get them: a URL, or what Kaggle and TensorFlow Hub call a model.

What is downloaded by a handle lies in a folder of its own below that of the weights, named after a hash of the handle,
so that it is never taken for what an encoder's card means.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from birdemb.embed.card import Card, Source, Weights
from birdemb.embed.fetching import fetch_into
from birdemb.embed.kaggle import mounts_of_model, places_in_kagglehub
from birdemb.embed.pins import read_pin, write_pin
from birdemb.embed.places import user_folder, weights_folder
from birdemb.embed.remote import hide_secrets
from birdemb.embed.weights import (
    FoundWeights,
    check_weights,
    compare_with_pin,
    examine_weights,
    is_there,
    name_in_commands,
    tell_on_stderr,
    weights_of,
)
from birdemb.errors import InputError

__all__ = ["Handle", "find_by_handle", "read_handle"]

_HANDLES = "handles"
"""Folder below that of the weights."""

_TFHUB_VARIABLE = "TFHUB_CACHE_DIR"
_TFHUB_QUERY = "tf-hub-format=compressed"
"""What tensorflow_hub appends to a URL to get a SavedModel as an archive (compressed_module_resolver.py)."""

_KAGGLE = "https://www.kaggle.com"
_KAGGLE_VARIABLE = "KAGGLE_API_ENDPOINT"
"""Which the package kagglehub reads, too, where Kaggle is asked elsewhere."""

_PART = r"[A-Za-z0-9][\w.=-]*"
_KAGGLE_PAGE = re.compile(
    rf"https://(?:www\.)?kaggle\.com/models/({_PART})/({_PART})/"
    rf"(?:frameworks/)?({_PART})/(?:variations/)?({_PART})/(?:versions/)?(\d+)/?"
)
_FRAMEWORKS = "tensorflow1|tensorflow2|tflite|pytorch|onnx|keras|jax|flax|transformers|other"
"""Of Kaggle, those that an encoder's weights may be of: a path that does not exist is no handle."""

_KAGGLE_HANDLE = re.compile(rf"{_PART}/{_PART}/(?i:{_FRAMEWORKS})/{_PART}(?:/(\d+))?")


@dataclass(frozen=True)
class Handle:
    """Where to get weights.

    Parameters
    ----------
    text : str
        As it was given.
    url : str
        The address of a page or a file; of a model at Kaggle, of its archive.
    kaggle : str
        What Kaggle calls it, ``owner/model/framework/variation/version``; empty for what is elsewhere.
    """

    text: str
    url: str
    kaggle: str = ""

    @property
    def name(self) -> str:
        """The same for two ways to write the same."""
        return self.kaggle or self.url

    @property
    def folders(self) -> list[Path]:
        """The folders that are its own, of which the first is downloaded to."""
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:16]
        return [folder / _HANDLES / digest for folder in dict.fromkeys((weights_folder(), user_folder()))]


def read_handle(given: str | Path) -> Handle | None:
    """Tell whether weights are named by where to get them; None for a path.

    Parameters
    ----------
    given : str or Path
        A URL, of a page at Kaggle or TensorFlow Hub, of an archive or of a file; or a handle at Kaggle,
        ``owner/model/framework/variation/version``. What exists as a path is one.

    Returns
    -------
    Handle or None

    Raises
    ------
    InputError
        If it is a URL that weights cannot be had from, or a handle without a version.

    Examples
    --------
    >>> read_handle("https://www.kaggle.com/models/google/yamnet/frameworks/tensorFlow2/variations/yamnet/versions/1").kaggle
    'google/yamnet/tensorFlow2/yamnet/1'
    >>> read_handle("weights/yamnet")
    """
    if isinstance(given, Path):
        return None
    if re.match(r"[A-Za-z][\w+.-]+://", given):
        return _read_url(given)
    found = _KAGGLE_HANDLE.fullmatch(given)
    if found is None or Path(given).exists():
        return None
    if found[1] is None:
        raise InputError(f"{given!r} is no path, and a handle at Kaggle ends in a version: {given}/1, for the first.")
    return _at_kaggle(given, given)


def _read_url(text: str) -> Handle:
    if not text.startswith(("http://", "https://")) or not urlsplit(text).hostname:
        raise InputError(
            f"Weights cannot be had from {hide_secrets(text)!r}. Give a path, a URL that begins with https:// or "
            "http://, or a handle at Kaggle such as google/yamnet/tensorFlow2/yamnet/1."
        )
    page = _KAGGLE_PAGE.fullmatch(text)
    if page is not None:
        return _at_kaggle(text, "/".join(page.groups()))
    if re.match(r"https?://(www\.)?kaggle\.com/models/", text):
        raise InputError(
            f"{hide_secrets(text)!r} is no page of one version of a model at Kaggle. Give its handle, "
            "owner/model/framework/variation/version, such as google/yamnet/tensorFlow2/yamnet/1."
        )
    return Handle(text, text)


def _at_kaggle(text: str, handle: str) -> Handle:
    server = (os.environ.get(_KAGGLE_VARIABLE) or _KAGGLE).rstrip("/")
    return Handle(text, f"{server}/api/v1/models/{handle}/download", handle)


def find_by_handle(
    handle: Handle, card: Card, *, force: bool = False, tell: Callable[[str], None] = tell_on_stderr
) -> FoundWeights:
    """Find an encoder's weights by where they come from: here, else there, and check their hash.

    Looked for on this machine in the handle's own folder, where tensorflow_hub (``TFHUB_CACHE_DIR``) and kagglehub keep
    what they download, and among Kaggle's mounts. Their hash has to be the one that the card names, or that was
    recorded of the encoder, if any was; else the first that is met is recorded in the handle's own folder, and
    expected from there on.

    Parameters
    ----------
    handle : Handle
    card : Card
        Of an encoder that has weights.
    force : bool
        Download them though they are there.
    tell : callable
        Is given a line if they cannot be downloaded.

    Returns
    -------
    FoundWeights

    Raises
    ------
    MissingWeightsError
        If they are not on this machine and cannot be downloaded; the message says why.
    InputError
        If weights were found whose hash is another.
    """
    weights, shown = weights_of(card), hide_secrets(handle.text)
    wanted = replace(card, weights=replace(weights, sources=[_name_source(handle, weights)]))
    path = None if force else next((place for place in _places(handle, weights) if is_there(place, weights)), None)
    if path is None:
        try:
            path = fetch_into(
                handle.folders[0],
                wanted,
                command=f"birdemb encoders fetch {name_in_commands(card)} --weights {shlex.quote(shown)}",
                ways="Fetch them where there is a network and copy the folder of weights, or name a copy by its path.",
                examine=lambda came: _examine(came, card, wanted, handle),
                force=force,
                tell=tell,
            )
        finally:
            _tidy(handle.folders[0])
    found = check_weights(path, card)
    if found.origin == "published":
        return found
    pin = read_pin(wanted, handle.folders)
    problem = compare_with_pin(found.sha256, pin) if pin is not None else ""
    if problem:
        raise InputError(f"{path} is not what {shown} was: {problem}")
    if pin is None and not write_pin(wanted, shown, found.sha256, handle.folders):
        return found
    return replace(found, origin="recorded")


def _tidy(folder: Path) -> None:
    """Leave no empty folder of a handle that nothing came of."""
    with contextlib.suppress(OSError):  # where it is not empty
        folder.rmdir()
        folder.parent.rmdir()


def _name_source(handle: Handle, weights: Weights) -> Source:
    """Say where the weights are, and in which form: that is known from the address alone."""
    path = urlsplit(handle.url).path.lower()
    if path.endswith(".zip"):
        form = "zip"
    elif weights.folder or handle.kaggle or path.endswith((".tar.gz", ".tgz")):
        form = "tar.gz"
    else:
        return Source(handle.url)
    member = "" if weights.folder else next((source.member for source in weights.sources if source.archive == form), "")
    is_page = weights.folder and not handle.kaggle and not path.endswith((".zip", ".tar.gz", ".tgz"))
    return Source(_append_query(handle.url) if is_page else handle.url, archive=form, member=member)


def _append_query(url: str) -> str:
    parts = urlsplit(url)
    asked = parts.query.split("&") if parts.query else []
    query = "&".join(asked if _TFHUB_QUERY in asked else [*asked, _TFHUB_QUERY])
    return parts._replace(query=query, fragment="").geturl()


def _places(handle: Handle, weights: Weights) -> Iterator[Path]:
    """Give where weights would lie: the files or folders themselves."""
    for folder in handle.folders:
        yield folder / weights.file
    folders = []
    if handle.kaggle:
        folders += [*places_in_kagglehub(handle.kaggle), *mounts_of_model(handle.kaggle)]
    kept = os.environ.get(_TFHUB_VARIABLE)
    if kept and handle.text.startswith("http"):
        # As _module_dir in tensorflow_hub's compressed_module_resolver.py; a folder gets this name when it is whole.
        folders.append(Path(kept) / hashlib.sha1(handle.text.encode(), usedforsecurity=False).hexdigest())
    for folder in folders:
        yield folder if weights.folder else folder / weights.file


def _examine(path: Path, card: Card, wanted: Card, handle: Handle) -> str:
    """Say what is wrong with weights that came; nothing if they are as they have to be."""
    found, problem = examine_weights(path, card)
    if problem or found.origin == "published":
        return problem
    pin = read_pin(wanted, handle.folders)
    return compare_with_pin(found.sha256, pin) if pin is not None else ""
