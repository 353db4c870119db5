"""Two workers behind one port: streams are published and watched at either, and outlive the worker that has them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from rapidrtmp.m3u8.model import MediaPlaylist
from rapidrtmp.m3u8.read import parse_media_playlist
from tests.e2e.ffmpeg import FFMPEG
from tests.e2e.harness import EndToEndTest, Server, eventually, fetch, new_folder
from tests.e2e.test_restart import SHOW

SETTINGS = """
[server]
workers = 2
[hls]
segment = "1s"
[live]
grace = "20s"
[rtmp]
takeover_silence = "500ms"
"""
_READY = re.compile(r"worker \d+ is ready")


class Viewer:
    """Looks at the playlist of a stream again and again, at whichever worker, and sees that no number falls."""

    def __init__(self, server: Server, key: str) -> None:
        self._server = server
        self._key = key
        self._seen = (0, 0, 0)
        self.statuses: set[int] = set()

    def look(self) -> MediaPlaylist | None:
        """
        The playlist, if there is one.

        Each look may end at another worker than the last, and that one may hear of a new owner a moment later.
        """
        found = eventually("a playlist that is not older", self._look, 3.0)
        return found[0]

    def _look(self) -> tuple[MediaPlaylist | None] | None:
        answer = fetch(f"{self._server.root}/live/{self._key}/index.m3u8")  # a connection of its own
        self.statuses.add(answer.status)
        if answer.status != 200:
            return (None,)
        playlist = parse_media_playlist(answer.body)
        seen = (playlist.sequence, playlist.discontinuity_sequence, playlist.next_sequence)
        if any(new < old for new, old in zip(seen, self._seen, strict=True)):
            return None
        self._seen = seen
        return (playlist,)

    def beyond(self, sequence: int) -> MediaPlaylist | None:
        """The playlist, once it has reached a number, with all that it lists fetched."""
        playlist = self.look()
        if playlist is None or playlist.next_sequence <= sequence:
            return None
        for segment in playlist.segments[-4:]:
            if not segment.gap:
                answer = fetch(f"{self._server.root}/live/{self._key}/{segment.uri}")
                assert answer.status == 200, (segment.uri, answer)
        return playlist


class WorkersTests(EndToEndTest):
    def start_workers(self, storage: str = "local:store") -> Server:
        server = Server(new_folder("workers"), SETTINGS, storage=storage)
        self.servers.append(server)
        self.addCleanup(server.kill)
        eventually("both workers to be ready", lambda: len(_READY.findall(server.log)) == 2)
        return server

    def owner_of(self, server: Server, key: str) -> int:
        """The process that owns a stream, as the directory says."""
        path = server.folder / "data" / "directory" / "names" / f"live%2F{key}"
        _, node, _, _ = self.read(path)
        return int(node.rpartition("-")[0].rpartition("-")[2])

    @staticmethod
    def read(path: Path) -> Any:
        return json.loads(path.read_text())

    def check_life(self, storage: str) -> None:
        server = self.start_workers(storage)
        token = server.issue_token("show")
        publisher = self.publish(FFMPEG, SHOW.path, token.publish_url)
        viewer = Viewer(server, "show")
        eventually("three segments", lambda: (found := viewer.look()) and len(found.segments) > 2)
        for _ in range(10):  # at either worker
            self.assertIsNotNone(viewer.look())
        owner, other = self.owner_of(server, "show"), 0
        for _ in range(12):  # until it has moved
            publisher.kill()
            publisher = self.publish(FFMPEG, SHOW.path, token.publish_url)
            reached = viewer.look()
            assert reached is not None
            eventually("it to play on", lambda reached=reached: viewer.beyond(reached.next_sequence + 2))
            other = self.owner_of(server, "show")
            if other != owner:
                break
        self.assertNotEqual(owner, other, "it has not moved")
        reached = viewer.look()
        assert reached is not None
        self.assertEqual([], [segment.sequence for segment in reached.segments if segment.gap])
        os.kill(other, signal.SIGKILL)
        publisher.kill()
        publisher = self.publish(FFMPEG, SHOW.path, token.publish_url)
        eventually("it to play on after the kill", lambda: viewer.beyond(reached.next_sequence + 6))
        self.assertNotEqual(other, self.owner_of(server, "show"))
        eventually("another worker in its place", lambda: len(_READY.findall(server.log)) == 3)
        self.assertEqual({200}, viewer.statuses - {404})

    def test_stored_stream_outlives_worker(self) -> None:
        """A stream is watched at both workers, moves with its publisher, and survives the death of its owner."""
        self.check_life("local:store")

    def test_stream_in_memory_outlives_worker(self) -> None:
        """So is one that is not stored: what viewers of the other worker saw is what is continued."""
        self.check_life("memory:")

    @staticmethod
    def viewers_of(stream: str) -> int:
        return int(json.loads(fetch(f"{stream}/viewers.json").body)["viewers"])

    def test_both_workers_are_one_server(self) -> None:
        """Whichever worker a connection ends at: pages, pictures, events, viewers and players of FLV and RTMP."""
        server = self.start_workers("memory:")
        token = server.issue_token("show")
        self.publish(FFMPEG, SHOW.path, token.publish_url)
        stream = f"{server.root}/live/show"
        eventually("a segment", lambda: fetch(f"{stream}/index.m3u8").status == 200)
        players = [urlopen(f"{stream}.flv", timeout=20) for _ in range(6)]
        for player in players:
            self.addCleanup(player.close)
            self.assertEqual(b"FLV", player.read(50_000)[:3])
        for _ in range(8):
            self.assertIn(b'href="live/show"', fetch(f"{server.root}/").body)
            answers = [fetch(f"{stream}/poster.mp4") for _ in range(6)]
            self.assertEqual([200] * 6, [each.status for each in answers], [each.body[:90] for each in answers])
            eventually(
                "all viewers to be known", lambda: json.loads(fetch(f"{stream}/viewers.json").body)["viewers"] >= 6
            )
        heard = [urlopen(f"{server.root}/api/v1/events?lastEventId=1&type=publish", timeout=20) for _ in range(4)]
        for events in heard:
            self.addCleanup(events.close)
            while b"event: publish" not in (line := events.readline()):
                self.assertTrue(line, "the events are over")
        for _ in range(3):
            self.assertIn("Video: h264", played_by_ffmpeg(f"rtmp://127.0.0.1:{server.rtmp_port}/live/show"))


def played_by_ffmpeg(url: str) -> str:
    """What FFmpeg says of a second of a stream."""
    command = ["ffmpeg", "-hide_banner", "-i", url, "-t", "1", "-c", "copy", "-f", "null", "-"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stderr
