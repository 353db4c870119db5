"""How well a publish goes, in numbers: what an operator would ask when viewers complain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rapidrtmp.media import VIDEO_TIMESCALE, MediaKind, Track
from rapidrtmp.timeline.events import MediaEvent, MediaProblem, TracksChanged
from rapidrtmp.timeline.pace import Pace
from rapidrtmp.timeline.policy import TimelinePolicy
from rapidrtmp.timeline.rhythm import RhythmMeter

__all__ = ["HealthMonitor", "PublishHealth"]

_TICKS_PER_MS = VIDEO_TIMESCALE // 1000
_REPAIRED = frozenset({"timestamp_repaired", "timestamp_frozen", "timestamp_shifted"})
_DROPPED = frozenset(
    {
        "malformed",
        "too_many_pieces",
        "no_config",
        "no_picture",
        "waiting_for_keyframe",
        "timestamp_jump",
        "config_replaced",
        "audio_overlap",
    }
)
#: Who has not sent for longer than this is not compared with who has.
_RECENT_MS = 5_000
#: Whose lead changes faster than this in a minute is not sending in real time: too coarse to see drift by.
_HASTE_MS = 3_000


@dataclass(frozen=True, slots=True)
class PublishHealth:
    """
    The state of one publish.

    :ivar lead_ms: by how much media time is ahead of the time that has passed since the first frame, by the frame that
        was furthest ahead in the last half a minute. Growing for who sends faster than real time, or has a fast clock;
        negative for who cannot keep up. Over a jump of the publisher's clock it counts on, but from 0 if it was less.
    :ivar lead_drift_ms: by how much the lead grows in a minute: 12 at 200 ppm. 0 in the first half a minute.
    :ivar clock_drift_ms: the same, where it is steady for a minute: then the clocks differ.
    :ivar skew_ms: by how much audio is ahead of video as they arrive; 0 unless there are both.
    :ivar skew_drift_ms: by how much that grows in a minute: the tracks' clocks differ.
    :ivar jitter_ms: how much the distance of two arrivals differs from that of the frames, on average, on the worse
        track.
    :ivar repaired_timestamps: how many decode times were made or mended.
    :ivar dropped_frames: how many frames, or messages that should have been some, came to nothing.
    :ivar gaps: how many pauses there were in the video of more than half a second, where that is not its rhythm, and in
        the audio.
    :ivar keyframe_interval_ms: between the last two keyframes; 0 until there are two.
    :ivar keyframe_interval_max_ms: the longest so far.
    :ivar since_keyframe_ms: since the last keyframe, in media time; 0 before the first.
    :ivar keyframe_waits: how many video frames were dropped because no keyframe had come before them.
    :ivar audio_missing: audio has been announced, or even its config was sent, but none is to be heard. Likewise
        ``video_missing``, also where frames come of which none can be used.
    :ivar audio_silent_ms: how long no audio has arrived; 0 without an audio track. Likewise ``video_silent_ms``.
    :ivar open_gops: how many keyframes in a row, up to the last one, were intra pictures with a recovery point and no
        IDR pictures.
    """

    lead_ms: int
    lead_drift_ms: int
    clock_drift_ms: int
    skew_ms: int
    skew_drift_ms: int
    jitter_ms: int
    repaired_timestamps: int
    dropped_frames: int
    gaps: int
    keyframe_interval_ms: int
    keyframe_interval_max_ms: int
    since_keyframe_ms: int
    keyframe_waits: int
    audio_missing: bool
    video_missing: bool
    audio_silent_ms: int
    video_silent_ms: int
    open_gops: int = 0


class HealthMonitor:
    """
    Watches what one demuxer makes.

    Of several tracks of a kind it is the first that counts.

    :param pace_of: tells how a track keeps pace as it arrives, by its id; likewise ``meter_of`` of video what has been
        measured.
    """

    def __init__(
        self, policy: TimelinePolicy, pace_of: Callable[[int], Pace], meter_of: Callable[[int], RhythmMeter]
    ) -> None:
        self._policy = policy
        self._pace_of, self._meter_of = pace_of, meter_of
        self._video, self._audio = Pace(), Pace()
        self._meter = RhythmMeter()
        self._now_ms = 0
        self._kinds: frozenset[MediaKind] = frozenset()
        self._repaired = self._dropped = self._gaps = self._keyframe_waits = 0
        self._skew_is_reported = False

    def observe(self, events: Sequence[MediaEvent]) -> None:
        """Take note of what came of one message; that it was a frame tells nothing."""
        for event in events:
            if type(event) is MediaProblem:
                self._observe_problem(event.kind)
            elif type(event) is TracksChanged:
                self._observe_tracks(event.tracks)

    def _observe_tracks(self, tracks: Sequence[Track]) -> None:
        first = {track.kind: track for track in reversed(tracks)}
        self._kinds = frozenset(first)
        if MediaKind.VIDEO in first:
            self._video = self._pace_of(first[MediaKind.VIDEO].id)
            self._meter = self._meter_of(first[MediaKind.VIDEO].id)
        if MediaKind.AUDIO in first:
            self._audio = self._pace_of(first[MediaKind.AUDIO].id)

    def _observe_problem(self, kind: str) -> None:
        if kind in _DROPPED:
            self._dropped += 1
            self._keyframe_waits += kind == "waiting_for_keyframe"
        elif kind in _REPAIRED:
            self._repaired += 1
        elif kind == "audio_gap":
            self._gaps += 1

    def poll(self, now_ms: int, events: list[MediaEvent]) -> None:
        """Let time pass: tell of audio and video that are, or drift, too far apart, when that begins."""
        self._now_ms = now_ms
        if not self._has_both or now_ms - min(self._video.arrived_ms, self._audio.arrived_ms) > _RECENT_MS:
            return
        policy, skew_ms, drift_ms = self._policy, self._skew_ms, self._skew_drift_ms
        if abs(self._video.drift_ms) > _HASTE_MS:
            drift_ms = 0
        if abs(skew_ms) > policy.skew_ms or abs(drift_ms) > policy.skew_drift_ms:
            if not self._skew_is_reported:
                side = "ahead of" if skew_ms >= 0 else "behind"
                detail = f"audio is {abs(skew_ms)} ms {side} video, and gains {drift_ms} ms a minute"
                events.append(MediaProblem("track_skew", detail))
            self._skew_is_reported = True
        elif 2 * abs(skew_ms) < policy.skew_ms and 2 * abs(drift_ms) < policy.skew_drift_ms:
            self._skew_is_reported = False

    def report(self, missing: frozenset[MediaKind], open_gops: int = 0) -> PublishHealth:
        """
        The numbers of now.

        :param missing: the kinds of track that were promised and are not there.
        :param open_gops: as :class:`PublishHealth` has it.
        """
        video, audio = self._video, self._audio
        fore = video if video.has_begun and (not audio.has_begun or video.lead_ms >= audio.lead_ms) else audio
        now_ms = max(self._now_ms, video.arrived_ms, audio.arrived_ms)
        return PublishHealth(
            lead_ms=fore.lead_ms,
            lead_drift_ms=fore.drift_ms,
            clock_drift_ms=fore.clock_drift_ms,
            skew_ms=self._skew_ms,
            skew_drift_ms=self._skew_drift_ms,
            jitter_ms=max(video.jitter_ms, audio.jitter_ms),
            repaired_timestamps=self._repaired,
            dropped_frames=self._dropped,
            gaps=self._gaps + self._meter.gaps,
            keyframe_interval_ms=self._meter.rhythm.keyframe_interval // _TICKS_PER_MS,
            keyframe_interval_max_ms=self._meter.longest_interval // _TICKS_PER_MS,
            since_keyframe_ms=self._meter.since_keyframe // _TICKS_PER_MS,
            keyframe_waits=self._keyframe_waits,
            audio_missing=MediaKind.AUDIO in missing,
            video_missing=MediaKind.VIDEO in missing,
            audio_silent_ms=now_ms - audio.arrived_ms if MediaKind.AUDIO in self._kinds else 0,
            video_silent_ms=now_ms - video.arrived_ms if MediaKind.VIDEO in self._kinds else 0,
            open_gops=open_gops,
        )

    @property
    def _has_both(self) -> bool:
        return self._video.has_begun and self._audio.has_begun

    @property
    def _skew_ms(self) -> int:
        return self._audio.lead_ms - self._video.lead_ms if self._has_both else 0

    @property
    def _skew_drift_ms(self) -> int:
        is_known = self._has_both and self._audio.tells_drift and self._video.tells_drift
        return self._audio.drift_ms - self._video.drift_ms if is_known else 0
