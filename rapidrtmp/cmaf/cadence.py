"""
What is known of a track's next frame before it comes: when it is due, and whether it should be a keyframe.

A frame says what it should last (:class:`~rapidrtmp.media.Frame`), and where frames lie on a grid that is exactly the
distance to the next one. Whether it is so here is measured and not believed: only when the last frames all came when
they were due is the next one taken to do so. Likewise a keyframe is due when the last GOPs were of one length: that is
measured already, and comes with the frames as their :class:`~rapidrtmp.media.Rhythm`.
"""

from __future__ import annotations

from rapidrtmp.media import Frame

__all__ = ["Cadence"]

#: So many frames in a row came when they were due before the next one is expected to.
STEADY_FRAMES = 8


class Cadence:
    """
    The rhythm of one track, over one range. Times are in ticks of the track.

    :ivar keyframes: how many there were.
    :ivar longest_gop: of the last GOPs; before the first is whole what is known of it, or 0.
    :ivar known_gop: how far apart keyframes are, if that is known before the first GOP is whole; else 0.
    """

    def __init__(self) -> None:
        self.keyframes = 0
        self.longest_gop = 0
        self.known_gop = 0
        self._due = -1  # when the next frame should come
        self._punctual = 0  # how many frames in a row came when they were due
        self._next_keyframe: range = range(0)  # where a frame would be the next keyframe

    def saw(self, frame: Frame) -> None:
        """Learn of the next frame."""
        dts = frame.dts
        self._punctual = self._punctual + 1 if dts == self._due else 0
        self._due = dts + frame.duration
        if frame.keyframe:
            self.keyframes += 1
            self._expect_keyframe(dts, frame)

    def _expect_keyframe(self, dts: int, frame: Frame) -> None:
        rhythm, tolerance = frame.rhythm, frame.duration // 2
        is_measured = rhythm.keyframe_interval > 0
        self.longest_gop = rhythm.longest_interval if is_measured else self.known_gop
        due = dts + (rhythm.keyframe_interval if is_measured else self.known_gop)
        is_expected = rhythm.is_steady if is_measured else self.known_gop > 0
        self._next_keyframe = range(due - tolerance, due + tolerance + 1) if is_expected else range(0)

    @property
    def next_dts(self) -> int | None:
        """When the next frame will begin, if that is certain enough."""
        return self._due if self._punctual >= STEADY_FRAMES else None

    @property
    def is_keyframe_due(self) -> bool:
        """Whether the next frame should be a keyframe, provided that it comes when it is due."""
        return self._due in self._next_keyframe
