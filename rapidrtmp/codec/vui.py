"""
Video usability information: what the parameter sets of H.264 and HEVC say of how pictures are to be shown.

Both begin alike and differ behind the place of chroma samples. Some break off: what was said before that counts.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from rapidrtmp.codec.bits import BitReader
from rapidrtmp.media import Colour

__all__ = ["MAX_PIXELS", "UNSPECIFIED", "Usability", "known_colour", "read_colour", "read_pixel_aspect", "sane_rate"]

#: A sample entry writes width and height in 16 bits; the largest level of H.264 ends at 16880, of HEVC at 16888.
MAX_PIXELS = 65_535
#: aspect_ratio_idc 0..16 (H.264, table E-1); 0 is "unspecified".
_PIXEL_ASPECTS = (
    *((1, 1), (1, 1), (12, 11), (10, 11), (16, 11), (40, 33), (24, 11), (20, 11), (32, 11)),
    *((80, 33), (18, 11), (15, 11), (64, 33), (160, 99), (4, 3), (3, 2), (2, 1)),
)
_EXTENDED_ASPECT = 255
UNSPECIFIED = 2  # as colour primaries, transfer and matrix (ITU-T H.273)
#: Frame rates outside are a clock's resolution, or nothing at all, by encoders that do not know theirs.
_MIN_RATE, _MAX_RATE = 1, 300


class Usability(NamedTuple):
    """
    What video usability information says; what it leaves open is as :class:`~rapidrtmp.media.VideoConfig` has it.

    :ivar pixel_aspect: sample aspect ratio, horizontal to vertical.
    :ivar frame_rate: in frames a second; ``None`` also for a rate no camera has.
    :ivar colour: ``None`` also if it is only said to be unspecified.
    """

    pixel_aspect: tuple[int, int] = (1, 1)
    frame_rate: Fraction | None = None
    colour: Colour | None = None


def read_pixel_aspect(bits: BitReader) -> tuple[int, int]:
    """The sample aspect ratio, horizontal to vertical (H.264 and HEVC, E.1.1 and table E-1); square if unspecified."""
    if not bits.flag():
        return 1, 1
    index = bits.u(8)
    if index == _EXTENDED_ASPECT:
        width, height = bits.u(16), bits.u(16)
        return (width, height) if width and height else (1, 1)
    return _PIXEL_ASPECTS[index] if index < len(_PIXEL_ASPECTS) else (1, 1)


def read_colour(bits: BitReader) -> Colour | None:
    """What video_signal_type says, if it says more than a player assumes anyway."""
    if not bits.flag():
        return None
    bits.u(3)  # video_format
    full_range = bits.flag()
    primaries = transfer = matrix = UNSPECIFIED
    if bits.flag():
        primaries, transfer, matrix = bits.u(8), bits.u(8), bits.u(8)
    return known_colour(Colour(primaries, transfer, matrix, full_range))


def known_colour(colour: Colour) -> Colour | None:
    """A colour description, if it says more than a player assumes anyway."""
    return None if colour == Colour(UNSPECIFIED, UNSPECIFIED, UNSPECIFIED, full_range=False) else colour


def sane_rate(scale: int, ticks: int) -> Fraction | None:
    """Frames a second; ``None`` for a clock that stands still, or a rate that no camera has."""
    rate = Fraction(scale, ticks) if ticks else None
    return rate if rate is not None and _MIN_RATE <= rate <= _MAX_RATE else None
