"""
The server's side of sinks that decode: frames go to a process of each sink's own, and its answers come back.

A process and no thread: what decodes and counts pixels would share the interpreter's lock with the packager, and a
decoder that crashes would take the server along.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import ClassVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from rapidrtmp.cmaf.event_messages import write_text_tag
from rapidrtmp.codec.table import CODECS
from rapidrtmp.decoding.base import Answer, Cue, DecodingSink, Mark, Note
from rapidrtmp.decoding.process import Job, WorkerProcess
from rapidrtmp.decoding.wire import FrameHeader, TrackDescription, pack_frame
from rapidrtmp.errors import ConfigurationError, MisuseError
from rapidrtmp.interfaces import Caption, EventType, ISink, ISinkFactory, SinkContext
from rapidrtmp.media import Frame, MediaKind, TimedMetadata, Track
from rapidrtmp.support.units import parse_duration_ms

__all__ = ["DecodingSinkFactory"]

#: What has waited for longer is left out, up to a keyframe.
MOST_BEHIND_MS = 4_000
#: What a sink puts on the shelf changes, and its URL does not.
NO_CACHE = "no-cache"


@implementer(ISinkFactory)
class DecodingSinkFactory:
    """
    Makes the decoding sinks of one class; derive from it to name the class, and in a plugin name what was derived.

    :cvar sink: the class. A process of its own imports it, by its module and name.
    :cvar captions: the languages that it makes captions in, with names for viewers: ``{"en": "English"}``.
    :param every: how far apart pictures are, at least, on average, for example ``1s``; ``keyframes`` for every keyframe
        and nothing else, which costs the least.
    :param fps: likewise, in pictures a second; ``all`` for every one there is.
    :param options: what the constructor of ``sink`` is called with; what JSON can say.
    :raises ConfigurationError: both or neither are given, or one cannot be read.
    """

    sink: ClassVar[type[DecodingSink]] = DecodingSink
    captions: ClassVar[Mapping[str, str]] = {}

    def __init__(self, every: str = "", fps: str = "", options: Mapping[str, object] | None = None) -> None:
        self._every_ms = _read_rate(every, fps)
        self._options = dict(options or {})

    def create(self, context: SinkContext) -> ISink:
        """Make the sink of one stream."""
        for language, name in self.captions.items():
            context.captions.announce(language, name)
        job = Job(f"{self.sink.__module__}:{self.sink.__qualname__}", self._options, self._every_ms or 0)
        return _DecodedStream(context, job, self._every_ms, _overridden(self.sink))


def _read_rate(every: str, fps: str) -> int | None:
    """How far apart pictures are at least, in milliseconds; ``None`` for every keyframe."""
    if bool(every) == bool(fps):
        raise ConfigurationError("how many pictures? Say every=1s, every=keyframes, fps=5 or fps=all")
    if every == "keyframes":
        return None
    if every:
        return parse_duration_ms(every)
    if fps == "all":
        return 0
    try:
        rate = Fraction(fps)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise ConfigurationError(f"{fps!r} is no number of pictures a second, such as 5 or 0.5")
    return round(1000 / rate)


def _overridden(sink: type[DecodingSink]) -> frozenset[MediaKind]:
    """What a sink wants at all."""
    video = {MediaKind.VIDEO} if sink.picture is not DecodingSink.picture else set()
    return frozenset(video | ({MediaKind.AUDIO} if sink.audio is not DecodingSink.audio else set()))


@implementer(ISink)
class _DecodedStream:
    """One stream."""

    def __init__(self, context: SinkContext, job: Job, every_ms: int | None, kinds: frozenset[MediaKind]) -> None:
        self._context = context
        self._every_ms = every_ms
        self._kinds = kinds
        self._queue = context.frame_queue()
        self._left_out = context.metrics.counter(
            "decoding_left_out_frames_total", "Frames that sinks which decode were too slow for"
        )
        self._wanted: frozenset[int] = frozenset()  # ids of tracks
        self._sent: dict[int, Track] = {}  # what the process knows
        self._is_behind = False
        self._wants_keyframes_alone = False
        self._job = job
        self._process: WorkerProcess | None = None  # there is none until there is something to decode

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """See :meth:`ISink.tracks_changed <rapidrtmp.interfaces.ISink.tracks_changed>`."""
        first = {kind: next((track.id for track in tracks if track.kind is kind), None) for kind in self._kinds}
        self._wanted = frozenset(number for number in first.values() if number is not None)
        self._queue.tracks_changed(tuple(track for track in tracks if track.id in self._wanted))
        if self._wanted and self._process is None:
            self._process = self._start()

    def _start(self) -> WorkerProcess:
        context = self._context
        process = WorkerProcess(self._job, context.spawn_process, context.clock, context.log, self._take, self._forget)
        self._sending = Deferred.fromCoroutine(self._send(process))
        self._sending.addErrback(lambda failure: context.log.failure("cannot feed what decodes", failure))
        return process

    def frame_received(self, frame: Frame) -> None:
        """See :meth:`ISink.frame_received <rapidrtmp.interfaces.ISink.frame_received>`."""
        if frame.track.id not in self._wanted:
            return
        if frame.track.kind is MediaKind.VIDEO:
            if frame.keyframe:
                self._wants_keyframes_alone = self._is_slower_than(frame)
            elif self._wants_keyframes_alone:
                return
        if not self._queue.put(frame):
            self._left_out.inc()

    def _is_slower_than(self, keyframe: Frame) -> bool:
        """Whether the pictures that are wanted are further apart than the keyframes are."""
        if self._every_ms is None:
            return True
        longest = keyframe.rhythm.longest_interval
        return 0 < longest * 1000 <= self._every_ms * keyframe.track.timescale

    def discontinuity(self) -> None:
        """Nothing: a keyframe follows, and times are those of the day."""

    def interrupted(self) -> None:
        """Nothing: what was sent is decoded."""

    def finish(self) -> Deferred[None] | None:
        """See :meth:`ISink.finish <rapidrtmp.interfaces.ISink.finish>`."""
        self._queue.close()
        return self._process.finish(self._sending) if self._process is not None else None

    # ── to the process, and from it ──────────────────────────────────────────────────────────────────────────────────

    async def _send(self, process: WorkerProcess) -> None:
        while (frame := await self._queue.get()) is not None:
            await process.ready()
            if self._is_in_time(frame):
                process.write(self._render(frame))
            else:
                self._left_out.inc()

    def _is_in_time(self, frame: Frame) -> bool:
        """Whether to send a frame: none that is old, and none that needs one that was not sent."""
        now_ms = int(self._context.clock.seconds() * 1000)
        if now_ms - frame.arrived_ms > MOST_BEHIND_MS:
            self._is_behind = True
        elif frame.keyframe and (frame.track.kind is MediaKind.VIDEO or MediaKind.VIDEO not in self._kinds):
            self._is_behind = False
        return not self._is_behind

    def _render(self, frame: Frame) -> bytes:
        track, to_utc = frame.track, self._context.utc_ms
        alone = self._wants_keyframes_alone and frame.keyframe and track.kind is MediaKind.VIDEO
        header = FrameHeader(
            track.id, to_utc(frame.pts, track.timescale), to_utc(frame.dts, track.timescale), frame.keyframe, alone
        )
        message = pack_frame(header, frame.data)
        if self._sent.get(track.id) is track:
            return message
        self._sent[track.id] = track
        return _describe(track).pack() + message

    def _forget(self) -> None:
        """Learn that a new process knows nothing."""
        self._sent.clear()
        self._is_behind = True

    def _take(self, result: Answer) -> None:
        """Take an answer."""
        if isinstance(result, Note):
            self._context.record(EventType.NOTE, result.data)
        elif isinstance(result, Mark):
            self._context.add_metadata(self._mark(result))
        elif isinstance(result, Cue):
            self._caption(result)
        elif "/" in result.name or not result.name:
            self._context.log.warn("{name!r} cannot be the name of an upload", name=result.name)
        else:
            self._context.shelf.put(result.name, [result.data], result.content_type, NO_CACHE)

    def _mark(self, mark: Mark) -> TimedMetadata:
        moment_ms = mark.utc_ms - self._context.utc_ms(0, 1000)
        return TimedMetadata(moment_ms, write_text_tag(mark.texts), values=(dict(mark.texts),))

    def _caption(self, cue: Cue) -> None:
        start_ms = cue.utc_ms - self._context.utc_ms(0, 1000)
        language = cue.language or next(iter(self._context.captions.tracks), "")
        try:
            self._context.captions.add(Caption(language, cue.text, start_ms, start_ms + cue.duration_ms))
        except MisuseError as error:
            self._context.log.warn("a caption is left out: {error}", error=error)


def _describe(track: Track) -> TrackDescription:
    extradata = CODECS[track.codec].sequence_start(track.config.record)
    return TrackDescription(track.id, track.kind.value, track.codec, extradata.hex())
