"""However many connections are opened, the next client is served."""

from __future__ import annotations

from typing import Any

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.web.kit import Server, Wire, playlist

PLAIN = b"GET /live/k/index.m3u8 HTTP/1.1\r\nHost: localhost\r\n\r\n"
BLOCKING = b"GET /live/k/index.m3u8?_HLS_msn=10 HTTP/1.1\r\nHost: localhost\r\n\r\n"


class OpenConnectionsTests(SynchronousTestCase):
    """Which connection is closed for another."""

    def server(self, **policy: Any) -> Server:
        server = Server(**policy)
        server.live().shelf.put_playlist("index.m3u8", playlist())
        return server

    def closed(self, *wires: Wire) -> list[bool]:
        return [wire.transport.disconnecting or wire.transport.disconnected for wire in wires]

    def ask(self, wire: Wire, request: bytes = PLAIN) -> None:
        wire.send(request)
        self.assertEqual(200, wire.reply().status)

    def test_silent_connections_make_room_first(self) -> None:
        """The connection that has been silent longest makes room, not one that has asked for something."""
        server = self.server(max_connections=4)
        asked, silent, dripping, last = (server.connect(f"192.0.2.{number}") for number in range(4))
        self.ask(asked)
        dripping.send(b"G")
        self.ask(server.connect("192.0.2.9"))
        self.assertEqual([False, True, False, False], self.closed(asked, silent, dripping, last))
        self.ask(server.connect("192.0.2.10"))
        self.assertEqual([False, True, True, False], self.closed(asked, silent, dripping, last))
        self.assertEqual(2, server.metric("http_connections_evicted_total", limit="max_connections"))
        self.assertEqual(4, server.metric("http_connections"))

    def test_then_idle_ones_make_room(self) -> None:
        """Then one between two requests does, and one whose request is held does not."""
        server = self.server(max_connections=3)
        held, idle, other = (server.connect(f"192.0.2.{number}") for number in range(3))
        for wire in (held, idle, other):
            self.ask(wire)
        held.send(BLOCKING)
        self.ask(server.connect("192.0.2.9"))
        self.assertEqual([False, True, False], self.closed(held, idle, other))

    def test_newcomer_is_refused_where_all_are_busy(self) -> None:
        """Where all are busy the newcomer is refused, counted, and said once."""
        server = self.server(max_connections=3)
        wires = [server.connect(f"192.0.2.{number}") for number in range(3)]
        for wire in wires:
            wire.send(BLOCKING)
        with capturedLogs() as events:
            for _ in range(5):
                newcomer = server.connect("192.0.2.9")
                self.assertEqual([True], self.closed(newcomer))
        self.assertEqual([False] * 3, self.closed(*wires))
        self.assertEqual(5, server.metric("http_connections_refused_total", limit="max_connections"))
        self.assertEqual(1, len([event for event in events if event.get("limit") == "max_connections"]))
        wires[0].leave()
        self.ask(server.connect("192.0.2.9"))

    def test_crowds_make_room_first(self) -> None:
        """A client with many connections makes room for its own next one, before one of another client does."""
        server = self.server(max_connections=12)
        other = server.connect("192.0.2.1")
        crowd = [server.connect("192.0.2.2") for _ in range(11)]
        server.connect("192.0.2.2")
        self.assertEqual([False, True, False], self.closed(other, *crowd[:2]))

    def test_bound_of_one_client(self) -> None:
        """Of one address, or one IPv6 /64, there are so many and no more; its idle ones make room."""
        for first, second, other in (
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"),
        ):
            server = self.server(max_connections_per_client=2)
            wires = [server.connect(first), server.connect(second)]
            self.ask(server.connect(first))
            self.assertEqual([True, False], self.closed(*wires))
            server.connect(other)
            self.assertEqual([True, False], self.closed(*wires))
            self.assertEqual(3, server.metric("http_connections"))

    def test_proxies_have_no_bound(self) -> None:
        """Proxies, named or on this machine, have as many connections as they need."""
        server = self.server(max_connections_per_client=2, trusted_proxies=("10.0.0.0/8",))
        for peer in ("127.0.0.1", "::1", "10.1.2.3"):
            self.assertEqual([False] * 5, self.closed(*[server.connect(peer) for _ in range(5)]), peer)

    def test_zero_is_no_limit(self) -> None:
        """0 is no limit."""
        server = self.server(max_connections_per_client=0)
        self.assertEqual([False] * 600, self.closed(*[server.connect("192.0.2.1") for _ in range(600)]))

    def test_gone_connections_are_not_counted(self) -> None:
        """A connection that is gone is counted no more."""
        server = self.server(max_connections=2)
        for _ in range(5):
            server.connect("192.0.2.1").leave()
        self.assertEqual(0, server.metric("http_connections"))
        self.assertEqual(0, server.metric("http_connections_evicted_total", limit="max_connections"))
