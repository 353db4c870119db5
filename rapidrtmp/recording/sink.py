"""
The recorder: a sink that writes a stream down, as the same fragments that live viewers get.

The stream's packager decides where to cut. Of its parts the recorder joins as many as its own are to be long, and of
its segments likewise; :class:`~rapidrtmp.recording.writer.RecordingWriter` puts them where they belong. A recording
has one init segment, so that all of it is one file: tracks that need another one, and the rotation by time, begin a new
recording.
Its decode times begin near zero however long the stream has run: they are moved by whole seconds, which every
timescale can say exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from twisted.internet.defer import Deferred, DeferredList
from zope.interface import implementer

from rapidrtmp.archive.journal import Header
from rapidrtmp.archive.layout import NAMES, RecordingId, StartNames
from rapidrtmp.cmaf.event_messages import write_event_messages
from rapidrtmp.cmaf.fragment import join_runs, write_fragment
from rapidrtmp.cmaf.init_segment import write_init_segment
from rapidrtmp.cmaf.targets import SHORTEST_PART_PERCENT
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import (
    Constants,
    Cutting,
    EventType,
    IPartSink,
    IRecorderFactory,
    IStoringSinkFactory,
    Part,
    Purpose,
    RetentionRules,
    SinkContext,
    TrackRun,
)
from rapidrtmp.media import TimedMetadata, Track
from rapidrtmp.recording.writer import RecordingWriter
from rapidrtmp.support.units import parse_duration_ms, parse_size

__all__ = ["RecorderFactory", "RecorderSink", "Rotation"]

#: A segment may wait so long for a keyframe, or twice the wanted length if that is more.
LONGEST_GOP_S = 10
#: Decode times begin so far above zero, or further: the other track may begin a little earlier than the first one.
HEADROOM_S = 1


@dataclass(frozen=True)
class Rotation:
    """
    When a recording ends and the next one begins: at the first keyframe from then on that may begin a segment.

    :ivar every_ms: how long a recording lasts; 0 for as long as its stream.
    :ivar by_utc: whether the limits are multiples of that by the wall clock (at full hours, at midnight), or counted
        from the beginning of each recording.
    """

    every_ms: int
    by_utc: bool

    def limit_ms(self, utc_ms: int) -> int | None:
        """When a recording that begins at ``utc_ms`` shall end, in milliseconds since 1970."""
        if not self.every_ms:
            return None
        return utc_ms + self.every_ms - (utc_ms % self.every_ms if self.by_utc else 0)


@implementer(IRecorderFactory, IStoringSinkFactory)
class RecorderFactory:
    """
    ``record:segment=6s:part=1s:rotate=1h:split=utc:retain=7d:max-bytes=50G:min-free=5G``

    :param segment: segments end at the first keyframe from here on; 1 s to 60 s.
    :param part: how much a crash may take, about; 100 ms up to a segment.
    :param rotate: begin a new recording so often; ``0`` for one recording a stream; else a minute or more.
    :param split: ``utc`` to rotate at full hours, at midnight and so on; ``start`` to count from the beginning.
    :param retain: delete recordings that ended so long ago; ``0`` for never.
    :param max_bytes: delete the oldest while those of the application are larger together; ``0`` for no limit.
    :param min_free: delete the oldest while the storage has less room than this; ``0`` for no limit.

    :ivar retention: the last three of these.
    """

    purpose = Purpose.RECORDINGS

    def __init__(
        self,
        segment: str = "6s",
        part: str = "1s",
        rotate: str = "1h",
        split: str = "utc",
        retain: str = "0",
        max_bytes: str = "0",
        min_free: str = "0",
    ) -> None:
        self.cutting = Cutting(segment_ms=parse_duration_ms(segment), part_ms=parse_duration_ms(part))
        self.rotation = Rotation(parse_duration_ms(rotate), by_utc=split == "utc")
        self.retention = RetentionRules(parse_duration_ms(retain), parse_size(max_bytes), parse_size(min_free))
        if not 1_000 <= self.cutting.segment_ms <= 60_000:
            raise ConfigurationError(f"segment={segment}: from 1s to 60s")
        if not 100 <= self.cutting.part_ms <= self.cutting.segment_ms:
            raise ConfigurationError(f"part={part}: from 100ms to the segment duration")
        if 0 < self.rotation.every_ms < 60_000:
            raise ConfigurationError(f"rotate={rotate}: 0, or 1m and more")
        if split not in ("utc", "start"):
            raise ConfigurationError(f"split={split}: utc or start")

    def create(self, context: SinkContext) -> RecorderSink:
        """See :meth:`ISinkFactory.create <rapidrtmp.interfaces.ISinkFactory.create>`."""
        if not context.storage.persistent:
            context.log.warn("{stream} is recorded into memory, and its recordings go with it", stream=context.stream)
        return RecorderSink(context, self.cutting, self.rotation, NAMES)


@dataclass(slots=True)
class _OpenPart:
    """
    Parts of the packager's that are joined to one of the recording.

    :ivar keyframe: whether playing can begin with it; ``open``: whether some of it needs what is before nevertheless.
    :ivar runs: its samples by the id of their track.
    :ivar duration: in ticks of the leading track.
    """

    keyframe: bool
    open: bool
    runs: dict[int, TrackRun] = field(default_factory=dict)
    duration: int = 0
    metadata: list[TimedMetadata] = field(default_factory=list)

    def is_continued_by(self, part: Part) -> bool:
        """Whether each track's samples begin where those that are here end: one fragment can hold them."""
        joints = [(self.runs[run.track.id], run) for run in part.runs if run.track.id in self.runs]
        return all(_end(before) == after.samples[0].frame.dts for before, after in joints)

    def add(self, part: Part) -> None:
        """Join a part."""
        self.duration += part.duration
        self.metadata += part.metadata
        for run in part.runs:
            before = self.runs.get(run.track.id)
            self.runs[run.track.id] = run if before is None else join_runs(before, run)


def _end(run: TrackRun) -> int:
    """The decode time behind the last sample of a run."""
    return run.samples[0].frame.dts + sum(duration for _, duration in run.samples)


@implementer(IPartSink)
class RecorderSink:
    """
    Records one stream.

    Where it is alone the stream is cut as it wants, with bounds that are wide enough for every GOP: the first one need
    not be held to be measured, and a crash takes no more of it than of any other.
    """

    leads = False

    def __init__(self, context: SinkContext, cutting: Cutting, rotation: Rotation, names: StartNames) -> None:
        self.cutting = cutting
        segment_s = -(-cutting.segment_ms // 1000)
        self.constants = Constants(max(2 * segment_s, LONGEST_GOP_S), cutting.part_ms)
        self._context = context
        self._rotation = rotation
        self._names = names
        self._tracks: tuple[Track, ...] = ()
        self._init = b""
        self._writer: RecordingWriter | None = None
        self._limit_ms: int | None = None
        self._base_s = 0  # what decode times are moved back by
        self._fragments = 0
        self._broken = False  # whether the next segment does not join on to the last
        self._segment_start: int | None = None  # of the open segment, in ticks
        self._wanted = self._shortest_part = 0  # ticks
        self._part: _OpenPart | None = None
        self._longest_ms = self.constants.longest_segment_ms  # of a segment of the packager's
        self._endings: list[Deferred[None]] = []
        self._started = context.metrics.counter("recordings_started_total", "Recordings begun")
        self._bytes = context.metrics.counter("recorded_bytes_total", "Bytes of media handed to the storage")

    # ── IPartSink ────────────────────────────────────────────────────────────────────────────────────────────────────

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """See :meth:`IPartSink.tracks_changed <rapidrtmp.interfaces.IPartSink.tracks_changed>`."""
        init = write_init_segment(tracks)
        if init != self._init:
            self._end_recording()
        self._tracks, self._init = tracks, init
        timescale = tracks[0].timescale
        self._wanted = self.cutting.segment_ms * timescale // 1000
        self._shortest_part = self.cutting.part_ms * timescale * SHORTEST_PART_PERCENT // 100_000

    def constants_chosen(self, constants: Constants) -> None:
        """See :meth:`IPartSink.constants_chosen <rapidrtmp.interfaces.IPartSink.constants_chosen>`."""
        self.constants = Constants(max(self.constants.target_s, constants.target_s), self.cutting.part_ms)
        self._longest_ms = constants.longest_segment_ms

    def frame_rate_measured(self, frame_rate: Fraction | None) -> None:
        """See :meth:`IPartSink.frame_rate_measured <rapidrtmp.interfaces.IPartSink.frame_rate_measured>`."""

    def part_cut(self, part: Part) -> None:
        """See :meth:`IPartSink.part_cut <rapidrtmp.interfaces.IPartSink.part_cut>`."""
        if self._segment_start is None or (part.starts_segment and self._begins_segment(part, self._segment_start)):
            self._complete_segment()
            self._begin_segment(part)
        assert self._writer is not None
        if part.runs:
            self._join(part)
        else:
            self._put_part()
            self._writer.add((), part.duration, keyframe=False)

    def segment_ended(self) -> None:
        """See :meth:`IPartSink.segment_ended <rapidrtmp.interfaces.IPartSink.segment_ended>`: clips may begin there."""
        self._put_part()

    def segment_continued(self) -> None:
        """See :meth:`IPartSink.segment_continued <rapidrtmp.interfaces.IPartSink.segment_continued>`."""

    def flushed(self) -> None:
        """See :meth:`IPartSink.flushed <rapidrtmp.interfaces.IPartSink.flushed>`."""

    def discontinuity(self) -> None:
        """See :meth:`IPartSink.discontinuity <rapidrtmp.interfaces.IPartSink.discontinuity>`."""
        self._complete_segment()
        self._broken = True

    def interrupted(self) -> None:
        """See :meth:`IPartSink.interrupted <rapidrtmp.interfaces.IPartSink.interrupted>`."""
        self._complete_segment()

    def finish(self) -> Deferred[None]:
        """See :meth:`IPartSink.finish <rapidrtmp.interfaces.IPartSink.finish>`; fires when all is stored."""
        self._end_recording()
        return DeferredList(self._endings, consumeErrors=True).addCallback(lambda _: None)

    # ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _join(self, part: Part) -> None:
        """Add a part to the one that grows; that is written when it is long enough."""
        if self._part is not None and not self._part.is_continued_by(part):
            self._put_part()
        opened = self._part
        if opened is None:
            opened = self._part = _OpenPart(part.is_start, open=part.is_start and not part.is_closed)
        opened.add(part)
        if opened.duration >= self._shortest_part:
            self._put_part()

    def _put_part(self) -> None:
        part, self._part = self._part, None
        if part is not None:
            assert self._writer is not None
            self._fragments += 1
            runs = [part.runs[track.id] for track in self._tracks if track.id in part.runs]
            messages = write_event_messages(part.metadata, self._base_s)
            data = [*messages, *write_fragment(self._fragments, runs, self._base_s)]
            self._bytes.inc(sum(map(len, data)))
            self._writer.add(data, part.duration, keyframe=part.keyframe, open=part.open)

    # ── segments ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _begins_segment(self, part: Part, opened: int) -> bool:
        """Whether a segment of the packager's is the first of the recording's next one."""
        elapsed, timescale = part.start - opened, self._tracks[0].timescale
        if part.on_keyframe:
            tolerance = part.runs[0].samples[0].duration // 2 if part.runs else 0
            is_over = self._limit_ms is not None and self._utc_ms(part) >= self._limit_ms
            if is_over or elapsed >= self._wanted - tolerance:
                return True
        return elapsed * 1000 + self._longest_ms * timescale > self.constants.longest_segment_ms * timescale

    def _begin_segment(self, part: Part) -> None:
        utc_ms = self._utc_ms(part)
        if self._limit_ms is not None and utc_ms >= self._limit_ms and part.on_keyframe:
            self._end_recording()
        writer = self._writer or self._begin_recording(part, utc_ms)
        start = part.start - self._base_s * self._tracks[0].timescale
        writer.begin_segment(utc_ms, start, discontinuity=self._broken)
        self._broken = False
        self._segment_start = part.start

    def _complete_segment(self) -> None:
        if self._segment_start is not None:
            assert self._writer is not None
            self._put_part()
            self._writer.complete_segment()
            self._segment_start = None

    def _utc_ms(self, part: Part) -> int:
        return self._context.utc_ms(part.start_pts, self._tracks[0].timescale)

    # ── recordings ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin_recording(self, part: Part, utc_ms: int) -> RecordingWriter:
        context = self._context
        starts = [run.samples[0].frame.dts // run.track.timescale for run in part.runs]
        self._base_s = max(0, min(starts, default=part.start // self._tracks[0].timescale) - HEADROOM_S)
        self._fragments = 0
        self._broken = False
        self._limit_ms = self._rotation.limit_ms(utc_ms)
        header = Header.of_tracks(
            context.stream.app, context.stream.key, utc_ms, self.constants.target_s, self._tracks, self._init
        )
        writer = self._writer = RecordingWriter(context.storage, self._names.take(context.stream, utc_ms), header)
        self._started.inc()
        context.record(EventType.RECORDING_STARTED, _said_of(writer.id))
        context.log.info("{stream} is recorded as {recording}", stream=context.stream, recording=writer.id)
        return writer

    def _end_recording(self) -> None:
        self._complete_segment()
        writer, self._writer = self._writer, None
        if writer is None:
            return
        self._endings = [ending for ending in self._endings if not ending.called]
        self._endings.append(writer.end().addCallback(self._ended, writer))

    def _ended(self, _: None, writer: RecordingWriter) -> None:
        entry = writer.entry
        numbers = {"duration": entry.duration_ms / 1000, "size": entry.size, "lostParts": writer.lost_parts}
        self._context.record(EventType.RECORDING_DONE, {**_said_of(writer.id), **numbers})
        if writer.lost_parts:
            self._context.log.error(
                "{recording} is finished with {lost} parts that the storage did not take",
                recording=writer.id,
                lost=writer.lost_parts,
            )
        else:
            self._context.log.info("{recording} is finished", recording=writer.id)


def _said_of(id: RecordingId) -> dict[str, object]:
    """What an event says of a recording: its name, and where it can be had."""
    return {"recording": str(id), "movieUrl": f"/{id.folder}/recording.mp4", "playlistUrl": f"/{id.folder}/index.m3u8"}
