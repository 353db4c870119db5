"""An HTTP server in front of another one, on loopback, that spoils some of what passes through it."""

from __future__ import annotations

import re
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import sleep
from urllib.parse import urlsplit

__all__ = ["Front"]

#: What a request suffers: a status that answers it, or one of ``reset`` (nothing is passed on), ``lost`` (the answer is
#: not), ``truncated`` (half of the answer is), ``garbled`` (the request is changed on the way); ``None`` for nothing.
Fault = int | str | None
#: What Google's client asks in a thread of its own, once and whenever it comes to it: what the bucket is like.
ASIDE = re.compile(r"/storage/v1/b/[^/?]+\?")


class _Handler(BaseHTTPRequestHandler):
    """Passes on one request after the other, or does not."""

    protocol_version = "HTTP/1.1"
    server: Front

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        sleep(self.server.delay_s())
        fault = None if ASIDE.match(self.path) else self.server.fault(self.command, self.path)
        self.server.faults += fault is not None
        if isinstance(fault, int):
            self.answer(fault, [], b"{}")
        elif fault == "reset":
            self.reset()
        else:
            self.forward(body.replace(b"good", b"evil") if fault == "garbled" else body, fault)

    do_GET = do_POST = do_PUT = do_DELETE = pass_on

    def forward(self, body: bytes, fault: Fault) -> None:
        behind = HTTPConnection(self.server.behind)
        behind.request(self.command, self.path, body, dict(self.headers.items()))
        answer = behind.getresponse()
        data = answer.read()
        behind.close()
        self.server.passed(self.command, self.path)
        if fault == "lost":
            self.reset()
            return
        self.answer(answer.status, answer.getheaders(), data, len(data) // 2 if fault == "truncated" else None)

    def answer(self, status: int, headers: list[tuple[str, str]], data: bytes, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:length])
        if length is not None:
            self.reset()

    def reset(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Front(ThreadingHTTPServer):
    """
    Stands in front of the server at ``behind``, a URL, until it is closed.

    :ivar fault: given method and path of each request, decides what it suffers; called in many threads, as all these.
        What the client asks aside suffers nothing: it would take faults away from those that they are meant for.
    :ivar delay_s: how long a request is under way, in seconds, before that is decided.
    :ivar passed: called with method and path of each request that was carried out, before it is answered or not.
    :ivar faults: how many have suffered something.
    """

    daemon_threads = True

    def __init__(self, behind: str, fault: Callable[[str, str], Fault] = lambda method, path: None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = urlsplit(behind).netloc
        self.fault = fault
        self.delay_s: Callable[[], float] = lambda: 0.0
        self.passed: Callable[[str, str], None] = lambda method, path: None
        self.faults = 0
        self._thread = Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves without a word is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def close(self) -> None:
        """Answer no more."""
        self.shutdown()
        self._thread.join()
        self.server_close()
