"""The one list of a rendition's segments, and that nothing stays in it for ever."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.packager import Packager
from rapidrtmp.hls.segment import ListedSegment
from rapidrtmp.hls.segment_list import SegmentList
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track
from rapidrtmp.testing.sinks import RecordingWriter, feed, make_sink_context
from tests.slow import slow


def segment(sequence: int, init: str = "init_7.mp4") -> ListedSegment:
    start = (sequence - 7) * 180_000
    return ListedSegment.make(sequence, init, sequence * 2_000, start, start + 180_000, 90_000, keyframe=True)


class SegmentListTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.list = SegmentList(7)
        for sequence in range(7, 12):
            self.list.append(segment(sequence, "init_7.mp4" if sequence < 10 else "init_10.mp4"))

    def test_found_by_number(self) -> None:
        """Segments are found by their numbers, alone and in a row, also when those before them are gone."""
        self.list.drop_before(9)
        self.assertEqual((9, 12), (self.list.first, self.list.end))
        self.assertEqual(10, self.list[10].sequence)
        self.assertEqual([9, 10], [each.sequence for each in self.list.span(3, 11)])
        self.assertEqual([], list(self.list.span(3, 9)))

    def test_numbers_follow_one_another(self) -> None:
        """There is no hole in it, but where all before it was dropped."""
        self.assertRaises(AssertionError, self.list.append, segment(13))
        self.list.drop_before(20)
        self.list.append(segment(20))
        self.assertEqual((20, 21), (self.list.first, self.list.end))

    def test_last_of_init_segment(self) -> None:
        """An init segment goes with the last segment that needs it, which the newest never surely is."""
        last = [sequence for sequence in range(7, 12) if self.list.is_last_of_init(sequence)]
        self.assertEqual([9], last)


class RenditionTests(SynchronousTestCase):
    def kept(self, writer: RecordingWriter) -> list[int]:
        """How many segments the list of a stream of a minute holds, every ten seconds."""
        sink = HlsSinkFactory(segment="1s", window="5").create(
            make_sink_context(clock=Clock(), shelf=Shelf(), storage=writer)
        )
        packager = Packager(sink)
        source = FrameSource(make_video_track(), make_audio_track())
        packager.tracks_changed(source.tracks)
        counts = []
        for _ in range(6):
            feed(packager, source.take(10))
            counts.append(len(sink._published.window.list.span(0, 1 << 40)))
        return counts

    @slow
    def test_what_all_have_passed_is_dropped(self) -> None:
        """Whether there is a copy in the storage or not, the list is soon as long as it will ever be."""
        for writer in (RecordingWriter(), RecordingWriter(persistent=False)):
            counts = self.kept(writer)
            self.assertEqual(counts[2:3] * 4, counts[2:])
            self.assertLess(counts[-1], 20)

    def test_slow_storage_keeps_what_it_needs(self) -> None:
        """What the storage has not confirmed stays, so that it can be listed as stored, or as lost."""
        writer = RecordingWriter(holds=True)
        counts = self.kept(writer)
        self.assertGreater(counts[-1], 50)
