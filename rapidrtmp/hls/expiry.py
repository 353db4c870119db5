"""
When the names of segments leave the shelf: for a while, players that were given them may still fetch them.

A segment can be fetched for as long as it and the longest playlist that held it last (RFC 8216, 6.2.2), then it is
taken down. Time is that of the media: a publisher that sends faster than that cannot make the server keep more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from rapidrtmp.hls.playlist import PlaylistWindow

__all__ = ["Expiry"]


class Expiry:
    """
    Takes the segments that have left a window off the shelf when their time has come.

    :param withdraw: takes down what has a name.
    :ivar next: the media sequence number of the oldest segment that is on the shelf.
    """

    def __init__(self, withdraw: Callable[[str], None], window: PlaylistWindow) -> None:
        self.next = window.first
        self._withdraw = withdraw
        self._window = window
        self._media_ms = sum(segment.duration_ms for segment in window.segments)  # how much has been listed in all
        self._until_ms: deque[int] = deque()  # of the segments from ``next`` on that are not listed any more

    def moved_on(self) -> None:
        """Learn that one more segment is listed, and others perhaps not any more."""
        window = self._window
        self._media_ms += window.list[window.end - 1].duration_ms
        known = self.next + len(self._until_ms)
        listed_ms = sum(segment.duration_ms for segment in window.list.span(known, window.end))
        for segment in window.list.span(known, window.first):
            self._until_ms.append(self._media_ms + listed_ms + segment.duration_ms)
        while self._until_ms and self._until_ms[0] <= self._media_ms:
            self._until_ms.popleft()
            self._take_down(self.next)
            self.next += 1

    def _take_down(self, sequence: int) -> None:
        segment = self._window.list[sequence]
        for name in (segment.uri, *segment.part_uris):
            self._withdraw(name)
        if self._window.list.is_last_of_init(sequence):
            self._withdraw(segment.map_uri)
