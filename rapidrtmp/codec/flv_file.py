"""FLV as a file, or as a stream of bytes over HTTP: its header, and its tags (FLV 10.1, E.2 and E.4)."""

from __future__ import annotations

import struct

from rapidrtmp.codec.flv_writing import FlvMessage
from rapidrtmp.errors import MisuseError

__all__ = ["MOST_TAG_BYTES", "write_file_header", "write_tag"]

#: The longest body that a tag can have.
MOST_TAG_BYTES = 0xFFFFFF
_TAG_HEADER_SIZE = 11
_TAG_HEADER = struct.Struct(">II3x")
_SIZE = struct.Struct(">I")
_HAS_VIDEO, _HAS_AUDIO = 1, 4


def write_file_header(*, has_video: bool, has_audio: bool) -> bytes:
    """
    What is in front of the first tag.

    Both flags have to be true to the tags that follow: players wait for the configuration of what is announced.
    """
    flags = _HAS_VIDEO * has_video | _HAS_AUDIO * has_audio
    return b"FLV\x01" + bytes([flags]) + b"\0\0\0\x09" + b"\0\0\0\0"


def write_tag(message: FlvMessage) -> bytes:
    """
    One message as a tag, with its size behind it.

    Its timestamp is taken modulo 2**32; the highest of its four bytes is the last one.

    :raises MisuseError: the body is longer than ``MOST_TAG_BYTES``.
    """
    type_id, timestamp, head, data = message
    size = len(head) + len(data)
    if size > MOST_TAG_BYTES:
        raise MisuseError(f"tag of {size} bytes, limit {MOST_TAG_BYTES}")
    timestamp &= 0xFFFFFFFF
    header = _TAG_HEADER.pack(type_id << 24 | size, (timestamp & 0xFFFFFF) << 8 | timestamp >> 24)
    return b"".join((header, head, data, _SIZE.pack(size + _TAG_HEADER_SIZE)))
