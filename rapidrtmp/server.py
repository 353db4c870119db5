"""
The server, put together: storage and its queue, live streams and their sinks, the RTMP and the HTTP side.

It starts in one go, or says in one line why it can not, and stops in order: no new clients, publishers told, sinks
finished (the playlists become final), what they wrote stored, then the rest.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain
from typing import Any

from prometheus_client.core import Metric
from twisted.application.service import MultiService
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.internet.tcp import Port
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from twisted.web.server import Site

from rapidrtmp import __version__
from rapidrtmp.chosen import AppPlugins, ChosenPlugins
from rapidrtmp.codec.policy import TimelinePolicy
from rapidrtmp.config import Settings
from rapidrtmp.demo import DemoPublisher
from rapidrtmp.dvr.library import Library
from rapidrtmp.dvr.retention import Retention, RetentionRules
from rapidrtmp.dvr.service import RecordingsService
from rapidrtmp.dvr.sink import RecorderFactory
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import AuthenticatorContext, IAuthenticator, ISink, ITokenIssuer, SinkContext, StorageContext
from rapidrtmp.live.clocks import SteadyClock, now_ms
from rapidrtmp.live.numbering import Numbering
from rapidrtmp.live.recovery import Recovery
from rapidrtmp.live.registry import Registry, StreamPolicy
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.live.stream import LiveStream
from rapidrtmp.live.viewers import Viewers
from rapidrtmp.metrics import Metrics
from rapidrtmp.names import StreamName
from rapidrtmp.net.ingest import IngestServices
from rapidrtmp.net.protocol import ConnectionPolicy, RtmpServerFactory
from rapidrtmp.net.refusals import Refusals
from rapidrtmp.readiness import Readiness
from rapidrtmp.rtmp.limits import AmfLimits, SessionLimits
from rapidrtmp.scrape import connection_metrics, readiness_metrics, storage_metrics, stream_metrics
from rapidrtmp.storage.store import Store, make_store
from rapidrtmp.web.app import make_site
from rapidrtmp.web.policy import HttpPolicy
from rapidrtmp.web.recordings import RECORDER, Recordings

__all__ = ["RapidRtmpService", "make_service"]

STORAGE_THREADS = 8
#: How long a starting server looks at what an earlier one left before it lets anybody in.
RECOVERY_S = 5.0
#: How long a stopping server lets players fetch the ends of their playlists.
FAREWELL_S = 0.5
#: How many connections may wait to be accepted: fifty, Twisted's default, fill up within one burst, and then the system
#: drops whoever comes, publishers too, who try again a second later.
LISTEN_BACKLOG = 1024
DEMO = StreamName("live", "demo")
DEMO_TOKEN_LIFETIME_S = 3600


def make_service(reactor: Any, settings: Settings, plugins: ChosenPlugins, *, demo: bool = False) -> RapidRtmpService:
    """
    The whole server as a Twisted service.

    :param reactor: provides time, TCP, threads and processes.
    :param demo: whether to publish a test picture as ``live/demo``.
    :raises ConfigurationError: a plugin can not work as it is configured.
    """
    return RapidRtmpService(reactor, settings, plugins, demo=demo)


class RapidRtmpService(MultiService):
    """
    Everything that runs.

    :ivar rtmp_factory: what accepts RTMP connections.
    :ivar rtmp_ports: what listens for them, once it is started; likewise ``http_ports``.
    """

    _log = Logger()

    def __init__(self, reactor: Any, settings: Settings, plugins: ChosenPlugins, *, demo: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rtmp_ports: list[IListeningPort] = []
        self.http_ports: list[IListeningPort] = []
        self._reactor = reactor
        self._settings = settings
        self._plugins = plugins
        self._steady = SteadyClock(time.monotonic, time.time)
        self._viewer_salt = os.urandom(16)
        self.metrics = Metrics()
        self.readiness = Readiness(reactor)
        self._threads = ThreadPool(0, STORAGE_THREADS, "storage")
        self._store = self._make_store(plugins.storage)
        self._recordings_store = self._make_store(plugins.recordings) if plugins.recordings else self._store
        self._stores = list(dict.fromkeys([self._store, self._recordings_store]))
        self._numbering = Numbering(self._steady.utc_ms)
        self._recovery = Recovery(
            {name: each.sinks for name, each in plugins.apps.items()},
            self._store.storage,
            self._store.writer,
            self._numbering,
            self._steady.utc_ms,
            others=self._stores[1:],
        )
        self.authenticators = {name: self._make_authenticator(name) for name in plugins.apps}
        self.registry = self._make_registry()
        self._library = Library(self._recordings_store.storage, reactor)
        self._make_recordings_service().setServiceParent(self)  # type: ignore[no-untyped-call]
        self.rtmp_factory = self._make_rtmp()
        self.metrics.collect_from(self._read_metrics)
        if demo:
            self._make_demo().setServiceParent(self)  # type: ignore[no-untyped-call]

    # ── the parts ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _make_store(self, factory: Any) -> Store:
        in_thread = partial(deferToThreadPool, self._reactor, self._threads)
        context = StorageContext(in_thread, self._reactor, Logger("rapidrtmp.storage"))
        return make_store(factory, context, self._settings.storage.queue_bytes)

    def _make_authenticator(self, app: str) -> IAuthenticator:
        context = AuthenticatorContext(self._reactor, self._steady.utc_ms, Logger("rapidrtmp.auth"))
        authenticator: IAuthenticator = self._plugins.apps[app].authenticator.create(context)
        return authenticator

    def _make_registry(self) -> Registry:
        live, rtmp = self._settings.live, self._settings.rtmp
        policies = {
            name: StreamPolicy(
                grace_ms=app.grace_ms,
                linger_ms=live.linger_ms,
                takeover_silence_ms=rtmp.takeover_silence_ms,
                max_streams=app.max_streams,
            )
            for name, app in self._settings.apps.items()
        }
        return Registry(
            self._reactor,
            self._make_stream,
            lambda stream: stream.shelf.target_ms or self._settings.hls.segment_ms,
            policies=policies,
            max_streams=self._settings.server.max_streams,
            forgetting=lambda stream: self._numbering.reached(stream.shelf.reached),
        )

    def _make_stream(self, name: StreamName) -> LiveStream:
        """A stream with the sinks of its application; a sink that can not be made is left out."""
        stream = LiveStream(
            name,
            Shelf(self._settings.http.max_waiters_per_stream, self._reactor),
            Viewers(self._viewer_salt),
            started_at_ms=self._steady.utc_ms(),
            gop_cache_bytes=self._settings.live.gop_cache_bytes,
            sink_failed=lambda sink: self.metrics.sinks_detached_total.labels(sink).inc(),
            utc_of=partial(self._steady.utc_of, self._reactor),
        )
        recovered = self._recovery.take(name)
        for sink, factory in self._plugins.apps[name.app].sinks.items():
            try:
                store = self._recordings_store if isinstance(factory, RecorderFactory) else self._store
                stream.attach(sink, factory.create(self._sink_context(stream, sink, store, recovered.get(sink, {}))))
            except Exception:
                self.metrics.sinks_detached_total.labels(sink).inc()
                self._log.failure("{stream}: sink {sink} can not be made", stream=name, sink=sink)
        return stream

    def _sink_context(self, stream: LiveStream, sink: str, store: Store, recovered: Mapping[str, bytes]) -> SinkContext:
        return SinkContext(
            stream=stream.name,
            shelf=stream.shelf,
            storage=store.writer.lane(f"{stream.name}/{sink}"),  # one slow sink holds up no other
            clock=self._reactor,
            log=Logger(f"rapidrtmp.sinks.{sink}"),
            metrics=self.metrics.sink(sink),
            utc_ms=stream.utc_ms,
            first_sequence=self._numbering.first(),
            recovered=recovered,
        )

    def _make_recordings_service(self) -> RecordingsService:
        rules = {
            name: RetentionRules.strictest(recorder.retention for recorder in _recorders(app))
            for name, app in self._plugins.apps.items()
        }
        metrics = self.metrics
        deleted, deleted_bytes = metrics.recordings_deleted_total, metrics.recordings_deleted_bytes_total
        retention = Retention(self._library, rules, self._steady.utc_ms, deleted, deleted_bytes)
        return RecordingsService(self._library, retention, self._reactor)

    def _make_recorder(self, stream: LiveStream) -> ISink:
        """A recorder for whoever starts one by hand: as the application's own is, if it has one."""
        factory = next(iter(_recorders(self._plugins.apps[stream.name.app])), None) or RecorderFactory()
        return factory.create(self._sink_context(stream, RECORDER, self._recordings_store, {}))

    def _make_rtmp(self) -> RtmpServerFactory:
        rtmp, live = self._settings.rtmp, self._settings.live
        services = IngestServices(
            registry=self.registry,
            authenticators=self.authenticators,
            metrics=self.metrics,
            clock=self._reactor,
            utc_ms=self._steady.utc_ms,
            timeline=TimelinePolicy(start_media_ms=live.start_window_ms, start_wall_ms=live.start_deadline_ms),
            auth_timeout_ms=rtmp.auth_timeout_ms,
            refusals=Refusals(rtmp.max_refusals_per_ip),
        )
        return RtmpServerFactory(
            self._reactor,
            services,
            self.metrics,
            os.urandom,
            policy=ConnectionPolicy(
                handshake_timeout_ms=rtmp.handshake_timeout_ms,
                publish_timeout_ms=rtmp.publish_timeout_ms,
                idle_timeout_ms=rtmp.idle_timeout_ms,
                ping_interval_ms=rtmp.ping_interval_ms,
                max_connections=rtmp.max_connections,
                max_connections_per_ip=rtmp.max_connections_per_ip,
                max_unauthorised_connections=rtmp.max_unauthorised_connections,
            ),
            limits=SessionLimits(
                unauthorised_message_bytes=rtmp.pre_auth_message_bytes,
                unauthorised_partial_bytes=2 * rtmp.pre_auth_message_bytes,
                media_bytes=rtmp.max_message_bytes,
                command_bytes=rtmp.max_command_bytes,
                partial_bytes=rtmp.max_partial_bytes,
                chunk_streams=rtmp.max_chunk_streams,
                message_streams=rtmp.max_message_streams,
                unpublished_commands=rtmp.max_unpublished_commands,
                unpublished_messages=rtmp.max_unpublished_messages,
                unreadable_messages=rtmp.max_unreadable_messages,
                amf=AmfLimits(depth=rtmp.max_amf_depth, values=rtmp.max_amf_values),
            ),
        )

    def _make_site(self, rtmp_port: int) -> Site:
        server, http, tokens = self._settings.server, self._settings.http, self._settings.tokens
        return make_site(
            registry=self.registry,
            metrics=self.metrics,
            readiness=self.readiness,
            apps={app: ITokenIssuer(each, None) for app, each in self.authenticators.items()},
            policy=HttpPolicy(
                early_hold_ms=http.early_hold_ms,
                max_viewers_per_stream={name: app.max_viewers_per_stream for name, app in self._settings.apps.items()},
                max_waiters_per_client=http.max_waiters_per_client,
                max_body_bytes=http.max_body_bytes,
                idle_timeout_s=max(1, http.idle_timeout_ms // 1000),
                trusted_proxies=http.trusted_proxies,
                open_metrics=http.open_metrics,
                access_log=http.access_log,
                api_token=server.api_token,
                public_rtmp=server.public_rtmp,
                rtmp_port=rtmp_port,
                default_expiration_s=tokens.default_expiration_s,
                max_expiration_s=tokens.max_expiration_s,
            ),
            clock=self._reactor,
            utc_ms=self._steady.utc_ms,
            recordings=Recordings(self._library, self.registry, self._make_recorder),
            storage=self._store.storage,
        )

    def _read_metrics(self) -> Iterable[Metric]:
        labelled = self._settings.server.metrics_stream_labels
        return chain(
            stream_metrics(self.registry, now_ms(self._reactor), labelled=labelled),
            connection_metrics(self.rtmp_factory),
            storage_metrics([store.writer for store in self._stores]),
            readiness_metrics(self.readiness),
        )

    def _make_demo(self) -> DemoPublisher:
        """The demo, which publishes through the front door, with a token like anybody's."""
        issuer = ITokenIssuer(self.authenticators[DEMO.app], None)
        if issuer is None:
            raise ConfigurationError(
                f"--demo publishes {DEMO} with a token of this server, and none of apps.{DEMO.app}.auth issues any: "
                "add token or open to it"
            )

        def make_url() -> str:
            token = issuer.issue_token(DEMO, DEMO_TOKEN_LIFETIME_S)
            query = f"?token={token}" if token else ""
            return f"rtmp://127.0.0.1:{_port_number(self.rtmp_ports[0])}/{DEMO}{query}"

        return DemoPublisher(self._reactor, make_url, Logger("rapidrtmp.demo"))

    # ── starting ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def privilegedStartService(self) -> None:
        """Open every port while the process still may open low ones."""
        self._open_ports()
        super().privilegedStartService()  # type: ignore[no-untyped-call]

    def _open_ports(self) -> None:
        """Open every port, once, or end the process with one line."""
        if self.rtmp_ports or self.http_ports:
            return
        self.rtmp_ports = [self._listen(each, self.rtmp_factory) for each in self._settings.server.rtmp]
        site = self._make_site(_port_number(self.rtmp_ports[0]) if self.rtmp_ports else 1935)
        self.http_ports = [self._listen(each, site) for each in self._settings.server.http]
        if self._store.writer.persistent:  # whoever connects waits, until it is known what an earlier server left
            self._accept(False)

    def _accept(self, accepting: bool) -> None:
        """Let clients in, or leave them to the system for a while: it completes their connections and holds them."""
        for port in (*self.rtmp_ports, *self.http_ports):
            if isinstance(port, FileDescriptor):
                port.startReading() if accepting else port.stopReading()  # type: ignore[no-untyped-call]

    def _listen(self, description: str, factory: Factory[Any]) -> IListeningPort:
        results: list[IListeningPort | Failure] = []
        serverFromString(self._reactor, description).listen(factory).addBoth(results.append)
        result = results[0] if results else Failure(RuntimeError("the endpoint did not answer at once"))
        if isinstance(result, Failure):
            print(f"rapidrtmp: can not listen on {description}: {result.getErrorMessage()}", file=sys.stderr)
            raise SystemExit(1)
        if isinstance(result, Port):
            result.socket.listen(LISTEN_BACKLOG)
        return result

    def startService(self) -> None:
        """Begin to work. (``twist``, unlike ``twistd``, knows no privileged start.)"""
        self._open_ports()
        self._threads.start()
        self.readiness.start(*(store.storage for store in self._stores))
        super().startService()  # type: ignore[no-untyped-call]
        if self._store.writer.persistent:
            self._recovery.run(self._reactor, RECOVERY_S).addCallback(self._go_on)
        else:
            self.readiness.listening()
        self._say_where()
        self._reactor.callLater(0, _settle_garbage_collector)

    def _go_on(self, _: None) -> None:
        """Go on with what an earlier server left, and let everybody in."""
        if not self.running:
            return
        for name in self._recovery.streams():
            stream = self.registry.resume(name)
            self._log.info("{stream} goes on from what is stored of it", stream=stream.name)
        self._accept(True)
        self.readiness.listening()

    def _say_where(self) -> None:
        self._log.info("RapidRTMP {version}", version=__version__)
        server = self._settings.server
        for description, port in zip(server.rtmp, self.rtmp_ports, strict=True):
            scheme = "rtmps" if _is_encrypted(description) else "rtmp"
            self._log.info("publish to {url}", url=f"{scheme}://{_shown_address(port)}/live/KEY?token=TOKEN")
        for description, port in zip(server.http, self.http_ports, strict=True):
            root = f"{'https' if _is_encrypted(description) else 'http'}://{_shown_address(port)}"
            self._log.info("watch at {url}, overview at {root}/", url=f"{root}/live/KEY", root=root)
        if not any(map(_is_encrypted, server.http)):
            self._log.info("low-latency HLS in Safari needs HTTPS with HTTP/2: an ssl: endpoint or a proxy in front")

    # ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def stopService(self) -> Deferred[None]:
        """Stop in order; done in the time the settings allow."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        timeout_s = self._settings.server.shutdown_timeout_ms / 1000
        deadline_s = self._reactor.seconds() + timeout_s
        self.readiness.drain()
        self._recovery.stop()
        await self._within(deadline_s, super().stopService())  # type: ignore[no-untyped-call]
        for port in self.rtmp_ports:
            await self._within(deadline_s, port.stopListening())
        await self._within(deadline_s, self.registry.end_all("the server is shutting down"))
        await self._within(deadline_s, self.rtmp_factory.close_all())
        await deferLater(self._reactor, FAREWELL_S)
        for port in self.http_ports:
            await self._within(deadline_s, port.stopListening())
        self.readiness.stop()
        left_s = max(0.1, deadline_s - self._reactor.seconds())
        drained: list[Deferred[Any]] = [store.writer.drain(left_s) for store in self._stores]
        if not all(await gatherResults(drained)):
            self._log.error("stopped before the storage had taken everything")
        for store in self._stores:
            await self._within(deadline_s + 0.5, store.storage.close())
        self._threads.stop()
        self._log.info("stopped")

    async def _within(self, deadline_s: float, waiting: object) -> None:
        """Wait for something, but not past the deadline; a failure is logged and stops nothing."""
        if not isinstance(waiting, Deferred):
            return
        waiting.addTimeout(max(0.1, deadline_s - self._reactor.seconds()), self._reactor)
        waiting.addErrback(lambda failure: self._log.error("while stopping: {error}", error=failure.value))
        await waiting


def _recorders(app: AppPlugins) -> list[RecorderFactory]:
    """The recorders of an application."""
    return [factory for factory in app.sinks.values() if isinstance(factory, RecorderFactory)]


def _settle_garbage_collector() -> None:
    """What is there now stays for good: do not look at it again and again, and look at the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _port_number(port: IListeningPort) -> int:
    return int(getattr(port.getHost(), "port", 0))


def _shown_address(port: IListeningPort) -> str:
    host = str(getattr(port.getHost(), "host", "localhost"))
    shown = "localhost" if host in ("0.0.0.0", "::", "127.0.0.1", "::1") else host
    return f"{shown}:{_port_number(port)}"


def _is_encrypted(description: str) -> bool:
    return description.startswith("ssl:")
