"""
The edge between ``twisted.web`` and our values, and the bounds on what one connection may cost.

The header of a request must arrive whole within seconds and all of it within the idle timeout, however slowly its
bytes drip; its fields are few and short; of its body no more is kept than it takes to see that it is too long.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from inspect import signature
from typing import Any, cast

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from twisted.web.server import Site
from werkzeug.exceptions import HTTPException

from rapidrtmp.errors import RapidRTMPError
from rapidrtmp.http.addresses import UNIX_PEER, TrustedProxies, forwarded_hops, host_name
from rapidrtmp.http.errors import HeaderTooLargeError, UriTooLongError
from rapidrtmp.interfaces import BadRequestError, HttpError, Request
from rapidrtmp.net.read_budget import BudgetedReader, ReadBudget
from rapidrtmp.support.client_prefix import origin_of
from rapidrtmp.support.refused import Refused
from rapidrtmp.web.abuse import Abuse, AbuseKind
from rapidrtmp.web.errors import error_response
from rapidrtmp.web.fast_path.twisted_private import OpenChannel
from rapidrtmp.web.http2.negotiation import NegotiatedChannel
from rapidrtmp.web.open_connections import OpenConnections
from rapidrtmp.web.policy import HttpPolicy

__all__ = ["BoundedSite", "CheckedResource", "client_of", "read_credential", "read_request", "transport_of"]

MAX_HEADERS = 100
MAX_HEADER_BYTES = 16_384
#: A token in a path, however it is written.
_TOKEN = re.compile(r"(/[^/]*/[^/]*/)(?:~|%7e)[^/]*", re.IGNORECASE)
#: How long the header of a request may take to arrive, in seconds; a body has the idle timeout.
HEADER_S = 15
#: How long a client that is refused in the middle of a request may take to read why, and how much of the rest is read.
LINGER_S, LINGER_BYTES = 5, 1 << 20
#: Of the length of a body.
MAX_LENGTH_DIGITS = 20
#: What all connections together may use of one turn of the reactor, in seconds.
TURN_S = 0.008
#: A client that leaves more than this of its answers unread is not read from.
MAX_UNSENT_BYTES = 16 << 10
#: A client that sends more than this behind a request that is being answered is not read from.
MAX_WAITING_BYTES = 16 << 10


def client_of(twisted: Any, proxies: TrustedProxies) -> str:
    """The address of the client of a ``twisted.web`` request, behind the proxies that are trusted."""
    forwarded_for, forwarded = (
        b", ".join(twisted.requestHeaders.getRawHeaders(name, ())).decode("latin-1")
        for name in (b"x-forwarded-for", b"forwarded")
    )
    return proxies.client(_peer_of(twisted), forwarded_hops(forwarded_for, forwarded))


def _peer_of(twisted: Any) -> str:
    return getattr(twisted.getClientAddress(), "host", UNIX_PEER)


def transport_of(twisted: Any) -> Any:
    """The transport of the connection that a ``twisted.web`` request came by; of HTTP/2 that of all its streams."""
    return twisted.channel.transport


def read_request(twisted: Any, proxies: TrustedProxies, token: str = "", *, is_watching: bool = False) -> Request:
    """
    What a ``twisted.web`` request asks, as a value.

    :param token: what was found in its path.
    :param is_watching: whether ``Authorization`` may hold a viewer's token instead.
    """
    headers = {
        name.decode("latin-1").lower(): b", ".join(values).decode("utf-8", "surrogateescape")
        for name, values in twisted.requestHeaders.getAllRawHeaders()
    }
    return Request(
        method=twisted.method.decode("latin-1"),
        query=twisted.uri.partition(b"?")[2].decode("latin-1"),
        headers=headers,
        peer=_peer_of(twisted),
        client=client_of(twisted, proxies),
        body=twisted.content.read(),
        scheme=_scheme_of(twisted, headers, proxies),
        token=token or (read_credential(headers.get("authorization", "")) if is_watching else ""),
        is_token_in_path=bool(token),
        has_watched=getattr(twisted.channel, "has_watched", False),  # another site's channel does not say
    )


def read_credential(authorization: str) -> str:
    """
    The token in an ``Authorization`` field: a bearer token (RFC 6750), or ``NAME:PASSWORD`` (RFC 7617); ``""`` if there
    is none.
    """
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value.strip(), validate=True).decode()
    except ValueError:
        return ""


def _scheme_of(twisted: Any, headers: Mapping[str, str], proxies: TrustedProxies) -> str:
    forwarded = headers.get("x-forwarded-proto", "") if _peer_of(twisted) in proxies else ""
    return "https" if twisted.isSecure() or forwarded.rpartition(",")[2].strip().lower() == "https" else "http"


class CheckedResource(Resource):
    """
    Keeps from Klein what it would answer in its own words, or not at all: paths and hosts that are not text.

    :param refuse: called with the request and what is wrong; returns the body of the answer.
    """

    isLeaf = True

    def __init__(self, klein: IResource, refuse: Callable[[Any, RapidRTMPError], Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._klein = klein
        self._refuse = refuse

    def render(self, request: Any) -> Any:
        """Answer, or let Klein do so."""
        try:
            b"/".join(request.postpath).decode()
            if request.requestHeaders.hasHeader(b"host") and not host_name(_host_field(request)):
                raise BadRequestError("the Host field is not a host name")
            return self._klein.render(request)
        except (UnicodeError, HTTPException):
            return self._refuse(request, BadRequestError("the URL or the Host field is not readable"))
        except BadRequestError as error:
            return self._refuse(request, error)


def _host_field(request: Any) -> str:
    return b",".join(request.requestHeaders.getRawHeaders(b"host")).decode("latin-1")


class _Body(io.BytesIO):
    """A request's body, up to one byte more than is allowed."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._room = limit + 1

    def write(self, data: Any, /) -> int:
        """Keep what there is room for."""
        self._room -= super().write(data[: self._room])
        return len(data)


class BoundedChannel(OpenChannel, BudgetedReader):
    """
    An HTTP/1 connection whose requests must arrive whole within the idle timeout, and whose client must keep reading
    what it asked for: after that time without a piece taken, it is dropped.

    One request is answered in a turn of the reactor, and only while there is time for it (see
    :mod:`rapidrtmp.net.read_budget`). What has arrived behind it is kept unread in ``arrived``, where ``paused``, an
    attribute of Twisted's ``LineReceiver``, holds it: until the answer is given and read, and until its turn comes.

    :param abuse: notes clients that are refused below the level of requests.
    :ivar has_asked: whether a whole request has come.
    :ivar has_watched: whether media was sent.
    """

    maxHeaders = MAX_HEADERS
    totalHeadersSize = MAX_HEADER_BYTES
    used_s = 0.0
    has_asked = False
    has_watched = False
    _read_budget: ReadBudget
    _arriving = False
    _at_start = True
    _has_erred = False
    _is_reading = False
    _is_queued = False
    _is_encrypted = False
    _is_lingering = False
    _may_throw_away = 0
    _idle_s = 0

    def __init__(self, abuse: Abuse) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._abuse = abuse
        self._peer = UNIX_PEER

    def connectionMade(self) -> None:
        """The connection is there."""
        super().connectionMade()  # type: ignore[no-untyped-call]
        self._peer = getattr(self.getPeer(), "host", UNIX_PEER)  # type: ignore[no-untyped-call]
        self._read_budget = cast(BoundedSite, self.factory).read_budget
        self._is_encrypted = self.isSecure()  # type: ignore[no-untyped-call]
        self._idle_s = self.timeOut or 0
        if isinstance(self.transport, Connection) and not self._is_encrypted:
            self.transport.bufferSize = MAX_UNSENT_BYTES  # when Twisted asks for a pause, and what it reads at a time

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, and what was left to read with it."""
        self.arrived = b""
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        """Start the timer when a request begins, and not again for each of its bytes; read when it may be read."""
        if self._is_lingering or self.transport.disconnecting:  # type: ignore[union-attr]
            self._throw_away(data)
            return
        if not self._arriving:
            self._header_begins()
        self.arrived += data
        if self.paused:
            self._leave_unread()
        else:
            self._read_budget.serve(self)

    def lineReceived(self, line: bytes) -> None:
        """A line of a request, or an empty one before it."""
        if not self._arriving:
            self._header_begins()
        self._at_start = False
        super().lineReceived(line)  # type: ignore[no-untyped-call]

    def _header_begins(self) -> None:
        self._arriving = True
        self.setTimeout(min(HEADER_S, self._idle_s))  # type: ignore[no-untyped-call]

    def allHeadersReceived(self) -> None:
        """The header is whole: what follows may take longer."""
        self.setTimeout(self._idle_s)  # type: ignore[no-untyped-call]
        super().allHeadersReceived()  # type: ignore[no-untyped-call]

    def headerReceived(self, line: bytes) -> bool:
        """A field; a length without end is refused before Twisted makes a number of it, which raises."""
        name, _, value = line.partition(b":")
        if len(value.strip(b" \t")) > MAX_LENGTH_DIGITS and name.lower() == b"content-length":
            self.request_refused()
            return False
        return bool(super().headerReceived(line))  # type: ignore[no-untyped-call]

    def allContentReceived(self) -> None:
        """The request is whole, and read no further until it is answered."""
        self._arriving = False
        self._at_start = self.has_asked = True
        self.paused = True
        super().allContentReceived()  # type: ignore[no-untyped-call]

    def setLineMode(self, extra: bytes = b"") -> None:
        """The answer is given (this is how Twisted says so): the next request is read in a later turn."""
        self.line_mode = True
        if extra:
            self.arrived = extra + self.arrived
        if self.is_full:
            self.network.pauseProducing()
        elif self.arrived:
            self._read_later()
        else:
            self.paused = False

    # ── turns ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def read_until(self, until_s: float) -> bool:
        """Read one request at most; tell whether none is left that can be read in a later turn."""
        del until_s  # one request is as little as can be read
        self._is_queued = False
        if not self.is_full:
            self.paused = False
            self._is_reading = True
            try:
                self._read_one()
            finally:
                self._is_reading = False
            if self.paused and not self.is_answering and not self.is_full:
                self.paused = self._is_queued = bool(self.arrived)
        return not self._is_queued

    def _read_one(self) -> None:
        """Read up to the end of one request, or all there is."""
        LineReceiver.dataReceived(self, b"")

    def _read_later(self) -> None:
        """Read what has arrived in a later turn; ``read_until`` itself sees to what it leaves."""
        self._leave_unread()
        if not (self._is_reading or self._is_queued):
            self._read_budget.queue(self)

    def _leave_unread(self) -> None:
        """Leave in the socket what comes next, if enough has arrived; Twisted takes from it after each answer."""
        if len(self.arrived) > MAX_WAITING_BYTES:
            self.network.pauseProducing()

    def pause_reading(self) -> None:
        """Read no request; what fits into the buffer may arrive."""
        self.paused = self._is_queued = True

    def resume_reading(self) -> None:
        """Take from the socket again, unless something else is in the way."""
        if self.is_full or len(self.arrived) > MAX_WAITING_BYTES:
            return
        if not self.transport.disconnecting:  # type: ignore[union-attr]
            self.network.resumeProducing()

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered or waits, and no answer is left unread."""
        return not (self.is_answering or self.arrived or self.is_full)

    # ── what is refused here ─────────────────────────────────────────────────────────────────────────────────────────

    def request_refused(self) -> None:
        """Tell of what arrives and is no request, or too much of one."""
        if self.is_header_long:
            self._refuse_header()
        else:
            self._erred(AbuseKind.MALFORMED)
            super().request_refused()

    def lineLengthExceeded(self, line: bytes) -> None:
        """A line is too long: that of the request, or a field."""
        del line
        if self._at_start:
            self._erred(AbuseKind.OVERSIZED)
            self._answer_and_close(UriTooLongError(self.MAX_LENGTH))
        else:
            self._refuse_header()

    def _refuse_header(self) -> None:
        self._erred(AbuseKind.OVERSIZED)
        self._answer_and_close(HeaderTooLargeError(self.maxHeaders, self.totalHeadersSize))

    def _answer_and_close(self, error: HttpError) -> None:
        """
        Answer a request that is not read to its end, and close when the client has read that.

        A socket that is closed with something unread in it takes the answer back with it (RFC 9112, 9.6).
        """
        assert self.transport is not None
        response = error_response(error)
        start = f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n"
        self.transport.write(start.encode() + b"Server: RapidRTMP\r\nConnection: close\r\n" + response.fields_and_body)
        self.arrived = b""
        if self._is_encrypted or not isinstance(self.transport, Connection):
            self.loseConnection()  # type: ignore[no-untyped-call]
            return
        self._is_lingering = True
        self._may_throw_away = LINGER_BYTES
        self.transport.loseWriteConnection()
        self.setTimeout(LINGER_S)  # type: ignore[no-untyped-call]

    def _throw_away(self, data: bytes) -> None:
        self._may_throw_away -= len(data)
        if self._is_lingering and self._may_throw_away < 0:
            self.transport.abortConnection()  # type: ignore[union-attr]

    def _erred(self, kind: AbuseKind) -> None:
        """Tell of it once: what else is on its way may be refused again and again."""
        if not self._has_erred:
            self._has_erred = True
            self._abuse.note(kind, self._peer)

    # ── clients that are slow ────────────────────────────────────────────────────────────────────────────────────────

    def pauseProducing(self) -> None:
        """The transport holds enough: the client must read now, before it is read from."""
        self.paused = True
        super().pauseProducing()  # type: ignore[no-untyped-call]
        self.restore_timeout()

    def resumeProducing(self) -> None:
        """The client has read it."""
        if self.is_answering:
            self.setTimeout(None)  # type: ignore[no-untyped-call]
        super().resumeProducing()  # type: ignore[no-untyped-call]
        if self.is_answering:
            return
        self.resetTimeout()  # type: ignore[no-untyped-call]
        if self.arrived:
            self._read_later()
        else:
            self.paused = False

    def timeoutConnection(self) -> None:
        """Close the connection, without a line for each; what a client does not read need not be sent before."""
        if self._is_lingering:
            self.transport.abortConnection()  # type: ignore[union-attr]
            return
        if self.is_full:
            self._abuse.note(AbuseKind.STALLED, self._peer)
            self.transport.abortConnection()  # type: ignore[union-attr]
            return
        if self._arriving:
            self._abuse.note(AbuseKind.SLOW, self._peer)
        self.abort_later()
        self.loseConnection()  # type: ignore[no-untyped-call]


class CountedChannel(NegotiatedChannel):
    """
    A connection that is counted among the open ones, whichever HTTP it speaks.

    :ivar client_prefix: whom it is counted for.
    """

    client_prefix = ""
    _transport: Any

    def __init__(
        self,
        channel: BoundedChannel,
        make_http2: Callable[[Any, Any, Any], Protocol] | None,
        connections: OpenConnections,
    ) -> None:
        super().__init__(channel, make_http2)
        self._connections = connections

    @property
    def has_asked(self) -> bool:
        """Whether a whole request has come."""
        channel: Any = self._channel
        return bool(channel.has_asked)

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        channel: Any = self._channel
        return bool(channel.is_idle)

    def makeConnection(self, transport: Any) -> None:
        """The connection is there."""
        self._transport = transport
        self.client_prefix = origin_of(getattr(transport.getPeer(), "host", UNIX_PEER))
        self._connections.opened(self)
        super().makeConnection(transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        self._connections.closed(self)
        super().connectionLost(reason)

    def close_now(self) -> None:
        """Close the connection at once; with a farewell that costs nothing, if it has been of use."""
        if self.has_asked and self.is_idle and isinstance(self._transport, Connection) and not self._transport.TLS:
            self._transport.loseConnection()
        else:
            self._transport.abortConnection()


#: Bodies of forms are not parsed. Before 25.5 Twisted had no way to say so: there they are, to no use or harm.
_BODIES_AS_THEY_ARE = (
    {"parsePOSTFormSubmission": False} if "parsePOSTFormSubmission" in signature(Site.__init__).parameters else {}
)


class BoundedSite(Site):
    """
    The site: bounded connections, and a log of requests only if the operator wants one.

    :param make_channel: makes what speaks HTTP/1 on one connection.
    :param make_http2: makes what speaks HTTP/2 on one, for a factory of requests, the site and the connection's
        factory; ``None`` to offer no HTTP/2.
    :param connections: those that are open, of other sites too.
    :ivar read_budget: decides which connection is read next.
    """

    noisy = False  # where it listens is said once for all
    _log = Logger()

    def __init__(
        self,
        resource: IResource,
        policy: HttpPolicy,
        clock: IReactorTime,
        make_channel: Callable[[], BoundedChannel],
        make_http2: Callable[[Any, Any, Any], Protocol] | None = None,
        connections: OpenConnections | None = None,
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            resource, timeout=policy.idle_timeout_s, reactor=clock, **_BODIES_AS_THEY_ARE
        )
        self.read_budget = ReadBudget(clock, TURN_S)
        self._policy = policy
        self._make_channel = make_channel
        self._make_http2 = make_http2
        self._connections = OpenConnections(policy, clock) if connections is None else connections

    def logPrefix(self) -> str:
        """What Twisted's own log lines call it."""
        return "HTTP"

    def acceptableProtocols(self) -> list[bytes]:
        """The protocols that TLS offers, the best first (RFC 7301)."""
        return [b"h2", b"http/1.1"] if self._make_http2 else [b"http/1.1"]

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Make the connection of an accepted socket, or refuse it where there are too many."""
        if not self._connections.admits(getattr(addr, "host", UNIX_PEER)):
            return Refused()
        return super().buildProtocol(addr)  # type: ignore[no-untyped-call]

    def protocol(self) -> CountedChannel:
        """A new connection."""
        return CountedChannel(self._make_channel(), self._make_http2, self._connections)

    def getContentFile(self, _length: int | None) -> _Body:
        """Where one request's body goes."""
        return _Body(self._policy.max_body_bytes)

    def log(self, request: Any) -> None:
        """Log a request if that is wanted; never its query or a token in its path: they may hold a secret."""
        if self._policy.access_log:
            self._log.info(
                "{client} {method} {path} {status} {size}",
                client=_peer_of(request),
                method=request.method.decode("latin-1"),
                path=_TOKEN.sub(r"\1~", request.path.decode("latin-1")),
                status=request.code,
                size=request.sentLength,
            )
