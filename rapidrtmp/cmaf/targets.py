"""
The numbers that a live playlist promises for good: target duration and part target, chosen from the first GOP.

A player may trust them from the first playlist on (RFC 8216 bis, 4.4.3.1, 4.4.3.7), so they are measured before there
is one: frames of the first GOP tell whether there is a frame grid and how long a segment will be.

They are chosen from the rhythm of those frames, not from single times. Encoders begin unevenly: GStreamer's flvmux
writes decode times below zero as zero, so that with B-frames the first pictures share one, and the first GOP comes out
some frames short. A target duration of two GOPs, where one is right, would double every viewer's distance from live.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from statistics import median

from rapidrtmp.interfaces import Constants, Cutting

__all__ = ["choose_constants"]

#: Shortest part in relation to the part target, but for the last of a segment (RFC 8216 bis, 4.4.4.9).
SHORTEST_PART_PERCENT = 85
#: Frames whose distances differ by no more ticks than this are on a grid (23.976 frames a second need one).
GRID_TOLERANCE = 2
#: So few steps of less than half the usual one are no rhythm, but frames whose times were squeezed together.
MOST_SQUEEZED = 4
#: What a GOP may be short of its usual length by jitter, in percent of the wanted segment.
SHORT_GOP_PERCENT = 4
#: Parts are not made longer than this for the sake of an irregular frame rate.
LONGEST_PART_MS = 1_000


def choose_constants(cutting: Cutting, timescale: int, starts: Sequence[int], gop: int | None) -> Constants:
    """
    Choose from measurement.

    :param timescale: ticks a second of what follows.
    :param starts: decode times of the frames of the first GOP, and of the keyframe after it if there is one.
    :param gop: ticks from keyframe to keyframe; ``None`` where every frame is one (audio); the longest allowed if no
        second keyframe has come.
    """
    steps = [after - before for before, after in pairwise(starts)] or [timescale // 30]
    frame = median(steps)
    squeezed = [step for step in steps if 2 * step < frame]
    if 0 < len(squeezed) <= MOST_SQUEEZED:
        steps = [step for step in steps if 2 * step >= frame]
        gop = gop and gop + int(len(squeezed) * frame) - sum(squeezed)
    return Constants(
        target_s=_target_s(cutting, timescale, frame, gop),
        part_target_ms=_part_target_ms(cutting, timescale, steps),
    )


def _target_s(cutting: Cutting, timescale: int, frame: float, gop: int | None) -> int:
    wanted = cutting.segment_ms * timescale / 1000
    step = gop or frame
    gops = max(1, ceil(wanted / (step + max(frame / 2, wanted * SHORT_GOP_PERCENT / 100))))
    longest_ms = max(gops * step * 1000 / timescale, cutting.segment_ms)
    return max(1, int(longest_ms + 500) // 1000)


def _part_target_ms(cutting: Cutting, timescale: int, steps: Sequence[int]) -> int:
    """
    On a frame grid a whole number of frames, rounded up to a millisecond. Off it, so long that one frame more or less
    stays within the tolerance for short parts, in reason.
    """
    if not cutting.part_ms:
        return 0
    longest = max(steps)
    if longest - min(steps) <= GRID_TOLERANCE:
        frames = max(1, int(cutting.part_ms * timescale / (1000 * longest) + 0.5))
        return -(-frames * longest * 1000 // timescale)
    frame_ms = median(steps) * 1000 / timescale
    tolerant_ms = ceil(frame_ms * 100 / (100 - SHORTEST_PART_PERCENT))
    return max(cutting.part_ms, min(tolerant_ms, LONGEST_PART_MS))
