"""FFmpeg as encoder and as witness: the clips that are published, and what it says of what came out."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from imageio_ffmpeg import get_ffmpeg_exe

from tests.e2e.harness import new_folder

__all__ = ["CLIPS", "FFMPEG", "Clip", "Packet", "Packets", "decode", "every_ffmpeg", "read_packets"]

FFMPEG: str = get_ffmpeg_exe()
RUN_S = 120.0


def every_ffmpeg() -> list[str]:
    """The FFmpeg of the tests, and the system's, if it has one: years may lie between them."""
    return list(dict.fromkeys(filter(None, (FFMPEG, shutil.which("ffmpeg")))))


# ── packets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Packet(NamedTuple):
    """One packet as FFmpeg sees it: times in seconds, size in bytes, and a hash of its bytes."""

    dts: Fraction
    pts: Fraction
    duration: Fraction
    size: int
    digest: str


@dataclass(frozen=True)
class Packets:
    """
    All packets of a file or stream.

    :ivar tracks: in the order they come in, by kind: ``video`` or ``audio``.
    :ivar configurations: a hash of each track's codec configuration, likewise.
    """

    tracks: Mapping[str, Sequence[Packet]]
    configurations: Mapping[str, str]


def read_packets(source: Path | str, ffmpeg: str = FFMPEG) -> Packets:
    """
    Every packet of a file or URL, with the times written there.

    :raises AssertionError: FFmpeg says anything about it but its packets.
    """
    arguments = ["-copyts", "-i", str(source), "-map", "0", "-c", "copy", "-f", "framehash", "-hash", "md5", "-"]
    done = subprocess.run(
        [ffmpeg, "-nostdin", "-v", "error", *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=RUN_S
    )
    complaint = done.stderr.decode("utf-8", "replace")
    if done.returncode or complaint:
        raise AssertionError(f"{ffmpeg} cannot read {source}: status {done.returncode}\n{complaint}")
    return _parse_framehash(done.stdout.decode())


def _parse_framehash(text: str) -> Packets:
    kinds: dict[str, str] = {}
    ticks: dict[str, Fraction] = {}
    extradata: dict[str, str] = {}
    packets: dict[str, list[Packet]] = {}
    for line in text.splitlines():
        if line.startswith("#extradata "):
            track, _size, digest = _columns(line.removeprefix("#extradata "))
            extradata[track] = digest
        elif line.startswith("#tb "):
            track, unit = line.removeprefix("#tb ").split(": ")
            ticks[track] = Fraction(unit)
        elif line.startswith("#media_type "):
            track, kinds[track] = line.removeprefix("#media_type ").split(": ")
            packets[kinds[track]] = []
        elif not line.startswith("#"):
            track, dts, pts, duration, size, digest = _columns(line)
            times = (int(each) * ticks[track] for each in (dts, pts, duration))
            packets[kinds[track]].append(Packet(*times, int(size), digest))
    return Packets(packets, {kinds[track]: digest for track, digest in extradata.items()})


def _columns(line: str) -> list[str]:
    return [column.strip() for column in line.split(",")]


def decode(source: Path | str, ffmpeg: str = FFMPEG) -> str:
    """
    Decode everything, stopping at the first error; what FFmpeg says about it, which should be nothing.

    In ticks: else it counts pictures in frames, from where the earlier track begins, and complains of two in one.
    """
    arguments = [
        "-nostdin",
        "-v",
        "error",
        "-xerror",
        "-i",
        str(source),
        "-enc_time_base:v",
        "1:90000",
        "-f",
        "null",
        "-",
    ]
    done = subprocess.run([ffmpeg, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=RUN_S)
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    return said or ("" if done.returncode == 0 else f"exit status {done.returncode}")


# ── clips ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Clip:
    """
    Something to publish: encoded once, so that every packet sent is known.

    :ivar frame_rate: of the video, a keyframe a second; ``None`` for no video.
    :ivar sample_rate: of the audio; 0 for no audio. Likewise ``channels``.
    :ivar b_frames: how many in a row.
    :ivar app: the application it is published to in the broadcast.
    :ivar encoder: FFmpeg's encoder of the video with its options, if that is not H.264.
    :ivar more: further options.
    :ivar taken_out: the bitstream filter that takes out of its pictures what an MP4 track does not have there.
    """

    name: str
    seconds: int = 10
    frame_rate: Fraction | None = None
    sample_rate: int = 0
    channels: int = 1
    b_frames: int = 0
    size: str = "320x180"
    app: str = "live"
    more: Sequence[str] = field(default=())
    encoder: Sequence[str] = field(default=())
    taken_out: str = ""

    @functools.cached_property
    def path(self) -> Path:
        """The FLV file."""
        path = new_folder("clip") / f"{self.name}.flv"
        arguments = [*self._inputs(), *self._codecs(), "-t", str(self.seconds), "-f", "flv", str(path)]
        command = [FFMPEG, "-nostdin", "-v", "error", "-y", *arguments]
        quiet = {**os.environ, "SVT_LOG": "1"}  # SVT-AV1 does not go by the log level
        subprocess.run(command, stdin=subprocess.DEVNULL, env=quiet, check=True, timeout=RUN_S)
        return path

    @functools.cached_property
    def packets(self) -> Packets:
        """What is sent."""
        return read_packets(self.path)

    def _inputs(self) -> list[str]:
        inputs = []
        if self.frame_rate is not None:
            inputs += ["-f", "lavfi", "-i", f"testsrc2=size={self.size}:rate={self.frame_rate}"]
        if self.sample_rate:
            inputs += ["-f", "lavfi", "-i", f"sine=frequency=440:beep_factor=2:sample_rate={self.sample_rate}"]
        return inputs

    def _codecs(self) -> list[str]:
        options = []
        if self.frame_rate is not None:
            gop = str(round(self.frame_rate))
            options += ["-g", gop, "-pix_fmt", "yuv420p", *self.encoder]
        if self.frame_rate is not None and not self.encoder:
            options += ["-c:v", "libx264", "-preset", "ultrafast", "-bf", str(self.b_frames)]
            options += ["-keyint_min", gop, "-sc_threshold", "0"]
        if self.sample_rate:
            options += ["-c:a", "aac", "-b:a", "64k", "-ac", str(self.channels)]
        return [*options, *self.more]


CLIPS = {
    clip.name: clip
    for clip in (
        Clip("plain", frame_rate=Fraction(30), sample_rate=48_000, channels=2),
        Clip("bframes", frame_rate=Fraction(25), sample_rate=44_100, b_frames=2),
        Clip("video", frame_rate=Fraction(30_000, 1001)),
        Clip("audio", sample_rate=48_000, channels=2, app="narrow"),
        Clip("narrow", frame_rate=Fraction(24_000, 1001), sample_rate=44_100, channels=2, b_frames=1, app="narrow"),
    )
}
