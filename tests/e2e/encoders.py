"""
Real encoders, each as the command line that publishes one stream: FFmpeg of two vintages, GStreamer's own RTMP and,
through GStreamer, librtmp.

FFmpeg publishes clips that were encoded before. GStreamer encodes as it publishes, and leaves a copy of the FLV stream
it sends in a file, so that every packet sent is known there too. It also carries clips tag by tag, which is the only
way to give it the timestamps of a publisher that has been up for weeks.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from tests.e2e.ffmpeg import FFMPEG, RUN_S, Clip, Packets, read_packets

__all__ = ["CLIP_S", "Process", "Stream", "carried_by_gstreamer", "encoded_by_gstreamer", "published_by_ffmpeg"]

#: How long every stream is.
CLIP_S = 5
#: The NAL units that are parameter sets of H.264.
PARAMETER_SETS = "filter_units=remove_types=7-8"
_FLV_HEADER_SIZE = 13
_TAG_HEADER_SIZE = 11
_BACK_POINTER_SIZE = 4
_SAMPLES = 1024


class _Command(NamedTuple):
    """How to publish, and where to read what is sent once that is over."""

    arguments: Sequence[str]
    sent: Path


@dataclass(frozen=True)
class Stream:
    """
    One stream to publish.

    :ivar name: its stream key.
    :ivar command: from the URL to publish to and a folder for its files to the command.
    :ivar frame_rate: of its video; ``None`` if that varies, or for no video.
    :ivar sample_rate: of its audio; 0 for no audio.
    :ivar bent: how many frames at the beginning have decode times that the encoder itself has bent.
    :ivar taken_out: FFmpeg's bitstream filter that takes out of pictures what has another place, or none, in an MP4
        track; empty if there is nothing of the kind.
    """

    name: str
    command: Callable[[str, Path], _Command]
    frame_rate: Fraction | None
    sample_rate: int
    bent: int = 0
    taken_out: str = ""


class Process:
    """One encoder at work on one stream; what it prints goes to a file in ``folder``."""

    def __init__(self, stream: Stream, url: str, folder: Path) -> None:
        arguments, self._sent = stream.command(url, folder)
        self._taken_out = stream.taken_out
        self._log = folder / "encoder.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @property
    def said(self) -> str:
        """What it has printed."""
        return self._log.read_text("utf-8", "replace")

    def wait(self, deadline_s: float) -> int:
        """Wait for its end; the exit status."""
        return self._process.wait(deadline_s)

    def kill(self) -> None:
        """End it without a farewell, as a power cut would."""
        self._process.kill()
        self._process.wait()

    def packets(self) -> Packets:
        """Every packet it has sent, without what is taken out; it must have ended."""
        return read_packets(_without(self._taken_out, self._sent) if self._taken_out else self._sent)


def _without(taken_out: str, path: Path) -> Path:
    """A copy of an FLV file, its pictures through a bitstream filter."""
    copy = path.with_name("stripped.flv")
    arguments = ["-copyts", "-i", str(path), "-map", "0:v?", "-map", "0:a?", "-c", "copy"]
    arguments += ["-bsf:v", taken_out, "-f", "flv", str(copy)]
    subprocess.run([FFMPEG, "-nostdin", "-v", "error", *arguments], stdin=subprocess.DEVNULL, check=True, timeout=RUN_S)
    return copy


# ── FFmpeg ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def published_by_ffmpeg(ffmpeg: str, clip: Clip, *options: str) -> Stream:
    """FFmpeg publishes a clip in real time, packet by packet as it is; ``options`` are for its output."""

    def command(url: str, _folder: Path) -> _Command:
        arguments = [ffmpeg, "-hide_banner", "-nostdin", "-nostats", "-re", "-i", str(clip.path), "-c", "copy"]
        return _Command([*arguments, *options, "-f", "flv", url], clip.path)

    varies = "-fps_mode" in clip.more
    return Stream(clip.name, command, None if varies else clip.frame_rate, clip.sample_rate, taken_out=clip.taken_out)


# ── GStreamer ────────────────────────────────────────────────────────────────────────────────────────────────────────


def encoded_by_gstreamer(
    name: str,
    sink: str,
    frame_rate: Fraction | None = None,
    sample_rate: int = 0,
    *,
    channels: int = 2,
    b_frames: int = 0,
    options: str = "",
) -> Stream:
    """
    GStreamer encodes a test picture, a tone or both, and publishes them in real time.

    :param sink: ``rtmp2sink`` is its own RTMP, ``rtmpsink`` librtmp.
    :param options: properties of the sink.
    """
    inputs = ""
    if frame_rate is not None:
        gop, pictures = round(frame_rate), round(CLIP_S * frame_rate)
        inputs += f" videotestsrc num-buffers={pictures}"
        inputs += f" ! video/x-raw,framerate={frame_rate.numerator}/{frame_rate.denominator},width=320,height=180"
        inputs += f" ! x264enc threads=1 speed-preset=ultrafast key-int-max={gop} bframes={b_frames} ! queue ! mux."
    if sample_rate:
        inputs += f" audiotestsrc samplesperbuffer={_SAMPLES} num-buffers={CLIP_S * sample_rate // _SAMPLES}"
        inputs += f" ! audio/x-raw,rate={sample_rate},channels={channels} ! audioconvert"
        inputs += " ! avenc_aac ! aacparse ! queue ! mux."

    def command(url: str, folder: Path) -> _Command:
        sent = folder / "sent.flv"
        pipeline = "flvmux name=mux streamable=true ! tee name=copy"
        pipeline += f" copy. ! queue ! {sink} location={_location(sink, url)} {options}"
        pipeline += f" copy. ! queue ! filesink sync=false location={shlex.quote(str(sent))}{inputs}"
        return _Command(["gst-launch-1.0", "-q", *shlex.split(pipeline)], sent)

    # The multiplexer knows no negative times: what B-frames would put before 0 it puts there.
    return Stream(
        name, command, frame_rate, sample_rate, bent=b_frames + 1 if b_frames else 0, taken_out=PARAMETER_SETS
    )


def carried_by_gstreamer(name: str, sink: str, clip: Clip, start_ms: int, *, options: str = "") -> Stream:
    """
    GStreamer publishes a clip whose timestamps are moved to begin at ``start_ms``, modulo 2**32, as fast as it can.

    Its own multiplexer lets every stream begin at 0, so here each FLV tag comes from a file of its own.
    """

    def command(url: str, folder: Path) -> _Command:
        _write_tags(clip.path.read_bytes(), start_ms, folder)
        pipeline = f"multifilesrc location={shlex.quote(str(folder))}/%06d.tag caps=video/x-flv"
        pipeline += f" ! {sink} sync=false location={_location(sink, url)} {options}"
        return _Command(["gst-launch-1.0", "-q", *shlex.split(pipeline)], clip.path)

    return Stream(name, command, clip.frame_rate, clip.sample_rate)


def _location(sink: str, url: str) -> str:
    """The URL, and what librtmp wants to know besides: that this is no recording."""
    return shlex.quote(f"{url} live=1" if sink == "rtmpsink" else url)


def _write_tags(flv: bytes, shift_ms: int, folder: Path) -> None:
    """Write every tag of an FLV file to a file of its own, its timestamp moved."""
    at, count = _FLV_HEADER_SIZE, 0
    while at < len(flv):
        end = at + _TAG_HEADER_SIZE + int.from_bytes(flv[at + 1 : at + 4], "big") + _BACK_POINTER_SIZE
        time_ms = (int.from_bytes(flv[at + 4 : at + 7], "big") | flv[at + 7] << 24) + shift_ms
        clock = (time_ms & 0xFFFFFF).to_bytes(3, "big") + bytes([time_ms >> 24 & 0xFF])
        (folder / f"{count:06}.tag").write_bytes(flv[at : at + 4] + clock + flv[at + 8 : end])
        at, count = end, count + 1
