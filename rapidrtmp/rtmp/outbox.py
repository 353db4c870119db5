"""What a session has to say, in chunks, until somebody drains it."""

from __future__ import annotations

from rapidrtmp.rtmp.chunk import ChunkWriter
from rapidrtmp.rtmp.message import MessageType, UserControlType, write_number, write_user_control

__all__ = ["Outbox"]

_CONTROL_CSID, _COMMAND_CSID, _STATUS_CSID = 2, 3, 5


class Outbox:
    """Messages to the client, all with timestamp 0, in the order they are sent."""

    def __init__(self) -> None:
        self._writer = ChunkWriter()
        self._octets: list[bytes] = []

    def send_octets(self, octets: bytes) -> None:
        """Send octets that are no chunks: the handshake."""
        self._octets.append(octets)

    def send_control(self, type_id: MessageType, payload: bytes) -> None:
        """Send a protocol control or user control message, on the chunk and message stream for those (5.4, 6.2)."""
        self._octets.append(self._writer.write(_CONTROL_CSID, 0, type_id, 0, payload))

    def send_user_control(self, event: UserControlType, number: int) -> None:
        """Send a user control message."""
        self.send_control(MessageType.USER_CONTROL, write_user_control(event, number))

    def send_chunk_size(self, size: int) -> None:
        """Announce a chunk size, and use it from the next message on (5.4.1)."""
        self.send_control(MessageType.SET_CHUNK_SIZE, write_number(size))
        self._writer.chunk_size = size

    def send_answer(self, payload: bytes) -> None:
        """Send ``_result`` or ``_error``."""
        self._octets.append(self._writer.write(_COMMAND_CSID, 0, MessageType.COMMAND_AMF0, 0, payload))

    def send_status(self, msid: int, payload: bytes) -> None:
        """Send news of message stream ``msid``; some clients wait for them on exactly that one."""
        self._octets.append(self._writer.write(_STATUS_CSID, 0, MessageType.COMMAND_AMF0, msid, payload))

    def drain(self) -> bytes:
        """All that was sent since last time."""
        octets = b"".join(self._octets)
        self._octets.clear()
        return octets
