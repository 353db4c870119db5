"""
The load of the benchmarks: real clips, H.264 and AAC as a rule, made once by FFmpeg and kept, as RTMP messages.

One is a 720p30 stream of 2.5 Mbit/s; :data:`MIX` is what differs among real encoders, :data:`ENCODERS` the codecs.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from imageio_ffmpeg import get_ffmpeg_exe

from rapidrtmp.support.ffmpeg import find_ffmpeg

SECONDS = 10
KEYFRAME_INTERVAL_S = 2
#: Of video a second, unless other streams are asked for.
KILOBITS = 2_370


#: FFmpeg's encoder of each codec; all but that of H.264 need a current FFmpeg.
ENCODERS = {
    "h264": "libx264 -preset veryfast",
    "hevc": "libx265 -preset ultrafast -x265-params log-level=error:open-gop=0:bframes=0:scenecut=0",
    "av1": "libaom-av1 -usage realtime -cpu-used 8",
    "vp9": "libvpx-vp9 -deadline realtime -cpu-used 8",
}


class Shape(NamedTuple):
    """
    How a clip is encoded.

    :ivar kilobits: of video a second; constant, as encoders for live use are set up.
    :ivar rate: frames a second.
    :ivar b_frames: pictures in a row that are decoded after one that is shown later, at most.
    :ivar slices: of each picture.
    :ivar codec: one of :data:`ENCODERS`.
    """

    kilobits: int
    size: str = "1280x720"
    rate: int = 30
    b_frames: int = 0
    slices: int = 1
    interval_s: int = KEYFRAME_INTERVAL_S
    codec: str = "h264"

    @property
    def name(self) -> str:
        """Of its file."""
        return f"rapidrtmp-bench-{'-'.join(map(str, self))}"


#: With B-frames or none, 24 to 60 frames a second, 1 to 6 Mbit/s; 3.3 on average, and 84 messages a second.
MIX = (
    Shape(2_370),
    Shape(4_000, "1920x1080", 25, b_frames=2),
    Shape(1_500, "1280x720", 24, b_frames=3, interval_s=4),
    Shape(6_000, "1920x1080", 60),
    Shape(1_000, "854x480", 30, b_frames=2),
    Shape(3_500, "1280x720", 50, slices=4, interval_s=1),
)


class Tag(NamedTuple):
    """An FLV tag: ``kind`` 8 is audio, 9 video, 18 data; ``time_ms`` is its decode time."""

    kind: int
    time_ms: int
    payload: bytes

    @property
    def is_config(self) -> bool:
        """Whether it is a codec config, or metadata of its colour."""
        if self.kind == 9 and self.payload[0] & 0x80:
            return self.payload[0] & 0x0F in (0, 4)
        return self.kind in (8, 9) and self.payload[1] == 0


def make_clip(directory: Path | None = None, kilobits: int = KILOBITS, codec: str = "h264") -> Path:
    """
    A clip of :data:`SECONDS` seconds, 720p30, 2.5 Mbit/s in all, made by FFmpeg unless it is there already.

    :param kilobits: of video a second.
    """
    return _make(Shape(kilobits, codec=codec), directory)


def make_mix(directory: Path | None = None) -> list[Path]:
    """The clips of :data:`MIX`, likewise."""
    return [_make(shape, directory) for shape in MIX]


def _make(shape: Shape, directory: Path | None) -> Path:
    path = (directory or Path(tempfile.gettempdir())) / f"{shape.name}.flv"
    if path.exists():
        return path
    ffmpeg = find_ffmpeg() if shape.codec == "h264" else get_ffmpeg_exe()
    if ffmpeg is None:
        raise SystemExit("the benchmarks need FFmpeg: install it, or pip install imageio-ffmpeg")
    only_avc = f"-x264-params sliced-threads=0:slices={shape.slices} -bf {shape.b_frames} -sc_threshold 0 "
    rate, interval = f"{shape.kilobits}k", shape.rate * shape.interval_s
    command = (
        f"{ffmpeg} -v error -y -f lavfi -i testsrc2=size={shape.size}:rate={shape.rate},noise=alls=12:allf=t "
        f"-f lavfi -i sine=frequency=440:sample_rate=48000 -t {SECONDS} "
        f"-c:v {ENCODERS[shape.codec]} {only_avc if shape.codec == 'h264' else ''}"
        f"-g {interval} -keyint_min {interval} -b:v {rate} -maxrate {rate} -bufsize {rate} "
        f"-pix_fmt yuv420p -c:a aac -b:a 128k -ac 2"
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
