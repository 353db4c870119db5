"""
Messages to chunks (RTMP 1.0, 5.3.1).

Every message begins with a full header (fmt 0): eleven bytes that leave no reader anything to remember, nor anything
to disagree about (what fmt 3 adds after fmt 0, what a delta counts from).
"""

from __future__ import annotations

from rapidrtmp.errors import MisuseError

__all__ = ["ChunkWriter", "write_basic_header"]

_EXTENDED = 0xFFFFFF
_MAX_LENGTH = 0xFFFFFF
_CONTINUATION = 3


def write_basic_header(fmt: int, csid: int) -> bytes:
    """
    The shortest basic header (5.3.1.1) for a chunk stream: one byte below 64, two below 320, else three.

    :raises MisuseError: ``csid`` is not 2..65599.
    """
    if 2 <= csid < 64:
        return bytes([fmt << 6 | csid])
    if 64 <= csid < 320:
        return bytes([fmt << 6, csid - 64])
    if 320 <= csid < 65600:
        return bytes([fmt << 6 | 1]) + (csid - 64).to_bytes(2, "little")
    raise MisuseError(f"csid {csid}, not 2..65599")


class ChunkWriter:
    """
    Turns messages into bytes.

    :ivar chunk_size: the most payload a chunk carries, in bytes; to be changed when, and only when, the peer has been
        sent a Set Chunk Size that says the same.
    """

    def __init__(self, chunk_size: int = 128) -> None:
        self.chunk_size = chunk_size

    def write(self, csid: int, timestamp: int, type_id: int, msid: int, payload: bytes) -> bytes:
        """
        One whole message as chunks.

        :param csid: chunk stream, 2..65599.
        :param timestamp: milliseconds; taken modulo 2**32, extended from 0xFFFFFF on (on every chunk, 5.3.1.3).
        :param type_id: 0..255; likewise ``msid`` 0..2**32-1.
        :param payload: at most 16777215 bytes.
        :raises MisuseError: ``csid`` or the length of ``payload`` is out of these bounds.
        """
        length = len(payload)
        if length > _MAX_LENGTH:
            raise MisuseError(f"csid {csid}: message of {length} bytes, limit {_MAX_LENGTH}")
        timestamp %= 2**32
        extended = timestamp.to_bytes(4, "big") if timestamp >= _EXTENDED else b""
        header = (
            write_basic_header(0, csid)
            + min(timestamp, _EXTENDED).to_bytes(3, "big")
            + length.to_bytes(3, "big")
            + bytes([type_id])
            + msid.to_bytes(4, "little")
            + extended
        )
        size = self.chunk_size
        if length <= size:
            return header + payload
        between = write_basic_header(_CONTINUATION, csid) + extended
        return header + between.join([payload[start : start + size] for start in range(0, length, size)])
