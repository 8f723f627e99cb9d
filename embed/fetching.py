"""Getting weights from the network: downloaded, unpacked, checked, and only then given their name."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urljoin

from birdemb.embed.archives import MOST_BYTES, choose_folder, choose_members, list_entries, unpack
from birdemb.embed.card import Card, LabelFile, Source, Weights
from birdemb.embed.downloading import ResumingDownloader
from birdemb.embed.own_classes import find_own_classes, parse_own_classes
from birdemb.embed.remote import hide_secrets
from birdemb.embed.weights import (
    examine_weights,
    folder_to_fetch_into,
    is_there,
    name_in_commands,
    tell_on_stderr,
    ways_to_get,
    weights_of,
)
from birdemb.errors import BirdembError, InputError, MissingWeightsError
from birdemb.locking import hold_lock
from birdemb.offline import OFFLINE_VARIABLE, is_offline
from birdemb.storage import move_atomically

__all__ = ["fetch_into", "fetch_names", "fetch_weights"]

_DOWNLOADS = ".downloads"
"""Folder below that of the weights, for what has not all come yet, and for archives."""

_MOST_LABEL_BYTES = 10_000_000  # forty times what they have: an archive cannot fill the memory

Tell = Callable[[str], None]


def fetch_weights(card: Card, *, force: bool = False, tell: Tell = tell_on_stderr) -> Path:
    """Download an encoder's weights, and the names of its classes where they come along.

    Its sources are tried one after the other. What was downloaded of one is kept until it is whole, and the next run
    goes on from there. Nothing gets the weights' name before their hash was compared; a folder is there whole or not
    at all.

    Parameters
    ----------
    card : Card
    force : bool
        Fetch them though they are there, and replace them.
    tell : callable
        Is given a line for each source that failed.

    Returns
    -------
    Path
        Where they are now: beside a user's own card, else in the folder of weights.

    Raises
    ------
    MissingWeightsError
        If they can be had from none of the sources, or the network is forbidden.
    InputError
        If they cannot be written, or something else is where a folder of weights would be.
    """
    weights = weights_of(card)
    if not weights.sources and not is_offline():
        raise MissingWeightsError(
            f"The card of {card.name} names no place to get its weights from. {ways_to_get(card)}"
        )
    return fetch_into(
        folder_to_fetch_into(card),
        card,
        command=f"birdemb encoders fetch {name_in_commands(card)}",
        ways=ways_to_get(card),
        examine=lambda path: examine_weights(path, card)[1],
        force=force,
        tell=tell,
    )


def fetch_into(
    folder: Path,
    card: Card,
    *,
    command: str,
    ways: str,
    examine: Callable[[Path], str],
    force: bool = False,
    tell: Tell = tell_on_stderr,
) -> Path:
    """Download weights into a folder, as `fetch_weights` does.

    Parameters
    ----------
    folder : Path
    card : Card
        Whose weights have the name and the sources that are wanted.
    command : str
        What does it again, for messages.
    ways : str
        The other ways to get them, for messages.
    examine : callable
        Is given what came, before it gets its name, and gives what is wrong with it; nothing if it is as it has to be.
    force : bool
        Fetch them though they are there, and replace them.
    tell : callable
        Is given a line for each source that failed.

    Returns
    -------
    Path
        Where they are now.

    Raises
    ------
    MissingWeightsError
        If they can be had from none of the sources, or the network is forbidden.
    InputError
        If they cannot be written, or something else is where a folder of weights would be.
    """
    weights = weights_of(card)
    if is_offline():
        raise MissingWeightsError(
            f"The weights of {card.name} are not to be downloaded, as {OFFLINE_VARIABLE} or --offline forbids the "
            f"network. {ways}"
        )
    target = folder / weights.file
    again = f"`{command}{' --force' if force else ''}`"
    problems = []
    try:
        with hold_lock(
            folder / _DOWNLOADS / "lock", lambda: tell(f"Another run is downloading into {folder}; waiting for it.")
        ) as is_alone:
            if not force and is_there(target, weights):
                return target  # that other run has fetched them
            if not force and target.is_dir() and any(target.iterdir()):
                raise InputError(
                    f"{target} is no SavedModel, as there is no saved_model.pb right in it, and is not replaced by a "
                    f"download. Unpack the weights right into it, move it away, or run {again.rstrip('`')} --force`."
                )
            for source in weights.sources:
                try:
                    _fetch(source, card, folder, examine, is_alone=is_alone, tell=tell)
                except InputError as error:
                    problems.append(f"{hide_secrets(source.url)}: {error}.")
                    tell(f"  not from {problems[-1]}")
                else:
                    for source_left in weights.sources:
                        _forget(source_left, weights, folder)
                    return target
    except OSError as error:
        if isinstance(error, BirdembError):
            raise
        advice = "Make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Name another folder in BIRDEMB_MODELS"
        raise InputError(
            f"Cannot write the weights of {card.name} into {folder}: {error.strerror or error}. {advice} and run "
            f"{again} again; what was downloaded is kept."
        ) from error
    finally:
        _tidy(folder)
    listed = "\n".join(f"  - {problem}" for problem in problems)
    raise MissingWeightsError(
        f"The weights of {card.name} could not be downloaded:\n{listed}\nTry {again} again later; what was "
        f"downloaded is kept. {ways}"
    )


def fetch_names(card: Card, weights: Path, *, tell: Tell = tell_on_stderr) -> None:
    """Download the names of an encoder's classes, where they have an address and are not on this machine.

    Parameters
    ----------
    card : Card
    weights : Path
        The weights in use.
    tell : callable
        Is given a line if they cannot be had: embedding does without them.
    """
    if card.labels is None or not card.labels.url or is_offline():
        return
    folder = folder_to_fetch_into(card)
    try:
        find_own_classes(card, weights)
    except MissingWeightsError:
        try:
            with tempfile.TemporaryDirectory(prefix=".", suffix=".partial", dir=_made(folder)) as staging:
                _stage_names(card, Path(staging), tell)
                _publish(Path(staging), folder, [card.labels.file])
        except OSError as error:
            if isinstance(error, BirdembError):
                raise
            tell(
                f"  without the names of the classes: {folder} cannot be written to: {error.strerror or error}. "
                "Name another folder in BIRDEMB_MODELS"
            )


def _fetch(
    source: Source, card: Card, folder: Path, examine: Callable[[Path], str], *, is_alone: bool, tell: Tell
) -> None:
    """Fetch weights from one source. InputError is what is wrong with the source, OSError with this machine."""
    weights = weights_of(card)
    with tempfile.TemporaryDirectory(prefix=".", suffix=".partial", dir=_made(folder)) as name:
        staging = Path(name)
        if source.archive == "none":
            _download_plainly(source, weights, folder, staging, is_alone=is_alone)
        else:
            download = _download(source, weights, folder, is_alone=is_alone)
            try:
                _unpack(download, source, card, staging)
            except InputError:
                download.unlink()  # it will not be better the next time
                raise
        problem = examine(staging / weights.file)
        if problem:
            _forget(source, weights, folder)
            raise InputError(f"what came is not the weights of {card.name}: {problem.rstrip('.')}")
        _stage_names(card, staging, tell)
        # The weights last, so that a kill leaves all that belongs to them or a download to do again.
        names = [card.labels.file] if card.labels else []
        _publish(staging, folder, [*names, *_beside(weights), weights.file])


def _download(source: Source, weights: Weights, folder: Path, *, is_alone: bool, most_bytes: int = MOST_BYTES) -> Path:
    """Download a file, or go on with it; one that came whole in an earlier run is taken."""
    import pooch  # brings in requests, which most runs don't need

    # It would tell users to write a hash into their code.
    pooch.get_logger().setLevel("WARNING")
    path = _path_of_download(source.url, folder)
    partial = path.with_suffix(".part" if is_alone else f".{uuid.uuid4().hex}.part")
    try:
        return Path(
            pooch.retrieve(
                source.url,
                known_hash=source.sha256 or None,
                fname=path.name,
                path=path.parent,
                downloader=ResumingDownloader(
                    partial,
                    expected_bytes=source.bytes,
                    most_bytes=most_bytes,
                    is_checked=bool(source.sha256 or weights.sha256),
                    title=Path(weights.file).name,
                ),
            )
        )
    except InputError:
        raise
    except ValueError as error:  # pooch's, for a hash
        raise InputError(f"what came has another sha256 than is published, {source.sha256}") from error


def _path_of_download(url: str, folder: Path) -> Path:
    return folder / _DOWNLOADS / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.download"


def _forget(source: Source, weights: Weights, folder: Path) -> None:
    """Delete what is kept of a source, and of the files beside it."""
    for each in (source, *_list_further(source, weights)):
        path = _path_of_download(each.url, folder)
        for name in (path.name, f"{path.stem}.part", f"{path.stem}.part.json"):
            path.with_name(name).unlink(missing_ok=True)


def _download_plainly(source: Source, weights: Weights, folder: Path, staging: Path, *, is_alone: bool) -> None:
    """Download weights that are in no archive; further files lie beside them, under their own names."""
    names = [*_beside(weights), weights.file]
    further = _list_further(source, weights)
    # None is moved before all have come, as what is in staging is lost where one fails.
    downloads = [_download(each, weights, folder, is_alone=is_alone) for each in (*further, source)]
    for name, download in zip(names, downloads, strict=True):
        (staging / name).parent.mkdir(parents=True, exist_ok=True)
        download.replace(staging / name)


def _list_further(source: Source, weights: Weights) -> list[Source]:
    """List where the files beside the weights come from, in the order of `_beside`."""
    if source.archive != "none":
        return []
    return [Source(urljoin(source.url, quote(also))) for also in weights.also]


def _beside(weights: Weights) -> list[str]:
    return [(PurePosixPath(weights.file).parent / name).as_posix() for name in weights.also]


def _unpack(archive: Path, source: Source, card: Card, staging: Path) -> None:
    """Copy the weights out of an archive, and the names of the classes if it has them."""
    weights = weights_of(card)
    entries = list_entries(archive, source.archive)
    if weights.folder:
        chosen = choose_folder(entries, source.member)
        targets = {path: staging / weights.file / name for path, name in chosen.items()}
    else:
        file = source.member or Path(weights.file).name
        chosen = choose_members(entries, {file: weights.bytes} | dict.fromkeys(weights.also, 0))
        places = dict(zip(weights.also, _beside(weights), strict=True))
        targets = {path: staging / places.get(name, weights.file) for path, name in chosen.items()}
    if card.labels is not None and card.labels.archive_member:
        member = f"/{card.labels.archive_member}"
        found = [entry for entry in entries if f"/{entry.path}".endswith(member)]
        if len(found) == 1 and found[0].bytes <= _MOST_LABEL_BYTES and found[0].path not in targets:
            targets[found[0].path] = staging / card.labels.file
    unpack(archive, source.archive, targets, entries)


def _stage_names(card: Card, staging: Path, tell: Tell) -> None:
    """Keep the names of the classes beside the weights, where they are the right ones.

    Embedding does without them; whoever asks for them is told then that they are not there.
    """
    labels, weights = card.labels, weights_of(card)
    if labels is None or (weights.folder and (staging / weights.file / labels.file).is_file()):
        return
    path = staging / labels.file
    try:
        if not path.is_file() and labels.url:
            _download_names(labels, weights, path)
        if path.is_file():
            parse_own_classes(path.read_bytes(), labels, card.classes, labels.file)
    except InputError as error:
        tell(f"  without the names of the classes: {error}")
        path.unlink(missing_ok=True)


def _download_names(labels: LabelFile, weights: Weights, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        download = _download(Source(labels.url), weights, path.parent, is_alone=False, most_bytes=_MOST_LABEL_BYTES)
    except InputError as error:
        raise InputError(f"{labels.url}: {error}") from error
    download.replace(path)


def _publish(staging: Path, folder: Path, names: list[str]) -> None:
    for name in names:
        if (staging / name).exists():
            move_atomically(staging / name, folder / name)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _tidy(folder: Path) -> None:
    """Leave no empty folder of downloads."""
    with contextlib.suppress(OSError):  # where it is not empty
        (folder / _DOWNLOADS).rmdir()
