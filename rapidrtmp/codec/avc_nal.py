"""The NAL units of H.264: what their headers, slices, parameter sets and SEI begin with."""

from __future__ import annotations

from rapidrtmp.codec.bits import BitReader, remove_emulation_prevention
from rapidrtmp.codec.nal import payloads_of_sei
from rapidrtmp.errors import MediaError

__all__ = [
    "AUD",
    "IDR_SLICE",
    "LARGEST_TYPE",
    "PPS",
    "SEI",
    "SLICE",
    "SPS",
    "SPS_EXTENSION",
    "begins_picture",
    "nal_type",
    "read_references",
    "recovery_frames",
    "slice_header",
]

# nal_unit_type (H.264, table 7-1)
SLICE, IDR_SLICE, SEI, SPS, PPS, AUD, SPS_EXTENSION = 1, 5, 6, 7, 8, 9, 13
LARGEST_TYPE = 21  # those above are not specified

_RECOVERY_POINT = 6  # payloadType (H.264, D.1)
#: What of a slice is read: headers up to the parameter set's id fit in with room to spare.
_HEADER_SIZE = 24


def nal_type(nal: bytes) -> int:
    """The ``nal_unit_type`` of a unit that is not empty."""
    return nal[0] & 0x1F


def begins_picture(nal: bytes) -> bool:
    """Whether a slice is the first of its picture: ``first_mb_in_slice`` 0 is one bit, set (H.264, 7.3.3)."""
    return len(nal) < 2 or nal[1] >= 0x80


def slice_header(nal: bytes) -> tuple[int, bool, int]:
    """
    What a slice begins with (H.264, 7.3.3): its first macroblock, whether it is of intra type, and the id of its PPS.

    :raises MediaError: it ends within.
    """
    bits = BitReader(remove_emulation_prevention(nal[1:_HEADER_SIZE]))
    first_mb, slice_type, pps_id = bits.ue(), bits.ue(), bits.ue()
    return first_mb, slice_type % 5 in (2, 4), pps_id  # I and SI


def read_references(nal: bytes) -> tuple[int, int]:
    """
    The id of a parameter set, by which other units name it, and of a PPS also that of its SPS (H.264, 7.3.2).

    :returns: both the same for an SPS.
    :raises MediaError: it ends within.
    """
    bits = BitReader(remove_emulation_prevention(nal[1:16]))
    if nal_type(nal) == SPS:
        bits.u(24)  # profile, constraints, level
        set_id = bits.ue()
        return set_id, set_id
    return bits.ue(), bits.ue()


def recovery_frames(sei: bytes) -> int | None:
    """
    After how many frames an SEI unit promises that all is right from here on; ``None`` if it promises nothing
    (recovery point, H.264, D.1.8).
    """
    for payload_type, payload in payloads_of_sei(sei[1:]):
        if payload_type == _RECOVERY_POINT:
            try:
                return BitReader(payload).ue()
            except MediaError:
                return None
    return None
