"""What a session has to say, in chunks, until the caller drains it."""

from __future__ import annotations

from rapidrtmp.rtmp.chunk import ChunkWriter
from rapidrtmp.rtmp.message import MessageType, UserControlType, write_number, write_user_control

__all__ = ["Outbox"]

_CONTROL_CSID, _COMMAND_CSID, _STATUS_CSID = 2, 3, 5
#: As FFmpeg numbers them: commands on a message stream, audio, video and data.
_STREAM_CSID, _AUDIO_CSID, _VIDEO_CSID, _DATA_CSID = 8, 4, 6, 5


class Outbox:
    """Messages to the peer, all but media with timestamp 0, in the order they are sent."""

    def __init__(self) -> None:
        self._writer = ChunkWriter()
        self._unsent: list[bytes] = []

    def send_bytes(self, data: bytes) -> None:
        """Send bytes that are no chunks: the handshake."""
        self._unsent.append(data)

    def send_control(self, type_id: MessageType, payload: bytes) -> None:
        """Send a protocol control or user control message, on the chunk and message stream for those (5.4, 6.2)."""
        self._unsent.append(self._writer.write(_CONTROL_CSID, 0, type_id, 0, payload))

    def send_user_control(self, event: UserControlType, number: int) -> None:
        """Send a user control message."""
        self.send_control(MessageType.USER_CONTROL, write_user_control(event, number))

    def send_chunk_size(self, size: int) -> None:
        """Announce a chunk size, and use it from the next message on (5.4.1)."""
        self.send_control(MessageType.SET_CHUNK_SIZE, write_number(size))
        self._writer.chunk_size = size

    def send_answer(self, payload: bytes) -> None:
        """Send ``_result`` or ``_error``."""
        self._unsent.append(self._writer.write(_COMMAND_CSID, 0, MessageType.COMMAND_AMF0, 0, payload))

    def send_status(self, msid: int, payload: bytes) -> None:
        """Send news of message stream ``msid``; some clients wait for them on exactly that one."""
        self._unsent.append(self._writer.write(_STATUS_CSID, 0, MessageType.COMMAND_AMF0, msid, payload))

    def send_command(self, msid: int, payload: bytes) -> None:
        """Send a command of a client: on a message stream, or with ``msid`` 0 about the connection."""
        csid = _STREAM_CSID if msid else _COMMAND_CSID
        self._unsent.append(self._writer.write(csid, 0, MessageType.COMMAND_AMF0, msid, payload))

    def send_video(self, msid: int, timestamp: int, payload: bytes) -> None:
        """Send the body of an FLV video tag; ``timestamp`` is milliseconds modulo 2**32."""
        self._unsent.append(self._writer.write(_VIDEO_CSID, timestamp, MessageType.VIDEO, msid, payload))

    def send_audio(self, msid: int, timestamp: int, payload: bytes) -> None:
        """Send the body of an FLV audio tag, likewise."""
        self._unsent.append(self._writer.write(_AUDIO_CSID, timestamp, MessageType.AUDIO, msid, payload))

    def send_data(self, msid: int, timestamp: int, payload: bytes) -> None:
        """Send a data message, likewise."""
        self._unsent.append(self._writer.write(_DATA_CSID, timestamp, MessageType.DATA_AMF0, msid, payload))

    def drain(self) -> bytes:
        """All that was sent since last time."""
        if not self._unsent:
            return b""
        data = b"".join(self._unsent)
        self._unsent.clear()
        return data
