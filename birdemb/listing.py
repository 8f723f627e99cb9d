"""What a run over recordings found: which it embedded, from which content, and which it had to skip."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdemb.errors import InputError
from birdemb.storage import read_json, replace_atomically
from birdemb.tables.text import replace_csv

__all__ = ["EmbeddedRecording", "Listing", "SkippedRecording", "write_skipped"]


@dataclass(frozen=True)
class EmbeddedRecording:
    """A recording whose embeddings are in the cache.

    Parameters
    ----------
    recording : str
        Its path below the listing's folder, with forward slashes.
    sha256 : str
        Of its content; the cache knows it by this.
    windows : int
        How many it has.
    seconds : float
        Its length.
    """

    recording: str
    sha256: str
    windows: int
    seconds: float


@dataclass(frozen=True)
class SkippedRecording:
    """A recording, or a row of a table, that could not be used.

    Parameters
    ----------
    recording : str
        Its path below the folder that was given.
    stage : str
        ``"read"``, ``"decode"``, ``"encode"``, ``"label"`` or ``"limit"``.
    reason : str
        What is wrong with it.
    """

    recording: str
    stage: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """The recordings of one folder and the identity of their embeddings.

    Parameters
    ----------
    folder : str
        Absolute path or URL of the folder that was embedded.
    identity : dict
        All that the embeddings depend on; names their part of the cache.
    recordings : sequence of EmbeddedRecording
        Sorted by name.
    skipped : sequence of SkippedRecording
    labels : str or None
        The table of labels that was found; None where files beside the recordings or the folders' names have them.
    """

    folder: str
    identity: dict[str, Any]
    recordings: Sequence[EmbeddedRecording]
    skipped: Sequence[SkippedRecording]
    labels: str | None = None

    @property
    def windows(self) -> int:
        """Windows of all its recordings."""
        return sum(entry.windows for entry in self.recordings)

    @property
    def seconds(self) -> float:
        """Length of all its recordings."""
        return sum(entry.seconds for entry in self.recordings)

    def write(self, path: Path) -> None:
        """Write it as JSON, a recording a line."""
        head = {"folder": self.folder, "identity": self.identity, "labels": self.labels}
        rows = {"recordings": self.recordings, "skipped": self.skipped}
        members = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
        # Not dataclasses.asdict and an indented dump, which take a second for some ten thousand recordings.
        members += [
            f"{json.dumps(key)}: [\n" + ",\n".join(json.dumps(vars(entry)) for entry in entries) + "\n]"
            for key, entries in rows.items()
        ]
        with replace_atomically(path) as temporary:
            temporary.write_text("{\n" + ",\n".join(members) + "\n}\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Listing:
        """Read what `write` wrote.

        Raises
        ------
        InputError
            If the file is something else.
        """
        advice = "Run `birdemb embed` again; what is cached stays."
        content = read_json(path, advice)
        try:
            _ = content["identity"]["encoder"], int(content["identity"]["dim"]), Path(content["folder"])
            return cls(
                folder=content["folder"],
                identity=content["identity"],
                recordings=[EmbeddedRecording(**entry) for entry in content["recordings"]],
                skipped=[SkippedRecording(**entry) for entry in content["skipped"]],
                labels=content["labels"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is no listing of recordings ({error}). {advice}") from error

    def refuse_if_empty(self, path: str | Path, errors: Path | None) -> None:
        """Raise if every recording was skipped.

        Parameters
        ----------
        path : str or Path
            What was to be embedded.
        errors : Path or None
            The table of what was skipped.

        Raises
        ------
        InputError
            Names the first recording and what is wrong with it.
        """
        if not self.recordings:
            first = self.skipped[0]
            raise InputError(
                f"No recording in {path} could be used; {errors} lists all {len(self.skipped)}. "
                f"The first, {first.recording.encode(errors='backslashreplace').decode()}: {first.reason}."
            )


def write_skipped(path: Path, skipped: Sequence[SkippedRecording]) -> Path | None:
    """Write a table of what was skipped (columns path, stage, reason), or delete the last run's if nothing was.

    Returns
    -------
    Path or None
        The file, where there is one.
    """
    if not skipped:
        path.unlink(missing_ok=True)
        return None
    with replace_csv(path) as table:
        table.writerow(("path", "stage", "reason"))
        table.writerows((entry.recording, entry.stage, entry.reason) for entry in skipped)
    return path
