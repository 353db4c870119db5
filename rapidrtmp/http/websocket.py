"""
WebSocket as far as a server needs it that only sends: the handshake, and what clients say of the connection (RFC 6455).

Plain Python, no I/O. What is sent is rendered elsewhere, once for all clients, which no library that owns a connection
can do; what is left to be read is a ping and a farewell.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from rapidrtmp.errors import PeerProtocolError
from rapidrtmp.interfaces import BadRequestError, HttpError, Request

__all__ = [
    "CLOSE",
    "GOING_AWAY",
    "NORMAL",
    "PING",
    "PONG",
    "PROTOCOL_ERROR",
    "ClientFrame",
    "ClientFrames",
    "UpgradeRequiredError",
    "accept_key",
    "wants_websocket",
    "write_close",
    "write_control",
]

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = "13"
CLOSE, PING, PONG = 8, 9, 10
_CONTROL = frozenset({CLOSE, PING, PONG})
_DATA = frozenset({0, 1, 2})
#: Status codes (7.4.1).
NORMAL, GOING_AWAY, PROTOCOL_ERROR = 1000, 1001, 1002
_MOST_CONTROL_BYTES = 125
#: What clients may say that means nothing to us.
_MOST_DATA_BYTES = 4096


class UpgradeRequiredError(HttpError):
    """A version of WebSocket that is not spoken here: 426."""

    def __init__(self) -> None:
        super().__init__(f"version {_VERSION} of WebSocket is spoken here", {"Sec-WebSocket-Version": _VERSION})


def wants_websocket(request: Request) -> bool:
    """Whether a request asks to speak WebSocket instead (4.2.1)."""
    upgrades = (each.strip().lower() for each in request.header("upgrade").split(","))
    connection = (each.strip().lower() for each in request.header("connection").split(","))
    return "websocket" in upgrades and "upgrade" in connection


def accept_key(request: Request) -> str:
    """
    What proves to the client that its handshake was understood (4.2.2).

    :raises BadRequestError: it is none.
    :raises UpgradeRequiredError: it is one of another version.
    """
    if request.method != "GET":
        raise BadRequestError("WebSocket begins with GET")
    if request.header("sec-websocket-version") != _VERSION:
        raise UpgradeRequiredError
    key = request.header("sec-websocket-key").strip()
    try:
        is_key = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        is_key = False
    if not is_key:
        raise BadRequestError("Sec-WebSocket-Key is not 16 bytes in base64")
    return base64.b64encode(hashlib.sha1(key.encode() + _MAGIC).digest()).decode()


def write_control(opcode: int, payload: bytes = b"") -> bytes:
    """A control frame of a server; ``payload`` has 125 bytes at most."""
    return bytes([0x80 | opcode, len(payload)]) + payload


def write_close(status: int, reason: str) -> bytes:
    """The frame that closes (5.5.1); of the reason what fits."""
    words = reason.encode()[: _MOST_CONTROL_BYTES - 2].decode(errors="ignore")
    return write_control(CLOSE, status.to_bytes(2, "big") + words.encode())


class ClientFrame(NamedTuple):
    """A control frame of a client."""

    opcode: int
    payload: bytes


class ClientFrames:
    """Reads the frames of one client: those of control come out, the others are passed over."""

    def __init__(self) -> None:
        self._unread = bytearray()

    def receive_data(self, data: bytes) -> None:
        """Store bytes."""
        self._unread += data

    def events(self) -> Iterator[ClientFrame]:
        """
        Read what is whole.

        :raises PeerProtocolError: it is no frame of a client (5.1, 5.2), or a long one.
        """
        while len(self._unread) >= 2:
            first, second = self._unread[0], self._unread[1]
            opcode, size, at = first & 0x0F, second & 0x7F, 2
            if first & 0x70 or not second & 0x80 or opcode not in _CONTROL | _DATA:
                raise PeerProtocolError(f"a WebSocket frame that begins with {first:02x} {second:02x}")
            if opcode in _CONTROL and (size > _MOST_CONTROL_BYTES or not first & 0x80):
                raise PeerProtocolError("a control frame of WebSocket in pieces, or of more than 125 bytes")
            if size > _MOST_CONTROL_BYTES:
                at += 2 if size == 126 else 8
                if len(self._unread) < at:
                    return
                size = int.from_bytes(self._unread[2:at], "big")
            if size > _MOST_DATA_BYTES:
                raise PeerProtocolError(f"a WebSocket frame of {size} bytes, limit {_MOST_DATA_BYTES}")
            if len(self._unread) < at + 4 + size:
                return
            mask, masked = self._unread[at : at + 4], self._unread[at + 4 : at + 4 + size]
            del self._unread[: at + 4 + size]
            if opcode in _CONTROL:
                yield ClientFrame(opcode, bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked)))
