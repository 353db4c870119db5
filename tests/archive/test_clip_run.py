"""What of a clip can be one file, by the wall clock."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.archive.clip import select_clip
from rapidrtmp.archive.clip_run import RECORDING, ClipRun, spans_of
from rapidrtmp.archive.journal import RecordedSegment
from tests.recording.recordings import START_MS, header, journal, segment


def run_of(*segments: RecordedSegment) -> ClipRun:
    return ClipRun(header(), select_clip(journal(*segments), None, None))


class SpansTests(SynchronousTestCase):
    def spans(self, *runs: tuple[RecordedSegment, ...]) -> list[tuple[int, int]]:
        """In seconds; what they hold is held to be of one run each."""
        spans = spans_of([run_of(*segments) for segments in runs])
        for span in spans:
            found = [segments for segments in runs if select_clip(journal(*segments), *span)]
            self.assertEqual(1, len(found), span)
        return [((start_ms - START_MS) // 1000, (end_ms - START_MS) // 1000) for start_ms, end_ms in spans]

    def test_runs_apart_keep_times(self) -> None:
        """Each run has its own time, with nothing in between."""
        self.assertEqual([(0, 12), (30, 36)], self.spans((segment(0, 0), segment(1, 6)), (segment(2, 6, utc_s=30),)))

    def test_adjacent_runs_join_on(self) -> None:
        """Where one ends the next may begin."""
        self.assertEqual([(0, 6), (6, 12)], self.spans((segment(0, 0),), (segment(1, 0, utc_s=6),)))

    def test_gaps_at_ends_count_nothing(self) -> None:
        """Lost segments at either end count for nothing, though their time reaches into that of others."""
        lost = segment(1, 6, "xxxxxx")
        self.assertEqual([(0, 6), (8, 14)], self.spans((segment(0, 0), lost), (segment(2, 0, utc_s=8),)))

    def test_overlap_is_in_no_span(self) -> None:
        """A time that two runs claim is in no span."""
        self.assertEqual([(0, 4), (6, 10)], self.spans((segment(0, 0),), (segment(1, 0, utc_s=4),)))

    def test_swallowed_run_has_no_time(self) -> None:
        """A run that lies wholly within the time of another cannot be addressed by time."""
        self.assertEqual([(0, 4)], self.spans((segment(0, 0), segment(1, 6)), (segment(2, 0, utc_s=4),)))


class NamingTests(SynchronousTestCase):
    def test_names_under_a_folder(self) -> None:
        """Names seen from above a folder begin with that."""
        naming = RECORDING.under("folder")
        self.assertEqual("folder/init.mp4", naming.init)
        self.assertEqual("folder/segment_00000007.m4s", naming.segment(7))
        self.assertEqual("folder/part_00000007_001.m4s", naming.part(7, 1))
