"""
One rung cut as its source was: the calls that a part sink of the source got, made again with the rung's pictures.

Each call waits here until the rung has the pictures for it. A part of the rung has the decode times of the source's
part and its very audio, so all of its boundaries are the source's, in ticks. A segment begins with a keyframe that is
presented with the source's; where there is none, or pictures are missing, its parts are gaps. Whether source and rung
have B-frames makes no difference: by presentation time both have the same pictures, and what comes when a picture of
that time is due, in whatever order, is decoded a constant delay before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice, pairwise
from typing import NamedTuple

from rapidrtmp.cmaf.fragment import DescribedRun
from rapidrtmp.codec.table import CODECS
from rapidrtmp.interfaces import IPartSink, Part, Sample, TrackRun
from rapidrtmp.media import VIDEO_TIMESCALE, AudioConfig, Frame, MediaKind, Track

__all__ = [
    "AudioCoded",
    "Call",
    "Discontinuity",
    "Finished",
    "Picture",
    "RungCutter",
    "SegmentEnded",
    "TracksChanged",
    "Waiting",
]

#: No more pictures wait here for the source's parts, which are always there before them.
MOST_WAITING = 1_200
#: Nor do more frames of audio. What begins so near to the end of the last, in seconds, joins on to it.
MOST_SOUND, LACKING_S = 2_400, Fraction(1, 10)
#: How far the keyframes of both may be apart.
TOLERANCE = VIDEO_TIMESCALE // 1000


class Picture(NamedTuple):
    """
    A picture of a rung as it comes back; see ``ILadder.frame``.

    :ivar turn: its ``pts`` where pictures come in the order of presentation.
    :ivar generation: of the pictures that continue one another.
    """

    track: Track
    pts: int
    turn: int
    data: bytes
    keyframe: bool
    arrived_ms: int
    generation: int


@dataclass(frozen=True, slots=True)
class Call:
    """A call that the source's part sinks got, but for parts: what it is, and how to make it again."""

    make: Callable[[IPartSink], object]


@dataclass(frozen=True, slots=True, eq=False)
class SegmentEnded(Call):
    """The call that ended a segment of the source."""


@dataclass(frozen=True, slots=True)
class Finished(Call):
    """The last call of all."""


@dataclass(frozen=True, slots=True)
class Discontinuity(Call):
    """The call that said of a discontinuity."""


@dataclass(frozen=True, slots=True)
class TracksChanged:
    """The source's parts that follow are of these tracks. What its part sinks got then, those of a rung do not."""

    tracks: tuple[Track, ...]


@dataclass(frozen=True, slots=True)
class AudioCoded:
    """The audio of these tracks comes coded anew in the parts that follow."""

    track_ids: frozenset[int]


#: What waits here.
Waiting = Part | Call | TracksChanged | AudioCoded


class RungCutter:
    """
    Cuts one rung.

    :param sinks: take its parts.
    :param missed: called when a segment is a gap because something did not come.
    :ivar is_off: whether nothing is waited for: what has not come is a gap at once.
    :ivar has_missed: whether its last segment was a gap for want of pictures.
    """

    def __init__(self, sinks: tuple[IPartSink, ...], missed: Callable[[], object]) -> None:
        self.is_off = False
        self.has_missed = False
        self._sinks = sinks
        self._missed = missed
        self._calls: deque[Waiting] = deque()
        self._pictures: deque[Picture] = deque()
        self._newest: int | None = None  # the turn of the newest picture that has come
        self._frame = 0  # how long pictures last at the moment, in ticks
        self._joined = False  # whether the open segment has its pictures so far
        self._generation = 0  # of the pictures in the open segment
        self._lacks = False  # whether the open segment lacks something
        self._has_finished = False  # whether nothing follows
        self._leading = 0  # for how long pictures are shown before a keyframe that is decoded before them, in ticks
        self._gives_up = False  # whether nothing is waited for at the moment
        self._breaks = False  # whether the open segment does not join on to the last
        self._tracks: tuple[Track, ...] = ()
        self._source_tracks: tuple[Track, ...] = ()
        self._coded_ids: frozenset[int] = frozenset()  # of the audio tracks that come coded anew
        self._coded_track: Track | None = None  # as which
        self._sound: deque[Frame] = deque()  # of it, what is in no part yet
        self._sound_end: int | None = None  # where what is in one ends, in its ticks

    @property
    def is_done(self) -> bool:
        """Whether nothing waits."""
        return not self._calls

    def attach(self, sink: IPartSink) -> None:
        """Have one more sink take its parts from now on."""
        self._sinks = (*self._sinks, sink)
        if self._tracks:
            sink.tracks_changed(self._tracks)

    # ── in ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    def add(self, call: Waiting) -> None:
        """Take the next call that the source's part sinks got."""
        self._calls.append(call)

    def put(self, picture: Picture) -> None:
        """Take the next picture."""
        self._newest = picture.turn
        self._pictures.append(picture)
        if len(self._pictures) > MOST_WAITING:
            self._pictures.popleft()

    def put_audio(self, frame: Frame) -> None:
        """Take the next frame of audio that is coded anew."""
        self._coded_track = frame.track
        self._sound.append(frame)
        if len(self._sound) > MOST_SOUND:
            self._sound.popleft()

    def forget(self) -> None:
        """What has come and is in no part yet is of no use: what follows does not continue it."""
        self._newest = None
        self._pictures.clear()

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def advance(self) -> None:
        """Make all calls that can be made."""
        before = len(self._calls)
        while self._calls:
            call = self._calls[0]
            if isinstance(call, Part):
                part = self._cut(call)
                if part is None:
                    break
                self._hand_on(part, call)
            else:
                self._make(call)
            self._calls.popleft()
        if len(self._calls) < before:
            self._flush()

    def _flush(self) -> None:
        if not self._has_finished:
            for sink in self._sinks:
                sink.flushed()

    def give_up(self, until: SegmentEnded | None) -> None:
        """
        Make the calls up to the end of a segment, if they still wait; what has not come for them is a gap.

        :param until: ``None`` for all.
        """
        if until is not None and until not in self._calls:
            return
        self._gives_up = True
        while self._calls:
            call = self._calls.popleft()
            if isinstance(call, Part):
                self._hand_on(self._cut(call) or self._gap(call), call)
            else:
                self._make(call)
                if call is until:
                    break
        self._gives_up = False
        self._flush()
        self.advance()

    def _make(self, call: Call | TracksChanged | AudioCoded) -> None:
        if isinstance(call, AudioCoded):
            self._coded_ids = call.track_ids
            return
        if isinstance(call, TracksChanged):
            self._source_tracks = call.tracks
            return
        for sink in self._sinks:
            call.make(sink)
        if isinstance(call, Finished):
            self._has_finished = True
        elif isinstance(call, SegmentEnded):
            self._has_ended()
        elif isinstance(call, Discontinuity):
            self._breaks = True

    def _has_ended(self) -> None:
        self.has_missed, self._lacks, self._breaks = self._lacks, False, False
        if self.has_missed:
            self._missed()

    def _hand_on(self, part: Part, source: Part) -> None:
        self._lacks |= bool(source.runs) and not part.runs
        for sink in self._sinks:
            sink.part_cut(part)

    # ── cutting ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _cut(self, part: Part) -> Part | None:
        """The part of the rung beside one of the source; ``None`` while pictures for it may still come."""
        if not part.runs:
            return part
        video = part.runs[0] if part.runs[0].track.kind is MediaKind.VIDEO else None
        if not self._has_sound(part):
            return self._gap(part) if self.is_off or self._gives_up else None
        if part.starts_segment:
            joins = self._joins(part, video)
            if joins is None and not self.is_off:
                return None
            self._joined = bool(joins)
        if not self._joined:
            return self._gap(part)
        if video is None:
            return replace(part, runs=self._audio(part))
        offset = part.start_pts - part.start
        self._frame = max(video.samples[-1].frame.duration, 1)
        limit = part.end + offset - self._frame // 2
        latest = self._latest(part, limit)
        is_there = latest is not None and (self._has_reached(latest) or (self._gives_up and self._has_reached(limit)))
        if not is_there and not self.is_off:
            return None
        pictures = self._take(limit, latest) if latest is not None and is_there else []
        return self._whole(part, video, pictures, offset) if pictures else self._gap(part)

    def _has_reached(self, limit: int) -> bool:
        """Whether all pictures have come that are shown before a time."""
        is_there = self._newest is not None and self._newest + self._frame >= limit
        return is_there or bool(self._pictures and self._pictures[-1].turn >= limit)

    def _latest(self, part: Part, limit: int) -> int | None:
        """
        Until when pictures of a part are shown, at the latest: of a segment's last one, until the next keyframe is.
        Where GOPs are open the source has some of them behind that. ``None`` while it is not known which one is last.
        """
        if not self._leading:
            return limit
        following = [call for call in islice(self._calls, 2) if call is not part]
        if not following and not part.expected_last:
            return None
        is_last = not following or isinstance(following[0], SegmentEnded)
        return limit + self._leading if is_last else limit

    def _joins(self, part: Part, video: TrackRun | None) -> bool | None:
        """Whether a segment can begin with a keyframe of the rung; ``None`` while that is not known."""
        if video is None or not part.on_keyframe:  # a segment that was cut without a keyframe
            if not self._joined:
                return False
            return self._is_continued() if self._pictures else None
        first = video.samples[0].frame.pts
        if first - part.start_pts > self._frame // 2:
            self._leading = max(self._leading, first - part.start_pts)
        while self._pictures and self._pictures[0].turn < first - TOLERANCE:
            self._pictures.popleft()
        for index, picture in enumerate(self._pictures):
            if picture.turn > first + TOLERANCE:
                return False
            if picture.keyframe:
                for _ in range(index):
                    self._pictures.popleft()
                self._generation = picture.generation
                return self._is_described(picture.track)
        return None

    def _is_continued(self) -> bool:
        return bool(self._pictures) and self._pictures[0].generation == self._generation

    def _is_described(self, track: Track) -> bool:
        """
        Whether the tracks are known to the sinks, which learn of them here where they are others. That can only be
        where nothing is joined on to: behind a discontinuity or a gap.
        """
        tracks = (track, *self._audio_tracks)
        if tracks != self._tracks:
            if self._tracks and not self._breaks and not self.has_missed:
                return False
            self._tracks = tracks
            for sink in self._sinks:
                sink.tracks_changed(tracks)
        return True

    @property
    def _audio_tracks(self) -> tuple[Track, ...]:
        """What goes with the pictures: all that the source has."""
        audio = (track for track in self._source_tracks if track.kind is MediaKind.AUDIO)
        return tuple(self._coded_track or each if each.id in self._coded_ids else each for each in audio)

    def _has_sound(self, part: Part) -> bool:
        """
        Whether there is the audio of a part, as far as it is coded anew. What has not come at last is silence, as it is
        where the source's audio pauses.
        """
        for run in part.runs:
            if run.track.id in self._coded_ids:
                if self._gives_up and self._coded_track is not None:
                    continue
                if not self._sound or _end_of(self._sound[-1]) < _span(run)[1]:
                    return False
        return True

    def _coded_audio(self, run: TrackRun) -> TrackRun:
        """What is coded anew of the audio in a part of the source, with silence where there is nothing."""
        track = self._coded_track
        assert track is not None
        start, end = (round(each * track.timescale) for each in _span(run))
        position = self._sound_end if self._sound_end is not None and self._joins_on(start) else start
        frames: list[Frame] = []
        while self._sound and self._sound[0].dts < end:
            frame = self._sound.popleft()
            if frame.dts + frame.duration // 2 >= position:
                frames += self._silence(position, frame.dts, frame)
                frames.append(frame)
                position = frame.dts + frame.duration
        frames += self._silence(position, end, run.samples[-1].frame)
        if not frames:
            return DescribedRun(track, [])
        self._sound_end = frames[-1].dts + frames[-1].duration
        times = [*(frame.dts for frame in frames), self._sound_end]
        return DescribedRun(
            track, [Sample(frame, max(after - frame.dts, 1)) for frame, after in zip(frames, times[1:], strict=True)]
        )

    def _joins_on(self, start: int) -> bool:
        """Whether what begins then joins on to the audio of the last part."""
        assert self._sound_end is not None and self._coded_track is not None
        return abs(self._sound_end - start) < LACKING_S * self._coded_track.timescale

    def _silence(self, start: int, end: int, like: Frame) -> list[Frame]:
        """Whole silent frames from one time to another, where there is room for some."""
        track = self._coded_track
        assert track is not None and isinstance(track.config, AudioConfig)
        make, samples = CODECS[track.codec].silence, track.config.samples_per_frame
        data = make(track.config) if make is not None and end - start >= samples else b""
        if not data:
            return []
        return [
            Frame(track, dts, 0, samples, True, data, like.arrived_ms, like.rhythm)
            for dts in range(start, end - samples + 1, samples)
        ]

    def _audio(self, part: Part) -> tuple[TrackRun, ...]:
        """The audio of the source's part, which every rendition has in the same one (its very samples)."""
        wanted = {track.id for track in self._audio_tracks}
        audio = [run for run in part.runs if run.track.id in wanted]
        made = [self._coded_audio(run) if run.track.id in self._coded_ids else run for run in audio]
        return tuple(run for run in made if run.samples)

    def _take(self, limit: int, latest: int) -> list[Picture]:
        """
        The pictures whose turn is before a time, as far as they continue those before.

        :param latest: up to here, those are taken as well that come before a keyframe.
        """
        taken: list[Picture] = []
        while self._pictures and self._pictures[0].turn < latest and self._is_continued():
            if self._pictures[0].turn >= limit and self._pictures[0].keyframe:
                break
            taken.append(self._pictures.popleft())
        return taken

    def _whole(self, part: Part, video: TrackRun, pictures: list[Picture], offset: int) -> Part:
        """A part of the rung: it is decoded from where the source's samples begin to where they end."""
        first, last = video.samples[0], video.samples[-1]
        end = last.frame.dts + last.duration
        times = [first.frame.dts]
        for picture in pictures[1:]:
            times.append(max(picture.turn - offset, times[-1] + 1))
        times.append(max(end, times[0] + len(times)))
        for index in range(len(times) - 2, 0, -1):
            times[index] = min(times[index], times[index + 1] - 1)
        samples = [
            Sample(
                Frame(
                    picture.track,
                    dts,
                    picture.pts - dts,
                    after - dts,
                    picture.keyframe,
                    picture.data,
                    picture.arrived_ms,
                    last.frame.rhythm,
                ),
                after - dts,
            )
            for picture, (dts, after) in zip(pictures, pairwise(times), strict=True)
        ]
        return replace(
            part,
            runs=(DescribedRun(pictures[0].track, samples), *self._audio(part)),
            independent=any(picture.keyframe for picture in pictures),
            on_keyframe=part.on_keyframe and pictures[0].keyframe,
        )

    def _gap(self, part: Part) -> Part:
        self._joined = False
        return replace(part, runs=(), independent=False, on_keyframe=False)


def _span(run: TrackRun) -> tuple[Fraction, Fraction]:
    """When a run begins and ends, in seconds."""
    first, last = run.samples[0].frame, run.samples[-1]
    scale = run.track.timescale
    return Fraction(first.dts, scale), Fraction(last.frame.dts + last.duration, scale)


def _end_of(frame: Frame) -> Fraction:
    return Fraction(frame.dts + frame.duration, frame.track.timescale)
