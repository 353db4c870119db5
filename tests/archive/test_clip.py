from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.archive.clip import MAX_CLIP_SEGMENTS, ClipRange, select_clip, whole_recording
from rapidrtmp.archive.journal import Journal
from rapidrtmp.interfaces import ConflictError
from tests.recording.recordings import START_MS, journal, segment

THREE = journal(segment(0, 0), segment(1, 6), segment(2, 12, "k.k"))


def cut(recording: Journal, from_s: float | None, to_s: float | None) -> list[tuple[int, int, int]]:
    from_ms, to_ms = (None if each is None else START_MS + round(each * 1000) for each in (from_s, to_s))
    return [(each.segment.number, each.first, each.stop) for each in select_clip(recording, from_ms, to_ms)]


class ClipTests(SynchronousTestCase):
    def test_everything_without_limits(self) -> None:
        """Without limits, and with limits outside of it, a clip is the whole recording."""
        whole = [(0, 0, 6), (1, 0, 6), (2, 0, 3)]
        for limits in ((None, None), (-10, None), (None, 100), (0, 15)):
            self.assertEqual(whole, cut(THREE, *limits))
        self.assertEqual(whole, [(each.segment.number, each.first, each.stop) for each in whole_recording(THREE)])

    def test_cut_at_keyframes(self) -> None:
        """It begins with the last keyframe up to its beginning, and ends with the part that holds its end."""
        self.assertEqual([(0, 2, 5)], cut(THREE, 3.9, 4.1))
        self.assertEqual([(0, 4, 6), (1, 0, 3)], cut(THREE, 4, 9))
        self.assertEqual([(1, 0, 1)], cut(THREE, 6, 6.5))

    def test_dates_that_ran_backwards(self) -> None:
        """Where the time of day was set back between segments, a clip has what began and ended in its time."""
        recording = journal(segment(0, 0), segment(1, 6, utc_s=60), segment(2, 12, utc_s=12), segment(3, 18, utc_s=18))
        self.assertEqual([(1, 0, 2), (2, 0, 6), (3, 0, 6)], cut(recording, 59, 61.5))
        self.assertEqual([(0, 4, 6), (2, 0, 1)], cut(recording, 5, 13))

    def test_too_long_clip_is_bounded(self) -> None:
        """A clip has a bounded number of segments, however long the recording."""
        many = journal(*(segment(number, number, "k") for number in range(MAX_CLIP_SEGMENTS + 10)))
        self.assertEqual(MAX_CLIP_SEGMENTS, len(cut(many, 5, MAX_CLIP_SEGMENTS + 5)))
        self.assertRaises(ConflictError, cut, many, 0, None)

    def test_keyframe_in_an_earlier_segment(self) -> None:
        """Where a segment was cut without a keyframe, the clip begins in the one before."""
        recording = journal(segment(0, 0, "k....."), segment(1, 6, "......"))
        self.assertEqual([(0, 0, 6), (1, 0, 3)], cut(recording, 8, 9))

    def test_nothing_recorded_is_not_found(self) -> None:
        """Where nothing was recorded, nothing is found: before, after, in a gap, or in reverse."""
        gap = journal(segment(0, 0), segment(1, 6, "k.x..."), segment(2, 12))
        for recording, from_s, to_s in (
            (THREE, 15, 20),
            (THREE, -9, 0),
            (gap, 7, 11),
            (THREE, 9, 3),
            (journal(), 0, 9),
        ):
            self.assertEqual([], cut(recording, from_s, to_s))

    def test_gaps_at_clip_ends(self) -> None:
        """A clip that begins in a gap begins behind it; one in the middle stays, as a gap."""
        recording = journal(segment(0, 0), segment(1, 6, "k.x..."), segment(2, 12))
        self.assertEqual([(2, 0, 6)], cut(recording, 7, 20))
        self.assertEqual([(0, 4, 6), (1, 0, 6), (2, 0, 1)], cut(recording, 5, 13))

    def test_no_way_back_over_a_break(self) -> None:
        """What came before a discontinuity is no help for decoding: the clip begins with the next keyframe."""
        recording = journal(segment(0, 0), segment(1, 60, "..k...", discontinuity=True))
        self.assertEqual([(1, 2, 6)], cut(recording, 60.5, None))

    def test_while_nobody_published(self) -> None:
        """Time without a publisher is left out."""
        recording = journal(segment(0, 0), segment(1, 6, discontinuity=True, utc_s=600))
        self.assertEqual([(1, 0, 2)], cut(recording, 300, 602))

    def test_stretch_knows_its_times(self) -> None:
        """A range knows its times, its size, and whether it is a whole segment."""
        clip_range = ClipRange(segment(1, 6), 2, 5)
        self.assertEqual((8 * 90_000, 11 * 90_000, 210), (clip_range.start, clip_range.end, clip_range.size))
        self.assertFalse(clip_range.is_whole)
        self.assertTrue(ClipRange(segment(1, 6), 0, 6).is_whole)
