"""
The HTTP connections that are open, and which of them is closed for another.

A bound that refuses the next client is a gift to a flood: it fills the house once and keeps every viewer out. So the
newcomer is let in, and a connection without a request is closed: players open another when they need one. First go
those that never asked for anything, then those that are between two requests; of either the one that is there longest,
and of a client that has many before those of others. Only where all are busy the newcomer is refused.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Any, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rapidrtmp.http.addresses import TrustedProxies, is_local
from rapidrtmp.support.client_prefix import origin_of
from rapidrtmp.support.clock import now_ms
from rapidrtmp.support.log_throttle import Episodes
from rapidrtmp.web.policy import HttpPolicy

__all__ = ["OpenConnection", "OpenConnections"]

#: So many connections of one client are no crowd: a browser opens six.
A_FEW = 8
#: How many busy connections are looked at for an idle one, so that a full house costs no more than a look.
LOOKS = 64


class OpenConnection(Protocol):
    """
    A connection, as far as it matters which is closed.

    :ivar client_prefix: whom it is counted for, as :func:`~rapidrtmp.support.client_prefix.origin_of` says.
    :ivar has_asked: whether a whole request has come.
    :ivar is_idle: whether none is being answered, and no answer waits to be read.
    """

    client_prefix: str

    @property
    def has_asked(self) -> bool:
        """See the class."""

    @property
    def is_idle(self) -> bool:
        """See the class."""

    def close_now(self) -> None:
        """Close the connection at once."""


class _Crowd:
    """Connections in the order in which they came, those that never asked apart from the others."""

    def __init__(self) -> None:
        self._silent: OrderedDict[OpenConnection, None] = OrderedDict()
        self._others: OrderedDict[OpenConnection, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._silent) + len(self._others)

    def add(self, connection: OpenConnection) -> None:
        self._silent[connection] = None

    def discard(self, connection: OpenConnection) -> None:
        self._silent.pop(connection, None)
        self._others.pop(connection, None)

    def first_to_close(self) -> OpenConnection | None:
        """
        The first that can be closed; ``None`` if those that were looked at are busy.

        A connection that has asked since it came is found out here, once, so that a request costs nothing for it.
        """
        while self._silent:
            connection = next(iter(self._silent))
            if not connection.has_asked:
                return connection
            del self._silent[connection]
            self._others[connection] = None
        for _ in range(min(LOOKS, len(self._others))):
            connection = next(iter(self._others))
            if connection.is_idle:
                return connection
            self._others.move_to_end(connection)
        return None


class OpenConnections:
    """
    All HTTP connections of a server.

    :param policy: how many there may be, in all and of one client.
    """

    _log = Logger()

    def __init__(self, policy: HttpPolicy, clock: IReactorTime) -> None:
        self._policy = policy
        self._clock = clock
        self._proxies = TrustedProxies(policy.trusted_proxies)
        self._all = _Crowd()
        self._by_client: dict[str, _Crowd] = {}
        self._closed: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._log_throttle = Episodes()

    def __len__(self) -> int:
        return len(self._all)

    def admits(self, peer: str) -> bool:
        """
        Tell whether another connection may come, and close one for it if there are too many.

        :param peer: the address it comes from.
        """
        client_prefix = origin_of(peer)
        crowd = self._by_client.get(client_prefix, _Crowd())
        of_client = self._policy.max_connections_per_client
        if of_client and len(crowd) >= of_client and not self._is_exempt(peer):
            return self._make_room("max_connections_per_client", peer, crowd)
        if len(self._all) >= self._policy.max_connections:
            return self._make_room("max_connections", peer, *([crowd] if len(crowd) > A_FEW else []), self._all)
        return True

    def _is_exempt(self, peer: str) -> bool:
        """Whether a peer may stand for any number of clients: it is on this machine, or a proxy that is trusted."""
        return is_local(peer) or peer in self._proxies

    def _make_room(self, limit: str, peer: str, *crowds: _Crowd) -> bool:
        connection = next(filter(None, (crowd.first_to_close() for crowd in crowds)), None)
        if connection is not None:
            self._closed[limit] += 1
            self.closed(connection)
            connection.close_now()
            return True
        self._refused[limit] += 1
        if self._log_throttle.is_news(limit, origin_of(peer), now_ms(self._clock)):
            self._log.warn("HTTP connection from {peer} refused: http.{limit} reached", peer=peer, limit=limit)
        return False

    def opened(self, connection: OpenConnection) -> None:
        """Count a connection that is there."""
        self._all.add(connection)
        self._by_client.setdefault(connection.client_prefix, _Crowd()).add(connection)

    def closed(self, connection: OpenConnection) -> None:
        """Forget a connection that is gone, or about to go; to do so again changes nothing."""
        self._all.discard(connection)
        crowd = self._by_client.get(connection.client_prefix)
        if crowd is not None:
            crowd.discard(connection)
            if not crowd:
                del self._by_client[connection.client_prefix]

    def metrics(self) -> Iterator[Metric]:
        """For a scrape."""
        yield GaugeMetricFamily("rapidrtmp_http_connections", "HTTP connections open now", len(self))
        said: dict[str, Any] = {
            "rapidrtmp_http_connections_evicted_total": ("HTTP connections closed for others to come", self._closed),
            "rapidrtmp_http_connections_refused_total": ("HTTP connections refused by a limit", self._refused),
        }
        for name, (documentation, counts) in said.items():
            family = CounterMetricFamily(name, documentation, labels=["limit"])
            for limit in ("max_connections", "max_connections_per_client"):
                family.add_metric([limit], counts[limit])
            yield family
