"""Tests of `rapidrtmp.live.announced_tracks`, and of what becomes of it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.announced_tracks import Label, read_track_labels
from rapidrtmp.live.demuxer import Demuxer, TracksChanged
from rapidrtmp.media import MediaKind
from tests.codec.builders import aac_48k, audio, audio_config, configs, demux, every, interleaved, on_track, sound
from tests.codec.builders import video_messages as pictures
from tests.slow import slow

AUDIO, VIDEO = MediaKind.AUDIO, MediaKind.VIDEO


class ReadingTests(SynchronousTestCase):
    def test_labels_of_announced_tracks(self) -> None:
        """Tracks are announced by their numbers, with names and languages where the encoder says some."""
        values = {
            "audioTrackIdInfoMap": {
                "1": {"language": "deu", "name": "Kommentar", "channels": 2.0},
                "2": {"lang": "en-US", "title": "Comment\n"},
                "3": {},
            },
            "videoTrackIdInfoMap": {"1": {"width": 640.0}},
        }
        expected = {
            (AUDIO, 1): Label("deu", "Kommentar"),
            (AUDIO, 2): Label("eng", "Comment"),
            (AUDIO, 3): Label(),
            (VIDEO, 1): Label(),
        }
        self.assertEqual(expected, read_track_labels(values))

    def test_nonsense_is_passed_over(self) -> None:
        """What is not understood is passed over."""
        for values in (
            {},
            {"audioTrackIdInfoMap": 7.0},
            {"audioTrackIdInfoMap": {"x": {}, "-1": {}, "256": {}, "²": {}, "": {}}},
        ):
            self.assertEqual({}, read_track_labels(values))
        odd = {"1": {"language": 5.0, "name": None}, "2": {"language": "klingon", "name": "n" * 500}, "3": None}
        found = read_track_labels({"audioTrackIdInfoMap": odd})
        self.assertEqual([Label(), Label("und", "n" * 64), Label()], list(found.values()))

    @slow
    @settings(max_examples=30)
    @given(st.dictionaries(st.text(max_size=4), st.dictionaries(st.text(max_size=8), st.text(max_size=90))))
    def test_any_text_is_shortened(self, tracks: dict[str, dict[str, str]]) -> None:
        """Any names are short and printable, any languages three letters."""
        for label in read_track_labels({"audioTrackIdInfoMap": tracks}).values():
            self.assertTrue(label.name.isprintable())
            self.assertEqual(3, len(label.language))


class TrackTests(SynchronousTestCase):
    def test_tracks_are_called_so(self) -> None:
        """A track has the name and language that metadata gave its number; it is awaited until it is here."""
        demuxer = Demuxer()
        demuxer.metadata_received({"audioTrackIdInfoMap": {"1": {"language": "fra", "name": "Voix"}, "4": {}}})
        self.assertEqual({4, 10}, demuxer.announced_tracks)
        second = [audio(0, on_track(1, audio_config()))]
        second += [audio(time, on_track(1, sound(index))) for index, time in enumerate(aac_48k(120))]
        first = [audio(time, sound(index)) for index, time in enumerate(aac_48k(120))]
        events = demux([*configs(), *interleaved(pictures(every(30, 75)), first, second)], demuxer)
        (tracks,) = (event.tracks for event in events if isinstance(event, TracksChanged))
        self.assertEqual(
            [(1, "und", ""), (2, "und", ""), (4, "fra", "Voix")],
            [(track.id, track.language, track.name) for track in tracks],
        )
        self.assertEqual({1, 2, 4, 10}, demuxer.announced_tracks)
