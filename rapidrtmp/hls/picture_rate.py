"""How large the pictures are that segments begin with, one after another: the bit rate of an I-frame playlist."""

from __future__ import annotations

from rapidrtmp.interfaces import Part
from rapidrtmp.m3u8.rate import Rate
from rapidrtmp.media import MediaKind

__all__ = ["PictureRate"]

#: What is in front of a picture.
HEADER_BYTES = 112


class PictureRate(Rate):
    """The bit rate of the keyframes at the beginnings of segments; 0 where there are none."""

    def __init__(self) -> None:
        super().__init__()
        self._size = 0

    def begin(self, part: Part, target_ms: int) -> None:
        """
        Learn of the first part of a segment.

        :param target_ms: the target duration.
        """
        self._size = 0
        run = part.runs[0] if part.runs else None
        if run is not None and run.track.kind is MediaKind.VIDEO and run.samples[0].frame.keyframe:
            self._size = len(run.samples[0].frame.data) + HEADER_BYTES
            if not self.peak:
                self.measure_opening(self._size, target_ms)

    def complete(self, duration_ms: int, target_ms: int) -> None:
        """The segment lasted so long."""
        if self._size:
            self.measure(self._size, duration_ms, target_ms)
