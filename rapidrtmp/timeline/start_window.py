"""
The start of a range of the timeline: frames are held until it is known what the range consists of.

At the start of a publish it is not known which tracks will come, or when: a track may lag by seconds. So frames wait
until every track that may come has its first one (video: a keyframe), but never long, neither by the media's clock nor
by the server's. Of several video tracks one leads, the one with the lowest id: where it begins, all do. A little longer
they wait for its frame rate, so that durations are right from the first frame on. The same window opens again where the
publisher's clock has jumped or its tracks have changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import NamedTuple

from rapidrtmp.media import AudioConfig, MediaKind, Track
from rapidrtmp.timeline.events import Coded
from rapidrtmp.timeline.frame_rate import LOOK_BACK, FrameStep, claimed_rates, fit_grid
from rapidrtmp.timeline.policy import TimelinePolicy

__all__ = ["RangeStart", "StartWindow", "audio_frame_ns", "video_ticks"]

_NS_PER_MS = 1_000_000
_NS_PER_S = 1_000_000_000


def video_ticks(time_ns: int) -> int:
    """Nanoseconds as ticks of 1/90000 s, rounded."""
    return (time_ns * 9 + 50_000) // 100_000


def audio_frame_ns(track: Track) -> int:
    """How long one frame of an audio track lasts, in nanoseconds; 0 for video."""
    config = track.config
    return config.samples_per_frame * _NS_PER_S // config.sample_rate if isinstance(config, AudioConfig) else 0


class RangeStart(NamedTuple):
    """
    What a window has come to.

    :ivar frames: to start with: the keyframe, then by decode time as far as each track's own order allows.
    :ivar dropped: what came before the keyframe to start at, or is shown before it.
    :ivar shown_from_ns: when that keyframe is presented, on the publisher's clock; ``None`` if there is none. Audio
        begins with the frame that reaches past it.
    :ivar steps: the distances between the frames of video tracks, by id, where they are known.
    """

    frames: list[Coded]
    dropped: list[Coded]
    shown_from_ns: int | None
    steps: Mapping[int, FrameStep]

    @property
    def origin_ns(self) -> int:
        """
        The earliest time of any first frame, decode or presentation, on the publisher's clock.

        A presentation before its decode time gets a millisecond more, the one it may have lost to rounding.
        """
        first: dict[int, Coded] = {}
        for coded in self.frames:
            first.setdefault(coded.track.id, coded)
        return min(
            coded.time_ns if coded.composition_ms >= 0 else coded.pts_ns - _NS_PER_MS for coded in first.values()
        )


class _Video:
    """
    The frames of one video track that are held, as far as its frame rate is concerned.

    :ivar step: the distance between its frames, once it is known.
    :ivar keyframes: how many there are.
    :ivar has_passed: whether what is shown after the last of those has begun to come: nothing that is shown before it
        is still to be expected.
    """

    def __init__(self, policy: TimelinePolicy, step: FrameStep | None) -> None:
        self.step = step
        self.keyframes = 0
        self.has_passed = True
        self._shown_ns = 0  # when the last keyframe is
        self._policy = policy
        self._is_known = step is not None
        self._times: list[int] = []
        self._measure_at = policy.candidate_deltas + 1

    def saw(self, coded: Coded, claims: Sequence[Fraction], *, is_awaited: bool) -> None:
        """
        Learn of the next frame. Measure seldom, since that looks at all frames; a little less so when the frame rate is
        all that is waited for.
        """
        if coded.keyframe:
            self.keyframes += 1
            self._shown_ns, self.has_passed = coded.pts_ns, coded.composition_ms <= 0
        elif not self.has_passed:
            self.has_passed = coded.pts_ns > self._shown_ns
        self._times.append(video_ticks(coded.time_ns))
        seen = len(self._times)
        if seen >= self._measure_at or (is_awaited and self.step is None and seen % 5 == 1):
            self._measure_at = 2 * seen
            self.measure(claims)

    def measure(self, claims: Sequence[Fraction]) -> None:
        """Measure: more frames may correct a claim that fewer have confirmed, but a stray one refutes nothing."""
        if self._is_known:
            return
        grid = fit_grid(self._times[-LOOK_BACK:], claims, self._policy)
        if grid is not None:
            self.step = grid.step


class StartWindow:
    """
    Holds the frames of a range that is about to start.

    :ivar reason: why a new range starts; ``None`` for the first one.
    :ivar reanchors: whether the range's clock has nothing to do with that of the one before.
    :param kinds: of each of these some track may come.
    :param tracks: these may come.
    :param steps: the distances between the frames of video tracks, if the range before has shown them.
    """

    def __init__(
        self,
        policy: TimelinePolicy,
        *,
        kinds: Iterable[MediaKind] = (),
        tracks: Iterable[Track] = (),
        reason: str | None = None,
        reanchors: bool = True,
        steps: Mapping[int, FrameStep] = MappingProxyType({}),
    ) -> None:
        self.reason = reason
        self.reanchors = reanchors
        self._policy = policy
        self._kinds = frozenset(kinds)
        self._expected = {track.id: track.kind for track in tracks}
        self._lasting_steps = steps
        self._opened_ms: int | None = None
        self._reset()

    def _reset(self) -> None:
        self._held: list[Coded] = []
        self._ready: dict[int, MediaKind] = {}
        self._bytes = 0
        self._videos: dict[int, _Video] = {}
        self._first_ns: int | None = None
        self._latest_ns = 0
        self._complete_ns: int | None = None

    @property
    def ready(self) -> frozenset[int]:
        """The ids of the tracks of which a first frame is held."""
        return frozenset(self._ready)

    def opened(self, now_ms: int) -> None:
        """Start the server's clock of the window: when the publisher first shows a sign of media."""
        if self._opened_ms is None:
            self._opened_ms = now_ms

    def expect(self, track: Track) -> None:
        """Wait for one more track: its config has come."""
        if track.id not in self._expected:
            self._expected[track.id] = track.kind
            self._complete_ns = None

    def leave_out(self, kind: MediaKind, track_id: int) -> None:
        """Do not wait for a track of this kind: the one there is cannot be taken."""
        self._kinds -= {kind}
        if track_id not in self._ready:
            self._expected.pop(track_id, None)
        if self._held and self._complete_ns is None and self._is_complete:
            self._complete_ns = self._latest_ns

    def forget(self, track_id: int | None = None) -> int:
        """
        Drop what is held of one track, or everything and the media's clock with it.

        :returns: how many frames that were.
        """
        before = len(self._held)
        kept = [coded for coded in self._held if track_id is not None and coded.track.id != track_id]
        first_ns = self._first_ns if track_id is not None else None
        self._reset()
        for coded in kept:
            self.hold(coded, None)
        if first_ns is not None:
            self._first_ns = first_ns
        return before - len(kept)

    def hold(self, coded: Coded, rate: Fraction | None) -> bool:
        """
        Hold one more frame.

        :param rate: the frame rate that metadata claims.
        :returns: whether it is held; video before its first keyframe is not.
        """
        if self._first_ns is None:
            self._first_ns = self._latest_ns = coded.time_ns
        self._latest_ns = max(self._latest_ns, coded.time_ns)
        track = coded.track
        if track.kind is MediaKind.VIDEO and not coded.keyframe and track.id not in self._ready:
            return False
        self._held.append(coded)
        self._bytes += len(coded.data)
        self._ready[track.id] = track.kind
        if self._complete_ns is None and self._is_complete:
            self._complete_ns = self._latest_ns
        if track.kind is MediaKind.VIDEO:
            video = self._videos.get(track.id)
            if video is None:
                video = self._videos[track.id] = _Video(self._policy, self._lasting_steps.get(track.id))
            video.saw(coded, claimed_rates(track.config, rate), is_awaited=self._complete_ns is not None)
        return True

    @property
    def _is_complete(self) -> bool:
        return self._expected.keys() <= self._ready.keys() and self._kinds <= {*self._ready.values()}

    def is_over(self, now_ms: int, announced: Collection[MediaKind]) -> bool:
        """
        Whether to start now with what there is.

        :param announced: the kinds of track that metadata has promised.
        """
        if not self._held or self._first_ns is None:
            return False
        policy = self._policy
        if self._has_waited(now_ms):
            return True
        if self._bytes > policy.start_bytes or len(self._held) >= policy.start_frames:
            return True
        if self._complete_ns is not None:
            return self._rate_is_settled(self._latest_ns - self._complete_ns)
        promised = {*self._kinds, *self._expected.values()}.intersection(announced).difference(self._ready.values())
        patience_ms = policy.announced_media_ms if promised else policy.start_media_ms
        return self._latest_ns - self._first_ns >= patience_ms * _NS_PER_MS

    def _has_waited(self, now_ms: int) -> bool:
        policy = self._policy
        opened_ms = now_ms if self._opened_ms is None else self._opened_ms
        return now_ms - opened_ms >= policy.start_wall_ms and now_ms - self._held[0].now_ms >= policy.start_settle_ms

    def _rate_is_settled(self, complete_for_ns: int) -> bool:
        if not self._videos:
            return True
        leading = self._videos[min(self._videos)]
        return complete_for_ns >= self._policy.rate_hold_ms * _NS_PER_MS or (
            leading.has_passed and (leading.step is not None or leading.keyframes > 1)
        )

    def take(self, rate: Fraction | None) -> RangeStart:
        """
        End the window.

        :param rate: as for :meth:`hold`.
        """
        start = self._first_keyframe()
        if start is None:
            return RangeStart(_interleaved(self._held), [], None, {})
        kept: list[Coded] = []
        dropped: list[Coded] = []
        began: dict[int, Coded] = {}
        for coded in self._held:
            track_id = coded.track.id
            if track_id not in began and _begins(coded, start):
                began[track_id] = coded
            is_usable = track_id in began and not _leads(coded, began[track_id])
            (kept if is_usable else dropped).append(coded)
        kept.remove(start)
        # The keyframe leads even the audio that overlaps it, so that a cut at keyframes leaves no sliver.
        return RangeStart([start, *_interleaved(kept)], dropped, start.pts_ns, self._steps(rate))

    def _steps(self, rate: Fraction | None) -> dict[int, FrameStep]:
        """The steps by track, as far as they are known; other video most likely has the frame rate of the leading."""
        configs = {coded.track.id: coded.track.config for coded in self._held}
        steps: dict[int, FrameStep] = {}
        for track_id, video in sorted(self._videos.items()):
            if video.step is None:
                video.measure((*(step.rate for step in steps.values()), *claimed_rates(configs[track_id], rate)))
            if video.step is not None:
                steps[track_id] = video.step
        return steps

    def _first_keyframe(self) -> Coded | None:
        """Where to start: the first keyframe, or a later one that spares the viewer a long silence before the audio."""
        if not self._videos:
            return None
        leading = min(self._videos)
        keyframes = [coded for coded in self._held if coded.track.id == leading and coded.keyframe]
        audio = next((coded for coded in self._held if coded.track.kind is MediaKind.AUDIO), None)
        if audio is None:
            return keyframes[0]
        near_ns = audio.time_ns + self._policy.audio_hole_ms * _NS_PER_MS
        if audio.time_ns - keyframes[0].pts_ns <= self._policy.audio_hole_ms * _NS_PER_MS:
            return keyframes[0]
        return [coded for coded in keyframes if coded.pts_ns <= near_ns][-1]


def _begins(coded: Coded, start: Coded) -> bool:
    """Whether a track begins with this frame; audio reaches past the keyframe's presentation, to leave no hole."""
    track = coded.track
    if track.kind is MediaKind.AUDIO:
        return coded.time_ns > start.pts_ns - audio_frame_ns(track)
    return coded is start if track.id == start.track.id else coded.keyframe and coded.pts_ns >= start.pts_ns


def _leads(coded: Coded, keyframe: Coded) -> bool:
    """
    Whether a picture is shown before the keyframe that it was decoded after: it may need pictures from before that, as
    with open GOPs, and cannot be shown where there are none. Times are rounded, each to a millisecond; those of a clock
    that stands still say nothing.
    """
    is_later = coded.track.kind is MediaKind.VIDEO and coded.time_ns > keyframe.time_ns
    return is_later and keyframe.pts_ns - coded.pts_ns > 2 * _NS_PER_MS


def _interleaved(held: Sequence[Coded]) -> list[Coded]:
    """By decode time, but never a track's frames out of the order they came in: that is their decode order."""
    latest: dict[int, int] = {}
    keyed = []
    for coded in held:
        track_id = coded.track.id
        latest[track_id] = max(coded.time_ns, latest.get(track_id, coded.time_ns))
        keyed.append((latest[track_id], coded))
    return [coded for _, coded in sorted(keyed, key=lambda pair: pair[0])]
