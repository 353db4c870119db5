"""HEVC with open GOPs: where playing may begin, and what is claimed of segments."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.archive.journal import RecordedPart, RecordedSegment, read_lines, render_segment
from rapidrtmp.interfaces import Part, Sample, TrackRun
from rapidrtmp.media import Frame, MediaKind, Track, VideoConfig
from tests.codec.test_hevc import CONFIG


def part(config: VideoConfig, *offsets: int) -> Part:
    """A part that begins with a keyframe; ``offsets`` are when its pictures are shown, in frames."""
    track = Track(1, MediaKind.VIDEO, "hvc1", config)
    frames = [Frame(track, 3600 * at, 3600 * (shown - at), 3600, not at, b"", 0) for at, shown in enumerate(offsets)]
    runs = (TrackRun(track, [Sample(frame, 3600) for frame in frames]),)
    return Part(runs, 0, 0, 3600 * len(frames), True, True, True, False)


class OpenGopTests(SynchronousTestCase):
    def test_parts_of_open_gops(self) -> None:
        """HEVC decoders leave out leading pictures where they begin, so playing can; others show rubbish."""
        for config, offsets, facts in (
            (CONFIG, (2, 3, 4), (True, True)),
            (CONFIG, (2, 1, 3), (True, False)),
            (replace(CONFIG, skips_leading=False), (2, 1, 3), (False, False)),
            (replace(CONFIG, skips_leading=False), (2, 3, 4), (True, True)),
        ):
            made = part(config, *offsets)
            self.assertEqual(facts, (made.is_start, made.is_closed))

    def test_journal_keeps_open_gops(self) -> None:
        """The journal keeps both, and reads what it wrote; journals from before had closed GOPs."""
        parts = (RecordedPart(9, 90, True, open=True), RecordedPart(9, 90, True), RecordedPart(9, 90))
        line = render_segment(RecordedSegment(0, 1, 2, False, parts))
        self.assertEqual(1, line.count(b'"open":true'))
        (read,), problem = read_lines(line)
        assert isinstance(read, RecordedSegment)
        self.assertEqual((parts, ""), (read.parts, problem))
