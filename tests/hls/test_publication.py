from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.packager import Packager
from rapidrtmp.hls.playlist import PlaylistWindow, Version
from rapidrtmp.hls.publication import Publication
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.interfaces import Playlist
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track
from rapidrtmp.testing.playlists import assert_valid_playlists
from rapidrtmp.testing.sinks import RecordingMetrics, feed, make_sink_context
from tests.hls.versions import text_of, versions

STREAM = list(versions(14, breaks=(5, 9)))
#: Three target durations.
HELD_S = 6


def broken(version: Version) -> Version:
    """The version with another target duration."""
    return replace(version, playlist=replace(version.playlist, target_s=3))


class PublicationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.shelf, self.metrics = Clock(), Shelf(), RecordingMetrics()
        context = make_sink_context(clock=self.clock, shelf=self.shelf, metrics=self.metrics)
        self.publication = Publication(context, "index.m3u8")

    def put(self, stream: Sequence[Version]) -> list[dict[str, Any]]:
        """Put versions up; what was logged."""
        with capturedLogs() as logged:
            for version in stream:
                self.publication.put(version)
        return list(logged)

    @property
    def shown(self) -> Playlist:
        """What is on the shelf."""
        version = self.shelf.find_playlist("index.m3u8")
        assert version is not None
        return version.facts

    def assert_shown(self, version: Version) -> None:
        self.assertEqual(text_of(version), self.shown.body.decode())

    def test_good_versions_go_up(self) -> None:
        """Good versions go up, each of them, and nothing is said or counted."""
        for version in STREAM:
            self.assertEqual([], self.put([version]))
            self.assert_shown(version)
        self.assertEqual(0, self.metrics.total("playlist_violations_total"))

    def test_bad_version_is_held_back(self) -> None:
        """A bad version is counted and not put up; the last good one stays until the next good one comes."""
        self.put(STREAM[:20])
        logged = self.put([broken(STREAM[20])])
        self.assert_shown(STREAM[19])
        self.assertGreater(self.metrics.total("playlist_violations_total"), 0)
        self.assertEqual([LogLevel.error], [event["log_level"] for event in logged])
        self.assertEqual(text_of(STREAM[19]), logged[0]["old"])
        self.assertIn("TARGETDURATION:3", logged[0]["new"])
        logged = self.put([STREAM[21]])
        self.assert_shown(STREAM[21])
        self.assertEqual([LogLevel.info], [event["log_level"] for event in logged])
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_newest_goes_up_after_three_targets(self) -> None:
        """Held back for three target durations, the newest version goes up as it is; it is reported once more."""
        self.put(STREAM[:20])
        told = len(self.put([broken(version) for version in STREAM[20:30]]))
        with capturedLogs() as logged:
            self.clock.advance(HELD_S - 0.1)
            self.assert_shown(STREAM[19])
            self.clock.advance(0.2)
        self.assert_shown(broken(STREAM[29]))
        self.assertEqual([1, 1], [told, len(logged)])
        self.assertEqual([], self.put([broken(STREAM[30])]))
        self.assert_shown(broken(STREAM[30]))

    def test_bad_version_that_stays_alone(self) -> None:
        """A version that is held back goes up in the end, too, if no other follows."""
        self.put([*STREAM[:20], broken(STREAM[20])])
        self.clock.advance(HELD_S)
        self.assert_shown(broken(STREAM[20]))

    def test_delta_after_a_while(self) -> None:
        """A delta update that skips what was never put up does not keep a good version back."""
        stream = list(versions(40, size=16))
        self.put(stream[:20])
        self.put([broken(version) for version in stream[20:200]])
        self.put([stream[200]])
        self.assertTrue(stream[200].skipped)
        self.assert_shown(stream[200])

    def test_second_time_is_told_again(self) -> None:
        """Each time that it begins again is reported again."""
        self.put(STREAM[:20])
        self.put([broken(STREAM[20]), STREAM[20]])
        logged = self.put([broken(STREAM[21]), broken(STREAM[22])])
        self.assertEqual([LogLevel.error], [event["log_level"] for event in logged])

    def test_bad_first_version_goes_up(self) -> None:
        """A bad first version goes up, because there is no better one, and is reported and counted."""
        logged = self.put([replace(STREAM[0], playlist=replace(STREAM[0].playlist, hints=()))])
        self.assertEqual([LogLevel.error], [event["log_level"] for event in logged])
        self.assertNotIn(b"PRELOAD-HINT", self.shown.body)
        self.assertEqual(1, self.metrics.total("playlist_violations_total"))

    def test_bad_final_version(self) -> None:
        """When the final version is bad, the last good one is made final, so that no player waits for more."""
        self.put(STREAM[:20])
        final = replace(broken(STREAM[20]).playlist, hints=(), ended=True)
        self.put([Version(final)])
        self.assertTrue(self.shown.ended)
        assert_valid_playlists([text_of(STREAM[19]), self.shown.body])
        self.assertEqual(1, self.shown.body.count(b"#EXT-X-ENDLIST"))
        self.assertNotIn(b"PRELOAD-HINT", self.shown.body)
        self.assertEqual([], self.clock.getDelayedCalls())


class SinkTests(SynchronousTestCase):
    def test_broken_window_keeps_the_last(self) -> None:
        """When the packager's window breaks, viewers keep its last good playlist, and get the next good one."""
        clock, shelf, metrics = Clock(), Shelf(), RecordingMetrics()
        sink = Packager(HlsSinkFactory().create(make_sink_context(clock=clock, shelf=shelf, metrics=metrics)))
        source = FrameSource(make_video_track(), make_audio_track())
        sink.tracks_changed(source.tracks)
        feed(sink, source.take(9))
        good = shelf.find_playlist("index.m3u8")
        whole = PlaylistWindow.version

        def without_newest_segment(window: PlaylistWindow, *arguments: Any) -> Version:
            version = whole(window, *arguments)
            return replace(version, playlist=replace(version.playlist, segments=version.playlist.segments[:-1]))

        self.patch(PlaylistWindow, "version", without_newest_segment)
        with capturedLogs() as logged:
            feed(sink, source.take(1))
        self.assertIs(good, shelf.find_playlist("index.m3u8"))
        self.assertEqual([LogLevel.error], [event["log_level"] for event in logged])
        self.assertGreater(metrics.total("playlist_violations_total"), 0)
        self.patch(PlaylistWindow, "version", whole)
        feed(sink, source.take(1))
        self.assertIsNot(good, shelf.find_playlist("index.m3u8"))
