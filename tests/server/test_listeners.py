"""What is said of connections that cannot be accepted."""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet import reactor as real_reactor
from twisted.internet.address import IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.tcp import Port
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase

from rapidrtmp.metrics import Metrics
from rapidrtmp.net.proxied import ProxyRules
from rapidrtmp.server.listeners import ETHERNET_SEGMENT_BYTES, SAID_EVERY_S, Address, Ports, UnacceptedConnections

NO_PROXIES = ProxyRules((), Clock(), Metrics().proxy_headers_refused_total)


class UnacceptedTests(SynchronousTestCase):
    """One line now and then."""

    def test_lines_of_unaccepted_connections(self) -> None:
        """However many there are, one line a minute says how many there were."""
        clock, metrics = Clock(), Metrics()
        unaccepted = UnacceptedConnections(clock, metrics.unaccepted_total)
        with capturedLogs() as events:
            for _ in range(100):
                unaccepted({"log_format": "EMFILE encountered; releasing reserved file descriptor."})
                unaccepted({"log_format": "EMFILE recovery: Closed socket from {address}", "address": ("192.0.2.1", 1)})
            clock.advance(SAID_EVERY_S)
            unaccepted({"log_format": "Could not accept new connection ({acceptError})", "acceptError": "ENFILE"})
        self.assertEqual([(1, "EMFILE"), (100, "ENFILE")], [(each["count"], each["error"]) for each in events])
        self.assertEqual(101, metrics.registry.get_sample_value("rapidrtmp_connections_unaccepted_total"))

    def test_private_name_is_used(self) -> None:
        """Twisted's ports report by the name that is used."""
        self.assertTrue(hasattr(Port, "_logger"))


class PortTests(TestCase):
    """On a real port."""

    async def test_exhausted_descriptors_are_counted(self) -> None:
        """Where the system has no descriptor left, the client is counted, and Twisted's own lines are not logged."""
        reactor: Any = real_reactor
        metrics = Metrics()
        ports = Ports(
            reactor, ["tcp:0:interface=127.0.0.1"], UnacceptedConnections(reactor, metrics.unaccepted_total), NO_PROXIES
        )
        ports.open(Factory.forProtocol(Protocol))
        (port,) = ports._open
        listening = port.socket  # type: ignore[attr-defined]
        port.socket = _Exhausted(listening)  # type: ignore[attr-defined]
        client = socket.create_connection(("127.0.0.1", ports.number))
        try:
            with capturedLogs() as events:
                while not metrics.registry.get_sample_value("rapidrtmp_connections_unaccepted_total"):
                    await deferLater(reactor, 0)
            self.assertEqual(["ENFILE"], [event["error"] for event in events if event["log_level"].name == "error"])
            self.assertEqual([], [event for event in events if "accept new" in str(event.get("log_format"))])
        finally:
            client.close()
            port.socket = listening  # type: ignore[attr-defined]
            for closing in ports.close():
                if isinstance(closing, Deferred):
                    await closing


class SegmentTests(TestCase):
    async def test_as_over_ethernet(self) -> None:
        """A client on the same machine is asked for no larger segments than one elsewhere, if that is wanted."""
        reactor: Any = real_reactor
        for bound, largest in ((ETHERNET_SEGMENT_BYTES, range(1, 1461)), (0, range(1461, 65_536))):
            unaccepted = UnacceptedConnections(reactor, Metrics().unaccepted_total)
            ports = Ports(reactor, ["tcp:0:interface=127.0.0.1"], unaccepted, NO_PROXIES, bound)
            ports.open(Factory.forProtocol(Protocol))
            try:
                with socket.create_connection(("127.0.0.1", ports.number)) as client:
                    self.assertIn(client.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG), largest)
            finally:
                for closing in ports.close():
                    if isinstance(closing, Deferred):
                        await closing


class _Exhausted:
    """A listening socket of a system that has no file left."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening

    def accept(self) -> None:
        raise OSError(errno.ENFILE, "too many open files in system")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listening, name)


class AddressTests(SynchronousTestCase):
    """Where ports can be reached."""

    def test_elsewhere_over_both_families(self) -> None:
        """A port that listens everywhere over IPv6 does so over IPv4 as well; one over IPv4 does not over IPv6."""
        own = ["192.0.2.7", "2001:db8::7"]
        for host, expected in (
            ("::", ["192.0.2.7:1935", "[2001:db8::7]:1935"]),
            ("0.0.0.0", ["192.0.2.7:1935"]),
            ("127.0.0.1", []),
        ):
            ports = Ports(
                real_reactor, ["ssl:1935"], UnacceptedConnections(Clock(), Metrics().unaccepted_total), NO_PROXIES
            )
            ports._open = [_Bound(host)]  # type: ignore[list-item]
            addresses = list(ports.addresses_elsewhere(own))
            self.assertEqual([Address(text, is_encrypted=True) for text in expected], addresses)


class _Bound:
    """A port, as far as its address matters."""

    def __init__(self, host: str) -> None:
        self._host = host

    def getHost(self) -> IPv6Address:
        return IPv6Address("TCP", self._host, 1935)
