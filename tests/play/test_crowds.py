"""Many players at once: what they hold, how they begin, and what is skipped for those who are too slow."""

from __future__ import annotations

import itertools
import socket
import tracemalloc
from fractions import Fraction
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactorClock

from rapidrtmp.codec.flv_writing import VIDEO_TAG
from rapidrtmp.media import Frame
from rapidrtmp.play.follower import SocketFollower
from rapidrtmp.play.policy import PlayPolicy
from rapidrtmp.play.rendering import JOINS_PER_TURN, Ending
from rapidrtmp.testing.frames import make_video_track, video_frames
from tests.play.stage import FeedCase, read_tags
from tests.slow import slow

VIDEO = make_video_track()
RATE = Fraction(25)


def pictures(seconds: float, *, first: int = 0, size: int = 10_000) -> list[Frame]:
    """Video of 25 pictures a second, a keyframe in each."""
    return video_frames(VIDEO, seconds, frame_rate=RATE, gop=25, first=first, size=size)


class CrowdCase(FeedCase):
    """A test with players at sockets."""

    def setUp(self) -> None:
        super().setUp()
        self.reactor: Any = MemoryReactorClock()
        self.endings: list[Ending] = []

    def join_by_socket(self) -> tuple[SocketFollower, Connection, socket.socket]:
        """A player at the far end of a socket; nothing is read there by itself."""
        ours, theirs = socket.socketpair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ours.setblocking(False)
        theirs.setblocking(False)
        self.addCleanup(theirs.close)
        self.addCleanup(ours.close)
        transport = Connection(ours, Protocol(), self.reactor)
        transport.connected = True
        follower = SocketFollower(transport, self.clock, self.policy, self.endings.append)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # this system's least, to be full at once
        follower.follow(self.rendering())
        return follower, transport, theirs


class JoiningTests(CrowdCase):
    def test_thousand_join_in_turns(self) -> None:
        """Of a thousand players who come at once a few begin in each turn, and who plays is served in between."""
        self.begin(VIDEO)
        self.send(pictures(1))
        playing = self.join()
        self.tags(playing)
        joining = [_Joining() for _ in range(1000)]
        for each in joining:
            self.rendering().join(each)
        turns = 0
        for number, frame in enumerate(pictures(3, first=25), 1):
            before = sum(each.has_begun for each in joining)
            self.assertEqual([], self.tags(playing))
            self.feed.frame_received(frame)
            self.turn_once()
            turns += before < 1000
            self.assertLessEqual(sum(each.has_begun for each in joining) - before, JOINS_PER_TURN)
            self.assertEqual([frame.dts // 90], [tag[1] for tag in self.tags(playing) if tag[2][1]], number)
        self.assertTrue(all(each.has_begun for each in joining))
        self.assertEqual(-(-1000 // JOINS_PER_TURN), turns)

    def turn_once(self) -> None:
        """One turn of the reactor: what is put off in it comes in the next one, which is not so with a clock."""
        due = [call for call in self.clock.calls if call.getTime() <= self.clock.seconds()]
        for call in due:
            self.clock.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)

    def test_nothing_is_rendered_unwatched(self) -> None:
        """As long as no one plays nothing is rendered."""
        self.begin(VIDEO)
        rendering, player = self.rendering(), self.join()
        player.stop()
        self.feed.leave(rendering, player)
        self.patch(rendering, "frame_received", None)
        self.send(pictures(1))
        self.assertEqual(0, len(self.feed))


class _Joining:
    """A player of which only the beginning is noted."""

    skips = 0
    has_begun = False

    def advance(self) -> None:
        self.has_begun = True

    def advance_by(self, number: int, data: bytes) -> None:
        """It takes anything."""

    def end(self, ending: Ending) -> None:
        """It stays."""


class SlowTests(CrowdCase):
    policy = PlayPolicy(lag_ms=2_000, most_skips=1_000, stalled_ms=1 << 40)

    @slow
    def test_memory_does_not_grow_with_the_lag(self) -> None:
        """Players who read nothing hold a batch each at most, however long that lasts and however many they are."""
        self.begin(VIDEO)
        self.send(pictures(1))
        players = [self.join_by_socket() for _ in range(200)]
        self.turn(*[0] * 50)
        self.feed_slowly(pictures(10, first=25))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before, _ = tracemalloc.get_traced_memory()
        self.feed_slowly(pictures(20, first=275))
        after, _ = tracemalloc.get_traced_memory()
        self.assertLess(after - before, 2 * self.rendering().ring.size)
        held = [len(transport.dataBuffer) + transport._tempDataLen for _, transport, _ in players]
        self.assertLessEqual(max(held), 100_000)
        self.assertLess(self.rendering().ring.size, 2_000_000)

    def test_skips_are_whole_gops(self) -> None:
        """A player that reads half of it gets whole runs from keyframes on, each behind a configuration."""
        self.begin(VIDEO)
        self.send(pictures(1))
        follower, transport, theirs = self.join_by_socket()
        self.turn()
        received, budget = bytearray(), 0
        for frame in pictures(30, first=25):
            self.send([frame])
            budget += 6_500  # of the 13,000 that a picture has on average
            while budget > 0:
                transport.doWrite()
                try:
                    data = theirs.recv(min(budget, 2048))
                except BlockingIOError:
                    break
                received += data
                budget -= len(data)
        whole = bytes(received[: _whole_tags(bytes(received))])
        self.assertGreater(follower.skips, 2)
        shown = [tag for tag in read_tags(whole) if tag[0] == VIDEO_TAG]
        runs = 0
        for before, after in itertools.pairwise(shown):
            if not after[2][1]:  # a configuration
                continue
            is_start = not before[2][1]
            runs += is_start
            self.assertEqual(0x17 if is_start else 0x27 if after[1] % 1000 else 0x17, after[2][0])
            if not is_start:
                self.assertEqual(before[1] + 40, after[1])
        self.assertEqual(follower.skips + 1, runs)

    def feed_slowly(self, frames: list[Frame]) -> None:
        for frame in frames:
            self.feed.frame_received(frame)
            self.clock.advance(0.04)


def _whole_tags(data: bytes) -> int:
    """How much of it is whole tags."""
    at = 13
    while at + 15 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big") + 15
        if at + size > len(data):
            break
        at += size
    return at
