"""
A connection of ours to another server: TCP or TLS, handshake, connect, publish or play, and a clean end.

How it thinks: an :class:`Attempt` is made for one address and ends once, by ``failed`` or by ``stop``. Until the other
server has accepted us each step has a deadline; where it sends us elsewhere the attempt continues there. Once accepted,
what the session says goes to the owner. Nothing here decides whether, or when, to try again.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IDelayedCall,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.ssl import optionsForClientTLS, platformTrust
from twisted.python.failure import Failure
from zope.interface import implementer

from rapidrtmp.errors import ConfigurationError, PeerProtocolError
from rapidrtmp.relay.failure import FailureKind, RelayFailure, failure_of, refusal_of
from rapidrtmp.rtmp.amf import Value
from rapidrtmp.rtmp.authmod import answer_challenge, wants_password
from rapidrtmp.rtmp.events import (
    ConnectAccepted,
    ConnectRejected,
    Event,
    PlayAccepted,
    PlayRejected,
    PlayStopped,
    PublishAccepted,
    PublishRejected,
    PublishStopped,
    Status,
    StatusReceived,
)
from rapidrtmp.rtmp.limits import DEFAULT_LIMITS, SessionLimits
from rapidrtmp.rtmp.remote import Address, BadAddressError, redirected
from rapidrtmp.rtmp.replies import RECONNECT_REQUEST
from rapidrtmp.rtmp.session import ClientSession
from rapidrtmp.support.bug_log import BugLog
from rapidrtmp.support.trust import read_trust

__all__ = ["Attempt", "Connect", "Intent", "Outgoing", "Owner", "make_connect"]

#: How long a TCP connection may take, and then all up to the answer to publish or play, in seconds.
CONNECT_S, ANSWER_S = 5.0, 10.0
#: Where we want to play, connect is to be answered within ``CONNECT_S``, as another server may have the stream; play is
#: within this: servers let players wait for a stream that is not there, ten seconds as a rule.
PLAY_ANSWER_S = 12.0
#: How long a closing connection may take to carry the last words, in seconds.
CLOSE_WITHIN_S = 2.0
MAX_REDIRECTS = 3
#: A server that wants a password asks who we are, and then for the answer to its challenge.
MAX_CHALLENGES = 2
NONCE_BYTES = 4
#: What the kernel may hold that is not sent yet, in bytes: what lies there cannot be left out any more.
NOT_SENT_BYTES = 128 << 10

#: Makes what connects to an address; the second argument is a file of certificates to trust, or ``""``.
Connect = Callable[[Address, str], IStreamClientEndpoint]


class Intent(enum.Enum):
    """What we want of the other server."""

    PUBLISH = "publish"
    PLAY = "play"


class Owner(Protocol):
    """What an attempt is made for. Nothing is called after ``failed``, nor after ``Attempt.stop``."""

    def accepted(self, attempt: Attempt) -> None:
        """The other server lets us publish, or play."""

    def event_received(self, event: Event) -> None:
        """It has said something since."""

    def backlogged(self, *, is_full: bool) -> None:
        """The way to it is full, or no longer."""

    def failed(self, failure: RelayFailure) -> None:
        """It is over."""


@dataclass(frozen=True)
class Outgoing:
    """
    What all connections to other servers share.

    :ivar connect: makes what connects.
    :ivar limits: what the other server may make us hold.
    :ivar random_bytes: gives so many.
    """

    clock: IReactorTime
    connect: Connect
    random_bytes: Callable[[int], bytes]
    bugs: BugLog
    limits: SessionLimits = DEFAULT_LIMITS


def make_connect(reactor: Any) -> Connect:
    """What connects over TCP, and over TLS with the other side's certificate checked against the name in the URL."""

    def connect(address: Address, ca: str) -> IStreamClientEndpoint:
        endpoint = HostnameEndpoint(reactor, address.host, address.port, timeout=CONNECT_S)
        if not address.is_encrypted:
            return endpoint
        trust = read_trust(ca) if ca else platformTrust()
        options = optionsForClientTLS(address.host, trustRoot=trust)
        wrapped: IStreamClientEndpoint = wrapClientTLS(options, endpoint)
        return wrapped

    return connect


@implementer(IPushProducer)
class _Wire(TwistedProtocol):
    """Carries bytes between a transport and the session of an attempt."""

    transport: Any

    def __init__(self, attempt: Attempt, session: ClientSession) -> None:
        self.session = session
        self._attempt = attempt
        self._is_over = False
        self._end: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Begin to speak."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
            handle: Any = self.transport.getHandle()  # type: ignore[attr-defined]
            if isinstance(handle, socket.socket) and hasattr(socket, "TCP_NOTSENT_LOWAT"):
                with suppress(OSError):
                    handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT_BYTES)
        self.transport.registerProducer(self, True)
        self.flush()

    def dataReceived(self, data: bytes) -> None:
        """Read what it means."""
        if not self._is_over:
            self.session.receive_data(data)
            self._attempt.read(self)

    def flush(self) -> None:
        """Send what the session has to say."""
        said = self.session.data_to_send()
        if said:
            self.transport.write(said)

    def close(self, clock: IReactorTime) -> None:
        """Send the last words, and close."""
        if self._is_over:
            return
        self._is_over = True
        self.session.end()
        self.flush()
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._end = clock.callLater(CLOSE_WITHIN_S, self.transport.abortConnection)

    def abort(self) -> None:
        """Close without a word."""
        if not self._is_over:
            self._is_over = True
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell the attempt, if that has not ended it."""
        if self._end is not None and self._end.active():
            self._end.cancel()
        if not self._is_over:
            self._is_over = True
            self._attempt.lost(self, reason)

    def pauseProducing(self) -> None:
        """The way is full."""
        if not self._is_over:
            self._attempt.backlogged(self, is_full=True)

    def resumeProducing(self) -> None:
        """It is no longer."""
        if not self._is_over:
            self._attempt.backlogged(self, is_full=False)

    def stopProducing(self) -> None:
        """The connection is gone."""


class Attempt:
    """
    One attempt to publish to another server, or to play from it, and what comes of it.

    :param ca: a file of certificates to trust instead of the system's; ``""`` for those.
    :param properties: what connect says besides.
    :ivar address: where it leads now.
    :ivar properties: what the other server says of itself.
    """

    def __init__(
        self,
        outgoing: Outgoing,
        owner: Owner,
        address: Address,
        intent: Intent,
        *,
        ca: str = "",
        properties: Mapping[str, Value] = {},
    ) -> None:
        self.address = address
        self.properties: Mapping[str, Value] = {}
        self._outgoing = outgoing
        self._owner = owner
        self._intent = intent
        self._ca = ca
        self._said = properties
        self._redirects = self._challenges = 0
        self._credentials = ""  # what connect says of the user, as the fields of a query
        self._wire: _Wire | None = None
        self._connecting: Deferred[Any] | None = None
        self._deadline: IDelayedCall | None = None
        self._is_over = False
        self._is_accepted = False

    # ── what the owner asks for ──────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Begin to connect."""
        try:
            endpoint = self._outgoing.connect(self.address, self._ca)
        except Exception as error:
            said = str(error) if isinstance(error, ConfigurationError) else type(error).__name__
            self._fail(RelayFailure(FailureKind.CERTIFICATE, said))
            return
        self._set_deadline(CONNECT_S, "no connection")
        session = ClientSession(self._outgoing.random_bytes, self._outgoing.limits)
        app, tc_url = (_with_fields(each, self._credentials) for each in (self.address.app, self.address.tc_url))
        session.connect(app, tc_url, properties={"swfUrl": tc_url, **self._said})
        wire = _Wire(self, session)
        self._connecting = connecting = endpoint.connect(_factory_of(wire))
        connecting.addCallbacks(self._connected, self._unconnected, callbackArgs=(wire,)).addErrback(self._bug)

    def stop(self) -> None:
        """End it, as cleanly as possible."""
        if not self._is_over:
            self._end()
            if self._wire is not None:
                self._wire.close(self._outgoing.clock)

    @property
    def session(self) -> ClientSession:
        """That of the connection, once there is one."""
        assert self._wire is not None
        return self._wire.session

    @property
    def peer(self) -> str:
        """The network address of the other server, without the port; its name as long as there is no connection."""
        peer = self._wire.transport.getPeer() if self._wire is not None else None
        return str(getattr(peer, "host", self.address.host))

    def flush(self) -> None:
        """Send what the session has to say."""
        if self._wire is not None:
            self._wire.flush()

    def pause(self) -> None:
        """Leave in the socket what arrives."""
        if self._wire is not None:
            self._wire.transport.pauseProducing()

    def resume(self) -> None:
        """Take it again."""
        if self._wire is not None and not self._is_over:
            self._wire.transport.resumeProducing()

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _connected(self, _protocol: object, wire: _Wire) -> None:
        self._connecting = None
        if self._is_over:
            wire.abort()
            return
        if self._wire is None:  # not lost by now
            self._wire = wire
            self._set_deadline(ANSWER_S if self._intent is Intent.PUBLISH else CONNECT_S, "no answer")

    def _unconnected(self, failure: Failure) -> None:
        self._connecting = None
        if not failure.check(CancelledError):
            self._fail(failure_of(failure))

    def _bug(self, failure: Failure) -> None:
        self._outgoing.bugs.failure("internal error in a relay", failure)
        self._fail(RelayFailure(FailureKind.NETWORK, "internal error"))

    def lost(self, wire: _Wire, reason: Failure) -> None:
        """The connection is gone."""
        if self._wire in (None, wire):
            self._fail(failure_of(reason))

    def backlogged(self, wire: _Wire, *, is_full: bool) -> None:
        """The way is full, or no longer."""
        if wire is self._wire and self._is_accepted and not self._is_over:
            self._owner.backlogged(is_full=is_full)

    def read(self, wire: _Wire) -> None:
        """React to what has arrived; whatever goes wrong ends this attempt and nothing else."""
        self._wire = self._wire or wire
        try:
            for event in wire.session.events():
                self._react(event)
                if self._is_over or wire is not self._wire:
                    return
        except PeerProtocolError as error:
            self._fail(RelayFailure(FailureKind.NETWORK, f"RTMP protocol error: {error}"))
        except Exception:
            self._bug(Failure())
        else:
            wire.flush()

    def _react(self, event: Event) -> None:
        match event:
            case ConnectAccepted():
                self.properties = event.properties
                if self._intent is Intent.PUBLISH:
                    self.session.publish(self.address.name)
                else:
                    self._set_deadline(PLAY_ANSWER_S, "no answer")
                    self.session.play(self.address.name)
            case PublishAccepted() | PlayAccepted():
                self._is_accepted = True
                self._cancel_deadline()
                self._owner.accepted(self)
            case ConnectRejected() | PublishRejected() | PlayRejected() | PublishStopped() | PlayStopped():
                if event.status.redirect:
                    self._redirect(event.status.redirect)
                elif isinstance(event, ConnectRejected) and wants_password(event.status.description):
                    self._say_who(event.status)
                else:
                    self._fail(refusal_of(event.status, self._secrets))
            case StatusReceived() if event.status.code == RECONNECT_REQUEST:
                reason = event.status.description or "the server asks for another connection"
                self._fail(RelayFailure(FailureKind.MOVED, reason, event.status.redirect))
            case _ if self._is_accepted:
                self._owner.event_received(event)

    @property
    def _secrets(self) -> tuple[str, ...]:
        """What may be secret of the address, the longest first."""
        address = self.address
        name, _, query = address.name.partition("?")
        app_query = address.app.partition("?")[2]
        return (address.name, self._credentials, query, app_query, name, address.password, address.user)

    def _redirect(self, url: str) -> None:
        """Continue where the other server sends us."""
        self._redirects += 1
        try:
            if self._redirects > MAX_REDIRECTS:
                raise BadAddressError(f"more than {MAX_REDIRECTS} redirects")
            address = redirected(self.address, url)
        except BadAddressError as error:
            self._fail(RelayFailure(FailureKind.REFUSED, f"redirected: {error}"))
            return
        self._continue(address)

    def _say_who(self, status: Status) -> None:
        """Answer a server that asks for a user and a password; the URL has them."""
        address = self.address
        self._challenges += 1
        answer = None
        if address.user and self._challenges <= MAX_CHALLENGES:
            nonce = self._outgoing.random_bytes(NONCE_BYTES)
            app = address.app.partition("?")[0]
            answer = answer_challenge(status.description, app, address.user, address.password, nonce)
        if answer is None:
            taken = "it does not take the user and password of the URL"
            reason = taken if address.user else "it wants a user and a password: rtmps://USER:PASSWORD@HOST/APP"
            self._fail(RelayFailure(FailureKind.REFUSED, reason))
            return
        self._credentials = answer
        self._continue(address)

    def _continue(self, address: Address) -> None:
        """Connect anew, to the same server or another."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close(self._outgoing.clock)
        self._is_accepted = False
        if address.host != self.address.host:
            self._credentials = ""
        self.address = address
        self.start()

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _set_deadline(self, seconds: float, what: str) -> None:
        self._cancel_deadline()
        self._deadline = self._outgoing.clock.callLater(seconds, self._late, f"{what} within {seconds:g} s")

    def _late(self, reason: str) -> None:
        self._deadline = None
        self._fail(RelayFailure(FailureKind.NETWORK, reason))

    def _cancel_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def fail(self, failure: RelayFailure) -> None:
        """End it for a reason that the owner has found; the owner is called back like for any other."""
        self._fail(failure)

    def _fail(self, failure: RelayFailure) -> None:
        if self._is_over:
            return
        self._end()
        if self._wire is not None:
            if failure.kind is FailureKind.NETWORK:
                self._wire.abort()
            else:
                self._wire.close(self._outgoing.clock)
        self._owner.failed(failure)

    def _end(self) -> None:
        self._is_over = True
        self._cancel_deadline()
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()


def _with_fields(url: str, fields: str) -> str:
    """A URL, or the end of one, with more fields of a query."""
    return f"{url}{'&' if '?' in url else '?'}{fields}" if fields else url


def _factory_of(wire: _Wire) -> Any:
    factory = Factory.forProtocol(lambda: wire)
    factory.noisy = False
    return factory
