"""
One range of the timeline: one mapping of the publisher's clock for all tracks, so what it said about audio and video
stays true. The first frame of each track that reaches past the range's start begins it; video begins with a keyframe.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from rapidrtmp.media import VIDEO_TIMESCALE, AudioConfig, Frame, MediaKind, Track
from rapidrtmp.timeline.audio_clock import AudioClock, AudioRepair
from rapidrtmp.timeline.events import Coded, MediaEvent, MediaProblem
from rapidrtmp.timeline.frame_rate import FrameStep
from rapidrtmp.timeline.policy import TimelinePolicy
from rapidrtmp.timeline.start_window import RangeStart, video_ticks
from rapidrtmp.timeline.video_clock import VideoClock

__all__ = ["MediaRange", "audio_frame_ns"]

_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000


def audio_frame_ns(tracks: Iterable[Track]) -> int:
    """How long one frame of the audio among ``tracks`` lasts, in nanoseconds; 0 if there is none."""
    for track in tracks:
        if isinstance(track.config, AudioConfig):
            return track.config.samples_per_frame * _NS_PER_S // track.config.sample_rate
    return 0


class MediaRange:
    """
    Turns coded frames into :class:`Frame`, from the range's start to its end.

    :param tracks: what sinks are told of, video first.
    :param start: what the range begins with; its frames are yet to be placed.
    :param start_ms: where on the stream's timeline the range begins, and nothing is before.
    :param least_offset_ns: the mapping of the range before, if the publisher's clock is still the same: it goes on
        unless that would reach back before ``start_ms``.
    :param claims: frame rates that the video claims to have.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        start: RangeStart,
        start_ms: int,
        policy: TimelinePolicy,
        *,
        least_offset_ns: int | None = None,
        claims: Sequence[Fraction] = (),
    ) -> None:
        offset_ns = start_ms * _NS_PER_MS - start.origin_ns
        self.offset_ns = offset_ns if least_offset_ns is None else max(offset_ns, least_offset_ns)
        self._start_ms = start_ms
        from_ns = start_ms * _NS_PER_MS - self.offset_ns - 1
        self._audio_from_ns = from_ns if start.audio_from_ns is None else max(from_ns, start.audio_from_ns)
        self._video_track: Track | None = None
        self._audio_track: Track | None = None
        self._video = VideoClock(start_ms * VIDEO_TIMESCALE // 1000, claims, policy)
        self._video_end = self._audio_end = 0
        for track in tracks:
            if isinstance(track.config, AudioConfig):
                self._audio_track, self._sample_rate = track, track.config.sample_rate
                self._audio = AudioClock(track.config.sample_rate, track.config.samples_per_frame, policy)
            else:
                self._video_track = track
        arrivals = [self._video_arrival(coded) for coded in start.frames if coded.kind is MediaKind.VIDEO]
        if arrivals and start.step is not None:
            self._video.expect(arrivals, start.step)

    @property
    def step(self) -> FrameStep | None:
        """The distance between video frames, if they are on a grid at present."""
        return self._video.grid.step if self._video.grid is not None else None

    @property
    def end_ms(self) -> int:
        """Where the latest frame ends, decoded and presented, in milliseconds of the stream's timeline, rounded up."""
        end_ms = max(self._start_ms, -(-self._video_end * 1000 // VIDEO_TIMESCALE))
        return max(end_ms, -(-self._audio_end * 1000 // self._sample_rate)) if self._audio_track else end_ms

    def place(self, coded: Coded, events: list[MediaEvent]) -> None:
        """Append the frame's place on the timeline to ``events``, or why it is dropped, and what had to be mended."""
        if coded.kind is MediaKind.VIDEO:
            self._place_video(coded, events)
        else:
            self._place_audio(coded, events)

    def _video_arrival(self, coded: Coded) -> int:
        return video_ticks(coded.time_ns + self.offset_ns)

    def _place_video(self, coded: Coded, events: list[MediaEvent]) -> None:
        track, clock = self._video_track, self._video
        if track is None:
            return
        arrival = self._video_arrival(coded)
        if not clock.has_begun:
            if not coded.keyframe:
                events.append(MediaProblem("waiting_for_keyframe", "video frame before the first keyframe"))
                return
            if min(coded.time_ns, coded.pts_ns) + self.offset_ns < self._start_ms * _NS_PER_MS:
                events.append(MediaProblem("trimmed", f"keyframe from before the start at {self._start_ms} ms"))
                return
        last = clock.dts
        repair = clock.place(arrival, coded.composition_ms, coded.keyframe)
        dts, offset, duration = clock.dts, clock.composition_offset, clock.duration
        if repair is not None:
            detail = f"video at {arrival}/90000 s, {coded.composition_ms} ms to its presentation, after {last}"
            events.append(MediaProblem(repair.value, detail))
        end = dts + duration + (offset if offset > 0 else 0)
        if end > self._video_end:
            self._video_end = end
        events.append(Frame(track, dts, offset, duration, coded.keyframe, coded.data, coded.now_ms))

    def _place_audio(self, coded: Coded, events: list[MediaEvent]) -> None:
        track = self._audio_track
        if track is None:
            return
        clock = self._audio
        if not clock.has_begun and coded.time_ns <= self._audio_from_ns:
            events.append(MediaProblem("trimmed", "audio frame that ends before the stream begins"))
            return
        arrival = ((coded.time_ns + self.offset_ns) * self._sample_rate + _NS_PER_S // 2) // _NS_PER_S
        repair = clock.place(arrival)
        if repair is not None:
            detail = f"audio at {arrival}/{self._sample_rate} s, last placed at {clock.dts}"
            events.append(MediaProblem(repair.value, detail))
            if repair is AudioRepair.OVERLAP:
                return
        self._audio_end = clock.dts + clock.duration
        events.append(Frame(track, clock.dts, 0, clock.duration, True, coded.data, coded.now_ms))
