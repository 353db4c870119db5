"""
What became of names that are no longer listed: for a while players that were given them may still fetch them.

A segment can be fetched for as long as it and the longest playlist that held it last (RFC 8216, 6.2.2), then it is
taken down. Time is that of the media: a publisher that sends faster than that can not make the server keep more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from rapidrtmp.hls.playlist import PlaylistWindow
from rapidrtmp.hls.segment import ListedSegment
from rapidrtmp.interfaces import IShelf

__all__ = ["Retirement"]


@dataclass(slots=True, eq=False)
class _Retired:
    """Names that are no longer listed and go down later."""

    names: list[str]
    until_ms: int


class Retirement:
    """
    Takes names off one stream's shelf when their time has come.

    :param listed: segments that are listed from the start.
    """

    def __init__(self, shelf: IShelf, listed: Sequence[ListedSegment] = ()) -> None:
        self._shelf = shelf
        self._media_ms = sum(segment.duration_ms for segment in listed)  # how much has been listed in all
        self._retired: deque[_Retired] = deque()

    def moved_on(self, window: PlaylistWindow, removed: Sequence[ListedSegment]) -> None:
        """Learn that the last segment of a window has been completed, and which ones left the window with that."""
        self._media_ms += window.segments[-1].duration_ms
        listed_ms = sum(segment.duration_ms for segment in (*removed, *window.segments))
        for segment in removed:
            names = [segment.uri, *segment.part_uris]
            if all(other.map_uri != segment.map_uri for other in window.segments):
                names.append(segment.map_uri)
            self._retired.append(_Retired(names, self._media_ms + listed_ms + segment.duration_ms))
        while self._retired and self._retired[0].until_ms <= self._media_ms:
            for name in self._retired.popleft().names:
                self._shelf.withdraw(name)
