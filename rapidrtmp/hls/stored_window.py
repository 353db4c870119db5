"""The segments that a rendition's stored playlist lists: behind those that players see, and with gaps of its own."""

from __future__ import annotations

from collections.abc import Sequence

from rapidrtmp.hls.playlist import ListedWindow, PlaylistWindow
from rapidrtmp.hls.segment import ListedSegment

__all__ = ["StoredWindow"]


class StoredWindow(ListedWindow):
    """
    The part of a rendition's segments that the storage lists.

    :ivar lost: the numbers of those, after ``first`` or not listed yet, that the storage does not have.
    """

    def __init__(self, live: PlaylistWindow) -> None:
        super().__init__(live.constants, live.size, live.list, live.discontinuity_sequence)
        self.lost: set[int] = set()
        self.ended = live.ended
        self.first = self.end = live.first
        while self.end < live.end:
            self.advance()

    def stored(self, sequence: int) -> ListedSegment:
        """A segment as it is stored: a gap where it was lost."""
        segment = self._list[sequence]
        return segment.as_gap() if sequence in self.lost else segment

    @property
    def segments(self) -> Sequence[ListedSegment]:
        """Those that are listed, oldest first."""
        return [self.stored(sequence) for sequence in range(self.first, self.end)]
