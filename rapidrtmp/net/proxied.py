"""
Connections that a proxy hands on: taken for those of the client that its PROXY header names.

The header comes ahead of everything, TLS too, so it is read before there is a connection for any of our protocols: that
is made for the client's address, which limits, logs and authenticators see alone. Only the proxies of some networks are
believed. From elsewhere a header is what it is to every protocol here: no way to begin, and so the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from typing import Protocol as Shape

from prometheus_client import Counter
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.errors import PeerProtocolError
from rapidrtmp.net.proxy_header import ProxyHeader, read_proxy_header
from rapidrtmp.support.client_prefix import origin_of
from rapidrtmp.support.clock import now_ms
from rapidrtmp.support.log_throttle import Episodes

__all__ = ["ProxiedFactory", "ProxyRules"]

#: How long a header may take to arrive, in seconds.
HEADER_S = 10.0
#: Connections of a door whose header has not come; where one more comes, the oldest is closed.
MOST_WAITING = 1000

if TYPE_CHECKING:
    _Factory = Factory[Protocol]
else:
    _Factory = Factory  # which in older releases of Twisted has no parameter


class Proxies(Shape):
    """Addresses; ``"unix"`` is that of a peer on a UNIX socket."""

    def __contains__(self, peer: str, /) -> bool:
        """Whether it is a proxy's."""


class ProxyRules:
    """
    Whose headers are read, and what is said of those that are none; one for all doors.

    :param proxies: theirs.
    :param refused: counts connections that are closed for their header, by what is wrong with it.
    """

    _log = Logger()

    def __init__(self, proxies: Proxies, clock: IReactorTime, refused: Counter) -> None:
        self.proxies = proxies
        self.clock = clock
        self._refused = refused
        self._log_throttle = Episodes()

    def refuse(self, peer: str, reason: str, message: str) -> None:
        """Count, and say now and then, that a connection is closed."""
        self._refused.labels(reason).inc()
        if self._log_throttle.is_news(reason, origin_of(peer), now_ms(self.clock)):
            self._log.warn("connection from the proxy {peer} closed: {reason}", peer=peer, reason=message)


class ProxiedFactory(_Factory):
    """
    Stands between a port and the factory of its connections.

    :param factory: makes them.
    :param needs_header: whether every peer is a proxy and must send a header (``haproxy:`` endpoints); else those that
        the rules trust may.
    """

    noisy = False

    def __init__(self, factory: Any, rules: ProxyRules, *, needs_header: bool) -> None:
        self.rules = rules
        self.needs_header = needs_header
        self._factory = factory
        self._waiting: dict[_AwaitingHeader, None] = {}

    def logPrefix(self) -> str:
        """Name it in Twisted's log lines."""
        return str(self._factory.logPrefix())

    def doStart(self) -> None:
        """Start with the factory."""
        self._factory.doStart()

    def doStop(self) -> None:
        """Stop with the factory, and wait for no header any more."""
        self._factory.doStop()
        for waiting in list(self._waiting):
            waiting.transport.abortConnection()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Make the connection of an accepted socket, or what waits for a proxy's header."""
        peer = str(getattr(addr, "host", "unix"))
        if not (self.needs_header or peer in self.rules.proxies):
            return self.build(addr)
        if len(self._waiting) >= MOST_WAITING:
            next(iter(self._waiting)).close("late", "there are too many without a header")
        return _AwaitingHeader(self, peer, addr)

    def build(self, addr: IAddress | None) -> Any:
        """Make the connection of a client; ``None`` to close it."""
        return self._factory.buildProtocol(addr)

    def began(self, waiting: _AwaitingHeader) -> None:
        """Count one that waits."""
        self._waiting[waiting] = None

    def ended(self, waiting: _AwaitingHeader) -> None:
        """Count it no more."""
        self._waiting.pop(waiting, None)


class _AwaitingHeader(Protocol):
    """
    A connection until its proxy has said whom it stands for; then another protocol takes its place on the transport.

    :param addr: the proxy's.
    """

    transport: Any

    def __init__(self, door: ProxiedFactory, peer: str, addr: IAddress | None) -> None:
        self._door = door
        self._peer = peer
        self._addr = addr
        self._data = b""
        self._deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Wait for the header, not for ever."""
        self._door.began(self)
        self._deadline = self._door.rules.clock.callLater(
            HEADER_S, self.close, "late", f"no PROXY header within {HEADER_S:g} s"
        )

    def dataReceived(self, data: bytes) -> None:
        """Read the header, and let the connection begin behind it."""
        if self._deadline is None:
            return
        self._data += data
        try:
            header = read_proxy_header(self._data)
        except PeerProtocolError as error:
            self.close("malformed", str(error))
            return
        if header is None:
            return
        if not header.size and self._door.needs_header:
            self.close("missing", "no PROXY header, which every connection to a haproxy: endpoint has")
            return
        self._begin(header)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone, before it began."""
        del reason
        self._stop_waiting()

    def close(self, reason: str, message: str) -> None:
        """Close it for a header that is none."""
        self._stop_waiting()
        self._door.rules.refuse(self._peer, reason, message)
        self.transport.abortConnection()

    def _stop_waiting(self) -> None:
        self._door.ended(self)
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def _begin(self, header: ProxyHeader) -> None:
        self._stop_waiting()
        transport, addr = self.transport, self._addr
        if header.client is not None:
            host, port = header.client
            addr = (IPv4Address if host.version == 4 else IPv6Address)("TCP", str(host), port)
            transport.getPeer = lambda: addr
        protocol = self._door.build(addr)
        if protocol is None:
            transport.abortConnection()
            return
        transport.protocol = protocol  # whom the transport calls from now on
        protocol.makeConnection(transport)
        rest = self._data[header.size :]
        if rest:
            protocol.dataReceived(rest)
