"""
The server, put together: storage and its queue, live streams and their sinks, the RTMP and the HTTP side.

It starts in one go, or says in one line why it cannot, and stops in order: no new clients, publishers notified, sinks
finished (the playlists become final, or stay open for the next server to resume), what they wrote stored, then the
rest.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from secrets import token_hex
from typing import Any

from prometheus_client.core import Metric
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import H2_ENABLED

from rapidrtmp import __version__
from rapidrtmp.app.application import Application, Recovered, Shared
from rapidrtmp.app.applications import Applications
from rapidrtmp.app.contributions import Contributions
from rapidrtmp.app.managers import Managers
from rapidrtmp.app.plugins import ChosenPlugins
from rapidrtmp.app.storages import Stores
from rapidrtmp.app.threads import PluginThreads
from rapidrtmp.auth.revocation import Revocations
from rapidrtmp.cluster.node import ClusterNode
from rapidrtmp.directory.local import LocalDirectoryFactory
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.events.contribution import EventsService
from rapidrtmp.events.hooks import Hooks
from rapidrtmp.events.log import EventLog
from rapidrtmp.http.addresses import TrustedProxies
from rapidrtmp.interfaces import (
    AuthenticatorContext,
    ContributionContext,
    IContributes,
    IEventListener,
    IStorage,
    Outcome,
    Publication,
    Purpose,
)
from rapidrtmp.live.history import Histories
from rapidrtmp.live.leases import StreamLeases
from rapidrtmp.live.numbering import Numbering
from rapidrtmp.live.recovery import Recovery
from rapidrtmp.live.registry import Registry
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.live.stream import LiveStream
from rapidrtmp.live.viewers import Viewers
from rapidrtmp.metrics import Metrics
from rapidrtmp.names import StreamName
from rapidrtmp.net.app_names import AppNames
from rapidrtmp.net.auth_backoff import AuthBackoff
from rapidrtmp.net.factory import RtmpServerFactory
from rapidrtmp.net.ingest import publish
from rapidrtmp.net.proxied import ProxyRules
from rapidrtmp.net.services import RtmpServices
from rapidrtmp.play.players import Players
from rapidrtmp.play.policy import PlayPolicy
from rapidrtmp.playback.admission import Admission
from rapidrtmp.playback.overload import Overload
from rapidrtmp.server.api_secret import find_api_secret
from rapidrtmp.server.certificates import Certificates
from rapidrtmp.server.cluster_door import make_place
from rapidrtmp.server.configuration import Configuration
from rapidrtmp.server.demo import DEMO, make_demo
from rapidrtmp.server.descriptors import raise_descriptor_limit, share_descriptors
from rapidrtmp.server.headroom import Headroom
from rapidrtmp.server.listeners import ETHERNET_SEGMENT_BYTES, Address, Ports, UnacceptedConnections
from rapidrtmp.server.number_mark import NumberMark
from rapidrtmp.server.own_addresses import find_own_addresses
from rapidrtmp.server.process_memory import settle_memory
from rapidrtmp.server.reload import Reloading
from rapidrtmp.server.scrape import (
    connection_metrics,
    lease_metrics,
    node_metrics,
    readiness_metrics,
    storage_metrics,
    stream_metrics,
)
from rapidrtmp.server.shared_api import SharedApi
from rapidrtmp.server.worker import Supervision, Worker
from rapidrtmp.settings.model import Settings
from rapidrtmp.storage.store import Store
from rapidrtmp.support.clock import busy_clock, now_ms, utc_ms
from rapidrtmp.support.compiled import is_compiled
from rapidrtmp.web.api_access import ApiAccess, ApiSecret
from rapidrtmp.web.app import Sites, make_sites
from rapidrtmp.web.policy import HttpPolicy
from rapidrtmp.web.readiness import Readiness

__all__ = ["RapidRtmpService", "make_service"]

#: How long a starting server looks at what an earlier one left before it lets clients in.
RECOVERY_S = 5.0
#: How long a stopping server lets players fetch the ends of their playlists.
FAREWELL_S = 0.5
#: How long publishers may take to their next keyframe when the server stops; and what share of the time for stopping.
LAST_KEYFRAME_MS, LAST_KEYFRAME_SHARE = 2_000, 4
#: What share of it the publishers of a process that is replaced may take to reach another one.
HANDED_OVER_SHARE = 0.6


def make_service(
    reactor: Any,
    settings: Settings,
    plugins: ChosenPlugins,
    configuration: Configuration | None = None,
    *,
    demo: bool = False,
    worker: Worker | None = None,
) -> RapidRtmpService:
    """
    The whole server as a Twisted service.

    :param reactor: provides time, TCP, threads and processes.
    :param configuration: where the settings came from, to be read again; ``None`` where that cannot be.
    :param demo: whether to publish a test picture as ``live/demo``.
    :param worker: what a supervisor has given this process, if it is one of several.
    :raises ConfigurationError: a plugin cannot work as it is configured.
    """
    return RapidRtmpService(reactor, settings, plugins, configuration, demo=demo, worker=worker)


class RapidRtmpService(MultiService):
    """
    Everything that runs.

    :ivar rtmp_factory: what accepts RTMP connections.
    :ivar rtmp: the ports they come to; likewise ``http`` and ``manage``.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        plugins: ChosenPlugins,
        configuration: Configuration | None,
        *,
        demo: bool,
        worker: Worker | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._worker = worker
        self._reactor = reactor
        self._settings = settings
        self._sites: Sites | None = None
        self._is_open = self._is_accepting = False
        self._waiting_publishes: list[Deferred[None]] = []
        self._has_demo = demo
        self.metrics = Metrics()
        self._certificates = Certificates(reactor, utc_ms, self.metrics.certificates_read_total)
        self.rtmp, self.http, self.manage = self._make_ports()
        self._descriptors = raise_descriptor_limit()
        self._shares = share_descriptors(
            self._descriptors,
            settings.rtmp.connections.max_connections + settings.rtmp.connections.max_players,
            settings.http.max_connections,
        )
        self._api_secret = ApiSecret()
        self._id = token_hex(8)
        self._viewer_salt = os.urandom(16)
        self.readiness = Readiness(reactor)
        self.headroom = self._make_headroom()
        self._plugin_threads = PluginThreads(reactor)
        self.events = EventLog(reactor, utc_ms, settings.events.kept, self.metrics.events_total)
        self.stores = self._make_stores(plugins)
        self._numbering = Numbering(utc_ms)
        self.node: ClusterNode | None = None
        self._shared_api: SharedApi | None = None
        self.applications = self._make_applications(plugins)
        self.node = self._make_node(plugins)
        self._supervision = None if worker is None else Supervision(reactor, worker, self._replaced)
        self._managers = Managers(
            settings,
            AuthenticatorContext(reactor, utc_ms, Logger("rapidrtmp.auth"), self._plugin_threads.in_thread),
        )
        self.revocations = Revocations(utc_ms, self._find_access_storage)
        self._leases = StreamLeases(
            self.applications.stores_of, self.stores.all, None if self.node is None else self.node.names
        )
        self._recovery = self._make_recovery(self.applications, self.stores.all)
        self._recoveries = [self._recovery]
        self.registry = self._make_registry()
        if self.node is not None:
            self._shared_api = SharedApi(self.node, reactor, self._has_stream)
            self.node.join(
                self.registry, self._leases, self._arrive, self._shared_api.answer, self._egress, self.revocations
            )
        self._number_mark = self._make_number_mark()
        self._reloading = None if configuration is None else self._make_reloading(configuration)
        self._hooks = Hooks(self.events, reactor, utc_ms)
        self._hooks.follow(settings.hooks)
        self._histories = Histories()
        self._told = EventsService(
            self.events, reactor, partial(self._listeners, plugins.listeners), self._hooks, self._notice_viewers_leaving
        )
        own = [self._told] if self._reloading is None else [self._reloading, self._told]
        self._contributions = self._ask_contributors([*own, *plugins.contributors])
        self.applications.changed = self._applications_changed
        self.players = Players(
            self.registry if self.node is None else self.node.streams, reactor, self._make_play_policy()
        )
        self.players.demand = self._demand
        self._overload = Overload(reactor, busy_clock(reactor), settings.http.limits.max_viewer_lag_ms)
        self._admission = self._make_admission()
        if self.node is not None:
            self._admission.egress_elsewhere = self.node.limits.egress_elsewhere
        self.rtmp_factory = self._make_rtmp()
        self.metrics.collect_from(self._read_metrics)
        if demo:
            self._add_demo()

    # ── the parts ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _make_ports(self) -> Iterator[Ports]:
        """Make the ports for RTMP, for HTTP, and for management."""
        server = self._settings.server
        unaccepted = UnacceptedConnections(self._reactor, self.metrics.unaccepted_total)
        proxies = ProxyRules(
            TrustedProxies(server.proxy_protocol), self._reactor, self.metrics.proxy_headers_refused_total
        )
        for name, endpoints, segment_bytes in (
            ("rtmp", server.rtmp, ETHERNET_SEGMENT_BYTES),
            ("http", server.http, 0),
            ("manage", server.manage, 0),
        ):
            open_certificate = partial(self._certificates.open, name)
            adopted = {} if self._worker is None else self._worker.ports_of(name)
            yield Ports(self._reactor, endpoints, unaccepted, proxies, segment_bytes, open_certificate, adopted)

    def _make_headroom(self) -> Headroom:
        return Headroom(
            self._settings.limits.headroom,
            lambda: self.readiness.lasting_lag_ms,
            lambda: [store.storage for store in self.stores.all],
        )

    def _make_stores(self, plugins: ChosenPlugins) -> Stores:
        return Stores(
            self._reactor,
            [storage for app in plugins.apps.values() for storage in app.storages.values()],
            self._settings.storage.queue_bytes,
            self.events.record,
        )

    def _make_applications(self, plugins: ChosenPlugins) -> Applications:
        shared = Shared(
            self._reactor,
            self.metrics,
            self._numbering,
            self._plugin_threads.in_thread,
            recovered=self._take_recovered,
            record=self.events.record,
            make_shelf=lambda name, size: self._make_shelf(name, size),
            make_viewers=lambda name: self._make_viewers(name),
        )
        return Applications(
            self._settings,
            plugins,
            self.stores,
            shared,
            has_streams=lambda app: any(stream.name.app == app for stream in self.registry),
        )

    def _make_node(self, plugins: ChosenPlugins) -> ClusterNode | None:
        """This process as one of several; ``None`` where it is alone."""
        worker, factory = self._worker, plugins.directory
        if factory is None or not factory.is_shared:
            if worker is None:
                return None
            factory = LocalDirectoryFactory(str(Path(self._settings.server.numbers_file).parent / "directory"))
        place = make_place(self._reactor, worker, self._settings.cluster, partial(self._certificates.open, "cluster"))
        return ClusterNode(
            self._reactor,
            place,
            factory.open,
            self.applications,
            self._plugin_threads.in_thread,
            utc_ms,
            accepts=self._settings.cluster.when_down == "accept",
        )

    def _make_shelf(self, name: StreamName, max_waiters: int) -> Shelf:
        return Shelf(max_waiters, self._reactor) if self.node is None else self.node.make_shelf(name, max_waiters)

    def _make_viewers(self, name: StreamName) -> Viewers:
        return Viewers(self._viewer_salt) if self.node is None else self.node.make_viewers(name)

    def _replaced(self) -> None:
        """This process ends, and others continue what it leaves."""
        if self.node is not None:
            self.node.is_replaced = True

    def _arrive(self, name: StreamName, left: Mapping[str, Mapping[str, bytes]]) -> Deferred[None]:
        """Continue a stream that another process had."""
        return Deferred.fromCoroutine(self._continue(name, left))

    async def _continue(self, name: StreamName, left: Mapping[str, Mapping[str, bytes]]) -> None:
        self._recoveries = [each for each in self._recoveries if not each.is_done]
        recovery = self._make_recovery({name.app: self.applications[name.app]}, ())
        self._recoveries.append(recovery)
        await recovery.arrive(name, left)
        for each in recovery.streams():
            self._log.info("{stream} is continued", stream=self.registry.resume(each).name)
        recovery.work_afterwards()

    def _egress(self, app: str) -> float:
        return self._admission.egress(app)

    def _has_stream(self, name: StreamName) -> bool:
        stream = self.registry.find(name)
        return stream is not None and not stream.has_ended

    def _make_number_mark(self) -> NumberMark:
        path = Path(self._settings.server.numbers_file)
        return NumberMark(
            path if self._worker is None else path.with_name(f"{path.name}-{self._worker.number}"),
            self._numbering,
            self._reactor,
            self._plugin_threads.in_thread,
            lambda: max((stream.shelf.reached for stream in self.registry), default=0),
        )

    def _make_reloading(self, configuration: Configuration) -> Reloading:
        return Reloading(self._reactor, configuration, self.follow, self.applications.outcomes, self._certificates)

    def _add_demo(self) -> None:
        app = self.applications[DEMO.app]
        if app.names.are_others:
            raise ConfigurationError(f"--demo publishes {DEMO}, which apps.{DEMO.app}.public_names calls otherwise")
        make_demo(self._reactor, app.authenticator, self.rtmp.addresses).setServiceParent(self)  # type: ignore[no-untyped-call]

    def _make_registry(self) -> Registry:
        return Registry(
            self._reactor,
            self.applications,
            lambda stream: stream.shelf.target_ms or self._settings.hls.segment_ms,
            max_streams=self._settings.server.max_streams,
            forgetting=self._forgotten,
            leases=self._leases,
            find_no_room=self.headroom.refusal,
        )

    def _make_recovery(self, apps: Mapping[str, Application], stores: Sequence[Store]) -> Recovery:
        return Recovery(
            {name: app.sinks for name, app in apps.items()},
            stores,
            lambda app, factory: apps[app].store_of_sink(factory),
            self._numbering,
            utc_ms,
            self._leases,
        )

    def _take_recovered(self, name: StreamName) -> Recovered:
        return next((found for recovery in self._recoveries if (found := recovery.take(name))), {})

    def _forgotten(self, stream: LiveStream) -> None:
        self._numbering.reached(stream.shelf.reached)
        if self.node is not None:
            self.node.forgotten(stream)
        self.applications.let_go(stream.name.app)
        if self._contributions.have_lingering:
            self._follow_contributors()

    def _ask_contributors(self, contributors: Sequence[IContributes]) -> Contributions:
        """What plugins bring; their services become parts of this one."""
        context = ContributionContext(
            apps=self.applications,
            streams=self.registry,
            storage=lambda purpose: self.applications.general_store(purpose).storage,
            clock=self._reactor,
            utc_ms=utc_ms,
            metrics=self.metrics.registry,
            events=self.events,
            is_persistent=lambda purpose: self.applications.general_store(purpose).writer.persistent,
            in_thread=self._plugin_threads.in_thread,
            server_id=self._id,
            publish=self._publish,
            section=lambda name: self.applications.settings.sections[name],
            find_playable=lambda name: (self.registry if self.node is None else self.node).find(name),
            elect=lambda what: succeed(True) if self.node is None else self.node.elect(what),
            resign=lambda what: None if self.node is None else self.node.resign(what),
        )
        contributions = Contributions(contributors, context, self)
        contributions.follow(self.applications.values())
        self.metrics.collect_from(contributions.metrics)
        return contributions

    def _follow_contributors(self) -> None:
        self._contributions.follow(self.applications.values(), self.registry.applications())
        if self._sites is not None:
            self._sites.follow(self._contributions.current)

    def _applications_changed(self) -> None:
        """Look after what the applications that there are now consist of."""
        self._managers.follow(self.applications.settings)
        self._hooks.follow(self.applications.settings.hooks)
        self._follow_contributors()
        self.registry.max_streams = self.applications.settings.server.max_streams
        self._leases.watch(self.stores.all)
        if self.running:
            self.readiness.watch(self._probed_storages())
        self._contributions.tell_apps_changed()

    def _probed_storages(self) -> Mapping[str, IStorage]:
        """Those that an application uses, by name."""
        apps = {*self.applications.values(), *self.registry.applications()}
        used = {store for app in apps for store in app.stores.values()}
        return {store.name: store.storage for store in self.stores.all if store in used}

    def _listeners(self, installed: Iterable[IEventListener]) -> Iterator[IEventListener]:
        yield from installed
        for contribution in self._contributions.current:
            yield from contribution.listeners

    def _notice_viewers_leaving(self) -> None:
        time_ms = now_ms(self._reactor)
        for stream in self.registry:
            stream.viewers.count(time_ms)
        self._histories.look(self.registry, time_ms)

    def _make_play_policy(self) -> PlayPolicy:
        live = self._settings.live
        return PlayPolicy(
            wait_ms=live.play_wait_ms,
            lag_ms=live.play_lag_ms,
            gops=None if live.play_gops == "auto" else int(live.play_gops),
            is_optimistic=live.play_enhanced == "optimistic",
            gop_bytes=live.gop_cache_bytes,
        )

    def _make_admission(self) -> Admission:
        http = self._settings.http
        return Admission(
            self.registry if self.node is None else self.node,
            self.applications,
            http.limits.max_viewers_per_client,
            TrustedProxies(http.trusted_proxies),
            self._reactor,
            os.urandom(16),
            utc_ms,
            self.revocations,
            self.events.record,
            self._overload,
        )

    def _publish(self, publication: Publication) -> Deferred[Any]:
        """Let a plugin bring a stream in; like clients it waits until it is known what an earlier server left."""
        if self._is_accepting:
            return publish(self.rtmp_factory.services, publication)
        waiting: Deferred[None] = Deferred(self._waiting_publishes.remove)
        self._waiting_publishes.append(waiting)
        return waiting.addCallback(lambda _: publish(self.rtmp_factory.services, publication))

    def _demand(self, name: StreamName, via: tuple[str, ...]) -> Deferred[None] | None:
        """Ask plugins for a stream that is not here; the first one that knows it brings it."""
        answers = (contribution.demand(name, via) for contribution in self._contributions.current)
        return next((answer for answer in answers if answer is not None), None)

    def _make_rtmp(self) -> RtmpServerFactory:
        rtmp = self._settings.rtmp
        services = RtmpServices(
            leases=self._leases,
            own=None if self.node is None else self.node.own,
            registry=self.registry,
            apps=self.applications,
            app_names=AppNames(self.applications, rtmp.app_aliases),
            metrics=self.metrics,
            clock=self._reactor,
            utc_ms=utc_ms,
            timeline=self._settings.live.timeline,
            auth_timeout_ms=rtmp.connections.auth_timeout_ms,
            max_bitrate=1000 * rtmp.connections.max_publisher_kbps,
            auth_backoff=AuthBackoff(rtmp.connections.max_refusals_per_ip),
            record=self.events.record,
            revocations=self.revocations,
            server_id=self._id,
            players=self.players,
            admission=self._admission,
        )
        share, wanted = self._shares.rtmp, rtmp.connections
        max_connections = min(wanted.max_connections, max(share * 2 // 3, share - wanted.max_players))
        return RtmpServerFactory(
            self._reactor,
            services,
            self.metrics,
            os.urandom,
            policy=replace(
                rtmp.connections,
                max_connections=max_connections,
                max_players=min(wanted.max_players, share - max_connections),
                max_connections_per_ip=self._settings.limits.max_connections_per_ip
                or rtmp.connections.max_connections_per_ip,
            ),
            limits=rtmp.session,
        )

    def _make_sites(self) -> Sites:
        rtmp_is_encrypted = next(self.rtmp.addresses()).is_encrypted
        policy = self._make_http_policy(rtmp_is_encrypted=rtmp_is_encrypted)
        return make_sites(
            registry=self.registry,
            metrics=self.metrics,
            readiness=self.readiness,
            apps=self.applications,
            policy=policy,
            clock=self._reactor,
            utc_ms=utc_ms,
            contributions=self._contributions.current,
            viewer_salt=os.urandom(16),
            access=ApiAccess(
                self._api_secret,
                policy,
                self._reactor,
                record=self.events.record,
                find_judge=lambda: self._managers.judge,
                revocations=self.revocations,
            ),
            record=self.events.record,
            find_public_door=self._find_public_door,
            revocations=self.revocations,
            admission=self._admission,
            demand=self._demand,
            players=self.players,
            histories=self._histories,
            directory=self.node,
            share=tuple if self._shared_api is None else self._shared_api.share,
            elsewhere=self._shared_api,
        )

    def _make_http_policy(self, *, rtmp_is_encrypted: bool) -> HttpPolicy:
        """What the HTTP side tells, holds and hands out."""
        server, http, tokens = self._settings.server, self._settings.http, self._settings.tokens
        limits = self._settings.limits
        few = {"max_connections_per_client": limits.max_connections_per_ip} if limits.max_connections_per_ip else {}
        bounds = {**vars(http.limits), "api_requests_per_minute": limits.api_requests_per_minute, **few}
        return HttpPolicy(
            **bounds,
            max_connections=self._shares.http,
            trusted_proxies=http.trusted_proxies,
            open_metrics=http.open_metrics,
            access_log=http.access_log,
            has_management_door=bool(server.manage),
            trust_own_user=server.trust_own_user,
            public_rtmp=server.public_rtmp,
            public_http=server.public_http,
            rtmp_port=self.rtmp.number,
            rtmp_is_encrypted=rtmp_is_encrypted,
            default_expiration_s=tokens.default_expiration_s,
            max_expiration_s=tokens.max_expiration_s,
        )

    def _find_access_storage(self) -> IStorage:
        """Where the list of revoked tokens lies."""
        return self.applications.general_store(Purpose.LIVE).storage

    def _find_public_door(self) -> tuple[str, int]:
        """Scheme and port of where viewers come to; 0 if that has none."""
        return "https" if next(self.http.addresses()).is_encrypted else "http", self.http.number

    def _read_metrics(self) -> Iterable[Metric]:
        labelled = self._settings.server.metrics_stream_labels
        return chain(
            stream_metrics(self.registry, now_ms(self._reactor), labelled=labelled),
            connection_metrics(self.rtmp_factory),
            storage_metrics(self.stores.all),
            lease_metrics(self.stores.all),
            readiness_metrics(self.readiness),
            self._hooks.metrics(),
            self._certificates.metrics(),
            () if self.node is None else node_metrics(self.node),
        )

    # ── starting ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def privilegedStartService(self) -> None:
        """Open every port while the process still may open low ones."""
        self._open_ports()
        super().privilegedStartService()  # type: ignore[no-untyped-call]

    def _open_ports(self) -> None:
        """Open every port, once, or end the process with one line."""
        if self._is_open:
            return
        self._is_open = True
        self.rtmp.open(self.rtmp_factory)
        sites = self._sites = self._make_sites()
        self.http.open(sites.public)
        if sites.management is not None:
            self.manage.open(sites.management)
        if self.stores.persistent or self.node is not None:  # clients wait: what did an earlier server leave?
            self._accept(False)

    def _let_in(self) -> None:
        """Let in what plugins bring, and say that the server is ready."""
        self._is_accepting = True
        waiting, self._waiting_publishes = self._waiting_publishes, []
        for each in waiting:
            each.callback(None)
        self.readiness.listening()

    def _accept(self, accepting: bool) -> None:
        """Let clients in, or let them wait."""
        for ports in (self.rtmp, self.http, self.manage):
            ports.accept(accepting)

    def startService(self) -> None:
        """Begin to work. (``twist``, unlike ``twistd``, knows no privileged start.)"""
        self._open_ports()
        self._find_api_secret()
        self._plugin_threads.start()
        self._number_mark.start()
        self._certificates.start()
        self.stores.start()
        self.readiness.start(self._probed_storages())
        super().startService()  # type: ignore[no-untyped-call]
        self.headroom.start(self._reactor)
        self._overload.start()
        listed = self.revocations.start(self._reactor)
        if self._supervision is not None:
            self._supervision.start()
        if self.node is None:
            self._look_back(listed)
            self._say_where()
        else:
            self.node.start().addCallbacks(lambda _: self._look_back(listed), self._cannot_join)
            if self._worker is None:
                self._say_where()
        self._reactor.callLater(0, settle_memory)

    def _cannot_join(self, failure: Failure) -> None:
        self._log.error("this server cannot be one of several: {error}", error=failure.getErrorMessage())
        self._reactor.callLater(0, self._reactor.stop)

    def _look_back(self, listed: Deferred[None]) -> None:
        """See what an earlier server left, and let clients in."""
        if self.stores.persistent:
            listed.addTimeout(RECOVERY_S, self._reactor).addErrback(lambda _: None)
            recovered = self._recovery.run(self._reactor, RECOVERY_S)
            gatherResults([recovered, listed]).addCallback(lambda results: self._recovered(results[0]))
        elif self.node is None:
            self._let_in()
        else:
            self._recovered(None)

    def _recovered(self, _: None) -> None:
        """Resume what an earlier server left, and let clients in."""
        if not self.running:
            return
        self._resume(self._recovery)
        self._accept(True)
        self._let_in()
        if self._supervision is not None:
            self._supervision.ready()

    def _resume(self, recovery: Recovery) -> None:
        """Resume the streams that were found, and let what takes long begin."""
        for name in recovery.streams():
            stream = self.registry.resume(name)
            self._log.info("{stream} is resumed from storage", stream=stream.name)
        recovery.work_afterwards()

    def _find_api_secret(self) -> None:
        """As the user that the server runs as: it has become that by now."""
        server = self._settings.server
        try:
            self._api_secret.set(find_api_secret(server, self._log))
        except ConfigurationError as error:
            print(f"rapidrtmp: {error}", file=sys.stderr)
            raise SystemExit(1) from error
        if server.trust_own_user and os.name == "posix" and os.geteuid() == 0:
            self._log.warn(
                "running as root: the management API needs no secret of root on this machine, so a reverse proxy that "
                "runs as root opens it to all its clients; give the server a user of its own, or set "
                "server.trust_own_user = false"
            )

    def _say_where(self) -> None:
        how = ", compiled" if is_compiled() else ""
        self._log.info("RapidRTMP {version}{how}", version=__version__, how=how)
        if self._shares.is_low:
            self._log.warn(
                "no more than {limit} files may be open (ulimit -n, LimitNOFILE=): that is enough for {rtmp} RTMP and "
                "{http} HTTP connections at once",
                limit=self._descriptors,
                rtmp=self._shares.rtmp,
                http=self._shares.http,
            )
        for address in self.rtmp.addresses():
            if address.is_socket:
                self._log.info("RTMP on the UNIX socket {path}", path=address.text)
                continue
            scheme = "rtmps" if address.is_encrypted else "rtmp"
            self._log.info("publish to {url}", url=f"{scheme}://{address.text}/live/KEY?token=TOKEN")
        for address in self.http.addresses():
            if address.is_socket:
                self._log.info("HTTP on the UNIX socket {path}", path=address.text)
                continue
            root = _root(address)
            self._log.info("watch at {url}, overview at {root}/", url=f"{root}/live/KEY", root=root)
        self._say_where_elsewhere()
        for address in self.manage.addresses():
            scheme = "unix:" if address.is_socket else "https://" if address.is_encrypted else "http://"
            self._log.info("manage at {door}", door=f"{scheme}{address.text}")
        if any(address.is_encrypted for address in self.http.addresses()):
            if not H2_ENABLED:
                self._log.warn(
                    "HTTPS without HTTP/2: Safari stays at ordinary latency; pip install 'rapidrtmp[http2]' for more"
                )
        else:
            self._log.info("low-latency HLS in Safari needs HTTPS with HTTP/2: an ssl: endpoint or a proxy in front")
        root = next((_root(address) for address in self.http.addresses() if not address.is_socket), "")
        if self._has_demo and root:
            self._log.info("the demo: open {url} in a browser", url=f"{root}/{DEMO}")

    def _say_where_elsewhere(self) -> None:
        """Log how other machines reach what listens on all interfaces, and what the settings say is the address."""
        own = list(find_own_addresses())
        for address in self.rtmp.addresses_elsewhere(own):
            scheme = "rtmps" if address.is_encrypted else "rtmp"
            self._log.info("from other machines: {url}", url=f"{scheme}://{address.text}/live/KEY?token=TOKEN")
        for address in self.http.addresses_elsewhere(own):
            self._log.info("from other machines: {url}", url=f"{_root(address)}/live/KEY")
        server = self._settings.server
        if server.public_rtmp:
            self._log.info("publish URLs name {address}", address=server.public_rtmp)
        if server.public_http:
            self._log.info("watch URLs begin with {url}", url=server.public_http)

    # ── new settings ─────────────────────────────────────────────────────────────────────────────────────────────────

    def hang_up(self) -> None:
        """Read the configuration again, if there is one; what comes of it is in the log."""
        if self._reloading is not None:
            self._reloading.hang_up()

    def follow(self, settings: Settings) -> Deferred[Mapping[str, Outcome]]:
        """
        Follow new settings, as :meth:`Applications.replace` does; what an earlier server left of applications that come
        is first put in order.

        :returns: fires within seconds; fails with ``ConfigurationError``, and nothing has changed.
        """
        return Deferred.fromCoroutine(self._follow(settings))

    async def _follow(self, settings: Settings) -> Mapping[str, Outcome]:
        if not self.running:
            raise ConfigurationError("the server is not running")
        replacement = self.applications.prepare(settings)
        coming = {name: replacement.apps[name] for name in replacement.coming if name not in self.applications}
        recovery = self._make_recovery(coming, [self.stores.of(opened) for opened in replacement.opened])
        if any(store.writer.persistent for app in coming.values() for store in app.stores.values()):
            self._leases.watch(self.stores.all)
            self._recoveries.append(recovery)
            await recovery.run(self._reactor, RECOVERY_S)
        try:
            if not self.running:
                self.applications.discard(replacement)
                raise ConfigurationError("the server is stopping")
            outcomes = self.applications.apply(replacement)
        except Exception:
            if recovery in self._recoveries:
                self._recoveries.remove(recovery)
            recovery.stop()
            raise
        self._resume(recovery)
        return outcomes

    # ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def stopService(self) -> Deferred[None]:
        """Stop in order; done in the time the settings allow."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        timeout_s = self._settings.server.shutdown_timeout_ms / 1000
        deadline_s = self._reactor.seconds() + timeout_s
        self.readiness.drain()
        if self._reloading is not None:
            self._reloading.stop()
        self._certificates.stop()
        for recovery in self._recoveries:
            recovery.stop()
        self.revocations.stop()
        self.headroom.stop()
        self._overload.stop()
        await self._within(deadline_s, super().stopService())  # type: ignore[no-untyped-call]
        for closing in self.rtmp.close():
            await self._within(deadline_s, closing)
        await self._part_with_streams(deadline_s)
        if self.node is not None:
            await self._within(deadline_s, Deferred.fromCoroutine(self.node.stop()))
        await self._within(deadline_s, self._number_mark.stop())
        await self._within(deadline_s, self.rtmp_factory.close_all())
        self._told.streams.stop()
        await deferLater(self._reactor, FAREWELL_S)
        for closing in (*self.http.close(), *self.manage.close()):
            await self._within(deadline_s, closing)
        self.readiness.stop()
        if self._supervision is not None:
            self._supervision.stop()
        left_s = max(0.1, deadline_s - self._reactor.seconds())
        if not await self.stores.drain(left_s):
            self._log.error("shutdown: pending storage writes were lost")
        for closing in self.stores.close():
            await self._within(deadline_s + 0.5, closing)
        self.stores.stop()
        self.events.stop()
        await self._within(deadline_s, self._hooks.drain())
        await self._within(deadline_s, self._hooks.stop())
        self._plugin_threads.stop()
        self._log.info("stopped")

    async def _part_with_streams(self, deadline_s: float) -> None:
        """End the streams, or leave them to the next server; then answer what players were still waiting for."""
        timeout_ms = self._settings.server.shutdown_timeout_ms
        within_ms = min(LAST_KEYFRAME_MS, timeout_ms // LAST_KEYFRAME_SHARE)
        if self.node is not None and self.node.is_replaced:
            self.registry.send_away("this process is being replaced; connect again", within_ms)
            until_s = self._reactor.seconds() + timeout_ms / 1000 * HANDED_OVER_SHARE
            while self.registry.live() and self._reactor.seconds() < until_s:
                await deferLater(self._reactor, 0.05)
        parted = self.registry.shut_down("the server is shutting down", self._is_resumed, within_ms)
        await self._within(deadline_s, parted)
        for stream in self.registry:
            stream.shelf.stop_holding()

    def _is_resumed(self, name: StreamName) -> bool:
        """Whether the next server resumes a stream that this one leaves."""
        if self.node is not None and self.node.is_replaced:
            return True
        is_wanted = self._settings.server.on_stop == "interrupt"
        return is_wanted and self.applications[name.app].stores[Purpose.LIVE].writer.persistent

    async def _within(self, deadline_s: float, waiting: object) -> None:
        """Wait for something, but not past the deadline; a failure is logged and stops nothing."""
        if not isinstance(waiting, Deferred):
            return
        waiting.addTimeout(max(0.1, deadline_s - self._reactor.seconds()), self._reactor)
        waiting.addErrback(lambda failure: self._log.error("shutdown: {error}", error=failure.value))
        await waiting


def _root(address: Address) -> str:
    """The URL of an HTTP door, without a slash at the end."""
    return f"{'https' if address.is_encrypted else 'http'}://{address.text}"
