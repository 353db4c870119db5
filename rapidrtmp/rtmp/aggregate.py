"""
Aggregate messages: several audio, video and data messages in one (RTMP 1.0, 7.1.6).

The payload is a run of FLV tags, header, data and back-pointer each. The text of the RTMP specification draws their
header in another order than FLV does; every implementation that sends aggregates follows FLV.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from rapidrtmp.rtmp.chunk import Message
from rapidrtmp.rtmp.message import MessageType, UnreadableError

__all__ = ["read_aggregate"]

#: Type and size; timestamp, its bits 24..31 behind bits 0..23; stream id (three bytes, not read).
_TAG_HEADER = struct.Struct(">II3x")
_BACK_POINTER_SIZE = 4
_TAG_TYPES = frozenset({MessageType.AUDIO, MessageType.VIDEO, MessageType.DATA_AMF0})


def read_aggregate(message: Message, most_data_bytes: int) -> Iterator[Message]:
    """
    Unfold an aggregate into the messages it holds, one by one.

    Times are the aggregate's timestamp plus the distance from the first tag's, modulo 2**32; the message stream is the
    aggregate's own. A back-pointer is not checked, and may be missing behind the last tag.

    :param most_data_bytes: how long data may be, as in a message of its own.
    :raises UnreadableError: while iterating, at a tag that is cut short, is no audio, video or data (an aggregate among
        them), or holds data that is too long; nothing follows it, and the tags before it have been delivered.
    """
    payload, at = message.payload, 0
    first_time: int | None = None
    while at < len(payload):
        left = len(payload) - at
        if left < _TAG_HEADER.size:
            raise UnreadableError(f"aggregate ends {left} bytes into a tag header")
        head, clock = _TAG_HEADER.unpack_from(payload, at)
        at += _TAG_HEADER.size
        type_id, size = head >> 24, head & 0xFFFFFF
        if type_id not in _TAG_TYPES:
            raise UnreadableError(f"aggregate holds a message of type {type_id}")
        if size > len(payload) - at:
            raise UnreadableError(f"aggregate holds a tag of {size} bytes, {len(payload) - at} left")
        if type_id == MessageType.DATA_AMF0 and size > most_data_bytes:
            raise UnreadableError(f"aggregate holds data of {size} bytes, limit {most_data_bytes}")
        time = clock >> 8 | (clock & 0xFF) << 24
        first_time = time if first_time is None else first_time
        timestamp = (message.timestamp + time - first_time) & 0xFFFFFFFF
        yield Message(type_id, message.msid, timestamp, payload[at : at + size], message.csid)
        at += size + _BACK_POINTER_SIZE
