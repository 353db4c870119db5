"""Captions as WebVTT renditions, in step with their stream."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.hls.captions import write_vtt
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.interfaces import Caption
from rapidrtmp.live.captions import Captions
from rapidrtmp.m3u8.model import MediaPlaylist
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.read_multivariant import parse_multivariant_playlist
from rapidrtmp.m3u8.rules import multivariant_violations
from rapidrtmp.m3u8.transitions import PlaylistChecker
from rapidrtmp.names import StreamName
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track
from rapidrtmp.testing.sinks import RecordingWriter, feed, make_sink_context, packaged
from tests.web.kit import Server

BASE = "/live/k"


class CaptionCase(SynchronousTestCase):
    """A live stream ``k`` with segments of a second, and captions in English."""

    def setUp(self) -> None:
        self.server = Server()
        self.stream = self.server.live()
        self.captions = Captions()
        self.captions.announce("en", "English")
        context = make_sink_context(
            stream=StreamName("live", "k"),
            shelf=self.stream.shelf,
            storage=RecordingWriter(),
            captions=self.captions,
        )
        self.sink = packaged(HlsSinkFactory(segment="1s", window="4").create(context))
        self.source = FrameSource(make_video_track(), make_audio_track(), gop=30)
        self.sink.tracks_changed(self.source.tracks)

    def take(self, seconds: int) -> None:
        feed(self.sink, self.source.take(seconds))

    def say(self, text: str, start_ms: int, end_ms: int) -> None:
        self.captions.add(Caption("en", text, start_ms, end_ms))

    def playlist(self, name: str = "captions-en/index.m3u8") -> MediaPlaylist:
        return parse_media_playlist(self.server.get(f"{BASE}/{name}").body)

    def shown(self) -> dict[int, list[str]]:
        """The lines of the cues of each segment listed, from the first one of all counted."""
        found = {}
        for segment in self.playlist().segments:
            text = self.server.get(f"{BASE}/captions-en/{segment.uri}").text()
            self.assertTrue(text.startswith("WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:"))
            found[segment.sequence - 1000] = text.split("\n")[3:]
        return found


class RenditionTests(CaptionCase):
    def test_offered_from_the_beginning(self) -> None:
        """The multivariant playlist offers the language before a word was said, and keeps the rules."""
        self.take(4)
        multivariant = parse_multivariant_playlist(self.server.get(f"{BASE}/master.m3u8").body)
        self.assertEqual([], list(multivariant_violations(multivariant)))
        (rendition,) = multivariant.renditions
        self.assertEqual(
            ("SUBTITLES", "English", "captions-en/index.m3u8"), (rendition.kind, rendition.name, rendition.uri)
        )
        self.assertEqual("captions", multivariant.variants[0].groups["SUBTITLES"])

    def test_in_step_with_the_stream(self) -> None:
        """It lists the segments of the stream, with their numbers, dates and durations, version after version."""
        checker = PlaylistChecker()
        for _ in range(12):
            self.take(1)
            if self.stream.shelf.find_playlist("captions-en/index.m3u8") is not None:
                self.assertEqual([], list(checker.check(self.playlist())))
        whole, captions = self.playlist("index.m3u8"), self.playlist()
        same = ("sequence", "duration_us", "date_us", "discontinuity")
        for each, other in zip(whole.segments, captions.segments, strict=True):
            self.assertEqual([getattr(each, name) for name in same], [getattr(other, name) for name in same])
        self.assertEqual((whole.target_s, whole.discontinuity_sequence), (captions.target_s, 0))
        self.sink.finish()
        self.assertTrue(self.playlist().ended)

    def test_each_segment_has_what_is_shown(self) -> None:
        """A caption stands in every segment in whose time it is shown, with the times of the media."""
        self.take(2)
        self.say("Hello <you> & all", 2_100, 4_500)
        self.take(4)
        line = "00:00:02.100 --> 00:00:04.500"
        found = self.shown()
        self.assertEqual([line, "Hello &lt;you&gt; &amp; all", ""], found[2])
        self.assertEqual(found[2], found[3])
        self.assertEqual(found[2], found[4])
        self.assertEqual([""], found.get(5, [""]))

    def test_late_captions_are_shown_late(self) -> None:
        """What comes when its moment is over is shown from the beginning of the segment that is open."""
        self.take(5)
        self.say("long ago", 500, 2_000)
        self.take(2)
        found = [lines for lines in self.shown().values() if "long ago" in lines]
        self.assertTrue(found)
        begin = re.match(r"00:00:0(\d)\.000 --> ", found[0][0])
        assert begin is not None
        self.assertGreaterEqual(int(begin[1]), 4)

    def test_discontinuities_are_the_same(self) -> None:
        """Behind a discontinuity of the stream there is one in the captions."""
        self.take(5)
        self.sink.discontinuity()
        self.sink.tracks_changed(self.source.tracks)
        self.take(3)
        whole, captions = self.playlist("index.m3u8"), self.playlist()
        self.assertEqual([each.discontinuity for each in whole.segments], [x.discontinuity for x in captions.segments])
        self.assertTrue(any(each.discontinuity for each in captions.segments))

    def test_old_segments_are_taken_down(self) -> None:
        """Segments stay for a while when they are not listed any more, and go then."""
        self.take(6)
        first = self.playlist().segments[0].uri
        self.take(3)
        self.assertEqual(200, self.server.get(f"{BASE}/captions-en/{first}").status)
        self.take(20)
        self.assertEqual(404, self.server.get(f"{BASE}/captions-en/{first}").status)

    def test_none_without_announcement(self) -> None:
        """A stream that has no captions says nothing of captions."""
        server = Server()
        stream = server.live()
        context = make_sink_context(stream=StreamName("live", "k"), shelf=stream.shelf, storage=RecordingWriter())
        sink = packaged(HlsSinkFactory(segment="1s").create(context))
        sink.tracks_changed(self.source.tracks)
        feed(sink, self.source.take(4))
        self.assertNotIn("SUBTITLES", server.get(f"{BASE}/master.m3u8").text())


class TextTests(SynchronousTestCase):
    def test_written_to_the_letter(self) -> None:
        """The map ties the media's clock of 90 kHz, which wraps, to the times of the cues, which do not."""
        day_ms = 27 * 3_600_000
        text = write_vtt([(day_ms + 1_500, day_ms + 2_000, "a\r\n\n  \nb\0")], day_ms)
        mpeg = day_ms * 90 % 2**33
        self.assertEqual(
            f"WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:{mpeg},LOCAL:27:00:00.000\n\n27:00:01.500 --> 27:00:02.000\na\nb\n",
            text.decode(),
        )
