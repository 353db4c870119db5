"""What a stream has received, as plain integers, and its recent rates."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf

from rapidrtmp.media import Frame, MediaKind

__all__ = ["Statistics"]

#: Rates are those of this many whole seconds.
WINDOW_SECONDS = 5


@dataclass(slots=True)
class _Counts:
    """What came in one second, or in all seconds that are over."""

    number: int = -1
    byte_count: int = 0
    frames: int = 0
    video_frames: int = 0
    keyframes: int = 0


class Statistics:
    """Counts of one stream, and what it did in the last few seconds."""

    def __init__(self) -> None:
        self._over = _Counts()
        self._second = _Counts()
        self._second_ends_ms = 0
        self._recent_seconds: deque[_Counts] = deque(maxlen=WINDOW_SECONDS)
        self._first_second: float = inf

    @property
    def byte_count(self) -> int:
        """Media bytes received, frame payloads alone."""
        return self._over.byte_count + self._second.byte_count

    @property
    def frames(self) -> int:
        """Frames of all tracks received."""
        return self._over.frames + self._second.frames

    @property
    def video_frames(self) -> int:
        """Video frames received."""
        return self._over.video_frames + self._second.video_frames

    @property
    def keyframes(self) -> int:
        """Video frames received that decoding can begin with."""
        return self._over.keyframes + self._second.keyframes

    def count(self, frame: Frame) -> None:
        """Count one frame."""
        if frame.arrived_ms >= self._second_ends_ms:
            self._begin_second(frame.arrived_ms // 1000)
        second = self._second
        second.byte_count += len(frame.data)
        second.frames += 1
        if frame.track.kind is MediaKind.VIDEO:
            second.video_frames += 1
            if frame.keyframe:
                second.keyframes += 1

    def _begin_second(self, number: int) -> None:
        """Put the second that is over to those before it."""
        over, past = self._over, self._second
        over.byte_count += past.byte_count
        over.frames += past.frames
        over.video_frames += past.video_frames
        over.keyframes += past.keyframes
        if past.frames:
            self._recent_seconds.append(past)
        self._second = _Counts(number)
        self._second_ends_ms = (number + 1) * 1000
        self._first_second = min(self._first_second, number)

    def bits_per_second(self, now_ms: int) -> int:
        """The bitrate over the last whole seconds, those in which nothing came included; 0 before the first."""
        present = now_ms // 1000
        seconds = min(WINDOW_SECONDS, present - self._first_second)
        if seconds < 1:
            return 0
        byte_count = sum(second.byte_count for second in self._recent(now_ms) if second.number < present)
        return int(byte_count * 8 // seconds)

    def _recent(self, now_ms: int) -> list[_Counts]:
        oldest = now_ms // 1000 - WINDOW_SECONDS
        return [second for second in (*self._recent_seconds, self._second) if second.number >= oldest]
