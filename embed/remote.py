"""Recordings that lie elsewhere: in a bucket, on a server, wherever fsspec reads."""

from __future__ import annotations

import hashlib
import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from posixpath import basename
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote, urlsplit

from birdemb.errors import InputError, MissingDependencyError, RecordingError
from birdemb.offline import OFFLINE_VARIABLE, is_offline

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from fsspec import AbstractFileSystem

__all__ = ["hide_secrets", "is_url", "list_remote", "name_of_url", "open_remote", "stamp_remote"]

_URL = re.compile(r"[A-Za-z][\w+.-]+://")
_CHAIN = re.compile(r"[A-Za-z][\w+.-]+::|.*::[A-Za-z][\w+.-]+://", re.DOTALL)
_READ_AHEAD = 1 << 20
_ON_THIS_MACHINE = ("file", "local", "memory")
_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "adlfs"),
    **dict.fromkeys(("http", "https"), "aiohttp"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    "smb": "smbprotocol",
}
# What tells that a file has changed, as the several filesystems call it, the surest first. One of them is taken, as
# some filesystems tell more of a file when it is asked for alone than in a list.
_CHANGES = (
    "etag",
    "generation",
    "content-md5",
    "md5hash",
    "digest",
    "crc32c",
    "versionid",
    "mtime",
    "lastmodified",
    "last-modified",
    "last_modified",
    "modified",
    "modify",
    "updated",
    "created",
)
# What reading from a bucket or a server may raise, beside OSError: the bases, in modules that are looked at only once
# they are loaded.
_ERRORS = (
    ("aiohttp", "ClientError"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("azure.core.exceptions", "AzureError"),
    ("paramiko.ssh_exception", "SSHException"),
    ("ftplib", "Error"),
)


def is_url(location: str) -> bool:
    """Tell a URL from a path.

    Examples
    --------
    >>> is_url("s3://bucket/sounds"), is_url("C:/sounds"), is_url("a:b.wav")
    (True, False, False)
    """
    return bool(_URL.match(location)) or ("://" in location and bool(_CHAIN.match(location)))


def hide_secrets(text: str) -> str:
    """Take the passwords and signatures out of the URLs in a text.

    Examples
    --------
    >>> hide_secrets("There is no https://me:secret@host/a.wav?token=1 at all")
    'There is no https://host/a.wav at all'
    """
    text = re.sub(r"(\w://)[^/\s]*@", r"\1", text)
    return re.sub(r"(https?://[^\s?#'\"]*)[?#][^\s'\"]*", r"\1", text)


def name_of_url(url: str) -> str:
    """Give the file name in a URL; for the web without what follows a question mark, and with blanks for ``%20``."""
    return basename(unquote(urlsplit(url).path) if _is_web(url) else url)


def list_remote(url: str) -> dict[str, str]:
    """List what lies at a URL and below it.

    Parameters
    ----------
    url : str

    Returns
    -------
    dict
        Name below the URL to the URL of each file; the name is empty where the URL is that of a file itself.

    Raises
    ------
    InputError
        If the URL's protocol is not known, or it cannot be listed, or nothing is there.
    MissingDependencyError
        If a package for the protocol is missing.
    """
    shown = hide_secrets(url)
    filesystem, root = _connect(url)
    try:
        # What an earlier run in this process has seen may have changed.
        filesystem.invalidate_cache()
        if _is_web(url) and "." in name_of_url(url):
            # To a web server a folder is a file too, whose content is a list.
            if filesystem.exists(root):
                return {"": url}
            raise FileNotFoundError(root)
        paths: list[str] = filesystem.find(root)
        if not paths and not filesystem.exists(root):
            raise FileNotFoundError(root)
    except FileNotFoundError as error:
        raise InputError(
            f"There is no folder or file {shown}. Check the URL, and the bucket's or server's name."
        ) from error
    except remote_errors() as error:
        raise InputError(
            f"{shown} cannot be listed: {_explain(error)}. Check the URL, and that you may read there."
        ) from error
    finally:
        # What was listed is not to answer for a file that has changed since.
        filesystem.invalidate_cache()
    if paths == [root]:
        return {"": url}
    start = root.rstrip("/") + "/"
    names = {path.removeprefix(start): path for path in paths if path.startswith(start) and path != start}
    if _is_web(url):
        return {unquote(name): path for name, path in names.items()}
    return {name: f"{url.rstrip('/')}/{name}" for name in names}


def open_remote(url: str) -> io.RawIOBase:
    """Open a file at a URL for reading; it reads ahead.

    Raises
    ------
    RecordingError
        If it cannot be opened, and on reading, if it cannot be read.
    """
    with _report("opened"):
        filesystem, path = _connect(url)
        file = filesystem.open(path, "rb", block_size=_READ_AHEAD, cache_type="readahead")
    return _RemoteFile(file)


def stamp_remote(url: str) -> tuple[int, str]:
    """Give the size in bytes of the file at a URL, and a text that changes when the file does.

    The text is empty where the filesystem tells no more than the size.

    Raises
    ------
    RecordingError
        If the file cannot be found or is a folder.
    """
    with _report("opened"):
        filesystem, path = _connect(url)
        # The file's folder, as some filesystems answer from what they have listed there.
        filesystem.invalidate_cache(filesystem._parent(path))
        told = filesystem.info(path)
        if told.get("type") == "directory":
            raise RecordingError("read", "it is a folder, not a file")
        size = told.get("size")
    if size is None:
        raise RecordingError("read", "its server does not tell its size")
    changes = {key.lower(): str(value) for key, value in told.items() if value}
    surest = next((changes[key] for key in _CHANGES if key in changes), None)
    tag = hashlib.sha256(surest.strip('"').encode()).hexdigest() if surest else ""
    return int(size), tag


def remote_errors() -> tuple[type[Exception], ...]:
    """Give the errors that reading from a bucket or a server may raise."""
    loaded = [getattr(sys.modules.get(module), name, None) for module, name in _ERRORS]
    # fsspec itself raises ValueError for a server without byte ranges, NotImplementedError for one without listings.
    return (OSError, ValueError, NotImplementedError, EOFError, *filter(None, loaded))


class _RemoteFile(io.RawIOBase):
    """A file of fsspec whose errors are those of a recording."""

    def __init__(self, file: Any) -> None:  # noqa: ANN401 - fsspec has no type for it
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        with _report("read"):
            content = self._file.read(len(view))
        view[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with _report("read"):
            self._file.seek(offset, whence)
            return int(self._file.tell())

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            with _report("read"):
                self._file.close()
        super().close()


@contextmanager
def _report(what: str) -> Iterator[None]:
    try:
        yield
    except (RecordingError, MissingDependencyError):
        raise
    except remote_errors() as error:
        raise RecordingError("read", f"it cannot be {what}: {_explain(error)}") from error


def _explain(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "No such file or directory"
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return hide_secrets(text.splitlines()[0])[:200].rstrip(" .")


def _is_web(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def _connect(url: str) -> tuple[AbstractFileSystem, str]:
    """Give the filesystem of a URL and the path in it. fsspec keeps filesystems, so that this is quick."""
    shown = hide_secrets(url)
    if _CHAIN.match(url):
        raise InputError(f"{shown} joins several URLs by '::', which birdemb does not read; unpack or mount it first.")
    protocol = url.partition("://")[0]
    if is_offline() and protocol.lower() not in _ON_THIS_MACHINE:
        raise InputError(
            f"{shown} lies on the network, which {OFFLINE_VARIABLE} or --offline forbids. Leave that out, or give a "
            "path."
        )
    try:
        import fsspec
    except ImportError as error:
        raise MissingDependencyError(
            f"{shown} is a URL, and fsspec, which reads from URLs, is not installed. "
            f"Run: pip install 'birdemb[remote]'{_package_of(protocol)}"
        ) from error
    try:
        # Not fsspec's url_to_fs, which takes '::' in a file's name for a chain.
        kind = fsspec.get_filesystem_class(protocol)
        return kind(**kind._get_kwargs_from_urls(url)), kind._strip_protocol(url)
    except ImportError as error:
        _refuse_missing_package(shown, protocol, error)
    except remote_errors() as error:
        known = protocol in fsspec.available_protocols()
        reason = _explain(error) if known else f"fsspec knows no protocol {protocol!r}"
        raise InputError(
            f"{shown} cannot be reached: {reason}. Give a path, or a URL such as s3://bucket/sounds."
        ) from error


def _package_of(protocol: str) -> str:
    return f" {_PACKAGES[protocol]}" if protocol in _PACKAGES else ""


def _refuse_missing_package(shown: str, protocol: str, error: ImportError) -> NoReturn:
    package = _package_of(protocol)
    advice = f"Run: pip install{package}" if package else _explain(error)
    raise MissingDependencyError(f"{shown} needs a package that is not installed. {advice}") from error
