"""The NAL units of HEVC: what their headers, slices and parameter sets begin with, and SEI (ITU-T H.265, 7.3.1)."""

from __future__ import annotations

from rapidrtmp.codec.bits import BitReader, remove_emulation_prevention
from rapidrtmp.codec.nal import payloads_of_sei

__all__ = [
    "AUD",
    "CRA",
    "HEADER_SIZE",
    "IRAPS",
    "LARGEST_TYPE",
    "LEADING_SKIPPED",
    "PPS",
    "PREFIX_SEI",
    "SLICES",
    "SPS",
    "SUFFIX_SEI",
    "VPS",
    "begins_picture",
    "nal_type",
    "pps_of_slice",
    "read_references",
    "sei_payloads",
    "skip_profile",
]

HEADER_SIZE = 2
# nal_unit_type (H.265, table 7-1)
SLICES = frozenset({*range(10), *range(16, 22)})
#: Pictures where decoding may start: BLA, IDR, CRA.
IRAPS = frozenset(range(16, 22))
CRA = 21
#: RASL: pictures behind a CRA that are shown before it, and cannot be decoded where decoding starts there.
LEADING_SKIPPED = frozenset({8, 9})
VPS, SPS, PPS, AUD, PREFIX_SEI, SUFFIX_SEI = 32, 33, 34, 35, 39, 40
LARGEST_TYPE = 40  # those above are reserved, or not specified

#: What of a slice is read: headers up to the parameter set's id fit in with room to spare.
_SLICE_SIZE = 16
_SUBLAYER_PROFILE_BITS, _SUBLAYER_LEVEL_BITS = 88, 8


def nal_type(nal: bytes) -> int:
    """The ``nal_unit_type`` of a unit that is not empty."""
    return nal[0] >> 1 & 0x3F


def begins_picture(nal: bytes) -> bool:
    """Whether a slice segment is the first of its picture: ``first_slice_segment_in_pic_flag`` (H.265, 7.3.6.1)."""
    return len(nal) <= HEADER_SIZE or nal[HEADER_SIZE] >= 0x80


def pps_of_slice(nal: bytes) -> int:
    """
    The id of the PPS that a slice segment uses (H.265, 7.3.6.1).

    :raises MediaError: it ends within.
    """
    bits = BitReader(remove_emulation_prevention(nal[HEADER_SIZE:_SLICE_SIZE]))
    bits.u(1)  # first_slice_segment_in_pic_flag
    if 16 <= nal_type(nal) <= 23:
        bits.u(1)  # no_output_of_prior_pics_flag
    return bits.ue()


def read_references(nal: bytes) -> tuple[int, int]:
    """
    The id of a parameter set, by which other units name it, and of a PPS also that of its SPS (H.265, 7.3.2).

    :returns: both the same for a VPS and an SPS.
    :raises MediaError: it ends within.
    """
    bits = BitReader(remove_emulation_prevention(nal[HEADER_SIZE:]))
    kind = nal_type(nal)
    if kind == PPS:
        return bits.ue(), bits.ue()
    if kind == VPS:
        set_id = bits.u(4)
    else:
        bits.u(4)  # sps_video_parameter_set_id
        skip_profile(bits, bits.u(3), after=1)
        set_id = bits.ue()
    return set_id, set_id


def skip_profile(bits: BitReader, sublayers: int, after: int = 0) -> None:
    """
    Pass over profile, tier and level (H.265, 7.3.3).

    :param sublayers: how many more there are than one.
    :param after: how many bits stand before it.
    :raises MediaError: it ends within.
    """
    bits.u(after + 96)
    present = [(bits.u(1), bits.u(1)) for _ in range(sublayers)]
    if sublayers:
        bits.u(2 * (8 - sublayers))
    for profile, level in present:
        bits.u(_SUBLAYER_PROFILE_BITS * profile + _SUBLAYER_LEVEL_BITS * level)


def sei_payloads(nal: bytes) -> dict[int, bytes]:
    """The messages of an SEI unit by their type, as far as they are whole; of several of one type the last one."""
    return dict(payloads_of_sei(nal[HEADER_SIZE:]))
