"""The forms of tables by name, and which one a path asks for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from birdemb.errors import InputError
from birdemb.storage import check_writable
from birdemb.tables.audacity import AUDACITY_ENDING, write_audacity, write_audacity_folder
from birdemb.tables.birdnet import BIRDNET_ENDING, write_birdnet, write_birdnet_folder
from birdemb.tables.detections_csv import write_detections
from birdemb.tables.json_lines import write_json_lines
from birdemb.tables.kaleidoscope import write_kaleidoscope
from birdemb.tables.long import write_long
from birdemb.tables.parquet import refuse_without_pyarrow, write_parquet, write_parquet_detections
from birdemb.tables.raven import RAVEN_ENDING, write_raven, write_raven_folder
from birdemb.tables.recording_files import refuse_beside_recordings
from birdemb.tables.source import TableSource
from birdemb.tables.wide import WIDE_COLUMNS, refuse_names_of_columns, write_wide

__all__ = ["DETECTION_FORMS", "SUBMISSION", "WINDOW_FORMS", "Output", "choose_output"]

Writer = Callable[[Path, TableSource], int]

SUBMISSION = "submission"
"""The form whose rows and columns a sample can give; `birdemb.submission` makes it."""


@dataclass(frozen=True)
class Form:
    """One form of a table.

    Parameters
    ----------
    file, folder : callable or None
        Write it to one file, and to a folder of a file for each recording; each is None where there is no such thing.
    ending : str
        Of the files' names in such a folder.
    has_times : bool
        Whether it tells the time of day.
    columns : tuple of str
        Those beside the classes, where each class has a column.
    """

    file: Writer | None
    folder: Writer | None = None
    ending: str = ""
    has_times: bool = False
    columns: tuple[str, ...] = ()


WINDOW_FORMS: Mapping[str, Form] = {
    SUBMISSION: Form(None, columns=("row_id",)),
    "wide": Form(write_wide, has_times=True, columns=WIDE_COLUMNS),
    "long": Form(write_long, has_times=True),
    "parquet": Form(write_parquet, has_times=True),
}
"""Forms with every window in them."""

DETECTION_FORMS: Mapping[str, Form] = {
    "detections": Form(write_detections, has_times=True),
    "raven": Form(write_raven, write_raven_folder, RAVEN_ENDING),
    "audacity": Form(write_audacity, write_audacity_folder, AUDACITY_ENDING),
    "kaleidoscope": Form(write_kaleidoscope, has_times=True),
    "birdnet": Form(write_birdnet, write_birdnet_folder, BIRDNET_ENDING),
    "jsonl": Form(write_json_lines, has_times=True),
    "parquet": Form(write_parquet_detections, has_times=True),
}
"""Forms with what is detected in them."""

_BY_SUFFIX = {".jsonl": "jsonl", ".parquet": "parquet", ".txt": "raven", "": "raven"}


@dataclass(frozen=True)
class Output:
    """A table that is to be written.

    Parameters
    ----------
    path : Path
    form : str
        A key of `WINDOW_FORMS` or of `DETECTION_FORMS`.
    of_windows : bool
        Of which of the two.
    is_folder : bool
        Whether it is a folder of a file for each recording.
    """

    path: Path
    form: str
    of_windows: bool
    is_folder: bool

    @property
    def has_times(self) -> bool:
        """Whether it tells the time of day."""
        return self._form.has_times

    @property
    def _form(self) -> Form:
        return (WINDOW_FORMS if self.of_windows else DETECTION_FORMS)[self.form]

    def check_writable(self, labels: Iterable[str] = (), folder: str = "", recordings: Iterable[str] = ()) -> None:
        """Make sure, before long work, that it can be written.

        Parameters
        ----------
        labels : iterable of str
            Of the classes.
        folder : str
            Absolute path or URL of the folder that the recordings are in.
        recordings : iterable of str
            Beside which nothing may be replaced.

        Raises
        ------
        InputError
            If it cannot, or would replace what lies beside a recording.
        """
        refuse_names_of_columns(labels, self._form.columns)
        if self.is_folder and self.path.exists() and not self.path.is_dir():
            raise InputError(
                f"{self.path} is a file, and the form {self.form} makes a folder of tables where a path has no suffix. "
                "Name a folder, or a file with a suffix."
            )
        if self.is_folder:
            refuse_beside_recordings(self.path, folder, recordings, self._form.ending)
        check_writable(self.path / ".birdemb" if self.is_folder else self.path)

    def write(self, source: TableSource) -> int:
        """Write it, and give the number of rows.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        form = self._form
        writer = form.folder if self.is_folder else form.file
        if writer is None:
            raise ValueError(f"{self.form} is not written like this")
        return writer(self.path, source)


def choose_output(path: str | Path, form: str | None = None, *, detections: bool = False) -> Output:
    """Choose the form in which a table is written.

    Parameters
    ----------
    path : str or Path
        Its suffix says the form where `form` does not. Forms of a file for each recording are written to a folder if
        it has no suffix, or ends with a slash.
    form : str, optional
        A key of `DETECTION_FORMS`, or of `WINDOW_FORMS` unless `detections`.
    detections : bool
        Whether detections alone are wanted.

    Returns
    -------
    Output

    Raises
    ------
    InputError
        If there is no such form, or neither says one.
    MissingDependencyError
        If the package that writes it is not installed.
    """
    ends_as_folder = str(path).endswith(("/", os.sep))
    path = Path(path)
    if str(path) == "-":
        raise InputError("A table is written to a file, and - is none. Name a file, such as submission.csv.")
    forms = DETECTION_FORMS if detections else {**DETECTION_FORMS, **WINDOW_FORMS}
    by_suffix = {".csv": "detections" if detections else SUBMISSION, **_BY_SUFFIX}
    suffix = "" if ends_as_folder else path.suffix.lower()
    if form is None and suffix not in by_suffix:
        raise InputError(
            f"{path} has the suffix {suffix}, which says no form of a table. Name it "
            f"{', '.join(filter(None, by_suffix))}, or without a suffix for a folder of Raven selection tables, "
            "or name the form."
        )
    name = form if form is not None else by_suffix[suffix]
    if name not in forms:
        raise InputError(f"There is no form of tables {name!r}. Choose one of {', '.join(sorted(forms))}.")
    of_windows = not detections and name in WINDOW_FORMS
    is_folder = forms[name].folder is not None and (not suffix or path.is_dir())
    if name == "parquet":
        refuse_without_pyarrow()
    return Output(path, name, of_windows, is_folder)
