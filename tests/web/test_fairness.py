"""No connection keeps the others waiting, however much it asks for at a time, and however little it reads."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor as real_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from rapidrtmp.net.read_budget import ReadBudget
from rapidrtmp.web.site import MAX_UNSENT_BYTES, MAX_WAITING_BYTES, TURN_S
from tests.slow import slow
from tests.web.kit import Server, Wire, playlist

PLAIN = b"GET /live/k/index.m3u8 HTTP/1.1\r\nHost: localhost\r\n\r\n"
OTHER = PLAIN[:-2] + b"Cookie: a=b\r\n\r\n"
MISSING = b"GET /live/missing/index.m3u8 HTTP/1.1\r\nHost: localhost\r\n\r\n"
BLOCKING = b"GET /live/k/index.m3u8?_HLS_msn=10 HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"


def live_server(**policy: Any) -> Server:
    """A server with something to ask for."""
    server = Server(**policy)
    server.live().shelf.put_playlist("index.m3u8", playlist())
    return server


def answers(wire: Wire) -> int:
    """How many answers the client has been sent."""
    return int(wire.transport.value().count(b"HTTP/1.1 "))


class Slowly(Clock):
    """A clock on which each look at it takes all the time that there is for requests in one turn."""

    def seconds(self) -> float:
        self.rightNow += TURN_S
        return self.rightNow


class TurnsTests(SynchronousTestCase):
    """When a request is answered."""

    def setUp(self) -> None:
        """A live stream."""
        self.server = live_server()

    def next_turn(self, clock: Clock | None = None) -> None:
        """The next turn alone, and not all that it leads to, as ``advance`` would."""
        (clock or self.server.clock).calls.pop(0).func()

    def test_one_in_a_turn(self) -> None:
        """Of requests sent at once, whatever they ask, one is answered in each turn, in order."""
        for request in (PLAIN, OTHER, MISSING, POST):
            self.server = live_server()
            wire = self.server.connect()
            wire.send(request * 4)
            for count in range(1, 5):
                self.assertEqual(count, answers(wire), request)
                if count < 4:
                    self.next_turn()

    def test_behind_a_held_one(self) -> None:
        """Requests behind one that is held have their turns when it is answered."""
        wire = self.server.connect()
        wire.send(BLOCKING + PLAIN + OTHER)
        self.assertEqual(0, answers(wire))
        next(iter(self.server.registry)).shelf.put_playlist("index.m3u8", playlist(10))
        self.assertEqual(1, answers(wire))
        self.server.clock.advance(0)
        self.assertEqual(3, answers(wire))

    def test_spent_time_ends_the_turn(self) -> None:
        """When the time for requests is used up, all who ask wait for the next turn, each once in it."""
        clock = Slowly()
        self.server.site.read_budget = ReadBudget(clock, TURN_S)
        wires = [self.server.connect(f"192.0.2.{number}") for number in range(4)]
        for wire in wires:
            wire.send(OTHER)
        for count in range(1, 5):
            self.assertEqual([1] * count + [0] * (4 - count), [answers(wire) for wire in wires])
            self.next_turn(clock)

    def test_encrypted_requests_share_the_time(self) -> None:
        """Over TLS, where one packet can hold any number of requests, the fast path shares that time."""
        clock = Slowly()
        self.server.site.read_budget = ReadBudget(clock, TURN_S)
        wire = Wire(self.server.site, "192.0.2.1", is_encrypted=True)
        for _ in range(3):
            wire.send(PLAIN)
        self.assertEqual(1, answers(wire))
        while answers(wire) < 3:
            self.next_turn(clock)

    def test_clients_that_left_are_skipped(self) -> None:
        """A client that leaves while its requests wait for their turns is asked no more."""
        wire = self.server.connect()
        wire.send(PLAIN * 3)
        wire.leave()
        self.server.clock.advance(0)
        self.assertEqual(1, answers(wire))

    def test_closed_behind_a_bad_one(self) -> None:
        """Behind a request that is none, nothing is read, whatever else is on its way."""
        wire = self.server.connect()
        wire.send(b"nonsense\r\n\r\n" + PLAIN)
        wire.send(PLAIN * 2)
        self.server.clock.advance(0)
        self.assertEqual([b"HTTP/1.1 400 Bad Request\r\n\r\n"], [wire.transport.value()])


class Unread(StringTransport):
    """A transport whose client reads only when a test says so, with a buffer like that of a TCP connection."""

    is_paused = False

    def write(self, data: bytes) -> None:
        super().write(data)
        if len(self.value()) > MAX_UNSENT_BYTES and self.producer is not None and not self.is_paused:
            self.is_paused = True
            self.producer.pauseProducing()

    def read(self) -> bytes:
        """What there is; the server is asked for more."""
        data = bytes(self.value())
        self.clear()
        if self.is_paused:
            self.is_paused = False
            self.producer.resumeProducing()
        return data


class UnreadTests(SynchronousTestCase):
    """Clients that ask and do not read."""

    def setUp(self) -> None:
        """A live stream."""
        self.server = live_server(idle_timeout_ms=30_000)

    def connect(self) -> tuple[Wire, Unread]:
        transport = Unread()
        return Wire(self.server.site, "192.0.2.1", transport=transport), transport

    def test_unread_answers_stop_further_ones(self) -> None:
        """A client that leaves so much unread is not answered, nor read from, until it has read that."""
        for request in (PLAIN, OTHER, MISSING):
            wire, transport = self.connect()
            wire.send(request * 200)
            self.server.clock.advance(0)
            self.assertLess(len(transport.value()), MAX_UNSENT_BYTES + 2000)
            self.assertEqual("paused", transport.producerState)
            count = 0
            while data := transport.read():
                count += data.count(b"HTTP/1.1 ")
                self.server.clock.advance(0)
            self.assertEqual((200, "producing"), (count, transport.producerState))
            wire.leave()

    def test_one_by_one(self) -> None:
        """So it is for one that sends each request when the last was answered."""
        for request in (PLAIN, OTHER):
            wire, transport = self.connect()
            for _ in range(200):
                wire.send(request)
                self.server.clock.advance(0)
            self.assertLess(len(transport.value()), MAX_UNSENT_BYTES + 2000)
            self.assertEqual("paused", transport.producerState)

    def test_clients_that_read_nothing_are_dropped(self) -> None:
        """One that reads nothing for the idle timeout is dropped, and counted, even if it continues sending."""
        wire, transport = self.connect()
        wire.send(PLAIN * 200)
        for _ in range(31):
            self.server.clock.advance(1)
            if not transport.disconnected:
                wire.send(PLAIN)
        self.assertTrue(transport.disconnected)
        self.assertEqual(1, self.server.metric("http_misconduct_total", kind="stalled"))

    def test_slow_readers_are_served(self) -> None:
        """One that reads now and then is served on."""
        wire, transport = self.connect()
        wire.send(PLAIN * 500)
        for _ in range(10):
            self.server.clock.advance(29)
            self.assertTrue(transport.read())
        self.assertFalse(transport.disconnected)


class LoopbackTests(TestCase):
    """Over real sockets."""

    async def flood(self, request: bytes, count: int) -> None:
        """Send requests and read nothing; then read all of it."""
        reactor: Any = real_reactor
        server = live_server()
        server.site.read_budget = ReadBudget(reactor, TURN_S)
        channels: list[Any] = []
        make_channel = server.site._make_channel
        server.site._make_channel = lambda: channels.append(make_channel()) or channels[-1]  # type: ignore[func-returns-value]
        port: Any = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(server.site)
        port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client = _Unreading(count)
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{port.getHost().port}")
        await endpoint.connect(Factory.forProtocol(lambda: client))
        try:
            client.transport.pauseProducing()  # type: ignore[union-attr]
            client.transport.write(request * count)  # type: ignore[union-attr]
            most = 0
            while not (channels and channels[0]._waitingForTransport):
                await deferLater(reactor, 0)
                most = max(most, *(len(channel._buffer) for channel in channels), 0)
            held = channels[0].transport
            self.assertLess(len(held.dataBuffer) + held._tempDataLen, MAX_UNSENT_BYTES + 2000)
            client.transport.resumeProducing()  # type: ignore[union-attr]
            while not client.all_answered.called:
                await deferLater(reactor, 0)
                most = max(most, len(channels[0]._buffer))
            self.assertLessEqual(most, 2 * MAX_WAITING_BYTES)
        finally:
            client.transport.loseConnection()  # type: ignore[union-attr]
            await client.closed
            await port.stopListening()

    @slow
    async def test_flood_on_the_fast_path(self) -> None:
        """However much a client sends without reading, little of it is kept, and when it reads all is answered."""
        await self.flood(PLAIN, 3000)

    @slow
    async def test_flood_on_the_normal_way(self) -> None:
        """So it is on the normal way."""
        await self.flood(OTHER, 1000)


class _Unreading(Protocol):
    """A client that counts answers."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._tail = b""
        self.all_answered: Deferred[None] = Deferred()
        self.closed: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        data = self._tail + data
        self._left -= data.count(b"HTTP/1.1 200 OK")
        self._tail = data[-14:]
        if self._left == 0 and not self.all_answered.called:
            self.all_answered.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed.callback(None)
