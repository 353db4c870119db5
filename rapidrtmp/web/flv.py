"""
Live streams as FLV, for players that ask for ``/APP/KEY.flv``: over HTTP/1.1, HTTP/2 and WebSocket.

Over HTTP/1 the connection belongs to the player once it is admitted: what it is sent is rendered once for all, and goes
to its socket without passing through the machinery of requests. Over HTTP/2, where many answers share a connection,
bytes are asked for as the client's window lets them out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.codec.flv_capabilities import WEB
from rapidrtmp.errors import NotFoundError, PeerProtocolError, RapidRTMPError
from rapidrtmp.http.errors import NotYetError
from rapidrtmp.http.headers import CORS
from rapidrtmp.http.params import MAX_QUERY_FIELDS
from rapidrtmp.http.websocket import (
    CLOSE,
    GOING_AWAY,
    NORMAL,
    PING,
    PONG,
    PROTOCOL_ERROR,
    ClientFrames,
    accept_key,
    wants_websocket,
    write_close,
    write_control,
)
from rapidrtmp.interfaces import BadRequestError, Request, Response, StreamedResponse
from rapidrtmp.metrics import Metrics
from rapidrtmp.names import StreamName
from rapidrtmp.play.follower import PullFollower, SocketFollower
from rapidrtmp.play.formats import Format, HttpChunks, Tags, WebSocketMessages
from rapidrtmp.play.players import Place, Players
from rapidrtmp.play.rendering import Ending, RenderingKey
from rapidrtmp.play.selection import Selection, read_selection
from rapidrtmp.playback.admission import Admission
from rapidrtmp.support.clock import now_ms

__all__ = ["FlvResponder", "SwitchedResponse"]

#: How often connections are looked at; and how often it is looked whether a player may still play.
WATCH_S, CHECK_MS = 1.0, 2_000
#: How long a connection that is closed may take to carry its last bytes.
CLOSE_WITHIN_S = 1.0
RETRY_S = 2
#: Live media: no cache may keep it, no proxy may gather it.
FIELDS = {**CORS, "Content-Type": "video/x-flv", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(frozen=True)
class SwitchedResponse(StreamedResponse):
    """
    An answer behind whose header something else speaks on the connection, where that carries one request at a time.

    :ivar switch: makes what speaks there; called with whether it is to speak in chunks of HTTP/1.1.
    """

    switch: Callable[[bool], Protocol] | None = field(default=None, repr=False)


class FlvResponder:
    """
    Answers requests for FLV.

    :param admission: admits viewers and counts them.
    """

    def __init__(self, players: Players, admission: Admission, clock: IReactorTime, metrics: Metrics) -> None:
        self.players = players
        self.admission = admission
        self.clock = clock
        self._metrics = metrics
        self._connections: set[_FlvConnection] = set()
        self._watch = LoopingCall(self._watch_all)
        self._watch.clock = clock

    def respond(self, request: Request, app: str, key: str) -> Deferred[Response]:
        """
        Answer ``GET /APP/KEY.flv``.

        Fails with ``NotFoundError`` if the stream does not come within a while, and with what
        :meth:`Admission.admit <rapidrtmp.playback.admission.Admission.admit>` raises.

        :raises BadNameError: there can be no such stream.
        :raises BadRequestError: it asks for WebSocket, and is no handshake.
        """
        name = StreamName.checked(app, key)
        request, parameters = _read_query(request)
        selection = read_selection(parameters)
        accepted = accept_key(request) if wants_websocket(request) else ""
        admitted = self.admission.admit(request, name)
        found = (
            self._find(name, parameters)
            if admitted is None
            else admitted.addCallback(lambda _: self._find(name, parameters))
        )
        return found.addCallback(self._answer, request, name, selection, accepted)

    def _find(self, name: StreamName, parameters: Mapping[str, str]) -> Deferred[Any]:
        def missed(failure: Failure) -> Any:
            failure.trap(NotFoundError)
            raise NotYetError(str(failure.value), RETRY_S)

        return self.players.find(name, parameters).addErrback(missed)

    def _answer(self, stream: Any, request: Request, name: StreamName, selection: Selection, accepted: str) -> Response:
        self.players.check(stream, WEB, selection)
        self.admission.check_again(request, name)
        viewed = self.players.streams.find(name)
        self.admission.begin(request, name, None)
        if viewed is not None:
            self.admission.check_seat(request, name, viewed.viewers, is_new=True)
        player = _FlvPlayer(self, stream, request, name, selection)
        self._metrics.plays_total.labels("accepted").inc()
        if accepted:
            fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accepted}
            return SwitchedResponse(101, fields, size=None, switch=lambda _: _WebSocketConnection(player))
        return SwitchedResponse(200, FIELDS, size=None, open=player.pull, switch=partial(_FlvConnection, player))

    def viewers_of(self, name: StreamName) -> Any:
        """Those of a stream; ``None`` if it is gone."""
        stream = self.players.streams.find(name)
        return None if stream is None else stream.viewers

    # ── connections ──────────────────────────────────────────────────────────────────────────────────────────────────

    def opened(self, connection: _FlvConnection) -> None:
        """Watch one more."""
        self._connections.add(connection)
        if not self._watch.running:
            self._watch.start(WATCH_S, now=False)

    def closed(self, connection: _FlvConnection) -> None:
        """Watch one less."""
        self._connections.discard(connection)
        if not self._connections and self._watch.running:
            self._watch.stop()

    def _watch_all(self) -> None:
        time_ms = now_ms(self.clock)
        for connection in tuple(self._connections):
            connection.watch(time_ms)


class _FlvPlayer:
    """One player: what it asked for, and its seat from when it is sent something until that ends."""

    def __init__(
        self, responder: FlvResponder, stream: Any, request: Request, name: StreamName, selection: Selection
    ) -> None:
        self.responder = responder
        self.request = request
        self.name = name
        self._stream = stream
        self._selection = selection
        self._leave_seat: Callable[[], None] = lambda: None
        self._place: Place | None = None
        self._follower: Any = None

    def begin(self, follower: SocketFollower | PullFollower, protocol: str, format: Format) -> None:
        """Take the seat, and follow the stream."""
        responder = self.responder
        viewers = responder.viewers_of(self.name)
        if viewers is not None:
            self._leave_seat = responder.admission.enter(self.request, self.name, viewers)
        self._follower = follower
        self._place = responder.players.join(self._stream, protocol, follower)
        follower.follow(self._place.choose(RenderingKey(format, WEB, self._selection)))

    def leave(self, ending: Ending) -> None:
        """Give up the place, and the seat; further calls change nothing."""
        place, self._place = self._place, None
        if place is not None:
            place.leave()
            follower = self._follower
            self.responder.players.ended(ending, skips=follower.skips, sent_bytes=follower.sent_bytes)
        leave_seat, self._leave_seat = self._leave_seat, lambda: None
        leave_seat()

    async def pull(self) -> AsyncIterator[bytes]:
        """What the player is sent, as it asks for it."""
        responder = self.responder
        follower = PullFollower(responder.clock, responder.players.policy)
        checked_ms = now_ms(responder.clock)
        try:
            self.begin(follower, "http", Tags())
            while data := await follower.next():
                yield data
                responder.admission.sent(self.name, len(data))
                if now_ms(responder.clock) - checked_ms >= CHECK_MS:
                    checked_ms = now_ms(responder.clock)
                    responder.admission.check_again(self.request, self.name)
        finally:
            self.leave(follower.ending or Ending("the player left"))


class _FlvConnection(Protocol):
    """
    A connection over HTTP/1 that is sent FLV, up to its end.

    :cvar has_asked: what a channel is asked for: a whole request has come, and it is being answered.
    :cvar protocol: what it is counted as.
    """

    has_asked, is_idle = True, False
    _log = Logger()
    transport: Any

    protocol = "http"

    def __init__(self, player: _FlvPlayer, is_chunked: bool) -> None:
        self._player = player
        self._format: Format = HttpChunks() if is_chunked else Tags()
        self._last_words = b"0\r\n\r\n" if is_chunked else b""
        self._follower: SocketFollower | None = None
        self._seen_bytes = 0
        self._checked_ms = 0
        self._abort: IDelayedCall | None = None
        self._is_over = False

    def connectionMade(self) -> None:
        """Begin."""
        responder = self._player.responder
        responder.opened(self)
        self._checked_ms = now_ms(responder.clock)
        self._follower = SocketFollower(self.transport, responder.clock, responder.players.policy, self.finish)
        try:
            self._player.begin(self._follower, self.protocol, self._format)
        except RapidRTMPError as error:  # it was looked at before the header went out, in the same turn
            self.finish(Ending(str(error), is_regular=False))

    def dataReceived(self, data: bytes) -> None:
        """Nothing is expected: what comes is dropped."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The player has left, or is gone."""
        del reason
        if self._abort is not None and self._abort.active():
            self._abort.cancel()
        self._is_over = True
        if self._follower is not None:
            self._follower.stopProducing()
        self._player.responder.closed(self)
        self._player.leave(Ending("the player left"))

    def watch(self, time_ms: int) -> None:
        """See whether the player still takes what it is sent, and still may."""
        follower, admission = self._follower, self._player.responder.admission
        if follower is None or self._is_over:
            return
        follower.watch(time_ms)
        admission.sent(self._player.name, follower.sent_bytes - self._seen_bytes)
        self._seen_bytes = follower.sent_bytes
        if time_ms - self._checked_ms >= CHECK_MS and not self._is_over:
            self._checked_ms = time_ms
            try:
                admission.check_again(self._player.request, self._player.name)
            except RapidRTMPError as error:
                self.finish(Ending(str(error), is_regular=False))

    def last_words(self, ending: Ending) -> bytes:
        """What ends the answer."""
        del ending
        return self._last_words

    def finish(self, ending: Ending) -> None:
        """Say that nothing more follows, and close."""
        if self._is_over:
            return
        self._is_over = True
        if not ending.is_regular:
            self._log.info(
                "{stream}: closing the connection to {peer}: {reason}",
                stream=self._player.name,
                peer=self._player.request.client,
                reason=ending.reason,
            )
        if self._follower is not None:
            self._follower.close()
        self._player.leave(ending)
        self.transport.write(self.last_words(ending))
        self.transport.loseConnection()
        self._abort = self._player.responder.clock.callLater(CLOSE_WITHIN_S, self.transport.abortConnection)

    def forceAbortClient(self) -> None:
        """The server closes what is open still."""
        self.transport.abortConnection()


class _WebSocketConnection(_FlvConnection):
    """A connection that speaks WebSocket: binary messages out, control frames in."""

    protocol = "websocket"

    def __init__(self, player: _FlvPlayer) -> None:
        super().__init__(player, is_chunked=False)
        self._format = WebSocketMessages()
        self._frames = ClientFrames()

    def dataReceived(self, data: bytes) -> None:
        """Answer pings, and the wish to close."""
        if self._is_over:
            return
        self._frames.receive_data(data)
        try:
            for frame in self._frames.events():
                if frame.opcode == PING:
                    self.transport.write(write_control(PONG, frame.payload))
                elif frame.opcode == CLOSE:
                    self._close(NORMAL, "")
                    return
        except PeerProtocolError as error:
            self._close(PROTOCOL_ERROR, str(error))

    def _close(self, status: int, reason: str) -> None:
        self._status = status
        self.finish(Ending(reason))

    _status = 0

    def last_words(self, ending: Ending) -> bytes:
        """The frame that closes."""
        return write_close(self._status or (NORMAL if ending.is_regular else GOING_AWAY), ending.reason)


def _read_query(request: Request) -> tuple[Request, Mapping[str, str]]:
    """
    The request with the token that its query may hold, for WebSocket follows no redirect; and what else that holds.

    :raises BadRequestError: the query has too many fields.
    """
    try:
        fields = dict(parse_qsl(request.query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS))
    except ValueError as error:
        raise BadRequestError(f"the query has more than {MAX_QUERY_FIELDS} fields") from error
    token = fields.pop("token", "")
    if "token=" in request.query:
        request = replace(request, token=request.token or token, query=urlencode(fields))
    return request, fields
