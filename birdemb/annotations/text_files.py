"""Files of labels as they lie on disk, opened without a guess that nobody hears of: encoding, separator, cells."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdemb.errors import InputError, MissingDependencyError

__all__ = ["Cells", "Text", "is_parquet", "key_of", "read_cells", "read_parquet", "read_text", "show"]

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_SEPARATORS = "\t;,"
_NAMES = {"\t": "tabs", ";": "semicolons", ",": "commas"}
_EXCEL = re.compile(r"sep=([;,\t])\r?\n", re.IGNORECASE)
"""The first line that Excel understands, and writes on wish, to tell the separator."""
_PARQUET = b"PAR1"
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How workbooks of Excel and LibreOffice begin, the new and the old ones."""
_WHOLE = 2.0**53
"""Below it floating-point numbers hold every whole number."""
_SHOWN = 40
"""Letters of a cell that a message has at most."""


@dataclass(frozen=True)
class Text:
    """The text of a file.

    Parameters
    ----------
    source : Path
    text : str
        With its own line breaks.
    notes : tuple of str
        What was not as expected, for people.
    """

    source: Path
    text: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cells:
    """The cells of a table.

    Parameters
    ----------
    source : Path
    cells : dict of str to ndarray of shape (rows,), object
        By column, all as text without blanks around it; columns are named as in the file, without blanks around the
        names. No data frame: there may be thousands of files, of a few rows each.
    lines : ndarray of shape (rows,), int64
        The line on which each row begins, counted from 1; for Parquet the row, counted from 1.
    separator : str
        Between the cells; "" where the file has none.
    notes : tuple of str
        What was not as expected, for people.
    """

    source: Path
    cells: Mapping[str, NDArray[np.object_]]
    lines: NDArray[np.int64]
    separator: str = ""
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.lines)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(self.cells)

    @cached_property
    def _by_key(self) -> dict[str, str]:
        return {key_of(column): column for column in reversed(self.columns)}

    def find(self, *names: str) -> str | None:
        """Give the first column of these names, None if there is none.

        Capitals, underscores for blanks and Kaleidoscope's asterisk after a name do not matter.
        """
        return next((self._by_key[key] for key in map(key_of, names) if key in self._by_key), None)

    def take(self, name: str) -> NDArray[np.object_]:
        """Give the texts of a column."""
        return self.cells[name]


def key_of(column: str) -> str:
    """Give what two names of the same column have in common."""
    return " ".join(column.casefold().replace("_", " ").rstrip("* ").split())


def show(cell: str) -> str:
    """Write a cell for a message: in quotation marks, and not all of a long one."""
    return repr(cell if len(cell) <= _SHOWN else f"{cell[:_SHOWN]}...")


def read_text(source: Path) -> Text:
    """Read a file as text: UTF-8, UTF-16 if it says so in its first bytes, else Windows-1252, which is then noted.

    Raises
    ------
    InputError
        If the file cannot be opened, is empty, or is no text.
    """
    content = _read_bytes(source)
    if content.startswith(_WORKBOOKS):
        raise InputError(
            f"The labels {source} are a workbook or an archive. Save the sheet that has them as CSV in UTF-8."
        )
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    notes: tuple[str, ...] = ()
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise InputError(f"The labels {source} begin as {encoding} but are not ({error}). {_SAVE}") from error
        text, note = _decode_western(source, content, error.start)
        notes = (note,)
    if "\0" in text:
        raise InputError(f"The labels {source} are no text, or are in UTF-16 without saying so. {_SAVE}")
    if not text.strip():
        raise InputError(f"The labels {source} are empty. Expected a table or a list of labels.")
    return Text(source, text, notes)


_SAVE = "Save them as UTF-8."


def _read_bytes(source: Path) -> bytes:
    try:
        return source.read_bytes()
    except OSError as error:
        raise InputError(f"The labels {source} cannot be opened: {error.strerror or error}.") from error


def _decode_western(source: Path, content: bytes, place: int) -> tuple[str, str]:
    """Decode what is no UTF-8, and say so with the first word that shows whether it was right."""
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError as error:
        raise InputError(f"The labels {source} are neither UTF-8 nor Windows-1252 ({error}). {_SAVE}") from error
    # In Windows-1252 each byte is a letter, so that places are the same.
    line = len(re.findall(r"\r\n|\r|\n", text[:place])) + 1
    before, after = re.split(r"[\s,;]", text[:place])[-1], re.split(r"[\s,;]", text[place:], maxsplit=1)[0]
    return text, (
        f"It is not UTF-8 and was read as Windows-1252 (Latin-1), such as {before + after!r} in line {line}; where "
        "that is wrong, save it as UTF-8."
    )


def read_cells(text: Text) -> Cells:
    """Read a table whose first line names its columns.

    Parameters
    ----------
    text : Text
        Cells separated by tabs, semicolons or commas, whichever parts the first line into most; or JSON objects, one
        a line, if the first letter is a brace.

    Returns
    -------
    Cells
        Without rows that are empty throughout.

    Raises
    ------
    InputError
        If a row has more cells than there are columns, a quotation mark is never closed, or two columns have one name.
    """
    if text.text.lstrip().startswith("{"):
        return _read_json_lines(text)
    body, skipped, separator = text.text, 0, ""
    if hint := _EXCEL.match(body):
        body, skipped, separator = body[hint.end() :], 1, hint[1]
    separator = separator or _find_separator(body)
    try:
        records, lines = _read_records(body, separator)
    except csv.Error as error:
        raise InputError(
            f"The labels {text.source} are no table separated by {_NAMES[separator]} ({error}): a quotation mark "
            f"around a cell is missing or is one too many. {_find_quote(body, separator, skipped)}"
        ) from error
    header, records, lines = records[0], records[1:], [line + skipped for line in lines[1:]]
    width = len(header)
    for record, line in zip(records, lines, strict=True):
        if len(record) > width:
            if any(cell.strip() for cell in record[width:]):
                raise InputError(
                    f"The labels {text.source} have {len(record)} cells in line {line} and {width} columns, separated "
                    f"by {_NAMES[separator]}. Put text that holds the separator, and numbers with a decimal comma, "
                    "into double quotes."
                )
            del record[width:]
        elif len(record) < width:
            record.extend([""] * (width - len(record)))
    columns = zip(*records, strict=True) if records else [()] * width
    return _make_cells(text, header, columns, lines, separator)


def _find_separator(body: str) -> str:
    return max(_SEPARATORS, key=lambda separator: _count_columns(body, separator))


def _count_columns(body: str, separator: str) -> int:
    rows = csv.reader(io.StringIO(body, newline=""), delimiter=separator)
    try:
        return next((len(row) for row in rows if any(map(str.strip, row))), 0)
    except csv.Error:
        return 0


def _read_records(body: str, separator: str) -> tuple[list[list[str]], list[int]]:
    """Read the rows that are not empty, and the lines on which they begin."""
    rows = csv.reader(io.StringIO(body, newline=""), delimiter=separator, strict=True)
    records, lines, line = [], [], 1
    for row in rows:
        if any(row) and any(map(str.strip, row)):
            records.append(row)
            lines.append(line)
        line = rows.line_num + 1
    return records, lines


def _find_quote(body: str, separator: str, skipped: int) -> str:
    """Say where the last row begins that could be read, as what follows it is what is wrong."""
    rows = csv.reader(io.StringIO(body, newline=""), delimiter=separator, strict=True)
    line = 1
    try:
        for _ in rows:
            line = rows.line_num + 1
    except csv.Error:
        pass
    return f"Look at line {line + skipped}."


def _read_json_lines(text: Text) -> Cells:
    rows, lines = [], []
    for line, content in enumerate(io.StringIO(text.text, newline=""), 1):
        if not content.strip():
            continue
        try:
            # Numbers as they are written, so that a class 007 or 1e5 stays what it is.
            row = json.loads(content, parse_float=str, parse_int=str, parse_constant=str)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"The labels {text.source} have no JSON object in line {line} ({error}). Expected one on each line."
            ) from error
        if not isinstance(row, dict):
            raise InputError(f"The labels {text.source} have no JSON object in line {line}. Expected one on each line.")
        rows.append({name: _write_cell(value) for name, value in row.items()})
        lines.append(line)
    header = list(dict.fromkeys(name for row in rows for name in row))
    return _make_cells(text, header, [[row.get(name, "") for row in rows] for name in header], lines, "")


def _write_cell(value: object) -> str:
    """Write a value as the text that a cell of a CSV table would have."""
    if value is None or value != value:
        return ""
    # Numbers of classes beside a missing one: what pandas writes as 1139490.0 was 1139490.
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE:
        return str(int(value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def is_parquet(source: Path) -> bool:
    """Say whether a file begins as Parquet does."""
    try:
        with source.open("rb") as file:
            return file.read(len(_PARQUET)) == _PARQUET
    except OSError as error:
        raise InputError(f"The labels {source} cannot be opened: {error.strerror or error}.") from error


def read_parquet(source: Path) -> Cells:
    """Read a table in Parquet, its numbers and lists as text.

    Raises
    ------
    InputError
        If it is broken.
    MissingDependencyError
        If pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingDependencyError(
            f"pyarrow, which reads the Parquet file {source}, is not installed. Run: pip install 'birdemb[parquet]', "
            "or save the labels as CSV."
        ) from error
    try:
        table = pq.read_table(source)
        columns = [[_write_cell(value) for value in column.to_pylist()] for column in table.columns]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"The labels {source} are no readable Parquet file ({error}). Write them again.") from error
    return _make_cells(Text(source, ""), table.column_names, columns, range(1, table.num_rows + 1), "")


def _make_cells(
    text: Text, header: Sequence[str], columns: Iterable[Sequence[str]], lines: Sequence[int], separator: str
) -> Cells:
    cells: dict[str, NDArray[np.object_]] = {}
    for name, column in zip(map(str.strip, header), columns, strict=True):
        # Without a name: what pandas writes its row numbers into, or cells behind a separator too many.
        if not name:
            continue
        if name in cells:
            raise InputError(f"The labels {text.source} have two columns {name!r}. Rename or delete one.")
        cells[name] = np.array(list(map(str.strip, column)), object)
    return Cells(text.source, cells, np.fromiter(lines, np.int64, len(lines)), separator, text.notes)
