"""
HTTP/2 frames as they arrive: cut apart, and charged for, before anything reads what is in them (RFC 9113, 4.1).

Most attacks on HTTP/2 are frames that cost their sender less than their reader: pings, settings, empty data, header
blocks without end, requests taken back. So each frame that asks for nothing is paid for from an allowance that refills
slowly, and faster by what the connection does that is of use; and of a frame or a header block that is longer than it
may be, nothing is kept but its header.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from rapidrtmp.errors import PeerProtocolError

__all__ = ["Allowance", "Frame", "FrameCutter", "FrameTooLongError", "FrameType", "cost_of"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES = 9
#: What a frame may hold unless its reader said otherwise, which we do not (6.5.2).
MAX_FRAME_BYTES = 16_384
#: A header block as it goes over the wire, with all its CONTINUATION frames.
MAX_BLOCK_BYTES = 20_480
END_STREAM, END_HEADERS = 0x1, 0x4
#: A DATA frame that carries less than this is charged for as one that carries nothing.
SMALL_DATA_BYTES = 256


class FrameTooLongError(PeerProtocolError):
    """A frame or a header block is longer than it may be."""


class FrameType(enum.IntEnum):
    """The types that have a meaning here (6); ``PREFACE`` is no frame, but comes before all."""

    PREFACE = -1
    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


@dataclass(frozen=True, slots=True)
class Frame:
    """
    One frame, or the preface.

    :ivar type: a :class:`FrameType`, or what an extension may mean by another number.
    :ivar flags: of that type.
    :ivar stream: the stream it belongs to; 0 for the connection itself.
    :ivar data: the whole of it, with its header.
    """

    type: int
    flags: int
    stream: int
    data: bytes

    @property
    def size(self) -> int:
        """Bytes behind the header."""
        return len(self.data) - HEADER_BYTES


class FrameCutter:
    """Takes bytes, gives frames; keeps no more than what was received and one frame that is not whole yet."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._has_begun = False
        self._is_in_block = False
        self._block_bytes = 0

    def __len__(self) -> int:
        """Bytes that are waiting."""
        return len(self._buffer)

    @property
    def is_owed_more(self) -> bool:
        """
        Whether the client has begun something that it can be expected to send at once: a header block, the preface, or
        a frame of another kind than DATA. Asked when there is no whole frame left.
        """
        if not self._has_begun or self._is_in_block:
            return self._is_in_block or bool(self._buffer)
        return bool(self._buffer) and (len(self._buffer) < HEADER_BYTES or self._buffer[3] != FrameType.DATA)

    def receive_data(self, data: bytes) -> None:
        """Store what was received."""
        self._buffer += data

    def clear(self) -> None:
        """Forget what was received."""
        self._buffer.clear()

    def next_frame(self) -> Frame | None:
        """
        Take the next frame; ``None`` if it is not whole yet.

        :raises PeerProtocolError: what comes is not HTTP/2.
        :raises FrameTooLongError: it is too long, whether it is whole or not.
        """
        buffer = self._buffer
        if not self._has_begun:
            return self._preface()
        if len(buffer) < HEADER_BYTES:
            return None
        size = int.from_bytes(buffer[:3], "big")
        kind, flags = buffer[3], buffer[4]
        self._check_size(kind, size)
        if len(buffer) < HEADER_BYTES + size:
            return None
        data = bytes(buffer[: HEADER_BYTES + size])
        del buffer[: HEADER_BYTES + size]
        if kind in (FrameType.HEADERS, FrameType.CONTINUATION):
            self._is_in_block = not flags & END_HEADERS
            self._block_bytes = self._block_bytes + size if self._is_in_block else 0
        return Frame(kind, flags, int.from_bytes(data[5:HEADER_BYTES], "big") & 0x7FFF_FFFF, data)

    def _preface(self) -> Frame | None:
        received = bytes(self._buffer[: len(PREFACE)])
        if not PREFACE.startswith(received):
            raise PeerProtocolError("the connection does not begin with the preface of HTTP/2")
        if len(received) < len(PREFACE):
            return None
        self._has_begun = True
        del self._buffer[: len(PREFACE)]
        return Frame(FrameType.PREFACE, 0, 0, PREFACE)

    def _check_size(self, kind: int, size: int) -> None:
        if size > MAX_FRAME_BYTES:
            raise FrameTooLongError(f"a frame of {size} bytes, limit {MAX_FRAME_BYTES}")
        if kind in (FrameType.HEADERS, FrameType.CONTINUATION) and self._block_bytes + size > MAX_BLOCK_BYTES:
            raise FrameTooLongError(f"a header block of {self._block_bytes + size} bytes, limit {MAX_BLOCK_BYTES}")


#: What the types cost. A settings frame is answered, and may concern every stream.
COSTS = {FrameType.PREFACE: 0, FrameType.RST_STREAM: 0, FrameType.SETTINGS: 4}


def cost_of(frame: Frame, *, is_for_open_stream: bool) -> int:
    """
    What is charged for a frame. Data is free, unless it is hardly any, or for a stream that is not there; so is to take
    a request back, for which there is an allowance of its own.
    """
    if is_for_open_stream and frame.type == FrameType.DATA:
        return 0 if frame.size >= SMALL_DATA_BYTES or frame.flags & END_STREAM else 1
    return COSTS.get(frame.type, 1)  # type: ignore[call-overload,no-any-return]


class Allowance:
    """
    What one connection may spend.

    :param most: what there is at first, and never more than that.
    :param per_s: what time adds in a second.
    :param now_s: the time.
    """

    __slots__ = ("_left", "_most", "_per_s", "_refilled_s")

    def __init__(self, most: float, per_s: float, now_s: float) -> None:
        self._left = self._most = most
        self._per_s = per_s
        self._refilled_s = now_s

    def spend(self, cost: float, now_s: float) -> bool:
        """Spend some of it; whether there was enough."""
        self.earn(max(now_s - self._refilled_s, 0) * self._per_s)
        self._refilled_s = now_s
        self._left -= cost
        return self._left >= 0

    def earn(self, amount: float) -> None:
        """Have more of it."""
        self._left = min(self._left + amount, self._most)
