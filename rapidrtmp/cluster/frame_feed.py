"""A sink that sends the frames of a stream to another node."""

from __future__ import annotations

from collections.abc import Callable

from zope.interface import implementer

from rapidrtmp.cluster.feed import Follower
from rapidrtmp.cluster.frame_wire import Said, write_frame, write_said, write_tracks
from rapidrtmp.interfaces import IMovingSink
from rapidrtmp.media import Frame, Track

__all__ = ["FrameFeed"]

#: A node that does not read so many bytes is let go of; it comes back for what is live then.
MOST_UNREAD = 32 << 20


@implementer(IMovingSink)
class FrameFeed:
    """
    See the module.

    :param via: tells the ids of the servers that the stream came through.
    """

    def __init__(self, follower: Follower, via: Callable[[], tuple[str, ...]]) -> None:
        self._follower = follower
        self._via = via

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """See :class:`~rapidrtmp.interfaces.ISink`; likewise the other methods."""
        self._follower.send(write_tracks(tracks, self._via()))

    def frame_received(self, frame: Frame) -> None:
        """Send one frame."""
        if self._follower.unread_bytes > MOST_UNREAD:
            self._follower.abort()
        else:
            self._follower.send(write_frame(frame))

    def discontinuity(self) -> None:
        """What follows does not join on."""
        self._follower.send(write_said(Said.DISCONTINUITY))

    def interrupted(self) -> None:
        """The publisher is gone and may return."""
        self._follower.send(write_said(Said.INTERRUPTED))

    def leave(self) -> dict[str, bytes]:
        """Another node continues the stream: the follower asks that one."""
        self._follower.close()
        return {}

    def finish(self) -> None:
        """The stream has ended."""
        self._follower.send(write_said(Said.FINISHED))
        self._follower.close()
