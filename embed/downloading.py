"""Downloads over HTTP that go on where they were stopped, as pooch takes them."""

from __future__ import annotations

import re
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from birdemb.errors import InputError
from birdemb.storage import read_json, write_json

if TYPE_CHECKING:
    import requests

__all__ = ["ResumingDownloader"]

_CONNECT_SECONDS = 30
_SILENT_SECONDS = 60
_MOST_TRIES = 10  # after a connection that broke off, as long as each brings more
_WEB_PAGE = "the server answers with a web page in place of the file"
_CHUNK = 1 << 14  # of which the last is lost where a connection breaks off


class ResumingDownloader:
    """What pooch calls to download a file; pooch's own begins from nothing each time.

    What comes is kept in a file of its own until it is whole. If the run ends before, the next one asks the server for
    the rest (RFC 9110: ``Range``, on the condition ``If-Range`` that the file is still the same), where the server has
    such a thing; else it begins again.

    Parameters
    ----------
    partial : Path
        Where to keep what comes; beside it a file ``.json`` says of which file it is a part.
    expected_bytes : int
        How many there have to be; 0 where that is not known.
    most_bytes : int
        How many are taken at the most.
    is_checked : bool
        Whether the hash is known, so that parts may be put together though the server does not say that they are of
        the same file.
    title : str
        Of the progress bar.
    """

    def __init__(
        self, partial: Path, *, expected_bytes: int = 0, most_bytes: int, is_checked: bool = False, title: str = ""
    ) -> None:
        self._partial = partial
        self._facts_file = partial.with_name(f"{partial.name}.json")
        self._expected = expected_bytes
        self._most = expected_bytes or most_bytes
        self._is_checked = is_checked
        self._title = title

    def __call__(self, url: str, output_file: str, pooch: Any = None, check_only: bool = False) -> None:  # noqa: ANN401, ARG002 - pooch's own signature
        """Download a file.

        Parameters
        ----------
        url : str
        output_file : str
            Where to put it once it is whole, on the same filesystem.
        pooch, check_only
            Not used.

        Raises
        ------
        InputError
            If it cannot be had, or something else came; the message says no more than what is wrong.
        OSError
            If it cannot be written.
        """
        for _ in range(_MOST_TRIES):
            before = self._kept_bytes()
            problem = self._try(url)
            if not problem:
                self._partial.replace(output_file)
                self._facts_file.unlink(missing_ok=True)
                return
            if self._kept_bytes() <= before or not self._condition(url):
                break
        raise InputError(problem)

    def _try(self, url: str) -> str:
        """Ask for what is missing; gives what broke off the connection, or nothing if all is there."""
        import requests  # half a second

        kept, condition = self._kept_bytes(), self._condition(url)
        if kept and kept == self._expected and condition is not None:
            return ""
        if condition is None or kept >= self._most:
            kept = 0
        headers = {"Accept-Encoding": "identity"}  # as the hash is that of the file, and bytes are counted
        if kept:
            headers |= {"Range": f"bytes={kept}-"} | ({"If-Range": condition} if condition else {})
        total = 0
        try:
            with requests.get(
                url, headers=headers, stream=True, timeout=(_CONNECT_SECONDS, _SILENT_SECONDS)
            ) as response:
                if kept and response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    self._forget()  # there is no more than what was kept of it, or it is another file now
                    return self._try(url)
                first, total = self._read_headers(response, kept)
                if not first:
                    self._begin(url, response)
                got = self._receive(response, first, total)
        except requests.RequestException as error:
            return f"{_describe(error)}{self._tell_kept(total)}"
        return f"the connection ended{self._tell_kept(total)}" if total and got < total else ""

    def _tell_kept(self, total: int) -> str:
        return f"; {self._kept_bytes():,} of {total:,} bytes are kept" if total else ""

    def _read_headers(self, response: requests.Response, kept: int) -> tuple[int, int]:
        """Give where what comes begins, and how long the whole file is (0 if that is not said)."""
        status = response.status_code
        if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            raise InputError(f"the server answers {status} {response.reason}".rstrip())
        if "html" in response.headers.get("Content-Type", ""):
            raise InputError(_WEB_PAGE)
        length = response.headers.get("Content-Length", "")
        first, total = 0, int(length) if length.isdecimal() else 0
        if status == HTTPStatus.PARTIAL_CONTENT:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if not found or int(found[1]) != kept:
                self._forget()
                raise InputError("the server gives another part of the file than was asked for")
            first, total = kept, int(found[2]) if found[2] != "*" else kept + total
        if (total and total > self._most) or (total and self._expected and total != self._expected):
            self._forget()
            raise InputError(f"the server offers {total:,} bytes, expected {self._describe_expected()}")
        return first, total

    def _receive(self, response: requests.Response, first: int, total: int) -> int:
        got = first
        with (
            self._partial.open("r+b") as file,
            tqdm(
                desc=self._title,
                total=total or self._expected or None,
                initial=first,
                unit="B",
                unit_scale=True,
                dynamic_ncols=True,
                disable=None,  # where standard error is no terminal
            ) as bar,
        ):
            file.seek(first)
            file.truncate()
            for chunk in response.iter_content(_CHUNK):
                if not got and chunk.lstrip()[:16].lower().startswith((b"<!doctype html", b"<html")):
                    self._forget()
                    raise InputError(_WEB_PAGE)
                got += len(chunk)
                if got > self._most:
                    break
                file.write(chunk)
                bar.update(len(chunk))
        if got > self._most:
            self._forget()
            raise InputError(f"the server sends more than {self._most:,} bytes, expected {self._describe_expected()}")
        if self._expected and not total and got < self._expected:
            self._forget()
            raise InputError(f"the server sends {got:,} bytes, expected {self._expected:,}")
        return got

    def _begin(self, url: str, response: requests.Response) -> None:
        """Keep what tells whether a part is of the same file: a strong tag, else the time of its last change."""
        tag = response.headers.get("ETag", "")
        condition = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
        self._partial.parent.mkdir(parents=True, exist_ok=True)
        self._forget()
        write_json(self._facts_file, {"url": url, "condition": condition})
        self._partial.touch()

    def _condition(self, url: str) -> str | None:
        """Give the condition on which a part may be gone on with: empty for none, None where it may not be."""
        if not self._partial.is_file() or not self._facts_file.is_file():
            return None
        try:
            facts = read_json(self._facts_file)
        except InputError:
            return None
        if not isinstance(facts, dict) or facts.get("url") != url:
            return None
        condition = facts.get("condition")
        if isinstance(condition, str) and condition.isprintable() and (condition or self._is_checked):
            return condition
        return None

    def _kept_bytes(self) -> int:
        return self._partial.stat().st_size if self._partial.is_file() else 0

    def _forget(self) -> None:
        for path in (self._partial, self._facts_file):
            path.unlink(missing_ok=True)

    def _describe_expected(self) -> str:
        return f"{self._expected:,}" if self._expected else f"{self._most:,} at the most"


def _describe(error: Exception) -> str:
    import requests

    if isinstance(error, requests.exceptions.SSLError):
        return "the server's certificate is not valid"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection ended"
    if isinstance(error, requests.exceptions.ConnectionError | requests.exceptions.Timeout):
        return "the server cannot be reached, or is silent"
    return f"the server cannot be asked ({type(error).__name__})"
