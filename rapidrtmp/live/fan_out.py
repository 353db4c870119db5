"""
The sinks of one live stream, and the calls they get.

Each sink stands alone: one that raises is detached, counted and logged once, and the others never notice. Sinks that
take parts are fed by one :class:`~rapidrtmp.cmaf.packager.Packager`, so that frames are cut once however many want
parts.

A sink is called on the reactor's thread, so one that is slow makes everything late. How long each takes is measured on
some of the frames, all of them once one has taken long, and reckoned per frame over each second of media. A sink that
takes longer than ``SLOW_MS`` is named in the log and in the stream's findings, and one that takes longer than the limit
for three seconds on end is detached.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.cmaf.packager import Packager, suspend_or_finish
from rapidrtmp.interfaces import IMetadataSink, IMovingSink, IPartSink
from rapidrtmp.media import Frame, TimedMetadata, Track
from rapidrtmp.names import StreamName

__all__ = ["FanOut", "SinkLoad", "SinkState"]

#: One frame in so many is measured while no sink is slow.
SAMPLE_EVERY = 8
#: A sink that takes longer than this per frame, on average over a second, is slow.
SLOW_MS = 5.0
#: Beyond the limit for so many seconds in a row, a sink is detached.
PATIENCE_WINDOWS = 3
WINDOW_MS = 1_000


class SinkState(enum.Enum):
    """How a sink of a stream does."""

    RUNNING = "running"
    SLOW = "slow"  # it delays the stream
    DETACHED = "detached"  # it raised, or was too slow for too long


@dataclass(frozen=True, slots=True)
class SinkLoad:
    """
    What one sink costs.

    :ivar ms_per_frame: on average over the last second of media, in milliseconds; 0 until that is known.
    """

    name: str
    ms_per_frame: float
    state: SinkState


@dataclass(slots=True, eq=False)
class _Attached:
    """
    One sink.

    :ivar seconds: what it took of this window's frames, by what was measured.
    :ivar reported: up to where the packager's count of a part sink's time has been taken over, in seconds.
    :ivar windows_over: how many windows on end it was beyond the limit.
    """

    name: str
    sink: Any
    takes_parts: bool
    seconds: float = 0.0
    reported: float = 0.0
    ms_per_frame: float = 0.0
    windows_over: int = 0
    state: SinkState = SinkState.RUNNING


class FanOut:
    """
    Hands a stream's frames to its sinks.

    :param name: the stream's.
    :param limit_ms: a sink that takes longer per frame for three seconds on end is detached; 0 for never.
    :param failed: called with the name of a sink that raised, or was too slow, and is detached.
    :param measured: called once a second of media with the name of each sink and the seconds it took.
    """

    _log = Logger()

    def __init__(
        self,
        name: StreamName,
        *,
        limit_ms: float = 0.0,
        failed: Callable[[str], None] = lambda _name: None,
        measured: Callable[[str, float], None] = lambda _name, _seconds: None,
    ) -> None:
        self._name = name
        self._limit_ms = limit_ms
        self._failed = failed
        self._measured = measured
        self._packager: Packager | None = None
        self._attached: tuple[_Attached, ...] = ()
        self._receivers: tuple[_Attached, ...] = ()  # those that take frames, the packager among them
        self._detached: dict[str, SinkLoad] = {}
        self._every = self._countdown = SAMPLE_EVERY
        self._window_start_ms: int | None = None
        self._window_frames = 0

    # ── who is there ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sinks that work."""
        return tuple(attached.name for attached in self._attached)

    @property
    def sinks(self) -> tuple[Any, ...]:
        """The sinks that work."""
        return tuple(attached.sink for attached in self._attached)

    @property
    def loads(self) -> tuple[SinkLoad, ...]:
        """What each sink costs, those that were detached for a fault included."""
        working = (SinkLoad(each.name, each.ms_per_frame, each.state) for each in self._attached)
        return (*working, *self._detached.values())

    @property
    def slow(self) -> tuple[SinkLoad, ...]:
        """The sinks that delay the stream."""
        return tuple(load for load in self.loads if load.state is SinkState.SLOW)

    def attach(self, name: str, sink: Any, tracks: tuple[Track, ...], missed: Sequence[Frame], *, live: bool) -> None:
        """
        Let a sink have what follows, behind what it needs to begin.

        :param sink: an ``ISink`` or ``IPartSink``.
        :param tracks: of the stream; empty before it has any.
        :param missed: the frames since the last keyframe.
        :param live: whether there is a publisher.
        """
        attached = _Attached(name, sink, takes_parts=bool(IPartSink.providedBy(sink)))
        self._detached.pop(name, None)
        self._attached = (*self._attached, attached)
        if attached.takes_parts:
            self._attach_to_packager(attached, tracks, missed)
        else:
            self._receivers = (*self._receivers, attached)
            self._begin(attached, tracks, missed)
        if tracks and not live and attached in self._attached:
            self._call(attached, sink.interrupted)

    def _attach_to_packager(self, attached: _Attached, tracks: tuple[Track, ...], missed: Sequence[Frame]) -> None:
        if self._packager is not None:
            self._packager.attach(attached.sink)
            return
        packager = self._packager = Packager(attached.sink, failed=self._part_sink_failed)
        receiver = _Attached("packager", packager, takes_parts=False)
        self._receivers = (*self._receivers, receiver)
        self._begin(receiver, tracks, missed)

    def _begin(self, receiver: _Attached, tracks: tuple[Track, ...], missed: Sequence[Frame]) -> None:
        if not tracks:
            return
        self._call(receiver, receiver.sink.tracks_changed, tracks)
        for frame in missed:
            if receiver in self._receivers:
                self._call(receiver, receiver.sink.frame_received, frame)

    def detach(self, name: str) -> Deferred[None] | None:
        """Finish and let go of the sink of that name, if there is one."""
        for attached in self._attached:
            if attached.name == name:
                self._remove(attached)
                return self._finish(attached)
        return None

    # ── what the stream does ─────────────────────────────────────────────────────────────────────────────────────────

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """The frames that follow are of these tracks."""
        for receiver in self._receivers:
            self._call(receiver, receiver.sink.tracks_changed, tracks)

    def frame_received(self, frame: Frame) -> None:
        """Hand one frame to every sink."""
        self._countdown = countdown = self._countdown - 1
        if not countdown:
            self._measure(frame)
            return
        for receiver in self._receivers:
            try:
                receiver.sink.frame_received(frame)
            except Exception:
                self._give_up(receiver, Failure())

    def metadata_received(self, metadata: TimedMetadata) -> None:
        """Hand timed metadata to every sink that takes it."""
        for receiver in self._receivers:
            if IMetadataSink.providedBy(receiver.sink):
                self._call(receiver, receiver.sink.metadata_received, metadata)

    def discontinuity(self) -> None:
        """What follows does not join on to what came before."""
        for receiver in self._receivers:
            self._call(receiver, receiver.sink.discontinuity)

    def interrupted(self) -> None:
        """The publisher is gone and may return."""
        for receiver in self._receivers:
            self._call(receiver, receiver.sink.interrupted)

    def finish(self) -> Deferred[None]:
        """End: no call follows. Fires when every sink has finished."""
        return self._end(self._finish)

    def leave(self) -> tuple[dict[str, Mapping[str, bytes | None]], Deferred[None]]:
        """
        Leave the interrupted stream to another process: no call follows.

        :returns: what each sink leaves, by its name; and what fires when those that leave nothing have finished.
        """
        attached, self._attached, self._receivers = self._attached, (), ()
        left: dict[str, Mapping[str, bytes | None]] = {}
        waiting = []
        for each in attached:
            if IMovingSink.providedBy(each.sink):
                objects: Any = self._call(each, each.sink.leave)
                if objects:
                    left[each.name] = objects
            else:
                waiting.append(self._finish(each))
        done = DeferredList([each for each in waiting if each is not None])
        return left, done.addCallback(lambda _: None)

    def suspend(self) -> Deferred[None]:
        """Leave the stream to the next server: no call follows. Fires when every sink has written what it held."""
        return self._end(self._suspend)

    def _end(self, end: Callable[[_Attached], Deferred[None] | None]) -> Deferred[None]:
        receivers, self._receivers, self._attached = self._receivers, (), ()
        waiting = [done for done in map(end, receivers) if done is not None]
        return DeferredList(waiting).addCallback(lambda _: None)

    # ── calls ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _call(self, attached: _Attached, call: Callable[..., object], *arguments: object) -> object:
        """Call one sink; one that raises, whatever it is, is detached. Nothing is awaited here."""
        try:
            return call(*arguments)
        except Exception:
            self._give_up(attached, Failure())
            return None

    def _finish(self, attached: _Attached) -> Deferred[None] | None:
        return self._last_call(attached, attached.sink.finish)

    def _suspend(self, attached: _Attached) -> Deferred[None] | None:
        return self._last_call(attached, partial(suspend_or_finish, attached.sink))

    def _last_call(self, attached: _Attached, call: Callable[[], object]) -> Deferred[None] | None:
        result = self._call(attached, call)
        if isinstance(result, Deferred):
            result.addErrback(lambda failure: self._give_up(attached, failure))
            return result
        return None

    def _part_sink_failed(self, sink: Any, failure: Failure) -> None:
        attached = next((each for each in self._attached if each.sink is sink), None)
        if attached is not None:
            self._give_up(attached, failure)
        else:
            self._log.failure("{stream}: a sink failed while it finished", failure, stream=self._name)

    def _give_up(self, attached: _Attached, failure: Failure) -> None:
        if attached.sink is self._packager:  # what it feeds cannot be fed any more
            given_up = [each for each in self._attached if each.takes_parts]
        else:
            given_up = [attached]
        for each in given_up:
            self._detach_for_fault(each)
            self._log.failure(
                "{stream}: sink {sink} failed and is detached; the stream continues without it",
                failure,
                stream=self._name,
                sink=each.name,
            )
        self._remove(attached)

    def _detach_for_fault(self, attached: _Attached) -> None:
        attached.state = SinkState.DETACHED
        self._detached[attached.name] = SinkLoad(attached.name, attached.ms_per_frame, SinkState.DETACHED)
        self._remove(attached)
        self._failed(attached.name)

    def _remove(self, attached: _Attached) -> None:
        self._attached = tuple(other for other in self._attached if other is not attached)
        self._receivers = tuple(other for other in self._receivers if other is not attached)
        if attached.takes_parts and self._packager is not None:
            self._packager.remove(attached.sink)

    # ── how long they take ───────────────────────────────────────────────────────────────────────────────────────────

    def _measure(self, frame: Frame) -> None:
        """Hand one frame to every sink and measure what each takes; it stands for those since the last measured one."""
        weight = self._every
        slowest = 0.0
        for receiver in self._receivers:
            started = perf_counter()
            self._call(receiver, receiver.sink.frame_received, frame)
            seconds = perf_counter() - started
            receiver.seconds += weight * seconds
            slowest = max(slowest, seconds)
        self._window_frames += weight
        if slowest * 1000 > SLOW_MS:
            self._every = 1
        now_ms = frame.dts * 1000 // frame.track.timescale
        if self._window_start_ms is None or now_ms < self._window_start_ms:
            self._window_start_ms = now_ms
        elif now_ms - self._window_start_ms >= WINDOW_MS:
            self._close_window()
            self._window_start_ms = now_ms
        self._countdown = self._every

    def _close_window(self) -> None:
        frames, self._window_frames, self._every = self._window_frames, 0, SAMPLE_EVERY
        for attached in self._attached:
            if attached.takes_parts and self._packager is not None:
                total = self._packager.seconds(attached.sink)
                attached.seconds, attached.reported = total - attached.reported, total
            self._measured(attached.name, attached.seconds)
            attached.ms_per_frame, attached.seconds = attached.seconds * 1000 / frames, 0.0
            self._judge(attached)

    def _judge(self, attached: _Attached) -> None:
        is_slow = attached.ms_per_frame > SLOW_MS
        if is_slow and attached.state is SinkState.RUNNING:
            self._log.warn(
                "{stream}: sink {sink} takes {ms:.1f} ms per frame and delays the stream",
                stream=self._name,
                sink=attached.name,
                ms=attached.ms_per_frame,
            )
        attached.state = SinkState.SLOW if is_slow else SinkState.RUNNING
        is_over = 0 < self._limit_ms < attached.ms_per_frame
        attached.windows_over = attached.windows_over + 1 if is_over else 0
        if is_over:
            self._every = 1  # the next window is judged by all of its frames
        if attached.windows_over >= PATIENCE_WINDOWS:
            self._detach_for_fault(attached)
            self._log.error(
                "{stream}: sink {sink} took {ms:.1f} ms per frame for {seconds} s and is detached; "
                "the limit is live.slow_sink",
                stream=self._name,
                sink=attached.name,
                ms=attached.ms_per_frame,
                seconds=PATIENCE_WINDOWS * WINDOW_MS // 1000,
            )
