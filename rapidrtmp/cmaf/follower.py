"""
A video track that follows the primary one: another size of the same picture, cut where that is cut.

Its parts are those of the primary track, and its segments begin with a keyframe that is presented with the primary
one's. Where there is none it has nothing in that segment, and looks again at the next one. It is not waited for as the
audio is: what comes after its part has left is in the next part, or, behind the end of a segment, left out.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

from rapidrtmp.cmaf.cut import Cut
from rapidrtmp.interfaces import Sample
from rapidrtmp.media import VIDEO_TIMESCALE, Frame, Track

__all__ = ["Follower"]

#: How far the keyframes of both may be apart: milliseconds round to no more.
TOLERANCE = VIDEO_TIMESCALE // 1000
#: A track without a frame for so long is not waited for.
LONGEST_ABSENCE = VIDEO_TIMESCALE
#: No more frames wait here while the primary track has not begun, or does not come.
MOST_WAITING = 1_200


class Follower:
    """
    One such track over one range. Ticks are those of all video.

    :ivar track: the track.
    """

    def __init__(self, track: Track) -> None:
        self.track = track
        self._frames: deque[Frame] = deque()
        self._end = 0  # of the newest frame
        self._shift = 0  # its decode times minus those of the primary track, by their keyframes
        self._is_in_step = False  # whether it has a part in the open segment

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        self._frames.append(frame)
        self._end = frame.dts + frame.duration
        if len(self._frames) > MOST_WAITING:
            self._frames.popleft()

    def is_awaited(self, cut: Cut, newest: int | None) -> bool:
        """Whether frames for a part are missing that should come soon."""
        end = self._end - self._shift
        frame = cut.samples[-1].frame.duration if cut.samples else 0
        is_absent = newest is None or newest - end > LONGEST_ABSENCE
        return not is_absent and end < cut.end - frame // 2

    def take(self, cut: Cut, *, is_last: bool = False) -> list[Sample]:
        """Samples of what is decoded until the end of a cut, or of all if it ``is_last``, and has not left yet."""
        if cut.starts_segment:
            self._is_in_step = self._joins(cut)
        frames, waiting, limit = [], self._frames, cut.end + self._shift
        while waiting and (is_last or waiting[0].dts < limit):
            frames.append(waiting.popleft())
        if not frames or not self._is_in_step:
            return []
        samples = [Sample(frame, after.dts - frame.dts) for frame, after in pairwise(frames)]
        last = frames[-1]
        following = waiting[0].dts - last.dts if waiting else last.duration
        samples.append(Sample(last, min(following, 2 * last.duration)))
        return samples

    def _joins(self, cut: Cut) -> bool:
        """Whether it has a keyframe where the segment begins; what is before that has come too late."""
        first = cut.samples[0].frame if cut.samples else None
        if first is None or not first.keyframe:
            return self._is_in_step  # a segment that was cut without a keyframe
        for index, frame in enumerate(self._frames):
            if frame.pts > first.pts + TOLERANCE:
                break
            if frame.keyframe and frame.pts >= first.pts - TOLERANCE:
                for _ in range(index):
                    self._frames.popleft()
                self._shift = frame.dts - first.dts
                return True
        return False
