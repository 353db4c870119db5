"""
Requests counted: by route and status, in bytes, and those that are held now.

Both ways into the server, Klein's and the express one, count here, in plain integers that are read when a scraper
scrapes: a counter of the metrics library costs as much as a tenth of a whole answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from rapidrtmp.http.addresses import TrustedProxies, is_local
from rapidrtmp.http.errors import TooManyRequestsError
from rapidrtmp.interfaces import UnavailableError
from rapidrtmp.support.client_prefix import origin_of
from rapidrtmp.web.policy import HttpPolicy

__all__ = ["CLIENT_LEFT", "RequestMetrics"]

#: What a request is counted as when its client left before the answer.
CLIENT_LEFT = 499


class RequestMetrics:
    """
    The requests of one site.

    :ivar requests: how many there were, by route and status.
    :ivar sent_bytes: of bodies, by route.
    :ivar held: how many are held now.
    """

    def __init__(self, policy: HttpPolicy) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.sent_bytes: Counter[str] = Counter()
        self.held = 0
        self._held_by_client: Counter[str] = Counter()
        self._policy = policy
        self._proxies = TrustedProxies(policy.trusted_proxies)

    def hold(self, client: str) -> None:
        """
        Count one more request that is held for ``client``.

        :raises TooManyRequestsError: the client holds as many as it may.
        :raises UnavailableError: all clients together do.
        """
        limit = self._policy.max_waiters_per_client
        prefix = origin_of(client) if ":" in client else client
        if limit and self._held_by_client.get(prefix, 0) >= limit and not self._has_no_limit(client):
            raise TooManyRequestsError(f"{limit} requests from this address are held already", {"Retry-After": "1"})
        if self.held >= self._policy.max_waiters:
            raise UnavailableError("as many requests are held as this server allows", 1)
        self._held_by_client[prefix] += 1
        self.held += 1

    def _has_no_limit(self, client: str) -> bool:
        """Whether it asks for many: a cache or proxy that is trusted, or one on this machine."""
        return is_local(client) or client in self._proxies

    def release(self, client: str) -> None:
        """A request that was held is so no more."""
        self.held -= 1
        prefix = origin_of(client) if ":" in client else client
        self._held_by_client[prefix] -= 1
        if not self._held_by_client[prefix]:
            del self._held_by_client[prefix]

    def metrics(self) -> Iterator[Metric]:
        """All of it, for a scrape."""
        requests = CounterMetricFamily(
            "rapidrtmp_http_requests_total", "HTTP requests by route and status", labels=["route", "status"]
        )
        for (route, status), count in self.requests.items():
            requests.add_metric([route, str(status)], count)
        yield requests
        sent = CounterMetricFamily("rapidrtmp_http_sent_bytes_total", "Bytes of HTTP bodies sent", labels=["route"])
        for route, size in self.sent_bytes.items():
            sent.add_metric([route], size)
        yield sent
        yield GaugeMetricFamily("rapidrtmp_http_waiting_requests", "HTTP requests held for media to come", self.held)
