"""Makes live streams, each with the sinks of its application and what those are given to work with."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from twisted.logger import Logger

from rapidrtmp.app.application import AppPlugins
from rapidrtmp.app.storages import Stores
from rapidrtmp.interfaces import IPartSink, ISink, SinkContext
from rapidrtmp.interfaces.storage import InThread
from rapidrtmp.live.fan_out import FanOut
from rapidrtmp.live.frame_queue import FrameQueue
from rapidrtmp.live.numbering import Numbering
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.live.stream import LiveStream
from rapidrtmp.live.viewers import Viewers
from rapidrtmp.metrics import Metrics
from rapidrtmp.names import StreamName
from rapidrtmp.recording.sink import IRecorderFactory, RecorderFactory
from rapidrtmp.settings.model import Settings
from rapidrtmp.support.clock import now_ms, utc_ms
from rapidrtmp.web.recordings import RECORDER

__all__ = ["StreamMaker", "recorders"]

Recovered = Mapping[str, Mapping[str, bytes]]


def recorders(app: AppPlugins) -> list[IRecorderFactory]:
    """The recorders of an application whose recordings the library knows, whichever plugins they are."""
    return [factory for factory in app.sinks.values() if IRecorderFactory.providedBy(factory)]


class StreamMaker:
    """
    Makes the streams of one server.

    :param reactor: time and timers.
    :param apps: the plugins of each application, by name.
    :param recovered: what sinks go on with of what an earlier process left of a stream, by sink; asked once a stream.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        apps: Mapping[str, AppPlugins],
        *,
        stores: Stores,
        recovered: Callable[[StreamName], Recovered],
        metrics: Metrics,
        numbering: Numbering,
        in_thread: InThread,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._apps = apps
        self._stores = stores
        self._recovered = recovered
        self._metrics = metrics
        self._numbering = numbering
        self._in_thread = in_thread
        self._viewer_salt = os.urandom(16)

    def make(self, name: StreamName) -> LiveStream:
        """A stream with the sinks of its application; a sink that can not be made is left out."""
        stream = LiveStream(
            name,
            Shelf(self._settings.http.max_waiters_per_stream, self._reactor),
            Viewers(self._viewer_salt),
            started_at_ms=utc_ms(),
            begun_ms=now_ms(self._reactor),
            gop_cache_bytes=self._settings.live.gop_cache_bytes,
            fan_out=FanOut(
                name,
                limit_ms=self._settings.live.slow_sink_ms,
                failed=lambda sink: self._metrics.sinks_detached_total.labels(sink).inc(),
                measured=lambda sink, seconds: self._metrics.sink_seconds_total.labels(sink).inc(seconds),
            ),
            utc_of=lambda arrived_ms: utc_ms() - (now_ms(self._reactor) - arrived_ms),
        )
        recovered = self._recovered(name)
        for sink, factory in self._apps[name.app].sinks.items():
            try:
                stream.attach(sink, factory.create(self._context(stream, sink, factory, recovered.get(sink, {}))))
            except Exception:
                self._metrics.sinks_detached_total.labels(sink).inc()
                self._log.failure("{stream}: sink {sink} can not be made", stream=name, sink=sink)
        return stream

    def make_recorder(self, stream: LiveStream) -> ISink | IPartSink:
        """A recorder for whoever starts one by hand: as the application's own is, if it has one."""
        factory = next(iter(recorders(self._apps[stream.name.app])), None) or RecorderFactory()
        return factory.create(self._context(stream, RECORDER, factory, {}))

    def _context(self, stream: LiveStream, sink: str, factory: Any, recovered: Mapping[str, bytes]) -> SinkContext:
        writer = self._stores.of_sink(stream.name.app, factory).writer
        return SinkContext(
            stream=stream.name,
            shelf=stream.shelf,
            storage=writer.lane(f"{stream.name}/{sink}"),  # one slow sink holds up no other
            clock=self._reactor,
            log=Logger(f"rapidrtmp.sinks.{sink}"),
            metrics=self._metrics.sink(sink),
            utc_ms=stream.utc_ms,
            first_sequence=self._numbering.first(),
            recovered=recovered,
            in_thread=self._in_thread,
            spawn_process=self._reactor.spawnProcess,
            frame_queue=FrameQueue,
        )
