"""
The complete segments of one rendition, each of them once.

Players, the storage and the shelf are at different places in it: a segment is listed at once, stored when the storage
says so, taken down from the shelf and deleted from the storage when its time has come. So each of these is a cursor,
a media sequence number, and what all of them have passed is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

from rapidrtmp.hls.segment import ListedSegment

__all__ = ["SegmentList"]


class SegmentList:
    """
    Segments whose numbers follow one another, oldest first.

    :param first: the media sequence number of the first.
    :ivar first: of the oldest that is left, or of the next where there is none.
    """

    def __init__(self, first: int) -> None:
        self.first = first
        self._segments: list[ListedSegment] = []

    @property
    def end(self) -> int:
        """The number of the next segment."""
        return self.first + len(self._segments)

    def __getitem__(self, sequence: int) -> ListedSegment:
        """The segment of this number, which is from ``first`` on and before ``end``."""
        return self._segments[sequence - self.first]

    def __setitem__(self, sequence: int, segment: ListedSegment) -> None:
        """Put another value in the place of a segment: without parts that are old, or as a gap where it was lost."""
        self._segments[sequence - self.first] = segment

    def span(self, first: int, end: int) -> Sequence[ListedSegment]:
        """The segments from one number on and before another."""
        return self._segments[max(first - self.first, 0) : max(end - self.first, 0)]

    def append(self, segment: ListedSegment) -> None:
        """Add the next one."""
        assert segment.sequence == self.end, "segments follow one another"
        self._segments.append(segment)

    def drop_before(self, sequence: int) -> None:
        """Forget what is before this number; the next one is not before it either."""
        del self._segments[: max(sequence - self.first, 0)]
        self.first = max(self.first, sequence)

    def is_last_of_init(self, sequence: int) -> bool:
        """Whether no later segment needs the init segment of this one; none takes an older one up again."""
        return sequence + 1 < self.end and self[sequence + 1].map_uri != self[sequence].map_uri
