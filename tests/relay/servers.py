"""Other servers in memory, and the network between them and us: what relays connect to in tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rapidrtmp.relay.outgoing import Outgoing
from rapidrtmp.rtmp.events import (
    AudioReceived,
    ConnectRequested,
    Event,
    MessageApplied,
    MetadataReceived,
    PlayRequested,
    PublishEnded,
    PublishRequested,
    VideoReceived,
)
from rapidrtmp.rtmp.remote import Address
from rapidrtmp.rtmp.session import ServerSession
from rapidrtmp.support.bug_log import BugLog

__all__ = ["Network", "RemoteServer", "Script"]


class _Transport(StringTransport):
    """The client's end; it says whether the client closed it, and how."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = ""

    def loseConnection(self) -> None:
        self.closed = self.closed or "closed"
        super().loseConnection()

    def abortConnection(self) -> None:
        self.closed = self.closed or "aborted"
        super().abortConnection()


@dataclass
class Script:
    """
    How a server answers.

    :ivar hangs: it never says anything.
    :ivar connect: refuses connect: a code and a description. Likewise ``publish``, and ``play``.
    :ivar challenges: it refuses a connect with each of these descriptions, one after the other, and then as above.
    :ivar properties: what it says of itself.
    """

    hangs: bool = False
    connect: tuple[str, str] | None = None
    publish: tuple[str, str] | None = None
    play: tuple[str, str] | None = None
    challenges: list[str] = field(default_factory=list)
    properties: Mapping[str, Any] = field(default_factory=dict)


class RemoteServer:
    """
    One connection at the other server's end.

    :ivar seen: what the client has said, but for what only marks a message.
    """

    def __init__(self, address: Address, ca: str, script: Script) -> None:
        self.address = address
        self.ca = ca
        self.script = script
        self.session = ServerSession(bytes)
        self.transport = _Transport()
        self.client: Any = None
        self.seen: list[Event] = []
        self.is_reading = True

    def carry(self) -> bool:
        """Carry bytes both ways; whether there were any."""
        said = self.transport.value() if self.is_reading and not self.script.hangs else b""
        if said:
            self.transport.clear()
            self.session.receive_data(said)
            for event in self.session.events():
                self._react(event)
        answer = self.session.data_to_send()
        if answer and not self.transport.closed:
            self.client.dataReceived(answer)
        return bool(said or answer)

    def _react(self, event: Event) -> None:
        script, session = self.script, self.session
        if not isinstance(event, MessageApplied):
            self.seen.append(event)
        if isinstance(event, ConnectRequested):
            if script.challenges:
                session.reject_connect("NetConnection.Connect.Rejected", script.challenges.pop(0))
            elif script.connect:
                session.reject_connect(*script.connect)
            else:
                session.accept_connect(script.properties)
        elif isinstance(event, PublishRequested):
            if script.publish:
                session.reject_publish(event.msid, *script.publish)
            else:
                session.accept_publish(event.msid)
        elif isinstance(event, PlayRequested):
            if script.play:
                session.reject_play(event.msid, *script.play)
            else:
                session.accept_play(event.msid)

    def of(self, kind: type[Any]) -> list[Any]:
        """What it has seen of one kind."""
        return [event for event in self.seen if isinstance(event, kind)]

    @property
    def media(self) -> list[Any]:
        """The audio and video that has arrived."""
        return [event for event in self.seen if isinstance(event, VideoReceived | AudioReceived)]

    @property
    def metadata(self) -> list[Any]:
        """How the media was described to it."""
        return [event.values for event in self.of(MetadataReceived)]

    @property
    def has_ended(self) -> bool:
        """Whether the client has said that its publish is over."""
        return bool(self.of(PublishEnded))

    def drop(self, reason: Exception | None = None) -> None:
        """Let the connection be lost."""
        self.client.connectionLost(Failure(reason or ConnectionDone()))


@implementer(IStreamClientEndpoint)
class _Endpoint:
    def __init__(self, network: Network, address: Address, ca: str) -> None:
        self._network, self._address, self._ca = network, address, ca

    def connect(self, factory: Any) -> Deferred[Any]:
        return self._network.connected(self._address, self._ca, factory)


class Network:
    """
    Servers by host name; one that is not here refuses connections.

    :ivar servers: how each answers. ``None`` for one that does not even accept connections.
    :ivar connections: those there were, in order.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.servers: dict[str, Script | None] = {}
        self.connections: list[RemoteServer] = []
        self.asked: list[str] = []
        self.outgoing = Outgoing(self.clock, self.connect, bytes, BugLog(Logger("tests.relay")))

    def connect(self, address: Address, ca: str) -> IStreamClientEndpoint:
        self.asked.append(address.host)
        return _Endpoint(self, address, ca)

    def connected(self, address: Address, ca: str, factory: Any) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        if address.host not in self.servers:
            answer.errback(Failure(ConnectionRefusedError()))
            return answer
        script = self.servers[address.host]
        if script is None:
            return answer
        server = RemoteServer(address, ca, script)
        self.connections.append(server)
        server.client = factory.buildProtocol(None)
        server.client.makeConnection(server.transport)
        answer.callback(server.client)
        return answer

    def carry(self) -> None:
        """Carry bytes until all is quiet."""
        while sum(server.carry() for server in self.connections):  # all of them, not up to the first
            pass

    def wait(self, seconds: float, step: float = 0.25) -> None:
        """Let time pass, and bytes travel."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            self.carry()
