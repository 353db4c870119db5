"""
The Twisted edge of RTMP: carries bytes between transports and sessions, and keeps time.

One coarse timer of the factory watches every connection (handshake, publish, silence, tokens that expire), so that no
read sets or cancels a timer of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.errors import PeerProtocolError
from rapidrtmp.live.clocks import now_ms
from rapidrtmp.metrics import Metrics
from rapidrtmp.net.ingest import Ingest, IngestServices
from rapidrtmp.rtmp.limits import SessionLimits
from rapidrtmp.rtmp.session import ServerSession
from rapidrtmp.rtmp.state import State

__all__ = ["ConnectionPolicy", "RtmpServerFactory", "RtmpServerProtocol"]

#: Between two looks at the connections, in seconds; also how late a deadline may be.
TICK_S = 0.25
#: How long a closing connection may take to carry the last message.
CLOSE_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True)
class ConnectionPolicy:
    """
    What one connection may do, in time and in number.

    :ivar handshake_timeout_ms: from the connection to the end of the handshake.
    :ivar publish_timeout_ms: from there to an accepted publish; between two publishes likewise.
    :ivar idle_timeout_ms: silence that ends a connection.
    :ivar ping_interval_ms: silence after which a publisher is pinged.
    :ivar max_connections: how many may be open at one time; likewise ``max_connections_per_ip`` from one address.
    """

    handshake_timeout_ms: int = 10_000
    publish_timeout_ms: int = 15_000
    idle_timeout_ms: int = 30_000
    ping_interval_ms: int = 10_000
    max_connections: int = 1_000
    max_connections_per_ip: int = 100


class RtmpServerProtocol(Protocol):
    """Carries bytes between one transport and one :class:`~rapidrtmp.rtmp.session.ServerSession`."""

    _log = Logger()
    factory: RtmpServerFactory
    transport: Any

    def __init__(self, session: ServerSession, clock: IReactorTime, peer: str) -> None:
        self._session = session
        self._clock = clock
        self._closing = False
        self._abort: IDelayedCall | None = None
        self._pinged = False
        self.peer = peer
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
        self.factory.opened(self)

    def dataReceived(self, data: bytes) -> None:
        """Read what it means, do it, answer."""
        if self._closing:
            return
        self.heard_ms = now_ms(self._clock)
        self._pinged = False
        self.factory.received_bytes += len(data)
        self._session.receive_data(data)
        self._pull()

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

    def _pull(self) -> None:
        """React to what has arrived; whatever goes wrong ends this connection and nothing else."""
        try:
            for event in self._session.events():
                self.ingest.react(event, self.heard_ms)
                if self._closing:
                    return
        except PeerProtocolError as error:
            self.factory.metrics.rtmp_protocol_errors_total.inc()
            self._log.warn("{peer} broke RTMP: {error}", peer=self.peer, error=error)
            self.close()
        except Exception:
            self._give_up()
        else:
            self.flush()

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

    def close(self) -> None:
        """Send the last words, then close; a peer that does not take them is cut off."""
        if self._closing:
            return
        self._closing = True
        self.flush()
        self.transport.loseConnection()
        self._abort = self._clock.callLater(CLOSE_WITHIN_S, self.transport.abortConnection)

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
        self._log.info("{peer} timed out ({stage}) after {after_ms} ms", peer=self.peer, stage=stage, after_ms=after_ms)
        self.close()


class RtmpServerFactory(Factory[RtmpServerProtocol]):
    """
    Accepts RTMP connections.

    :ivar received_bytes: over all connections there ever were.
    :ivar connections: those open now.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        services: IngestServices,
        metrics: Metrics,
        random_bytes: Callable[[int], bytes],
        *,
        policy: ConnectionPolicy,
        limits: SessionLimits,
    ) -> None:
        self.metrics = metrics
        self.received_bytes = 0
        self.connections: set[RtmpServerProtocol] = set()
        self._clock = clock
        self._services = services
        self._random_bytes = random_bytes
        self._policy = policy
        self._limits = limits
        self._by_address: Counter[str] = Counter()
        self._is_refusing = False
        self._waiting_for_silence: list[Deferred[None]] = []
        self._watch = LoopingCall(self._watch_all)
        self._watch.clock = clock

    def doStart(self) -> None:
        """Watch the connections while something listens."""
        super().doStart()  # type: ignore[no-untyped-call]
        if not self._watch.running:
            self._watch.start(TICK_S, now=False)

    def doStop(self) -> None:
        """The last listener is gone; connections that are open still are watched until they close."""
        super().doStop()  # type: ignore[no-untyped-call]
        self._stop_watching()

    def _stop_watching(self) -> None:
        if self._watch.running and not self.numPorts and not self.connections:
            self._watch.stop()

    def buildProtocol(self, addr: IAddress | None) -> RtmpServerProtocol | None:
        """Make the protocol of a new connection, or refuse it where there are too many."""
        peer = str(getattr(addr, "host", "local"))
        limit = self._limit_reached(peer)
        if limit:
            self._refuse(peer, limit)
            return None
        self._is_refusing = False
        session = ServerSession(self._random_bytes, self._limits)
        protocol = RtmpServerProtocol(session, self._clock, peer)
        protocol.factory = self
        protocol.ingest = Ingest(session, protocol, self._services, peer)
        return protocol

    def _limit_reached(self, peer: str) -> str:
        if len(self.connections) >= self._policy.max_connections:
            return "max_connections"
        if self._by_address[peer] >= self._policy.max_connections_per_ip:
            return "max_connections_per_ip"
        return ""

    def _refuse(self, peer: str, limit: str) -> None:
        """Count each; say it once until somebody is admitted again, for floods come in thousands."""
        self.metrics.rtmp_refused_total.labels(limit).inc()
        if not self._is_refusing:
            self._is_refusing = True
            self._log.warn("connection from {peer} refused: {limit} reached", peer=peer, limit=limit)

    def opened(self, protocol: RtmpServerProtocol) -> None:
        """A connection is there."""
        self.connections.add(protocol)
        self._by_address[protocol.peer] += 1
        self.metrics.rtmp_connections_total.inc()

    def closed(self, protocol: RtmpServerProtocol) -> None:
        """A connection is gone."""
        self.connections.discard(protocol)
        self._by_address[protocol.peer] -= 1
        if not self._by_address[protocol.peer]:
            del self._by_address[protocol.peer]
        self._stop_watching()
        if not self.connections:
            waiting, self._waiting_for_silence = self._waiting_for_silence, []
            for waiter in waiting:
                waiter.callback(None)

    def close_all(self) -> Deferred[None]:
        """Close every connection, last words first; fires when the last one is closed."""
        for protocol in list(self.connections):
            protocol.close()
        if not self.connections:
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._waiting_for_silence.remove)
        self._waiting_for_silence.append(waiter)
        return waiter

    def _watch_all(self) -> None:
        time_ms = now_ms(self._clock)
        for protocol in list(self.connections):
            protocol.watch(time_ms, self._policy)
