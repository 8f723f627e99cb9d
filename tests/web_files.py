"""A web server on this machine, for tests of downloads: honest, or with one of the defects of real ones."""

from __future__ import annotations

import http.server
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class File:
    """What a server gives at an address.

    Of `content`, at the most `at_once` bytes go out before the connection is closed, and `length` is said to be its
    length; with `hold` it stays open and silent. `asked` collects the headers Range and If-Range of each request.
    """

    content: bytes = b""
    status: int = 200
    kind: str = "application/octet-stream"
    etag: str = ""
    ranges: bool = True
    at_once: int | None = None
    length: int | None = None
    chunked: bool = False
    hold: bool = False
    asked: list = field(default_factory=list)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        file = self.server.files.get(self.path, File(status=404))
        asked = (self.headers.get("Range"), self.headers.get("If-Range"))
        file.asked.append(asked)
        first = 0
        if file.status == 200 and file.ranges and asked[0] and asked[1] in (None, file.etag):
            first = int(asked[0].removeprefix("bytes=").removesuffix("-"))
        content = file.content[first:]
        if first and not content:
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if first else file.status)
        self.send_header("Content-Type", file.kind)
        if file.etag:
            self.send_header("ETag", file.etag)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(file.content) - 1}/{len(file.content)}")
        if file.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(content) if file.length is None else file.length))
        self.end_headers()
        sent = content[: file.at_once]
        if file.chunked:
            sent = b"%x\r\n%s\r\n0\r\n\r\n" % (len(sent), sent)
        self.wfile.write(sent)
        if file.hold:
            self.rfile.read(1)  # until the other side goes away
        self.close_connection = True

    def log_message(self, *_):
        pass


class _Server(http.server.ThreadingHTTPServer):
    files: dict

    def put(self, name, file):
        """Serve a file, or bytes; gives the address."""
        self.files[f"/{name}"] = file if isinstance(file, File) else File(file)
        return f"http://127.0.0.1:{self.server_port}/{name}"


@contextmanager
def run_server():
    server = _Server(("127.0.0.1", 0), _Handler)
    server.files = {}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
