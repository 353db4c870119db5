"""
The rhythm of a video track, measured from the frames as they are placed: how many a second, and where keyframes are.

This is the one place where it is measured; each frame carries what is known with it, so packagers, statistics and
advice to the encoder all go by the same numbers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from fractions import Fraction

from rapidrtmp.media import VIDEO_TIMESCALE, Rhythm

__all__ = ["RhythmMeter"]

#: A frame that comes by so much later than the one before should have ended is behind a gap: half a second.
_GAP_TICKS = VIDEO_TIMESCALE // 2
#: The frame rate is first measured over so many frames; then from keyframe to keyframe, or so many frames.
_FIRST_FRAMES, _MOST_FRAMES = 10, 300
#: No camera sends more a second: what is measured beyond is a fault in the timestamps, and no rate.
_HIGHEST_RATE = 300
#: Over so many of these spells; as many intervals of keyframes are remembered.
_SPELLS = 8
#: So many intervals, or as many as there were, are of one length before the next one is expected to be.
_STEADY_INTERVALS = 3


class RhythmMeter:
    """
    Measures one video track. Times are in ticks of 1/90000 s.

    :ivar rhythm: what is known at present.
    :ivar longest_interval: the longest there ever was between two keyframes; 0 until there were two.
    :ivar gaps: how many pauses of more than half a second there were, where they are not the rule.
    """

    def __init__(self) -> None:
        self.rhythm = Rhythm()
        self.longest_interval = 0
        self.gaps = 0
        self.begin(())

    def begin(self, rates: Sequence[Fraction]) -> None:
        """
        Begin anew, where a range of the timeline does: what follows does not join on to what came before.

        :param rates: frame rates that there may be, the most likely first; without one the rate before may continue.
        """
        self._rates = rates or tuple(filter(None, [self.rhythm.frame_rate]))
        self.rhythm = Rhythm(self._rates[0] if self._rates else None)
        self._frames = 0
        self._measure_at = _FIRST_FRAMES
        self._late_from: int | None = None
        self._pause, self._paused_at = 0, -1  # how long the last pause was, and the number of the frame that ended it
        self._marks: deque[tuple[int, int]] = deque(maxlen=_SPELLS + 1)  # when, and the number of the frame
        self._keyframe: int | None = None
        self._intervals: deque[int] = deque(maxlen=_SPELLS)

    def saw(self, dts: int, duration: int, *, keyframe: bool) -> Rhythm:
        """Learn of the next frame; returns what is known with it."""
        if self._late_from is not None and dts > self._late_from:
            self._count_pause(dts + _GAP_TICKS - self._late_from)
        self._late_from = dts + duration + _GAP_TICKS
        if keyframe:
            self._measure_interval(dts, duration)
        elif self._frames == self._measure_at:
            self._measure_rate(dts, duration, self.rhythm)
        self._frames += 1
        return self.rhythm

    @property
    def since_keyframe(self) -> int:
        """How long ago the last keyframe was, up to the end of the latest frame; 0 before the first."""
        if self._keyframe is None or self._late_from is None:
            return 0
        return self._late_from - _GAP_TICKS - self._keyframe

    def _count_pause(self, pause: int) -> None:
        """Count a gap, unless that is how this camera goes: it sends a picture a second, or one in five."""
        is_cadence = self._frames == 1 or (self._frames == self._paused_at + 1 and pause <= 2 * self._pause)
        self._pause, self._paused_at = pause, self._frames
        if not is_cadence:
            self.gaps += 1

    def _measure_interval(self, dts: int, duration: int) -> None:
        before, self._keyframe = self._keyframe, dts
        rhythm = self.rhythm
        if before is not None:
            interval = dts - before
            self._intervals.append(interval)
            self.longest_interval = max(self.longest_interval, interval)
            latest = list(self._intervals)[-_STEADY_INTERVALS:]
            is_steady = all(abs(each - interval) <= duration // 2 for each in latest)
            rhythm = Rhythm(rhythm.frame_rate, interval, max(self._intervals), is_steady)
        self._measure_rate(dts, duration, rhythm)

    def _measure_rate(self, dts: int, duration: int, rhythm: Rhythm) -> None:
        """Measure over the last spells; a rate that was claimed is believed if it agrees."""
        frame_rate = rhythm.frame_rate
        if self._marks:
            since, number = self._marks[0]
            measured = Fraction((self._frames - number) * VIDEO_TIMESCALE, dts - since)
            frame_rate = next((rate for rate in self._rates if _agree(rate, measured, duration)), measured)
            frame_rate = frame_rate if frame_rate <= _HIGHEST_RATE else None
        self._marks.append((dts, self._frames))
        self._measure_at = self._frames + (_MOST_FRAMES if len(self._marks) > 1 else _FIRST_FRAMES)
        self.rhythm = Rhythm(frame_rate, rhythm.keyframe_interval, rhythm.longest_interval, rhythm.is_steady)


def _agree(rate: Fraction, measured: Fraction, duration: int) -> bool:
    """
    Whether a rate that was claimed is the one that was measured: to one percent, or if frames are on its grid. Of those
    no more can come than the grid has places: that more were counted is due to the first ones, crowded into one place.
    """
    is_on_grid = abs(rate * duration - VIDEO_TIMESCALE) <= rate
    return abs(rate - measured) * 100 <= measured or (is_on_grid and rate < measured)
