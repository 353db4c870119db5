"""Segments that have left the shelf, and clips of a live stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from urllib.parse import urlencode

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.archive import clip
from rapidrtmp.cmaf.reader import read_boxes, read_fragments, read_init_segment
from rapidrtmp.hls.rewind import http as rewind_http
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.interfaces import IMMUTABLE
from rapidrtmp.m3u8.model import MediaPlaylist
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.read_multivariant import parse_multivariant_playlist
from rapidrtmp.m3u8.rules import multivariant_violations
from rapidrtmp.m3u8.transitions import PlaylistChecker
from rapidrtmp.names import StreamName
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track, video_frames
from rapidrtmp.testing.sinks import RecordingWriter, feed, make_sink_context, packaged
from tests.slow import slow
from tests.web.kit import Server

#: Where the timeline of the tests' sinks begins; segments last a second.
DATE = "2026-01-01T00:00:{:02d}Z"


class RewindCase(SynchronousTestCase):
    """A live stream ``k`` of half a minute with a short playlist of four segments, and all of it in the storage."""

    policy: ClassVar[Mapping[str, object]] = {}

    def setUp(self) -> None:
        self.server = Server(**self.policy)
        self.stream = self.server.live()
        self.writer = RecordingWriter()
        context = make_sink_context(stream=StreamName("live", "k"), shelf=self.stream.shelf, storage=self.writer)
        self.sink = packaged(HlsSinkFactory(segment="1s", window="4", dvr="1m").create(context))
        self.source = FrameSource(make_video_track(), make_audio_track(), gop=30)
        self.sink.tracks_changed(self.source.tracks)
        feed(self.sink, self.source.take(30))
        self.store()

    def store(self) -> None:
        for key, data in self.writer.objects.items():
            self.server.storage.put(key, data, "", "")

    def video_times(self, media: bytes) -> list[float]:
        """The decode times of all video frames, in seconds."""
        fragments = read_fragments(media, read_init_segment(media))
        return [
            sample.dts / 90_000 for fragment in fragments for track in fragment.tracks[:1] for sample in track.samples
        ]

    def count_reads(self) -> Counter[str]:
        """Count from now on what the storage is asked for, by the names of its methods."""
        asked: Counter[str] = Counter()

        def counting(name: str) -> Callable[..., Any]:
            method = getattr(self.server.storage, name)

            def counted(*arguments: Any) -> Any:
                asked[name] += 1
                return method(*arguments)

            return counted

        for name in ("get", "stat", "list"):
            self.patch(self.server.storage, name, counting(name))
        return asked


class SegmentTests(RewindCase):
    def test_everything_is_there(self) -> None:
        """All that the long playlist names can be fetched under its URL, on the shelf or not, whole or in ranges."""
        playlist = parse_media_playlist(self.server.get("/live/k/dvr.m3u8").body)
        self.assertGreater(len(playlist.segments), 25)
        self.assertIsNone(self.stream.shelf.find(playlist.segments[0].uri))
        for segment in playlist.segments:
            reply = self.server.get(f"/live/k/{segment.uri}")
            self.assertEqual((200, self.writer.objects[f"live/k/{segment.uri}"]), (reply.status, reply.body))
            self.assertEqual(IMMUTABLE, reply.headers["cache-control"])
            self.assertEqual("video/iso.segment", reply.headers["content-type"])
        first = f"/live/k/{playlist.segments[0].uri}"
        whole = self.server.get(first)
        part = self.server.get(first, Range="bytes=5-9")
        self.assertEqual((206, whole.body[5:10]), (part.status, part.body))
        self.assertEqual(304, self.server.get(first, If_None_Match=whole.headers["etag"]).status)
        head = self.server.request("HEAD", first)
        self.assertEqual(whole.headers["content-length"], head.headers["content-length"])

    def test_before_the_window_is_back(self) -> None:
        """What is stored can be fetched while the long playlist is still to come, as it is after a kill."""
        uri = parse_media_playlist(self.server.get("/live/k/dvr.m3u8").body).segments[0].uri
        self.stream.shelf.withdraw("dvr.m3u8")
        self.assertEqual(404, self.server.get(f"/live/k/{uri}").status)
        self.stream.shelf.announce("dvr.m3u8")
        self.assertEqual(200, self.server.get(f"/live/k/{uri}").status)
        self.assertEqual(404, self.server.get("/live/k/segment_1.m4s").status)

    def test_delta_of_the_long_playlist(self) -> None:
        """A player that has the long playlist gets only its end, compressed if it likes."""
        whole, delta = self.server.get("/live/k/dvr.m3u8"), self.server.get("/live/k/dvr.m3u8?_HLS_skip=YES")
        self.assertIn("#EXT-X-SKIP:SKIPPED-SEGMENTS=", delta.text())
        self.assertLess(len(delta.body), len(whole.body) / 2)
        self.assertEqual(whole.text(), self.server.get("/live/k/dvr.m3u8", Accept_Encoding="gzip").text())

    def test_nothing_else_is_served(self) -> None:
        """What was never a segment, the journal, and what other streams stored, is not served."""
        (page,) = [key.rpartition("/")[2] for key in self.writer.objects if key.endswith(".jsonl")]
        for name in (page, "state.json", "segment_1.m4s", "segment_x.m4s", "init_1.mp4"):
            self.assertEqual(404, self.server.get(f"/live/k/{name}").status, name)
        name = next(key for key in self.writer.objects if key.endswith(".m4s")).rpartition("/")[2]
        self.server.live("plain")
        self.server.storage.put(f"live/plain/{name}", b"secret", "", "")
        self.assertEqual(404, self.server.get(f"/live/plain/{name}").status, "it has no rewind window")
        self.assertEqual(404, self.server.get(f"/live/gone/{name}").status)

    def test_unknown_costs_nothing(self) -> None:
        """Names of what was never stored, or cannot be yet, are refused without asking the storage for each."""
        listed = parse_media_playlist(self.server.get("/live/k/dvr.m3u8").body).segments
        last = int(listed[-1].uri.removeprefix("segment_").removesuffix(".m4s"))
        self.server.get("/live/k/segment_1.m4s")
        asked = self.count_reads()
        for number in (0, 1, 99, last - 1000, last + 2, last + 1000, 10**19):
            for name in (f"segment_{number}.m4s", f"init_{number}.mp4"):
                self.assertEqual(404, self.server.get(f"/live/k/{name}").status, name)
        self.assertEqual(0, asked.total(), asked)
        self.assertEqual(200, self.server.get(f"/live/k/{listed[0].uri}").status)


class PictureTests(RewindCase):
    def test_picture_of_each_segment(self) -> None:
        """The I-frame playlist lists what the long one does, and each picture is cut out of what is stored."""
        playlist = parse_media_playlist(self.server.get("/live/k/dvr.m3u8").body)
        reply = self.server.get("/live/k/dvr_iframes.m3u8")
        pictures = parse_media_playlist(reply.body)
        self.assertEqual([], list(PlaylistChecker().check(pictures)))
        self.assertTrue(pictures.i_frames_only)
        self.assertEqual([each.date_us for each in playlist.segments], [each.date_us for each in pictures.segments])
        init = self.server.get(f"/live/k/{pictures.segments[0].init.uri}")
        self.assertEqual((200, ["vide"]), (init.status, [each.handler for each in read_init_segment(init.body)]))
        for segment in pictures.segments:
            found = self.server.get(f"/live/k/{segment.uri}")
            self.assertEqual(200, found.status, segment.uri)
            (fragment,) = read_fragments(found.body, read_init_segment(init.body))
            ((_, _, (sample,)),) = fragment.tracks
            self.assertEqual((True, 90_000), (sample.keyframe, sample.duration))

    def test_named_with_the_long_playlist(self) -> None:
        """A multivariant playlist names the long playlist and its pictures, for players that show these."""
        multivariant = parse_multivariant_playlist(self.server.get("/live/k/dvr_master.m3u8").body)
        self.assertEqual([], list(multivariant_violations(multivariant)))
        self.assertEqual(["dvr.m3u8"], [each.uri for each in multivariant.variants])
        self.assertEqual(["dvr_iframes.m3u8"], [each.uri for each in multivariant.i_frames])

    def test_pictures_of_nothing(self) -> None:
        """What is not there has no picture, and a stream without a rewind window no playlist of them."""
        last = parse_media_playlist(self.server.get("/live/k/dvr.m3u8").body).segments[-1].sequence
        asked = self.count_reads()
        for number in (1, last + 99):
            for name in (f"iframe_{number}.m4s", f"iframe_init_{number}.mp4"):
                self.assertEqual(404, self.server.get(f"/live/k/{name}").status, name)
        self.assertEqual(0, asked["get"] + asked["stat"] - 1, "but for the page that is written")
        self.server.live("plain")
        self.assertEqual(404, self.server.get("/live/plain/dvr_iframes.m3u8").status)


class LongGopPictureTests(SynchronousTestCase):
    def test_gaps_where_there_is_no_keyframe(self) -> None:
        """Segments that begin with no keyframe are gaps among the pictures, as the journal has it."""
        server = Server()
        stream = server.live()
        writer = RecordingWriter()
        context = make_sink_context(stream=StreamName("live", "k"), shelf=stream.shelf, storage=writer)
        sink = packaged(HlsSinkFactory(segment="1s", window="4", dvr="2m").create(context))
        source = FrameSource(make_video_track(), None, gop=15 * 30)
        sink.tracks_changed(source.tracks)
        feed(sink, source.take(4))
        for key, data in writer.objects.items():
            server.storage.put(key, data, "", "")
        pictures = parse_media_playlist(server.get("/live/k/dvr_iframes.m3u8").body)
        self.assertEqual([False, True], sorted({segment.gap for segment in pictures.segments}))
        for segment in pictures.segments:
            self.assertEqual(404 if segment.gap else 200, server.get(f"/live/k/{segment.uri}").status)


class ClipTests(RewindCase):
    def clip(self, query: str) -> bytes:
        reply = self.server.get(f"/live/k/clip.mp4?{query}")
        self.assertEqual(200, reply.status, reply.body)
        self.assertEqual(reply.headers["content-length"], str(len(reply.body)))
        return reply.body

    def test_dates_cut_at_keyframes(self) -> None:
        """A clip by the wall clock begins with the keyframe at or before it, and has an index."""
        media = self.clip(f"from={DATE.format(10)}&to={DATE.format(15)}")
        self.assertEqual(["ftyp", "moov", "sidx"], [box.kind for box in read_boxes(media)][:3])
        times = self.video_times(media)
        self.assertEqual((150, 10.0), (len(times), round(times[0], 1)))
        exact = self.clip("from=2026-01-01T00:00:10.500Z&to=2026-01-01T00:00:14.200Z")
        self.assertEqual(media, exact)

    @slow
    def test_from_the_edge(self) -> None:
        """Limits can be given from the live edge backwards, and left out."""
        listed = parse_media_playlist(self.server.get("/live/k/dvr.m3u8").body).segments
        last = round(float(len(listed)))
        times = self.video_times(self.clip("from=-5s&to=-2s"))
        self.assertEqual((90, last - 5), (len(times), round(times[0])))
        self.assertEqual(5 * 30, len(self.video_times(self.clip("from=-5s"))))
        self.assertEqual(last * 30, len(self.video_times(self.clip(""))))

    def test_playlist_of_a_clip_is_final(self) -> None:
        """As a playlist it is final, and names segments that can be fetched beside it."""
        reply = self.server.get(f"/live/k/clip.m3u8?from={DATE.format(3)}&to={DATE.format(6)}")
        playlist = parse_media_playlist(reply.body)
        self.assertTrue(playlist.ended)
        self.assertEqual(3, len(playlist.segments))
        init = playlist.segments[0].init
        assert init is not None
        names = [init.uri, *(segment.uri for segment in playlist.segments)]
        media = b"".join(self.server.get(f"/live/k/{name}").body for name in names)
        self.assertEqual(90, len(self.video_times(media)))

    def change_tracks(self) -> None:
        """Another publish of another size, three seconds after the end of the first and for six seconds."""
        self.sink.discontinuity()
        other = make_video_track(640, 360)
        self.sink.tracks_changed((other,))
        feed(self.sink, video_frames(other, 6, gop=30, start=31 * 90_000, size=100))
        self.store()

    def test_one_of_the_tracks(self) -> None:
        """On each side of a change of the tracks, clips are files with their own init segments."""
        self.change_tracks()
        before, after = self.clip("from=-9s&to=-6s"), self.clip("from=-2s")
        self.assertEqual((27.0, 30.0), (self.video_times(before)[0], round(self.video_times(before)[-1])))
        self.assertEqual(34.0, self.video_times(after)[0])
        self.assertNotEqual(before[: before.index(b"sidx")], after[: after.index(b"sidx")])

    def test_tracks_change_names_the_clips(self) -> None:
        """Across such a change there is no file, but the answer names those that there are, and these are all of it."""
        self.change_tracks()
        reply = self.server.get("/live/k/clip.mp4?from=-9s")
        self.assertEqual((409, "no-store"), (reply.status, reply.headers["cache-control"]))
        self.assertIn("the tracks or the recording change in that time", reply.json()["error"])
        first, second = reply.json()["spans"]
        times = [self.video_times(self.clip(urlencode(span))) for span in (first, second)]
        self.assertEqual([27.0, 31.0], [each[0] for each in times])
        playlist = parse_media_playlist(self.server.get("/live/k/clip.m3u8?from=-9s").body)
        self.assertEqual(self.frames_of(playlist), sum(map(len, times)))

    def test_playlist_across_a_change(self) -> None:
        """A playlist continues behind a discontinuity with the other init segment, and every segment is there."""
        self.change_tracks()
        playlist = parse_media_playlist(self.server.get("/live/k/clip.m3u8?from=-9s").body)
        self.assertEqual((), playlist.problems)
        self.assertTrue(playlist.ended)
        changes = [at for at, segment in enumerate(playlist.segments) if segment.discontinuity]
        self.assertEqual(1, len(changes))
        inits = [segment.init.uri for segment in playlist.segments if segment.init]
        self.assertEqual(1, len(set(inits[: changes[0]])))
        self.assertEqual(1, len(set(inits[changes[0] :])))
        self.assertEqual(2, len(set(inits)))
        self.assertGreater(self.frames_of(playlist), 200)

    def frames_of(self, playlist: MediaPlaylist) -> int:
        """How many frames of video all of its segments hold, each read with its own init segment."""
        count = 0
        for segment in playlist.segments:
            assert segment.init is not None
            init, media = (self.server.get(f"/live/k/{uri}").body for uri in (segment.init.uri, segment.uri))
            count += len(self.video_times(init + media))
        return count

    def test_clip_is_made_once(self) -> None:
        """A clip is made for the first that asks for it; for the others, and for HEAD, nothing is read but media."""
        query = f"from={DATE.format(10)}&to={DATE.format(15)}"
        first = self.clip(query)
        self.server.get(f"/live/k/clip.m3u8?{query}")
        asked = self.count_reads()
        head = self.server.request("HEAD", f"/live/k/clip.mp4?{query}")
        self.assertEqual(str(len(first)), head.headers["content-length"])
        self.server.get(f"/live/k/clip.m3u8?{query}")
        self.assertEqual(0, asked.total(), asked)
        self.assertEqual(first, self.clip(query))
        self.assertEqual({"get": 5}, asked, "the segments themselves")

    def test_grown_pages_are_read_again(self) -> None:
        """With each segment more the edge is another, and a page that was read once is read again only if it grew."""
        before = self.clip("from=-5s")
        asked = self.count_reads()
        feed(self.sink, self.source.take(2))
        self.store()
        self.assertNotEqual(before, self.clip("from=-5s"))
        self.assertEqual(1, asked["list"])
        self.assertEqual(1 + 5, asked["get"], "the page that grew, and the segments")

    def test_not_yet_written(self) -> None:
        """While the page that lists the newest segment is on its way, the storage is asked once a second for it."""
        (page,) = [key for key in self.writer.objects if key.endswith(".jsonl")]
        older = self.writer.objects[page]
        feed(self.sink, self.source.take(2))
        newer = self.writer.objects[page]
        self.store()
        self.server.storage.put(page, older, "", "")
        before = self.clip("from=-5s")
        asked = self.count_reads()
        self.server.storage.put(page, newer, "", "")
        self.assertEqual(before, self.clip("from=-5s"))
        self.assertEqual(0, asked["list"])
        self.server.clock.advance(1)
        self.assertNotEqual(before, self.clip("from=-5s"))

    def test_damaged_page_is_left_out(self) -> None:
        """A page that cannot be read is named, and left out; clips of what others describe are cut as before."""
        self.change_tracks()
        page = min(key for key in self.writer.objects if key.endswith(".jsonl"))
        self.server.storage.put(page, b"damaged", "", "")
        with capturedLogs() as logs:
            self.assertEqual(
                404, self.server.get(f"/live/k/clip.mp4?from={DATE.format(10)}&to={DATE.format(15)}").status
            )
        self.assertEqual([page.rpartition("/")[2]], [str(event["page"]) for event in logs if "page" in event])
        self.assertEqual(34.0, self.video_times(self.clip("from=-2s"))[0])

    def test_too_long_clip_is_refused(self) -> None:
        """A clip of more segments than one may have is refused in words, also where they are known from names alone."""
        self.patch(clip, "MAX_CLIP_SEGMENTS", 12)
        self.patch(rewind_http, "MAX_CLIP_SEGMENTS", 12)
        self.change_tracks()
        for query in ("", f"from={DATE.format(2)}", f"from={DATE.format(2)}&to={DATE.format(20)}"):
            reply = self.server.get(f"/live/k/clip.m3u8?{query}")
            self.assertEqual(409, reply.status, query)
            self.assertIn("a clip has 12 at most", reply.json()["error"])
        self.assertEqual(200, self.server.get("/live/k/clip.m3u8?from=-9s").status)

    def test_ended_stream_still_has_clips(self) -> None:
        """Clips can be cut from a stream that has ended, as long as its playlists are there."""
        self.sink.finish()
        self.store()
        self.assertEqual(90, len(self.video_times(self.clip(f"from={DATE.format(5)}&to={DATE.format(8)}"))))

    def test_refused_limits_are_named(self) -> None:
        """Limits that make no sense are refused in words; of another time there is nothing."""
        for query in ("from=now", "from=90s", "to=-x"):
            reply = self.server.get(f"/live/k/clip.mp4?{query}")
            self.assertEqual(400, reply.status, query)
        reply = self.server.get("/live/k/clip.mp4?from=-5s&to=-9s")
        self.assertEqual((404, True), (reply.status, "from is not before to" in reply.json()["error"]))
        self.assertEqual(404, self.server.get("/live/k/clip.mp4?to=2025-01-01T00:00:00Z").status)
        self.assertEqual(404, self.server.get("/live/gone/clip.m3u8").status)
        self.server.live("plain")
        self.assertEqual(404, self.server.get("/live/plain/clip.m3u8").status)
