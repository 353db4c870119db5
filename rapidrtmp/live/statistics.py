"""What a stream has received, as plain integers, and its recent rates."""

from __future__ import annotations

from collections import deque

from rapidrtmp.media import Frame, MediaKind

__all__ = ["Statistics"]

#: Rates are those of this many whole seconds.
WINDOW_SECONDS = 5
_VIDEO = MediaKind.VIDEO


class Statistics:
    """
    Counts of one stream, and what it did in the last few seconds.

    :ivar byte_count: media bytes received, frame payloads alone.
    :ivar video_frames: video frames received; ``other_frames``: those of all other tracks.
    :ivar keyframes: video frames received that decoding can begin with.
    """

    def __init__(self) -> None:
        self.byte_count = 0
        self.video_frames = self.other_frames = 0
        self.keyframes = 0
        self._first_second: int | None = None
        self._second = -1
        self._counted_before = 0  # bytes, when this second began
        self._recent_seconds: deque[tuple[int, int]] = deque(maxlen=WINDOW_SECONDS)  # numbers, and bytes

    @property
    def frames(self) -> int:
        """Frames of all tracks received."""
        return self.video_frames + self.other_frames

    def count(self, frame: Frame) -> None:
        """Count one frame that has arrived in the present second; see :meth:`advance`."""
        self.byte_count += len(frame.data)
        if frame.track.kind is _VIDEO:
            self.video_frames += 1
            if frame.keyframe:
                self.keyframes += 1
        else:
            self.other_frames += 1

    def advance(self, now_ms: int) -> int:
        """
        Learn what time it is when the frames that follow have arrived; if it goes back, it has not changed.

        :returns: when the next second begins, by which this is to be called again.
        """
        second = now_ms // 1000
        if second > self._second:
            if self._first_second is None:
                self._first_second = second
            self._recent_seconds.append((self._second, self.byte_count - self._counted_before))
            self._second, self._counted_before = second, self.byte_count
        return (self._second + 1) * 1000

    def bits_per_second(self, now_ms: int) -> int:
        """The bitrate over the last whole seconds, those in which nothing came included; 0 before the first."""
        present = now_ms // 1000
        if self._first_second is None or present <= self._first_second:
            return 0
        seconds = min(WINDOW_SECONDS, present - self._first_second)
        counted = (*self._recent_seconds, (self._second, self.byte_count - self._counted_before))
        byte_count = sum(size for second, size in counted if present - WINDOW_SECONDS <= second < present)
        return byte_count * 8 // seconds
