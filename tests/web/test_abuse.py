"""What the log and the metrics say of clients that misbehave over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.logger import LogEvent, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.web.site import MAX_HEADER_BYTES, MAX_HEADERS
from tests.slow import slow
from tests.web.kit import Server, Wire, playlist

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
QUIET_S = 61


class MisconductCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server(idle_timeout_ms=30_000)
        self.server.live().shelf.put_playlist("index.m3u8", playlist())
        self.lines: list[str] = []

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keep what is logged meanwhile, all of it."""
        with capturedLogs() as events:
            yield
        self.lines += map(_text, events)

    def count(self, kind: str) -> float:
        return self.server.metric("http_misconduct_total", kind=kind)

    def send(self, data: bytes, peer: str = "192.0.2.1") -> Wire:
        wire = self.server.connect(peer)
        wire.send(data)
        return wire


def _text(event: LogEvent) -> str:
    return formatEvent(event)


class EpisodeTests(MisconductCase):
    def flood(self, times: int, peer: str = "192.0.2.1") -> None:
        for _ in range(times):
            self.send(b"\x16\x03\x01 what is this?\r\n", peer).leave()

    def test_flood_is_two_lines(self) -> None:
        """A flood is two lines: that it has begun, and that it is over, with how often it was."""
        with self.listening():
            for _ in range(5):
                self.flood(200)
                self.server.clock.advance(10)
        self.assertEqual(["192.0.2.1 sends what is not HTTP"], self.lines)
        with self.listening():
            self.server.clock.advance(2 * QUIET_S)
        over = "192.0.2.1 sends what is not HTTP: 1000 times in 40 s, and no more for 60 s"
        self.assertEqual([over], self.lines[1:])
        self.assertEqual(1000, self.count("malformed"))

    def test_what_begins_anew_is_logged_anew(self) -> None:
        """What begins anew is said anew."""
        for _ in range(2):
            with self.listening():
                self.flood(3)
                self.server.clock.advance(2 * QUIET_S)
        self.assertEqual(4, len(self.lines))
        self.assertEqual([], self.server.clock.getDelayedCalls()[1:], "no look when nothing happens")

    @slow
    def test_what_happened_once_is_one_line(self) -> None:
        """What happened once is one line."""
        with self.listening():
            self.flood(1)
            self.server.clock.advance(2 * QUIET_S)
        self.assertEqual(["192.0.2.1 sends what is not HTTP"], self.lines)

    def test_sixteen_addresses_of_a_flood_are_named(self) -> None:
        """Of a flood from everywhere sixteen addresses are named, and the others are counted together."""
        with self.listening():
            for number in range(200):
                self.flood(2, f"198.51.100.{number}")
        self.assertEqual(16, len(self.lines))
        with self.listening():
            self.server.clock.advance(2 * QUIET_S)
        over = self.lines[16:]
        self.assertEqual(17, len(over))
        self.assertTrue(
            any(line.startswith("other addresses: sends what is not HTTP: 368 times") for line in over), over
        )

    def test_addresses_of_one_network_are_one(self) -> None:
        """The addresses of one IPv6 /64 are one."""
        with self.listening():
            for number in range(1, 100):
                self.flood(1, f"2001:db8::{number:x}")
        self.assertEqual(["2001:db8::/64 sends what is not HTTP"], self.lines)


class KindTests(MisconductCase):
    def check(self, kind: str, words: str, count: int = 1) -> None:
        """That was counted so often, and one line says so."""
        self.assertEqual([f"192.0.2.1 {words}"], self.lines)
        self.assertEqual(count, self.count(kind))
        others = ("malformed", "oversized", "slow", "stalled", "bad", "denied", "greedy")
        self.assertEqual(count, sum(map(self.count, others)))

    def test_header_floods_are_counted(self) -> None:
        """Too many header fields, too long ones, and one line without an end."""
        many = b"".join(b"X-%d: y\r\n" % number for number in range(MAX_HEADERS + 2))
        long = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 1000) for number in range(MAX_HEADER_BYTES // 1000 + 2))
        with self.listening():
            for flood in (many, long, b"X: " + b"y" * 2 * MAX_HEADER_BYTES):
                self.assertTrue(self.send(HEAD + flood + b"\r\n").transport.disconnecting)
        self.check("oversized", "sends headers or bodies that are too long", 3)

    def test_slow_requests_are_counted(self) -> None:
        """Requests that are never finished; a connection that is only kept is none of them."""
        with self.listening():
            for _ in range(10):
                self.send(HEAD)
            self.server.connect("192.0.2.1")
            kept = self.server.connect("192.0.2.1")
            kept.request("GET", "/health")
            self.server.clock.advance(31)
        self.assertTrue(kept.transport.disconnecting)
        self.check("slow", "does not finish its requests", 10)

    def test_bad_requests_are_counted(self) -> None:
        """Requests that are HTTP and make no sense."""
        with self.listening():
            for path in ("/live/k/index.m3u8?_HLS_msn=x", "/recordings?page=x", "/live/.k"):
                self.assertEqual(400, self.server.get(path, peer="192.0.2.1").status)
            self.assertEqual(405, self.server.post("/live/k/index.m3u8", peer="192.0.2.1").status)
        self.check("bad", "sends requests that make no sense", 4)

    def test_denied_clients_are_counted(self) -> None:
        """A client that tries the management API without a right to it."""
        with self.listening():
            for _ in range(50):
                self.assertEqual(401, self.server.get("/api/v1/streams", peer="192.0.2.1").status)
        self.check("denied", "asks for what it has no right to", 50)

    def test_greedy_clients_are_counted(self) -> None:
        """A client that wants more requests held than it may."""
        next(iter(self.server.registry)).shelf.max_waiters = 10_000
        with self.listening():
            for _ in range(260):
                self.send(b"GET /live/k/index.m3u8?_HLS_msn=10 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.check("greedy", "asks for more at a time than it may", 4)

    def test_ordinary_clients_are_not_counted(self) -> None:
        """Neither what is not there, nor a full stream, nor a client that leaves, nor an idle one is any."""
        with self.listening():
            for path in ("/live/none/index.m3u8", "/none", "/static/none", "/live/k/index.m3u8"):
                self.server.get(path, peer="192.0.2.1")
            self.send(HEAD).leave()
            self.server.connect("192.0.2.1")
            self.server.clock.advance(100)
        self.assertEqual([], self.lines)

    @slow
    def test_behind_a_proxy(self) -> None:
        """It is the client that is named, and not the proxy that is trusted."""
        self.server = Server(trusted_proxies=("10.0.0.0/8",))
        with self.listening():
            self.server.get("/api/v1/streams", peer="10.0.0.9", X_Forwarded_For="192.0.2.1")
        self.check("denied", "asks for what it has no right to")
