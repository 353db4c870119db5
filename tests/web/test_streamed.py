from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import StorageError
from rapidrtmp.interfaces import StreamedResponse
from rapidrtmp.support.bug_log import BugLog
from rapidrtmp.web.streamed import send_streamed
from tests.recording.recordings import ID, record, store_into
from tests.web.kit import Server


class Client:
    """A request whose transport can hold so many pieces."""

    def __init__(self, room: int = 1_000) -> None:
        self.room = room
        self.received: list[bytes] = []
        self.producer: Any = None
        self.is_dropped = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.received.append(data)
        self.room -= 1
        if not self.room:
            self.producer.pauseProducing()

    def read(self, pieces: int) -> None:
        self.room += pieces
        self.producer.resumeProducing()

    def loseConnection(self) -> None:
        self.is_dropped = True


class StreamedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.made = 0
        self.is_closed = False
        self.sent = 0

    async def pieces(self, count: int = 10, error: Exception | None = None) -> AsyncIterator[bytes]:
        try:
            for number in range(count):
                self.made += 1
                yield b"%d" % number
            if error is not None:
                raise error
        finally:
            self.is_closed = True

    def send(self, client: Client, **pieces: Any) -> Deferred[bytes]:
        def count(size: int) -> None:
            self.sent += size

        response = StreamedResponse(200, {}, size=10, open=lambda: self.pieces(**pieces))
        return send_streamed(response, client, count, BugLog(Logger()))

    def test_all_of_it(self) -> None:
        """A client that reads gets everything, and every byte is counted."""
        client = Client()
        self.assertEqual(b"", self.successResultOf(self.send(client)))
        self.assertEqual((b"0123456789", 10, True), (b"".join(client.received), self.sent, self.is_closed))
        self.assertIsNone(client.producer)

    def test_no_faster_than_the_client(self) -> None:
        """What the client has not made room for is not made."""
        client = Client(room=3)
        sending = self.send(client)
        self.assertEqual(3, self.made)
        client.read(2)
        self.assertEqual(5, self.made)
        client.read(100)
        self.successResultOf(sending)
        self.assertEqual(10, self.made)

    def test_leaving_client_closes_the_source(self) -> None:
        """When the client leaves, no more is made and what was opened is closed."""
        client = Client(room=3)
        sending = self.send(client)
        client.producer.stopProducing()
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        self.assertEqual((3, True), (self.made, self.is_closed))

    def test_cut_off_body_drops_the_connection(self) -> None:
        """A body that cannot be made to its end drops the connection: the client must not take it for whole."""
        client = Client()
        with capturedLogs() as logs:
            self.assertNoResult(self.send(client, error=StorageError("gone")))
        self.assertTrue(client.is_dropped)
        self.assertIn("gone", str(logs[0]["error"]))

    def test_bug_drops_the_connection(self) -> None:
        """A bug on the way drops the connection as well, and is logged as one."""
        client = Client()
        self.assertNoResult(self.send(client, error=ZeroDivisionError()))
        self.assertTrue(client.is_dropped)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_head_opens_nothing(self) -> None:
        """Nothing is opened until it is sent."""
        StreamedResponse(200, {}, size=10, open=self.pieces)
        self.assertEqual(0, self.made)


class WireTests(SynchronousTestCase):
    """The same over a connection."""

    def setUp(self) -> None:
        self.server = Server()
        store_into(self.server.storage, record())
        self.path = f"/{ID.folder}/recording.mp4"

    def test_slow_reader_bounds_the_storage(self) -> None:
        """The storage is asked for no more than the transport has room for, and all of it comes in the end."""
        whole = self.server.get(self.path)
        wire = self.server.connect()
        asked: list[str] = []
        get = self.server.storage.get

        def counted(key: str, *arguments: int) -> Any:
            asked.append(key)
            return get(key, *arguments)

        self.patch(self.server.storage, "get", counted)
        write = wire.transport.write

        def write_and_pause(data: bytes) -> None:
            write(data)
            if wire.transport.producer is not None and len(data) > 1_000:
                wire.transport.producer.pauseProducing()

        self.patch(wire.transport, "write", write_and_pause)
        wire.request("GET", self.path)
        before = len(asked)
        self.assertLess(before, 8)
        while not wire.transport.value().endswith(whole.body[-100:]):
            wire.transport.producer.resumeProducing()
            self.assertLessEqual(len(asked), before + 1)
            before = len(asked)
        self.assertEqual(whole.body, wire.reply().body)

    def test_leaving_midway_leaves_no_trace(self) -> None:
        """A client that leaves in the middle leaves no trace but in the count."""
        wire = self.server.connect()
        get = self.server.storage.get
        self.patch(
            self.server.storage, "get", lambda key, *rest: Deferred() if "part_00000001" in key else get(key, *rest)
        )
        wire.request("GET", self.path)
        self.assertTrue(wire.is_answered)
        wire.leave()
        self.assertEqual([], self.flushLoggedErrors())

    def test_failing_storage_breaks_off(self) -> None:
        """Where the storage fails in the middle, the connection is closed, short of the promised length."""
        self.successResultOf(self.server.storage.delete(f"{ID.folder}/part_00000001_000.m4s"))
        wire = self.server.connect()
        with capturedLogs() as logs:
            wire.request("GET", self.path)
        self.assertTrue(wire.transport.disconnecting)
        self.assertTrue(any("broke off" in event["log_format"] for event in logs))
        head, _, body = wire.transport.value().partition(b"\r\n\r\n")
        (length,) = (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        self.assertLess(len(body), length)
