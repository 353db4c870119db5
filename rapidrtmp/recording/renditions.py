"""
The other renditions of a recording: rungs of a ladder, and sizes of the picture that the publisher sends besides.

Each is recorded in a folder of the recording (``720p/``), with a journal of its own, and is cut where the source's
recording is: a segment of the same number begins at the same moment and lasts as long. Rungs come later than the
source, so what was decided of it is kept for a while. A segment of which a rendition lacks something cannot be played
of it, and one that begins late has such segments before.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from zope.interface import implementer

from rapidrtmp.archive.journal import Header
from rapidrtmp.cmaf.init_segment import write_init_segment
from rapidrtmp.cmaf.segmenter import main_tracks
from rapidrtmp.interfaces import Constants, Cutting, IPartSink, Part, TrackRun
from rapidrtmp.media import MediaKind, Track
from rapidrtmp.recording.joining import PartJoiner
from rapidrtmp.recording.writer import RecordingWriter

__all__ = ["Plan", "PlannedRecording", "PlannedSegment", "RenditionRecorder"]

#: So much of what was decided of the source is kept: rungs are no more than some seconds behind.
KEPT_SEGMENTS, KEPT_PARTS = 64, 512


@dataclass(slots=True, eq=False)
class PlannedRecording:
    """
    A recording of the source, as far as its renditions need to know it.

    :ivar base_s: what decode times are moved back by.
    :ivar segments: all of it so far.
    :ivar end: where it ends, in ticks of the stream; ``None`` while it grows.
    """

    writer: RecordingWriter
    base_s: int
    segments: list[PlannedSegment] = field(default_factory=list)
    end: int | None = None


@dataclass(slots=True, eq=False)
class PlannedSegment:
    """
    A segment of it.

    :ivar start: in ticks of the stream; likewise ``duration``, as far as it has come.
    """

    recording: PlannedRecording
    number: int
    utc_ms: int
    start: int
    discontinuity: bool
    duration: int = 0


class Plan:
    """
    What was decided of the source.

    :ivar shortest_part: of a recording, in ticks.
    :ivar audio: the track that is muxed with renditions which come without audio; ``None`` if there is none.
    """

    def __init__(self) -> None:
        self.shortest_part = 0
        self.audio: Track | None = None
        self._segments: deque[PlannedSegment] = deque(maxlen=KEPT_SEGMENTS)
        self._parts: OrderedDict[int, tuple[TrackRun, ...]] = OrderedDict()

    def begin_segment(self, segment: PlannedSegment) -> None:
        """The source's recording has a segment from here on."""
        segment.recording.segments.append(segment)
        self._segments.append(segment)

    def add(self, part: Part) -> None:
        """A part of the newest segment."""
        self._segments[-1].duration += part.duration
        self._parts[part.start] = part.runs
        if len(self._parts) > KEPT_PARTS:
            self._parts.popitem(last=False)

    def find(self, start: int) -> PlannedSegment | None:
        """The segment that a part is in which begins at ``start``; ``None`` if the source was not recorded then."""
        found = next((each for each in reversed(self._segments) if each.start <= start), None)
        end = found.recording.end if found is not None else None
        return None if end is not None and start >= end else found

    def has_media(self, start: int) -> bool:
        """Whether the source's part that begins at ``start`` has media, if that is still known."""
        return bool(self._parts.get(start, True))

    def audio_at(self, start: int) -> tuple[TrackRun, ...]:
        """The audio of the source's part that begins at ``start``."""
        runs = self._parts.get(start, ())
        return tuple(run for run in runs if self.audio is not None and run.track.id == self.audio.id)


@implementer(IPartSink)
class RenditionRecorder:
    """
    Records one rendition, wherever its source is recorded.

    :param name: its folder.
    :param written: called with the size of each part that is written.
    """

    leads = False
    cutting = Cutting(part_ms=0)

    def __init__(self, name: str, plan: Plan, written: Callable[[int], object]) -> None:
        self.constants: Constants | None = None
        self._name = name
        self._plan = plan
        self._written = written
        self._tracks: tuple[Track, ...] = ()
        self._init = b""
        self._recording: PlannedRecording | None = None
        self._segment: PlannedSegment | None = None  # the one that is open
        self._writer: RecordingWriter | None = None
        self._joiner: PartJoiner | None = None
        self._lacks = False  # whether the open segment lacks something
        self._next = 0  # the number of the first segment that is not written
        self._end = 0  # of the newest part, in ticks of the stream

    # ── IPartSink ────────────────────────────────────────────────────────────────────────────────────────────────────

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """See :class:`IPartSink <rapidrtmp.interfaces.IPartSink>`; likewise the others."""
        if self._joiner is not None:
            self._joiner.put()
        tracks = main_tracks(tracks) if tracks else ()
        audio = self._plan.audio
        has_audio = any(track.kind is MediaKind.AUDIO for track in tracks)
        self._tracks = tracks if audio is None or has_audio or not tracks else (*tracks, audio)
        self._init = write_init_segment(self._tracks) if self._tracks else b""

    def constants_chosen(self, constants: Constants) -> None:
        """They are the source's."""

    def frame_rate_measured(self, frame_rate: Fraction | None) -> None:
        """Pictures say it themselves."""

    def part_cut(self, part: Part) -> None:
        """Record a part, where the source's is recorded."""
        part = part.of([track.id for track in self._tracks])
        segment = self._plan.find(part.start)
        if segment is not self._segment:
            self._enter(segment, part)
        if segment is not None:
            self._add(part, segment)
        self._end = part.end
        if segment is not None and segment.recording.end is not None:
            self.source_ended(segment.recording)

    def segment_ended(self) -> None:
        """Clips may begin there."""
        if self._joiner is not None:
            self._joiner.put()

    def segment_continued(self) -> None:
        """It may be longer than was expected."""

    def flushed(self) -> None:
        """Nothing waits for that."""

    def discontinuity(self) -> None:
        """The source has said so."""

    def interrupted(self) -> None:
        """The publisher may return."""

    def finish(self) -> None:
        """Nothing follows."""
        self._leave()

    # ── what the source does ─────────────────────────────────────────────────────────────────────────────────────────

    def source_ended(self, recording: PlannedRecording, *, is_late: bool = False) -> None:
        """
        Learn that a recording of the source has ended, and end with it.

        :param is_late: whether what is still to come is waited for no longer.
        """
        if recording is self._recording and (is_late or recording.end is None or self._end >= recording.end):
            self._leave()

    # ── segments ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _enter(self, segment: PlannedSegment | None, part: Part) -> None:
        """Open the segment that a part is in; what is before in its recording is complete."""
        if segment is None or segment.recording is not self._recording:
            self._leave()
            self._recording = segment.recording if segment is not None else None
        self._complete()
        self._segment = segment
        if segment is not None and self._writer is not None:
            self._begin_segment(self._writer, segment, part.start)

    def _begin_segment(self, writer: RecordingWriter, segment: PlannedSegment, at: int) -> None:
        """
        Open a segment, behind gaps for all before it that are not written.

        :param at: where the rendition begins in it, in ticks of the stream.
        """
        for missing in segment.recording.segments[self._next : segment.number]:
            _begin(writer, missing)
            writer.add((), missing.duration, keyframe=False)
            writer.complete_segment()
        _begin(writer, segment)
        self._next = segment.number + 1
        self._lacks = at != segment.start
        if self._lacks:
            writer.add((), at - segment.start, keyframe=False)

    def _complete(self) -> None:
        if self._segment is not None and self._writer is not None and self._joiner is not None:
            self._joiner.put()
            self._writer.complete_segment(lacks=self._lacks)
        self._segment = None

    def _leave(self) -> None:
        """End the recording."""
        self._complete()
        writer, self._writer, self._joiner = self._writer, None, None
        recording, self._recording = self._recording, None
        if writer is not None and recording is not None:
            writer.end().addCallback(lambda _: recording.writer.rendition_ended())

    # ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _add(self, part: Part, segment: PlannedSegment) -> None:
        if part.runs and self._tracks and len(part.runs) < len(self._tracks):
            part = replace(part, runs=(*part.runs, *self._missing_audio(part)))
        if self._writer is None:
            if not part.runs or not self._tracks:
                return
            self._begin(segment, part)
        joiner = self._joiner
        assert self._writer is not None
        assert joiner is not None
        is_fit = self._writer.header.init == self._init
        self._lacks |= not is_fit or (not part.runs and self._plan.has_media(part.start))
        if self._lacks or not part.runs:
            joiner.add_empty(part.duration)
        else:
            joiner.join(part)

    def _missing_audio(self, part: Part) -> Sequence[TrackRun]:
        has_audio = any(run.track.kind is MediaKind.AUDIO for run in part.runs)
        return () if has_audio else self._plan.audio_at(part.start)

    def _begin(self, segment: PlannedSegment, part: Part) -> None:
        recording = segment.recording
        source = recording.writer.header
        header = Header.of_tracks(source.app, source.key, source.started_ms, source.target_s, self._tracks, self._init)
        self._writer = recording.writer.begin_rendition(self._name, header)
        self._joiner = PartJoiner(self._writer, self._tracks, recording.base_s, self._plan.shortest_part, self._written)
        self._next = 0
        self._begin_segment(self._writer, segment, part.start)


def _begin(writer: RecordingWriter, segment: PlannedSegment) -> None:
    recording = segment.recording
    start = segment.start - recording.base_s * recording.writer.header.timescale
    writer.begin_segment(segment.utc_ms, start, discontinuity=segment.discontinuity)
