"""Clips by the wall clock of what was recorded in several pieces."""

from __future__ import annotations

from urllib.parse import urlencode

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.reader import read_boxes, read_fragments, read_init_segment
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track
from rapidrtmp.testing.sinks import RecordingWriter, feed, make_sink_context
from tests.recording.recordings import store_into
from tests.recording.test_sink import make_recorder
from tests.slow import slow
from tests.web.kit import Reply, Server

FOLDER = "/recordings/live/test"


def rotated() -> RecordingWriter:
    """A stream of 40 seconds from midnight on, recorded in pieces of 15 s."""
    writer = RecordingWriter()
    recorder = make_recorder(make_sink_context(storage=writer), every_ms=15_000)
    source = FrameSource(make_video_track(), make_audio_track(), gop=60)
    recorder.tracks_changed(source.tracks)
    feed(recorder, source.take(20))
    recorder.finish()
    return writer


def date(second: float) -> str:
    return f"2026-01-01T00:00:{second:06.3f}Z"


class RecordedClipTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.writer = rotated()
        store_into(self.server.storage, self.writer)
        self.starts = sorted({key.split("/")[3] for key in self.writer.objects if not key.startswith("recordings/.")})

    def get(self, name: str, **query: str) -> Reply:
        return self.server.get(f"{FOLDER}/{name}?{urlencode(query)}")

    def frames_of(self, media: bytes) -> int:
        """How many frames of video there are."""
        fragments = read_fragments(media, read_init_segment(media))
        return sum(len(track.samples) for each in fragments for track in each.tracks[:1])

    def test_rotated_stream_has_three_recordings(self) -> None:
        """The stream of these tests lies in three recordings."""
        self.assertEqual(3, len(self.starts))

    @slow
    def test_playlist_goes_through_all_recordings(self) -> None:
        """A playlist goes through all the recordings that the time touches, each behind a discontinuity."""
        reply = self.get("clip.m3u8", **{"from": date(8), "to": date(37)})
        self.assertEqual((200, "public, max-age=3600"), (reply.status, reply.headers["cache-control"]))
        playlist = parse_media_playlist(reply.body)
        self.assertEqual(((), True), (playlist.problems, playlist.ended))
        self.assertEqual(2, sum(segment.discontinuity for segment in playlist.segments))
        folders = [segment.uri.partition("/")[0] for segment in playlist.segments]
        self.assertEqual(self.starts, list(dict.fromkeys(folders)))
        frames = 0
        for segment in playlist.segments:
            assert segment.init is not None
            init, media = (self.server.get(f"{FOLDER}/{uri}") for uri in (segment.init.uri, segment.uri))
            self.assertEqual((200, 200), (init.status, media.status))
            frames += self.frames_of(init.body + media.body)
        self.assertApproximates(30 * 29, frames, 60)

    def test_one_recording_gives_a_file(self) -> None:
        """What lies in one recording can be had as a file, with an index, as a clip of that recording."""
        reply = self.get("clip.mp4", **{"from": date(4), "to": date(8)})
        self.assertEqual((200, "video/mp4"), (reply.status, reply.headers["content-type"]))
        self.assertEqual(["ftyp", "moov", "sidx"], [box.kind for box in read_boxes(reply.body)][:3])
        self.assertEqual(120, self.frames_of(reply.body))
        same = self.server.get(f"{FOLDER}/{self.starts[0]}/clip.mp4?{urlencode({'from': date(4), 'to': date(8)})}")
        self.assertEqual(same.body, reply.body)

    def test_several_recordings_give_no_file(self) -> None:
        """Across a rotation there is no file; the answer names the files that there are, and these are all of it."""
        refused = self.get("clip.mp4", **{"from": date(8), "to": date(37)})
        self.assertEqual(409, refused.status)
        spans = refused.json()["spans"]
        self.assertEqual(3, len(spans))
        replies = [self.get("clip.mp4", **span) for span in spans]
        self.assertEqual([200] * 3, [reply.status for reply in replies])
        self.assertApproximates(30 * 29, sum(self.frames_of(reply.body) for reply in replies), 60)

    def test_bad_dates_are_refused(self) -> None:
        """Two dates are needed; of dates out of order, of other times, streams and names there is nothing."""
        for query in ({}, {"from": date(1)}, {"from": "90s", "to": "95s"}):
            reply = self.get("clip.mp4", **query)
            self.assertEqual(400, reply.status, query)
        reply = self.get("clip.mp4", **{"from": date(9), "to": date(8)})
        self.assertEqual((404, True), (reply.status, "from is not before to" in reply.json()["error"]))
        past = {"from": "2025-01-01T00:00:00Z", "to": "2025-01-01T01:00:00Z"}
        self.assertEqual(404, self.get("clip.mp4", **past).status)
        self.assertEqual(404, self.server.get(f"{FOLDER}x/clip.mp4?{urlencode(past)}").status)
        self.assertEqual(404, self.get("index.m3u8").status)

    def test_deleted_recording_is_left_out(self) -> None:
        """A recording that is gone is left out."""
        self.server.request("DELETE", f"/api/v1{FOLDER}/{self.starts[1]}")
        playlist = parse_media_playlist(self.get("clip.m3u8", **{"from": date(8), "to": date(37)}).body)
        folders = {segment.uri.partition("/")[0] for segment in playlist.segments}
        self.assertEqual({self.starts[0], self.starts[2]}, folders)

    def test_too_many_recordings_are_refused(self) -> None:
        """A clip of more recordings than two days have hours is refused, and none of them is read."""
        for number in range(60):
            name = f"20250101T0000{number:02d}Z"
            self.server.storage.put(f"recordings/.catalogue/live/test/{name}.json", b"{}", "", "")
        reply = self.get("clip.m3u8", **{"from": "2025-01-01T00:00:00Z", "to": "2025-01-02T00:00:00Z"})
        self.assertEqual(409, reply.status)
        self.assertIn("60 recordings", reply.json()["error"])
