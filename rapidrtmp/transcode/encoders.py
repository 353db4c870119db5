"""
H.264 encoders of FFmpeg: how each is asked for no delay and for keyframes that are IDR, and which of them work here.

A build lists encoders for hardware that the machine may not have, so each is tried on three small pictures before it is
used. One that works now can still fail later, for hardware has a limited number of sessions; ``libx264`` always works.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ENCODERS", "LIBX264", "Encoder", "find_encoder"]

LONGEST_TRIAL_S = 5
_RENDER_NODE = "/dev/dri/renderD128"


@dataclass(frozen=True, slots=True)
class Encoder:
    """
    One encoder.

    :ivar options: of each output, beside what all have.
    :ivar before: options before the input.
    :ivar upload: what the filter graph has behind the scaler.
    :ivar pixel_format: what it takes; empty where the filters see to that.
    :ivar reordered: the options where B-frames are wanted, which are as many as ``{}`` says; empty if it has none.
    """

    name: str
    options: str
    before: str = ""
    upload: str = ""
    pixel_format: str = "yuv420p"
    reordered: str = ""

    def with_b_frames(self, count: int) -> Sequence[str]:
        """
        The options of an output.

        :param count: of B-frames in a row, at most; 0 for none, and no delay.
        """
        return (self.reordered.format(count) if count else self.options).split()


#: With the preset and the number of threads of its own. With B-frames it looks ahead no further than these need, and
#: codes large pictures in slices: a thread for each would be a picture of delay each.
LIBX264 = Encoder(
    "libx264",
    "-tune zerolatency -sc_threshold 0 -forced-idr 1",
    reordered="-bf {} -rc-lookahead 4 -thread_type slice -sc_threshold 0 -forced-idr 1",
)
#: By name, those on hardware in the order in which they are tried.
ENCODERS = {
    encoder.name: encoder
    for encoder in (
        Encoder(
            "h264_nvenc",
            "-tune ll -zerolatency 1 -delay 0 -rc cbr -bf 0 -no-scenecut 1 -forced-idr 1",
            reordered="-tune hq -delay 0 -rc cbr -bf {} -no-scenecut 1 -forced-idr 1",
        ),
        Encoder(
            "h264_qsv",
            "-async_depth 1 -look_ahead 0 -low_power 1 -bf 0 -forced_idr 1",
            pixel_format="nv12",
            reordered="-async_depth 1 -look_ahead 0 -bf {} -forced_idr 1",
        ),
        Encoder(
            "h264_vaapi",
            "-async_depth 1 -rc_mode CBR -bf 0",
            before=f"-vaapi_device {_RENDER_NODE}",
            upload="format=nv12,hwupload",
            pixel_format="",
        ),
        Encoder("h264_amf", "-usage ultralowlatency -bf 0 -forced_idr 1"),
        Encoder("h264_videotoolbox", "-realtime 1 -prio_speed 1 -bf 0"),
        LIBX264,
    )
}


def find_encoder(ffmpeg: str, wanted: str = "auto", b_frames: int = 0) -> Encoder:
    """
    The first encoder that works; it is tried in this call, which may take some seconds: for a thread.

    :param wanted: the name of one, or ``auto`` for any.
    :param b_frames: so many in a row, at most; an encoder that has none is not considered.
    """
    candidates = [ENCODERS[wanted]] if wanted != "auto" else list(ENCODERS.values())
    able = [each for each in candidates if each.reordered or not b_frames]
    return next((each for each in able if each is LIBX264 or _works(ffmpeg, each, b_frames)), LIBX264)


def _works(ffmpeg: str, encoder: Encoder, b_frames: int) -> bool:
    """Whether an encoder takes three small pictures, in time."""
    try:
        done = subprocess.run(
            _trial(ffmpeg, encoder, b_frames), capture_output=True, timeout=LONGEST_TRIAL_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _trial(ffmpeg: str, encoder: Encoder, b_frames: int) -> Sequence[str]:
    filters = ["-vf", encoder.upload] if encoder.upload else ["-pix_fmt", encoder.pixel_format]
    source = [*encoder.before.split(), "-f", "lavfi", "-i", "color=size=256x144:rate=30"]
    coded = [*filters, "-c:v", encoder.name, *encoder.with_b_frames(b_frames), "-b:v", "200k", "-frames:v", "3"]
    return [ffmpeg, "-hide_banner", "-nostdin", "-loglevel", "error", *source, *coded, "-f", "null", "-"]
