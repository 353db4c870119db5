"""Accepts RTMP connections, knows them all, and lets each look at its deadlines with one coarse timer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rapidrtmp.interfaces import UnavailableError
from rapidrtmp.metrics import Metrics
from rapidrtmp.net.connection import RtmpConnection
from rapidrtmp.net.limits import ConnectionLimits
from rapidrtmp.net.pending_connections import PendingConnections
from rapidrtmp.net.read_budget import ReadBudget
from rapidrtmp.net.services import RtmpServices
from rapidrtmp.net.waiting import Waiting
from rapidrtmp.rtmp.limits import SessionLimits
from rapidrtmp.rtmp.session import ServerSession
from rapidrtmp.support.bug_log import BugLog
from rapidrtmp.support.client_prefix import origin_of
from rapidrtmp.support.clock import now_ms
from rapidrtmp.support.refused import Refused

__all__ = ["RtmpServerFactory"]

#: Between two looks at the connections, in seconds; also how late a deadline may be.
TICK_S = 0.25
#: A look that is later than this was held up by the host (a suspended machine, a stopped process), in milliseconds.
LATE_MS = 2_000


if TYPE_CHECKING:
    _Factory = Factory[Protocol]
else:
    _Factory = Factory  # which in older releases of Twisted has no parameter


class RtmpServerFactory(_Factory):
    """
    Accepts RTMP connections.

    :ivar received_bytes: over all connections there ever were.
    :ivar connections: those open now.
    :ivar pending_connections: those of them that do not publish, and are not being closed.
    :ivar read_budget: when connections that are not read at once are read.
    :ivar log_throttle: which events deserve a line in the log.
    :ivar bugs: where exceptions that should not be are logged.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        services: RtmpServices,
        metrics: Metrics,
        random_bytes: Callable[[int], bytes],
        *,
        policy: ConnectionLimits,
        limits: SessionLimits,
    ) -> None:
        self.metrics = metrics
        self.received_bytes = 0
        self.connections: set[RtmpConnection] = set()
        self.pending_connections: PendingConnections[RtmpConnection] = PendingConnections()
        self.read_budget = ReadBudget(clock)
        self.services = services
        self.log_throttle = services.log_throttle
        self.bugs = BugLog(Logger("rapidrtmp.net.connection"))
        self._clock = clock
        self._random_bytes = random_bytes
        self._policy = policy
        self._limits = limits
        self._by_client: Counter[str] = Counter()
        self._players: Counter[str] = Counter()
        self._closing: list[Deferred[None]] = []
        self._watch = LoopingCall(self._watch_all)
        self._watch.clock = clock
        self._watched_ms = now_ms(clock)

    def logPrefix(self) -> str:
        """What Twisted's own log lines call it."""
        return "RTMP"

    def doStart(self) -> None:
        """Watch the connections while something listens."""
        super().doStart()  # type: ignore[no-untyped-call]
        if not self._watch.running:
            self._watched_ms = now_ms(self._clock)
            self._watch.start(TICK_S, now=False)

    def doStop(self) -> None:
        """The last listener is gone; connections that are open still are watched until they close."""
        super().doStop()  # type: ignore[no-untyped-call]
        self._stop_watching()

    def _stop_watching(self) -> None:
        if self._watch.running and not self.numPorts and not self.connections:
            self._watch.stop()

    # ── connections come and go ──────────────────────────────────────────────────────────────────────────────────────

    def buildProtocol(self, addr: IAddress | None) -> RtmpConnection | Refused:
        """Make the connection of an accepted socket, or refuse it where there are too many."""
        peer = str(getattr(addr, "host", "local"))
        client_prefix = origin_of(peer)
        limit = self._limit_reached(client_prefix)
        if limit and not self._make_room(client_prefix, limit):
            self._refuse(peer, client_prefix, limit)
            return Refused()
        session = ServerSession(self._random_bytes, self._limits)
        connection = RtmpConnection(session, self._clock, peer)
        connection.factory = self
        connection.role = Waiting(connection, self.services)
        return connection

    def _limit_reached(self, client_prefix: str) -> str:
        if self._by_client[client_prefix] - self._players[client_prefix] >= self._policy.max_connections_per_ip:
            return "max_connections_per_ip"
        if len(self.pending_connections) >= self._policy.max_unauthorised_connections:
            return "max_unauthorised_connections"
        if len(self.connections) - self._players.total() >= self._policy.max_connections:
            return "max_connections"
        return ""

    def player_comes(self, client_prefix: str) -> None:
        """
        Count a connection as a player, no longer among the others, until :meth:`player_leaves`.

        :raises UnavailableError: there are too many players.
        """
        players, policy = self._players, self._policy
        for count, limit, most in (
            (players.total(), "max_players", policy.max_players),
            (players[client_prefix], "max_players_per_ip", policy.max_players_per_ip),
        ):
            if count >= most:
                self.metrics.rtmp_refused_total.labels(limit).inc()
                raise UnavailableError("there are too many players; try again later", 10)
        players[client_prefix] += 1

    def player_leaves(self, client_prefix: str) -> None:
        """Count it among the other connections again."""
        self._players[client_prefix] -= 1
        if not self._players[client_prefix]:
            del self._players[client_prefix]

    def _make_room(self, client_prefix: str, limit: str) -> bool:
        """Close a pending connection for a new one; tell whether there was one."""
        pending = self.pending_connections.first_to_close(client_prefix if limit == "max_connections_per_ip" else "")
        if pending is None:
            return False
        pending.make_room(limit)
        return True

    def _refuse(self, peer: str, client_prefix: str, limit: str) -> None:
        self.metrics.rtmp_refused_total.labels(limit).inc()
        if self.log_throttle.is_news("refused", client_prefix, now_ms(self._clock)):
            self._log.warn("connection from {peer} refused: {limit} reached", peer=peer, limit=limit)

    def opened(self, connection: RtmpConnection) -> None:
        """Count a connection that is there."""
        self.connections.add(connection)
        self.pending_connections.add(connection)
        self._count(connection.client_prefix, 1)
        self.metrics.rtmp_connections_total.inc()

    def closed(self, connection: RtmpConnection) -> None:
        """Forget a connection that is gone."""
        self.connections.discard(connection)
        self.pending_connections.remove(connection)
        self._count(connection.client_prefix, -1)
        self._stop_watching()
        if not self.connections:
            waiting, self._closing = self._closing, []
            for waiter in waiting:
                waiter.callback(None)

    def _count(self, client_prefix: str, change: int) -> None:
        self._by_client[client_prefix] += change
        if not self._by_client[client_prefix]:
            del self._by_client[client_prefix]

    def close_all(self) -> Deferred[None]:
        """Close every connection, last words first; fires when the last one is closed."""
        for connection in list(self.connections):
            connection.close()
        if not self.connections:
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._closing.remove)
        self._closing.append(waiter)
        return waiter

    # ── deadlines ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _watch_all(self) -> None:
        """
        Let every connection look at its deadlines.

        After a pause of the whole process (SIGSTOP, a suspended host) what the peers sent in the meantime waits in the
        sockets: it is read before they are judged, and none is blamed for the pause.
        """
        time_ms = now_ms(self._clock)
        was_late = time_ms - self._watched_ms > TICK_S * 1000 + LATE_MS
        self._watched_ms = time_ms
        for connection in list(self.connections):
            if was_late:
                connection.restart_deadlines(time_ms)
            else:
                connection.watch(time_ms, self._policy)
