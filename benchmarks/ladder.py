"""
What a ladder costs beside plain FFmpeg that makes the same rungs from a file, and how late each rung is.

    python -m benchmarks.ladder [--seconds 6] [--preset ultrafast]

Processor time: of FFmpeg in both cases, and of what feeds it and reads it here. Frames are fed at the pace at which
they were made. How long pictures take to come back says little on a machine that does much else.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from twisted.internet import reactor

from benchmarks.clip import make_clip, read_tags
from rapidrtmp.codec.flv import PacketKind, read_video
from rapidrtmp.codec.table import AVC
from rapidrtmp.interfaces import Rung
from rapidrtmp.media import Frame, Track, VideoConfig
from rapidrtmp.support.ffmpeg import find_ffmpeg
from rapidrtmp.testing.transcoders import RecordingLadder, make_transcoder_context
from rapidrtmp.transcode.command import FIRST_OUTPUT, make_command
from rapidrtmp.transcode.ffmpeg import FfmpegTranscoder, Tool
from rapidrtmp.transcode.rungs import RungSize, suitable_rungs

RUNGS = (Rung("480p", 1_200_000), Rung("360p", 700_000))
TICKS_PER_MS, FRAME = 90, 3_000


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


def plain_seconds(ffmpeg: str, path: Path, sizes: Sequence[RungSize], preset: str, seconds: float) -> float:
    """The processor time of FFmpeg with the same options, from a file to nowhere."""
    command = make_command(ffmpeg, sizes, preset)
    at = command.index("-f")
    command[at : at + 4] = ["-t", str(seconds), "-i", str(path)]
    outputs = {f"pipe:{FIRST_OUTPUT + index}" for index in range(len(sizes))}
    command = ["/dev/null" if each in outputs else each for each in command]
    before = children_seconds()
    subprocess.run([*command, "-y"], check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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

    def start(self) -> None:
        """Begin to feed."""
        self._started = time.monotonic()
        self._transcoder.tracks_changed((self._frames[0].track,))
        self._feed()

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
        done.addCallback(lambda _: reactor.callLater(0, reactor.stop))  # type: ignore[attr-defined]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="benchmarks.ladder")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--preset", default="ultrafast")
    parser.add_argument("--bframes", type=int, default=0)
    chosen = parser.parse_args()
    ffmpeg = find_ffmpeg()
    assert ffmpeg is not None
    path = make_clip()
    frames = read_frames(path, chosen.seconds)
    config = frames[0].track.config
    assert isinstance(config, VideoConfig)
    sizes = suitable_rungs(RUNGS, config, 1 << 30)
    plain = [plain_seconds(ffmpeg, path, sizes, chosen.preset, chosen.seconds) for _ in range(2)]
    run = Run(ffmpeg, frames, chosen.preset, chosen.bframes)
    before, own = children_seconds(), time.process_time()
    reactor.callWhenRunning(run.start)  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]
    fed, own = children_seconds() - before, time.process_time() - own
    plain.append(plain_seconds(ffmpeg, path, sizes, chosen.preset, chosen.seconds))
    pictures = {name: len(each) for name, each in run.ladder.pictures.items()}
    print(f"{len(frames)} frames of {config.width}x{config.height}, back: {pictures}, preset {chosen.preset}")
    base = median(plain)
    print(f"plain FFmpeg from a file   {1000 * base / chosen.seconds:7.1f} ms CPU per second of media")
    print(f"FFmpeg of the ladder       {1000 * fed / chosen.seconds:7.1f} ms, {100 * (fed / base - 1):+.1f} %")
    print(f"feeding and reading it     {1000 * own / chosen.seconds:7.1f} ms, {100 * own / base:.1f} %")
    for name, delays in run.ladder.delays.items():
        steady = sorted(delays[len(delays) // 2 :])  # those of the first GOP wait until it is whole
        print(f"{name} is back after {median(steady):.0f} ms, p95 {steady[int(len(steady) * 0.95)]:.0f} ms")


if __name__ == "__main__":
    main()
