"""Fragmented MP4 as FFmpeg writes it to a pipe, by hand: what a transcoder's child writes of rungs with B-frames."""

from __future__ import annotations

from struct import pack

from rapidrtmp.cmaf.boxes import box, full_box
from rapidrtmp.cmaf.init_segment import write_init_segment
from rapidrtmp.media import Frame, Track

__all__ = ["fragment_of", "head_of"]


def head_of(track: Track) -> bytes:
    """What comes first."""
    return write_init_segment((track,))


def fragment_of(frame: Frame) -> bytes:
    """A picture: size and flags are those of the fragment, as FFmpeg says them where there is one alone."""
    tfhd = full_box(b"tfhd", 0, 0x020038, pack(">IIII", 1, frame.duration, len(frame.data), 0x02000000))
    tfdt = full_box(b"tfdt", 1, 0, pack(">q", frame.dts))
    size = 8 + 16 + 8 + len(tfhd) + len(tfdt) + 24
    trun = full_box(b"trun", 1, 0x801, pack(">IIi", 1, size + 8, frame.composition_offset))
    moof = box(b"moof", full_box(b"mfhd", 0, 0, pack(">I", 1)), box(b"traf", tfhd, tfdt, trun))
    assert len(moof) == size
    return moof + box(b"mdat", frame.data)
