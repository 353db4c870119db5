"""Ladders by programs that do not do what FFmpeg does, and by FFmpeg when the picture changes: the stream continues."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from rapidrtmp.m3u8.read_multivariant import parse_multivariant_playlist
from tests.e2e.ffmpeg import FFMPEG, RUN_S, decode
from tests.e2e.harness import EndToEndTest, Server, eventually, fetch, new_folder
from tests.e2e.test_encoders import fetch_all
from tests.e2e.test_ladders import children, irregular, renditions

#: What a program does instead of coding, by name; it answers what is asked of FFmpeg when the server starts.
BEHAVIOURS = {
    "garbage": "head -c 200000 /dev/urandom >&3; exec cat >/dev/null",
    "half": r"printf 'FLV\001\001\000\000\000\011\000\000\000\000\011\000\020' >&3; exec cat >/dev/null",
    "nothing": "exec cat >/dev/null",
    "deaf": "exec sleep 1000",
    "flood": "yes an error that is said again and again >&2",
    "exit": "echo 'Unrecognized option nonsense.' >&2; exit 1",
}
PROGRAM = """#!/bin/sh
case "$*" in
    *-version*) echo "ffmpeg version 9.0 of a test"; exit ;;
    *-encoders*) echo " V..... libx264 "; exit ;;
esac
{does}
"""
APP = """
[apps.{name}]
sinks = ["hls:segment=1s:window=60"]
transcoder = "ffmpeg:90p=120k:54p=60k:encoder=libx264:program={program}"
"""


@functools.cache
def picture(size: str) -> Path:
    """A clip of some seconds with a picture of that size, and a tone."""
    path = new_folder("clip") / "picture.flv"
    inputs = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate=30", "-f", "lavfi", "-i", "sine=sample_rate=48000"]
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "30", "-b:v", "600k"]
    codecs += ["-c:a", "aac", "-t", "5", "-f", "flv", str(path)]
    subprocess.run(
        [FFMPEG, "-nostdin", "-v", "error", "-y", *inputs, *codecs], stdin=subprocess.DEVNULL, check=True, timeout=RUN_S
    )
    return path


class BrokenProgramTests(EndToEndTest):
    def test_stream_continues_whatever_they_do(self) -> None:
        """Garbage, half a box, nothing, too much, or an end at once: the source goes out whole, no child is left."""
        folder = new_folder("programs")
        settings = '[live]\ngrace = "1s"\n'
        for name, does in BEHAVIOURS.items():
            program = folder / name
            program.write_text(PROGRAM.format(does=does))
            program.chmod(0o755)
            settings += APP.format(name=name, program=program)
        server = self.start_server(settings)
        publishers = [
            self.publish(FFMPEG, irregular(12), server.issue_token("show", name).publish_url) for name in BEHAVIOURS
        ]
        eventually("word of the one that ends", lambda: self._said(server, "exit", "Unrecognized option nonsense."))
        for name in BEHAVIOURS:
            master = server.get(f"/{name}/show/master.m3u8")
            self.assertEqual(200, master.status, name)
            found = parse_multivariant_playlist(master.text)
            self.assertEqual(["index.m3u8"], [each.uri for each in found.variants], name)
        for publisher in publishers:
            self.assertEqual(0, publisher.wait(), publisher.said)
        for name in BEHAVIOURS:
            playlist, whole = fetch_all(server, "show", new_folder(name), app=name)
            self.assertEqual(12, round(sum(each.duration for each in playlist.complete)), name)
            self.assertNotIn(True, [each.gap for each in playlist.complete], name)
            self.assertEqual("", decode(whole), name)
        eventually("no child", lambda: not children(server))

    def _said(self, server: Server, app: str, text: str) -> bool:
        return text in server.get(f"/api/v1/streams/{app}/show").text


class NewPictureTests(EndToEndTest):
    def test_another_size_decodes_cleanly(self) -> None:
        """A publisher that returns with another picture size costs each rendition one discontinuity, and decodes."""
        settings = '[live]\ngrace = "20s"\n' + APP.format(name="live", program=FFMPEG)
        server = self.start_server(settings)
        for size in ("320x180", "640x360"):
            publisher = self.publish(FFMPEG, picture(size), server.issue_token("show").publish_url)
            self.assertEqual(0, publisher.wait(), publisher.said)
        eventually("the rungs of both", lambda: int(str(renditions(server, "show")["90p"]["frames"])) >= 300)
        fetch(f"{server.root}/api/v1/streams/show/stop", method="POST")
        for folder in ("show", "show/90p", "show/54p"):
            playlist, whole = fetch_all(server, folder, new_folder("whole"))
            said = server.get(f"/live/{folder}/index.m3u8").text
            self.assertEqual(1, said.count("#EXT-X-DISCONTINUITY\n"), folder)
            self.assertNotIn(True, [each.gap for each in playlist.complete], folder)
            if folder != "show":  # which has two init segments
                self.assertEqual("", decode(whole), folder)
