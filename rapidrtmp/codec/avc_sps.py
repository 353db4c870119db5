"""
The H.264 sequence parameter set, SPS: what it says of the pictures.

Everything is read up to the video usability information, and of that as far as the frame rate; what follows is for
decoders.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from rapidrtmp.codec.bits import BitReader, remove_emulation_prevention
from rapidrtmp.codec.vui import MAX_PIXELS, Usability, read_colour, read_pixel_aspect, sane_rate
from rapidrtmp.errors import MediaError

__all__ = ["Numbering", "Sps", "read_numbering", "read_sps"]

#: Profiles whose SPS has chroma format, bit depths and scaling lists (H.264, 7.3.2.1.1).
_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
#: Cropping units, horizontal and vertical, by chroma format: none, 4:2:0, 4:2:2, 4:4:4 (H.264, table 6-1).
_CROP_UNITS = ((1, 1), (2, 2), (2, 1), (1, 1))


class Sps(NamedTuple):
    """
    What is needed of a sequence parameter set.

    :ivar chroma_format: 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    :ivar luma_depth: bits a sample; likewise ``chroma_depth``.
    :ivar width: in pixels after cropping; likewise ``height``, of both fields.
    """

    profile: int
    chroma_format: int
    luma_depth: int
    chroma_depth: int
    width: int
    height: int
    usability: Usability


class Numbering(NamedTuple):
    """
    How the headers of slices number their pictures.

    :ivar frame_bits: the width of ``frame_num``; likewise ``order_bits`` of ``pic_order_cnt_lsb``, 0 where there is
        none.
    :ivar has_order_deltas: whether differences of the picture order count are there instead.
    :ivar has_chroma: whether weights of predictions are there for chroma, too.
    :ivar has_fields: whether pictures may be fields, and each says so.
    :ivar has_gaps: whether pictures may be left out, as of layers for faster players.
    """

    frame_bits: int
    order_bits: int
    has_order_deltas: bool
    has_chroma: bool = True
    has_fields: bool = False
    has_gaps: bool = False


def read_numbering(nal: bytes) -> Numbering:
    """
    Read how a sequence parameter set has pictures numbered.

    :raises MediaError: it ends early; or colour planes may be coded apart, whose headers say more.
    """
    bits = BitReader(remove_emulation_prevention(nal[1:]))
    profile = bits.u(8)
    bits.u(16)
    bits.ue()
    chroma_format = _read_high_fields(bits)[0] if profile in _HIGH_PROFILES else 1
    if chroma_format == 3:
        raise MediaError("pictures of 4:4:4 are left as they are")
    numbering = _read_numbering(bits)
    bits.ue()  # max_num_ref_frames
    has_gaps = bits.flag()  # gaps_in_frame_num_value_allowed_flag
    bits.ue()  # width
    bits.ue()  # height
    return numbering._replace(has_chroma=chroma_format > 0, has_fields=not bits.flag(), has_gaps=has_gaps)


def read_sps(nal: bytes) -> Sps:
    """
    Read a whole sequence parameter set NAL unit (H.264, 7.3.2.1.1).

    :raises MediaError: it ends early, holds what the specification excludes, or leaves no picture. Only its video
        usability information may break off.
    """
    bits = BitReader(remove_emulation_prevention(nal[1:]))
    profile = bits.u(8)
    bits.u(16)  # constraints, level
    bits.ue()  # seq_parameter_set_id
    chroma_format, luma_depth, chroma_depth, crop_unit = 1, 8, 8, _CROP_UNITS[1]
    if profile in _HIGH_PROFILES:
        chroma_format, luma_depth, chroma_depth, crop_unit = _read_high_fields(bits)
    _read_numbering(bits)
    bits.ue()  # max_num_ref_frames
    bits.u(1)  # gaps_in_frame_num_value_allowed_flag
    width_mbs, height_units = bits.ue() + 1, bits.ue() + 1
    fields = 1 if bits.flag() else 2  # frame_mbs_only_flag; without it, a unit of height is a macroblock per field
    if fields == 2:
        bits.u(1)  # mb_adaptive_frame_field_flag
    bits.u(1)  # direct_8x8_inference_flag
    left, right, top, bottom = (bits.ue(), bits.ue(), bits.ue(), bits.ue()) if bits.flag() else (0, 0, 0, 0)
    width = 16 * width_mbs - crop_unit[0] * (left + right)
    height = 16 * height_units * fields - crop_unit[1] * fields * (top + bottom)
    if not (0 < width <= MAX_PIXELS and 0 < height <= MAX_PIXELS):
        raise MediaError(f"SPS of {width_mbs}x{height_units * fields} macroblocks, cropped to {width}x{height} pixels")
    usability = _read_usability(bits) if bits.flag() else Usability()
    return Sps(profile, chroma_format, luma_depth, chroma_depth, width, height, usability)


def _read_high_fields(bits: BitReader) -> tuple[int, int, int, tuple[int, int]]:
    """Chroma format, bit depths of luma and chroma, cropping unit; passes over the scaling lists."""
    chroma_format = bits.ue()
    if chroma_format > 3:
        raise MediaError(f"SPS with chroma format {chroma_format}, 0..3 exist")
    separate_planes = chroma_format == 3 and bits.flag()
    luma_depth, chroma_depth = bits.ue() + 8, bits.ue() + 8
    if luma_depth > 14 or chroma_depth > 14:
        raise MediaError(f"SPS with {luma_depth} and {chroma_depth} bits a sample, 8..14 exist")
    bits.u(1)  # qpprime_y_zero_transform_bypass_flag
    if bits.flag():  # seq_scaling_matrix_present_flag
        for index in range(12 if chroma_format == 3 else 8):
            if bits.flag():
                _skip_scaling_list(bits, 16 if index < 6 else 64)
    return chroma_format, luma_depth, chroma_depth, _CROP_UNITS[0 if separate_planes else chroma_format]


def _skip_scaling_list(bits: BitReader, size: int) -> None:
    """Pass over one list; a scale of 0 ends it early (H.264, 7.3.2.1.1.1)."""
    scale = 8
    for _ in range(size):
        scale = (scale + bits.se()) % 256
        if not scale:
            return


def _read_numbering(bits: BitReader) -> Numbering:
    """Read the fields that say how pictures are numbered."""
    frame_bits, order_type = bits.ue() + 4, bits.ue()
    if order_type == 0:
        return Numbering(frame_bits, bits.ue() + 4, has_order_deltas=False)
    if order_type > 2:
        raise MediaError(f"SPS with picture order count type {order_type}, 0..2 exist")
    if order_type == 2:
        return Numbering(frame_bits, 0, has_order_deltas=False)
    is_always_zero = bits.flag()  # delta_pic_order_always_zero_flag
    bits.se()  # offset_for_non_ref_pic
    bits.se()  # offset_for_top_to_bottom_field
    count = bits.ue()
    if count > 255:
        raise MediaError(f"SPS with {count} reference frames in a cycle, 255 are allowed")
    for _ in range(count):
        bits.se()
    return Numbering(frame_bits, 0, has_order_deltas=not is_always_zero)


def _read_usability(bits: BitReader) -> Usability:
    """Read video usability information (H.264, E.1.1)."""
    usability = Usability()
    try:
        usability = usability._replace(pixel_aspect=read_pixel_aspect(bits))
        if bits.flag():  # overscan_info_present_flag
            bits.u(1)
        usability = usability._replace(colour=read_colour(bits))
        if bits.flag():  # chroma_loc_info_present_flag
            bits.ue()
            bits.ue()
        return usability._replace(frame_rate=_read_frame_rate(bits))
    except MediaError:
        return usability


def _read_frame_rate(bits: BitReader) -> Fraction | None:
    """Frames a second from the tick of the timing information, two of which make a frame."""
    if not bits.flag():
        return None
    ticks, scale = bits.u(32), bits.u(32)
    return sane_rate(scale, 2 * ticks)
