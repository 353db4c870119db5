"""
What a rendering is made of on the wire: RTMP chunks, or FLV tags, bare or within HTTP chunks or WebSocket messages.

All of it holds no state, so that any message can be the first one that a player gets, or be left out.
"""

from __future__ import annotations

import struct
from typing import Protocol

from rapidrtmp.codec.flv_file import write_file_header, write_tag
from rapidrtmp.codec.flv_writing import AUDIO_TAG, DATA_TAG, VIDEO_TAG, FlvMessage

__all__ = ["MOST_CHUNK_BYTES", "Format", "HttpChunks", "RtmpChunks", "Tags", "WebSocketMessages"]

#: The size of chunks that is announced to players: no message is longer, so none is cut.
MOST_CHUNK_BYTES = 0xFFFFFF
_EXTENDED = 0xFFFFFF
_CSIDS = {AUDIO_TAG: 4, VIDEO_TAG: 6, DATA_TAG: 5}
#: The basic header, the time and the length of 24 bits each, the type.
_CHUNK_HEADER = struct.Struct(">BIHB")
_BINARY = 0x82


class Format(Protocol):
    """One of them. Two that are equal make the same bytes."""

    needs_flags: bool
    """Whether its header says, once and for all, which kinds of tracks there are."""
    starts_late: bool
    """Whether its players start only when they have seen more than a second of media."""

    def message(self, message: FlvMessage) -> bytes:
        """One message."""

    def header(self, *, has_video: bool, has_audio: bool) -> bytes:
        """What is in front of the first message."""

    def batch(self, data: bytes) -> bytes:
        """Whole messages that are sent at one time."""


class RtmpChunks:
    """Each message as one chunk with a full header (RTMP 1.0, 5.3.1), on the message stream ``msid``."""

    needs_flags = False
    starts_late = True

    def __init__(self, msid: int) -> None:
        self._msid = msid
        self._suffix = msid.to_bytes(4, "little")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RtmpChunks) and other._msid == self._msid

    def __hash__(self) -> int:
        return hash((RtmpChunks, self._msid))

    def message(self, message: FlvMessage) -> bytes:
        """One message."""
        type_id, timestamp, head, data = message
        timestamp &= 0xFFFFFFFF
        size = len(head) + len(data)
        shown = timestamp if timestamp < _EXTENDED else _EXTENDED
        header = _CHUNK_HEADER.pack(_CSIDS[type_id], shown << 8 | size >> 16, size & 0xFFFF, type_id) + self._suffix
        if shown == _EXTENDED:
            header += timestamp.to_bytes(4, "big")
        return b"".join((header, head, data))

    def header(self, *, has_video: bool, has_audio: bool) -> bytes:
        """Nothing: the session has said all."""
        del has_video, has_audio
        return b""

    def batch(self, data: bytes) -> bytes:
        """As they are."""
        return data


class Tags:
    """FLV tags, as the body of an answer that ends with its connection."""

    needs_flags = True
    starts_late = False

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def message(self, message: FlvMessage) -> bytes:
        """One tag."""
        return write_tag(message)

    def header(self, *, has_video: bool, has_audio: bool) -> bytes:
        """The header of the file."""
        return write_file_header(has_video=has_video, has_audio=has_audio)

    def batch(self, data: bytes) -> bytes:
        """As they are."""
        return data


class HttpChunks(Tags):
    """FLV tags in chunks of HTTP/1.1 (RFC 9112, 7.1)."""

    def batch(self, data: bytes) -> bytes:
        """One chunk."""
        return b"%x\r\n%b\r\n" % (len(data), data)


class WebSocketMessages(Tags):
    """FLV tags in binary messages (RFC 6455, 5.2), which no server masks."""

    def batch(self, data: bytes) -> bytes:
        """One message."""
        size = len(data)
        if size < 126:
            return bytes([_BINARY, size]) + data
        if size < 1 << 16:
            return struct.pack(">BBH", _BINARY, 126, size) + data
        return struct.pack(">BBQ", _BINARY, 127, size) + data
