"""
Message types, and the payloads of the messages that are not AMF and not media: protocol control and user control.

A message itself is the chunk layer's ``Message``; here is what its bytes mean. Types are distinguished by ``type_id``
alone: cameras send control messages on any chunk stream.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

from rapidrtmp.errors import PeerProtocolError

__all__ = [
    "MessageType",
    "UnreadableError",
    "UserControl",
    "UserControlType",
    "read_number",
    "read_user_control",
    "write_buffer_length",
    "write_number",
    "write_peer_bandwidth",
    "write_user_control",
]

_USER_CONTROL = struct.Struct(">HI")
_PEER_BANDWIDTH = struct.Struct(">IB")


class UnreadableError(PeerProtocolError):
    """One message whose payload makes no sense. What follows it is not harmed, so it may be skipped."""


class MessageType(enum.IntEnum):
    """Message types (RTMP 1.0, 5.4 and 7.1)."""

    SET_CHUNK_SIZE = 1
    ABORT = 2
    ACKNOWLEDGEMENT = 3
    USER_CONTROL = 4
    WINDOW_ACKNOWLEDGEMENT_SIZE = 5
    SET_PEER_BANDWIDTH = 6
    AUDIO = 8
    VIDEO = 9
    DATA_AMF3 = 15
    COMMAND_AMF3 = 17
    DATA_AMF0 = 18
    COMMAND_AMF0 = 20
    AGGREGATE = 22


class UserControlType(enum.IntEnum):
    """The user control events that we send or answer (7.1.7)."""

    STREAM_BEGIN = 0
    STREAM_EOF = 1
    SET_BUFFER_LENGTH = 3
    PING_REQUEST = 6
    PING_RESPONSE = 7


class UserControl(NamedTuple):
    """
    A user control message.

    :ivar event: its event type, known or not.
    :ivar number: the 32 bits behind it: a message stream id, or a timestamp.
    """

    event: int
    number: int


def read_number(payload: bytes) -> int:
    """
    The 32-bit number that is the payload of types 1, 2, 3 and 5, and the beginning of that of type 6 (5.4).

    :raises UnreadableError: fewer than four bytes.
    """
    if len(payload) < 4:
        raise UnreadableError(f"control message of {len(payload)} bytes, 4 wanted")
    return int.from_bytes(payload[:4], "big")


def write_number(number: int) -> bytes:
    """The payload of types 1, 2, 3 and 5; ``number`` is taken modulo 2**32, as acknowledgements wrap."""
    return (number & 0xFFFFFFFF).to_bytes(4, "big")


def write_peer_bandwidth(window: int, limit_type: int) -> bytes:
    """The payload of type 6: ``limit_type`` 0 for hard, 1 for soft, 2 for dynamic (5.4.5)."""
    return _PEER_BANDWIDTH.pack(window, limit_type)


def read_user_control(payload: bytes) -> UserControl:
    """
    The payload of type 4; what some events carry beyond the first number is not looked at.

    :raises UnreadableError: fewer than six bytes.
    """
    if len(payload) < _USER_CONTROL.size:
        raise UnreadableError(f"user control message of {len(payload)} bytes, {_USER_CONTROL.size} wanted")
    return UserControl(*_USER_CONTROL.unpack_from(payload))


def write_buffer_length(msid: int, milliseconds: int) -> bytes:
    """The payload of type 4 by which a player says how much it buffers of a message stream (event 3)."""
    return write_user_control(UserControlType.SET_BUFFER_LENGTH, msid) + write_number(milliseconds)


def write_user_control(event: UserControlType, number: int) -> bytes:
    """The payload of type 4; ``number`` is taken modulo 2**32."""
    return _USER_CONTROL.pack(event, number & 0xFFFFFFFF)
