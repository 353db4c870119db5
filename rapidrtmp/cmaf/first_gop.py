"""
The opening of a stream: its first GOP, held until the playlist's constants can be chosen from it (see ``targets.py``).
"""

from __future__ import annotations

from rapidrtmp.cmaf.targets import choose_constants
from rapidrtmp.interfaces import Constants, Cutting
from rapidrtmp.media import Frame, MediaKind, Track

__all__ = ["Opening"]

#: The first GOP is not held beyond this many bytes.
LARGEST_OPENING = 64 << 20


class Opening:
    """
    Holds frames until enough has been seen.

    :ivar frames: those held.
    """

    def __init__(self, cutting: Cutting) -> None:
        self.frames: list[Frame] = []
        self._cutting = cutting
        self._bytes = 0
        self._firsts: dict[int, Frame] = {}  # of each track

    def hold(self, frame: Frame, primary: Track) -> bool:
        """Whether this frame is the last that needs to be seen; it may be of any track, for one may cease."""
        self.frames.append(frame)
        self._bytes += len(frame.data)
        first = self._firsts.setdefault(frame.track.id, frame)
        if frame.track.id == primary.id and frame is not first and frame.keyframe:
            return True
        held_ms = (frame.dts - first.dts) * 1000 // frame.track.timescale
        return held_ms > self._cutting.longest_gop_ms or self._bytes > LARGEST_OPENING

    def choose(self, primary: Track, *, is_gop_whole: bool) -> Constants:
        """The constants; a GOP that has not ended may be as long as any."""
        starts = [frame.dts for frame in self.frames if frame.track.id == primary.id]
        gop = starts[-1] - starts[0] if primary.kind is MediaKind.VIDEO and len(starts) > 1 else None
        if not is_gop_whole:
            gop = max(gop or 0, self._cutting.longest_gop_ms * primary.timescale // 1000)
        return choose_constants(self._cutting, primary.timescale, starts, gop)
