"""
One HTTP/2 stream: a request on its way in, and its answer on its way out (RFC 9113, 5.1 and 8.1).

To a ``twisted.web`` request it is the channel that the answer is written to. What the client's window does not let out
stays here, and its producer is asked for more when all of it is gone. A stream that its client took back, or whose
connection is gone, swallows what is still written to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from h2.errors import ErrorCodes
from twisted.internet.interfaces import IConsumer, ISSLTransport
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from rapidrtmp.web.http2.connection import Http2Connection

__all__ = ["Http2Stream"]

#: What a client must take of an answer within the idle timeout, or the rest of it if that is less.
PROGRESS_BYTES = 16 << 10
#: How much is read, and thrown away, of a body that is too long.
WASTE_BYTES = 1 << 20
#: What an HTTP/1 message says of its connection; HTTP/2 has no such fields (RFC 9113, 8.2.2).
CONNECTION_FIELDS = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})

Fields = Sequence[tuple[bytes, bytes]]


@implementer(IConsumer)
class Http2Stream:
    """
    See the module.

    :param fields: the header section of the request.
    :param now_s: when that arrived.
    :ivar unsent: bytes that wait for the client.
    :ivar is_whole: all of the request has arrived.
    :ivar is_ended: all of the answer has been given.
    :ivar is_answered: all of it has been sent.
    :ivar waits_since_s: when the peer was last seen to do what this stream waits for, which is to send the rest of its
        request or to read its answer; ``None`` while it is we who have something to do.
    """

    def __init__(self, number: int, connection: Http2Connection, fields: Fields, now_s: float) -> None:
        self.number = number
        self.site = connection.site
        self.factory = connection.factory
        self.unsent = 0
        self.waits_since_s: float | None = now_s
        self.is_arriving = True
        self.is_whole = False
        self.is_ended = False
        self.is_answered = False
        self.is_gone = False
        self._connection = connection
        self._received = self._progress = 0
        self._began_s = now_s
        self._queue: deque[bytes | memoryview] = deque()
        self._producer: Any = None
        self._is_push = self._is_producing = False
        self._method = self._path = b""
        self._request = connection.requestFactory(self, queued=False)
        self._take_fields(fields)

    # ── the request ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _take_fields(self, fields: Fields) -> None:
        headers, length, authority = self._request.requestHeaders, None, None
        for name, value in fields:
            if not name.startswith(b":"):
                headers.addRawHeader(name, value)
                length = int(value) if name == b"content-length" else length
            elif name == b":method":
                self._method = value
            elif name == b":path":
                self._path = value
            elif name == b":authority":
                authority = value
        if authority is not None:
            headers.setRawHeaders(b"host", [authority])  # which are the same, where both are sent (8.3.1)
        self._request.gotLength(length)
        self._request.parseCookies()

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for leave to send the body."""
        return (self._request.getHeader(b"expect") or b"").lower() == b"100-continue"

    def receive_body(self, data: bytes, cost: int, limit: int) -> bool:
        """
        Keep a piece of the body; answer the request as soon as that is too long.

        :param cost: bytes of what was received, with its padding.
        :param limit: the longest body that is read.
        :returns: whether the client may continue: it may for a while, because some look for an answer only behind it.
        """
        self._received += cost
        if self.is_arriving:
            self._request.handleContentChunk(data)
        if self._received > limit:
            self._answer()
        return self._received <= limit + WASTE_BYTES

    def body_ended(self) -> None:
        """The request is whole: answer it."""
        self.is_whole = True
        self._answer()

    def _answer(self) -> None:
        if self.is_arriving:
            self.is_arriving = False
            self.waits_since_s = None
            self._request.requestReceived(self._method, self._path, b"HTTP/2")

    def answer_sent(self) -> None:
        """All of the answer went out; if the request is not whole by now, it is overdue as ever."""
        self.is_answered = True
        self.waits_since_s = self._began_s

    # ── the answer, as a request writes it ───────────────────────────────────────────────────────────────────────────

    def writeHeaders(self, _version: bytes, code: bytes, _reason: bytes, headers: Any) -> None:
        """Send the header section."""
        if not self.is_gone:
            fields = [
                (name.lower(), value)
                for name, values in headers.getAllRawHeaders()
                for value in values
                if name.lower() not in CONNECTION_FIELDS
            ]
            self._connection.send_headers(self, [(b":status", code), *fields])

    def write(self, data: bytes) -> None:
        """Send a piece of the body, when the client lets it out."""
        if self.is_gone or not data:
            return
        self._queue.append(data)
        self._keep(len(data))
        self._pause()
        self._connection.has_more(self)

    def writeSequence(self, pieces: Sequence[bytes]) -> None:
        """Send several."""
        for piece in pieces:
            self.write(piece)

    def requestDone(self, _request: Any) -> None:
        """All of the answer has been written."""
        self.is_ended = True
        self._connection.has_more(self)

    def loseConnection(self) -> None:
        """The answer broke off: let the client know that it is not whole."""
        self._connection.reset(self, ErrorCodes.INTERNAL_ERROR)

    abortConnection = loseConnection

    def _respondToBadRequestAndDisconnect(self) -> None:
        """The request finds that its body is no form; only that of Twisted before 25.5, which looks."""
        self._connection.reset(self, ErrorCodes.PROTOCOL_ERROR)

    # ── its producer ─────────────────────────────────────────────────────────────────────────────────────────────────

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Ask ``producer`` for the body, as the client reads it."""
        if self.is_gone:
            producer.stopProducing()
            return
        self._producer, self._is_push = producer, streaming
        self._is_producing = streaming
        if not self._connection.has_room(self):
            self._pause()
            self.note_waiting()
        self._connection.has_more(self)

    def unregisterProducer(self) -> None:
        """All that there is was given."""
        self._producer = None
        self._is_producing = False

    def _pause(self) -> None:
        if self._is_push and self._is_producing and self._producer is not None:
            self._is_producing = False
            self._producer.pauseProducing()

    @property
    def wants_more(self) -> bool:
        """Whether all that was given is sent, and there is more to ask for."""
        return not self._queue and self._producer is not None and not self._is_producing and not self.is_gone

    def ask(self) -> None:
        """Ask for more."""
        self.waits_since_s = None
        self._is_producing = self._is_push
        self._producer.resumeProducing()

    # ── the way out ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _keep(self, size: int) -> None:
        self.unsent += size
        self._connection.keep(size)
        self.note_waiting()

    def note_waiting(self) -> None:
        """From now on it is the client's turn."""
        if self.waits_since_s is None:
            self.waits_since_s, self._progress = self._connection.now_s(), 0

    def take(self, room: int) -> bytes:
        """Take up to ``room`` bytes to send."""
        piece = memoryview(self._queue.popleft())
        if len(piece) > room:
            self._queue.appendleft(piece[room:])
            piece = piece[:room]
        self.unsent -= len(piece)
        self._connection.keep(-len(piece))
        self._progress += len(piece)
        if not self._queue:
            self.waits_since_s = None
        elif self._progress >= PROGRESS_BYTES:
            self.waits_since_s, self._progress = self._connection.now_s(), 0
        return bytes(piece)

    def lose(self, reason: Failure) -> None:
        """Forget all of it: the client took it back, or is gone."""
        if self.is_gone:
            return
        self.is_gone = True
        self._connection.keep(-self.unsent)
        self.unsent = 0
        self._queue.clear()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        if not self.is_ended:
            self._request.connectionLost(reason)

    @property
    def has_watched(self) -> bool:
        """Whether media was sent on the connection before."""
        return self._connection.has_watched

    @has_watched.setter
    def has_watched(self, has_watched: bool) -> None:
        self._connection.has_watched = has_watched

    # ── what a request asks its channel ──────────────────────────────────────────────────────────────────────────────

    @property
    def transport(self) -> Any:
        """That of the connection, which all its streams share: to be asked, not to be written to."""
        return self._connection.transport

    def getPeer(self) -> Any:
        """The address of the other end."""
        return self.transport.getPeer()

    def getHost(self) -> Any:
        """The address of this end."""
        return self.transport.getHost()

    def isSecure(self) -> bool:
        """Whether TLS carries it."""
        return ISSLTransport(self.transport, None) is not None
