"""A decoder that did not learn from us: what FFmpeg makes of a track as it is stored."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence

from imageio_ffmpeg import get_ffmpeg_exe

from rapidrtmp.cmaf.fragment import write_fragment
from rapidrtmp.cmaf.init_segment import write_init_segment
from rapidrtmp.interfaces import Sample, TrackRun
from rapidrtmp.media import Frame, Track

__all__ = ["decoded_samples"]


def decoded_samples(track: Track, samples: Sequence[tuple[bytes, int]]) -> tuple[int, ...]:
    """
    The sound of one audio track as numbers of 16 bits, its channels interleaved.

    :param samples: what is stored, and how long each lasts, in ticks.
    :raises AssertionError: the decoder complains about anything.
    """
    frames, dts = list[Sample](), 0
    for data, duration in samples:
        frames.append(Sample(Frame(track, dts, 0, duration, True, data, 0), duration))
        dts += duration
    media = write_init_segment([track]) + b"".join(write_fragment(1, [TrackRun(track, tuple(frames))]))
    command = [get_ffmpeg_exe(), "-v", "error", "-xerror", "-f", "mp4", "-i", "pipe:", "-f", "s16le", "pipe:"]
    done = subprocess.run(command, input=media, capture_output=True, timeout=60)
    if done.returncode or done.stderr:
        raise AssertionError(f"status {done.returncode}: {done.stderr.decode('utf-8', 'replace')}")
    return struct.unpack(f"<{len(done.stdout) // 2}h", done.stdout)
