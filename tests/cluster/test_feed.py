"""Tests of feeds: what is done to the shelf of a stream, and what a node that follows makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from rapidrtmp.cluster.feed import PING_S, Feed
from rapidrtmp.cluster.feed_frames import FeedFrame, FeedReader, Kind, write_frame
from rapidrtmp.cluster.followed_shelf import FollowedShelf
from rapidrtmp.cluster.mirror import LAG_S, Mirror
from rapidrtmp.cluster.pieces import PieceFolder
from rapidrtmp.errors import PeerProtocolError
from rapidrtmp.interfaces import IPlayable, PlayableFacts
from rapidrtmp.live.viewers import Viewers
from rapidrtmp.names import StreamName
from tests.slow import slow
from tests.web.kit import MP4, playlist

NAME = StreamName("live", "cam")
NAMES = ("a.m4s", "b.m4s", "c.m4s")


class Wire:
    """A follower in memory: what it is sent reaches a mirror when it reads."""

    def __init__(self, mirror: Mirror, *, reads_files: bool) -> None:
        self.reads_files = reads_files
        self.is_open = True
        self._mirror = mirror
        self._reader = FeedReader()
        self._sent = b""

    @property
    def unread_bytes(self) -> int:
        return len(self._sent)

    def send(self, data: bytes) -> None:
        self._sent += data

    def read(self, size: int = 1 << 30) -> None:
        """Let the mirror have so many bytes of what was sent."""
        data, self._sent = self._sent[:size], self._sent[size:]
        self._reader.receive_data(data)
        for frame in self._reader.frames():
            self._mirror.apply(frame)

    def close(self) -> None:
        self.read()
        self.is_open = False

    def abort(self) -> None:
        self.is_open = False


class FeedTestCase(SynchronousTestCase):
    """A shelf, its feed, and a mirror that follows."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.folder = Path(self.mktemp())
        self.state, self.fence = "live", 7
        self.shelf = FollowedShelf(clock=self.clock)
        self.feed = Feed(NAME, self.shelf, lambda: self.fence, lambda: self.state, PieceFolder(self.folder), self.clock)
        self.mirror = self.new_mirror()

    def new_mirror(self) -> Mirror:
        return Mirror(NAME, FollowedShelf(clock=self.clock), Viewers(bytes(16)), self.clock)

    def follow(self, *, reads_files: bool = True) -> Wire:
        wire = Wire(self.mirror, reads_files=reads_files)
        self.feed.follow(wire)
        self.settle(wire)
        return wire

    def settle(self, wire: Wire) -> None:
        """Let what was done arrive."""
        self.clock.advance(0)
        wire.read()

    def shown(self, shelf: Any) -> dict[str, object]:
        """What viewers find on a shelf."""
        found: dict[str, object] = {name: (stored.body, stored.content_type) for name, stored in shelf.objects}
        return {**found, **dict(shelf.playlists)}

    def shown_by_mirror(self) -> dict[str, object]:
        for name, _ in self.mirror.shelf.objects:
            self.mirror.find(name)
        return self.shown(self.mirror.shelf)


class FollowingTests(FeedTestCase):
    def test_snapshot_and_what_follows(self) -> None:
        """A follower has all that was up, and then what is put up, listed, promised and taken down."""
        self.shelf.put("a.m4s", [b"one", b"two"], MP4)
        self.shelf.put_playlist("index.m3u8", playlist(9, 2, delta=b"#delta\n"))
        self.shelf.announce("b.m4s")
        wire = self.follow()
        self.assertEqual(self.shown(self.shelf), self.shown_by_mirror())
        waiting = self.mirror.wait("b.m4s")
        self.shelf.put("b.m4s", [b"three"], MP4)
        self.shelf.put_playlist("index.m3u8", playlist(10))
        self.shelf.withdraw("a.m4s")
        self.settle(wire)
        found: Any = self.successResultOf(waiting)
        self.assertTrue(found.load())
        self.assertEqual(b"three", found.body)
        self.assertEqual(self.shown(self.shelf), self.shown_by_mirror())
        self.assertIsNone(self.mirror.find("a.m4s"))
        self.assertTrue(verifyObject(IPlayable, self.mirror))

    def test_segment_is_its_parts(self) -> None:
        """The bytes of a segment that is made of parts are written, or sent, once."""
        parts = [bytes(1000), bytes(range(200))]
        for reads_files in (True, False):
            self.setUp()
            wire = self.follow(reads_files=reads_files)
            for name, part in zip(NAMES, parts, strict=False):
                self.shelf.put(name, [part], MP4)
            self.settle(wire)
            self.shelf.put("segment.m4s", parts, MP4)
            self.clock.advance(0)
            self.assertLess(wire.unread_bytes, 200)
            wire.read()
            self.shelf.withdraw("a.m4s")
            self.settle(wire)
            found = self.mirror.find("segment.m4s")
            assert found is not None
            self.assertEqual(b"".join(parts), found.body)

    def test_nothing_is_done_for_no_follower(self) -> None:
        """While none follows nothing is written; when the last one leaves, what was written is deleted."""
        self.shelf.put("a.m4s", [b"one"], MP4)
        self.assertIsNone(self.shelf.observer)
        self.assertFalse(self.folder.exists())
        wire = self.follow()
        self.assertEqual(1, len(list(self.folder.iterdir())))
        self.feed.leave(wire)
        self.assertEqual([], list(self.folder.iterdir()))
        self.assertIsNone(self.shelf.observer)
        self.clock.advance(3 * PING_S)
        self.assertEqual([], self.clock.getDelayedCalls())

    @slow
    @given(st.data())
    def test_any_cut_leaves_mirror_equal(self, data: st.DataObject) -> None:
        """Whatever is done to a shelf, and wherever the feed is cut and begun again, the mirror ends up equal to it."""
        self.setUp()
        reads_files = data.draw(st.booleans())
        wire = self.follow(reads_files=reads_files)
        version = 0
        for _ in range(data.draw(st.integers(1, 12))):
            name = data.draw(st.sampled_from(NAMES))
            match data.draw(st.sampled_from(("put", "list", "announce", "withdraw", "cut", "read"))):
                case "put":
                    body = data.draw(st.binary(max_size=8))
                    self.shelf.put(name, [body], MP4, data.draw(st.sampled_from(("no-store", "max-age=1"))))
                case "list":
                    version += 1
                    self.shelf.put_playlist("index.m3u8", playlist(version))
                case "announce":
                    self.shelf.announce(name)
                case "withdraw":
                    self.shelf.withdraw(name)
                case "cut":
                    self.clock.advance(0)
                    wire.read(data.draw(st.integers(0, 400)))
                    self.feed.leave(wire)
                    self.mirror.lost()
                    wire = Wire(self.mirror, reads_files=reads_files)
                    self.feed.follow(wire)
                case "read":
                    self.clock.advance(0)
                    wire.read(data.draw(st.integers(0, 400)))
        self.settle(wire)
        self.assertEqual(self.shown(self.shelf), self.shown_by_mirror())
        for name in self.shelf.promised:
            self.assertIn(name, set(self.mirror.shelf.promised))

    def test_lower_fence_is_void(self) -> None:
        """What a former owner still says changes nothing once the next one has spoken."""
        wire = self.follow()
        self.fence = 9
        self.shelf.put("a.m4s", [b"new"], MP4)
        self.settle(wire)
        self.fence = 8
        self.shelf.put("b.m4s", [b"old"], MP4)
        self.settle(wire)
        self.assertEqual(["a.m4s"], [name for name, _ in self.mirror.shelf.objects])

    def test_version_never_falls(self) -> None:
        """A version that reaches less far than the one that viewers have is not shown."""
        wire = self.follow()
        self.shelf.put_playlist("index.m3u8", playlist(9, 2))
        self.settle(wire)
        self.shelf.put_playlist("index.m3u8", playlist(8))
        self.settle(wire)
        version = self.mirror.version("index.m3u8")
        assert version is not None
        self.assertEqual(9, version.facts.last_sequence)

    def test_states_of_the_owner(self) -> None:
        """A stream is interrupted when its owner says so, and while there is no feed; over when that is over."""
        self.assertEqual(PlayableFacts(is_interrupted=True, is_over=False, target_ms=0), self.mirror.facts)
        wire = self.follow()
        self.assertFalse(self.mirror.facts.is_interrupted)
        for state, facts in (("interrupted", (True, False)), ("live", (False, False)), ("ended", (False, True))):
            self.state = state
            self.clock.advance(PING_S)
            self.settle(wire)
            self.assertEqual(facts, (self.mirror.facts.is_interrupted, self.mirror.facts.is_over))
        self.feed.close("gone")
        self.assertFalse(wire.is_open)
        self.assertTrue(self.mirror.facts.is_over)

    def test_slow_follower_is_cut(self) -> None:
        """A follower that does not read is cut off at a bound, and whole again when it comes back."""
        wire = Wire(self.mirror, reads_files=False)
        self.feed.follow(wire)
        for number in range(20):
            self.shelf.put("a.m4s", [bytes([number]) * (1 << 20)], MP4)
            self.clock.advance(0)
        self.assertFalse(wire.is_open)
        self.assertLess(wire.unread_bytes, 10 << 20)
        self.assertEqual(0, len(self.feed))
        self.mirror.lost()
        self.follow(reads_files=False)
        self.assertEqual(self.shown(self.shelf), self.shown_by_mirror())

    def test_file_that_is_gone(self) -> None:
        """An object whose bytes went with their owner is none."""
        self.shelf.put("a.m4s", [b"one"], MP4)
        wire = self.follow()
        self.feed.leave(wire)
        self.assertIsNone(self.mirror.find("a.m4s"))


class WaitingTests(FeedTestCase):
    def test_unknown_name_may_come(self) -> None:
        """A request for a name that is not known waits: it comes within a second, or there is none."""
        wire = self.follow()
        self.assertTrue(self.mirror.is_announced("a.m4s"))
        coming, missing = self.mirror.wait("a.m4s"), self.mirror.wait("b.m4s")
        self.clock.advance(LAG_S / 2)
        self.shelf.put("a.m4s", [b"one"], MP4)
        self.settle(wire)
        self.assertIsNotNone(self.successResultOf(coming))
        self.assertNoResult(missing)
        self.clock.advance(LAG_S)
        self.assertIsNone(self.successResultOf(missing))
        self.assertFalse(list(self.mirror.shelf.promised))

    def test_other_names_are_not_waited_for(self) -> None:
        """What the snapshot has not, and does not come with time, is not waited for: others answer for it, or none."""
        mirror = self.new_mirror()
        self.assertTrue(mirror.is_announced("clip.mp4"))
        self.assertFalse(mirror.is_announced("poster.mp4"))
        self.follow()
        for name in ("clip.mp4", "dvr.m3u8", "poster.mp4", "viewers.json"):
            self.assertFalse(self.mirror.is_announced(name), name)
        for name in ("segment_7.m4s", "init.m4s", "index.m3u8", "720p/index.m3u8"):
            self.assertTrue(self.mirror.is_announced(name), name)

    def test_promised_name_is_waited_for(self) -> None:
        """A name that the owner has promised is waited for as long as the owner does, also if it was doubted before."""
        wire = self.follow()
        waiting = self.mirror.wait("a.m4s")
        self.shelf.announce("a.m4s")
        self.settle(wire)
        self.clock.advance(5 * LAG_S)
        self.assertNoResult(waiting)
        self.shelf.withdraw("a.m4s")
        self.settle(wire)
        self.assertIsNone(self.successResultOf(waiting))

    def test_closed_mirror_has_no_timers(self) -> None:
        """When a mirror is closed nothing of it is left in the reactor."""
        self.mirror.wait("a.m4s")
        self.mirror.close()
        self.assertEqual([], self.clock.getDelayedCalls())


class FrameTests(SynchronousTestCase):
    FRAMES = (
        FeedFrame(Kind.PUT, 2**40, "Zürich.m4s", {"size": 3, "pieces": [1, 2]}),
        FeedFrame(Kind.PIECE, 1, "", {"number": 7}, bytes(range(256))),
        FeedFrame(Kind.PING, 0),
    )

    def test_frames_in_any_pieces(self) -> None:
        """However the bytes are cut, the same frames are read."""
        data = b"".join(map(write_frame, self.FRAMES))
        for size in (1, 7, 64, len(data)):
            reader, found = FeedReader(), []
            for at in range(0, len(data), size):
                reader.receive_data(data[at : at + size])
                found += list(reader.frames())
            self.assertEqual(list(self.FRAMES), found)

    def test_what_is_no_frame(self) -> None:
        """Bytes that are no frame are refused, behind the frames before them."""
        good = write_frame(self.FRAMES[2])
        bad = (
            b"\xff" * 19,
            b"\x01" + bytes(8) + b"\0\0\xff\xff\xff\xff\0\0\0\0",
            b"\x03" + bytes(8) + b"\0\1\0\0\0\0\0\0\0\0\xff",
            b"\x03" + bytes(8) + b"\0\0\0\0\0\1\0\0\0\0[",
            b"\x03" + bytes(8) + b"\0\0\0\0\0\2\0\0\0\0[]",
        )
        for data in bad:
            reader = FeedReader()
            reader.receive_data(good + data)
            frames = reader.frames()
            self.assertEqual(self.FRAMES[2], next(frames))
            self.assertRaises(PeerProtocolError, next, frames)

    def test_frame_without_what_belongs_to_it(self) -> None:
        """A frame that lacks what its kind needs is refused by the mirror."""
        mirror = Mirror(NAME, FollowedShelf(), Viewers(bytes(16)), Clock())
        for kind in (Kind.BEGIN, Kind.PUT, Kind.LIST, Kind.STATE):
            self.assertRaises(PeerProtocolError, mirror.apply, FeedFrame(kind, 1, "a"))
