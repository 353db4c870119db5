"""The ports of the server: opened in one go, left to the system while no client is let in, and what is said of them."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

from prometheus_client import Counter
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import SSL4ServerEndpoint, serverFromString
from twisted.internet.interfaces import IListeningPort, IReactorTime, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.tcp import Port
from twisted.logger import ILogObserver, LogEvent, Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.net.proxied import ProxiedFactory, ProxyRules
from rapidrtmp.server.certificates import TlsDoor
from rapidrtmp.server.tls_endpoint import BEHIND_PROXY, is_tls

__all__ = ["ETHERNET_SEGMENT_BYTES", "LISTEN_BACKLOG", "Address", "Ports", "UnacceptedConnections"]

#: How many connections may wait to be accepted: fifty, Twisted's default, fill up within one burst, and then the system
#: drops all that come, publishers too, who try again a second later.
LISTEN_BACKLOG = 4096
#: What a TCP segment of Ethernet carries, options included. Over loopback it would be 64 kB, and there an encoder with
#: Nagle's algorithm on (FFmpeg) holds a whole picture back until what came before it has been read.
ETHERNET_SEGMENT_BYTES = 1460
#: Between two lines about connections that could not be accepted, in seconds.
SAID_EVERY_S = 60.0
#: What a port that listens on all interfaces has for an address.
_ANYWHERE = ("0.0.0.0", "::")


class Address(NamedTuple):
    """
    Where an open port can be reached.

    :ivar text: ``HOST:PORT``, or the path of a UNIX socket.
    :ivar is_encrypted: whether what goes there is.
    :ivar is_socket: whether it is a UNIX socket, which no URL leads to.
    """

    text: str
    is_encrypted: bool
    is_socket: bool = False


@implementer(ILogObserver)
class UnacceptedConnections:
    """
    Takes the lines in which Twisted says of each connection that it could not be accepted, three and more for one.

    They are counted, and said in one line a minute.

    :param counter: counts the connections.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, counter: Counter) -> None:
        self._clock = clock
        self._counter = counter
        self._unsaid = 0
        self._next_s = 0.0

    def __call__(self, event: LogEvent) -> None:
        """Take one event."""
        if "acceptError" not in event and "address" not in event:
            return
        self._counter.inc()
        self._unsaid += 1
        now_s = self._clock.seconds()
        if now_s >= self._next_s:
            self._next_s = now_s + SAID_EVERY_S
            unsaid, self._unsaid = self._unsaid, 0
            self._log.error(
                "{count} connections could not be accepted: {error}; see ulimit -n or LimitNOFILE=",
                count=unsaid,
                error=event.get("acceptError", "EMFILE"),
            )


class Ports:
    """
    Every port that serves one protocol.

    :param descriptions: Twisted endpoint strings; ``haproxy:`` before one means that all who connect are proxies, and
        send a PROXY header.
    :param unaccepted: called for connections that cannot be accepted.
    :param proxies: whose PROXY headers are read elsewhere, too.
    :param segment_bytes: the largest TCP segment that clients may send; 0 for what the network allows.
    :param open_tls: makes the encrypted doors of ``ssl:`` endpoints; without it they keep the certificates that they
        begin with.
    :param adopted: descriptors of sockets that listen already, by the endpoint string that each was made of.
    """

    def __init__(
        self,
        reactor: Any,
        descriptions: Sequence[str],
        unaccepted: UnacceptedConnections,
        proxies: ProxyRules,
        segment_bytes: int = 0,
        open_tls: Callable[[str], TlsDoor] | None = None,
        adopted: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._adopted = adopted
        self._segment_bytes = segment_bytes
        self._reactor = reactor
        self._proxies = proxies
        self._unaccepted = unaccepted
        self._descriptions = descriptions
        self._open_tls = open_tls or partial(TlsDoor, "door")
        self._open: list[IListeningPort] = []

    @property
    def number(self) -> int:
        """The port number of the first that has one, once it is open; 0 where all are UNIX sockets."""
        return next(filter(None, map(_number, self._open)), 0)

    def open(self, factory: Factory[Any]) -> None:
        """Open them all, or end the process with one line."""
        for description in self._descriptions:
            self._open.append(self._listen(description, factory))

    def _listen(self, description: str, factory: Factory[Any]) -> IListeningPort:
        results: list[IListeningPort | Failure] = []
        endpoint, door = self._endpoint(description)
        if description in self._adopted:
            endpoint = _Adopted(self._reactor, self._adopted[description], door)
        endpoint.listen(factory).addBoth(results.append)
        result = results[0] if results else Failure(RuntimeError("the endpoint did not answer at once"))
        if isinstance(result, Failure):
            _stop(description, result.getErrorMessage())
        if door is not None:
            door.port = _number(result)
        if isinstance(result, Port):
            result.socket.listen(LISTEN_BACKLOG)
            if self._segment_bytes:
                with suppress(OSError):  # a UNIX socket, or a system that has no such option
                    result.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, self._segment_bytes)
            result._logger = Logger(observer=self._unaccepted)  # what ``Port.doRead`` reports to; not a public name
        needs_header = description.startswith(BEHIND_PROXY)
        if needs_header or self._proxies.proxies:
            port: Any = result  # the port's own factory may speak TLS: the header comes before that
            port.factory = ProxiedFactory(port.factory, self._proxies, needs_header=needs_header)
        return result

    def _endpoint(self, description: str) -> tuple[IStreamServerEndpoint, TlsDoor | None]:
        if not is_tls(description):
            return serverFromString(self._reactor, description.removeprefix(BEHIND_PROXY)), None
        try:
            door = self._open_tls(description)
        except ConfigurationError as error:
            _stop(description, str(error))
        where = door.endpoint
        return SSL4ServerEndpoint(self._reactor, where.port, door, where.backlog, where.interface), door

    def accept(self, accepting: bool) -> None:
        """Let clients in, or leave them to the system for a while: it completes their connections and holds them."""
        for port in self._open:
            if isinstance(port, FileDescriptor):
                port.startReading() if accepting else port.stopReading()  # type: ignore[no-untyped-call]

    def addresses(self) -> Iterator[Address]:
        """Those of the open ports; one that listens on all interfaces is at ``localhost``."""
        for description, port in zip(self._descriptions, self._open, strict=True):
            yield _address(port.getHost(), is_encrypted=is_tls(description))

    def addresses_elsewhere(self, own: Iterable[str]) -> Iterator[Address]:
        """
        Where other machines find the open ports that listen on all interfaces.

        :param own: the addresses of this machine.
        """
        addresses = list(own)
        for description, port in zip(self._descriptions, self._open, strict=True):
            host = port.getHost()
            everywhere = getattr(host, "host", "")
            if everywhere not in _ANYWHERE:
                continue
            for address in addresses:
                if everywhere == "::" or ":" not in address:
                    yield Address(_socket_text(address, host), is_tls(description))

    def close(self) -> Iterator[Deferred[None] | None]:
        """Close one after the other; each may take a moment."""
        while self._open:
            yield self._open.pop(0).stopListening()


@implementer(IStreamServerEndpoint)
class _Adopted:
    """
    A socket that listens already.

    :param door: makes it an encrypted one.
    """

    def __init__(self, reactor: Any, descriptor: int, door: TlsDoor | None) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        self._door: Any = door

    def listen(self, factory: Any) -> Deferred[IListeningPort]:
        """Accept connections at it."""
        if self._door is not None:
            factory = TLSMemoryBIOFactory(self._door, False, factory)
        with socket.socket(fileno=os.dup(self._descriptor)) as known:
            family = known.family
        return maybeDeferred(self._reactor.adoptStreamPort, self._descriptor, family, factory)


def _stop(description: str, reason: str) -> NoReturn:
    print(f"rapidrtmp: cannot listen on {description}: {reason}", file=sys.stderr)
    raise SystemExit(1)


def _address(host: object, *, is_encrypted: bool) -> Address:
    if isinstance(host, UNIXAddress):
        return Address(os.fsdecode(host.name or ""), is_encrypted, is_socket=True)
    name = str(getattr(host, "host", "localhost"))
    if name in (*_ANYWHERE, "127.0.0.1", "::1"):
        name = "localhost"
    return Address(_socket_text(name, host), is_encrypted)


def _socket_text(name: str, host: object) -> str:
    shown = f"[{name}]" if ":" in name else name
    return f"{shown}:{getattr(host, 'port', 0)}"


def _number(port: IListeningPort) -> int:
    return int(getattr(port.getHost(), "port", 0))
