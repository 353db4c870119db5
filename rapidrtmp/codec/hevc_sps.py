"""
The HEVC sequence parameter set, SPS: what it says of the pictures (ITU-T H.265, 7.3.2.2).

Everything is read up to the video usability information, and of that as far as the frame rate; what follows is for
decoders. What stands in between, above all the sets of reference pictures, is passed over, but has to be read for that.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from rapidrtmp.codec.bits import BitReader, remove_emulation_prevention
from rapidrtmp.codec.hevc_nal import HEADER_SIZE, skip_profile
from rapidrtmp.codec.vui import MAX_PIXELS, Usability, read_colour, read_pixel_aspect, sane_rate
from rapidrtmp.errors import MediaError

__all__ = ["Profile", "Sps", "read_sps"]

#: Cropping units, horizontal and vertical, by chroma format: none, 4:2:0, 4:2:2, 4:4:4 (H.265, table 6-1).
_CROP_UNITS = ((1, 1), (2, 2), (2, 1), (1, 1))
_MOST_REFERENCE_SETS, _MOST_REFERENCES, _MOST_LONG_TERM = 64, 16, 32


class Profile(NamedTuple):
    """
    Profile, tier and level (H.265, 7.3.3).

    :ivar space: 0, or a letter's number from 1.
    :ivar tier: 0 main, 1 high.
    :ivar compatibility: 32 flags, that of profile 0 on top.
    :ivar constraints: 48 flags.
    :ivar level: 30 times its number.
    """

    space: int
    tier: int
    profile: int
    compatibility: int
    constraints: int
    level: int


class Sps(NamedTuple):
    """
    What is needed of a sequence parameter set.

    :ivar sublayers: of how many temporal layers; ``is_nested`` says that any of them may be left at any time.
    :ivar chroma_format: 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    :ivar luma_depth: bits a sample; likewise ``chroma_depth``.
    :ivar width: in pixels after cropping; likewise ``height``.
    """

    profile: Profile
    sublayers: int
    is_nested: bool
    chroma_format: int
    luma_depth: int
    chroma_depth: int
    width: int
    height: int
    usability: Usability


def read_sps(nal: bytes) -> Sps:
    """
    Read a whole sequence parameter set NAL unit.

    :raises MediaError: it ends early, holds what the specification excludes, or leaves no picture. What is behind the
        picture's size and depth may break off.
    """
    bits = BitReader(remove_emulation_prevention(nal[HEADER_SIZE:]))
    bits.u(4)  # sps_video_parameter_set_id
    more_sublayers, is_nested = bits.u(3), bits.flag()
    if more_sublayers > 6:
        raise MediaError(f"SPS with {more_sublayers + 1} temporal layers, 7 are allowed")
    start = BitReader(remove_emulation_prevention(nal[HEADER_SIZE : HEADER_SIZE + 24]))
    start.u(8)
    profile = Profile(start.u(2), start.u(1), start.u(5), start.u(32), start.u(48), start.u(8))
    skip_profile(bits, more_sublayers)
    bits.ue()  # sps_seq_parameter_set_id
    chroma_format = bits.ue()
    if chroma_format > 3:
        raise MediaError(f"SPS with chroma format {chroma_format}, 0..3 exist")
    separate_planes = chroma_format == 3 and bits.flag()
    coded_width, coded_height = bits.ue(), bits.ue()
    left, right, top, bottom = (bits.ue(), bits.ue(), bits.ue(), bits.ue()) if bits.flag() else (0, 0, 0, 0)
    crop = _CROP_UNITS[0 if separate_planes else chroma_format]
    width, height = coded_width - crop[0] * (left + right), coded_height - crop[1] * (top + bottom)
    if not (0 < width <= MAX_PIXELS and 0 < height <= MAX_PIXELS):
        raise MediaError(f"SPS of {coded_width}x{coded_height} pixels, cropped to {width}x{height}")
    luma_depth, chroma_depth = bits.ue() + 8, bits.ue() + 8
    if luma_depth > 16 or chroma_depth > 16:
        raise MediaError(f"SPS with {luma_depth} and {chroma_depth} bits a sample, 8..16 exist")
    usability = _find_usability(bits, more_sublayers)
    return Sps(
        profile, more_sublayers + 1, is_nested, chroma_format, luma_depth, chroma_depth, width, height, usability
    )


def _find_usability(bits: BitReader, more_sublayers: int) -> Usability:
    """Pass over what decoders need, and read the video usability information, if there is any that can be read."""
    try:
        order_bits = bits.ue() + 4  # log2_max_pic_order_cnt_lsb_minus4
        for _ in range(more_sublayers + 1 if bits.flag() else 1):
            bits.ue()  # sps_max_dec_pic_buffering_minus1
            bits.ue()  # sps_max_num_reorder_pics
            bits.ue()  # sps_max_latency_increase_plus1
        for _ in range(6):  # sizes of coding and transform blocks, depths of their hierarchies
            bits.ue()
        if bits.flag() and bits.flag():  # scaling_list_enabled_flag, sps_scaling_list_data_present_flag
            _skip_scaling_lists(bits)
        bits.u(2)  # amp_enabled_flag, sample_adaptive_offset_enabled_flag
        if bits.flag():  # pcm_enabled_flag
            bits.u(8)
            bits.ue()
            bits.ue()
            bits.u(1)
        _skip_reference_sets(bits)
        if bits.flag():  # long_term_ref_pics_present_flag
            for _ in range(_bounded(bits.ue(), _MOST_LONG_TERM, "long-term reference pictures")):
                bits.u(order_bits + 1)
        bits.u(2)  # sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag
        return _read_usability(bits) if bits.flag() else Usability()
    except MediaError:
        return Usability()


def _skip_scaling_lists(bits: BitReader) -> None:
    """Pass over the scaling lists (H.265, 7.3.4)."""
    for size in range(4):
        for _ in range(2 if size == 3 else 6):
            if not bits.flag():  # scaling_list_pred_mode_flag
                bits.ue()
                continue
            if size > 1:
                bits.se()  # scaling_list_dc_coef_minus8
            for _ in range(min(64, 1 << (4 + 2 * size))):
                bits.se()


def _skip_reference_sets(bits: BitReader) -> None:
    """Pass over the short-term reference picture sets (H.265, 7.3.7); some say how they differ from the last."""
    pictures = 0
    for index in range(_bounded(bits.ue(), _MOST_REFERENCE_SETS, "reference picture sets")):
        if index and bits.flag():  # inter_ref_pic_set_prediction_flag
            bits.u(1)  # delta_rps_sign
            bits.ue()  # abs_delta_rps_minus1
            # A picture stays if it is used by the current one, or else is said to be kept.
            pictures = sum(bits.flag() or bits.flag() for _ in range(pictures + 1))
        else:
            before, behind = bits.ue(), bits.ue()
            pictures = _bounded(before + behind, _MOST_REFERENCES, "reference pictures in a set")
            for _ in range(pictures):
                bits.ue()
                bits.u(1)


def _bounded(count: int, most: int, what: str) -> int:
    if count > most:
        raise MediaError(f"SPS with {count} {what}, {most} are allowed")
    return count


def _read_usability(bits: BitReader) -> Usability:
    """Read video usability information (H.265, E.2.1)."""
    usability = Usability()
    try:
        usability = usability._replace(pixel_aspect=read_pixel_aspect(bits))
        if bits.flag():  # overscan_info_present_flag
            bits.u(1)
        usability = usability._replace(colour=read_colour(bits))
        if bits.flag():  # chroma_loc_info_present_flag
            bits.ue()
            bits.ue()
        bits.u(3)  # neutral_chroma_indication_flag, field_seq_flag, frame_field_info_present_flag
        if bits.flag():  # default_display_window_flag
            for _ in range(4):
                bits.ue()
        return usability._replace(frame_rate=_read_frame_rate(bits))
    except MediaError:
        return usability


def _read_frame_rate(bits: BitReader) -> Fraction | None:
    """Frames a second from the tick of the timing information: unlike with H.264, one makes a picture."""
    if not bits.flag():
        return None
    ticks, scale = bits.u(32), bits.u(32)
    return sane_rate(scale, ticks)
