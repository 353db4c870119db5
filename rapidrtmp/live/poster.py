"""The newest keyframe of a stream as a film of one frame: a picture that browsers decode, and the server need not."""

from __future__ import annotations

from dataclasses import replace

from rapidrtmp.cmaf.fragment import write_fragment
from rapidrtmp.cmaf.init_segment import write_init_segment
from rapidrtmp.interfaces import Sample, TrackRun
from rapidrtmp.media import Frame

__all__ = ["write_poster"]


def write_poster(keyframe: Frame) -> bytes:
    """
    Write a fragmented MP4 file that shows one keyframe for a second.

    :raises MediaError: its codec cannot be carried.
    """
    track = keyframe.track
    first = replace(keyframe, dts=0, composition_offset=0)
    pieces = write_fragment(1, [TrackRun(track, [Sample(first, track.timescale)])])
    return b"".join((write_init_segment([track]), *pieces))
