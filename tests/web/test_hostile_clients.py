"""What strangers may send to the HTTP side: nothing of it raises, stays, or costs more than its bound."""

from __future__ import annotations

import gc
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.web.site import MAX_HEADER_BYTES, MAX_HEADERS
from tests.cutting import cuts_of
from tests.slow import slow
from tests.web.kit import Server, Wire, playlist

REQUEST = b"GET /live/k/index.m3u8 HTTP/1.1\r\nHost: localhost\r\n\r\n"
BLOCKING = b"GET /live/k/index.m3u8?_HLS_msn=10 HTTP/1.1\r\nHost: localhost\r\n\r\n"
#: What requests are made of, to be put together wrongly.
WORDS = (
    b"GET ",
    b"POST ",
    b"OPTIONS ",
    b"/live/k/index.m3u8",
    b"/live/k/",
    b"/../%2e%2e/%ff\xff",
    b"?_HLS_msn=10&_HLS_part=-1",
    b" HTTP/1.1",
    b" HTTP/1.0",
    b" HTTP/9.9",
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"Host: localhost\r\n",
    b"Host: a\r\nHost: b\r\n",
    b"Range: bytes=0-",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"5\r\nabcde\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
    b"\x03" + bytes(100),
    b"X-Long: " + b"y" * 5000,
    b" folded: line\r\n",
    b"\0",
    REQUEST,
    BLOCKING,
)
junk = st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=40)), max_size=20).map(b"".join)


def live_server(**policy: int) -> Server:
    """A server with something to ask for."""
    server = Server(**policy)
    server.live().shelf.put_playlist("index.m3u8", playlist())
    return server


class JunkTests(SynchronousTestCase):
    """Bytes of no meaning."""

    def assert_nothing_escapes(self, pieces: list[bytes]) -> None:
        """Send the bytes: no exception leaves the connection, and others are served as before."""
        server = live_server(idle_timeout_ms=10_000)
        wire = server.connect("192.0.2.1")
        for piece in pieces:
            if wire.transport.disconnecting:
                break
            wire.send(piece)
        server.clock.advance(5)
        wire.leave()
        self.assertEqual(200, server.get("/live/k/index.m3u8").status)
        self.assertEqual(0, server.metric("http_waiting_requests"))
        self.assertEqual([], self.flushLoggedErrors())

    def test_known_junk_is_survived(self) -> None:
        """Bytes that look like requests for a while, and are none, harm their own connection alone."""
        self.assert_nothing_escapes([BLOCKING, BLOCKING, b"\0" * 9000])
        self.assert_nothing_escapes([b"GET / HTTP/1.1\r\nHost: \xff\r\nContent-Length: 1e3\r\n\r\n"])
        self.assert_nothing_escapes([word for word in WORDS for _ in range(2)])

    @slow
    @settings(max_examples=300)
    @given(pieces=junk.flatmap(cuts_of))
    def test_any_bytes_are_survived(self, pieces: list[bytes]) -> None:
        """Whatever bytes come, however cut, no exception leaves the connection, and others are served as before."""
        self.assert_nothing_escapes(pieces)


class FloodTests(SynchronousTestCase):
    """More of everything than any client needs."""

    def setUp(self) -> None:
        """One server."""
        self.server = live_server(idle_timeout_ms=30_000)

    def assertEnded(self, wire: Wire) -> None:
        """The connection is being closed."""
        self.assertTrue(wire.transport.disconnecting)

    def test_many_fields_end_the_connection(self) -> None:
        """A request of more fields than any client needs ends its connection before they are all kept."""
        wire = self.server.connect()
        wire.send(b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(MAX_HEADERS + 2)))
        self.assertEnded(wire)

    def test_long_fields_end_the_connection(self) -> None:
        """So does one whose fields are longer than the bound in all."""
        wire = self.server.connect()
        wire.send(b"GET / HTTP/1.1\r\n")
        for number in range(MAX_HEADER_BYTES // 1000 + 2):
            if not wire.transport.disconnecting:
                wire.send(b"X-%d: %s\r\n" % (number, b"y" * 1000))
        self.assertEnded(wire)

    def test_dripping_ends_the_connection(self) -> None:
        """A request must be whole in time, a byte a second or not."""
        wire = self.server.connect()
        for at in range(32):
            if not wire.transport.disconnecting:
                wire.send((REQUEST * 2)[at : at + 1])
            self.server.clock.advance(1)
        self.assertEnded(wire)

    @slow
    def test_missing_streams_leave_nothing_behind(self) -> None:
        """Hundreds of requests for streams that are not there leave nothing behind."""
        wire = self.server.connect()

        def ask(count: int) -> None:
            for number in range(count):
                wire.request("GET", f"/live/missing{number % 50}/index.m3u8")
                self.assertEqual(404, wire.reply().status)

        ask(60)
        before = count_objects()
        ask(300)
        grown = {name: count for name, count in (count_objects() - before).items() if count > 20}
        self.assertEqual({}, grown)

    def test_waiters_of_one_client(self) -> None:
        """Of one address so many requests are held as the default says, and the next ones are refused at once."""
        self.server.registry.find(next(iter(self.server.registry)).name).shelf.max_waiters = 10_000
        wires = []
        for _ in range(300):
            wires.append(self.server.connect("192.0.2.1"))
            wires[-1].send(BLOCKING)
        self.assertEqual(256, self.server.metric("http_waiting_requests"))
        refused = [wire.reply() for wire in wires if wire.is_answered]
        self.assertEqual({(429, "1")}, {(reply.status, reply.headers["retry-after"]) for reply in refused})
        other = self.server.connect("192.0.2.2")
        other.send(BLOCKING)
        self.assertFalse(other.is_answered)
        for wire in (*wires, other):
            wire.leave()
        self.assertEqual(0, self.server.metric("http_waiting_requests"))

    def test_waiters_of_a_network(self) -> None:
        """All addresses of one IPv6 /64 are one client, also behind a proxy that is trusted."""
        server = live_server(max_waiters_per_client=2, trusted_proxies=("10.0.0.0/8",))
        forwarded = [BLOCKING[:-2] + b"X-Forwarded-For: [2001:db8::%d]:443\r\n\r\n" % number for number in range(3)]
        for peer, requests in (("2001:db8:0:1::%d", [BLOCKING] * 3), ("10.0.0.%d", forwarded)):
            wires = [server.connect(peer % number) for number in range(1, 4)]
            for wire, request in zip(wires, requests, strict=True):
                wire.send(request)
            self.assertEqual([False, False, True], [wire.is_answered for wire in wires])
            self.assertEqual(429, wires[2].reply().status)
            for wire in wires:
                wire.leave()
            self.assertEqual(0, server.metric("http_waiting_requests"))

    def test_waiters_of_a_cache(self) -> None:
        """A trusted proxy that asks for itself, as a cache does, has no such bound; whom it names has."""
        server = live_server(max_waiters_per_client=2, trusted_proxies=("10.0.0.0/8",))
        for _ in range(5):
            server.connect("10.0.0.1").send(BLOCKING)
        self.assertEqual(5, server.metric("http_waiting_requests"))
        wires = [server.connect("10.0.0.1") for _ in range(3)]
        for wire in wires:
            wire.send(BLOCKING[:-2] + b"X-Forwarded-For: 192.0.2.1\r\n\r\n")
        self.assertEqual(429, wires[2].reply().status)

    def test_waiters_of_this_machine(self) -> None:
        """A client on this machine has no such bound: it may be a proxy that no one named."""
        self.server.registry.find(next(iter(self.server.registry)).name).shelf.max_waiters = 10_000
        for _ in range(300):
            self.server.connect("127.0.0.1").send(BLOCKING)
        self.assertEqual(300, self.server.metric("http_waiting_requests"))

    @slow
    def test_clients_that_leave(self) -> None:
        """Hundreds that ask, wait and leave, at any point of a request, leave nothing behind."""

        def visit() -> None:
            for data in (b"", REQUEST[:20], REQUEST[:-2], BLOCKING, REQUEST, b"\xff" * 10):
                wire = self.server.connect("192.0.2.1")
                wire.send(data)
                wire.protocol.connectionLost(Failure(ConnectionError("gone")))

        for _ in range(20):
            visit()
        self.server.clock.advance(100)
        before = count_objects()
        for _ in range(100):
            visit()
        self.server.clock.advance(100)
        grown = {name: count for name, count in (count_objects() - before).items() if count > 20}
        self.assertEqual({}, grown)
        self.assertEqual([], [call for call in self.server.clock.getDelayedCalls() if "timeout" in repr(call).lower()])


def count_objects() -> Counter[str]:
    """How many objects there are of each class of ours and of Twisted's."""
    gc.collect()
    return Counter(
        f"{type(each).__module__}.{type(each).__name__}"
        for each in gc.get_objects()
        if str(type(each).__module__).startswith(("rapidrtmp", "twisted"))
    )
