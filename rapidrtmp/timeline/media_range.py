"""
One range of the timeline: one mapping of the publisher's clock for all tracks, so what it said about audio and video
stays true. The first frame of each track that reaches past the range's start begins it; video begins with a keyframe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Protocol

from rapidrtmp.media import VIDEO_TIMESCALE, AudioConfig, Frame, MediaKind, Rhythm, Track
from rapidrtmp.timeline.audio_clock import AudioClock, AudioRepair
from rapidrtmp.timeline.events import Coded, MediaEvent, MediaProblem
from rapidrtmp.timeline.frame_rate import FrameStep, claimed_rates
from rapidrtmp.timeline.policy import TimelinePolicy
from rapidrtmp.timeline.rhythm import RhythmMeter
from rapidrtmp.timeline.start_window import RangeStart, audio_frame_ns, video_ticks
from rapidrtmp.timeline.video_clock import VideoClock

__all__ = ["Lane", "MediaRange"]

_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000


class Lane(Protocol):
    """Where the frames of one track get their place in a range."""

    def place(
        self,
        time_ns: int,
        composition_ms: int,
        keyframe: bool,
        samples: int,
        data: bytes,
        now_ms: int,
        events: list[MediaEvent],
    ) -> None:
        """
        Append the frame's place on the timeline to ``events``, or why it is dropped, and what had to be mended.

        The parameters are the fields of :class:`~rapidrtmp.timeline.events.Coded`.
        """

    @property
    def end_ms(self) -> int:
        """Where its latest frame ends, decoded and presented, in milliseconds of the timeline, rounded up; or 0."""


class MediaRange:
    """
    Turns coded frames into :class:`Frame`, from the range's start to its end.

    :param tracks: the tracks as sinks see them.
    :param start: what the range begins with; its frames are yet to be placed.
    :param start_ms: where on the stream's timeline the range begins, and nothing is before.
    :param meters: measures a video track, by its id.
    :param least_offset_ns: the mapping of the range before, if the publisher's clock is still the same: it stays
        unless that would reach back before ``start_ms``.
    :param rate: the frame rate that metadata claims.
    :ivar lanes: one for each track, by its id.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        start: RangeStart,
        start_ms: int,
        policy: TimelinePolicy,
        *,
        meters: Callable[[int], RhythmMeter],
        least_offset_ns: int | None = None,
        rate: Fraction | None = None,
    ) -> None:
        offset_ns = start_ms * _NS_PER_MS - start.origin_ns
        self.offset_ns = offset_ns if least_offset_ns is None else max(offset_ns, least_offset_ns)
        self._start_ms = start_ms
        self._videos: dict[int, _VideoLane] = {}
        lanes: dict[int, Lane] = {}
        for track in tracks:
            if track.kind is MediaKind.VIDEO:
                claims, meter = claimed_rates(track.config, rate), meters(track.id)
                step = start.steps.get(track.id)
                meter.begin(claims if step is None else (step.rate, *claims))
                lane = _VideoLane(track, self.offset_ns, start_ms, claims, policy, meter)
                lanes[track.id] = self._videos[track.id] = lane
            else:
                lanes[track.id] = _AudioLane(track, self.offset_ns, start_ms, start.shown_from_ns, policy)
        self.lanes: Mapping[int, Lane] = lanes
        for track_id, step in start.steps.items():
            self._videos[track_id].expect([coded for coded in start.frames if coded.track.id == track_id], step)

    @property
    def steps(self) -> dict[int, FrameStep]:
        """The distances between the frames of video tracks, by id, of those that are on a grid at present."""
        return {track_id: lane.step for track_id, lane in self._videos.items() if lane.step is not None}

    @property
    def end_ms(self) -> int:
        """Where the latest frame ends, decoded and presented, in milliseconds of the stream's timeline, rounded up."""
        return max(self._start_ms, *(lane.end_ms for lane in self.lanes.values()))

    def place(self, coded: Coded, events: list[MediaEvent]) -> None:
        """Place a frame: see :meth:`Lane.place`."""
        track, time_ns, composition_ms, keyframe, samples, data, now_ms = coded
        self.lanes[track.id].place(time_ns, composition_ms, keyframe, samples, data, now_ms, events)


class _VideoLane:
    """Places video on its frame grid."""

    def __init__(
        self,
        track: Track,
        offset_ns: int,
        start_ms: int,
        claims: Sequence[Fraction],
        policy: TimelinePolicy,
        meter: RhythmMeter,
    ) -> None:
        self._track = track
        self._meter = meter
        self._offset_ns = offset_ns
        self._start_ms = start_ms
        self._clock = VideoClock(start_ms * VIDEO_TIMESCALE // 1000, claims, policy)
        self._end = 0

    @property
    def step(self) -> FrameStep | None:
        """The distance between frames, if they are on a grid at present."""
        return self._clock.grid.step if self._clock.grid is not None else None

    @property
    def end_ms(self) -> int:
        """See :class:`Lane`."""
        return -(-self._end * 1000 // VIDEO_TIMESCALE)

    def expect(self, frames: Sequence[Coded], step: FrameStep) -> None:
        """Learn of the frames about to be placed that they are on a grid."""
        if frames:
            self._clock.expect([video_ticks(coded.time_ns + self._offset_ns) for coded in frames], step)

    def place(
        self,
        time_ns: int,
        composition_ms: int,
        keyframe: bool,
        samples: int,  # noqa: ARG002
        data: bytes,
        now_ms: int,
        events: list[MediaEvent],
    ) -> None:
        """See :class:`Lane`."""
        clock = self._clock
        arrival = video_ticks(time_ns + self._offset_ns)
        if not clock.has_begun:
            if not self._begins(time_ns, composition_ms, keyframe, events):
                return
            clock.begin(arrival)
        last = clock.dts
        repair = clock.place(arrival, composition_ms, keyframe)
        dts, offset, duration = clock.dts, clock.composition_offset, clock.duration
        if repair is not None:
            detail = f"video at {arrival}/90000 s, {composition_ms} ms to its presentation, after {last}"
            events.append(MediaProblem(repair.value, detail))
        end = dts + duration + (offset if offset > 0 else 0)
        if end > self._end:
            self._end = end
        rhythm = self._meter.saw(dts, duration, keyframe=keyframe)
        events.append(Frame(self._track, dts, offset, duration, keyframe, data, now_ms, rhythm))

    def _begins(self, time_ns: int, composition_ms: int, keyframe: bool, events: list[MediaEvent]) -> bool:
        """Whether the track can begin with this frame."""
        if not keyframe:
            events.append(MediaProblem("waiting_for_keyframe", "video frame before the first keyframe"))
            return False
        first_ns = time_ns + min(0, composition_ms) * _NS_PER_MS + self._offset_ns
        if first_ns < self._start_ms * _NS_PER_MS:
            events.append(MediaProblem("trimmed", f"keyframe from before the start at {self._start_ms} ms"))
            return False
        return True


class _AudioLane:
    """Places audio on its sample clock."""

    def __init__(
        self, track: Track, offset_ns: int, start_ms: int, shown_from_ns: int | None, policy: TimelinePolicy
    ) -> None:
        config = track.config
        assert isinstance(config, AudioConfig)
        self._track = track
        self._offset_ns = offset_ns
        self._sample_rate = config.sample_rate
        self._clock = AudioClock(config.sample_rate, config.samples_per_frame, policy)
        from_ns = start_ms * _NS_PER_MS - offset_ns - 1
        self._from_ns = from_ns if shown_from_ns is None else max(from_ns, shown_from_ns - audio_frame_ns(track))
        self._end = 0
        self._samples = 0
        self._keep_rhythm(config.samples_per_frame)

    def _keep_rhythm(self, samples: int) -> None:
        """Learn how long frames are now."""
        self._samples = samples
        self._rhythm = Rhythm(Fraction(self._sample_rate, samples), samples, samples, is_steady=True)

    @property
    def end_ms(self) -> int:
        """See :class:`Lane`."""
        return -(-self._end * 1000 // self._sample_rate)

    def place(
        self,
        time_ns: int,
        composition_ms: int,  # noqa: ARG002
        keyframe: bool,  # noqa: ARG002
        samples: int,
        data: bytes,
        now_ms: int,
        events: list[MediaEvent],
    ) -> None:
        """See :class:`Lane`."""
        clock = self._clock
        if not clock.has_begun and time_ns <= self._from_ns:
            events.append(MediaProblem("trimmed", "audio frame that ends before the stream begins"))
            return
        arrival = ((time_ns + self._offset_ns) * self._sample_rate + _NS_PER_S // 2) // _NS_PER_S
        repair = clock.place(arrival, samples)
        if repair is not None:
            detail = f"audio at {arrival}/{self._sample_rate} s, last placed at {clock.dts}"
            events.append(MediaProblem(repair.value, detail))
            if repair is AudioRepair.OVERLAP:
                return
        self._end = clock.dts + clock.duration
        if samples != self._samples:
            self._keep_rhythm(samples)
        events.append(Frame(self._track, clock.dts, 0, clock.duration, True, data, now_ms, self._rhythm))
