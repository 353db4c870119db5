"""
The Twisted edge of one RTMP connection: carries bytes between its transport and its session, and keeps its deadlines.

No read sets or cancels a timer: the factory (``factory.py``) has every connection look at its deadlines four times a
second (handshake, publish, silence, tokens that expire).

A connection that does not publish is a guest: read in small pieces, in turns that all guests share, and first to go
when there are too many connections (``guests.py``, ``turns.py``).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rapidrtmp.errors import PeerProtocolError
from rapidrtmp.live.clocks import now_ms
from rapidrtmp.net.guests import Stage
from rapidrtmp.net.ingest import Ingest
from rapidrtmp.net.low_water import NO_MARK
from rapidrtmp.origin import origin_of
from rapidrtmp.rtmp.events import Event
from rapidrtmp.rtmp.session import ServerSession
from rapidrtmp.rtmp.state import State

if TYPE_CHECKING:
    from rapidrtmp.net.factory import RtmpServerFactory

__all__ = ["ConnectionPolicy", "RtmpServerProtocol"]

#: How long a closing connection may take to carry the last message.
CLOSE_WITHIN_S = 1.0
#: What is read at a time from a guest, and from a publisher, in octets. A guest's may cost a microsecond each.
GUEST_READ_BYTES, PUBLISHER_READ_BYTES = 4096, 65_536


@dataclass(frozen=True, slots=True)
class ConnectionPolicy:
    """
    What one connection may do, in time and in number.

    :ivar handshake_timeout_ms: from the connection to the end of the handshake.
    :ivar publish_timeout_ms: from there to an accepted publish; between two publishes likewise.
    :ivar idle_timeout_ms: silence that ends a connection.
    :ivar ping_interval_ms: silence after which a publisher is pinged.
    :ivar max_connections: how many may be open at one time; likewise ``max_connections_per_ip`` from one address (of
        IPv6: one /64 network), and ``max_unauthorised_connections`` of those that do not publish. Where one more comes,
        one that does not publish goes (see ``guests.py``); only where all publish the newcomer is refused.
    """

    handshake_timeout_ms: int = 10_000
    publish_timeout_ms: int = 15_000
    idle_timeout_ms: int = 30_000
    ping_interval_ms: int = 10_000
    max_connections: int = 1_000
    max_connections_per_ip: int = 100
    max_unauthorised_connections: int = 500


@implementer(IPushProducer)
class RtmpServerProtocol(Protocol):
    """
    Carries bytes between one transport and one :class:`~rapidrtmp.rtmp.session.ServerSession`.

    :ivar origin: whom its address stands for.
    :ivar stage: how far it has got as a guest.
    :ivar used_s: how long has been spent on it as a guest.
    """

    _log = Logger()
    factory: RtmpServerFactory
    transport: Any

    def __init__(self, session: ServerSession, clock: IReactorTime, peer: str) -> None:
        self._session = session
        self._clock = clock
        self._closing = False
        self._abort: IDelayedCall | None = None
        self._pinged = False
        self._is_guest = True
        self._unread: Iterator[Event] | None = None
        self.peer = peer
        self.origin = origin_of(peer)
        self.stage = Stage.SILENT
        self.used_s = 0.0
        self.ingest: Ingest
        self.heard_ms = now_ms(clock)
        self._stage_since_ms = self.heard_ms
        self._was_ready = False

    # ── Twisted calls ────────────────────────────────────────────────────────────────────────────────────────────────

    def connectionMade(self) -> None:
        """Begin."""
        if ITCPTransport.providedBy(self.transport):  # a UNIX socket has no such options
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
        self.transport.bufferSize = GUEST_READ_BYTES
        self.transport.registerProducer(self, True)
        self.factory.opened(self)

    def dataReceived(self, data: bytes) -> None:
        """Read what it means, do it, answer."""
        if self._closing:
            return
        self.heard_ms = now_ms(self._clock)
        self._pinged = False
        self.factory.received_bytes += len(data)
        self._session.receive_data(data)
        if self.ingest.is_publishing:
            self._pull()
        else:
            self.factory.turns.serve(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The name is free again, however the end came."""
        del reason  # a FIN, a reset and a timeout are one to us
        self._closing = True
        if self._abort is not None and self._abort.active():
            self._abort.cancel()
        try:
            self.ingest.connection_lost()
        finally:
            self.factory.closed(self)

    # ── the session ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _pull(self, until_s: float | None = None) -> bool:
        """
        React to what has arrived; whatever goes wrong ends this connection and nothing else.

        :param until_s: when to leave the rest for another time, unless it publishes by then.
        :returns: whether all has been read.
        """
        events = self._unread or iter(self._session.events())
        self._unread = None
        try:
            for event in events:
                self.ingest.react(event, self.heard_ms)
                if self._closing:
                    return True
                if until_s is not None and self._clock.seconds() >= until_s and not self.ingest.is_publishing:
                    self._unread = events
                    break
        except PeerProtocolError as error:
            self.factory.metrics.rtmp_protocol_errors_total.inc()
            if self._is_news("broke RTMP"):
                self._log.warn("{peer} broke RTMP: {error}", peer=self.peer, error=error)
            self.close()
        except Exception:
            self._give_up()
        else:
            self.flush()
        return self._unread is None

    def _is_news(self, kind: str) -> bool:
        """Whether to log what strangers can make happen as often as they like."""
        return self.factory.episodes.is_news(kind, self.origin, now_ms(self._clock))

    def _give_up(self) -> None:
        self._log.failure("a bug of ours ends the connection of {peer}", peer=self.peer)
        self._closing = True
        self.transport.abortConnection()

    def flush(self) -> None:
        """Send what the session has to say."""
        answer = self._session.data_to_send()
        if answer:
            self.transport.write(answer)

    def resume(self) -> None:
        """A publish was decided after the fact: react to what was held for it."""
        if not self._closing:
            self._pull()
            self._change_standing()

    def close(self) -> None:
        """Send the last words, then close; a peer that does not take them is cut off."""
        if self._closing:
            return
        self._closing = True
        self.factory.guests.remove(self)
        self.flush()
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._abort = self._clock.callLater(CLOSE_WITHIN_S, self.transport.abortConnection)

    # ── guest or publisher ───────────────────────────────────────────────────────────────────────────────────────────

    def go_on(self, until_s: float) -> bool:
        """Read on until the clock says ``until_s``; tell whether all is read (``Turns`` asks)."""
        done = self._closing or self._pull(until_s)
        stage = Stage.HANDSHAKING if self._session.state is State.HANDSHAKING else Stage.READY
        if stage is not self.stage:
            self.factory.guests.reached(self, stage)
        self._change_standing()
        return done or self._closing

    def hold(self) -> None:
        """Leave in the socket what comes next."""
        self.transport.pauseProducing()

    def release(self) -> None:
        """Take it from there again."""
        if not self._closing:
            self.transport.resumeProducing()

    def wake_at(self, octets: int) -> None:
        """
        Read no sooner than so many octets are there (or the peer has closed), where the socket can be told so.

        More than one TCP segment's it must be. What is left unread is acknowledged late, and an encoder with Nagle's
        algorithm on (FFmpeg) sends what does not fill a segment only when all before it has been acknowledged: on
        loopback, where a segment holds 64 KB, audio that waits for a picture would make that picture wait for 40 ms.
        """
        has_options = not self._closing and ITCPTransport.providedBy(self.transport)  # else there may be no socket left
        handle = self.transport.getHandle() if has_options else None
        if isinstance(handle, socket.socket):  # TLS has a handle of its own
            with suppress(OSError):  # a system that does not know the options reads at once
                fills = octets > handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
                handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, octets if fills else NO_MARK)

    def _change_standing(self) -> None:
        """A guest that publishes is none any more; a publisher that does not is one again."""
        if self._closing or self._is_guest is not self.ingest.is_publishing:
            return
        self._is_guest = not self.ingest.is_publishing
        self.transport.bufferSize = GUEST_READ_BYTES if self._is_guest else PUBLISHER_READ_BYTES
        self.factory.changed(self, is_guest=self._is_guest)

    def make_room(self, limit: str) -> None:
        """Go, so that somebody else may come: ``limit`` was reached."""
        self.factory.metrics.rtmp_evicted_total.labels(limit).inc()
        if self._is_news("made room"):
            self._log.warn("{peer} made room for another connection: {limit} reached", peer=self.peer, limit=limit)
        self._session.refuse_connection("there are too many connections; try again")
        self.close()

    # ── what the peer does not read (IPushProducer) ──────────────────────────────────────────────────────────────────

    def pauseProducing(self) -> None:
        """The transport holds 64 KiB: more than all that we ever have to say to one who reads it."""
        self.factory.metrics.rtmp_unread_total.inc()
        if self._is_news("does not read"):
            self._log.warn("{peer} does not read what it is answered, and is cut off", peer=self.peer)
        self._closing = True
        self.transport.abortConnection()

    def resumeProducing(self) -> None:
        """It has been read; nothing was kept back."""

    def stopProducing(self) -> None:
        """The connection is gone."""

    # ── deadlines ────────────────────────────────────────────────────────────────────────────────────────────────────

    def watch(self, time_ms: int, policy: ConnectionPolicy) -> None:
        """Look at the deadlines; called every quarter of a second. Whatever goes wrong ends this connection alone."""
        if self._closing:
            return
        try:
            self._check_deadlines(time_ms, policy)
        except Exception:
            self._give_up()

    def _check_deadlines(self, time_ms: int, policy: ConnectionPolicy) -> None:
        self._change_standing()
        ready = self._session.state is not State.HANDSHAKING
        if self.ingest.is_publishing or ready != self._was_ready:
            self._was_ready = ready
            self._stage_since_ms = time_ms
        silent_ms = time_ms - self.heard_ms
        stage_ms = time_ms - self._stage_since_ms
        if silent_ms > policy.idle_timeout_ms:
            self._time_out("idle", silent_ms)
        elif not ready and stage_ms > policy.handshake_timeout_ms:
            self._time_out("handshake", stage_ms)
        elif ready and not self.ingest.is_publishing and stage_ms > policy.publish_timeout_ms:
            self._time_out("publish", stage_ms)
        else:
            if ready and silent_ms > policy.ping_interval_ms and not self._pinged:
                self._pinged = True
                self._session.send_ping(time_ms & 0xFFFFFFFF)
                self.flush()
            self.ingest.watch(time_ms)

    def _time_out(self, stage: str, after_ms: int) -> None:
        self.factory.metrics.rtmp_timeouts_total.labels(stage).inc()
        if self._is_news(f"{stage} timeout"):
            self._log.info("{peer} timed out ({stage}) after {ms} ms", peer=self.peer, stage=stage, ms=after_ms)
        self.close()
