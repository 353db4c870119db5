"""What a stream has received, as plain integers, and its recent rates."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf

from rapidrtmp.media import Frame, VideoConfig

__all__ = ["Statistics"]

#: Rates are those of this many whole seconds.
WINDOW_SECONDS = 5


@dataclass(slots=True)
class _Second:
    number: int
    octets: int = 0
    video_frames: int = 0
    video_ticks: int = 0


class Statistics:
    """
    Counts of one stream, and what it did in the last few seconds.

    :ivar octets: media bytes received, frame payloads alone.
    :ivar frames: frames of all tracks; likewise ``video_frames`` and ``keyframes``.
    """

    def __init__(self) -> None:
        self.octets = 0
        self.frames = 0
        self.video_frames = 0
        self.keyframes = 0
        self._seconds: deque[_Second] = deque(maxlen=WINDOW_SECONDS + 1)
        self._first_second: float = inf
        self._last_video_dts: int | None = None

    def count(self, frame: Frame) -> None:
        """Count one frame."""
        number = frame.arrived_ms // 1000
        if not self._seconds or number > self._seconds[-1].number:
            self._seconds.append(_Second(number))
            self._first_second = min(self._first_second, number)
        second = self._seconds[-1]
        size = len(frame.data)
        self.octets += size
        self.frames += 1
        second.octets += size
        if type(frame.track.config) is VideoConfig:
            self.video_frames += 1
            self.keyframes += frame.keyframe
            if self._last_video_dts is not None:
                second.video_frames += 1
                second.video_ticks += frame.dts - self._last_video_dts
            self._last_video_dts = frame.dts

    def break_off(self) -> None:
        """Forget what the next frame would be measured against: the timeline breaks here."""
        self._last_video_dts = None

    def bits_per_second(self, now_ms: int) -> int:
        """The bitrate over the last whole seconds, those in which nothing came included; 0 before the first."""
        present = now_ms // 1000
        seconds = min(WINDOW_SECONDS, present - self._first_second)
        if seconds < 1:
            return 0
        octets = sum(second.octets for second in self._recent(now_ms) if second.number < present)
        return int(octets * 8 // seconds)

    def frames_per_second(self, now_ms: int) -> float:
        """The video frame rate over the last seconds, by the frames' own times; 0.0 if there is none."""
        recent = self._recent(now_ms)
        ticks = sum(second.video_ticks for second in recent)
        return round(sum(second.video_frames for second in recent) * 90_000 / ticks, 3) if ticks > 0 else 0.0

    def _recent(self, now_ms: int) -> list[_Second]:
        oldest = now_ms // 1000 - WINDOW_SECONDS
        return [second for second in self._seconds if second.number >= oldest]
