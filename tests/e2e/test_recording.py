"""Recordings with the real things: FFmpeg publishes, the server is killed or not, FFmpeg plays what was recorded."""

from __future__ import annotations

import json
import random
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.e2e.ffmpeg import CLIPS, FFMPEG, decode, every_ffmpeg, read_packets
from tests.e2e.harness import Answer, EndToEndTest, Server, eventually, fetch, new_folder

PART_S = 0.5
SETTINGS = """
[server]
sinks = ["hls", "record:segment=2s:part=500ms"]
[live]
grace = "1s"
"""
CLIP = CLIPS["plain"]


def listed(server: Server, key: str) -> list[Any]:
    """What the API tells of a stream's recordings."""
    recordings: list[Any] = server.get(f"/api/v1/recordings?streamKey={key}").json()["recordings"]
    return recordings


def post(server: Server, path: str, value: object) -> Answer:
    return fetch(server.root + path, method="POST", body=json.dumps(value), Content_Type="application/json")


def delete(server: Server, recording: Any) -> Answer:
    return fetch(f"{server.root}/api/v1/recordings/live/{recording['streamKey']}/{recording['start']}", method="DELETE")


class RecordingCase(EndToEndTest):
    def over(self, server: Server, key: str) -> Any:
        """The one recording of a stream, as soon as nothing is added to it."""

        def look() -> Any:
            found = listed(server, key)
            return found[0] if found and found[0]["state"] != "recording" else None

        return eventually(f"the recording of {key} to be over", look)

    def save(self, server: Server, path: str) -> Path:
        """What is at ``path``, as a file."""
        answer = server.get(path)
        self.assertEqual(200, answer.status, path)
        self.assertEqual(int(answer.headers["content-length"]), len(answer.body))
        file = new_folder("recording") / "movie.mp4"
        file.write_bytes(answer.body)
        return file

    def restart(self, earlier: Server) -> Server:
        """Another server on the same folder."""
        server = Server(earlier.folder, SETTINGS)
        self.servers.append(server)
        self.addCleanup(server.kill)
        return server

    def recorded_frames(self, file: Path) -> int:
        """How many frames of video a file has; they must be the first ones that were sent, and decode."""
        packets = read_packets(file)
        for kind, sent in CLIP.packets.tracks.items():
            digests = [packet.digest for packet in packets.tracks[kind]]
            self.assertEqual([packet.digest for packet in sent][: len(digests)], digests, kind)
        self.assertEqual("", decode(file))
        return len(packets.tracks["video"])


class FinishedTests(RecordingCase):
    def test_all_of_it(self) -> None:
        """What was published is recorded, packet for packet, and plays as a playlist, as a file, and in clips."""
        server = self.start_server(SETTINGS)
        self.publish(FFMPEG, CLIP.path, server.issue_token("cam").publish_url).wait()
        recording = self.over(server, "cam")
        self.assertEqual(("finished", 0, False), (recording["state"], recording["gaps"], recording["protected"]))
        self.assertApproximates(CLIP.seconds, recording["duration"], 0.2)
        file = self.save(server, recording["movieUrl"])
        self.assertEqual(len(CLIP.packets.tracks["video"]), self.recorded_frames(file))
        self.assertEqual(
            len(CLIP.packets.tracks["audio"]), len(read_packets(server.root + recording["playlistUrl"]).tracks["audio"])
        )
        for ffmpeg in every_ffmpeg():
            self.assertEqual("", decode(server.root + recording["playlistUrl"], ffmpeg))
            self.assertEqual("", decode(server.root + recording["movieUrl"], ffmpeg))
        self.check_seeking(server.root + recording["movieUrl"])
        self.check_ranges(server, recording["movieUrl"], file.read_bytes())
        self.check_clip(server, recording)

    def check_seeking(self, url: str) -> None:
        """A player that jumps finds the pictures that are there, whether it has read the file up to them or not."""
        for ffmpeg in every_ffmpeg():
            for at in ("0.5", "3.3", "8.7"):
                arguments = ["-nostdin", "-v", "error", "-ss", at, "-i", url, "-t", "0.2", "-map", "0:v"]
                arguments += ["-f", "framecrc", "-"]
                done = subprocess.run([ffmpeg, *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=True)
                pictures = [line for line in done.stdout.splitlines() if not line.startswith(b"#")]
                self.assertIn(len(pictures), (5, 6, 7), (ffmpeg, at))
                self.assertEqual(b"", done.stderr)

    def check_ranges(self, server: Server, url: str, whole: bytes) -> None:
        for start, stop in ((0, 1), (len(whole) // 3, 2 * len(whole) // 3), (len(whole) - 9, len(whole))):
            answer = server.get(url, Range=f"bytes={start}-{stop - 1}")
            self.assertEqual((206, whole[start:stop]), (answer.status, answer.body))

    def check_clip(self, server: Server, recording: Any) -> None:
        """Three seconds from the middle: they begin with a keyframe, and last as long as was asked, about."""
        folder = recording["playlistUrl"].rpartition("/")[0]
        for query in ("from=4s&to=7s", f"from={quote(recording['startedAt'])}&to=3s"):
            for name in ("clip.mp4", "clip.m3u8"):
                url = f"{server.root}{folder}/{name}?{query}"
                video = read_packets(url).tracks["video"]
                self.assertApproximates(3.0, float(sum(packet.duration for packet in video)), 2 * PART_S)
                self.assertEqual("", decode(url))

    def test_recorded_by_hand_and_watched(self) -> None:
        """Recording is begun and ended by hand while the stream continues; what grows can be watched already."""
        server = self.start_server('[live]\ngrace = "1s"\n')
        publisher = self.publish(FFMPEG, CLIP.path, server.issue_token("hand").publish_url, ["-stream_loop", "-1"])
        eventually("the stream", lambda: server.get("/live/hand/index.m3u8").status == 200)
        path = "/api/v1/streams/hand/record"
        self.assertEqual(200, post(server, path, {"action": "start"}).status)
        self.assertEqual(409, post(server, path, {"action": "start"}).status)
        recording = eventually("a recording", lambda: listed(server, "hand"))[0]
        growing = eventually(
            "its first segment", lambda: (found := server.get(recording["playlistUrl"])).status == 200 and found
        )
        self.assertIn("#EXT-X-PLAYLIST-TYPE:EVENT", growing.text)
        self.assertEqual(409, delete(server, recording).status)
        self.assertEqual(200, post(server, path, {"action": "stop"}).status)
        recording = self.over(server, "hand")
        self.assertFalse(publisher.has_ended)
        self.assertIn(growing.text.partition("#EXT-X-MAP")[2], server.get(recording["playlistUrl"]).text)
        self.assertEqual("", decode(server.root + recording["playlistUrl"]))
        self.assertEqual(200, delete(server, recording).status)
        self.assertEqual([], listed(server, "hand"))
        self.assertEqual([], list((server.store / "recordings" / "live").glob("**/*")))


class StoppedTests(RecordingCase):
    def test_stop_finishes_the_recording(self) -> None:
        """A server that is stopped while it records finishes its recordings before it goes."""
        server = self.start_server(SETTINGS)
        self.publish(FFMPEG, CLIP.path, server.issue_token("cam").publish_url)
        eventually("a segment", lambda: any(each["segments"] for each in listed(server, "cam")))
        server.stop()
        again = self.restart(server)
        recording = self.over(again, "cam")
        self.assertEqual(("finished", 0), (recording["state"], recording["gaps"]))
        self.recorded_frames(self.save(again, recording["movieUrl"]))


class KilledTests(RecordingCase):
    def test_kill_loses_only_what_grew(self) -> None:
        """A server that is killed loses no more of a recording than what was growing, and closes it when it is back."""
        chance = random.Random(time.time_ns())
        server = self.start_server(SETTINGS)
        for key in ("first", "second"):
            self.publish(FFMPEG, CLIP.path, server.issue_token(key).publish_url)
            wanted = chance.randrange(60, 200)
            frames = eventually("frames", lambda: self.frames(server, key, wanted))  # noqa: B023 - called at once
            server.kill()
            server = self.restart(server)
            recording = self.over(server, key)
            self.assertEqual(("recovered", 0), (recording["state"], recording["gaps"]))
            recorded = self.recorded_frames(self.save(server, recording["movieUrl"]))
            # What was growing is a part at most; another may just have been on its way to the disk.
            self.assertGreater(recorded, frames - 30 * 2 * PART_S)
            self.assertEqual("", decode(server.root + recording["playlistUrl"]))

    def frames(self, server: Server, key: str, wanted: int) -> float:
        """How many video frames the server has, about, once they are ``wanted``; 0 until then."""
        answer = server.get(f"/api/v1/streams/{key}")
        video, audio = (len(CLIP.packets.tracks[kind]) for kind in ("video", "audio"))
        frames = answer.json()["frames"] * video / (video + audio) if answer.status == 200 else 0
        return frames if frames >= wanted else 0
