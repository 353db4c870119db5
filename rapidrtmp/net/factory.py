"""
Accepts RTMP connections, knows them all, and lets each look at its deadlines with one coarse timer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rapidrtmp.live.clocks import now_ms
from rapidrtmp.metrics import Metrics
from rapidrtmp.net.guests import Guests
from rapidrtmp.net.ingest import Ingest, IngestServices
from rapidrtmp.net.protocol import ConnectionPolicy, RtmpServerProtocol
from rapidrtmp.net.turns import Turns
from rapidrtmp.origin import origin_of
from rapidrtmp.rtmp.limits import SessionLimits
from rapidrtmp.rtmp.session import ServerSession

__all__ = ["RtmpServerFactory"]

#: Between two looks at the connections, in seconds; also how late a deadline may be.
TICK_S = 0.25


class RtmpServerFactory(Factory[RtmpServerProtocol]):
    """
    Accepts RTMP connections.

    :ivar received_bytes: over all connections there ever were.
    :ivar connections: those open now.
    :ivar guests: those of them that do not publish, and are not being closed.
    :ivar turns: when a guest is read.
    :ivar episodes: what is worth a line in the log.
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
        self.guests: Guests[RtmpServerProtocol] = Guests()
        self.turns = Turns(clock)
        self.episodes = services.episodes
        self._clock = clock
        self._services = services
        self._random_bytes = random_bytes
        self._policy = policy
        self._limits = limits
        self._by_address: Counter[str] = Counter()
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
        origin = origin_of(peer)
        limit = self._limit_reached(origin)
        if limit:
            guest = self.guests.first_to_go(origin if limit == "max_connections_per_ip" else "")
            if guest is None:
                self._refuse(peer, origin, limit)
                return None
            guest.make_room(limit)
        session = ServerSession(self._random_bytes, self._limits)
        protocol = RtmpServerProtocol(session, self._clock, peer)
        protocol.factory = self
        protocol.ingest = Ingest(session, protocol, self._services, peer)
        return protocol

    def _limit_reached(self, origin: str) -> str:
        if self._by_address[origin] >= self._policy.max_connections_per_ip:
            return "max_connections_per_ip"
        if len(self.guests) >= self._policy.max_unauthorised_connections:
            return "max_unauthorised_connections"
        if len(self.connections) >= self._policy.max_connections:
            return "max_connections"
        return ""

    def _refuse(self, peer: str, origin: str, limit: str) -> None:
        self.metrics.rtmp_refused_total.labels(limit).inc()
        if self.episodes.is_news("refused", origin, now_ms(self._clock)):
            self._log.warn("connection from {peer} refused: {limit} reached", peer=peer, limit=limit)

    def opened(self, protocol: RtmpServerProtocol) -> None:
        """A connection is there."""
        self.connections.add(protocol)
        self.guests.add(protocol)
        self._by_address[protocol.origin] += 1
        self.metrics.rtmp_connections_total.inc()

    def closed(self, protocol: RtmpServerProtocol) -> None:
        """A connection is gone."""
        self.connections.discard(protocol)
        self.guests.remove(protocol)
        self._by_address[protocol.origin] -= 1
        if not self._by_address[protocol.origin]:
            del self._by_address[protocol.origin]
        self._stop_watching()
        if not self.connections:
            waiting, self._waiting_for_silence = self._waiting_for_silence, []
            for waiter in waiting:
                waiter.callback(None)

    def changed(self, protocol: RtmpServerProtocol, *, is_guest: bool) -> None:
        """A connection publishes from now on, or does so no more."""
        (self.guests.add if is_guest else self.guests.remove)(protocol)

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
