"""I-frame playlists of live streams: made of the shelf when they are asked for."""

from __future__ import annotations

import re
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.reader import read_fragments, read_init_segment
from rapidrtmp.hls.i_frames import i_frame_text
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.interfaces import IMMUTABLE, Playlist
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.read_multivariant import parse_multivariant_playlist
from rapidrtmp.m3u8.rules import multivariant_violations
from rapidrtmp.m3u8.transitions import PlaylistChecker
from rapidrtmp.media import MediaKind, Track
from rapidrtmp.names import StreamName
from rapidrtmp.testing.frames import audio_frames, interleaved, make_audio_track, make_video_track, video_frames
from rapidrtmp.testing.sinks import RecordingWriter, feed, make_sink_context, packaged
from tests.web.kit import Server

VIDEO, AUDIO = make_video_track(), make_audio_track()
BASE = "/live/k"


class LiveCase(SynchronousTestCase):
    """A live stream ``k``."""

    def setUp(self) -> None:
        self.server = Server()
        self.stream = self.server.live()

    def publish(self, *tracks: Track, seconds: int = 12, gop: int = 30, end: bool = False) -> None:
        context = make_sink_context(stream=StreamName("live", "k"), shelf=self.stream.shelf, storage=RecordingWriter())
        self.sink = packaged(HlsSinkFactory(segment="1s", window="6").create(context))
        video = [video_frames(each, seconds, gop=gop) for each in tracks if each.kind is MediaKind.VIDEO]
        audio = [audio_frames(each, seconds) for each in tracks if each.kind is MediaKind.AUDIO]
        self.sink.tracks_changed(tracks)
        feed(self.sink, interleaved(*video, *audio))
        if end:
            self.sink.finish()


class LivePicturesTests(LiveCase):
    def test_listed_beside_the_stream(self) -> None:
        """The multivariant playlist names it, with the codec of the pictures alone, and keeps the rules."""
        self.publish(VIDEO, AUDIO)
        multivariant = parse_multivariant_playlist(self.server.get(f"{BASE}/master.m3u8").body)
        self.assertEqual([], list(multivariant_violations(multivariant)))
        (listed,) = multivariant.i_frames
        self.assertEqual(("iframes.m3u8", "avc1.42c01f", "1280x720"), (listed.uri, listed.codecs, listed.resolution))
        self.assertLess(listed.bandwidth, multivariant.variants[0].bandwidth)

    def test_picture_of_each_segment(self) -> None:
        """It lists the same complete segments, each of them a keyframe that lasts as long, beside its init segment."""
        self.publish(VIDEO, AUDIO)
        whole = parse_media_playlist(self.server.get(f"{BASE}/index.m3u8").body)
        reply = self.server.get(f"{BASE}/iframes.m3u8")
        self.assertEqual("application/vnd.apple.mpegurl", reply.headers["content-type"])
        pictures = parse_media_playlist(reply.body)
        self.assertEqual([], list(PlaylistChecker().check(pictures)))
        self.assertTrue(pictures.i_frames_only)
        for each, picture in zip(whole.segments, pictures.segments, strict=True):
            same = ("sequence", "duration_us", "date_us", "discontinuity")
            self.assertEqual([getattr(each, name) for name in same], [getattr(picture, name) for name in same])
            assert picture.init is not None
            init = self.server.get(f"{BASE}/{picture.init.uri}")
            found = self.server.get(f"{BASE}/{picture.uri}")
            self.assertEqual((200, IMMUTABLE), (found.status, found.headers["cache-control"]))
            (fragment,) = read_fragments(found.body, read_init_segment(init.body))
            ((_, _, (sample,)),) = fragment.tracks
            self.assertTrue(sample.keyframe)
            self.assertEqual(each.duration_us, sample.duration * 1_000_000 // 90_000)
            segment = self.server.get(f"{BASE}/{each.uri}").body
            self.assertIn(sample.payload, segment)

    def test_answers_like_other_media(self) -> None:
        """Ranges, HEAD and entity tags are as those of any segment; the playlist is compressed."""
        self.publish(VIDEO)
        uri = parse_media_playlist(self.server.get(f"{BASE}/iframes.m3u8").body).segments[0].uri
        whole = self.server.get(f"{BASE}/{uri}")
        part = self.server.get(f"{BASE}/{uri}", Range="bytes=5-9")
        self.assertEqual((206, whole.body[5:10]), (part.status, part.body))
        self.assertEqual(304, self.server.get(f"{BASE}/{uri}", If_None_Match=whole.headers["etag"]).status)
        head = self.server.request("HEAD", f"{BASE}/{uri}")
        self.assertEqual((whole.headers["content-length"], b""), (head.headers["content-length"], head.body))
        zipped = self.server.get(f"{BASE}/iframes.m3u8", Accept_Encoding="gzip")
        self.assertEqual("gzip", zipped.headers["content-encoding"])

    def test_ends_with_the_stream(self) -> None:
        """It is final when the stream is."""
        self.publish(VIDEO, end=True)
        self.assertTrue(parse_media_playlist(self.server.get(f"{BASE}/iframes.m3u8").body).ended)

    def test_sound_has_no_pictures(self) -> None:
        """A stream of audio alone has none, and does not say so."""
        self.publish(AUDIO)
        self.assertNotIn(b"I-FRAME", self.server.get(f"{BASE}/master.m3u8").body)
        self.assertEqual(404, self.server.get(f"{BASE}/iframes.m3u8").status)

    def test_segments_without_keyframe(self) -> None:
        """Where keyframes are rare, what lies between them is listed as a gap."""
        self.publish(VIDEO, seconds=40, gop=30 * 15)
        pictures = parse_media_playlist(self.server.get(f"{BASE}/iframes.m3u8").body)
        gaps = [segment for segment in pictures.segments if segment.gap]
        self.assertTrue(gaps)
        self.assertLess(len(gaps), len(pictures.segments))
        for segment in pictures.segments:
            self.assertEqual(404 if segment.gap else 200, self.server.get(f"{BASE}/{segment.uri}").status)

    def test_nothing_else_is_found(self) -> None:
        """What is no picture of something there is not served, and a stream without playlist is asked again."""
        self.assertEqual(404, self.server.get(f"{BASE}/iframes.m3u8").status)
        self.publish(VIDEO)
        for name in (f"iframe_{rest}" for rest in ("1.m4s", ".m4s", "x.m4s", "init_1.mp4", "index.m3u8", "")):
            self.assertEqual(404, self.server.get(f"{BASE}/{name}").status, name)
        self.assertEqual(404, self.server.get("/live/gone/iframes.m3u8").status)

    def test_sizes_of_the_picture(self) -> None:
        """Another size of the picture has one of its own, below its folder."""
        small = replace(make_video_track(640, 360, id=3), name="small")
        self.publish(VIDEO, AUDIO, small)
        text = self.server.get(f"{BASE}/master.m3u8").text()
        self.assertEqual(["iframes.m3u8", "video-1/iframes.m3u8"], re.findall(r'I-FRAME.*URI="(.*)"', text))
        pictures = parse_media_playlist(self.server.get(f"{BASE}/video-1/iframes.m3u8").body)
        for segment in pictures.segments:
            self.assertEqual(200, self.server.get(f"{BASE}/video-1/{segment.uri}").status)


class NamingTests(LiveCase):
    def test_missing_pictures_stay_gaps(self) -> None:
        """A gap is said once, whatever the reason for it."""
        text = (
            b"#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:5\n"
            b'#EXT-X-DISCONTINUITY-SEQUENCE:0\n#EXT-X-MAP:URI="init_5.mp4"\n'
            b"#EXT-X-GAP\n#EXTINF:2.00000,\nsegment_5.m4s\n#EXTINF:2.00000,\nsegment_6.m4s\n"
        )
        playlist = Playlist(text, None, 6, 0, 0, 2000, 0, False, 5)
        made = parse_media_playlist(i_frame_text(playlist, {5, 6}))
        self.assertEqual((), made.problems)
        self.assertEqual([True, True], [segment.gap for segment in made.segments])
