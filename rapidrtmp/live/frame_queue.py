"""
A bounded queue of frames between a sink and work that takes long: a thread, a process, a network.

What does not fit is dropped, and with it all that cannot be decoded without it: everything up to the leading track's
next keyframe. So the reader of the queue gets whole GOPs, with holes in between, and memory stays bounded however slow
it is.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from rapidrtmp.errors import MisuseError
from rapidrtmp.interfaces import IFrameQueue
from rapidrtmp.media import Frame, MediaKind, Track

__all__ = ["FrameQueue"]


@implementer(IFrameQueue)
class FrameQueue:
    """
    See :class:`IFrameQueue <rapidrtmp.interfaces.IFrameQueue>`.

    :param max_frames: how many frames may wait; likewise ``max_bytes``, of their data.
    """

    def __init__(self, max_frames: int = 300, max_bytes: int = 16 << 20) -> None:
        self.dropped = 0
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._leading_id: int | None = None  # of the video that decides where decoding can start
        self._is_dropping = False
        self._is_closed = False
        self._reader: Deferred[Frame | None] | None = None

    def __len__(self) -> int:
        return len(self._frames)

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """See :meth:`IFrameQueue.tracks_changed <rapidrtmp.interfaces.IFrameQueue.tracks_changed>`."""
        self._leading_id = next((track.id for track in tracks if track.kind is MediaKind.VIDEO), None)

    def put(self, frame: Frame) -> bool:
        """See :meth:`IFrameQueue.put <rapidrtmp.interfaces.IFrameQueue.put>`."""
        if self._is_closed:
            return False
        if self._reader is not None:
            reader, self._reader = self._reader, None
            reader.callback(frame)
            return True
        if self._is_dropping and not self._can_start_with(frame):
            self.dropped += 1
            return False
        is_full = len(self._frames) >= self._max_frames or self._bytes + len(frame.data) > self._max_bytes
        self._is_dropping = is_full
        if is_full:
            self.dropped += 1
            return False
        self._frames.append(frame)
        self._bytes += len(frame.data)
        return True

    def _can_start_with(self, frame: Frame) -> bool:
        return frame.keyframe and (self._leading_id is None or frame.track.id == self._leading_id)

    def get(self) -> Deferred[Frame | None]:
        """See :meth:`IFrameQueue.get <rapidrtmp.interfaces.IFrameQueue.get>`."""
        if self._reader is not None:
            raise MisuseError("a frame queue has one reader, and that waits already")
        if self._frames:
            frame = self._frames.popleft()
            self._bytes -= len(frame.data)
            return succeed(frame)
        if self._is_closed:
            return succeed(None)
        self._reader = Deferred(self._forget_reader)
        return self._reader

    def _forget_reader(self, _: object) -> None:
        self._reader = None

    def close(self) -> None:
        """See :meth:`IFrameQueue.close <rapidrtmp.interfaces.IFrameQueue.close>`."""
        self._is_closed = True
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(None)
