"""The working folder: where the cache, the bundles and the memory of the last run live."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdemb.defaults import DEFAULT_WORKSPACE
from birdemb.errors import InputError
from birdemb.identity import ENCODER_NAME
from birdemb.listing import Listing
from birdemb.storage import check_writable, read_json, write_json

__all__ = ["Workspace"]


@dataclass(frozen=True)
class Workspace:
    """Places below one folder, by default `.birdemb` in the folder where the commands run.

    Parameters
    ----------
    folder : Path
    """

    folder: Path = DEFAULT_WORKSPACE

    def check_writable(self) -> None:
        """Make sure, before long work, that what comes of it can be kept here.

        Raises
        ------
        InputError
            If it cannot.
        """
        advice = "Name a working folder that you may write to with --workspace, or in BIRDEMB_WORKSPACE."
        check_writable(self.listing, advice)

    @property
    def cache(self) -> Path:
        """Folder of the cache of embeddings."""
        return self.folder / "cache"

    @property
    def contents(self) -> Path:
        """Place of the memory of what recordings hold, which spares hashing them again."""
        return self.folder / "contents.sqlite"

    @property
    def listing(self) -> Path:
        """Place of the listing of what was embedded last."""
        return self.folder / "embedded.json"

    @property
    def last_bundle_note(self) -> Path:
        """Place of the note that says which bundle was fitted last."""
        return self.folder / "bundle.json"

    def bundle(self, head: str) -> Path:
        """Give the place of the bundle with a head."""
        return self.folder / "bundles" / f"{head}.birdemb"

    def errors(self, command: str) -> Path:
        """Give the place of the table of what a command skipped."""
        return self.folder / f"{command}-errors.csv"

    def watch(self, name: str) -> Path:
        """Give the folder of the journal of a watch."""
        return self.folder / "watch" / name

    def listing_of(self, encoder: str) -> Path:
        """Give the place of the listing of what was embedded last with an encoder.

        Raises
        ------
        InputError
            If that is no name of an encoder.
        """
        if not ENCODER_NAME.fullmatch(encoder):
            raise InputError(f"{encoder!r} is no name of an encoder. `birdemb encoders` lists them.")
        return self.folder / "embedded" / f"{encoder}.json"

    @property
    def cards(self) -> Path:
        """Place of the note that says where users' own cards lie."""
        return self.folder / "cards.json"

    def remember_card(self, name: str, path: Path) -> None:
        """Note where a user's own card lies, for `fit` and `predict`."""
        write_json(self.cards, self._read_cards() | {name: str(path)})

    def last_card(self, name: str) -> Path | None:
        """Tell where the card of an encoder lay when it was used last; None for one that was none of the user's own."""
        path = self._read_cards().get(name)
        return Path(path) if isinstance(path, str) else None

    def _read_cards(self) -> dict[str, Any]:
        content = read_json(self.cards) if self.cards.is_file() else {}
        return content if isinstance(content, dict) else {}

    def remember_listing(self, listing: Listing) -> None:
        """Note what was embedded last, at all and with this encoder, for `fit`."""
        listing.write(self.listing_of(listing.identity["encoder"]))
        listing.write(self.listing)

    def last_listing(self, encoder: str | None = None) -> Listing:
        """Give what was embedded last, at all or with an encoder.

        Raises
        ------
        InputError
            If nothing was.
        """
        path = self.listing if encoder is None else self.listing_of(encoder)
        if not path.is_file() and encoder is not None and self.listing.is_file():
            raise InputError(
                f"Nothing has been embedded with {encoder!r} in {self.folder.resolve()}. "
                f"Run `birdemb embed FOLDER --encoder {encoder}` first."
            )
        if not path.is_file():
            raise InputError(
                f"Nothing has been embedded in {self.folder.resolve()}. Run `birdemb embed FOLDER` first, "
                "or name another working folder with --workspace."
            )
        return Listing.read(path)

    def remember_bundle(self, path: Path) -> None:
        """Note which bundle was fitted last, for `predict`; one in the working folder moves with it."""
        folder, place = self.folder.resolve(), path.resolve()
        inside = place.is_relative_to(folder)
        write_json(self.last_bundle_note, {"path": str(place.relative_to(folder) if inside else place)})

    def last_bundle(self) -> Path:
        """Give the bundle that was fitted last.

        Raises
        ------
        InputError
            If none was, or it is gone.
        """
        note = self.last_bundle_note
        if not note.is_file():
            raise InputError(
                f"Nothing has been fitted in {self.folder.resolve()}. Run `birdemb fit` first, give a bundle with "
                "--model, or name another working folder with --workspace."
            )
        try:
            # An absolute path stays what it is.
            path = self.folder / Path(read_json(note, "Run `birdemb fit` again, or give --model.")["path"])
        except (KeyError, TypeError) as error:
            raise InputError(f"{note} names no bundle ({error}). Run `birdemb fit` again, or give --model.") from error
        if not path.is_file():
            raise InputError(
                f"The bundle {path} that was fitted last is gone. Run `birdemb fit` again, or give --model."
            )
        return path
