"""
One RTMP application: its sinks, its authenticator, its storages and its limits, and how its streams are made.

An application is immutable. What its settings change is another application in its place
(:mod:`rapidrtmp.app.applications`); streams keep the one they were made with.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from rapidrtmp.app.plugins import purpose_of
from rapidrtmp.app.public_names import PublicNames
from rapidrtmp.interfaces import (
    AppLimits,
    AppRelays,
    EventType,
    IApplication,
    IAuthenticator,
    IPartSink,
    IPlayAuthenticator,
    ISink,
    IStorage,
    Purpose,
    RecordEvent,
    SinkContext,
    TranscoderContext,
    no_event,
)
from rapidrtmp.interfaces.storage import InThread
from rapidrtmp.live.fan_out import FanOut
from rapidrtmp.live.frame_queue import FrameQueue
from rapidrtmp.live.numbering import Numbering
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.live.stream import LiveStream
from rapidrtmp.live.viewers import Viewers
from rapidrtmp.metrics import Metrics
from rapidrtmp.names import StreamName
from rapidrtmp.settings.model import Settings
from rapidrtmp.storage.store import Store
from rapidrtmp.support.clock import now_ms, utc_ms
from rapidrtmp.transcode.ladder import Ladder

__all__ = ["Application", "Recovered", "Shared", "limits_of", "relays_of"]

#: What sinks resume of what an earlier process left of a stream, by the sink's name.
Recovered = Mapping[str, Mapping[str, bytes]]


@dataclass(frozen=True, eq=False)
class Shared:
    """
    What all applications of a server work with.

    :ivar reactor: time and timers.
    :ivar in_thread: runs what plugins do in threads.
    :ivar recovered: asked once a stream, when it is made.
    :ivar record: records what happens.
    :ivar make_viewers: makes what counts the viewers of a stream, all with one salt.
    :ivar make_shelf: makes the shelf of a stream, which holds so many requests at most; ``None`` for a plain one.
    """

    reactor: Any
    metrics: Metrics
    numbering: Numbering
    in_thread: InThread
    recovered: Callable[[StreamName], Recovered] = lambda _name: {}
    record: RecordEvent = no_event
    make_shelf: Callable[[StreamName, int], Shelf] | None = None
    make_viewers: Callable[[StreamName], Viewers] = field(default_factory=lambda: _viewers_of(os.urandom(16)))


def _viewers_of(salt: bytes) -> Callable[[StreamName], Viewers]:
    return lambda _name: Viewers(salt)


def limits_of(name: str, settings: Settings) -> AppLimits:
    """What the settings allow the streams of an application."""
    app = settings.apps[name]
    return AppLimits(
        grace_ms=app.grace_ms,
        linger_ms=settings.live.linger_ms,
        takeover_silence_ms=settings.rtmp.takeover_silence_ms,
        max_streams=app.max_streams,
        max_viewers_per_stream=app.max_viewers_per_stream,
        max_players_per_token=app.max_players_per_token,
        max_bitrate_bps=app.max_bitrate_bps,
        max_egress_bps=app.max_egress_bps,
        max_connections_per_ip=app.max_connections_per_ip,
    )


def relays_of(name: str, settings: Settings) -> AppRelays:
    """Which streams of an application the settings have pushed and pulled."""
    app = settings.apps[name]
    return AppRelays(app.push, app.pull, app.origin)


def _record_of(record: RecordEvent, stream: StreamName, type: EventType, data: Mapping[str, object]) -> None:
    """Record an event of a stream that concerns no peer."""
    record(type, stream, "", data)


@implementer(IApplication)
@dataclass(frozen=True, eq=False)
class Application:
    """
    See :class:`~rapidrtmp.interfaces.IApplication`.

    :ivar settings: those of the server that it was made of.
    :ivar stores: one for each purpose.
    :ivar is_leaving: see :class:`~rapidrtmp.interfaces.IApplication`.
    :ivar transcoder: an ``ITranscoderFactory``; ``None`` for no ladders.
    """

    name: str
    settings: Settings = field(repr=False)
    sinks: Mapping[str, Any]
    authenticator: IAuthenticator
    play_authenticator: IPlayAuthenticator | None
    names: PublicNames
    stores: Mapping[Purpose, Store]
    limits: AppLimits
    relays: AppRelays
    shared: Shared = field(repr=False)
    is_leaving: bool = False
    transcoder: Any = None

    _log = Logger()

    @property
    def has_secret_keys(self) -> bool:
        """See :class:`IApplication <rapidrtmp.interfaces.IApplication>`."""
        return self.names.are_others or bool(getattr(self.authenticator, "takes_secret_keys", False))

    def public_name(self, key: str) -> str | None:
        """See :meth:`IApplication.public_name <rapidrtmp.interfaces.IApplication.public_name>`."""
        return self.names.find(key)

    def storage(self, purpose: Purpose) -> IStorage:
        """See :meth:`IApplication.storage <rapidrtmp.interfaces.IApplication.storage>`."""
        return self.stores[purpose].storage

    def store_of_sink(self, factory: Any) -> Store:
        """The store that the sinks of a factory write to."""
        return self.stores[purpose_of(factory)]

    def make_stream(self, name: StreamName) -> LiveStream:
        """See :meth:`IApplication.make_stream <rapidrtmp.interfaces.IApplication.make_stream>`."""
        settings, shared = self.settings, self.shared
        recovered = shared.recovered(name)
        stream = LiveStream(
            name,
            self._make_shelf(name),
            shared.make_viewers(name),
            started_at_ms=utc_ms(),
            begun_ms=now_ms(shared.reactor),
            gop_cache_bytes=settings.live.gop_cache_bytes,
            max_bytes=settings.live.max_stream_bytes,
            fan_out=FanOut(
                name,
                limit_ms=settings.live.slow_sink_ms,
                failed=lambda sink: shared.metrics.sinks_detached_total.labels(sink).inc(),
                measured=lambda sink, seconds: shared.metrics.sink_seconds_total.labels(sink).inc(seconds),
            ),
            utc_of=lambda arrived_ms: utc_ms() - (now_ms(shared.reactor) - arrived_ms),
            make_sink=self._make_sink,
            record=shared.record,
        )
        for sink, factory in self.sinks.items():
            try:
                stream.start_sink(sink, factory, recovered.get(sink, {}))
            except Exception:
                shared.metrics.sinks_detached_total.labels(sink).inc()
                self._log.failure("{stream}: sink {sink} cannot be made", stream=name, sink=sink)
        if self.transcoder is not None:
            self._start_ladder(stream)
        return stream

    def _start_ladder(self, stream: LiveStream) -> None:
        """Let the stream have a ladder beside its sinks; without one it goes out as it comes."""
        shared = self.shared
        record = partial(_record_of, shared.record, stream.name)
        ladder = Ladder(stream.name, shared.reactor, lambda: stream.fan_out.sinks, record)
        context = TranscoderContext(
            stream=stream.name,
            ladder=ladder,
            clock=shared.reactor,
            log=Logger("rapidrtmp.transcode"),
            metrics=shared.metrics.sink("transcoder"),
            spawn_process=shared.reactor.spawnProcess,
            in_thread=shared.in_thread,
            record=record,
            advise=stream.advise,
            is_watched=lambda: stream.shelf.is_followed or stream.viewers.count(now_ms(shared.reactor)) > 0,
        )
        ladder.await_rungs()
        try:
            transcoder = ladder.transcoder = self.transcoder.create(context)
        except Exception:
            self._log.failure("{stream}: the transcoder cannot be made", stream=stream.name)
            ladder.begin(())
            return
        stream.renditions_asked_for = transcoder.asked_for
        stream.attach("ladder", ladder)
        stream.attach("transcoder", transcoder)
        stream.rungs = lambda: ladder.reports
        stream.tracks_of_rung = ladder.tracks_of

    def _make_shelf(self, name: StreamName) -> Shelf:
        max_waiters = self.settings.http.max_waiters_per_stream
        if self.shared.make_shelf is not None:
            return self.shared.make_shelf(name, max_waiters)
        return Shelf(max_waiters, self.shared.reactor)

    def _make_sink(
        self, stream: LiveStream, sink: str, factory: Any, recovered: Mapping[str, bytes]
    ) -> ISink | IPartSink:
        shared = self.shared
        context = SinkContext(
            stream=stream.name,
            shelf=stream.shelf,
            storage=self.store_of_sink(factory).writer.lane(f"{stream.name}/{sink}"),  # one slow sink holds up no other
            clock=shared.reactor,
            log=Logger(f"rapidrtmp.sinks.{sink}"),
            metrics=shared.metrics.sink(sink),
            utc_ms=stream.utc_ms,
            first_sequence=shared.numbering.first(),
            recovered=recovered,
            in_thread=shared.in_thread,
            spawn_process=shared.reactor.spawnProcess,
            frame_queue=FrameQueue,
            advise=stream.advise,
            add_metadata=stream.metadata_received,
            captions=stream.captions,
            expected_tracks=lambda: stream.announced_tracks.difference([track.id for track in stream.tracks]),
            record=partial(_record_of, shared.record, stream.name),
        )
        made: ISink | IPartSink = factory.create(context)
        return made
