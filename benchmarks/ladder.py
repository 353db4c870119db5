"""
What a ladder costs beside plain FFmpeg that makes the same rungs from a file, how late each rung is, and whether the
stream itself is as much in time as without one.

    python -m benchmarks.ladder [--seconds 6] [--preset veryfast] [--bframes 0] [--only cost lateness]

Processor time: of FFmpeg in both cases, at the pace at which the frames were made, by turns; and of what feeds it and
reads it here. Then a server with one publisher, and one player that has asked for each part before it exists: first
without a ladder, then with one, whose FFmpeg has to share the server's processor. None of that says much on a machine
that does much else.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from benchmarks.clip import make_clip, read_tags
from benchmarks.generators import publishing
from benchmarks.servers import rapidrtmp
from benchmarks.viewers import SPREAD_S, watch
from rapidrtmp.codec.flv import PacketKind, read_video
from rapidrtmp.codec.table import AVC
from rapidrtmp.interfaces import Rung
from rapidrtmp.media import Frame, Track, VideoConfig
from rapidrtmp.support.ffmpeg import find_ffmpeg
from rapidrtmp.testing.transcoders import RecordingLadder, make_transcoder_context
from rapidrtmp.transcode.command import make_command
from rapidrtmp.transcode.encoders import LIBX264
from rapidrtmp.transcode.ffmpeg import FfmpegTranscoder, Tool
from rapidrtmp.transcode.rungs import suitable_rungs

RUNGS = (Rung("480p", 1_200_000), Rung("360p", 700_000))
TICKS_PER_MS, FRAME = 90, 3_000
#: So long a stream is published before it is watched: its ladder begins with the second GOP.
FILL_S = 7


class TimedLadder(RecordingLadder):
    """Remembers how long each picture took to come back, in milliseconds, by rung."""

    def __init__(self) -> None:
        super().__init__()
        self.delays: dict[str, list[float]] = {}

    def frame(
        self, rung: str, pts: int, data: bytes, *, keyframe: bool, arrived_ms: int, turn: int | None = None
    ) -> None:
        """Remember it."""
        super().frame(rung, pts, data, keyframe=keyframe, arrived_ms=arrived_ms, turn=turn)
        self.delays.setdefault(rung, []).append(time.monotonic() * 1000 - arrived_ms)


def read_frames(path: Path, seconds: float) -> list[Frame]:
    """The video of a clip, on the grid of its frames."""
    frames: list[Frame] = []
    track: Track | None = None
    samples: Any = None
    for tag in read_tags(path):
        for packet in read_video(tag.payload) if tag.kind == 9 else ():
            if packet.kind is PacketKind.CONFIG:
                assert AVC.read_config is not None
                assert AVC.reader is not None
                config = AVC.read_config(packet.body)
                track, samples = AVC.make_track(1, config), AVC.reader(config)
            elif packet.kind is PacketKind.FRAMES and track is not None and tag.time_ms < seconds * 1000:
                data = samples.read(packet.body)
                dts = round(tag.time_ms * TICKS_PER_MS / FRAME) * FRAME
                offset = round(packet.composition_ms * TICKS_PER_MS / FRAME) * FRAME
                frames.append(Frame(track, dts, offset, FRAME, samples.keyframe, data, 0))
    return frames


def children_seconds() -> float:
    """The processor time of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def plain_seconds(command: Sequence[str], path: Path, seconds: float) -> float:
    """The processor time of FFmpeg with the options of a ladder, from a file to nowhere, in real time."""
    plain = ["/dev/null" if each.startswith("pipe:") and each != "pipe:0" else each for each in command]
    at = plain.index("-f")
    plain[at : at + 4] = ["-re", "-t", str(seconds), "-i", str(path)]
    before = children_seconds()
    subprocess.run([*plain, "-y"], check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return children_seconds() - before


class Run:
    """One ladder, from the first frame to the last picture."""

    def __init__(self, ffmpeg: str, frames: Sequence[Frame], preset: str, b_frames: int) -> None:
        self.ladder = TimedLadder()
        spawn = reactor.spawnProcess  # type: ignore[attr-defined]
        context = make_transcoder_context(self.ladder, clock=reactor, spawn_process=spawn)
        self._transcoder = FfmpegTranscoder(context, RUNGS, Tool(ffmpeg, preset, "libx264", b_frames))
        self._frames = frames
        self._next = 0
        self._started = 0.0
        self._done: Deferred[None] = Deferred()

    def start(self) -> Deferred[None]:
        """Begin to feed; fires when the last picture is back."""
        self._started = time.monotonic()
        self._transcoder.tracks_changed((self._frames[0].track,))
        self._feed()
        return self._done

    def _feed(self) -> None:
        while self._next < len(self._frames):
            frame = self._frames[self._next]
            wait_s = self._started + frame.dts / 90_000 - time.monotonic()
            if wait_s > 0:
                reactor.callLater(wait_s, self._feed)  # type: ignore[attr-defined]
                return
            self._next += 1
            self._transcoder.frame_received(replace(frame, arrived_ms=round(time.monotonic() * 1000)))
        done = self._transcoder.finish()
        assert done is not None
        done.chainDeferred(self._done)


class Cost(NamedTuple):
    """Processor time of one round, in seconds: of plain FFmpeg, of that of the ladder, of feeding and reading that."""

    plain: float
    ladder: float
    own: float


async def measure_cost(chosen: argparse.Namespace) -> None:
    """Print what a ladder costs, and how late its rungs are."""
    ffmpeg, path = find_ffmpeg(), make_clip()
    assert ffmpeg is not None
    frames = read_frames(path, chosen.seconds)
    config = frames[0].track.config
    assert isinstance(config, VideoConfig)
    sizes = suitable_rungs(RUNGS, config, 1 << 30)
    command = make_command(ffmpeg, sizes, chosen.preset, LIBX264, chosen.bframes)
    costs, delays = [], defaultdict[str, list[float]](list)
    for _ in range(chosen.rounds):
        plain = await deferToThread(plain_seconds, command, path, chosen.seconds)
        run = Run(ffmpeg, frames, chosen.preset, chosen.bframes)
        before, own = children_seconds(), time.process_time()
        await run.start()
        costs.append(Cost(plain, children_seconds() - before, time.process_time() - own))
        for name, each in run.ladder.delays.items():
            delays[name] += each[len(each) // 2 :]  # those of the first GOP wait until it is whole
    pictures = {name: len(each) for name, each in run.ladder.pictures.items()}
    print(f"{len(frames)} frames of {config.width}x{config.height}, back: {pictures}, preset {chosen.preset}")
    if min(pictures.values(), default=0) < len(frames):
        print("not all of them are back: the machine does too much else, and what follows says nothing")
    share = 1000 / chosen.seconds
    print(f"plain FFmpeg from a file   {median(each.plain for each in costs) * share:7.1f} ms CPU per second of media")
    more = median(each.ladder / each.plain - 1 for each in costs)
    print(f"FFmpeg of the ladder       {median(each.ladder for each in costs) * share:7.1f} ms, {more:+.1%}")
    part = median(each.own / each.plain for each in costs)
    print(f"feeding and reading it     {median(each.own for each in costs) * share:7.1f} ms, {part:.1%}")
    for name, found in sorted(delays.items()):
        found.sort()
        print(f"{name} is back after {median(found):.0f} ms, p95 {found[int(len(found) * 0.95)]:.0f} ms")


def measure_all_costs(chosen: argparse.Namespace) -> None:
    """Measure, then stop the reactor."""
    done = Deferred.fromCoroutine(measure_cost(chosen))
    done.addErrback(lambda failure: failure.printTraceback())
    done.addCallback(lambda _: reactor.stop())  # type: ignore[attr-defined]


def measure_lateness(chosen: argparse.Namespace) -> None:
    """Print how late the parts of the stream itself are at a player, without a ladder and with one."""
    rungs = ":".join(f"{rung.name}={rung.bitrate}" for rung in RUNGS)
    spec = f"ffmpeg:{rungs}:preset={chosen.preset}:encoder=libx264:bframes={chosen.bframes}"
    for name, options in (("without a ladder", ()), ("with a ladder", (f"--transcoder={spec}",))):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="rapidrtmp-bench-")))
            server = stack.enter_context(rapidrtmp(folder, "--storage=memory:", "--sink=hls", *options))
            lasts = FILL_S + int(chosen.watched) + 60
            publishers = stack.enter_context(publishing(server, 1, lasts, "--stamp", f"--spread={SPREAD_S}"))
            time.sleep(FILL_S)
            children = len(server.pids()) - 1
            report = watch(server, "hinted", 1, 1, chosen.watched)
            late = publishers.stop()["late_p99_ms"]
        row = report["part_late"]
        print(
            f"{name:<18}{row['count']:>5} parts at the player after {row['p50_ms']} ms, p99 {row['p99_ms']} ms, worst "
            f"{row['max_ms']} ms (publisher late by {late} ms; {children} children)"
        )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="benchmarks.ladder")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--watched", type=float, default=25.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--preset", default="veryfast")
    parser.add_argument("--bframes", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=["cost", "lateness"], choices=["cost", "lateness"])
    chosen = parser.parse_args()
    if "cost" in chosen.only:
        reactor.callWhenRunning(measure_all_costs, chosen)  # type: ignore[attr-defined]
        reactor.run()  # type: ignore[attr-defined]
    if "lateness" in chosen.only:
        measure_lateness(chosen)


if __name__ == "__main__":
    main()
