"""
The opening of a stream: its first GOP, held until the playlist's constants can be chosen from it (see ``targets.py``).

Where it is known beforehand how far apart keyframes are, a part's worth of frames is enough, if they lie on a grid. Of
one picture and one sound, that is: playlists of further tracks begin together, with a whole segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from rapidrtmp.cmaf.targets import GRID_TOLERANCE, choose_constants
from rapidrtmp.interfaces import Constants, Cutting
from rapidrtmp.media import Frame, MediaKind, Track

__all__ = ["Opening"]

#: The first GOP is not held beyond this many bytes.
LARGEST_OPENING = 64 << 20
#: So few frames show no grid.
LEAST_EARLY = 6


class Opening:
    """
    Holds frames until enough has been seen.

    :ivar frames: those held.
    :ivar early_gop: ticks from keyframe to keyframe, if they are known and the opening has ended for that; else 0.
    """

    def __init__(self, cutting: Cutting) -> None:
        self.frames: list[Frame] = []
        self.early_gop = 0
        self._cutting = cutting
        self._bytes = 0
        self._firsts: dict[int, Frame] = {}  # of each track

    def hold(self, frame: Frame, tracks: Sequence[Track]) -> bool:
        """
        Whether this frame is the last that needs to be seen; it may be of any track, for one may cease.

        :param tracks: the primary one first.
        """
        primary = tracks[0]
        self.frames.append(frame)
        self._bytes += len(frame.data)
        first = self._firsts.setdefault(frame.track.id, frame)
        if frame.track.id == primary.id and frame is not first:
            if frame.keyframe:
                return True
            if self._is_enough(frame, first, tracks):
                self.early_gop = self._cutting.keyframe_ms * primary.timescale // 1000
                return True
        held_ms = (frame.dts - first.dts) * 1000 // frame.track.timescale
        return held_ms > self._cutting.longest_gop_ms or self._bytes > LARGEST_OPENING

    def _is_enough(self, frame: Frame, first: Frame, tracks: Sequence[Track]) -> bool:
        """Whether the constants are known, for what is known beforehand and by the frames of one part."""
        cutting, primary = self._cutting, tracks[0]
        if not (cutting.keyframe_ms and cutting.part_ms) or primary.kind is not MediaKind.VIDEO:
            return False
        if sum(track.kind is MediaKind.VIDEO for track in tracks) > 1 or len(tracks) > 2:
            return False
        if (frame.dts + frame.duration - first.dts) * 1000 < cutting.part_ms * primary.timescale:
            return False
        starts = [each.dts for each in self.frames if each.track.id == primary.id]
        steps = [after - before for before, after in pairwise(starts)]
        return len(starts) >= LEAST_EARLY and all(abs(step - frame.duration) <= GRID_TOLERANCE for step in steps)

    def choose(self, primary: Track, *, is_gop_whole: bool) -> Constants:
        """The constants; a GOP that has not ended may be as long as any."""
        starts = [frame.dts for frame in self.frames if frame.track.id == primary.id]
        if self.early_gop:
            chosen = choose_constants(self._cutting, primary.timescale, starts, self.early_gop)
            return replace(chosen, is_early=True)
        gop = starts[-1] - starts[0] if primary.kind is MediaKind.VIDEO and len(starts) > 1 else None
        if not is_gop_whole:
            gop = max(gop or 0, self._cutting.longest_gop_ms * primary.timescale // 1000)
        return choose_constants(self._cutting, primary.timescale, starts, gop)
