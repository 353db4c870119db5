"""The load of the benchmarks: a real 720p30 H.264 and AAC clip, made once by FFmpeg and kept, as RTMP messages."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rapidrtmp.server.demo import find_ffmpeg

SECONDS = 10
KEYFRAME_INTERVAL_S = 2
#: Of video a second, unless other streams are asked for.
KILOBITS = 2_370


class Tag(NamedTuple):
    """An FLV tag: ``kind`` 8 is audio, 9 video, 18 data; ``time_ms`` is its decode time."""

    kind: int
    time_ms: int
    payload: bytes

    @property
    def is_config(self) -> bool:
        """Whether it is a codec config."""
        return self.kind in (8, 9) and self.payload[1] == 0


def make_clip(directory: Path | None = None, kilobits: int = KILOBITS) -> Path:
    """
    A clip of :data:`SECONDS` seconds at 2.5 Mbit/s in all, made by FFmpeg unless it is there already.

    :param kilobits: of video a second; constant, as encoders for live use are set up.
    """
    ffmpeg = find_ffmpeg()
    if ffmpeg is None:
        raise SystemExit("the benchmarks need FFmpeg: install it, or pip install imageio-ffmpeg")
    path = (directory or Path(tempfile.gettempdir())) / f"rapidrtmp-bench-{kilobits}.flv"
    if path.exists():
        return path
    rate = f"{kilobits}k"
    command = (
        f"{ffmpeg} -v error -y -f lavfi -i testsrc2=size=1280x720:rate=30,noise=alls=12:allf=t "
        f"-f lavfi -i sine=frequency=440:sample_rate=48000 -t {SECONDS} "
        f"-c:v libx264 -preset veryfast -tune zerolatency -g {30 * KEYFRAME_INTERVAL_S} -sc_threshold 0 "
        f"-b:v {rate} -maxrate {rate} -bufsize {rate} -pix_fmt yuv420p -c:a aac -b:a 128k -ac 2"
    )
    partial = path.with_suffix(".partial.flv")
    subprocess.run([*command.split(), str(partial)], check=True)
    partial.rename(path)
    return path


def read_tags(path: Path) -> Iterator[Tag]:
    """The tags of an FLV file in order."""
    data = path.read_bytes()
    position = int.from_bytes(data[5:9], "big") + 4
    while position + 11 <= len(data):
        kind, size = data[position], int.from_bytes(data[position + 1 : position + 4], "big")
        time_ms = int.from_bytes(data[position + 4 : position + 7], "big") | data[position + 7] << 24
        yield Tag(kind, time_ms, data[position + 11 : position + 11 + size])
        position += 11 + size + 4


def repeat(tags: list[Tag], seconds: int) -> Iterator[Tag]:
    """The clip again and again on one timeline, for so long; configs and metadata the first time only."""
    media = [tag for tag in tags if tag.kind in (8, 9) and not tag.is_config]
    yield from (tag for tag in tags if tag not in media)
    length_ms = SECONDS * 1000
    for turn in range(seconds * 1000 // length_ms + 1):
        for tag in media:
            time_ms = tag.time_ms + turn * length_ms
            if time_ms > seconds * 1000:
                return
            if tag.time_ms < length_ms:
                yield tag._replace(time_ms=time_ms)
