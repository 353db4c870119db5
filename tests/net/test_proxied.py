"""Connections that a proxy hands on, at the RTMP door."""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from rapidrtmp.http.addresses import TrustedProxies
from rapidrtmp.net import proxied
from rapidrtmp.net.limits import ConnectionLimits
from rapidrtmp.net.proxied import HEADER_S, ProxiedFactory, ProxyRules
from rapidrtmp.net.proxy_header import SIGNATURE
from tests.net.edge import NAME, TcpTransport
from tests.net.test_connection import EdgeCase
from tests.rtmp.client import HANDSHAKE, command, connect, publish

PROXY = "10.0.0.1"


class Wire:
    """One accepted socket: sends bytes to whichever protocol has it now."""

    def __init__(self, factory: ProxiedFactory, peer: str) -> None:
        self.transport = TcpTransport()
        self.transport.protocol = protocol = factory.buildProtocol(IPv4Address("TCP", peer, 4000))  # type: ignore[attr-defined]
        protocol.makeConnection(self.transport)

    @property
    def protocol(self) -> Any:
        return self.transport.protocol  # type: ignore[attr-defined]

    @property
    def is_closed(self) -> bool:
        return bool(self.transport.disconnecting or self.transport.disconnected)

    def send(self, *pieces: bytes) -> Wire:
        for data in pieces:
            if not self.is_closed:
                self.protocol.dataReceived(data)
        return self


class ProxiedCase(EdgeCase):
    policy = ConnectionLimits(max_connections_per_ip=2)
    needs_header = False

    def setUp(self) -> None:
        super().setUp()
        self.rules = ProxyRules(
            TrustedProxies(["10.0.0.0/8"]), self.edge.clock, self.edge.metrics.proxy_headers_refused_total
        )
        self.factory = ProxiedFactory(self.edge.factory, self.rules, needs_header=self.needs_header)

    def wire(self, peer: str = PROXY) -> Wire:
        wire = Wire(self.factory, peer)
        self.addCleanup(wire.transport.socket.close)
        return wire

    def forwarded(self, host: str) -> Wire:
        return self.wire().send(f"PROXY TCP4 {host} {PROXY} 50000 1935\r\n".encode())

    def counted(self) -> dict[str, int]:
        return dict(self.edge.factory._by_client)


class TrustedTests(ProxiedCase):
    def test_peer_is_the_named_client(self) -> None:
        """The peer is the client that the proxy names, for the authenticator as for everything else."""
        wire = self.forwarded("192.0.2.7")
        wire.send(HANDSHAKE, connect(), command("createStream", 4), publish())
        (request,) = self.edge.authenticator.requests
        self.assertEqual("192.0.2.7", request.peer)
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        assert stream.publisher is not None
        self.assertEqual("192.0.2.7", stream.publisher.peer)
        self.assertEqual({"192.0.2.7": 1}, self.counted())
        self.assertEqual("192.0.2.7", wire.transport.getPeer().host)

    def test_binary_header_names_the_client(self) -> None:
        """Version 2 says the same, one byte at a time and with the client's bytes behind it."""
        address = socket.inet_aton("192.0.2.7") + socket.inet_aton(PROXY) + struct.pack("!HH", 50_000, 1935)
        header = SIGNATURE + struct.pack("!BBH", 0x21, 0x11, len(address)) + address
        self.wire().send(*(bytes([byte]) for byte in header), HANDSHAKE)
        self.wire().send(header + HANDSHAKE + connect())
        self.assertEqual({"192.0.2.7": 2}, self.counted())

    def test_many_clients_of_one_proxy(self) -> None:
        """A proxy's own address counts for nothing; a client's does, as if it came by itself."""
        first = [self.forwarded(f"192.0.2.{number}").send(HANDSHAKE + connect()) for number in range(1, 9)]
        self.assertFalse(any(wire.is_closed for wire in first))
        for _ in range(2):
            self.assertFalse(self.forwarded("192.0.2.1").send(HANDSHAKE + connect()).is_closed)
        self.assertTrue(first[0].is_closed)
        self.assertEqual(1, self.edge.metric("rtmp_connections_evicted_total", limit="max_connections_per_ip"))

    def test_refused_client_is_closed(self) -> None:
        """Where all of a client's connections publish, one more is refused and closed."""
        for number in range(2):
            wire = self.forwarded("192.0.2.1")
            wire.send(HANDSHAKE + connect() + command("createStream", 4) + publish(f"k{number}?token=x"))
        self.assertTrue(self.forwarded("192.0.2.1").is_closed)
        self.assertEqual(1, self.edge.metric("rtmp_connections_refused_total", limit="max_connections_per_ip"))

    def test_read_sizes_are_as_ever(self) -> None:
        """A publisher's socket is read as any other's."""
        wire = self.forwarded("192.0.2.1")
        self.assertEqual(4096, wire.transport.bufferSize)
        wire.send(HANDSHAKE + connect() + command("createStream", 4) + publish())
        self.assertEqual(65_536, wire.transport.bufferSize)

    def test_proxy_without_client_is_itself(self) -> None:
        """A proxy that names no client (its own health check), or sends no header, is taken as itself."""
        self.wire().send(b"PROXY UNKNOWN\r\n" + HANDSHAKE)
        self.wire("10.0.0.2").send(HANDSHAKE)
        self.assertEqual({PROXY: 1, "10.0.0.2": 1}, self.counted())

    def test_header_from_elsewhere_is_refused(self) -> None:
        """From elsewhere a header is no way to begin, in either version; what comes without one is as ever."""
        for header in (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n", SIGNATURE + b"\x20\x00\x00\x00"):
            self.assertTrue(self.wire("192.0.2.9").send(header + HANDSHAKE).is_closed)
        self.assertFalse(self.wire("192.0.2.10").send(HANDSHAKE).is_closed)

    def test_malformed_header_closes_the_connection(self) -> None:
        """A header that is none closes the connection; it is counted, and said once a burst."""
        with capturedLogs() as logs:
            for _ in range(5):
                self.assertTrue(self.wire().send(b"PROXY nonsense\r\n", HANDSHAKE).is_closed)
        self.assertEqual(5, self.edge.metric("proxy_headers_refused_total", reason="malformed"))
        self.assertEqual(1, len(logs))
        self.assertEqual({}, self.counted())

    def test_late_header_closes_the_connection(self) -> None:
        """One whose header does not come is closed after a while, and so is the oldest of too many."""
        self.patch(proxied, "MOST_WAITING", 2)
        wires = [self.wire() for _ in range(3)]
        self.assertEqual([True, False, False], [wire.is_closed for wire in wires])
        for wire in wires:
            wire.send(b"PROXY TCP4")
        wires[1].protocol.connectionLost(Failure(ConnectionDone()))
        self.edge.clock.advance(HEADER_S)
        self.assertTrue(wires[2].is_closed)
        self.assertEqual(2, self.edge.metric("proxy_headers_refused_total", reason="late"))

    def test_factory_is_watched_while_open(self) -> None:
        """The factory behind it is watched for as long as a door is open, and what waits is closed with the door."""
        self.factory.doStart()
        self.edge.factory.doStop()
        self.assertTrue(self.edge.clock.getDelayedCalls())
        wire = self.wire()
        self.factory.doStop()
        self.assertTrue(wire.is_closed)
        wire.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual([], self.edge.clock.getDelayedCalls())


class NeedsHeaderTests(ProxiedCase):
    """``haproxy:`` endpoints."""

    needs_header = True

    def test_everyone_may_be_a_proxy(self) -> None:
        """All who connect are proxies."""
        self.wire("192.0.2.9").send(b"PROXY TCP4 192.0.2.7 192.0.2.9 50000 1935\r\n" + HANDSHAKE)
        self.assertEqual({"192.0.2.7": 1}, self.counted())

    def test_missing_header_closes_the_connection(self) -> None:
        """A connection without a header is closed."""
        self.assertTrue(self.wire().send(HANDSHAKE).is_closed)
        self.assertEqual(1, self.edge.metric("proxy_headers_refused_total", reason="missing"))
