"""How far apart the keyframes of streams were when they were published last: so they will be again, most likely."""

from __future__ import annotations

from collections import OrderedDict

from rapidrtmp.interfaces import Part
from rapidrtmp.media import MediaKind
from rapidrtmp.names import StreamName

__all__ = ["LastKeyframes"]

#: Of so many streams that is known.
MOST_STREAMS = 10_000
#: Those that are further apart make segments so long that parts matter little; they are measured each time.
LONGEST_MS = 10_000


class LastKeyframes:
    """
    What is known of the streams of this process.

    :param remembers: whether anything is.
    """

    def __init__(self, *, remembers: bool) -> None:
        self._remembers = remembers
        self._intervals: OrderedDict[StreamName, int] = OrderedDict()

    def of(self, stream: StreamName) -> int:
        """The longest interval between two keyframes of late, in milliseconds; 0 if that is not known."""
        return self._intervals.get(stream, 0) if self._remembers else 0

    def saw(self, stream: StreamName, part: Part) -> None:
        """Learn from the first part of a segment, which may have no keyframe."""
        if not (self._remembers and part.runs and part.runs[0].track.kind is MediaKind.VIDEO):
            return
        track, samples = part.runs[0]
        interval = samples[0].frame.rhythm.longest_interval
        interval_ms = -(-interval * 1000 // track.timescale)
        if not interval or interval_ms > LONGEST_MS:
            return
        self._intervals[stream] = interval_ms
        self._intervals.move_to_end(stream)
        while len(self._intervals) > MOST_STREAMS:
            self._intervals.popitem(last=False)

    def take_over(self, former: LastKeyframes) -> None:
        """Continue with what another one knows."""
        self._intervals = former._intervals
