from __future__ import annotations

import gzip
import json
from typing import Any
from unittest.mock import patch
from urllib.parse import urlencode

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rapidrtmp.archive.layout import RecordingId
from rapidrtmp.archive.movie import movie_steps
from rapidrtmp.cmaf.reader import read_boxes, read_fragments, read_init_segment
from rapidrtmp.errors import NotFoundError, RapidRTMPError
from rapidrtmp.http.errors import NotYetError, RangeNotSatisfiableError
from rapidrtmp.interfaces import (
    IMMUTABLE,
    BadRequestError,
    ConflictError,
    IRecorderFactory,
    IStorageRedirect,
    Request,
    Response,
    RetentionRules,
    StreamedResponse,
)
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.read_multivariant import parse_multivariant_playlist
from rapidrtmp.m3u8.rules import multivariant_violations
from rapidrtmp.m3u8.transitions import PlaylistChecker
from rapidrtmp.names import BadNameError, StreamName
from rapidrtmp.recording.http import Recordings
from rapidrtmp.recording.libraries import Libraries
from rapidrtmp.recording.library import Library
from rapidrtmp.recording.sink import RecorderFactory
from rapidrtmp.storage.memory import MemoryStorage
from rapidrtmp.testing.sinks import FrameCollectorFactory
from tests.recording.recordings import ID, read_all, record, store
from tests.slow import slow
from tests.web.kit import Server


@implementer(IRecorderFactory)
class ArchiveFactory(FrameCollectorFactory):
    """A recorder that is called as its application likes."""

    retention = RetentionRules()


class RecordingsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.recorders = ArchiveFactory()
        self.use(store(record()))

    def use(self, storage: MemoryStorage) -> None:
        self.storage, self.clock = storage, Clock()
        libraries = Libraries({}, Library(storage, self.clock))
        self.recordings = Recordings(libraries, self.server.registry, self.server.apps)

    def get(self, name: str, *, method: str = "GET", id: RecordingId = ID, query: str = "", **headers: str) -> Response:
        fields = {key.replace("_", "-"): value for key, value in headers.items()}
        answer = self.recordings.media(Request(method, query, fields, "", ""), *id[:3], name, id.rendition)
        return self.successResultOf(answer)

    def fails(
        self, error: type[RapidRTMPError], name: str, *, query: str = "", id: RecordingId = ID, **headers: str
    ) -> Any:
        answer = self.recordings.media(Request("GET", query, headers, "", ""), *id[:3], name, id.rendition)
        return self.failureResultOf(answer, error).value

    def body(self, response: Response) -> bytes:
        """The body as it is sent, of the size that is promised."""
        assert isinstance(response, StreamedResponse)
        body: bytes = self.successResultOf(Deferred.fromCoroutine(read_all(response.open())))
        self.assertEqual(response.size, len(body))
        return body


class MediaTests(RecordingsCase):
    def test_finished_playlist_may_be_kept(self) -> None:
        """The playlist of a finished recording is final, and may be kept."""
        response = self.get("index.m3u8")
        self.assertEqual("application/vnd.apple.mpegurl", response.headers["Content-Type"])
        self.assertEqual("public, max-age=3600", response.headers["Cache-Control"])
        self.assertEqual("*", response.headers["Access-Control-Allow-Origin"])
        self.assertIn(b"#EXT-X-ENDLIST", response.body)
        zipped = self.get("index.m3u8", accept_encoding="gzip")
        self.assertEqual((response.body, "gzip"), (gzip.decompress(zipped.body), zipped.headers["Content-Encoding"]))
        self.assertEqual(304, self.get("index.m3u8", if_none_match=response.headers["ETag"]).status)
        self.assertNotEqual(response.headers["ETag"], zipped.headers["ETag"])

    @slow
    def test_what_the_playlist_names(self) -> None:
        """Everything that a playlist names can be had, and is together the recording."""
        lines = self.get("index.m3u8").body.decode().splitlines()
        names = [line for line in lines if not line.startswith("#")]
        media = b"".join(self.body(self.get(name)) for name in ("init.mp4", *names))
        fragments = read_fragments(media, read_init_segment(media))
        self.assertEqual(14 * 30, sum(len(fragment.tracks[0].samples) for fragment in fragments))
        for name in ("init.mp4", names[0], "part_00000000_000.m4s"):
            self.assertEqual(IMMUTABLE, self.get(name).headers["Cache-Control"])

    def test_pictures_of_a_recording(self) -> None:
        """A picture of each segment can be had, beside the playlist that lists them and the one that names both."""
        multivariant = parse_multivariant_playlist(self.get("master.m3u8").body)
        self.assertEqual([], list(multivariant_violations(multivariant)))
        self.assertEqual(["index.m3u8"], [each.uri for each in multivariant.variants])
        self.assertEqual(["iframes.m3u8"], [each.uri for each in multivariant.i_frames])
        pictures = parse_media_playlist(self.get("iframes.m3u8").body)
        self.assertEqual([], list(PlaylistChecker().check(pictures)))
        self.assertEqual((True, "VOD", True), (pictures.i_frames_only, pictures.kind, pictures.ended))
        whole = parse_media_playlist(self.get("index.m3u8").body)
        self.assertEqual(len(whole.segments), len(pictures.segments))
        init = read_init_segment(self.body(self.get("iframe_init.mp4")))
        self.assertEqual(["vide"], [each.handler for each in init])
        for segment in pictures.segments:
            (fragment,) = read_fragments(self.body(self.get(segment.uri)), init)
            ((_, _, (sample,)),) = fragment.tracks
            self.assertTrue(sample.keyframe)
            self.assertEqual(segment.duration_us, sample.duration * 1_000_000 // 90_000)
        for name in ("iframe_00000099.m4s", "iframe_init_1.mp4", "iframe_part_00000000_000.m4s", "iframe_"):
            self.fails(NotFoundError, name)

    def test_growing_pictures_are_asked_again(self) -> None:
        """The pictures of what grows are listed as events, and asked for again."""
        self.use(store(record(7, finish=False)))
        for name in ("iframes.m3u8", "master.m3u8"):
            self.assertEqual("no-cache", self.get(name).headers["Cache-Control"])
        self.assertEqual("EVENT", parse_media_playlist(self.get("iframes.m3u8").body).kind)

    def test_growing_playlist_is_asked_again(self) -> None:
        """What grows must be asked for again; before its first segment there is nothing to play yet."""
        self.use(store(record(4, finish=False)))
        self.assertEqual("no-cache", self.get("index.m3u8").headers["Cache-Control"])
        self.assertNotIn(b"ENDLIST", self.get("index.m3u8").body)
        whole = self.body(self.get("recording.mp4"))
        self.use(store(record(2, finish=False)))
        for name in ("index.m3u8", "recording.mp4", "clip.mp4"):
            self.fails(NotYetError, name)
        self.use(store(record(7, finish=False)))
        self.assertTrue(self.body(self.get("recording.mp4")).startswith(whole), "a download can be resumed")

    def test_redirect_to_the_storage(self) -> None:
        """Where the storage lets clients fetch objects, one that is a single object is fetched from there."""

        @implementer(IStorageRedirect)
        class Redirecting(MemoryStorage):
            def redirect_url(self, key: str) -> Deferred[str | None]:
                return succeed(f"https://bucket.example/{key}?signed" if key.endswith("_000.m4s") else None)

        self.storage.__class__ = Redirecting
        part = self.get("part_00000000_000.m4s")
        self.assertEqual((307, "private, max-age=300"), (part.status, part.headers["Cache-Control"]))
        self.assertEqual("*", part.headers["Access-Control-Allow-Origin"])
        self.assertTrue(part.headers["Location"].endswith("/part_00000000_000.m4s?signed"))
        for name in ("part_00000000_001.m4s", "segment_00000000.m4s", "init.mp4"):
            self.assertEqual(200, self.get(name).status, name)

    def test_movie_has_the_promised_length(self) -> None:
        """The movie is one file of exactly the promised length, with an index, and named for what it is."""
        response = self.get("recording.mp4")
        media = self.body(response)
        kinds = [box.kind for box in read_boxes(media)]
        self.assertEqual(["ftyp", "moov", "sidx"], kinds[:3])
        self.assertEqual({"moof", "mdat"}, set(kinds[3:]))
        self.assertEqual("video/mp4", response.headers["Content-Type"])
        self.assertEqual('inline; filename="live-test-20260101T000000Z.mp4"', response.headers["Content-Disposition"])

    def test_ranges_of_the_same_file(self) -> None:
        """Any range is answered with just those bytes, and only as long as the file is the same."""
        whole = self.get("recording.mp4")
        media = self.body(whole)
        for start, stop in ((0, 10), (5_000, 60_000), (len(media) - 7, len(media))):
            part = self.get("recording.mp4", range=f"bytes={start}-{stop - 1}", if_range=whole.headers["ETag"])
            self.assertEqual((206, media[start:stop]), (part.status, self.body(part)))
            self.assertEqual(f"bytes {start}-{stop - 1}/{len(media)}", part.headers["Content-Range"])
        self.assertEqual(200, self.get("recording.mp4", range="bytes=0-1", if_range='"other"').status)
        self.assertEqual(200, self.get("recording.mp4", range="bytes=0-1", method="HEAD").status)
        self.assertEqual(304, self.get("recording.mp4", if_none_match=whole.headers["ETag"]).status)
        self.fails(RangeNotSatisfiableError, "recording.mp4", range=f"bytes={len(media)}-")

    def test_put_together_once(self) -> None:
        """The ranges of a movie do not each put it together; when it has grown it is put together anew."""
        with patch("rapidrtmp.recording.http.movie_steps", wraps=movie_steps) as made:
            for start in range(3):
                self.get("recording.mp4", range=f"bytes={start}-")
            self.assertEqual(1, made.call_count)
            self.use(store(record(4, finish=False)))
            short = self.get("recording.mp4").length
            self.recordings.libraries.of("live").storage = store(record(7, finish=False))
            self.clock.advance(2)
            self.assertGreater(self.get("recording.mp4").length, short)

    def test_clip_begins_at_a_keyframe(self) -> None:
        """A clip is named by dates or by times from the beginning, and begins at the keyframe before."""
        for limits in (
            {"from": "2026-01-01T00:00:05Z", "to": "2026-01-01T00:00:07Z"},
            {"from": "2026-01-01T01:00:05+01:00", "to": "2026-01-01T00:00:07"},
            {"from": "5s", "to": "7"},
        ):
            query = urlencode(limits)
            text = self.get("clip.m3u8", query=query).body.decode()
            names = [line for line in text.splitlines() if not line.startswith("#")]
            self.assertEqual([f"part_0000000{at}.m4s" for at in ("0_004", "0_005", "1_000")], names)
            media = self.body(self.get("clip.mp4", query=query))
            samples = [
                each for part in read_fragments(media, read_init_segment(media)) for each in part.tracks[0].samples
            ]
            self.assertEqual((90, True), (len(samples), samples[0].keyframe))

    def test_bad_clips_are_refused(self) -> None:
        """Limits that make no sense are refused; where nothing was recorded, nothing is found."""
        for query in ("from=now", "to=-5"):
            self.fails(BadRequestError, "clip.m3u8", query=query)
        for query in ("from=1h", "from=9&to=3", "from=5&to=5"):
            self.fails(NotFoundError, "clip.mp4", query=query)

    def test_missing_media_is_not_found(self) -> None:
        """What is not there is not found, and what is no media is not served."""
        for name in ("journal_000000.jsonl", "segment_00000009.m4s", "part_00000000_009.m4s", "x", "part_9.m4s"):
            self.fails(NotFoundError, name)
        self.fails(NotFoundError, "index.m3u8", id=ID._replace(key="other"))
        for bad in (("..", "x", ID.start), ("live", "test", "now")):
            self.assertRaises(NotFoundError, self.recordings.media, Request("GET", "", {}, "", ""), *bad, "index.m3u8")


class LibraryTests(RecordingsCase):
    def index(self, query: str = "") -> Any:
        return json.loads(self.successResultOf(self.recordings.index(Request("GET", query, {}, "", ""))).body)

    def ask(self, what: Any, body: object = None) -> Any:
        answer = what(Request("POST", "", {}, "", "", json.dumps(body).encode()), *ID[:3])
        return json.loads(self.successResultOf(answer).body)

    @slow
    def test_description_is_complete(self) -> None:
        """A recording is described with all that a player or an operator needs."""
        (described,) = self.index()["recordings"]
        self.assertGreater(described.pop("size"), 100_000)
        self.assertEqual(
            {
                "app": "live",
                "streamKey": "test",
                "start": "20260101T000000Z",
                "title": "",
                "state": "finished",
                "protected": False,
                "startedAt": "2026-01-01T00:00:00.000Z",
                "endedAt": "2026-01-01T00:00:14.000Z",
                "duration": 14.0,
                "segments": 3,
                "gaps": 0,
                "videoCodec": "avc1.42c01f",
                "audioCodec": "mp4a.40.2",
                "resolution": "1280x720",
                "renditions": [],
                "playlistUrl": "/recordings/live/test/20260101T000000Z/index.m3u8",
                "masterUrl": "/recordings/live/test/20260101T000000Z/master.m3u8",
                "movieUrl": "/recordings/live/test/20260101T000000Z/recording.mp4",
            },
            described,
        )
        shown = self.ask(self.recordings.show)
        self.assertEqual(described, {name: value for name, value in shown.items() if name != "size"})

    def test_filters_choose_recordings(self) -> None:
        """Recordings are found by application, key and the time at which they began."""
        self.use(store(record(1), record(1, stream=StreamName("live", "b")), record(1, stream=StreamName("tv", "b"))))
        for query, keys in (
            ("", ["tv/b", "live/test", "live/b"]),
            ("app=live", ["live/test", "live/b"]),
            ("streamKey=b", ["live/b"]),
            ("app=tv&streamKey=b", ["tv/b"]),
            ("from=2026-01-01T00:00:00Z", ["tv/b", "live/test", "live/b"]),
            ("from=2026-01-01T00:00:01Z", []),
            ("to=2026-01-01T00:00:00Z", []),
            ("page=1&itemsPerPage=2", ["live/b"]),
        ):
            found = [f"{each['app']}/{each['streamKey']}" for each in self.index(query)["recordings"]]
            self.assertEqual(keys, found, query)
        self.assertEqual(3, self.index("page=1&itemsPerPage=2")["total"])

    def test_bad_filters_are_refused(self) -> None:
        """A query that makes no sense is refused."""
        for query in ("page=x", "itemsPerPage=0", "from=tomorrow"):
            self.assertRaises(BadRequestError, self.recordings.index, Request("GET", query, {}, "", ""))
        self.assertRaises(BadNameError, self.recordings.index, Request("GET", "streamKey=..", {}, "", ""))

    def test_delete_unless_protected(self) -> None:
        """A recording can be deleted unless it is protected."""
        self.assertTrue(self.ask(self.recordings.protect, {"protected": True})["protected"])
        delete = self.recordings.delete(Request("DELETE", "", {}, "", ""), *ID[:3])
        self.failureResultOf(delete, ConflictError)
        self.assertFalse(self.ask(self.recordings.protect, {"protected": False})["protected"])
        self.assertGreater(self.ask(self.recordings.delete)["size"], 100_000)
        self.assertEqual({"recordings": [], "total": 0}, self.index())

    def test_bad_bodies_are_refused(self) -> None:
        """What says neither yes nor no is refused."""
        for body in (b"", b"[]", b"{}", b'{"protected": 1}'):
            request = Request("POST", "", {}, "", "", body)
            self.assertRaises(BadRequestError, self.recordings.protect, request, *ID[:3])


class ByHandTests(RecordingsCase):
    def record(self, action: object, key: str = "k") -> Any:
        body = json.dumps({"action": action}).encode()
        return json.loads(self.recordings.record(Request("POST", "", {}, "", "", body), key).body)

    def test_start_and_stop(self) -> None:
        """A live stream is recorded from its last keyframe on, until that is stopped."""
        stream = self.server.live()
        self.assertEqual({"recording": True, "streamKey": "k"}, self.record("start"))
        self.assertEqual(["record"], list(stream.sinks))
        self.assertIsInstance(stream.sinks["record"], RecorderFactory)
        self.assertEqual({"recording": False, "streamKey": "k"}, self.record("stop"))
        self.assertEqual([], list(stream.sinks))

    def test_recorder_of_the_application(self) -> None:
        """Whatever the recorder of an application is called, it is the one that is started and stopped."""
        self.server.apps["live"].sinks = {"hls": FrameCollectorFactory(), "archive": self.recorders}
        stream = self.server.live()
        stream.start_sink("archive", self.recorders)
        self.assertRaises(ConflictError, self.record, "start")
        self.assertEqual({"recording": False, "streamKey": "k"}, self.record("stop"))
        self.assertEqual("finish", self.recorders.collectors[stream.name].call_names[-1])
        self.record("start")
        self.assertEqual({"archive": self.recorders}, stream.sinks)
        self.assertEqual(30, len(self.recorders.collectors[stream.name].frames))

    def test_sink_called_record(self) -> None:
        """A sink that is only called like a recorder is none, and stays what it is."""
        stream = self.server.live()
        stream.start_sink("record", FrameCollectorFactory())
        self.record("start")
        self.assertEqual(["record", "record-2"], list(stream.sinks))
        self.record("stop")
        self.assertEqual(["record"], list(stream.sinks))

    def test_conflicts_of_starting_and_stopping(self) -> None:
        """What is recorded cannot be started, what is not cannot be stopped, and what has ended neither."""
        self.server.live()
        self.assertRaises(ConflictError, self.record, "stop")
        self.record("start")
        self.assertRaises(ConflictError, self.record, "start")
        ended = self.server.live("ended")
        self.server.registry.end(ended, "over")
        self.assertRaises(ConflictError, self.record, "start", "ended")

    def test_unknown_actions_are_refused(self) -> None:
        """Another action, and a stream that is not there, are refused."""
        self.assertRaises(BadRequestError, self.record, "pause")
        self.assertRaises(BadRequestError, self.record, None)
        self.assertRaises(NotFoundError, self.record, "start")
