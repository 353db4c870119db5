"""Tests of the storage in a bucket against what Google documents and no emulator does: a server with a script."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple
from unittest import SkipTest

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import NotFoundError, StorageError
from rapidrtmp.interfaces import IMMUTABLE, StorageContext
from rapidrtmp.storage.bucket import UPLOAD_CHUNK_BYTES, Bucket
from rapidrtmp.storage.gcs import GcsStorage
from rapidrtmp.testing.storage import read_all
from tests.slow import slow

try:
    from google.auth.credentials import Credentials
    from google.cloud.storage import Client
    from google_crc32c import value as crc32c
except ImportError as error:
    missing: str | None = f"needs google-cloud-storage: {error}"
else:
    missing = None


class Request(NamedTuple):
    """What was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """What is answered."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Google

    def take(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.take(Request(self.command, self.path, headers, body))
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST = do_PUT = do_DELETE = take

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Google(ThreadingHTTPServer):
    """
    Answers each request with what ``take`` returns for it.

    :ivar requests: all of them, in order.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[Request] = []
        self.answer: Callable[[Request], Answer] = lambda request: Answer(500)
        self._thread = Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def take(self, request: Request) -> Answer:
        """Note a request and answer it; the client also asks once, beside all others, what the bucket is like."""
        if request.path.startswith("/storage/v1/b/bucket?"):
            return Answer(403)
        self.requests.append(request)
        return self.answer(request)

    def close(self) -> None:
        """Answer no more."""
        self.shutdown()
        self._thread.join()
        self.server_close()


def described(data: bytes, **more: str) -> bytes:
    """An object's metadata, as an upload is answered with."""
    checksum = b64encode(crc32c(data).to_bytes(4, "big")).decode()
    times = {"timeCreated": "2026-01-01T00:00:00Z", "updated": "2026-01-01T00:00:00Z"}
    fields = {"name": "a", "bucket": "bucket", "size": str(len(data)), "generation": "7", "crc32c": checksum}
    return json.dumps({"kind": "storage#object", **fields, **times, **more}).encode()


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        if missing:
            raise SkipTest(missing)
        self.google = Google()
        self.addCleanup(self.google.close)
        self.tokens = Tokens()
        self.storage = GcsStorage(Bucket(self.connect, "bucket", ""), StorageContext(maybeDeferred, Clock(), Logger()))

    def connect(self) -> Any:
        return Client(project="any", credentials=self.tokens, client_options={"api_endpoint": self.google.url})

    def put(self, data: bytes) -> Deferred[None]:
        return self.storage.put("a", data, "video/mp4", IMMUTABLE)

    def read(self, start: int = 0, length: int | None = None) -> Deferred[bytes]:
        async def read() -> bytes:
            return await read_all(await self.storage.get("a", start, length))

        return Deferred.fromCoroutine(read())


if not missing:

    class Tokens(Credentials):  # type: ignore[misc, no-untyped-call]
        """Hands out one token after the other."""

        def __init__(self) -> None:
            super().__init__()
            self.handed_out = 0

        def refresh(self, request: object) -> None:
            """The next one."""
            self.handed_out += 1
            self.token = f"token-{self.handed_out}"


@slow
class UploadTests(Case):
    """Objects of more than one piece: resumable uploads."""

    DATA = bytes(range(256)) * (UPLOAD_CHUNK_BYTES // 256) * 2 + b"the end"

    def upload(self, kept: Callable[[int, int], int]) -> Deferred[None]:
        """
        Upload :attr:`DATA` to a server that keeps ``kept(has, gets)`` bytes of a piece.

        :ivar received: what it has.
        """
        received = self.received = bytearray()

        def answer(request: Request) -> Answer:
            if request.method == "POST":
                return Answer(200, b"{}", {"Location": f"{self.google.url}/upload-here"})
            received.extend(request.body[: kept(len(received), len(request.body))])
            if len(received) == len(self.DATA):
                return Answer(200, described(bytes(received)))
            return Answer(308, b"", {"Range": f"bytes=0-{len(received) - 1}"})

        self.google.answer = answer
        return self.put(self.DATA)

    def test_whole_pieces_follow_one_another(self) -> None:
        """Pieces follow one another."""
        self.successResultOf(self.upload(lambda has, gets: gets))
        self.assertEqual(self.DATA, bytes(self.received))

    def test_partly_kept_piece_fails(self) -> None:
        """If a part of a piece was kept (308 with a shorter Range), the upload fails, and may be made again."""
        failed = self.upload(lambda has, gets: gets // 2 if has == UPLOAD_CHUNK_BYTES else gets)
        self.assertTrue(self.failureResultOf(failed, StorageError).value.retryable)
        self.successResultOf(self.upload(lambda has, gets: gets))
        self.assertEqual(self.DATA, bytes(self.received))


class TokenTests(Case):
    """Credentials that expire."""

    def test_expired_token_is_replaced(self) -> None:
        """A token that is refused is replaced, and the object is stored all the same."""

        def answer(request: Request) -> Answer:
            is_new = request.headers["authorization"] == "Bearer token-2"
            return Answer(200, described(b"data")) if is_new else Answer(401, b"{}")

        self.google.answer = answer
        self.successResultOf(self.put(b"data"))
        self.assertEqual((2, 2), (self.tokens.handed_out, len(self.google.requests)))

    def test_revoked_token_fails_for_good(self) -> None:
        """Where no token helps the write fails for good."""
        self.google.answer = lambda request: Answer(401, b"{}")
        self.assertFalse(self.failureResultOf(self.put(b"data"), StorageError).value.retryable)


class DownloadTests(Case):
    """Ranges of objects."""

    DATA = b"0123456789"

    def serve(self, media: Callable[[int, int], Answer]) -> None:
        """Describe an object, and answer requests for its bytes, from one up to another, with what ``media`` says."""

        def answer(request: Request) -> Answer:
            if "alt=media" not in request.path:
                return Answer(200, described(self.DATA), {"Content-Type": "application/json"})
            first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
            return media(int(first), int(last) + 1)

        self.google.answer = answer

    def part(self, start: int, stop: int) -> Answer:
        """A range as Google sends it: with the checksum of the whole object."""
        checksum = b64encode(crc32c(self.DATA).to_bytes(4, "big")).decode()
        headers = {
            "Content-Range": f"bytes {start}-{stop - 1}/{len(self.DATA)}",
            "X-Goog-Hash": f"crc32c={checksum}",
            "X-Goog-Generation": "7",
        }
        return Answer(206, self.DATA[start:stop], headers)

    def test_checksum_of_all(self) -> None:
        """The checksum that comes with a range is that of the whole object, and says nothing of the range."""
        self.serve(self.part)
        self.assertEqual(self.DATA[3:7], self.successResultOf(self.read(3, 4)))
        self.assertEqual(self.DATA, self.successResultOf(self.read()))

    def test_bytes_are_of_their_generation(self) -> None:
        """The bytes are those of the object that was looked at, and of no newer one."""
        self.serve(self.part)
        self.successResultOf(self.read())
        self.assertIn("generation=7", self.google.requests[-1].path)

    def test_object_deleted_meanwhile_is_an_error(self) -> None:
        """An object that is deleted between a look and the bytes is an error of the storage, not an empty object."""
        self.serve(lambda start, stop: Answer(404, b"No such object"))
        self.failureResultOf(self.read(), StorageError)

    def test_object_deleted_before_is_missing(self) -> None:
        """One that was deleted is not there."""
        self.google.answer = lambda request: Answer(404, b"{}")
        self.failureResultOf(self.read(), NotFoundError)

    def test_short_range_is_an_error(self) -> None:
        """A range that is shorter than was asked for is an error, however well it claims to be complete."""
        self.serve(lambda start, stop: self.part(start, stop - 1))
        self.failureResultOf(self.read(), StorageError)


NONSENSE = (
    b"null",
    b"[]",
    b"[1, 2]",
    b'"text"',
    b"7",
    b"1e999",
    b"",
    b"\xff\xfe",
    b"<html><title>Sign in to the network</title></html>",
    b"[" * 3_000,
    b'{"items": null, "size": "x", "updated": 7, "timeCreated": "yesterday", "generation": [], "crc32c": 1}',
    b'{"items": [null]}',
    b'{"items": [{}], "size": "-1", "timeCreated": "2026-01-01T00:00:00Z", "generation": "1"}',
    b'{"items": [{"name": 7, "size": "1e9"}], "size": {}}',
    b'{"items": {"a": 1}, "timeCreated": "9999999-01-01T00:00:00Z", "size": "1"}',
)


class NonsenseTests(Case):
    """Answers with the status 200 that are none of Google's."""

    @slow
    def test_nonsense_in_any_call(self) -> None:
        """Whatever is asked, what makes no sense is an error of the storage that may pass, and nothing is deleted."""
        calls: dict[str, Callable[[], Deferred[Any]]] = {
            "put": lambda: self.put(b"data"),
            "put again": lambda: self.storage.put("index.m3u8", b"text", "", "no-cache"),
            "get": self.read,
            "stat": lambda: self.storage.stat("a"),
            "list": lambda: self.storage.list("a"),
            "claim": lambda: self.storage.claim("live/cam"),
            "find_leases": lambda: self.storage.find_leases(""),
        }
        may_be_empty = (b'{"items": null,', b'{"items": {"a"')
        for body in NONSENSE:
            self.google.answer = lambda _, body=body: Answer(200, body, {"Content-Type": "application/json"})
            for name, call in calls.items():
                if name in ("list", "find_leases") and body.startswith(may_be_empty):
                    continue
                error = self.failureResultOf(call(), StorageError).value
                self.assertTrue(error.retryable, (name, body[:40]))
        self.assertNotIn("DELETE", [request.method for request in self.google.requests])


class UnreachableTests(SynchronousTestCase):
    """A bucket that does not answer when the server starts."""

    def setUp(self) -> None:
        if missing:
            raise SkipTest(missing)

    def test_first_call_fails_at_once(self) -> None:
        """A first call fails at once, and is not tried again for seconds; later ones are once there was an answer."""
        google = Google()
        url = google.url
        google.close()

        def connect() -> Any:
            return Client(project="any", credentials=Tokens(), client_options={"api_endpoint": url})

        storage = GcsStorage(Bucket(connect, "bucket", ""), StorageContext(maybeDeferred, Clock(), Logger()))
        begun_s = time.monotonic()
        for call in (storage.list("live/"), storage.stat("a"), storage.claim("live/cam")):
            self.failureResultOf(call, StorageError)
        self.assertLess(time.monotonic() - begun_s, 2)
