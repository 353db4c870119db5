"""
Which names are live, and who publishes them.

A name belongs to one publisher at a time. When that one is gone the stream waits for it in grace, then ends, then
lingers so that viewers can see the end of it, then is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from rapidrtmp.errors import RapidRTMPError
from rapidrtmp.interfaces import IApplication, IStreamDirectory, IStreams
from rapidrtmp.live.leases import StreamLeases
from rapidrtmp.live.stream import LiveStream, Publisher, StreamState
from rapidrtmp.names import StreamName
from rapidrtmp.support.client_prefix import origin_of

__all__ = ["LeftStream", "LimitReachedError", "NameTakenError", "Registry", "StreamTotals"]


class NameTakenError(RapidRTMPError):
    """Another client publishes this name: ``NetStream.Publish.BadName``."""


class LimitReachedError(RapidRTMPError):
    """One more stream than the operator allows: refused with the reason."""


class StreamTotals:
    """What streams have received in all."""

    def __init__(self) -> None:
        self.byte_count = self.frames = self.keyframes = self.discontinuities = 0

    def add(self, stream: LiveStream) -> None:
        """Count a stream as well."""
        statistics = stream.statistics
        self.byte_count += statistics.byte_count
        self.frames += statistics.frames
        self.keyframes += statistics.keyframes
        self.discontinuities += stream.discontinuities


class LeftStream(NamedTuple):
    """
    A stream that another process continues.

    :ivar objects: what its sinks left, by the name of each.
    :ivar done: fires when all sinks are done.
    """

    stream: LiveStream
    objects: Mapping[str, Mapping[str, bytes]]
    done: Deferred[None]


@implementer(IStreamDirectory, IStreams)
class Registry:
    """
    All streams of the server.

    :ivar takeovers: silent publishers that gave way; ``ended``: streams that ended.

    :param apps: the applications by name; each stream keeps the one that made it, whatever takes its place there.
    :param target_ms: the target duration that a stream's playlists promise, in milliseconds.
    :param max_streams: how many streams may be live at one time on the whole server; 0 for no limit.
    :param forgetting: called with a stream that is no longer found.
    :param find_no_room: tells why there is no room for a new stream now; ``""`` if there is.
    :param leases: held for each stream until it has ended; one whose leases are lost is ended.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        apps: Mapping[str, IApplication],
        target_ms: Callable[[LiveStream], int],
        *,
        max_streams: int = 0,
        forgetting: Callable[[LiveStream], None] = lambda _stream: None,
        leases: StreamLeases | None = None,
        find_no_room: Callable[[], str] = lambda: "",
    ) -> None:
        self._find_no_room = find_no_room
        self._clock = clock
        self._apps = apps
        self._made_by: dict[StreamName, IApplication] = {}
        self._target_ms = target_ms
        self.max_streams = max_streams
        self._forgetting = forgetting
        self._leases = leases or StreamLeases()
        self._leases.lost = self._lost
        self._streams: dict[StreamName, LiveStream] = {}
        self._timers: dict[StreamName, IDelayedCall] = {}
        self._forgotten = StreamTotals()
        self._closed_because = ""
        self._leaving: dict[LiveStream, Deferred[None]] = {}  # to be suspended when their publishers are gone
        self._suspended: set[LiveStream] = set()
        self.takeovers = 0
        self.ended = 0

    def __iter__(self) -> Iterator[LiveStream]:
        return iter(list(self._streams.values()))

    def find(self, name: StreamName) -> LiveStream | None:
        """The stream of that name: live, interrupted, or ended and still served."""
        return self._streams.get(name)

    def applications(self) -> Sequence[Any]:
        """Those that made the streams there are, each once."""
        return list({id(app): app for app in self._made_by.values()}.values())

    def totals(self) -> StreamTotals:
        """Over all streams there ever were."""
        totals = copy(self._forgotten)
        for stream in self._streams.values():
            totals.add(stream)
        return totals

    def live(self) -> int:
        """How many streams have not ended."""
        return sum(stream.state is not StreamState.ENDED for stream in self._streams.values())

    # ── publishers come and go ───────────────────────────────────────────────────────────────────────────────────────

    def claim(self, name: StreamName, publisher: Publisher) -> LiveStream:
        """
        Give a name to a publisher that may have it; a silent one with the same credential is disconnected for it.

        :returns: its stream: a new one, or the one that waited for it.
        :raises NameTakenError: it has a publisher.
        :raises LimitReachedError: there are too many streams already, its application takes no new ones, or all have
            been ended for good.
        """
        if self._closed_because:
            raise LimitReachedError(self._closed_because)
        stream = self._streams.get(name)
        if stream is None or stream.state is StreamState.ENDED:
            self._check_limits(name)
            self._check_address(name, publisher)
            self._check_headroom()
            self._forget(name)
            stream = self._begin(name)
            if stream.state is StreamState.ENDED:  # its lease was lost at once
                raise NameTakenError("another server publishes this stream")
        elif stream.publisher is not None:
            self._take_over(stream, stream.publisher, publisher)
        self._stop_timer(name)
        stream.publisher = publisher
        return stream

    def _begin(self, name: StreamName) -> LiveStream:
        app = self._made_by[name] = self._apps[name.app]
        stream: LiveStream = app.make_stream(name)
        self._streams[name] = stream
        self._leases.hold(name)
        return stream

    def _check_limits(self, name: StreamName) -> None:
        if self._apps[name.app].is_leaving:
            raise LimitReachedError(f"the application {name.app} is gone from the settings and takes no more streams")
        limit = self._apps[name.app].limits.max_streams
        of_app = sum(
            stream.name.app == name.app and stream.state is not StreamState.ENDED for stream in self._streams.values()
        )
        if self.max_streams and self.live() >= self.max_streams:
            raise LimitReachedError(f"this server carries {self.max_streams} streams and takes no more")
        if limit and of_app >= limit:
            raise LimitReachedError(f"the application {name.app} carries {limit} streams and takes no more")

    def _check_headroom(self) -> None:
        reason = self._find_no_room()
        if reason:
            raise LimitReachedError(reason)

    def count_publishers(self, app: str, peer: str) -> int:
        """How many publishers an application has from an address, or its IPv6 /64."""
        prefix = origin_of(peer)
        others = [each.publisher for each in self._streams.values() if each.name.app == app]
        return sum(other is not None and origin_of(other.peer) == prefix for other in others)

    def _check_address(self, name: StreamName, publisher: Publisher) -> None:
        limit = self._apps[name.app].limits.max_connections_per_ip
        if limit and self.count_publishers(name.app, publisher.peer) >= limit:
            raise LimitReachedError(f"one address may publish {limit} streams of the application {name.app} at a time")

    def _check_takeover(self, stream: LiveStream, old: Publisher, credential: str) -> int:
        """Tell how long a publisher has been silent. :raises NameTakenError: it keeps its stream."""
        silent_ms = old.silent_ms()
        if old.credential != credential or silent_ms < self._made_by[stream.name].limits.takeover_silence_ms:
            raise NameTakenError("this stream is being published by another connection")
        return silent_ms

    def _take_over(self, stream: LiveStream, old: Publisher, new: Publisher) -> None:
        silent_ms = self._check_takeover(stream, old, new.credential)
        self.takeovers += 1
        self._log.info(
            "{stream}: {new} takes over from {old}, silent for {silent_ms} ms",
            stream=stream.name,
            new=new.peer,
            old=old.peer,
            silent_ms=silent_ms,
        )
        old.disconnect("another connection with the same credential took over")
        if stream.publisher is old:  # it does not release what it had by itself
            stream.interrupted()

    def release(self, stream: LiveStream, publisher: Publisher) -> None:
        """A publisher is gone; of one that no longer has the name this changes nothing."""
        if stream.publisher is not publisher:
            return
        stream.interrupted()
        if stream in self._leaving:
            self._suspend(stream)
        else:
            self._grant_grace(stream)

    def resume(self, name: StreamName) -> LiveStream:
        """Continue a stream of an earlier process: it is interrupted, and waits for its publisher like any other."""
        self._forget(name)
        stream = self._begin(name)
        stream.interrupted()
        self._grant_grace(stream)
        return stream

    def _grant_grace(self, stream: LiveStream) -> None:
        grace_ms = self._made_by[stream.name].limits.grace_ms
        if grace_ms is None:
            grace_ms = 3 * self._target_ms(stream)
        if not _can_have_viewers(stream):
            grace_ms = 0
        self._log.info("{stream} is interrupted; it ends in {grace_ms} ms", stream=stream.name, grace_ms=grace_ms)
        self._later(stream.name, grace_ms, self.end, stream)

    def end(self, stream: LiveStream, reason: str = "the publisher did not return") -> Deferred[None]:
        """End a stream now: its publisher gets the reason and is disconnected, its playlists become final."""
        if stream.state is StreamState.ENDED or stream in self._suspended:
            return succeed(None)
        self._stop_timer(stream.name)
        publisher, stream.publisher = stream.publisher, None
        if publisher is not None:
            publisher.disconnect(reason)
        done = stream.finish()
        done.addCallback(lambda _: self._leases.release(stream.name))
        leaving = self._leaving.pop(stream, None)
        if leaving is not None:
            done.chainDeferred(leaving)
        self.ended += 1
        self._log.info("{stream} has ended: {reason}", stream=stream.name, reason=reason)
        self._later(stream.name, self._made_by[stream.name].limits.linger_ms, self._forget, stream.name)
        return done

    def _lost(self, name: StreamName) -> None:
        """Another process writes what is stored of a stream: no two may, so this one ends."""
        stream = self._streams.get(name)
        if stream is not None:
            self.end(stream, "another server publishes this stream now")

    # ── another process continues ────────────────────────────────────────────────────────────────────────────────────

    def leave(self, name: StreamName, reason: str, credential: str | None = None) -> LeftStream | None:
        """
        Part with a stream, if there is one that has not ended, so that another process continues it.

        :param credential: of its publisher there, who takes it from a silent one here; ``None`` where it must go in any
            case.
        :raises NameTakenError: it has a publisher that keeps it.
        """
        stream = self._streams.get(name)
        if stream is None or stream.state is StreamState.ENDED or stream in self._suspended:
            return None
        publisher = stream.publisher
        if publisher is not None:
            if credential is not None:
                self._check_takeover(stream, publisher, credential)
                self.takeovers += 1
            publisher.disconnect(reason)
            if stream.publisher is publisher:
                stream.interrupted()
        self._stop_timer(name)
        del self._streams[name], self._made_by[name]
        objects, done = stream.leave()
        self._log.info("{stream} is continued by another process: {reason}", stream=name, reason=reason)
        self._forgetting(stream)
        self._forgotten.add(stream)
        done.addCallback(lambda _: self._leases.release(name))
        leaving = self._leaving.pop(stream, None)
        if leaving is not None:
            done.chainDeferred(leaving)
        return LeftStream(stream, objects, done)

    def send_away(self, reason: str, within_ms: int) -> None:
        """
        Disconnect every publisher, which another process is to have next; the streams wait for it here.

        :param within_ms: how long each may take to its next keyframe.
        """
        for stream in self:
            if stream.publisher is not None:
                stream.publisher.disconnect_at_keyframe(reason, within_ms)

    # ── the server stops ─────────────────────────────────────────────────────────────────────────────────────────────

    def shut_down(
        self, reason: str, is_resumed: Callable[[StreamName], bool] = lambda _name: False, within_ms: int = 0
    ) -> Deferred[None]:
        """
        Take no more publishers, and part with every stream: end it, or leave it open to the next server.

        :param is_resumed: whether the next server resumes a stream.
        :param within_ms: how long publishers of those may take to the next keyframe, where they are disconnected.
        :returns: fires when all sinks are done.
        """
        self._closed_because = reason
        parted = [
            self._leave(stream, reason, within_ms) if is_resumed(stream.name) else self.end(stream, reason)
            for stream in self
        ]
        for name in list(self._timers):
            self._stop_timer(name)
        return DeferredList(parted, consumeErrors=True).addCallback(lambda _: None)

    def _leave(self, stream: LiveStream, reason: str, within_ms: int) -> Deferred[None]:
        """Leave a stream to the next server, as soon as its publisher is gone."""
        if stream.state is StreamState.ENDED or not _can_have_viewers(stream):
            return self.end(stream, reason)
        self._stop_timer(stream.name)
        leaving = self._leaving[stream] = Deferred()
        if stream.publisher is None:
            self._suspend(stream)
        else:
            stream.publisher.disconnect_at_keyframe(f"{reason}; connect again", within_ms)
        return leaving

    def _suspend(self, stream: LiveStream) -> None:
        self._suspended.add(stream)
        self._log.info("{stream} is left to the next server", stream=stream.name)
        done = stream.suspend()
        done.addCallback(lambda _: self._leases.release(stream.name))
        done.chainDeferred(self._leaving.pop(stream))

    def _forget(self, name: StreamName) -> None:
        self._stop_timer(name)
        stream = self._streams.pop(name, None)
        self._made_by.pop(name, None)
        if stream is not None:
            self._forgetting(stream)
            self._forgotten.add(stream)
            stream.shelf.clear()

    def _later(self, name: StreamName, after_ms: int, call: Callable[..., object], *arguments: object) -> None:
        self._stop_timer(name)
        self._timers[name] = self._clock.callLater(after_ms / 1000, call, *arguments)

    def _stop_timer(self, name: StreamName) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None and timer.active():
            timer.cancel()


def _can_have_viewers(stream: LiveStream) -> bool:
    """Whether there is, or was, anything of it to be seen."""
    return bool(stream.tracks or stream.shelf.target_ms)
