"""
What waits to be sent to another server: whole GOPs, bounded in time and in size.

Before there is a connection it holds what one would begin with: the frames since the last keyframe. Behind a connection
that is too slow it holds some seconds; beyond that all of it is dropped, up to the next keyframe, so that what arrives
can be decoded and is not late.
"""

from __future__ import annotations

from collections import deque

from rapidrtmp.media import Frame, MediaKind, Track

__all__ = ["Backlog"]

#: The most that waits, in milliseconds of media and in bytes.
LONGEST_MS = 5_000
MOST_BYTES = 16 << 20


class Backlog:
    """
    Frames that wait, and the tracks that they are of.

    :ivar dropped: how many frames were dropped while a connection was there, in all.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._entries: deque[Frame | tuple[Track, ...]] = deque()
        self._bytes = 0
        self._frames = 0
        self._first_ms = 0
        self._leading_id: int | None = None
        self._is_dropping = True

    def __bool__(self) -> bool:
        return bool(self._entries)

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """Learn the tracks of the frames that follow."""
        self._leading_id = next((track.id for track in tracks if track.kind is MediaKind.VIDEO), None)
        if not self._is_dropping:
            self._entries.append(tracks)

    def starts_with(self, frame: Frame) -> bool:
        """Whether decoding can start with a frame."""
        return frame.keyframe and (self._leading_id is None or frame.track.id == self._leading_id)

    def hold(self, frame: Frame) -> None:
        """Add a frame while there is no connection: those before a keyframe are not needed any more."""
        if self.starts_with(frame):
            self.clear()
            self._is_dropping = False
        if not self._is_dropping and not self._add(frame):
            self.clear()

    def queue(self, frame: Frame) -> None:
        """Add a frame while a connection is slow."""
        if self._is_dropping and self.starts_with(frame):
            self._is_dropping = False
        if self._is_dropping:
            self.dropped += 1
        elif not self._add(frame):
            self.dropped += self._frames
            self.clear()

    def _add(self, frame: Frame) -> bool:
        """Add a frame; tell whether all that waits is within the bounds."""
        time_ms = frame.dts * 1000 // frame.track.timescale
        if not self._frames:
            self._first_ms = time_ms
        self._entries.append(frame)
        self._frames += 1
        self._bytes += len(frame.data)
        return time_ms - self._first_ms <= LONGEST_MS and self._bytes <= MOST_BYTES

    def pop(self) -> Frame | tuple[Track, ...]:
        """Take the first entry."""
        entry = self._entries.popleft()
        if isinstance(entry, Frame):
            self._frames -= 1
            self._bytes -= len(entry.data)
            if self._entries and isinstance(self._entries[0], Frame):
                first = self._entries[0]
                self._first_ms = first.dts * 1000 // first.track.timescale
        return entry

    def clear(self) -> None:
        """Drop everything, up to the next keyframe."""
        self._entries.clear()
        self._bytes = self._frames = 0
        self._is_dropping = True
