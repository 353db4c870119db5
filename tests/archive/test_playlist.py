from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.archive.clip import select_clip
from rapidrtmp.archive.clip_run import ClipRun
from rapidrtmp.archive.playlist import render_clip, render_recording
from tests.recording.recordings import START_MS, header, journal, segment


class RecordingPlaylistTests(SynchronousTestCase):
    def test_text_of_a_finished_recording(self) -> None:
        """A recording that is over is a VOD playlist with a date for every segment."""
        recording = journal(segment(0, 0), segment(1, 6, "k.k"))
        self.assertEqual(
            "#EXTM3U\n#EXT-X-VERSION:8\n#EXT-X-TARGETDURATION:12\n#EXT-X-PLAYLIST-TYPE:VOD\n"
            "#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-DISCONTINUITY-SEQUENCE:0\n"
            '#EXT-X-MAP:URI="init.mp4"\n'
            "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00.000Z\n#EXTINF:6.00000,\nsegment_00000000.m4s\n"
            "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:06.000Z\n#EXTINF:3.00000,\nsegment_00000001.m4s\n"
            "#EXT-X-ENDLIST\n",
            render_recording(recording, is_over=True).decode(),
        )

    def test_growing_playlist_only_grows(self) -> None:
        """While it grows it is an EVENT playlist, and each version begins with the one before."""
        all_of_it = [segment(0, 0), segment(1, 6, "......"), segment(2, 12, "k.x..."), segment(3, 18)]
        before = ""
        for count in range(1, 5):
            text = render_recording(journal(*all_of_it[:count]), is_over=False).decode()
            self.assertIn("#EXT-X-PLAYLIST-TYPE:EVENT\n", text)
            self.assertNotIn("ENDLIST", text)
            self.assertTrue(text.startswith(before))
            before = text
        over = render_recording(journal(*all_of_it), is_over=True).decode()
        self.assertEqual(before.partition("#EXT-X-MAP")[2] + "#EXT-X-ENDLIST\n", over.partition("#EXT-X-MAP")[2])

    def test_breaks_list_the_init_segment(self) -> None:
        """A discontinuity is listed, with the init segment again; a hole in time is one even if not written down."""
        recording = journal(
            segment(0, 0), segment(1, 60, discontinuity=True, utc_s=90), segment(2, 66, utc_s=96), segment(3, 90)
        )
        text = render_recording(recording, is_over=True).decode()
        again = '#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI="init.mp4"\n'
        self.assertEqual(2, text.count("#EXT-X-DISCONTINUITY\n"))
        self.assertIn(f"{again}#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:01:30.000Z\n", text)
        self.assertIn(f"segment_00000002.m4s\n{again}", text)

    def test_gap_keeps_its_place(self) -> None:
        """A segment of which a part was lost keeps its place and its time, and is called a gap."""
        recording = journal(segment(0, 0), segment(1, 6, "k.x..."), segment(2, 12))
        self.assertIn(
            "#EXT-X-GAP\n#EXTINF:6.00000,\nsegment_00000001.m4s\n", render_recording(recording, is_over=True).decode()
        )

    def test_independent_only_where_true(self) -> None:
        """That every segment can be decoded alone is said only where it is so."""
        recording = journal(segment(0, 0), segment(1, 6, "......"))
        self.assertNotIn("INDEPENDENT", render_recording(recording, is_over=True).decode())


class ClipPlaylistTests(SynchronousTestCase):
    def test_text_of_a_clip(self) -> None:
        """Whole segments stay whole; of others, the parts are listed, each with its own date."""
        recording = journal(segment(0, 0), segment(1, 6), segment(2, 12))
        ranges = select_clip(recording, START_MS + 4_500, START_MS + 12_500)
        lines = render_clip([ClipRun(header(), ranges)]).decode().splitlines()
        self.assertEqual(
            [
                "part_00000000_004.m4s",
                "part_00000000_005.m4s",
                "segment_00000001.m4s",
                "part_00000002_000.m4s",
            ],
            [line for line in lines if not line.startswith("#")],
        )
        self.assertIn("#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:04.000Z", lines)
        self.assertIn("#EXT-X-TARGETDURATION:6", lines)
        self.assertEqual("#EXT-X-ENDLIST", lines[-1])
        self.assertNotIn("#EXT-X-DISCONTINUITY", lines)

    def test_silent_moment_keeps_its_time(self) -> None:
        """A moment without media keeps its time in a clip: the picture before it stands for so long."""
        recording = journal(segment(0, 0, "k-.k.."))
        text = render_clip([ClipRun(header(), select_clip(recording, START_MS, START_MS + 2_500))]).decode()
        self.assertIn("#EXTINF:2.00000,\npart_00000000_000.m4s\n", text)
        self.assertIn("#EXTINF:1.00000,\npart_00000000_002.m4s\n", text)
        self.assertNotIn("GAP", text)
