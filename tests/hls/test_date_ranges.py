"""Marks of an encoder as EXT-X-DATERANGE: their attributes, and how long they are listed."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.hls.date_ranges import date_range
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.transitions import PlaylistChecker
from rapidrtmp.media import TimedMetadata
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track
from rapidrtmp.testing.sinks import STARTED_AT_MS, RecordingWriter, feed, make_sink_context, packaged
from tests.m3u8.checker import read_attributes
from tests.slow import slow

UTC_MS = 1_767_225_600_500


def said(name: str, *values: object) -> dict[str, str]:
    """The attributes that a message leads to."""
    text = date_range(TimedMetadata(0, b"", name=name, values=values), UTC_MS)
    return read_attributes(text) if text else {}


class AttributeTests(SynchronousTestCase):
    def test_cue_point_is_told_in_attributes(self) -> None:
        """What an encoder says of a moment is there under its own names, with the moment."""
        found = said("onCuePoint", {"name": "ad", "time": 12.5, "parameters": {"duration": 30.0, "skip it": True}})
        self.assertRegex(found.pop("ID"), r'\A"onCuePoint-1767225600500-[0-9a-f]{8}"\Z')
        expected = {
            "CLASS": '"org.rapidrtmp.onCuePoint"',
            "START-DATE": '"2026-01-01T00:00:00.500Z"',
            "X-NAME": '"ad"',
            "X-TIME": "12.5",
            "X-PARAMETERS-DURATION": "30",
            "X-PARAMETERS-SKIP-IT": '"true"',
        }
        self.assertEqual(expected, found)
        self.assertEqual({"ID", "CLASS", "START-DATE", "X-VALUE"}, set(said("onAdCue", "now")))

    def test_texts_and_sinks_are_not_listed(self) -> None:
        """What is for the moment that is shown, or comes from a sink, stays inside the media alone."""
        self.assertEqual({}, said("onTextData", {"text": "Tor"}))
        self.assertEqual({}, said(""))

    @slow
    @given(st.recursive(st.text() | st.floats() | st.booleans() | st.none(), lambda x: st.dictionaries(st.text(), x)))
    def test_nothing_breaks_out_of_the_line(self, value: object) -> None:
        """Whatever is said, it is one line of attributes, each once, and players read it."""
        text = date_range(TimedMetadata(0, b"", name='onCue"\nPoint', values=(value,)), UTC_MS)
        self.assertRegex(text, r'\A[A-Z0-9-]+=("[^"\r\n]*"|-?[0-9.]+)(,[A-Z0-9-]+=("[^"\r\n]*"|-?[0-9.]+))*\Z')
        names = re.findall(r'(?:\A|,)([A-Z0-9-]+)=(?:"[^"]*"|[^,]*)', text)
        self.assertEqual(len(set(names)), len(names))


class ListingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.shelf = Shelf()
        context = make_sink_context(shelf=self.shelf, storage=RecordingWriter(persistent=False))
        self.sink = packaged(HlsSinkFactory(segment="1s", window="14").create(context))
        self.source = FrameSource(make_video_track(), make_audio_track(), gop=30)
        self.sink.tracks_changed(self.source.tracks)

    def text(self, *, delta: bool = False) -> str:
        version = self.shelf.find_playlist("index.m3u8")
        assert version is not None
        return (version.delta if delta else version.full).body.decode()

    @slow
    def test_listed_while_its_segment_is(self) -> None:
        """A mark is listed once, from its part on until its segment is gone, and delta updates never leave it out."""
        checker = PlaylistChecker()
        feed(self.sink, self.source.take(3))
        self.sink.metadata_received(TimedMetadata(3_200, b"ID3", name="onCuePoint", values=({"name": "ad"},)))
        seen = []
        for _ in range(24):
            feed(self.sink, self.source.take(1))
            self.assertEqual([], list(checker.check(parse_media_playlist(self.text()))))
            counts = [text.count("#EXT-X-DATERANGE:") for text in (self.text(), self.text(delta=True))]
            self.assertEqual(counts[0], counts[1])
            seen.append(counts[0])
        self.assertEqual([1, 0], sorted(set(seen), reverse=True))
        self.assertEqual(sorted(seen, reverse=True), seen, "it does not come back")

    def test_start_date_is_the_moment(self) -> None:
        """The date is that of the moment, on the dates of the segments."""
        feed(self.sink, self.source.take(3))
        self.sink.metadata_received(TimedMetadata(3_200, b"ID3", name="onCuePoint", values=({"name": "ad"},)))
        feed(self.sink, self.source.take(2))
        (line,) = (line for line in self.text().splitlines() if line.startswith("#EXT-X-DATERANGE:"))
        self.assertIn(f"onCuePoint-{STARTED_AT_MS + 3_200}-", line)
