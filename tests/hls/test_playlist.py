"""Media playlists: held to every rule by a reader of its own, version after version."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.hls.invariants import version_violations
from rapidrtmp.hls.playlist import PlaylistWindow, Version, write_version
from rapidrtmp.interfaces import Constants, Playlist
from rapidrtmp.m3u8.model import InitSegment
from rapidrtmp.m3u8.write import PlaylistWriter, render_media_playlist
from tests.m3u8.checker import Follower, RuleBroken, check_successor, read_playlist
from tests.slow import slow

#: 1 January 2026.
STARTED_AT_MS = 1_767_225_600_000


class Packager:
    """
    Drives a window as the sink does: parts of 0.5 s at 90 kHz, segments of so many parts.

    :ivar player: sees every version.
    """

    def __init__(self, size: int = 6, *, target_s: int = 2, part_ms: int = 500, first_sequence: int = 7) -> None:
        self.window = PlaylistWindow(Constants(target_s, part_ms), size, first_sequence)
        self.player = Follower()
        self.removed: list[int] = []
        self._before: Version | None = None
        self._writer = PlaylistWriter()
        self._now = 0
        self._init = 0
        self._broken = False

    def segment(self, parts: int = 4, *, keyframe: bool = True, gap: bool = False) -> Playlist:
        """One segment, a version for each of its parts."""
        window = self.window
        if self._broken and window.segments:
            self.show(f"part_{window.next_sequence}.1.m4s")
        listed = window.begin_segment(
            init=InitSegment(f"init_{self._init}.mp4"),
            utc_ms=STARTED_AT_MS + self._now // 90,
            discontinuity=self._broken,
            start=self._now,
            timescale=90_000,
            keyframe=keyframe,
        )
        self._broken = False
        for index in range(parts):
            start, self._now = self._now, self._now + 45_000
            listed.add(start, self._now, independent=keyframe and not index, gap=gap)
            if index < parts - 1:
                self.show(listed.next_part)
        first = window.first
        window.complete_segment(self._now, size=int(not gap))
        self.removed += range(first, window.first)
        return self.show(f"part_{listed.sequence + 1}.0.m4s")

    def show(self, hint: str) -> Playlist:
        """Let the player see the playlist as it is now."""
        version = self.window.version(hint if self.window.has_parts else "")
        violations = list(version_violations(version, self._before))
        assert not violations, violations
        self._before = version
        playlist = write_version(version, self._writer)
        seen = self.player.see(playlist.body, playlist.delta)
        open_parts = len(seen.open.parts) if seen.open else 0
        assert (playlist.last_sequence, playlist.open_parts) == (seen.last_sequence, open_parts)
        if seen.segments and seen.part_target is not None:
            assert playlist.last_segment_parts == len(seen.segments[-1].parts)
        assert (playlist.first_sequence, playlist.ended, playlist.blocks) == (seen.sequence, seen.ended, True)
        return playlist

    def break_off(self, *, new_init: bool = False) -> None:
        """Let the next segment not join on."""
        self._broken = True
        self._init += new_init

    def end(self) -> Playlist:
        """Let nothing follow."""
        self.window.ended = True
        return self.show("")


class TextTests(SynchronousTestCase):
    def test_whole_playlist_by_line(self) -> None:
        """A playlist, line by line."""
        packager = Packager(3, target_s=1)
        packager.segment(2)
        packager.break_off(new_init=True)
        packager.segment(2, keyframe=False)
        window = packager.window
        opened = window.begin_segment(
            init=InitSegment("init_1.mp4"),
            utc_ms=STARTED_AT_MS + 2_000,
            discontinuity=False,
            start=180_000,
            timescale=90_000,
            keyframe=True,
        )
        opened.add(180_000, 225_000, independent=False, gap=True)
        expected = """\
#EXTM3U
#EXT-X-VERSION:9
#EXT-X-TARGETDURATION:1
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=6.0,HOLD-BACK=3.0,PART-HOLD-BACK=1.500
#EXT-X-PART-INF:PART-TARGET=0.500
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-DISCONTINUITY-SEQUENCE:0
#EXT-X-MAP:URI="init_0.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00.000Z
#EXT-X-PART:DURATION=0.50000,URI="part_7.0.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.50000,URI="part_7.1.m4s"
#EXTINF:1.00000,
segment_7.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI="init_1.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:01.000Z
#EXT-X-PART:DURATION=0.50000,URI="part_8.1.m4s"
#EXT-X-PART:DURATION=0.50000,URI="part_8.2.m4s"
#EXTINF:1.00000,
segment_8.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:02.000Z
#EXT-X-PART:DURATION=0.50000,URI="part_9.0.m4s",GAP=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="part_9.1.m4s"
"""
        self.assertEqual(expected.splitlines(), packager.show("part_9.1.m4s").body.decode().splitlines())


class WindowTests(SynchronousTestCase):
    @slow
    def test_shortened_window_grows_again(self) -> None:
        """A window that has to be short lists three target durations, follows the rules, and grows again afterwards."""
        packager = Packager(20)
        for _ in range(15):
            packager.segment()
        for _ in range(3):
            first = packager.window.first
            packager.window.shorten()
            packager.removed += range(first, packager.window.first)
            packager.segment()
            self.assertEqual(4, len(packager.window.segments))
        for _ in range(30):
            packager.segment()
        self.assertEqual(20, len(packager.window.segments))

    def test_versions_follow_the_rules(self) -> None:
        """Every version of a long stream follows the rules, alone and after the one before, deltas included."""
        packager = Packager()
        deltas = 0
        for number in range(30):
            if number in (5, 6, 20):
                packager.break_off(new_init=number == 6)
            deltas += packager.segment().delta is not None
        self.assertTrue(packager.end().ended)
        self.assertEqual(0, deltas)  # 12 s are listed, and none of them is before the skip boundary

    def test_delta_leaves_out_the_beginning(self) -> None:
        """What lies before the skip boundary is left out of a delta update, and a player can put it in again."""
        packager = Packager(20)
        playlist = None
        for number in range(30):
            if number == 10:
                packager.break_off(new_init=True)
            playlist = packager.segment()
        assert playlist is not None and playlist.delta is not None
        delta = read_playlist(playlist.delta)
        self.assertEqual(14, delta.skipped)
        self.assertIn(b"#EXT-X-SKIP:SKIPPED-SEGMENTS=14\n#EXT-X-MAP:", playlist.delta)
        self.assertIsNone(packager.end().delta)

    def test_discontinuities_slide_out(self) -> None:
        """A discontinuity counts when the segment that it stands before leaves, and not earlier."""
        packager = Packager(3)
        counts = []
        for number in range(8):
            if number in (2, 3):
                packager.break_off()
            packager.segment()
            counts.append(packager.window.discontinuity_sequence)
        self.assertEqual([0, 0, 0, 0, 0, 1, 2, 2], counts)

    def test_length_as_asked_for(self) -> None:
        """The window lists as many segments as asked for, but never less than three target durations of them."""
        packager = Packager(3)
        for _ in range(6):
            packager.segment()
        self.assertEqual((3, [7, 8, 9]), (len(packager.window.segments), packager.removed))
        short = Packager(3)
        for _ in range(12):
            short.segment(1)
        self.assertEqual(12, len(short.window.segments))

    def test_parts_age_off_the_window(self) -> None:
        """Parts are listed for three target durations from the end, also when the stream ends; then only segments."""
        packager = Packager(10)
        for _ in range(8):
            packager.segment()
        self.assertEqual([0] * 5 + [4] * 3, [len(segment.parts) for segment in packager.player.latest.segments])
        packager.end()
        self.assertEqual([0] * 5 + [4] * 3, [len(segment.parts) for segment in packager.player.latest.segments])

    def test_claim_ends_for_good(self) -> None:
        """A segment that does not begin with a keyframe ends the claim that all do, for good."""
        packager = Packager(3)
        packager.segment()
        self.assertTrue(packager.player.latest.independent)
        packager.segment(keyframe=False)
        for _ in range(6):
            packager.segment()
            self.assertFalse(packager.player.latest.independent)

    def test_gap_has_gap_parts(self) -> None:
        """A segment of nothing is a gap, and so are its parts."""
        packager = Packager()
        packager.segment()
        packager.segment(gap=True)
        segment = packager.player.latest.segments[-1]
        self.assertTrue(segment.gap and all(part.gap for part in segment.parts))

    def test_without_parts_no_hints(self) -> None:
        """Ordinary HLS lists no parts and no hint, and says so nowhere."""
        packager = Packager(part_ms=0)
        for _ in range(9):
            playlist = packager.segment()
        self.assertEqual((0, 0, 0), (playlist.open_parts, playlist.last_segment_parts, playlist.part_target_ms))
        self.assertNotIn(b"PART", playlist.body)
        packager.end()

    def test_nothing_yet_says_where(self) -> None:
        """Before the first segment is complete, the playlist already says where it will be."""
        packager = Packager()
        packager.window.begin_segment(
            init=InitSegment("i.mp4"),
            utc_ms=STARTED_AT_MS,
            discontinuity=False,
            start=0,
            timescale=90_000,
            keyframe=True,
        ).add(0, 45_000, independent=True)
        playlist = packager.show("part_7.1.m4s")
        self.assertEqual((6, 1, 0), (playlist.last_sequence, playlist.open_parts, playlist.last_segment_parts))

    def test_plain_playlist_has_no_directives(self) -> None:
        """The same for a web server that cannot hold requests: complete segments, no directives."""
        packager = Packager(4)
        player = Follower()
        for number in range(9):
            if number == 4:
                packager.break_off(new_init=True)
            packager.segment()
            seen = player.see(render_media_playlist(packager.window.plain()).encode())
            self.assertEqual({}, seen.control)
        packager.window.ended = True
        self.assertTrue(player.see(render_media_playlist(packager.window.plain()).encode()).ended)

    def test_lost_segment_is_a_gap(self) -> None:
        """A segment whose bytes were lost is listed in its place as a gap."""
        packager = Packager(4)
        packager.segment()
        packager.segment()
        window = packager.window
        window.lose(8)
        self.assertEqual(
            [False, True],
            [segment.gap for segment in read_playlist(render_media_playlist(window.plain()).encode()).segments],
        )

    @slow
    @given(
        st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.booleans(), st.booleans()), max_size=40),
        st.integers(3, 12),
    )
    def test_any_stream_follows_the_rules(self, segments: list[tuple[int, bool, bool, bool]], size: int) -> None:
        """Whatever segments come, every version follows the rules."""
        packager = Packager(size)
        for parts, keyframe, breaks_off, new_init in segments:
            if breaks_off:
                packager.break_off(new_init=new_init)
            packager.segment(parts, keyframe=keyframe)
        packager.end()


class CheckerTests(SynchronousTestCase):
    """The reader finds what it is for."""

    def setUp(self) -> None:
        packager = Packager(4)
        for _ in range(6):
            packager.segment()
        self.good = packager.player.latest
        self.text = render_media_playlist(packager.window.version("part_13.0.m4s").playlist)

    def assertBroken(self, before: str, after: str) -> None:
        """Check that the playlist is refused with this change."""
        self.assertIn(before, self.text)
        self.assertRaises(RuleBroken, self.see, self.text.replace(before, after))

    def see(self, text: str) -> None:
        check_successor(self.good, read_playlist(text.encode()))

    def test_broken_rules_are_found(self) -> None:
        """Each change breaks a rule, and is found."""
        self.see(self.text)
        for before, after in (
            ("#EXTM3U\n", ""),
            ("TARGETDURATION:2", "TARGETDURATION:3"),
            ("TARGETDURATION:2", "TARGETDURATION:1"),
            ("PART-TARGET=0.500", "PART-TARGET=0.499"),
            ("PART-TARGET=0.500", "PART-TARGET=0.600"),
            ("MEDIA-SEQUENCE:9", "MEDIA-SEQUENCE:8"),
            ("DISCONTINUITY-SEQUENCE:0", "DISCONTINUITY-SEQUENCE:1"),
            ("HOLD-BACK=6.0", "HOLD-BACK=5.0"),
            ("PART-HOLD-BACK=1.500", "PART-HOLD-BACK=1.000"),
            ('#EXT-X-MAP:URI="init_0.mp4"\n', ""),
            ("EXTINF:2.00000,\nsegment_9", "EXTINF:1.90000,\nsegment_9"),
            ("EXTINF:2.00000,\nsegment_9", "EXTINF:2.00000\nsegment_9"),
            ("segment_10.m4s", "segment_99.m4s"),
            ("00:00:08.000Z", "00:00:08.100Z"),
            ('URI="part_13.0.m4s"', 'URI="part_12.3.m4s"'),
            ('#EXT-X-PRELOAD-HINT:TYPE=PART,URI="part_13.0.m4s"\n', ""),
            ('URI="part_12.3.m4s"', 'URI="part_12.2.m4s"'),
            ('#EXT-X-PART:DURATION=0.50000,URI="part_12.1.m4s"\n', ""),
        ):
            self.assertBroken(before, after)
