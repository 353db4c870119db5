"""
NAL units of H.264 as encoders spell them: behind lengths, behind start codes, or behind both at once.

A NAL unit never holds 00 00 01 (H.264, 7.4.1), and 00 00 01 may also begin a length: so start codes split where lengths
lead nowhere, and inside of units.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rapidrtmp.codec.bits import BitReader, remove_emulation_prevention
from rapidrtmp.errors import MediaError

__all__ = [
    "AUD",
    "IDR_SLICE",
    "PPS",
    "SEI",
    "SLICE",
    "SLICES",
    "SPS",
    "SPS_EXTENSION",
    "STREAM_STARTS",
    "begins_picture",
    "has_start_codes",
    "join_lengths",
    "nal_type",
    "read_references",
    "recovery_frames",
    "slice_header",
    "split_nals",
    "split_start_codes",
]

# nal_unit_type (H.264, table 7-1)
SLICE, IDR_SLICE, SEI, SPS, PPS, AUD, SPS_EXTENSION = 1, 5, 6, 7, 8, 9, 13
SLICES = frozenset({SLICE, IDR_SLICE})

_START_CODE = b"\0\0\1"
STREAM_STARTS = (b"\0" + _START_CODE, _START_CODE)
_LARGEST_TYPE = 21  # those above are not specified
_LENGTH_SIZES = (4, 2, 1)
_RECOVERY_POINT = 6  # payloadType (H.264, D.1)
#: What of a slice is read: headers up to the parameter set's id fit in with room to spare.
_HEADER_SIZE = 24


def nal_type(nal: bytes) -> int:
    """The ``nal_unit_type`` of a unit that is not empty."""
    return nal[0] & 0x1F


# ── taking access units apart ────────────────────────────────────────────────────────────────────────────────────────


def split_nals(body: bytes, length_size: int) -> list[bytes]:
    """
    The NAL units of an access unit, without the empty ones, however they are put together.

    :param length_size: how many bytes lengths have, by the configuration.
    :raises MediaError: a NAL unit reaches past the end.
    """
    try:
        nals = _split_lengths(body, length_size)
    except MediaError:
        if body.startswith(STREAM_STARTS):
            return split_start_codes(body)
        mixed = _split_other_lengths(body, length_size) or _split_mixed(body, length_size)
        if not mixed:
            raise
        nals = mixed
    if any(has_start_codes(nal) for nal in nals):
        return [piece for nal in nals for piece in (split_start_codes(nal) if has_start_codes(nal) else [nal])]
    return nals


def has_start_codes(nal: bytes) -> bool:
    """Whether what stands behind one length is several units: a start code in it begins another one."""
    at = nal.find(_START_CODE)
    while at >= 0:
        header = nal[at + 3] if at + 3 < len(nal) else 0x80
        if header < 0x80 and 1 <= header & 0x1F <= _LARGEST_TYPE:
            return True
        at = nal.find(_START_CODE, at + 3)
    return False


def split_start_codes(stream: bytes) -> list[bytes]:
    """Split a byte stream (H.264, annex B); a NAL unit never ends in 00, so those before a start code belong to it."""
    return [nal for nal in (piece.rstrip(b"\0") for piece in stream.split(_START_CODE)) if nal]


def join_lengths(nals: Iterable[bytes], length_size: int) -> bytes:
    """
    Put units behind their lengths.

    :raises MediaError: a unit is longer than its length can say.
    """
    pieces: list[bytes] = []
    for nal in nals:
        if len(nal) >> 8 * length_size:
            raise MediaError(f"NAL unit of {len(nal)} bytes, but lengths have {length_size} bytes")
        pieces += len(nal).to_bytes(length_size, "big"), nal
    return b"".join(pieces)


def _split_lengths(body: bytes, length_size: int) -> list[bytes]:
    nals, offset = [], 0
    while offset < len(body):
        start = offset + length_size
        end = start + int.from_bytes(body[offset:start], "big")
        if end > len(body):
            raise MediaError(f"NAL unit at byte {offset} reaches to {end}, the access unit has {len(body)} bytes")
        if end > start:
            nals.append(body[start:end])
        offset = end
    return nals


def _split_other_lengths(body: bytes, length_size: int) -> list[bytes]:
    """Units behind lengths of another size than the configuration says; none if that is not what it is."""
    for size in _LENGTH_SIZES:
        if size == length_size:
            continue
        try:
            nals = _split_lengths(body, size)
        except MediaError:
            continue
        is_whole = len(body) == sum(map(len, nals)) + size * len(nals)  # none is empty
        if is_whole and any(nal_type(nal) in SLICES for nal in nals) and all(_is_plausible(nal) for nal in nals):
            return nals
    return []


def _split_mixed(body: bytes, length_size: int) -> list[bytes]:
    """Units of which the first have lengths and the others start codes; none if that is not what it is."""
    nals, offset = [], 0
    while offset < len(body) and not body.startswith(STREAM_STARTS, offset):
        start = offset + length_size
        end = start + int.from_bytes(body[offset:start], "big")
        if end > len(body) or end == start:
            return []
        nals.append(body[start:end])
        offset = end
    return nals + split_start_codes(body[offset:])


def _is_plausible(nal: bytes) -> bool:
    return nal[0] < 0x80 and 1 <= nal_type(nal) <= _LARGEST_TYPE


# ── looking into them ────────────────────────────────────────────────────────────────────────────────────────────────


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
    for payload_type, payload in _payloads(remove_emulation_prevention(sei[1:])):
        if payload_type == _RECOVERY_POINT:
            try:
                return BitReader(payload).ue()
            except MediaError:
                return None
    return None


def _payloads(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The messages of an SEI unit: type and payload (H.264, 7.3.2.3.1); as far as they are whole."""
    offset = 0
    while offset + 1 < len(data):
        values = []
        for _ in ("payloadType", "payloadSize"):
            value = 0
            while offset < len(data) and data[offset] == 0xFF:
                value, offset = value + 255, offset + 1
            if offset >= len(data):
                return
            values.append(value + data[offset])
            offset += 1
        payload_type, size = values
        yield payload_type, data[offset : offset + size]
        offset += size
