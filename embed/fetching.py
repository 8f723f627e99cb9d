"""Getting weights from the network: downloaded, unpacked, checked, and only then given their name."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path

from birdemb.embed.card import Card, Source
from birdemb.embed.own_classes import parse_own_classes
from birdemb.embed.places import weights_folder
from birdemb.embed.weights import check_weights, ways_to_get, weights_of
from birdemb.errors import InputError, MissingWeightsError
from birdemb.storage import replace_atomically

__all__ = ["download_weights"]

_CONNECT_SECONDS = 30
_MOST_LABEL_BYTES = 10_000_000  # forty times what they have: an archive cannot fill the memory


def download_weights(card: Card) -> Path:
    """Download an encoder's weights into the folder of weights.

    Parameters
    ----------
    card : Card
        With a source.

    Returns
    -------
    Path
        Where they are now.

    Raises
    ------
    MissingWeightsError
        If they cannot be had.
    InputError
        If what came is something else.
    """
    import pooch  # brings in requests, which most runs don't need

    # It would tell users to write a hash into their code.
    pooch.get_logger().setLevel("WARNING")
    weights = weights_of(card)
    source = weights.sources[0]
    target = weights_folder() / weights.file
    # A folder of its own, as two runs may download at the same time.
    with tempfile.TemporaryDirectory(prefix="birdemb-") as folder:
        try:
            # The archive's own hash is not published; the file inside is checked before it gets its name.
            archive = pooch.retrieve(
                source.url,
                known_hash=None,
                fname="weights.zip",
                path=folder,
                downloader=pooch.HTTPDownloader(progressbar=True, timeout=_CONNECT_SECONDS),
            )
        except (OSError, ValueError) as error:
            raise MissingWeightsError(
                f"The weights of {card.name} are not on this machine, and could not be downloaded from {source.url} "
                f"({type(error).__name__}). {ways_to_get(card)}"
            ) from error
        with replace_atomically(target) as temporary:
            _unpack(Path(archive), source, weights.bytes, temporary)
            check_weights(temporary, card)
            # Before the weights get their name, so that a kill leaves either both or a download to do again.
            _keep_labels(Path(archive), card, target.parent)
    return target


def _unpack(archive: Path, source: Source, size: int, target: Path) -> None:
    """Copy the one wanted member out of the archive, never more bytes than it has to have."""
    try:
        with zipfile.ZipFile(archive) as opened:
            matches = [info for info in opened.infolist() if Path(info.filename).name == source.member]
            if len(matches) != 1 or matches[0].file_size != size:
                raise InputError(
                    f"The archive from {source.url} holds no {source.member} of {size:,} bytes. "
                    "Try again later, or choose another way to get the weights: see `birdemb encoders`."
                )
            with opened.open(matches[0]) as member, target.open("wb") as copy:
                shutil.copyfileobj(member, copy)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InputError(f"What came from {source.url} is no whole zip archive ({error}). Try again later.") from error


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
            parse_own_classes(content, labels, None, labels.archive_member)
        except (InputError, zipfile.BadZipFile, zlib.error, EOFError):
            return
    with replace_atomically(folder / labels.file) as temporary:
        temporary.write_bytes(content)
