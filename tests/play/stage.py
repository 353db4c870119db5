"""One stream that is fed to players, as its sink and with a clock of the test's own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.flv_capabilities import FIRST_TRACKS, FlvCapabilities
from rapidrtmp.media import Frame, Track
from rapidrtmp.play.feed import Feed
from rapidrtmp.play.follower import PullFollower
from rapidrtmp.play.formats import Format, Tags
from rapidrtmp.play.policy import PlayPolicy
from rapidrtmp.play.rendering import Rendering, RenderingKey
from rapidrtmp.play.selection import EVERYTHING

__all__ = ["FeedCase", "Tag", "read_tags"]

#: Type, timestamp, body.
Tag = tuple[int, int, bytes]


def read_tags(data: bytes) -> list[Tag]:
    """The tags of an FLV file, with its header or without."""
    tags, at = [], 13 if data[:3] == b"FLV" else 0
    while at < len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        timestamp = int.from_bytes(data[at + 7 : at + 8] + data[at + 4 : at + 7], "big")
        tags.append((data[at], timestamp, data[at + 11 : at + 11 + size]))
        at += size + 15
    return tags


class FeedCase(SynchronousTestCase):
    """A test with a feed."""

    policy = PlayPolicy()

    def setUp(self) -> None:
        self.clock = Clock()
        self.is_crowded = False
        self.feed = Feed(self.clock, self.policy, lambda: self.is_crowded)

    def begin(self, *tracks: Track) -> None:
        """Have a stream of these tracks."""
        self.feed.tracks_changed(tracks)

    def send(self, frames: Iterable[Frame]) -> None:
        """Frames come, and what is gathered of them is sent."""
        for frame in frames:
            self.feed.frame_received(frame)
        self.turn()

    def turn(self, *seconds: float) -> None:
        """Let the reactor turn."""
        self.clock.pump(seconds or (0, 0.15, 0))

    def rendering(self, format: Format | None = None, capabilities: FlvCapabilities = FIRST_TRACKS) -> Rendering:
        """That of one format."""
        return self.feed.rendering(RenderingKey(format or Tags(), capabilities, EVERYTHING))

    def join(self, format: Format | None = None, capabilities: FlvCapabilities = FIRST_TRACKS) -> PullFollower:
        """One more player."""
        follower = PullFollower(self.clock, self.policy)
        follower.follow(self.rendering(format, capabilities))
        self.turn(0, 0)
        return follower

    def taken(self, follower: PullFollower) -> bytes:
        """What a player has been sent since last time."""
        taken: list[bytes] = []
        while True:
            coming: Deferred[Any] = Deferred.fromCoroutine(follower.next())
            if not coming.called:
                coming.cancel()
                self.failureResultOf(coming)
                return b"".join(taken)
            data = self.successResultOf(coming)
            if not data:
                return b"".join(taken)
            taken.append(data)

    def tags(self, follower: PullFollower) -> list[Tag]:
        """The same as tags."""
        return read_tags(self.taken(follower))
