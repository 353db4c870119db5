"""
The players that people have play what we serve over RTMP and as FLV: FFmpeg old and new, mpv, VLC, GStreamer, librtmp.

All of them play one stream at the same time. Its encoder is killed and comes back within the grace time, then it stops
for good. The first test that asks makes it happen; what became of each player are facts, and each test is a claim.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.e2e.ffmpeg import Clip, every_ffmpeg, read_packets
from tests.e2e.harness import EndToEndTest, eventually, new_folder

CLIP = Clip("play", seconds=60, frame_rate=Fraction(25), sample_rate=48_000, b_frames=2)
SETTINGS = """
[live]
grace = "4s"
"""
#: How long they play before the encoder is killed, and after it has come back.
PLAYED_S = 4.0
#: What packets there are at least of so much.
LEAST_PICTURES = 100
NOBODY = 65_534


@dataclass
class Run:
    """
    One player.

    :ivar stayed: whether it was still there when the encoder had come back for a while.
    :ivar ended_s: how long after the end of the stream it ended by itself; ``None`` if it did not.
    """

    process: subprocess.Popen[bytes]
    output: Path
    stayed: bool = False
    ended_s: float | None = None


def commands(rtmp: str, flv: str, folder: Path) -> dict[str, Sequence[str]]:
    """The players that are installed, each with its command; what they keep goes to ``NAME.flv`` or ``NAME.txt``."""
    found: dict[str, Sequence[str]] = {}
    for number, ffmpeg in enumerate(every_ffmpeg()):
        for protocol, url in (("rtmp", rtmp), ("http", flv)):
            name = f"ffmpeg{number}-{protocol}"
            copy = ["-c", "copy", "-f", "matroska", "-y", str(folder / f"{name}.mkv")]
            found[name] = [ffmpeg, "-nostdin", "-v", "error", "-i", url, *copy]
    quiet = ["--intf", "dummy", "--vout", "dummy", "--aout", "dummy", "--play-and-exit"]
    others: dict[str, Sequence[str]] = {
        "mpv": ["mpv", "--no-config", "--really-quiet", "--vo=null", "--ao=null", rtmp],
        "vlc": ["cvlc", "--quiet", *quiet, rtmp],
        "gst-launch-1.0": ["gst-launch-1.0", "-q", "rtmp2src", f"location={rtmp}", "!", "fakesink", "sync=false"],
        "rtmpdump": ["rtmpdump", "-q", "--live", "-r", rtmp, "-o", str(folder / "rtmpdump.flv")],
    }
    if not list(Path("/usr/lib").glob("*/vlc/plugins/access/libavio_plugin.so")):
        del others["vlc"]  # its program alone plays nothing
    return found | {name: command for name, command in others.items() if shutil.which(command[0])}


class PlayersTests(EndToEndTest):
    """All players at once; see the module."""

    runs: dict[str, Run] | None = None

    def play(self) -> dict[str, Run]:
        """What became of each player."""
        if PlayersTests.runs is None:
            PlayersTests.runs = self._play()
        return PlayersTests.runs

    def _play(self) -> dict[str, Run]:
        server = self.start_server(SETTINGS)
        token = server.issue_token("show")
        folder = new_folder("players")
        folder.chmod(0o777)
        path = CLIP.path
        publisher = self.publish(every_ffmpeg()[0], path, token.publish_url)
        rtmp, flv = f"rtmp://127.0.0.1:{server.rtmp_port}/live/show", f"{server.root}/live/show.flv"
        eventually("the stream", lambda: server.get("/api/v1/streams/show").status == 200)
        runs = {name: self._start(command, folder / name) for name, command in commands(rtmp, flv, folder).items()}
        eventually("the players", lambda: server.get("/api/v1/streams/show").json()["viewers"] >= len(runs), 20)
        time.sleep(PLAYED_S)
        publisher.kill()
        publisher = self.publish(every_ffmpeg()[0], path, token.publish_url)
        eventually("the return", lambda: server.get("/api/v1/streams/show").json()["active"])
        time.sleep(PLAYED_S)
        for run in runs.values():
            run.stayed = run.process.poll() is None
        publisher.kill()
        eventually("the end", lambda: server.get("/api/v1/streams/show").json()["state"] == "ended")
        ended = time.monotonic()
        while time.monotonic() < ended + 6 and any(run.ended_s is None for run in runs.values()):
            for run in runs.values():
                if run.ended_s is None and run.process.poll() is not None:
                    run.ended_s = time.monotonic() - ended
            time.sleep(0.05)
        for run in runs.values():
            run.process.kill()
            run.process.wait()
        return runs

    def _start(self, command: Sequence[str], output: Path) -> Run:
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}  # VLC is no root's
        if "cvlc" not in command:
            user = {}
        with output.with_suffix(".txt").open("wb") as said:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=output.parent,
                env={**os.environ, "HOME": str(output.parent)},
                **user,  # type: ignore[call-overload]
            )
        return Run(process, output)

    def named(self, *names: str) -> dict[str, Run]:
        """Some of them. :raises SkipTest: none of these is installed."""
        found = {name: run for name, run in self.play().items() if name.startswith(names)}
        if not found:
            raise SkipTest(f"not installed: {', '.join(names)}")
        return found

    def assert_lasting(self, *names: str) -> None:
        """They kept their connections while the encoder was away, and ended by themselves soon after the stream."""
        for name, run in self.named(*names).items():
            said = run.output.with_suffix(".txt").read_text(errors="replace")[-500:]
            self.assertTrue(run.stayed, f"{name}: {said}")
            self.assertIsNotNone(run.ended_s, f"{name}: {said}")

    def test_ffmpeg_keeps_every_packet(self) -> None:
        """FFmpeg, old and new, over RTMP and HTTP, gets what was published, from a keyframe on, and nothing else."""
        sent = {kind: {each.digest for each in packets} for kind, packets in CLIP.packets.tracks.items()}
        for name, run in self.named("ffmpeg").items():
            got = read_packets(run.output.with_suffix(".mkv")).tracks
            self.assertGreater(len(got["video"]), LEAST_PICTURES, name)
            for kind, packets in got.items():
                self.assertLessEqual({each.digest for each in packets}, sent[kind], f"{name} {kind}")

    def test_ffmpeg_stays_and_ends(self) -> None:
        """FFmpeg stays while the encoder is away, and ends with the stream."""
        self.assert_lasting("ffmpeg")

    def test_mpv_stays_and_ends(self) -> None:
        """So does mpv."""
        self.assert_lasting("mpv")

    def test_vlc_stays_and_ends(self) -> None:
        """So does VLC."""
        self.assert_lasting("vlc")

    def test_gstreamer_stays_and_ends(self) -> None:
        """So does GStreamer's rtmp2src."""
        self.assert_lasting("gst-launch-1.0")

    def test_librtmp_stays_and_ends(self) -> None:
        """So does librtmp's rtmpdump."""
        self.assert_lasting("rtmpdump")
