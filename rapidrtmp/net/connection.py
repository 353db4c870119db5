"""
One RTMP connection: carries bytes between its transport and its session, and keeps its deadlines.

What the connection is (waiting, a publisher) is its role, another object (``role.py``). No read sets or cancels a
timer: the factory (``factory.py``) has every connection look at its deadlines four times a second.

A connection that does not publish is pending: it is read in small pieces, within a budget that all pending connections
share, and is the first to be closed when there are too many (``pending_connections.py``, ``read_budget.py``). A
publisher is read at once, unless its messages are so small that they cost more than they carry.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import implementer

from rapidrtmp.errors import PeerProtocolError
from rapidrtmp.net.limits import ConnectionLimits
from rapidrtmp.net.low_water import NO_MARK
from rapidrtmp.net.pending_connections import PendingConnection, Stage
from rapidrtmp.net.read_budget import BudgetedReader
from rapidrtmp.net.role import Role
from rapidrtmp.rtmp.events import Event
from rapidrtmp.rtmp.session import ServerSession, State
from rapidrtmp.support.client_prefix import origin_of
from rapidrtmp.support.clock import now_ms

if TYPE_CHECKING:
    from rapidrtmp.net.factory import RtmpServerFactory

__all__ = ["ConnectionState", "RtmpConnection"]

#: How long a closing connection may take to carry the last message.
CLOSE_WITHIN_S = 1.0
#: How long a publisher that is disconnected has to read why. It writes all the time: on a socket that is closed at once
#: its next write would fail, and FFmpeg, which looks for answers after every tenth packet, would report that alone.
LINGER_S = 0.5
#: How much is read at a time within the budget, and from a publisher. In the budget a byte may cost a microsecond.
BUDGETED_READ_BYTES, FREE_READ_BYTES = 4096, 65_536
#: More than all that we ever have to say to a peer that reads it.
MOST_UNREAD_BYTES = 65_536
#: How many events of one read of a publisher are processed at once. Pictures and audio are larger than this many make
#: of a full read; what sends more in one has messages so small that they cost more than they carry.
FREE_EVENTS = 32
#: A publisher whose chunks are smaller is read within the budget.
LEAST_FREE_CHUNK_SIZE = 128


class ConnectionState(enum.Enum):
    """Where a connection stands; see :class:`RtmpConnection`."""

    PENDING = "pending"
    ACTIVE = "active"
    CLOSING = "closing"


_ACTIVE, _CLOSING = ConnectionState.ACTIVE, ConnectionState.CLOSING


@implementer(IPushProducer)
class RtmpConnection(Protocol, PendingConnection, BudgetedReader):
    """
    Carries bytes between one transport and one :class:`~rapidrtmp.rtmp.session.ServerSession`.

    | state | how it is read | what follows |
    |---|---|---|
    | PENDING | 4 KiB at a time, within the budget | ACTIVE with a role that is not pending; CLOSING |
    | ACTIVE | 64 KiB at a time, at once | PENDING when its publish ends; CLOSING |
    | CLOSING | not at all; the last words are on their way, or it is gone | nothing |

    :ivar peer: its network address, without the port.
    :ivar role: reacts to the session's events.
    :ivar session: what the bytes mean.
    :ivar heard_ms: when the latest bytes arrived, by the server's clock.
    """

    _log = Logger()
    factory: RtmpServerFactory
    transport: Any
    role: Role

    def __init__(self, session: ServerSession, clock: IReactorTime, peer: str) -> None:
        """Begin, pending and without a role."""
        self.session = session
        self.peer = peer
        self.client_prefix = origin_of(peer)
        self.stage = Stage.SILENT
        self.used_s = 0.0
        self.heard_ms = now_ms(clock)
        self._clock = clock
        self._state = ConnectionState.PENDING
        self._end: IDelayedCall | None = None  # of the socket, when it is being closed
        self._is_pinged = False
        self._is_costly = False
        self._read_size = 0
        self._unread: Iterator[Event] | None = None
        self._pauses = 0
        self._mark = self._mark_in_force = NO_MARK
        self._backlog: int | None = None  # bytes that the transport holds at least, while it holds many
        self._stage_since_ms = self._judged_since_ms = self.heard_ms

    @property
    def is_closing(self) -> bool:
        """Whether no more is taken of the peer."""
        return self._state is _CLOSING

    @property
    def is_paused(self) -> bool:
        """Whether its socket is not read at present."""
        return self._pauses > 0

    # ── Twisted calls ────────────────────────────────────────────────────────────────────────────────────────────────

    def connectionMade(self) -> None:
        """Begin."""
        if ITCPTransport.providedBy(self.transport):  # a UNIX socket has no such options
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
        self._set_read_size(BUDGETED_READ_BYTES)
        self.transport.registerProducer(self, True)
        self.factory.opened(self)

    def dataReceived(self, data: bytes) -> None:
        """Read what it means, do it, answer."""
        if self._state is _CLOSING:
            return
        self.heard_ms = now_ms(self._clock)
        self._is_pinged = False
        self.factory.received_bytes += len(data)
        self.session.receive_data(data)
        if self._state is _ACTIVE and self._unread is None and not self._is_costly:
            self._read_freely()
        else:
            self.factory.read_budget.serve(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Free the name, however the end came."""
        del reason  # a FIN, a reset and a timeout are one to us
        self._state = _CLOSING
        if self._end is not None and self._end.active():
            self._end.cancel()
        try:
            self.role.leave()
        finally:
            self.factory.closed(self)

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _read_freely(self) -> None:
        """Process what has arrived at once; what is left of many small messages waits for its share of the budget."""
        session = self.session
        events = session.events()
        self._react_to(islice(events, FREE_EVENTS))
        if not session.is_read and self._state is not _CLOSING:
            self._unread = events
            self.factory.read_budget.serve(self)
        if session.chunk_size < LEAST_FREE_CHUNK_SIZE:
            self._is_costly = True
            self._set_read_size(BUDGETED_READ_BYTES)
        if self._mark != NO_MARK and session.is_within_message is (self._mark_in_force != NO_MARK):
            self._put_mark_in_force()

    def _set_read_size(self, size: int) -> None:
        """Read so many bytes at a time from the socket, whatever is between it and us: TLS."""
        transport = self.transport
        while isinstance(transport, ProtocolWrapper):
            transport = transport.transport
        transport.bufferSize = self._read_size = size

    def read_until(self, until_s: float) -> bool:
        """Process what has arrived until the clock says ``until_s``; tell whether all is (``ReadBudget`` asks)."""
        if self._state is not _CLOSING:
            events = self._unread or self.session.events()
            self._unread = None
            self._react_to(self._within_budget(events, until_s))
            if self._mark != NO_MARK:
                self._put_mark_in_force()
            stage = Stage.HANDSHAKING if self.session.state is State.HANDSHAKING else Stage.READY
            if stage is not self.stage:
                self.factory.pending_connections.reached(self, stage)
                self._stage_since_ms = self.heard_ms if stage is Stage.READY else self._stage_since_ms
        return self._unread is None or self._state is _CLOSING

    def _within_budget(self, events: Iterator[Event], until_s: float) -> Iterator[Event]:
        for event in events:
            yield event
            if self._clock.seconds() >= until_s:
                self._unread = events
                return

    def _react_to(self, events: Iterable[Event]) -> None:
        """React to events, then answer; whatever goes wrong ends this connection and nothing else."""
        heard_ms = self.heard_ms
        try:
            for event in events:
                self.role.react(event, heard_ms)
                if self._state is _CLOSING:
                    return
        except PeerProtocolError as error:
            self.factory.metrics.rtmp_protocol_errors_total.inc()
            if self._is_first("protocol error"):
                self._log.warn("{peer}: RTMP protocol error: {error}", peer=self.peer, error=error)
            self.close()
        except Exception:
            self.fail()
        else:
            answer = self.session.data_to_send()
            if answer:
                self.transport.write(answer)

    def read_held(self) -> None:
        """React to what the session held until a publish was decided; called when that was not decided at once."""
        if self._state is _ACTIVE and self._unread is None:
            self._read_freely()
        else:
            self.flush()

    def pause_reading(self) -> None:
        """Leave in the socket what arrives from now on, until ``resume_reading`` was called as often."""
        self._pauses += 1
        if self._pauses == 1:
            self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """Take back one ``pause_reading``."""
        self._pauses -= 1
        if not self._pauses and self._state is not _CLOSING:
            self.transport.resumeProducing()

    def set_low_water_mark(self, size: int) -> None:
        """
        Read no sooner than ``size`` bytes are there (or the peer has closed), where the socket has such an option.

        More than one TCP segment's it must be. What is left unread is acknowledged late, and an encoder with Nagle's
        algorithm on (FFmpeg) sends what does not fill a segment only when all before it has been acknowledged: where a
        segment holds 64 KB, as on loopback, audio that waits for a picture would make that picture wait for 40 ms. (So
        the RTMP ports ask for Ethernet's: ``server/listeners.py``.)
        """
        handle = self._socket()
        if handle is not None:
            with suppress(OSError):  # a system that does not know the option reads at once
                size = size if size > handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) else NO_MARK
                self._mark = size
                self._put_mark_in_force()

    def _put_mark_in_force(self) -> None:
        """
        Set the mark, or take it off while a message is not whole.

        A picture may come in pieces, over a slow line or from behind Nagle's algorithm: what is left of it can be less
        than the mark, and must not wait for the picture behind it.
        """
        mark = NO_MARK if self.session.is_within_message else self._mark
        if mark == self._mark_in_force:
            return
        handle = self._socket()
        if handle is not None:
            with suppress(OSError):
                handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, mark)
                self._mark_in_force = mark

    def _socket(self) -> socket.socket | None:
        """The TCP socket, if it is a bare one; TLS has a handle of its own, and what closes may have none any more."""
        has_options = self._state is not _CLOSING and ITCPTransport.providedBy(self.transport)
        handle = self.transport.getHandle() if has_options else None
        return handle if isinstance(handle, socket.socket) else None

    # ── writing, and the end ─────────────────────────────────────────────────────────────────────────────────────────

    def flush(self) -> None:
        """Send what the session has to say."""
        answer = self.session.data_to_send()
        if answer:
            if self._backlog is not None:
                self._add_to_backlog(len(answer))
            self.transport.write(answer)

    def close(self) -> None:
        """
        Send the last words, then close; a peer that does not take them is cut off.

        What a publisher sends is dropped for a while before the socket is closed.
        """
        if self._state is not _CLOSING:
            self.role.closes()
        if self._state is _CLOSING:
            return
        is_sending = self._state is _ACTIVE
        self._state = _CLOSING
        self.factory.pending_connections.remove(self)
        self.flush()
        self.transport.unregisterProducer()
        if is_sending:
            self._end = self._clock.callLater(LINGER_S, self._close_socket)
        else:
            self._close_socket()

    def _close_socket(self) -> None:
        self.transport.loseConnection()
        self._end = self._clock.callLater(CLOSE_WITHIN_S, self.transport.abortConnection)

    def fail(self, failure: Failure | None = None) -> None:
        """Log the exception that is being handled (or ``failure``), which is a bug, and close at once."""
        self.factory.bugs.failure("internal error, closing connection from {peer}", failure, peer=self.peer)
        self._state = _CLOSING
        self.transport.abortConnection()

    def make_room(self, limit: str) -> None:
        """Close, so that another connection can be accepted: ``limit`` was reached."""
        self.factory.metrics.rtmp_evicted_total.labels(limit).inc()
        if self._is_first("made room"):
            self._log.warn(
                "{peer}: closed to make room for another connection: {limit} reached", peer=self.peer, limit=limit
            )
        self.session.refuse_connection("there are too many connections; try again")
        self.close()

    # ── what writes to it besides ────────────────────────────────────────────────────────────────────────────────────

    def lend_transport(self) -> Any:
        """The transport, for a producer of its own, which sends whole messages, until :meth:`take_back_transport`."""
        self.flush()
        self.transport.unregisterProducer()
        self._backlog = None
        return self.transport

    def take_back_transport(self) -> None:
        """The other producer is done, and not registered any more."""
        if self._state is not _CLOSING:
            self.transport.registerProducer(self, True)

    # ── what it is ───────────────────────────────────────────────────────────────────────────────────────────────────

    def change_role(self, role: Role) -> None:
        """Be something else from the next event on."""
        self.role = role
        if self._state is _CLOSING:
            return
        if role.is_pending:
            self._state = ConnectionState.PENDING
            self._stage_since_ms = now_ms(self._clock)
            self.factory.pending_connections.add(self)
        else:
            self._state = _ACTIVE
            self.factory.pending_connections.remove(self)
        is_free = self._state is _ACTIVE and not self._is_costly
        self._set_read_size(FREE_READ_BYTES if is_free else BUDGETED_READ_BYTES)

    # ── answers that the peer does not read (IPushProducer) ──────────────────────────────────────────────────────────

    def pauseProducing(self) -> None:
        """
        The transport holds more than it reads at a time. That may be the answers to a handshake and a connect which
        came at once, so it is counted from here on.
        """
        self._backlog = 0
        self._add_to_backlog(self._read_size)

    def resumeProducing(self) -> None:
        """The peer has read; nothing was kept back."""
        self._backlog = None

    def _add_to_backlog(self, size: int) -> None:
        """Cut the peer off if it does not read."""
        self._backlog = (self._backlog or 0) + size
        if self._backlog < MOST_UNREAD_BYTES or self._state is _CLOSING:
            return
        self.factory.metrics.rtmp_unread_total.inc()
        if self._is_first("does not read"):
            self._log.warn("{peer}: does not read our answers, closing the connection", peer=self.peer)
        self._state = _CLOSING
        self.transport.abortConnection()

    def stopProducing(self) -> None:
        """The connection is gone."""

    # ── deadlines ────────────────────────────────────────────────────────────────────────────────────────────────────

    def restart_deadlines(self, time_ms: int) -> None:
        """Forget the silence so far: for a while nothing was read, for a reason that is not the peer's."""
        self._stage_since_ms = self._judged_since_ms = time_ms
        self.role.settle(time_ms)

    def restart_stage(self, time_ms: int) -> None:
        """Forget how long it has been waiting to be admitted: it has asked for something that takes time."""
        self._stage_since_ms = time_ms

    def watch(self, time_ms: int, policy: ConnectionLimits) -> None:
        """Look at the deadlines; called every quarter of a second. Whatever goes wrong ends this connection alone."""
        if self._state is _CLOSING:
            return
        try:
            self._check_deadlines(time_ms, policy)
        except Exception:
            self.fail()

    def _check_deadlines(self, time_ms: int, policy: ConnectionLimits) -> None:
        is_pending, is_ready = self._state is ConnectionState.PENDING, self.stage is Stage.READY
        heard_ms = max(self.heard_ms, self._judged_since_ms, self.role.active_ms)
        silent_ms = 0 if self.is_paused else time_ms - heard_ms
        stage_ms = time_ms - self._stage_since_ms
        if silent_ms > policy.idle_timeout_ms:
            self._time_out("idle", silent_ms)
        elif is_pending and not is_ready and stage_ms > policy.handshake_timeout_ms:
            self._time_out("handshake", stage_ms)
        elif is_pending and is_ready and stage_ms > policy.publish_timeout_ms:
            self._time_out("publish", stage_ms)
        else:
            if is_ready and silent_ms > policy.ping_interval_ms and not self._is_pinged:
                self._is_pinged = True
                self.session.send_ping(time_ms & 0xFFFFFFFF)
                self.flush()
            self.role.watch(time_ms)

    def _time_out(self, stage: str, after_ms: int) -> None:
        self.factory.metrics.rtmp_timeouts_total.labels(stage).inc()
        if self._is_first(f"{stage} timeout"):
            self._log.info("{peer} timed out ({stage}) after {ms} ms", peer=self.peer, stage=stage, ms=after_ms)
        self.close()

    def _is_first(self, kind: str) -> bool:
        """Tell whether to log an event that clients can cause as often as they like."""
        return self.factory.log_throttle.is_news(kind, self.client_prefix, now_ms(self._clock))
