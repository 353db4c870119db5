"""
What is known of a track's next frame before it comes: when it is due, and whether it should be a keyframe.

A frame says what it should last (:class:`~rapidrtmp.media.Frame`), and where frames lie on a grid that is exactly the
distance to the next one. Whether it is so here is measured and not believed: only when the last frames all came when
they were due is the next one taken to do so. Likewise a keyframe is due when the last GOPs were of one length.
"""

from __future__ import annotations

from collections import deque

from rapidrtmp.media import Frame

__all__ = ["Cadence"]

#: So many frames in a row came when they were due before the next one is expected to.
STEADY_FRAMES = 8
#: The longest of so many GOPs is how far away the next keyframe may be.
REMEMBERED_GOPS = 8
#: So many GOPs, or as many as there were, are of one length before the next one is expected to be.
STEADY_GOPS = 3


class Cadence:
    """
    The rhythm of one track, over one range. Times are in ticks of the track.

    :ivar frames: how many were seen.
    :ivar start: decode time of the first one.
    :ivar longest_gop: of the last GOPs; 0 before the first is whole.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.start = 0
        self.longest_gop = 0
        self._due = -1  # when the next frame should come
        self._punctual = 0  # how many frames in a row came when they were due
        self._keyframe_dts = 0
        self._gops: deque[int] = deque(maxlen=REMEMBERED_GOPS)
        self._next_keyframe: range = range(0)  # where a frame would be the next keyframe

    def saw(self, frame: Frame) -> bool:
        """Learn of the next frame; whether it is the one that makes the first GOP whole."""
        dts = frame.dts
        self._punctual = self._punctual + 1 if dts == self._due else 0
        self._due = dts + frame.duration
        self.frames += 1
        if self.frames == 1:
            self.start = self._keyframe_dts = dts
        elif frame.keyframe:
            self._measure_gop(dts, frame.duration)
            return len(self._gops) == 1
        return False

    def _measure_gop(self, dts: int, duration: int) -> None:
        gops, gop = self._gops, dts - self._keyframe_dts
        gops.append(gop)
        self._keyframe_dts = dts
        self.longest_gop = max(gops)
        tolerance = duration // 2
        is_steady = all(abs(gops[-number] - gop) <= tolerance for number in range(2, 1 + min(STEADY_GOPS, len(gops))))
        self._next_keyframe = range(dts + gop - tolerance, dts + gop + tolerance + 1) if is_steady else range(0)

    @property
    def next_dts(self) -> int | None:
        """When the next frame will begin, if that is certain enough."""
        return self._due if self._punctual >= STEADY_FRAMES else None

    @property
    def is_keyframe_due(self) -> bool:
        """Whether the next frame should be a keyframe, provided that it comes when it is due."""
        return self._due in self._next_keyframe
