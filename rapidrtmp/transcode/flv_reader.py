"""FLV as a program writes it to a pipe: bytes in, the packets of video tags out (FLV 10.1, E.2 to E.4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rapidrtmp.codec.flv import Packet, read_video
from rapidrtmp.errors import MediaError

__all__ = ["FlvReader", "VideoTag"]

_HEADER = b"FLV\x01"
_TAG_HEAD, _VIDEO_TAG = 11, 9
#: A larger tag is no picture of a rung.
MAX_TAG_BYTES = 8 << 20


class VideoTag(NamedTuple):
    """A packet of a video tag, and when it is decoded, in milliseconds of 31 bits, as FFmpeg writes them."""

    timestamp_ms: int
    packet: Packet


class FlvReader:
    """Reads one stream of FLV."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._skip = 0  # bytes of the header that are still to come
        self._is_begun = False

    def receive_data(self, data: bytes) -> None:
        """Take what has come."""
        self._pending += data

    def events(self) -> Iterator[VideoTag]:
        """
        What has come whole, in order.

        :raises MediaError: this is no FLV.
        """
        buffer = self._pending
        if not self._is_begun:
            if len(buffer) < len(_HEADER) + 5:
                return
            if bytes(buffer[: len(_HEADER)]) != _HEADER:
                raise MediaError(f"no FLV: it begins with {bytes(buffer[:4])!r}")
            self._skip = int.from_bytes(buffer[5:9], "big")
            if not 9 <= self._skip <= 64:
                raise MediaError(f"no FLV: a header of {self._skip} bytes")
            self._is_begun = True
        if self._skip:
            if len(buffer) < self._skip + 4:
                return
            del buffer[: self._skip + 4]
            self._skip = 0
        while len(buffer) >= _TAG_HEAD:
            size = int.from_bytes(buffer[1:4], "big")
            if size > MAX_TAG_BYTES or buffer[0] & 0x1F not in (8, _VIDEO_TAG, 18):
                raise MediaError(f"no FLV tag: type {buffer[0]}, {size} bytes")
            if len(buffer) < _TAG_HEAD + size + 4:
                return
            kind = buffer[0] & 0x1F
            timestamp_ms = (buffer[7] & 0x7F) << 24 | int.from_bytes(buffer[4:7], "big")
            payload = bytes(buffer[_TAG_HEAD : _TAG_HEAD + size])
            del buffer[: _TAG_HEAD + size + 4]
            if kind == _VIDEO_TAG:
                for packet in read_video(payload):
                    yield VideoTag(timestamp_ms, packet)
