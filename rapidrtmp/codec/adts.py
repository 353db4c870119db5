"""
ADTS: AAC frames that describe themselves (ISO/IEC 14496-3, 1.A.2.2), as some encoders put them into RTMP messages.

Each frame has a header of its own, so it needs no configuration from elsewhere, and several may share a message.
"""

from __future__ import annotations

from typing import NamedTuple

from rapidrtmp.errors import MediaError

__all__ = ["AdtsFrame", "is_adts", "read_adts", "split_adts"]

_HEADER_SIZE, _CHECKSUM_SIZE = 7, 2


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


def read_adts(body: bytes, offset: int = 0) -> AdtsFrame:
    """
    Read the frame whose header stands at ``offset``.

    :raises MediaError: the header promises more bytes than there are, or several raw frames behind it.
    """
    left = len(body) - offset
    if left < _HEADER_SIZE:
        raise MediaError(f"ADTS header of {left} bytes, {_HEADER_SIZE} wanted")
    flags, profile, channels, high, low, blocks = body[offset + 1 : offset + _HEADER_SIZE]
    start = _HEADER_SIZE if flags & 1 else _HEADER_SIZE + _CHECKSUM_SIZE  # protection_absent
    size = (channels & 0x03) << 11 | high << 3 | low >> 5
    if not start <= size <= left:
        raise MediaError(f"ADTS frame of {size} bytes with {start} of header, {left} bytes are there")
    if blocks & 0x03:  # number_of_raw_data_blocks_in_frame
        raise MediaError(f"{(blocks & 0x03) + 1} raw frames in an ADTS frame of {size} bytes")
    object_type, frequency = (profile >> 6) + 1, profile >> 2 & 0x0F
    config = object_type << 11 | frequency << 7 | ((profile & 1) << 2 | channels >> 6) << 3
    return AdtsFrame(config.to_bytes(2, "big"), body[offset + start : offset + size], offset + size)


def split_adts(body: bytes) -> list[AdtsFrame]:
    """
    Read all frames of a message.

    :raises MediaError: one of them cannot be read.
    """
    frames = [read_adts(body)]
    while frames[-1].end < len(body):
        if not is_adts(body, frames[-1].end):
            raise MediaError(f"no ADTS header at {frames[-1].end} of {len(body)} bytes")
        frames.append(read_adts(body, frames[-1].end))
    return frames
