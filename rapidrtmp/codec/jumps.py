"""Whether the publisher's clock goes on as it should, or has jumped."""

from __future__ import annotations

import enum

from rapidrtmp.codec.policy import TimelinePolicy
from rapidrtmp.media import MediaKind

__all__ = ["JumpGuard", "Step"]


class Step(enum.Enum):
    """
    How a frame's time follows from those before.

    ``CONTINUES``: jitter and gaps included. ``JUMPED``: a new clock begins with this frame. ``STRAGGLES``: the frame is
    still on the clock from before the last jump and fits nowhere.
    """

    CONTINUES = "continues"
    JUMPED = "jumped"
    STRAGGLES = "straggles"


class JumpGuard:
    """
    Judges every coded frame's unwrapped time, in the order of arrival.

    Tracks share the publisher's clock but not its pace: audio may pause, or lag by seconds. So a step forward is a jump
    only if it is one both for its track and for the clock as a whole, while a step back counts by its track alone.
    """

    def __init__(self, policy: TimelinePolicy) -> None:
        self._range_ms = policy.jump_ms
        self._back_ms = policy.backward_jump_ms
        self._straggler_ms = policy.straggler_ms
        self._latest: int | None = None
        self._by_track: dict[MediaKind, int] = {}
        self._abandoned: tuple[int, int] | None = None  # the old clock's last time, and until when to expect it

    def judge(self, kind: MediaKind, time_ms: int, now_ms: int) -> Step:
        """
        Judge the next frame.

        :param time_ms: its unwrapped decode time.
        :param now_ms: when it arrived, on the server's monotonic clock.
        """
        latest = self._latest
        if latest is not None and self._is_jump(kind, time_ms, latest):
            if self._abandoned is not None and self._straggles(time_ms, latest, now_ms):
                return Step.STRAGGLES
            self._abandoned = (latest, now_ms + self._straggler_ms)
            self._by_track.clear()
            step = Step.JUMPED
        else:
            step = Step.CONTINUES
        self._latest = self._by_track[kind] = time_ms
        return step

    def _is_jump(self, kind: MediaKind, time_ms: int, latest: int) -> bool:
        ahead = time_ms - latest
        previous = self._by_track.get(kind)
        if previous is None:
            return abs(ahead) > self._range_ms
        step = time_ms - previous
        return step < -self._back_ms or (step > self._range_ms and ahead > self._range_ms)

    def _straggles(self, time_ms: int, latest: int, now_ms: int) -> bool:
        assert self._abandoned is not None
        old_ms, until_ms = self._abandoned
        distance = abs(time_ms - old_ms)
        return now_ms <= until_ms and distance <= self._range_ms and distance < abs(time_ms - latest)
