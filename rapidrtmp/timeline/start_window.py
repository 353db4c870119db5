"""
The start of a range of the timeline: frames are held until it is known what the range consists of.

At the start of a publish nobody knows which tracks will come, or when: a track may lag by seconds. So frames wait until
every track that may come has its first one (video: a keyframe), but never long, neither by the media's clock nor by the
server's. A little longer they wait for the frame rate, so that durations are right from the first frame on. The same
window opens again where the publisher's clock has jumped or its tracks have changed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction
from typing import NamedTuple

from rapidrtmp.media import MediaKind
from rapidrtmp.timeline.events import Coded
from rapidrtmp.timeline.frame_rate import LOOK_BACK, FrameStep, fit_grid
from rapidrtmp.timeline.policy import TimelinePolicy

__all__ = ["RangeStart", "StartWindow", "video_ticks"]

_NS_PER_MS = 1_000_000


def video_ticks(time_ns: int) -> int:
    """Nanoseconds as ticks of 1/90000 s, rounded."""
    return (time_ns * 9 + 50_000) // 100_000


class RangeStart(NamedTuple):
    """
    What a window has come to.

    :ivar frames: to start with: the keyframe, then by decode time as far as each track's own order allows.
    :ivar dropped: what came before the keyframe to start at.
    :ivar audio_from_ns: audio begins with its first frame later than this, on the publisher's clock; ``None`` for any.
    :ivar step: the distance between video frames, if it is known.
    """

    frames: list[Coded]
    dropped: list[Coded]
    audio_from_ns: int | None
    step: FrameStep | None

    @property
    def origin_ns(self) -> int:
        """
        The earliest time of any first frame, decode or presentation, on the publisher's clock.

        A presentation before its decode time gets a millisecond more, the one it may have lost to rounding.
        """
        first: dict[MediaKind, Coded] = {}
        for coded in self.frames:
            first.setdefault(coded.kind, coded)
        return min(
            coded.time_ns if coded.composition_ms >= 0 else coded.pts_ns - _NS_PER_MS for coded in first.values()
        )


class StartWindow:
    """
    Holds the frames of a range that is about to start.

    :ivar reason: why a new range starts; ``None`` for the first one.
    :ivar reanchors: whether the range's clock has nothing to do with that of the one before.
    :param expected: the kinds of track that may come.
    :param step: the distance between video frames, if the range before has shown it.
    """

    def __init__(
        self,
        policy: TimelinePolicy,
        expected: Collection[MediaKind],
        *,
        reason: str | None = None,
        reanchors: bool = True,
        step: FrameStep | None = None,
    ) -> None:
        self.reason = reason
        self.reanchors = reanchors
        self._policy = policy
        self._expected = frozenset(expected)
        self._lasting_step = step
        self._opened_ms: int | None = None
        self._reset()

    def _reset(self) -> None:
        self._held: list[Coded] = []
        self._ready: set[MediaKind] = set()
        self._bytes = 0
        self._keyframes = 0
        self._video_times: list[int] = []
        self._measure_at = self._policy.candidate_deltas + 1
        self._step = self._lasting_step
        self._first_ns: int | None = None
        self._latest_ns = 0
        self._complete_ns: int | None = None

    @property
    def ready(self) -> frozenset[MediaKind]:
        """The kinds of which a first frame is held."""
        return frozenset(self._ready)

    def opened(self, now_ms: int) -> None:
        """Start the server's clock of the window: when the publisher first shows a sign of media."""
        if self._opened_ms is None:
            self._opened_ms = now_ms

    def forget(self, kind: MediaKind | None = None) -> int:
        """
        Drop what is held of one kind, or everything and the media's clock with it.

        :returns: how many frames that were.
        """
        before, kept = len(self._held), [coded for coded in self._held if kind and coded.kind is not kind]
        first_ns = self._first_ns if kind else None
        self._reset()
        for coded in kept:
            self.hold(coded, ())
        if first_ns is not None:
            self._first_ns = first_ns
        return before - len(kept)

    def hold(self, coded: Coded, claims: Sequence[Fraction]) -> bool:
        """
        Hold one more frame.

        :param claims: frame rates that the video claims to have.
        :returns: whether it is held; video before the first keyframe is not.
        """
        if self._first_ns is None:
            self._first_ns = self._latest_ns = coded.time_ns
        self._latest_ns = max(self._latest_ns, coded.time_ns)
        if coded.kind is MediaKind.VIDEO and not coded.keyframe and MediaKind.VIDEO not in self._ready:
            return False
        self._held.append(coded)
        self._bytes += len(coded.data)
        self._ready.add(coded.kind)
        if self._complete_ns is None and self._ready >= self._expected:
            self._complete_ns = self._latest_ns
        if coded.kind is MediaKind.VIDEO:
            self._keyframes += coded.keyframe
            self._video_times.append(video_ticks(coded.time_ns))
            self._measure_now_and_then(claims)
        return True

    def _measure_now_and_then(self, claims: Sequence[Fraction]) -> None:
        """Seldom, since it looks at all frames; a little less so when it is all that is waited for."""
        seen = len(self._video_times)
        is_awaited = self._complete_ns is not None and self._step is None
        if seen >= self._measure_at or (is_awaited and seen % 5 == 1):
            self._measure_at = 2 * seen
            self._measure(claims)

    def _measure(self, claims: Sequence[Fraction]) -> None:
        """More frames may correct a claim that fewer have confirmed, but a stray one refutes nothing."""
        if self._lasting_step is not None:
            return
        grid = fit_grid(self._video_times[-LOOK_BACK:], claims, self._policy)
        if grid is not None:
            self._step = grid.step

    def is_over(self, now_ms: int, announced: Collection[MediaKind]) -> bool:
        """
        Whether to start now with what there is.

        :param announced: the kinds that metadata has promised.
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
        promised = self._expected.intersection(announced) - self._ready
        patience_ms = policy.announced_media_ms if promised else policy.start_media_ms
        return self._latest_ns - self._first_ns >= patience_ms * _NS_PER_MS

    def _has_waited(self, now_ms: int) -> bool:
        policy = self._policy
        opened_ms = now_ms if self._opened_ms is None else self._opened_ms
        return now_ms - opened_ms >= policy.start_wall_ms and now_ms - self._held[0].now_ms >= policy.start_settle_ms

    def _rate_is_settled(self, complete_for_ns: int) -> bool:
        return (
            self._step is not None
            or MediaKind.VIDEO not in self._ready
            or self._keyframes > 1
            or complete_for_ns >= self._policy.rate_hold_ms * _NS_PER_MS
        )

    def take(self, audio_frame_ns: int, claims: Sequence[Fraction]) -> RangeStart:
        """
        End the window.

        :param audio_frame_ns: how long one audio frame lasts; 0 without audio.
        :param claims: as for :meth:`hold`.
        """
        if self._step is None:
            self._measure(claims)
        start = self._first_keyframe()
        if start is None:
            return RangeStart(_interleaved(self._held), [], None, None)
        # Audio that reaches past the keyframe's presentation is kept, so that there is no hole.
        audio_from_ns = start.pts_ns - audio_frame_ns
        kept: list[Coded] = []
        dropped: list[Coded] = []
        began = {MediaKind.VIDEO: False, MediaKind.AUDIO: False}
        for coded in self._held:
            begins = coded is start if coded.kind is MediaKind.VIDEO else coded.time_ns > audio_from_ns
            began[coded.kind] = began[coded.kind] or begins
            (kept if began[coded.kind] else dropped).append(coded)
        kept.remove(start)
        # The keyframe leads even the sound that overlaps it: whoever cuts at keyframes is then spared a sliver.
        return RangeStart([start, *_interleaved(kept)], dropped, audio_from_ns, self._step)

    def _first_keyframe(self) -> Coded | None:
        """Where to start: the first keyframe, or a later one that spares the viewer a long silence before the audio."""
        keyframes = [coded for coded in self._held if coded.kind is MediaKind.VIDEO and coded.keyframe]
        audio = next((coded for coded in self._held if coded.kind is MediaKind.AUDIO), None)
        if not keyframes:
            return None
        if audio is None:
            return keyframes[0]
        near_ns = audio.time_ns + self._policy.audio_hole_ms * _NS_PER_MS
        if audio.time_ns - keyframes[0].pts_ns <= self._policy.audio_hole_ms * _NS_PER_MS:
            return keyframes[0]
        return [coded for coded in keyframes if coded.pts_ns <= near_ns][-1]


def _interleaved(held: Sequence[Coded]) -> list[Coded]:
    """By decode time, but never a track's frames out of the order they came in: that is their decode order."""
    latest: dict[MediaKind, int] = {}
    keyed = []
    for coded in held:
        latest[coded.kind] = max(coded.time_ns, latest.get(coded.kind, coded.time_ns))
        keyed.append((latest[coded.kind], coded))
    return [coded for _, coded in sorted(keyed, key=lambda pair: pair[0])]
