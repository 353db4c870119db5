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

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer

from rapidrtmp.archive.journal import Header
from rapidrtmp.archive.layout import NAMES, RecordingId, StartNames
from rapidrtmp.cmaf.init_segment import write_init_segment
from rapidrtmp.cmaf.segmenter import main_tracks
from rapidrtmp.cmaf.targets import SHORTEST_PART_PERCENT
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import (
    Constants,
    Cutting,
    EventType,
    IAllTracksSink,
    ILateRenditionsSink,
    IPartSink,
    IRecorderFactory,
    IStoringSinkFactory,
    Part,
    Purpose,
    RetentionRules,
    Rung,
    SinkContext,
)
from rapidrtmp.media import MediaKind, Track
from rapidrtmp.recording.joining import PartJoiner
from rapidrtmp.recording.renditions import Plan, PlannedRecording, PlannedSegment, RenditionRecorder
from rapidrtmp.recording.writer import RecordingWriter
from rapidrtmp.support.units import parse_duration_ms, parse_size

__all__ = ["AllRenditionsSink", "RecorderFactory", "RecorderSink", "Rotation"]

#: A segment may wait so long for a keyframe, or twice the wanted length if that is more.
LONGEST_GOP_S = 10
#: Decode times begin so far above zero, or further: the other track may begin a little earlier than the first one.
HEADROOM_S = 1
#: What renditions still bring of a recording that has ended is waited for no longer.
LONGEST_WAIT_S = 10.0


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
    ``record:segment=6s:part=1s:rotate=1h:split=utc:retain=7d:max-bytes=50G:min-free=5G:renditions=all``

    :param segment: segments end at the first keyframe from here on; 1 s to 60 s.
    :param part: how much a crash may take, about; 100 ms up to a segment.
    :param rotate: begin a new recording so often; ``0`` for one recording a stream; else a minute or more.
    :param split: ``utc`` to rotate at full hours, at midnight and so on; ``start`` to count from the beginning.
    :param retain: delete recordings that ended so long ago; ``0`` for never.
    :param max_bytes: delete the oldest while those of the application are larger together; ``0`` for no limit.
    :param min_free: delete the oldest while the storage has less room than this; ``0`` for no limit.
    :param renditions: ``source`` to record the stream as it came; ``all`` to record the rungs of its ladder too, and
        the sizes of its picture that the publisher sends besides.

    :ivar retention: ``retain``, ``max_bytes`` and ``min_free``.
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
        renditions: str = "source",
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
        if renditions not in ("source", "all"):
            raise ConfigurationError(f"renditions={renditions}: source or all")
        self._make = AllRenditionsSink if renditions == "all" else RecorderSink

    def create(self, context: SinkContext) -> RecorderSink:
        """See :meth:`ISinkFactory.create <rapidrtmp.interfaces.ISinkFactory.create>`."""
        if not context.storage.persistent:
            context.log.warn("{stream} is recorded into memory, and its recordings go with it", stream=context.stream)
        return self._make(context, self.cutting, self.rotation, NAMES)


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
        self._joiner: PartJoiner | None = None  # of the parts of the recording
        self._base_s = 0  # what decode times are moved back by
        self._broken = False  # whether the next segment does not join on to the last
        self._segment_start: int | None = None  # of the open segment, in ticks
        self._wanted = self._shortest_part = 0  # ticks
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
        assert self._joiner is not None
        if part.runs:
            self._joiner.join(part)
        else:
            self._joiner.add_empty(part.duration)

    def segment_ended(self) -> None:
        """See :meth:`IPartSink.segment_ended <rapidrtmp.interfaces.IPartSink.segment_ended>`: clips may begin there."""
        if self._joiner is not None:
            self._joiner.put()

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
        self._segment_begun(part, utc_ms)
        self._broken = False
        self._segment_start = part.start

    def _segment_begun(self, part: Part, utc_ms: int) -> None:
        """Learn where segments begin."""

    def _complete_segment(self) -> None:
        if self._segment_start is not None:
            assert self._writer is not None
            assert self._joiner is not None
            self._joiner.put()
            self._writer.complete_segment()
            self._segment_start = None

    def _utc_ms(self, part: Part) -> int:
        return self._context.utc_ms(part.start_pts, self._tracks[0].timescale)

    # ── recordings ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin_recording(self, part: Part, utc_ms: int) -> RecordingWriter:
        context = self._context
        starts = [run.samples[0].frame.dts // run.track.timescale for run in part.runs]
        self._base_s = max(0, min(starts, default=part.start // self._tracks[0].timescale) - HEADROOM_S)
        self._broken = False
        self._limit_ms = self._rotation.limit_ms(utc_ms)
        header = Header.of_tracks(
            context.stream.app, context.stream.key, utc_ms, self.constants.target_s, self._tracks, self._init
        )
        writer = self._writer = RecordingWriter(context.storage, self._names.take(context.stream, utc_ms), header)
        self._joiner = PartJoiner(writer, self._tracks, self._base_s, self._shortest_part, self._bytes.inc)
        self._started.inc()
        context.record(EventType.RECORDING_STARTED, _said_of(writer.id))
        context.log.info("{stream} is recorded as {recording}", stream=context.stream, recording=writer.id)
        return writer

    def _end_recording(self) -> None:
        self._complete_segment()
        writer, self._writer, self._joiner = self._writer, None, None
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


@implementer(IAllTracksSink, ILateRenditionsSink)
class AllRenditionsSink(RecorderSink):
    """Records one stream with all of its renditions: the rungs of its ladder, and further sizes of its picture."""

    has_renditions = True

    def __init__(self, context: SinkContext, cutting: Cutting, rotation: Rotation, names: StartNames) -> None:
        super().__init__(context, cutting, rotation, names)
        self._plan = Plan()
        self._planned: PlannedRecording | None = None
        self._main: Sequence[int] = ()  # the ids of the tracks of the recording itself
        self._sizes: dict[int, RenditionRecorder] = {}  # by the id of a track that comes besides
        self._all: list[RenditionRecorder] = []

    # ── renditions ───────────────────────────────────────────────────────────────────────────────────────────────────

    def announce_renditions(self, names: Collection[str]) -> None:
        """See :class:`IRenditionsSink <rapidrtmp.interfaces.IRenditionsSink>`."""

    def expect_renditions(self, names: Collection[str] | None) -> None:
        """See :meth:`IRenditionsSink.expect_renditions <rapidrtmp.interfaces.IRenditionsSink.expect_renditions>`."""

    def pause_renditions(self) -> None:
        """See :meth:`IRenditionsSink.pause_renditions <rapidrtmp.interfaces.IRenditionsSink.pause_renditions>`."""

    def open_rendition(self, rung: Rung) -> RenditionRecorder:
        """See :meth:`IRenditionsSink.open_rendition <rapidrtmp.interfaces.IRenditionsSink.open_rendition>`."""
        return self._open(rung.name)

    def _open(self, name: str) -> RenditionRecorder:
        recorder = RenditionRecorder(name, self._plan, self._bytes.inc)
        self._all.append(recorder)
        return recorder

    # ── IPartSink ────────────────────────────────────────────────────────────────────────────────────────────────────

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """See :meth:`IPartSink.tracks_changed <rapidrtmp.interfaces.IPartSink.tracks_changed>`; likewise the others."""
        main = main_tracks(tracks)
        super().tracks_changed(main)
        self._main = [track.id for track in main]
        self._plan.shortest_part = self._shortest_part
        self._plan.audio = next((track for track in main[1:] if track.kind is MediaKind.AUDIO), None)
        for track in tracks:
            if track.kind is MediaKind.VIDEO and track.id not in self._main:
                if track.id not in self._sizes:
                    self._sizes[track.id] = self._open(track.rendition_name)
                self._sizes[track.id].tracks_changed((track, *main[1:]))

    def part_cut(self, part: Part) -> None:
        """Record it, then what other renditions have of it."""
        main = part.of(self._main)
        super().part_cut(main)
        self._plan.add(main)
        has_picture = bool(main.runs) and main.runs[0].track.kind is MediaKind.VIDEO
        for track_id, recorder in self._sizes.items():
            of_size = part.of([track_id, *self._main[1:]])
            is_there = not has_picture or any(run.track.id == track_id for run in of_size.runs)
            recorder.part_cut(of_size if is_there else replace(of_size, runs=()))

    def segment_ended(self) -> None:
        """See :class:`RecorderSink`."""
        super().segment_ended()
        for recorder in self._sizes.values():
            recorder.segment_ended()

    # ── what is recorded ─────────────────────────────────────────────────────────────────────────────────────────────

    def _begin_recording(self, part: Part, utc_ms: int) -> RecordingWriter:
        writer = super()._begin_recording(part, utc_ms)
        self._planned = PlannedRecording(writer, self._base_s)
        return writer

    def _segment_begun(self, part: Part, utc_ms: int) -> None:
        planned = self._planned
        assert planned is not None
        self._plan.begin_segment(
            PlannedSegment(planned, len(planned.segments), utc_ms, part.start, discontinuity=self._broken)
        )

    def _end_recording(self) -> None:
        super()._end_recording()
        planned, self._planned = self._planned, None
        if planned is None:
            return
        last = planned.segments[-1]
        planned.end = last.start + last.duration
        for recorder in self._all:
            recorder.source_ended(planned)
        if planned.writer.unfinished:
            limit = self._context.clock.callLater(LONGEST_WAIT_S, self._wait_no_longer, planned)
            self._endings[-1].addCallback(_cancel, limit)

    def _wait_no_longer(self, planned: PlannedRecording) -> None:
        for recorder in self._all:
            recorder.source_ended(planned, is_late=True)


def _cancel(_: None, limit: IDelayedCall) -> None:
    if limit.active():
        limit.cancel()


def _said_of(id: RecordingId) -> dict[str, object]:
    """What an event says of a recording: its name, and where it can be had."""
    return {"recording": str(id), "movieUrl": f"/{id.folder}/recording.mp4", "playlistUrl": f"/{id.folder}/index.m3u8"}
