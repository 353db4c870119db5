"""What relays bring to the server: services, routes, metrics."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from twisted.logger import Logger
from zope.interface import implementer

from rapidrtmp.http.openapi_parts import ref
from rapidrtmp.interfaces import Audience, Contribution, ContributionContext, IContributes, Route
from rapidrtmp.names import StreamName
from rapidrtmp.relay.http import RelayApi
from rapidrtmp.relay.openapi import relay_paths, relay_schemas
from rapidrtmp.relay.outgoing import Outgoing, make_connect
from rapidrtmp.relay.pulls import PullRelays
from rapidrtmp.relay.push import KeyClaims, PushParts
from rapidrtmp.relay.pushes import PushRelays
from rapidrtmp.relay.report import RelayMetrics, RelayState
from rapidrtmp.relay.settings import RelaySettings
from rapidrtmp.support.bug_log import BugLog

__all__ = ["Relaying"]


@implementer(IContributes)
class Relaying:
    """Relays, as a contributor."""

    def contribute(self, context: ContributionContext) -> Contribution:
        """See :meth:`IContributes.contribute <rapidrtmp.interfaces.IContributes.contribute>`."""
        outgoing = Outgoing(context.clock, make_connect(context.clock), os.urandom, BugLog(Logger("rapidrtmp.relay")))

        def via(name: StreamName) -> tuple[str, ...]:
            stream = context.streams.find(name)
            return () if stream is None else stream.via

        parts = PushParts(outgoing, KeyClaims(), context.server_id, via)
        metrics = RelayMetrics(context.metrics)
        pulls = PullRelays(context, parts, metrics)
        pushes = PushRelays(context, parts, metrics, Path(_settings(context).file), pulls.is_pulled)
        api = RelayApi(pushes, pulls)
        context.metrics.register(_States(pushes, pulls))

        def follow() -> None:
            pushes.follow()
            pulls.follow()

        return Contribution(
            routes=_routes(api),
            paths=relay_paths(),
            schemas=relay_schemas(),
            stream_facts=api.describe,
            stream_schema={"relays": {"type": "array", "items": ref("Relay")}},
            services=(pushes, pulls),
            listeners=(pushes,),
            apps_changed=follow,
            demand=pulls.demand,
        )


def _settings(context: ContributionContext) -> RelaySettings:
    try:
        section: RelaySettings = context.section("relays")
    except KeyError:  # the server was made of settings without those of plugins
        return RelaySettings()
    return section


def _routes(api: RelayApi) -> tuple[Route, ...]:
    management = Audience.MANAGEMENT
    return tuple(
        route
        for stream in ("/api/v1/streams/<key>", "/api/v1/streams/<app>/<key>")
        for route in (
            Route("GET", f"{stream}/relays", management, api.index),
            Route("POST", f"{stream}/relays", management, api.add),
            Route("DELETE", f"{stream}/relays/<id>", management, api.remove),
        )
    )


class _States(Collector):
    """How many relays there are in each state, for a scrape."""

    def __init__(self, pushes: PushRelays, pulls: PullRelays) -> None:
        self._relays: tuple[PushRelays | PullRelays, ...] = pushes, pulls

    def collect(self) -> Iterator[Metric]:
        """The gauge."""
        relays = GaugeMetricFamily("rapidrtmp_relays", "Relays by state", labels=["direction", "state"])
        for direction, those in zip(("push", "pull"), self._relays, strict=True):
            found = Counter(status.state for status in those.statuses())
            for state in RelayState:
                relays.add_metric([direction, state.value], found[state])
        yield relays
