"""
Where the discontinuity sequence numbers of a presentation begin: at 0, or above those of the one before it.

They stay small, unlike media sequence numbers: players keep arrays that are indexed by them (hls.js 1.7 one of time
offsets, which it walks from 0 at every playlist). So nothing is derived from the clock; what the presentations of a
stream have used is remembered in this process, and a starting server learns it from what is stored.
"""

from __future__ import annotations

from collections import OrderedDict

from rapidrtmp.names import StreamName

__all__ = ["LARGEST", "DiscontinuityNumbers"]

#: Of how many streams this is remembered.
MOST_STREAMS = 10_000
#: No presentation begins above this. Earlier versions of this server stored numbers beyond 400 million.
LARGEST = 10_000


class DiscontinuityNumbers:
    """The highest discontinuity sequence number that presentations of a stream have used, by stream."""

    def __init__(self) -> None:
        self._reached: OrderedDict[StreamName, int] = OrderedDict()

    def first(self, stream: StreamName) -> int:
        """Where a new presentation begins; 0 where nothing is known."""
        return self._reached.get(stream, -1) + 1

    def reached(self, stream: StreamName, number: int) -> None:
        """Note that a presentation uses this number; beyond :data:`LARGEST` the next one begins anew."""
        if number >= LARGEST:
            self._reached.pop(stream, None)
            return
        self._reached[stream] = max(number, self._reached.get(stream, 0))
        self._reached.move_to_end(stream)
        while len(self._reached) > MOST_STREAMS:
            self._reached.popitem(last=False)
