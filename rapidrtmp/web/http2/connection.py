"""
HTTP/2 connections, each of which costs no more than it is worth (RFC 9113, 10.5).

``h2`` knows the protocol; here is what its user has to decide. In turn, and within the time that all connections of the
site share in one turn of the reactor: cut off a frame, charge for it, let ``h2`` read it, do what it means; then send
what the windows let out. Nothing here runs because time has passed, but one timer that looks for what is overdue.

What a client does not read waits in its stream, up to a piece of the answer in each, up to ``MAX_UNSENT_BYTES`` on a
connection before producers are held back; and a connection whose transport is full is read no further. What all of them
make wait is bounded too: the connection that holds most is closed. After an error nothing more is read or kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import DenialOfServiceError, InvalidBodyLengthError, ProtocolError
from h2.settings import SettingCodes, Settings
from prometheus_client.core import GaugeMetricFamily, Metric
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from rapidrtmp.errors import PeerProtocolError
from rapidrtmp.http.addresses import UNIX_PEER
from rapidrtmp.net.read_budget import BudgetedReader
from rapidrtmp.web.abuse import Abuse, AbuseKind
from rapidrtmp.web.http2.frames import Allowance, Frame, FrameCutter, FrameTooLongError, FrameType, cost_of
from rapidrtmp.web.http2.stream import Fields, Http2Stream
from rapidrtmp.web.policy import HttpPolicy
from rapidrtmp.web.site import HEADER_S, MAX_HEADER_BYTES, MAX_HEADERS

__all__ = ["Http2", "Http2Connection"]

#: Requests that one connection may have open (announced, and kept to).
MAX_STREAMS = 100
#: What streams of one connection hold unsent before their producers wait, and what all connections may hold.
MAX_UNSENT_BYTES = 1 << 20
MAX_UNSENT_BYTES_IN_ALL = 64 << 20
#: The header section of a request, reckoned as 6.5.2 has it: 32 for each field.
MAX_HEADER_LIST_BYTES = MAX_HEADER_BYTES + 32 * MAX_HEADERS
#: How much of the streams that are closed is remembered.
CLOSED_STREAMS = 1024
#: The largest table that fields of answers are compressed with, whatever the client could bear.
HEADER_TABLE_BYTES = 4096

#: Frames that ask for nothing: how many at once, and in a second; what a whole answer earns, and what the body does.
FRAMES, FRAMES_PER_S = 256, 20
FRAMES_PER_ANSWER, BYTES_PER_FRAME = 16, 2048
#: Requests that the client takes back, be they answered by then or not, or has us take back.
RESETS, RESETS_PER_S, RESETS_PER_ANSWER = 200, 20, 0.5

#: What goes into one frame, and what one connection sends in one turn.
FRAME_BYTES = 16 << 10
TURN_BYTES = 64 << 10
#: How long a connection that is closed may take to be gone: to tell why; to read what it asked for.
TELL_S, CLOSE_S = 0.25, 15.0


class _ShortMemory(H2Connection):
    MAX_CLOSED_STREAMS = CLOSED_STREAMS


class Http2:
    """
    What all HTTP/2 connections of a site share.

    :param clock: time and timers.
    :param abuse: notes clients that are refused below the level of requests.
    :ivar unsent: bytes of answers that clients have not read yet.
    """

    def __init__(self, policy: HttpPolicy, clock: IReactorTime, abuse: Abuse) -> None:
        self.policy = policy
        self.clock = clock
        self.abuse = abuse
        self.unsent = 0
        self.connections: set[Http2Connection] = set()

    def connection(self, requestFactory: Callable[..., Any], site: Any, factory: Any) -> Http2Connection:
        """Speak HTTP/2 on one connection."""
        return Http2Connection(self, requestFactory, site, factory)

    def keep(self, size: int) -> None:
        """Count what is held, or no more if ``size`` is negative, and make room if it is too much."""
        self.unsent += size
        while self.unsent > MAX_UNSENT_BYTES_IN_ALL and self.connections:
            largest = max(self.connections, key=lambda connection: connection.unsent)
            largest.refuse(AbuseKind.STALLED, ErrorCodes.ENHANCE_YOUR_CALM)

    def metrics(self) -> list[Metric]:
        """For a scrape."""
        return [
            GaugeMetricFamily("rapidrtmp_http2_connections", "HTTP/2 connections", len(self.connections)),
            GaugeMetricFamily(
                "rapidrtmp_http2_unsent_bytes", "Bytes of answers that HTTP/2 clients have not let out", self.unsent
            ),
        ]


@implementer(IPushProducer)
class Http2Connection(Protocol, BudgetedReader):
    """
    One connection.

    :param requestFactory: makes a ``twisted.web`` request for a channel.
    :ivar unsent: bytes that wait in its streams.
    :ivar used_s: how long has been spent on it so far.
    :ivar has_watched: whether media was sent.
    """

    used_s = 0.0
    has_watched = False

    def __init__(self, shared: Http2, requestFactory: Callable[..., Any], site: Any, factory: Any) -> None:
        self.requestFactory = requestFactory
        self.site = site
        self.factory = factory
        self.unsent = 0
        self._shared = shared
        self._peer = UNIX_PEER
        self._frames = FrameCutter()
        self._h2 = _make_h2()
        self._streams: dict[int, Http2Stream] = {}
        self._ready: dict[Http2Stream, None] = {}
        self._asked_s = now_s = self.now_s()
        self._frame_allowance = Allowance(FRAMES, FRAMES_PER_S, now_s)
        self._reset_allowance = Allowance(RESETS, RESETS_PER_S, now_s)
        self._blocked_since_s: float | None = None
        self._owed_since_s: float | None = None
        self._is_busy = self._is_over = self._is_held = self._is_deaf = False
        self._watch: IDelayedCall | None = None
        self._sending: IDelayedCall | None = None
        self._reactions: dict[type[Event], Callable[[Any], None]] = {
            RequestReceived: self._request_received,
            DataReceived: self._data_received,
            StreamEnded: self._request_ended,
            StreamReset: self._stream_reset,
            WindowUpdated: self._window_updated,
            RemoteSettingsChanged: self._settings_changed,
            ConnectionTerminated: self._client_leaves,
        }

    @property
    def has_asked(self) -> bool:
        """Whether a request has come."""
        return bool(self._h2.highest_inbound_stream_id)

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return not self._streams

    def now_s(self) -> float:
        """The time."""
        return self._shared.clock.seconds()

    # ── what the transport calls ─────────────────────────────────────────────────────────────────────────────────────

    def connectionMade(self) -> None:
        """The connection is there, and speaks HTTP/2."""
        self._peer = getattr(self.transport.getPeer(), "host", UNIX_PEER)  # type: ignore[union-attr]
        self._shared.connections.add(self)
        self._h2.initiate_connection()
        self._flush()
        self._watch = self._shared.clock.callLater(self._timeout_s, self._look)

    def dataReceived(self, data: bytes) -> None:
        """Read it when it is this connection's turn."""
        if not self._is_over:
            self._frames.receive_data(data)
            self._read_on()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        self._finish(reason)
        for call in (self._watch, self._sending):
            if call is not None and call.active():
                call.cancel()

    def pauseProducing(self) -> None:
        """The transport holds enough: the client must read now, and is not read itself before it has."""
        if self._blocked_since_s is None:
            self._blocked_since_s = self.now_s()
            self._listen_or_not()

    def resumeProducing(self) -> None:
        """The client has read it."""
        self._blocked_since_s = None
        self._listen_or_not()
        self._send()
        self._read_on()

    def stopProducing(self) -> None:
        """The transport is gone; ``connectionLost`` follows."""

    # ── turns ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _read_on(self) -> None:
        if self._frames and not self._is_held and self._may_read:
            self.site.read_budget.serve(self)

    @property
    def _may_read(self) -> bool:
        return not self._is_over and self._blocked_since_s is None

    def read_until(self, until_s: float) -> bool:
        """Do what frames ask, until the time is up or there are no more; tell whether there are no more."""
        self._is_busy = True
        try:
            is_done = self._take_frames(until_s)
        except FrameTooLongError:
            self.refuse(AbuseKind.OVERSIZED, ErrorCodes.FRAME_SIZE_ERROR)
            return True
        except PeerProtocolError:
            self.refuse(AbuseKind.MALFORMED, ErrorCodes.PROTOCOL_ERROR)
            return True
        finally:
            self._is_busy = False
        self._send()
        return is_done

    def _take_frames(self, until_s: float) -> bool:
        while self._may_read:
            frame = self._frames.next_frame()
            if frame is None:
                self._note_owed()
                return True
            self._take(frame)
            if self.now_s() >= until_s and self._may_read and self._frames:
                return False
        return True

    def _note_owed(self) -> None:
        """Note since when the client has owed the rest of what it began, and see to it that it is not owed for long."""
        if not self._frames.is_owed_more:
            self._owed_since_s = None
        elif self._owed_since_s is None:
            self._owed_since_s = self.now_s()
            if self._watch is not None and self._watch.active():
                self._watch.reset(min(self._header_s, max(self._watch.getTime() - self.now_s(), 0)))

    def pause_reading(self) -> None:
        """Take in no more for now."""
        self._is_held = True
        self._listen_or_not()

    def resume_reading(self) -> None:
        """Take in more again."""
        self._is_held = False
        self._listen_or_not()

    def _listen_or_not(self) -> None:
        """Have the transport read, or not."""
        is_deaf = self._is_held or not self._may_read
        if is_deaf != self._is_deaf:
            self._is_deaf = is_deaf
            transport: Any = self.transport
            transport.pauseProducing() if is_deaf else transport.resumeProducing()

    # ── frames in ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _take(self, frame: Frame) -> None:
        cost = cost_of(frame, is_for_open_stream=frame.stream in self._streams)
        if not self._frame_allowance.spend(cost, self.now_s()):
            self.refuse(AbuseKind.FLOODING, ErrorCodes.ENHANCE_YOUR_CALM)
            return
        if frame.type == FrameType.RST_STREAM and not self._may_reset():
            return
        try:
            events = self._h2.receive_data(frame.data)
        except DenialOfServiceError:
            self.refuse(AbuseKind.OVERSIZED, ErrorCodes.ENHANCE_YOUR_CALM)
            return
        except ProtocolError as error:
            is_half_right = isinstance(error, InvalidBodyLengthError)
            self.refuse(AbuseKind.BAD if is_half_right else AbuseKind.MALFORMED, error.error_code)
            return
        except Exception as error:  # whatever frame h2 did not expect: it is its sender's
            raise PeerProtocolError("a frame that makes no sense") from error
        for event in events:
            react = self._reactions.get(type(event))
            if react is not None and not self._is_over:
                react(event)

    def _request_received(self, event: RequestReceived) -> None:
        fields: Fields = event.headers
        number = event.stream_id
        if len(fields) > MAX_HEADERS:
            self._decline(event, AbuseKind.OVERSIZED, b"431")
        elif not any(name == b":path" for name, _ in fields):  # CONNECT, and it is no proxy that is asked
            self._decline(event, AbuseKind.BAD, b"405")
        else:
            stream = self._streams[number] = Http2Stream(number, self, fields, self.now_s())
            if stream.expects_continue and event.stream_ended is None:
                self._h2.send_headers(number, [(b":status", b"100")])

    def _decline(self, event: RequestReceived, kind: AbuseKind, status: bytes) -> None:
        """Answer a request that does not become one of ours."""
        self._shared.abuse.note(kind, self._peer)
        self._h2.send_headers(event.stream_id, [(b":status", status)], end_stream=True)
        if event.stream_ended is None:
            self._close_stream(event.stream_id, ErrorCodes.NO_ERROR)
        self._may_reset()

    def _data_received(self, event: DataReceived) -> None:
        stream = self._streams.get(event.stream_id)
        size = event.flow_controlled_length or 0
        if stream is not None and not stream.receive_body(event.data or b"", size, self._shared.policy.max_body_bytes):
            self.reset(stream, ErrorCodes.NO_ERROR)
        self._h2.acknowledge_received_data(size, event.stream_id)

    def _request_ended(self, event: StreamEnded) -> None:
        stream = self._streams.get(event.stream_id)
        self._asked_s = self.now_s()
        if stream is not None:
            stream.body_ended()
            self._forget_if_done(stream)

    def _stream_reset(self, event: StreamReset) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            self._forget(stream, ConnectionLost("the client took the request back"))
            if not event.remote_reset:
                self._may_reset()

    def _may_reset(self) -> bool:
        """Charge for a request that is taken back; the connection is closed if it takes back too many."""
        if self._reset_allowance.spend(1, self.now_s()):
            return True
        self.refuse(AbuseKind.RESETTING, ErrorCodes.ENHANCE_YOUR_CALM)
        return False

    def _window_updated(self, event: WindowUpdated) -> None:
        if not event.stream_id:
            self._wake_all()
        elif event.stream_id in self._streams:
            self.has_more(self._streams[event.stream_id])

    def _settings_changed(self, event: RemoteSettingsChanged) -> None:
        if SettingCodes.HEADER_TABLE_SIZE in event.changed_settings:
            encoder = self._h2.encoder
            encoder.header_table_size = min(encoder.header_table_size, HEADER_TABLE_BYTES)
        if SettingCodes.INITIAL_WINDOW_SIZE in event.changed_settings:
            self._wake_all()

    def _client_leaves(self, _event: ConnectionTerminated) -> None:
        self._close(ErrorCodes.NO_ERROR)

    # ── what streams call ────────────────────────────────────────────────────────────────────────────────────────────

    def send_headers(self, stream: Http2Stream, fields: Fields) -> None:
        """Send the header section of an answer."""
        self._h2.send_headers(stream.number, fields)
        self._send_soon()

    def keep(self, size: int) -> None:
        """Count what a stream holds, or no more if ``size`` is negative."""
        self.unsent += size
        self._shared.keep(size)

    def has_room(self, stream: Http2Stream) -> bool:
        """Whether an answer's next piece could go out, or wait here."""
        return self._window(stream) > 0 and self.unsent < MAX_UNSENT_BYTES

    def has_more(self, stream: Http2Stream) -> None:
        """A stream may have something to send, or to be asked for."""
        if not stream.is_gone and not self._is_over:
            self._ready[stream] = None
            self._send_soon()

    def reset(self, stream: Http2Stream, code: ErrorCodes) -> None:
        """End a stream whose answer cannot be whole."""
        if not stream.is_gone:
            self._close_stream(stream.number, code)
            self._forget(stream, ConnectionLost("the stream was reset"))
            self._send_soon()

    # ── frames out ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _window(self, stream: Http2Stream) -> int:
        return self._h2.local_flow_control_window(stream.number)

    def _wake_all(self) -> None:
        for stream in self._streams.values():
            self.has_more(stream)

    def _send_soon(self) -> None:
        """Send when all that is said now is said, so that it goes out together."""
        if not self._is_busy and not self._is_over and self._sending is None:
            self._sending = self._shared.clock.callLater(0, self._send_now)

    def _send_now(self) -> None:
        self._sending = None
        self._send()

    def _send(self) -> None:
        """Send what the windows let out, of each stream a frame in turn, until the transport has enough."""
        left, self._is_busy = TURN_BYTES, True
        while self._ready and left > 0 and self._may_read:
            stream = next(iter(self._ready))
            del self._ready[stream]
            left -= self._send_frame_of(stream)
            self._flush()
        self._is_busy = False
        self._flush()
        if self._ready and self._may_read:
            self._send_soon()

    def _send_frame_of(self, stream: Http2Stream) -> int:
        """Send one, and put the stream behind the others if it may have more; how many bytes of its answer that was."""
        size = 0
        room = min(self._window(stream), FRAME_BYTES, self._h2.max_outbound_frame_size)
        if stream.unsent and room > 0:
            piece = stream.take(room)
            size = len(piece)
            if stream.is_ended and not stream.unsent:
                self._h2.send_data(stream.number, piece, end_stream=True)
                self._complete(stream)
                return size
            self._h2.send_data(stream.number, piece)
            self._frame_allowance.earn(size / BYTES_PER_FRAME)
            self._ready[stream] = None
        elif stream.wants_more:
            if self.has_room(stream):
                stream.ask()
            else:
                stream.note_waiting()
        if stream.is_ended and not stream.unsent and not stream.is_answered:
            self._h2.end_stream(stream.number)
            self._complete(stream)
        return size

    def _complete(self, stream: Http2Stream) -> None:
        """Be done with a stream whose answer is sent."""
        stream.answer_sent()
        self._asked_s = self.now_s()
        self._frame_allowance.earn(FRAMES_PER_ANSWER)
        self._reset_allowance.earn(RESETS_PER_ANSWER)
        self._forget_if_done(stream)

    def _forget_if_done(self, stream: Http2Stream) -> None:
        """A request that was answered before it was whole is read, and thrown away, for a while."""
        if stream.is_answered and stream.is_whole:
            self._forget(stream, ConnectionDone())

    def _close_stream(self, number: int, code: ErrorCodes) -> None:
        try:
            self._h2.reset_stream(number, code)
        except ProtocolError:  # both sides have ended it already
            return

    def _forget(self, stream: Http2Stream, why: Exception) -> None:
        self._streams.pop(stream.number, None)
        self._ready.pop(stream, None)
        was_crowded = self.unsent >= MAX_UNSENT_BYTES
        stream.lose(Failure(why))
        if was_crowded:
            self._wake_all()

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and self.transport is not None:
            self.transport.write(data)

    # ── what is overdue ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _timeout_s(self) -> float:
        return self._shared.policy.idle_timeout_s

    @property
    def _header_s(self) -> float:
        """How long a header block may take to arrive."""
        return min(HEADER_S, self._timeout_s)

    def _look(self) -> None:
        """Look for what is overdue, and when to look again: one timer does for all that is waited for."""
        self._watch = None
        overdue_s = self.now_s() - self._timeout_s
        if self._owed_since_s is not None and self.now_s() - self._owed_since_s >= self._header_s and self._may_read:
            self.refuse(AbuseKind.SLOW, ErrorCodes.ENHANCE_YOUR_CALM)
            return
        if self._blocked_since_s is not None and self._blocked_since_s <= overdue_s:
            self.refuse(AbuseKind.STALLED, ErrorCodes.CANCEL)
            return
        for stream in list(self._streams.values()):
            if stream.waits_since_s is not None and stream.waits_since_s <= overdue_s:
                self._give_up(stream)
        if not self._streams and self._asked_s <= overdue_s:
            self._close(ErrorCodes.NO_ERROR)
        elif not self._is_over:
            oldest_s = min(self._deadlines(), default=self.now_s())
            self._watch = self._shared.clock.callLater(max(oldest_s - overdue_s, 0), self._look)

    def _deadlines(self) -> list[float]:
        waits = [stream.waits_since_s for stream in self._streams.values()]
        if not self._streams:
            waits.append(self._asked_s)
        if self._owed_since_s is not None and self._may_read:
            waits.append(self._owed_since_s + self._header_s - self._timeout_s)
        return [since_s for since_s in (*waits, self._blocked_since_s) if since_s is not None]

    def _give_up(self, stream: Http2Stream) -> None:
        kind = AbuseKind.STALLED if stream.is_whole else AbuseKind.SLOW
        self._shared.abuse.note(kind, self._peer)
        self.reset(stream, ErrorCodes.CANCEL)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def refuse(self, kind: AbuseKind, code: int) -> None:
        """Say why, and go: from now on nothing is read or kept."""
        if not self._is_over:
            self._shared.abuse.note(kind, self._peer)
            self._goodbye(code)
            self._listen_or_not()
            self._abort_after(TELL_S)

    def _close(self, code: int) -> None:
        """Go without a quarrel."""
        if not self._is_over:
            self._goodbye(code)
            self.transport.loseConnection()  # type: ignore[union-attr]
            self._abort_after(CLOSE_S)

    def _goodbye(self, code: int) -> None:
        transport: Any = self.transport
        self._h2.clear_outbound_data_buffer()
        self._h2.close_connection(code)
        self._flush()
        transport.unregisterProducer()
        self._finish(Failure(ConnectionLost("the connection is closed")))

    def _finish(self, reason: Failure) -> None:
        """Keep nothing."""
        self._is_over = True
        self._frames.clear()
        self._ready.clear()
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.lose(reason)
        self._shared.connections.discard(self)

    def _abort_after(self, seconds: float) -> None:
        if self._watch is not None and self._watch.active():
            self._watch.cancel()
        transport: Any = self.transport
        self._watch = self._shared.clock.callLater(seconds, transport.abortConnection)


def _make_h2() -> H2Connection:
    """One side of the protocol, with our bounds."""
    h2 = _ShortMemory(H2Configuration(client_side=False, header_encoding=None))
    h2.local_settings = Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST_BYTES,
        },
    )
    h2.decoder.max_header_list_size = MAX_HEADER_LIST_BYTES
    return h2
