"""The sequence header of AV1: what it says of the pictures (AV1 bitstream specification, 5.5)."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from rapidrtmp.codec.bits import BitReader
from rapidrtmp.codec.vui import UNSPECIFIED, known_colour, sane_rate
from rapidrtmp.errors import MediaError
from rapidrtmp.media import Colour

__all__ = ["ANY_LEVEL", "SequenceHeader", "read_sequence_header"]

#: seq_level_idx of a stream that keeps to no level.
ANY_LEVEL = 31
_SRGB = (1, 13, 0)  # primaries, transfer and matrix of pictures that are not subsampled


class SequenceHeader(NamedTuple):
    """
    What is needed of a sequence header.

    :ivar level: seq_level_idx; 31 for no level.
    :ivar subsampling: horizontal and vertical, each 0 or 1.
    :ivar chroma_position: where chroma samples lie; 0 is unknown.
    :ivar colour: ``None`` if nothing is said, or no more than players assume.
    :ivar code_points: primaries, transfer and matrix as they stand there, 2 where nothing is said.
    :ivar width: of the largest frame; likewise ``height``.
    :ivar frame_rate: if it is constant and said.
    """

    profile: int
    level: int
    tier: int
    depth: int
    is_monochrome: bool
    subsampling: tuple[int, int]
    chroma_position: int
    colour: Colour | None
    code_points: tuple[int, int, int]
    width: int
    height: int
    frame_rate: Fraction | None


class _Colour(NamedTuple):
    depth: int
    is_monochrome: bool
    subsampling: tuple[int, int]
    position: int
    code_points: tuple[int, int, int]
    full_range: bool


def read_sequence_header(data: bytes) -> SequenceHeader:
    """
    Read what is in a sequence header OBU.

    :raises MediaError: it ends early, or is of a profile that does not exist.
    """
    bits = BitReader(data)
    profile = bits.u(3)
    if profile > 2:
        raise MediaError(f"AV1 profile {profile}, 0..2 exist")
    bits.u(1)  # still_picture
    is_reduced = bits.flag()
    rate, (level, tier) = (None, (bits.u(5), 0)) if is_reduced else (_read_rate(bits), (0, 0))
    if not is_reduced:
        level, tier = _read_operating_points(bits, delay_bits=_read_decoder_model(bits, has_timing=rate is not None))
    width_bits, height_bits = bits.u(4) + 1, bits.u(4) + 1
    width, height = bits.u(width_bits) + 1, bits.u(height_bits) + 1
    _skip_tools(bits, is_reduced=is_reduced)
    colour = _read_colour(bits, profile)
    described = known_colour(Colour(*colour.code_points, colour.full_range))
    return SequenceHeader(
        *(profile, level, tier, colour.depth, colour.is_monochrome, colour.subsampling, colour.position),
        *(described, colour.code_points, width, height, rate or None),
    )


def _read_rate(bits: BitReader) -> Fraction | None:
    """Frames a second by the timing information; 0 if that is there and says no constant rate, ``None`` without it."""
    if not bits.flag():
        return None
    ticks, scale = bits.u(32), bits.u(32)
    if not bits.flag():  # equal_picture_interval
        return Fraction(0)
    return sane_rate(scale, ticks * (bits.ue() + 1)) or Fraction(0)


def _read_decoder_model(bits: BitReader, *, has_timing: bool) -> int:
    """How wide the delays of operating points are in bits; 0 if there are none."""
    if not has_timing or not bits.flag():
        return 0
    width = bits.u(5) + 1
    bits.u(32 + 5 + 5)
    return width


def _read_operating_points(bits: BitReader, delay_bits: int) -> tuple[int, int]:
    """Level and tier of the first one, which is all of the stream."""
    has_display_delay = bits.flag()
    points = []
    for _ in range(bits.u(5) + 1):
        bits.u(12)  # operating_point_idc
        level = bits.u(5)
        points.append((level, bits.u(1) if level > 7 else 0))
        if delay_bits and bits.flag():
            bits.u(2 * delay_bits + 1)
        if has_display_delay and bits.flag():
            bits.u(4)
    return points[0]


def _skip_tools(bits: BitReader, *, is_reduced: bool) -> None:
    """Pass over the coding tools, from frame ids to loop restoration."""
    if not is_reduced and bits.flag():  # frame_id_numbers_present_flag
        bits.u(7)
    bits.u(3)  # use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter
    if not is_reduced:
        bits.u(4)  # interintra and masked compounds, warped motion, dual filter
        has_order = bits.flag()
        if has_order:
            bits.u(2)  # enable_jnt_comp, enable_ref_frame_mvs
        is_chosen = bits.flag()  # seq_choose_screen_content_tools
        if (is_chosen or bits.flag()) and not bits.flag():  # seq_choose_integer_mv
            bits.u(1)
        if has_order:
            bits.u(3)
    bits.u(3)  # enable_superres, enable_cdef, enable_restoration


def _read_colour(bits: BitReader, profile: int) -> _Colour:
    """Read the colour configuration (5.5.2)."""
    is_high = bits.flag()
    depth = 12 if profile == 2 and is_high and bits.flag() else 10 if is_high else 8
    is_monochrome = profile != 1 and bits.flag()
    unknown = (UNSPECIFIED, UNSPECIFIED, UNSPECIFIED)
    code_points = (bits.u(8), bits.u(8), bits.u(8)) if bits.flag() else unknown
    if is_monochrome:
        return _Colour(depth, True, (1, 1), 0, code_points, bits.flag())
    if code_points == _SRGB:
        return _Colour(depth, False, (0, 0), 0, code_points, True)
    full_range = bits.flag()
    subsampling = _read_subsampling(bits, profile, depth)
    position = bits.u(2) if subsampling == (1, 1) else 0
    return _Colour(depth, False, subsampling, position, code_points, full_range)


def _read_subsampling(bits: BitReader, profile: int, depth: int) -> tuple[int, int]:
    if profile < 2:
        return (1, 1) if profile == 0 else (0, 0)
    if depth < 12:
        return 1, 0
    horizontal = bits.u(1)
    return horizontal, bits.u(1) if horizontal else 0
