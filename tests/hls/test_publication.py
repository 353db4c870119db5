from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.hls.playlist import PlaylistWindow
from rapidrtmp.hls.publication import PlaylistGate
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.interfaces import Playlist
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track
from rapidrtmp.testing.playlists import assert_valid_playlists
from rapidrtmp.testing.sinks import RecordingMetrics, feed, make_sink_context
from tests.hls.versions import versions, with_body

STREAM = list(versions(14, breaks=(5, 9)))


def broken(playlist: Playlist) -> Playlist:
    """The version with another target duration."""
    return with_body(playlist, playlist.body.replace(b"TARGETDURATION:2", b"TARGETDURATION:3"))


class GateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.shelf, self.metrics = Clock(), Shelf(), RecordingMetrics()
        context = make_sink_context(clock=self.clock, shelf=self.shelf, metrics=self.metrics)
        self.gate = PlaylistGate(context, "index.m3u8")

    def put(self, playlists: Sequence[Playlist]) -> list[dict[str, Any]]:
        """Put versions up; what was logged."""
        with capturedLogs() as logged:
            for playlist in playlists:
                self.gate.put(playlist)
        return list(logged)

    @property
    def shown(self) -> Playlist:
        """What is on the shelf."""
        version = self.shelf.find_playlist("index.m3u8")
        assert version is not None
        return version.facts

    def test_good(self) -> None:
        """Good versions go up, each of them, and nothing is said or counted."""
        for playlist in STREAM:
            self.assertEqual([], self.put([playlist]))
            self.assertIs(playlist, self.shown)
        self.assertEqual(0, self.metrics.total("playlist_violations_total"))

    def test_bad(self) -> None:
        """A bad version is counted and not put up; the last good one stays until the next good one comes."""
        self.put(STREAM[:20])
        logged = self.put([broken(STREAM[20])])
        self.assertIs(STREAM[19], self.shown)
        self.assertGreater(self.metrics.total("playlist_violations_total"), 0)
        self.assertEqual([LogLevel.error], [event["log_level"] for event in logged])
        self.assertEqual(STREAM[19].body.decode(), logged[0]["old"])
        self.assertIn("TARGETDURATION:3", logged[0]["new"])
        logged = self.put([STREAM[21]])
        self.assertIs(STREAM[21], self.shown)
        self.assertEqual([LogLevel.info], [event["log_level"] for event in logged])

    def test_bad_for_long(self) -> None:
        """However long it lasts, it is told once, and once more when players give up; every version is tried."""
        self.put(STREAM[:20])
        told = 0
        for number in range(20, 60):
            told += len(self.put([broken(STREAM[number])]))
            self.clock.advance(1 / 3)
        self.assertEqual(2, told)
        self.assertIs(STREAM[19], self.shown)
        self.put([STREAM[60]])
        self.assertIs(STREAM[60], self.shown)  # though nothing in it was listed before: nobody can help that now

    def test_delta_after_long(self) -> None:
        """A delta update that skips what was never put up does not keep a good version back."""
        stream = list(versions(40, size=16))
        self.put(stream[:20])
        self.put([broken(playlist) for playlist in stream[20:200]])
        self.put([stream[200]])
        self.assertIsNotNone(stream[200].delta)
        self.assertIs(stream[200], self.shown)

    def test_second_episode(self) -> None:
        """Each time that it begins again is told again."""
        self.put(STREAM[:20])
        self.put([broken(STREAM[20]), STREAM[20]])
        logged = self.put([broken(STREAM[21]), broken(STREAM[22])])
        self.assertEqual([LogLevel.error], [event["log_level"] for event in logged])

    def test_bad_first(self) -> None:
        """A bad first version goes up, because there is no better one, and is told and counted."""
        logged = self.put([broken(STREAM[0])])
        self.assertEqual(1, len(logged))
        self.assertEqual(3000, self.shown.target_ms)

    def test_bad_end(self) -> None:
        """When the final version is bad, the last good one is made final, so that nobody waits for more."""
        self.put(STREAM[:20])
        ended = replace(STREAM[20], body=broken(STREAM[20]).body + b"#EXT-X-ENDLIST\n", ended=True)
        self.put([ended])
        self.assertTrue(self.shown.ended)
        assert_valid_playlists([STREAM[19].body, self.shown.body])
        self.assertEqual(1, self.shown.body.count(b"#EXT-X-ENDLIST"))
        self.assertNotIn(b"PRELOAD-HINT", self.shown.body)


class SinkTests(SynchronousTestCase):
    def test_broken_window(self) -> None:
        """When the packager's window breaks, viewers keep its last good playlist, and get the next good one."""
        clock, shelf, metrics = Clock(), Shelf(), RecordingMetrics()
        sink = HlsSinkFactory().create(make_sink_context(clock=clock, shelf=shelf, metrics=metrics))
        source = FrameSource(make_video_track(), make_audio_track())
        sink.tracks_changed(source.tracks)
        feed(sink, source.take(9))
        good = shelf.find_playlist("index.m3u8")
        whole = PlaylistWindow.render

        def without_newest_segment(window: PlaylistWindow, hint: str = "") -> Playlist:
            newest = window.segments.pop()
            rendered = whole(window, hint)
            window.segments.append(newest)
            return rendered

        self.patch(PlaylistWindow, "render", without_newest_segment)
        with capturedLogs() as logged:
            feed(sink, source.take(1))
        self.assertIs(good, shelf.find_playlist("index.m3u8"))
        self.assertEqual([LogLevel.error], [event["log_level"] for event in logged])
        self.assertGreater(metrics.total("playlist_violations_total"), 0)
        self.patch(PlaylistWindow, "render", whole)
        feed(sink, source.take(1))
        self.assertIsNot(good, shelf.find_playlist("index.m3u8"))
