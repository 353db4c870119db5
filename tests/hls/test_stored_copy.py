"""The copy in the storage: never a name of what cannot be read."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.hls.playlist import PlaylistWindow
from rapidrtmp.hls.resume.state import RENEW_BELOW, RESERVED_AHEAD, StoredState
from rapidrtmp.hls.segment import ListedSegment
from rapidrtmp.hls.stored_copy import StoredCopy
from rapidrtmp.interfaces import Constants
from rapidrtmp.testing.sinks import STARTED_AT_MS, RecordingWriter
from tests.m3u8.checker import Follower, ReadPlaylist, read_playlist
from tests.slow import slow

PLAYLIST, STATE = "live/test/index.m3u8", "live/test/state.json"
RUNNING = "live/.running/test"


class Stored:
    """A copy and its storage; segments of two seconds."""

    def __init__(self, size: int = 3, keep_for: int = 2, orphans: Sequence[str] = ()) -> None:
        self.storage = RecordingWriter(holds=True)
        self._window = window = PlaylistWindow(Constants(2, 0), size, 7)
        self.copy = StoredCopy(self.storage, "live/test", window, keep_for, orphans)
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
            self.copy.put_init(name, b"init")

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
        self._window.append(segment)
        self.copy.put_segment(segment, [] if gap else [b"%d" % number])

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
    def state(self) -> StoredState:
        """What the storage holds for a server that starts."""
        return StoredState.parse(self.storage.objects[STATE])

    def settle(self, *, lost: bool = False) -> None:
        self.storage.settle(lost=lost)
        self.look()


class StoredCopyTests(SynchronousTestCase):
    def test_order_of_stored_objects(self) -> None:
        """A segment is listed when the storage has it, and the multivariant playlist follows the media playlist."""
        stored = Stored()
        stored.put_init()
        stored.copy.put_multivariant("master.m3u8", b"master")
        stored.put_segment()
        self.assertEqual(["live/test/init_7.mp4", "live/test/segment_7.m4s"], stored.storage.waiting)
        stored.settle()
        stored.settle()
        self.assertEqual([PLAYLIST, "live/test/master.m3u8"], stored.storage.waiting)
        stored.storage.settle_all()
        playlist = stored.look()
        assert playlist is not None
        self.assertEqual(["segment_7.m4s"], [segment.uri for segment in playlist.segments])
        stored.copy.put_multivariant("master.m3u8", b"another")
        self.assertEqual(["live/test/master.m3u8"], stored.storage.waiting)

    def test_lost_segment_is_a_gap(self) -> None:
        """A segment that was lost is a gap, in its place."""
        stored = Stored()
        stored.put_init()
        stored.put_segment()
        stored.put_segment()
        stored.storage.settle_all(lambda key: key.endswith("segment_7.m4s"))
        playlist = stored.look()
        assert playlist is not None
        self.assertEqual([True, False], [segment.gap for segment in playlist.segments])

    def test_lost_init_is_written_again(self) -> None:
        """Without its init segment nothing can be played, so it is written again, and until then there are gaps."""
        stored = Stored()
        stored.put_init()
        stored.put_segment()
        stored.settle(lost=True)
        stored.storage.settle_all()
        stored.put_segment()
        stored.storage.settle_all()
        playlist = stored.look()
        assert playlist is not None
        self.assertEqual([True, False], [segment.gap for segment in playlist.segments])
        stored.put_segment()
        self.assertEqual(["live/test/segment_9.m4s"], stored.storage.waiting)
        stored.storage.settle_all()

    def test_nothing_was_made(self) -> None:
        """A segment of nothing is listed without asking the storage."""
        stored = Stored()
        stored.put_init()
        stored.storage.settle_all()
        stored.put_segment(gap=True)
        self.assertEqual([PLAYLIST], stored.storage.waiting)
        stored.storage.settle_all()

    def test_end_makes_it_final(self) -> None:
        """The playlist becomes final when all segments before the end are settled; with none it is at once."""
        stored = Stored()
        stored.put_init()
        stored.put_segment()
        stored.put_segment()
        stored.copy.end()
        for _ in range(3):
            self.assertIsNone(stored.look())
            stored.settle()
        self.assertEqual([PLAYLIST, STATE, RUNNING], stored.storage.waiting)
        stored.settle()
        playlist = stored.look()
        assert playlist is not None
        self.assertTrue(playlist.ended)
        stored.settle()
        self.assertTrue(stored.state.ended)
        self.assertIn(RUNNING, stored.storage.objects)
        stored.settle()
        self.assertNotIn(RUNNING, stored.storage.objects)
        other = Stored()
        other.put_init()
        other.put_segment()
        other.storage.settle_all()
        other.copy.end()
        other.storage.settle_all()
        final = other.look()
        assert final is not None
        self.assertTrue(final.ended)

    def test_retirement_after_the_window(self) -> None:
        """Segments are deleted so many segments after they left the playlist, an init with the last that needs it."""
        stored = Stored(size=3, keep_for=2)
        for number in range(12):
            if number in (0, 4):
                stored.put_init()
            stored.put_segment()
            stored.storage.settle_all()
            stored.look()
        kept = sorted(key.removeprefix("live/test/") for key in stored.storage.objects if key != RUNNING)
        segments = [f"segment_{number}.m4s" for number in (14, 15, 16, 17, 18)]
        self.assertEqual(sorted(["index.m3u8", "init_11.mp4", *segments, "state.json"]), kept)
        self.assertIn(("delete", "live/test/init_7.mp4"), stored.storage.operations)

    def test_reservation_of_a_number(self) -> None:
        """The storage knows a number above all that is published before it is; it gets the next every few segments."""
        stored = Stored()
        stored.put_init()
        for number in range(7, 40):
            stored.put_segment()
            stored.storage.settle_all()
            self.assertGreaterEqual(stored.state.next_sequence, number + 1 + RENEW_BELOW)
            self.assertLessEqual(stored.state.next_sequence, number + 1 + RESERVED_AHEAD)
        told = stored.storage.operations.count(("put", STATE))
        self.assertLess(told, 33 // (RESERVED_AHEAD - RENEW_BELOW))

    def test_reservation_lost_is_made_again(self) -> None:
        """A reservation that was lost is made again with the next segment."""
        stored = Stored()
        stored.put_init()
        for _ in range(4):
            stored.put_segment()
        stored.storage.settle_all(lambda key: key == STATE)
        self.assertEqual(13, stored.state.next_sequence)
        stored.put_segment()
        stored.storage.settle_all()
        self.assertEqual(18, stored.state.next_sequence)

    def test_mark_lost_is_made_again(self) -> None:
        """If the word that the stream is running was lost, it is said again with the next reservation."""
        storage = RecordingWriter(holds=True)
        window = PlaylistWindow(Constants(2, 0), 3, 7)
        copy = StoredCopy(storage, "live/test", window, 2)
        storage.settle_all(lambda key: key == RUNNING)
        self.assertNotIn(RUNNING, storage.objects)
        for number in range(7, 14):
            segment = ListedSegment.make(number, "init_7.mp4", 0, 0, 180_000, 90_000, keyframe=True)
            copy.put_segment(window.append(segment), [b"x"])
        storage.settle_all()
        self.assertIn(RUNNING, storage.objects)

    def test_leftovers_go_when_stored(self) -> None:
        """Media of an earlier presentation go when the new playlist is stored, and not before."""
        stored = Stored(orphans=["init_1.mp4", "segment_1.m4s"])
        old = [f"live/test/{name}" for name in ("init_1.mp4", "segment_1.m4s")]
        stored.storage.objects |= dict.fromkeys(old, b"old")
        stored.put_init()
        stored.put_segment()
        stored.settle()
        stored.settle()
        stored.settle()
        self.assertLessEqual(set(old), stored.storage.objects.keys())
        self.assertEqual(sorted(old), sorted(stored.storage.waiting))
        stored.storage.settle_all()
        self.assertEqual({"init_7.mp4", "segment_7.m4s"}, stored.copy.media)
        self.assertFalse(set(old) & stored.storage.objects.keys())

    def test_many_leftovers_go_slowly(self) -> None:
        """Many of them go little by little: what is written waits behind deletions."""
        stored = Stored(orphans=[f"segment_{number}.m4s" for number in range(100, 120)])
        stored.storage.objects |= {f"live/test/segment_{number}.m4s": b"old" for number in range(100, 120)}
        stored.put_init()
        left = []
        for _ in range(3):
            stored.put_segment()
            stored.storage.settle_all()
            left.append(sum(data == b"old" for data in stored.storage.objects.values()))
        self.assertEqual([12, 4, 0], left)

    @slow
    @given(st.data())
    def test_any_losses_are_never_listed(self, data: st.DataObject) -> None:
        """Whatever is lost, and however late the storage answers, no playlist names what is not there."""
        stored = Stored()
        stored.put_init()
        for _ in range(data.draw(st.integers(1, 15))):
            action = data.draw(st.sampled_from(["segment", "segment", "init", "gap", "master"]))
            if action == "init":
                stored.put_init()
            elif action == "master":
                stored.copy.put_multivariant("master.m3u8", b"master")
            else:
                stored.put_segment(gap=action == "gap")
            for _ in range(data.draw(st.integers(0, len(stored.storage.waiting)))):
                if stored.storage.waiting:
                    stored.settle(lost=stored.storage.waiting[0] != PLAYLIST and data.draw(st.booleans()))
        stored.copy.end()
        while stored.storage.waiting:
            stored.settle()
        assert stored.player.latest.ended
