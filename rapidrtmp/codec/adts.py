"""
ADTS: AAC frames that describe themselves (ISO/IEC 14496-3, 1.A.2.2), as some encoders put them into RTMP messages.

Each frame has a header of its own, so it needs no configuration from elsewhere, and several may share a message.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from rapidrtmp.errors import MediaError, UnsupportedCodecError

__all__ = ["LATM", "SEVERAL", "AdtsFrame", "has_several", "is_adts", "is_latm", "read_adts", "split_adts"]

_HEADER_SIZE, _CHECKSUM_SIZE, _PLACE_SIZE = 7, 2, 2
_LONGEST_HEADER = _HEADER_SIZE + 3 * _PLACE_SIZE
#: What cannot be carried, named like a codec string: AAC in LATM, and frames whose ends only a decoder finds.
LATM, SEVERAL = "mp4a.latm", "mp4a.adts"


class AdtsFrame(NamedTuple):
    """
    One frame.

    :ivar config: the AudioSpecificConfig that says what its header does.
    :ivar data: the raw frame.
    :ivar end: the offset of what follows.
    """

    config: bytes
    data: bytes
    end: int


def is_adts(body: bytes, offset: int = 0) -> bool:
    """
    Whether a header stands there: syncword and layer.

    No raw frame begins like one: its first three bits would be the end of the frame.
    """
    return len(body) > offset + 1 and body[offset] == 0xFF and body[offset + 1] & 0xF6 == 0xF0


def is_latm(body: bytes) -> bool:
    """
    Whether a whole AudioSyncStream stands there (LOAS, ISO/IEC 14496-3, 1.7.2): LATM, which is no raw AAC.

    Its syncword has 11 bits, and 13 tell its length: no raw frame begins so, and has that size, but by a rare chance.
    """
    if len(body) < 3 or body[0] != 0x56 or body[1] & 0xE0 != 0xE0:
        return False
    return ((body[1] & 0x1F) << 8 | body[2]) + 3 == len(body)


def has_several(body: bytes) -> bool:
    """Whether the header in front says that several raw frames are behind it."""
    return len(body) >= _HEADER_SIZE and body[_HEADER_SIZE - 1] & 0x03 > 0  # number_of_raw_data_blocks_in_frame


def read_adts(body: bytes, offset: int = 0) -> AdtsFrame:
    """
    Read the frame whose header stands at ``offset``: all that is behind it, should that be several raw ones.

    :raises MediaError: the header promises more bytes than there are.
    """
    left = len(body) - offset
    if left < _HEADER_SIZE:
        raise MediaError(f"ADTS header of {left} bytes, {_HEADER_SIZE} wanted")
    flags, profile, channels, high, low, blocks = body[offset + 1 : offset + _HEADER_SIZE]
    start = _HEADER_SIZE
    if not flags & 1:  # protection_absent
        start += _CHECKSUM_SIZE + _PLACE_SIZE * (blocks & 0x03)
    size = (channels & 0x03) << 11 | high << 3 | low >> 5
    if not start <= size <= left:
        raise MediaError(f"ADTS frame of {size} bytes with {start} of header, {left} bytes are there")
    object_type, frequency = (profile >> 6) + 1, profile >> 2 & 0x0F
    config = object_type << 11 | frequency << 7 | ((profile & 1) << 2 | channels >> 6) << 3
    return AdtsFrame(config.to_bytes(2, "big"), body[offset + start : offset + size], offset + size)


def split_adts(body: bytes) -> Iterator[AdtsFrame]:
    """
    Read all frames of a message, each when it is asked for.

    :raises UnsupportedCodecError: several are behind one header that does not say where each begins.
    :raises MediaError: one of them cannot be read.
    """
    offset = 0
    while not offset or offset < len(body):
        if offset and not is_adts(body, offset):
            raise MediaError(f"no ADTS header at {offset} of {len(body)} bytes")
        frame = read_adts(body, offset)
        if has_several(head := body[offset : offset + _LONGEST_HEADER]):
            yield from _split_blocks(frame, head)
        else:
            yield frame
        offset = frame.end


def _split_blocks(frame: AdtsFrame, head: bytes) -> list[AdtsFrame]:
    """The raw frames behind one header, each before its checksum (ISO/IEC 14496-3, 1.A.2.2.2)."""
    more = head[_HEADER_SIZE - 1] & 0x03
    if head[1] & 1:
        raise UnsupportedCodecError(f"{more + 1} raw frames behind one ADTS header without their places", SEVERAL)
    places = [
        int.from_bytes(head[at : at + _PLACE_SIZE], "big") for at in range(_HEADER_SIZE, _HEADER_SIZE + 2 * more, 2)
    ]
    bounds = [0, *places, len(frame.data)]
    if any(end - start < _CHECKSUM_SIZE for start, end in pairwise(bounds)):
        raise MediaError(f"raw frames at {places} of {len(frame.data)} bytes behind an ADTS header")
    return [
        frame._replace(data=frame.data[start : end - _CHECKSUM_SIZE], end=frame.end) for start, end in pairwise(bounds)
    ]
