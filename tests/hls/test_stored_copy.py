"""The mirror in the storage: never a name of what can not be read."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.hls.playlist import PlaylistWindow
from rapidrtmp.hls.resume.state import RENEW_BELOW, RESERVED_AHEAD, MirrorState
from rapidrtmp.hls.segment import ListedSegment
from rapidrtmp.hls.stored_copy import Mirror
from rapidrtmp.interfaces import Constants
from rapidrtmp.testing.sinks import STARTED_AT_MS, RecordingWriter
from tests.m3u8.checker import Follower, ReadPlaylist, read_playlist

PLAYLIST, STATE = "live/test/index.m3u8", "live/test/state.json"
RUNNING = "live/.running/test"


class Mirrored:
    """A mirror and its storage; segments of two seconds."""

    def __init__(self, size: int = 3, keep_for: int = 2, leftovers: Sequence[str] = ()) -> None:
        self.storage = RecordingWriter(holds=True)
        window = PlaylistWindow(Constants(2, 0), size, 7)
        self.mirror = Mirror(self.storage, "live/test", window, keep_for, leftovers)
        assert self.storage.waiting == [RUNNING, STATE], "before anything is published"
        self.storage.settle_all()
        self.player = Follower(adjacent=False)
        self._sequence = 7
        self._init = ""
        self._broken = False

    def put_init(self) -> None:
        name = f"init_{self._sequence}.mp4"
        if name != self._init:
            self._broken = bool(self._init)
            self._init = name
            self.mirror.put_init(name, b"init")

    def put_segment(self, *, gap: bool = False) -> None:
        number, self._sequence = self._sequence, self._sequence + 1
        start = (number - 7) * 180_000
        date_ms = STARTED_AT_MS + (number - 7) * 2_000
        segment = ListedSegment.make(
            number,
            self._init,
            date_ms,
            start,
            start + 180_000,
            90_000,
            keyframe=True,
            discontinuity=self._broken,
            gap=gap,
        )
        self._broken = False
        self.mirror.put_segment(segment, [] if gap else [b"%d" % number])

    def look(self) -> ReadPlaylist | None:
        """What a player finds in the storage now; everything it names must be there."""
        body = self.storage.objects.get(PLAYLIST)
        if body is None:
            return None
        if not self.player.versions or read_playlist(body) != self.player.latest:
            self.player.see(body)
        playable = [segment for segment in self.player.latest.segments if not segment.gap]
        for segment in playable:
            for name in (segment.uri, segment.map_uri):
                assert f"live/test/{name}" in self.storage.objects, name
        return self.player.latest

    @property
    def state(self) -> MirrorState:
        """What the storage holds for a server that starts."""
        return MirrorState.parse(self.storage.objects[STATE])

    def settle(self, *, lost: bool = False) -> None:
        self.storage.settle(lost=lost)
        self.look()


class MirrorTests(SynchronousTestCase):
    def test_order(self) -> None:
        """A segment is listed when the storage has it, and the multivariant playlist follows the media playlist."""
        mirrored = Mirrored()
        mirrored.put_init()
        mirrored.mirror.put_multivariant("master.m3u8", b"master")
        mirrored.put_segment()
        self.assertEqual(["live/test/init_7.mp4", "live/test/segment_7.m4s"], mirrored.storage.waiting)
        mirrored.settle()
        mirrored.settle()
        self.assertEqual([PLAYLIST, "live/test/master.m3u8"], mirrored.storage.waiting)
        mirrored.storage.settle_all()
        playlist = mirrored.look()
        assert playlist is not None
        self.assertEqual(["segment_7.m4s"], [segment.uri for segment in playlist.segments])
        mirrored.mirror.put_multivariant("master.m3u8", b"another")
        self.assertEqual(["live/test/master.m3u8"], mirrored.storage.waiting)

    def test_lost_segment(self) -> None:
        """A segment that was lost is a gap, in its place."""
        mirrored = Mirrored()
        mirrored.put_init()
        mirrored.put_segment()
        mirrored.put_segment()
        mirrored.storage.settle_all(lambda key: key.endswith("segment_7.m4s"))
        playlist = mirrored.look()
        assert playlist is not None
        self.assertEqual([True, False], [segment.gap for segment in playlist.segments])

    def test_lost_init(self) -> None:
        """Without its init segment nothing can be played, so it is written again, and until then there are gaps."""
        mirrored = Mirrored()
        mirrored.put_init()
        mirrored.put_segment()
        mirrored.settle(lost=True)
        mirrored.storage.settle_all()
        mirrored.put_segment()
        mirrored.storage.settle_all()
        playlist = mirrored.look()
        assert playlist is not None
        self.assertEqual([True, False], [segment.gap for segment in playlist.segments])
        mirrored.put_segment()
        self.assertEqual(["live/test/segment_9.m4s"], mirrored.storage.waiting)
        mirrored.storage.settle_all()

    def test_nothing_was_made(self) -> None:
        """A segment of nothing is listed without asking the storage."""
        mirrored = Mirrored()
        mirrored.put_init()
        mirrored.storage.settle_all()
        mirrored.put_segment(gap=True)
        self.assertEqual([PLAYLIST], mirrored.storage.waiting)
        mirrored.storage.settle_all()

    def test_end(self) -> None:
        """The playlist becomes final when all segments before the end are settled; with none it is at once."""
        mirrored = Mirrored()
        mirrored.put_init()
        mirrored.put_segment()
        mirrored.put_segment()
        mirrored.mirror.end()
        for _ in range(3):
            self.assertIsNone(mirrored.look())
            mirrored.settle()
        self.assertEqual([PLAYLIST, STATE, RUNNING], mirrored.storage.waiting)
        mirrored.settle()
        playlist = mirrored.look()
        assert playlist is not None
        self.assertTrue(playlist.ended)
        mirrored.settle()
        self.assertTrue(mirrored.state.ended)
        self.assertIn(RUNNING, mirrored.storage.objects)
        mirrored.settle()
        self.assertNotIn(RUNNING, mirrored.storage.objects)
        other = Mirrored()
        other.put_init()
        other.put_segment()
        other.storage.settle_all()
        other.mirror.end()
        other.storage.settle_all()
        final = other.look()
        assert final is not None
        self.assertTrue(final.ended)

    def test_retirement(self) -> None:
        """Segments are deleted so many segments after they left the playlist, an init with the last that needs it."""
        mirrored = Mirrored(size=3, keep_for=2)
        for number in range(12):
            if number in (0, 4):
                mirrored.put_init()
            mirrored.put_segment()
            mirrored.storage.settle_all()
            mirrored.look()
        kept = sorted(key.removeprefix("live/test/") for key in mirrored.storage.objects if key != RUNNING)
        segments = [f"segment_{number}.m4s" for number in (14, 15, 16, 17, 18)]
        self.assertEqual(sorted(["index.m3u8", "init_11.mp4", *segments, "state.json"]), kept)
        self.assertIn(("delete", "live/test/init_7.mp4"), mirrored.storage.operations)

    def test_reservation(self) -> None:
        """Whatever is published, the storage knew before of a number above it; it is told so every few segments."""
        mirrored = Mirrored()
        mirrored.put_init()
        for number in range(7, 40):
            mirrored.put_segment()
            mirrored.storage.settle_all()
            self.assertGreaterEqual(mirrored.state.next_sequence, number + 1 + RENEW_BELOW)
            self.assertLessEqual(mirrored.state.next_sequence, number + 1 + RESERVED_AHEAD)
        told = mirrored.storage.operations.count(("put", STATE))
        self.assertLess(told, 33 // (RESERVED_AHEAD - RENEW_BELOW))

    def test_reservation_lost(self) -> None:
        """A reservation that was lost is made again with the next segment."""
        mirrored = Mirrored()
        mirrored.put_init()
        for _ in range(4):
            mirrored.put_segment()
        mirrored.storage.settle_all(lambda key: key == STATE)
        self.assertEqual(13, mirrored.state.next_sequence)
        mirrored.put_segment()
        mirrored.storage.settle_all()
        self.assertEqual(18, mirrored.state.next_sequence)

    def test_mark_lost(self) -> None:
        """If the word that the stream is running was lost, it is said again with the next reservation."""
        storage = RecordingWriter(holds=True)
        mirror = Mirror(storage, "live/test", PlaylistWindow(Constants(2, 0), 3, 7), 2)
        storage.settle_all(lambda key: key == RUNNING)
        self.assertNotIn(RUNNING, storage.objects)
        for number in range(7, 14):
            segment = ListedSegment.make(number, "init_7.mp4", 0, 0, 180_000, 90_000, keyframe=True)
            mirror.put_segment(segment, [b"x"])
        storage.settle_all()
        self.assertIn(RUNNING, storage.objects)

    def test_leftovers(self) -> None:
        """Media of an earlier presentation go when the new playlist is stored, and not before."""
        mirrored = Mirrored(leftovers=["init_1.mp4", "segment_1.m4s"])
        old = [f"live/test/{name}" for name in ("init_1.mp4", "segment_1.m4s")]
        mirrored.storage.objects |= dict.fromkeys(old, b"old")
        mirrored.put_init()
        mirrored.put_segment()
        mirrored.settle()
        mirrored.settle()
        mirrored.settle()
        self.assertLessEqual(set(old), mirrored.storage.objects.keys())
        self.assertEqual(sorted(old), sorted(mirrored.storage.waiting))
        mirrored.storage.settle_all()
        self.assertEqual({"init_7.mp4", "segment_7.m4s"}, mirrored.mirror.media)
        self.assertFalse(set(old) & mirrored.storage.objects.keys())

    def test_many_leftovers(self) -> None:
        """Many of them go little by little: what is written waits behind deletions."""
        mirrored = Mirrored(leftovers=[f"segment_{number}.m4s" for number in range(100, 120)])
        mirrored.storage.objects |= {f"live/test/segment_{number}.m4s": b"old" for number in range(100, 120)}
        mirrored.put_init()
        left = []
        for _ in range(3):
            mirrored.put_segment()
            mirrored.storage.settle_all()
            left.append(sum(data == b"old" for data in mirrored.storage.objects.values()))
        self.assertEqual([12, 4, 0], left)

    @given(st.data())
    def test_any_losses(self, data: st.DataObject) -> None:
        """Whatever is lost, and however late the storage answers, no playlist names what is not there."""
        mirrored = Mirrored()
        mirrored.put_init()
        for _ in range(data.draw(st.integers(1, 15))):
            action = data.draw(st.sampled_from(["segment", "segment", "init", "gap", "master"]))
            if action == "init":
                mirrored.put_init()
            elif action == "master":
                mirrored.mirror.put_multivariant("master.m3u8", b"master")
            else:
                mirrored.put_segment(gap=action == "gap")
            for _ in range(data.draw(st.integers(0, len(mirrored.storage.waiting)))):
                if mirrored.storage.waiting:
                    mirrored.settle(lost=mirrored.storage.waiting[0] != PLAYLIST and data.draw(st.booleans()))
        mirrored.mirror.end()
        while mirrored.storage.waiting:
            mirrored.settle()
        assert mirrored.player.latest.ended
