"""
The players that people have play what we serve over RTMP and as FLV: FFmpeg old and new, mpv, VLC, GStreamer, librtmp,
and what OBS's media source does with FFmpeg's libraries.

All of them play one stream at the same time. Its encoder is killed and comes back within the grace time, then it stops
for good. The first test that asks makes it happen; what became of each player are facts, and each test is a claim.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.e2e.ffmpeg import Clip, every_ffmpeg, read_packets
from tests.e2e.harness import EndToEndTest, eventually, new_folder

CLIP = Clip("play", seconds=60, frame_rate=Fraction(25), sample_rate=48_000, b_frames=2, more=("-g", "50"))
SETTINGS = """
[live]
grace = "4s"
"""
#: How long they play before the encoder is killed, and after it has come back.
PLAYED_S = 4.0
#: What packets there are at least of so much.
LEAST_PICTURES = 100
NOBODY = 65_534
#: So often one joins to see how soon it starts.
STARTS = 5


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

    @property
    def said(self) -> str:
        """The last of what it printed."""
        return self.output.with_suffix(".txt").read_text(errors="replace")[-500:]


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
    if find_spec("av") is not None:
        found["obs"] = [sys.executable, str(Path(__file__).with_name("media_source.py")), rtmp]
    return found | {name: command for name, command in others.items() if shutil.which(command[0])}


def start_player(command: Sequence[str], output: Path) -> Run:
    """Start one, in the folder of its output."""
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


def _start_of(url: str) -> float | None:
    """How long it took from a join to the first packet, in seconds; ``None`` without PyAV."""
    if find_spec("av") is None:
        return None
    command = [sys.executable, str(Path(__file__).with_name("media_source.py")), url, "1"]
    said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=True).stdout
    return float(said.split()[1])


class PlayersTests(EndToEndTest):
    """All players at once; see the module."""

    runs: dict[str, Run] | None = None
    starts_s: Sequence[float] = ()

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
        runs = {name: start_player(command, folder / name) for name, command in commands(rtmp, flv, folder).items()}
        eventually("the players", lambda: server.get("/api/v1/streams/show").json()["viewers"] >= len(runs), 40)
        time.sleep(PLAYED_S)
        PlayersTests.starts_s = [start_s for start_s in map(_start_of, [rtmp] * STARTS) if start_s is not None]
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

    def named(self, *names: str) -> dict[str, Run]:
        """Some of them. :raises SkipTest: none of these is installed."""
        found = {name: run for name, run in self.play().items() if name.startswith(names)}
        if not found:
            raise SkipTest(f"not installed: {', '.join(names)}")
        return found

    def assert_lasting(self, *names: str) -> None:
        """They kept their connections while the encoder was away, and ended by themselves soon after the stream."""
        for name, run in self.named(*names).items():
            self.assertTrue(run.stayed, f"{name}: {run.said}")
            self.assertIsNotNone(run.ended_s, f"{name}: {run.said}")

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

    def test_joins_start_at_once(self) -> None:
        """Wherever in a GOP of two seconds a player joins, FFmpeg has its first packet within half a second."""
        self.play()
        if not self.starts_s:
            raise SkipTest("PyAV is not installed")
        self.assertEqual(STARTS, len(self.starts_s))
        self.assertLess(sorted(self.starts_s)[STARTS // 2], 0.5, self.starts_s)

    def test_media_source_stays_and_ends(self) -> None:
        """So does FFmpeg with the options of OBS's media source."""
        self.assert_lasting("obs")

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


class AbsentTests(EndToEndTest):
    """Players of a stream that is not there."""

    def test_players_end_where_nothing_comes(self) -> None:
        """All of them end by themselves when the wait is over, and FFmpeg prints our reason."""
        server = self.start_server('[live]\nplay_wait = "1s"\n')
        folder = new_folder("absent")
        folder.chmod(0o777)
        rtmp, flv = f"rtmp://127.0.0.1:{server.rtmp_port}/live/none", f"{server.root}/live/none.flv"
        runs = {name: start_player(command, folder / name) for name, command in commands(rtmp, flv, folder).items()}
        for run in runs.values():
            self.addCleanup(run.process.wait)
            self.addCleanup(run.process.kill)
        for name, run in runs.items():
            eventually(f"{name} to end", lambda run=run: run.process.poll() is not None, 12)
        for name, run in runs.items():
            if name.startswith("ffmpeg") and name.endswith("rtmp"):
                self.assertIn("live/none is not there", run.said, name)
