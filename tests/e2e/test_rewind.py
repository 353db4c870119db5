"""Rewinding with the real things: FFmpeg publishes and plays, the server is killed in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.e2e.ffmpeg import CLIPS, FFMPEG, decode, read_packets
from tests.e2e.harness import EndToEndTest, Server, eventually, new_folder
from tests.e2e.playlists import parse_media_playlist

SETTINGS = """
[server]
sinks = ["hls:segment=1s:window=3:dvr=2m"]
"""
CLIP = CLIPS["plain"]
FOREVER = ["-stream_loop", "-1"]


class RewindTests(EndToEndTest):
    def test_rewind_plays_what_was_forgotten(self) -> None:
        """All that the short playlist has forgotten can be played, and cut into clips, also after a kill."""
        server = self.start_server(SETTINGS)
        publisher = self.publish(FFMPEG, CLIP.path, server.issue_token("cam").publish_url, FOREVER)
        first = self.listed(server, 12)
        self.assertLess(len(parse_media_playlist(server.get("/live/cam/index.m3u8").text).segments), 8)
        self.check_all(server, first)
        self.check_clips(server)
        server.kill()
        publisher.kill()
        again = self.start_again(server)
        self.check_all(again, first)
        publisher = self.publish(FFMPEG, CLIP.path, again.issue_token("cam").publish_url, FOREVER)
        later = self.listed(again, len(first) + 8, since_change=7)
        self.assertEqual(first[0].sequence, later[0].sequence, "nothing was forgotten")
        self.assertTrue(any(segment.discontinuity for segment in later))
        self.check_all(again, [segment for segment in later if not segment.gap])
        self.check_clips(again)
        self.check_clip_of_both(again)
        publisher.kill()

    def listed(self, server: Server, count: int, since_change: int = 0) -> Any:
        """What the long playlist lists, as soon as it is so much, and so much of it behind a discontinuity."""

        def look() -> Any:
            answer = server.get("/live/cam/dvr.m3u8")
            segments = parse_media_playlist(answer.text).segments if answer.status == 200 else ()
            changes = [at for at, segment in enumerate(segments) if segment.discontinuity]
            is_after = not since_change or (changes and len(segments) - changes[-1] >= since_change)
            return segments if len(segments) >= count and is_after else None

        return eventually(f"{count} segments", look)

    def check_all(self, server: Server, segments: Any) -> None:
        """Each segment can be fetched, with its length."""
        for segment in segments:
            answer = server.get(f"/live/cam/{segment.uri}")
            self.assertEqual((200, int(answer.headers["content-length"])), (answer.status, len(answer.body)))

    def check_clips(self, server: Server) -> None:
        """The last seconds as a file and as a playlist, and both decode."""
        answer = server.get("/live/cam/clip.mp4?from=-5s&to=-1s")
        self.assertEqual(200, answer.status, answer.body[:100])
        file: Path = new_folder("clip") / "clip.mp4"
        file.write_bytes(answer.body)
        self.assertEqual("", decode(file))
        length_s = float(sum(packet.duration for packet in read_packets(file).tracks["video"]))
        self.assertApproximates(4.0, length_s, 2.1)
        self.assertEqual("", decode(f"{server.root}/live/cam/clip.m3u8?from=-5s&to=-1s"))

    def check_clip_of_both(self, server: Server) -> None:
        """From before the kill until after it: as a playlist, and as the files that are named instead of one."""
        self.assertEqual("", decode(f"{server.root}/live/cam/clip.m3u8"))
        refused = server.get("/live/cam/clip.mp4")
        self.assertEqual(409, refused.status, refused.body[:100])
        spans = refused.json()["spans"]
        self.assertEqual(2, len(spans))
        for span in spans:
            answer = server.get(f"/live/cam/clip.mp4?{urlencode(span)}")
            self.assertEqual(200, answer.status, answer.body[:100])
            file: Path = new_folder("clip") / "clip.mp4"
            file.write_bytes(answer.body)
            self.assertEqual("", decode(file))
