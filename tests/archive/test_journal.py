from __future__ import annotations

import json
import re

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.archive.journal import (
    Header,
    Journal,
    RecordedPart,
    RecordedSegment,
    parse_page,
    read_lines,
    render_header,
    render_segment,
)
from rapidrtmp.errors import MediaError
from rapidrtmp.testing.frames import make_audio_track, make_video_track

HEADER = Header.of_tracks(
    "live", "cam", 1_767_225_600_000, 12, [make_video_track(1280, 720), make_audio_track()], b"init"
)
WHOLE = RecordedSegment(
    0, 1_767_225_600_000, 0, False, (RecordedPart(1000, 90_000, keyframe=True), RecordedPart(500, 45_000))
)
BROKEN = RecordedSegment(
    1, 1_767_225_601_500, 135_000, True, (RecordedPart(0, 90_000, keyframe=True, lost=True), RecordedPart(7, 90_000))
)


class LineTests(SynchronousTestCase):
    def test_header_line_is_json(self) -> None:
        """The first line says what the recording is, in JSON that needs no program to be read."""
        self.assertEqual(
            {
                "type": "recording",
                "format": 1,
                "app": "live",
                "streamKey": "cam",
                "startedMs": 1_767_225_600_000,
                "timescale": 90_000,
                "targetDuration": 12,
                "codecs": ["avc1.42c01f", "mp4a.40.2"],
                "width": 1280,
                "height": 720,
                "init": "aW5pdA==",
            },
            json.loads(render_header(HEADER)),
        )

    def test_segment_line_leaves_out_defaults(self) -> None:
        """A segment's line names what a playlist needs, and leaves out what does not apply."""
        self.assertEqual(
            b'{"type":"segment","number":1,"utcMs":1767225601500,"start":135000,"discontinuity":true,"parts":'
            b'[{"size":0,"duration":90000,"keyframe":true,"lost":true},{"size":7,"duration":90000}]}\n',
            render_segment(BROKEN),
        )

    def test_there_and_back(self) -> None:
        """What is written reads back the same."""
        page = render_header(HEADER) + render_segment(WHOLE) + render_segment(BROKEN)
        self.assertEqual([HEADER, WHOLE, BROKEN], parse_page(page))

    def test_cut_off_anywhere(self) -> None:
        """Of a page that broke off, the whole lines count."""
        page = render_segment(WHOLE) + render_segment(BROKEN)
        first = len(render_segment(WHOLE))
        for length in range(len(page)):
            self.assertEqual([WHOLE] if length >= first else [], parse_page(page[:length]))

    def test_what_comes_later(self) -> None:
        """Kinds of lines and fields that are not known are passed over; a newer format is refused."""
        page = b'{"type":"chapter","title":"x"}\n' + render_segment(WHOLE).replace(b'{"type"', b'{"new":1,"type"')
        self.assertEqual([WHOLE], parse_page(page))
        self.assertRaises(MediaError, parse_page, render_header(HEADER).replace(b'"format":1', b'"format":2'))

    def test_nonsense_ends_the_page(self) -> None:
        """What is no line ends the page, and so does a line that lacks something or says what no recorder writes."""
        self.assertEqual([WHOLE], parse_page(render_segment(WHOLE) + b"\0\xff\n" + render_segment(BROKEN)))
        self.assertEqual([], parse_page(b"[]\n"))
        for line in (b'{"type":"segment"}\n', b'{"type":"recording","format":1}\n', b'{"type":"recording"}\n'):
            self.assertEqual([], parse_page(line))
            self.assertTrue(read_lines(line)[1].startswith("line 1: "))
        self.assertEqual(([WHOLE], ""), read_lines(render_segment(WHOLE) + b'{"type":"segm'))

    def test_out_of_bounds(self) -> None:
        """One number, text or list out of bounds makes the line none of ours."""
        numbers = (b"1e999", b"-1", b"1.5", b"true", b"null", b'"7"', b"9" * 30, b"9" * 5000, b"NaN", b"[" * 3000)
        header, segment = render_header(HEADER), render_segment(WHOLE)
        places = [(header, rb'"(startedMs|timescale|targetDuration|width|height)":\d+')]
        places += [(segment, rb'"(number|utcMs|size|duration)":\d+')]
        for line, place in places:
            for found in re.finditer(place, line):
                for number in numbers:
                    spoiled = line[: found.start()] + b'"' + found[1] + b'":' + number + line[found.end() :]
                    self.assertEqual([], parse_page(spoiled), spoiled[:200])
        for old, new in ((b'"live"', b'"../up"'), (b'["avc1', b'["' + b"x" * 300 + b'","avc1'), (b"aW5pdA==", b"!")):
            self.assertEqual([], parse_page(header.replace(old, new)))


class JournalTests(SynchronousTestCase):
    def test_facts_follow_from_lines(self) -> None:
        """Sizes, times and gaps follow from the lines."""
        journal = Journal(HEADER, [WHOLE, BROKEN])
        self.assertEqual((WHOLE,), journal.playable)
        self.assertEqual(1500, journal.media_size)
        self.assertEqual(len(b"init") + 1507, journal.size)
        self.assertEqual(3_500, journal.duration_ms)
        self.assertEqual(1_767_225_603_500, journal.ended_ms)
        self.assertEqual((True, False), (BROKEN.is_gap, WHOLE.is_gap))

    def test_find_segment_by_number(self) -> None:
        """A segment is found by its number even where others are missing."""
        journal = Journal(HEADER, [BROKEN])
        self.assertEqual(BROKEN, journal.find(1))
        self.assertEqual((None, None), (journal.find(0), journal.find(2)))

    def test_last_line_holds(self) -> None:
        """Of two lines for one segment the later one counts."""
        mended = RecordedSegment(1, BROKEN.utc_ms, BROKEN.start, True, (RecordedPart(7, 180_000, keyframe=True),))
        self.assertEqual((WHOLE, mended), Journal(HEADER, [WHOLE, BROKEN, mended]).segments)

    def test_silent_moment_is_no_gap(self) -> None:
        """A moment without media is no gap as long as the segment has any."""
        still = RecordedSegment(0, 0, 0, False, (RecordedPart(9, 90_000, keyframe=True), RecordedPart(0, 90_000)))
        empty = RecordedSegment(1, 0, 0, False, (RecordedPart(0, 90_000),))
        self.assertEqual((False, True), (still.is_gap, empty.is_gap))
